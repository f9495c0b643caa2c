"""The comparison of two runs of the bench, ``bench/compare.py``."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bench_cases import case_of, made_up
from rnnfast.bench import report
from rnnfast.bench.grid import Case
from rnnfast.bench.subjects import OURS


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
