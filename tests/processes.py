"""Other Python processes, for what a test cannot do to its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# For code that imports os and signal.
IN_CHILD = """
def in_child(check):
    pid = os.fork()
    if pid == 0:
        signal.alarm(200)  # a child that hangs must not outlive the test
        os._exit(0 if check() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


def launch(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `code` where cases.py can be imported; one that hangs is ended and fails the test."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def run_python(code: str, **environment: str) -> str:
    """What `code` prints; it must end well and say nothing on standard error."""
    done = launch(code, **environment)
    assert done.returncode == 0 and not done.stderr, done.stderr or done.returncode
    return done.stdout.strip()
