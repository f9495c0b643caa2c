"""rnnfast itself."""

from __future__ import annotations

from typing import Any

import numpy as np

import rnnfast
from rnnfast.bench.grid import Case
from rnnfast.bench.problem import WEIGHTS, Arrays, Problem
from rnnfast.bench.subjects import Job

LAYERS = {"basic": "RNN", "lstm": "LSTM", "gru": "GRU"}


def version() -> str:
    """The version of rnnfast."""
    return str(rnnfast.info()["version"])


def supports(case: Case) -> bool:
    """Every case but training in int8."""
    return case.cell in LAYERS and not (case.work == "train" and case.dtype == "int8")


def prepare(problem: Problem, num_threads: int) -> Job:
    """A layer with the weights of the problem, called as a training loop or a server would."""
    compute = "bfloat16" if problem.case.dtype == "bfloat16" else "float32"
    layer = make_layer(rnnfast, problem, compute)
    if problem.case.dtype == "int8":
        layer = layer.quantize()
    return prepare_layer(layer, problem, num_threads)


def make_layer(layers: Any, problem: Problem, compute: str = "float32") -> Any:
    """A layer of the module `layers`, which has the classes RNN, LSTM and GRU."""
    case = problem.case
    layer = getattr(layers, LAYERS[case.cell])(
        case.input_size, case.hidden_size, dtype=case.array_dtype, compute=compute
    )
    layer.load_state_dict({f"{name}_l0": array for name, array in problem.weights.items()})
    return layer


def prepare_layer(layer: Any, problem: Problem, num_threads: int) -> Job:
    """The job of the case's pass."""
    make = {"forward": _forward, "train": _train, "step": _step}[problem.case.work]
    return make(layer, problem, num_threads)


def _forward(layer: Any, problem: Problem, num_threads: int) -> Job:
    x = problem.x

    def call() -> Any:
        return layer(x, num_threads=num_threads)

    return Job(call, lambda result: {"y": result[0]})


def _train(layer: Any, problem: Problem, num_threads: int) -> Job:
    x, dy, out = problem.x, problem.dy, np.empty_like(layer.flat)

    def call() -> Any:
        y, _, tape = layer.forward(x, num_threads=num_threads)
        return y, layer.backward(tape, dy, out=out, num_threads=num_threads)

    def read(result: Any) -> Arrays:
        y, grads = result
        parameters = {f"d{name}": grads.parameters[f"{name}_l0"].copy() for name in WEIGHTS}
        return {"y": y, "dx": grads.x, **parameters}

    def kept() -> int:
        return int(layer.forward(x, num_threads=num_threads)[2].nbytes)

    return Job(call, read, kept)


def _step(layer: Any, problem: Problem, num_threads: int) -> Job:
    x = problem.x[0]
    state = (problem.h, problem.c) if problem.case.cell == "lstm" else problem.h

    def call() -> Any:
        return layer.step(x, state, num_threads=num_threads)

    def read(result: Any) -> Arrays:
        y, after = result
        return {"y": y, "c": after[1][0]} if isinstance(after, tuple) else {"y": y}

    return Job(call, read)
