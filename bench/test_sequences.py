"""Forward passes and training over the whole grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rnnfast.bench import grid
from rnnfast.bench.grid import Case, Shape
from rnnfast.bench.subjects import Subject


def cases(shapes: Sequence[Shape]) -> list[Case]:
    """The cases of this suite."""
    return grid.cases(shapes)


def test_sequences(measure: Callable[[Case, Subject], None], case: Case, subject: Subject) -> None:
    """One library on one case."""
    measure(case, subject)
