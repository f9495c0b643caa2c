"""What nn, the optimisers, models, data, training and checkpoints refuse, and in which words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import rnnfast
from boundary import refused
from rnnfast import checkpoint, data, models, nn, optim, train
from rnnfast.models import Decoder, Encoder, FeedForward, Forecaster, SequenceModel

Case = tuple[Callable[[], Any], type[Exception], str]

SEED = "expected None, an integer of at least 0 or a NumPy Generator"
LAYER = "expected an RNN, LSTM or GRU"
TAPE = "expected what forward returned"
RATE = "expected a finite number of at least 0"

LETTERS = data.OpenVocabulary("abc\n")
TOKENS = np.arange(50)


def gru(inputs: int = 3, units: int = 4) -> rnnfast.GRU:
    return rnnfast.GRU(inputs, units, rng=0)


def zeros(*shape: int, dtype: Any = np.float32) -> Any:
    return np.zeros(shape, dtype)


def check(case: Case) -> None:
    call, error, text = case
    with refused(error, text):
        call()


def texts(cases: list[Case]) -> Any:
    """Run a test for each case, named by its text."""
    return pytest.mark.parametrize("case", cases, ids=[text for *_, text in cases])


# -- nn -----------------------------------------------------------------------------------------

DENSE = nn.Dense(3, 2, rng=0)
TANH = nn.Activation("tanh")

NN: list[Case] = [
    (lambda: nn.softmax([1, 2]), TypeError, "softmax: logits is a list, expected a NumPy array"),
    (
        lambda: nn.softmax(zeros(2, 0)),
        ValueError,
        "softmax: logits has shape (2, 0), expected at least one class in its last axis",
    ),
    (
        lambda: nn.softmax(zeros()),
        ValueError,
        "softmax: logits has shape (), expected at least one class in its last axis",
    ),
    (
        lambda: nn.softmax(zeros(2, dtype="c8")),
        ValueError,
        "softmax: logits has dtype complex64, expected real numbers",
    ),
    (
        lambda: nn.cross_entropy(zeros(2, 0), zeros(2, dtype=int)),
        ValueError,
        "cross_entropy: logits has shape (2, 0), expected at least one class in its last axis",
    ),
    (
        lambda: nn.cross_entropy(zeros(2, 3), zeros(2, dtype=int), ignore_index="a"),
        TypeError,
        "cross_entropy: ignore_index is a str, expected an integer",
    ),
    (lambda: nn.Dense(True, 4), TypeError, "dense: in_features is a bool, expected an integer"),
    (lambda: nn.Dense(3, 2, 1), TypeError, "dense: bias is a int, expected a bool"),
    (
        lambda: nn.Dense(3, 2, dtype="foo"),
        ValueError,
        "dense: dtype is 'foo', expected float32 or float64",
    ),
    (
        lambda: nn.Dense(3, 2, dtype=None),
        ValueError,
        "dense: dtype is None, expected float32 or float64",
    ),
    (lambda: nn.Dense(3, 2, rng="foo"), TypeError, f"dense: rng is a str, {SEED}"),
    (lambda: nn.Dense(3, 2, rng=-1), ValueError, f"dense: rng is -1, {SEED}"),
    (
        lambda: DENSE.backward(DENSE.forward(zeros(1, 3))[1], zeros(1, 2), input_gradient=0),
        TypeError,
        "dense: input_gradient is a int, expected a bool",
    ),
    (lambda: nn.Activation([]), TypeError, "activation: name is a list, expected a string"),
    (lambda: TANH.backward(None, zeros(2)), TypeError, f"activation: tape is a NoneType, {TAPE}"),
]


@texts(NN)
def test_nn(case: Case) -> None:
    check(case)


def test_dense_takes_numpy_scalars() -> None:
    dense = nn.Dense(np.int64(3), np.uint8(2), np.True_, dtype=np.double)
    assert (dense.in_features, dense.out_features, dense.bias) == (3, 2, True)
    assert dense.flat.shape == (8,)


# -- optim --------------------------------------------------------------------------------------


def adam(**options: Any) -> optim.Adam:
    return optim.Adam(zeros(3), **options)


def sgd(lr: Any = 0.1, **options: Any) -> optim.SGD:
    return optim.SGD(zeros(3), lr, **options)


OPTIM: list[Case] = [
    (lambda: adam(lr="x"), TypeError, "optimizer: lr is a str, expected a number"),
    (lambda: adam(lr=True), TypeError, "optimizer: lr is a bool, expected a number"),
    (lambda: adam(betas=0.9), TypeError, "optimizer: betas is a float, expected a pair of numbers"),
    (
        lambda: adam(betas=(0.9,)),
        ValueError,
        "optimizer: betas has 1 parts, expected a pair of numbers",
    ),
    (lambda: adam(betas=(0.9, "a")), TypeError, "optimizer: betas[1] is a str, expected a number"),
    (lambda: adam(betas=(1, 0.9)), ValueError, "optimizer: betas[0] is 1, expected 0 to below 1"),
    (lambda: adam(eps=math.inf), ValueError, f"optimizer: eps is inf, {RATE}"),
    (
        lambda: adam(weight_decay=None),
        TypeError,
        "optimizer: weight_decay is a NoneType, expected a number",
    ),
    (lambda: sgd(lr=None), TypeError, "optimizer: lr is a NoneType, expected a number"),
    (lambda: sgd(momentum="a"), TypeError, "optimizer: momentum is a str, expected a number"),
    (lambda: sgd(momentum=math.inf), ValueError, f"optimizer: momentum is inf, {RATE}"),
    (lambda: sgd(weight_decay=math.nan), ValueError, f"optimizer: weight_decay is nan, {RATE}"),
    (lambda: sgd(nesterov=1), TypeError, "optimizer: nesterov is a int, expected a bool"),
    (lambda: sgd().step(zeros(3), lr="x"), TypeError, "optimizer: lr is a str, expected a number"),
    (
        lambda: sgd().load_state_dict(None),
        TypeError,
        "optimizer: state is a NoneType, expected a mapping of names to arrays",
    ),
    (
        lambda: adam().load_state_dict({"steps": 1, "exp_avg": [[1], [1, 2]], "exp_avg_sq": 1}),
        ValueError,
        "optimizer: exp_avg is no array, expected floating point",
    ),
    (
        lambda: sgd().load_state_dict({"steps": "a"}),
        ValueError,
        "optimizer: steps has dtype <U1, expected integers",
    ),
    (
        lambda: optim.clip_grad_norm(zeros(3), "a"),
        TypeError,
        "clip_grad_norm: max_norm is a str, expected a number",
    ),
]


@texts(OPTIM)
def test_optim(case: Case) -> None:
    check(case)


# -- models -------------------------------------------------------------------------------------


def forecaster(**options: Any) -> Forecaster:
    return Forecaster.of("gru", 4, **({"window": 3, "rng": 0} | options))


def language() -> models.LanguageModel:
    return models.LanguageModel.of(LETTERS, "gru", 4, rng=0)


def classifier(**options: Any) -> models.TextClassifier:
    return models.TextClassifier.of(LETTERS, ["a", "b"], "gru", 4, rng=0, **options)


def decoder(*options: Any, **named: Any) -> Decoder:
    return Decoder(3, 4, gru(7 if named.get("feedback") else 4), *options, **named)


BOTH_WAYS = Encoder(gru(), gru())
X = zeros(5, 2, 3)

MODELS: list[Case] = [
    (
        lambda: models.Model(3),
        TypeError,
        "model: parts is a int, expected a mapping of names to parts",
    ),
    (
        lambda: models.Model({"a": 3}),
        TypeError,
        "model: parts['a'] is a int, expected a layer or model",
    ),
    (lambda: classifier().gradient_of(3), TypeError, "model: part is a int, expected a string"),
    (
        lambda: FeedForward([3, 2]).gradient_of("head"),
        ValueError,
        "model: part is 'head', expected 'layers.0'",
    ),
    (lambda: models.make_layers([], 3, 4), TypeError, "model: cell is a list, expected a string"),
    (lambda: models.remember(3, 5), TypeError, f"remember: layer is a int, {LAYER}"),
    (
        lambda: models.remember(gru(), 0),
        ValueError,
        "remember: longest is 0, expected 1 to 2147483647",
    ),
    # many to one
    (lambda: Encoder(3), TypeError, f"encoder: forward is a int, {LAYER}"),
    (lambda: Encoder(gru(), "a"), TypeError, f"encoder: backward is a str, {LAYER}"),
    (lambda: BOTH_WAYS(None), TypeError, "gru: x is a NoneType, expected a NumPy array"),
    (
        lambda: BOTH_WAYS(X, [9, 1]),
        ValueError,
        "gru: lengths[0] is 9, expected 0 <= length <= T=5",
    ),
    (lambda: BOTH_WAYS.backward(None, []), TypeError, f"encoder: tape is a NoneType, {TAPE}"),
    (
        lambda: BOTH_WAYS.backward(Encoder(gru()).forward(X)[1], []),
        ValueError,
        "encoder: tape is of another encoder, expected one from this one's forward",
    ),
    (
        lambda: BOTH_WAYS.backward(BOTH_WAYS.forward(X)[1], [zeros(2, 4)]),
        ValueError,
        "encoder: dvectors has 1 parts, expected 2",
    ),
    (
        lambda: BOTH_WAYS.backward(BOTH_WAYS.forward(X)[1], [zeros(2, 4), zeros(2, 3)]),
        ValueError,
        "encoder: dvectors[1] has shape (2, 3), expected (B, H) = (2, 4)",
    ),
    (
        lambda: models.SequenceClassifier(["a", 2], BOTH_WAYS),
        TypeError,
        "model: labels[1] is a int, expected a string",
    ),
    (
        lambda: models.SequenceClassifier(["a", "b"], gru()),
        TypeError,
        "model: encoder is a GRU, expected an Encoder",
    ),
    (
        lambda: models.SequenceClassifier(["a", "b"], BOTH_WAYS, "x"),
        TypeError,
        "model: projection is a str, expected an integer",
    ),
    (lambda: classifier(seq_length=0), ValueError, "model: seq_length is 0, expected at least 1"),
    (lambda: classifier(memory=-1), ValueError, "model: memory is -1, expected at least 0"),
    (lambda: classifier(stacks=2), TypeError, "model: stacks is a int, expected a string"),
    (
        lambda: models.TextClassifier.of("abc", ["a", "b"], "gru", 4),
        TypeError,
        "model: vocabulary is a str, expected an OpenVocabulary",
    ),
    (
        lambda: classifier().predict("abc"),
        TypeError,
        "model: texts is a str, expected a sequence of strings",
    ),
    (
        lambda: classifier().predict(["a", 3]),
        TypeError,
        "model: texts[1] is a int, expected a string",
    ),
    (lambda: classifier().encode(["a"], -1), ValueError, "model: rows is -1, expected at least 0"),
    # one to many
    (lambda: decoder("x"), ValueError, "decoder: feed is 'x', expected 'every' or 'once'"),
    (lambda: decoder("once", "x"), TypeError, "decoder: feedback is a str, expected a bool"),
    (lambda: decoder(dropout=1.0), ValueError, "model: dropout is 1.0, expected 0 to below 1"),
    (lambda: decoder(rng="x"), TypeError, f"decoder: rng is a str, {SEED}"),
    (lambda: Decoder(3, 4, 5), TypeError, f"decoder: layer is a int, {LAYER}"),
    (lambda: Decoder("3", 4, gru(4)), TypeError, "decoder: symbols is a str, expected an integer"),
    (
        lambda: decoder()(None, 3),
        TypeError,
        "decoder: vector is a NoneType, expected a NumPy array",
    ),
    (
        lambda: decoder()(zeros(2, 4), 0),
        ValueError,
        "decoder: steps is 0, expected 1 to 2147483647",
    ),
    (
        lambda: decoder(feedback=True)(zeros(2, 4), 3),
        TypeError,
        "decoder: previous is a NoneType, expected a NumPy array",
    ),
    (
        lambda: decoder().loss_and_gradient(zeros(2, 4), zeros(3, 1, dtype=int)),
        ValueError,
        "decoder: targets has shape (3, 1), expected (T, B) = (3, 2)",
    ),
    (
        lambda: decoder().loss_and_gradient(zeros(2, 4), zeros(0, 2, dtype=int)),
        ValueError,
        "decoder: targets has shape (0, 2), expected (T, B) and at least one step",
    ),
    (lambda: decoder().backward(3, X), TypeError, f"decoder: tape is a int, {TAPE}"),
    (
        lambda: decoder().generate(zeros(2, 4), "a"),
        TypeError,
        "decoder: limit is a str, expected an integer",
    ),
    (
        lambda: decoder().generate(zeros(2, 4), 3, 3),
        ValueError,
        "decoder: end is 3, expected 0 to 2",
    ),
    (
        lambda: decoder().generate(zeros(2, 4), 3, temperature=-1),
        ValueError,
        f"decoder: temperature is -1, {RATE}",
    ),
    (
        lambda: models.EncoderDecoder(gru(), decoder()),
        TypeError,
        "model: encoder is a GRU, expected an Encoder",
    ),
    # many to many
    (
        lambda: SequenceModel(gru(), 2, nn.mse_loss),
        TypeError,
        "model: layers is a GRU, expected a sequence of RNN, LSTM or GRU",
    ),
    (
        lambda: SequenceModel([gru(), 3], 2, nn.mse_loss),
        TypeError,
        f"model: layers[1] is a int, {LAYER}",
    ),
    (
        lambda: SequenceModel([gru()], 2, "mse"),
        TypeError,
        "model: loss is a str, expected a function",
    ),
    (
        lambda: SequenceModel([gru()], 2, nn.mse_loss, dropout="x"),
        TypeError,
        "model: dropout is a str, expected a number",
    ),
    (
        lambda: SequenceModel([gru()], 2, nn.mse_loss)(X, zeros(1, 2, 4)),
        TypeError,
        "model: states is a ndarray, expected a tuple of states, one for each layer",
    ),
    (
        lambda: language().step([[1], [1, 2]]),
        ValueError,
        "model: x is no array, expected real numbers",
    ),
    # without time, and fixed points
    (lambda: FeedForward(3), TypeError, "model: sizes is a int, expected a sequence of integers"),
    (lambda: FeedForward([3, "a"]), TypeError, "model: sizes[1] is a str, expected an integer"),
    (lambda: FeedForward([3, 2], loss=3), TypeError, "model: loss is a int, expected a function"),
    (lambda: FeedForward([3, 2], rng="x"), TypeError, f"model: rng is a str, {SEED}"),
    (
        lambda: models.OutputMapRNN(3, 4, 2).step(0),
        TypeError,
        "model: x is a int, expected a NumPy array",
    ),
    (lambda: models.OutputMapRNN(3, 4, 2, rng=-1), ValueError, f"model: rng is -1, {SEED}"),
    (
        lambda: models.fixed_point(3, X),
        TypeError,
        "fixed_point: layer is a int, expected an RNN, LSTM, GRU or other cell",
    ),
    (
        lambda: models.fixed_point(gru(), X[0], limit="a"),
        TypeError,
        "fixed_point: limit is a str, expected an integer",
    ),
    (
        lambda: models.fixed_point(gru(), X[0], tolerance="a"),
        TypeError,
        "fixed_point: tolerance is a str, expected a number",
    ),
    # series
    (lambda: forecaster(window="a"), TypeError, "forecaster: window is a str, expected an integer"),
    (lambda: forecaster(mean=None), TypeError, "forecaster: mean is a NoneType, expected a number"),
    (
        lambda: forecaster(mean=math.nan),
        ValueError,
        "forecaster: mean is nan, expected a finite number",
    ),
    (lambda: forecaster(shortcut=1), TypeError, "forecaster: shortcut is a int, expected a bool"),
    (lambda: forecaster(rng=1.5), TypeError, f"forecaster: rng is a float, {SEED}"),
    (
        lambda: Forecaster(gru(1), 3),
        TypeError,
        "model: layers is a GRU, expected a sequence of RNN, LSTM or GRU",
    ),
    (
        lambda: forecaster().loss_and_gradient(zeros(5, 2, 1), zeros(5, 2)),
        ValueError,
        "forecaster: targets has shape (5, 2), expected (5, 2, 1)",
    ),
    (
        lambda: forecaster().loss_and_gradient([1.0], zeros(5, 2, 1)),
        TypeError,
        "forecaster: x is a list, expected a NumPy array",
    ),
    (
        lambda: forecaster().one_ahead("series"),
        ValueError,
        "forecaster: series has dtype <U6, expected real numbers",
    ),
    (
        lambda: forecaster().one_ahead(zeros(5, 2)),
        ValueError,
        "forecaster: series has shape (5, 2), expected (N,)",
    ),
    (
        lambda: forecaster().forecast([[1], [1, 2]], 2),
        ValueError,
        "forecaster: history is no array, expected real numbers of shape (N,)",
    ),
    (
        lambda: forecaster().forecast(zeros(5), "a"),
        TypeError,
        "forecaster: steps is a str, expected an integer",
    ),
    (
        lambda: forecaster().scale(["a"]),
        ValueError,
        "forecaster: values has dtype <U1, expected real numbers",
    ),
    # text
    (
        lambda: models.LanguageModel("abc", [gru()]),
        TypeError,
        "model: vocabulary is a str, expected a vocabulary",
    ),
    (lambda: language().generate("a"), TypeError, "model: length is a str, expected an integer"),
    (lambda: language().generate(3, 5), TypeError, "model: prompt is a int, expected a string"),
    (
        lambda: language().generate(3, temperature="a"),
        TypeError,
        "model: temperature is a str, expected a number",
    ),
    (lambda: language().generate(3, rng="a"), TypeError, f"model: rng is a str, {SEED}"),
    (
        lambda: language().sample(stop=1.5),
        TypeError,
        "model: stop is a float, expected None, a string or an integer",
    ),
    (lambda: language().sample(limit="a"), TypeError, "model: limit is a str, expected an integer"),
    (lambda: language().quantize(3), TypeError, "model: calibration is a int, expected a string"),
    (
        lambda: models.QuantizedLanguageModel(gru()),
        TypeError,
        "model: model is a GRU, expected a LanguageModel",
    ),
    (
        lambda: models.Writer(gru()),
        TypeError,
        "writer: model is a GRU, expected a LanguageModel",
    ),
    (lambda: models.Writer(language(), 3), TypeError, "writer: text is a int, expected a string"),
    (
        lambda: models.Writer(language()).suggestions(-1),
        ValueError,
        "writer: count is -1, expected at least 0",
    ),
    (
        lambda: models.Writer(language()).take(-1),
        ValueError,
        "writer: token is -1, expected 0 to 4",
    ),
]


@texts(MODELS)
def test_models(case: Case) -> None:
    check(case)


def test_encoders_of_both_ways_take_lengths_in_a_list() -> None:
    x = np.random.default_rng(0).standard_normal(X.shape)
    for vector, same in zip(BOTH_WAYS(x, [5, 2]), BOTH_WAYS(x, np.array([5, 2])), strict=True):
        np.testing.assert_array_equal(vector, same)


# -- data ---------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)

DATA: list[Case] = [
    (
        lambda: data.Vocabulary("ab").decode([1, -1]),
        ValueError,
        "vocabulary: tokens has -1, expected 0 to 1",
    ),
    (
        lambda: data.Vocabulary("ab").decode([0.5]),
        ValueError,
        "vocabulary: tokens has dtype float64, expected integers",
    ),
    (
        lambda: data.Vocabulary("ab").spell(-1, None),
        ValueError,
        "vocabulary: token is -1, expected 0 to 1",
    ),
    (
        lambda: data.WordVocabulary(["a"]).decode([2]),
        ValueError,
        "vocabulary: tokens has 2, expected 0 to 1",
    ),
    (
        lambda: data.WordVocabulary("ab"),
        TypeError,
        "vocabulary: words is a str, expected a sequence of strings",
    ),
    (
        lambda: data.TokenStreams(TOKENS, 2, 0),
        ValueError,
        "streams: seq_length is 0, expected at least 1",
    ),
    (
        lambda: data.TokenStreams(TOKENS, "2", 3),
        TypeError,
        "streams: batch is a str, expected an integer",
    ),
    (
        lambda: data.TokenStreams([1, 2, 3], 2, 3),
        TypeError,
        "streams: tokens is a list, expected a NumPy array",
    ),
    (
        lambda: data.TokenStreams(TOKENS.reshape(5, 10), 2, 3),
        ValueError,
        "streams: tokens has shape (5, 10), expected (N,)",
    ),
    (
        lambda: data.TokenStreams(TOKENS, 2, 3).cut("a"),
        TypeError,
        "streams: index is a str, expected an integer",
    ),
    (
        lambda: data.TokenStreams(TOKENS, 2, 3).cut(0, 1),
        TypeError,
        "streams: part is a int, expected a slice",
    ),
    (
        lambda: data.TokenStreams(TOKENS[:4], 2, 10).cut(0),
        ValueError,
        "streams: got 4 tokens, expected at least 11 for a window",
    ),
    (
        lambda: data.TokenWindows(TOKENS * 1.0, 2, 3, 1, 0),
        ValueError,
        "windows: tokens has dtype float64, expected integers",
    ),
    (
        lambda: data.TokenWindows(TOKENS, 2, 3, 0, 0),
        ValueError,
        "windows: offset is 0, expected at least 1",
    ),
    (
        lambda: data.TokenWindows(TOKENS, 2, -3, 1, 0),
        ValueError,
        "windows: seq_length is -3, expected at least 1",
    ),
    (
        lambda: data.ShuffledBatches(0, 2, 0),
        ValueError,
        "batches: count is 0, expected at least 1",
    ),
    (
        lambda: data.ShuffledBatches(9, 0, 0),
        ValueError,
        "batches: batch is 0, expected at least 1",
    ),
    (
        lambda: data.ShuffledBatches(9, 2, -1),
        ValueError,
        "batches: seed is -1, expected at least 0",
    ),
    (
        lambda: data.ShuffledBatches(9, 2, 0).cut(-1),
        ValueError,
        "batches: index is -1, expected at least 0",
    ),
    (
        lambda: data.ShuffledBatches(9, 2, 0).cut(0, "a"),
        TypeError,
        "batches: part is a str, expected a slice",
    ),
    (
        lambda: data.TextBatches(3, 2, 0),
        TypeError,
        "batches: texts is a int, expected LabelledTexts",
    ),
    (lambda: data.Hiding("a"), TypeError, "hiding: characters is a str, expected a number"),
    (lambda: data.Hiding(words=1.5), ValueError, "hiding: words is 1.5, expected 0 to 1"),
    (
        lambda: data.Hiding(0.5).hide(zeros(3), LETTERS, RNG),
        ValueError,
        "hide: tokens has dtype float32, expected integers",
    ),
    (
        lambda: data.Hiding(0.5).hide(TOKENS, LETTERS, RNG),
        ValueError,
        "hide: tokens has shape (50,), expected (T, B)",
    ),
    (
        lambda: data.Hiding(0.5).hide(TOKENS[None], LETTERS, 3),
        TypeError,
        "hide: rng is a int, expected a NumPy Generator",
    ),
    (
        lambda: data.number_lists(3, 0, 2, RNG),
        ValueError,
        "number_lists: kinds is 0, expected 1 to 2147483647",
    ),
    (
        lambda: data.number_lists(3, 2, 2, 0),
        TypeError,
        "number_lists: rng is a int, expected a NumPy Generator",
    ),
    (lambda: data.pad(3), TypeError, "pad: sequences is a int, expected a sequence of arrays"),
    (lambda: data.pad([1]), TypeError, "pad: sequences[0] is a int, expected a NumPy array"),
    (
        lambda: data.pad([TOKENS, TOKENS[None]]),
        ValueError,
        "pad: sequences[1] has shape (1, 50), expected (length,) = (50,)",
    ),
    (lambda: data.waves(0), ValueError, "waves: length is 0, expected at least 1"),
    (
        lambda: data.Vocabulary(["a"]),
        TypeError,
        "vocabulary: characters is a list, expected a string",
    ),
    (lambda: LETTERS.encode(3), TypeError, "vocabulary: text is a int, expected a string"),
    (
        lambda: data.WordVocabulary(["a", 3]),
        TypeError,
        "vocabulary: words[1] is a int, expected a string",
    ),
    (
        lambda: data.WordVocabulary(["a"], "split"),
        ValueError,
        "vocabulary: lines is 'split', expected 'join' or 'keep'",
    ),
    (
        lambda: data.WordVocabulary(["a"]).encode(None),
        TypeError,
        "vocabulary: text is a NoneType, expected a string",
    ),
    (
        lambda: data.WordVocabulary.of(Counter("ab"), 1),
        ValueError,
        "vocabulary: limit is 1, expected at least 2",
    ),
    (lambda: data.read_corpus(3), TypeError, "read_corpus: path is a int, expected a path"),
    (lambda: data.read_words(3, limit=9), TypeError, "read_words: path is a int, expected a path"),
    (lambda: data.read_series(3), TypeError, "read_series: path is a int, expected a path"),
    (lambda: data.read_images(3), TypeError, "read_images: folder is a int, expected a path"),
    (
        lambda: data.read_labelled(3, seq_length=9),
        TypeError,
        "read_labelled: path is a int, expected a path",
    ),
    (
        lambda: data.read_idx(__file__, 2),
        ValueError,
        "read_idx: dimensions is 2, expected 1 or 3",
    ),
    (
        lambda: data.read_series(__file__, 3),
        TypeError,
        "read_series: column is a int, expected a string",
    ),
    (
        lambda: data.read_corpus(__file__, 3),
        TypeError,
        f"{__file__}: encoding is a int, expected a string",
    ),
    (
        lambda: data.read_corpus(__file__).split("a"),
        TypeError,
        f"{__file__}: seq_length is a str, expected an integer",
    ),
    (
        lambda: data.read_words(__file__, limit=9, held_out=0),
        ValueError,
        f"{__file__}: held_out is 0, expected 2 to 2147483647",
    ),
    (
        lambda: data.read_words(__file__, limit=9, lines="split"),
        ValueError,
        f"{__file__}: lines is 'split', expected 'join' or 'keep'",
    ),
    (
        lambda: data.read_labelled(__file__, seq_length="a"),
        TypeError,
        f"{__file__}: seq_length is a str, expected an integer",
    ),
    (
        lambda: next(data.decode_chunks(3, "pipe")),
        TypeError,
        "pipe: file is a int, expected a file or pipe of bytes",
    ),
    (
        lambda: data.standard_library(3),
        TypeError,
        "standard library: root is a int, expected a path",
    ),
]


@texts(DATA)
def test_data(case: Case) -> None:
    check(case)


# -- training -----------------------------------------------------------------------------------


def trainer(**options: Any) -> train.Trainer:
    model = FeedForward([3, 2])
    arguments: dict[str, Any] = {
        "task": SimpleNamespace(model=model),
        "optimizer": optim.SGD(model.flat, 0.1),
        "plan": train.TrainingPlan(0.1),
        "clip": 1.0,
    }
    return train.Trainer(**(arguments | options))


TRAIN: list[Case] = [
    (
        lambda: trainer(optimizer="adam"),
        TypeError,
        "train: optimizer is a str, expected an Optimizer",
    ),
    (lambda: train.TrainingPlan("a"), TypeError, "plan: lr is a str, expected a number"),
    (
        lambda: train.TrainingPlan(0.1, schedule="step"),
        ValueError,
        "plan: schedule is 'step', expected 'cosine' or 'linear' or 'constant'",
    ),
    (lambda: train.TrainingPlan(0.1, floor=-3), ValueError, "plan: floor is -3, expected 0 to 1"),
    (
        lambda: train.TrainingPlan(0.1).of_length(-5),
        ValueError,
        "plan: total is -5, expected at least 0",
    ),
    (lambda: trainer(plan=0.1), TypeError, "train: plan is a float, expected a TrainingPlan"),
    (lambda: trainer(clip="a"), TypeError, "train: clip is a str, expected a number"),
    (lambda: trainer(clip=0), ValueError, "train: clip is 0, expected above 0"),
    (lambda: trainer(accumulate=0), ValueError, "train: accumulate is 0, expected at least 1"),
    (
        lambda: trainer().run(seconds="a"),
        TypeError,
        "train: seconds is a str, expected a number",
    ),
    (lambda: trainer().run(seconds=math.nan), ValueError, f"train: seconds is nan, {RATE}"),
    (lambda: trainer().run(stop=True), TypeError, "train: stop is a bool, expected a function"),
]


@texts(TRAIN)
def test_train(case: Case) -> None:
    check(case)


# -- checkpoints --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["U1", "S1", "O", "c16", "M8[s]"])
def test_arrays_that_no_file_can_hold_are_named(dtype: str, tmp_path: Path) -> None:
    pytest.importorskip("safetensors", reason="checkpoints are safetensors files")
    path = tmp_path / "weights.safetensors"
    weights = {"a": np.zeros(2), "b": np.zeros(2, dtype)}
    known = "bool, integers, floats of 16 to 64 bits or complex64"
    text = f"{path}: b has dtype {np.dtype(dtype)}, expected {known}"
    with refused(ValueError, text):
        checkpoint.save_weights(path, weights)
    with refused(ValueError, text.replace("b has", "model.b has")):
        checkpoint.save(path, checkpoint.Checkpoint("text", {"model": weights}, {}))
    assert not path.exists()


CHECKPOINTS: list[Case] = [
    (lambda: checkpoint.load(3), TypeError, "load: path is a int, expected a path"),
    (lambda: checkpoint.load(__file__, 3), TypeError, "load: kind is a int, expected a string"),
    (
        lambda: checkpoint.save_weights(3, {}),
        TypeError,
        "save_weights: path is a int, expected a path",
    ),
    (
        lambda: checkpoint.save_weights("file", {"a": [[1], [2, 3]]}),
        ValueError,
        "file: a is no array, expected one",
    ),
    (
        lambda: checkpoint.save_weights("file", []),
        TypeError,
        "save_weights: weights is a list, expected a mapping of names to arrays",
    ),
    (
        lambda: checkpoint.save_weights("file", {3: zeros(2)}),
        TypeError,
        "file: name of an array is a int, expected a string",
    ),
    (
        lambda: checkpoint.load_weights(__file__, 3),
        TypeError,
        "load_weights: prefix is a int, expected a string",
    ),
    (
        lambda: checkpoint.save("file", {}),
        TypeError,
        "save: checkpoint is a dict, expected a Checkpoint",
    ),
    (
        lambda: checkpoint.save("file", checkpoint.Checkpoint("text", {}, {"a": {1}})),
        TypeError,
        "save: description is not for JSON: Object of type set is not JSON serializable",
    ),
    (
        lambda: checkpoint.check_writable(3),
        TypeError,
        "check_writable: path is a int, expected a path",
    ),
]


@texts(CHECKPOINTS)
def test_checkpoints(case: Case) -> None:
    pytest.importorskip("safetensors", reason="checkpoints are safetensors files")
    check(case)
