"""Packed sequences: rows of all sequences, step by step, the longest sequence first."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rnnfast.flat import Array

from .arrays import Tensor


class Packing(NamedTuple):
    """How rows are packed."""

    batch_sizes: Tensor  # of each step: how many sequences have it
    lengths: Array  # of each sequence
    rows: Array  # where each packed row is among the T · B of the padded array
    rows_there: Tensor | None = None  # the same on the GPU that computes

    @classmethod
    def of(cls, batch_sizes: Tensor, count: int) -> Packing | None:
        """Read `batch_sizes`; None if they are not those of so many rows."""
        sizes = batch_sizes.numpy()
        shrinking = sizes.size > 0 and sizes[-1] > 0 and not np.any(sizes[1:] > sizes[:-1])
        if not shrinking or sizes.sum() != count:
            return None
        present = np.arange(sizes[0]) < sizes[:, None]
        return cls(batch_sizes, present.sum(0), np.flatnonzero(present))

    def pad(self, packed: Array) -> Array:
        """Spread rows over (T, B, ·). What lies between them is never read."""
        steps, batch = len(self.batch_sizes), len(self.lengths)
        padded = np.empty((steps * batch, packed.shape[1]), packed.dtype)
        padded[self.rows] = packed
        return padded.reshape(steps, batch, -1)

    def pack(self, padded: Array) -> Array:
        """Collect rows from (T, B, ·)."""
        return padded.reshape(-1, padded.shape[-1])[self.rows]
