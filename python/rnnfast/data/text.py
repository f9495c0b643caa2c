"""Text as training data: reading it and numbering its characters, whatever its size."""

from __future__ import annotations

import codecs
import hashlib
import io
import os
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnnfast import checks

Tokens = NDArray[np.int32]

CORPUS_LIMIT = 10_000_000  # characters of the standard library that are used
HELD_OUT_LIMIT = 250_000  # tokens: enough to tell models 0.01 bit apart, seconds to evaluate
_CHUNK = 1 << 20  # bytes read at a time
_MEMORY = 1 << 28  # bytes of tokens above which they lie in a file and are mapped

_NOT_PROGRAMS = {
    "site-packages", "dist-packages", "test", "tests", "idle_test",  # not the library itself
    "encodings", "pydoc_data", "_bundled",  # tables and prose
}  # fmt: skip


@runtime_checkable
class Readable(Protocol):
    """A file or pipe of bytes: `read1` returns what has come, at most so many, none at the end."""

    def read1(self, size: int, /) -> bytes:
        """Read bytes, waiting only where none has come yet."""
        ...


class Vocabulary:
    """The characters of a text, numbered in sorted order.

    Parameters
    ----------
    characters : str
        At least one, each once.

    Raises
    ------
    TypeError
        If they are no string.
    ValueError
        If there is no character, or one comes twice.
    """

    def __init__(self, characters: str) -> None:
        checks.string("vocabulary: characters", characters)
        if not characters or len(set(characters)) != len(characters):
            raise ValueError(
                f"vocabulary: characters is {characters!r}, expected at least one, each once"
            )
        self.characters = "".join(sorted(characters))
        self._codes = _code_points(self.characters)
        # The last entry, to which every larger code point is clipped, stays unknown.
        self._table = np.full(int(self._codes[-1]) + 2, -1, np.int32)
        self._table[self._codes] = np.arange(len(self.characters))

    @property
    def description(self) -> str:
        """The argument that makes the same vocabulary."""
        return self.characters

    @property
    def unknown(self) -> int | None:
        """None: no character stands for unknown ones, they are errors."""
        return None

    @property
    def start(self) -> int:
        """The line end, or else the first character: what stands in for an empty prompt."""
        return max(0, self.characters.find("\n"))

    @classmethod
    def of(cls, text: str) -> Vocabulary:
        """Make the vocabulary of a text that is not empty."""
        return cls("".join(set(checks.string("vocabulary: text", text))))

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
        TypeError
            If the text is no string.
        ValueError
            Naming the first character that is not in the vocabulary, and its position.
        """
        tokens = self.numbers(text)
        unknown = tokens < 0
        if unknown.any():
            first = int(unknown.argmax())
            raise ValueError(
                f"vocabulary: character {text[first]!r} at position {first} is not one of the "
                f"{len(self)} known"
            )
        return tokens

    def numbers(self, text: str) -> Tokens:
        """Map the characters of a text to their numbers, and those not known to -1."""
        checks.string("vocabulary: text", text)
        tokens: Tokens = self._table.take(_code_points(text), mode="clip")
        return tokens

    def decode(self, tokens: NDArray[np.integer[Any]]) -> str:
        """Turn numbers in [0, len(self)) back into text.

        Raises
        ------
        ValueError
            If they are no integers, or not in that range.
        """
        chosen: NDArray[np.uint32] = self._codes[checked_tokens(tokens, len(self))]
        return chosen.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")

    def spell(self, token: int, before: int | None) -> str:
        """Return the character of a token; what stands before makes no difference."""
        return self.characters[checks.integer("vocabulary: token", token, 0, len(self) - 1)]


def checked_tokens(tokens: ArrayLike, count: int) -> NDArray[np.integer[Any]]:
    """Refuse what are no numbers of a vocabulary of so many."""
    if np.size(tokens) == 0:
        return np.empty(0, np.int64)
    checked: NDArray[np.integer[Any]] = checks.array_like("vocabulary: tokens", tokens, "iu")
    wrong = (checked < 0) | (checked >= count)
    if wrong.any():
        first = checked[wrong][0]
        raise ValueError(f"vocabulary: tokens has {first}, expected 0 to {count - 1}")
    return checked


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint32)


class Numbering(Protocol):
    """What numbers the tokens of a text."""

    def __len__(self) -> int:
        """Return how many different ones there are."""
        ...

    def encode(self, text: str) -> Tokens:
        """Number them."""
        ...


V = TypeVar("V", bound=Numbering)


@dataclass(frozen=True)
class Corpus(Generic[V]):
    """A text as tokens, in memory or mapped from a scratch file, and where it came from."""

    tokens: NDArray[Any]
    vocabulary: V
    name: str
    digest: str
    unit: str = "characters"

    def split(self, seq_length: int, limit: int | None = None) -> tuple[NDArray[Any], NDArray[Any]]:
        """Split off the held-out end; limit and errors as in `split_tokens`."""
        return split_tokens(self.tokens, seq_length, self.name, self.unit, limit)


def held_out_size(size: int, limit: int) -> int:
    """Return how many tokens at the end of so many are held out."""
    return max(2, min(size // 10, limit))


def split_tokens(
    tokens: NDArray[Any], seq_length: int, name: str, unit: str, limit: int | None = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Split off the last tenth, 2 to `limit` tokens (`HELD_OUT_LIMIT`), as held-out text.

    Raises
    ------
    TypeError, ValueError
        If a number is no integer or out of range, or if what is left for training is shorter than
        one window with its next token.
    """
    seq_length = checks.integer(f"{name}: seq_length", seq_length, 1)
    if limit is not None:
        limit = checks.integer(f"{name}: limit", limit, 2)
    held_out = held_out_size(tokens.size, HELD_OUT_LIMIT if limit is None else limit)
    training = tokens.size - held_out
    if training < seq_length + 1:
        raise ValueError(
            f"{name}: {tokens.size} {unit} leave {max(0, training)} for training, "
            f"fewer than the {seq_length + 1} of one window of sequence length {seq_length}"
        )
    return tokens[:training], tokens[training:]


