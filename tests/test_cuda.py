"""Layers with ``device="cuda"`` against the reference.

The GPU's engine runs on the CPU, thread by thread, in the extension module _emulated, which is
below the folder that the environment variable RNNFAST_EMULATED names; tests marked ``gpu`` run on a
GPU.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rnnfast
import test_kernels
from cases import VARIANTS, Array, assert_equal, build, collect, draw_call, outcome, pair, twin
from rnnfast import device, reference
from test_bfloat16 import CELLS, TOLERANCE, distance
from test_kernels import check_results, draw_row, label, pairwise

FACTORS = test_kernels.FACTORS | {
    "dtype": ["float32"],
    "hidden": [2, 5, 16, 33],
    "inputs": [1, 7, 32],
    "B": [1, 2, 9, 17],
    "threads": [None],
}
MACHINES = ["emulated", pytest.param("gpu", marks=pytest.mark.gpu)]


@cache
def emulated() -> Any:
    (path,) = Path(os.environ["RNNFAST_EMULATED"]).rglob("_emulated*.so")
    spec = importlib.util.spec_from_file_location("_emulated", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=MACHINES, autouse=True)
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let layers with ``device="cuda"`` compute on a machine."""
    if request.param == "emulated":
        if "RNNFAST_EMULATED" not in os.environ:
            pytest.skip("no emulator of the GPU: RNNFAST_EMULATED names no build of it")
        monkeypatch.setattr(device, "cuda", emulated)
        other = int(os.environ.get("RNNFAST_EMULATED_SEED", "0"))
        emulated().seed(zlib.crc32(request.node.nodeid.encode()) ^ other)
    else:
        try:
            device.cuda()
        except RuntimeError as error:
            pytest.skip(str(error))
    return str(request.param)


@pytest.mark.parametrize("row", [pytest.param(r, id=label(r)) for r in pairwise(FACTORS, seed=2)])
def test_against_reference(row: dict[str, Any], rng: np.random.Generator) -> None:
    layer, call = draw_row(rng, row, device="cuda")
    check_results(layer, call, outcome(layer, call))


