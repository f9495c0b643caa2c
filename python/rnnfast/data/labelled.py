"""Labelled texts as training data: reading them, holding some out, cutting batches.

N texts, T time steps, B texts side by side.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnnfast import checks

from .hiding import Hiding
from .listing import listed_lines
from .shuffle import ALL, ShuffledBatches
from .text import Tokens, Vocabulary, read_chunks, standard_library_folder, token_storage

LIMIT = 1000  # different labels: more are rather texts in the labels' place
LIBRARY_LIMIT = 20_000  # lines of the standard library that are used
_PIECE = 1 << 20  # tokens renumbered at a time
_HIDING = 1  # third number of the seeds of what is hidden: those of orders have two


class Row(NamedTuple):
    """A labelled text and the line that it ends in."""

    line: int
    label: str
    text: str


class TextBatch(NamedTuple):
    """Texts side by side.

    Attributes
    ----------
    tokens : numpy.ndarray
        (T, B) int32, padded behind each text's end.
    lengths : numpy.ndarray
        (B,) int64.
    targets : numpy.ndarray
        (B,) int64 numbers of the labels.
    """

    tokens: Tokens
    lengths: NDArray[np.int64]
    targets: NDArray[np.int64]


class OpenVocabulary(Vocabulary):
    """A vocabulary with one symbol more, for every character that it does not have.

    Parameters
    ----------
    characters : str
        At least one, each once.
    """

    @property
    def unknown(self) -> int:
        """The last symbol, which stands for all other characters."""
        return len(self.characters)

    def __len__(self) -> int:
        return len(self.characters) + 1

    def encode(self, text: str) -> Tokens:
        """Map the characters of a text to their numbers; (len(text),) int32.

        Raises
        ------
        TypeError
            If the text is no string.
        """
        tokens = self.numbers(text)
        tokens[tokens < 0] = self.unknown
        return tokens


def pad(sequences: Sequence[Tokens], rows: int = 0) -> tuple[Tokens, NDArray[np.int64]]:
    """Lay sequences side by side.

    Parameters
    ----------
    sequences : sequence of numpy.ndarray
        Each (length,) integers.
    rows : int, optional
        Sequences wanted at least; empty ones are added.

    Returns
    -------
    tokens : numpy.ndarray
        (T, B) int32, T the longest length or 1; zeros behind each sequence's end.
    lengths : numpy.ndarray
        (B,).

    Raises
    ------
    TypeError, ValueError
        If the sequences are no arrays of integers, or `rows` is negative.
    """
    sequences = checks.parts("pad: sequences", sequences, "a sequence of arrays")
    for i, sequence in enumerate(sequences):
        checks.array(f"pad: sequences[{i}]", sequence, "iu")
        checks.shape(f"pad: sequences[{i}]", sequence, (sequence.size,), "(length,)")
    rows = checks.integer("pad: rows", rows, 0)
    lengths = np.zeros(max(rows, len(sequences)), np.int64)
    lengths[: len(sequences)] = [len(sequence) for sequence in sequences]
    tokens = np.zeros((max(1, lengths.max(initial=0)), lengths.size), np.int32)
    for column, sequence in enumerate(sequences):
        tokens[: len(sequence), column] = sequence
    return tokens, lengths


@dataclass(frozen=True, eq=False)
class LabelledTexts:
    """Texts as tokens, in memory or mapped from a scratch file, with their labels.

    Attributes
    ----------
    tokens : numpy.ndarray
        Those of all texts, one behind the other, each cut to the length asked for.
    starts : numpy.ndarray
        (N + 1,) where each text starts.
    targets : numpy.ndarray
        (N,) numbers of the labels.
    held_out : numpy.ndarray
        (N,) whether a text is held out.
    labels : tuple of str
        In sorted order.
    vocabulary : OpenVocabulary
        The characters of the training part.
    name, digest : str
        Where they came from, and a fingerprint.
    """

    tokens: NDArray[Any]
    starts: NDArray[np.int64]
    targets: NDArray[np.int64]
    held_out: NDArray[np.bool_]
    labels: tuple[str, ...]
    vocabulary: OpenVocabulary
    name: str
    digest: str

    def __len__(self) -> int:
        return self.targets.size

    def gather(self, chosen: NDArray[np.intp]) -> TextBatch:
        """Lay the chosen texts side by side."""
        texts = [self.tokens[self.starts[i] : self.starts[i + 1]] for i in chosen]
        return TextBatch(*pad(texts), self.targets[chosen])

    def counts(self) -> NDArray[np.int64]:
        """Count the training texts of each label."""
        return np.bincount(self.targets[~self.held_out], minlength=len(self.labels))

    def test_batches(self, batch: int) -> Iterator[TextBatch]:
        """All held-out texts, in order of their lengths, which makes batches cheap.

        Raises
        ------
        TypeError, ValueError
            If `batch` is no integer of at least 1.
        """
        batch = checks.integer("batches: batch", batch, 1)
        chosen = np.flatnonzero(self.held_out)
        chosen = chosen[np.argsort(np.diff(self.starts)[chosen], kind="stable")]
        for start in range(0, chosen.size, batch):
            yield self.gather(chosen[start : start + batch])


class TextBatches:
    """Batches of the training texts, in an order that is new in every epoch.

    Parameters
    ----------
    texts : LabelledTexts
        The texts.
    batch : int
        B, texts side by side; fewer where there are fewer.
    seed : int
        Of the order and of what is masked.
    hiding : Hiding, optional
        What is replaced by the unknown character, others each time.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range.
    """

    def __init__(
        self, texts: LabelledTexts, batch: int, seed: int, hiding: Hiding | None = None
    ) -> None:
        checks.instance("batches: texts", texts, LabelledTexts, "LabelledTexts")
        if hiding is not None:
            checks.instance("batches: hiding", hiding, Hiding, "None or a Hiding")
        self._texts, self._seed, self._hiding = texts, seed, hiding or Hiding()
        self._training = np.flatnonzero(~texts.held_out)
        self._shuffled = ShuffledBatches(self._training.size, batch, seed)
        self.batch = self._shuffled.batch

    def __len__(self) -> int:
        """Return the number of full batches in an epoch."""
        return len(self._shuffled)

    def cut(self, index: int, part: slice = ALL) -> TextBatch:
        """Cut a batch.

        Parameters
        ----------
        index : int
            From 0, counted through the epochs.
        part : slice, optional
            Which of the B texts.

        Returns
        -------
        TextBatch
            As long as the longest of all B.

        Raises
        ------
        TypeError, ValueError
            If the index is no integer, or negative, or the part no slice.
        """
        checks.instance("batches: part", part, slice, "a slice")
        batch = self._texts.gather(self._training[self._shuffled.cut(index)])
        chance = np.random.default_rng([self._seed, index, _HIDING])
        self._hiding.hide(batch.tokens, self._texts.vocabulary, chance)
        tokens = np.ascontiguousarray(batch.tokens[:, part])
        return TextBatch(tokens, batch.lengths[part], batch.targets[part])


# -- files --------------------------------------------------------------------------------------


def read_labelled(
    path: str | Path,
    *,
    encoding: str = "utf-8",
    text_column: str | None = None,
    label_column: str | None = None,
    seq_length: int,
    seed: int = 0,
) -> LabelledTexts:
    """Read labelled texts from a file of any size: twice, piece by piece.

    A file whose name ends in `.csv` has columns separated by commas, named in its first line; the
    label is in the first and the text in the second unless they are named. Any other file has a
    label, a tab and a text in each line, and no header, unless columns are named: then its columns
    are separated by tabs and its first line names them. Empty lines are skipped.

    Parameters
    ----------
    path : str or Path
        The file.
    encoding : str
        Any encoding that Python knows.
    text_column, label_column : str, optional
        Names of the columns; both or none.
    seq_length : int
        Characters of a text that are used.
    seed : int
        Of the choice of the held-out fifth.

    Returns
    -------
    LabelledTexts
        A fifth of the texts of each label is held out, by a hash of the text, so that equal texts
        of a label are never divided and the order of the lines does not matter.

    Raises
    ------
    OSError
        If the file cannot be read.
    TypeError
        If an argument is of the wrong type.
    ValueError
        If a number is out of range, or the file is not such a file (the line is named), has fewer
        than two labels or too few texts.
    """
    checks.path("read_labelled: path", path)
    for name, column in (("text_column", text_column), ("label_column", label_column)):
        if column is not None:
            checks.string(f"read_labelled: {name}", column)
    if (text_column is None) != (label_column is None):
        raise ValueError(
            f"read_labelled: text_column is {text_column!r} and label_column {label_column!r}, "
            "expected both or none"
        )
    wanted = None if text_column is None or label_column is None else (label_column, text_column)
    path = Path(path)
    return number_texts(str(path), lambda: read_rows(path, encoding, wanted), seq_length, seed)


def read_rows(path: Path, encoding: str, wanted: tuple[str, str] | None) -> Iterator[Row]:
    """Read the rows of a file; `wanted` names the columns of label and text."""
    lines = itertools.chain.from_iterable(line_lists(read_chunks(path, encoding)))
    comma = path.suffix.lower() == ".csv"
    rows = _table(path, lines, comma, wanted) if comma or wanted else _tabbed(path, lines)
    for line, label, text in rows:
        tidy = " ".join(label.split())
        if not tidy:
            raise ValueError(f"{path}, line {line}: the label is empty")
        yield Row(line, tidy, text)


def line_lists(chunks: Iterable[str]) -> Iterator[list[str]]:
    """Split pieces of a text into lines: for each piece those that end in it."""
    open_line: list[str] = []
    for chunk in chunks:
        *lines, rest = chunk.split("\n")
        if lines:
            lines[0] = "".join([*open_line, lines[0]])
            open_line = []
            yield lines
        open_line.append(rest)
    if any(open_line):
        yield ["".join(open_line)]


def _tabbed(path: Path, lines: Iterable[str]) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        label, tab, text = line.partition("\t")
        if not tab:
            raise ValueError(f"{path}, line {number}: no tab, expected label<TAB>text")
        yield Row(number, label, text)


def _table(
    path: Path, lines: Iterable[str], comma: bool, wanted: tuple[str, str] | None
) -> Iterator[Row]:
    form: dict[str, Any] = (
        {"delimiter": ","} if comma else {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    )
    reader = csv.reader((line + "\n" for line in lines), strict=True, **form)
    try:
        header = next(filter(None, reader), [])
        label, text = _columns(f"{path}, line {reader.line_num}", header, wanted)
        for row in filter(None, reader):
            if len(row) != len(header):
                raise ValueError(
                    f"{path}, line {reader.line_num}: {len(row)} columns, expected the "
                    f"{len(header)} of the header"
                )
            yield Row(reader.line_num, row[label], row[text])
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from None


def _columns(where: str, header: list[str], wanted: tuple[str, str] | None) -> tuple[int, int]:
    """Find the columns of label and text."""
    if wanted is None:
        if len(header) < 2:
            raise ValueError(f"{where}: expected a header of at least 2 columns, got {header}")
        return 0, 1
    for name in wanted:
        if name not in header:
            raise ValueError(f"{where}: no column {name!r}, expected one of {', '.join(header)}")
    return header.index(wanted[0]), header.index(wanted[1])


def library_lines(seq_length: int, seed: int = 0, root: str | Path | None = None) -> LabelledTexts:
    """Label lines of the standard library's source: code, comment or docstring.

    The lines are stripped of indentation and of the marks that would give the answer away, and
    each comes once; `LIBRARY_LIMIT` of them.

    Parameters
    ----------
    seq_length, seed : int
        As for `read_labelled`.
    root : str or Path, optional
        Folder to read in place of the interpreter's own.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range, or the folder holds too little source.
    """
    folder = standard_library_folder(root)
    found = list(itertools.islice(listed_lines(folder), LIBRARY_LIMIT))
    if not found:
        raise ValueError(f"{folder}: no Python source here; give a file with --data")
    rows = [Row(number, label, text) for number, (label, text) in enumerate(found, 1)]
    name = "lines of the standard library's source"
    return number_texts(name, lambda: iter(rows), seq_length, seed)


# -- numbering ----------------------------------------------------------------------------------


class _Survey:
    """What the first reading finds."""

    def __init__(self, name: str, seq_length: int, seed: int) -> None:
        self._name, self._seq_length, self._key = name, seq_length, str(seed).encode()
        self.numbers: dict[str, int] = {}
        self.characters: set[str] = set()
        self.lengths, self.targets, self.hashes = array("q"), array("q"), array("Q")
        self.digest = hashlib.blake2b(digest_size=16)

    def add(self, row: Row) -> None:
        """Take in a row."""
        content = row.text.encode("utf-8", "surrogatepass")
        hashed = hashlib.blake2b(content, digest_size=8, key=self._key[:64])
        used = row.text[: self._seq_length]
        self.targets.append(self.numbers.setdefault(row.label, len(self.numbers)))
        if len(self.numbers) > LIMIT:
            raise ValueError(
                f"{self._name}, line {row.line}: more than {LIMIT} different labels; "
                "are they in another column?"
            )
        self.lengths.append(len(used))
        self.hashes.append(int.from_bytes(hashed.digest()))
        self.characters.update(used)
        self.digest.update(row.label.encode("utf-8", "surrogatepass") + b"\t" + content + b"\n")

    def check(self) -> None:
        """Refuse what nothing can be learnt from."""
        if len(self.numbers) < 2:
            got = f"only the label {next(iter(self.numbers))!r}" if self.numbers else "no label"
            raise ValueError(
                f"{self._name}: {got} in {len(self.targets)} texts, expected at least 2 labels"
            )
        if not self.characters:
            raise ValueError(f"{self._name}: all texts are empty")


def number_texts(
    name: str, rows: Callable[[], Iterator[Row]], seq_length: int, seed: int
) -> LabelledTexts:
    """Number labels and characters of texts that can be read twice, and hold a fifth out."""
    seq_length = checks.integer(f"{name}: seq_length", seq_length, 1)
    seed = checks.integer(f"{name}: seed", seed, None)
    survey = _Survey(name, seq_length, seed)
    for row in rows():
        survey.add(row)
    survey.check()
    labels = tuple(sorted(survey.numbers))
    order = np.argsort([survey.numbers[label] for label in labels])
    targets = order[np.frombuffer(survey.targets, np.int64)]
    held_out = hold_out(np.frombuffer(survey.hashes, np.uint64), targets)
    if not held_out.any():
        raise ValueError(
            f"{name}: {targets.size} texts, of which none can be held out: expected a label with "
            "at least 2 different ones"
        )
    starts = np.concatenate([[0], np.cumsum(np.frombuffer(survey.lengths, np.int64))])
    everything = Vocabulary("".join(survey.characters))
    tokens = _tokens(name, rows(), everything, starts, seq_length)
    vocabulary = _renumber(name, tokens, everything, ~np.repeat(held_out, np.diff(starts)))
    return LabelledTexts(
        tokens, starts, targets, held_out, labels, vocabulary, name, survey.digest.hexdigest()
    )


def hold_out(hashes: NDArray[np.uint64], targets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Choose a fifth of the texts of each label, at least one of two; never all."""
    chosen = np.zeros(targets.size, bool)
    for target in np.unique(targets):
        ours = targets == target
        ranked = np.sort(hashes[ours])
        count = max(ranked.size // 5, int(ranked.size > 1))
        chosen |= ours & (hashes < ranked[count])
    return chosen


def _tokens(
    name: str,
    rows: Iterator[Row],
    vocabulary: Vocabulary,
    starts: NDArray[np.int64],
    seq_length: int,
) -> NDArray[Any]:
    """Number the characters of all texts; room is left for an unknown one."""
    tokens = token_storage(int(starts[-1]), len(vocabulary) + 1)
    number = -1
    for number, row in enumerate(rows):
        used = row.text[:seq_length]
        if number + 1 >= starts.size or starts[number] + len(used) != starts[number + 1]:
            raise ValueError(f"{name}: changed while it was read")
        tokens[starts[number] : starts[number + 1]] = vocabulary.encode(used)
    if number + 2 != starts.size:
        raise ValueError(f"{name}: changed while it was read")
    return tokens


def _renumber(
    name: str, tokens: NDArray[Any], everything: Vocabulary, training: NDArray[np.bool_]
) -> OpenVocabulary:
    """Number by the characters of the training part; those of the held-out one alone are unknown.

    Works in place, piece by piece.
    """
    known = np.zeros(len(everything), bool)
    pieces = [slice(start, start + _PIECE) for start in range(0, tokens.size, _PIECE)]
    for piece in pieces:
        known[tokens[piece][training[piece]]] = True
    if not known.any():
        raise ValueError(f"{name}: all texts for training are empty")
    vocabulary = OpenVocabulary(everything.decode(np.flatnonzero(known)))
    table = np.where(known, np.cumsum(known) - 1, vocabulary.unknown).astype(tokens.dtype)
    for piece in pieces:
        tokens[piece] = table[tokens[piece]]
    return vocabulary
