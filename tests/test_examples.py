"""Every script of examples/ runs, and the quick ones reach what they promise.

Each takes `--steps`, so that a few will do here: of a training, or whatever else it repeats.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py"))


def run(path: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a script in `folder`, warnings being errors; one that hangs fails the test."""
    return subprocess.run(
        [sys.executable, "-W", "error", str(path), *options],
        # Where other processes compute too, OpenBLAS's threads mostly wait for each other.
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_there_are_examples() -> None:
    assert len(SCRIPTS) >= 7


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_example_runs_and_prints(script: str, tmp_path: Path) -> None:
    if script == "digits.py":
        pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
    done = run(EXAMPLES / script, tmp_path, "--steps", "3")
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert done.stdout.strip()


def test_the_hopfield_network_restores_its_pictures(tmp_path: Path) -> None:
    told = run(EXAMPLES / "hopfield.py", tmp_path).stdout
    assert re.search(r"^stopped after \d+ steps$", told, re.MULTILINE), told
    before, after = (map(int, cells.split(",")) for cells in re.findall(r"\[([\d, ]+)\]", told))
    assert min(before) > 10 and max(after) == 0


def test_regression_reaches_the_noise_and_least_squares(tmp_path: Path) -> None:
    told = run(EXAMPLES / "regression.py", tmp_path).stdout
    error, noise = map(float, re.findall(r"([\d.]+); the noise has ([\d.]+)", told)[0])
    assert 0.9 * noise < error < noise  # a little of which is fitted
    difference = float(re.findall(r"to least squares: (\S+)", told)[0])
    assert difference < 1e-10


def test_the_output_map_becomes_a_ticket_machine(tmp_path: Path) -> None:
    told = run(EXAMPLES / "output_map.py", tmp_path).stdout
    right = float(re.findall(r"answered rightly: ([\d.]+)%", told)[0])
    assert right > 99


def test_a_script_that_fails_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("print('fine')\nassert not 'fine'\n")
    done = run(tmp_path / "broken.py", tmp_path)
    assert done.returncode != 0 and "AssertionError" in done.stderr
