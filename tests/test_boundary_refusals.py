"""What a call refuses, with the exact words: x, tokens, lengths, reset, state, gradients, tape."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import rnnfast
from boundary import CELLS, WIDTH, B, Case, H, T, ids, refused, unharmed, zeros


@pytest.fixture(params=CELLS)
def cell(request: pytest.FixtureRequest) -> str:
    """Run the test for each cell."""
    name: str = request.param
    return name


@pytest.fixture
def layer(cell: str) -> Any:
    """Make a small layer of the cell."""
    return CELLS[cell](WIDTH, H, rng=0)


# -- x ----------------------------------------------------------------------------------------

AXES = "expected (T, B, I) or (T, I)"
TOKEN_AXES = "expected tokens (T, B) or (T,)"
TYPES = "expected floating point, or integers for tokens"
TOKENS = f"expected 0 <= token < input_size={WIDTH}"

X: list[Case] = [
    (None, TypeError, "{cell}: x is a NoneType, expected a NumPy array"),
    (3, TypeError, "{cell}: x is a int, expected a NumPy array"),
    ("abc", TypeError, "{cell}: x is a str, expected a NumPy array"),
    ([[[0.0] * WIDTH]], TypeError, "{cell}: x is a list, expected a NumPy array"),
    (np.float32, TypeError, "{cell}: x is a type, expected a NumPy array"),
    (np.float32(1), ValueError, "{cell}: x has shape (), " + AXES),
    (zeros(WIDTH), ValueError, "{cell}: x has shape (3,), " + AXES),
    (zeros(1, T, B, WIDTH), ValueError, "{cell}: x has shape (1, 5, 2, 3), " + AXES),
    (
        zeros(T, B, 7),
        ValueError,
        "{cell}: x has 7 features in its last axis, expected input_size=3",
    ),
    (
        zeros(T, B, 0),
        ValueError,
        "{cell}: x has 0 features in its last axis, expected input_size=3",
    ),
    (zeros(T, 4), ValueError, "{cell}: x has 4 features in its last axis, expected input_size=3"),
    (
        zeros(0, B, WIDTH),
        ValueError,
        "{cell}: x has shape (0, 2, 3), expected at least one time step",
    ),
    (
        zeros(0, 0, WIDTH),
        ValueError,
        "{cell}: x has shape (0, 0, 3), expected at least one time step",
    ),
    (zeros(0, WIDTH), ValueError, "{cell}: x has shape (0, 3), expected at least one time step"),
    (zeros(0, dtype=int), ValueError, "{cell}: x has shape (0,), expected at least one time step"),
    (zeros(dtype=int), ValueError, "{cell}: x has shape (), " + TOKEN_AXES),
    (zeros(T, B, WIDTH, dtype=int), ValueError, "{cell}: x has shape (5, 2, 3), " + TOKEN_AXES),
    *(
        (zeros(T, B, WIDTH, dtype=given), ValueError, f"{{cell}}: x has dtype {name}, {TYPES}")
        for given, name in [
            ("complex64", "complex64"),
            ("complex128", "complex128"),
            (object, "object"),
            ("U3", "<U3"),
            ("S3", "|S3"),
            (bool, "bool"),
            ("datetime64[s]", "datetime64[s]"),
            ("timedelta64[ns]", "timedelta64[ns]"),
            ("V4", "|V4"),
            ([("a", "f4")], "[('a', '<f4')]"),
        ]
    ),
    (np.array([[0, 2], [3, -1]]), ValueError, "{cell}: x[1, 0] is token 3, " + TOKENS),
    (np.array([[0, -1], [3, 0]], np.int8), ValueError, "{cell}: x[0, 1] is token -1, " + TOKENS),
    (np.array([0, 1, 3]), ValueError, "{cell}: x[2] is token 3, " + TOKENS),
    (np.array([[3], [0]], ">u2")[::-1], ValueError, "{cell}: x[1, 0] is token 3, " + TOKENS),
    (
        np.full((1, 1), 2**64 - 1, np.uint64),
        ValueError,
        "{cell}: x[0, 0] is token 18446744073709551615, " + TOKENS,
    ),
    (
        np.full((1, 1), 2**32, np.int64),
        ValueError,
        "{cell}: x[0, 0] is token 4294967296, " + TOKENS,
    ),
    (np.full(1, -(2**63)), ValueError, "{cell}: x[0] is token -9223372036854775808, " + TOKENS),
]


@pytest.mark.parametrize(("x", "error", "text"), X, ids=ids(X))
def test_x(layer: Any, cell: str, x: Any, error: type[Exception], text: str) -> None:
    with unharmed(layer):
        for call in (layer, layer.forward):
            with refused(error, text.format(cell=cell)):
                call(x)


def test_batch_first_texts_name_the_axes_in_their_order(cell: str) -> None:
    layer = CELLS[cell](WIDTH, H, batch_first=True)
    with refused(ValueError, f"{cell}: x has shape (3,), expected (B, T, I) or (T, I)"):
        layer(zeros(3))
    with refused(ValueError, f"{cell}: x has shape (), expected tokens (B, T) or (T,)"):
        layer(zeros(dtype=int))
    with refused(ValueError, f"{cell}: x has shape (2, 0, 3), expected at least one time step"):
        layer(zeros(2, 0, 3))
    with refused(ValueError, f"{cell}: reset has shape (5, 2), expected (B, T) = (2, 5)"):
        layer(zeros(B, T, WIDTH), reset=zeros(T, B, dtype=bool))
    with refused(ValueError, f"{cell}: lengths[0] is 6, expected 0 <= length <= T=5"):
        layer(zeros(B, T, WIDTH), lengths=[6, 1])


# -- lengths and reset ------------------------------------------------------------------------

LENGTHS: list[Case] = [
    ([5, 6], ValueError, "{cell}: lengths[1] is 6, expected 0 <= length <= T=5"),
    ([-1, 9], ValueError, "{cell}: lengths[0] is -1, expected 0 <= length <= T=5"),
    (
        np.array([1, 2**64 - 1], np.uint64),
        ValueError,
        "{cell}: lengths[1] is 18446744073709551615, expected 0 <= length <= T=5",
    ),
    ([5], ValueError, "{cell}: lengths has shape (1,), expected (B,) = (2,)"),
    ([], ValueError, "{cell}: lengths has shape (0,), expected (B,) = (2,)"),
    (5, ValueError, "{cell}: lengths has shape (), expected (B,) = (2,)"),
    ([[5, 5]], ValueError, "{cell}: lengths has shape (1, 2), expected (B,) = (2,)"),
    ([5.0, 5.0], ValueError, "{cell}: lengths has dtype float64, expected integers"),
    ([True, False], ValueError, "{cell}: lengths has dtype bool, expected integers"),
    ([None, 1], ValueError, "{cell}: lengths has dtype object, expected integers"),
    ([2**70, 1], ValueError, "{cell}: lengths has dtype object, expected integers"),
    ("ab", ValueError, "{cell}: lengths has dtype <U2, expected integers"),
    (
        [[1], [2, 3]],
        ValueError,
        "{cell}: lengths is no array, expected integers of shape (B,)",
    ),
]

RESET: list[Case] = [
    ([[False] * B] * T, TypeError, "{cell}: reset is a list, expected a NumPy array"),
    (True, TypeError, "{cell}: reset is a bool, expected a NumPy array"),
    (zeros(T, B), ValueError, "{cell}: reset has dtype float32, expected bool"),
    (zeros(T, B, dtype="i1"), ValueError, "{cell}: reset has dtype int8, expected bool"),
    (
        zeros(B, T, dtype=bool),
        ValueError,
        "{cell}: reset has shape (2, 5), expected (T, B) = (5, 2)",
    ),
    (zeros(T, dtype=bool), ValueError, "{cell}: reset has shape (5,), expected (T, B) = (5, 2)"),
]


@pytest.mark.parametrize(("lengths", "error", "text"), LENGTHS, ids=ids(LENGTHS))
def test_lengths(layer: Any, cell: str, lengths: Any, error: type[Exception], text: str) -> None:
    with unharmed(layer):
        for call in (layer, layer.forward):
            with refused(error, text.format(cell=cell)):
                call(zeros(T, B, WIDTH), lengths=lengths)


@pytest.mark.parametrize(("reset", "error", "text"), RESET, ids=ids(RESET))
def test_reset(layer: Any, cell: str, reset: Any, error: type[Exception], text: str) -> None:
    with unharmed(layer):
        for call in (layer, layer.forward):
            with refused(error, text.format(cell=cell)):
                call(zeros(T, B, WIDTH), reset=reset)


# -- state, and the gradient of the state ------------------------------------------------------

FIT = zeros(1, B, H)

ONE: list[Case] = [
    ((FIT, FIT), TypeError, "{cell}: {name} is a tuple, expected a NumPy array"),
    (FIT.tolist(), TypeError, "{cell}: {name} is a list, expected a NumPy array"),
    (3.5, TypeError, "{cell}: {name} is a float, expected a NumPy array"),
    (FIT[0], ValueError, "{cell}: {name} has shape (2, 4), expected (L*D, B, H) = (1, 2, 4)"),
    (
        zeros(2, B, H),
        ValueError,
        "{cell}: {name} has shape (2, 2, 4), expected (L*D, B, H) = (1, 2, 4)",
    ),
    (FIT.astype(int), ValueError, "{cell}: {name} has dtype int64, expected floating point"),
    (FIT.astype("c8"), ValueError, "{cell}: {name} has dtype complex64, expected floating point"),
    (FIT.astype(object), ValueError, "{cell}: {name} has dtype object, expected floating point"),
]

PAIR: list[Case] = [
    (FIT, TypeError, "lstm: {name} is a ndarray, expected a pair (h, c)"),
    (zeros(2, 1, B, H), TypeError, "lstm: {name} is a ndarray, expected a pair (h, c)"),
    ("hc", TypeError, "lstm: {name} is a str, expected a pair (h, c)"),
    ({0: FIT, 1: FIT}, TypeError, "lstm: {name} is a dict, expected a pair (h, c)"),
    ((FIT,), ValueError, "lstm: {name} has 1 parts, expected the pair (h, c)"),
    ([FIT] * 3, ValueError, "lstm: {name} has 3 parts, expected the pair (h, c)"),
    ((), ValueError, "lstm: {name} has 0 parts, expected the pair (h, c)"),
    ((FIT, 3), TypeError, "lstm: {name}[1] is a int, expected a NumPy array"),
    (
        (FIT[:, :1], FIT),
        ValueError,
        "lstm: {name}[0] has shape (1, 1, 4), expected (L*D, B, H) = (1, 2, 4)",
    ),
    (
        (FIT, FIT[..., :3]),
        ValueError,
        "lstm: {name}[1] has shape (1, 2, 3), expected (L*D, B, H) = (1, 2, 4)",
    ),
    ([FIT, FIT > 0], ValueError, "lstm: {name}[1] has dtype bool, expected floating point"),
]

STATES = [
    *(pytest.param(cell, *case) for cell in ("rnn", "gru") for case in ONE),
    *(pytest.param("lstm", *case) for case in PAIR),
]


@pytest.mark.parametrize(("cell", "state", "error", "text"), STATES)
def test_state(cell: str, state: Any, error: type[Exception], text: str) -> None:
    layer = CELLS[cell](WIDTH, H, rng=0)
    x = zeros(T, B, WIDTH)
    text = text.format(cell=cell, name="state")
    with unharmed(layer):
        for call in (layer, layer.forward, lambda x, s: layer.step(x[0], s)):
            with refused(error, text):
                call(x, state)
        with refused(error, text):
            layer.stream(B, state)


@pytest.mark.parametrize(("cell", "dstate", "error", "text"), STATES)
def test_dstate(cell: str, dstate: Any, error: type[Exception], text: str) -> None:
    layer = CELLS[cell](WIDTH, H, rng=0)
    tape = layer.forward(zeros(T, B, WIDTH))[2]
    with unharmed(layer), refused(error, text.format(cell=cell, name="dstate")):
        layer.backward(tape, dstate=dstate)


def test_projected_and_unbatched_states_are_named_by_their_axes() -> None:
    lstm = rnnfast.LSTM(WIDTH, H, proj_size=2)
    text = "lstm: state[0] has shape (1, 2, 4), expected (L*D, B, P) = (1, 2, 2)"
    with refused(ValueError, text):
        lstm(zeros(T, B, WIDTH), (FIT, FIT))
    with refused(ValueError, text):
        lstm.stream(B, (FIT, FIT))
    text = "lstm: state[1] has shape (1, 2, 4), expected (L*D, H) = (1, 4)"
    with refused(ValueError, text):
        lstm(zeros(T, WIDTH), (zeros(1, 2), FIT))


# -- step and stream --------------------------------------------------------------------------

STEP: list[Case] = [
    (zeros(), ValueError, "{cell}: x has shape (), expected one time step (B, I) or (I,)"),
    (
        zeros(1, B, WIDTH),
        ValueError,
        "{cell}: x has shape (1, 2, 3), expected one time step (B, I) or (I,)",
    ),
    (zeros(B, 4), ValueError, "{cell}: x has 4 features in its last axis, expected input_size=3"),
    (
        zeros(1, B, dtype=int),
        ValueError,
        "{cell}: x has shape (1, 2), expected tokens (B,) or ()",
    ),
    (np.array([0, 3]), ValueError, "{cell}: x[1] is token 3, " + TOKENS),
    (np.int8(-1), ValueError, "{cell}: x is token -1, " + TOKENS),
    (3, ValueError, "{cell}: x is token 3, " + TOKENS),
    (-(2**70), ValueError, "{cell}: x is token -1180591620717411303424, " + TOKENS),
    (zeros(B, WIDTH, dtype=bool), ValueError, "{cell}: x has dtype bool, " + TYPES),
    (True, TypeError, "{cell}: x is a bool, expected a NumPy array"),
    (1.5, TypeError, "{cell}: x is a float, expected a NumPy array"),
    ([0.0] * WIDTH, TypeError, "{cell}: x is a list, expected a NumPy array"),
    (None, TypeError, "{cell}: x is a NoneType, expected a NumPy array"),
]

PUSH: list[Case] = [
    (None, TypeError, "{cell}: block is a NoneType, expected a NumPy array"),
    ([0, 1], TypeError, "{cell}: block is a list, expected a NumPy array"),
    (
        zeros(T, WIDTH),
        ValueError,
        "{cell}: block has shape (5, 3), expected 3 axes, with batch 2 on axis 1",
    ),
    (
        zeros(T, 1, WIDTH),
        ValueError,
        "{cell}: block has shape (5, 1, 3), expected 3 axes, with batch 2 on axis 1",
    ),
    (
        zeros(T, 3, dtype=int),
        ValueError,
        "{cell}: block has shape (5, 3), expected 2 axes, with batch 2 on axis 1",
    ),
    (
        zeros(0, B, WIDTH),
        ValueError,
        "{cell}: block has shape (0, 2, 3), expected at least one time step",
    ),
    (
        zeros(T, B, 4),
        ValueError,
        "{cell}: block has 4 features in its last axis, expected input_size=3",
    ),
    (zeros(T, B, WIDTH, dtype=bool), ValueError, "{cell}: block has dtype bool, " + TYPES),
    (np.full((1, B), 3), ValueError, "{cell}: block[0, 0] is token 3, " + TOKENS),
]


@pytest.mark.parametrize(("x", "error", "text"), STEP, ids=ids(STEP))
def test_step(layer: Any, cell: str, x: Any, error: type[Exception], text: str) -> None:
    with unharmed(layer), refused(error, text.format(cell=cell)):
        layer.step(x)


@pytest.mark.parametrize(("block", "error", "text"), PUSH, ids=ids(PUSH))
def test_push(layer: Any, cell: str, block: Any, error: type[Exception], text: str) -> None:
    good = np.random.default_rng(0).standard_normal((6, B, WIDTH)).astype(np.float32)
    with layer.stream(B) as stream:
        first = stream.push(good[:4])
        with refused(error, text.format(cell=cell)):
            stream.push(block)
        y = np.concatenate([first, stream.push(good[4:])])
    np.testing.assert_array_equal(y, layer(good)[0])


def test_streams_refuse_what_they_cannot_do(layer: Any, cell: str) -> None:
    for batch, text in [(0, "is 0, expected 1 to 2147483647"), (-1, "is -1, expected 1 to")]:
        with pytest.raises(ValueError, match=re.escape(f"{cell}: batch {text}")):
            layer.stream(batch)
    for batch, kind in [("2", "str"), (2.0, "float"), (True, "bool")]:
        with refused(TypeError, f"{cell}: batch is a {kind}, expected an integer"):
            layer.stream(batch)
    huge = 2**31 - 1
    state = (FIT, FIT) if cell == "lstm" else FIT
    with pytest.raises(ValueError, match=rf"expected \(L\*D, B, H\) = \(1, {huge}, 4\)"):
        layer.stream(huge, state)
    with layer.stream() as stream:
        pass
    with refused(ValueError, f"{cell}: the stream is closed, expected an open one"):
        stream.push(zeros(T, 1, WIDTH))
    both_ways = CELLS[cell](WIDTH, H, bidirectional=True)
    with refused(ValueError, f"{cell}: stream needs a layer that is not bidirectional"):
        both_ways.stream()
    with refused(ValueError, f"{cell}: step needs a layer that is not bidirectional"):
        both_ways.step(zeros(WIDTH))


# -- backward ---------------------------------------------------------------------------------

DY: list[Case] = [
    (zeros(B, H), ValueError, "{cell}: dy has shape (2, 4), expected the shape of y = (5, 2, 4)"),
    (
        zeros(T, B, 5),
        ValueError,
        "{cell}: dy has shape (5, 2, 5), expected the shape of y = (5, 2, 4)",
    ),
    (zeros(T, B, H, dtype=int), ValueError, "{cell}: dy has dtype int64, expected floating point"),
    ([[[0.0] * H] * B] * T, TypeError, "{cell}: dy is a list, expected a NumPy array"),
    (1.0, TypeError, "{cell}: dy is a float, expected a NumPy array"),
]


@pytest.mark.parametrize(("dy", "error", "text"), DY, ids=ids(DY))
def test_dy(layer: Any, cell: str, dy: Any, error: type[Exception], text: str) -> None:
    """A refused backward leaves the tape as it was: it serves the next one."""
    y, _, tape = layer.forward(np.ones((T, B, WIDTH), np.float32))
    with unharmed(layer), refused(error, text.format(cell=cell)):
        layer.backward(tape, dy)
    expected = layer.backward(layer.forward(np.ones((T, B, WIDTH), np.float32))[2], y)
    np.testing.assert_array_equal(layer.backward(tape, y).flat, expected.flat)


def test_tapes(layer: Any, cell: str) -> None:
    x = zeros(T, B, WIDTH)
    tape = layer.forward(x)[2]
    strangers: list[Callable[[], Any]] = [
        lambda: CELLS[cell](WIDTH, H),
        lambda: CELLS[cell](WIDTH, H, dtype="float64"),
        lambda: rnnfast.GRU(WIDTH + 1, H + 1),
    ]
    for make in strangers:
        other = make()
        text = f"{other._name}: tape was recorded by another layer, "
        with refused(ValueError, text + "expected one from this layer's forward"):
            other.backward(tape)
    layer.backward(tape)
    text = "tape was used before, expected a fresh one: each forward serves one backward"
    with refused(ValueError, f"{cell}: {text}"):
        layer.backward(tape)
    for wrong in (None, 3, (tape,), x):
        kind = type(wrong).__name__
        with refused(TypeError, f"{cell}: tape is a {kind}, expected what forward returned"):
            layer.backward(wrong)
    with pytest.raises(TypeError, match="No constructor defined"):
        rnnfast._core.Tape()


def test_a_tape_used_while_its_backward_reads_the_arguments(layer: Any, cell: str) -> None:
    y, _, tape = layer.forward(np.ones((T, B, WIDTH), np.float32))
    inner = []

    class Greedy:
        def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
            inner.append(layer.backward(tape, y))
            return y

    text = "tape was used before, expected a fresh one: each forward serves one backward"
    with unharmed(layer), refused(ValueError, f"{cell}: {text}"):
        layer.backward(tape, Greedy())
    expected = layer.backward(layer.forward(np.ones((T, B, WIDTH), np.float32))[2], y)
    np.testing.assert_array_equal(inner[0].flat, expected.flat)
