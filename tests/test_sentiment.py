"""Classifiers of texts: the model, its training and report, `rnnfast train sentiment`."""

import numpy as np
import pytest

import rnnfast
from rnnfast import cli
from rnnfast.confusion import Confusion
from rnnfast.data import OpenVocabulary
from rnnfast.models import SequenceClassifier, TextClassifier
from rnnfast.parallel import Alone
from rnnfast.run import Run
from rnnfast.systems import Sentiment, SentimentSettings
from rnnfast.trained import load_trained

for extra in (*cli.EXTRAS, "matplotlib"):
    pytest.importorskip(extra, reason="the command line needs the extra `cli`")

SMALL = {"hidden": 12, "batch": 8, "epochs": 1}
WORDS = {"bad": ["late", "lost", "rude"], "good": ["thanks", "great", "kind"], "so": ["when", "is"]}


@pytest.fixture
def data(tmp_path, rng):
    """Texts that their words give away."""
    lines = []
    for i in range(240):
        label = ("bad", "bad", "good", "so")[i % 4]
        filler = rng.choice(["the", "crew", "plane", "bag"], size=3)
        lines.append(f"{label}\t{filler[0]} {rng.choice(WORDS[label])} {filler[1]} {i}\n")
    path = tmp_path / "texts.tsv"
    path.write_text("".join(lines))
    return path


def settings(data, **given):
    return SentimentSettings(data=str(data), **{**SMALL, **given})


def make(data, group=None, **given):
    chosen = settings(data, **given)
    return Sentiment(chosen, np.random.default_rng(chosen.seed), group or Alone())


# -- the confusion matrix -------------------------------------------------------------------------


def test_figures_of_a_confusion_matrix():
    confusion = Confusion(["banana", "b", "c"])
    confusion.add(np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 0]))
    assert confusion.counts.tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert confusion.accuracy == 3 / 5
    np.testing.assert_allclose(confusion.precision, [2 / 3, 1 / 2, np.nan])
    np.testing.assert_allclose(confusion.recall, [2 / 3, 1 / 2, np.nan])
    np.testing.assert_allclose(confusion.f1, [2 / 3, 1 / 2, np.nan])
    assert confusion.macro_f1 == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert str(confusion).splitlines() == [
        "class   precision  recall     F1  examples",
        "banana      0.667   0.667  0.667         3",
        "b           0.500   0.500  0.500         2",
        "c               -       -      -         0",
        "",
        "true \\ predicted  banana  b  c",
        "banana                 2  1  0",
        "b                      1  1  0",
        "c                      0  0  0",
    ]


def test_a_class_that_is_never_right_counts_in_the_mean():
    confusion = Confusion("ab")
    confusion.add(np.array([0, 0, 1]), np.array([0, 0, 0]))
    assert confusion.f1.tolist() == [0.8, 0.0]
    assert confusion.macro_f1 == 0.4
    assert np.isnan(Confusion("ab").accuracy) and np.isnan(Confusion("ab").macro_f1)


# -- the model ------------------------------------------------------------------------------------


def classifier(**options):
    vocabulary = OpenVocabulary("abcdefgh ")
    return TextClassifier.of(vocabulary, ["x", "y", "z"], "gru", 7, 2, rng=3, **options)


@pytest.mark.parametrize("stacks", ["independent", "interleaved"])
@pytest.mark.parametrize("projection", [None, 5])
def test_a_text_is_predicted_alike_in_any_company(stacks, projection, rng):
    model = classifier(stacks=stacks, projection=projection, seq_length=20)
    texts = ["".join(rng.choice(list("abcdefgh ?ü"), size=n)) for n in rng.integers(0, 40, 150)]
    together = model.predict(texts)
    assert together.shape == (150, 3)
    np.testing.assert_allclose(together.sum(axis=1), 1.0)
    for i in (0, 63, 64, 149):
        assert np.array_equal(model.predict([texts[i]])[0], together[i])
    assert np.array_equal(model.predict(texts[70:]), together[70:])
    assert not np.array_equal(together[0], together[1])


def test_padding_and_what_lies_behind_the_length_do_not_count(rng):
    model = classifier(seq_length=5)
    assert np.array_equal(model.predict(["abcde"]), model.predict(["abcdefgh"]))
    assert not np.array_equal(model.predict(["abcde"]), model.predict(["abcd"]))
    assert np.array_equal(model.predict(["ab?"]), model.predict(["abü"]))
    assert model.predict([]).shape == (0, 3)


