"""The suites of pytest-benchmark in ``bench/``: they run, check results and note rates."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rnnfast.bench.grid import Case

SUITES = Path(__file__).parents[1] / "bench"


def test_the_suites_note_rates_and_the_share_of_the_peak(tmp_path: Path) -> None:
    pytest.importorskip("pytest_benchmark")
    result = tmp_path / "result.json"
    cases = [
        Case("gru", "forward", 256, 1, 128, 128),
        Case("gru", "train", 256, 1, 128, 128),
        Case("gru", "step", 1, 1, 128, 128),
    ]
    wanted = " or ".join(f"{case.name}-rnnfast".replace(" ", "-") for case in cases)
    command = [sys.executable, "-m", "pytest", str(SUITES), "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "--quick", "--threads", "1", "-k", wanted, f"--benchmark-json={result}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    entries = json.loads(result.read_text())["benchmarks"]
    assert [entry["group"] for entry in entries] == [case.name for case in cases]
    for entry, case in zip(entries, cases, strict=True):
        noted = entry["extra_info"]
        assert noted["gflops"] == pytest.approx(case.flops / entry["stats"]["median"] / 1e9)
        assert noted["peak_share"] == pytest.approx(noted["gflops"] / noted["peak_gflops"])
        assert noted["difference"] == 0.0  # rnnfast is its peers' measure
