"""Sequences that come block by block."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _core, checks
from .flat import Array
from .options import Options, Shape

State = Any  # h, or the pair (h, c) of an LSTM


class Stream:
    """A running sequence fed block by block; made by a layer's `stream`.

    The initial state is copied and the weights are packed when the stream opens: changes of either
    take effect with the next stream. Outputs equal those of one call on the whole sequence bit for
    bit. With ``device="cuda"`` they do so to rounding only, the weights stay on the GPU, blocks may
    be there, as whatever has ``__cuda_array_interface__``, and an initial state that is there is
    not copied.
    """

    def __init__(self, layer: Options, batch: int, state: State, num_threads: int | None) -> None:
        if layer.bidirectional:
            raise layer._wrong_value("stream needs a layer that is not bidirectional")
        self._layer = layer
        self._batch = checks.integer(layer._argument("batch"), batch, 1, checks.MOST)
        self._num_threads = num_threads
        self._state = state
        if state is not None:
            self._state = layer._checked_state(state, (self._batch,), self._checked_copy)
        self._packed: _core.Packed | None = layer._pack(num_threads)

    def _checked_copy(self, name: str, value: Any, expected: Shape, axes: str) -> Array:
        """Copy a part of the state, or refuse it in the words of a call."""
        layer, shown = self._layer, self._shown(value)
        part = layer._as_array(name, value) if shown is None else value
        shape = part.shape if shown is None else tuple(shown["shape"])
        if shape != expected:
            raise layer._wrong_value(f"{name} has shape {shape}, expected {axes} = {expected}")
        if shown is not None:
            return part
        if part.dtype.kind != "f":
            raise layer._wrong_value(f"{name} has dtype {part.dtype}, expected floating point")
        return np.array(part, layer.dtype)

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
            If the block does not fit the layer and batch, or the stream is closed. The stream goes
            on from where it was.
        """
        layer = self._layer
        if self._packed is None:
            raise layer._wrong_value("the stream is closed, expected an open one")
        shown = self._shown(block)
        if shown is None:
            block = layer._as_array("block", block)
            self._check_batch(block.shape, block.dtype.kind)
        else:
            self._check_batch(tuple(shown["shape"]), shown["typestr"][1:2])
        try:
            y, self._state, _ = layer._core.forward(
                None, block, self._state, None, None, False, 0, self._num_threads, self._packed
            )
        except ValueError as error:
            raise self._about_block(error) from None
        return y

    def _about_block(self, error: ValueError) -> ValueError:
        """Name the block by its own name: a call's is x."""
        text = str(error).removeprefix(self._layer._argument("x"))
        return error if text == str(error) else self._layer._wrong_value(f"block{text}")

    def _shown(self, value: Any) -> Any:
        """Return how an array that is on the GPU describes itself; None for all else."""
        on_gpu = self._layer.device == "cuda"
        return getattr(value, "__cuda_array_interface__", None) if on_gpu else None

    def _check_batch(self, shape: tuple[int, ...], kind: str) -> None:
        axis = 0 if self._layer.batch_first else 1
        axes = 2 if kind in "iu" else 3
        if len(shape) != axes or shape[axis] != self._batch:
            raise self._layer._wrong_value(
                f"block has shape {shape}, expected {axes} axes, with batch {self._batch} "
                f"on axis {axis}"
            )

    def close(self) -> None:
        """Release the packed weights."""
        self._packed = None

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
