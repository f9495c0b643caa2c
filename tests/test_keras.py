"""Layers of Keras and ours with the same weights: outputs and states agree."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rnnfast
from cases import Array, build, pair
from rnnfast.keras import from_keras, get_weights, lengths_from_mask, set_weights, to_keras

os.environ.setdefault("KERAS_BACKEND", "jax")
PAGE = Path(__file__).parents[1] / "docs/from-keras.md"
N, T, F, H = 4, 6, 3, 5  # F features
LENGTHS = np.array([T, 2, 0, 5])

# -- without Keras ----------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"bias": False}])
@pytest.mark.parametrize("variant", ["rnn-tanh", "lstm", "gru", "gru-before"])
def test_weights_go_out_and_come_back(
    variant: str, options: dict[str, Any], rng: np.random.Generator
) -> None:
    layer = build(rnnfast, variant, F, H, 2, bidirectional=True, rng=rng, **options)
    weights = get_weights(layer)
    other = build(rnnfast, variant, F, H, 2, bidirectional=True, rng=rng, **options)
    set_weights(other, weights)
    x = rng.standard_normal((T, N, F)).astype("f")
    np.testing.assert_allclose(other(x)[0], layer(x)[0], rtol=0, atol=1e-6)
    for before, after in zip(weights, get_weights(other), strict=True):
        np.testing.assert_array_equal(before, after)


def test_shapes_and_gates_are_those_of_keras() -> None:
    lstm = rnnfast.LSTM(F, H, rng=0)
    kernel, recurrent, bias = get_weights(lstm)
    assert (kernel.shape, recurrent.shape, bias.shape) == ((F, 4 * H), (H, 4 * H), (4 * H,))
    p = lstm.parameters
    np.testing.assert_array_equal(bias, p["bias_ih_l0"] + p["bias_hh_l0"])
    gru = rnnfast.GRU(F, H, rng=0)
    kernel, recurrent, bias = get_weights(gru)
    assert bias.shape == (2, 3 * H) and kernel.flags.c_contiguous
    np.testing.assert_array_equal(kernel[:, :H], gru.parameters["weight_ih_l0"][H : 2 * H].T)
    np.testing.assert_array_equal(bias[1, 2 * H :], gru.parameters["bias_hh_l0"][2 * H :])
    assert get_weights(rnnfast.GRU(F, H, reset_after=False))[2].shape == (3 * H,)


def test_wrong_weights_are_refused_and_change_nothing() -> None:
    layer = rnnfast.GRU(F, H, 2, rng=0)
    before, weights = layer.flat.copy(), get_weights(layer)
    wrong: list[tuple[Any, str]] = [
        (weights[:-1], "5 weights, expected 6: 3 for each layer and direction"),
        ([*weights[:-1], weights[-1][0]], r"bias for weight_ih_l1 .* \(15,\), expected \(2, 15\)"),
        ([weights[0].T, *weights[1:]], r"kernel for weight_ih_l0 .*\(15, 3\), expected \(3, 15\)"),
        ([*weights[:-1], weights[-1].astype(complex)], "dtype complex"),
        ([*weights[:-1], None], r"bias for weight_ih_l1 and its like has shape \(\)"),
    ]
    for given, message in wrong:
        with pytest.raises(ValueError, match=message):
            set_weights(layer, given)
    with pytest.raises(TypeError, match=r"^keras: weights is a ndarray, expected a list"):
        set_weights(layer, weights[0])  # type: ignore[arg-type]
    np.testing.assert_array_equal(layer.flat, before)


def test_what_keras_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^keras: proj_size is 2, expected 0"):
        get_weights(rnnfast.LSTM(F, H, proj_size=2))
    for call in (get_weights, lambda v: set_weights(v, []), lambda v: to_keras(v, [])):
        with pytest.raises(TypeError, match=r"^keras: layer is a str, expected an RNN, LSTM or"):
            call("lstm")


def test_masks_become_lengths() -> None:
    mask = np.arange(T) < LENGTHS[:, None]
    np.testing.assert_array_equal(lengths_from_mask(mask), LENGTHS)
    assert lengths_from_mask(mask[:0]).shape == (0,)
    for row, gap in ((1, [True, False, True]), (0, [False, True, True])):
        broken = mask.copy()
        broken[row, :3] = gap
        with pytest.raises(ValueError, match=rf"^mask\[{row}\] is true again after false"):
            lengths_from_mask(broken)
    for wrong in (mask[0], mask.astype(int)):
        with pytest.raises(ValueError, match=r"^mask has shape .*, expected \(N, T\) and bool$"):
            lengths_from_mask(wrong)


def test_weights_need_no_keras() -> None:
    code = """
