"""How the bench takes times: rest, warming up, turns. The clock is made up."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench_cases import TWICE
from rnnfast.bench import measure
from rnnfast.bench.measure import Effort, Spread


class Clock:
    """A clock that only calls advance; other threads keep one processor busy until `busy`."""

    def __init__(self, busy: float = 0.0) -> None:
        self.now = 0.0
        self.busy = busy

    def perf_counter(self) -> float:
        return self.now

    def process_time(self) -> float:
        return min(self.now, self.busy)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def work(self, *durations: float) -> Callable[[], None]:
        """A call that takes the given times one after the other, the last from then on."""
        left = list(durations)

        def call() -> None:
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return call


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that `measure` reads."""
    clock = Clock()
    monkeypatch.setattr(measure, "time", clock)
    return clock


def test_settle_waits_until_other_threads_rest(clock: Clock) -> None:
    clock.busy = 0.035
    measure.settle()
    assert clock.now - clock.busy >= measure.SETTLE_WINDOW_SECONDS * (1 - measure.SETTLE_IDLE_SHARE)
    assert clock.now < 0.1


def test_settle_gives_up_on_threads_that_never_rest(clock: Clock) -> None:
    clock.busy = np.inf
    measure.settle()
    limit = measure.SETTLE_LIMIT_SECONDS
    assert limit <= clock.now < limit + 2 * measure.SETTLE_WINDOW_SECONDS


def test_short_calls_are_repeated_and_warmed_up(clock: Clock) -> None:
    calls: list[float] = []
    slow_first = clock.work(0.001, 0.03, 0.001)  # waking its threads delays the second call

    def call() -> None:
        calls.append(clock.now)
        slow_first()

    call()
    sample = measure.turn(call, 0.001)
    calls.clear()
    assert sample() == pytest.approx(0.001)
    assert len(calls) == 2 * 5


def test_a_turn_of_a_long_call_is_that_call(clock: Clock) -> None:
    sample = measure.turn(clock.work(0.2, 0.3), 0.2)
    assert sample() == pytest.approx(0.2)
    assert clock.now == pytest.approx(0.2)


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, 3), (1e9, 7), (0.55, 5)])
def test_rounds_follow_the_effort(clock: Clock, seconds: float, rounds: int) -> None:
    # A round is two windows of settling and 0.1 s of work.
    turns = {name: lambda: (clock.sleep(0.05), clock.now)[1] for name in ("a", "b")}
    spreads = measure.interleave(turns, Effort(seconds, least=3, most=7))
    assert [len(spreads[name].samples) for name in ("a", "b")] == [rounds, rounds]


def test_every_round_has_everyone_once_in_changing_order(clock: Clock) -> None:
    order: list[str] = []

    def turn_of(name: str) -> Callable[[], float]:
        return lambda: float(order.append(name) is None)

    names = ("a", "b", "c")
    spreads = measure.interleave({name: turn_of(name) for name in names}, Effort(0.0, 20, 20))
    assert tuple(spreads) == names
    rounds = [tuple(order[i : i + 3]) for i in range(0, len(order), 3)]
    assert len(rounds) == 20
    assert all(sorted(one) == sorted(names) for one in rounds)
    assert len(set(rounds)) > 2


def test_the_collector_rests_while_times_are_taken(clock: Clock) -> None:
    states: list[bool] = []
    measure.interleave({"a": lambda: float(states.append(gc.isenabled()) is None)}, TWICE)
    assert states == [False, False]
    assert gc.isenabled()


def test_spread_is_median_and_quartiles() -> None:
    assert Spread.of([5.0, 1.0, 3.0, 2.0, 4.0]) == Spread(3.0, 2.0, 4.0, (5.0, 1.0, 3.0, 2.0, 4.0))


def test_neighbours_are_all_processor_time_but_ours(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    times = tmp_path / "stat"
    monkeypatch.setattr(measure, "PROCESSOR_TIMES", times)
    monkeypatch.setattr(measure.os, "sysconf", {"SC_CLK_TCK": 100}.__getitem__, raising=False)
    clock.busy = np.inf  # we use one core all the time
    times.write_text("cpu  100 10 20 9000 50 1 2 3 0 0\n")
    neighbours = measure.Neighbours()
    clock.sleep(10.0)
    times.write_text("cpu  1500 60 120 9500 90 11 12 33 0 0\n")
    # Busy: 1400 + 50 + 100 + 10 + 10 + 30 ticks in 10 s are 1.6 cores, one of them ours.
    assert neighbours.cores() == pytest.approx(0.6)
    times.unlink()
    assert neighbours.cores() is None
