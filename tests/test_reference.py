"""The reference itself: its gradients by complex steps, its forward by naive scalar loops.

A complex step takes the derivative of an analytic f without cancellation:
Im f(v + iεw) / ε = f'(v)·w to the last digit, for ε far below the rounding error.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pytest

from cases import VARIANTS, Array, Call, build, draw_call, outcome, pair, twin, unpair
from rnnfast import reference

EPSILON = 1e-40
MASKS = {
    "whole": {},
    "lengths": {"lengths": True},
    "reset": {"reset": True},
    "lengths+reset": {"lengths": True, "reset": True},
}


# -- gradients --------------------------------------------------------------------------------


def loss(layer: Any, call: Call, x: Array, state: Any) -> Any:
    """Σ dy·y + Σ dstate·state: its gradient is what `backward` returns."""
    y, after, _ = layer.forward(x, state, call.lengths, call.reset, dropout_seed=call.dropout_seed)
    ends = zip(pair(after), pair(call.dstate), strict=True)
    return np.sum(call.dy * y) + sum(np.sum(dv * v) for v, dv in ends)


def assert_derivative(gradient: Array, direction: Array, value: complex, name: str) -> None:
    expected = value.imag / EPSILON
    scale = np.linalg.norm(gradient) * np.linalg.norm(direction)
    assert abs(np.sum(gradient * direction) - expected) <= 1e-11 * scale, name
    assert scale > 0, f"{name} has no gradient: nothing was tested"


def check_gradients(rng: np.random.Generator, layer: Any, call: Call) -> None:
    """Compare each of layer's gradients, along a random direction, with the complex step."""
    _, _, tape = layer.forward(*call.arguments)
    call.dropout_seed = tape.dropout_seed
    grads = layer.backward(tape, call.dy, call.dstate)
    analytic = twin(reference, layer, np.complex128)
    for name, g in grads.parameters.items():
        w = rng.standard_normal(g.shape)
        analytic.parameters[name] += 1j * EPSILON * w
        assert_derivative(g, w, loss(analytic, call, call.x, call.state), name)
        analytic.flat[:] = layer.flat
    if grads.x is not None:
        w = rng.standard_normal(grads.x.shape)
        value = loss(analytic, call, call.x + 1j * EPSILON * w, call.state)
        assert_derivative(grads.x, w, value, "x")
    for k, g in enumerate(pair(grads.state)):
        w = rng.standard_normal(g.shape)
        state = [v.astype(np.complex128) for v in pair(call.state)]
        state[k] += 1j * EPSILON * w
        assert_derivative(g, w, loss(analytic, call, call.x, unpair(tuple(state))), f"state {k}")


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients(variant: str, bidirectional: bool, mask: str, rng: np.random.Generator) -> None:
    layer = build(
        reference, variant, 3, 4, num_layers=2, bidirectional=bidirectional, dtype=float, rng=rng
    )
    check_gradients(rng, layer, draw_call(rng, layer, T=6, B=5, **MASKS[mask]))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        pytest.param({"bias": False}, {}, id="no-bias"),
        pytest.param({}, {"tokens": True, "lengths": True}, id="tokens"),
        pytest.param({"num_layers": 3}, {"T": 1}, id="T1"),
        pytest.param({"bidirectional": True}, {"T": 1, "B": 1}, id="T1-B1"),
        pytest.param({"bidirectional": True}, {"B": 1, "reset": True}, id="B1"),
        pytest.param({"batch_first": True}, {"lengths": True, "reset": True}, id="batch-first"),
        pytest.param({"num_layers": 2}, {"B": 1, "batched": False}, id="unbatched"),
        pytest.param({"num_layers": 3, "dropout": 0.4, "bidirectional": True}, {}, id="dropout"),
    ],
)
def test_gradients_with_options(
    variant: str, options: dict[str, Any], arguments: dict[str, Any], rng: np.random.Generator
) -> None:
    layer = build(reference, variant, 2, 5, dtype=float, rng=rng, **options)
    check_gradients(rng, layer, draw_call(rng, layer, **{"T": 5, "B": 3, **arguments}))


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradient_of_every_single_weight(variant: str, rng: np.random.Generator) -> None:
    """No direction in common: one complex step for each element."""
    layer = build(reference, variant, 2, 3, dtype=float, rng=rng)
    call = draw_call(rng, layer, T=4, B=2, lengths=True)
    _, _, tape = layer.forward(*call.arguments)
    gradient = layer.backward(tape, call.dy, call.dstate).flat
    analytic = twin(reference, layer, np.complex128)
    for k in range(layer.flat.size):
        analytic.flat[k] += 1j * EPSILON
        expected = loss(analytic, call, call.x, call.state).imag / EPSILON
        analytic.flat[k] = layer.flat[k]
        assert gradient[k] == pytest.approx(expected, rel=1e-10, abs=1e-13)


