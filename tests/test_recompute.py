"""Layers that compute the forward pass again, window by window: the same bits, less memory."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import rnnfast
from cases import VARIANTS, assert_equal, build, collect, draw_call, forced, outcome, twin

WINDOWS = [1, 3, 7, "auto", 24, 1000]  # steps; 24 is T
MASKS = {
    "whole": {},
    "lengths": {"lengths": True},
    "reset": {"reset": True},
    "both": {"lengths": True, "reset": True},
}
PRECISIONS = [("float32", "float32"), ("float64", "float32"), ("float32", "bfloat16")]


def check(rng: np.random.Generator, plain: Any, call: Any, make: Any, windows: Any) -> None:
    """Compare all that comes out with what the layer `plain` computes, bit for bit."""
    expected = outcome(plain, call)
    for window in windows:
        layer = make(window)
        layer.flat[:] = plain.flat
        call.threads = int(rng.integers(1, 4))
        results = outcome(layer, call)
        assert_equal(results, expected)
        assert all(v.tobytes() == expected[name].tobytes() for name, v in results.items())


@pytest.mark.parametrize(("dtype", "compute"), PRECISIONS)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_same_bits(
    variant: str, mask: str, dtype: str, compute: str, rng: np.random.Generator
) -> None:
    """Groups of rows are of 5 to 7 steps where the batch is whole."""
    for isa in rnnfast._core.isas_for(compute):
        layers, inputs, hidden = (int(rng.integers(1, n)) for n in (3, 40, 40))
        options = {"dtype": dtype, "compute": compute, "bidirectional": bool(rng.integers(2))}

        def make(window: Any, sizes: Any = (inputs, hidden, layers), options: Any = options) -> Any:
            return build(rnnfast, variant, *sizes, recompute=window, rng=0, **options)

        plain = make(None)
        call = draw_call(
            rng, plain, 24, int(rng.integers(70, 100)), tokens=bool(rng.integers(2)), **MASKS[mask]
        )
        with forced(isa):
            check(rng, plain, call, make, rng.choice(np.array(WINDOWS, object), 3, replace=False))


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_same_bits_with_every_window(variant: str, window: Any, rng: np.random.Generator) -> None:
    def make(window: Any) -> Any:
        return build(rnnfast, variant, 17, 33, 2, bidirectional=True, recompute=window, rng=0)

    plain = make(None)
    for tokens in (False, True):
        for mask in MASKS.values():
            call = draw_call(rng, plain, 24, 93, tokens=tokens, **mask)
            check(rng, plain, call, make, [window])


@pytest.mark.parametrize("variant", VARIANTS)
def test_same_bits_for_batches_of_any_size(
    variant: str, isa: str, rng: np.random.Generator
) -> None:
    """From a single sequence to more rows in a step than a chunk of a sum holds."""

    def make(window: Any) -> Any:
        return build(rnnfast, variant, 6, 18, recompute=window, bidirectional=True, rng=0)

    plain = make(None)
    cases = [(1100, 1, "whole"), (300, 5, "both"), (4, 600, "whole"), (6, 900, "lengths")]
    for T, B, mask in cases:
        check(rng, plain, draw_call(rng, plain, T, B, **MASKS[mask]), make, [1, "auto"])


@pytest.mark.parametrize("variant", ["rnn-tanh", "lstm", "lstm-proj", "gru", "gru-before"])
def test_same_bits_with_dropout(variant: str, rng: np.random.Generator) -> None:
    def make(window: Any) -> Any:
        return build(
            rnnfast, variant, 9, 21, 3, dropout=0.4, bidirectional=True, recompute=window, rng=5
        )

    call = draw_call(rng, make(None), 20, 80, lengths=True)
    expected = outcome(make(None), call)
    for window in (1, "auto"):
        assert_equal(outcome(make(window), call), expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_same_bits_when_there_is_work_for_all(variant: str, rng: np.random.Generator) -> None:
    """Threads share the units, then the rows; sums over gates are formed in several blocks."""
    for T, B, size in [(300, 2, 300), (24, 64, 128)]:

        def make(window: Any, size: int = size) -> Any:
            return build(rnnfast, variant, size, size, recompute=window, rng=0)

        plain = make(None)
        call = draw_call(rng, plain, T, B)
        expected = outcome(plain, call)
        for threads in (1, 2, 3):
            call.threads = threads
            assert_equal(outcome(make(1), call), expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_same_bits_without_some_gradients(variant: str, rng: np.random.Generator) -> None:
    def run(window: Any, **given: Any) -> dict[str, np.ndarray]:
        layer = build(rnnfast, variant, 9, 20, recompute=window, batch_first=True, rng=0)
        y, state, tape = layer.forward(call.x)
        return collect(y, state, layer.backward(tape, **given))

    call = draw_call(rng, build(rnnfast, variant, 9, 20, batch_first=True), 24, 90)
    for given in ({"dy": call.dy, "input_gradient": False}, {"dstate": call.dstate}, {}):
        assert_equal(run(1, **given), run(None, **given))


@pytest.mark.parametrize("window", [1, "auto"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_edges(variant: str, window: Any, rng: np.random.Generator) -> None:
    """A single step; no sequence longer than zero; one without the axis of the batch."""
    layer = build(rnnfast, variant, 4, 5, 2, bidirectional=True, recompute=window, rng=0)
    plain = twin(rnnfast, layer, "float32")
    for T, B in [(1, 1), (1, 3)]:
        call = draw_call(rng, layer, T, B)
        assert_equal(outcome(layer, call), outcome(plain, call))
    call = draw_call(rng, layer, 6, 4)
    call.lengths = np.zeros(4, int)
    assert_equal(outcome(layer, call), outcome(plain, call))
    call = draw_call(rng, layer, 6, 1, batched=False)
    assert_equal(outcome(layer, call), outcome(plain, call))


@pytest.mark.parametrize("variant", VARIANTS)
def test_inference_is_what_it_was(variant: str, rng: np.random.Generator) -> None:
    layer = build(rnnfast, variant, 9, 20, 2, recompute=1, rng=0)
    plain = twin(rnnfast, layer, "float32")
    call = draw_call(rng, layer, 24, 90)
    results, expected = layer(*call.arguments), plain(*call.arguments)
    np.testing.assert_array_equal(results[0], expected[0])
    for ours, theirs in zip(results[1], expected[1], strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
@pytest.mark.parametrize("window", [1, 16, "auto"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_memory(variant: str, window: Any, compute: str, rng: np.random.Generator) -> None:
    x = rng.standard_normal((256, 32, 24)).astype(np.float32)
    sizes = []
    for recompute in (None, window):
        layer = build(rnnfast, variant, 24, 64, recompute=recompute, compute=compute)
        sizes.append(layer.forward(x)[2].nbytes)
    plain, small = sizes
    assert 8 * small <= plain


def test_windows_are_as_long_as_told() -> None:
    """What an LSTM's tape holds beside h: cell states before every window."""
    T, B, H = 60, 128, 16  # a group of rows is four steps

    def states(window: Any) -> float:
        tape = rnnfast.LSTM(3, H, recompute=window).forward(np.zeros((T, B, 3), np.float32))[2]
        return tape.nbytes / (4 * B * H) - 1

    counts = {1: 15, 4: 15, 5: 8, 8: 8, 16: 4, 60: 1, 10**6: 1, "auto": 8}
    assert {window: states(window) for window in counts} == counts


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize(
    ("recompute", "error", "message"),
    [
        (0, ValueError, r"recompute is 0, expected 1 to 2147483647"),
        (-1, ValueError, r"recompute is -1, expected 1 to"),
        (2**31, ValueError, r"recompute is 2147483648, expected 1 to"),
        ("all", ValueError, r"recompute is 'all', expected None, 'auto' or an integer"),
        (True, TypeError, r"recompute is a bool, expected None, 'auto' or an integer"),
        (2.0, TypeError, r"recompute is a float, expected None, 'auto' or an integer"),
    ],
)
def test_refusals(name: str, recompute: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=f"{name.lower()}: {message}"):
        getattr(rnnfast, name)(3, 4, recompute=recompute)


@pytest.mark.parametrize("recompute", [None, 5, np.int64(5), "auto"])
def test_option_is_told_and_copied(recompute: Any, rng: np.random.Generator) -> None:
    layer = rnnfast.LSTM(5, 12, recompute=recompute, rng=0)
    shown = "recompute='auto'" if recompute == "auto" else "recompute=5"
    assert (shown in repr(layer)) == (recompute is not None)
    call = draw_call(rng, layer, 30, 128)
    expected = layer.forward(*call.arguments)[2].nbytes
    for other in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)):
        assert other.recompute == recompute and repr(other) == repr(layer)
        assert other.forward(*call.arguments)[2].nbytes == expected
        assert_equal(outcome(other, call), outcome(layer, call))


def test_quantized_layers_need_no_windows(rng: np.random.Generator) -> None:
    layer = rnnfast.GRU(5, 12, recompute="auto", rng=0)
    x = rng.standard_normal((9, 3, 5)).astype(np.float32)
    plain = twin(rnnfast, layer, "float32").quantize()
    np.testing.assert_array_equal(layer.quantize()(x)[0], plain(x)[0])
