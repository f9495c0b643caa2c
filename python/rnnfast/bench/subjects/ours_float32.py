"""rnnfast's own float32 kernels, beside cases that compute in bfloat16."""

from __future__ import annotations

import rnnfast
from rnnfast.bench.grid import Case
from rnnfast.bench.problem import Problem
from rnnfast.bench.subjects import Job
from rnnfast.bench.subjects.ours import prepare_layer, version

__all__ = ["prepare", "supports", "version"]


def supports(case: Case) -> bool:
    """Cases of lower precision."""
    return case.dtype == "bfloat16"


def prepare(problem: Problem, num_threads: int) -> Job:
    """The same layer with float32 products."""
    return prepare_layer(rnnfast, problem, num_threads)
