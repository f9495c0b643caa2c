"""The basic cell of Elman (1990), for n sequences; G = 1.

x (n, I); h, new h, a (n, H)

1. a = x W_ihᵀ + b_ih + h W_hhᵀ + b_hh
2. new h = φ(a)

Backward:

2. da = dh ∘ φ'(a)
1. both products, each with da
"""

from __future__ import annotations

from .activations import NONLINEARITIES
from .cell import Array, Back, Cell, States, Weights, product


def basic(nonlinearity: str) -> Cell:
    """The cell whose φ is one of `NONLINEARITIES`."""
    phi, slope = NONLINEARITIES[nonlinearity]

    def step(w: Weights, x: Array, s: States) -> tuple[States, Back]:
        (h,) = s
        a, back_x = product(x, w.ih, w.b_ih)  # 1.
        u, back_h = product(h, w.hh, w.b_hh)
        new = phi(a + u)  # 2.

        def back(dw: Weights, ds: States) -> tuple[Array, States]:
            (dh,) = ds
            da = dh * slope(new)  # 2.
            return back_x(da, dw.ih, dw.b_ih), (back_h(da, dw.hh, dw.b_hh),)  # 1.

        return (new,), back

    return Cell(1, 1, step)
