"""What comes over a process from outside: fork, Ctrl-C and other signals, its end."""

from __future__ import annotations

import pytest

from processes import IN_CHILD, run_python

# -- fork -------------------------------------------------------------------------------------

FORKING = """
import multiprocessing, os, signal, sys, threading
import numpy as np, rnnfast
from cases import build, draw_call, outcome
rng = np.random.default_rng(1)
layer = build(rnnfast, "lstm", 32, 96, rng=rng)
call = draw_call(rng, layer, 8, 12, lengths=True, threads=2)
expected = outcome(layer, call)

def same(_=None):
    ours = outcome(layer, call)
    return all(np.array_equal(ours[name], v) for name, v in expected.items())
"""
FORKING += IN_CHILD


def test_fork_after_use() -> None:
    code = FORKING + "print(in_child(same), in_child(same), same())"
    assert run_python(code) == "0 0 True"


def test_a_child_may_fork_too() -> None:
    code = FORKING + "print(in_child(lambda: same() and in_child(same) == 0 and same()), same())"
    assert run_python(code) == "0 True"


def test_a_child_uses_its_parents_tape_and_stream() -> None:
    code = """
y, state, tape = layer.forward(*call.arguments)
stream = layer.stream(12)
before = stream.push(call.x)
def check():
    grads = layer.backward(tape, call.dy, call.dstate)
    fresh = layer.stream(12).push(call.x)
    return np.array_equal(grads.x, expected["dx"]) and np.array_equal(fresh, before)
print(in_child(check), check())
"""
    assert run_python(FORKING + code) == "0 True"


def test_fork_while_another_thread_is_inside_a_call() -> None:
    code = """
stop = threading.Event()
def work():
    while not stop.is_set():
        layer(*call.arguments)
for _ in range(2):
    threading.Thread(target=work).start()
print({in_child(same) for _ in range(15)}, same())
stop.set()
"""
    assert run_python(FORKING + code) == "{0} True"


def test_fork_in_a_signal_handler_inside_a_call() -> None:
    """The parent's call goes on; the child's, whose workers are not there, ends with an error.

    The timer counts processor time: however busy the machine is, it ends inside the call.
    """
    code = """
def fork(*_):
    pids.append(os.fork())
    if pids[0] == 0:
        signal.alarm(200)

pids = []
long, x = rnnfast.GRU(64, 256, rng=0), np.zeros((12_000, 8), np.int32)
signal.signal(signal.SIGVTALRM, fork)
signal.setitimer(signal.ITIMER_VIRTUAL, 0.1)
try:
    long(x, num_threads=2)
    end = "finished"
except RuntimeError as error:
    end = str(error)
if pids == [0]:
    os._exit(0 if end.startswith("the process was forked inside this call") and same() else 1)
print(end, os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]), same())
"""
    assert run_python(FORKING + code) == "finished 0 True"


def test_multiprocessing_with_fork() -> None:
    code = """
with multiprocessing.get_context("fork").Pool(3) as pool:
    print(all(pool.map(same, range(12))))
"""
    assert run_python(FORKING + code) == "True"


# -- Ctrl-C -----------------------------------------------------------------------------------

INTERRUPTED = """
import os, signal, threading
import numpy as np, rnnfast

def subnormals_survive():
    return bool(np.float32(1e-39) * np.float32(0.5) > 0)

def interrupted(call):
    try:
        call()
    except KeyboardInterrupt:
        return "stopped"
    return "finished"

small = np.ones((3, 2, 4), np.float32)
"""

LONG_CALLS = {
    "long steps": "layer = rnnfast.GRU(4, 2048, rng=0); x = np.zeros(50_000, np.int32)",
    "many steps": "layer = rnnfast.LSTM(4, 64, rng=0); x = np.zeros(4_000_000, np.int32)",
    "two directions": "layer = rnnfast.LSTM(4, 512, bidirectional=True, rng=0); "
    "x = np.zeros((9000, 16, 4), 'f4')",
    "many short layers": "layer = rnnfast.RNN(4, 32, 5000); x = np.zeros((800, 16, 4), 'f4')",
}


