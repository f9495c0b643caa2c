"""PyTorch's layers: ``torch.nn.RNN``, ``LSTM``, ``GRU``, at their defaults."""

from __future__ import annotations

from typing import Any

from rnnfast.bench.grid import Case
from rnnfast.bench.problem import WEIGHTS, Arrays, Problem
from rnnfast.bench.subjects import Job

LAYERS = {"basic": "RNN", "lstm": "LSTM", "gru": "GRU"}


def version() -> str:
    """The version of PyTorch."""
    import torch

    return str(torch.__version__)


def supports(case: Case) -> bool:
    """Every case."""
    return case.cell in LAYERS


def prepare(problem: Problem, num_threads: int) -> Job:
    """A module with the weights of the problem; inputs share memory with the problem's arrays."""
    import torch

    torch.set_num_threads(num_threads)
    case = problem.case
    dtype = getattr(torch, case.dtype)
    module = getattr(torch.nn, LAYERS[case.cell])(case.input_size, case.hidden_size, dtype=dtype)
    module.load_state_dict(
        {f"{name}_l0": torch.from_numpy(array) for name, array in problem.weights.items()}
    )
    make = {"forward": _forward, "train": _train, "step": _step}[case.work]
    return make(module, problem)


def _forward(module: Any, problem: Problem) -> Job:
    import torch

    module.eval()
    x = torch.from_numpy(problem.x)

    def call() -> Any:
        with torch.inference_mode():
            return module(x)

    return Job(call, lambda result: {"y": result[0].numpy()})


def _train(module: Any, problem: Problem) -> Job:
    import torch

    dy = torch.from_numpy(problem.dy)
    x = torch.from_numpy(problem.x).requires_grad_()
    wanted = [x, *(getattr(module, f"{name}_l0") for name in WEIGHTS)]

    def call() -> Any:
        y, _ = module(x)
        return y, torch.autograd.grad(y, wanted, dy)

    def read(result: Any) -> Arrays:
        y, grads = result
        names = ("dx", *(f"d{name}" for name in WEIGHTS))
        gradients = {name: grad.numpy() for name, grad in zip(names, grads, strict=True)}
        return {"y": y.detach().numpy(), **gradients}

    return Job(call, read)


def _step(module: Any, problem: Problem) -> Job:
    """The layer called with a sequence of one step."""
    import torch

    module.eval()
    x, h, c = (torch.from_numpy(array) for array in (problem.x, problem.h, problem.c))
    state = (h, c) if problem.case.cell == "lstm" else h

    def call() -> Any:
        with torch.inference_mode():
            return module(x, state)

    def read(result: Any) -> Arrays:
        y, after = result
        cell_state = {"c": after[1][0].numpy()} if isinstance(after, tuple) else {}
        return {"y": y[0].numpy(), **cell_state}

    return Job(call, read)
