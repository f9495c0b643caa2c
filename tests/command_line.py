"""The command line, run in the test's own process."""

from __future__ import annotations

import pytest

from rnnfast import cli


def run(*arguments: object) -> int:
    """Run a command and return its exit code."""
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    return int(caught.value.code or 0)
