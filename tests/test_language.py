"""What models of characters and of words share: training, resuming, generation, the writer."""

import itertools
import runpy
from pathlib import Path

import numpy as np
import pytest

from rnnfast.checkpoint import Checkpoint, load, save
from rnnfast.data import Vocabulary, WordVocabulary, read_corpus, read_words
from rnnfast.models import LanguageModel, Writer, state_arrays
from rnnfast.parallel import Alone
from rnnfast.run import Run
from rnnfast.systems import LANGUAGE, SYSTEMS
from rnnfast.trained import load_trained

LETTERS = Vocabulary("abc \n")
WORDS = WordVocabulary(["the", "sea", ", ", "whale", ". ", ".", "\n\n", " (", "and"])
kinds = pytest.mark.parametrize("name", LANGUAGE)
vocabularies = pytest.mark.parametrize("vocabulary", [LETTERS, WORDS], ids=["letters", "words"])


@pytest.fixture
def text(tmp_path, rng):
    """Five words in a random order, 900 of them."""
    path = tmp_path / "text.txt"
    words = rng.choice(["alpha", "beta,", "gamma", "delta", "omega."], size=900)
    path.write_text(" ".join(words) + "\n", encoding="utf-8")
    return path


def settings(name, path, **changes):
    sizes = {
        "hidden": 10, "seq_length": 12, "batch": 4, "epochs": 1, "cell": "lstm", "dropout": 0.0,
    }  # fmt: skip
    return SYSTEMS[name].settings_type(**{"data": str(path), **sizes, **changes})


def system(name, path, **changes):
    chosen = settings(name, path, **changes)
    return SYSTEMS[name](chosen, np.random.default_rng(chosen.seed), Alone())


def model_of(vocabulary, rng, cell="gru"):
    """A model that is sure of something, unlike one with fresh weights."""
    model = LanguageModel.of(vocabulary, cell, 7, dtype="float64", rng=rng)
    model.flat *= 6.0
    return model


def test_both_are_language_systems():
    assert set(LANGUAGE) == {"text", "words"}


