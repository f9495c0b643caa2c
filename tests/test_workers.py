"""Blocks of NumPy's work on several threads: order, errors, fork, equal results."""

import gc
import threading
import weakref

import numpy as np
import pytest

import rnnfast
from processes import run_python
from rnnfast.nn import Dense, cross_entropy
from rnnfast.workers import each, spans


@pytest.fixture(params=[1, 2, 5])
def threads(request):
    """Run with so many threads."""
    before = rnnfast.get_num_threads()
    rnnfast.set_num_threads(request.param)
    yield request.param
    rnnfast.set_num_threads(before)


def on_threads(count, function):
    """What `function` returns on so many threads."""
    before = rnnfast.get_num_threads()
    rnnfast.set_num_threads(count)
    try:
        return function()
    finally:
        rnnfast.set_num_threads(before)


def test_spans_cover_a_range_once():
    for size, length in ((0, 3), (1, 3), (3, 3), (10, 3), (10, 100)):
        parts = spans(size, length)
        assert [i for part in parts for i in range(size)[part]] == list(range(size))
        assert all(part.stop - part.start == length for part in parts[:-1])


def test_results_come_in_order(threads):
    assert each(lambda item: item * item, range(200)) == [i * i for i in range(200)]
    assert each(str, []) == []
    assert each(str, [7]) == ["7"]


def test_as_many_threads_as_the_layers_have(threads):
    """All meet inside the work, which they could not if they were fewer; a further one is late."""
    meeting = threading.Barrier(threads, timeout=60)
    names = each(lambda _: (meeting.wait(), threading.get_ident())[1], range(threads))
    assert len(set(names)) == threads
    assert len(set(each(lambda _: threading.get_ident(), range(1000)))) <= threads


def test_an_error_reaches_the_caller_and_ends_the_rest(threads):
    """Whichever thread meets it."""
    made = []

    def work(item):
        made.append(item)
        if item == 3:
            raise LookupError(f"item {item}")

    with pytest.raises(LookupError, match="item 3"):
        each(work, range(100_000))
    ended = len(made)
    assert ended < 100_000
    assert each(abs, [-1, -2, -3]) == [1, 2, 3]
    assert len(made) == ended


def test_an_error_of_a_helper_reaches_the_caller():
    meeting, caller = threading.Barrier(2, timeout=60), threading.get_ident()

    def work(item):
        meeting.wait()
        if threading.get_ident() != caller:
            raise LookupError("of the helper")

    with pytest.raises(LookupError, match="of the helper"):
        on_threads(2, lambda: each(work, range(2)))


def test_helpers_have_the_callers_errstate(threads):
    def divide(_):
        return np.ones(1000) / np.zeros(1000)

    with np.errstate(divide="ignore"):
        each(divide, range(50))
    with pytest.raises(FloatingPointError), np.errstate(divide="raise"):
        each(divide, range(50))


def test_work_may_share_out_work(threads):
    sums = each(lambda n: sum(each(lambda i: n * i, range(20))), range(20))
    assert sums == [190 * n for n in range(20)]


def test_several_callers_at_once():
    results = {}

    def call(n):
        results[n] = [each(lambda i: n + i, range(50)) for _ in range(20)]

    callers = [threading.Thread(target=call, args=(n,)) for n in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert results == {n: [[n + i for i in range(50)]] * 20 for n in range(4)}


def test_nothing_is_kept_alive_by_idle_threads():
    array = np.ones(10)
    watched = weakref.ref(array)
    on_threads(3, lambda work=array.take: each(work, range(10)))
    del array
    gc.collect()
    assert watched() is None


# -- what computes on them ---------------------------------------------------------------------


def dense_results(rng, rows, features, outputs):
    dense = Dense(features, outputs, rng=rng)
    x, dy = (rng.standard_normal((rows, n), dtype=np.float32) for n in (features, outputs))

    def compute():
        y, tape = dense.forward(x)
        gradients = dense.backward(tape, dy)
        return y, gradients.x, gradients.flat

    return compute, (x @ dense.parameters["weight"].T + dense.parameters["bias"], dy, x)


@pytest.mark.parametrize("sizes", [(3001, 130, 97), (200, 60, 1500), (1100, 900, 30)])
def test_dense_is_the_same_on_any_number_of_threads(rng, sizes):
    compute, (y, dy, x) = dense_results(rng, *sizes)
    one, two, five = (on_threads(count, compute) for count in (1, 2, 5))
    for first, second, third in zip(one, two, five, strict=True):
        np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(first, third)
    np.testing.assert_allclose(one[0], y, rtol=1e-4, atol=1e-4)
    weight = one[2][: sizes[1] * sizes[2]].reshape(sizes[2], sizes[1])
    np.testing.assert_allclose(weight, dy.T @ x, rtol=1e-3, atol=1e-3)


def test_cross_entropy_is_the_same_on_any_number_of_threads(rng):
    logits = rng.standard_normal((5000, 80), dtype=np.float32)
    targets = rng.integers(80, size=5000)
    targets[::7] = -1
    one, two = (
        on_threads(count, lambda: cross_entropy(logits, targets, ignore_index=-1))
        for count in (1, 2)
    )
    assert one[0] == two[0]
    np.testing.assert_array_equal(one[1], two[1])


# -- processes ---------------------------------------------------------------------------------

FORKING = """
import os, signal, threading
import rnnfast
from rnnfast.workers import each
rnnfast.set_num_threads(2)

def same():
    return each(abs, range(-50, 0)) == list(range(50, 0, -1))

def in_child(check):
    pid = os.fork()
    if pid == 0:
        signal.alarm(200)  # a child that hangs must not outlive the test
        os._exit(0 if check() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

assert same()
"""


def test_fork_after_use():
    assert run_python(FORKING + "print(in_child(same), in_child(same), same())") == "0 0 True"


def test_fork_inside_a_call():
    """The parent's call goes on; the child's, whose helper is not there, ends with an error."""
    code = """
caller, begun, forked = threading.get_ident(), threading.Event(), threading.Event()
pids = []

def work(item):
    if threading.get_ident() != caller:
        begun.set()
        forked.wait()
    else:
        begun.wait()
        if not pids:
            pids.append(os.fork())
            forked.set()
            if pids[0] == 0:
                signal.alarm(200)
    return item

try:
    end = each(work, range(10))
except RuntimeError as error:
    end = str(error)
if pids == [0]:
    os._exit(0 if end == "the process was forked inside this call" and same() else 1)
print(end == list(range(10)), os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]))
"""
    assert run_python(FORKING + code) == "True 0"


def test_the_process_ends_cleanly():
    code = "import atexit; atexit.register(lambda: print(same()))"
    assert run_python(FORKING + code) == "True"
    first_at_exit = """
import atexit, rnnfast
from rnnfast.workers import each
rnnfast.set_num_threads(2)
atexit.register(lambda: print(each(abs, [-1, -2])))
"""
    assert run_python(first_at_exit) == "[1, 2]"
