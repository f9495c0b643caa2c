"""Vocabularies, and texts of any size read as tokens."""

import codecs
import errno
import os
import tempfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnfast.data import Corpus, Vocabulary, read_corpus, standard_library, text


def text_of(corpus):
    return corpus.vocabulary.decode(corpus.tokens)


@given(st.text(min_size=1))
def test_vocabulary_round_trip(letters):
    vocabulary = Vocabulary.of(letters)
    tokens = vocabulary.encode(letters)
    assert vocabulary.characters == "".join(sorted(set(letters)))
    assert tokens.dtype == np.int32
    assert tokens.tolist() == [vocabulary.characters.index(c) for c in letters]
    assert vocabulary.decode(tokens) == letters
    assert "".join(vocabulary.spell(int(token), None) for token in tokens) == letters


@given(st.text(min_size=1), st.text(), st.characters())
def test_vocabulary_names_the_first_unknown_character(known, letters, extra):
    vocabulary = Vocabulary.of(known)
    letters += extra
    unknown = [i for i, c in enumerate(letters) if c not in known]
    if not unknown:
        assert vocabulary.decode(vocabulary.encode(letters)) == letters
        return
    with pytest.raises(ValueError, match=f"at position {unknown[0]} is not"):
        vocabulary.encode(letters)


def test_vocabulary_refuses():
    for wrong in ("", "abca"):
        with pytest.raises(ValueError, match="each once"):
            Vocabulary(wrong)
    with pytest.raises(ValueError, match="vocabulary: tokens has"):
        Vocabulary("ab").decode(np.array([2]))
    assert Vocabulary("ab").encode("").shape == (0,)


def test_a_line_end_or_the_first_character_stands_in_for_no_prompt():
    for characters, start in (("ba", "a"), ("b\na\t", "\n")):
        vocabulary = Vocabulary(characters)
        assert vocabulary.characters[vocabulary.start] == start


def test_read_corpus(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(codecs.BOM_UTF8 + "Käse\r\nund\nBrot €\n".encode())
    corpus = read_corpus(path)
    assert text_of(corpus) == "Käse\nund\nBrot €\n"
    assert corpus.name == str(path)
    path.write_bytes("Käse".encode("utf-16"))
    assert text_of(read_corpus(path, "utf-16")) == "Käse"
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
    assert text_of(read_corpus(path, "latin-1")) == "one\ntwo Käse"
    for wrong in ("latin-one", "hex", "rot13"):
        with pytest.raises(ValueError, match=f"no encoding '{wrong}'"):
            read_corpus(path, wrong)


CHUNKS = (1, 2, 3, 5, 1 << 20)


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "gb18030"])
def test_pieces_join_to_the_text(tmp_path, monkeypatch, chunk, encoding):
    path = tmp_path / "text.txt"
    written = "K\u00e4se\r\n\r\nund\rBrot \u20ac \U0001f9c0\r"
    path.write_bytes(written.encode(encoding))
    whole = read_corpus(path, encoding)
    monkeypatch.setattr(text, "_CHUNK", chunk)
    corpus = read_corpus(path, encoding)
    assert text_of(corpus) == "K\u00e4se\n\nund\nBrot \u20ac \U0001f9c0\n"
    assert corpus.digest == whole.digest


@pytest.mark.parametrize("chunk", CHUNKS)
def test_a_byte_order_mark_is_dropped_at_the_start_alone(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(text, "_CHUNK", chunk)
    path = tmp_path / "text.txt"
    path.write_bytes(codecs.BOM_UTF8 + b"a" + codecs.BOM_UTF8 + b"b")
    assert text_of(read_corpus(path)) == "a\ufeffb"
    path.write_bytes(codecs.BOM_UTF8)
    with pytest.raises(ValueError, match="the file is empty"):
        read_corpus(path)


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize(
    ("content", "byte", "line"),
    [
        (b"\xff", 0, 1),
        (b"one\ntwo K\xe4se\n", 9, 2),
        ("\u20ac\n\u20ac\n\u20ac".encode()[:-1], 8, 3),  # cut off within a character
        ("\u20ac\n\n".encode() + b"\xe2\x82\n", 5, 3),
    ],
)
def test_what_is_no_text_is_named_by_byte_and_line(
    tmp_path, monkeypatch, chunk, content, byte, line
):
    monkeypatch.setattr(text, "_CHUNK", chunk)
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"not utf-8 at byte {byte} \(line {line}\);"):
        read_corpus(path)


