"""The compiled layers against the reference, on every instruction set that the machine has.

In float64 the two agree to 1e-12 of each array's largest element. In float32 the kernels may lose
three times what NumPy's float32 loses against float64, and a few roundings of the result.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rnnfast
from cases import (
    VARIANTS,
    Array,
    Call,
    build,
    collect,
    draw_call,
    forced,
    misaligned,
    outcome,
    pair,
    twin,
)
from rnnfast import reference

SIZES = [1, 5, 15, 16, 17, 31, 33, 65]
FACTORS: dict[str, list[Any]] = {
    "variant": list(VARIANTS),
    "hidden": SIZES,
    "inputs": SIZES,
    "B": SIZES,
    "T": [1, 2, 7],
    "dtype": ["float32", "float64"],
    "layers": [1, 2, 3],
    "bidirectional": [False, True],
    "bias": [True, True, False],
    "mask": ["whole", "lengths", "reset", "lengths+reset"],
    "tokens": [False, False, True],
    "layout": ["time-first", "batch-first", "unbatched"],
    "state": [True, False],
    "threads": [1, 2, 3],
}


def pairwise(factors: dict[str, list[Any]], seed: int) -> list[dict[str, Any]]:
    """Rows such that every two values of every two factors meet in one of them (greedily)."""
    rng = np.random.default_rng(seed)
    names = list(factors)
    indices = {n: range(len(factors[n])) for n in names}
    missing = {
        ((a, i), (b, j))
        for a, b in itertools.combinations(names, 2)
        for i, j in itertools.product(indices[a], indices[b])
    }
    rows = []
    while missing:
        candidates = []
        for wanted in sorted(missing)[:20]:
            row = {n: int(rng.integers(len(factors[n]))) for n in names} | dict(wanted)
            candidates.append((missing & set(itertools.combinations(row.items(), 2)), row))
        covered, best = max(candidates, key=lambda c: len(c[0]))
        missing -= covered
        rows.append({n: factors[n][i] for n, i in best.items()})
    return rows


def label(row: dict[str, Any]) -> str:
    """Name a row for the test's id."""
    sizes = "T{T}-B{B}-I{inputs}-H{hidden}-L{layers}".format(**row)
    words = [row["variant"], row["dtype"], sizes, row["mask"], row["layout"]]
    words += [n for n in ("bidirectional", "tokens") if row[n]]
    return "-".join([*words, f"threads{row['threads']}"])


def error(v: Array, exact: Array) -> float:
    """Distance from the truth, in float32 roundings of its norm."""
    scale = np.linalg.norm(exact) * np.finfo(np.float32).eps
    distance = np.linalg.norm(v.astype(np.float64) - exact)
    return float(distance / scale) if distance else 0.0


def cosine(v: Array, w: Array) -> float:
    v, w = v.ravel().astype(np.float64), w.ravel()
    return float(v @ w / (np.linalg.norm(v) * np.linalg.norm(w)))


def check_float64(ours: dict[str, Array], exact: dict[str, Array]) -> None:
    for name, v in ours.items():
        tolerance = 1e-12 * np.abs(exact[name]).max(initial=0)
        np.testing.assert_allclose(v, exact[name], rtol=0, atol=tolerance, err_msg=name)


def check_float32(ours: dict[str, Array], plain: dict[str, Array], exact: dict[str, Array]) -> None:
    for name, v in ours.items():
        lost, numpy_lost = error(v, exact[name]), error(plain[name], exact[name])
        floor = 4 + 16 / v.size  # NumPy may be lucky, the more so with few elements
        assert lost <= 3 * numpy_lost + floor, name
        if name.startswith("d") and exact[name].any():
            assert cosine(v, exact[name]) > 1 - 1e-6, name


