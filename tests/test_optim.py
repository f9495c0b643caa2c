"""Optimisers against their formulas, written out in plain Python, and against PyTorch."""

import math
import re
from functools import partial

import numpy as np
import pytest

from rnnfast import optim
from rnnfast.optim import SGD, Adam, AdamW, Optimizer, clip_grad_norm

BLOCK = optim._BLOCK
SIZE = 2 * BLOCK + 37  # three blocks, the last one ragged

CASES = {
    "sgd": (SGD, {"lr": 0.1}),
    "sgd decay": (SGD, {"lr": 0.1, "weight_decay": 0.3}),
    "momentum": (SGD, {"lr": 0.05, "momentum": 0.8}),
    "nesterov": (SGD, {"lr": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.2}),
    "adam": (Adam, {"lr": 0.01, "betas": (0.8, 0.95)}),
    "adam decay": (Adam, {"lr": 0.01, "eps": 1e-3, "weight_decay": 0.2}),
    "adamw": (AdamW, {"lr": 0.01, "betas": (0.7, 0.9), "weight_decay": 0.2}),
}


def sgd_formula(p, gradients, lr, momentum=0.0, weight_decay=0.0, nesterov=False):
    velocity = 0.0
    for gradient in gradients:
        g = gradient + weight_decay * p
        velocity = momentum * velocity + g
        p = p - lr * (g + momentum * velocity if nesterov else velocity)
    return p


def adam_formula(p, gradients, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled=False):
    m = v = 0.0
    for t, gradient in enumerate(gradients, start=1):
        g = gradient if decoupled else gradient + weight_decay * p
        if decoupled:
            p = p - lr * weight_decay * p
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        corrected = math.sqrt(v / (1 - betas[1] ** t))
        p = p - lr * (m / (1 - betas[0] ** t)) / (corrected + eps)
    return p


def expected(kind, options, p, gradients):
    if kind is SGD:
        return sgd_formula(p, gradients, **options)
    return adam_formula(p, gradients, **options, decoupled=kind is AdamW)