import sys; sys.modules["keras"] = None
import rnnfast, rnnfast.keras
layer = rnnfast.GRU(3, 5)
rnnfast.keras.set_weights(layer, rnnfast.keras.get_weights(layer))
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# -- with Keras -------------------------------------------------------------------------------


@pytest.fixture
def keras() -> Iterator[Any]:
    keras = pytest.importorskip("keras", reason="layers of Keras need keras")
    keras.utils.set_random_seed(1)
    if keras.backend.backend() != "jax":
        yield keras
        return
    import jax

    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield keras
    jax.config.update("jax_enable_x64", before)


@pytest.fixture(params=["float32", "float64"])
def dtype(keras: Any, request: pytest.FixtureRequest) -> Iterator[str]:
    """Make everything in Keras be of this type; some of it ignores the layers' own."""
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(request.param)
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)


def rounds_tanh(keras: Any) -> bool:
    """Whether Keras turns float64 into float32 in tanh, as it does on JAX."""
    return bool(keras.backend.result_type("float64", float) == "float32")


def tolerance(keras: Any, dtype: str, kind: str) -> float:
    exact = kind in {"relu", "sigmoid", "linear"} or not rounds_tanh(keras)
    return 1e-12 if dtype == "float64" and exact else 2e-6


def assert_close(found: Array, expected: Array, tolerance: float) -> None:
    """Within a tolerance of the largest element, if that exceeds 1."""
    assert found.dtype == expected.dtype
    scale = max(1.0, np.abs(expected).max(initial=0))
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)


def bidirectional(keras: Any, layer: Any) -> Any:
    return keras.layers.Bidirectional(layer)


def single(keras: Any, layer: Any) -> Any:
    return layer


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "tanh": ("SimpleRNN", {}),
    "relu": ("SimpleRNN", {"activation": "relu"}),
    "sigmoid": ("SimpleRNN", {"activation": "sigmoid"}),
    "linear": ("SimpleRNN", {"activation": None}),
    "lstm": ("LSTM", {}),
    "gru": ("GRU", {}),
    "gru-before": ("GRU", {"reset_after": False}),
}


def make(keras: Any, kind: str, **options: Any) -> Any:
    """Make a Keras layer that returns all it has, with biases that are not zero."""
    if kind == "tanh" and keras.config.floatx() == "float64" and rounds_tanh(keras):
        pytest.skip("this Keras cannot run a SimpleRNN with tanh in float64")
    name, own = KINDS[kind]
    noise = keras.initializers.RandomUniform(-0.5, 0.5, seed=1)
    given = {"return_sequences": True, "return_state": True, "bias_initializer": noise}
    return getattr(keras.layers, name)(H, **given, **own, **options)


def called(keras: Any, layer: Any, x: Array, mask: Array | None = None, state: Any = None) -> Any:
    """Outputs and states of a Keras layer, as arrays."""
    result = layer(x, mask=mask, initial_state=state)
    return [np.asarray(keras.ops.convert_to_numpy(v)) for v in result]


def joined(layer: Any, states: list[Array]) -> Any:
    """The states of Keras, direction by direction, as ours."""
    parts = 2 if isinstance(layer, rnnfast.LSTM) else 1
    both = [np.stack(states[k::parts]) for k in range(parts)]
    return tuple(both) if parts == 2 else both[0]


