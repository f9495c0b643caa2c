"""One time step at a time: what a call from Python costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rnnfast.bench import grid
from rnnfast.bench.grid import Case, Shape
from rnnfast.bench.subjects import Subject


def cases(shapes: Sequence[Shape]) -> list[Case]:
    """The cases of this suite, whose sizes are its own."""
    del shapes
    return grid.step_cases()


def test_step(measure: Callable[[Case, Subject], None], case: Case, subject: Subject) -> None:
    """One library on one case."""
    measure(case, subject)
