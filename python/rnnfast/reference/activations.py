"""The activations φ, and their slopes φ' in terms of their own outputs y = φ(a).

========  =================  ====================
sigmoid   1 / (1 + e⁻ᵃ) = σ  y (1 - y)
tanh      tanh(a)            1 - y²
relu      max(a, 0)          0 where y ≤ 0, else 1
identity  a                  1
========  =================  ====================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from .cell import Array

Function: TypeAlias = Callable[[Array], Array]


def sigmoid(a: Array) -> Array:
    """σ, with the sign of the exponent chosen such that it cannot overflow."""
    e = np.exp(np.where(a.real > 0, -a, a))
    y: Array = np.where(a.real > 0, 1, e) / (1 + e)
    return y


def relu(a: Array) -> Array:
    """max(a, 0) by the sign of the real part; NaN stays NaN."""
    return np.where(a.real <= 0, 0, a)


NONLINEARITIES: dict[str, tuple[Function, Function]] = {  # φ of a, φ' of y
    "tanh": (np.tanh, lambda y: 1 - y * y),
    "relu": (relu, lambda y: ~(y.real <= 0)),
    "sigmoid": (sigmoid, lambda y: y * (1 - y)),
    "identity": (np.copy, np.ones_like),
}