@pytest.mark.parametrize("wrap", [single, bidirectional])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_states_are_those_of_keras(
    kind: str, masked: bool, wrap: Any, dtype: str, keras: Any, rng: np.random.Generator
) -> None:
    theirs = wrap(keras, make(keras, kind, zero_output_for_mask=True))
    x = rng.standard_normal((N, T, F)).astype(dtype)
    mask = np.arange(T) < LENGTHS[:, None] if masked else None
    lengths = lengths_from_mask(mask) if masked else None
    count = (2 if kind == "lstm" else 1) * (2 if wrap is bidirectional else 1)
    initial = [rng.standard_normal((N, H)).astype(dtype) for _ in range(count)]
    y, *states = called(keras, theirs, x, mask, initial)

    layer = from_keras(theirs)
    assert layer.dtype == dtype and y.dtype == dtype
    found, final = layer(x, joined(layer, initial), lengths)
    assert_close(found, y, tolerance(keras, dtype, kind))
    for a, b in zip(pair(final), pair(joined(layer, states)), strict=True):
        assert_close(a, b, tolerance(keras, dtype, kind))


@pytest.mark.parametrize("kind", ["relu", "lstm", "gru", "gru-before"])
def test_stacks_become_one_layer(
    kind: str, dtype: str, keras: Any, rng: np.random.Generator
) -> None:
    name, own = KINDS[kind]
    own = own | {"use_bias": kind != "relu"}
    layers = [
        keras.layers.Bidirectional(getattr(keras.layers, name)(H, return_sequences=k < 2, **own))
        for k in range(3)
    ]
    model = keras.Sequential([keras.Input((None, F)), *layers])
    x = rng.standard_normal((N, T, F)).astype(dtype)
    last = np.asarray(model(x))
    for source in (model, layers, tuple(layers)):
        layer = from_keras(source, batch_first=False)
        assert layer.num_layers == 3 and not layer.batch_first
        y, state = layer(x.swapaxes(0, 1))
        ends = np.concatenate([y[-1, :, :H], y[0, :, H:]], axis=1)
        assert_close(ends, last, tolerance(keras, dtype, kind))
        assert_close(np.hstack(pair(state)[0][-2:]), last, tolerance(keras, dtype, kind))


