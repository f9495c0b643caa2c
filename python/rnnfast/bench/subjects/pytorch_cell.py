"""PyTorch's ``RNNCell``, ``LSTMCell`` and ``GRUCell``: its own answer for one step at a time."""

from __future__ import annotations

from typing import Any

from rnnfast.bench.grid import Case
from rnnfast.bench.problem import Arrays, Problem
from rnnfast.bench.subjects import Job
from rnnfast.bench.subjects.pytorch import version

__all__ = ["prepare", "supports", "version"]

CELLS = {"basic": "RNNCell", "lstm": "LSTMCell", "gru": "GRUCell"}


def supports(case: Case) -> bool:
    """Single steps in the type of the arrays."""
    return case.work == "step" and case.cell in CELLS and case.dtype == case.array_dtype


def prepare(problem: Problem, num_threads: int) -> Job:
    """A cell with the weights of the problem; arrays are shared with it."""
    import torch

    torch.set_num_threads(num_threads)
    case = problem.case
    dtype = getattr(torch, case.dtype)
    cell = getattr(torch.nn, CELLS[case.cell])(case.input_size, case.hidden_size, dtype=dtype)
    cell.load_state_dict({name: torch.from_numpy(a) for name, a in problem.weights.items()})
    cell.eval()
    x, h, c = (torch.from_numpy(array[0]) for array in (problem.x, problem.h, problem.c))
    state = (h, c) if case.cell == "lstm" else h

    def call() -> Any:
        with torch.inference_mode():
            return cell(x, state)

    def read(result: Any) -> Arrays:
        names = ("y", "c") if case.cell == "lstm" else ("y",)
        arrays = result if case.cell == "lstm" else (result,)
        return {name: array.numpy() for name, array in zip(names, arrays, strict=True)}

    return Job(call, read)
