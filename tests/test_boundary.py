"""Any arguments at all: they work and agree with the reference, or are refused in the right words.

Shapes, types, strides and values are drawn around those that fit, so that about half of the calls
do; the exact words are in test_boundary_refusals.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

import rnnfast
from cases import VARIANTS, Array, build, pair, twin
from rnnfast import reference

FLOATS = ["f4", "f8", ">f4", "f2", "g"]
TOKENS = ["i8", "i1", "u2", ">i4", "u8"]
OTHERS = ["c8", "?", "O", "U2", "M8[s]", "V3"]

many = settings(
    max_examples=400,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Draw:
    """Arguments drawn one after the other from the same data."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.rng = np.random.default_rng(self.number(0, 2**32))

    def number(self, low: int, high: int) -> int:
        return self.data.draw(st.integers(low, high))

    def one_of(self, *choices: Any) -> Any:
        return self.data.draw(st.sampled_from(choices))

    def rarely(self) -> bool:
        return self.number(0, 11) == 0

    def shape(self, fit: tuple[int, ...]) -> tuple[int, ...]:
        """`fit`, or now and then something near it."""
        shape = list(fit)
        if shape and self.rarely():
            shape[self.number(0, len(shape) - 1)] += self.one_of(-1, 1, 3)
        if shape and self.rarely():
            del shape[self.number(0, len(shape) - 1)]
        if self.rarely():
            shape.insert(self.number(0, len(shape)), self.number(0, 3))
        return tuple(max(n, 0) for n in shape)

    def dtype(self, fit: list[str]) -> np.dtype[Any]:
        return np.dtype(self.one_of(*(OTHERS if self.rarely() else fit)))

    def layout(self, v: Array) -> Array:
        """The same values, elsewhere in memory or in another order."""
        kind = self.number(0, 5)
        if kind == 0:
            v = np.asfortranarray(v)
        elif kind == 1:
            v = np.repeat(v[None], 2, 0)[1, ...]
        elif kind == 2 and v.ndim:
            v = np.repeat(v, 2, axis=-1)[..., ::2]
        elif kind == 3 and v.ndim:
            v = v[::-1].copy()[::-1]
        elif kind == 4 and v.ndim and len(v):
            v = np.broadcast_to(v[:1], v.shape)
        v.flags.writeable = False
        return v

    def array(self, fit: tuple[int, ...], dtypes: list[str], low: int, high: int) -> Array:
        """Values from low to high - 1, in eighths where they are not whole."""
        dtype = self.dtype(dtypes)
        scale = 8 if dtype.kind == "f" else 1
        values = self.rng.integers(low * scale, high * scale, self.shape(fit)) / scale
        values = np.asarray(values)  # without axes it is a scalar
        if dtype.kind in "fiub":
            return self.layout(values.astype(dtype))
        return self.layout(np.zeros(values.shape, dtype))

    def misfit(self) -> Any:
        return self.one_of(3, 2.5, "x", [1.0], {}, object(), (), True, None, np.float32)


def draw_layer(draw: Draw, bidirectional: bool) -> Any:
    return build(
        rnnfast,
        draw.one_of(*VARIANTS),
        draw.number(1, 4),
        draw.number(1, 6),
        draw.number(1, 2),
        batch_first=draw.one_of(False, True),
        bidirectional=bidirectional,
        dtype="float64",
        rng=draw.rng,
    )


def draw_state(draw: Draw, layer: Any, batch: tuple[int, ...]) -> Any:
    if draw.one_of(False, True):
        return None
    if draw.rarely():
        return draw.misfit()
    rows = layer.num_layers * (2 if layer.bidirectional else 1)
    width = getattr(layer, "proj_size", 0) or layer.hidden_size
    parts = [draw.array((rows, *batch, width), FLOATS, -2, 2)]
    if isinstance(layer, rnnfast.LSTM) != draw.rarely():
        parts.append(draw.array((rows, *batch, layer.hidden_size), FLOATS, -2, 2))
    return parts[0] if len(parts) == 1 else draw.one_of(tuple(parts), parts)