@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("case", LONG_CALLS)
def test_ctrl_c_stops_a_call_and_leaves_the_library_usable(case: str, threads: str) -> None:
    code = f"""
{LONG_CALLS[case]}
short = rnnfast.GRU(4, 40, rng=0)
y = short(small)[0]
flat = layer.flat.copy()
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
print(interrupted(lambda: layer(x)), subnormals_survive())
print(np.array_equal(short(small)[0], y), np.array_equal(layer.flat, flat))
"""
    result = run_python(INTERRUPTED + code, RNNFAST_NUM_THREADS=threads)
    assert result == "stopped True\nTrue True"


@pytest.mark.parametrize("recompute", [None, "auto"])
def test_ctrl_c_stops_backward(recompute: str | None) -> None:
    """A timer of the system stands for Ctrl-C: no thread that brings it can be late."""
    code = f"""
signal.signal(signal.SIGALRM, signal.default_int_handler)
layer = rnnfast.LSTM(4, 512, recompute={recompute!r}, rng=0)
y, state, tape = layer.forward(np.zeros((1500, 16, 4), np.float32))
dy = np.ones_like(y)
signal.setitimer(signal.ITIMER_REAL, 0.05)
print(interrupted(lambda: layer.backward(tape, dy)), subnormals_survive())
y, state, tape = layer.forward(small)
first = layer.backward(tape, y).flat
print(np.array_equal(layer.backward(layer.forward(small)[2], y).flat, first))
"""
    assert run_python(INTERRUPTED + code) == "stopped True\nTrue"


@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_signal_handler_may_call_the_layer(threads: str) -> None:
    code = """
import signal, numpy as np, rnnfast
layer = rnnfast.GRU(64, 128, rng=0)
x = np.random.default_rng(0).standard_normal((4000, 8, 64), dtype=np.float32)
y = layer(x)[0]
seen = []
signal.signal(signal.SIGALRM, lambda *_: seen.append(np.array_equal(layer(x[:50])[0], y[:50])))
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.05)
while not seen:
    assert np.array_equal(layer(x)[0], y)
signal.setitimer(signal.ITIMER_REAL, 0)
print(set(seen))
"""
    assert run_python(code, RNNFAST_NUM_THREADS=threads) == "{True}"


@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_signal_handler_has_subnormals(threads: str) -> None:
    """The call that it interrupts flushes them to zero."""
    code = """
layer = rnnfast.GRU(64, 128, rng=0)
x = np.zeros((8000, 8), np.int32)
seen = []
signal.signal(signal.SIGALRM, lambda *_: seen.append(subnormals_survive()))
signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
while len(seen) < 8:
    layer(x)
signal.setitimer(signal.ITIMER_REAL, 0)
print(set(seen), subnormals_survive())
"""
    assert run_python(INTERRUPTED + code, RNNFAST_NUM_THREADS=threads) == "{True} True"


# -- the end ------------------------------------------------------------------------------------

ENDINGS = {
    "sleeping workers": "layer(x, num_threads=4)",
    "a daemon thread inside a call": """
threading.Thread(target=lambda: layer(np.zeros(100_000, np.int32)), daemon=True).start()
time.sleep(0.2)
""",
    "daemon threads that call on and on": """
def work():
    while True:
        layer.backward(layer.forward(x)[2])
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.2)
""",
    "calls at exit": "atexit.register(layer, x)",
    "results that outlive the module": "sys.kept = layer.forward(x), layer.stream()",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_process_ends_cleanly(ending: str) -> None:
    setup = """
import atexit, sys, threading, time, numpy as np, rnnfast
layer = rnnfast.GRU(64, 512, rng=0)
x = np.zeros((30, 16, 64), np.float32)
"""
    assert run_python(setup + ENDINGS[ending], RNNFAST_NUM_THREADS="2") == ""
