"""Int8 layers against the layers they were made of, and against exact products of integers."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import rnnfast
from cases import VARIANTS, Array, build, draw_call, forced, pair, twin
from rnnfast import reference

COMPUTE = "int8"

RELATIVE = 0.02
"""What eight bits may cost: root mean square of the differences beside that of the outputs."""

ONE_PRODUCT = ["rnn-tanh", "rnn-relu", "rnn-sigmoid", "rnn-identity", "lstm", "gru"]


@pytest.fixture(params=["own", "fixed"])
def quantize(request: pytest.FixtureRequest) -> Callable[[Any, Array], Any]:
    """Quantize a layer: with a scale for each row, or with scales fixed on x."""
    return lambda layer, x: layer.quantize(x if request.param == "fixed" else None)


def whole_numbers(rng: np.random.Generator, *shape: int) -> Array:
    """Rows that are integers up to 127 times a scale of their own: they lose nothing."""
    v = rng.integers(-127, 128, size=shape).astype(np.float32)
    v[..., 0] = 127 * rng.choice([-1, 1], size=shape[:-1])
    return v * np.exp2(rng.integers(-20, 10, size=(*shape[:-1], 1))).astype(np.float32)


def dequantized(layer: Any, quantized: Any) -> Any:
    """The reference's layer with the weights that the integers and scales stand for."""
    exact = twin(reference, layer, np.float64)
    for name, value in exact.parameters.items():
        given = quantized.parameters[name].astype(np.float64)
        if given.ndim > 1:
            given *= quantized.parameters[f"{name}_scale"][:, None]
        value[...] = given
    return exact