def draw_arguments(draw: Draw, layer: Any) -> tuple[Any, ...]:
    """x, state, lengths and reset."""
    steps, batch = draw.number(1, 4), (draw.number(0, 3),)[: draw.number(0, 1)]
    time = (*batch, steps) if layer.batch_first else (steps, *batch)
    if draw.rarely():
        x = draw.misfit()
    elif draw.one_of(False, True):
        x = draw.array(time, TOKENS, 0 if not draw.rarely() else -1, layer.input_size)
    else:
        x = draw.array((*time, layer.input_size), FLOATS, -2, 2)
    state = draw_state(draw, layer, batch)
    lengths = reset = None
    if draw.one_of(False, True):
        high = steps + 1 + draw.rarely()
        lengths = draw.array(batch or (1,), TOKENS, 0, high) if not draw.rarely() else draw.misfit()
    if draw.one_of(False, True):
        reset = draw.array(time, ["?"], 0, 2) if not draw.rarely() else draw.misfit()
    return x, state, lengths, reset


def tried(layer: Any, call: Any, arguments: tuple[Any, ...]) -> Any:
    """What the call returns, or None where it is refused in the right words."""
    try:
        result = call(*arguments)
    except (TypeError, ValueError) as error:
        event(f"refused: {type(error).__name__}")
        text = str(error)
        assert text.startswith(f"{layer._name}: ") and "\n" not in text
        assert "expected" in text or "needs" in text
        return None
    event("worked")
    return result


def assert_close(ours: Any, theirs: Any) -> None:
    for v, w in zip(pair(ours), pair(theirs), strict=True):
        assert v.shape == w.shape
        np.testing.assert_allclose(v, w, rtol=0, atol=1e-12 * np.abs(w).max(initial=0))


def plain(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments as the reference takes them."""
    x, state, lengths, reset = arguments
    if x.dtype.kind == "f":
        x = x.astype(np.float64)
    return x, state, None if lengths is None else np.asarray(lengths), reset


@many
@given(data=st.data())
def test_any_call(data: st.DataObject) -> None:
    draw = Draw(data)
    layer = draw_layer(draw, draw.one_of(False, True))
    arguments = draw_arguments(draw, layer)
    flat = layer.flat.copy()
    result = tried(layer, layer.forward, arguments)
    np.testing.assert_array_equal(layer.flat, flat)
    assert (result is None) == (tried(layer, layer, arguments) is None)
    if result is not None:
        y, state, _ = result
        expected, expected_state = twin(reference, layer, np.float64)(*plain(arguments))
        assert_close(y, expected)
        assert_close(state, expected_state)


@many
@given(data=st.data())
def test_any_backward(data: st.DataObject) -> None:
    draw = Draw(data)
    layer = draw_layer(draw, draw.one_of(False, True))
    steps, batch = draw.number(1, 4), draw.number(0, 3)
    time = (batch, steps) if layer.batch_first else (steps, batch)
    x = draw.rng.standard_normal((*time, layer.input_size))
    exact = twin(reference, layer, np.float64)
    y, _, tape = layer.forward(x)
    dy = draw.misfit() if draw.rarely() else draw.array(y.shape, FLOATS, -2, 2)
    dstate = draw_state(draw, layer, (batch,))
    result = tried(layer, layer.backward, (tape, dy, dstate))
    if result is not None:
        dy = None if dy is None else dy.astype(np.float64)
        expected = exact.backward(exact.forward(x)[2], dy, dstate)
        assert_close(result.x, expected.x)
        assert_close(result.state, expected.state)
        assert_close(result.flat, expected.flat)


@many
@given(data=st.data())
def test_any_step(data: st.DataObject) -> None:
    draw = Draw(data)
    layer = draw_layer(draw, draw.rarely())
    batch = (draw.number(0, 3),)[: draw.number(0, 1)]
    if draw.rarely():
        x = draw.misfit()
    elif draw.one_of(False, True):
        x = draw.array(batch, TOKENS, 0, layer.input_size + draw.rarely())
    else:
        x = draw.array((*batch, layer.input_size), FLOATS, -2, 2)
    state = draw_state(draw, layer, batch)
    result = tried(layer, layer.step, (x, state))
    if result is not None:
        assert not layer.bidirectional
        x = np.asarray(x)
        expected = twin(reference, layer, np.float64).step(
            x.astype(np.float64) if x.dtype.kind == "f" else x, state
        )
        assert_close(result[0], expected[0])
        assert_close(result[1], expected[1])