@kinds
def test_it_learns_a_periodic_text(name, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("one two three. four five, six. " * 120, encoding="utf-8")
    changes = {"epochs": 12, "lr": 0.03, "hidden": 24, "schedule": "constant"}
    run = Run(SYSTEMS[name], settings(name, path, **changes))
    untrained = run.system.figures(3.0)
    assert run.train()
    figure = "bits/char" if name == "text" else "nats/word"
    assert run.history.evaluations[-1][figure] < 0.1 < untrained[figure]
    generated = run.system.model.generate(60, "one two three. four", 0.3, rng=1)
    assert generated.startswith(" five, six. one two three. four five")


@kinds
def test_evaluation_is_the_mean_over_the_held_out_text(name, text):
    trained = system(name, text, batch=1)
    tokens = trained._tokens[:, None].astype(np.int32)
    assert 50 < tokens.size < 1000
    nats, _ = trained.model.loss(tokens[:-1], tokens[1:])
    figures = trained.evaluate()
    expected = trained.figures(nats)
    assert list(figures) == list(expected)
    for key, value in expected.items():
        assert figures[key] == pytest.approx(value, rel=1e-4)


@kinds
def test_the_state_is_carried_through_an_epoch_and_dropped_at_its_end(name, text, rng):
    trained = system(name, text)
    first, second = trained.step(0), trained.step(1)
    again = trained.batches_per_epoch
    assert trained.step(again) == first
    assert trained.step(again + 1) == second
    carried = {n: rng.standard_normal(a.shape).astype("f") for n, a in trained.state().items()}
    assert set(carried) == {"0.h", "0.c"}
    trained.load_state(carried)
    assert trained.step(1) != second


@kinds
def test_windows_carry_no_state(name, text):
    trained = system(name, text, offset=3)
    losses = [trained.step(index).mean for index in (0, 1, 0)]
    assert losses[0] == losses[2] != losses[1]
    assert trained.state() == {}


class Half:
    """Half of two processes, whose partner's part is known."""

    size = 2

    def __init__(self, rank):
        self.rank = rank


@kinds
def test_two_halves_are_the_batch(name, text):
    chosen = settings(name, text)
    whole = system(name, text)
    loss = whole.step(0)
    halves = [SYSTEMS[name](chosen, np.random.default_rng(0), Half(rank)) for rank in (0, 1)]
    parts = [half.step(0) for half in halves]
    assert sum(part.weight for part in parts) == loss.weight
    mean = sum(part.mean * part.weight for part in parts) / loss.weight
    assert mean == pytest.approx(loss.mean, rel=1e-6)
    joined = [
        np.concatenate(pair, axis=1)
        for pair in zip(*(state_arrays(half._states).values() for half in halves), strict=True)
    ]
    for mine, theirs in zip(whole.state().values(), joined, strict=True):
        np.testing.assert_allclose(theirs, mine, rtol=1e-5, atol=1e-7)


@kinds
@pytest.mark.parametrize("odd", [{}, {"hidden": 11, "seq_length": 13, "batch": 3, "dropout": 0.3}])
@pytest.mark.parametrize("stop", [1, 9])
def test_resume_equals_straight_through(name, text, tmp_path, stop, odd):
    """With an odd number of chances, half a draw of the generator is left over."""
    straight, halves = tmp_path / "straight.st", tmp_path / "halves.st"
    kind = SYSTEMS[name]
    whole = Run(kind, settings(name, text, **odd))
    assert whole.train()
    whole.save(straight)
    first = Run(kind, settings(name, text, **odd))
    assert not first.train(stop=lambda: first.trainer.steps == stop)
    first.save(halves)
    second = Run.resume(kind, halves, {})
    assert second.trainer.steps == stop < whole.trainer.steps
    assert second.train()
    second.save(halves)
    assert halves.read_bytes() == straight.read_bytes()


@kinds
def test_a_checkpoint_writes_as_the_run_does(name, text, tmp_path):
    run = Run(SYSTEMS[name], settings(name, text))
    run.train()
    run.save(tmp_path / "m.st")
    model = load_trained(tmp_path / "m.st", LANGUAGE).model
    expected = run.system.model.generate(40, "alpha", rng=3)
    assert model.generate(40, "alpha", rng=3) == expected


@kinds
def test_a_damaged_vocabulary_is_refused(name, text, tmp_path):
    path = tmp_path / "m.st"
    Run(SYSTEMS[name], settings(name, text)).save(path)
    whole = load(path)
    for wrong in (None, [], {}, "aa"):
        description = {**whole.description, "about": {"vocabulary": wrong}}
        save(path, Checkpoint(whole.kind, whole.groups, description))
        with pytest.raises(ValueError, match="damaged checkpoint"):
            load_trained(path)


@vocabularies
def test_generation_ends_at_a_limit(rng, vocabulary):
    model = model_of(vocabulary, rng)
    endless = list(itertools.islice(model.sample(rng=5), 30))
    assert len(endless) == 30
    assert list(model.sample(rng=5, limit=30)) == endless
    assert list(model.sample(limit=0)) == []


@pytest.mark.parametrize(("vocabulary", "end"), [(LETTERS, "\n"), (WORDS, "."), (WORDS, "sea")])
def test_generation_ends_at_an_end_symbol(rng, vocabulary, end):
    model = model_of(vocabulary, rng)
    endless = list(itertools.islice(model.sample(temperature=3.0, rng=5), 500))
    first = [piece.strip(" ") for piece in endless].index(end)
    assert list(model.sample(temperature=3.0, rng=5, stop=end)) == endless[: first + 1]
    token = int(vocabulary.encode(end)[0])
    assert list(model.sample(temperature=3.0, rng=5, stop=token))[-1].strip(" ") == end
    assert len(list(model.sample(temperature=3.0, rng=5, stop=end, limit=first))) == first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": -1}, "limit is -1, expected at least 0"),
        ({"stop": "zebra"}, "stop is 'zebra', expected one token"),
        ({"stop": ""}, "stop is '', expected one token"),
        ({"stop": 99}, "stop is 99, expected 0 to"),
        ({"stop": -1}, "stop is -1, expected 0 to"),
    ],
)
@vocabularies
def test_bad_ends_are_named(rng, vocabulary, options, message):
    with pytest.raises(ValueError, match=message):
        model_of(vocabulary, rng).sample(**options)


@pytest.mark.parametrize(
    ("vocabulary", "pieces"),
    [(LETTERS, ["ab", " ", "c\n", "a"]), (WORDS, ["the sea", ", and", "the whale", ".", "the"])],
    ids=["letters", "words"],
)
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_writer_reads_as_one_call_does(rng, vocabulary, pieces, cell):
    model = model_of(vocabulary, rng, cell)
    writer, text = Writer(model), ""
    for piece in pieces:
        text += writer.write(piece)
        expected = model(vocabulary.encode(text))[0][-1]
        if vocabulary.unknown is not None:
            expected[vocabulary.unknown] = -np.inf
        np.testing.assert_allclose(writer.logits, expected, rtol=1e-9)
    assert text == ("ab c\na" if vocabulary is LETTERS else "the sea, and the whale. the")


