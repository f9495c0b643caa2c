"""Batches of examples in an order that is new in every epoch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rnnfast import checks

ALL = slice(None)


class ShuffledBatches:
    """Batches of examples by their numbers; what an epoch leaves over comes in another one.

    Parameters
    ----------
    count : int
        Examples, at least 1.
    batch : int
        Examples of a batch, at least 1; fewer where there are fewer.
    seed : int
        Of the order, at least 0.

    Attributes
    ----------
    batch : int
        Examples of a batch.

    Raises
    ------
    TypeError, ValueError
        If a number is no integer or out of range.
    """

    def __init__(self, count: int, batch: int, seed: int) -> None:
        self._count = checks.integer("batches: count", count, 1)
        self.batch = min(checks.integer("batches: batch", batch, 1), self._count)
        self._seed = checks.integer("batches: seed", seed, 0)
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def __len__(self) -> int:
        """Return the number of full batches in an epoch."""
        return self._count // self.batch

    def cut(self, index: int, part: slice = ALL) -> NDArray[np.int64]:
        """Return the numbers of the examples of a batch.

        Parameters
        ----------
        index : int
            From 0, counted through the epochs.
        part : slice, optional
            Which of the batch's examples.

        Raises
        ------
        TypeError, ValueError
            If the index is no integer, or negative, or the part no slice.
        """
        index = checks.integer("batches: index", index, 0)
        checks.instance("batches: part", part, slice, "a slice")
        epoch, batch = divmod(index, len(self))
        if epoch != self._epoch:
            rng = np.random.default_rng([self._seed, epoch])
            self._epoch, self._order = epoch, rng.permutation(self._count)
        return self._order[batch * self.batch : (batch + 1) * self.batch][part]
