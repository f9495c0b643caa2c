"""Who takes part in the bench, and that all of them compute the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import rnnfast
from bench_cases import TWICE, case_of
from processes import run_python
from rnnfast.bench import grid, problem, run
from rnnfast.bench.grid import Case
from rnnfast.bench.problem import DisagreementError
from rnnfast.bench.subjects import OURS, REFERENCE, SUBJECTS, Subject, candidates, chosen


def results(subject: Subject, given: problem.Problem) -> problem.Arrays:
    job = subject.prepare(given, 1)
    return job.read(job.call())


SUPPORTED = [
    pytest.param(subject, case, id=f"{subject.name} {case.cell} {case.work} {case.dtype}")
    for subject in SUBJECTS
    for cell in grid.CELLS
    for work in grid.PASSES
    for dtype in ("float32", "float64", "bfloat16", "int8")
    if subject.supports(case := case_of(cell, work, dtype=dtype))
]


def test_peers_take_part_where_they_can() -> None:
    counts = {s.name: sum(p.values[0] == s for p in SUPPORTED) for s in SUBJECTS}
    assert counts == {
        "rnnfast": 33,
        "rnnfast float32": 18,
        "PyTorch": 27,
        "PyTorch int8": 4,
        "PyTorch float32": 18,
        "PyTorch cell": 6,
        "ONNX Runtime": 18,
        "JAX": 15,
    }


@pytest.mark.parametrize(("subject", "case"), SUPPORTED)
def test_subjects_compute_what_the_reference_does(subject: Subject, case: Case) -> None:
    if not subject.installed:
        pytest.skip(f"{' or '.join(subject.packages)} is not installed")
    work = case.work
    given = problem.make(case)
    expected, actual = results(REFERENCE, given), results(subject, given)
    allowed = {"float32": 1e-5, "float64": 1e-12, "bfloat16": 0.02, "int8": 0.02}[case.dtype]
    assert problem.difference(expected, actual) < allowed
    gradients = {"dx", *(f"d{name}" for name in problem.WEIGHTS)}
    compared = expected.keys() & actual.keys()
    assert compared >= {"y"} | (gradients if work == "train" else set())
    assert all(actual[name].dtype == case.array_dtype for name in compared)


@pytest.mark.parametrize("work", grid.PASSES)
@pytest.mark.parametrize("cell", grid.CELLS)
def test_every_case_has_rnnfast_first(cell: str, work: str) -> None:
    case = case_of(cell, work)
    assert chosen(case)[0] == OURS
    assert chosen(case, candidates(peers=False)) == [OURS]


def test_quick_runs_leave_slow_compilers_out() -> None:
    everyone, quick = candidates(), candidates(quick=True)
    assert [s for s in everyone if s not in quick] == [s for s in everyone if s.name == "JAX"]
    assert quick[0] == OURS


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


@pytest.mark.parametrize(
    ("work", "dtype"),
    [
        ("forward", "float32"),
        ("forward", "bfloat16"),
        ("forward", "int8"),
        ("train", "float32"),
        ("train", "bfloat16"),
    ],
)
def test_a_wrong_gate_order_is_noticed(work: str, dtype: str) -> None:
    case = case_of("lstm", work, dtype=dtype)
    right = problem.make(case)
    swapped = np.roll(right.weights["weight_hh"], case.hidden_size, axis=0)
    wrong = replace(right, weights={**right.weights, "weight_hh": swapped})
    jobs = {"one": OURS.prepare(right, 1), "other": OURS.prepare(wrong, 1)}
    with pytest.raises(DisagreementError, match=f"lstm {work} T5 B3 I4 H6 {dtype}: other: results"):
        run.compare(case, jobs)


def test_rnnfast_alone_is_compared_with_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_of("gru", "train")
    assert run.check_with_reference(problem.make(case), 1) < 1e-5
    monkeypatch.setitem(problem.TOLERANCE, "float32", -1.0)
    with pytest.raises(DisagreementError, match=r"gru train T4 .*: reference"):
        run.measure_case(case, 1, TWICE, (OURS,))


def test_training_tells_what_it_keeps() -> None:
    case = case_of("lstm", "train")
    layer = rnnfast.LSTM(case.input_size, case.hidden_size)
    tape = layer.forward(problem.make(case).x)[2]
    measured = run.measure_case(case, 1, TWICE, (OURS,))
    assert measured.kept == {OURS.name: tape.nbytes}
    assert run.measure_case(replace(case, work="forward"), 1, TWICE, (OURS,)).kept == {}


def test_jax_runs_on_as_many_threads_as_it_was_started_with() -> None:
    pytest.importorskip("jax")
    code = """
import os
from rnnfast.bench.subjects import jax_scan
jax_scan.start(3)
names = [open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task")]
print(sum("Eigen" in name for name in names), "NPROC" in os.environ)
jax_scan.start(3)
try:
    jax_scan.start(2)
except RuntimeError as error:
    print(error)
"""
    assert run_python(code).splitlines() == [
        "3 False",
        "jax runs on 3 threads, which cannot be changed to 2",
    ]
