"""Layers with ``device="cuda"`` whose steps are all in one kernel.

On the emulator every thread of a cluster runs the kernel's own code, warps take turns by chance and
what blocks push to each other arrives late; a deadlock is an error. It holds two clusters at once,
so that small batches are several slices of several tiles.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rnnfast
from cases import Array, Call, assert_equal, build, collect, draw_call, outcome, pair, twin
from rnnfast import reference
from test_bfloat16 import distance
from test_cuda import machine  # noqa: F401

VARIANTS = ["rnn-tanh", "lstm", "gru"]

Results = dict[str, Array]

ROUNDING = {"bfloat16": 4e-3, "tf32": 2e-5}
"""What a distance from the exact result may have beside twice that of the steps, whose products
have the same operands in bfloat16, and float32 or TF32 ones where these are of bfloat16 halves."""

BESIDE_STEPS = {"bfloat16": 4e-3, "tf32": 2e-3}
"""The same sums in another order, after which a state may be rounded otherwise; or of halves."""

SIZES = [
    (5, 9),
    (33, 19),
    (128, 17),
    (130, 3),
    (200, 37),
    (256, 9),
    (260, 33),
    (512, 1),
]
"""Units and sequences: on and off the borders of blocks and tiles."""


@pytest.fixture(params=["bfloat16", "tf32"])
def compute(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def layers(compute: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make one layer twice: with persistent kernels, and with one kernel a step."""

    def make(variant: str, *sizes: int, **options: Any) -> tuple[Any, Any]:
        options = {"compute": compute, "device": "cuda"} | options
        seed = int(rng.integers(2**32))
        made = []
        for persistent in "10":
            monkeypatch.setenv("RNNFAST_CUDA_PERSISTENT", persistent)
            own = np.random.default_rng(seed)  # which draws the dropout too
            made.append(build(rnnfast, variant, *sizes, **options, rng=own))
        return made[0], made[1]

    return make


def in_kernels(layer: Any, call: Call, kernels: int | None = None) -> Results:
    """Everything that comes out of so many persistent kernels, by default two for each layer."""
    y, state, tape = layer.forward(*call.arguments)
    grads = layer.backward(tape, call.dy, call.dstate)
    expected = 2 * layer.num_layers if kernels is None else kernels
    assert tape.persistent_kernels == expected
    return collect(y, state, grads)


def check_beside_steps(layers: tuple[Any, Any], call: Call) -> tuple[Results, Results]:
    """Compare the results of persistent kernels and of steps, which are returned."""
    persistent, steps = layers
    ours, by_step = in_kernels(persistent, call), in_kernels(steps, call, 0)
    for name, v in ours.items():
        assert distance(v, by_step[name]) < BESIDE_STEPS[steps.compute], name
    return ours, by_step


def check(layers: tuple[Any, Any], call: Call) -> None:
    ours, by_step = check_beside_steps(layers, call)
    steps = layers[1]
    exact = outcome(twin(reference, steps, np.float64), call)
    for name, v in ours.items():
        off = distance(by_step[name], exact[name])
        assert distance(v, exact[name]) < 2 * off + ROUNDING[steps.compute], name


