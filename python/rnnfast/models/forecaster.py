"""A series of numbers continued: one value in, the next one out, at every step.

T time steps, B windows side by side, N values of a series.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from rnnfast.flat import Array
from rnnfast.nn import mse_loss

from .recurrent import Recurrent, States, make_layers
from .sequence import SequenceModel

Values = NDArray[np.float64]

_BLOCK = 256  # windows read side by side


class Forecaster(SequenceModel):
    """Recurrent layers between one number and the next: 1 → H → 1, trained by the squared error.

    Calls, steps and losses are about scaled values, `forecast` and `one_ahead` about the data's.

    Parameters
    ----------
    layers : sequence of RNN, LSTM or GRU
        As for `SequenceModel`; the first has input_size = 1.
    window : int
        Values that a forecast looks back on, at least 1: those that the layers are trained to read
        from a zero state. What they do in states beyond is left to chance.
    mean, deviation : float
        Of the data trained on; a scaled value is (value - mean) / deviation.
    shortcut : bool
        Whether a step's value is added to its output, so that the layers tell the change alone.
    dropout : float
        Probability of dropping an output of the last layer, in training.
    rng : None, int or numpy.random.Generator
        Source of the projection's initial weights and of dropout.

    Raises
    ------
    ValueError
        If the layers do not fit together, or the window or the deviation is out of range.
    """

    def __init__(
        self,
        layers: Sequence[Recurrent],
        window: int,
        mean: float = 0.0,
        deviation: float = 1.0,
        *,
        shortcut: bool = True,
        dropout: float = 0.0,
        rng: int | np.random.Generator | None = None,
    ) -> None:
        if window < 1:
            raise ValueError(f"forecaster: window is {window}, expected at least 1")
        if not 0.0 < deviation < np.inf:
            raise ValueError(f"forecaster: deviation is {deviation}, expected above 0 and finite")
        if layers and layers[0].input_size != 1:
            raise ValueError(f"forecaster: input_size is {layers[0].input_size}, expected 1")
        super().__init__(layers, 1, mse_loss, dropout=dropout, rng=rng)
        self.window, self.mean, self.deviation, self.shortcut = window, mean, deviation, shortcut

    @classmethod
    def of(
        cls,
        cell: str,
        hidden_size: int,
        num_layers: int = 1,
        *,
        window: int,
        mean: float = 0.0,
        deviation: float = 1.0,
        shortcut: bool = True,
        dropout: float = 0.0,
        rng: int | np.random.Generator | None = None,
        **options: Any,
    ) -> Forecaster:
        """Make a model of equal layers of one cell: `basic`, `lstm` or `gru`.

        The other options are those of the layers. Dropout acts on the outputs of every layer.

        Raises
        ------
        ValueError
            If the cell is unknown, or a size is out of range.
        """
        generator = np.random.default_rng(rng)
        stack = make_layers(
            cell, 1, hidden_size, num_layers, dropout=dropout, rng=generator, **options
        )
        return cls(
            [stack], window, mean, deviation, shortcut=shortcut, dropout=dropout, rng=generator
        )

    def __call__(self, x: Array, states: States | None = None) -> tuple[Array, States]:
        """Scaled values (T, B, 1) expected one step after those of x (T, B, 1), and the states."""
        y, states = super().__call__(x, states)
        return self._with_shortcut(x, y), states

    def step(self, x: Any, states: States | None = None) -> tuple[Array, States]:
        """Scaled values (B, 1) expected after x (B, 1), and the states."""
        y, states = super().step(x, states)
        return self._with_shortcut(x, y), states

    def _with_shortcut(self, x: Array, y: Array) -> Array:
        if self.shortcut:
            y += x
        return y

    def loss_and_gradient(
        self, x: Array, targets: Array, states: States | None = None
    ) -> tuple[float, States]:
        """Compute the loss and its gradient; see `SequenceModel`.

        The error of x + change against a target is that of the change against target - x.
        """
        return super().loss_and_gradient(x, targets - x if self.shortcut else targets, states)

    def scale(self, values: Values) -> Array:
        """Scale values, of any shape, to the layers' dtype."""
        scaled = (values - self.mean) / self.deviation
        return scaled.astype(self.projection.dtype)

    def unscale(self, scaled: Array) -> Values:
        """Undo `scale`, in float64."""
        return scaled.astype(np.float64) * self.deviation + self.mean

    def one_ahead(self, series: Values) -> Values:
        """Expect each value of a series from the window before it.

        Parameters
        ----------
        series : numpy.ndarray
            (N,) values, more than the window.

        Returns
        -------
        numpy.ndarray
            (N - window,) what was expected of `series[window:]`.

        Raises
        ------
        ValueError
            If the series is too short.
        """
        if len(series) <= self.window:
            raise ValueError(
                f"forecaster: got {len(series)} values, expected more than the {self.window} "
                "of a window"
            )
        windows = sliding_window_view(self.scale(series[:-1]), self.window)
        blocks = [
            self._after(windows[start : start + _BLOCK]) for start in range(0, len(windows), _BLOCK)
        ]
        return self.unscale(np.concatenate(blocks))

    def continued(self, history: Values) -> Iterator[float]:
        """Continue a series by feeding back, without end: each value from the window before it.

        Parameters
        ----------
        history : numpy.ndarray
            (N,) values, at least one; only the last window is looked at.

        Yields
        ------
        float
            The next value.

        Raises
        ------
        ValueError
            If there is no history.
        """
        if len(history) == 0:
            raise ValueError("forecaster: got no values to go on from, expected at least 1")
        return self._continue(self.scale(np.asarray(history, np.float64)[-self.window :]))

    def _continue(self, values: Array) -> Iterator[float]:
        while True:
            following = self._after(values[None])
            yield float(self.unscale(following)[0])
            values = np.concatenate([values, following])[-self.window :]

    def forecast(self, history: Values, steps: int) -> Values:
        """Continue a series by `steps` values; arguments and errors as in `continued`."""
        if steps < 0:
            raise ValueError(f"forecaster: steps is {steps}, expected at least 0")
        return np.fromiter(self.continued(history), np.float64, steps)

    def _after(self, windows: Array) -> Array:
        """Expect one scaled value (B,) after each window (B, T)."""
        y, _ = self(np.ascontiguousarray(windows.T[:, :, None]))
        return y[-1, :, 0]