@pytest.mark.parametrize("name", CASES)
def test_formula(rng, name):
    kind, options = CASES[name]
    parameters = rng.standard_normal(SIZE)
    start = parameters.copy()
    gradients = rng.standard_normal((4, SIZE))
    kept = gradients.copy()
    optimizer = kind(parameters, **options)
    for gradient in gradients:
        optimizer.step(gradient)
    np.testing.assert_array_equal(gradients, kept)
    assert optimizer.steps == 4
    edges = (0, 1, BLOCK - 1, BLOCK, 2 * BLOCK - 1, 2 * BLOCK, SIZE - 1)
    for i in (*edges, *rng.integers(SIZE, size=20)):
        by_hand = expected(kind, options, start[i], gradients[:, i])
        assert parameters[i] == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_pytorch(rng, name):
    torch = pytest.importorskip("torch", reason="compares with PyTorch's optimisers")
    kind, options = CASES[name]
    parameters = rng.standard_normal(SIZE)
    theirs = torch.nn.Parameter(torch.tensor(parameters))
    optimizer = kind(parameters, **options)
    peer = getattr(torch.optim, kind.__name__)([theirs], **options)
    for _ in range(5):
        gradient = rng.standard_normal(SIZE)
        theirs.grad = torch.tensor(gradient)
        optimizer.step(gradient)
        peer.step()
    np.testing.assert_allclose(parameters, theirs.detach().numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_state_goes_on_bit_for_bit(rng, name):
    kind, options = CASES[name]
    gradients = rng.standard_normal((6, 500)).astype("float32")
    straight = rng.standard_normal(500).astype("float32")
    stopped = straight.copy()
    whole, first = kind(straight, **options), kind(stopped, **options)
    for gradient in gradients:
        whole.step(gradient)
    for gradient in gradients[:3]:
        first.step(gradient)
    second = kind(stopped, **options)
    second.load_state_dict(first.state_dict())
    for gradient in gradients[3:]:
        second.step(gradient)
    np.testing.assert_array_equal(stopped, straight)


def test_state_dict_is_a_copy(rng):
    optimizer = Adam(rng.standard_normal(9))
    optimizer.step(rng.standard_normal(9))
    state = optimizer.state_dict()
    kept = {name: value.copy() for name, value in state.items()}
    optimizer.step(rng.standard_normal(9))
    for name, value in state.items():
        np.testing.assert_array_equal(value, kept[name])


def test_learning_rate_of_one_step(rng):
    parameters = rng.standard_normal(5)
    start, gradient = parameters.copy(), rng.standard_normal(5)
    SGD(parameters, lr=0.5).step(gradient, lr=0.125)
    np.testing.assert_allclose(parameters, start - 0.125 * gradient, rtol=1e-14)


def test_optimizers_refuse(rng):
    parameters = rng.standard_normal(6)
    for wrong in ({"lr": -1.0}, {"lr": math.nan}, {"lr": 1.0, "momentum": -0.1}):
        with pytest.raises(ValueError, match="expected"):
            SGD(parameters, **wrong)
    with pytest.raises(ValueError, match="with nesterov, expected above 0"):
        SGD(parameters, 0.1, nesterov=True)
    for wrong in ({"betas": (1.0, 0.9)}, {"betas": (0.9, -0.1)}, {"eps": -1e-8}):
        with pytest.raises(ValueError, match="expected"):
            Adam(parameters, **wrong)
    with pytest.raises(ValueError, match="weight_decay"):
        AdamW(parameters, weight_decay=-1.0)
    optimizer = Adam(parameters)
    with pytest.raises(ValueError, match=r"gradient has shape \(5,\)"):
        optimizer.step(rng.standard_normal(5))
    with pytest.raises(ValueError, match="dtype float32"):
        optimizer.step(rng.standard_normal(6).astype("float32"))
    with pytest.raises(TypeError, match="gradient is a list, expected a NumPy array"):
        optimizer.step([0.0] * 6)
    for rate in (-1.0, math.nan, math.inf):
        with pytest.raises(
            ValueError, match=f"lr is {rate}, expected a finite number of at least 0"
        ):
            optimizer.step(parameters + 1, lr=rate)
    optimizer.lr = math.nan
    with pytest.raises(ValueError, match="lr is nan"):
        optimizer.step(parameters + 1)
    assert optimizer.steps == 0 and np.isfinite(parameters).all()


def read_only(v):
    v.flags.writeable = False
    return v


def test_buffers_that_cannot_be_updated_are_refused(rng):
    wrong = (
        rng.standard_normal(6)[::2],
        rng.standard_normal((2, 3)),
        np.arange(4),
        read_only(rng.standard_normal(6)),
    )
    for use, name in (
        (Adam, "optimizer: parameters"),
        (partial(clip_grad_norm, max_norm=1.0), "clip_grad_norm: gradient"),
    ):
        for buffer in wrong:
            text = f"{name} has shape {buffer.shape} and dtype {buffer.dtype}, expected one "
            with pytest.raises(ValueError, match=f"^{re.escape(text)}contiguous, writable axis"):
                use(buffer)
        with pytest.raises(TypeError, match=f"{name} is a list, expected a NumPy array"):
            use([1.0, 2.0])


def test_load_state_dict_refuses_and_changes_nothing(rng):
    optimizer = Adam(rng.standard_normal(6))
    optimizer.step(rng.standard_normal(6))
    before = optimizer.state_dict()
    surplus = {**before, "more": before["exp_avg"]}
    missing = {"steps": before["steps"], "exp_avg": before["exp_avg"]}
    short = {**before, "exp_avg_sq": before["exp_avg_sq"][:3], "exp_avg": before["exp_avg"] + 1}
    strange = {**before, "exp_avg_sq": before["exp_avg_sq"].astype(complex)}
    large = {**before, "exp_avg_sq": np.full(6, np.finfo(np.longdouble).max)}
    steps = [{**before, "steps": np.array(n)} for n in (-1, 1.5, [1, 2])]
    for wrong in (surplus, missing, short, strange, large, *steps):
        with pytest.raises(ValueError, match="expected"):
            optimizer.load_state_dict(wrong)
    for name, value in optimizer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_the_common_part_cannot_be_made(rng):
    with pytest.raises(TypeError, match="abstract"):
        Optimizer(rng.standard_normal(3), 0.1, ())


def test_numbers_may_be_arrays_without_axes(rng):
    a, b = rng.standard_normal((2, SIZE))
    c = a.copy()
    SGD(a, np.array(0.1)).step(b, lr=np.array(0.2))
    SGD(c, 0.1).step(b, lr=0.2)
    np.testing.assert_array_equal(a, c)
    assert clip_grad_norm(b, np.array(1)) > 1.0


@pytest.mark.parametrize("factor", [0.3, 0.999, 1.5])
def test_clipping(rng, factor):
    gradient = rng.standard_normal(SIZE)
    start = gradient.copy()
    norm = float(np.linalg.norm(gradient))
    assert clip_grad_norm(gradient, factor * norm) == pytest.approx(norm, rel=1e-13)
    np.testing.assert_allclose(gradient, start * min(1.0, factor), rtol=1e-6)
    if factor > 1.0:
        np.testing.assert_array_equal(gradient, start)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([3e19, 4e19], "float32"),  # whose squares are infinite
        ([3e38, 4e37], "float32"),
        ([3e-24, 4e-24], "float32"),  # whose squares are zero
        ([3e-23, 1e-19], "float32"),
        ([3e200, 4e200], "float64"),
        ([3e-200, 4e-200], "float64"),
        ([300.0, 400.0], "float16"),
    ],
)
def test_norms_of_numbers_whose_squares_have_no_room(values, dtype):
    gradient = np.zeros(SIZE, dtype)
    gradient[[0, -1]] = values
    kept = gradient.copy()
    norm = math.hypot(*gradient[[0, -1]].tolist())
    assert clip_grad_norm(gradient, math.inf) == pytest.approx(norm, rel=1e-6)
    np.testing.assert_array_equal(gradient, kept)
    clip_grad_norm(gradient, 1.0)
    expected = kept.astype(float) * min(1.0, 1.0 / norm)
    np.testing.assert_allclose(gradient, expected, rtol=1e-2 if dtype == "float16" else 1e-6)


