"""Vanishing gradients: how little of a gradient is left after so many steps back in time.

T time steps, B sequences, H hidden units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .flat import Array
from .models import Recurrent, make_layers, remember

_BATCH = 16
_DISTANCES = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500)  # rows of the table
REMEMBERING = ", remembering"  # what the name of a cell with such biases ends with


def gradient_norms(
    layer: Recurrent, x: Array, rng: int | np.random.Generator | None = None
) -> Array:
    """Measure how the gradient of the last output shrinks on its way back to earlier inputs.

    The loss is v · h_T, with a random direction v for each sequence; its gradient with respect to
    the input x_{T-k} is what the layer's own BPTT gives.

    Parameters
    ----------
    layer : RNN, LSTM or GRU
        Time-major, in one direction.
    x : numpy.ndarray
        (T, B, I) floats.
    rng : None, int or numpy.random.Generator
        Source of the directions.

    Returns
    -------
    numpy.ndarray
        (T,) float64: at k the 2-norm of that gradient, averaged over the sequences, relative to the
        one at distance 0.

    Raises
    ------
    TypeError, ValueError
        If `x` does not fit, or the layer is batch-first or bidirectional.
    """
    if layer.batch_first or layer.bidirectional:
        raise ValueError("gradients: layer is batch-first or bidirectional, expected neither")
    y, _, tape = layer.forward(x)
    dy = np.zeros_like(y)
    dy[-1] = np.random.default_rng(rng).standard_normal(y.shape[1:])
    dx = layer.backward(tape, dy).x
    if dx is None:
        raise ValueError("gradients: x are tokens, expected features")
    norms = np.linalg.norm(dx[::-1].astype(np.float64), axis=-1).mean(axis=-1)
    relative: Array = norms / norms[0]
    return relative


def compare(
    cells: Sequence[str], length: int = 100, hidden: int = 64, seed: int = 0
) -> dict[str, Array]:
    """Measure fresh layers of several cells on the same random sequences.

    LSTM and GRU are measured twice: as they are made, and with gates whose biases let each unit
    remember for up to `length` steps (`rnnfast.models.remember`).

    Parameters
    ----------
    cells : sequence of str
        `basic`, `lstm` or `gru`.
    length : int
        T, at least 2.
    hidden : int
        H, and the number of input features, which are standard normal.
    seed : int
        Of all chance.

    Returns
    -------
    dict of str to numpy.ndarray
        What `gradient_norms` returns, by cell.

    Raises
    ------
    ValueError
        If a cell is unknown, or a number out of range.
    """
    if length < 2:
        raise ValueError(f"gradients: length is {length}, expected at least 2")
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((length, _BATCH, hidden))
    norms = {}
    for cell in cells:
        layer = make_layers(cell, hidden, hidden, dtype="float64", rng=rng)
        norms[cell] = gradient_norms(layer, x, rng)
        if cell != "basic":
            remember(layer, length, rng)
            norms[cell + REMEMBERING] = gradient_norms(layer, x, rng)
    return norms


def table(norms: Mapping[str, Array]) -> str:
    """Write what `compare` returns at some distances, and the mean factor of a step, as lines."""
    length = len(next(iter(norms.values())))
    distances = sorted({d for d in _DISTANCES if d < length} | {length - 1})
    rows = [["distance", *norms]]
    rows += [[str(d), *(f"{values[d]:.1e}" for values in norms.values())] for d in distances]
    steps = [f"{values[-1] ** (1 / (length - 1)):.3f}" for values in norms.values()]
    rows.append(["each step", *steps])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True))
        for row in rows
    )
