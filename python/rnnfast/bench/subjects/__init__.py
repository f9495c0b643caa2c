"""Who takes part: THE list of subjects, rnnfast first, then its peers.

A new one is a line in `SUBJECTS` and a module here with the functions ``version``, ``supports``
and ``prepare``. Each library runs at its own defaults, but for the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from rnnfast.bench.grid import Case
from rnnfast.bench.problem import Arrays, Problem


@dataclass(frozen=True)
class Job:
    """A case made ready to run in one library.

    Attributes
    ----------
    call : callable
        The timed work, without arguments; returns the library's own objects.
    read : callable
        Turns what `call` returned into arrays under the names of `rnnfast.bench.problem`.
    kept : callable, optional
        Runs forward and returns the bytes that it keeps for BPTT, beside x and y; only where the
        library itself tells them.
    """

    call: Callable[[], Any]
    read: Callable[[Any], Arrays]
    kept: Callable[[], int] | None = None


@dataclass(frozen=True)
class Subject:
    """A library, or one way of using it.

    Attributes
    ----------
    name : str
        As shown in tables.
    packages : tuple of str
        The modules that must be importable, the one that does the work first.
    module : str
        The module of this package which drives it.
    quick : bool
        Whether it is quick enough for ``rnnfast bench --quick``.
    """

    name: str
    packages: tuple[str, ...]
    module: str
    quick: bool = True

    @property
    def installed(self) -> bool:
        """Whether the library is there (found, not imported)."""
        return all(find_spec(package) is not None for package in self.packages)

    def version(self) -> str:
        """The library's version."""
        return str(self._driver().version())

    def supports(self, case: Case) -> bool:
        """Whether the library can run the case at all; asks without importing it."""
        return bool(self._driver().supports(case))

    def prepare(self, problem: Problem, num_threads: int) -> Job:
        """Copy weights and inputs into the library's own objects.

        Parameters
        ----------
        problem : Problem
            A case that it supports, with its arrays.
        num_threads : int
            Threads that the library may use.
        """
        job: Job = self._driver().prepare(problem, num_threads)
        return job

    def _driver(self) -> Any:
        return import_module(f"{__name__}.{self.module}")


OURS = Subject("rnnfast", ("rnnfast",), "ours")
SUBJECTS = (
    OURS,
    Subject("rnnfast float32", ("rnnfast",), "ours_float32"),
    Subject("PyTorch", ("torch",), "pytorch"),
    Subject("PyTorch int8", ("torch",), "pytorch_int8"),
    Subject("PyTorch float32", ("torch",), "pytorch_float32"),
    Subject("PyTorch cell", ("torch",), "pytorch_cell"),
    Subject("ONNX Runtime", ("onnxruntime", "onnx"), "onnx_runtime"),
    Subject("JAX", ("jax",), "jax_scan", quick=False),  # compiles for a second or two a case
)

REFERENCE = Subject("reference", ("rnnfast",), "reference")
"""Checks rnnfast where no peer is there to do it; never timed."""


def candidates(*, peers: bool = True, quick: bool = False) -> tuple[Subject, ...]:
    """Those installed: rnnfast and, with `peers`, the others; with `quick` the quick ones alone."""
    asked = SUBJECTS if peers else (OURS,)
    return tuple(s for s in asked if s.installed and (s.quick or not quick))


def chosen(case: Case, among: Sequence[Subject] | None = None) -> list[Subject]:
    """The subjects of a case: those of `among`, by default all `candidates`, that support it."""
    asked = candidates() if among is None else among
    return [subject for subject in asked if subject.supports(case)]
