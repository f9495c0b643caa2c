"""Gate orders, and the weights of a node from and to the parameters of a layer.

G gates, D directions, I inputs, H hidden units: W (D, G·H, I), R (D, G·H, H), B (D, 2·G·H).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rnnfast.flat import Array
from rnnfast.layers import GRU, LSTM, RNN, Layer

LAYERS: dict[str, type[RNN] | type[LSTM] | type[GRU]] = {"RNN": RNN, "LSTM": LSTM, "GRU": GRU}

# Where ONNX has each of our gates: LSTM i o f c from i f g o, GRU z r h from r z n.
GATES: dict[str, tuple[int, ...]] = {"RNN": (0,), "LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}


def operator_of(layer: Layer) -> str:
    """Name the operator that a layer is."""
    return next(op for op, kind in LAYERS.items() if isinstance(layer, kind))


def to_onnx(layer: Layer, level: int) -> tuple[Array, Array, Array | None]:
    """Make W, R and B (None without biases) of a level of a layer.

    Where h is projected, R reads o ∘ tanh(c) itself: W_hh (W_hr ·) is one matrix.
    """
    order = GATES[operator_of(layer)]

    def gates(name: str) -> Array:
        parts = [layer.parameters[f"{name}_l{level}{ending}"] for ending in layer._endings]
        return np.stack([_reorder(part, order) for part in parts])

    recurrent = gates("weight_hh")
    if layer.proj_size:
        projection = projections(layer, level).astype(np.float64)
        recurrent = (recurrent @ projection.swapaxes(1, 2)).astype(layer.dtype)
    if not layer.bias:
        return gates("weight_ih"), recurrent, None
    bias = np.concatenate([gates("bias_ih"), gates("bias_hh")], axis=1)
    return gates("weight_ih"), recurrent, bias


def projections(layer: Layer, level: int) -> Array:
    """Stack the projections of a level, as factors on the right: (D, H, P)."""
    parts = [layer.parameters[f"weight_hr_l{level}{ending}"] for ending in layer._endings]
    return np.stack([part.T for part in parts])


def from_onnx(layer: Layer, w: Array, r: Array, b: Array | None) -> None:
    """Load the weights of a node into a layer of one level."""
    order = np.argsort(GATES[operator_of(layer)]).tolist()
    arrays = {"weight_ih": w, "weight_hh": r}
    if b is not None:
        arrays["bias_ih"], arrays["bias_hh"] = np.split(b, 2, axis=1)
    layer.load_state_dict(
        {
            f"{name}_l0{ending}": _reorder(part, order)
            for name, stacked in arrays.items()
            for ending, part in zip(layer._endings, stacked, strict=True)
        }
    )


def _reorder(array: Array, order: Sequence[int]) -> Array:
    """Put the blocks of gates of a parameter in another order."""
    blocks = np.split(array, len(order))
    return np.concatenate([blocks[gate] for gate in order])