def test_independent_stacks_are_two_encoders_of_one_direction():
    names = {name.rsplit(".", 1)[0] for name in classifier().parameters}
    assert names == {"encoder.forward", "encoder.backward", "projection.0", "projection.1"}
    assert not any("reverse" in name for name in classifier().parameters)
    parameters = classifier(stacks="interleaved", projection=4).parameters
    assert parameters["encoder.forward.weight_ih_l1_reverse"].shape == (21, 14)
    assert parameters["head.weight"].shape == (3, 4)
    with pytest.raises(ValueError, match="stacks is 'both', expected 'independent' or 'inter"):
        classifier(stacks="both")


def test_units_remember_what_they_read():
    biases = classifier(memory=90).parameters["encoder.forward.bias_ih_l1"]
    assert np.abs(biases[7:14]).max() > 2.0


@pytest.mark.parametrize("stacks", ["independent", "interleaved"])
def test_the_gradient_is_that_of_the_loss(stacks, rng):
    model = classifier(stacks=stacks, projection=4, dtype="float64")
    assert isinstance(model, SequenceClassifier)
    tokens, lengths = model.encode(["abc", "", "defgh abc", "h?"])
    targets, weights = np.array([0, 2, 1, 2]), np.array([1.0, 0.5, 2.0])

    def loss():
        return model.loss_and_gradient(tokens, targets, lengths, weights)

    loss()
    gradient, direction = model.gradient.copy(), rng.standard_normal(model.flat.size)
    start, step = model.flat.copy(), 1e-6
    model.flat[:] = start + step * direction
    above = loss()
    model.flat[:] = start - step * direction
    slope = (above - loss()) / (2 * step)
    assert slope == pytest.approx(gradient @ direction, rel=1e-6)


# -- the system -----------------------------------------------------------------------------------


def test_what_words_give_away_is_learnt(data):
    run = Run(Sentiment, settings(data, epochs=12, lr=0.02, hidden=16, layers=2, dropout=0.1))
    assert run.train()
    figures = run.system.evaluate()
    assert figures["accuracy"] > 0.9 and figures["macro F1"] > 0.9 and figures["nats"] < 0.4
    report = run.system.report()
    assert "held-out texts, by this checkpoint\n\nclass  precision" in report
    assert "true \\ predicted  bad  good  so" in report


def test_the_evaluation_is_what_a_user_predicts_with(data):
    system = make(data)
    figures, texts = system.evaluate(), system._texts
    lines = [line.split("\t") for line in data.read_text().splitlines()]
    shares = list(Sentiment.predict_lines(system.model, [text for _, text in lines]))
    right = [max(s, key=s.get) == label for s, (label, _) in zip(shares, lines, strict=True)]
    assert figures["accuracy"] == np.mean(np.array(right)[texts.held_out])
    nats = [-np.log(s[label]) for s, (label, _) in zip(shares, lines, strict=True)]
    assert figures["nats"] == pytest.approx(np.mean(np.array(nats)[texts.held_out]), rel=1e-6)


def test_balanced_classes_count_alike(data):
    system, plain = make(data, class_weights="balanced"), make(data)
    counts = system._texts.counts()
    assert counts.tolist() == [96, 48, 48]
    np.testing.assert_allclose(system._weights * counts, 64.0)
    batch = system._batches.cut(0)
    assert system.step(0).weight == pytest.approx(system._weights[batch.targets].sum())
    assert plain.step(0).weight == 8
    assert system.step(0).mean != plain.step(0).mean


class Half(Alone):
    """One of two processes, which never meets the other."""

    size = 2

    def __init__(self, rank):
        self.rank = rank


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_two_halves_of_a_batch_add_up_to_the_whole(data, class_weights):
    given = {"class_weights": class_weights, "dropout": 0.0}
    whole = make(data, **given)
    halves = [make(data, Half(rank), **given) for rank in (0, 1)]
    loss = whole.step(3)
    losses = [half.step(3) for half in halves]
    total = sum(part.weight for part in losses)
    assert total == pytest.approx(loss.weight)
    assert sum(part.mean * part.weight for part in losses) / total == pytest.approx(
        loss.mean, rel=1e-6
    )
    gradient = sum(
        half.model.gradient * part.weight for half, part in zip(halves, losses, strict=True)
    )
    np.testing.assert_allclose(gradient / total, whole.model.gradient, atol=1e-6)
    with pytest.raises(ValueError, match="batches of 1 cannot be divided among 2"):
        make(data, Half(0), batch=1)