def read_corpus(path: str | Path, encoding: str = "utf-8") -> Corpus[Vocabulary]:
    """Read a text file, of any size: twice, piece by piece.

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
    TypeError
        If an argument is of the wrong type.
    ValueError
        If it is empty, or not in that encoding (byte and line are named).
    """
    checks.path("read_corpus: path", path)
    return _corpus(str(path), lambda: read_chunks(path, encoding))


def read_chunks(path: str | Path, encoding: str = "utf-8") -> Iterator[str]:
    """Read a text file piece by piece; arguments and errors as in `read_corpus`."""
    with open(path, "rb") as file:
        empty = True
        for text in decode_chunks(file, str(path), encoding):
            empty = False
            yield text
    if empty:
        raise ValueError(f"{path}: the file is empty")


def decode_chunks(file: Readable, name: str, encoding: str = "utf-8") -> Iterator[str]:
    """Decode what a file or a pipe holds, as it comes; errors as in `read_corpus`."""
    checks.instance(f"{name}: file", file, Readable, "a file or pipe of bytes")
    decoder = _decoder(name, encoding)
    lines = io.IncrementalNewlineDecoder(None, translate=True)
    offset, line = 0, 1
    while True:
        content = file.read1(_CHUNK)
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(content, final=not content)
        except UnicodeError as error:
            start = 0  # where a decoder does not tell, it has refused the beginning
            if isinstance(error, UnicodeDecodeError):
                start = offset - pending + error.start
                line += error.object.count(b"\n", 0, error.start)
            raise ValueError(
                f"{name}: not {encoding} at byte {start} (line {line}); "
                "give the file's own --encoding, such as latin-1"
            ) from None
        line += content.count(b"\n")
        text = lines.decode(text, final=not content)
        if text and offset - pending == 0:
            text = text.removeprefix("\ufeff")
        offset += len(content)
        if text:
            yield text
        if not content:
            break


