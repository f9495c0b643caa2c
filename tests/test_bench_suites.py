"""The suites of pytest-benchmark in ``bench/``: they run, check results and note rates."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rnnfast.bench.grid import Case

SUITES = Path(__file__).parents[1] / "bench"


def run_suites(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the quick suites of rnnfast alone, on one thread."""
    command = [sys.executable, "-m", "pytest", str(SUITES), "-q", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, "--quick", "--no-peers", "--threads", "1", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_suites_note_rates_and_the_share_of_the_peak(tmp_path: Path) -> None:
    pytest.importorskip("pytest_benchmark")
    result = tmp_path / "result.json"
    cases = [
        Case("gru", "forward", 256, 1, 128, 128),
        Case("gru", "train", 256, 1, 128, 128),
        Case("gru", "step", 1, 1, 128, 128),
    ]
    wanted = " or ".join(case.name.replace(" ", "-") for case in cases)
    done = run_suites(tmp_path, "-k", wanted, f"--benchmark-json={result}")
    assert done.returncode == 0, done.stdout + done.stderr
    entries = json.loads(result.read_text())["benchmarks"]
    assert [entry["group"] for entry in entries] == [case.name for case in cases]
    for entry, case in zip(entries, cases, strict=True):
        noted = entry["extra_info"]
        assert noted["gflops"] == pytest.approx(case.flops / entry["stats"]["median"] / 1e9)
        assert noted["peak_share"] == pytest.approx(noted["gflops"] / noted["peak_gflops"])
        read = case.weight_bytes_read / entry["stats"]["median"]
        assert noted["bandwidth_share"] == pytest.approx(read / noted["read_bandwidth"])
        assert ("kept_bytes" in noted) == (case.work == "train")
        assert noted["difference"] == 0.0  # rnnfast is its peers' measure


@pytest.mark.parametrize(("factor", "slower"), [(1e-3, True), (1e3, False)])
def test_the_history_tells_a_slow_down(tmp_path: Path, factor: float, slower: bool) -> None:
    pytest.importorskip("pytest_benchmark")
    history = f"--benchmark-storage=file://{tmp_path}"
    wanted = ("-k", "gru-step-T1-B1-I128-H128", history)
    done = run_suites(tmp_path, *wanted, "--benchmark-autosave")
    assert done.returncode == 0, done.stdout + done.stderr
    (saved,) = tmp_path.rglob("*.json")
    document = json.loads(saved.read_text())
    (entry,) = document["benchmarks"]
    entry["stats"]["median"] *= factor  # as if it had been that much faster then
    saved.write_text(json.dumps(document))
    done = run_suites(
        tmp_path, *wanted, "--benchmark-compare", "--benchmark-compare-fail=median:10%"
    )
    assert ("Performance has regressed" in done.stdout + done.stderr) == slower
    assert (done.returncode != 0) == slower
