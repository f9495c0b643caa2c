"""Long short-term memory, for n sequences; G = 4: i, f, g, o.

Hochreiter and Schmidhuber (1997) with the forget gate of Gers et al. (2000) and, where there is a
W_hr, the projection of Sak et al. (2014).

x (n, I); h, new h (n, R); c, new c, i, f, g, o, k, m (n, H); a (n, 4·H)

1. a = x W_ihᵀ + b_ih + h W_hhᵀ + b_hh
2. i = σ(a_i), f = σ(a_f), g = tanh(a_g), o = σ(a_o)
3. new c = f∘c + i∘g
4. m = o∘k, k = tanh(new c)
5. new h = m W_hrᵀ, or m without a projection

Backward:

5. dm = dh W_hr, dW_hr += dhᵀ m
4. dc += dm∘o∘(1 - k²), do = dm∘k
3. di = dc∘g, df = dc∘c, dg = dc∘i; dc∘f reaches the former c
2. da_i = di∘i(1 - i), da_f = df∘f(1 - f), da_g = dg∘(1 - g²), da_o = do∘o(1 - o)
1. both products, each with da
"""

from __future__ import annotations

import numpy as np

from .activations import sigmoid
from .cell import Array, Back, Cell, States, Weights, product


def step(w: Weights, x: Array, s: States) -> tuple[States, Back]:
    """One step, as above."""
    h, c = s
    a, back_x = product(x, w.ih, w.b_ih)  # 1.
    u, back_h = product(h, w.hh, w.b_hh)
    a_i, a_f, a_g, a_o = np.split(a + u, 4, axis=1)
    i, f, g, o = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)  # 2.
    new_c = f * c + i * g  # 3.
    k = np.tanh(new_c)  # 4.
    m = o * k
    new_h = m if w.hr is None else m @ w.hr.T  # 5.

    def back(dw: Weights, ds: States) -> tuple[Array, States]:
        dm, dc = ds
        if w.hr is not None and dw.hr is not None:  # 5.
            dw.hr[:] += dm.T @ m
            dm = dm @ w.hr
        dc = dc + dm * o * (1 - k * k)  # 4.
        da_i = dc * g * (i * (1 - i))  # 3. and 2.
        da_f = dc * c * (f * (1 - f))
        da_g = dc * i * (1 - g * g)
        da_o = dm * k * (o * (1 - o))
        da = np.concatenate([da_i, da_f, da_g, da_o], axis=1)
        return back_x(da, dw.ih, dw.b_ih), (back_h(da, dw.hh, dw.b_hh), dc * f)  # 1.

    return (new_h, new_c), back


CELL = Cell(4, 2, step)
