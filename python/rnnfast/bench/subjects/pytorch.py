"""PyTorch's layers: ``torch.nn.RNN``, ``LSTM``, ``GRU``, at their defaults.

Cases in bfloat16 have parameters, inputs and results of that type, as PyTorch wants them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rnnfast.bench.grid import Case
from rnnfast.bench.problem import WEIGHTS, Array, Arrays, Problem
from rnnfast.bench.subjects import Job

LAYERS = {"basic": "RNN", "lstm": "LSTM", "gru": "GRU"}


def version() -> str:
    """The version of PyTorch."""
    import torch

    return str(torch.__version__)


def supports(case: Case) -> bool:
    """Every case but int8, which `pytorch_int8` is for."""
    return case.cell in LAYERS and case.dtype != "int8"


def prepare(
    problem: Problem, num_threads: int, change: Callable[[Any], Any] = lambda module: module
) -> Job:
    """A module with the weights of the problem, and then changed.

    Inputs share memory with the problem's arrays.
    """
    import torch

    torch.set_num_threads(num_threads)
    case = problem.case
    dtype = getattr(torch, case.dtype)
    module = getattr(torch.nn, LAYERS[case.cell])(case.input_size, case.hidden_size, dtype=dtype)
    module.load_state_dict(
        {f"{name}_l0": torch.from_numpy(array) for name, array in problem.weights.items()}
    )
    make = {"forward": _forward, "train": _train, "step": _step}[case.work]
    return make(change(module), problem)


def _forward(module: Any, problem: Problem) -> Job:
    import torch

    module.eval()
    x = _tensor(problem, problem.x)

    def call() -> Any:
        with torch.inference_mode():
            return module(x)

    return Job(call, lambda result: {"y": _array(result[0])})


def _tensor(problem: Problem, array: Array) -> Any:
    """The array in the type of the case, shared where that is its own."""
    import torch

    return torch.from_numpy(array).to(getattr(torch, problem.case.dtype))


def _array(tensor: Any) -> Array:
    import torch

    tensor = tensor.detach()
    array: Array = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


def _train(module: Any, problem: Problem) -> Job:
    import torch

    dy = _tensor(problem, problem.dy)
    x = _tensor(problem, problem.x).requires_grad_()
    wanted = [x, *(getattr(module, f"{name}_l0") for name in WEIGHTS)]

    def call() -> Any:
        y, _ = module(x)
        return y, torch.autograd.grad(y, wanted, dy)

    def read(result: Any) -> Arrays:
        y, grads = result
        names = ("dx", *(f"d{name}" for name in WEIGHTS))
        gradients = {name: _array(grad) for name, grad in zip(names, grads, strict=True)}
        return {"y": _array(y), **gradients}

    return Job(call, read)


def _step(module: Any, problem: Problem) -> Job:
    """The layer called with a sequence of one step."""
    import torch

    module.eval()
    x, h, c = (_tensor(problem, array) for array in (problem.x, problem.h, problem.c))
    state = (h, c) if problem.case.cell == "lstm" else h

    def call() -> Any:
        with torch.inference_mode():
            return module(x, state)

    def read(result: Any) -> Arrays:
        y, after = result
        cell_state = {"c": _array(after[1][0])} if isinstance(after, tuple) else {}
        return {"y": _array(y[0]), **cell_state}

    return Job(call, read)
