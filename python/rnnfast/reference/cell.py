"""What every cell is made of: its weights, its products, and one step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
States: TypeAlias = tuple[Array, ...]  # (h,) or (h, c)


class Weights(NamedTuple):
    """The parameters of one direction of one layer, or the gradients with respect to them."""

    ih: Array  # (G·H, I)
    hh: Array  # (G·H, R)
    b_ih: Array  # (G·H,)
    b_hh: Array  # (G·H,)
    hr: Array | None  # (P, H), the LSTM's projection


Back: TypeAlias = Callable[[Weights, States], tuple[Array, States]]
"""dw, derivatives of the states after t → dx, those of the states after t-1."""


class Cell(NamedTuple):
    """A kind of layer."""

    gates: int  # G
    states: int  # 1 for h, 2 for h and c
    step: Callable[[Weights, Array, States], tuple[States, Back]]
    """w, x (n, I), states (n, ·) after t-1 → those after t, back; for n sequences."""


def product(x: Array, W: Array, b: Array) -> tuple[Array, Callable[[Array, Array, Array], Array]]:
    """y = x Wᵀ + b, with x (n, j), W (k, j), b (k,), y (n, k).

    Its derivatives are dx = dy W, dW += dyᵀ x, db += Σₙ dy.
    """
    y: Array = x @ W.T + b

    def back(dy: Array, dW: Array, db: Array) -> Array:
        dW += dy.T @ x
        db += dy.sum(0)
        dx: Array = dy @ W
        return dx

    return y, back
