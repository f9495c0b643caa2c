"""Layers with ``compute="bfloat16"`` against the reference and against themselves.

One rounding to bfloat16 is off by at most 2**-9 of a number, and products of numbers that need no
rounding are exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rnnfast
from cases import (
    VARIANTS,
    Array,
    assert_equal,
    build,
    changed,
    draw_call,
    outcome,
    pair,
    twin,
)
from rnnfast import optim, reference

COMPUTE = "bfloat16"

TOLERANCE = 0.015
"""Distance of a result from the exact one, relative to its norm: several roundings of 2**-9."""

CELLS = ["rnn-tanh", "lstm", "lstm-proj", "gru", "gru-before"]
ONE_PRODUCT = ["rnn-tanh", "rnn-relu", "rnn-sigmoid", "rnn-identity", "lstm", "gru"]


def rounded(v: Array) -> Array:
    """To the nearest bfloat16, ties to even."""
    bits = np.ascontiguousarray(v, np.float32).view(np.uint32)
    nearest = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
    return (nearest & np.uint32(0xFFFF0000)).view(np.float32)


def distance(v: Array, exact: Array) -> float:
    """How far v is from the truth, relative to the latter's norm."""
    norm = float(np.linalg.norm(exact))
    return float(np.linalg.norm(v - exact)) / norm if norm else float(np.abs(v).max(initial=0))


def check(layer: Any, call: Any) -> None:
    exact = outcome(twin(reference, layer, np.float64), call)
    plain = outcome(twin(rnnfast, layer, np.float32), call)
    ours = outcome(layer, call)
    assert ours.keys() == exact.keys()
    for name, v in ours.items():
        assert v.dtype == np.float32 and v.shape == exact[name].shape, name
        assert distance(v, exact[name]) < TOLERANCE, name
    assert any(not np.array_equal(v, plain[name]) for name, v in ours.items())


@pytest.mark.parametrize("mask", ["whole", "lengths", "reset"])
@pytest.mark.parametrize(("inputs", "hidden"), [(5, 17), (16, 31), (33, 64), (130, 97)])
@pytest.mark.parametrize("variant", CELLS)
def test_against_reference(
    variant: str, inputs: int, hidden: int, mask: str, isa: str, rng: np.random.Generator
) -> None:
    layer = build(
        rnnfast, variant, inputs, hidden, 2, bidirectional=True, compute="bfloat16", rng=rng
    )
    call = draw_call(
        rng, layer, T=9, B=13, lengths=mask == "lengths", reset=mask == "reset", threads=2
    )
    check(layer, call)


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("variant", CELLS)
def test_tokens(variant: str, lengths: bool, isa: str, rng: np.random.Generator) -> None:
    layer = build(rnnfast, variant, 37, 33, compute="bfloat16", rng=rng)
    check(layer, draw_call(rng, layer, T=7, B=21, tokens=True, lengths=lengths, threads=2))


@pytest.mark.parametrize(("T", "B"), [(150, 17), (700, 1), (3, 70)])
@pytest.mark.parametrize("variant", CELLS)
def test_sizes_beyond_a_block(
    variant: str, T: int, B: int, isa: str, rng: np.random.Generator
) -> None:
    layer = build(rnnfast, variant, 540, 35, compute="bfloat16", rng=rng)
    check(layer, draw_call(rng, layer, T, B, threads=2))


