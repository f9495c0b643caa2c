"""RNN, LSTM and GRU as the user calls them: the twins of those in `rnnfast`.

They take `num_threads`, which means nothing here, so that the calls are the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from . import gru, lstm, stack
from .activations import NONLINEARITIES
from .arguments import Layout, Shapes, State, read_input, require
from .basic import basic
from .cell import Array, Cell
from .dropout import dropout_factor
from .parameters import Parametrized
from .sequence import moments
from .stream import Stream


@dataclass
class Tape:
    """What `backward` needs of one `forward`; it serves once."""

    layer: Recurrent
    layout: Layout
    shape: tuple[int, int, int]  # T, B, D·R of the output
    dropout_seed: int | None
    back: stack.Back
    used: bool = False


@dataclass(frozen=True)
class Gradients:
    """Gradients of a loss with respect to everything that went into `forward`.

    Attributes
    ----------
    x : ndarray or None
        Shaped as x; None for tokens and with ``input_gradient=False``.
    state : ndarray or pair of ndarrays
        With respect to the initial state, shaped as it.
    parameters : dict of str to ndarray
        Views of `flat`.
    flat : ndarray, shape (number of parameters,)
    """

    x: Array | None
    state: State
    parameters: dict[str, Array]
    flat: Array


class Recurrent(Parametrized):
    """The calls that the three layers share.

    With ``batch_first`` the axes T and B of x, y, `reset` and their gradients are swapped; without
    a batch these and the states have no axis B. Nothing passed in is written to, but `out`.
    """

    def __call__(
        self,
        x: Array,
        state: State | None = None,
        lengths: npt.ArrayLike | None = None,
        reset: npt.ArrayLike | None = None,
        *,
        num_threads: int | None = None,
    ) -> tuple[Array, State]:
        """Inference: `forward` without dropout and without a tape."""
        y, after, _ = self._forward(x, state, lengths, reset, None)
        return y, after

    def forward(
        self,
        x: Array,
        state: State | None = None,
        lengths: npt.ArrayLike | None = None,
        reset: npt.ArrayLike | None = None,
        *,
        num_threads: int | None = None,
        dropout_seed: int | None = None,
    ) -> tuple[Array, State, Tape]:
        """Run over whole sequences and keep what `backward` needs.

        Parameters
        ----------
        x : ndarray, shape (T, B, I), or of integers, shape (T, B)
            Integers mean one-hot rows of size I.
        state : ndarray or pair of ndarrays, optional
            h (L·D, B, R), for an LSTM (h, c) with c (L·D, B, H); zero if omitted.
        lengths : array of int, shape (B,), optional
            Sequence b ends before lengths[b] ≤ T; its outputs from there on are zero.
        reset : array of bool, shape (T, B), optional
            Where true a new segment begins with zero state, in both directions.
        dropout_seed : int, optional
            Of this call's dropout; drawn from `rng` if omitted.

        Returns
        -------
        y : ndarray, shape (T, B, D·R), read-only
        state : as the argument
            Each sequence's own last one.
        tape : Tape

        Raises
        ------
        TypeError, ValueError
            If an argument is no array, or has a wrong shape, dtype or value.
        """
        if self.dropout > 0 and self.num_layers > 1 and dropout_seed is None:
            dropout_seed = int(np.random.default_rng(self.rng).integers(2**63))
        y, after, tape = self._forward(x, state, lengths, reset, dropout_seed)
        y.flags.writeable = False
        return y, after, tape

    def step(
        self, x: Array, state: State | None = None, *, num_threads: int | None = None
    ) -> tuple[Array, State]:
        """One time step: x (B, I) or (I,), tokens (B,) or () → y (B, R) or (R,), state."""
        self._require_one_direction("step")
        x = np.asarray(x)
        batched = x.ndim == (1 if np.issubdtype(x.dtype, np.integer) else 2)
        axis = 1 if batched and self.batch_first else 0
        y, after = self(np.expand_dims(x, axis), state)
        return y.take(0, axis), after

    def stream(
        self, batch: int = 1, state: State | None = None, *, num_threads: int | None = None
    ) -> Stream:
        """Open a stream that carries the state from block to block; see `stream`."""
        self._require_one_direction("stream")
        return Stream(self, batch, state)

    def _require_one_direction(self, name: str) -> None:
        if self.bidirectional:
            raise ValueError(f"{self.name}: {name} needs a layer that is not bidirectional")

    def backward(
        self,
        tape: Tape,
        dy: Array | None = None,
        dstate: State | None = None,
        *,
        out: Array | None = None,
        input_gradient: bool = True,
        num_threads: int | None = None,
    ) -> Gradients:
        """Back-propagation through time of a loss whose derivatives are dy and dstate.

        Parameters
        ----------
        tape : Tape
            From `forward` of this layer, whose parameters must not have changed since.
        dy, dstate : shaped as y and state, optional
            Zero if omitted.
        out : ndarray of the layer's dtype, shape (number of parameters,), optional
            Overwritten by the parameters' gradients, and then `Gradients.flat`.
        input_gradient : bool
            Whether `Gradients.x` is wanted.

        Raises
        ------
        TypeError, ValueError
            If the tape has been used or is another layer's, or for a wrong shape.
        """
        ours, fresh = "one from forward of this layer", "a fresh one: it serves one backward"
        require(tape.layer is self, self.name, "tape is of another layer", ours)
        require(not tape.used, self.name, "tape was used before", fresh)
        layout = tape.layout
        dy = layout.output_gradient(dy, tape.shape)
        ds = layout.states_inside("dstate", dstate, self.state_shapes(tape.shape[1]))
        flat = np.empty_like(self.flat) if out is None else out
        self._check_buffer("out", flat)
        tape.used = True
        flat[:] = 0
        gradients = self._views(flat)
        dx, ds = tape.back(self._weights(gradients), dy, ds)
        x = layout.outside(dx) if input_gradient and not layout.tokens else None
        return Gradients(x, layout.states_outside(ds), gradients, flat)

    def _forward(
        self,
        x: Array,
        state: State | None,
        lengths: npt.ArrayLike | None,
        reset: npt.ArrayLike | None,
        dropout_seed: int | None,
    ) -> tuple[Array, State, Tape]:
        v, layout = read_input(self.name, x, self.input_size, self.dtype, self.batch_first)
        T, B, _ = v.shape
        s = layout.states_inside("state", state, self.state_shapes(B))
        ends, begins = layout.lengths(lengths, T, B), layout.reset(reset, T, B)
        orders = [moments(ends, begins, reverse=d == 1) for d in range(self._directions)]
        shape = T, B, self._directions * self._width
        like = np.empty(shape, self.dtype)
        factors = [
            dropout_factor(self.dropout, dropout_seed, layer, like)
            for layer in range(self.num_layers - 1)
            if dropout_seed is not None
        ]
        weights = self._weights(self.parameters)
        y, s, back = stack.run_stack(self._cell, weights, v, s, orders, factors)
        tape = Tape(self, layout, shape, dropout_seed, back)
        return layout.outside(y), layout.states_outside(s), tape

    def state_shapes(self, B: int) -> Shapes:
        """Shapes (L·D, B, ·) of h and c for B sequences."""
        widths = (self._width, self.hidden_size)[: self._cell.states]
        return [(self.num_layers * self._directions, B, width) for width in widths]


class RNN(Recurrent):
    """Basic layers, as `rnnfast.RNN`: see `basic`."""

    name = "rnn"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",  # here, as in PyTorch; all else is `Parametrized`'s
        *args: Any,
        **options: Any,
    ) -> None:
        self.nonlinearity = nonlinearity
        super().__init__(input_size, hidden_size, num_layers, *args, **options)

    def _make_cell(self) -> Cell:
        good, given = self.nonlinearity in NONLINEARITIES, f"nonlinearity is {self.nonlinearity!r}"
        require(good, self.name, given, f"one of {list(NONLINEARITIES)}")
        return basic(self.nonlinearity)


@dataclass(eq=False)
class LSTM(Recurrent):
    """Long short-term memory, as `rnnfast.LSTM`: see `lstm`."""

    name = "lstm"
    proj_size: int = 0

    def _make_cell(self) -> Cell:
        good, given = 0 <= self.proj_size < self.hidden_size, f"proj_size is {self.proj_size}"
        require(good, self.name, given, f"0 to below hidden_size={self.hidden_size}")
        return lstm.CELL


@dataclass(eq=False)
class GRU(Recurrent):
    """Gated recurrent units, as `rnnfast.GRU`: see `gru`."""

    name = "gru"
    reset_after: bool = field(default=True, kw_only=True)

    def _make_cell(self) -> Cell:
        return gru.RESET_AFTER if self.reset_after else gru.RESET_BEFORE