def check_results(layer: Any, call: Call, ours: dict[str, Array]) -> None:
    """Compare what came out of `layer` with the reference."""
    exact = outcome(twin(reference, layer, np.float64), call)
    assert ours.keys() == exact.keys()
    for name, v in ours.items():
        assert v.dtype == layer.dtype and v.shape == exact[name].shape, name
    if layer.dtype == np.float64:
        check_float64(ours, exact)
    else:
        check_float32(ours, outcome(twin(reference, layer, np.float32), call), exact)


def check(layer: Any, call: Call) -> None:
    """Run forward and backward of `layer` and compare all that comes out with the reference."""
    check_results(layer, call, outcome(layer, call))


# -- forward and backward ---------------------------------------------------------------------


def draw_row(rng: np.random.Generator, row: dict[str, Any], **options: Any) -> tuple[Any, Call]:
    """Draw a layer and a call of it as a row of factors says."""
    batched = row["layout"] != "unbatched"
    layer = build(
        rnnfast,
        row["variant"],
        row["inputs"],
        row["hidden"],
        row["layers"],
        bias=row["bias"],
        batch_first=row["layout"] == "batch-first",
        bidirectional=row["bidirectional"],
        dtype=row["dtype"],
        rng=rng,
        **options,
    )
    call = draw_call(
        rng,
        layer,
        row["T"],
        row["B"] if batched else 1,
        tokens=row["tokens"],
        lengths="lengths" in row["mask"],
        reset="reset" in row["mask"],
        state=row["state"],
        batched=batched,
        threads=row["threads"],
    )
    return layer, call


@pytest.mark.parametrize("row", [pytest.param(r, id=label(r)) for r in pairwise(FACTORS, seed=1)])
def test_against_reference(row: dict[str, Any], isa: str, rng: np.random.Generator) -> None:
    check(*draw_row(rng, row))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_everything_at_once(variant: str, dtype: str, isa: str, rng: np.random.Generator) -> None:
    layer = build(rnnfast, variant, 9, 33, 2, bidirectional=True, dtype=dtype, rng=rng)
    call = draw_call(rng, layer, T=12, B=19, lengths=True, reset=True, threads=2)
    check(layer, call)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("T", "B", "inputs", "hidden"),
    [(150, 17, 5, 33), (3, 5, 700, 40), (3, 18, 33, 530), (300, 1, 17, 49)],
)
@pytest.mark.parametrize("variant", ["rnn-tanh", "lstm", "lstm-proj", "gru", "gru-before"])
def test_sizes_beyond_a_block(
    variant: str,
    T: int,
    B: int,
    inputs: int,
    hidden: int,
    threads: int,
    isa: str,
    rng: np.random.Generator,
) -> None:
    dtype = ["float32", "float64"][threads - 1]
    layer = build(rnnfast, variant, inputs, hidden, dtype=dtype, rng=rng)
    check(layer, draw_call(rng, layer, T, B, lengths=hidden == 33, threads=threads))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_dropout(variant: str, dtype: str, isa: str, rng: np.random.Generator) -> None:
    for dropout in (0.3, 1.0):
        layer = build(
            rnnfast, variant, 5, 17, 3, dropout=dropout, bidirectional=True, dtype=dtype, rng=rng
        )
        call = draw_call(rng, layer, T=7, B=9, lengths=True, threads=2)
        y, state, tape = layer.forward(*call.arguments, num_threads=2)
        grads = layer.backward(tape, call.dy, call.dstate)
        call.dropout_seed = tape.dropout_seed
        check_results(layer, call, collect(y, state, grads))


