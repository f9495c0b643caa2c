"""Words: cutting texts, numbering and writing them again, reading them in pieces, the system."""

import codecs
import itertools
import math
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnfast import cli
from rnnfast.data import Vocabulary, WordVocabulary, documentation, read_corpus, read_words
from rnnfast.data import text as text_module
from rnnfast.data.words import tokens_of, whole_words
from rnnfast.models import LanguageModel
from rnnfast.parallel import Alone
from rnnfast.systems import Words, WordsSettings
from rnnfast.systems.words import perplexity

PROSE = (
    "“Don't,” said the whale-ship's captain—he was (of course) tired; it's 4.5 miles...\n"
    "\n"
    'Then: "No!" \'Tis _true_, he said.\n'
    "A second line, of the same paragraph.\n"
)
JOINED = PROSE.replace("said.\nA", "said. A").rstrip("\n")
CODE = "def f(x):\n    return {x: [1, -2]}\n\n\nclass A(B):\n\tpass"


def vocabulary(text, lines="join", **options):
    return WordVocabulary.of(Counter(tokens_of(text, lines)), 1000, lines=lines, **options)


def test_a_text_is_cut_into_words_and_marks():
    assert tokens_of("Don't go, he said (twice): no-one—“ever” did!\n\nSo") == [
        "Don't", "go", ", ", "he", "said", " (", "twice", ")", ": ", "no", "-", "one", "—", "“",
        "ever", "” ", "did", "!", "\n\n", "So",
    ]  # fmt: skip


def test_runs_of_a_mark_are_one_token():
    assert tokens_of("so ... a == b -- __init__") == [
        "so", " ... ", "a", " == ", "b", " -- ", "__", "init", "__",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "lines", "written"),
    [
        (PROSE, "join", JOINED),
        (PROSE, "keep", PROSE),
        (CODE, "keep", CODE.replace("\n\n\n", "\n\n").replace("\t", " ")),
        ("one\r\ntwo  three \n \n\n four", "join", "one two three\n\nfour"),
    ],
)
def test_what_is_known_is_written_as_it_was(text, lines, written):
    words = vocabulary(text, lines)
    assert words.decode(words.encode(text)) == written


@given(st.text(st.sampled_from("ab'\u2019_-,.“” ("), max_size=40))
def test_only_surplus_spaces_are_lost(text):
    words = vocabulary("a" + text)
    assert words.decode(words.encode("a" + text)) == re.sub(" +", " ", "a" + text).rstrip(" ")


def test_words_are_numbered_by_frequency_behind_the_unknown_one():
    words = vocabulary("b a b c a b, d")
    assert words.words == ["b", "a", ", ", "c", "d"]
    assert len(words) == 6
    np.testing.assert_array_equal(words.encode("d x b"), [5, words.unknown, 1])
    assert words.encode("d").dtype == np.int32
    assert WordVocabulary(**words.description).words == words.words


def test_size_and_occurrences_limit_the_vocabulary():
    counts = Counter(tokens_of("a a a b b c c d"))
    assert WordVocabulary.of(counts, 3).words == ["a", "b"]
    assert WordVocabulary.of(counts, 100, occurrences=2).words == ["a", "b", "c"]
    assert WordVocabulary.of(counts, 2, occurrences=3).words == ["a"]


@pytest.mark.parametrize(("words", "lines"), [([], "join"), (["a", "a"], "join"), (["a"], "break")])
def test_what_is_no_vocabulary_is_refused(words, lines):
    with pytest.raises(ValueError, match="vocabulary: "):
        WordVocabulary(words, lines)


def test_the_nearest_known_spelling_is_taken():
    words = vocabulary("the whale and the Pequod, “see” (it) there", "join")

    def known(text):
        return [words.words[t - 1] if t else None for t in words.encode(text)]

    assert known("The WHALE pequod ship") == ["the", "whale", "Pequod", None]
    assert known("the,whale") == ["the", ", ", "whale"]
    assert known("and“the") == ["and", "“", "the"]
    assert known("the\n\nwhale") == ["the", None, "whale"]


def test_a_mark_at_the_end_may_have_a_space_to_come():
    words = vocabulary("a, b, c,” d", "join")
    assert words.words[words.encode("x a,")[-1] - 1] == ", "
    assert words.words[words.encode("a,” d")[1] - 1] == ","


