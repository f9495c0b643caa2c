"""Every script of examples/ runs.

Each takes `--steps`, so that a few will do here: of a training, or whatever else it repeats.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py"))


def run(path: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script in `folder`, warnings being errors; one that hangs fails the test."""
    return subprocess.run(
        [sys.executable, "-W", "error", str(path), "--steps", "3"],
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
    done = run(EXAMPLES / script, tmp_path)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert done.stdout.strip()


def test_a_script_that_fails_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("print('fine')\nassert not 'fine'\n")
    done = run(tmp_path / "broken.py", tmp_path)
    assert done.returncode != 0 and "AssertionError" in done.stderr
