"""Fixtures that every test may use."""

from __future__ import annotations

import signal
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import settings

from cases import forced

# The same examples at every run, however long the machine takes for one.
settings.register_profile("rnnfast", deadline=None, derandomize=True)
settings.load_profile("rnnfast")


# A shell's background processes ignore Ctrl-C, and so would those that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers of the test's own, the same at every run of it."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes `isa` once for each instruction set that this machine has.

    Of those that share the kernels of what the module's `COMPUTE` names, the first.
    """
    if "isa" in metafunc.fixturenames:
        import rnnfast

        compute = getattr(metafunc.module, "COMPUTE", "float32")
        metafunc.parametrize("isa", rnnfast._core.isas_for(compute), indirect=True)


@pytest.fixture
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Force an instruction set for the duration of the test."""
    with forced(request.param):
        yield request.param
