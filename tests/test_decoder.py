"""One to many, and many to one to many: gradients, generation, ends."""

import re

import numpy as np
import pytest

import rnnfast
from rnnfast.models import Decoder, Encoder, EncoderDecoder, make_layers, remember
from rnnfast.models.decoder import PADDING, before, one_hot

V, S, H, T, B = 5, 7, 6, 9, 4


def decoder(rng, feed="every", feedback=False, cell="gru", layers=1):
    options = {"dtype": "float64", "rng": rng}
    layer = make_layers(cell, S + (V if feedback else 0), H, layers, **options)
    return Decoder(V, S, layer, feed, feedback, rng=rng)


def check_gradient(rng, model, loss):
    """Compare the model's gradient with central differences along random directions."""
    loss()
    gradient = model.gradient.copy()
    start = model.flat.copy()
    for _ in range(4):
        direction = rng.standard_normal(model.flat.size)
        differences = []
        for sign in (1, -1):
            model.flat[:] = start + sign * 1e-6 * direction
            differences.append(loss())
        model.flat[:] = start
        slope = (differences[0] - differences[1]) / 2e-6
        assert gradient @ direction == pytest.approx(slope, rel=1e-5, abs=1e-8)


def some_targets(rng):
    targets = rng.integers(0, V, (T, B))
    targets[5:, 1] = PADDING
    return targets


@pytest.mark.parametrize("feedback", [False, True])
@pytest.mark.parametrize("feed", ["every", "once"])
@pytest.mark.parametrize("cell", ["basic", "lstm", "gru"])
def test_gradients(rng, cell, feed, feedback):
    model = decoder(rng, feed, feedback, cell, layers=2)
    vector, targets = rng.standard_normal((B, S)), some_targets(rng)
    check_gradient(rng, model, lambda: model.loss_and_gradient(vector, targets)[0])


@pytest.mark.parametrize("feed", ["every", "once"])
def test_the_vectors_gradient(rng, feed):
    model = decoder(rng, feed)
    vector, dlogits = rng.standard_normal((B, S)), rng.standard_normal((T, B, V))
    _, tape = model.forward(vector, T)
    dvector = model.backward(tape, dlogits)
    direction = rng.standard_normal((B, S))
    ahead, behind = (np.sum(model(vector + s * direction, T) * dlogits) for s in (1e-6, -1e-6))
    assert np.sum(dvector * direction) == pytest.approx((ahead - behind) / 2e-6, rel=1e-5)


@pytest.mark.parametrize("ends", ["one", "both", "apart"])
def test_gradients_of_an_encoder_decoder(rng, ends):
    options = {"dtype": "float64", "rng": rng}
    reader = rnnfast.LSTM(3, 5, 2, bidirectional=ends == "both", **options)
    backward = rnnfast.GRU(3, 2, **options) if ends == "apart" else None
    encoder = Encoder(reader, backward)
    assert sum(encoder.widths) == {"one": 5, "both": 10, "apart": 7}[ends]
    layer = rnnfast.GRU(sum(encoder.widths), H, **options)
    model = EncoderDecoder(encoder, Decoder(V, sum(encoder.widths), layer, rng=rng))
    x, targets = rng.standard_normal((8, B, 3)), some_targets(rng)
    lengths = np.array([8, 3, 1, 8])
    check_gradient(rng, model, lambda: model.loss_and_gradient(x, targets, lengths))
    beyond = x.copy()
    beyond[3:, 1] = rng.standard_normal((5, 3))
    assert model.loss_and_gradient(beyond, targets, lengths) == model.loss_and_gradient(
        x, targets, lengths
    )


@pytest.mark.parametrize("feedback", [False, True])
@pytest.mark.parametrize("feed", ["every", "once"])
def test_generation_repeats_the_whole_call(rng, feed, feedback):
    model = decoder(rng, feed, feedback)
    vector = 3 * rng.standard_normal((B, S))
    symbols, lengths = model.generate(vector, T)
    assert symbols.shape == (T, B) and lengths.tolist() == [T] * B
    logits = model(vector, T, before(symbols) if feedback else None)
    np.testing.assert_array_equal(logits.argmax(axis=2), symbols)


