"""What `explain` tells, and that it is what happens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import rnnfast
from boundary import refused
from cases import assert_equal, build, draw_call, forced, outcome


def test_many_rows_are_split() -> None:
    (layer,) = rnnfast.explain(rnnfast.LSTM(128, 128), 256, 64, num_threads=4).layers
    assert (layer.crews, layer.crew, layer.num_threads) == (4, 1, 4)
    assert not layer.input_first
    assert layer.share == pytest.approx(layer.rows_alone)


def test_a_single_row_is_split_by_units() -> None:
    (layer,) = rnnfast.explain(rnnfast.LSTM(512, 512), 256, 1, num_threads=4).layers
    assert layer.crews == 1 < layer.crew
    assert layer.input_first
    assert layer.rows_alone >= 1 > layer.units_alone


def test_little_work_is_done_by_one_thread() -> None:
    plan = rnnfast.explain(rnnfast.GRU(3, 5), 10, 2, num_threads=16)
    assert plan.layers[0].num_threads == 1
    assert "one thread" in str(plan)
    assert "rows alone more than 100%" in str(plan)


def test_every_layer_has_its_own_plan() -> None:
    layer = rnnfast.GRU(8, 512, 3, bidirectional=True)
    first, second, third = rnnfast.explain(layer, 20, 4, num_threads=2).layers
    assert second == third
    assert first.step_flops < second.step_flops
    assert first.weight_bytes < second.weight_bytes


def test_lengths_and_tokens_are_taken_into_account() -> None:
    layer = rnnfast.RNN(128, 256)
    even = rnnfast.explain(layer, 100, 64, num_threads=4).layers[0]
    uneven = rnnfast.explain(layer, 100, 64, lengths=np.arange(64) + 1, num_threads=4).layers[0]
    assert uneven.rows_alone > even.rows_alone
    assert rnnfast.explain(layer, 9, 1).layers[0].input_first
    assert not rnnfast.explain(layer, 9, 1, tokens=True).layers[0].input_first


def test_both_directions_are_processed_at_once() -> None:
    layer = rnnfast.GRU(128, 128, bidirectional=True)
    (plan,) = rnnfast.explain(layer, 256, 1, num_threads=2).layers
    assert plan.together
    assert (plan.crews, plan.crew, plan.num_threads) == (1, 1, 2)
    assert plan.share < plan.units_alone
    assert not rnnfast.explain(layer, 256, 1, num_threads=1).layers[0].together
    assert not rnnfast.explain(rnnfast.GRU(128, 128), 256, 1, num_threads=2).layers[0].together


def test_words() -> None:
    plan = rnnfast.explain(rnnfast.LSTM(128, 512, 2), 256, 64, num_threads=8)
    text = str(plan)
    assert "T = 256, B = 64" in text
    assert "8 threads on offer" in text
    assert [line[:8] for line in text.splitlines() if line.startswith("layer")] == [
        "layer 0:",
        "layer 1:",
    ]


@pytest.mark.parametrize("name", rnnfast.info()["isas"])
def test_the_weights_of_quantized_layers_are_bytes_where_these_are_multiplied(name: str) -> None:
    layer = rnnfast.LSTM(128, 512)
    with forced(name):
        plans = [rnnfast.explain(one, 256, 1) for one in (layer, layer.quantize())]
    full, small = (plan.layers[0].weight_bytes for plan in plans)
    isas = rnnfast.info()["isas"]
    if "avx512vnni" in isas[: isas.index(name) + 1]:  # the better ones multiply them too
        assert full / 4 < small < full / 3
    else:
        assert full < small < 1.01 * full  # floats, and a scale of each row


CELLS = ["rnn-tanh", "lstm", "lstm-proj", "gru", "gru-before"]
MASKS: list[dict[str, bool]] = [{}, {"lengths": True, "reset": True}]


@pytest.mark.parametrize("variant", CELLS)
@pytest.mark.parametrize("mask", MASKS)
def test_crews_change_no_bit(
    variant: str, mask: dict[str, bool], isa: str, rng: np.random.Generator
) -> None:
    layer = build(rnnfast, variant, 61, 130, rng=rng)

    def plan(B: int, threads: int) -> rnnfast.LayerPlan:
        return rnnfast.explain(layer, 7, B, num_threads=threads).layers[0]

    # The plan asks the machine for its caches.
    shapes = ((B, n) for B in (19, 35, 66) for n in range(4, 17))
    B, threads = next((B, n) for B, n in shapes if plan(B, n).crews > 1 < plan(B, n).crew)
    call = draw_call(rng, layer, T=7, B=B, **mask)
    one, many = (outcome(layer, replace(call, threads=n)) for n in (1, threads))
    assert_equal(many, one)


@pytest.mark.parametrize("variant", CELLS)
@pytest.mark.parametrize("mask", MASKS)
def test_both_directions_at_once_change_no_bit(
    variant: str, mask: dict[str, bool], isa: str, rng: np.random.Generator
) -> None:
    layer = build(rnnfast, variant, 61, 130, bidirectional=True, rng=rng)
    for T, B in ((21, 1), (7, 19)):
        call = draw_call(rng, layer, T, B, **mask)
        one, *more = (outcome(layer, replace(call, threads=n)) for n in (1, 2, 5, 8))
        for other in more:
            assert_equal(other, one)
    plan = rnnfast.explain(layer, 7, 19, num_threads=8).layers[0]
    assert plan.together
    assert plan.num_threads > 2


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((None, 5, 5), TypeError, "explain: layer is a NoneType"),
        ((rnnfast.GRU(2, 3), 0, 5), ValueError, "gru: seq_length is 0, expected 1 to"),
        ((rnnfast.GRU(2, 3), 5, "2"), TypeError, "gru: batch is a str, expected an integer"),
    ],
)
def test_bad_arguments(arguments: tuple[object, ...], error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        rnnfast.explain(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lengths", "text"),
    [
        ([1.0, 2.0], "lengths has dtype float64, expected integers"),
        ([1, "a"], "lengths has dtype <U21, expected integers"),
        ([[1], [2, 3]], "lengths is no array, expected integers of shape (B,)"),
        ([1], "lengths has shape (1,), expected (B,) = (2,)"),
        ([1, 9], "lengths[1] is 9, expected 0 <= length <= T=5"),
        ([-1, 9], "lengths[0] is -1, expected 0 <= length <= T=5"),
    ],
)
def test_bad_lengths_are_refused_in_the_words_of_a_call(lengths: Any, text: str) -> None:
    layer = rnnfast.LSTM(2, 3)
    with refused(ValueError, f"lstm: {text}"):
        layer(np.zeros((5, 2, 2), np.float32), lengths=lengths)
    with refused(ValueError, f"lstm: {text}"):
        rnnfast.explain(layer, 5, 2, lengths=lengths)


def test_lengths_of_no_step_leave_nothing_to_explain() -> None:
    with refused(ValueError, "lstm: lengths are all 0, expected at least one step"):
        rnnfast.explain(rnnfast.LSTM(2, 3), 5, 2, lengths=[0, 0])


def test_bad_thread_counts() -> None:
    for threads, error in ((0, ValueError), (10_000, ValueError), ("2", TypeError)):
        with pytest.raises(error, match="num_threads"):
            rnnfast.explain(rnnfast.LSTM(2, 3), 5, 2, num_threads=threads)  # type: ignore[arg-type]


@pytest.mark.parametrize("variant", CELLS)
@pytest.mark.parametrize("mask", MASKS)
def test_layers_at_once_change_no_bit(
    variant: str, mask: dict[str, bool], isa: str, rng: np.random.Generator
) -> None:
    layer = build(rnnfast, variant, 61, 100, num_layers=3, rng=rng)
    for T, B, tokens in ((130, 1, False), (130, 1, True), (60, 5, False), (60, 5, True)):
        plans = rnnfast.explain(layer, T, B, tokens=tokens, num_threads=3).layers
        assert plans[0].layers > 1
        call = draw_call(rng, layer, T, B, tokens=tokens, **mask)
        one, *more = (outcome(layer, replace(call, threads=n)) for n in (1, 2, 3, 8))
        for other in more:
            assert_equal(other, one)


@pytest.mark.parametrize("variant", CELLS)
def test_claims_change_no_bit(variant: str, isa: str, rng: np.random.Generator) -> None:
    layer = build(rnnfast, variant, 160, 272, num_layers=2, rng=rng)
    claims = rnnfast.explain(layer, 1, 3, num_threads=2).layers[0].claims
    assert (claims == 0) == (variant in ("lstm-proj", "gru-before")), "two phases must meet"
    x = rng.standard_normal((3, 160), dtype=np.float32)
    for run, one_step in ((layer.step, x), (layer, x[None])):
        one, *more = (run(one_step, num_threads=n)[0] for n in (1, 2, 3, 8))
        for other in more:
            np.testing.assert_array_equal(other, one)


def test_sums_of_both_directions_are_flushed_alike(rng: np.random.Generator) -> None:
    layer = rnnfast.GRU(64, 128, bidirectional=True, rng=rng)
    x = rng.standard_normal((64, 4, 64), dtype=np.float32)
    dy = 3e-37 * rng.standard_normal((64, 4, 256), dtype=np.float32)  # gradients near the smallest
    assert rnnfast.explain(layer, 64, 4, num_threads=2).layers[0].together
    one, two = (
        layer.backward(layer.forward(x, num_threads=n)[2], dy, num_threads=n).x for n in (1, 2)
    )
    assert one is not None and two is not None
    np.testing.assert_array_equal(two, one)