@pytest.mark.parametrize("variant", VARIANTS)
def test_everything_at_once(variant: str, rng: np.random.Generator) -> None:
    layer = build(rnnfast, variant, 9, 33, 2, bidirectional=True, device="cuda", rng=rng)
    call = draw_call(rng, layer, T=12, B=19, lengths=True, reset=True)
    check_results(layer, call, outcome(layer, call))


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("variant", CELLS)
def test_no_sequences(variant: str, tokens: bool, rng: np.random.Generator) -> None:
    layer = build(rnnfast, variant, 40, 5, 2, bidirectional=True, device="cuda", rng=rng)
    call = draw_call(rng, layer, T=3, B=0, tokens=tokens)
    assert_equal(outcome(layer, call), outcome(twin(rnnfast, layer, np.float32), call))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_single_unit(variant: str, rng: np.random.Generator) -> None:
    layer = build(rnnfast, variant, 1, 1, device="cuda", rng=rng)
    call = draw_call(rng, layer, T=3, B=2)
    exact = outcome(twin(reference, layer, np.float64), call)
    for name, v in outcome(layer, call).items():  # sums of one element may all but vanish
        np.testing.assert_allclose(v, exact[name], rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("variant", CELLS)
def test_bfloat16(variant: str, tokens: bool, rng: np.random.Generator) -> None:
    options: dict[str, Any] = {"bidirectional": True, "compute": "bfloat16", "device": "cuda"}
    layer = build(rnnfast, variant, 9, 33, 2, **options, rng=rng)
    call = draw_call(rng, layer, T=12, B=19, tokens=tokens, lengths=True, reset=True)
    exact = outcome(twin(reference, layer, np.float64), call)
    plain = outcome(twin(rnnfast, layer, np.float32), call)
    ours = outcome(layer, call)
    for name, v in ours.items():
        assert distance(v, exact[name]) < TOLERANCE, name
    assert any(not np.allclose(v, plain[name], rtol=1e-4) for name, v in ours.items())


@pytest.mark.parametrize("variant", CELLS)
def test_what_lies_past_the_lengths_is_not_read(variant: str, rng: np.random.Generator) -> None:
    layer = build(rnnfast, variant, 3, 5, 2, bidirectional=True, device="cuda", rng=rng)
    call = draw_call(rng, layer, T=6, B=4, lengths=True)
    expected = outcome(layer, call)
    past = np.arange(6)[:, None] >= call.lengths
    call.x[past] = np.nan
    call.dy[past] = np.nan
    for part in pair(call.state):
        part[:, call.lengths == 0] = np.nan
    found = outcome(layer, call)
    for name in expected:
        if name.startswith("state"):  # carried through
            found[name][:, call.lengths == 0] = expected[name][:, call.lengths == 0]
    assert_equal(found, expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_dropout(variant: str, rng: np.random.Generator) -> None:
    for p in (0.3, 1.0):
        layer = build(rnnfast, variant, 5, 17, 3, dropout=p, device="cuda", rng=rng)
        call = draw_call(rng, layer, T=7, B=9, lengths=True)
        y, state, tape = layer.forward(*call.arguments)
        grads = layer.backward(tape, call.dy, call.dstate)
        call.dropout_seed = tape.dropout_seed
        check_results(layer, call, collect(y, state, grads))


@pytest.mark.parametrize("variant", VARIANTS)
def test_repeats_are_equal_bit_for_bit(variant: str, rng: np.random.Generator) -> None:
    layer = build(rnnfast, variant, 4, 9, 2, device="cuda", rng=rng)
    call = draw_call(rng, layer, T=5, B=70, tokens=True, reset=True)
    assert_equal(outcome(layer, call), outcome(layer, call))


@pytest.mark.parametrize("variant", VARIANTS)
def test_steps_and_streams_are_the_whole_call(variant: str, rng: np.random.Generator) -> None:
    layer = build(rnnfast, variant, 4, 9, 2, device="cuda", rng=rng)
    x = rng.standard_normal((6, 3, 4)).astype(np.float32)
    y, last = layer(x)
    state, steps = None, []
    for row in x:
        step, state = layer.step(row, state)
        steps.append(step)
    np.testing.assert_allclose(np.stack(steps), y, atol=1e-6)
    with layer.stream(3) as stream:
        blocks = [stream.push(x[:2]), stream.push(x[2:])]
    np.testing.assert_allclose(np.concatenate(blocks), y, atol=1e-6)
    for ours, whole in zip(pair(state), pair(last), strict=True):
        np.testing.assert_allclose(ours, whole, atol=1e-6)


def test_calls_of_several_threads(rng: np.random.Generator) -> None:
    layers = [rnnfast.GRU(5, 8, 2, bidirectional=True, device="cuda", rng=rng) for _ in range(2)]
    calls = [draw_call(rng, layer, T=70, B=3, reset=True) for layer in layers]
    expected = [outcome(layer, call) for layer, call in zip(layers, calls, strict=True)]

    def train(k: int) -> None:
        for _ in range(5):
            layers[k % 2].forward(*calls[k % 2].arguments)  # a tape that is dropped
            assert_equal(outcome(layers[k % 2], calls[k % 2]), expected[k % 2])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(train, range(4)))


def test_tapes_serve_once_and_their_own_layer(rng: np.random.Generator) -> None:
    layer, other = (rnnfast.GRU(3, 4, device="cuda", rng=rng) for _ in range(2))
    y, _, tape = layer.forward(np.ones((2, 1, 3), np.float32))
    assert tape.nbytes > 0
    with pytest.raises(ValueError, match=r"^gru: tape was recorded by another layer"):
        other.backward(tape, y)
    nbytes, room = tape.nbytes, np.zeros(layer.flat.size, np.float32)
    with pytest.raises(ValueError, match=r"^gru: out shares memory with dy"):
        layer.backward(tape, room[: y.size].reshape(y.shape), out=room)
    layer.backward(tape, y)
    assert tape.nbytes == nbytes
    with pytest.raises(ValueError, match=r"^gru: tape was used before"):
        layer.backward(tape, y)
    tape = rnnfast.GRU(3, 4).forward(np.ones((2, 1, 3), np.float32))[2]
    with pytest.raises(TypeError, match=r"^gru: tape is a Tape, expected what forward returned"):
        layer.backward(tape, y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float64"}, r"^lstm: dtype is dtype\('float64'\) with device 'cuda'"),
        ({"recompute": "auto"}, r"^lstm: recompute is 'auto' with device 'cuda', expected None"),
        ({"compute": "int8"}, r"^lstm: compute is 'int8', expected 'float32' or 'tf32'"),
    ],
)
def test_options_that_a_gpu_has_not(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rnnfast.LSTM(3, 4, device="cuda", **options)


def test_bad_arguments(rng: np.random.Generator) -> None:
    layer = rnnfast.LSTM(3, 4, device="cuda", rng=rng)
    x = np.ones((2, 1, 3), np.float32)
    for arguments, text in [
        ((x[..., :2],), "lstm: x has 2 features in its last axis, expected input_size=3"),
        ((x, None, [3]), r"lstm: lengths\[0\] is 3"),
    ]:
        with pytest.raises(ValueError, match=f"^{text}"):
            layer(*arguments)
    with pytest.raises(ValueError, match=r"^lstm: num_threads is given"):
        layer(x, num_threads=2)
    with pytest.raises(ValueError, match=r"^lstm: explain: device is 'cuda', expected .* 'cpu'"):
        rnnfast.explain(layer, 2, 1)


def test_copies_pickles_and_quantized_layers(rng: np.random.Generator) -> None:
    layer = rnnfast.LSTM(3, 4, device="cuda", rng=rng)
    x: Array = rng.standard_normal((5, 2, 3)).astype(np.float32)
    copied = pickle.loads(pickle.dumps(layer))
    assert "cuda" not in repr(layer.quantize())
    assert copied.device == "cuda" and "device='cuda'" in repr(copied)
    np.testing.assert_array_equal(copied(x)[0], layer(x)[0])
    np.testing.assert_allclose(layer.quantize()(x)[0], layer(x)[0], atol=0.05)
