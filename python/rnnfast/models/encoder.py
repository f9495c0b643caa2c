"""Many to one: a sequence read into vectors.

T time steps, B sequences, I input features, H hidden units.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnnfast import checks
from rnnfast.flat import Array

from .model import Model
from .recurrent import Recurrent, check_layer, gradient_like, hidden_of


@dataclass(frozen=True, eq=False)
class EncoderTape:
    """What `Encoder.backward` reads: of each stack its own tape and its last state."""

    tapes: tuple[Any, ...]
    states: tuple[Any, ...]


class Encoder(Model):
    """Recurrent stacks of which only the last states of the last layers are kept.

    Parameters
    ----------
    forward : RNN, LSTM or GRU
        Time-major. One that is bidirectional reads in both directions, layers interleaved as in
        PyTorch: every layer sees both directions of the one below.
    backward : RNN, LSTM or GRU, optional
        A stack of its own that reads each sequence from its end; then both are in one direction.

    Attributes
    ----------
    widths : tuple of int
        Sizes of the vectors: one, or one for each direction.

    Raises
    ------
    TypeError
        If a stack is no recurrent layer.
    ValueError
        If a stack is batch-first, or one of two is bidirectional.
    """

    def __init__(self, forward: Recurrent, backward: Recurrent | None = None) -> None:
        stacks = {"forward": forward} | ({} if backward is None else {"backward": backward})
        for name, stack in stacks.items():
            check_layer(f"encoder: {name}", stack)
            if stack.batch_first:
                raise ValueError(f"encoder: {name} is batch-first, expected time-major")
            if stack.bidirectional and backward is not None:
                raise ValueError(f"encoder: {name} is bidirectional, expected one direction each")
        self._stacks = tuple(stacks.values())
        self._ends = tuple(stack._directions for stack in self._stacks)
        self.widths = tuple(
            stack._width
            for stack, ends in zip(self._stacks, self._ends, strict=True)
            for _ in range(ends)
        )
        self._names = tuple(stacks)
        super().__init__(stacks)

    def __call__(self, x: Array, lengths: Array | None = None) -> list[Array]:
        """Read sequences.

        Parameters
        ----------
        x : numpy.ndarray
            (T, B, I) floats or (T, B) tokens.
        lengths : numpy.ndarray, optional
            (B,) steps of each sequence; all T unless given.

        Returns
        -------
        list of numpy.ndarray
            (B, H): h after the last step, and where the encoder reads backward, h after that
            direction's last step, which is the first of the sequence.

        Raises
        ------
        TypeError, ValueError
            If `x` or `lengths` does not fit.
        """
        states = [
            stack(data, lengths=lengths)[1]
            for stack, data in zip(self._stacks, self._inputs(x, lengths), strict=True)
        ]
        return self._vectors(states)

    def forward(self, x: Array, lengths: Array | None = None) -> tuple[list[Array], EncoderTape]:
        """Read sequences and keep what `backward` needs; arguments as in a call."""
        runs = [
            stack.forward(data, lengths=lengths)
            for stack, data in zip(self._stacks, self._inputs(x, lengths), strict=True)
        ]
        states = tuple(run[1] for run in runs)
        return self._vectors(states), EncoderTape(tuple(run[2] for run in runs), states)

    def backward(self, tape: EncoderTape, dvectors: Sequence[Array]) -> None:
        """Back-propagate the vectors' gradients (B, H); leave the parameters' in `gradient`.

        Raises
        ------
        TypeError, ValueError
            If `tape` is not what `forward` returned, or the gradients do not fit.
        """
        checks.instance("encoder: tape", tape, EncoderTape, "what forward returned")
        given = self._checked_gradients(tape, dvectors)
        start = 0
        for name, stack, stack_tape, state, ends in zip(
            self._names, self._stacks, tape.tapes, tape.states, self._ends, strict=True
        ):
            dh = np.zeros_like(hidden_of(state))
            dh[-ends:] = given[start : start + ends]
            start += ends
            stack.backward(
                stack_tape,
                None,
                gradient_like(state, dh),
                out=self.gradient_of(name),
                input_gradient=False,
            )

    def _checked_gradients(self, tape: EncoderTape, dvectors: Sequence[Array]) -> tuple[Array, ...]:
        if len(tape.tapes) != len(self._stacks):
            raise ValueError(
                "encoder: tape is of another encoder, expected one from this one's forward"
            )
        given = checks.parts("encoder: dvectors", dvectors, "a sequence of arrays")
        if len(given) != len(self.widths):
            raise ValueError(
                f"encoder: dvectors has {len(given)} parts, expected {len(self.widths)}"
            )
        rows = hidden_of(tape.states[0]).shape[1]
        for i, (dvector, units) in enumerate(zip(given, self.widths, strict=True)):
            checks.array(f"encoder: dvectors[{i}]", dvector, "fiu")
            checks.shape(f"encoder: dvectors[{i}]", dvector, (rows, units), "(B, H)")
        return given

    def _inputs(self, x: Array, lengths: Array | None) -> Iterator[Array]:
        """Each stack's input, the second one's when the first one has found it in order."""
        yield x
        if len(self._stacks) > 1:
            yield reverse(x, lengths)

    def _vectors(self, states: Any) -> list[Array]:
        return [
            vector
            for state, ends in zip(states, self._ends, strict=True)
            for vector in hidden_of(state)[-ends:]
        ]


def reverse(x: Array, lengths: Array | None = None) -> Array:
    """Reverse sequences in time, each within its own length.

    Parameters
    ----------
    x : numpy.ndarray
        (T, B, ...).
    lengths : numpy.ndarray, optional
        (B,) steps of each; what lies behind stays where it is.

    Returns
    -------
    numpy.ndarray
        A copy.
    """
    if lengths is None:
        return x[::-1].copy()
    ends, steps = np.asarray(lengths), np.arange(len(x))[:, None]
    source = np.where(steps < ends, ends - 1 - steps, steps)
    reversed_: Array = x[source, np.arange(x.shape[1])]
    return reversed_
