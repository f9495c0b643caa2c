"""Many callers at once, how many threads serve them, and what the library leaves as it was."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import rnnfast
from cases import assert_equal, build, draw_call, outcome, pair
from processes import run_python

CALLERS = 8


@pytest.fixture
def default_threads() -> Iterator[int]:
    """Put the default number of threads back after the test."""
    before = rnnfast.get_num_threads()
    yield before
    rnnfast.set_num_threads(before)


def at_once(jobs: list[Callable[[], Any]]) -> list[Any]:
    """Run each job in a thread of its own, all of them from one moment on."""
    start = threading.Barrier(len(jobs))

    def run(job: Callable[[], Any]) -> Any:
        start.wait()
        return job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result() for future in [pool.submit(run, job) for job in jobs]]


# -- many callers -----------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["rnn-tanh", "lstm-proj", "gru-before"])
def test_one_layer_serves_many_threads(variant: str, rng: np.random.Generator) -> None:
    layer = build(rnnfast, variant, 40, 96, 2, bidirectional=True, rng=rng)
    calls = [draw_call(rng, layer, 9, 1 + 5 * k, lengths=k % 2 == 1) for k in range(CALLERS)]
    alone = [outcome(layer, call) for call in calls]
    for _ in range(3):
        together = at_once([lambda call=call: outcome(layer, call) for call in calls])
        for ours, expected in zip(together, alone, strict=True):
            assert_equal(ours, expected)


def test_many_layers_serve_many_threads(rng: np.random.Generator) -> None:
    variants = ["rnn-relu", "lstm", "gru", "gru-before"] * 2
    layers = [
        build(rnnfast, variant, 30, 64 + k, dtype=["float32", "float64"][k % 2], rng=rng)
        for k, variant in enumerate(variants)
    ]
    calls = [draw_call(rng, layer, 12, 10, threads=2) for layer in layers]
    alone = [outcome(*each) for each in zip(layers, calls, strict=True)]
    for _ in range(3):
        together = at_once(
            [
                lambda layer=layer, call=call: outcome(layer, call)
                for layer, call in zip(layers, calls, strict=True)
            ]
        )
        for ours, expected in zip(together, alone, strict=True):
            assert_equal(ours, expected)


def test_steps_and_streams_from_many_threads(rng: np.random.Generator) -> None:
    layer = build(rnnfast, "lstm", 24, 80, 2, rng=rng)
    calls = [draw_call(rng, layer, 6, 4) for _ in range(CALLERS)]

    def run(call: Any) -> dict[str, Any]:
        state = call.state
        for x in call.x:
            y, state = layer.step(x, state)
        with layer.stream(4, call.state) as stream:
            blocks = [stream.push(x) for x in np.split(call.x, 3)]
        results = {"step": y, "blocks": np.concatenate(blocks)}
        return results | {f"state[{k}]": s for k, s in enumerate(pair(state))}

    alone = [run(call) for call in calls]
    together = at_once([lambda call=call: run(call) for call in calls])
    for ours, expected in zip(together, alone, strict=True):
        assert_equal(ours, expected)


def test_backward_of_one_tape_from_two_threads_serves_one(rng: np.random.Generator) -> None:
    layer = build(rnnfast, "gru", 16, 64, rng=rng)
    call = draw_call(rng, layer, 20, 8)
    expected = outcome(layer, call)
    tape = layer.forward(*call.arguments)[2]

    def back() -> Any:
        try:
            return layer.backward(tape, call.dy, call.dstate)
        except ValueError as error:
            return str(error)

    texts, grads = sorted(at_once([back, back]), key=lambda r: not isinstance(r, str))
    assert texts.startswith("gru: tape was used before")
    np.testing.assert_array_equal(grads.x, expected["dx"])


def test_other_threads_run_during_a_call() -> None:
    """The call would last for many minutes; only a thread beside it can end it."""
    assert (
        run_python("""
import _thread, threading, time, numpy as np, rnnfast
gru = rnnfast.GRU(4, 2048, rng=0)
begun, rounds = threading.Event(), []
def beside():
    begun.wait()
    time.sleep(0.2)
    for k in range(100):
        rounds.append(k)
        time.sleep(0)
    _thread.interrupt_main()
threading.Thread(target=beside).start()
try:
    begun.set()
    gru(np.zeros(50_000, np.int32))
except KeyboardInterrupt:
    print(len(rounds))
