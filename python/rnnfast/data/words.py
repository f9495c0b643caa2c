"""Text as words: cutting it into words and punctuation marks, numbering them, writing them again.

A mark carries the spaces around it, `", "` or `" ("`, so that generated text is spaced as the
training text is, quotes and dashes included. Two words have a space between them that is no token.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnfast import checks

from .text import (
    HELD_OUT_LIMIT,
    Corpus,
    Tokens,
    checked_tokens,
    held_out_size,
    number,
    python_sources,
    read_chunks,
    standard_library_folder,
)

LINES = ("join", "keep")
UNKNOWN = "<unk>"  # no word is written so: it would be cut into three

_WORD = r"[^\W_]+(?:[_'\u2019][^\W_]+)*"  # don't and snake_case are one word each
_TOKEN = re.compile(rf"{_WORD}|\n+ *| ?([^\w\s]|_)\1* ?")
_LINE_END = re.compile(r"[^\S\n]*\n\s*")
_BLANK = re.compile(r"[^\S\n ]")
_LAST_WORD = re.compile(r"(?s).*[^\W_](?=\s)")  # and all before it
_STARTS = ("\n\n", "\n", ". ")

_DOCSTRING = re.compile(r'"""(.*?)"""', re.DOTALL)


class WordVocabulary:
    """The words and punctuation marks of a text by frequency, behind an unknown word.

    Case is kept: names stay names, and the model learns what begins a sentence. What is not
    known as it is written is looked up in lower case and capitalised, or with other spaces around
    it, and is the unknown word else.

    Parameters
    ----------
    words : sequence of str
        The tokens, as `tokens_of` cuts them; at least one, each once. They get the numbers from 1;
        0 is the unknown word.
    lines : str
        `join` makes one line of every paragraph, `keep` makes line ends tokens, with the
        indentation after them.

    Raises
    ------
    TypeError, ValueError
        If there is no word, one is no string or comes twice, or `lines` is something else.
    """

    def __init__(self, words: Sequence[str], lines: str = "join") -> None:
        given = checks.parts("vocabulary: words", words, "a sequence of strings")
        self.words = [checks.string(f"vocabulary: words[{i}]", w) for i, w in enumerate(given)]
        different = len(set(self.words))
        if not self.words or different != len(self.words):
            raise ValueError(
                f"vocabulary: words has {len(self.words)}, {different} of them different, "
                "expected at least one, each once"
            )
        self.lines = checks.choice("vocabulary: lines", lines, LINES)
        self._numbers = {word: token for token, word in enumerate(self.words, 1)}
        self._spelled = [UNKNOWN, *(w if "\n" in w else w.strip(" ") for w in self.words)]
        self._is_word = [_is_word(text) for text in (UNKNOWN[1:-1], *self._spelled[1:])]
        self._is_line_end = ["\n" in text for text in self._spelled]

    @classmethod
    def of(
        cls, counts: Counter[str], limit: int, occurrences: int = 1, lines: str = "join"
    ) -> WordVocabulary:
        """Make a vocabulary of the most frequent tokens.

        Parameters
        ----------
        counts : Counter
            How often each token comes.
        limit : int
            Largest size, with the unknown word.
        occurrences : int
            Rarer tokens are left out: the unknown word is learnt from them.
        lines : str
            As for the class.

        Raises
        ------
        TypeError, ValueError
            If an argument is of the wrong type or out of range, or no token comes often enough.
        """
        checks.instance("vocabulary: counts", counts, Counter, "a Counter")
        limit = checks.integer("vocabulary: limit", limit, 2)
        least = max(1, checks.integer("vocabulary: occurrences", occurrences, 0))
        frequent = [word for word, count in counts.items() if count >= least]
        frequent.sort(key=lambda word: (-counts[word], word))
        return cls(frequent[: limit - 1], lines)

    @property
    def description(self) -> dict[str, Any]:
        """The arguments that make the same vocabulary."""
        return {"words": self.words, "lines": self.lines}

    @property
    def unknown(self) -> int:
        """The token of all unknown words, which is never generated."""
        return 0

    @property
    def start(self) -> int:
        """What stands in for an empty prompt: the end of a paragraph, a line or a sentence."""
        return next((self._numbers[text] for text in _STARTS if text in self._numbers), 1)

    def __len__(self) -> int:
        return len(self._spelled)

    def encode(self, text: str) -> Tokens:
        """Number the words and marks of a text.

        A mark at the very end may have any spaces behind it, since none are there yet.

        Returns
        -------
        numpy.ndarray
            (N,) int32 in [0, len(self)).

        Raises
        ------
        TypeError
            If the text is no string.
        """
        words = tokens_of(checks.string("vocabulary: text", text), self.lines)
        get = self._numbers.get
        tokens = [get(word) or self._nearest(word) for word in words]
        if words and _is_mark(words[-1]) and not words[-1].endswith(" "):
            tokens[-1] = self._best({words[-1], words[-1] + " "}) or tokens[-1]
        return np.array(tokens, np.int32)

    def _nearest(self, word: str) -> int:
        """Number what is not known as it is written."""
        if _is_word(word):
            return self._best({word.lower(), word.capitalize()})
        if "\n" in word:
            return self._best({"\n" * word.count("\n"), "\n", "\n\n"})
        bare = word.strip(" ")
        return self._best({bare, f" {bare}", f"{bare} ", f" {bare} "})

    def _best(self, words: Iterable[str]) -> int:
        """Return the most frequent of these, or the unknown word."""
        known = [self._numbers[word] for word in words if word in self._numbers]
        return min(known, default=self.unknown)

    def decode(self, tokens: NDArray[np.integer[Any]]) -> str:
        """Write tokens in [0, len(self)) as text.

        Raises
        ------
        ValueError
            If they are no integers, or not in that range.
        """
        before: int | None = None
        pieces = []
        for token in map(int, checked_tokens(tokens, len(self))):
            pieces.append(self._written(token, before))
            before = token
        return "".join(pieces)

    def spell(self, token: int, before: int | None) -> str:
        """Write a token as it follows another one, None where text or a line begins.

        The space between the two is written with the second one.
        """
        token = checks.integer("vocabulary: token", token, 0, len(self) - 1)
        return self._written(token, before)

    def _written(self, token: int, before: int | None) -> str:
        text = self._spelled[token]
        return f" {text}" if before is not None and self._apart(before, token) else text

    def _apart(self, before: int, token: int) -> bool:
        if self._is_line_end[before] or self._is_line_end[token]:
            return False
        if self._is_word[before] and self._is_word[token]:
            return True
        return self._entry(before).endswith(" ") or self._entry(token).startswith(" ")

    def _entry(self, token: int) -> str:
        return self.words[token - 1] if token else UNKNOWN


def _is_word(token: str) -> bool:
    return token[0].isalnum()


def _is_mark(token: str) -> bool:
    return not _is_word(token) and "\n" not in token


def tokens_of(text: str, lines: str = "join") -> list[str]:
    """Cut a text into words, marks with the spaces around them, and ends of paragraphs or lines.

    Nothing but surplus white space is lost: the tokens can be written as the text again.

    Parameters
    ----------
    text : str
        What is cut.
    lines : str
        `join` or `keep`, as for `WordVocabulary`.
    """
    text = _LINE_END.sub(_joined if lines == "join" else _kept, _BLANK.sub(" ", text))
    return [match[0] for match in _TOKEN.finditer(text)]


def _joined(match: re.Match[str]) -> str:
    return "\n\n" if match[0].count("\n") > 1 else " "


def _kept(match: re.Match[str]) -> str:
    ends, _, indentation = match[0].rpartition("\n")
    return "\n\n" + indentation if "\n" in ends else "\n" + indentation


def whole_words(chunks: Iterable[str]) -> Iterator[str]:
    """Move the borders of a text's pieces to places before white space, after a word.

    There the tokens of the pieces are those of the whole text. A piece without such a place is
    passed on as it is.
    """
    rest = ""
    for chunk in chunks:
        text = rest + chunk
        match = _LAST_WORD.match(text)
        end = match.end() if match else len(text)
        rest = text[end:]
        yield text[:end]
    if rest:
        yield rest


def read_words(
    path: str | Path,
    encoding: str = "utf-8",
    *,
    limit: int,
    occurrences: int = 1,
    lines: str = "join",
    held_out: int = HELD_OUT_LIMIT,
) -> Corpus[WordVocabulary]:
    """Read the words of a text file, of any size: twice, piece by piece.

    Parameters
    ----------
    path : str or Path
        The file.
    encoding : str
        Any encoding that Python knows.
    limit, occurrences, lines
        Of the vocabulary, as in `WordVocabulary.of`.
    held_out : int
        Tokens that are held out at most, as in `Corpus.split`; words that come nowhere else are
        not known.

    Raises
    ------
    OSError
        If the file cannot be read.
    TypeError
        If an argument is of the wrong type.
    ValueError
        If a number is out of range, the file is empty or not in that encoding (byte and line are
        named), or no word comes often enough.
    """
    checks.path("read_words: path", path)
    return _corpus(
        str(path), lambda: read_chunks(path, encoding), limit, occurrences, lines, held_out
    )


def _corpus(
    name: str,
    chunks: Callable[[], Iterator[str]],
    limit: int,
    occurrences: int,
    lines: str,
    held_out: int,
) -> Corpus[WordVocabulary]:
    """Number the words of a text that can be read twice, and count those to be trained on."""
    limit = checks.integer(f"{name}: limit", limit, 2)
    occurrences = checks.integer(f"{name}: occurrences", occurrences, 0)
    held_out = checks.integer(f"{name}: held_out", held_out, 2, checks.MOST)
    checks.choice(f"{name}: lines", lines, LINES)
    counts: Counter[str] = Counter()
    digest = hashlib.blake2b(digest_size=16)
    last: deque[str] = deque(maxlen=held_out)
    for text in whole_words(chunks()):
        words = tokens_of(text, lines)
        counts.update(words)
        last.extend(words)
        digest.update(text.encode("utf-8", "surrogatepass"))
    total = counts.total()
    counts.subtract(itertools.islice(reversed(last), held_out_size(total, held_out)))
    if not counts or max(counts.values()) < occurrences:
        raise ValueError(f"{name}: no word comes {occurrences} times")
    vocabulary = WordVocabulary.of(counts, limit, occurrences, lines)
    tokens = number(name, whole_words(chunks()), vocabulary, total)
    return Corpus(tokens, vocabulary, name, digest.hexdigest(), "words")


def documentation(
    root: str | Path | None = None,
    *,
    limit: int,
    occurrences: int = 1,
    lines: str = "join",
    held_out: int = HELD_OUT_LIMIT,
) -> Corpus[WordVocabulary]:
    """Read the prose of the standard library's documentation.

    Paragraphs of whole sentences from its docstrings, and from the topics of `help` where the
    interpreter has them, in an order that is fixed but mixes them.

    Parameters
    ----------
    root : str or Path, optional
        Folder of the docstrings, without topics then.
    limit, occurrences, lines
        Of the vocabulary, as in `WordVocabulary.of`.
    held_out : int
        Tokens that are held out at most, as in `Corpus.split`; words that come nowhere else are
        not known.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range, there is no such paragraph, or no word
        comes often enough.
    """
    folder = standard_library_folder(root)
    documents = _docstrings(folder) | (_topics() if root is None else {})
    order = sorted(documents, key=lambda name: hashlib.blake2b(name.encode()).digest())
    text = "\n\n".join(p for name in order for p in _prose(documents[name]))
    if not text:
        raise ValueError(f"{folder}: no documentation here; give a text with --data")
    name = "the standard library's documentation"
    return _corpus(name, lambda: iter([text]), limit, occurrences, lines, held_out)


def _docstrings(folder: Path) -> dict[str, str]:
    texts = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in python_sources(folder)
    }
    return {
        name: "\n\n".join(_DOCSTRING.findall(content.decode("ascii")))
        for name, content in texts.items()
        if content.isascii()
    }


def _topics() -> dict[str, str]:
    try:
        from pydoc_data.topics import topics
    except ImportError:
        return {}
    return dict(topics)


def _prose(text: str) -> Iterator[str]:
    """Yield the paragraphs that are sentences, each in one line."""
    for paragraph in re.split(r"\n\s*\n", text):
        line = " ".join(paragraph.split())
        if line[:1].isupper() and line.endswith((".", "!", "?")) and ">>>" not in line:
            yield line
