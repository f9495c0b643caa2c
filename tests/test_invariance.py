"""What must not change a single bit: threads, company in the batch, blocks, repetition."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

import rnnfast
from cases import (
    VARIANTS,
    Call,
    assert_equal,
    build,
    changed,
    collect,
    draw_call,
    outcome,
    pair,
    unpair,
)

MASKS = {"whole": {}, "masked": {"lengths": True, "reset": True}}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_number_of_threads(
    variant: str, mask: str, dtype: str, isa: str, rng: np.random.Generator
) -> None:
    for B, inputs, hidden in [(1, 33, 130), (5, 70, 64), (33, 17, 97)]:
        layer = build(rnnfast, variant, inputs, hidden, 2, bidirectional=B < 30, dtype=dtype)
        layer.flat[:] = rng.uniform(-0.1, 0.1, layer.flat.size)
        call = draw_call(rng, layer, T=9, B=B, **MASKS[mask])
        one, *more = (outcome(layer, replace(call, threads=n)) for n in (1, 2, 3))
        for other in more:
            assert_equal(other, one)


@pytest.mark.parametrize("variant", ["rnn-tanh", "lstm", "lstm-proj", "gru", "gru-before"])
def test_number_of_threads_when_there_is_work_for_all(
    variant: str, rng: np.random.Generator
) -> None:
    for T, B, size in [(40, 2, 256), (24, 48, 128)]:
        layer = build(rnnfast, variant, size, size, rng=rng)
        call = draw_call(rng, layer, T, B)
        one, *more = (outcome(layer, replace(call, threads=n)) for n in (1, 2, 3))
        for other in more:
            assert_equal(other, one)


def pick(call: Call, rows: Any, steps: int | None = None) -> tuple[Any, ...]:
    """The arguments of the sequences `rows`, cut to `steps`."""
    return (
        call.x[:steps, rows],
        unpair(tuple(s[:, rows] for s in pair(call.state))),
        None if call.lengths is None else np.minimum(call.lengths[rows], steps or len(call.x)),
        None if call.reset is None else call.reset[:steps, rows],
    )


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_company_in_the_batch(
    variant: str, mask: str, tokens: bool, isa: str, rng: np.random.Generator
) -> None:
    for dtype, hidden in [("float32", 33), ("float64", 20)]:
        layer = build(rnnfast, variant, 21, hidden, 2, bidirectional=True, dtype=dtype, rng=rng)
        call = draw_call(rng, layer, T=6, B=19, tokens=tokens, **MASKS[mask])
        y, state = layer(*call.arguments)
        groups = [[b] for b in range(19)] + [[3, 1], rng.permutation(19)[:8]]
        for rows in groups:
            y_part, state_part = layer(*pick(call, rows))
            np.testing.assert_array_equal(y_part, y[:, rows])
            for part, s in zip(pair(state_part), pair(state), strict=True):
                np.testing.assert_array_equal(part, s[:, rows])


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding(variant: str, isa: str, rng: np.random.Generator) -> None:
    """A sequence cut to its own length, without a batch, gives what it gave padded."""
    layer = build(rnnfast, variant, 21, 33, 2, bidirectional=True, rng=rng)
    call = draw_call(rng, layer, T=7, B=9, lengths=True, reset=True)
    y, state = layer(*call.arguments)
    for b, n in enumerate(call.lengths):
        if n:
            x, s, _, reset = pick(call, b, n)
            y_alone, state_alone = layer(x, s, None, reset)
            np.testing.assert_array_equal(y_alone, y[:n, b])
            for alone, together in zip(pair(state_alone), pair(state), strict=True):
                np.testing.assert_array_equal(alone, together[:, b])
        assert not y[n:, b].any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_nan_stays_in_its_sequence(variant: str, isa: str, rng: np.random.Generator) -> None:
    layer = build(rnnfast, variant, 9, 33, 2, bidirectional=True, rng=rng)
    call = draw_call(rng, layer, T=6, B=7)
    clean = outcome(layer, call)
    call.x[2, 3, 4] = np.nan
    dirty = outcome(layer, call)
    others = np.arange(7) != 3
    assert np.isnan(dirty["y"][:, 3]).all()
    for name in ("y", "state[0]", "dx", "dstate[0]"):
        np.testing.assert_array_equal(dirty[name][:, others], clean[name][:, others], name)
    assert np.isnan(dirty["dweight_ih_l0"]).any()


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_stream_blocks_equal_the_whole(
    variant: str, tokens: bool, isa: str, rng: np.random.Generator
) -> None:
    for dtype, batch, blocks in [("float32", 1, [3, 1, 4]), ("float64", 18, [1, 5, 2])]:
        layer = build(rnnfast, variant, 21, 33, 2, dtype=dtype, rng=rng)
        call = draw_call(rng, layer, sum(blocks), batch, tokens=tokens)
        y, state = layer(call.x, call.state)
        with layer.stream(batch, call.state) as stream:
            pieces = [stream.push(x) for x in np.split(call.x, np.cumsum(blocks)[:-1])]
            after = pair(stream.state)
        np.testing.assert_array_equal(np.concatenate(pieces), y)
        for s, s_whole in zip(after, pair(state), strict=True):
            np.testing.assert_array_equal(s, s_whole)


@pytest.mark.parametrize("variant", VARIANTS)
def test_calls_that_carry_the_state_equal_the_whole(
    variant: str, isa: str, rng: np.random.Generator
) -> None:
    for batch in (1, 18):
        layer = build(rnnfast, variant, 21, 33, 2, rng=rng)
        call = draw_call(rng, layer, 7, batch)
        y, state = layer(call.x, call.state)
        first, s = layer(call.x[:3], call.state)
        last, s = layer(call.x[3:], s)
        np.testing.assert_array_equal(np.concatenate([first, last]), y)
        assert_equal(dict(enumerate(pair(s))), dict(enumerate(pair(state))))


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_company_in_a_step(variant: str, tokens: bool, isa: str, rng: np.random.Generator) -> None:
    layer = build(rnnfast, variant, 21, 33, 2, rng=rng)
    call = draw_call(rng, layer, 1, 19, tokens=tokens)
    y, state = layer.step(call.x[0], call.state)
    for b in range(19):
        alone = unpair(tuple(s[:, b] for s in pair(call.state)))
        y_alone, state_alone = layer.step(call.x[0, b], alone)
        np.testing.assert_array_equal(y_alone, y[b])
        for s_alone, s in zip(pair(state_alone), pair(state), strict=True):
            np.testing.assert_array_equal(s_alone, s[:, b])


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_training_forward_equals_inference(
    variant: str, mask: str, isa: str, rng: np.random.Generator
) -> None:
    for dtype, B in [("float32", 1), ("float32", 19), ("float64", 7)]:
        layer = build(rnnfast, variant, 21, 33, 2, bidirectional=True, dtype=dtype, rng=rng)
        call = draw_call(rng, layer, T=6, B=B, **MASKS[mask])
        y, state = layer(*call.arguments)
        y_training, state_training, _ = layer.forward(*call.arguments)
        np.testing.assert_array_equal(y_training, y)
        for s, s_training in zip(pair(state), pair(state_training), strict=True):
            np.testing.assert_array_equal(s_training, s)


@pytest.mark.parametrize("variant", VARIANTS)
def test_calls_repeat_themselves(variant: str, isa: str, rng: np.random.Generator) -> None:
    """Also after a larger call has left its traces in the workspace."""
    layer = build(rnnfast, variant, 21, 33, 2, bidirectional=True, rng=rng)
    call = draw_call(rng, layer, T=6, B=7, lengths=True, reset=True, threads=2)
    large = draw_call(rng, layer, T=13, B=35, threads=2)
    large.x[:] = np.nan
    first = {name: v.copy() for name, v in outcome(layer, call).items()}
    assert_equal(outcome(layer, call), first)
    outcome(layer, large)
    assert_equal(outcome(layer, call), first)


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_inputs_are_never_written(
    variant: str, tokens: bool, isa: str, rng: np.random.Generator
) -> None:
    layer = build(rnnfast, variant, 21, 33, 2, bidirectional=True, rng=rng)
    call = draw_call(rng, layer, T=6, B=7, tokens=tokens, lengths=True, reset=True, threads=2)
    before, parameters = changed(call, np.copy), layer.flat.copy()
    changed(call, lambda v: v.setflags(write=False))
    outcome(layer, call)
    layer(*call.arguments)
    for name in (f.name for f in fields(call)):
        now, then = getattr(call, name), getattr(before, name)
        for v, w in zip(pair(now), pair(then), strict=True):
            np.testing.assert_array_equal(v, w, err_msg=name)
    np.testing.assert_array_equal(layer.flat, parameters)


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_does_not_write_its_inputs(
    variant: str, tokens: bool, isa: str, rng: np.random.Generator
) -> None:
    layer = build(rnnfast, variant, 21, 33, 2, rng=rng)
    call = draw_call(rng, layer, T=1, B=7, tokens=tokens)
    before, parameters = changed(call, np.copy), layer.flat.copy()
    changed(call, lambda v: v.setflags(write=False))
    _, state = layer.step(call.x[0], call.state)
    kept = tuple(s.copy() for s in pair(state))
    layer.step(call.x[0], state)
    np.testing.assert_array_equal(call.x, before.x)
    for s, s_before in zip(pair(call.state) + pair(state), pair(before.state) + kept, strict=True):
        np.testing.assert_array_equal(s, s_before)
    np.testing.assert_array_equal(layer.flat, parameters)


@pytest.mark.parametrize("variant", VARIANTS)
def test_results_are_the_callers_own(variant: str, rng: np.random.Generator) -> None:
    """No later call may write into what an earlier one returned."""
    layer = build(rnnfast, variant, 21, 33, 2, bidirectional=True, rng=rng)
    call = draw_call(rng, layer, T=6, B=7)
    results = outcome(layer, call)
    y, state = layer(*call.arguments)
    assert y.flags.writeable and not results["y"].flags.writeable  # the tape reads the latter
    results |= {"inference": y} | {f"after {k}": s for k, s in enumerate(pair(state))}
    kept = {name: v.copy() for name, v in results.items()}
    outcome(layer, draw_call(rng, layer, T=6, B=7))
    layer(*draw_call(rng, layer, T=6, B=7).arguments)
    assert_equal(results, kept)


@pytest.mark.parametrize("variant", VARIANTS)
def test_tapes_do_not_disturb_each_other(variant: str, rng: np.random.Generator) -> None:
    layer = build(rnnfast, variant, 21, 33, 2, rng=rng)
    calls = [draw_call(rng, layer, T=6, B=7, lengths=k == 1) for k in range(3)]
    expected = [outcome(layer, call) for call in calls]
    forwards = [layer.forward(*call.arguments) for call in calls]
    for k in (1, 2, 0):
        y, state, tape = forwards[k]
        grads = layer.backward(tape, calls[k].dy, calls[k].dstate)
        assert_equal(collect(y, state, grads), expected[k])
