"""Dropout of what the last recurrent layer hands on; the layers do it between themselves."""

from __future__ import annotations

import numpy as np

from rnnfast import checks
from rnnfast.flat import Array


class Dropout:
    """Sets numbers to zero by chance, and scales those that stay up to the same mean.

    Parameters
    ----------
    probability : float
        Of a zero, in [0, 1).
    rng : numpy.random.Generator
        Source of chance.

    Raises
    ------
    TypeError, ValueError
        If the probability is no number or out of range.
    """

    def __init__(self, probability: float, rng: np.random.Generator) -> None:
        self.probability = checks.number("model: dropout", probability, checks.BELOW_ONE)
        self._rng = rng

    def mask(self, like: Array) -> Array | None:
        """Draw what an array, and later its gradient, is multiplied by; None for ones alone."""
        if self.probability == 0.0:
            return None
        drawn = self._rng.random(like.shape, dtype=np.float32)
        kept: Array = (drawn >= self.probability).astype(like.dtype)
        kept *= 1.0 / (1.0 - self.probability)
        return kept


def masked(array: Array, mask: Array | None) -> Array:
    """Multiply by a mask, into a new array where there is one."""
    return array if mask is None else array * mask
