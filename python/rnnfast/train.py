"""The training loop: steps, learning-rate plan, checkpoints, interruption.

A system (text, and what comes after it) is a `Task`; everything here is common to all of them.
Nothing that decides a step depends on the clock, so that a run resumed from a checkpoint repeats
the straight run bit for bit. The one measured quantity, how many steps a number of minutes holds,
becomes part of the plan that the checkpoint keeps.
"""

from __future__ import annotations

import math
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import Protocol, Self

import numpy as np

from .flat import Array
from .models import Model
from .optim import Optimizer, clip_grad_norm

WARMUP = 50  # steps over which the learning rate rises
_CALIBRATION = (4.0, 40)  # seconds and steps, whichever comes first, that are timed
_SETTLING = 2  # first steps, slower than the rest, that are not


class DivergenceError(ArithmeticError):
    """The loss or its gradient is no longer finite."""


class Task(Protocol):
    """A system to be trained: a model, its batches, and what is carried between them."""

    @property
    def model(self) -> Model:
        """What is trained."""
        ...

    def step(self, index: int) -> float:
        """Leave the gradient of batch `index` in `model.gradient`; return the loss."""
        ...

    def state(self) -> dict[str, Array]:
        """Return what is carried from one step to the next, by name."""
        ...

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Take over what `state` returned."""
        ...


@dataclass(frozen=True)
class Plan:
    """The learning rate as a function of the step alone.

    Linear warm-up to `lr`, then half a cosine down to `floor`·lr at `total`. While `total` is
    not known yet, the rate stays at `lr` after the warm-up.
    """

    lr: float
    total: int | None = None
    warmup: int = WARMUP
    floor: float = 0.02

    def of_length(self, total: int) -> Plan:
        """Return the same plan over `total` steps, with a warm-up that fits them."""
        return replace(self, total=total, warmup=max(1, min(self.warmup, total // 5)))

    def rate(self, step: int) -> float:
        """Return the learning rate of step 0, 1 and so on."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        if self.total is None:
            return self.lr
        progress = min(1.0, (step - self.warmup) / max(1, self.total - self.warmup))
        wave = 0.5 + 0.5 * math.cos(math.pi * progress)
        return self.lr * (self.floor + (1.0 - self.floor) * wave)


class Trainer:
    """One optimisation: a task, an optimiser over its model's buffer, a plan, and the step reached.

    Parameters
    ----------
    task : Task
        The system.
    optimizer : Optimizer
        Over `task.model.flat`.
    plan : Plan
        Learning rates, and the number of steps unless a time is given to `run`.
    clip : float
        Largest norm of a gradient; `inf` for none.

    Attributes
    ----------
    steps : int
        Steps taken; the next one is number `steps`.
    """

    def __init__(self, task: Task, optimizer: Optimizer, plan: Plan, clip: float) -> None:
        self.task, self.optimizer, self.plan, self.clip = task, optimizer, plan, clip
        self.steps = 0

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
            loss = self.task.step(self.steps)
            norm = clip_grad_norm(gradient, self.clip)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise DivergenceError(
                f"step {self.steps}: loss {loss:g}, gradient norm {norm:g}; "
                "try a smaller learning rate or clipping"
            )
        self.optimizer.step(gradient, lr=self.plan.rate(self.steps))
        self.steps += 1
        return loss

    def run(
        self,
        *,
        seconds: float | None = None,
        interval: float = math.inf,
        checkpoint: Callable[[], None] = lambda: None,
        on_step: Callable[[float], None] = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Train until the plan ends.

        Parameters
        ----------
        seconds : float, optional
            If the plan has no length yet, its length becomes what fits into this time, by the
            duration of the first steps.
        interval : float
            Seconds between calls of `checkpoint`, which is not called at the end.
        checkpoint : callable
            Saves.
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
        ValueError
            If there is neither a length nor a time.
        DivergenceError
            As in `advance`.
        """
        clock = None
        if self.plan.total is None:
            if seconds is None:
                raise ValueError("train: the plan has no length and no time is given")
            clock = _Calibration(seconds)
        saved = time.monotonic()
        with blas_on_one_thread():
            while not self.finished:
                loss = self.advance()
                if clock is not None and (length := clock.length(self.steps)) is not None:
                    self.plan, clock = self.plan.of_length(length), None
                on_step(loss)
                if stop():
                    break
                if time.monotonic() - saved >= interval and not self.finished:
                    checkpoint()
                    saved = time.monotonic()
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
