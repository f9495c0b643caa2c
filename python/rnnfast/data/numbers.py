"""Lists of numbers to be sorted, generated."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rnnfast import checks


def number_lists(
    length: int, kinds: int, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Draw lists of numbers, each number alike.

    Parameters
    ----------
    length : int
        T, numbers in a list.
    kinds : int
        Numbers are 0 to kinds - 1; at least 1.
    count : int
        B, lists.
    rng : numpy.random.Generator
        Source of chance.

    Returns
    -------
    numbers, in_order : numpy.ndarray
        (T, B) int32: the lists as drawn, and sorted.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range.
    """
    length = checks.integer("number_lists: length", length, 0)
    kinds = checks.integer("number_lists: kinds", kinds, 1, checks.MOST)
    count = checks.integer("number_lists: count", count, 0)
    checks.instance("number_lists: rng", rng, np.random.Generator, "a NumPy Generator")
    numbers = rng.integers(0, kinds, (length, count)).astype(np.int32)
    return numbers, np.sort(numbers, axis=0)
