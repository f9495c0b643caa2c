"""Progress of a training, on standard error: a live bar on a terminal, a few lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bar

from .run import Run

_SMOOTHING = 0.05  # share of the newest step in the loss shown
_WINDOW = 50  # steps over which the speed is measured
_LINES = 0.1  # share of the training between two lines where there is no terminal
_REFRESH = 0.2  # seconds between drawings: a refreshing thread would disturb the kernels' team


class Meter:
    """Running figures of a training.

    Parameters
    ----------
    run : Run
        What is measured.
    """

    def __init__(self, run: Run) -> None:
        self._run, self._trainer, self._seconds = run, run.trainer, run.seconds
        self._items = run.system.items_per_batch * run.settings.accumulate
        self._start = time.monotonic()
        self._stamps: deque[float] = deque([self._start], maxlen=_WINDOW)
        self.loss: float | None = None

    def update(self, loss: float) -> None:
        """Take in the loss of a step."""
        self._stamps.append(time.monotonic())
        share = 1.0 if self.loss is None else _SMOOTHING
        self.loss = share * loss + (1.0 - share) * (self.loss or 0.0)

    @property
    def _steps_per_second(self) -> float:
        return (len(self._stamps) - 1) / max(self._stamps[-1] - self._stamps[0], 1e-9)

    @property
    def seconds_left(self) -> float:
        """Time until the end of the plan."""
        total = self._trainer.plan.total
        if total is None:
            return max(0.0, (self._seconds or 0.0) - (self._stamps[-1] - self._start))
        return max(0, total - self._trainer.steps) / self._steps_per_second

    @property
    def share_done(self) -> float:
        """Between 0 and 1."""
        total = self._trainer.plan.total
        if total is not None:
            return self._trainer.steps / max(1, total)
        return min(1.0, (self._stamps[-1] - self._start) / (self._seconds or 1.0))

    def __str__(self) -> str:
        left = round(self.seconds_left)
        speed = self._items * self._steps_per_second
        system = self._run.system
        return (
            f"{system.loss_text(self.loss or 0.0)}  {speed:,.0f} {system.unit}/s  "
            f"{left // 60}:{left % 60:02d} left"
        )


class Progress:
    """Shows a meter on standard error while it is entered.

    Parameters
    ----------
    meter : Meter
        What is shown.
    console : rich.console.Console, optional
        Where; standard error unless given.
    """

    def __init__(self, meter: Meter, console: Console | None = None) -> None:
        self._meter = meter
        self._console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._live = self._console.is_terminal
        self._bar = Bar(
            TextColumn("{task.percentage:>3.0f} %"), BarColumn(), TextColumn("{task.description}"),
            console=self._console, auto_refresh=False,
        )  # fmt: skip
        self._task: TaskID | None = None
        self._drawn = 0.0  # when, on a terminal
        self._told = 0.0  # which share, elsewhere

    def __enter__(self) -> Self:
        if self._live:
            self._bar.start()
            self._task = self._bar.add_task("starting", total=1.0)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._draw()
            self._bar.stop()

    def on_step(self, loss: float) -> None:
        """Take in the loss of a step and show it if the time has come."""
        self._meter.update(loss)
        if self._live:
            if time.monotonic() - self._drawn >= _REFRESH:
                self._draw()
        elif self._meter.share_done - self._told >= _LINES:
            self._told = self._meter.share_done
            self.note(f"{self._told:4.0%}  {self._meter}")

    def _draw(self) -> None:
        if self._task is None or self._meter.loss is None:
            return
        self._bar.update(self._task, completed=self._meter.share_done, description=str(self._meter))
        self._bar.refresh()
        self._drawn = time.monotonic()

    def note(self, line: str) -> None:
        """Print a line above the bar."""
        self._console.print(line, markup=False)
