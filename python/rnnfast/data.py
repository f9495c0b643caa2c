"""Text as training data: reading it, numbering its characters, cutting it into streams.

B streams run side by side, T steps are cut from each at a time.
"""

from __future__ import annotations

import hashlib
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int32]

CORPUS_LIMIT = 10_000_000  # characters of the standard library that are used
HELD_OUT_LIMIT = 250_000  # characters: enough to tell models 0.01 bit apart, seconds to evaluate

_NOT_PROGRAMS = {
    "site-packages", "dist-packages", "test", "tests", "idle_test",  # not the library itself
    "encodings", "pydoc_data", "_bundled",  # tables and prose
}  # fmt: skip


class Vocabulary:
    """The characters of a text, numbered in sorted order.

    Parameters
    ----------
    characters : str
        At least one, each once.

    Raises
    ------
    ValueError
        If there is no character, or one comes twice.
    """

    def __init__(self, characters: str) -> None:
        if not characters or len(set(characters)) != len(characters):
            raise ValueError("vocabulary: expected at least one character, each once")
        self.characters = "".join(sorted(characters))
        self._codes = _code_points(self.characters)
        # The last entry, to which every larger code point is clipped, stays unknown.
        self._table = np.full(int(self._codes[-1]) + 2, -1, np.int32)
        self._table[self._codes] = np.arange(len(self.characters))

    @classmethod
    def of(cls, text: str) -> Vocabulary:
        """Make the vocabulary of a text that is not empty."""
        return cls("".join(set(text)))

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> Tokens:
        """Map the characters of a text to their numbers.

        Returns
        -------
        numpy.ndarray
            (len(text),) int32 in [0, len(self)).

        Raises
        ------
        ValueError
            Naming the first character that is not in the vocabulary, and its position.
        """
        tokens: Tokens = self._table.take(_code_points(text), mode="clip")
        unknown = tokens < 0
        if unknown.any():
            first = int(unknown.argmax())
            raise ValueError(
                f"vocabulary: character {text[first]!r} at position {first} is not one of the "
                f"{len(self)} known"
            )
        return tokens

    def decode(self, tokens: NDArray[np.integer[Any]]) -> str:
        """Turn numbers in [0, len(self)) back into text; others raise IndexError."""
        chosen = self._codes[np.asarray(tokens, np.int64)]
        return chosen.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint32)


@dataclass(frozen=True)
class Corpus:
    """A text and where it came from."""

    text: str
    name: str

    @cached_property
    def digest(self) -> str:
        """Fingerprint of the text, by which a resumed run knows it again."""
        return hashlib.blake2b(
            self.text.encode("utf-8", "surrogatepass"), digest_size=16
        ).hexdigest()

    def split(self, seq_length: int) -> tuple[str, str]:
        """Split off the last tenth, 2 to `HELD_OUT_LIMIT` characters, as held-out text.

        Raises
        ------
        ValueError
            If what is left for training is shorter than one window with its next character.
        """
        held_out = max(2, min(len(self.text) // 10, HELD_OUT_LIMIT))
        training = len(self.text) - held_out
        if training < seq_length + 1:
            raise ValueError(
                f"{self.name}: {len(self.text)} characters leave {training} for training, "
                f"fewer than the {seq_length + 1} of one window of sequence length {seq_length}"
            )
        return self.text[:training], self.text[training:]


def read_corpus(path: str | Path, encoding: str = "utf-8") -> Corpus:
    """Read a text file.

    Parameters
    ----------
    path : str or Path
        The file. Line ends become a newline character alone; a byte-order mark is dropped.
    encoding : str
        Any encoding that Python knows.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is empty, or not in that encoding (byte and line are named).
    """
    content = Path(path).read_bytes()
    try:
        text = content.decode(encoding)
    except LookupError:
        raise ValueError(f"{path}: Python knows no encoding {encoding!r}") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}: not {encoding} at byte {error.start} (line {line}); "
            "give the file's own --encoding, such as latin-1"
        ) from None
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    if not text:
        raise ValueError(f"{path}: the file is empty")
    return Corpus(text, str(path))


def standard_library(root: str | Path | None = None) -> Corpus:
    """Read the source of the running interpreter's standard library.

    Files that are pure ASCII, without tests, tables and installed packages, in an order that is
    fixed but mixes the packages, so that the held-out end resembles the rest; at most
    `CORPUS_LIMIT` characters.

    Parameters
    ----------
    root : str or Path, optional
        Folder to read in place of the interpreter's own.

    Raises
    ------
    ValueError
        If the folder holds no source.
    """
    folder = Path(root or sysconfig.get_path("stdlib"))
    pieces: list[str] = []
    size = 0
    for path in _sources(folder):
        content = path.read_bytes()
        if content.isascii() and content:
            pieces.append(content.decode("ascii").replace("\r\n", "\n"))
            size += len(pieces[-1])
        if size >= CORPUS_LIMIT:
            break
    if not size:
        raise ValueError(f"{folder}: no Python source here; give a text with --data")
    return Corpus("".join(pieces)[:CORPUS_LIMIT], "the standard library's source")


def _sources(folder: Path) -> list[Path]:
    def order(path: Path) -> bytes:
        return hashlib.blake2b(path.relative_to(folder).as_posix().encode()).digest()

    found = (p for p in folder.rglob("*.py") if p.is_file())
    return sorted(
        (p for p in found if not _NOT_PROGRAMS & set(p.relative_to(folder).parts)), key=order
    )


class TokenStreams:
    """Equal consecutive parts of a text, side by side: batches of truncated BPTT.

    The state after one window is the initial state of the next, so that every stream is read
    in order from its start to its end.

    Parameters
    ----------
    tokens : numpy.ndarray
        (N,) integers.
    batch : int
        Streams wanted; fewer are made where the text is too short for one window in each.
    seq_length : int
        T, steps of one window.

    Attributes
    ----------
    batch : int
        B, streams made.
    windows : int
        Full windows in each stream.

    Raises
    ------
    ValueError
        If there are fewer than two tokens.
    """

    def __init__(self, tokens: Tokens, batch: int, seq_length: int) -> None:
        if tokens.size < 2:
            raise ValueError(f"streams: got {tokens.size} tokens, expected at least 2")
        targets = tokens.size - 1
        self.seq_length = seq_length
        self.batch = max(1, min(batch, targets // seq_length))
        length = targets // self.batch
        self.windows = length // seq_length
        # One row more than steps: the targets are the same rows, one later.
        self._rows = np.empty((length + 1, self.batch), tokens.dtype)
        self._rows[:-1] = tokens[: length * self.batch].reshape(self.batch, length).T
        self._rows[-1] = tokens[length : length * self.batch + 1 : length]

    def window(self, index: int) -> tuple[Tokens, Tokens]:
        """Cut window `index` < `windows`: inputs and next-token targets (T, B), as views."""
        return self._cut(index * self.seq_length, (index + 1) * self.seq_length)

    def __iter__(self) -> Iterator[tuple[Tokens, Tokens]]:
        """All windows in order, the last as short as the streams' ends leave it."""
        length = len(self._rows) - 1
        for start in range(0, length, self.seq_length):
            yield self._cut(start, min(start + self.seq_length, length))

    def _cut(self, start: int, stop: int) -> tuple[Tokens, Tokens]:
        return self._rows[start:stop], self._rows[start + 1 : stop + 1]