# -- forward ----------------------------------------------------------------------------------


def logistic(a: float) -> float:
    return 1 / (1 + math.exp(-a))


PHI = {
    "tanh": math.tanh,
    "relu": lambda a: max(a, 0.0),
    "sigmoid": logistic,
    "identity": lambda a: a,
}


class Naive:
    """One direction of one layer over one segment, in scalars straight from the formulas."""

    def __init__(self, layer: Any, suffix: str) -> None:
        self.layer, self.suffix, self.hidden = layer, suffix, layer.hidden_size

    def dot(self, name: str, row: int, v: list[float]) -> float:
        weights = self.layer.parameters[f"weight_{name}_{self.suffix}"]
        return math.fsum(float(weights[row, k]) * v[k] for k in range(len(v)))

    def side(self, name: str, gate: int, j: int, v: list[float]) -> float:
        """(W v + b) of unit j's gate, on the side `name`, "ih" or "hh"."""
        row = gate * self.hidden + j
        bias = float(self.layer.parameters[f"bias_{name}_{self.suffix}"][row])
        return self.dot(name, row, v) + bias

    def both(self, gate: int, j: int, x: list[float], h: list[float]) -> float:
        return self.side("ih", gate, j, x) + self.side("hh", gate, j, h)

    def rnn(self, x: list[float], h: list[float], c: list[float]) -> tuple[list[float], ...]:
        phi = PHI[self.layer.nonlinearity]
        return [phi(self.both(0, j, x, h)) for j in range(self.hidden)], c

    def lstm(self, x: list[float], h: list[float], c: list[float]) -> tuple[list[float], ...]:
        c_new, m = [], []
        for j in range(self.hidden):
            i, f = logistic(self.both(0, j, x, h)), logistic(self.both(1, j, x, h))
            g, o = math.tanh(self.both(2, j, x, h)), logistic(self.both(3, j, x, h))
            c_new.append(f * c[j] + i * g)
            m.append(o * math.tanh(c_new[j]))
        if self.layer.proj_size:
            m = [self.dot("hr", p, m) for p in range(self.layer.proj_size)]
        return m, c_new

    def gru(self, x: list[float], h: list[float], c: list[float]) -> tuple[list[float], ...]:
        r = [logistic(self.both(0, j, x, h)) for j in range(self.hidden)]
        z = [logistic(self.both(1, j, x, h)) for j in range(self.hidden)]
        gated = [r[j] * h[j] for j in range(self.hidden)]
        new = []
        for j in range(self.hidden):
            a = self.side("ih", 2, j, x)
            if self.layer.reset_after:
                n = math.tanh(a + r[j] * self.side("hh", 2, j, h))
            else:
                n = math.tanh(a + self.side("hh", 2, j, gated))
            new.append((1 - z[j]) * n + z[j] * h[j])
        return new, c

    def segment(
        self, x: list[list[float]], h: list[float], c: list[float]
    ) -> tuple[list[list[float]], list[float], list[float]]:
        y = []
        for x_t in x:
            h, c = getattr(self, self.layer.name)(x_t, h, c)
            y.append(h)
        return y, h, c


def segments(reset: list[bool]) -> list[tuple[int, int]]:
    """[begin, end) of the segments of one sequence, whose flags these are."""
    begins = [0, *(t for t in range(1, len(reset)) if reset[t])]
    return list(zip(begins, [*begins[1:], len(reset)], strict=True))


