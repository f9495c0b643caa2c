"""Layers and models written as ONNX: ONNX Runtime computes what they do, and so do we."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the ONNX bridge needs onnx")
pytest.importorskip("onnxruntime", reason="the ONNX bridge is compared with onnxruntime")

import rnnfast
import rnnfast.onnx
from cases import Array, build, pair
from onnx_models import assert_same, draw_feeds, run_peer
from rnnfast.data import OpenVocabulary, Vocabulary
from rnnfast.models import (
    CELLS,
    Encoder,
    FeedForward,
    Forecaster,
    LanguageModel,
    SequenceClassifier,
    SequenceModel,
    TextClassifier,
)
from rnnfast.nn import mse_loss

VARIANTS = ["rnn-tanh", "rnn-relu", "rnn-sigmoid", "rnn-identity", "lstm", "gru", "gru-before"]
PROJECTED = [*VARIANTS, "lstm-proj"]
SHAPES = [(1, 1), (7, 3), (4, 5)]  # T, B: none of them is written into the model
OPTIONS: list[dict[str, Any]] = [
    {},
    {"bias": False},
    {"batch_first": True},
    {"bidirectional": True},
    {"num_layers": 3},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
]


def check(model: Any, feeds: dict[str, Array], expected: dict[str, Array]) -> None:
    """ONNX Runtime and our own loading give what is expected."""
    assert_same(run_peer(model, feeds), expected)
    assert_same(rnnfast.onnx.load(model)(feeds), expected)


def named(y: Array, state: Any) -> dict[str, Array]:
    return {"y": y, **dict(zip(("h_n", "c_n"), pair(state), strict=False))}


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(o) or "plain")
@pytest.mark.parametrize("variant", PROJECTED)
def test_layers(variant: str, options: dict[str, Any], rng: np.random.Generator) -> None:
    layer = build(rnnfast, variant, 5, 7, rng=rng, **options)
    model = rnnfast.onnx.export(layer)
    for T, B in SHAPES:
        feeds = draw_feeds(rng, model, T, B)
        check(model, feeds, named(*layer(feeds["x"])))


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(o) or "plain")
@pytest.mark.parametrize("variant", VARIANTS)
def test_layers_with_a_state_and_lengths(
    variant: str, options: dict[str, Any], rng: np.random.Generator
) -> None:
    layer = build(rnnfast, variant, 5, 7, rng=rng, **options)
    model = rnnfast.onnx.export(layer, initial_state=True, lengths=True)
    feeds = draw_feeds(rng, model, 7, 3)
    feeds["lengths"][:] = [4, 7, 1]
    state: Any = feeds["h_0"] if "c_0" not in feeds else (feeds["h_0"], feeds["c_0"])
    check(model, feeds, named(*layer(feeds["x"], state, feeds["lengths"])))


def test_a_projection_with_lengths(rng: np.random.Generator) -> None:
    layer = rnnfast.LSTM(5, 7, 2, bidirectional=True, proj_size=3, rng=rng)
    model = rnnfast.onnx.export(layer, lengths=True)
    feeds = draw_feeds(rng, model, 7, 3)
    check(model, feeds, named(*layer(feeds["x"], lengths=feeds["lengths"])))
    with pytest.raises(ValueError, match=r"initial_state is True, but the LSTM has proj_size=3"):
        rnnfast.onnx.export(layer, initial_state=True)


@pytest.mark.parametrize("batch_first", [False, True])
def test_tokens(batch_first: bool, rng: np.random.Generator) -> None:
    layer = rnnfast.GRU(9, 7, batch_first=batch_first, rng=rng)
    model = rnnfast.onnx.export(layer, tokens=True)
    tokens = rng.integers(9, size=(4, 3))
    check(model, {"x": tokens}, named(*layer(tokens)))


@pytest.mark.parametrize("variant", PROJECTED)
def test_float64_comes_back(variant: str, rng: np.random.Generator) -> None:
    """ONNX Runtime has no recurrent operators in float64."""
    layer = build(rnnfast, variant, 5, 7, 2, bidirectional=True, dtype="float64", rng=rng)
    model = rnnfast.onnx.export(layer)
    x = rng.standard_normal((6, 3, 5))
    assert_same(rnnfast.onnx.load(model)(x=x), named(*layer(x)), 1e-13)


@pytest.mark.parametrize("variant", VARIANTS)
def test_weights_come_back(variant: str, rng: np.random.Generator) -> None:
    layer = build(rnnfast, variant, 5, 7, 2, bidirectional=True, rng=rng)
    made = rnnfast.onnx.layers(rnnfast.onnx.export(layer))
    kind = type(layer).__name__
    assert list(made) == [f"{kind}_l0", f"{kind}_l1"]
    for k, back in enumerate(made.values()):
        assert type(back) is type(layer)
        for name, v in back.parameters.items():
            np.testing.assert_array_equal(v, layer.parameters[name.replace("_l0", f"_l{k}")])
    below, above = made.values()
    x = rng.standard_normal((6, 3, 5), dtype=np.float32)
    np.testing.assert_allclose(above(below(x)[0])[0], layer(x)[0], rtol=0, atol=1e-6)


def test_a_subclass_is_its_layer(rng: np.random.Generator) -> None:
    class Mine(rnnfast.GRU):
        pass

    model = rnnfast.onnx.export(Mine(5, 7, rng=rng))
    assert model.graph.node[0].op_type == "GRU"


@pytest.mark.parametrize("initial_state", [False, True])
@pytest.mark.parametrize("cells", [["gru"], ["lstm", "basic", "gru"]], ids="-".join)
def test_sequence_models(cells: list[str], initial_state: bool, rng: np.random.Generator) -> None:
    layers = [CELLS[c](i, h, rng=rng) for c, i, h in zip(cells, (5, 7, 6), (7, 6, 4), strict=False)]
    net = SequenceModel(layers, 3, mse_loss, dropout=0.5, rng=rng)
    model = rnnfast.onnx.export(net, initial_state=initial_state)
    feeds = draw_feeds(rng, model, 6, 4)
    prefixes = [f"{i}." for i in range(len(cells))] if len(cells) > 1 else [""]
    states = None
    if initial_state:
        parts = [[feeds[p + n] for n in ("h_0", "c_0") if p + n in feeds] for p in prefixes]
        states = tuple(tuple(part) if len(part) == 2 else part[0] for part in parts)
    y, after = net(feeds["x"], states)
    expected = {"y": y}
    for prefix, state in zip(prefixes, after, strict=True):
        expected |= {prefix + n: v for n, v in zip(("h_n", "c_n"), pair(state), strict=False)}
    check(model, feeds, expected)


def test_language_model(rng: np.random.Generator) -> None:
    vocabulary = Vocabulary("abcdef\n")
    net = LanguageModel.of(vocabulary, "lstm", 8, 2, rng=rng)
    tokens = rng.integers(len(vocabulary), size=(5, 3))
    y, (state,) = net(tokens)
    check(rnnfast.onnx.export(net), {"x": tokens}, named(y, state))


@pytest.mark.parametrize("shortcut", [False, True])
def test_forecaster(shortcut: bool, rng: np.random.Generator) -> None:
    net = Forecaster.of("gru", 8, window=4, shortcut=shortcut, rng=rng)
    x = rng.standard_normal((5, 3, 1), dtype=np.float32)
    y, (state,) = net(x)
    check(rnnfast.onnx.export(net), {"x": x}, named(y, state))


@pytest.mark.parametrize("projection", [None, 5])
@pytest.mark.parametrize("stacks", ["independent", "interleaved"])
@pytest.mark.parametrize("cell", CELLS)
def test_text_classifier(
    cell: str, stacks: str, projection: int | None, rng: np.random.Generator
) -> None:
    vocabulary = OpenVocabulary("abcdef")
    net = TextClassifier.of(
        vocabulary, ["x", "y", "z"], cell, 6, 2, stacks=stacks, projection=projection, rng=rng
    )
    tokens, lengths = net.encode(["abba", "feed a cab", "z"])
    feeds = {"x": tokens.astype(np.int64), "lengths": lengths.astype(np.int32)}
    model = rnnfast.onnx.export(net, lengths=True)
    check(model, feeds, {"y": net(tokens, lengths)})
    check(rnnfast.onnx.export(net), {"x": feeds["x"]}, {"y": net(tokens)})


def test_classifier_of_features_in_one_direction(rng: np.random.Generator) -> None:
    encoder = Encoder(rnnfast.LSTM(5, 7, proj_size=4, rng=rng))
    net = SequenceClassifier(["x", "y"], encoder, rng=rng)
    x = rng.standard_normal((6, 3, 5), dtype=np.float32)
    check(rnnfast.onnx.export(net), {"x": x}, {"y": net(x)})


def test_the_file(tmp_path: Path, rng: np.random.Generator) -> None:
    layer = rnnfast.LSTM(5, 7, rng=rng)
    path = tmp_path / "layer.onnx"
    model = rnnfast.onnx.export(layer, path)
    assert onnx.load(path) == model
    x = rng.standard_normal((6, 3, 5), dtype=np.float32)
    assert_same(rnnfast.onnx.load(path)(x=x), named(*layer(x)))
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileNotFoundError):
        rnnfast.onnx.export(layer, tmp_path / "nowhere" / "layer.onnx")


@pytest.mark.parametrize("size", [(3, 0), (0, 3)], ids=["no-sequences", "no-steps"])
def test_empty_batches(size: tuple[int, int], rng: np.random.Generator) -> None:
    """Loaded again, the model accepts and refuses what the layer does."""
    layer = rnnfast.GRU(5, 7, 2, bidirectional=True, rng=rng)
    graph, x = rnnfast.onnx.load(rnnfast.onnx.export(layer)), np.zeros((*size, 5), np.float32)
    try:
        expected = named(*layer(x))
    except ValueError:
        with pytest.raises(ValueError, match=r"GRU node 'GRU_l0': gru: x has"):
            graph(x=x)
    else:
        assert_same(graph(x=x), expected, 0.0)


def small(rng: np.random.Generator, kind: str) -> Any:
    gru = rnnfast.GRU(5, 7, rng=rng)
    if kind == "classifier":
        return SequenceClassifier(["x", "y"], Encoder(gru))
    return SequenceModel([gru], 3, mse_loss) if kind == "sequence" else gru


@pytest.mark.parametrize(
    ("kind", "options", "error", "text"),
    [
        ("classifier", {"initial_state": True}, ValueError, "initial_state is True, but a Seq"),
        ("sequence", {"lengths": True}, ValueError, "lengths is True, but a SequenceModel"),
        ("layer", {"lengths": 1}, TypeError, "lengths is a int, expected a bool"),
        ("layer", {"tokens": "yes"}, TypeError, "tokens is a str, expected a bool"),
        ("layer", {"initial_state": None}, TypeError, "initial_state is a NoneType"),
    ],
)
def test_refused_options(
    kind: str, options: dict[str, Any], error: Any, text: str, rng: np.random.Generator
) -> None:
    with pytest.raises(error, match=f"export: {text}"):
        rnnfast.onnx.export(small(rng, kind), **options)


@pytest.mark.parametrize("what", ["quantized", "feed-forward", "none"])
def test_refused_models(what: str, rng: np.random.Generator) -> None:
    given: dict[str, Any] = {
        "quantized": rnnfast.GRU(5, 7, rng=rng).quantize(),
        "feed-forward": FeedForward([3, 4]),
        "none": None,
    }
    with pytest.raises(TypeError, match=r"export: model is a \w+, expected a layer"):
        rnnfast.onnx.export(given[what])


def test_too_large_a_model_is_refused(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    from rnnfast.onnx import builder

    monkeypatch.setattr(builder, "_MOST_BYTES", 1000)
    with pytest.raises(
        ValueError, match=r"export: GRU has parameters of 11\d\d bytes, expected at"
    ):
        rnnfast.onnx.export(rnnfast.GRU(5, 7, rng=rng))


def test_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    page = Path(__file__).parents[1] / "docs/onnx.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    rnnfast.onnx.export(rnnfast.GRU(40, 16, rng=rng), "tagger.onnx")
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
    np.testing.assert_allclose(names["outputs"]["y"], names["y"], rtol=0, atol=1e-6)
    assert names["grads"].flat.shape == names["gru"].flat.shape
    assert [v.name for v in names["model"].graph.input] == ["x", "h_0", "c_0", "lengths"]
