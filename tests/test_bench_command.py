"""The command ``rnnfast bench``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import rnnfast
from bench_cases import TINY, case_of
from rnnfast.bench import grid, measure, problem, run
from rnnfast.bench.grid import Case
from rnnfast.bench.subjects import OURS, Job, Subject, candidates

SMALL = [
    "--quick",
    *("--seq-length", "5", "--batch", "1,2", "--input-size", "3", "--hidden-size", "4"),
    *("--rounds", "1"),
]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., SimpleNamespace]:
    """Runs ``rnnfast bench`` and gives its exit code and document."""
    monkeypatch.setattr(run, "IMPORT_ROUNDS", 2)  # a new interpreter each
    for module in (run, measure):  # these times are not looked at
        monkeypatch.setattr(module, "settle", lambda: None)
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
    for name in ("bench.png", "roofline.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    output = capsys.readouterr().out
    for text in ("lstm forward", "gru train", "basic step", "B2 I3 H4", "FMA peak", "roofline.png"):
        assert text in output


def test_bench_shows_the_peers(
    bench: Callable[..., SimpleNamespace], capsys: pytest.CaptureFixture[str]
) -> None:
    _, *peers = candidates(quick=True)
    if not peers:
        pytest.skip("no peer is installed")
    outcome = bench("--cells", "lstm", "--no-plot")
    assert outcome.code == 0
    for entry in outcome.document["cases"]:
        case = case_of(**{key: entry[key] for key in ("cell", "work", *TINY)})
        expected = [OURS.name, *(peer.name for peer in peers if peer.supports(case))]
        assert list(entry["subjects"]) == expected
    output = capsys.readouterr().out
    for peer in peers:
        assert peer.packages[0] in outcome.document["machine"]["versions"]
        assert peer.packages[0] in output


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
        (["--batch", ""], "'' is not a positive integer"),
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
    heavy = ("torch", "onnxruntime", "onnx", "jax", "matplotlib", "rich.table")
    code = f"import sys, rnnfast.bench.cli; print([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