def naive_direction(
    layer: Any, suffix: str, x: list[Any], h: Any, c: Any, reset: list[bool]
) -> tuple[list[Any], Any, Any]:
    """One sequence, cut into segments that know nothing of each other."""
    backwards, zero_h, zero_c = suffix.endswith("_reverse"), [0.0] * len(h), [0.0] * len(c)
    y: list[Any] = []
    ends = []
    pieces = segments(reset) if x else []
    for k, (begin, end) in enumerate(pieces):
        given = k == len(pieces) - 1 if backwards else k == 0 and not reset[0]
        piece = x[begin:end]
        out, h_end, c_end = Naive(layer, suffix).segment(
            piece[::-1] if backwards else piece, h if given else zero_h, c if given else zero_c
        )
        y += out[::-1] if backwards else out
        ends.append((h_end, c_end))
    if ends:
        h, c = ends[0 if backwards else -1]
    return y, h, c


def naive_forward(layer: Any, call: Call) -> tuple[Array, tuple[Array, ...]]:
    """The whole layer on time-major arguments, one sequence after the other."""
    T, B = call.x.shape[:2]
    states = pair(call.state)
    after = tuple(np.empty_like(s) for s in states)
    directions = 2 if layer.bidirectional else 1
    y = np.zeros((T, B, directions * states[0].shape[2]))
    for b in range(B):
        n = T if call.lengths is None else int(call.lengths[b])
        reset = [False] * n if call.reset is None else call.reset[:n, b].tolist()
        v = [np.eye(layer.input_size)[k] if call.x.ndim == 2 else k for k in call.x[:n, b]]
        for k in range(layer.num_layers):
            outs = []
            for d in range(directions):
                h, c = (*(s[k * directions + d, b].tolist() for s in states), [])[:2]
                suffix = f"l{k}" + ("_reverse" if d else "")
                out, *ends = naive_direction(layer, suffix, v, h, c, reset)
                outs.append(out)
                for s, end in zip(after, ends, strict=False):
                    s[k * directions + d, b] = end
            v = [list(chain.from_iterable(parts)) for parts in zip(*outs, strict=True)]
        if n:
            y[:n, b] = v
    return y, after


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_forward(variant: str, mask: str, rng: np.random.Generator) -> None:
    for bidirectional, tokens in [(False, False), (True, True), (True, False)]:
        layer = build(
            reference, variant, 3, 4, 2, bidirectional=bidirectional, dtype=float, rng=rng
        )
        call = draw_call(rng, layer, T=6, B=5, tokens=tokens, **MASKS[mask])
        y, state = layer(*call.arguments)
        y_naive, state_naive = naive_forward(layer, call)
        np.testing.assert_allclose(y, y_naive, rtol=1e-12, atol=1e-14)
        for s, s_naive in zip(pair(state), state_naive, strict=True):
            np.testing.assert_allclose(s, s_naive, rtol=1e-12, atol=1e-14)


def test_empty_sequences_pass_the_state_and_its_gradient(rng: np.random.Generator) -> None:
    layer = build(reference, "lstm", 3, 4, 2, bidirectional=True, dtype=float, rng=rng)
    call = draw_call(rng, layer, T=4, B=3, reset=True)
    call.lengths = np.array([2, 0, 4])
    y, state, tape = layer.forward(*call.arguments)
    grads = layer.backward(tape, call.dy, call.dstate)
    assert not y[:, 1].any() and not y[2:, 0].any() and y[:2, 0].all()
    for k in range(2):
        np.testing.assert_array_equal(state[k][:, 1], call.state[k][:, 1])
        np.testing.assert_array_equal(grads.state[k][:, 1], call.dstate[k][:, 1])


def test_what_lies_past_a_length_is_not_read(rng: np.random.Generator) -> None:
    layer = build(reference, "gru", 3, 4, 2, bidirectional=True, dtype=float, rng=rng)
    call = draw_call(rng, layer, T=6, B=5, lengths=True, reset=True)
    clean = outcome(layer, call)
    past = np.arange(6)[:, None] >= call.lengths
    call.x[past] = np.nan
    call.dy[past] = np.nan
    call.reset[past] ^= True
    for name, v in outcome(layer, call).items():
        np.testing.assert_array_equal(v, clean[name], err_msg=name)


