"""What comes out of the bench: rates and ratios, the document, the table."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import rnnfast
from bench_cases import TINY, TWICE, case_of, made_up
from rnnfast.bench import report, run
from rnnfast.bench.subjects import OURS, chosen


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
