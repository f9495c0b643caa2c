"""Packed sequences: rows of all sequences, step by step, the longest sequence first."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from ..flat import Array
from .arrays import Tensor


class Packing(NamedTuple):
    """How rows are packed: each step's number of sequences, which does not grow."""

    batch_sizes: Tensor
    lengths: Array  # of each sequence
    rows: Tensor  # where each packed row is among the T · B of the padded array

    @classmethod
    def of(cls, batch_sizes: Tensor, count: int) -> Packing | None:
        """Read `batch_sizes`; None if they are not those of so many rows."""
        sizes = batch_sizes.numpy()
        shrinking = sizes.size > 0 and sizes[-1] > 0 and not np.any(sizes[1:] > sizes[:-1])
        if not shrinking or sizes.sum() != count:
            return None
        batch = np.arange(sizes[0])
        present = batch < sizes[:, None]
        return cls(batch_sizes, present.sum(0), torch.from_numpy(np.flatnonzero(present)))

    def pad(self, packed: Tensor) -> Tensor:
        """Spread rows over (T, B, …); between them are zeros."""
        steps, batch = len(self.batch_sizes), len(self.lengths)
        padded = packed.new_zeros(steps * batch, packed.shape[1])
        return padded.index_copy_(0, self.rows, packed).view(steps, batch, -1)

    def pack(self, padded: Tensor) -> Tensor:
        """Collect rows from (T, B, …)."""
        return padded.flatten(0, 1).index_select(0, self.rows)
