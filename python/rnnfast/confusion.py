"""How well classes are told apart: the confusion matrix and the figures that follow from it.

V classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_WIDEST = 40  # characters of a label in the tables


class Confusion:
    """Counts of examples by true class and predicted class.

    Parameters
    ----------
    labels : sequence of str
        The V classes.

    Attributes
    ----------
    labels : tuple of str
        The same.
    counts : numpy.ndarray
        (V, V) int64: rows are true classes, columns predicted ones.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)
        self.counts: NDArray[np.int64] = np.zeros((len(labels), len(labels)), np.int64)

    def add(self, targets: NDArray[np.integer], predicted: NDArray[np.integer]) -> None:
        """Count examples by the numbers (B,) of their true and predicted classes."""
        np.add.at(self.counts, (targets, predicted), 1)

    @property
    def accuracy(self) -> float:
        """Share of the examples that were predicted right; NaN where there are none."""
        return _share(float(np.trace(self.counts)), float(self.counts.sum()))

    @property
    def precision(self) -> NDArray[np.float64]:
        """Share of right ones among those predicted to be of each class; NaN for none."""
        return _shares(self.counts.diagonal(), self.counts.sum(axis=0))

    @property
    def recall(self) -> NDArray[np.float64]:
        """Share of right ones among those that are of each class; NaN for none."""
        return _shares(self.counts.diagonal(), self.counts.sum(axis=1))

    @property
    def f1(self) -> NDArray[np.float64]:
        """Harmonic mean of precision and recall; 0 where nothing is right, NaN for no example."""
        return _shares(
            2 * self.counts.diagonal(), self.counts.sum(axis=0) + self.counts.sum(axis=1)
        )

    @property
    def macro_f1(self) -> float:
        """Mean of F1 over the classes that occur, each counting alike."""
        f1 = self.f1[self.counts.sum(axis=1) > 0]
        return float(f1.mean()) if f1.size else float("nan")

    def __str__(self) -> str:
        """Two tables: figures of each class, and the counts."""
        return f"{self.figures_table()}\n\n{self.counts_table()}"

    def figures_table(self) -> str:
        """Write precision, recall and F1 of each class, and how many examples it has."""
        figures = zip(self.precision, self.recall, self.f1, self.counts.sum(axis=1), strict=True)
        rows = [[*map(_three_digits, row[:3]), f"{row[3]:,}"] for row in figures]
        return _table("class", ["precision", "recall", "F1", "examples"], self.labels, rows)

    def counts_table(self) -> str:
        """Write the matrix."""
        rows = [[f"{count:,}" for count in row] for row in self.counts]
        return _table("true \\ predicted", self.labels, self.labels, rows)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def _shares(parts: NDArray[np.int64], wholes: NDArray[np.int64]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = np.full(parts.shape, np.nan)
    np.divide(parts, wholes, out=shares, where=wholes > 0)
    return shares


def _three_digits(share: float) -> str:
    return "-" if np.isnan(share) else f"{share:.3f}"


def _table(
    corner: str, heads: Sequence[str], names: Sequence[str], rows: Sequence[Sequence[str]]
) -> str:
    """Align a table: names to the left, columns to the right."""
    lines = [[corner, *heads], *([name, *row] for name, row in zip(names, rows, strict=True))]
    lines = [[cell[:_WIDEST] for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        ).rstrip()
        for line in lines
    )
