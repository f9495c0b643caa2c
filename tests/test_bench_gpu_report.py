"""What ``rnnfast bench --device cuda`` makes of times and results."""

from __future__ import annotations

from typing import Any

import pytest

from bench_cases import case_of

torch = pytest.importorskip("torch", reason="the bench on a GPU needs PyTorch")

from rnnfast.bench.gpu import measure, report  # noqa: E402
from rnnfast.bench.gpu import subjects as them  # noqa: E402
from rnnfast.bench.measure import Spread  # noqa: E402


def test_names_tell_library_algorithm_and_precision() -> None:
    names = [one.name for one in them.subjects(peers=True)]
    assert len(set(names)) == len(names) == 3 + 4 + 16
    assert {"rnnfast tf32", "PyTorch float16", "cuDNN PERSIST_STATIC bfloat16"} < set(names)
    assert "rnnfast float16" not in names
    alone = [one.name for one in them.subjects(peers=False)]
    assert alone == ["rnnfast float32", "rnnfast tf32", "rnnfast bfloat16"]


def test_distances_are_of_norms_and_notice_what_is_missing_or_nan() -> None:
    one = {"y": torch.tensor([3.0, 4.0], dtype=torch.float64)}
    assert measure.distance({"y": torch.tensor([3.0, 4.5])}, one) == pytest.approx(0.1)
    assert measure.distance({}, one) == float("inf")
    assert measure.distance({"y": torch.tensor([3.0, float("nan")])}, one) == float("inf")


def made_up() -> Any:
    times = {
        "rnnfast float32": 2.0,
        "rnnfast tf32": 1.0,
        "rnnfast bfloat16": 0.5,
        "PyTorch float32": 3.0,
        "PyTorch tf32": 0.9,
        "PyTorch bfloat16": 4.0,
        "cuDNN STANDARD tf32": 1.5,
        "cuDNN STANDARD float32": 1.25,
        "cuDNN PERSIST_STATIC float16": 1.0,
        "cuDNN STANDARD bfloat16": 6.0,
    }
    everyone = {one.name: one for one in them.subjects(peers=True)}
    seconds = {everyone[name]: Spread.of([0.001 * time]) for name, time in times.items()}
    refused = {everyone["cuDNN PERSIST_STATIC bfloat16"]: "no"}
    return measure.Measurement(
        case_of("lstm", "train"), seconds, dict.fromkeys(seconds, 1e-3), refused
    )


def test_rows_compare_with_the_same_precision_and_with_the_best_algorithm() -> None:
    first, second, third = ([c for c in row if c] for row in report._rows(made_up()))
    peers = ["3.00", "[green]1.50[/green]", "1.25", "[red]0.62[/red]", "STANDARD float32"]
    assert first == ["B3 I4 H6", "float32", "2.00", "0.0%", "1e-03", *peers]
    assert second[4:] == ["0.900", "[red]0.90[/red]", *("1.25", "[green]1.25[/green]"), peers[-1]]
    assert third[0] == "bfloat16"
    assert third[-3:] == ["1.00", "[green]2.00[/green]", "PERSIST_STATIC float16"]


def test_rows_without_peers() -> None:
    measured = made_up()
    for name in list(measured.seconds)[3:]:
        del measured.seconds[name]
    assert [row[-5:] for row in report._rows(measured)] == [["-"] * 4 + [""]] * 3
