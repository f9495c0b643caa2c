"""Dropout between the layers (Zaremba et al. 2014), by a hash rather than a stream of numbers.

Whether element (t, b, j) of layer l's output, shape (T, B, D·R), is dropped is a function of the
seed and of its own position alone, so that any part can be computed by anyone, in any order:

    1. position = ((l·T + t)·B + b)·D·R + j
    2. draw = the upper 24 bits of splitmix64(seed + position)
    3. factor = 0 if draw < round(p·2²⁴), else 1 / (1 - p)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .cell import Array


def splitmix64(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of every element, modulo 2⁶⁴: Steele et al. (2014), Vigna's constants."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def dropout_factor(p: float, seed: int, layer: int, like: Array) -> Array:
    """What the output of a layer is multiplied by: 0 with probability p, else 1 / (1 - p).

    Parameters
    ----------
    p : float
        From 0 to 1.
    seed : int
        From 0 to below 2⁶⁴.
    layer : int
        l, from 0.
    like : ndarray, shape (T, B, D·R)
        Gives shape and dtype.

    Returns
    -------
    ndarray, shape (T, B, D·R)
    """
    position = np.arange(like.size, dtype=np.uint64) + np.uint64(layer * like.size)  # 1.
    draw = splitmix64(position + np.uint64(seed)) >> np.uint64(40)  # 2.
    kept = (draw >= np.uint64(round(p * 2**24))).reshape(like.shape)
    return np.where(kept, 1 / (1 - p) if p < 1 else 0, 0.0).astype(like.dtype)  # 3.
