"""Kernels on the threads of PyTorch's operators."""

from __future__ import annotations

import pytest

from processes import IN_CHILD, run_python

torch = pytest.importorskip("torch", reason="rnnfast.torch needs torch")

CODE = """
import ctypes, os, signal, sys, threading
import torch
torch.set_num_threads(2)
torch.manual_seed(0)
torch.ones(1000, 1000) @ torch.ones(1000, 1000)  # starts the threads
IMPORT
"""

MODEL = """
import rnnfast.torch
from rnnfast.torch.spec import Spec, core_of
model = rnnfast.torch.LSTM(32, 96, 2)
x = torch.randn(40, 12, 32)

def outcome():
    model.zero_grad()
    y, state = model(x)
    (y * y).sum().backward()
    return [y.detach(), *[v.detach() for v in state], *[p.grad.clone() for p in model.parameters()]]

def same():
    return all(torch.equal(a, b) for a, b in zip(outcome(), expected))

def same_forward():
    # Not by an operator of PyTorch: large ones hang in a forked child.
    with torch.no_grad():
        return bool((model(x)[0].numpy() == expected[0].numpy()).all())

core = core_of(Spec(*model._options(False)), x.dtype, False)
expected = outcome()
"""

CODE += IN_CHILD
USED = "from rnnfast.torch.threads import find_openmp\nassert find_openmp() is not None\n"
BEFORE, LATER = CODE.replace("IMPORT", MODEL + USED), CODE.replace("IMPORT", "")


def test_calls_run_on_the_threads_of_the_runtime() -> None:
    """One that counts its regions stands before PyTorch's; then one that grants a single thread."""
    code = """
parallel, *others = find_openmp()
Parallel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
regions, most = [], 2
@Parallel
def counting(job, data, threads, flags):
    regions.append(threads)
    Parallel(parallel)(job, data, min(threads, most), flags)
core.use_openmp(ctypes.cast(counting, ctypes.c_void_p).value, *others)
print(same(), len(regions) > 3, set(regions))
most = 1
print(same())
"""
    assert run_python(BEFORE + code) == "True True {2}\nTrue"


def test_results_are_those_of_own_threads() -> None:
    code = """
import numpy as np
layer = rnnfast.LSTM(32, 96, 2)
layer.load_state_dict({name: v.detach().numpy() for name, v in model.state_dict().items()})
y, (h, c) = layer(x.numpy(), num_threads=2)
print([np.array_equal(a, b.numpy()) for a, b in zip((y, h, c), expected)])
print(all([same() for _ in range(20)]))
"""
    assert run_python(BEFORE + code) == "[True, True, True]\nTrue"


def test_calls_from_several_threads() -> None:
    code = """
results = []
def call():
    results.append(same_forward())
callers = [threading.Thread(target=call) for _ in range(6)]
for caller in callers: caller.start()
for caller in callers: caller.join()
print(results)
"""
    assert run_python(BEFORE + code) == str([True] * 6)


def test_inside_a_region_there_are_own_threads() -> None:
    """PyTorch's own parallel code may call Python: a region within a region has a single thread."""
    code = """
from pathlib import Path
library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
results = []
@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def job(_):
    results.append(same_forward())
library.GOMP_parallel(job, None, 2, 0)
print(results)
"""
    assert run_python(BEFORE + code) == "[True, True]"


def test_a_forked_child_has_threads_of_its_own() -> None:
    assert run_python(BEFORE + "print(in_child(same_forward), same())") == "0 True"


def test_a_forked_child_may_be_the_first_to_import() -> None:
    code = f"""
def first():
    torch.set_num_threads(1)  # for what follows, and then not for the call
    exec({MODEL!r}, globals())
    torch.set_num_threads(2)
    return same_forward()
print(in_child(first))
"""
    assert run_python(LATER + code) == "0"


FORK = """
def fork(*_):
    pids.append(os.fork())
    if pids[0] == 0:
        signal.alarm(100)
        RAISE

pids = []
long = rnnfast.torch.GRU(64, 256)
signal.signal(signal.SIGVTALRM, fork)
signal.setitimer(signal.ITIMER_VIRTUAL, 0.1)
try:
    with torch.no_grad():
        long(torch.zeros(12_000, 8, 64))
    end = "finished"
except BaseException as error:
    end = f"{type(error).__name__}: {error}"
if pids == [0]:
    os._exit(0 if end.startswith(EXPECTED) and same_forward() else 1)
print(end, os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]), same())
"""


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        ("pass", "RuntimeError: the process was forked inside this call"),
        ("sys.exit(7)", "SystemExit: 7"),
    ],
)
def test_fork_in_a_signal_handler_inside_a_call(act: str, expected: str) -> None:
    """The child's call, whose region nobody else ends, ends with an error."""
    code = FORK.replace("RAISE", act).replace("EXPECTED", repr(expected))
    assert run_python(BEFORE + code) == "finished 0 True"


def test_ctrl_c_stops_a_call() -> None:
    code = """
signal.signal(signal.SIGALRM, signal.default_int_handler)
long = rnnfast.torch.GRU(4, 2048)
signal.setitimer(signal.ITIMER_REAL, 0.3)
try:
    with torch.no_grad():
        long(torch.zeros(50_000, 1, 4))
    print("finished")
except KeyboardInterrupt:
    print("stopped", same())
"""
    assert run_python(BEFORE + code) == "stopped True"