@pytest.mark.parametrize(
    ("size", "value", "dtype", "limit"),
    [
        (10_000, 6e4, "float16", 1.0),
        (10_000, 6e4, "float16", 0.1),
        (10_000, 3e38, "float32", 1e-3),
        (10_000, 3e38, "float32", 1e-5),
        (100, 1e307, "float64", 1e-16),
    ],
)
def test_large_gradients_are_clipped_far_below_them(size, value, dtype, limit):
    gradient = np.full(size, value, dtype)
    clip_grad_norm(gradient, limit)
    norm = math.sqrt(np.square(gradient, dtype="float64").sum())
    assert norm == pytest.approx(limit, rel=1e-3 if dtype == "float16" else 1e-6)


def test_the_norm_of_nothing_is_zero():
    assert clip_grad_norm(np.zeros(SIZE, "f"), 1.0) == clip_grad_norm(np.zeros(0), 1.0) == 0.0


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_not_scaled(rng, wrong):
    gradient = rng.standard_normal(SIZE).astype("f")
    gradient[3] = wrong
    kept = gradient.copy()
    assert clip_grad_norm(gradient, 1.0) == pytest.approx(abs(wrong), nan_ok=True)
    np.testing.assert_array_equal(gradient, kept)
    beyond = np.full(4, 1.7e308)  # finite, but its norm is not
    assert clip_grad_norm(beyond, 1.0) == math.inf
    assert (beyond == 1.7e308).all()


def test_clipping_of_what_is_not_finite(rng):
    gradient = rng.standard_normal(10)
    gradient[3] = np.nan
    assert math.isnan(clip_grad_norm(gradient, 1.0))
    for unlimited in (math.inf, 10**400):
        assert clip_grad_norm(rng.standard_normal(10), unlimited) > 0.0
    for wrong in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="max_norm"):
            clip_grad_norm(gradient, wrong)
