"""One direction of one layer: the loop over time and back-propagation through it (Werbos 1990).

A sequence ends at its length; a segment begins at every step t with reset[t], and nothing crosses
its border in either direction: walking forward a segment is entered at t, walking back at the step
before the next one's beginning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np

from .cell import Array, Cell, States, Weights

Back: TypeAlias = Callable[[Weights, Array, States], tuple[Array, States]]
"""dw, dy (T, B, R), derivatives of the last states → dx (T, B, I), those of the initial states."""


class Moment(NamedTuple):
    """One step of one direction: what happens at time t."""

    t: int
    rows: Array  # (n,) of int, the sequences that have a step t
    fresh: Array  # of int, those of them whose segment begins here with a zero state


def moments(lengths: Array, reset: Array, reverse: bool) -> list[Moment]:
    """The steps of one direction in the order in which they run.

    Parameters
    ----------
    lengths : ndarray of int, shape (B,)
    reset : ndarray of bool, shape (T, B)
    reverse : bool
    """
    alive = np.arange(len(reset))[:, None] < lengths
    fresh = reset & alive
    if reverse:
        fresh = np.pad(fresh[1:], ((0, 1), (0, 0)))
    flags = enumerate(zip(alive, fresh, strict=True))
    steps = [Moment(t, np.flatnonzero(has), np.flatnonzero(begins)) for t, (has, begins) in flags]
    return steps[::-1] if reverse else steps


def take(s: States, at: int | Array) -> States:
    """The states at an index or several; at several, copies."""
    return tuple(v[at] for v in s)


def put(s: States, at: int | Array, new: States) -> None:
    """Write what `take` would read."""
    for v, v_new in zip(s, new, strict=True):
        v[at] = v_new


def forget(s: States, at: Array) -> None:
    """Zero the states, or what reaches them, where a segment begins."""
    for v in s:
        v[at] = 0


def run(
    cell: Cell, w: Weights, x: Array, s: States, order: list[Moment]
) -> tuple[Array, States, Back]:
    """Run one direction of one layer.

    x (T, B, I), the initial states (B, ·) → y (T, B, R), zero where a sequence has no step; each
    sequence's own last states; `Back`.
    """
    s = tuple(v.copy() for v in s)
    y = np.zeros((*x.shape[:2], s[0].shape[1]), x.dtype)
    steps_back = []
    for t, rows, fresh in order:
        # 1. a new segment forgets
        forget(s, fresh)
        # 2. the step, for those that have one; the others keep their states
        new, step_back = cell.step(w, x[t, rows], take(s, rows))
        put(s, rows, new)
        steps_back.append(step_back)
        # 3. y_t = h_t
        y[t, rows] = new[0]

    def back(dw: Weights, dy: Array, ds: States) -> tuple[Array, States]:
        ds = tuple(v.copy() for v in ds)
        dx = np.zeros_like(x)
        for (t, rows, fresh), step_back in zip(order[::-1], steps_back[::-1], strict=True):
            # 3. dh_t += dy_t
            ds[0][rows] += dy[t, rows]
            # 2. the step
            dx[t, rows], before = step_back(dw, take(ds, rows))
            put(ds, rows, before)
            # 1. nothing reaches what was forgotten
            forget(ds, fresh)
        return dx, ds

    return y, s, back
