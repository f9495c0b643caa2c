"""Fixed points: a cell that is fed with its own state until the state stops changing."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from rnnfast import checks
from rnnfast.flat import Array

from .recurrent import State


@runtime_checkable
class Cell(Protocol):
    """What advances a state by one step: a recurrent layer, quantised or not, or a model."""

    def step(self, x: Any, state: Any = None) -> tuple[Array, Any]:
        """Return the output and the state after the step."""
        ...


class FixedPoint(NamedTuple):
    """Where an iteration has ended.

    Attributes
    ----------
    state : numpy.ndarray or pair of numpy.ndarray
        After the last step.
    steps : int
        Taken.
    converged : bool
        Whether the last step changed no element of the state by more than the tolerance.
    """

    state: State
    steps: int
    converged: bool


def fixed_point(
    layer: Cell, x: Any, state: State = None, *, limit: int = 1000, tolerance: float = 1e-6
) -> FixedPoint:
    """Iterate s ← f(x, s), the same input at every step, until s stops changing.

    Not every cell has a fixed point, and one that has may not reach it from every state: it may
    swing between two states, or wander, until the limit. A state that is not finite never counts
    as one that has stopped.

    Parameters
    ----------
    layer : RNN, LSTM, GRU or other cell
        f is its `step`.
    x : numpy.ndarray or int
        Input of a step: features (B, I) or (I,), or tokens (B,) or one.
    state : numpy.ndarray or pair of numpy.ndarray, optional
        To begin with; zero unless given.
    limit : int
        Most steps, at least 1.
    tolerance : float
        Largest change of an element that counts as none, at least 0. All sequences of the batch
        must have stopped.

    Returns
    -------
    FixedPoint
        The state, the steps taken, and whether it stopped changing.

    Raises
    ------
    TypeError, ValueError
        If the layer has no `step`, the limit or the tolerance is of the wrong type or out of range,
        or what the layer's `step` raises.
    """
    checks.instance("fixed_point: layer", layer, Cell, "an RNN, LSTM, GRU or other cell")
    limit = checks.integer("fixed_point: limit", limit, 1)
    tolerance = checks.number("fixed_point: tolerance", tolerance, checks.NOT_NEGATIVE)
    for step in range(1, limit + 1):
        before, (_, state) = state, layer.step(x, state)
        if _change(before, state) <= tolerance:
            return FixedPoint(state, step, True)
    return FixedPoint(state, limit, False)


def _change(before: State, after: State) -> float:
    """Return the largest change of an element; None stands for zeros."""
    if isinstance(after, tuple):
        pair = before if isinstance(before, tuple) else (before,) * len(after)
        return float(np.max([_change(*parts) for parts in zip(pair, after, strict=True)]))
    with np.errstate(invalid="ignore"):  # inf - inf is no standstill, but NaN
        change = np.abs(after if before is None else after - before)
    return float(change.max(initial=0.0))
