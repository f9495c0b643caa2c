"""The gated recurrent unit of Cho et al. (2014), for n sequences; G = 3: r, z, n.

The reset r acts after the product of h, as in cuDNN and PyTorch, or before it, as in the paper.

x (n, I); h, new h, r, z, n, q (n, H); a, u (n, 3·H); W_rz, b_rz and W_n, b_n the rows of W_hh, b_hh

1. a = x W_ihᵀ + b_ih
2. after: u = h W_hhᵀ + b_hh; before: u_rz = h W_rzᵀ + b_rz
3. r, z = σ(a_r + u_r), σ(a_z + u_z)
4. before: q = r∘h, u_n = q W_nᵀ + b_n
5. after: n = tanh(a_n + r∘u_n); before: n = tanh(a_n + u_n)
6. new h = (1 - z)∘n + z∘h

Backward:

6. dn = dh∘(1 - z), dz = dh∘(h - n); dh∘z reaches the former h
5. da_n = dn∘(1 - n²); after: du_n = da_n∘r, dr = da_n∘u_n; before: du_n = da_n
4. before: dq = du_n W_n, dr = dq∘h; dq∘r reaches the former h
3. da_r = du_r = dr∘r(1 - r), da_z = du_z = dz∘z(1 - z)
2. the product of h with du, or du_rz
1. the product of x with da
"""

from __future__ import annotations

import numpy as np

from .activations import sigmoid
from .cell import Array, Back, Cell, States, Weights, product


def step_reset_after(w: Weights, x: Array, s: States) -> tuple[States, Back]:
    """One step, the reset after the product."""
    (h,) = s
    a, back_x = product(x, w.ih, w.b_ih)  # 1.
    u, back_h = product(h, w.hh, w.b_hh)  # 2.
    (a_r, a_z, a_n), (u_r, u_z, u_n) = np.split(a, 3, axis=1), np.split(u, 3, axis=1)
    r, z = sigmoid(a_r + u_r), sigmoid(a_z + u_z)  # 3.
    n = np.tanh(a_n + r * u_n)  # 5.
    new = (1 - z) * n + z * h  # 6.

    def back(dw: Weights, ds: States) -> tuple[Array, States]:
        (dh,) = ds
        dn, dz = dh * (1 - z), dh * (h - n)  # 6.
        da_n = dn * (1 - n * n)  # 5.
        da_r, da_z = da_n * u_n * (r * (1 - r)), dz * (z * (1 - z))  # 3.
        du = np.concatenate([da_r, da_z, da_n * r], axis=1)
        before = dh * z + back_h(du, dw.hh, dw.b_hh)  # 2.
        da = np.concatenate([da_r, da_z, da_n], axis=1)
        return back_x(da, dw.ih, dw.b_ih), (before,)  # 1.

    return (new,), back


def step_reset_before(w: Weights, x: Array, s: States) -> tuple[States, Back]:
    """One step, the reset before the product: the candidate's waits for r."""
    (h,) = s
    k = 2 * h.shape[1]  # where the rows of n begin
    a, back_x = product(x, w.ih, w.b_ih)  # 1.
    u_rz, back_h = product(h, w.hh[:k], w.b_hh[:k])  # 2.
    r, z = np.split(sigmoid(a[:, :k] + u_rz), 2, axis=1)  # 3.
    u_n, back_q = product(r * h, w.hh[k:], w.b_hh[k:])  # 4.
    n = np.tanh(a[:, k:] + u_n)  # 5.
    new = (1 - z) * n + z * h  # 6.

    def back(dw: Weights, ds: States) -> tuple[Array, States]:
        (dh,) = ds
        dn, dz = dh * (1 - z), dh * (h - n)  # 6.
        da_n = dn * (1 - n * n)  # 5.
        dq = back_q(da_n, dw.hh[k:], dw.b_hh[k:])  # 4.
        da_r, da_z = dq * h * (r * (1 - r)), dz * (z * (1 - z))  # 3.
        da = np.concatenate([da_r, da_z, da_n], axis=1)
        before = dh * z + dq * r + back_h(da[:, :k], dw.hh[:k], dw.b_hh[:k])  # 2.
        return back_x(da, dw.ih, dw.b_ih), (before,)  # 1.

    return (new,), back


RESET_AFTER = Cell(3, 1, step_reset_after)
RESET_BEFORE = Cell(3, 1, step_reset_before)