@pytest.mark.parametrize(("hidden", "B"), SIZES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_against_reference(
    variant: str, hidden: int, B: int, layers: Any, rng: np.random.Generator
) -> None:
    made = layers(variant, 9, hidden, bidirectional=hidden < 200)
    check(made, draw_call(rng, made[0], T=5, B=B, lengths=True, reset=True))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_single_unit(variant: str, layers: Any, rng: np.random.Generator) -> None:
    persistent, steps = layers(variant, 1, 1)
    call = draw_call(rng, persistent, T=4, B=2)
    by_step = outcome(steps, call)
    for name, v in in_kernels(persistent, call).items():  # sums of one element may all but vanish
        np.testing.assert_allclose(v, by_step[name], atol=0.02, err_msg=name)


@pytest.mark.parametrize("hidden", [100, 250, 400])
@pytest.mark.parametrize("variant", VARIANTS)
def test_more_than_run_at_once(
    variant: str,
    hidden: int,
    machine: str,  # noqa: F811
    layers: Any,
    rng: np.random.Generator,
) -> None:
    made = layers(variant, 3, hidden)
    B, T = (1200, 10) if machine == "gpu" else (19 if hidden < 200 else 33, 4)
    check(made, draw_call(rng, made[0], T=T, B=B, lengths=True))


@pytest.mark.parametrize("T", [4, 5, 8])
@pytest.mark.parametrize("variant", VARIANTS)
def test_several_lengths(variant: str, T: int, layers: Any, rng: np.random.Generator) -> None:
    made = layers(variant, 3, 140, bias=T > 4)
    check(made, draw_call(rng, made[0], T=T, B=10, state=T > 5))


@pytest.mark.parametrize("nonlinearity", ["relu", "sigmoid", "identity"])
def test_nonlinearities(nonlinearity: str, layers: Any, rng: np.random.Generator) -> None:
    made = layers(f"rnn-{nonlinearity}", 3, 70)
    check(made, draw_call(rng, made[0], T=4, B=5, lengths=True))


@pytest.mark.parametrize("variant", VARIANTS)
def test_layers_dropout_and_tokens(variant: str, layers: Any, rng: np.random.Generator) -> None:
    persistent, steps = layers(variant, 7, 40, 3, dropout=0.5, batch_first=True)
    call = draw_call(rng, steps, T=5, B=6, tokens=True, reset=True)
    check_beside_steps((persistent, steps), call)


@pytest.mark.parametrize("variant", VARIANTS)
def test_repeats_are_equal_bit_for_bit(
    variant: str,
    machine: str,  # noqa: F811
    layers: Any,
    rng: np.random.Generator,
) -> None:
    persistent, _ = layers(variant, 4, 300)
    call = draw_call(rng, persistent, T=500 if machine == "gpu" else 4, B=12, reset=True)
    expected = in_kernels(persistent, call)
    for _ in range(2):
        assert_equal(in_kernels(persistent, call), expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_inference_is_the_forward_of_training(
    variant: str, layers: Any, rng: np.random.Generator
) -> None:
    persistent, _ = layers(variant, 4, 150, 2)
    call = draw_call(rng, persistent, T=4, B=9, lengths=True, reset=True)
    y, state, tape = persistent.forward(*call.arguments)
    assert tape.persistent_kernels == 2
    found, found_state = persistent(*call.arguments)
    np.testing.assert_array_equal(found, y)
    for ours, theirs in zip(pair(found_state), pair(state), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("variant", VARIANTS)
def test_sequences_do_not_touch(variant: str, layers: Any, rng: np.random.Generator) -> None:
    persistent, _ = layers(variant, 4, 150)
    call = draw_call(rng, persistent, T=5, B=7)
    expected = in_kernels(persistent, call)
    call.x[2, 3] = np.nan
    call.dy[1, 3] = np.nan
    found = outcome(persistent, call)
    others = [0, 1, 2, 4, 5, 6]
    assert np.isnan(found["y"][2:, 3]).any()
    np.testing.assert_array_equal(found["y"][:, others], expected["y"][:, others])
    np.testing.assert_array_equal(found["dx"][:, others], expected["dx"][:, others])


@pytest.mark.parametrize(
    ("variant", "hidden", "T", "options"),
    [
        ("lstm-proj", 40, 5, {}),
        ("gru-before", 40, 5, {}),
        ("lstm", 513, 5, {}),
        ("gru", 40, 3, {}),
        ("gru", 40, 5, {"compute": "float32"}),
    ],
)
def test_what_is_done_in_steps(
    variant: str, hidden: int, T: int, options: Any, layers: Any, rng: np.random.Generator
) -> None:
    made = layers(variant, 3, hidden, **options)
    call = draw_call(rng, made[0], T=T, B=2)
    assert_equal(*(in_kernels(layer, call, 0) for layer in made))


def test_a_gpu_without_clusters(
    machine: str,  # noqa: F811
    layers: Any,
    monkeypatch: pytest.MonkeyPatch,
    rng: np.random.Generator,
) -> None:
    if machine == "gpu":
        pytest.skip("the emulator is told to have none")
    monkeypatch.setenv("RNNFAST_EMULATED_CLUSTERS", "0")
    made = layers("lstm", 3, 20)
    call = draw_call(rng, made[0], T=5, B=2)
    assert_equal(*(in_kernels(layer, call, 0) for layer in made))


def test_no_gradient_of_y_or_of_the_state(layers: Any, rng: np.random.Generator) -> None:
    persistent, steps = layers("gru", 3, 40)
    call = draw_call(rng, persistent, T=5, B=3, state=False)
    for dy, dstate in ((None, call.dstate), (call.dy, None)):
        results = []
        for layer in (persistent, steps):
            y, state, tape = layer.forward(call.x)
            results.append(collect(y, state, layer.backward(tape, dy, dstate)))
            assert tape.persistent_kernels == (2 if layer is persistent else 0)
        for name, v in results[0].items():
            assert distance(v, results[1][name]) < BESIDE_STEPS[steps.compute], name


@pytest.mark.parametrize("compute", ["float32", "tf32"])
def test_the_variable_is_yes_or_no(compute: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RNNFAST_CUDA_PERSISTENT", "true")
    with pytest.raises(ValueError, match="RNNFAST_CUDA_PERSISTENT is true, expected 0 or 1"):
        rnnfast.LSTM(3, 4, device="cuda", compute=compute)
