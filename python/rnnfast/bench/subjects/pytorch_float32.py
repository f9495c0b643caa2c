"""PyTorch's layers in float32, beside cases of lower precision."""

from __future__ import annotations

from dataclasses import replace

from rnnfast.bench.grid import REDUCED, Case
from rnnfast.bench.problem import Problem
from rnnfast.bench.subjects import Job, pytorch
from rnnfast.bench.subjects.pytorch import version

__all__ = ["prepare", "supports", "version"]


def supports(case: Case) -> bool:
    """Cases of lower precision."""
    return case.dtype in REDUCED


def prepare(problem: Problem, num_threads: int) -> Job:
    """The same module in float32."""
    case = replace(problem.case, dtype="float32")
    return pytorch.prepare(replace(problem, case=case), num_threads)