@pytest.mark.parametrize("inputs", [1, 2, 15, 16, 17, 33])
@pytest.mark.parametrize("variant", [*ONE_PRODUCT, "gru-before"])
def test_operands_that_need_no_rounding_lose_nothing(
    variant: str, inputs: int, isa: str, rng: np.random.Generator
) -> None:
    layer = build(rnnfast, variant, inputs, 21, compute="bfloat16", rng=rng)
    layer.flat[...] = rounded(layer.flat)
    # The second product of gru-before has an operand of its own, which is zero with h.
    call = changed(draw_call(rng, layer, T=1, B=11, state=variant != "gru-before"), rounded)
    y, state = layer(*call.arguments)
    exact_y, exact_state = twin(reference, layer, np.float64)(*call.arguments)
    for v, exact in zip((y, *pair(state)), (exact_y, *pair(exact_state)), strict=True):
        np.testing.assert_allclose(v, exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("T", "B", "inputs", "hidden"), [(3, 5, 1, 1), (2, 7, 15, 17), (4, 3, 33, 16), (40, 15, 4, 31)]
)
def test_whole_numbers_are_exact(
    T: int, B: int, inputs: int, hidden: int, masked: bool, isa: str, rng: np.random.Generator
) -> None:
    """With small integers for everything each sum is exact, forward and backward."""
    layer = build(
        rnnfast, "rnn-identity", inputs, hidden, compute="bfloat16", bidirectional=masked, rng=rng
    )

    def small(v: Array) -> Array:
        return v if v.dtype.kind != "f" else rng.integers(-2, 3, size=v.shape).astype(v.dtype)

    layer.flat[...] = small(layer.flat)
    for name, value in layer.parameters.items():
        if name.startswith("weight_hh"):  # h stays small: at most one unit is carried on
            value[...] = 0
            value[:, 0] = rng.integers(-1, 2, size=hidden)
            value[0] = 0
    call = changed(draw_call(rng, layer, T, B, lengths=masked, reset=masked, threads=2), small)
    ours, theirs = outcome(layer, call), outcome(twin(rnnfast, layer, np.float32), call)
    for name, v in ours.items():
        if np.abs(theirs[name]).max(initial=0) <= 256:
            np.testing.assert_array_equal(v, theirs[name], err_msg=name)
        else:  # gradients are rounded before they are multiplied
            np.testing.assert_allclose(v, theirs[name], rtol=0.01, atol=2, err_msg=name)


@pytest.mark.parametrize("variant", ["lstm", "lstm-proj", "gru", "gru-before"])
def test_long_memories_keep_their_gradients(
    variant: str, isa: str, rng: np.random.Generator
) -> None:
    """Gates near one multiply the gradient in every step: their error must not compound."""
    steps, bias = 500, 6.0
    layer = build(rnnfast, variant, 4, 16, compute="bfloat16", rng=rng)
    slot = slice(16, 32)  # the forget gate of an LSTM, the update gate of a GRU
    layer.flat[...] *= 0.1
    layer.parameters["bias_ih_l0"][slot] = bias
    call = draw_call(rng, layer, steps, B=3)
    call.dy[...] = 0
    plain = outcome(twin(rnnfast, layer, np.float32), call)
    for name, v in outcome(layer, call).items():
        if name != "dx":  # which far from the end is nothing but rounding
            assert distance(v, plain[name]) < 0.05, name


@pytest.mark.parametrize("variant", ["lstm", "lstm-proj", "gru", "gru-before"])
def test_closed_gates_have_gradients(variant: str, isa: str, rng: np.random.Generator) -> None:
    layer = build(rnnfast, variant, 4, 16, compute="bfloat16", rng=rng)
    layer.parameters["bias_ih_l0"][16:32] = -10.0  # the forget gate, the update gate
    call = draw_call(rng, layer, T=3, B=9)
    plain = outcome(twin(rnnfast, layer, np.float32), call)["dbias_ih_l0"][16:32]
    assert distance(outcome(layer, call)["dbias_ih_l0"][16:32], plain) < 0.05


def test_rounding_is_to_nearest_even(isa: str) -> None:
    units = 16
    layer = rnnfast.RNN(units, units, nonlinearity="identity", bias=False, compute="bfloat16")
    layer.parameters["weight_ih_l0"][...] = np.eye(units)
    layer.parameters["weight_hh_l0"][...] = 0
    step = 2.0**-7  # between neighbours in [1, 2)
    exact = [1, 1 + step / 2, 1 + 3 * step / 2, 1 + step * 0.51, -1 - step / 2, 3.0e38, 1e-30, 0]
    x = np.resize(np.array([*exact, 0.1, -0.3, 1 / 3, 7e7], np.float32), (1, 3, units))
    x[0, 2] = np.linspace(-3, 5, units)
    y, _ = layer(x)
    np.testing.assert_array_equal(y, rounded(x))


