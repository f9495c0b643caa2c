"""Nodes: the tests of the onnx package, and random RNN, LSTM and GRU nodes in ONNX Runtime."""

from __future__ import annotations

import itertools
import re
import warnings
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the ONNX bridge needs onnx")
pytest.importorskip("onnxruntime", reason="the ONNX bridge is compared with onnxruntime")

from onnx import TensorProto, numpy_helper

import rnnfast.onnx
from onnx_models import assert_same, draw_feeds, recurrent_model, run_peer, value
from rnnfast.onnx.operators import OPERATORS
from rnnfast.onnx.source import DTYPES, OLDEST_OPSET

# -- the node tests of the onnx package ------------------------------------------------------------

RECURRENT = [
    *(
        f"test_{op}_{what}"
        for op in ("gru", "lstm", "simple_rnn")
        for what in ("defaults", "with_initial_bias", "batchwise", "reverse", "bidirectional")
    ),
    "test_gru_seq_length",
    "test_lstm_with_peepholes",
    "test_rnn_seq_length",
]
REFUSED = {"test_lstm_with_peepholes": "peepholes"}


@pytest.fixture(scope="module")
def cases() -> dict[str, Any]:
    """The node tests of the installed onnx by name; making them makes NumPy warn."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {case.name: case for case in collect_testcases(None)}


def operators_of(case: Any) -> set[str]:
    return {node.op_type for node in case.model.graph.node}


def as_array(v: Any) -> Any:
    return numpy_helper.to_array(v) if isinstance(v, TensorProto) else v


def run_case(case: Any) -> None:
    graph = rnnfast.onnx.load(case.model)
    assert case.data_sets
    for inputs, expected in case.data_sets:
        outputs = graph(dict(zip(graph.inputs, map(as_array, inputs), strict=True)))
        for mine, theirs in zip(outputs.values(), map(as_array, expected), strict=True):
            assert mine.dtype == theirs.dtype and mine.shape == theirs.shape
            np.testing.assert_allclose(mine, theirs, rtol=case.rtol, atol=case.atol)


def test_all_recurrent_node_tests_are_listed(cases: dict[str, Any]) -> None:
    there = {name for name, case in cases.items() if operators_of(case) & {"RNN", "LSTM", "GRU"}}
    assert there and there <= set(RECURRENT)


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_node_tests(name: str, cases: dict[str, Any]) -> None:
    if name not in cases:
        pytest.skip("this version of onnx has no such test")
    if name in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[name]):
            rnnfast.onnx.load(cases[name].model)
        pytest.skip(f"refused: no layer has {REFUSED[name]}")
    run_case(cases[name])


NAMED = {
    "test_training_dropout.*": "training_mode is given",
    "test_batchnorm_.*_training_mode": "training_mode is 1",
    "test_scatter_elements_with_(reduction|duplicate).*": "reduction is '",
    "test_reduce_(max|min)_empty_set.*": "zero-size array",
}


def why_refused(case: Any) -> str:
    """What the error says of a case that is not run, or nothing."""
    graph = case.model.graph
    types = {v.type.tensor_type.elem_type for v in [*graph.input, *graph.output]}
    if types - set(DTYPES):  # strings, sequences, numbers of 16 bits or fewer
        return "which is not run here"
    if case.model.opset_import[0].version < OLDEST_OPSET:
        return "the model has opset"
    return next((why for name, why in NAMED.items() if re.fullmatch(name, case.name)), "")


@pytest.mark.parametrize("op", sorted(OPERATORS.keys() - {"Not"}))  # whose tests have opset 1
def test_node_tests_of_the_other_operators(op: str, cases: dict[str, Any]) -> None:
    passed = 0
    for case in cases.values():
        if op not in operators_of(case) or not operators_of(case) <= set(OPERATORS):
            continue
        if why := why_refused(case):
            with pytest.raises(ValueError, match=why):
                run_case(case)
        else:
            run_case(case)
            passed += 1
    assert passed


# -- random nodes against ONNX Runtime -------------------------------------------------------------

CELLS: dict[str, tuple[str, dict[str, Any]]] = {
    "rnn": ("RNN", {}),
    "rnn-relu": ("RNN", {"activations": ["Relu"]}),
    "rnn-sigmoid": ("RNN", {"activations": ["Sigmoid"]}),
    "rnn-identity": (
        "RNN",
        {"activations": ["Affine"], "activation_alpha": [1.0], "activation_beta": [0.0]},
    ),
    "lstm": ("LSTM", {}),
    "lstm-named": ("LSTM", {"activations": ["Sigmoid", "Tanh", "Tanh"]}),
    "gru": ("GRU", {}),
    "gru-lbr": ("GRU", {"linear_before_reset": 1}),
}
DIRECTIONS = ["forward", "reverse", "bidirectional"]


def twice(attributes: dict[str, Any], direction: str) -> dict[str, Any]:
    """Lists of attributes are given for each direction."""
    times = 2 if direction == "bidirectional" else 1
    return {k: v * times if isinstance(v, list) else v for k, v in attributes.items()}


@pytest.mark.parametrize("initial", [False, True], ids=["zeros", "initial"])
@pytest.mark.parametrize("lengths", [False, True], ids=["padded", "lengths"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_nodes_as_in_onnx_runtime(
    cell: str, direction: str, lengths: bool, initial: bool, rng: np.random.Generator
) -> None:
    op, attributes = CELLS[cell]
    attributes = twice(attributes, direction)
    sizes = [(1, 1, 1, 1), (3, 17, 6, 5), (16, 8, 13, 3)]
    for (inputs, hidden, T, B), bias in itertools.product(sizes, (True, False)):
        model = recurrent_model(
            rng, op, inputs=inputs, hidden=hidden, direction=direction, bias=bias,
            lengths=lengths, initial=initial, **attributes,
        )  # fmt: skip
        feeds = draw_feeds(rng, model, T, B)
        mine = rnnfast.onnx.load(model)(feeds)
        assert_same(mine, run_peer(model, feeds))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("op", ["RNN", "LSTM", "GRU"])
def test_layout_1_is_layout_0_with_axes_swapped(
    op: str, direction: str, rng: np.random.Generator
) -> None:
    seed = int(rng.integers(2**32))
    batch_first, time_first = (
        recurrent_model(
            np.random.default_rng(seed), op, direction=direction, lengths=True, initial=True,
            layout=layout,
        )
        for layout in (1, 0)
    )  # fmt: skip
    feeds = draw_feeds(rng, time_first, 9, 4)
    swapped = {k: v if v.ndim == 1 else v.swapaxes(0, 1) for k, v in feeds.items()}
    expected = run_peer(time_first, feeds)
    mine = rnnfast.onnx.load(batch_first)(swapped)
    back = {
        k: v.transpose(1, 2, 0, 3) if v.ndim == 4 else v.swapaxes(0, 1) for k, v in mine.items()
    }
    assert_same(back, expected)


@pytest.mark.parametrize("op", ["RNN", "LSTM", "GRU"])
def test_float64(op: str, rng: np.random.Generator) -> None:
    """To the rounding of ONNX Runtime's float32, which it has alone."""
    options: dict[str, Any] = {"direction": "bidirectional", "lengths": True, "initial": True}
    seed = int(rng.integers(2**32))
    single, double = (
        recurrent_model(np.random.default_rng(seed), op, dtype=dtype, **options)
        for dtype in (np.float32, np.float64)
    )
    feeds = draw_feeds(rng, single, 9, 4)
    wide = {k: v.astype(np.float64) if v.dtype == np.float32 else v for k, v in feeds.items()}
    mine = rnnfast.onnx.load(double)(wide)
    assert {v.dtype for v in mine.values()} == {np.dtype(np.float64)}
    assert_same(mine, run_peer(single, feeds))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("op", ["RNN", "LSTM", "GRU"])