def _decoder(name: str, encoding: str) -> codecs.IncrementalDecoder:
    checks.string(f"{name}: encoding", encoding)
    try:
        "".encode(encoding)  # refuses codecs that are not of text
        return codecs.getincrementaldecoder(encoding)()
    except LookupError:
        raise ValueError(f"{name}: Python knows no encoding {encoding!r}") from None


def _corpus(name: str, chunks: Callable[[], Iterator[str]]) -> Corpus[Vocabulary]:
    """Number the characters of a text that can be read twice."""
    characters: set[str] = set()
    digest = hashlib.blake2b(digest_size=16)
    size = 0
    for text in chunks():
        characters.update(text)
        digest.update(text.encode("utf-8", "surrogatepass"))
        size += len(text)
    vocabulary = Vocabulary("".join(characters))
    tokens = number(name, chunks(), vocabulary, size)
    return Corpus(tokens, vocabulary, name, digest.hexdigest())


def number(name: str, pieces: Iterator[str], vocabulary: Numbering, size: int) -> NDArray[Any]:
    """Number the tokens of a text that comes in pieces.

    Raises
    ------
    ValueError
        If there are not `size` tokens, as there were when they were counted.
    """
    tokens = token_storage(size, len(vocabulary))
    try:
        _fill(tokens, pieces, vocabulary)
    except ValueError:
        raise ValueError(f"{name}: changed while it was read") from None
    return tokens


def _fill(tokens: NDArray[Any], pieces: Iterator[str], vocabulary: Numbering) -> None:
    """Number a text; ValueError if it is not as long as its tokens, or of other characters."""
    end = 0
    for text in pieces:
        numbers = vocabulary.encode(text)
        start, end = end, end + numbers.size
        if end > tokens.size:
            break
        tokens[start:end] = numbers
    if end != tokens.size:
        raise ValueError(f"got another number of tokens than {tokens.size}")


def token_storage(size: int, kinds: int) -> NDArray[Any]:
    """Make room for tokens in [0, kinds), in a file that is deleted with them where they are many.

    What is mapped from a file need not fit into memory.
    """
    dtype = np.min_scalar_type(kinds - 1)
    if size * dtype.itemsize <= _MEMORY:
        return np.empty(size, dtype)
    with tempfile.TemporaryFile(prefix="rnnfast-") as file:
        _reserve(file.fileno(), size * dtype.itemsize)
        return np.memmap(file, dtype, "w+", shape=(size,))


def _reserve(descriptor: int, size: int) -> None:
    """Fail now if the disk is full: a write into a mapping could not, it would end the process."""
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        error.filename = tempfile.gettempdir()
        raise


def standard_library(root: str | Path | None = None) -> Corpus[Vocabulary]:
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
    TypeError, ValueError
        If `root` is no path, or holds no source.
    """
    folder = standard_library_folder(root)
    text = standard_library_text(folder)
    return _corpus("the standard library's source", lambda: iter([text]))


def standard_library_folder(root: str | Path | None = None) -> Path:
    """Return the folder of the interpreter's standard library, or the given one."""
    if root is not None:
        checks.path("standard library: root", root)
    return Path(root or sysconfig.get_path("stdlib"))


def standard_library_text(folder: Path) -> str:
    """Read what `standard_library` makes a corpus of."""
    pieces: list[str] = []
    size = 0
    for path in python_sources(folder):
        content = path.read_bytes()
        if content.isascii() and content:
            pieces.append(content.decode("ascii").replace("\r\n", "\n"))
            size += len(pieces[-1])
        if size >= CORPUS_LIMIT:
            break
    if not size:
        raise ValueError(f"{folder}: no Python source here; give a text with --data")
    return "".join(pieces)[:CORPUS_LIMIT]


def python_sources(folder: Path) -> list[Path]:
    """List the programs in a folder, in an order that is fixed but mixes the packages."""

    def order(path: Path) -> bytes:
        return hashlib.blake2b(path.relative_to(folder).as_posix().encode()).digest()

    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = set(folders) - _NOT_PROGRAMS  # not descended into: they may hold far more
        found += [Path(parent, name) for name in names if name.endswith(".py")]
    return sorted((path for path in found if path.is_file()), key=order)
