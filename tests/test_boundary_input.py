"""Odd arguments that work: layouts in memory, subclasses, other types, empty batches, NaN and inf.

Each gives, bit for bit, what the same values give as plain arrays of the layer's own type.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rnnfast
from boundary import CELLS
from cases import (
    Array,
    assert_equal,
    build,
    changed,
    draw_call,
    misaligned,
    outcome,
    pair,
    twin,
    unpair,
)
from rnnfast import reference

# -- layouts in memory ------------------------------------------------------------------------


class Subclass(np.ndarray[Any, Any]):
    """An array with a name of its own."""


class Duck:
    """No array, but something that can make one, as the tensors of other frameworks can."""

    def __init__(self, v: Array) -> None:
        self.v = v

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return self.v if dtype is None else self.v.astype(dtype)


def every_other(v: Array) -> Array:
    """View every second element of each axis of a larger array."""
    room = np.full([2 * n for n in v.shape], 1, v.dtype)
    view = room[tuple(slice(None, None, 2) for _ in v.shape)]
    view[...] = v
    return view


def read_only(v: Array) -> Array:
    copy = v.copy()
    copy.flags.writeable = False
    return copy


def field_of_records(v: Array) -> Array:
    records = np.zeros(v.shape, [("flag", "i1"), ("value", v.dtype)])
    records["value"] = v
    return records["value"]


LAYOUTS: dict[str, Callable[[Array], Any]] = {
    "not contiguous": every_other,
    "backwards": lambda v: v[tuple(slice(None, None, -1) for _ in v.shape)].copy()[
        tuple(slice(None, None, -1) for _ in v.shape)
    ],
    "Fortran order": np.asfortranarray,
    "misaligned": misaligned,
    "read-only": read_only,
    "big-endian": lambda v: v.astype(v.dtype.newbyteorder(">")),
    "field of records": field_of_records,
    "subclass": lambda v: v.view(Subclass),
    "masked array": np.ma.asarray,
    "own __array__": Duck,
}


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("cell", CELLS)
def test_layouts(
    cell: str, layout: str, tokens: bool, batch_first: bool, rng: np.random.Generator
) -> None:
    layer = CELLS[cell](5, 9, 2, batch_first=batch_first, bidirectional=True, rng=rng)
    call = draw_call(rng, layer, 6, 7, tokens=tokens, lengths=True, reset=True)
    odd = changed(call, LAYOUTS[layout])
    assert_equal(outcome(layer, odd), outcome(layer, call))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("cell", CELLS)
def test_layouts_in_steps_and_streams(cell: str, layout: str, rng: np.random.Generator) -> None:
    layer = CELLS[cell](5, 9, 2, rng=rng)
    call = draw_call(rng, layer, 6, 7)
    change = LAYOUTS[layout]
    odd = changed(call, change)
    expected, state = layer.step(call.x[0], call.state)
    y, s = layer.step(change(call.x[0]), odd.state)
    np.testing.assert_array_equal(y, expected)
    assert_equal(dict(enumerate(pair(s))), dict(enumerate(pair(state))))
    with layer.stream(7, odd.state) as stream:
        y = np.concatenate([stream.push(change(x)) for x in np.split(call.x, 2)])
    np.testing.assert_array_equal(y, layer(call.x, call.state)[0])


@pytest.mark.parametrize("cell", CELLS)
def test_zero_strides(cell: str, rng: np.random.Generator) -> None:
    layer = CELLS[cell](5, 9, rng=rng)
    call = draw_call(rng, layer, 6, 7)
    call.lengths, call.reset = np.array([4]), np.array([[True]])
    shared = {
        "x": np.broadcast_to(call.x[:1, :1], call.x.shape),
        "state": unpair(tuple(np.broadcast_to(s[:, :1], s.shape) for s in pair(call.state))),
        "lengths": np.broadcast_to(call.lengths, 7),
        "reset": np.broadcast_to(call.reset, (6, 7)),
        "dy": np.broadcast_to(call.dy[0, 0, 0], call.dy.shape),
        "dstate": unpair(tuple(np.broadcast_to(s[..., :1], s.shape) for s in pair(call.dstate))),
    }
    odd = replace(call, **shared)
    assert_equal(outcome(layer, odd), outcome(layer, changed(odd, np.array)))


@pytest.mark.parametrize("cell", CELLS)
def test_memory_maps(cell: str, tmp_path: Path, rng: np.random.Generator) -> None:
    layer = CELLS[cell](5, 9, rng=rng)
    call = draw_call(rng, layer, 6, 7, lengths=True)
    expected = outcome(layer, call)

    def mapped(v: Array) -> Array:
        path = tmp_path / "array.npy"
        path.unlink(missing_ok=True)  # earlier maps keep the file they have
        np.save(path, v)
        return np.load(path, mmap_mode="r")

    assert_equal(outcome(layer, changed(call, mapped)), expected)


# -- other types ------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["float16", "float32", "float64", "longdouble", ">f8"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", CELLS)
def test_other_float_types_are_converted(
    cell: str, dtype: str, given: str, rng: np.random.Generator
) -> None:
    layer = CELLS[cell](5, 9, dtype=dtype, rng=rng)
    call = changed(draw_call(rng, layer, 6, 7), lambda v: v.astype(given))
    plain = changed(call, lambda v: v.astype(dtype))
    assert_equal(outcome(layer, call), outcome(layer, plain))


@pytest.mark.parametrize("given", ["i1", "u1", "i2", ">i2", "u4", "i8", ">u8"])
def test_all_integer_types_are_tokens_and_lengths(given: str, rng: np.random.Generator) -> None:
    layer = build(rnnfast, "gru", 5, 9, rng=rng)
    call = draw_call(rng, layer, 6, 7, tokens=True, lengths=True)
    odd = replace(call, x=call.x.astype(given), lengths=call.lengths.astype(given))
    assert_equal(outcome(layer, odd), outcome(layer, call))


@pytest.mark.parametrize("cell", CELLS)
def test_lengths_as_sequences(cell: str, rng: np.random.Generator) -> None:
    layer = CELLS[cell](5, 9, rng=rng)
    call = draw_call(rng, layer, 6, 4)
    call.lengths = np.array([2, 3, 4, 5])
    expected = layer(*call.arguments)[0]
    for lengths in ([2, 3, 4, 5], (2, 3, 4, 5), range(2, 6)):
        np.testing.assert_array_equal(layer(call.x, call.state, lengths)[0], expected)
    alone = layer(call.x[:, 0], lengths=3)[0]
    np.testing.assert_array_equal(alone, layer(call.x[:, 0], lengths=[3])[0])
    assert alone[:3].all() and not alone[3:].any()


def test_half_a_state_of_an_lstm_is_zero_in_the_other_half(rng: np.random.Generator) -> None:
    layer = build(rnnfast, "lstm", 5, 9, rng=rng)
    call = draw_call(rng, layer, 6, 7)
    h, c = call.state
    for half, whole in [((h, None), (h, 0 * c)), ((None, c), (0 * h, c)), ([None] * 2, None)]:
        results = [replace(call, state=state, dstate=state) for state in (half, whole)]
        assert_equal(*(outcome(layer, each) for each in results))
        pieces = [layer.stream(7, state).push(call.x) for state in (half, whole)]
        np.testing.assert_array_equal(*pieces)


@pytest.mark.parametrize("token", [np.int8(3), np.uint64(3), np.array(3), 3])
@pytest.mark.parametrize("cell", CELLS)
def test_a_single_token(cell: str, token: Any, rng: np.random.Generator) -> None:
    layer = CELLS[cell](5, 9, rng=rng)
    y, state = layer.step(token)
    expected, state_of_one = layer.step(np.array([3]))
    np.testing.assert_array_equal(y, expected[0])
    for s, s_of_one in zip(pair(state), pair(state_of_one), strict=True):
        np.testing.assert_array_equal(s, s_of_one[:, 0])


# -- nothing to do ----------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_empty_batch(
    cell: str, batch_first: bool, tokens: bool, masked: bool, rng: np.random.Generator
) -> None:
    layer = CELLS[cell](5, 9, 2, batch_first=batch_first, bidirectional=True, rng=rng)
    call = draw_call(rng, layer, 6, 0, tokens=tokens, lengths=masked, reset=masked)
    results = outcome(layer, call)
    assert results["y"].shape == ((0, 6, 18) if batch_first else (6, 0, 18))
    assert results["state[0]"].shape == results["dstate[0]"].shape == (4, 0, 9)
    assert tokens or results["dx"].shape == call.x.shape
    for name in layer.parameters:
        assert not results[f"d{name}"].any(), name


@pytest.mark.parametrize("cell", CELLS)
def test_empty_step(cell: str) -> None:
    layer = CELLS[cell](5, 9, 2)
    for x in (np.zeros((0, 5), np.float32), np.zeros(0, int)):
        y, state = layer.step(x)
        assert y.shape == (0, 9) and {s.shape for s in pair(state)} == {(2, 0, 9)}


@pytest.mark.parametrize("cell", CELLS)
def test_sequences_without_steps_keep_their_state(cell: str, rng: np.random.Generator) -> None:
    layer = CELLS[cell](5, 9, 2, bidirectional=True, rng=rng)
    call = replace(draw_call(rng, layer, 6, 7), lengths=np.zeros(7, int))
    results = outcome(layer, call)
    for k, (s, ds) in enumerate(zip(pair(call.state), pair(call.dstate), strict=True)):
        np.testing.assert_array_equal(results[f"state[{k}]"], s)
        np.testing.assert_array_equal(results[f"dstate[{k}]"], ds)
    assert not any(results[name].any() for name in results if "state" not in name)


# -- NaN and inf ------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["x", "state"])
@pytest.mark.parametrize("cell", CELLS)
def test_what_is_not_finite_passes_through(
    cell: str, place: str, value: float, isa: str, rng: np.random.Generator
) -> None:
    """As in the reference, and in its own sequence only."""
    layer = CELLS[cell](5, 33, 2, bidirectional=True, dtype="float64", rng=rng)
    call = draw_call(rng, layer, 6, 9, lengths=True)
    call.lengths[4] = 5
    clean = outcome(layer, call)
    target = call.x if place == "x" else pair(call.state)[-1]
    target[1 if place == "x" else 0, 4, 2] = value
    dirty = outcome(layer, call)
    with np.errstate(all="ignore"):
        expected = outcome(twin(reference, layer, "float64"), call)
    others = np.arange(9) != 4
    for name in ("y", "state[0]", "dx", "dstate[0]"):
        np.testing.assert_array_equal(dirty[name][:, others], clean[name][:, others], name)
    for name in ("y", "state[0]"):
        np.testing.assert_allclose(dirty[name], expected[name], rtol=0, atol=1e-12, err_msg=name)
    if np.isnan(value) and place == "x":
        assert np.isnan(dirty["y"][:5, 4]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("cell", CELLS)
def test_steps_and_streams_keep_nan_apart(
    cell: str, value: float, isa: str, rng: np.random.Generator
) -> None:
    layer = CELLS[cell](5, 33, rng=rng)
    call = draw_call(rng, layer, 6, 9)
    others = np.arange(9) != 4

    def run() -> tuple[Array, Array]:
        with layer.stream(9, call.state) as stream:
            return layer.step(call.x[1], call.state)[0], stream.push(call.x)

    clean = run()
    call.x[1, 4, 2] = value
    for y, y_clean in zip(run(), clean, strict=True):
        np.testing.assert_array_equal(y[..., others, :], y_clean[..., others, :])
        assert not np.array_equal(y[..., 4, :], y_clean[..., 4, :])


# -- nothing passed in is written to ----------------------------------------------------------


@pytest.mark.parametrize("given", ["float32", "float64", ">f4"])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_streams_copy_the_initial_state(
    cell: str, batch_first: bool, given: str, rng: np.random.Generator
) -> None:
    layer = CELLS[cell](5, 9, 2, batch_first=batch_first, rng=rng)
    call = draw_call(rng, layer, 6, 7)
    pair(call.state)[0][0, 0, :3] = np.nan, np.inf, -0.0
    initial = changed(call, lambda v: v.astype(given)).state
    expected = layer(call.x, call.state)[0]
    with layer.stream(7, initial) as stream:
        for s, s_given in zip(pair(stream.state), pair(call.state), strict=True):
            assert s.dtype == layer.dtype and s.tobytes() == s_given.tobytes()
        for s in pair(initial):
            s[...] = 3  # too late for the stream
        np.testing.assert_array_equal(stream.push(call.x), expected)


@pytest.mark.parametrize("given", [np.float32, np.int32])
@pytest.mark.parametrize("cell", CELLS)
def test_streams_do_not_write_their_inputs(cell: str, given: Any, rng: np.random.Generator) -> None:
    layer = CELLS[cell](5, 9, 2, rng=rng)
    call = draw_call(rng, layer, 6, 7, tokens=given is np.int32)
    call.x = call.x.astype(given)
    kept = changed(call, np.copy)
    with layer.stream(7, call.state) as stream:
        stream.push(call.x)
        after = pair(stream.state)
        copies = [s.copy() for s in after]
        stream.push(call.x)
    np.testing.assert_array_equal(call.x, kept.x)
    for s, s_kept in zip(pair(call.state), pair(kept.state), strict=True):
        np.testing.assert_array_equal(s, s_kept)
    for s, copy in zip(after, copies, strict=True):
        np.testing.assert_array_equal(s, copy)
