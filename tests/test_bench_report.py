"""What comes out of the bench: rates and ratios, the document, the table."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import rnnfast
from bench_cases import BANDWIDTH, TINY, TWICE, case_of, made_up
from rnnfast.bench import report, run
from rnnfast.bench.grid import Case
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
    assert set(ours) == {
        *("seconds", "gflops", "peak_share", "ratio", "difference"),
        "kept_bytes",
    }
    assert ours["kept_bytes"] == measurement.kept["rnnfast"] > 0
    others = [entry["subjects"][name] for name in entry["subjects"] if name != "rnnfast"]
    assert all(other["kept_bytes"] is None for other in others)
    assert entry["weight_bytes"] == 4 * 3 * 6 * 6
    assert len(entry["read_bandwidth"]["samples"]) == 2
    assert entry["bandwidth_share"] is None  # three sequences
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


def test_one_sequence_is_measured_by_the_cache() -> None:
    case = case_of("lstm", "forward", batch=1)
    measurement = made_up(case, 4 * case.weight_bytes_read / BANDWIDTH)
    assert measurement.bandwidth_share() == pytest.approx(0.25)
    assert made_up(replace(case, batch=2), 1.0).bandwidth_share() is None


def lines_of(measurements: list[run.Measurement], width: int, **options: bool) -> list[str]:
    """The table as a terminal of so many columns shows it."""
    console = pytest.importorskip("rich.console").Console(width=width)
    with console.capture() as captured:
        console.print(report.table(measurements, "Title", width=width, **options))
    return captured.get().splitlines()


def test_the_table_shows_what_is_kept_and_the_share_of_the_cache() -> None:
    alone = case_of("gru", "train", batch=1)
    batch = case_of("gru", "train")
    seconds = 2 * alone.weight_bytes_read / BANDWIDTH
    lines = lines_of([made_up(alone, seconds), made_up(batch, 1.0)], 80, throughput=True)
    (heading,) = (line for line in lines if "case" in line)
    assert heading.split()[-3:] == ["cache", "kept", "MB"]
    assert next(line for line in lines if "B1 I4" in line).split()[-2:] == ["50%", "12.3"]
    assert next(line for line in lines if "B3 I4" in line).split()[-2:] == ["-", "12.3"]
    forward = lines_of([made_up(replace(batch, work="forward"), 1.0)], 80, throughput=True)
    assert not any("cache" in line or "kept" in line for line in forward)


def test_peers_times_stand_where_there_is_room() -> None:
    case = Case("lstm", "train", 256, 128, 128, 1024)
    alone = replace(case, batch=1)
    peers = {"PyTorch": 5.0, "ONNX Runtime": 3.0, "JAX": 6.5}
    measurements = [made_up(case, 2.0, **peers), made_up(alone, 2.0, **peers)]
    wide = lines_of(measurements, 120, throughput=True)
    assert next(line for line in wide if "B128" in line).split()[-2:] == ["6500", "3.25"]
    narrow = lines_of(measurements, 80, throughput=True)
    row = next(line for line in narrow if "B128" in line)
    assert row.split()[-3:] == ["2.50", "1.50", "3.25"]
    assert "B128 I128 H1024" in row
    assert max(map(len, map(str.rstrip, narrow))) <= 80
    assert any("GFLOP/s" in line for line in wide)
    assert not any("GFLOP/s" in line for line in narrow)


def test_the_table_shows_ours_and_every_peer() -> None:
    case = case_of("lstm", "forward", hidden_size=96)
    seconds = case.flops / 100e9
    lone = replace(case, cell="gru")
    measurements = [
        made_up(case, seconds, **{"PyTorch": 2 * seconds, "ONNX Runtime": seconds / 2}),
        made_up(lone, 1.0),
    ]
    lines = lines_of(measurements, 80, throughput=True)
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


def test_the_summary_explains_the_columns_that_are_there() -> None:
    batch = report.summary([made_up(case_of("lstm", "forward"), 1.0)], None, None)
    assert "cache:" not in batch and "kept:" not in batch
    alone = report.summary([made_up(case_of("lstm", "train", batch=1), 1.0)], None, None)
    assert "cache:" in alone and "kept:" in alone
