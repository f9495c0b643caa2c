"""A case from beginning to end: prepare every subject, compare their results, take the times."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from rnnfast import _core
from rnnfast.bench import problem as problems
from rnnfast.bench.grid import Case
from rnnfast.bench.measure import Effort, Spread, interleave, settle, turn
from rnnfast.bench.problem import Problem
from rnnfast.bench.subjects import OURS, REFERENCE, Job, Subject, chosen

PEAK = "FMA peak"
BANDWIDTH = "read bandwidth"
PROBE_SECONDS = 0.02

CHECKED_STEPS = 4
"""Time steps that are compared with the NumPy reference when no peer takes part."""

IMPORT_ROUNDS = 5


@dataclass(frozen=True)
class Measurement:
    """The times of one case.

    Attributes
    ----------
    case : Case
        What was measured.
    peak : Spread
        GFLOP/s of the FMA units, measured between the subjects' turns, on as many threads.
    bandwidth : Spread
        Bytes per second read from an array as large as the case's weights, each thread its own
        part; measured as the peak is.
    seconds : dict of str to Spread
        Time of a call, by the subject's name, rnnfast first.
    differences : dict of str to float
        How far each peer's results are from rnnfast's; see `rnnfast.bench.problem.difference`.
    kept : dict of str to int
        Bytes kept for BPTT beside x and y, of training and of subjects that tell.
    """

    case: Case
    peak: Spread
    bandwidth: Spread
    seconds: dict[str, Spread]
    differences: dict[str, float]
    kept: dict[str, int]

    def gflops(self, name: str) -> float:
        """GFLOP/s of a subject, at its median time."""
        return self.case.flops / self.seconds[name].median / 1e9

    def peak_share(self, name: str) -> float:
        """Share of the peak that a subject reaches, 0 to 1."""
        return self.gflops(name) / self.peak.median

    def bandwidth_share(self) -> float | None:
        """Share of `bandwidth` at which rnnfast reads the weights that every step needs again.

        None for more than one sequence, where arithmetic limits and threads that split sequences
        read all weights each. Threads that split units read a part each, as in the probe.
        """
        if self.case.batch != 1:
            return None
        read = self.case.weight_bytes_read / self.seconds[OURS.name].median
        return read / self.bandwidth.median

    def ratio(self, name: str) -> float:
        """Time of a peer over that of rnnfast: above 1 where rnnfast is faster."""
        return self.seconds[name].median / self.seconds[OURS.name].median


def measure_case(
    case: Case, num_threads: int, effort: Effort, among: Sequence[Subject] | None = None
) -> Measurement:
    """Measure the subjects of `among`, by default all that are installed, that can run the case.

    Raises
    ------
    DisagreementError
        If a subject's results differ from those of rnnfast.
    """
    problem = problems.make(case)
    subjects = chosen(case, among)
    if all(subject.packages == OURS.packages for subject in subjects):
        check_with_reference(problem, num_threads)
    jobs = {subject.name: subject.prepare(problem, num_threads) for subject in subjects}
    first_seconds, differences = compare(case, jobs)
    turns: dict[str, Callable[[], float]] = {
        name: turn(job.call, first_seconds[name]) for name, job in jobs.items()
    }
    turns[PEAK] = peak_turn(case.dtype, num_threads)
    turns[BANDWIDTH] = bandwidth_turn(case.weight_bytes, num_threads)
    spreads = interleave(turns, effort)
    peak, bandwidth = spreads.pop(PEAK), spreads.pop(BANDWIDTH)
    kept = {name: job.kept() for name, job in jobs.items() if job.kept is not None}
    return Measurement(case, peak, bandwidth, spreads, differences, kept)


def peak_turn(dtype: str, num_threads: int) -> Callable[[], float]:
    """A turn that measures the FMA units of the instruction set in use, in GFLOP/s."""
    return partial(_core.measure_fma_peak, dtype, num_threads, PROBE_SECONDS)


def bandwidth_turn(size: int, num_threads: int) -> Callable[[], float]:
    """A turn that measures how fast an array of `size` bytes is read, in bytes per second."""
    return partial(_core.measure_read_bandwidth, size, num_threads, PROBE_SECONDS)


def compare(case: Case, jobs: dict[str, Job]) -> tuple[dict[str, float], dict[str, float]]:
    """Run every job once and compare its results with those of the first.

    Returns
    -------
    seconds, differences : dict of str to float
        Time of that call by name; difference by name, without the first.

    Raises
    ------
    DisagreementError
        Naming the case and the subject.
    """
    seconds: dict[str, float] = {}
    differences: dict[str, float] = {}
    expected: problems.Arrays | None = None
    for name, job in jobs.items():
        settle()
        start = time.perf_counter()
        result = job.call()
        seconds[name] = time.perf_counter() - start
        found = job.read(result)
        if expected is None:
            expected = found
        else:
            differences[name] = problems.check(case, name, expected, found)
    return seconds, differences


def check_with_reference(problem: Problem, num_threads: int) -> float:
    """Compare the first few steps of a problem with NumPy and return the difference.

    Raises
    ------
    DisagreementError
        If it is too large.
    """
    steps = min(problem.case.seq_length, CHECKED_STEPS)
    short = replace(
        problem,
        case=replace(problem.case, seq_length=steps),
        x=problem.x[:steps],
        dy=problem.dy[:steps],
    )
    pair: Sequence[Subject] = (OURS, REFERENCE)
    jobs = {subject.name: subject.prepare(short, num_threads) for subject in pair}
    return compare(short.case, jobs)[1][REFERENCE.name]


def import_seconds() -> Spread:
    """Time that ``import rnnfast`` takes after ``import numpy``, each time in a new interpreter."""
    code = (
        "import numpy, time; start = time.perf_counter(); import rnnfast; "
        "print(time.perf_counter() - start)"
    )
    # The parent's search path, so that the child finds the package that is being measured.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", code]
    return Spread.of(
        [
            float(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)
            for _ in range(IMPORT_ROUNDS)
        ]
    )
