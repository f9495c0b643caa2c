"""How times are taken: interleaved turns, each begun with all threads of the process at rest.

Within a case the subjects take turns, in a new random order every round, so that drifts of the
machine (clock, neighbours, temperature) fall on all of them alike. Medians and quartiles are over
the turns.

Thread pools go on spinning after a call in the hope of more work, and so steal the cores of
whoever runs next: PyTorch's OpenMP threads for about 7 ms, ONNX Runtime's for about 30 ms,
OpenBLAS's for over 50 ms. To forbid them to spin would slow those libraries down; instead every
turn first sleeps until the process uses no processor time (`settle`), then makes untimed calls,
which wake the subject's own threads and fill the caches, then the timed ones. The same rule holds
for every subject, rnnfast included.
"""

from __future__ import annotations

import gc
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

SAMPLE_SECONDS = 0.005
"""Shorter calls are repeated until a turn lasts this long."""

LONG_CALL_SECONDS = 0.05
"""From here on a turn is one call without untimed ones: waking threads takes below 1 % of it."""

# Processor time is accounted in ticks of 1 to 10 ms: a window must be longer than two of most.
SETTLE_WINDOW_SECONDS = 0.01
SETTLE_LIMIT_SECONDS = 0.5
SETTLE_IDLE_SHARE = 0.2

PROCESSOR_TIMES = Path("/proc/stat")


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of samples, in the samples' unit."""

    median: float
    q1: float
    q3: float
    samples: tuple[float, ...]

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        """Summarise at least one sample."""
        q1, median, q3 = (float(q) for q in np.percentile(samples, (25, 50, 75)))
        return cls(median, q1, q3, tuple(samples))


@dataclass(frozen=True)
class Effort:
    """How long a case is measured.

    Attributes
    ----------
    seconds : float
        Rounds go on until this time has passed,
    least, most : int
        but there are at least and at most so many.
    """

    seconds: float
    least: int
    most: int


def settle() -> None:
    """Sleep until no thread of this process is running, half a second at most."""
    deadline = time.perf_counter() + SETTLE_LIMIT_SECONDS
    busy = True
    while busy and time.perf_counter() < deadline:
        used = time.process_time()
        time.sleep(SETTLE_WINDOW_SECONDS)
        busy = time.process_time() - used > SETTLE_IDLE_SHARE * SETTLE_WINDOW_SECONDS


class Neighbours:
    """What other processes, and other guests of the host, take of the machine.

    Where that is not little, times are not those of the libraries: one core less and a library
    whose threads wait for each other may become a hundred times slower.
    """

    def __init__(self) -> None:
        self._start = self._now()

    def cores(self) -> float | None:
        """Mean number of cores that others have used so far; None where there is no /proc."""
        now = self._now()
        if self._start is None or now is None or now[0] <= self._start[0]:
            return None
        elapsed, busy, own = (b - a for a, b in zip(self._start, now, strict=True))
        return max(0.0, busy - own) / elapsed

    @staticmethod
    def _now() -> tuple[float, float, float] | None:
        """Seconds on the clock, of all processors busy, and of processors busy for us."""
        try:
            fields = PROCESSOR_TIMES.read_text(encoding="ascii").split(maxsplit=9)
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[1:9])
        except (OSError, ValueError):
            return None
        busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        return time.perf_counter(), busy, time.process_time()


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Keep Python's collector from running inside a timed call."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def timed(call: Callable[[], Any], calls: int = 1) -> float:
    """Seconds per call of `calls` calls in a row."""
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def calls_for_sample(call: Callable[[], Any]) -> int:
    """How many calls last about `SAMPLE_SECONDS`.

    Judged by the fastest of as many as fit in that time: the first ones may have to wake threads,
    which takes a thousand times as long as the smallest cases.
    """
    fastest, deadline = timed(call), time.perf_counter() + SAMPLE_SECONDS
    while time.perf_counter() < deadline:
        fastest = min(fastest, timed(call))
    return max(1, math.ceil(SAMPLE_SECONDS / max(fastest, 1e-9)))


def turn(call: Callable[[], Any], first_seconds: float) -> Callable[[], float]:
    """Make the turn of one subject.

    Parameters
    ----------
    call : callable
        The work.
    first_seconds : float
        What its first call took; if that was long, a turn is a single call.

    Returns
    -------
    callable
        Each call of it gives one sample, in seconds per call of `call`.
    """
    is_long = first_seconds >= LONG_CALL_SECONDS
    calls = 1 if is_long else calls_for_sample(call)
    untimed = 0 if is_long else calls

    def sample() -> float:
        for _ in range(untimed):
            call()
        return timed(call, calls)

    return sample


def interleave(
    turns: Mapping[str, Callable[[], float]], effort: Effort, seed: int = 0
) -> dict[str, Spread]:
    """Give every subject one turn a round, in random order, for as many rounds as `effort` says.

    Parameters
    ----------
    turns : mapping of name to callable
        Each call gives one sample, in any unit.
    effort : Effort
        How long.
    seed : int
        Of the order.

    Returns
    -------
    dict of name to Spread
        In the order of `turns`.
    """
    rng = np.random.default_rng(seed)
    samples: dict[str, list[float]] = {name: [] for name in turns}
    deadline, rounds = time.perf_counter() + effort.seconds, 0
    with no_garbage_collection():
        while rounds < effort.least or (rounds < effort.most and time.perf_counter() < deadline):
            for name in rng.permutation(list(turns)):
                settle()
                samples[name].append(turns[name]())
            rounds += 1
    return {name: Spread.of(values) for name, values in samples.items()}