@pytest.mark.parametrize("cells", [1, 3])
def test_stacked_cells_become_one_layer(cells: int, keras: Any, rng: np.random.Generator) -> None:
    stack = [keras.layers.LSTMCell(H) for _ in range(cells)]
    cell = keras.layers.StackedRNNCells(stack) if cells > 1 else stack[0]
    theirs = keras.layers.RNN(cell, return_sequences=True, zero_output_for_mask=True)
    x = rng.standard_normal((N, T, F)).astype("f")
    mask = np.arange(T) < LENGTHS[:, None]
    y = np.asarray(theirs(x, mask=mask))
    layer = from_keras(theirs)
    assert layer.num_layers == cells
    assert_close(layer(x, None, LENGTHS)[0], y, 2e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_trained_weights_go_to_keras(
    kind: str, dtype: str, keras: Any, rng: np.random.Generator
) -> None:
    target = keras.layers.Bidirectional(make(keras, kind))
    x = rng.standard_normal((N, T, F)).astype(dtype)
    target(x)
    layer = from_keras(target)
    layer.flat += rng.uniform(-0.2, 0.2, layer.flat.size).astype(dtype)  # both biases too
    to_keras(layer, target)
    y = called(keras, target, x)[0]
    assert_close(y, layer(x)[0], tolerance(keras, dtype, kind))


def test_a_stack_goes_to_keras(keras: Any, rng: np.random.Generator) -> None:
    layers = [keras.layers.GRU(H, return_sequences=True) for _ in range(2)]
    model = keras.Sequential([keras.Input((None, F)), *layers])
    layer = rnnfast.GRU(F, H, 2, batch_first=True, rng=rng)
    to_keras(layer, model)
    x = rng.standard_normal((N, T, F)).astype("f")
    assert_close(np.asarray(model(x)), layer(x)[0], 2e-6)


# -- refusals ---------------------------------------------------------------------------------


def refused(keras: Any) -> dict[str, tuple[Any, str]]:
    k = keras.layers
    built = k.LSTM(H, return_sequences=True)
    built.build((None, None, F))
    mixed = keras.dtype_policies.DTypePolicy("mixed_bfloat16")

    class LSTM(k.LSTM):  # type: ignore[misc, name-defined]
        pass

    return {
        "no layer": (k.Dense(3), r"layers\[0\] \(dense\S*\) is a Dense, expected SimpleRNN"),
        "subclass": (LSTM(H), "is a LSTM, expected"),
        "in a stack": ([built, k.Dropout(0.1)], r"layers\[1\] .* is a Dropout"),
        "nothing": ([], "no layers, expected"),
        "unbuilt": (k.LSTM(H), r"layers\[0\] .* has no weights yet"),
        "backwards": (k.LSTM(H, go_backwards=True), "go_backwards=True, expected it in Bidi"),
        "merged": (k.Bidirectional(k.LSTM(H), merge_mode="sum"), "merge_mode='sum', expected"),
        "swapped": (
            k.Bidirectional(k.LSTM(H, go_backwards=True), backward_layer=k.LSTM(H)),
            "a forward layer with go_backwards=True",
        ),
        "unlike": (
            k.Bidirectional(k.LSTM(H), backward_layer=k.LSTM(H + 1, go_backwards=True)),
            f"the backward layer of .* has units={H + 1}, expected {H}",
        ),
        "wrapped stack": (
            k.Bidirectional(k.RNN(k.StackedRNNCells([k.GRUCell(H)] * 2))),
            "has a cell of type StackedRNNCells",
        ),
        "activation": (k.GRU(H, activation="relu"), "activation relu, expected tanh$"),
        "gate": (k.LSTM(H, recurrent_activation="hard_sigmoid"), "recurrent_activation hard_si"),
        "basic": (k.SimpleRNN(H, activation="gelu"), "gelu, expected tanh or relu or sigmoid or"),
        "foreign": (k.SimpleRNN(H, activation=lambda v: v), "<lambda> that is not Keras's own"),
        "precision": (k.LSTM(H, dtype=mixed), "has dtype bfloat16 and float32, expected fl"),
        "outer precision": (
            k.Bidirectional(k.LSTM(H, dtype="float64")),
            "has dtype float32 and float64, expected float32 or float64",
        ),
        "sizes": ([built, k.LSTM(2 * H)], r"layers\[1\] .* has units=10, expected 5 as layers\[0"),
        "cells": ([built, k.GRU(H)], "has cell='GRU', expected 'LSTM'"),
        "directions": ([built, k.Bidirectional(k.LSTM(H))], "has bidirectional=True, expected Fa"),
        "last only": ([k.LSTM(H), built], "has return_sequences=False, expected True below"),
    }


def test_what_would_change_the_numbers_is_refused(keras: Any) -> None:
    for case, (layers, message) in refused(keras).items():
        with pytest.raises((TypeError, ValueError)) as caught:
            from_keras(layers)
        assert re.match(f"keras: .*{message}", str(caught.value)), (case, caught.value)


def test_targets_that_do_not_match_are_refused(keras: Any) -> None:
    layer = rnnfast.LSTM(F, H, rng=0)

    def built(size: int, units: int, **options: Any) -> Any:
        target = keras.layers.LSTM(units, **options)
        target.build((None, None, size))
        return target

    for target, message in (
        (built(F, H + 1), "target has units=6, expected 5"),
        (built(F, H, use_bias=False), "target has use_bias=False, expected True"),
        (built(F, H, dtype="float64"), "target has dtype='float64', expected 'float32'"),
        (built(F + 1, H), r"weights of shapes \[\(4, 20\).*, expected \[\(3, 20\)"),
        (keras.layers.LSTM(H), "has no weights yet"),
        ([built(F, H, return_sequences=True), built(H, H)], "target has 2 layers, expected 1"),
    ):
        with pytest.raises(ValueError, match=rf"^keras: .*{message}"):
            to_keras(layer, target)
    shared = built(H, H, return_sequences=True)
    with pytest.raises(ValueError, match=r"^keras: target has the same layer twice"):
        to_keras(rnnfast.LSTM(H, H, 2), [shared, shared])


def test_the_page_runs(keras: Any) -> None:
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        exec(block, names)
