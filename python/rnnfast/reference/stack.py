"""Layers × directions: direction d of layer l has the index k = l·D + d in weights and states.

Each direction of a layer reads the whole input of the layer, and their outputs, side by side and
after dropout, are the input of the next one (Graves et al. 2013).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from .cell import Array, Cell, States, Weights
from .sequence import Moment, put, run, take

Back: TypeAlias = Callable[[list[Weights], Array, States], tuple[Array, States]]
"""dw by k, dy (T, B, D·R), derivatives of the last states → dx (T, B, I), of the initial states."""


def run_stack(
    cell: Cell,
    weights: list[Weights],
    x: Array,
    s: States,
    orders: list[list[Moment]],
    factors: list[Array],
) -> tuple[Array, States, Back]:
    """Run the whole stack.

    Weights by k, x (T, B, I), the initial states (L·D, B, ·), the steps of each direction and the
    dropout factors (T, B, D·R) of each layer but the last, an empty list without dropout
    → y (T, B, D·R), the last states, `Back`.
    """
    s = tuple(v.copy() for v in s)
    D = len(orders)
    layers = range(len(weights) // D)
    runs_back = []
    for layer in layers:
        # 1. the directions' outputs side by side
        outputs = []
        for d, order in enumerate(orders):
            k = layer * D + d
            output, last, run_back = run(cell, weights[k], x, take(s, k), order)
            put(s, k, last)
            outputs.append(output)
            runs_back.append(run_back)
        x = np.concatenate(outputs, axis=2)
        # 2. dropout
        if layer < len(factors):
            x = x * factors[layer]

    def back(dw: list[Weights], dy: Array, ds: States) -> tuple[Array, States]:
        ds = tuple(v.copy() for v in ds)
        for layer in reversed(layers):
            # 2. dropout
            if layer < len(factors):
                dy = dy * factors[layer]
            # 1. each direction has its part of dy; both have read the layer's input
            inputs = []
            for d, part in enumerate(np.split(dy, D, axis=2)):
                k = layer * D + d
                dx, first = runs_back[k](dw[k], part, take(ds, k))
                put(ds, k, first)
                inputs.append(dx)
            dy = np.sum(inputs, axis=0)
        return dy, ds

    return x, s, back
