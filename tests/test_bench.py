"""The measuring itself: operation counts, agreement of the subjects, turns, reports, the command.

Times are made up or ignored; what is checked is what is done with them.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import rnnfast
from rnnfast.bench import grid, measure, problem, report, run
from rnnfast.bench.grid import Case
from rnnfast.bench.measure import Effort, Spread
from rnnfast.bench.problem import DisagreementError
from rnnfast.bench.subjects import OURS, REFERENCE, SUBJECTS, Job, Subject, chosen

TINY = {"seq_length": 5, "batch": 3, "input_size": 4, "hidden_size": 6}
TWICE = Effort(seconds=0.0, least=2, most=2)


def case_of(cell: str, work: str, **sizes: Any) -> Case:
    """A tiny case; a step has one time step."""
    sizes = {**TINY, **({"seq_length": 1} if work == "step" else {}), **sizes}
    return Case(cell, work, **sizes)


# -- What is measured ---------------------------------------------------------------------------


def products(cell: str, case: Case) -> list[tuple[int, int, int]]:
    """The matrix products (rows, inner, columns) of one forward pass, one by one."""
    gates = {"basic": ["h"], "lstm": ["i", "f", "g", "o"], "gru": ["r", "z", "n"]}[cell]
    widths = (case.input_size, case.hidden_size)
    return [
        (case.batch, width, case.hidden_size)
        for _ in range(case.seq_length)
        for _ in gates
        for width in widths
    ]


@pytest.mark.parametrize("cell", grid.CELLS)
def test_forward_operations_are_those_of_its_products(cell: str, rng: np.random.Generator) -> None:
    t, b, i, h = (int(size) for size in rng.integers(1, 40, 4))
    case = Case(cell, "forward", t, b, i, h)
    assert case.flops == sum(2 * m * k * n for m, k, n in products(cell, case))


@pytest.mark.parametrize("cell", grid.CELLS)
def test_training_does_every_product_three_times(cell: str) -> None:
    case = case_of(cell, "train")
    forward = products(cell, case)
    inputs = [(m, n, k) for m, k, n in forward]  # d[x, h] = dgates · W
    weights = [(k, m, n) for m, k, n in forward]  # dW = [x, h]ᵀ · dgates
    assert case.flops == sum(2 * m * k * n for m, k, n in [*forward, *inputs, *weights])


def test_the_grid_has_every_point_once() -> None:
    cases = grid.cases()
    names = {case.name for case in cases}
    assert len(names) == len(cases) == 3 * 2 * (5 * 3 + 1)
    assert {case.seq_length for case in cases} == {256}
    for cell in ("basic", "lstm", "gru"):
        for work in ("forward", "train"):
            shapes = {c[3:6] for c in map(_fields, cases) if c[:2] == (cell, work)}
            assert shapes == {
                *((b, 128, h) for b in (1, 16, 32, 64, 128) for h in (128, 512, 1024)),
                (64, 512, 512),
            }


def _fields(case: Case) -> tuple[Any, ...]:
    return (case.cell, case.work, case.seq_length, case.batch, case.input_size, case.hidden_size)


def test_the_quick_grid_is_part_of_the_full_one() -> None:
    assert set(grid.cases(grid.QUICK)) < set(grid.cases())


def test_steps_are_of_one_sequence() -> None:
    cases = grid.step_cases()
    assert {(c.cell, c.hidden_size) for c in cases} == {
        (cell, size) for cell in grid.CELLS for size in (128, 512)
    }
    assert all((c.seq_length, c.batch) == (1, 1) and c.input_size == c.hidden_size for c in cases)


# -- Who takes part -----------------------------------------------------------------------------


def results(subject: Subject, given: problem.Problem) -> problem.Arrays:
    job = subject.prepare(given, 1)
    return job.read(job.call())


SUPPORTED = [
    pytest.param(subject, case, id=f"{subject.name} {case.cell} {case.work} {case.dtype}")
    for subject in SUBJECTS
    for cell in grid.CELLS
    for work in grid.PASSES
    for dtype in ("float32", "float64")
    if subject.supports(case := case_of(cell, work, dtype=dtype))
]


def test_peers_take_part_where_they_can() -> None:
    counts = {s.name: sum(p.values[0] == s for p in SUPPORTED) for s in SUBJECTS}
    assert counts == {"rnnfast": 18, "PyTorch": 18, "PyTorch cell": 6, "ONNX Runtime": 6}


@pytest.mark.parametrize(("subject", "case"), SUPPORTED)
def test_subjects_compute_what_the_reference_does(subject: Subject, case: Case) -> None:
    if not subject.installed:
        pytest.skip(f"{' or '.join(subject.packages)} is not installed")
    work, dtype = case.work, case.dtype
    given = problem.make(case)
    expected, actual = results(REFERENCE, given), results(subject, given)
    assert problem.difference(expected, actual) < (1e-5 if dtype == "float32" else 1e-12)
    gradients = {"dx", *(f"d{name}" for name in problem.WEIGHTS)}
    compared = expected.keys() & actual.keys()
    assert compared >= {"y"} | (gradients if work == "train" else set())
    assert all(actual[name].dtype == dtype for name in compared)


@pytest.mark.parametrize("work", grid.PASSES)
@pytest.mark.parametrize("cell", grid.CELLS)
def test_every_case_has_rnnfast_first(cell: str, work: str) -> None:
    case = case_of(cell, work)
    assert chosen(case)[0] == OURS
    assert chosen(case, peers=False) == [OURS]


def test_problems_are_the_same_for_everyone_and_differ_by_case() -> None:
    case = case_of("lstm", "train")
    first, again = problem.make(case), problem.make(case)
    other = problem.make(replace(case, work="forward"))
    assert np.array_equal(first.x, again.x)
    assert not np.array_equal(first.x, other.x)
    assert first.weights["weight_ih"].shape == (24, 4)
    assert first.dy.shape == (5, 3, 6)


def test_difference_is_relative_to_large_arrays_alone() -> None:
    small, large = np.array([0.5, -0.25]), np.array([1000.0, 3.0])
    assert problem.difference({"y": small}, {"y": small + 0.125}) == 0.125
    assert problem.difference({"y": large}, {"y": large + 10.0}) == 0.01
    assert problem.difference({"y": small}, {"y": np.array([np.nan, -0.25])}) == np.inf


def test_difference_refuses_what_it_cannot_compare() -> None:
    y = np.arange(6.0)
    with pytest.raises(DisagreementError, match="no result in common"):
        problem.difference({"y": y}, {"dx": y})
    with pytest.raises(DisagreementError, match=r"y has shape \(3, 2\), expected \(6,\)"):
        problem.difference({"y": y}, {"y": y.reshape(3, 2)})


@pytest.mark.parametrize("work", ["forward", "train"])
def test_a_wrong_gate_order_is_noticed(work: str) -> None:
    case = case_of("lstm", work)
    right = problem.make(case)
    swapped = np.roll(right.weights["weight_hh"], case.hidden_size, axis=0)
    wrong = replace(right, weights={**right.weights, "weight_hh": swapped})
    jobs = {"one": OURS.prepare(right, 1), "other": OURS.prepare(wrong, 1)}
    with pytest.raises(DisagreementError, match=f"lstm {work} T5 B3 I4 H6 float32: other: results"):
        run.compare(case, jobs)


def test_rnnfast_alone_is_compared_with_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_of("gru", "train")
    assert run.check_with_reference(problem.make(case), 1) < 1e-5
    monkeypatch.setattr(problem, "TOLERANCE", -1.0)
    with pytest.raises(DisagreementError, match=r"gru train T4 .*: reference"):
        run.measure_case(case, 1, TWICE, peers=False)


# -- How times are taken ------------------------------------------------------------------------


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


# -- What comes out -----------------------------------------------------------------------------


def made_up(case: Case, ours: float, **peers: float) -> run.Measurement:
    """A measurement with given median times."""

    def spread(median: float) -> Spread:
        return Spread.of([median * factor for factor in (0.99, 1.0, 1.01)])

    seconds = {OURS.name: spread(ours), **{name: spread(time) for name, time in peers.items()}}
    return run.Measurement(case, spread(400.0), seconds, dict.fromkeys(peers, 1e-6))


def test_rates_and_ratios_follow_from_the_times() -> None:
    case = case_of("lstm", "forward", hidden_size=96)
    seconds = case.flops / 100e9
    measurement = made_up(case, seconds, PyTorch=2 * seconds)
    assert measurement.gflops(OURS.name) == pytest.approx(100.0)
    assert measurement.peak_share(OURS.name) == pytest.approx(0.25)
    assert measurement.ratio("PyTorch") == pytest.approx(2.0)


def test_the_document_survives_json() -> None:
    case = case_of("gru", "train")
    measurement = run.measure_case(case, 1, TWICE)
    machine = report.machine(1, "float32")
    document = report.document(machine, [measurement], None, None, complete=True)
    (entry,) = json.loads(json.dumps(document))["cases"]
    assert {key: entry[key] for key in TINY} == TINY
    assert (entry["name"], entry["flops"]) == (case.name, case.flops)
    assert set(entry["subjects"]) == {subject.name for subject in chosen(case)}
    ours = entry["subjects"]["rnnfast"]
    assert set(ours) == {"seconds", "gflops", "peak_share", "ratio", "difference"}
    assert len(ours["seconds"]["samples"]) == len(entry["peak_gflops"]["samples"]) == 2
    assert ours["gflops"] == case.flops / ours["seconds"]["median"] / 1e9
    assert ours["peak_share"] == ours["gflops"] / entry["peak_gflops"]["median"]
    assert machine["isa"] == rnnfast.info()["isa"]
    assert machine["versions"]["rnnfast"] == rnnfast.info()["version"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0123456, "0.0123"), (4.5, "4.50"), (99.94, "99.9"), (1234.5, "1234"), (0.0, "0")],
)
def test_three_digits(value: float, text: str) -> None:
    assert report.digits(value) == text


def test_the_table_shows_ours_and_every_peer() -> None:
    console = pytest.importorskip("rich.console").Console(width=80)
    case = case_of("lstm", "forward", hidden_size=96)
    seconds = case.flops / 100e9
    lone = replace(case, work="train")
    measurements = [
        made_up(case, seconds, **{"PyTorch": 2 * seconds, "ONNX Runtime": seconds / 2}),
        made_up(lone, 1.0),
    ]
    with console.capture() as captured:
        console.print(report.table(measurements, "Title", throughput=True))
    lines = captured.get().splitlines()
    (row, alone) = (line.split() for line in lines if "B3 I4 H96" in line)
    milliseconds = report.digits(seconds * 1e3)
    assert row[3:7] == [milliseconds, "0.5%", "100", "25.0%"]
    assert row[8::2] == ["2.00", "0.50"]
    assert alone[-2:] == ["-", "-"]
    assert max(map(len, lines)) <= 80


def test_a_busy_machine_is_reported() -> None:
    measurements = [made_up(case_of("lstm", "forward"), 1.0)]
    assert "not to be trusted" in report.summary(measurements, None, 0.5)
    assert "not to be trusted" not in report.summary(measurements, None, 0.01)


# -- Two runs -----------------------------------------------------------------------------------


def load_compare() -> ModuleType:
    """The script, which is not part of the package."""
    path = Path(__file__).parents[1] / "bench" / "compare.py"
    spec = importlib.util.spec_from_file_location("rnnfast_bench_compare", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


compare = load_compare()
A, B = case_of("lstm", "forward"), case_of("gru", "train")


def saved(path: Path, times: dict[Case, float], **machine: Any) -> str:
    """A run with times of rnnfast by case, written to a file."""
    described = {"cpu": "a", "isa": "b", "threads": 2, "dtype": "float32", **machine}
    measurements = [made_up(case, seconds) for case, seconds in times.items()]
    document = report.document(described, measurements, None, None, complete=True)
    path.write_text(json.dumps(document))
    return str(path)


def test_both_sides_agree_on_the_schema() -> None:
    assert report.SCHEMA == compare.SCHEMA
    assert OURS.name == compare.SUBJECT


@pytest.mark.parametrize(
    ("factor", "options", "code", "verdict"),
    [
        (1.10, [], 1, "1 slower, 0 faster"),
        (1.10, ["--slack", "0.2"], 0, "0 slower, 0 faster"),
        (1.03, [], 0, "0 slower, 0 faster"),
        (1.015, ["--slack", "0"], 1, "1 slower, 0 faster"),
        (1.005, ["--slack", "0"], 0, "0 slower, 0 faster"),  # within the quartiles
        (0.90, [], 0, "0 slower, 1 faster"),
    ],
)
def test_slower_means_beyond_spread_and_slack(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    factor: float,
    options: list[str],
    code: int,
    verdict: str,
) -> None:
    old = saved(tmp_path / "old.json", {A: 1.0, B: 2.0})
    new = saved(tmp_path / "new.json", {A: factor, B: 2.0})
    assert compare.main([old, new, *options]) == code
    output = capsys.readouterr().out
    assert verdict in output
    assert (A.name in output) == ("1 " in verdict)
    assert B.name not in output


def test_cases_of_one_run_alone_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = saved(tmp_path / "old.json", {A: 1.0, B: 2.0})
    assert compare.main([old, saved(tmp_path / "new.json", {A: 1.0})]) == 0
    output = capsys.readouterr().out
    assert "1 cases compared" in output
    assert "1 only in the old run" in output


@pytest.mark.parametrize(
    ("key", "value"), [("cpu", "c"), ("isa", "c"), ("threads", 1), ("dtype", "float64")]
)
def test_runs_under_other_conditions_are_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, value: Any
) -> None:
    old, new = saved(tmp_path / "o", {A: 1.0}), saved(tmp_path / "n", {A: 1.0}, **{key: value})
    assert compare.main([old, new]) == 2
    assert f"{key} differs" in capsys.readouterr().err


def test_nothing_in_common_and_unreadable_files_are_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = saved(tmp_path / "good", {A: 1.0})
    other = saved(tmp_path / "other", {B: 1.0})
    broken = tmp_path / "broken"
    broken.write_text("{")
    foreign = tmp_path / "foreign"
    foreign.write_text('{"benchmarks": []}')
    for bad in (other, str(broken), str(foreign), str(tmp_path / "missing")):
        assert compare.main([good, bad]) == 2
        assert capsys.readouterr().err.count("\n") == 1


# -- The command --------------------------------------------------------------------------------

SMALL = [
    "--quick",
    *("--seq-length", "5", "--batch", "1,2", "--input-size", "3", "--hidden-size", "4"),
    *("--rounds", "1"),
]


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., SimpleNamespace]:
    """Runs ``rnnfast bench`` and gives its exit code and document."""
    for needed in ("typer", "rich", "safetensors"):
        pytest.importorskip(needed)
    from rnnfast.cli import main

    def bench(*options: str) -> SimpleNamespace:
        with pytest.raises(SystemExit) as exit_info:
            main(["bench", *SMALL, "--threads", "1", "--out", str(tmp_path), *options])
        written = tmp_path / "bench.json"
        document = json.loads(written.read_text()) if written.exists() else None
        return SimpleNamespace(code=exit_info.value.code, document=document)

    return bench


def test_bench_from_end_to_end(
    bench: Callable[..., SimpleNamespace], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    outcome = bench("--no-peers")
    assert outcome.code == 0
    assert outcome.document["complete"]
    names = [case["name"] for case in outcome.document["cases"]]
    shapes = [grid.Shape(1, 3, 4), grid.Shape(2, 3, 4)]
    assert names == [c.name for c in (*grid.cases(shapes, seq_length=5), *grid.step_cases())]
    assert {tuple(case["subjects"]) for case in outcome.document["cases"]} == {("rnnfast",)}
    assert len(outcome.document["import_seconds"]["samples"]) == run.IMPORT_ROUNDS
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    output = capsys.readouterr().out
    for text in ("lstm forward", "gru train", "basic step", "B2 I3 H4", "FMA peak", "bench.png"):
        assert text in output


@pytest.mark.parametrize(
    "peer", [s for s in SUBJECTS if s != OURS], ids=lambda subject: subject.name
)
def test_bench_shows_the_peers(
    bench: Callable[..., SimpleNamespace], capsys: pytest.CaptureFixture[str], peer: Subject
) -> None:
    if not peer.installed:
        pytest.skip(f"{' or '.join(peer.packages)} is not installed")
    outcome = bench("--cells", "lstm", "--no-plot")
    assert outcome.code == 0
    for entry in outcome.document["cases"]:
        case = case_of(**{key: entry[key] for key in ("cell", "work", *TINY)})
        assert (peer.name in entry["subjects"]) == peer.supports(case)
    assert peer.packages[0] in outcome.document["machine"]["versions"]
    assert peer.packages[0] in capsys.readouterr().out


def test_bench_forces_an_instruction_set_and_puts_it_back(
    bench: Callable[..., SimpleNamespace], isa: str
) -> None:
    outcome = bench("--no-peers", "--no-plot", "--cells", "basic", "--isa", isa)
    assert outcome.document["machine"]["isa"] == isa
    assert rnnfast.info()["isa"] == isa  # the fixture has forced it already


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cells", "lstm,elman"], "'elman' is not one of basic, lstm, gru"),
        (["--batch", "4,0"], "'0' is not a positive integer"),
        (["--hidden-size", "many"], "'many' is not a positive integer"),
        (["--isa", "mmx"], "'mmx' is not one of"),
        (["--threads", "0"], "threads"),
        (["--dtype", "float16"], "float16"),
    ],
)
def test_bench_refuses_bad_options(
    bench: Callable[..., SimpleNamespace],
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    assert bench(*options).code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_bench_says_what_the_plot_needs_before_measuring(
    bench: Callable[..., SimpleNamespace],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rnnfast.bench.plot.available", lambda: False)
    outcome = bench()
    assert (outcome.code, outcome.document) == (2, None)
    assert capsys.readouterr().err == (
        "rnnfast: the plot needs matplotlib: install it, or pass --no-plot\n"
    )


def test_bench_fails_when_results_differ(
    bench: Callable[..., SimpleNamespace],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepare = Subject.prepare

    def spoilt(self: Subject, given: problem.Problem, num_threads: int) -> Job:
        job = prepare(self, given, num_threads)
        if self != OURS:
            return job
        return Job(job.call, lambda result: {"y": job.read(result)["y"] * 1.01})

    monkeypatch.setattr(Subject, "prepare", spoilt)
    outcome = bench("--no-peers", "--no-plot")
    assert (outcome.code, outcome.document) == (1, None)
    error = capsys.readouterr().err
    assert "rnnfast: basic forward T4" in error
    assert error.count("\n") == 1


def test_an_interrupted_bench_keeps_what_it_has(
    bench: Callable[..., SimpleNamespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[Case] = []
    measure_case = run.measure_case

    def interrupted(case: Case, *args: Any, **kwargs: Any) -> run.Measurement:
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(case)
        return measure_case(case, *args, **kwargs)

    monkeypatch.setattr(run, "measure_case", interrupted)
    outcome = bench("--no-peers", "--no-plot")
    assert outcome.code == 130
    assert not outcome.document["complete"]
    assert [case["name"] for case in outcome.document["cases"]] == [c.name for c in measured]


def test_importing_the_command_imports_no_framework() -> None:
    pytest.importorskip("typer")
    heavy = ("torch", "onnxruntime", "onnx", "matplotlib", "rich.table")
    code = f"import sys, rnnfast.bench.cli; print([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
