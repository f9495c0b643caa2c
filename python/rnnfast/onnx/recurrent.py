"""RNN, LSTM and GRU nodes on our layers.

T time steps, B sequences, D directions, I inputs, H hidden units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rnnfast.flat import Array
from rnnfast.layers import LSTM, Layer
from rnnfast.models.encoder import reverse

from .source import Node
from .weights import GATES, LAYERS, from_onnx

_DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}
_ACTIVATIONS = {"RNN": ["tanh"], "GRU": ["sigmoid", "tanh"], "LSTM": ["sigmoid", "tanh", "tanh"]}
_NONLINEARITIES = {"tanh": "tanh", "relu": "relu", "sigmoid": "sigmoid", "affine": "identity"}
_PEEPHOLES = 7


@dataclass(frozen=True, eq=False)
class Cell:
    """What the attributes of a node ask for."""

    node: Node
    directions: int
    reverse: bool  # the one direction runs from the end
    batch_first: bool
    options: dict[str, Any]  # of the layer, beside sizes and biases


def cell_of(node: Node) -> Cell:
    """Read the attributes of a node.

    Raises
    ------
    ValueError
        If one of them asks for what our layers have not.
    """
    direction = node["direction"]
    if direction not in _DIRECTIONS:
        raise node.error(f"direction is {direction!r}, expected {' or '.join(_DIRECTIONS)}")
    if node["layout"] not in (None, 0, 1):
        raise node.error(f"layout is {node['layout']}, expected 0 or 1")
    if node["clip"] is not None:
        raise node.error(f"clip is {node['clip']}, which no layer here has")
    if node["input_forget"]:
        raise node.error("input_forget is set, which no layer here has")
    if len(node.inputs) > _PEEPHOLES and node.inputs[_PEEPHOLES]:
        raise node.error("P is given: peepholes, which no layer here has")
    directions = _DIRECTIONS[direction]
    options = _activation_options(node, directions)
    if node.op == "GRU":
        options["reset_after"] = bool(node["linear_before_reset"])
    return Cell(node, directions, direction == "reverse", node["layout"] == 1, options)


def _activation_options(node: Node, directions: int) -> dict[str, Any]:
    """Refuse activations that our layers have not; they are the same in both directions there."""
    usual = _ACTIVATIONS[node.op]
    count = len(usual) * directions  # the default of RNN lists those of two directions always
    given = [name.lower() for name in node["activations"] or usual * directions][:count]
    slopes, offsets = node["activation_alpha"], node["activation_beta"]
    one = given[: len(usual)]
    if given != one * directions:
        raise node.error(f"activations are {given}, expected the same ones in each direction")
    if one == ["affine"] and (slopes, offsets) == ([1.0] * directions, [0.0] * directions):
        slopes = offsets = None  # which is the identity
    elif one == ["affine"]:
        raise node.error(
            f"activation Affine has activation_alpha={slopes} and activation_beta={offsets}, "
            "expected 1 and 0"
        )
    for name, value in (("activation_alpha", slopes), ("activation_beta", offsets)):
        if value:
            raise node.error(f"{name} is {value}, which no layer here has")
    if node.op == "RNN" and one[0] in _NONLINEARITIES:
        return {"nonlinearity": _NONLINEARITIES[one[0]]}
    if one != usual:
        raise node.error(f"activations are {one}, expected {usual}")
    return {}


def make_layer(cell: Cell, w: Any, r: Any, b: Any) -> Layer:
    """Make a layer of one level with the weights of a node.

    Raises
    ------
    ValueError
        If their shapes or types do not fit.
    """
    node = cell.node
    for name, array, axes in (("W", w, 3), ("R", r, 3), ("B", b, 2)):
        if array is None:
            continue
        if array.ndim != axes:
            raise ValueError(f"{name} has shape {array.shape}, expected {axes} axes")
        if array.dtype not in (np.float32, np.float64) or array.dtype != w.dtype:
            raise ValueError(f"{name} is {array.dtype}, expected float32 or float64, as is W")
    inputs, hidden = w.shape[2], node["hidden_size"] or r.shape[2]
    rows = (cell.directions, len(GATES[node.op]) * hidden)
    expected = {"W": (*rows, inputs), "R": (*rows, hidden), "B": (rows[0], 2 * rows[1])}
    for name, array in (("W", w), ("R", r), ("B", b)):
        if array is not None and array.shape != expected[name]:
            raise ValueError(
                f"{name} has shape {array.shape}, expected {expected[name]} for "
                f"{cell.directions} direction(s) and hidden_size={hidden}"
            )
    layer = LAYERS[node.op](
        inputs,
        hidden,
        bias=b is not None,
        batch_first=cell.batch_first,
        bidirectional=cell.directions == 2,
        dtype=w.dtype,
        **cell.options,
    )
    from_onnx(layer, w, r, b)
    return layer


class Recurrence:
    """A node that can be called: with its weights packed, or with weights that come as inputs."""

    def __init__(self, cell: Cell, layer: Layer | None) -> None:
        self._cell = cell
        self._layer = layer
        self._packed = None if layer is None else layer._pack(None)

    def __call__(
        self,
        x: Array,
        w: Array | None = None,
        r: Array | None = None,
        b: Array | None = None,
        lengths: Array | None = None,
        h: Array | None = None,
        c: Array | None = None,
    ) -> tuple[Array, ...]:
        """Compute Y, Y_h and of an LSTM Y_c, in the shapes of ONNX."""
        layer = self._layer or make_layer(self._cell, w, r, b)
        if x.ndim != 3 or x.dtype != layer.dtype:
            raise ValueError(f"X is {x.dtype} {x.shape}, expected {layer.dtype} of 3 axes")
        state = self._turned(h)
        if isinstance(layer, LSTM):
            state = (state, self._turned(c))
        x = self._reversed(x, lengths)
        flat = layer.flat if self._packed is None else None
        y, final, _ = layer._core.forward(
            flat, x, state, lengths, None, False, 0, None, self._packed
        )
        y = self._reversed(y, lengths)
        y = y.reshape(*y.shape[:2], self._cell.directions, layer.hidden_size)
        if not self._cell.batch_first:
            y = y.transpose(0, 2, 1, 3)
        finals = final if isinstance(final, tuple) else (final,)
        return (y, *(self._turned(part) for part in finals))

    def _turned(self, state: Array | None) -> Any:
        """Change a state from one layout into the other: (B, D, H) and our (D, B, H)."""
        return state.swapaxes(0, 1) if state is not None and self._cell.batch_first else state

    def _reversed(self, x: Array, lengths: Array | None) -> Array:
        """Turn sequences around for a node that runs from the end, each within its length."""
        if not self._cell.reverse:
            return x
        by_time = x.swapaxes(0, 1) if self._cell.batch_first else x
        if lengths is not None:  # the layer refuses what is out of range
            lengths = np.clip(lengths, 0, len(by_time))
        turned = reverse(by_time, lengths)
        return turned.swapaxes(0, 1) if self._cell.batch_first else turned