@vocabularies
def test_nothing_is_read_twice(rng, vocabulary, monkeypatch):
    model = model_of(vocabulary, rng)
    read = []
    call, step = LanguageModel.__call__, LanguageModel.step

    def counted(self, x, s):
        read.append(len(x))
        return call(self, x, s)

    monkeypatch.setattr(LanguageModel, "__call__", counted)
    monkeypatch.setattr(LanguageModel, "step", lambda *a: read.append(1) or step(*a))
    text = "a b c" if vocabulary is LETTERS else "the sea and the whale"
    writer = Writer(model, text)
    for _ in range(2):
        writer.suggestions()
    writer.take(1)
    writer.take(2)
    writer.suggestions()
    writer.write(text)
    writer.write(text)
    writer.suggestions()
    # Letters need no space between texts, so that there are as many each time.
    assert read == [5, 2, 10]


@vocabularies
def test_suggestions_are_the_likeliest_and_add_up(rng, vocabulary):
    writer = Writer(model_of(vocabulary, rng))
    every = writer.suggestions(1000)
    assert sum(one.probability for one in every) == pytest.approx(1.0)
    chances = [one.probability for one in every]
    assert chances == sorted(chances, reverse=True)
    assert len({one.text for one in every}) == len(every)
    assert writer.suggestions(3) == every[:3]
    assert len(writer.suggestions()) == min(10, len(every))
    assert all(one.token != vocabulary.unknown for one in every)
    likeliest = every[0]
    assert writer.take(likeliest.token) == likeliest.text


def test_suggestions_that_read_alike_are_one(rng):
    model = model_of(WORDS, rng)
    writer = Writer(model, "the sea")
    logits = writer.logits
    chances = np.exp(logits - logits.max())
    chances /= chances.sum()
    stops = [number for number, word in enumerate(WORDS.words, 1) if word.strip() == "."]
    (stop,) = [one for one in writer.suggestions() if one.text == "."]
    assert len(stops) == 2
    assert stop.probability == pytest.approx(chances[stops].sum())
    assert stop.token == stops[chances[stops].argmax()]


def test_a_writer_spaces_words():
    writer = Writer(LanguageModel.of(WORDS, "gru", 3, rng=0))
    assert writer.write("The sea") == "The sea"
    assert writer.write("zebra") == " zebra"
    assert writer.write(" and") == " and"
    assert writer.write(",") == ","
    assert writer.take(4) == " whale"
    assert writer.write("and ") == " and "
    assert writer.take(4) == "whale"
    assert writer.write("") == ""
    assert writer.write("(") == " ("


def test_a_refused_text_leaves_a_writer_as_it_was(rng):
    writer, other = (Writer(model_of(LETTERS, 3), "ab") for _ in range(2))
    with pytest.raises(ValueError, match="character 'z' at position 1"):
        writer.write("az")
    np.testing.assert_array_equal(writer.logits, other.logits)


@kinds
def test_the_example_runs(name, tmp_path, capsys):
    """On a small text in place of the standard library's."""
    path = tmp_path / "text.txt"
    path.write_text("def f(x): return x\n\nReturn the value of the object.\n\n" * 400)
    example = runpy.run_path(str(Path(__file__).parents[1] / f"examples/{name}.py"))
    corpus = read_corpus(path) if name == "text" else read_words(path, limit=100)
    names = example["main"].__globals__
    names["standard_library" if name == "text" else "documentation"] = lambda **_: corpus
    example["main"](steps=3)
    out = capsys.readouterr().out
    assert "step 0: " in out and "held-out: " in out
    assert ("\ndef " if name == "text" else "\nReturn the value") in out


@kinds
def test_the_sample_goes_on_from_the_held_out_text(name, text):
    trained = system(name, text)
    trained.model.flat *= 6.0  # fresh weights hardly look at what they have read
    read = trained.model.vocabulary.decode(trained._tokens[:100])
    expected = trained.model.generate(trained.sample, read, 0.7, 0)
    assert trained.report() == expected != trained.model.generate(trained.sample, "", 0.7, 0)
