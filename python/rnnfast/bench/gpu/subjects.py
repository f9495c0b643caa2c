"""Who computes on a GPU, and in what precision.

rnnfast's modules and PyTorch's are called alike. cuDNN writes into memory that it was given once,
which spares it the allocations of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

import rnnfast.torch
from rnnfast.bench.gpu import cudnn
from rnnfast.bench.gpu.precision import PRECISIONS, Precision
from rnnfast.bench.grid import Case
from rnnfast.bench.problem import WEIGHTS, Problem
from rnnfast.bench.subjects.pytorch import LAYERS

OURS, PYTORCH, CUDNN = "rnnfast", "PyTorch", "cuDNN"

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Job:
    """A case made ready to run.

    Attributes
    ----------
    call : callable
        The timed work, of an input and a cotangent; gives the library's own results.
    read : callable
        Names these results as `rnnfast.bench.problem` does.
    """

    call: Callable[[torch.Tensor, torch.Tensor], Any]
    read: Callable[[Any], Tensors]


@dataclass(frozen=True)
class Subject:
    """A library, or one of its algorithms, in a precision.

    Attributes
    ----------
    library : str
        `OURS`, `PYTORCH` or `CUDNN`.
    precision : Precision
        Of tensors and products.
    algorithm : str
        Of cuDNN's.
    """

    library: str
    precision: Precision
    algorithm: str = ""

    @property
    def name(self) -> str:
        """The name in tables and documents."""
        return " ".join(filter(None, (self.library, self.algorithm, self.precision.name)))

    def prepare(self, case: Case, weights: Tensors) -> Job:
        """Give the library the weights.

        Raises
        ------
        RuntimeError
            If the case is not for an algorithm of cuDNN's, or none that rnnfast computes.
        """
        if self.library == CUDNN:
            return _direct(cudnn.Layer(cudnn.load(), case, self.algorithm, self.precision, weights))
        package = rnnfast.torch if self.library == OURS else torch.nn
        module = make_module(package, case, weights, self.precision.dtype)
        if self.library == OURS:
            x = torch.zeros_like(weights["weight_ih"][:1, None], dtype=self.precision.dtype)
            if module._recur(x, ()) is None:  # noqa: SLF001  # it would fall back in silence
                raise RuntimeError(f"{self.name}: PyTorch would compute it")
        return module_job(module, case)


def subjects(*, peers: bool) -> list[Subject]:
    """List everyone: rnnfast in each of its precisions and, with `peers`, the others."""
    every = PRECISIONS.values()
    listed = [Subject(OURS, one) for one in every if one.dtype is not torch.float16]
    if peers:
        listed += [Subject(PYTORCH, one) for one in every]
        listed += [Subject(CUDNN, one, name) for one in every for name in cudnn.ALGORITHMS]
    return listed


def weights_of(problem: Problem, device: torch.device) -> Tensors:
    """Copy the weights of a problem to the device."""
    return {name: torch.from_numpy(array).to(device) for name, array in problem.weights.items()}


def make_module(package: Any, case: Case, weights: Tensors, dtype: torch.dtype) -> Any:
    """Make a module of ``torch.nn``, or one that is called like it."""
    device = weights["weight_ih"].device
    layer = getattr(package, LAYERS[case.cell])
    module = layer(case.input_size, case.hidden_size, device=device, dtype=dtype)
    module.load_state_dict({f"{name}_l0": weights[name] for name in WEIGHTS})
    return module


def module_job(module: Any, case: Case) -> Job:
    """Call a module for inference, or forward and backward."""
    if case.work == "forward":
        return Job(partial(_infer, module.eval()), lambda y: {"y": y})
    wanted = [getattr(module, f"{name}_l0") for name in WEIGHTS]
    return Job(partial(_train, module, wanted), _read)


@torch.inference_mode()
def _infer(module: torch.nn.Module, x: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    y: torch.Tensor = module(x)[0]
    return y


def _train(
    module: torch.nn.Module, weights: list[torch.Tensor], x: torch.Tensor, dy: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    y = module(x)[0]
    return y, *torch.autograd.grad(y, [x, *weights], dy)


def _read(results: tuple[torch.Tensor, ...]) -> Tensors:
    return dict(zip(_results(), results, strict=True))


def _results() -> Iterator[str]:
    yield from ("y", "dx")
    yield from (f"d{name}" for name in WEIGHTS)


def _direct(layer: cudnn.Layer) -> Job:
    if not layer.trains:
        return Job(lambda x, _: layer.forward(x), lambda y: {"y": y})

    def train(x: torch.Tensor, dy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return layer.forward(x), layer.backward(x, dy)

    def read(results: tuple[torch.Tensor, torch.Tensor]) -> Tensors:
        gradients = {f"d{name}": d for name, d in layer.gradients().items()}
        return {"y": results[0], "dx": results[1], **gradients}

    return Job(train, read)