def test_tokens_are_as_small_as_their_number_allows(tmp_path):
    path = tmp_path / "text.txt"
    for kinds, dtype in ((200, np.uint8), (256, np.uint8), (257, np.uint16)):
        path.write_text("".join(chr(0x4E00 + i) for i in range(kinds)), encoding="utf-8")
        assert read_corpus(path).tokens.dtype == dtype


def test_many_tokens_are_mapped_from_a_file_that_is_gone(tmp_path, monkeypatch, rng):
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    path = tmp_path / "text.txt"
    letters = "".join(rng.choice(list("abc\u00e4\n"), size=1000))
    path.write_text(letters, encoding="utf-8")
    kept = read_corpus(path)
    assert not isinstance(kept.tokens, np.memmap)
    monkeypatch.setattr(text, "_MEMORY", 999)
    monkeypatch.setattr(text, "_CHUNK", 64)
    mapped = read_corpus(path)
    assert isinstance(mapped.tokens, np.memmap)
    assert os.listdir(folder) == []
    np.testing.assert_array_equal(mapped.tokens, kept.tokens)
    assert mapped.digest == kept.digest
    training, held_out = mapped.split(seq_length=10)
    assert isinstance(training, np.memmap)
    assert (training.size, held_out.size) == (900, 100)


def test_a_full_disk_is_told_before_anything_is_mapped(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(text, "_MEMORY", 0)
    monkeypatch.setattr(os, "posix_fallocate", full)
    path = tmp_path / "text.txt"
    path.write_text("abc", encoding="utf-8")
    with pytest.raises(OSError, match="No space left") as caught:
        read_corpus(path)
    assert caught.value.filename == tempfile.gettempdir()


@pytest.mark.parametrize("later", ["ab", "abcabcab", "abc!"])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch, later):
    path = tmp_path / "text.txt"
    path.write_text("abcabc", encoding="utf-8")
    storage = text.token_storage

    def meanwhile(size, kinds):
        path.write_text(later, encoding="utf-8")
        return storage(size, kinds)

    monkeypatch.setattr(text, "token_storage", meanwhile)
    with pytest.raises(ValueError, match=r"text\.txt: changed while it was read"):
        read_corpus(path)


def corpus_of(letters):
    vocabulary = Vocabulary.of(letters)
    return Corpus(vocabulary.encode(letters), vocabulary, "letters", "")


def test_split_keeps_a_tenth_up_to_a_limit(rng):
    corpus = corpus_of("".join(rng.choice(list("abcdefgh"), size=1000)))
    training, held_out = corpus.split(seq_length=50)
    np.testing.assert_array_equal(np.concatenate([training, held_out]), corpus.tokens)
    assert held_out.size == 100
    np.testing.assert_array_equal(corpus.split(50, limit=30)[1], corpus.tokens[-30:])


def test_split_needs_one_window():
    corpus = corpus_of("abcdefghijklm")
    parts = corpus.split(seq_length=10)
    assert [corpus.vocabulary.decode(part) for part in parts] == ["abcdefghijk", "lm"]
    with pytest.raises(ValueError, match=r"letters: 13 characters leave 11 .* than the 12 of"):
        corpus.split(seq_length=11)


def test_standard_library():
    corpus, again = standard_library(), standard_library()
    assert (again.digest, again.tokens.size) == (corpus.digest, corpus.tokens.size)
    source = text_of(corpus)
    assert source.isascii()
    assert "\r" not in source
    assert 1_000_000 < len(source) <= text.CORPUS_LIMIT
    assert "def namedtuple(" in source


def test_standard_library_picks_files(tmp_path, monkeypatch):
    files = {
        "b.py": "beta = 1\n", "pack/a.py": "alpha = 2\n", "empty.py": "",
        "test/t.py": "no", "pack/tests/u.py": "no", "site-packages/v.py": "no",
        "note.txt": "no", "umlaut.py": "# no: ä\n",
    }  # fmt: skip
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    source = text_of(standard_library(tmp_path))
    assert sorted(source.splitlines()) == ["alpha = 2", "beta = 1"]
    monkeypatch.setattr(text, "CORPUS_LIMIT", 12)
    assert text_of(standard_library(tmp_path)) == source[:12]


def test_standard_library_without_source(tmp_path):
    with pytest.raises(ValueError, match="no Python source here; give a text with --data"):
        standard_library(tmp_path)
