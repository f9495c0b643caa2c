"""Vocabularies, reading of texts, and the streams cut from them."""

import codecs
import random
import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnfast import data
from rnnfast.data import Corpus, TokenStreams, Vocabulary, read_corpus, standard_library


@given(st.text(min_size=1))
def test_vocabulary_round_trip(text):
    vocabulary = Vocabulary.of(text)
    tokens = vocabulary.encode(text)
    assert vocabulary.characters == "".join(sorted(set(text)))
    assert tokens.dtype == np.int32
    assert tokens.tolist() == [vocabulary.characters.index(c) for c in text]
    assert vocabulary.decode(tokens) == text


@given(st.text(min_size=1), st.text(), st.characters())
def test_vocabulary_names_the_first_unknown_character(known, text, extra):
    vocabulary = Vocabulary.of(known)
    text += extra
    unknown = [i for i, c in enumerate(text) if c not in known]
    if not unknown:
        assert vocabulary.decode(vocabulary.encode(text)) == text
        return
    with pytest.raises(ValueError, match=f"at position {unknown[0]} is not"):
        vocabulary.encode(text)


def test_vocabulary_refuses():
    for wrong in ("", "abca"):
        with pytest.raises(ValueError, match="each once"):
            Vocabulary(wrong)
    with pytest.raises(IndexError):
        Vocabulary("ab").decode(np.array([2]))
    assert Vocabulary("ab").encode("").shape == (0,)


def test_read_corpus(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(codecs.BOM_UTF8 + "Käse\r\nund\nBrot €\n".encode())
    corpus = read_corpus(path)
    assert corpus.text == "Käse\nund\nBrot €\n"
    assert corpus.name == str(path)
    path.write_bytes("Käse".encode("utf-16"))
    assert read_corpus(path, "utf-16").text == "Käse"
    assert read_corpus(path, "utf-16").digest != corpus.digest


def test_read_corpus_refuses(tmp_path):
    path = tmp_path / "text.txt"
    with pytest.raises(FileNotFoundError):
        read_corpus(path)
    with pytest.raises(IsADirectoryError):
        read_corpus(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"text\.txt: the file is empty"):
        read_corpus(path)
    path.write_bytes(codecs.BOM_UTF8)
    with pytest.raises(ValueError, match="empty"):
        read_corpus(path)
    path.write_bytes(b"one\ntwo K" + "äse".encode("latin-1"))
    with pytest.raises(ValueError, match=r"not utf-8 at byte 9 \(line 2\).*--encoding"):
        read_corpus(path)
    assert read_corpus(path, "latin-1").text == "one\ntwo Käse"
    with pytest.raises(ValueError, match="no encoding 'latin-one'"):
        read_corpus(path, "latin-one")


def test_split_keeps_a_tenth_up_to_a_limit(monkeypatch):
    letters = "".join(random.Random(3).choices(string.ascii_lowercase, k=1000))
    training, held_out = Corpus(letters, "letters").split(seq_length=50)
    assert training + held_out == letters
    assert len(held_out) == 100
    monkeypatch.setattr(data, "HELD_OUT_LIMIT", 30)
    assert Corpus(letters, "letters").split(seq_length=50)[1] == letters[-30:]


def test_split_needs_one_window():
    text = "abcdefghijklm"
    assert Corpus(text, "letters").split(seq_length=10) == ("abcdefghijk", "lm")
    with pytest.raises(ValueError, match=r"letters: 13 characters leave 11 .* than the 12 of"):
        Corpus(text, "letters").split(seq_length=11)


def test_standard_library():
    corpus = standard_library()
    assert corpus.text == standard_library().text
    assert corpus.text.isascii()
    assert "\r" not in corpus.text
    assert 1_000_000 < len(corpus.text) <= data.CORPUS_LIMIT
    assert "def namedtuple(" in corpus.text


def test_standard_library_picks_files(tmp_path, monkeypatch):
    files = {
        "b.py": "beta = 1\n", "pack/a.py": "alpha = 2\n", "empty.py": "",
        "test/t.py": "no", "pack/tests/u.py": "no", "site-packages/v.py": "no",
        "note.txt": "no", "umlaut.py": "# no: ä\n",
    }  # fmt: skip
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    text = standard_library(tmp_path).text
    assert sorted(text.splitlines()) == ["alpha = 2", "beta = 1"]
    monkeypatch.setattr(data, "CORPUS_LIMIT", 12)
    assert standard_library(tmp_path).text == text[:12]


def test_standard_library_without_source(tmp_path):
    with pytest.raises(ValueError, match="no Python source here; give a text with --data"):
        standard_library(tmp_path)


@given(st.integers(2, 300), st.integers(1, 9), st.integers(1, 40))
def test_streams_are_the_text_side_by_side(size, batch, seq_length):
    tokens = np.random.default_rng(size).integers(1000, size=size).astype(np.int32)
    streams = TokenStreams(tokens, batch, seq_length)
    assert 1 <= streams.batch <= batch
    length = (size - 1) // streams.batch
    assert streams.windows == length // seq_length
    assert streams.windows >= 1 or size - 1 < seq_length
    pairs = list(streams)
    inputs = np.concatenate([x for x, _ in pairs]).T
    targets = np.concatenate([y for _, y in pairs]).T
    used = length * streams.batch
    np.testing.assert_array_equal(inputs.reshape(-1), tokens[:used])
    np.testing.assert_array_equal(targets.reshape(-1), tokens[1 : used + 1])
    for index in range(streams.windows):
        for one, other in zip(streams.window(index), pairs[index], strict=True):
            assert one.shape == (seq_length, streams.batch)
            assert one.flags.c_contiguous
            np.testing.assert_array_equal(one, other)


def test_streams_use_all_they_can():
    tokens = np.random.default_rng(0).integers(9, size=1001).astype(np.int32)
    assert TokenStreams(tokens, 4, 100).batch == 4
    assert TokenStreams(tokens, 40, 100).batch == 10
    with pytest.raises(ValueError, match="got 1 tokens, expected at least 2"):
        TokenStreams(tokens[:1], 1, 1)
