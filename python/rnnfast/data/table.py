"""Number columns of CSV files with a header."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rnnfast import checks


@dataclass(frozen=True, eq=False)
class Series:
    """A series of numbers.

    Attributes
    ----------
    values : numpy.ndarray
        (N,) float64.
    column : str
        Its name.
    name, digest : str
        Where it came from, and a fingerprint.
    """

    values: NDArray[np.float64]
    column: str
    name: str
    digest: str


def read_series(path: str | Path, column: str | None = None) -> Series:
    """Read a column of numbers from a CSV file.

    Parameters
    ----------
    path : str or Path
        UTF-8, values separated by commas, with a header in its first line. Empty lines are left
        out.
    column : str, optional
        Name in the header; the last one whose first value is a number unless given.

    Raises
    ------
    OSError
        If the file cannot be read.
    TypeError
        If `path` or `column` is of the wrong type.
    ValueError
        If there is no header, no such column or no row, if a row has another number of values than
        the header, or a value is not a finite number; the message names file and line.
    """
    checks.path("read_series: path", path)
    if column is not None:
        checks.string("read_series: column", column)
    rows = _rows(Path(path))
    try:
        line, header = next(rows)
    except StopIteration:
        raise ValueError(f"{path}: the file is empty, expected a header") from None
    if all(_is_number(cell) for cell in header):
        raise ValueError(f"{path}: line {line} has numbers alone, expected a header of names")
    index = None if column is None else _index(path, header, column)
    values = []
    for line, row in rows:
        if len(row) != len(header):
            raise ValueError(
                f"{path}: line {line} has {len(row)} values, expected {len(header)} "
                "as in the header"
            )
        if index is None:
            index = _last_number(path, line, row)
        values.append(_number(path, line, header[index], row[index]))
    if index is None:
        raise ValueError(f"{path}: no row below the header")
    return series_of(np.array(values), header[index], str(path))


def series_of(values: NDArray[np.float64], column: str, name: str) -> Series:
    """Make a series with its fingerprint."""
    digest = hashlib.blake2b(column.encode() + values.astype("<f8").tobytes(), digest_size=16)
    return Series(values, column, name, digest.hexdigest())


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Read rows with the numbers of their lines."""
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}: line {line}: not UTF-8 at byte {error.start}") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num, [cell.strip() for cell in row]
    except csv.Error as error:
        raise ValueError(f"{path}: line {reader.line_num}: no CSV ({error})") from None


def _index(path: str | Path, header: list[str], column: str) -> int:
    if header.count(column) != 1:
        found = f"{header.count(column)} columns" if column in header else "no column"
        raise ValueError(f"{path}: {found} {column!r} in line 1, which has {', '.join(header)}")
    return header.index(column)


def _last_number(path: str | Path, line: int, row: list[str]) -> int:
    for index in reversed(range(len(row))):
        if _is_number(row[index]):
            return index
    raise ValueError(f"{path}: line {line} has no number, expected one in some column")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(path: str | Path, line: int, column: str, cell: str) -> float:
    value = float(cell) if _is_number(cell) else math.nan
    if not math.isfinite(value):
        raise ValueError(f"{path}: line {line}: {column} is {cell!r}, expected a finite number")
    return value


def waves(length: int = 1500, seed: int = 0) -> Series:
    """Generate a series: two sine waves, swelled by a slower one, and noise.

    x_t = 10 + (4 + sin(2π t / 97)) (sin(2π t / 25) + 0.5 sin(2π t / 11.3)) + 0.5 ε_t
    with standard normal ε_t.

    Parameters
    ----------
    length : int
        N, at least 1.
    seed : int
        Of the noise, at least 0.

    Raises
    ------
    TypeError, ValueError
        If a number is no integer or out of range.
    """
    length = checks.integer("waves: length", length, 1)
    seed = checks.integer("waves: seed", seed, 0)
    turns = 2.0 * np.pi * np.arange(length)
    waves_ = np.sin(turns / 25.0) + 0.5 * np.sin(turns / 11.3)
    noise = np.random.default_rng(seed).standard_normal(length)
    values = 10.0 + (4.0 + np.sin(turns / 97.0)) * waves_ + 0.5 * noise
    return series_of(values, "value", f"generated waves, seed {seed}")
