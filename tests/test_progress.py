"""The figures of a training while it runs: loss, speed, time left. The clock is made up."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from rnnfast.train import TrainingPlan

pytest.importorskip("rich", reason="the progress needs the extra `cli`")

from rnnfast import progress
from rnnfast.progress import Meter

NAT = 1 / math.log(2)  # in bits


class Training(SimpleNamespace):
    """A trainer whose steps take as long as told, and the clock that it moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, total: int | None) -> None:
        plan = TrainingPlan(0.1) if total is None else TrainingPlan(0.1).of_length(total)
        super().__init__(plan=plan, steps=0, now=100.0)
        monkeypatch.setattr(progress, "time", self)

    def monotonic(self) -> float:
        return float(self.now)

    def advance(self, meter: Meter, seconds: float, loss: float) -> None:
        self.now += seconds
        self.steps += 1
        meter.update(loss)


def make(
    monkeypatch: pytest.MonkeyPatch, total: int | None, seconds: float | None = None
) -> tuple[Any, Meter]:
    training: Any = Training(monkeypatch, total)
    system = SimpleNamespace(
        items_per_batch=500, unit="chars", loss_text=lambda loss: f"{loss / math.log(2):.3f} bits"
    )
    settings = SimpleNamespace(accumulate=2)
    run: Any = SimpleNamespace(trainer=training, seconds=seconds, system=system, settings=settings)
    return training, Meter(run)


def test_speed_and_time_left_follow_from_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    training, meter = make(monkeypatch, total=800)
    for _ in range(200):
        training.advance(meter, 0.25, 2.0)
    assert meter.share_done == 0.25
    assert meter.seconds_left == pytest.approx(150.0)
    assert str(meter) == f"{2 * NAT:.3f} bits  4,000 chars/s  2:30 left"


def test_the_speed_is_that_of_the_last_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    training, meter = make(monkeypatch, total=400)
    for seconds in (5.0, 0.5):
        for _ in range(100):
            training.advance(meter, seconds, 1.0)
    assert meter.seconds_left == pytest.approx(100.0)


def test_before_the_length_is_known_the_time_given_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    training, meter = make(monkeypatch, total=None, seconds=60.0)
    for _ in range(3):
        training.advance(meter, 5.0, 1.0)
    assert meter.share_done == 0.25
    assert meter.seconds_left == 45.0
    training.advance(meter, 100.0, 1.0)
    assert (meter.share_done, meter.seconds_left) == (1.0, 0.0)


def test_the_loss_is_smoothed_from_the_first_one_on(monkeypatch: pytest.MonkeyPatch) -> None:
    training, meter = make(monkeypatch, total=10)
    training.advance(meter, 1.0, 3.0)
    assert meter.loss == 3.0
    training.advance(meter, 1.0, 1.0)
    assert meter.loss is not None
    assert 2.5 < meter.loss < 3.0
    for _ in range(500):
        training.advance(meter, 1.0, 1.0)
    assert meter.loss == pytest.approx(1.0)
