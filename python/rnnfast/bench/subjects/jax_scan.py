"""JAX: a jitted ``jax.lax.scan`` over the steps, and its ``jax.vjp``, on the CPU.

JAX has no recurrent layer for CPUs (``jax.experimental.rnn`` is for GPUs), so this is the cell as
one writes it for speed: the product with the inputs done beforehand for all steps, weights that
are arguments of the compiled function and lie as (inputs, gates), which XLA multiplies faster
than their transposes. Compilation happens before the first timed call. Cases in bfloat16 have
parameters, inputs, states and results of that type, as those of PyTorch.

XLA sizes its thread pool once, when JAX starts its CPU client, by the environment's NPROC or else
by the processors that the process may run on; NPROC is set for that moment. Threads that issue
work and wait come on top.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from rnnfast.bench.grid import Case
from rnnfast.bench.problem import WEIGHTS, Array, Arrays, Problem
from rnnfast.bench.subjects import Job

Weights: TypeAlias = dict[str, Any]

_started: dict[str, int] = {}  # the threads of the one client of this process


def version() -> str:
    """The version of JAX."""
    import jax

    return str(jax.__version__)


def supports(case: Case) -> bool:
    """Cases in float32, and in bfloat16 those that do not train.

    The vjp of a scan would sum weight gradients over the steps in bfloat16; float64 is a switch of
    the whole process.
    """
    return case.dtype == "float32" or (case.dtype == "bfloat16" and case.work != "train")


def prepare(problem: Problem, num_threads: int) -> Job:
    """The compiled function of the case's pass, on arrays of JAX's own."""
    start(num_threads)
    make = {"forward": _forward, "train": _train, "step": _step}[problem.case.work]
    job = make(problem)
    job.call()  # compiles
    return job


def start(num_threads: int) -> None:
    """Start JAX's CPU client with so many threads.

    Raises
    ------
    RuntimeError
        If it has been started with another number of them.
    """
    import jax

    if not _started:
        before = os.environ.get("NPROC")
        os.environ["NPROC"] = str(num_threads)
        try:
            jax.config.update("jax_platforms", "cpu")
            jax.devices()
        finally:
            if before is None:
                del os.environ["NPROC"]
            else:
                os.environ["NPROC"] = before
        _started["threads"] = num_threads
    if _started["threads"] != num_threads:
        raise RuntimeError(
            f"jax runs on {_started['threads']} threads, which cannot be changed to {num_threads}"
        )


def _copy(problem: Problem, array: Array) -> Any:
    """An array of JAX in the type of the case."""
    import jax.numpy as jnp

    return jnp.array(array, dtype=problem.case.dtype)


def _array(array: Any) -> Array:
    return np.asarray(array, dtype=np.float32)


def _weights(problem: Problem) -> Weights:
    """JAX's copies: both weights transposed."""
    return {name: _copy(problem, problem.weights[name].T) for name in WEIGHTS}


def _states(case: Case, h: Any, c: Any) -> tuple[Any, ...]:
    return (h, c) if case.cell == "lstm" else (h,)


def _zeros(case: Case) -> tuple[Any, ...]:
    import jax.numpy as jnp

    zeros = jnp.zeros((case.batch, case.hidden_size), case.dtype)
    return _states(case, zeros, zeros)


def _basic(ours: Any, theirs: Any, _state: Any) -> Any:
    """One step from W_ih x + b_ih, W_hh h + b_hh and the state."""
    import jax.numpy as jnp

    return (jnp.tanh(ours + theirs),)


def _lstm(ours: Any, theirs: Any, state: Any) -> Any:
    import jax
    import jax.numpy as jnp

    i, f, g, o = jnp.split(ours + theirs, 4, axis=-1)
    c = jax.nn.sigmoid(f) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def _gru(ours: Any, theirs: Any, state: Any) -> Any:
    import jax
    import jax.numpy as jnp

    (r, z, n), (r_h, z_h, n_h) = (jnp.split(part, 3, axis=-1) for part in (ours, theirs))
    r, z = jax.nn.sigmoid(r + r_h), jax.nn.sigmoid(z + z_h)
    n = jnp.tanh(n + r * n_h)
    return ((1 - z) * n + z * state[0],)


CELLS: dict[str, Callable[[Any, Any, Any], Any]] = {"basic": _basic, "lstm": _lstm, "gru": _gru}


def _input_product(weights: Weights, x: Any) -> Any:
    return x @ weights["weight_ih"] + weights["bias_ih"]


def _cell(case: Case, weights: Weights, ours: Any, state: Any) -> Any:
    """One step from W_ih x + b_ih and the state, a tuple."""
    return CELLS[case.cell](ours, state[0] @ weights["weight_hh"] + weights["bias_hh"], state)


def _sequence(case: Case, weights: Weights, x: Any) -> Any:
    """All steps from a state of zeros: y (T, B, H)."""
    import jax

    def step(state: Any, ours: Any) -> tuple[Any, Any]:
        after = _cell(case, weights, ours, state)
        return after, after[0]

    return jax.lax.scan(step, _zeros(case), _input_product(weights, x))[1]


def _forward(problem: Problem) -> Job:
    import jax

    case = problem.case
    weights, x = _weights(problem), _copy(problem, problem.x)
    compiled = jax.jit(lambda weights, x: _sequence(case, weights, x))

    def call() -> Any:
        return compiled(weights, x).block_until_ready()

    return Job(call, lambda y: {"y": _array(y)})


def _train(problem: Problem) -> Job:
    import jax

    case = problem.case
    weights, x, dy = _weights(problem), _copy(problem, problem.x), _copy(problem, problem.dy)

    def forward_and_back(weights: Weights, x: Any, dy: Any) -> Any:
        y, pull = jax.vjp(lambda w, x: _sequence(case, w, x), weights, x)
        return y, pull(dy)

    compiled = jax.jit(forward_and_back)

    def call() -> Any:
        return jax.block_until_ready(compiled(weights, x, dy))

    def read(result: Any) -> Arrays:
        y, (dweights, dx) = result
        gradients = {f"d{name}": _array(array).T for name, array in dweights.items()}
        return {"y": _array(y), "dx": _array(dx), **gradients}

    return Job(call, read)


def _step(problem: Problem) -> Job:
    import jax

    case = problem.case
    weights, x = _weights(problem), _copy(problem, problem.x[0])
    state = tuple(_copy(problem, array[0]) for array in _states(case, problem.h, problem.c))
    compiled = jax.jit(lambda w, x, state: _cell(case, w, _input_product(w, x), state))

    def call() -> Any:
        return jax.block_until_ready(compiled(weights, x, state))

    return Job(call, lambda after: dict(zip(("y", "c"), map(_array, after), strict=False)))
