"""PyTorch's dynamic quantization of ``torch.nn.LSTM`` and ``GRU``: int8 weights, float32 arrays."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

from rnnfast.bench.grid import Case
from rnnfast.bench.problem import Problem
from rnnfast.bench.subjects import Job, pytorch
from rnnfast.bench.subjects.pytorch import version

__all__ = ["prepare", "supports", "version"]


def supports(case: Case) -> bool:
    """Inference of the cells that it quantizes."""
    return case.dtype == "int8" and case.work != "train" and case.cell in ("lstm", "gru")


def prepare(problem: Problem, num_threads: int) -> Job:
    """The float32 module, quantized."""
    case = replace(problem.case, dtype="float32")
    return pytorch.prepare(replace(problem, case=case), num_threads, _quantized)


def _quantized(module: Any) -> Any:
    import torch

    quantize: Any = torch.ao.quantization.quantize_dynamic
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and has no successor in the package
        return quantize(torch.nn.Sequential(module), {type(module)}, dtype=torch.qint8)[0]
