"""A sequence that comes block by block: the state after one is the initial state of the next."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np

from .arguments import Layout, State, require
from .cell import Array

if TYPE_CHECKING:
    from .layers import Recurrent


class Stream:
    """The twin of `rnnfast`'s; made by a layer's `stream`.

    Attributes
    ----------
    state : ndarray or pair of ndarrays, or None
        After the last block; None before the first one where none was given.
    """

    def __init__(self, layer: Recurrent, batch: int, state: State | None) -> None:
        require(batch >= 1, layer.name, f"batch is {batch}", "at least 1")
        self.state = state
        if state is not None:
            layout = Layout(layer.name, layer.dtype, True, layer.batch_first, False)
            shapes = layer.state_shapes(batch)
            self.state = layout.states_outside(layout.states_inside("state", state, shapes))
        self._layer = copy.deepcopy(layer)  # the weights of this moment
        self._batch = batch
        self._open = True

    def push(self, block: Array) -> Array:
        """Continue with a block (T, B, I), or tokens (T, B), any T ≥ 1 → y (T, B, R)."""
        layer, axis = self._layer, 0 if self._layer.batch_first else 1
        require(self._open, layer.name, "the stream is closed", "an open one")
        rank = 2 if np.issubdtype(block.dtype, np.integer) else 3
        fits = block.ndim == rank and block.shape[axis] == self._batch
        expected = f"{rank} axes, with batch {self._batch}"
        require(fits, layer.name, f"block has shape {block.shape}", expected)
        y, self.state = layer(block, self.state)
        return y

    def close(self) -> None:
        """Take no more blocks."""
        self._open = False

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
