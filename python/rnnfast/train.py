"""The training loop: updates, learning-rate plan, interruption.

What is trained is a `Task`; everything here is common to all systems.
"""

from __future__ import annotations

import math
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import NamedTuple, Protocol, Self

import numpy as np

from . import checks
from .flat import Array
from .models import Model
from .optim import Optimizer, clip_grad_norm
from .parallel import Alone, Group
from .settings import SCHEDULES

WARMUP = 50  # steps over which the learning rate rises
_CALIBRATION = (4.0, 40)  # seconds and steps, whichever comes first, that are timed
_SETTLING = 2  # first steps, slower than the rest, that are not


class DivergenceError(ArithmeticError):
    """The loss or its gradient is no longer finite."""


class Loss(NamedTuple):
    """The mean loss of a batch, and of how much it is the mean."""

    mean: float
    weight: float


class Task(Protocol):
    """What a `Trainer` needs of a system: a model and its batches."""

    @property
    def model(self) -> Model:
        """What is trained."""
        ...

    def step(self, index: int) -> Loss:
        """Leave the gradient of batch `index` in `model.gradient`; return the loss."""
        ...


@dataclass(frozen=True)
class TrainingPlan:
    """How many steps there are, and the learning rate as a function of the step alone.

    Linear warm-up to `lr`; then it stays (`constant`), or falls to `floor`·lr at `total` along
    half a cosine (`cosine`) or a line (`linear`). While `total` is not known yet, the rate stays.
    """

    lr: float
    total: int | None = None
    warmup: int = WARMUP
    floor: float = 0.02
    schedule: str = "cosine"

    def __post_init__(self) -> None:
        checks.number("plan: lr", self.lr, checks.NOT_NEGATIVE)
        if self.total is not None:
            checks.integer("plan: total", self.total, 0)
        checks.integer("plan: warmup", self.warmup, 0)
        checks.number("plan: floor", self.floor, checks.PROBABILITY)
        checks.choice("plan: schedule", self.schedule, SCHEDULES)

    def of_length(self, total: int) -> TrainingPlan:
        """Return the same plan over `total` steps, with a warm-up that fits them."""
        total = checks.integer("plan: total", total, 0)
        return replace(self, total=total, warmup=max(1, min(self.warmup, total // 5)))

    def rate(self, step: int) -> float:
        """Return the learning rate of step 0, 1 and so on."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        if self.total is None or self.schedule == "constant":
            return self.lr
        left = 1.0 - min(1.0, (step - self.warmup) / max(1, self.total - self.warmup))
        if self.schedule == "cosine":
            left = 0.5 - 0.5 * math.cos(math.pi * left)
        return self.lr * (self.floor + (1.0 - self.floor) * left)


class Trainer:
    """One optimisation: a task, an optimiser over its model's buffer, a plan, and the step reached.

    Parameters
    ----------
    task : Task
        The system.
    optimizer : Optimizer
        Over `task.model.flat`.
    plan : TrainingPlan
        Learning rates, and the number of steps unless a time is given to `run`.
    clip : float
        Largest norm of a gradient; `inf` for none.
    accumulate : int
        Batches of a step; its gradient is that of their common mean loss.
    group : Group, optional
        Processes that each take their part of every batch.

    Attributes
    ----------
    steps : int
        Updates made; the next one is number `steps`.
    norm : float
        Of the last gradient, before clipping.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range.
    """

    def __init__(
        self,
        task: Task,
        optimizer: Optimizer,
        plan: TrainingPlan,
        clip: float,
        accumulate: int = 1,
        group: Group | None = None,
    ) -> None:
        checks.instance("train: optimizer", optimizer, Optimizer, "an Optimizer")
        checks.instance("train: plan", plan, TrainingPlan, "a TrainingPlan")
        self.task, self.optimizer, self.plan = task, optimizer, plan
        self.clip = checks.number("train: clip", clip, checks.POSITIVE_OR_INFINITE)
        self.accumulate = checks.integer("train: accumulate", accumulate, 1)
        self._group: Group = Alone() if group is None else group
        self.steps, self.norm = 0, 0.0

    @property
    def finished(self) -> bool:
        """Whether the plan's last step is taken."""
        return self.plan.total is not None and self.steps >= self.plan.total

    def advance(self) -> float:
        """Take one step and return its loss.

        Raises
        ------
        DivergenceError
            If the loss or the gradient is not finite; the parameters are not touched then.
        """
        gradient = self.task.model.gradient
        with np.errstate(over="ignore", invalid="ignore"):  # told below, with the step
            loss = self._mean_loss(gradient)
            self.norm = clip_grad_norm(gradient, self.clip)
        if not (math.isfinite(loss) and math.isfinite(self.norm)):
            raise DivergenceError(
                f"step {self.steps}: loss {loss:g}, gradient norm {self.norm:g}; "
                "start anew with a smaller learning rate or clipping"
            )
        self.optimizer.step(gradient, lr=self.plan.rate(self.steps))
        self.steps += 1
        return loss

    def _mean_loss(self, gradient: Array) -> float:
        """Compute loss and gradient of a step, over its batches and over all processes."""
        first = self.steps * self.accumulate
        loss = self.task.step(first)
        if self.accumulate == 1 and self._group.size == 1:
            return loss.mean
        sums = np.array([loss.mean * loss.weight, loss.weight])
        total = gradient * loss.weight
        for index in range(first + 1, first + self.accumulate):
            loss = self.task.step(index)
            total += gradient * loss.weight
            sums += (loss.mean * loss.weight, loss.weight)
        self._group.sum(total)
        self._group.sum(sums)
        np.divide(total, sums[1], out=gradient)
        return float(sums[0] / sums[1])

    def run(
        self,
        *,
        seconds: float | None = None,
        on_step: Callable[[float], None] = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Train until the plan ends.

        Parameters
        ----------
        seconds : float, optional
            If the plan has no length yet, its length becomes what fits into this time, by the
            duration of the first steps.
        on_step : callable
            Told the loss of every step, after it.
        stop : callable
            Asked after every step; true ends the run early.

        Returns
        -------
        bool
            Whether the plan is finished.

        Raises
        ------
        TypeError, ValueError
            If there is neither a length nor a time, or an argument is of the wrong type.
        DivergenceError
            As in `advance`.
        """
        checks.function("train: on_step", on_step)
        checks.function("train: stop", stop)
        if seconds is not None:
            seconds = checks.number("train: seconds", seconds, checks.NOT_NEGATIVE)
        clock = None
        if self.plan.total is None:
            if seconds is None:
                raise ValueError("train: the plan has no length and no time is given")
            clock = _Calibration(seconds)
        with blas_on_one_thread():
            while not self.finished:
                loss = self.advance()
                if clock is not None:
                    length = self._group.agree(clock.length(self.steps))
                    if length is not None:
                        self.plan, clock = self.plan.of_length(length), None
                on_step(loss)
                if self._group.any(stop()):
                    break
        return self.finished


@contextmanager
def blas_on_one_thread() -> Iterator[None]:
    """Keep NumPy's BLAS to the calling thread, where threadpoolctl is installed.

    BLAS threads go on spinning for some 50 ms after a product, on the cores that the recurrent
    kernels need next. The model of `rnnfast train text` trains twice as fast without them, and
    its products no longer depend on their number.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        yield
        return
    with threadpool_limits(limits=1, user_api="blas"):
        yield


class _Calibration:
    """Times the first steps to tell how many a time holds."""

    def __init__(self, seconds: float) -> None:
        self._last = time.monotonic()
        self._deadline = self._last + seconds
        self._durations: list[float] = []

    def length(self, steps: int) -> int | None:
        """Return the plan's length, None while it is unknown; called after every step."""
        now = time.monotonic()
        self._durations.append(now - self._last)
        self._last = now
        settled = self._durations[_SETTLING:]
        enough = settled and (sum(settled) >= _CALIBRATION[0] or len(settled) >= _CALIBRATION[1])
        if now >= self._deadline:
            return steps
        if not enough:
            return None
        return steps + round((self._deadline - now) / statistics.median(settled))


class Interruption:
    """Turns Ctrl-C and a request to terminate into a flag, so that a step is never cut in half.

    A second Ctrl-C interrupts at once. Outside the main thread, where Python delivers no
    signals, nothing is changed.
    """

    def __init__(self) -> None:
        self.requested = False
        self._former: dict[int, object] = {}

    def __call__(self) -> bool:
        """Tell whether a signal has come."""
        return self.requested

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._former[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._restore()

    def _restore(self) -> None:
        while self._former:
            number, handler = self._former.popitem()
            signal.signal(number, handler)  # type: ignore[arg-type]