def test_dropout_seeds_come_from_the_layers_generator() -> None:
    layers = [rnnfast.LSTM(3, 4, 2, dropout=0.5, rng=5) for _ in range(2)]
    x = np.random.default_rng(6).standard_normal((2, 3, 3)).astype(np.float32)
    seeds = [[layer.forward(x)[2].dropout_seed for _ in range(3)] for layer in layers]
    assert seeds[0] == seeds[1] and len(set(seeds[0])) == 3
    assert layers[1].forward(x)[2].dropout_seed == layers[0].rng.integers(2**63)
    state = layers[0].rng.bit_generator.state
    layers[0](x)
    assert layers[0].rng.bit_generator.state == state


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_one_of_the_cotangents(variant: str, isa: str, rng: np.random.Generator) -> None:
    layer = build(rnnfast, variant, 5, 17, 2, bidirectional=True, dtype="float64", rng=rng)
    call = draw_call(rng, layer, T=6, B=7, lengths=True)
    plain = twin(reference, layer, np.float64)
    for dy, dstate in [(call.dy, None), (None, call.dstate), (None, None)]:
        results = []
        for each in (layer, plain):
            y, state, tape = each.forward(*call.arguments)
            results.append(collect(y, state, each.backward(tape, dy, dstate)))
        check_float64(*results)


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_shapes_and_arguments(data: st.DataObject) -> None:
    def draw(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    def flag() -> bool:
        return data.draw(st.booleans())

    rng = np.random.default_rng(draw(0, 2**32))
    layer = build(
        rnnfast,
        data.draw(st.sampled_from(sorted(VARIANTS))),
        draw(1, 70),
        draw(1, 70),
        draw(1, 3),
        bias=flag(),
        batch_first=flag(),
        bidirectional=flag(),
        dtype=np.float64,
        rng=rng,
    )
    call = draw_call(
        rng,
        layer,
        draw(1, 20),
        draw(1, 40),
        tokens=flag(),
        lengths=flag(),
        reset=flag(),
        state=flag(),
        threads=draw(1, 4),
    )
    with forced(data.draw(st.sampled_from(rnnfast.info()["isas"]))):
        check(layer, call)


# -- other ways to call -----------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_step(variant: str, dtype: str, tokens: bool, isa: str, rng: np.random.Generator) -> None:
    for batch, threads in [(None, 1), (1, 1), (3, 2), (17, None)]:
        layer = build(rnnfast, variant, 9, 33, 2, dtype=dtype, rng=rng)
        call = draw_call(rng, layer, 1, batch or 1, tokens=tokens, batched=batch is not None)
        plain, exact = (twin(reference, layer, d) for d in (dtype, "float64"))
        results = []
        for each in (layer, plain, exact):
            y, state = each.step(call.x[0], call.state, num_threads=threads)
            results.append({"y": y, **{f"state[{k}]": v for k, v in enumerate(pair(state))}})
        for name, v in results[0].items():
            assert v.shape == results[2][name].shape and v.dtype == layer.dtype, name
        if dtype == "float64":
            check_float64(results[0], results[2])
        else:
            check_float32(*results)


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_stream(variant: str, tokens: bool, isa: str, rng: np.random.Generator) -> None:
    for batch, blocks in [(1, [4, 1, 3]), (5, [2, 7, 1])]:
        layer = build(rnnfast, variant, 9, 33, 2, dtype="float64", rng=rng)
        call = draw_call(rng, layer, sum(blocks), batch, tokens=tokens, state=False)
        y, state = twin(reference, layer, "float64")(call.x)
        with layer.stream(batch) as stream:
            pieces = [stream.push(x) for x in np.split(call.x, np.cumsum(blocks)[:-1])]
            after = pair(stream.state)
        assert [len(p) for p in pieces] == blocks
        check_float64({"y": np.concatenate(pieces)}, {"y": y})
        for s, s_exact in zip(after, pair(state), strict=True):
            check_float64({"state": s}, {"state": s_exact})


def off_by_one(v: Array) -> Array:
    """Copy v to an address that is no multiple of a vector, nor of 8 bytes for float32."""
    return misaligned(v, v.itemsize)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_misaligned_views(variant: str, dtype: str, isa: str, rng: np.random.Generator) -> None:
    layer = build(rnnfast, variant, 17, 31, 2, bidirectional=True, dtype=dtype, rng=rng)
    layer.bind(off_by_one(layer.flat))
    call = draw_call(rng, layer, T=5, B=7, threads=2)
    call.x, call.dy = off_by_one(call.x), off_by_one(call.dy)
    call.state = tuple(map(off_by_one, pair(call.state)))
    call.dstate = tuple(map(off_by_one, pair(call.dstate)))
    if len(call.state) == 1:
        (call.state,), (call.dstate,) = call.state, call.dstate
    y, state, tape = layer.forward(*call.arguments)
    out = off_by_one(rng.standard_normal(layer.flat.size).astype(dtype))
    grads = layer.backward(tape, call.dy, call.dstate, out=out)
    assert grads.flat is out
    check_results(layer, call, collect(y, state, grads))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layouts_in_memory(dtype: str, isa: str, rng: np.random.Generator) -> None:
    layer = build(rnnfast, "gru", 9, 17, 2, bidirectional=True, dtype=dtype, rng=rng)
    call = draw_call(rng, layer, T=6, B=5)
    expected = outcome(layer, call)
    every_other = np.repeat(call.x, 2, axis=1)[:, ::2]
    for x in (np.asfortranarray(call.x), every_other, call.x[::-1].copy()[::-1]):
        assert not x.flags.c_contiguous
        call.x = x
        for name, v in outcome(layer, call).items():
            np.testing.assert_array_equal(v, expected[name], err_msg=name)


@pytest.mark.parametrize("variant", VARIANTS)
def test_without_input_gradient(variant: str, isa: str, rng: np.random.Generator) -> None:
    layer = build(rnnfast, variant, 9, 17, 2, bidirectional=True, dtype="float64", rng=rng)
    call = draw_call(rng, layer, T=6, B=5, lengths=True, reset=True)
    y, state, tape = layer.forward(*call.arguments)
    grads = layer.backward(tape, call.dy, call.dstate, input_gradient=False)
    assert grads.x is None
    exact = outcome(twin(reference, layer, np.float64), call)
    check_float64(collect(y, state, grads), exact)


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_lies_past_a_length_is_not_read(
    variant: str, isa: str, rng: np.random.Generator
) -> None:
    layer = build(rnnfast, variant, 9, 17, 2, bidirectional=True, rng=rng)
    call = draw_call(rng, layer, T=6, B=9, lengths=True, reset=True)
    clean = outcome(layer, call)
    past = np.arange(6)[:, None] >= call.lengths
    call.x[past], call.dy[past] = np.nan, np.nan
    call.reset[past] ^= True
    for name, v in outcome(layer, call).items():
        np.testing.assert_array_equal(v, clean[name], err_msg=name)


def test_saturated_gates(isa: str, rng: np.random.Generator) -> None:
    """Inputs so large that gates close and exponentials would overflow."""
    for variant in VARIANTS:
        if variant in ("rnn-relu", "rnn-identity"):
            continue  # their outputs are not bounded
        for dtype, tolerance in (("float32", 2e-6), ("float64", 1e-12)):
            layer = build(rnnfast, variant, 5, 17, dtype=dtype, rng=rng)
            x = np.where(rng.random((4, 3, 5)) < 0.5, -1e30, 1e30).astype(dtype)
            y, _ = layer(x)
            exact, _ = twin(reference, layer, np.float64)(x)
            np.testing.assert_allclose(y, exact, rtol=0, atol=tolerance)


def test_a_tape_tells_its_size(rng: np.random.Generator) -> None:
    T, B, H = 6, 3, 32
    x = rng.standard_normal((T, B, 5)).astype(np.float32)
    *_, tape = rnnfast.LSTM(5, H, rng=rng).forward(x)
    gates, cells, states = (T + 1) * B * 4 * H, T * B * H, 2 * B * H
    assert tape.nbytes == 4 * (gates + cells + states)
    *_, deep = rnnfast.LSTM(5, H, 2, rng=rng).forward(x)
    assert deep.nbytes == 2 * tape.nbytes + 4 * T * B * H  # what the first layer hands on
