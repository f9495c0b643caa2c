"""A series of numbers continued: one value in, the next one out, at every step.

T time steps, B windows side by side, N values of a series.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from rnnfast import checks
from rnnfast.flat import Array
from rnnfast.nn import mse_loss

from .recurrent import Recurrent, States, check_chain, make_layers
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
    TypeError, ValueError
        If the layers do not fit together, or an argument is of the wrong type or out of range.
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
        self.window = checks.integer("forecaster: window", window, 1)
        self.mean = checks.number("forecaster: mean", mean, checks.FINITE)
        self.deviation = checks.number("forecaster: deviation", deviation, checks.POSITIVE)
        self.shortcut = checks.flag("forecaster: shortcut", shortcut)
        super().__init__(check_chain(layers, 1), 1, mse_loss, dropout=dropout, rng=rng)

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
        TypeError, ValueError
            If the cell is unknown, or an argument is of the wrong type or out of range.
        """
        generator = checks.generator("forecaster: rng", rng)
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
        if self.shortcut:
            checks.array("forecaster: x", x, "f")
            checks.array("forecaster: targets", targets, "fiu")
            checks.shape("forecaster: targets", targets, x.shape)
            targets = targets - x
        return super().loss_and_gradient(x, targets, states)

    def scale(self, values: Values) -> Array:
        """Scale values, of any shape, to the layers' dtype."""
        given = checks.array_like("forecaster: values", values, "fiu")
        scaled = (given - self.mean) / self.deviation
        return scaled.astype(self.projection.dtype)

    def unscale(self, scaled: Array) -> Values:
        """Undo `scale`, in float64."""
        given = checks.array_like("forecaster: scaled", scaled, "fiu")
        return given.astype(np.float64) * self.deviation + self.mean

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
            If the series is none of numbers, or too short.
        """
        series = _series("series", series)
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
            If the history is none of numbers, or empty.
        """
        past = _series("history", history)
        if len(past) == 0:
            raise ValueError("forecaster: got no values to go on from, expected at least 1")
        return self._continue(self.scale(past[-self.window :].astype(np.float64)))

    def _continue(self, values: Array) -> Iterator[float]:
        while True:
            following = self._after(values[None])
            yield float(self.unscale(following)[0])
            values = np.concatenate([values, following])[-self.window :]

    def forecast(self, history: Values, steps: int) -> Values:
        """Continue a series by `steps` values; arguments and errors as in `continued`."""
        steps = checks.integer("forecaster: steps", steps, 0)
        return np.fromiter(self.continued(history), np.float64, steps)

    def _after(self, windows: Array) -> Array:
        """Expect one scaled value (B,) after each window (B, T)."""
        y, _ = self(np.ascontiguousarray(windows.T[:, :, None]))
        return y[-1, :, 0]


def _series(name: str, values: Values) -> Array:
    """Refuse what is no series of numbers."""
    series = checks.array_like(f"forecaster: {name}", values, "fiu", "(N,)")
    if series.ndim != 1:
        raise ValueError(f"forecaster: {name} has shape {series.shape}, expected (N,)")
    return series