@pytest.mark.parametrize("hidden", [20, 21])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("variant", CELLS)
def test_what_is_not_finite_stays_with_its_sequence(
    variant: str, value: float, hidden: int, isa: str, rng: np.random.Generator
) -> None:
    layer = build(rnnfast, variant, 7, hidden, compute="bfloat16", rng=rng)
    call = draw_call(rng, layer, T=4, B=5)
    clean, _ = layer(*call.arguments)
    call.x[1, 3, 2] = value
    y, _ = layer(*call.arguments)
    assert not np.array_equal(y[1:, 3], clean[1:, 3])
    assert np.isnan(y[1:, 3]).all() if np.isnan(value) else not np.isnan(y).any()
    np.testing.assert_array_equal(np.delete(y, 3, axis=1), np.delete(clean, 3, axis=1))


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_results_depend_on_neither_threads_nor_batch(
    variant: str, tokens: bool, isa: str, rng: np.random.Generator
) -> None:
    layer = build(rnnfast, variant, 18, 49, 2, compute="bfloat16", rng=rng)
    call = draw_call(rng, layer, T=11, B=20, tokens=tokens, lengths=True, threads=1)
    first = outcome(layer, call)
    for threads in (2, 3):
        call.threads = threads
        assert_equal(outcome(layer, call), first)
    y, _ = layer(*call.arguments)
    np.testing.assert_array_equal(y, first["y"])
    for b in (0, 7, 19):
        state = tuple(part[:, b : b + 1] for part in pair(call.state))
        alone, _ = layer(
            call.x[:, b : b + 1], state if len(state) == 2 else state[0], call.lengths[b : b + 1]
        )
        np.testing.assert_array_equal(alone[:, 0], y[:, b])


@pytest.mark.parametrize("variant", CELLS)
def test_a_stream_continues_bit_for_bit(variant: str, rng: np.random.Generator) -> None:
    layer = build(rnnfast, variant, 6, 33, 2, compute="bfloat16", rng=rng)
    call = draw_call(rng, layer, T=10, B=3)
    y, _ = layer(call.x, call.state)
    with layer.stream(3, call.state) as stream:
        parts = [stream.push(call.x[a:b]) for a, b in ((0, 1), (1, 4), (4, 10))]
    np.testing.assert_array_equal(np.concatenate(parts), y)


@pytest.mark.parametrize("variant", CELLS)
def test_a_step_reads_the_float32_parameters(variant: str, rng: np.random.Generator) -> None:
    layer = build(rnnfast, variant, 6, 33, 2, compute="bfloat16", rng=rng)
    plain = twin(rnnfast, layer, np.float32)
    call = draw_call(rng, layer, T=1, B=3)
    for ours, theirs in zip(
        layer.step(call.x[0], call.state), plain.step(call.x[0], call.state), strict=True
    ):
        for v, w in zip(pair(ours), pair(theirs), strict=True):
            np.testing.assert_array_equal(v, w)


def test_training_follows_float32(rng: np.random.Generator) -> None:
    """Both learn to tell the last of some tokens, and lose as much on the way."""
    tokens = rng.integers(8, size=(12, 64))
    target = np.eye(8, dtype=np.float32)[tokens[-1]]

    def losses(compute: str) -> list[float]:
        layer = rnnfast.GRU(8, 24, compute=compute, rng=3)
        readout = rnnfast.GRU(24, 8, rng=4)
        optimizer = [optim.Adam(part.flat, lr=0.01) for part in (layer, readout)]
        history = []
        for _ in range(60):
            y, _, tape = layer.forward(tokens)
            z, _, tape2 = readout.forward(y)
            error = z[-1] - target
            history.append(float(np.mean(error**2)))
            dz = np.zeros_like(z)
            dz[-1] = error
            grads2 = readout.backward(tape2, dz)
            grads = layer.backward(tape, grads2.x)
            for part, flat in zip(optimizer, (grads.flat, grads2.flat), strict=True):
                part.step(flat)
        return history

    ours, theirs = losses("bfloat16"), losses("float32")
    assert ours[-1] < 0.5 * ours[0]
    np.testing.assert_allclose(ours, theirs, rtol=0.05)