@pytest.mark.parametrize("mask", ["whole", "lengths", "reset", "tokens"])
@pytest.mark.parametrize(("inputs", "hidden"), [(3, 17), (16, 31), (33, 64), (130, 97)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_close_to_the_layer(
    variant: str, inputs: int, hidden: int, mask: str, isa: str, rng: np.random.Generator,
    quantize: Callable[[Any, Array], Any],
) -> None:  # fmt: skip
    layer = build(rnnfast, variant, inputs, hidden, 2, bidirectional=True, rng=rng)
    call = draw_call(
        rng, layer, T=9, B=13, lengths=mask == "lengths", reset=mask == "reset",
        tokens=mask == "tokens",
    )  # fmt: skip
    quantized = quantize(layer, call.x)
    if quantized.scales:  # which were measured from a zero state
        call.state = None
    found = quantized.error(layer, *call.arguments, num_threads=2)
    assert 0 < found.relative < RELATIVE
    for v, w in zip(
        pair(quantized(*call.arguments)[1]), pair(layer(*call.arguments)[1]), strict=True
    ):
        assert v.shape == w.shape and v.dtype == np.float32
        assert np.linalg.norm(v - w) < 2 * RELATIVE * np.linalg.norm(w)


@pytest.mark.parametrize(("T", "B"), [(150, 1), (3, 70)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_long_and_wide_calls(
    variant: str, T: int, B: int, isa: str, rng: np.random.Generator
) -> None:
    layer = build(rnnfast, variant, 37, 35, rng=rng)
    call = draw_call(rng, layer, T, B)
    assert layer.quantize().error(layer, *call.arguments, num_threads=2).relative < RELATIVE


def test_the_largest_sum_does_not_overflow(isa: str) -> None:
    layer = rnnfast.RNN(2**16, 1, nonlinearity="identity", bias=False)
    layer.flat[...] = 0.5
    y, _ = layer.quantize()(np.full((1, 1, 2**16), 0.25, np.float32))
    assert y[0, 0, 0] == pytest.approx(2**13, rel=1e-5)


@pytest.mark.parametrize("B", [1, 11])
@pytest.mark.parametrize("inputs", [1, 2, 3, 4, 5, 15, 16, 17, 63, 65, 1030])
@pytest.mark.parametrize("variant", ONE_PRODUCT)
def test_products_of_integers_are_exact(
    variant: str, inputs: int, B: int, isa: str, rng: np.random.Generator
) -> None:
    layer = build(rnnfast, variant, inputs, 21, rng=rng)
    quantized = layer.quantize()
    x = whole_numbers(rng, 1, B, inputs)
    state = whole_numbers(rng, 1, B, 21)
    given = (state, rng.standard_normal(state.shape).astype("f")) if variant == "lstm" else state
    y, final = quantized(x, given)
    exact_y, exact_final = dequantized(layer, quantized)(x, given)
    for v, exact in zip((y, *pair(final)), (exact_y, *pair(exact_final)), strict=True):
        tolerance = 1e-5 * max(1.0, float(np.abs(exact).max()))
        np.testing.assert_allclose(v, exact, rtol=1e-5, atol=tolerance)


@pytest.mark.parametrize("variant", ONE_PRODUCT)
def test_tokens_read_exact_columns(variant: str, isa: str, rng: np.random.Generator) -> None:
    layer = build(rnnfast, variant, 43, 35, rng=rng)
    quantized = layer.quantize()
    tokens = rng.permutation(43)[None]
    np.testing.assert_allclose(
        quantized(tokens)[0], dequantized(layer, quantized)(tokens)[0], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_results_depend_on_neither_threads_nor_batch(
    variant: str, isa: str, rng: np.random.Generator, quantize: Callable[[Any, Array], Any]
) -> None:
    layer = build(rnnfast, variant, 18, 49, 2, rng=rng)
    call = draw_call(rng, layer, T=11, B=20, lengths=True)
    quantized = quantize(layer, call.x)
    y, state = quantized(*call.arguments, num_threads=1)
    for threads in (2, 3):
        again, after = quantized(*call.arguments, num_threads=threads)
        np.testing.assert_array_equal(again, y)
        for v, w in zip(pair(after), pair(state), strict=True):
            np.testing.assert_array_equal(v, w)
    for b in (0, 7, 19):
        start = tuple(part[:, b : b + 1] for part in pair(call.state))
        alone, _ = quantized(
            call.x[:, b : b + 1], start if len(start) == 2 else start[0], call.lengths[b : b + 1]
        )
        np.testing.assert_array_equal(alone[:, 0], y[:, b])


@pytest.mark.parametrize("B", [1, 3])
@pytest.mark.parametrize("variant", VARIANTS)
def test_steps_and_streams_continue_bit_for_bit(
    variant: str, B: int, rng: np.random.Generator, quantize: Callable[[Any, Array], Any]
) -> None:
    layer = build(rnnfast, variant, 6, 33, 2, rng=rng)
    call = draw_call(rng, layer, T=10, B=B)
    quantized = quantize(layer, call.x)
    y, final = quantized(call.x, call.state)
    with quantized.stream(B, call.state) as stream:
        parts = [stream.push(call.x[a:b]) for a, b in ((0, 1), (1, 4), (4, 10))]
    np.testing.assert_array_equal(np.concatenate(parts), y)
    state = call.state
    for x, expected in zip(call.x, y, strict=True):
        out, state = quantized.step(x, state)
        np.testing.assert_array_equal(out, expected)
    for v, w in zip(pair(state), pair(final), strict=True):
        np.testing.assert_array_equal(v, w)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_not_finite_makes_its_own_sequence_nan(
    variant: str, value: float, isa: str, rng: np.random.Generator,
    quantize: Callable[[Any, Array], Any],
) -> None:  # fmt: skip
    layer = build(rnnfast, variant, 7, 20, rng=rng)
    call = draw_call(rng, layer, T=4, B=5)
    quantized = quantize(layer, call.x)
    clean, _ = quantized(*call.arguments)
    call.x[1, 3, 2] = value
    y, _ = quantized(*call.arguments)
    assert np.isnan(y[1:, 3]).all()
    np.testing.assert_array_equal(y[0], clean[0])
    np.testing.assert_array_equal(np.delete(y, 3, axis=1), np.delete(clean, 3, axis=1))


@pytest.mark.parametrize("size", [0.0, 1e-42, 1e-30, 1e30])
def test_rows_of_any_size(size: float, isa: str, rng: np.random.Generator) -> None:
    layer = build(rnnfast, "rnn-identity", 19, 17, rng=rng)
    layer.parameters["weight_hh_l0"][...] = 0  # a row of zeros has the scale zero
    x = (rng.standard_normal((3, 4, 19)) * size).astype(np.float32)
    y, _ = layer.quantize()(x)
    expected, _ = twin(reference, layer, np.float64)(x)
    np.testing.assert_allclose(y, expected, rtol=0, atol=0.02 * max(size, 1e-3))


def test_parameters_are_a_quarter_and_read_only(rng: np.random.Generator) -> None:
    layer = rnnfast.LSTM(64, 128, 2, bidirectional=True, proj_size=40, rng=rng)
    quantized = layer.quantize()
    assert quantized.nbytes < 0.28 * layer.flat.nbytes
    for name, value in layer.parameters.items():
        given = quantized.parameters[name]
        assert given.shape == value.shape and not given.flags.writeable
        if value.ndim == 1:
            np.testing.assert_array_equal(given, value)
            continue
        scale = quantized.parameters[f"{name}_scale"]
        assert given.dtype == np.int8 and np.abs(given).max(axis=1).min() == 127
        distance = np.abs(given * scale[:, None] - value)
        assert (distance <= 0.5001 * scale[:, None]).all()


def test_it_keeps_the_weights_it_was_made_of(rng: np.random.Generator) -> None:
    layer = rnnfast.GRU(5, 12, rng=rng)
    quantized = layer.quantize()
    x = rng.standard_normal((6, 2, 5)).astype("f")
    before, _ = quantized(x)
    layer.flat[...] = 0
    np.testing.assert_array_equal(quantized(x)[0], before)
    for again in (copy.deepcopy(quantized), pickle.loads(pickle.dumps(quantized))):
        np.testing.assert_array_equal(again(x)[0], before)
        assert repr(again) == repr(quantized)


@pytest.mark.parametrize("variant", VARIANTS)
def test_copies_are_the_same_and_say_what_they_are(
    variant: str, rng: np.random.Generator, quantize: Callable[[Any, Array], Any]
) -> None:
    layer = build(rnnfast, variant, 5, 12, rng=rng)
    call = draw_call(rng, layer, T=3, B=2)
    quantized = quantize(layer, 0.5 * call.x)
    again = pickle.loads(pickle.dumps(quantized))
    assert again.scales == copy.deepcopy(quantized).scales == quantized.scales
    np.testing.assert_array_equal(again(*call.arguments)[0], quantized(*call.arguments)[0])
    assert quantized.compute == again.compute == "int8"
    options = repr(layer).split("(5, 12, ")[1].removesuffix(")")
    expected = f"QuantizedLayer(5, 12, cell='{type(layer).__name__}', {options}, compute='int8')"
    assert repr(quantized) == expected


def gated(layer: Any, x: Array, y: Array) -> Array:
    """What the second product of layer 0 reads: r ∘ h, or o ∘ tanh(c)."""
    w = {name: value.astype(np.float64) for name, value in layer.parameters.items()}
    h = np.concatenate([np.zeros_like(y[:1]), y[:-1]])
    a = x @ w["weight_ih_l0"].T + w["bias_ih_l0"] + h @ w["weight_hh_l0"].T + w["bias_hh_l0"]
    H = layer.hidden_size
    sigmoid = 1 / (1 + np.exp(-a))
    if isinstance(layer, rnnfast.GRU):
        return sigmoid[..., :H] * h
    c = [np.zeros_like(a[0, :, :H])]
    for s, g in zip(sigmoid, np.tanh(a[..., 2 * H : 3 * H]), strict=True):
        c.append(s[:, H : 2 * H] * c[-1] + s[:, :H] * g)
    return sigmoid[..., 3 * H :] * np.tanh(c[1:])


@pytest.mark.parametrize("variant", VARIANTS)
def test_fixed_scales_are_the_largest_magnitudes(variant: str, rng: np.random.Generator) -> None:
    options = {"bidirectional": True, "dropout": 0.5}
    layer = build(rnnfast, variant, 7, 20, 2, **options, rng=rng)
    first = build(rnnfast, variant, 7, 20, bidirectional=True)
    first.load_state_dict({name: layer.parameters[name] for name in first.parameters})
    x = rng.standard_normal((9, 5, 7)).astype("f")
    between, y = first(x)[0], layer(x)[0]
    width = y.shape[-1] // 2
    expected = {
        "input_l0": x,
        "input_l0_reverse": x,
        "hidden_l0": between[..., :width],
        "hidden_l0_reverse": between[..., width:],
        "input_l1": between,
        "input_l1_reverse": between,
        "hidden_l1": y[..., :width],
        "hidden_l1_reverse": y[..., width:],
    }
    two_products = variant in ("lstm-proj", "gru-before")
    if two_products:
        expected["gated_l0"] = gated(layer, x, between[..., :width])
    scales = dict(layer.quantize(x).scales)
    for name, v in expected.items():
        assert scales.pop(name) == pytest.approx(np.abs(v).max() / 127, rel=1e-5)
    others = {"gated_l0_reverse", "gated_l1", "gated_l1_reverse"}
    assert scales.keys() == (others if two_products else set())


@pytest.mark.parametrize("B", [1, 11])
@pytest.mark.parametrize("inputs", [1, 4, 17, 1030])
@pytest.mark.parametrize("variant", ONE_PRODUCT)
def test_fixed_scales_give_these_integers(
    variant: str, inputs: int, B: int, isa: str, rng: np.random.Generator
) -> None:
    layer = build(rnnfast, variant, inputs, 21, rng=rng)
    quantized = layer.quantize(rng.standard_normal((20, B, inputs)).astype("f"))
    integers = rng.integers(-200, 201, size=(1, B, inputs))  # some beyond the scale
    within = rng.uniform(-0.4, 0.4, size=integers.shape)
    x = ((integers + within) * quantized.scales["input_l0"]).astype(np.float32)
    h = rng.integers(-127, 128, size=(1, B, 21)) * quantized.scales["hidden_l0"]
    state = (h, rng.standard_normal(h.shape)) if variant == "lstm" else h
    y, _ = quantized(x, state)
    exact, _ = dequantized(layer, quantized)(
        integers.clip(-127, 127) * quantized.scales["input_l0"], state
    )
    tolerance = 1e-5 * max(1.0, float(np.abs(exact).max()))
    np.testing.assert_allclose(y, exact, rtol=1e-5, atol=tolerance)


@pytest.mark.parametrize("size", [1.0, 1.5, 1e6, 1e10, 3e37])
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_exceeds_the_calibration_counts_as_its_largest(
    variant: str, size: float, isa: str, rng: np.random.Generator
) -> None:
    layer = build(rnnfast, variant, 37, 35, rng=rng)
    x = rng.standard_normal((4, 3, 37)).astype("f")
    quantized = layer.quantize(x)
    large = x * np.float32(size)
    most = np.abs(x).max()
    expected, _ = quantized(large.clip(-most, most))
    np.testing.assert_array_equal(quantized(large)[0], expected)
    assert np.isfinite(expected).all()


def test_a_state_beyond_the_calibration_counts_as_its_largest(
    isa: str, rng: np.random.Generator
) -> None:
    layer = rnnfast.RNN(3, 20, nonlinearity="identity", rng=rng)
    x = rng.standard_normal((4, 2, 3)).astype("f")
    quantized = layer.quantize(x)
    most = np.float32(127 * quantized.scales["hidden_l0"])
    h = (1e9 * rng.choice([-1, 1], size=(1, 2, 20))).astype("f")
    np.testing.assert_array_equal(quantized(x, h)[0], quantized(x, h.clip(-most, most))[0])


def test_calibration_takes_what_a_call_takes(rng: np.random.Generator) -> None:
    layer = rnnfast.LSTM(7, 20, 2, rng=rng)
    x = rng.standard_normal((9, 2, 7)).astype("f")
    scales = layer.quantize(x).scales
    assert set(scales) == {"input_l0", "hidden_l0", "input_l1", "hidden_l1"}
    assert layer.quantize(x[::-1][::-1].astype(np.float64)).scales == scales
    parts = layer.quantize([x[:, 0], x[:, 1:]]).scales  # the first without the batch's axis
    assert parts == scales
    first = rnnfast.LSTM(7, 20, 2, batch_first=True)
    first.flat[...] = layer.flat
    assert first.quantize(x.swapaxes(0, 1)).scales == scales
    rounded = rnnfast.LSTM(7, 20, 2, compute="bfloat16")
    rounded.flat[...] = layer.flat
    assert rounded.quantize(x).scales == scales
    with pytest.raises(TypeError):
        scales["input_l0"] = 1.0


def test_tokens_have_no_scale(rng: np.random.Generator) -> None:
    layer = rnnfast.GRU(7, 20, rng=rng)
    tokens = rng.integers(7, size=(9, 2))
    features = np.eye(7, dtype=np.float32)[tokens]
    quantized = layer.quantize(tokens)
    assert quantized.scales["hidden_l0"] == layer.quantize(features).scales["hidden_l0"]
    assert set(quantized.scales) == {"hidden_l0"}
    assert quantized.error(layer, tokens).relative < RELATIVE


def test_what_was_zero_is_scaled_by_its_rows(rng: np.random.Generator) -> None:
    layer = rnnfast.RNN(7, 20, bias=False, rng=rng)
    quantized = layer.quantize(np.zeros((3, 1, 7), np.float32))
    assert quantized.scales == {} == layer.quantize().scales
    x = rng.standard_normal((9, 2, 7)).astype("f")
    np.testing.assert_array_equal(quantized(x)[0], layer.quantize()(x)[0])


def test_it_stays_with_its_instruction_set(rng: np.random.Generator) -> None:
    quantized = rnnfast.GRU(5, 12, rng=rng).quantize()
    x = rng.standard_normal((6, 2, 5)).astype("f")
    before, _ = quantized(x)
    with quantized.stream(2) as stream, forced(rnnfast.info()["isas"][0]):
        np.testing.assert_array_equal(quantized(x)[0], before)
        np.testing.assert_array_equal(stream.push(x), before)


def test_the_error_is_that_of_the_outputs(rng: np.random.Generator) -> None:
    layer = rnnfast.GRU(5, 12, rng=rng)
    quantized = layer.quantize()
    x = rng.standard_normal((6, 2, 5)).astype("f")
    exact, y = layer(x)[0], quantized(x)[0]
    found = quantized.error(layer, x)
    assert found.largest == pytest.approx(np.abs(y - exact).max())
    assert found.rms == pytest.approx(np.sqrt(np.mean((y - exact) ** 2)), rel=1e-5)
    assert found.relative == pytest.approx(found.rms / np.sqrt(np.mean(exact**2)), rel=1e-5)
    nothing = quantized.error(layer, x, lengths=[0, 0])
    assert (nothing.largest, nothing.rms, nothing.relative) == (0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match=r"gru: layer has outputs of shape .* \(6, 2, 12"):
        quantized.error(rnnfast.GRU(5, 7), x)


def not_finite() -> Any:
    layer = rnnfast.LSTM(3, 4)
    layer.parameters["weight_hh_l0"][2, 1] = np.nan
    return layer


REFUSED = {
    "float64": (
        lambda: rnnfast.GRU(3, 4, dtype="float64"),
        "gru: quantize: dtype is float64, expected float32",
    ),
    "not finite": (not_finite, "lstm: quantize: weight_hh_l0 has values that are not finite"),
    "too wide": (
        lambda: rnnfast.RNN(65537, 1),
        "rnn: quantize: a product has 65537 terms, expected at most 65536",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_layers_that_cannot_be_quantized(what: str) -> None:
    make, message = REFUSED[what]
    with pytest.raises(ValueError, match=re.escape(message)):
        make().quantize()


X = np.zeros((5, 2, 3), np.float32)
BAD_CALIBRATION: dict[str, tuple[Any, type[Exception], str]] = {
    "no array": ("data", TypeError, "calibration is a str, expected a NumPy array"),
    "no arrays": ([X, 1.0], TypeError, "calibration[1] is a float, expected a NumPy array"),
    "no parts": ([], ValueError, "calibration is empty, expected at least one array"),
    "no steps": (X[:0], ValueError, "calibration has shape (0, 2, 3), expected some data"),
    "features": (X[..., :2], ValueError, "calibration: x has 2 features in its last axis"),
    "tokens": (np.full((5, 2), 3), ValueError, "calibration: x[0, 0] is token 3, expected"),
    "not finite": (X + np.inf, ValueError, "calibration has values that are not finite"),
    "one of several": ([X, X * np.nan], ValueError, "calibration[1] has values that are not"),
    "overflow": (X + 3e38, ValueError, "calibration makes the layer's outputs overflow"),
}


@pytest.mark.parametrize("what", BAD_CALIBRATION)
def test_calibration_that_does_not_fit(what: str) -> None:
    data, error, message = BAD_CALIBRATION[what]
    layer = rnnfast.RNN(3, 4, nonlinearity="relu")
    layer.flat[...] = 2
    with pytest.raises(error, match=re.escape(f"rnn: {message}")):
        layer.quantize(data)


def test_bad_calls_are_refused_in_the_layers_words() -> None:
    quantized = rnnfast.LSTM(3, 4, bidirectional=True).quantize()
    with pytest.raises(ValueError, match="lstm: x has 2 features in its last axis, expected"):
        quantized(np.zeros((5, 1, 2), "f"))
    with pytest.raises(ValueError, match="lstm: step needs a layer that is not bidirectional"):
        quantized.step(np.zeros((1, 3), "f"))
    with pytest.raises(ValueError, match="lstm: stream needs a layer that is not bidirectional"):
        quantized.stream()
    with pytest.raises(ValueError, match="gru: num_threads is 0, expected 1 to 1024"):
        rnnfast.GRU(3, 4).quantize().stream(num_threads=0)
    with pytest.raises(TypeError, match="layer is a QuantizedLayer, expected an RNN, LSTM or GRU"):
        rnnfast.QuantizedLayer(quantized)
    with pytest.raises(TypeError, match="lstm: layer is a int, expected an RNN, LSTM or GRU"):
        quantized.error(3, np.zeros((5, 1, 3), "f"))
    with pytest.raises(ValueError, match="lstm: lengths has dtype"):
        quantized(np.zeros((5, 1, 3), "f"), lengths="all")


def test_calibration_needs_no_whole_tape(rng: np.random.Generator) -> None:
    x = rng.standard_normal((5, 3, 8)).astype(np.float32)
    plain = rnnfast.GRU(8, 9, reset_after=False, rng=1)
    frugal = rnnfast.GRU(8, 9, reset_after=False, recompute=1, rng=1)
    scales = plain.quantize(x).scales
    assert "gated_l0" in scales
    assert frugal.quantize(x).scales == scales