@pytest.mark.parametrize(
    ("text", "lines", "start"),
    [("a.\n\nb. c", "join", "\n\n"), ("a. \nb", "keep", "\n"), ("a. b", "join", ". "),
     ("a a b", "join", "a")],
)  # fmt: skip
def test_the_start_is_an_end(text, lines, start):
    words = vocabulary(text, lines)
    assert words.words[words.start - 1] == start


def test_spaces_are_written_with_what_follows():
    words = vocabulary("a (b), “c”—d\n\ne")
    token = {text: number for number, text in enumerate(words.words, 1)}
    assert words.spell(token["a"], None) == "a"
    assert words.spell(token["a"], token["b"]) == " a"
    assert words.spell(token[" ("], token["a"]) == " ("
    assert words.spell(token[" ("], None) == "("
    assert words.spell(token["b"], token[" ("]) == "b"
    assert words.spell(token["b"], token["), " if "), " in token else ", "]) == " b"
    assert words.spell(token["\n\n"], token[", "]) == "\n\n"
    assert words.spell(token[" ("], token["\n\n"]) == "("
    assert words.spell(token["a"], words.unknown) == " a"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("lines", ["join", "keep"])
def test_pieces_have_the_tokens_of_the_whole(rng, size, lines):
    text = "".join(rng.choice(list(PROSE + CODE + "_ ,( \n"), 400))
    chunks = [text[i : i + size] for i in range(0, len(text), size)]
    whole = tokens_of(text, lines)
    # Chunks that have no place for a cut are passed on: with tiny ones, join them first.
    chunks = ["".join(batch) for batch in itertools.zip_longest(*[iter(chunks)] * 64, fillvalue="")]
    pieces = list(whole_words(chunks))
    assert "".join(pieces) == text
    assert [token for piece in pieces for token in tokens_of(piece, lines)] == whole


def test_a_file_in_chunks_is_the_file_in_one(tmp_path, monkeypatch):
    path = tmp_path / "text.txt"
    path.write_text(PROSE * 30, encoding="utf-8")
    whole = read_words(path, limit=1000)
    monkeypatch.setattr(text_module, "_CHUNK", 97)
    parts = read_words(path, limit=1000)
    assert parts.digest == whole.digest
    assert parts.vocabulary.words == whole.vocabulary.words
    np.testing.assert_array_equal(parts.tokens, whole.tokens)
    assert parts.unit == "words"
    joined = JOINED + " "
    assert whole.vocabulary.decode(whole.tokens) == (joined * 30).rstrip()


def test_the_digest_is_that_of_the_characters(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(codecs.BOM_UTF8 + PROSE.encode())
    assert read_words(path, limit=50).digest == read_corpus(path).digest


def test_large_token_sets_are_mapped(tmp_path, monkeypatch):
    path = tmp_path / "text.txt"
    path.write_text(PROSE * 5, encoding="utf-8")
    monkeypatch.setattr(text_module, "_MEMORY", 10)
    assert isinstance(read_words(path, limit=1000).tokens, np.memmap)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"text\.txt: the file is empty"),
        (b"one two three", r"text\.txt: no word comes 2 times"),
        (b" \n\n ", r"text\.txt: no word comes 2 times"),
        (b"one\n two \xff", r"text\.txt: not utf-8 at byte 9 \(line 2\)"),
    ],
)
def test_bad_files_are_named(tmp_path, content, message):
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_words(path, limit=100, occurrences=2)


