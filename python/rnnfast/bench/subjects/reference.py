"""rnnfast's layers in plain NumPy."""

from __future__ import annotations

from dataclasses import replace

from rnnfast import reference
from rnnfast.bench.problem import Problem
from rnnfast.bench.subjects import Job
from rnnfast.bench.subjects.ours import make_layer, prepare_layer, supports, version

__all__ = ["prepare", "supports", "version"]


def prepare(problem: Problem, num_threads: int) -> Job:
    """The twin of a layer with the weights of the problem; its threads are those of NumPy."""
    job = prepare_layer(make_layer(reference, problem), problem, num_threads)
    return replace(job, kept=None)  # its tape does not tell its size
