"""Many to many: recurrent layers with a dense output at every step.

T time steps, B sequences, I input features, O outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rnnfast import checks
from rnnfast.flat import Array
from rnnfast.nn import Dense

from .dropout import Dropout, masked
from .model import Model, Part, Scratch
from .recurrent import Recurrent, States, check_chain

Loss = Callable[..., tuple[float, Array]]  # loss and gradient of outputs and targets, into `out`


class Stack:
    """Layers, each reading the one before, and a dense one above: what is left without training.

    Attributes
    ----------
    layers : tuple of RNN, LSTM, GRU or QuantizedLayer
        Time-major, in one direction.
    projection : rnnfast.nn.Dense
        Of the last layer's outputs.
    """

    layers: tuple[Any, ...]
    projection: Dense

    def __call__(self, x: Array, states: States | None = None) -> tuple[Array, States]:
        """Outputs after every step.

        Parameters
        ----------
        x : numpy.ndarray
            (T, B, I) or (T, I) floats, or (T, B) or (T,) integer tokens in [0, I).
        states : tuple, optional
            One state for each recurrent part, from a former call; zero unless given.

        Returns
        -------
        y : numpy.ndarray
            (T, B, O) or (T, O).
        states : tuple
            After the last step.

        Raises
        ------
        TypeError, ValueError
            If `x` or the states do not fit; the message names what does not.
        """
        y, after = x, []
        for layer, state in zip(self.layers, self._initial(states), strict=True):
            y, last = layer(y, state)
            after.append(last)
        return self.projection(y), tuple(after)

    def step(self, x: Any, states: States | None = None) -> tuple[Array, States]:
        """Outputs of one step.

        Parameters
        ----------
        x : int or numpy.ndarray
            A token or (B,) of them in [0, I), or (B, I) or (I,) features.
        states : tuple, optional
            One state for each recurrent part; zero unless given.

        Returns
        -------
        y : numpy.ndarray
            (B, O) or (O,).
        states : tuple
            After the step.

        Raises
        ------
        TypeError, ValueError
            If `x` or the states do not fit.
        """
        y = checks.array_like("model: x", x, "fiu")
        after = []
        for layer, state in zip(self.layers, self._initial(states), strict=True):
            y, last = layer.step(y, state)
            after.append(last)
        return self.projection(y), tuple(after)

    def _initial(self, states: States | None) -> States:
        if states is None:
            return (None,) * len(self.layers)
        checks.instance(
            "model: states", states, tuple | list, "a tuple of states, one for each layer"
        )
        if len(states) != len(self.layers):
            raise ValueError(f"model: got {len(states)} states, expected {len(self.layers)}")
        return states


class SequenceModel(Model, Stack):
    """Recurrent layers, each reading the one before, and a dense layer on every output.

    Parameters
    ----------
    layers : sequence of RNN, LSTM or GRU
        One or more, time-major (`batch_first=False`), in one direction, of one dtype.
    out_features : int
        O.
    loss : callable
        `rnnfast.nn.cross_entropy` or `mse_loss`, or what is called like them.
    dropout : float
        Probability of dropping an output of the last layer, in training.
    rng : None, int or numpy.random.Generator
        Source of the projection's initial weights and of dropout.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range, or the layers do not fit together.
    """

    def __init__(
        self,
        layers: Sequence[Recurrent],
        out_features: int,
        loss: Loss,
        *,
        dropout: float = 0.0,
        rng: int | np.random.Generator | None = None,
    ) -> None:
        self.layers = check_chain(layers)
        checks.function("model: loss", loss)
        generator = checks.generator("model: rng", rng)
        last = self.layers[-1]
        self.projection = Dense(last._width, out_features, dtype=last.dtype, rng=generator)
        self._dropout = Dropout(dropout, generator)
        self._names = [f"layers.{i}" for i in range(len(self.layers))]
        parts: dict[str, Part] = dict(zip(self._names, self.layers, strict=True))
        super().__init__({**parts, "projection": self.projection})
        self._loss = loss
        self._scratch = Scratch()

    def loss(self, x: Array, targets: Array, states: States | None = None) -> tuple[float, States]:
        """Compute the loss without dropout; arguments and results as in `loss_and_gradient`."""
        y, states = self(x, states)
        return self._loss(y, targets, out=y)[0], states

    def loss_and_gradient(
        self, x: Array, targets: Array, states: States | None = None
    ) -> tuple[float, States]:
        """Compute the loss, with dropout, and leave its gradient in `self.gradient`.

        The gradient stops at the initial states (truncated BPTT).

        Parameters
        ----------
        x, targets : numpy.ndarray
            As in a call, with a batch axis; what the loss takes beside outputs (T, B, O).
        states : tuple, optional
            Initial states; zero unless given.

        Returns
        -------
        loss : float
            Mean over all steps.
        states : tuple
            After the last step.

        Raises
        ------
        TypeError, ValueError
            If `x`, targets or states do not fit; the message names what does not.
        """
        y = x
        tapes, after = [], []
        for layer, state in zip(self.layers, self._initial(states), strict=True):
            y, last, tape = layer.forward(y, state)
            tapes.append(tape)
            after.append(last)
        mask = self._dropout.mask(y)
        dy: Array | None
        loss, dy = self._projection_loss(masked(y, mask), targets)
        if mask is not None:
            dy *= mask
        for i in reversed(range(len(self.layers))):
            gradients = self.layers[i].backward(
                tapes[i], dy, out=self.gradient_of(self._names[i]), input_gradient=i > 0
            )
            dy = gradients.x
        return loss, tuple(after)

    def _projection_loss(self, y: Array, targets: Array) -> tuple[float, Array]:
        """Compute the loss of hidden outputs y (T, B, H), and dy; the outputs' buffer is reused."""
        rows, dtype = y.size // y.shape[-1], y.dtype
        outputs, tape = self.projection.forward(
            y, out=self._scratch("outputs", (rows, self.projection.out_features), dtype)
        )
        loss, doutputs = self._loss(outputs, targets, out=outputs)
        dx = self._scratch("dy", (rows, y.shape[-1]), dtype)
        return loss, self._through("projection", self.projection, tape, doutputs, dx)