def test_documentation_is_the_prose_of_docstrings(tmp_path):
    (tmp_path / "a.py").write_text(
        'def f():\n    """Return the value\n    of it.\n\n    >>> f()\n    3\n    """\n'
    )
    (tmp_path / "b.py").write_text('"""One sentence. And more!"""\nx = "No docstring at all."\n')
    corpus = documentation(tmp_path, limit=100)
    written = corpus.vocabulary.decode(corpus.tokens)
    assert sorted(written.split("\n\n")) == [
        "One sentence. And more!",
        "Return the value of <unk>.",  # the last word is held out
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no documentation here; give a text with --data"):
        documentation(tmp_path / "empty", limit=100)


def settings(path, **changes):
    sizes = {"hidden": 12, "seq_length": 6, "batch": 3, "epochs": 1, "occurrences": 1}
    return WordsSettings(**{"data": str(path), **sizes, **changes})


@pytest.fixture
def text(tmp_path):
    """A sentence over and over, each word of which tells the next."""
    path = tmp_path / "text.txt"
    path.write_text("The sea, cold and deep, rolled on.\n\n" * 60, encoding="utf-8")
    return path


def system(chosen):
    return Words(chosen, np.random.default_rng(chosen.seed), Alone())


def test_figures_are_perplexity_and_nats(text):
    trained = system(settings(text))
    figures = trained.evaluate()
    assert list(figures) == ["perplexity", "nats/word"]
    assert figures["perplexity"] == pytest.approx(math.exp(figures["nats/word"]))
    assert perplexity(math.log(50.0)) == pytest.approx(50.0)
    assert perplexity(1000.0) == math.inf
    assert Words.best == ("perplexity", False)


def test_the_summary_tells_how_much_is_unknown(text):
    known = system(settings(text))
    assert "11 different, 0.0% of the held-out end unknown" in known.summary()
    assert "660 words of" in known.summary()  # the last paragraph ends in white space alone
    limited = system(settings(text, vocabulary=4))
    unknown = limited._tokens == limited.model.vocabulary.unknown
    assert 0.5 < unknown.mean() < 0.8  # `, `, which comes twice, and two more are known
    assert f"4 different, {unknown.mean():.1%} of the held-out end unknown" in limited.summary()


def test_vocabulary_and_lines_reach_the_model(text):
    lines = system(settings(text, lines="keep", vocabulary=9))
    words = lines.model.vocabulary
    assert len(words) == 9
    assert words.lines == "keep"
    model = Words.make_model(settings(text, lines="keep"), lines.about)
    assert model.vocabulary.description == words.description


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocabulary": 1}, "--vocabulary is 1, expected at least 2"),
        ({"occurrences": 0}, "--occurrences is 0, expected at least 1"),
        ({"lines": "cut"}, "--lines is 'cut', expected one of join, keep"),
    ],
)
def test_settings_out_of_range_are_named(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        settings("text.txt", **changes)


def test_the_unknown_word_is_never_generated(rng):
    words = WordVocabulary(["a", "b", ", "])
    model = LanguageModel.of(words, "gru", 4, rng=rng)
    model.parameters["projection.bias"][words.unknown] = 50.0  # what it wants to say most
    assert model(np.array([1], np.int32))[0][-1].argmax() == words.unknown
    for temperature in (0.0, 0.5, 5.0):
        assert "unk" not in model.generate(200, "a zebra", temperature, rng=1)


def test_generated_words_are_spaced_from_the_prompt():
    words = WordVocabulary(["b", "a", ", "])
    model = LanguageModel.of(words, "gru", 4, rng=0)
    model.flat[:] = 0.0
    model.parameters["projection.bias"][1] = 1.0  # always b
    for prompt, expected in (("a", " b b"), ("a,", " b b"), ("a, ", "b b"), ("", "b b")):
        assert model.generate(2, prompt, 0.0) == expected


def test_characters_have_no_unknown():
    assert Vocabulary("abc").unknown is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--data none.txt", r"none\.txt: No such file or directory"),
        ("--data few.txt", r"few\.txt: no word comes 2 times"),
        ("--data short.txt", r"short\.txt: 8 words leave 6 .* fewer than the 21 of one window"),
        ("--data latin.txt", r"latin\.txt: not utf-8 at byte 1 \(line 1\); give .* --encoding"),
        ("--data short.txt --lines none", r"--lines is 'none', expected one of join, keep"),
        ("--data short.txt --vocabulary 1", r"--vocabulary is 1, expected at least 2"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    for extra in cli.EXTRAS:
        pytest.importorskip(extra, reason="the command line needs the extra `cli`")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "few.txt").write_text("one two three")
    (tmp_path / "short.txt").write_text("one two " * 4)
    (tmp_path / "latin.txt").write_bytes("Käse".encode("latin-1"))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SystemExit) as caught:
        cli.main(["train", "words", "--no-plot", *arguments.split()])
    out, err = capsys.readouterr()
    assert (caught.value.code, out) == (2, "")
    assert re.fullmatch(r"rnnfast: .*\n", err) and re.search(message, err)
    assert sorted(tmp_path.iterdir()) == before


def test_the_vocabulary_is_of_what_is_trained_on(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("red green blue " * 60 + "white " * 20)
    corpus = read_words(path, limit=100)
    training, held_out = corpus.split(5)
    assert held_out.size == 20 and training.size == 180
    assert corpus.vocabulary.words == ["blue", "green", "red"]
    assert (held_out == corpus.vocabulary.unknown).all()
    few = read_words(path, limit=100, held_out=10)
    assert "white" in few.vocabulary.words