""")
        == "100"
    )


# -- how many threads -------------------------------------------------------------------------


def test_set_num_threads(default_threads: int) -> None:
    for n in (1, 3, np.int64(2)):
        rnnfast.set_num_threads(n)
        assert rnnfast.get_num_threads() == rnnfast.info()["num_threads"] == n


def test_num_threads_of_a_call_leaves_the_default(default_threads: int) -> None:
    layer = rnnfast.GRU(3, 4, rng=0)
    x = np.zeros((2, 3, 3), np.float32)
    layer(x, num_threads=default_threads + 1)
    assert rnnfast.get_num_threads() == default_threads


def test_environment_sets_the_default() -> None:
    code = "import rnnfast; print(rnnfast.get_num_threads(), rnnfast.info()['num_threads'])"
    for n in ("1", "7", "1024"):
        assert run_python(code, RNNFAST_NUM_THREADS=n) == f"{n} {n}"
    assert run_python(code, RNNFAST_NUM_THREADS="") == run_python(code)


def test_default_is_what_the_process_may_use() -> None:
    code = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import rnnfast
print(rnnfast.get_num_threads())
"""
    environment = {"RNNFAST_NUM_THREADS": ""}
    assert run_python(code, **environment) == "1"


def test_only_the_threads_asked_for_are_started() -> None:
    code = """
import os, numpy as np, rnnfast
layer = rnnfast.GRU(64, 256, rng=0)
x = np.zeros((20, 16, 64), np.float32)
count = lambda: len(os.listdir("/proc/self/task"))
before = count()
started = []
for n in (1, 3, 2, 200, None):
    layer.backward(layer.forward(x, num_threads=n)[2], num_threads=n)
    started.append(count() - before)
print(started)
"""
    assert run_python(code, RNNFAST_NUM_THREADS="4") == "[0, 2, 2, 199, 199]"


# -- what must stay as it was -----------------------------------------------------------------


def test_idle_threads_use_no_processor() -> None:
    code = """
import time, numpy as np, rnnfast
layer = rnnfast.GRU(64, 256, rng=0)
layer(np.zeros((50, 16, 64), np.float32), num_threads=4)
time.sleep(0.1)
before = time.process_time()
time.sleep(1)
print(time.process_time() - before < 0.1)
"""
    assert run_python(code) == "True"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_subnormals_count_as_zero_inside_and_not_outside(dtype: str, isa: str) -> None:
    tiny = np.full((40, 3, 1), np.finfo(dtype).tiny, dtype)
    layer = rnnfast.RNN(1, 1, nonlinearity="identity", bias=False, dtype=dtype)
    layer.parameters["weight_hh_l0"][:] = 0
    for weight, x in [(1, tiny / 2), (0.5, tiny)]:  # read as zero; too small as a result
        layer.parameters["weight_ih_l0"][:] = weight
        for threads in (1, 2):
            y, _, tape = layer.forward(x, num_threads=threads)
            layer.backward(tape, tiny, num_threads=threads)
            step, _ = layer.step(x[0], num_threads=threads)
            assert not y.any() and not step.any()
            assert (tiny / 2).all()


def test_every_calling_thread_keeps_its_subnormals(rng: np.random.Generator) -> None:
    layer = build(rnnfast, "gru", 40, 96, rng=rng)
    x = draw_call(rng, layer, 9, 8).x

    def run() -> bool:
        layer(x, num_threads=2)
        return bool((np.full(8, 1e-39, np.float32) * np.float32(0.5)).all())

    assert all(at_once([run] * CALLERS))


def test_memory_does_not_grow() -> None:
    """A leak of 2.5 kB in a call, less than its smallest result, would show."""
    code = """
import os, numpy as np, rnnfast
layer = rnnfast.LSTM(64, 64, 2, bidirectional=True, dropout=0.5, rng=0)
plain = rnnfast.LSTM(64, 64, rng=0)
x = np.ones((100, 16, 64), np.float32)
lengths = np.arange(16) * 6
def calls():
    y, state, tape = layer.forward(x, lengths=lengths, num_threads=2)
    layer.backward(tape, np.asarray(y), state)
    layer.forward(x)  # and a tape that nobody uses
    layer(x, state)
    plain.step(x[0])
    with plain.stream(16) as stream:
        stream.push(x)
        stream.push(x)
    try:
        layer(x, lengths=lengths + 100)
    except ValueError:
        pass
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
for _ in range(20):
    calls()
before = resident()
for _ in range(200):
    calls()
print(resident() - before < 500_000)
"""
    assert run_python(code) == "True"
