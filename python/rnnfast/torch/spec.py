"""What a recurrent module is, and the compiled layer that computes it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from rnnfast import _core

from .gpu import make_core
from .threads import find_openmp

CELLS = {  # as the compiled layer calls them, and how many gates they have
    "LSTM": ("lstm", "tanh", 4),
    "GRU": ("gru", "tanh", 3),
    "RNN_TANH": ("rnn", "tanh", 1),
    "RNN_RELU": ("rnn", "relu", 1),
}
DTYPES = {torch.float32: "float32", torch.float64: "float64"}
_MOST_ROWS = 64  # of a step that reads the weights where they lie

Shape = tuple[int, ...]
Options = tuple[Any, ...]  # the fields of a `Spec` but for the last


class Spec(NamedTuple):
    """The options of a module, as in ``torch.nn.RNNBase``."""

    mode: str
    input_size: int
    hidden_size: int
    num_layers: int = 1
    bias: bool = True
    batch_first: bool = False
    dropout: float = 0.0  # unless outputs are to be dropped in this call
    bidirectional: bool = False
    proj_size: int = 0
    cell: bool = False  # of an RNNCell, LSTMCell or GRUCell: without the axes L·D and T
    compute: str = "float32"

    @property
    def width(self) -> int:
        """Size of h in one direction."""
        return self.proj_size or self.hidden_size

    @property
    def directions(self) -> int:
        """How many there are, D."""
        return 2 if self.bidirectional else 1

    def shapes(self) -> list[tuple[int, ...]]:
        """List the shapes of the weights, layer by layer and direction by direction."""
        rows = CELLS[self.mode][2] * self.hidden_size
        shapes: list[tuple[int, ...]] = []
        below = self.input_size
        for _ in range(self.num_layers):
            track: list[tuple[int, ...]] = [(rows, below), (rows, self.width)]
            track += [(rows,), (rows,)] if self.bias else []
            track += [(self.width, self.hidden_size)] if self.proj_size else []
            shapes += track * self.directions
            below = self.width * self.directions
        return shapes

    def batch(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Tell the axis B of an x that is not packed, by its shape, if it has one."""
        if self.cell:
            return shape[:-1]
        return () if len(shape) == 2 else (shape[0 if self.batch_first else 1],)

    def states(self, batch: tuple[int, ...]) -> list[tuple[int, ...]]:
        """List the shapes of a state's parts."""
        return [(*leading, *batch, units) for *leading, units in self.parts()]

    def parts(self) -> tuple[tuple[int, ...], ...]:
        """List the axes of a state's parts, but for B which comes before the last."""
        leading = () if self.cell else (self.num_layers * self.directions,)
        h, c = (*leading, self.width), (*leading, self.hidden_size)
        return (h, c) if self.mode == "LSTM" else (h,)

    def takes(self, x: Shape, state: Sequence[Shape], packed: int | None) -> bool:
        """Tell whether input and state, by their shapes, are what the layer computes with.

        `packed` is the number of sequences where x are packed rows.
        """
        axes = (2, 3) if packed is None else (2,)
        if len(x) + self.cell not in axes or x[-1] != self.input_size or 0 in x:
            return False
        batch = self.batch(x) if packed is None else (packed,)
        return not state or list(map(tuple, state)) == self.states(batch)

    def time_axis(self, x: Shape) -> int | None:
        """Tell the axis T of x, None for a cell's, which has none."""
        return None if self.cell else int(self.batch_first and len(x) == 3)


@dataclass(frozen=True, eq=False, slots=True)
class CallPlan:
    """What the options of a module and the shapes of a call decide."""

    spec: Spec
    core: _core.Layer
    pair: bool  # whether a state has two parts
    steps: bool  # one time step of so few rows that packing the weights does not pay
    axis: int | None  # T's
    gpu: bool  # whether the GPU backend computes


@lru_cache(maxsize=4096)
def plan_of(
    options: Options,
    compute: str,
    dtype: torch.dtype,
    x: Shape,
    state: tuple[Shape, ...],
    packed: int | None,
    gpu: bool,
) -> CallPlan | None:
    """Plan calls by the shapes of input and state; None where they are for PyTorch."""
    spec = Spec._make((*options, compute))
    if spec.mode not in CELLS or not spec.takes(x, state, packed):
        return None
    if dtype not in DTYPES or (gpu and dtype is not torch.float32):
        return None
    axis = spec.time_axis(x)
    single = packed is None and (axis is None or x[axis] == 1)
    few = math.prod(x[:-1]) <= _MOST_ROWS
    steps = single and few and not (gpu or spec.bidirectional or spec.dropout)
    return CallPlan(spec, core_of(spec, dtype, gpu), spec.mode == "LSTM", steps, axis, gpu)


@lru_cache(maxsize=1024)
def core_of(spec: Spec, dtype: torch.dtype, gpu: bool) -> _core.Layer:
    """Make the compiled layer. It holds no weights, so that all modules of a kind share one."""
    cell, nonlinearity, _ = CELLS[spec.mode]
    options = spec._asdict() | {"cell": cell, "nonlinearity": nonlinearity, "reset_after": True}
    del options["mode"]
    if gpu:
        made: _core.Layer = make_core(**options)
        return made
    core = _core.Layer(dtype=DTYPES[dtype], recompute=0, **options)
    if (openmp := find_openmp()) is not None:
        core.use_openmp(*openmp)
    return core
