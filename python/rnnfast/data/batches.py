"""Batches of a language model: streams that are read to their end, or shuffled windows.

B sequences side by side, T steps of each; tokens of any integer type become int32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnfast import checks

from .shuffle import ALL, ShuffledBatches
from .text import Tokens


class TokenStreams:
    """Equal consecutive parts of a text, side by side: batches of truncated BPTT.

    The state after one window is the initial state of the next, so that every stream is read
    in order from its start to its end.

    Parameters
    ----------
    tokens : numpy.ndarray
        (N,) integers.
    batch : int
        Streams wanted, at least 1; fewer are made where the text is too short for one window in
        each.
    seq_length : int
        T, steps of one window, at least 1.

    Attributes
    ----------
    batch : int
        B, streams made.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range, or there are fewer than two tokens.
    """

    def __init__(self, tokens: NDArray[Any], batch: int, seq_length: int) -> None:
        _check_tokens("streams: tokens", tokens)
        batch = checks.integer("streams: batch", batch, 1)
        self.seq_length = checks.integer("streams: seq_length", seq_length, 1)
        if tokens.size < 2:
            raise ValueError(f"streams: got {tokens.size} tokens, expected at least 2")
        targets = tokens.size - 1
        self.batch = max(1, min(batch, targets // self.seq_length))
        self._tokens, self._length = tokens, targets // self.batch

    def __len__(self) -> int:
        """Return the number of full windows in each stream."""
        return self._length // self.seq_length

    def follows(self, index: int) -> bool:
        """Tell whether window `index` goes on where the one before it ended."""
        return index % len(self) != 0

    def cut(self, index: int, part: slice = ALL) -> tuple[Tokens, Tokens]:
        """Cut a window, counted through the epochs.

        Parameters
        ----------
        index : int
            From 0.
        part : slice, optional
            Which of the B streams.

        Returns
        -------
        tokens, targets : numpy.ndarray
            (T, B) int32, the targets one step later.

        Raises
        ------
        TypeError, ValueError
            If the index is no integer, or negative, or the part no slice; if the tokens are too few
            for a window.
        """
        index = checks.integer("streams: index", index, 0)
        checks.instance("streams: part", part, slice, "a slice")
        if not len(self):
            raise ValueError(
                f"streams: got {self._tokens.size} tokens, "
                f"expected at least {self.seq_length + 1} for a window"
            )
        start = index % len(self) * self.seq_length
        return self._window(start, start + self.seq_length, part)

    def __iter__(self) -> Iterator[tuple[Tokens, Tokens]]:
        """All windows in order, the last as short as the streams' ends leave it."""
        for start in range(0, self._length, self.seq_length):
            yield self._window(start, min(start + self.seq_length, self._length), ALL)

    def _window(self, start: int, stop: int, part: slice) -> tuple[Tokens, Tokens]:
        begins = range(0, self.batch * self._length, self._length)[part]
        return _gather(self._tokens, begins, start, stop)


class TokenWindows:
    """Windows at a fixed offset from each other, in an order that is new in every epoch.

    Parameters
    ----------
    tokens : numpy.ndarray
        (N,) integers, more than T of them.
    batch : int
        B, windows side by side, at least 1; fewer where there are fewer.
    seq_length : int
        T, steps of one window, at least 1.
    offset : int
        Tokens from the start of one window to that of the next, at least 1.
    seed : int
        Of the order, at least 0.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range, or there is no window with its next
        token.
    """

    def __init__(
        self, tokens: NDArray[Any], batch: int, seq_length: int, offset: int, seed: int
    ) -> None:
        _check_tokens("windows: tokens", tokens)
        seq_length = checks.integer("windows: seq_length", seq_length, 1)
        offset = checks.integer("windows: offset", offset, 1)
        if tokens.size <= seq_length:
            raise ValueError(
                f"windows: got {tokens.size} tokens, expected at least {seq_length + 1}"
            )
        windows = (tokens.size - 1 - seq_length) // offset + 1
        self._shuffled = ShuffledBatches(windows, batch, seed)
        self.seq_length, self.batch = seq_length, self._shuffled.batch
        self._tokens, self._offset = tokens, offset

    def __len__(self) -> int:
        """Return the number of full batches in an epoch."""
        return len(self._shuffled)

    def follows(self, index: int) -> bool:
        """Tell that no window goes on where the one before it ended."""
        return False

    def cut(self, index: int, part: slice = ALL) -> tuple[Tokens, Tokens]:
        """Cut batch `index`, counted through the epochs; as `TokenStreams.cut`."""
        chosen = self._shuffled.cut(index, part)
        begins = [int(number) * self._offset for number in chosen]
        return _gather(self._tokens, begins, 0, self.seq_length)


def _check_tokens(what: str, tokens: NDArray[Any]) -> None:
    checks.array(what, tokens, "iu")
    if tokens.ndim != 1:
        raise ValueError(f"{what} has shape {tokens.shape}, expected (N,)")


def _gather(tokens: NDArray[Any], begins: Any, start: int, stop: int) -> tuple[Tokens, Tokens]:
    """Cut the same steps of sequences that begin at these places; targets one step later."""
    rows = np.empty((stop - start + 1, len(begins)), np.int32)
    for column, begin in enumerate(begins):
        rows[:, column] = tokens[begin + start : begin + stop + 1]
    return rows[:-1], rows[1:]
