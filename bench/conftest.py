"""What the suites share: the options, the subjects of each case, and one measurement.

`rnnfast bench` interleaves the subjects; here each is a benchmark of its own, so that
pytest-benchmark can store it and compare it with earlier ones. Cases are groups: peers stand side
by side and run directly one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest

import rnnfast
from rnnfast.bench import grid, run
from rnnfast.bench import problem as problems
from rnnfast.bench.grid import Case
from rnnfast.bench.measure import (
    LONG_CALL_SECONDS,
    SAMPLE_SECONDS,
    calls_for_sample,
    settle,
    timed,
)
from rnnfast.bench.subjects import OURS, Subject, candidates, chosen

BENCHMARK_SECONDS = 0.3
LEAST_ROUNDS, MOST_ROUNDS = 2, 30


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--quick``, ``--no-peers`` and ``--threads``."""
    group = parser.getgroup("rnnfast")
    group.addoption("--quick", action="store_true", help="a few shapes of each kind, without JAX")
    group.addoption("--no-peers", action="store_true", help="rnnfast alone")
    group.addoption("--threads", type=int, default=None, help="threads for every library")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each suite its cases, and each case its subjects."""
    if not {"case", "subject"} <= set(metafunc.fixturenames):
        return
    quick = metafunc.config.getoption("--quick")
    cases = metafunc.module.cases(grid.QUICK if quick else grid.FULL)
    among = candidates(peers=not metafunc.config.getoption("--no-peers"), quick=quick)
    pairs = [(case, subject) for case in cases for subject in chosen(case, among)]
    ids = [f"{case.name}-{subject.name}".replace(" ", "-") for case, subject in pairs]
    metafunc.parametrize(("case", "subject"), pairs, ids=ids)


@pytest.fixture
def num_threads(request: pytest.FixtureRequest) -> int:
    """Threads for every library."""
    return int(request.config.getoption("--threads") or rnnfast.get_num_threads())


@lru_cache(maxsize=1)
def our_results(case: Case, num_threads: int) -> problems.Arrays:
    """What rnnfast computes, itself compared with the reference: the measure of its peers."""
    problem = problems.make(case)
    run.check_with_reference(problem, num_threads)
    job = OURS.prepare(problem, num_threads)
    return job.read(job.call())


@pytest.fixture
def measure(benchmark: Any, num_threads: int) -> Callable[[Case, Subject], None]:
    """A function that checks one subject on one case, then times it."""

    def measure(case: Case, subject: Subject) -> None:
        expected = our_results(case, num_threads)
        job = subject.prepare(problems.make(case), num_threads)
        difference = problems.check(case, subject.name, expected, job.read(job.call()))
        before = probe(case, num_threads)
        seconds = timed(job.call)
        calls = 1 if seconds >= LONG_CALL_SECONDS else calls_for_sample(job.call)
        rounds = int(BENCHMARK_SECONDS / max(seconds, SAMPLE_SECONDS))
        benchmark.group = case.name
        benchmark.pedantic(
            job.call,
            iterations=calls,
            rounds=min(max(rounds, LEAST_ROUNDS), MOST_ROUNDS),
            warmup_rounds=int(seconds < LONG_CALL_SECONDS),
        )
        after = probe(case, num_threads)
        noted = {name: (before[name] + after[name]) / 2 for name in before}
        if job.kept is not None:
            noted["kept_bytes"] = job.kept()
        benchmark.extra_info.update(noted, difference=difference)
        if benchmark.stats is not None:  # None under --benchmark-disable
            rates = rates_of(case, subject, benchmark.stats.stats.median, noted)
            benchmark.extra_info.update(rates)

    return measure


def probe(case: Case, num_threads: int) -> dict[str, float]:
    """What the machine can do at this moment: GFLOP/s, and bytes per second for the weights."""
    settle()
    return {
        "peak_gflops": run.peak_turn(case.dtype, num_threads)(),
        "read_bandwidth": run.bandwidth_turn(case.weight_bytes, num_threads)(),
    }


def rates_of(
    case: Case, subject: Subject, seconds: float, machine: dict[str, float]
) -> dict[str, float]:
    """GFLOP/s and its share of the peak; for one sequence in rnnfast also that of the cache."""
    gflops = case.flops / seconds / 1e9
    rates = {"gflops": gflops, "peak_share": gflops / machine["peak_gflops"]}
    if subject == OURS and case.batch == 1:
        read = case.weight_bytes_read / seconds
        rates["bandwidth_share"] = read / machine["read_bandwidth"]
    return rates