def test_what_is_fed_once_is_then_the_empty_symbol(rng):
    model = decoder(rng, "once")
    vector = rng.standard_normal((B, S))
    x = np.zeros((T, B, S))
    x[0] = vector
    np.testing.assert_allclose(model(vector, T), model.projection(model.layer(x)[0]))


def test_generation_ends_at_the_end_symbol(rng):
    model = decoder(rng)
    vector = 3 * rng.standard_normal((B, S))
    free, _ = model.generate(vector, T)
    end = int(free[2, 0])
    symbols, lengths = model.generate(vector, T, end=end)
    for column in range(B):
        places = np.flatnonzero(free[:, column] == end)
        length = int(places[0]) if places.size else T
        assert lengths[column] == length
        kept = symbols[: length + 1, column]
        np.testing.assert_array_equal(kept, free[: length + 1, column][: kept.size])
        assert (symbols[length + 1 :, column] == PADDING).all()
    assert len(symbols) == min(T, lengths.max() + 1)


def test_generation_by_chance_follows_the_probabilities(rng):
    model = decoder(rng)
    vector = np.repeat(rng.standard_normal((1, S)), 4000, axis=0)
    symbols, _ = model.generate(vector, 1, temperature=1.0, rng=3)
    logits = model(vector[:1], 1)[0, 0]
    expected = np.exp(logits) / np.exp(logits).sum()
    drawn = np.bincount(symbols[0], minlength=V) / 4000
    np.testing.assert_allclose(drawn, expected, atol=0.04)
    again, _ = model.generate(vector, 1, temperature=1.0, rng=3)
    np.testing.assert_array_equal(symbols, again)


def test_classes_are_one_hot_vectors(rng):
    model = decoder(rng)
    classes = np.array([0, 3, S - 1])
    np.testing.assert_array_equal(model(classes, T), model(np.eye(S)[classes], T))
    np.testing.assert_array_equal(
        one_hot(np.array([1, PADDING]), 3, np.dtype("f4")), [[0, 1, 0], [0, 0, 0]]
    )


def test_bad_input_is_named(rng):
    model = decoder(rng, feedback=True)
    vector = rng.standard_normal((B, S))
    for call, message in (
        (lambda: model(vector[:, 1:], T), "vector has shape (4, 6), expected (B, 7) or classes"),
        (lambda: model(np.array([0, S]), T), "vector[1] is 7, expected 0 to 6"),
        (
            lambda: model(vector, T, np.zeros((T, 1), int)),
            "previous has shape (9, 1), expected (T, ",
        ),
        (lambda: Decoder(V, S, model.layer), "expected a time-major layer in one direction"),
        (lambda: Decoder(V, S, model.layer, "twice"), "feed is 'twice', expected 'every' or"),
        (lambda: EncoderDecoder(Encoder(rnnfast.GRU(3, S + 1)), model), "source is 7 wide"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            call()


@pytest.mark.parametrize(("cell", "gate", "sign"), [("lstm", 1, 1), ("lstm", 0, -1), ("gru", 1, 1)])
def test_remember_sets_the_gates_that_keep(rng, cell, gate, sign):
    layer = make_layers(cell, 3, 400, 2, bidirectional=True, rng=rng)
    remember(layer, 50, rng)
    for suffix in ("l0", "l0_reverse", "l1", "l1_reverse"):
        bias = layer.parameters[f"bias_ih_{suffix}"] + layer.parameters[f"bias_hh_{suffix}"]
        times = np.exp(sign * bias.reshape(-1, 400)[gate].astype(float))
        assert 1.0 <= times.min() < 3.0 and 47.0 < times.max() <= 50.01
        assert times.mean() == pytest.approx(25, abs=3)


def test_dropout_is_the_same_forward_and_backward(rng):
    layer = make_layers("gru", S, H, 2, dropout=0.3, dtype="float64", rng=1)
    model = Decoder(V, S, layer, dropout=0.4, rng=layer.rng)
    vector, targets = rng.standard_normal((B, S)), some_targets(rng)
    start = layer.rng.bit_generator.state

    def loss():
        layer.rng.bit_generator.state = start
        return model.loss_and_gradient(vector, targets)[0]

    check_gradient(rng, model, loss)
    assert loss() != model.loss_and_gradient(vector, targets)[0]
