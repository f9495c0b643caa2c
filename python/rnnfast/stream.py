"""Sequences that come block by block."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _core
from .parameters import Array, Parametrized

State = Any  # h, or the pair (h, c) of an LSTM


class Stream:
    """A running sequence fed block by block; made by a layer's `stream`.

    The weights are packed once, when the stream opens: changes of the parameters take effect
    with the next stream. Outputs equal those of one call on the whole sequence bit for bit.
    """

    def __init__(
        self, layer: Parametrized, batch: int, state: State, num_threads: int | None
    ) -> None:
        self._layer = layer
        self._batch = batch
        self._state = state
        self._num_threads = num_threads
        self._weights = layer._flat.copy()
        self._packed: _core.Packed | None = layer._core.pack(self._weights, num_threads)

    @property
    def state(self) -> State:
        """State after the last block; None before the first one where none was given."""
        return self._state

    def push(self, block: Array) -> Array:
        """Continue with a block.

        Parameters
        ----------
        block : ndarray
            Features (T, B, I) or tokens (T, B), any T ≥ 1; axes as the layer's `batch_first` says.

        Returns
        -------
        y : ndarray
            Outputs of the block, (T, B, H), or P in place of H with a projection.

        Raises
        ------
        TypeError
            If the block is no array.
        ValueError
            If the block or the initial state does not fit the layer and batch, or the stream is
            closed. The stream goes on from where it was.
        """
        layer = self._layer
        if self._packed is None:
            raise layer._wrong_value("the stream is closed, expected an open one")
        if not isinstance(block, np.ndarray) and hasattr(type(block), "__array__"):
            block = np.asarray(block)
        if not isinstance(block, np.ndarray):
            raise layer._wrong_type("block", block, "a NumPy array")
        self._check_batch(block)
        y, self._state, _ = layer._core.forward(
            self._weights, block, self._state, None, None, False, 0, self._num_threads, self._packed
        )
        return y

    def _check_batch(self, block: Array) -> None:
        axis = 0 if self._layer.batch_first else 1
        axes = 2 if block.dtype.kind in "iu" else 3
        if block.ndim != axes or block.shape[axis] != self._batch:
            raise self._layer._wrong_value(
                f"block has shape {block.shape}, expected {axes} axes, with batch {self._batch} "
                f"on axis {axis}"
            )

    def close(self) -> None:
        """Release the packed weights."""
        self._packed = None

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
