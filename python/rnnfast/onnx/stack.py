"""The nodes of recurrent layers.

T time steps, B sequences, L layers, D directions, H hidden units, P of them projected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rnnfast.layers import GRU, RNN, Layer

from .builder import Builder
from .weights import operator_of, projections, to_onnx

_ACTIVATIONS = {"tanh": "Tanh", "relu": "Relu", "sigmoid": "Sigmoid", "identity": "Affine"}


@dataclass(frozen=True)
class Run:
    """Names of what a stack of layers makes."""

    y: str  # (T, B, D·P)
    states: tuple[str, ...]  # h (L·D, B, P), and of an LSTM c (L·D, B, H)
    last: str  # h of the last layer, (D, B, P)


@dataclass(frozen=True, eq=False)
class Stack:
    """Writes the nodes of a layer, one for each level of it.

    `prefix` begins the names of all that belongs to it; `lengths` names the input that holds them,
    if any; with `reverse`, layers of one direction run from the end.
    """

    builder: Builder
    layer: Layer
    prefix: str = ""
    lengths: str = ""
    reverse: bool = False

    def write(self, x: str, initial: Sequence[str] = ()) -> Run:
        """Add all nodes, for x (T, B, I) and the initial state, zeros unless given."""
        count = self.layer.num_layers
        starts = [self._parts(state) for state in initial]
        ends: list[list[str]] = []
        for k in range(count):
            x, *states = self._level(k, x, [start[k] for start in starts])
            ends.append(states)
        last = tuple(
            parts[0] if count == 1 else self.builder.add("Concat", parts, axis=0)
            for parts in zip(*ends, strict=True)
        )
        return Run(x, last, ends[-1][0])

    def _parts(self, state: str) -> list[str]:
        """Split a state (L·D, B, ·) into those of the levels."""
        if self.layer.num_layers == 1:
            return [state]
        names = [f"{state}_l{k}" for k in range(self.layer.num_layers)]
        self.builder.add_named("Split", [state], names, f"{state}_split", axis=0)
        return names

    def _level(self, k: int, x: str, initial: list[str]) -> list[str]:
        """Add the node of level `k`; return y (T, B, D·P) and the last state (D, B, ·)."""
        b, layer, prefix, op = self.builder, self.layer, self.prefix, operator_of(self.layer)
        arrays = dict(zip("WRB", to_onnx(layer, k), strict=True))
        weights = [
            "" if array is None else b.constant(f"{prefix}{letter}_l{k}", array)
            for letter, array in arrays.items()
        ]
        results = [f"{prefix}{part}_l{k}" for part in ("Y", "Y_h", "Y_c")]
        del results[1 + len(layer._state_widths) :]
        b.add_named(
            op,
            [x, *weights, self.lengths, *initial],
            results,
            f"{prefix}{op}_l{k}",
            hidden_size=layer.hidden_size,
            direction=self._direction(),
            **_attributes(layer),
        )
        if layer.proj_size:
            matrix = b.constant(f"{prefix}projection_l{k}", projections(layer, k))
            results[:2] = [b.add("MatMul", [value, matrix]) for value in results[:2]]
        y, *states = results
        return [self._joined(y), *states]

    def _joined(self, y: str) -> str:
        """Lay the directions of Y (T, D, B, P) side by side."""
        b, layer = self.builder, self.layer
        if not layer.bidirectional:
            return b.add("Squeeze", [y, b.integers(1)])
        swapped = b.add("Transpose", [y], perm=[0, 2, 1, 3])
        return b.add("Reshape", [swapped, b.integers(0, 0, 2 * layer._width)])

    def _direction(self) -> str:
        if self.layer.bidirectional:
            return "bidirectional"
        return "reverse" if self.reverse else "forward"


def _attributes(layer: Layer) -> dict[str, Any]:
    """Attributes of a node that say what kind of cell it is."""
    if isinstance(layer, GRU):
        return {"linear_before_reset": int(layer.reset_after)}
    if not isinstance(layer, RNN):
        return {}
    count = layer._directions
    activations = {"activations": [_ACTIVATIONS[layer.nonlinearity]] * count}
    if layer.nonlinearity != "identity":
        return activations
    return {**activations, "activation_alpha": [1.0] * count, "activation_beta": [0.0] * count}
