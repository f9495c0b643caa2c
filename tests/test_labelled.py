"""Labelled texts: file formats, the held-out fifth, unknown characters, batches, bad files."""

import itertools
import re

import numpy as np
import pytest

from rnnfast.data import (
    Hiding,
    OpenVocabulary,
    TextBatches,
    decode_chunks,
    labelled,
    library_lines,
    line_lists,
    pad,
    read_labelled,
)
from rnnfast.data.listing import listed

LABELS = ("bad", "good", "so so")


@pytest.fixture
def write(tmp_path):
    """Write a file and return its path."""

    def write(content, name="texts.tsv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return path

    return write


def rows(count, rng):
    words = ["one", "two", "three", "four", "five", "six"]
    return [
        (LABELS[i % 3], f"{i} " + " ".join(rng.choice(words, size=rng.integers(0, 6))))
        for i in range(count)
    ]


def tabbed(pairs):
    return "".join(f"{label}\t{text}\n" for label, text in pairs)


def text(texts, i):
    """The text of an example, `?` for unknown characters."""
    tokens = texts.tokens[texts.starts[i] : texts.starts[i + 1]]
    characters = texts.vocabulary.characters + "?"
    return "".join(characters[token] for token in tokens)


def pairs(texts):
    return [(texts.labels[texts.targets[i]], text(texts, i)) for i in range(len(texts))]


# -- formats ------------------------------------------------------------------------------------


def test_tabs_separate_label_and_text(write, rng):
    expected = rows(40, rng)
    texts = read_labelled(write(tabbed(expected)), seq_length=100)
    assert pairs(texts) == expected
    assert texts.labels == LABELS and len(texts) == 40


def test_quotes_and_further_tabs_are_text_in_a_tabbed_file(write):
    path = write('a\t"x\ty\nb\t""z,\n\na\tx\r\nb\tz')
    texts = read_labelled(path, seq_length=9)
    assert np.diff(texts.starts).tolist() == [4, 4, 1, 1]
    assert texts.targets.tolist() == [0, 1, 0, 1]


CSV = 'mood,said,by\nup,"one, ""two""\nthree",x\ndown,four,y\nup,five,x\ndown,six,y\n'


def test_csv_takes_the_first_two_columns(write):
    texts = read_labelled(write(CSV, "texts.CSV"), seq_length=99)
    assert texts.labels == ("down", "up")
    assert np.diff(texts.starts).tolist() == [len('one, "two"\nthree'), 4, 4, 3]


@pytest.mark.parametrize("name", ["texts.csv", "texts.tsv"])
def test_columns_are_found_by_name(write, name):
    content = CSV.replace('"one, ""two""\nthree"', "one")
    content = content if name == "texts.csv" else content.replace(",", "\t")
    path = write(content, name)
    texts = read_labelled(path, text_column="said", label_column="by", seq_length=99)
    assert texts.labels == ("x", "y")
    assert np.diff(texts.starts).tolist() == [3, 4, 4, 3]


def test_encoding_byte_order_mark_and_line_ends(write):
    pair = "gut\tKäse\r\nschlecht\tQuark\r\ngut\tä\r\nschlecht\ta\r\n"
    plain = read_labelled(write(pair.replace("\r", "")), seq_length=9)
    marked = read_labelled(write("\ufeff" + pair), seq_length=9)
    latin = read_labelled(write(pair, encoding="latin-1"), encoding="latin-1", seq_length=9)
    assert pairs(plain) == pairs(marked) == pairs(latin)
    assert plain.digest == marked.digest == latin.digest


def test_pieces_are_split_into_lines_wherever_they_end():
    content = "one\n\ntwo\nthree"
    for ends in itertools.combinations(range(len(content) + 1), 2):
        pieces = [content[i:j] for i, j in itertools.pairwise([0, *ends, len(content)])]
        lines = itertools.chain.from_iterable(line_lists(pieces))
        assert list(lines) == ["one", "", "two", "three"]


def test_a_byte_order_mark_may_come_in_pieces():
    class Trickle:
        def __init__(self, content):
            self.bytes = iter(content)

        def read1(self, size):
            return bytes(itertools.islice(self.bytes, 1))

    assert "".join(decode_chunks(Trickle("\ufeffäb".encode()), "pipe")) == "äb"


# -- the held-out fifth ---------------------------------------------------------------------------


def test_a_fifth_of_each_label_is_held_out_whatever_the_order(write, rng):
    examples = [*rows(300, rng), *[("rare", f"r{i}") for i in range(3)], ("single", "s")]
    first = read_labelled(write(tabbed(examples)), seq_length=50, seed=4)
    shuffled = [examples[i] for i in rng.permutation(len(examples))]
    second = read_labelled(write(tabbed(shuffled)), seq_length=50, seed=4)

    def held_out(texts, file):
        return {pair for pair, held in zip(file, texts.held_out, strict=True) if held}

    assert held_out(first, examples) == held_out(second, shuffled)
    counts = np.bincount(first.targets[first.held_out], minlength=5)
    assert counts.tolist() == [20, 20, 1, 0, 20]  # bad, good, rare, single, so so
    assert first.counts().tolist() == [80, 80, 2, 1, 80]
    other = read_labelled(write(tabbed(examples)), seq_length=50, seed=5)
    assert held_out(other, examples) != held_out(first, examples)


def test_equal_texts_are_never_divided(write, rng):
    examples = [(label, f"text {i}") for i in range(30) for label in ("a", "b")] * 3
    texts = read_labelled(write(tabbed(examples)), seq_length=50)
    for label in ("a", "b"):
        parts = {}
        for pair, held in zip(examples, texts.held_out, strict=True):
            if pair[0] == label:
                parts.setdefault(pair[1], set()).add(bool(held))
        assert all(len(part) == 1 for part in parts.values())
        assert {True, False} == set.union(*parts.values())


def test_the_vocabulary_is_of_the_training_part_alone(write):
    unique = [chr(0x4E00 + i) for i in range(50)]
    examples = [(LABELS[i % 2], f"ab{unique[i]}") for i in range(50)]
    texts = read_labelled(write(tabbed(examples)), seq_length=50)
    training = {c for i, c in enumerate(unique) if not texts.held_out[i]}
    assert set(texts.vocabulary.characters) == training | {"a", "b"}
    for i in range(50):
        assert text(texts, i) == ("ab?" if texts.held_out[i] else f"ab{unique[i]}")


def test_texts_are_cut(write):
    texts = read_labelled(write("a\tabcdef\nb\tab\na\tabcbbb\nb\tcb\n"), seq_length=3)
    assert np.diff(texts.starts).tolist() == [3, 2, 3, 2]
    whole = read_labelled(write("a\tabcdef\nb\tab\na\tabcbbb\nb\tcb\n"), seq_length=9)
    assert np.diff(whole.starts).tolist() == [6, 2, 6, 2]
    assert (texts.held_out == whole.held_out).all()


def test_an_open_vocabulary_knows_every_character():
    vocabulary = OpenVocabulary("cab")
    assert vocabulary.encode("abcd\U0001f600\ud800").tolist() == [0, 1, 2, 3, 3, 3]
    assert (len(vocabulary), vocabulary.unknown) == (4, 3)
    assert vocabulary.encode("").shape == (0,)


# -- batches --------------------------------------------------------------------------------------


def test_padding():
    tokens, lengths = pad([np.array([1, 2, 3]), np.array([], int), np.array([4])], rows=4)
    assert tokens.tolist() == [[1, 0, 4, 0], [2, 0, 0, 0], [3, 0, 0, 0]]
    assert lengths.tolist() == [3, 0, 1, 0] and tokens.dtype == np.int32
    assert pad([np.array([], int)])[0].shape == (1, 1)


@pytest.fixture
def texts(write, rng):
    return read_labelled(write(tabbed(rows(60, rng))), seq_length=30)


def contents(batch):
    columns = zip(batch.tokens.T, batch.lengths, batch.targets, strict=True)
    return [(tuple(tokens[:length]), int(target)) for tokens, length, target in columns]


def examples(texts, held_out):
    return sorted(
        (tuple(texts.tokens[texts.starts[i] : texts.starts[i + 1]]), int(texts.targets[i]))
        for i in np.flatnonzero(texts.held_out == held_out)
    )


def test_an_epoch_has_each_training_text_once_in_a_new_order(texts):
    batches = TextBatches(texts, 8, seed=3)
    assert len(batches) == 6  # 48 texts
    epochs = [
        [pair for i in range(6) for pair in contents(batches.cut(6 * epoch + i))]
        for epoch in (0, 1, 0)
    ]
    assert sorted(epochs[0]) == sorted(epochs[1]) == examples(texts, False)
    assert epochs[0] == epochs[2] != epochs[1]
    other = TextBatches(texts, 8, seed=4)
    assert contents(other.cut(0)) != contents(batches.cut(0))


def test_test_batches_have_each_held_out_text_once(texts):
    found = [pair for batch in texts.test_batches(5) for pair in contents(batch)]
    assert sorted(found) == examples(texts, True)


def test_parts_make_up_the_batch(texts):
    batches = TextBatches(texts, 8, seed=3, hiding=Hiding(0.3))
    whole = contents(batches.cut(7))
    parts = [contents(batches.cut(7, slice(*ends))) for ends in ((0, 3), (3, 8))]
    assert whole == parts[0] + parts[1]


def test_the_mask_hides_its_share_and_other_characters_each_time(texts):
    masked, plain = (TextBatches(texts, 48, seed=3, hiding=Hiding(share)) for share in (0.25, 0.0))
    first, second = ([tokens for tokens, _ in contents(masked.cut(i))] for i in (0, 1))
    hidden = np.concatenate(first) == texts.vocabulary.unknown
    assert 0.2 < hidden.mean() < 0.3
    originals = np.concatenate([tokens for tokens, _ in contents(plain.cut(0))])
    assert (np.concatenate(first)[~hidden] == originals[~hidden]).all()
    again = np.concatenate(second) == texts.vocabulary.unknown
    assert not np.array_equal(np.flatnonzero(hidden), np.flatnonzero(again))


def test_words_are_hidden_whole(rng):
    vocabulary = OpenVocabulary("abc d\n")
    text = "ab c\nabcd  da"
    tokens = np.repeat(vocabulary.encode(text)[:, None], 4000, axis=1)
    Hiding(words=0.3).hide(tokens, vocabulary, rng)
    hidden = tokens == vocabulary.unknown
    spaces = np.array([c.isspace() for c in text])
    assert not hidden[spaces].any()
    starts = [0, 3, 5, 11]
    for start, end in zip(starts, [2, 4, 9, 13], strict=True):
        assert (hidden[start:end] == hidden[start]).all()
    shares = hidden[starts].mean(axis=1)
    assert (abs(shares - 0.3) < 0.04).all()
    together = (hidden[0] & hidden[11]).mean()
    assert abs(together - 0.09) < 0.03, "words are hidden apart from each other"
    both = np.repeat(vocabulary.encode(text)[:, None], 4000, axis=1)
    Hiding(0.2, 0.3).hide(both, vocabulary, rng)
    share = (both[~spaces] == vocabulary.unknown).mean()
    assert abs(share - (1 - 0.8 * 0.7)) < 0.02


def test_fewer_texts_than_a_batch(texts):
    assert TextBatches(texts, 1000, seed=0).batch == 48
    assert len(TextBatches(texts, 1000, seed=0)) == 1


# -- bad files ------------------------------------------------------------------------------------

GOOD = "a\tx\nb\ty\na\tz\nb\tw\n"
BAD = {
    "no tab": ("t.tsv", GOOD + "\nno tab\n", r"t\.tsv, line 6: no tab, expected label<TAB>text"),
    "empty label": ("t.tsv", GOOD + " \ttext\n", r"t\.tsv, line 5: the label is empty"),
    "one class": ("t.tsv", "a\tx\na\ty\n", r"t\.tsv: only the label 'a' in 2 texts"),
    "empty": ("t.tsv", "", r"t\.tsv: the file is empty"),
    "blank lines": ("t.tsv", "\n\n", r"t\.tsv: no label in 0 texts"),
    "nothing to hold out": ("t.tsv", "a\tx\nb\ty\n", r"t\.tsv: 2 texts, of which none"),
    "equal texts": ("t.tsv", "a\tx\nb\tx\n" * 9, r"t\.tsv: 18 texts, of which none"),
    "empty texts": ("t.tsv", "a\t\nb\t\n" * 9, r"t\.tsv: all texts are empty"),
    "encoding": ("t.tsv", b"a\tx\nb\tK\xe4se\n", r"not utf-8 at byte 7 \(line 2\)"),
    "ragged": ("t.csv", "a,b\n1,2\n3\n", r"t\.csv, line 3: 1 columns, expected the 2 of"),
    "too long": ("t.csv", 'a,b\n1,"2\n2"\n3,4,5\n', r"t\.csv, line 4: 3 columns, expected the 2"),
    "one column": ("t.csv", "a;b\n1;2\n", r"t\.csv, line 1: expected a header of at least 2"),
    "quote": ("t.csv", 'a,b\n1,"2', r"t\.csv, line 2: unexpected end of data"),
    "after quote": ("t.csv", 'a,b\n1,"2"3\n', r"t\.csv, line 2: ',' expected after '\"'"),
    "header only": ("t.csv", "a,b\n", r"t\.csv: no label in 0 texts"),
    "many labels": (
        "t.tsv", "".join(f"{i}\tx\n" for i in range(labelled.LIMIT + 9)),
        rf"t\.tsv, line {labelled.LIMIT + 1}: more than {labelled.LIMIT} different labels",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_named_with_their_line(case, write):
    name, content, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        read_labelled(write(content, name), seq_length=10)


def test_missing_columns_are_named(write):
    for name, content in (("t.csv", CSV), ("t.tsv", CSV.replace(",", "\t"))):
        message = rf"{re.escape(name)}, line 1: no column 'text', expected one of mood, said, by"
        with pytest.raises(ValueError, match=message):
            read_labelled(
                write(content, name), text_column="text", label_column="mood", seq_length=10
            )
    with pytest.raises(ValueError, match=r"text_column is .* expected both or none"):
        read_labelled(write(CSV, "t.csv"), text_column="said", seq_length=10)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_labelled(tmp_path / "none.tsv", seq_length=10)


def test_a_file_that_changes_while_it_is_read(write, monkeypatch):
    path = write(GOOD)
    original, reads = labelled.read_rows, []

    def read(*arguments):
        reads.append(1)
        if len(reads) == 2:
            path.write_text(GOOD.replace("x", "xx"))
        return original(*arguments)

    monkeypatch.setattr(labelled, "read_rows", read)
    with pytest.raises(ValueError, match="changed while it was read"):
        read_labelled(path, seq_length=10)


# -- the embedded texts ---------------------------------------------------------------------------

SOURCE = '''"""A docstring of a module.

Its second line."""
import os  # a comment behind code

# A comment: on its own
#! and another
def f(x):
    """One line."""
    text = """not a
    docstring"""
    call(x,
         y)  # behind
    return "a string"
'''


def test_lines_of_source_are_told_apart():
    assert list(listed(SOURCE)) == [
        ("docstring", "A docstring of a module."),
        ("docstring", ""),
        ("docstring", "Its second line."),
        ("comment", "A comment: on its own"),
        ("comment", "and another"),
        ("code", "def f(x):"),
        ("docstring", "One line."),
        ("code", "call(x,"),
        ("code", 'return "a string"'),
    ]
    assert list(listed("x = (1,\n")) == []  # no program


def test_the_library_in_a_folder(tmp_path):
    body = "".join(f"value_{i} = {i}\n# It is number {i}.\n" for i in range(20))
    (tmp_path / "a.py").write_text(body)
    (tmp_path / "b.py").write_text(body)
    (tmp_path / "test").mkdir()
    (tmp_path / "test/c.py").write_text("excluded = 'a test'\n# a comment\n")
    texts = library_lines(50, root=tmp_path)
    assert texts.labels == ("code", "comment")
    found = pairs(texts)
    assert len(found) == len(set(found)) == 40
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no Python source here; give a file with --data"):
        library_lines(50, root=tmp_path / "empty")
