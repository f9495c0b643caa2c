"""Kernels on the threads of PyTorch's operators."""

from __future__ import annotations

import pytest

from processes import run_python

torch = pytest.importorskip("torch", reason="rnnfast.torch needs torch")

CODE = """
import os, signal, threading
import numpy as np
import rnnfast

layer = rnnfast.LSTM(32, 96, 2, rng=0)
x = np.random.default_rng(0).standard_normal((12, 40, 32), dtype=np.float32)

def outcome():
    y, state, tape = layer.forward(x, num_threads=2)
    return [y, *state, layer.backward(tape, y, num_threads=2).flat]

def same():
    return all(np.array_equal(a, b) for a, b in zip(outcome(), expected))

expected = outcome()
import torch, rnnfast.torch
torch.set_num_threads(2)
"""


def test_results_are_those_of_own_threads() -> None:
    code = """
print(rnnfast.torch.threads.share(), same())
(torch.ones(1000, 1000) @ torch.ones(1000, 1000)).sum()
print(all([same() for _ in range(20)]))
"""
    assert run_python(CODE + code) == "True True\nTrue"


def test_calls_from_several_threads() -> None:
    code = """
results = []
callers = [threading.Thread(target=lambda: results.append(same())) for _ in range(6)]
for caller in callers: caller.start()
for caller in callers: caller.join()
print(results)
"""
    assert run_python(CODE + code) == str([True] * 6)


def test_inside_a_region_there_are_own_threads() -> None:
    """PyTorch's own parallel code may call Python: a region within a region has a single thread."""
    code = """
import ctypes
from pathlib import Path
library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
results = []
@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def job(_):
    results.append(same())
library.GOMP_parallel(job, None, 2, 0)
print(results)
"""
    assert run_python(CODE + code) == "[True, True]"


def test_a_forked_child_has_threads_of_its_own() -> None:
    code = """
torch.ones(1000, 1000) @ torch.ones(1000, 1000)
same()
pid = os.fork()
if pid == 0:
    signal.alarm(200)  # a child that hangs must not outlive the test
    os._exit(0 if same() else 1)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), same())
"""
    assert run_python(CODE + code) == "0 True"


def test_fork_in_a_signal_handler_inside_a_call() -> None:
    """The child's call, whose region nobody else ends, ends with an error."""
    code = """
def fork(*_):
    pids.append(os.fork())
    if pids[0] == 0:
        signal.alarm(200)

pids = []
long, tokens = rnnfast.GRU(64, 256, rng=0), np.zeros((12_000, 8), np.int32)
signal.signal(signal.SIGVTALRM, fork)
signal.setitimer(signal.ITIMER_VIRTUAL, 0.1)
try:
    long(tokens, num_threads=2)
    end = "finished"
except RuntimeError as error:
    end = str(error)
if pids == [0]:
    os._exit(0 if end.startswith("the process was forked inside this call") and same() else 1)
print(end, os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]), same())
"""
    assert run_python(CODE + code) == "finished 0 True"


def test_ctrl_c_stops_a_call() -> None:
    code = """
signal.signal(signal.SIGALRM, signal.default_int_handler)
long, tokens = rnnfast.GRU(4, 2048, rng=0), np.zeros(50_000, np.int32)
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    long(tokens, num_threads=2)
    print("finished")
except KeyboardInterrupt:
    print("stopped", same())
"""
    assert run_python(CODE + code) == "stopped True"
