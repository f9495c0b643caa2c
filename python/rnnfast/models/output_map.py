"""The basic cell with an output map of its own.

T time steps, B sequences, I input features, H hidden units, O outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from rnnfast import checks
from rnnfast.flat import Array
from rnnfast.layers import RNN, Gradients
from rnnfast.nn import Activation, Dense, DenseTape

from .model import Model
from .recurrent import State


@dataclass(frozen=True, eq=False)
class OutputMapTape:
    """What `OutputMapRNN.backward` reads: the tapes of the recurrence and of the two maps."""

    recurrence: Any
    output: DenseTape
    activation: Array


class OutputMapRNN(Model):
    """A basic cell whose outputs are a map of the input and of the state before the step.

    y_t = f(A_u x_t + B_u s_{t-1} + b_u), s_t = tanh(A_v x_t + B_v s_{t-1} + b_v)

    In an Elman network, `rnnfast.RNN` with a dense layer, the output depends on the state after
    the step. Here the state is private: what it takes in becomes visible one step later. Automata
    theory calls this a Mealy machine and the other a Moore machine; control theory calls it a
    state-space model with feedthrough.

    Parameters
    ----------
    input_size, hidden_size, out_features : int
        I, H and O.
    activation : {"identity", "tanh", "relu", "sigmoid"}
        f.
    dtype : dtype
        float32 or float64.
    rng : None, int or numpy.random.Generator
        Source of the initial weights.

    Attributes
    ----------
    recurrence : rnnfast.RNN
        `weight_ih_l0` is A_v, `weight_hh_l0` B_v; b_v is the sum of its two biases.
    output : rnnfast.nn.Dense
        `weight` (O, I + H) is [A_u B_u], `bias` b_u.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        out_features: int,
        activation: str = "identity",
        *,
        dtype: DTypeLike = "float32",
        rng: int | np.random.Generator | None = None,
    ) -> None:
        generator = checks.generator("model: rng", rng)
        self.recurrence = RNN(input_size, hidden_size, dtype=dtype, rng=generator)
        self.output = Dense(input_size + hidden_size, out_features, dtype=dtype, rng=generator)
        self._activation = Activation(activation)
        super().__init__({"recurrence": self.recurrence, "output": self.output})

    def __call__(self, x: Array, state: State = None) -> tuple[Array, State]:
        """Outputs after every step.

        Parameters
        ----------
        x : numpy.ndarray
            (T, B, I) or (T, I) floats.
        state : numpy.ndarray, optional
            s_0, (1, B, H) or (1, H); zero unless given.

        Returns
        -------
        y : numpy.ndarray
            (T, B, O) or (T, O).
        state : numpy.ndarray
            s_T, shaped like s_0.

        Raises
        ------
        TypeError, ValueError
            If `x` or the state does not fit.
        """
        s, last = self.recurrence(self._features(x), state)
        return self._activation(self.output(_joined(x, state, s))), last

    def forward(self, x: Array, state: State = None) -> tuple[Array, State, OutputMapTape]:
        """Outputs, the last state, and what `backward` needs; arguments as in a call.

        The outputs are read-only, since the tape reads them; `x` and the parameters must not change
        until then.
        """
        s, last, tape = self.recurrence.forward(self._features(x), state)
        a, output = self.output.forward(_joined(x, state, s))
        y, activation = self._activation.forward(a)
        y.flags.writeable = False
        return y, last, OutputMapTape(tape, output, activation)

    def backward(
        self, tape: OutputMapTape, dy: Array | None = None, dstate: State = None
    ) -> Gradients:
        """Back-propagate through time, leaving the parameters' gradient in `self.gradient`.

        Parameters
        ----------
        tape : OutputMapTape
            From `forward`; used up.
        dy : numpy.ndarray, optional
            Gradient of the outputs, shaped like them; zero unless given.
        dstate : numpy.ndarray, optional
            Gradient of the last state, shaped like it; zero unless given.

        Returns
        -------
        rnnfast.Gradients
            Of the input `x`, of the first `state`, and of the `parameters`, which are views of
            `flat`, the model's `gradient`.

        Raises
        ------
        TypeError, ValueError
            If the tape is none or used up, or a gradient does not fit.
        """
        checks.instance("model: tape", tape, OutputMapTape, "what forward returned")
        da = self._activation.backward(
            tape.activation, np.zeros_like(tape.activation) if dy is None else dy
        )
        output = self.output.backward(tape.output, da, out=self.gradient_of("output"))
        assert output.x is not None
        dx, dbefore = np.split(output.x, [self.recurrence.input_size], axis=-1)
        # y_t has read s_{t-1}: what reaches s_t comes from the output after it.
        ds = np.zeros_like(dbefore, order="C")
        ds[:-1] = dbefore[1:]
        recurrence = self.recurrence.backward(
            tape.recurrence, ds, dstate, out=self.gradient_of("recurrence")
        )
        parts = {"recurrence": recurrence.parameters, "output": output.parameters}
        parameters = {f"{p}.{name}": v for p, views in parts.items() for name, v in views.items()}
        return Gradients(
            recurrence.x + dx, recurrence.state + dbefore[:1], parameters, self.gradient
        )

    def step(self, x: Array, state: State = None) -> tuple[Array, State]:
        """Output of one step.

        Parameters
        ----------
        x : numpy.ndarray
            (B, I) or (I,) floats.
        state : numpy.ndarray, optional
            Before the step, (1, B, H) or (1, H); zero unless given.

        Returns
        -------
        y : numpy.ndarray
            (B, O) or (O,).
        state : numpy.ndarray
            After the step.
        """
        x = self._features(x)
        s, after = self.recurrence.step(x, state)
        return self._activation(self.output(_joined(x[None], state, s[None])))[0], after

    def _features(self, x: Any) -> Array:
        """Refuse tokens, of which the output map would know nothing."""
        return checks.array("model: x", checks.made_array("model: x", x), "f")


def _joined(x: Array, state: State, s: Array) -> Array:
    """Join each input with the state before its step: [x_t, s_{t-1}]."""
    first = np.zeros_like(s[:1]) if state is None else state
    return np.concatenate([x, np.concatenate([first, s[:-1]])], axis=-1)