def test_a_resumed_training_repeats_the_straight_one(data, tmp_path):
    given = {"epochs": 2, "layers": 2, "dropout": 0.2, "mask": 0.2}
    straight, broken = (Run(Sentiment, settings(data, **given)) for _ in range(2))
    straight.train()
    broken.train(stop=lambda: broken.trainer.steps == 17)
    broken.save(tmp_path / "m.safetensors")
    resumed = Run.resume(Sentiment, tmp_path / "m.safetensors", {})
    assert resumed.train()
    assert np.array_equal(resumed.system.model.flat, straight.system.model.flat)
    assert resumed.history.evaluations == straight.history.evaluations


def test_the_notes_own_network(data):
    given = {**Sentiment.presets["notes"], "hidden": 6}
    model = make(data, **given).model
    assert model.parameters["encoder.backward.weight_ih_l3"].shape == (18, 6)
    assert model.parameters["projection.1.weight"].shape == (128, 6)


# -- the command line -----------------------------------------------------------------------------


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run the command line in this process, in `tmp_path`: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)
    threads = rnnfast.get_num_threads()

    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    yield call
    rnnfast.set_num_threads(threads)


FLAGS = ["--hidden", 8, "--batch", 16, "--epochs", 1]


def test_train_sentiment_reports_and_draws(run, data):
    code, out, err = run("train", "sentiment", "--data", data, *FLAGS)
    assert code == 0, err
    assert out.startswith("held-out: accuracy 0.")
    assert "class  precision  recall" in out and "true \\ predicted  bad  good  so" in out
    assert out.endswith("picture: sentiment.confusion.png\n")
    assert "1 x 8 gru in each direction, independent" in err and "48 held out, 3 classes" in err
    for name in ("sentiment.confusion.png", "sentiment.png"):
        assert data.with_name(name).read_bytes().startswith(b"\x89PNG")


def test_options_reach_the_training(run, data):
    table = data.with_name("texts.csv")
    rows = [line.split("\t") for line in data.read_text(encoding="utf-8").splitlines()]
    content = "said,by,mood\n" + "".join(f"{text}ä,{i},{a}\n" for i, (a, text) in enumerate(rows))
    table.write_text(content, encoding="latin-1")
    options = {
        "data": str(table), "encoding": "latin-1", "text_column": "said", "label_column": "mood",
        "cell": "lstm", "layers": 2, "hidden": 5, "dropout": 0.1, "seq_length": 12,
        "stacks": "interleaved", "projection": 4, "class_weights": "balanced", "mask": 0.2,
        "memory": 20, "batch": 9, "epochs": 1, "lr": 0.001, "seed": 2, "compute": "bfloat16",
    }  # fmt: skip
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    code, out, err = run("train", "sentiment", *flags, "--out=x.st", "--no-plot")
    assert code == 0, err
    trained = load_trained("x.st")
    assert {name: getattr(trained.settings, name) for name in options} == options
    assert "confusion:" not in out and not data.with_name("x.confusion.png").exists()
    assert trained.model.labels == ("bad", "good", "so")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--stacks", "both"], "--stacks is 'both', expected one of independent, interleaved"),
        (["--class-weights", "x"], "--class-weights is 'x', expected one of none, balanced"),
        (["--mask", "1"], "--mask is 1.0, expected at least 0 and below 1"),
        (["--projection", "0"], "--projection is 0, expected at least 1"),
        (
            ["--text-column", "x"],
            "read_labelled: text_column is 'x' and label_column None",
        ),
        (
            ["--text-column", "x", "--label-column", "y"],
            "texts.tsv, line 1: no column 'y', expected one of bad, ",
        ),
        (["--encoding", "utf-16"], "texts.tsv: "),
        (["--data", "none.tsv"], "none.tsv: No such file or directory"),
    ],
)
def test_bad_input_is_one_line(run, data, flags, message):
    code, out, err = run("train", "sentiment", "--data", data.name, *FLAGS, *flags)
    assert (code, out) == (2, "")
    assert err.startswith(f"rnnfast: {message}") and err.count("\n") == 1
    assert not data.with_name("sentiment.safetensors").exists()


def test_other_data_than_before(run, data):
    assert run("train", "sentiment", "--data", data, *FLAGS, "--no-plot")[0] == 0
    data.write_text(data.read_text().replace("rude", "RUDE"))
    code, _, err = run("train", "sentiment", "--resume", "--epochs", 2, "--data", data)
    assert code == 2 and "not the data that sentiment.safetensors was trained on" in err
