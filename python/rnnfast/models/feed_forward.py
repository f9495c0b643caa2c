"""Models without time: linear regression, softmax classification, multi-layer perceptrons.

N rows, I input features, O outputs.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from rnnfast import checks
from rnnfast.flat import Array
from rnnfast.nn import Activation, Dense, cross_entropy

from .model import Model
from .sequence import Loss


class FeedForward(Model):
    """Dense layers, with an activation after each but the last.

    Two sizes make a linear model: regression with `mse_loss`, the softmax classifier with
    `cross_entropy`. More sizes make a multi-layer perceptron.

    Parameters
    ----------
    sizes : sequence of int
        I, those of the hidden layers, if any, and O.
    activation : {"tanh", "relu", "sigmoid", "identity"}
        Of the hidden layers.
    loss : callable
        `rnnfast.nn.cross_entropy` or `mse_loss`, or what is called like them.
    dtype : dtype
        float32 or float64.
    rng : None, int or numpy.random.Generator
        Source of the initial weights.

    Raises
    ------
    TypeError, ValueError
        If there are fewer than two sizes, or one is no integer of at least 1; if the activation is
        unknown, or another argument of the wrong type.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str = "tanh",
        loss: Loss = cross_entropy,
        *,
        dtype: DTypeLike = "float32",
        rng: int | np.random.Generator | None = None,
    ) -> None:
        given = checks.parts("model: sizes", sizes, "a sequence of integers")
        widths = [
            checks.integer(f"model: sizes[{i}]", size, 1, checks.MOST)
            for i, size in enumerate(given)
        ]
        if len(widths) < 2:
            raise ValueError(f"model: got sizes {widths}, expected at least input and output")
        checks.function("model: loss", loss)
        generator = checks.generator("model: rng", rng)
        self._layers = {
            f"layers.{i}": Dense(before, after, dtype=dtype, rng=generator)
            for i, (before, after) in enumerate(itertools.pairwise(widths))
        }
        self._activation, self._loss = Activation(activation), loss
        super().__init__(self._layers)

    def __call__(self, x: Array) -> Array:
        """Outputs of the last layer, for a classifier the logits.

        Parameters
        ----------
        x : numpy.ndarray
            (..., I) numbers.

        Returns
        -------
        numpy.ndarray
            (..., O).

        Raises
        ------
        TypeError, ValueError
            If `x` does not fit.
        """
        *hidden, last = self._layers.values()
        for dense in hidden:
            x = self._activation(dense(x))
        return last(x)

    def loss(self, x: Array, targets: Array) -> float:
        """Compute the loss alone; arguments and errors as in `loss_and_gradient`."""
        return self._loss(self(x), targets)[0]

    def loss_and_gradient(self, x: Array, targets: Array) -> float:
        """Compute the loss and leave its gradient in `self.gradient`.

        Parameters
        ----------
        x, targets : numpy.ndarray
            (..., I) numbers, and what the loss takes beside outputs (..., O).

        Returns
        -------
        float
            Mean over the rows.

        Raises
        ------
        TypeError, ValueError
            If `x` or the targets do not fit.
        """
        (first, *hidden), tapes = self._layers.items(), []
        y, first_tape = first[1].forward(x)
        for _, dense in hidden:
            y, activated = self._activation.forward(y)
            y, tape = dense.forward(y)
            tapes.append((tape, activated))
        loss, dy = self._loss(y, targets)
        for (name, dense), (tape, activated) in zip(reversed(hidden), reversed(tapes), strict=True):
            dy = self._activation.backward(activated, self._through(name, dense, tape, dy))
        first[1].backward(first_tape, dy, out=self.gradient_of(first[0]), input_gradient=False)
        return loss