def test_lengths_of_zero(op: str, direction: str, rng: np.random.Generator) -> None:
    """Nothing comes out, and the state stays what it was; the others are not touched."""
    model = recurrent_model(rng, op, direction=direction, lengths=True, initial=True)
    graph, feeds = rnnfast.onnx.load(model), draw_feeds(rng, model, 6, 3)
    full = graph({**feeds, "lengths": np.array([6, 6, 4], np.int32)})
    some = graph({**feeds, "lengths": np.array([6, 0, 4], np.int32)})
    assert not some["Y"][:, :, 1].any()
    np.testing.assert_array_equal(some["Y_h"][:, 1], feeds["initial_h"][:, 1])
    for name, v in some.items():
        np.testing.assert_array_equal(v[..., [0, 2], :], full[name][..., [0, 2], :])


def test_weights_that_are_inputs(rng: np.random.Generator) -> None:
    model = recurrent_model(rng, "GRU", direction="bidirectional", hidden=6)
    weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    fixed = rnnfast.onnx.load(model)
    for name, array in weights.items():
        model.graph.input.append(value(name, array.dtype, ["?"] * array.ndim))
    del model.graph.initializer[:]
    free = rnnfast.onnx.load(model)
    feeds = {"X": rng.standard_normal((4, 2, 5), dtype=np.float32), **weights}
    assert_same(free(feeds), fixed(X=feeds["X"]), 0.0)
    with pytest.raises(ValueError, match=r"^GRU node 'node': R has shape \(2, 17, 6\), expected"):
        free({**feeds, "R": weights["R"][:, 1:]})
