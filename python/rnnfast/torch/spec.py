"""What a recurrent module is, and the compiled layer that computes it."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch

from .. import _core

CELLS = {
    "LSTM": ("lstm", "tanh"),
    "GRU": ("gru", "tanh"),
    "RNN_TANH": ("rnn", "tanh"),
    "RNN_RELU": ("rnn", "relu"),
}
GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}
DTYPES = {torch.float32: "float32", torch.float64: "float64"}


class Spec(NamedTuple):
    """The options of a module; ``mode`` and the rest as in ``torch.nn.RNNBase``."""

    mode: str
    input_size: int
    hidden_size: int
    num_layers: int
    bias: bool
    batch_first: bool
    dropout: float  # 0 unless outputs are to be dropped in this call
    bidirectional: bool
    proj_size: int
    compute: str

    @property
    def tracks(self) -> int:
        """Layers times directions: the first axis of a state."""
        return self.num_layers * self.directions

    @property
    def output_size(self) -> int:
        """Units of h."""
        return self.proj_size or self.hidden_size

    def shapes(self) -> list[tuple[int, ...]]:
        """List the shapes of the weights, layer by layer and direction by direction."""
        hidden, rows = self.output_size, GATES[self.mode] * self.hidden_size
        shapes: list[tuple[int, ...]] = []
        width = self.input_size
        for _ in range(self.num_layers):
            track: list[tuple[int, ...]] = [(rows, width), (rows, hidden)]
            track += [(rows,), (rows,)] if self.bias else []
            track += [(hidden, self.hidden_size)] if self.proj_size else []
            shapes += track * self.directions
            width = hidden * self.directions
        return shapes

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    def batch(self, x: torch.Tensor) -> tuple[int, ...]:
        """The axis B of x, if it has one."""
        return () if x.dim() == 2 else (x.shape[0 if self.batch_first else 1],)


@lru_cache(maxsize=1024)
def layer(spec: Spec, dtype: torch.dtype) -> _core.Layer:
    """Make the compiled layer. It holds no weights, so that all modules of a kind share one."""
    cell, nonlinearity = CELLS[spec.mode]
    return _core.Layer(
        cell=cell,
        dtype=DTYPES[dtype],
        nonlinearity=nonlinearity,
        reset_after=True,
        recompute=0,
        **{name: value for name, value in spec._asdict().items() if name != "mode"},
    )
