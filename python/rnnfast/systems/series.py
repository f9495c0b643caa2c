"""A series of numbers, trained one step ahead at every step of a window."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from rnnfast.data import Series, ShuffledBatches, read_series, waves
from rnnfast.models import Forecaster, Values
from rnnfast.parallel import Group, share
from rnnfast.plot import forecast
from rnnfast.settings import (
    RecurrentSettings,
    at_least,
    one_of,
    positive,
    refuse_without_data,
    setting,
)
from rnnfast.train import Loss

from .system import Source, System

_PARTS = 5  # the last of so many is held out
_LARGEST = 1e100
_WINDOWS = 3  # a forecast is drawn so many windows far


@dataclass(frozen=True, kw_only=True)
class SeriesSettings(RecurrentSettings):
    """What a forecaster is trained with, beside what all are.

    Attributes
    ----------
    column : str or None
        Of the CSV file.
    seq_length : int
        Values of a window, and values that a forecast looks back on.
    target : str
        What the layers tell: the next `value`, or the `change` to it.
    """

    data: str | None = setting(None, "CSV file with a header.", shown="generated waves")
    column: str | None = setting(None, "Column to forecast.", shown="the last one that has numbers")
    hidden: int = setting(100, "Units in a layer.", at_least(1))
    seq_length: int = setting(40, "Values of a window.", at_least(1))
    target: str = setting(
        "change", "What the layers predict: the next value, or the change to it.",
        one_of("change", "value"),
    )  # fmt: skip
    batch: int = setting(32, "Windows side by side.", at_least(1))
    lr: float = setting(1e-3, "Peak learning rate.", positive())


class TimeSeries(System):
    """A series of numbers: windows in, the same shifted by one out; forecasts by feeding back."""

    kind = "series"
    settings_type = SeriesSettings
    presets: ClassVar = {"notes": {"cell": "basic", "target": "value"}}
    duration: ClassVar = {"epochs": 7}  # more learn the training part by heart
    unit = "values"
    best = ("rmse", False)

    model: Forecaster

    def __init__(self, settings: SeriesSettings, rng: np.random.Generator, group: Group) -> None:
        series, window = _read(settings), settings.seq_length
        values = series.values
        self._settings, self._series = settings, series
        self._cut = _cut(series, window)
        training = values[: self._cut]
        self.source = Source(series.name, series.digest)
        self.about = {
            "column": series.column,
            "mean": float(training.mean()),
            "deviation": float(training.std()),
            "last": values[-window:].tolist(),
        }
        self.model = self.make_model(settings, self.about, rng)
        self._windows = sliding_window_view(self.model.scale(training), window + 1)
        self._batches = ShuffledBatches(len(self._windows), settings.batch, settings.seed)
        self._part = share(self._batches.batch, group)
        self.batches_per_epoch = len(self._batches)
        self.items_per_batch = self._batches.batch * window

    @classmethod
    def make_model(
        cls,
        settings: SeriesSettings,
        about: Mapping[str, Any],
        rng: np.random.Generator | None = None,
    ) -> Forecaster:
        """Make the model of data with this mean and deviation."""
        return Forecaster.of(
            settings.cell, settings.hidden, settings.layers, window=settings.seq_length,
            mean=about["mean"], deviation=about["deviation"],
            shortcut=settings.target == "change", dropout=settings.dropout,
            compute=settings.compute, rng=rng,
        )  # fmt: skip

    def step(self, index: int) -> Loss:
        """Train on a batch of windows; see `train.Task`."""
        windows = self._windows[self._batches.cut(index, self._part)].T[:, :, None]
        x, targets = (np.ascontiguousarray(part) for part in (windows[:-1], windows[1:]))
        loss, _ = self.model.loss_and_gradient(x, targets)
        return Loss(loss, x.size)

    def evaluate(self) -> dict[str, float]:
        """Root mean squared error one step ahead on the held-out part, in the data's units."""
        rmse, persistence = self._errors()
        return {"rmse": rmse, "% below persistence": 100.0 * (1.0 - rmse / persistence)}

    def _one_ahead(self) -> Values:
        return self.model.one_ahead(self._series.values[self._cut - self.model.window :])

    def _errors(self) -> tuple[float, float]:
        """Compute the errors of the model and of persistence: the next value is the last one."""
        values = self._series.values
        true, before = values[self._cut :], values[self._cut - 1 : -1]
        return _rmse(self._one_ahead(), true), _rmse(before, true)

    def summary(self) -> str:
        """Describe the model, the series and the batches in one line."""
        settings, series = self._settings, self._series
        return (
            f"{settings.layers} x {settings.hidden} {settings.cell}, "
            f"{self.model.flat.size:,} parameters; {len(series.values):,} values of "
            f"{series.column} from {series.name}, the last {len(series.values) - self._cut:,} "
            f"held out; {len(self._batches):,} batches of {self._batches.batch} x "
            f"{settings.seq_length}"
        )

    def report(self) -> str:
        """Tell the errors beside those of persistence."""
        rmse, persistence = self._errors()
        return (
            f"{self._series.column}, one step ahead on the last "
            f"{len(self._series.values) - self._cut:,} values: RMSE {rmse:.4g}; "
            f"persistence (the next value is the last one): {persistence:.4g}; "
            f"{abs(1.0 - rmse / persistence):.1%} "
            f"{'below' if rmse <= persistence else 'above'} persistence"
        )

    def pictures(self) -> dict[str, Callable[[Path], Path]]:
        """Draw what was expected beside what came."""
        return {"forecast": self._draw}

    def _draw(self, path: Path) -> Path:
        values, window = self._series.values, self.model.window
        steps = min(_WINDOWS * window, len(values) - self._cut)
        fed_back = self.model.forecast(values[: self._cut], steps)
        return forecast(values, self._cut, self._one_ahead(), fed_back, self._series.column, path)


def _read(settings: SeriesSettings) -> Series:
    if settings.data is not None:
        return read_series(settings.data, settings.column)
    refuse_without_data(settings, "column")
    return waves()


def _cut(series: Series, window: int) -> int:
    """Find where the held-out part begins, and check that both parts will do."""
    values = series.values
    cut = len(values) - max(1, len(values) // _PARTS)
    if cut < window + 1:
        raise ValueError(
            f"{series.name}: {len(values)} values leave {max(0, cut)} for training, fewer than "
            f"the {window + 1} of one window of sequence length {window}"
        )
    if np.abs(values).max() > _LARGEST:
        raise ValueError(
            f"{series.name}: {series.column} reaches {np.abs(values).max():g}, expected at most "
            f"{_LARGEST:g}: squares of more have no place in a float"
        )
    for part, name in ((values[:cut], "training"), (values[cut - 1 :], "held-out")):
        if (part == part[0]).all():
            raise ValueError(
                f"{series.name}: all {len(part)} {name} values of {series.column} are {part[0]:g}, "
                "expected values that change"
            )
    return cut


def _rmse(expected: Values, true: Values) -> float:
    return float(np.sqrt(np.square(expected - true).mean()))
