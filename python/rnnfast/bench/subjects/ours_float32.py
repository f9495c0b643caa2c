"""rnnfast's own float32 kernels, beside cases of lower precision."""

from __future__ import annotations

import rnnfast
from rnnfast.bench.grid import REDUCED, Case
from rnnfast.bench.problem import Problem
from rnnfast.bench.subjects import Job
from rnnfast.bench.subjects.ours import make_layer, prepare_layer, version

__all__ = ["prepare", "supports", "version"]


def supports(case: Case) -> bool:
    """Cases of lower precision."""
    return case.dtype in REDUCED


def prepare(problem: Problem, num_threads: int) -> Job:
    """The same layer with float32 products."""
    return prepare_layer(make_layer(rnnfast, problem), problem, num_threads)