# -- layouts, dtypes, dropout, parameters -----------------------------------------------------


def swap(v: Array) -> Array:
    """(T, B, …) ↔ (B, T, …)."""
    return v.swapaxes(0, 1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_layouts_agree(variant: str, rng: np.random.Generator) -> None:
    layer = build(reference, variant, 3, 4, 2, bidirectional=True, dtype=float, rng=rng)
    call = draw_call(rng, layer, T=5, B=1, lengths=True, reset=True)
    expected = outcome(layer, call)
    swapped = twin(reference, layer, float)
    swapped.batch_first = True
    turned = replace(call, x=swap(call.x), reset=swap(call.reset), dy=swap(call.dy))
    alone = replace(
        call,
        x=call.x[:, 0],
        state=unpair(tuple(s[:, 0] for s in pair(call.state))),
        reset=call.reset[:, 0],
        dy=call.dy[:, 0],
        dstate=unpair(tuple(s[:, 0] for s in pair(call.dstate))),
    )
    for other, arguments in [(swapped, turned), (layer, alone)]:
        for name, v in outcome(other, arguments).items():
            np.testing.assert_array_equal(v.ravel(), expected[name].ravel(), err_msg=name)


@pytest.mark.parametrize("variant", VARIANTS)
def test_float32_stays_float32(variant: str, rng: np.random.Generator) -> None:
    layer = build(reference, variant, 3, 4, 2, dropout=0.5, bidirectional=True, rng=rng)
    call = draw_call(rng, layer, T=5, B=3, lengths=True, reset=True)
    call.dropout_seed = 7
    exact = outcome(twin(reference, layer, float), call)
    for name, v in outcome(layer, call).items():
        assert v.dtype == np.float32, name
        scale = np.abs(exact[name]).max()
        np.testing.assert_allclose(v, exact[name], rtol=0, atol=1e-5 * scale, err_msg=name)


def mixed(x: int) -> int:
    """Splitmix64 in whole numbers."""
    x = (x + 0x9E3779B97F4A7C15) % 2**64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % 2**64
    return x ^ (x >> 31)


def test_dropout_is_the_stated_hash(rng: np.random.Generator) -> None:
    assert mixed(0) == 0xE220A8397B1DCDAF  # the generator's published first number
    seed, p, (T, B, W) = int(rng.integers(2**63)), 0.3, (5, 3, 4)
    for layer in range(2):
        factor = reference.dropout_factor(p, seed, layer, np.empty((T, B, W)))
        for t, b, j in np.ndindex(T, B, W):
            position = ((layer * T + t) * B + b) * W + j
            kept = mixed((seed + position) % 2**64) >> 40 >= round(p * 2**24)
            assert factor[t, b, j] == (1 / (1 - p) if kept else 0)


def test_dropout_acts_between_layers_in_training_only(rng: np.random.Generator) -> None:
    one = build(reference, "rnn-identity", 3, 4, dtype=float, rng=rng)
    two = build(reference, "rnn-identity", 3, 4, 2, dropout=0.5, dtype=float, rng=rng)
    top = build(reference, "rnn-identity", 4, 4, dtype=float, rng=rng)
    for name in one.parameters:
        one.parameters[name][:] = two.parameters[name]
        top.parameters[name][:] = two.parameters[name.replace("l0", "l1")]
    x = rng.standard_normal((6, 2, 3))
    middle, _ = one(x)
    y, _, tape = two.forward(x)
    factor = reference.dropout_factor(0.5, tape.dropout_seed, 0, middle)
    assert set(np.unique(factor)) == {0.0, 2.0}
    np.testing.assert_array_equal(y, top(middle * factor)[0])
    np.testing.assert_array_equal(two(x)[0], top(middle)[0])
    everything = reference.dropout_factor(1.0, tape.dropout_seed, 0, middle)
    assert not everything.any()


def test_dropout_seeds_come_from_the_layers_generator() -> None:
    layer = reference.LSTM(3, 4, 2, dropout=0.5, rng=5)
    expected = np.random.default_rng(5)
    expected.uniform(size=layer.flat.size)
    x = np.random.default_rng(6).standard_normal((2, 3, 3))
    seeds = [layer.forward(x)[2].dropout_seed for _ in range(2)]
    assert seeds == [int(expected.integers(2**63)) for _ in range(2)]
    assert reference.LSTM(3, 4, 1, dropout=0.5, rng=5).forward(x)[2].dropout_seed is None


def test_parameters_are_views_of_one_buffer(rng: np.random.Generator) -> None:
    layer = reference.LSTM(3, 5, 2, bidirectional=True, proj_size=2, rng=rng)
    names = ["weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr"]
    suffixes = ["l0", "l0_reverse", "l1", "l1_reverse"]
    assert list(layer.parameters) == [f"{n}_{s}" for s in suffixes for n in names]
    in_order = np.concatenate([v.ravel() for v in layer.parameters.values()])
    np.testing.assert_array_equal(in_order, layer.flat)
    bound = 1 / math.sqrt(5)
    assert np.abs(layer.flat).max() <= bound and np.std(layer.flat) > 0.4 * bound
    x = rng.standard_normal((4, 2, 3)).astype(np.float32)
    before, _ = layer(x)
    model = np.full(layer.flat.size + 10, np.float32(9))
    layer.bind(model[5:-5])
    np.testing.assert_array_equal(layer(x)[0], before)
    model[5:-5] *= 2
    assert layer.flat.base is model and not np.array_equal(layer(x)[0], before)
    assert (model[:5] == 9).all() and (model[-5:] == 9).all()


def test_state_dict_goes_round(rng: np.random.Generator) -> None:
    layer, other = (reference.GRU(3, 5, 2, rng=rng) for _ in range(2))
    saved = layer.state_dict()
    other.load_state_dict(saved)
    np.testing.assert_array_equal(other.flat, layer.flat)
    saved["weight_hh_l1"] += 1
    np.testing.assert_array_equal(other.flat, layer.flat)
    with pytest.raises(ValueError, match="weight_hh_l1 has shape"):
        other.load_state_dict(saved | {"weight_hh_l1": np.ones((15, 4))})
    with pytest.raises(ValueError, match="unknown \\['extra'\\]"):
        other.load_state_dict(saved | {"extra": np.ones(3)})
    del saved["bias_ih_l0"]
    with pytest.raises(ValueError, match="lacks \\['bias_ih_l0'\\]"):
        other.load_state_dict(saved)
    np.testing.assert_array_equal(other.flat, layer.flat)


def test_step_repeats_the_whole(rng: np.random.Generator) -> None:
    for batch_first in (False, True):
        layer = reference.LSTM(3, 4, 2, batch_first=batch_first, dtype=float, rng=rng)
        x = rng.integers(3, size=(5, 2))
        y, state = layer(x.T if batch_first else x)
        s = None
        for t in range(5):
            y_t, s = layer.step(x[t], s)
            np.testing.assert_allclose(y_t, y[:, t] if batch_first else y[t], rtol=1e-13)
        np.testing.assert_allclose(s, state, rtol=1e-13)
        one, _ = layer.step(np.eye(3)[1])
        np.testing.assert_allclose(one, layer.step(np.array(1))[0], rtol=1e-13)
        assert one.shape == (4,)


@pytest.mark.parametrize("variant", VARIANTS)
def test_stream_repeats_the_whole(variant: str, rng: np.random.Generator) -> None:
    for batch_first in (False, True):
        layer = build(reference, variant, 3, 4, 2, batch_first=batch_first, dtype=float, rng=rng)
        call = draw_call(rng, layer, T=7, B=2, tokens=batch_first)
        y, state = layer(call.x, call.state)
        time = 1 if batch_first else 0
        with layer.stream(2, call.state) as stream:
            layer.flat[:] = 0  # too late for the stream
            for s in pair(call.state):
                s[:] = 0
            pieces = [stream.push(x) for x in np.split(call.x, [3, 4], time)]
        np.testing.assert_array_equal(np.concatenate(pieces, time), y)
        for s, s_whole in zip(pair(stream.state), pair(state), strict=True):
            np.testing.assert_array_equal(s, s_whole)


def test_streams_and_steps_refuse_what_they_cannot_do() -> None:
    layer = reference.GRU(3, 4)
    with pytest.raises(ValueError, match="gru: batch is 0, expected at least 1"):
        layer.stream(0)
    stream = layer.stream(2)
    with pytest.raises(ValueError, match=r"gru: state has shape \(1, 1, 4\), expected shape"):
        layer.stream(2, np.ones((1, 1, 4)))
    for block in (np.ones((5, 1, 3)), np.ones((5, 2)), np.zeros((5, 1), int)):
        with pytest.raises(ValueError, match=r"block has shape .*, expected \d axes, with batch 2"):
            stream.push(block)
    stream.close()
    with pytest.raises(ValueError, match="gru: the stream is closed, expected an open one"):
        stream.push(np.ones((5, 2, 3)))
    both_ways = reference.GRU(3, 4, bidirectional=True)
    for name, use in (("step", lambda: both_ways.step(np.ones(3))), ("stream", both_ways.stream)):
        with pytest.raises(ValueError, match=f"gru: {name} needs a layer that is not bidirect"):
            use()


def test_backward_writes_into_out_and_a_tape_serves_once(rng: np.random.Generator) -> None:
    layer, other = (reference.GRU(3, 4, dtype=float, rng=rng) for _ in range(2))
    call = draw_call(rng, layer, T=4, B=2)
    _, _, tape = layer.forward(*call.arguments)
    out = rng.standard_normal(layer.flat.size)
    with pytest.raises(ValueError, match="of this layer"):
        other.backward(tape, call.dy)
    grads = layer.backward(tape, call.dy, out=out, input_gradient=False)
    assert grads.flat is out and grads.x is None
    np.testing.assert_array_equal(
        out, layer.backward(layer.forward(*call.arguments)[2], call.dy).flat
    )
    with pytest.raises(ValueError, match="serves one backward"):
        layer.backward(tape, call.dy)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([1.0],), TypeError, "lstm: x is a list, expected a NumPy array"),
        ((np.ones((2, 3, 5)),), ValueError, "lstm: x has 5 features .*, expected input_size=3"),
        ((np.ones((0, 2, 3)),), ValueError, r"x has shape \(0, 2, 3\), expected at least one time"),
        ((np.ones(3),), ValueError, "lstm: x has 1 axes"),
        ((np.array([[0, 3]]),), ValueError, r"lstm: x has \[3\], expected tokens from 0 to 2"),
        (
            (np.ones((2, 1, 3)), np.ones((1, 1, 4))),
            TypeError,
            "state is a ndarray, expected a pair",
        ),
        (
            (np.ones((2, 1, 3)), (np.ones((1, 1, 4)),) * 3),
            TypeError,
            "state has 3 parts, expected a",
        ),
        ((np.ones((2, 1, 3)), (np.ones((1, 2, 4)),) * 2), ValueError, "state has shape"),
        (
            (np.ones((2, 1, 3)), None, [3]),
            ValueError,
            r"lengths has \[3\], expected integers from 0 to 2",
        ),
        ((np.ones((2, 1, 3)), None, [1, 1]), ValueError, "lengths has shape"),
        (
            (np.ones((2, 1, 3)), None, None, np.ones((2, 1))),
            ValueError,
            "reset has dtype float64, expected booleans",
        ),
    ],
)
def test_bad_arguments_are_named(
    arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        reference.LSTM(3, 4)(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 0}, "hidden_size is 0, expected at least 1"),
        ({"num_layers": -2}, "num_layers is -2, expected at least 1"),
        ({"dropout": 1.5}, "dropout is 1.5, expected 0 to 1"),
        ({"compute": "bfloat16"}, "compute is 'bfloat16', expected 'float32': the reference"),
        ({"proj_size": 4}, "proj_size is 4, expected 0 to below hidden_size=4"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"lstm: {message}"):
        reference.LSTM(**({"input_size": 3, "hidden_size": 4} | options))


def test_an_unknown_nonlinearity_is_named() -> None:
    with pytest.raises(ValueError, match=r"rnn: nonlinearity is 'elu', expected one of \['tanh'"):
        reference.RNN(3, 4, nonlinearity="elu")
