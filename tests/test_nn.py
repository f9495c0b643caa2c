"""Dense layers and losses: values, gradients by central differences, and refusals."""

import copy as copies
import pickle
import re

import numpy as np
import pytest

from rnnfast.nn import Dense, cross_entropy, mse_loss


def central_differences(function, array, step=1e-5):
    """Derivative of a scalar function of nothing by each element of `array`, changed in place."""
    gradient = np.empty_like(array)
    for index in np.ndindex(array.shape):
        kept = array[index]
        array[index] = kept + step
        above = function()
        array[index] = kept - step
        below = function()
        array[index] = kept
        gradient[index] = (above - below) / (2 * step)
    return gradient


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5,), (3, 5), (4, 3, 5)])
def test_dense_gradients(rng, shape, bias):
    dense = Dense(5, 7, bias, dtype="float64", rng=rng)
    x = rng.standard_normal(shape)
    cotangent = rng.standard_normal((*shape[:-1], 7))

    def objective():
        return float((dense(x) * cotangent).sum())

    y, tape = dense.forward(x)
    gradients = dense.backward(tape, cotangent)
    weight, offset = dense.parameters["weight"], dense.parameters.get("bias", 0.0)
    np.testing.assert_allclose(y, np.einsum("...i,oi->...o", x, weight) + offset, rtol=1e-13)
    assert gradients.x.shape == x.shape
    np.testing.assert_allclose(gradients.x, central_differences(objective, x), atol=1e-9)
    np.testing.assert_allclose(
        gradients.flat, central_differences(objective, dense.flat), atol=1e-9
    )
    assert set(gradients.parameters) == set(dense.parameters)
    assert all(np.shares_memory(view, gradients.flat) for view in gradients.parameters.values())


def test_dense_writes_into_the_given_buffers(rng):
    dense = Dense(6, 4, rng=rng)
    x = rng.standard_normal((3, 2, 6)).astype("float32")
    dy = rng.standard_normal((3, 2, 4)).astype("float32")
    plain = dense.backward(dense.forward(x)[1], dy)
    rows, flat, dx = np.empty((6, 4), "f"), np.empty_like(dense.flat), np.empty((6, 6), "f")
    y, tape = dense.forward(x, out=rows)
    gradients = dense.backward(tape, dy, out=flat, dx=dx)
    assert np.shares_memory(y, rows)
    assert gradients.flat is flat
    assert np.shares_memory(gradients.x, dx)
    np.testing.assert_array_equal(y, dense(x))
    np.testing.assert_array_equal(flat, plain.flat)
    np.testing.assert_array_equal(gradients.x, plain.x)
    assert dense.backward(tape, dy, input_gradient=False).x is None


def test_dense_bind_moves_the_parameters(rng):
    dense = Dense(3, 2, rng=rng)
    x = rng.standard_normal((4, 3)).astype("float32")
    before = dense(x)
    buffer = rng.standard_normal(dense.flat.size + 5).astype("float32")
    dense.bind(buffer[2:-3])
    np.testing.assert_array_equal(dense(x), before)
    buffer *= 2
    np.testing.assert_allclose(dense(x), 2 * before, rtol=1e-6)
    assert np.shares_memory(dense.parameters["weight"], buffer)


@pytest.mark.parametrize("bias", [True, False])
def test_dense_state_dict(rng, bias):
    dense, other = (Dense(3, 2, bias, rng=rng) for _ in range(2))
    state = dense.state_dict()
    assert list(state) == ["weight", "bias"][: 1 + bias]
    assert not any(np.shares_memory(value, dense.flat) for value in state.values())
    other.load_state_dict({name: value.tolist() for name, value in state.items()})
    np.testing.assert_array_equal(other.flat, dense.flat)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda d: {"weight": d["weight"]}, ValueError, "state_dict lacks ['bias'] and has unk"),
        (lambda d: d | {"gain": 1}, ValueError, "lacks nothing and has unknown ['gain'], expec"),
        (lambda d: d | {"weight": d["weight"].T}, ValueError, "weight has shape (3, 2), expec"),
        (lambda d: d | {"bias": d["bias"] > 0}, ValueError, "bias has dtype bool, expected real"),
        (lambda d: d | {"bias": [1e300, 0]}, ValueError, "bias has values too large, expected f"),
        (list, TypeError, "mapping is a list, expected a mapping of names to"),
    ],
)
def test_a_dense_state_dict_that_does_not_fit_changes_nothing(rng, change, error, message):
    dense = Dense(3, 2, rng=rng)
    before = dense.flat.copy()
    state = change({name: value + 1 for name, value in dense.state_dict().items()})
    with pytest.raises(error, match=re.escape(message)) as caught:
        dense.load_state_dict(state)
    assert str(caught.value).startswith("dense: ")
    np.testing.assert_array_equal(dense.flat, before)


def test_dense_parameters_change_in_place_alone(rng):
    dense = Dense(3, 2, rng=rng)
    before = dense.flat.copy()
    with pytest.raises(AttributeError, match="dense: flat cannot be replaced, expected a change"):
        dense.flat = before
    with pytest.raises(AttributeError):
        dense.parameters = {}
    with pytest.raises(TypeError, match="does not support item assignment"):
        dense.parameters["bias"] = np.zeros(2, "f")
    dense.flat += 1
    np.testing.assert_array_equal(dense.parameters["bias"], before[6:] + 1)


def test_copies_of_dense_are_their_own(rng):
    dense = Dense(3, 2, rng=rng)
    for copy in (copies.deepcopy(dense), pickle.loads(pickle.dumps(dense))):
        np.testing.assert_array_equal(copy.flat, dense.flat)
        copy.flat[:] = 0
        assert not any(view.any() for view in copy.parameters.values())
        assert dense.flat.all()


def test_dense_initial_values_are_bounded_and_seeded():
    first, again, other = (Dense(100, 20, rng=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.flat, again.flat)
    assert not np.array_equal(first.flat, other.flat)
    assert 0.09 < np.abs(first.flat).max() <= 0.1


def test_dense_converts_other_layouts(rng):
    dense = Dense(3, 2, dtype="float64", rng=rng)
    x = rng.standard_normal((5, 8, 3))
    dy = rng.standard_normal((2, 8, 5)).T
    plain = dense.backward(dense.forward(x)[1], dy.copy())
    swapped = x.astype(">f8").transpose(1, 0, 2).copy().transpose(1, 0, 2)
    strange = dense.backward(dense.forward(swapped)[1], dy)
    np.testing.assert_array_equal(strange.flat, plain.flat)
    np.testing.assert_array_equal(strange.x, plain.x)


def test_dense_refuses(rng):
    dense = Dense(3, 2, rng=rng)
    with pytest.raises(ValueError, match=r"dense: x has 4 features .* in_features=3"):
        dense(rng.standard_normal((2, 4)))
    with pytest.raises(ValueError, match="dense: x has no axis, expected in_features=3"):
        dense(np.array(1.0))
    with pytest.raises(TypeError, match="x is a list, expected a NumPy array"):
        dense([1.0, 2.0, 3.0])
    for wrong in ("complex64", "object", "bool"):
        with pytest.raises(ValueError, match=f"x has dtype {wrong}, expected real numbers"):
            dense(np.ones((2, 3), wrong))
    with pytest.raises(
        ValueError, match=r"out has shape \(3, 2\) .* expected \(4, 2\) and float32"
    ):
        dense(rng.standard_normal((4, 3)), out=np.empty((3, 2), "f"))
    with pytest.raises(ValueError, match=r"buffer has shape \(7,\)"):
        dense.bind(np.empty(7, "float32"))
    with pytest.raises(ValueError, match="contiguous and writable"):
        dense.bind(np.empty(16, "float32")[::2])
    with pytest.raises(TypeError, match="buffer is a list, expected a NumPy array"):
        dense.bind([0.0] * 8)


def test_dense_backward_refuses(rng):
    dense = Dense(3, 2, rng=rng)
    x, dy = rng.standard_normal((2, 3)), rng.standard_normal((2, 2))
    tape = dense.forward(x)[1]
    with pytest.raises(ValueError, match=r"dy has 3 features .* out_features=2"):
        dense.backward(tape, x)
    with pytest.raises(ValueError, match="dy has 5 rows, expected 2"):
        dense.backward(tape, rng.standard_normal((5, 2)))
    with pytest.raises(TypeError, match="tape is a tuple, expected what forward returned"):
        dense.backward(dense.forward(x), dy)
    for other in (Dense(4, 2), Dense(3, 2, dtype="float64")):
        with pytest.raises(ValueError, match="tape is of another layer, expected one from"):
            other.backward(tape, dy)
    with pytest.raises(ValueError, match=r"out has shape \(2, 4\)"):
        dense.backward(tape, dy, out=np.empty((2, 4), "f"))
    with pytest.raises(ValueError, match=r"dx has shape \(2, 2\) .* expected \(2, 3\)"):
        dense.backward(tape, dy, dx=np.empty((2, 2), "f"))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"in_features": 0}, ValueError, "in_features is 0, expected 1 to 2147483647"),
        ({"out_features": -2}, ValueError, "out_features is -2, expected 1 to 2147483647"),
        ({"in_features": 2.5}, TypeError, "in_features is a float, expected an integer"),
        ({"bias": "no"}, TypeError, "bias is a str, expected a bool"),
        ({"dtype": "float16"}, ValueError, "dtype is float16, expected float32 or float64"),
    ],
)
def test_dense_constructor_refuses(arguments, error, message):
    with pytest.raises(error, match=f"^dense: {message}$"):
        Dense(**({"in_features": 3, "out_features": 2} | arguments))


def mean_nats(logits, targets):
    """The definition, row by row in extended precision."""
    rows = logits.reshape(-1, logits.shape[-1]).astype(np.longdouble)
    chosen = rows[np.arange(len(rows)), targets.reshape(-1)]
    return float((np.log(np.exp(rows).sum(1)) - chosen).mean())


def test_cross_entropy_gradient(rng):
    logits = 3 * rng.standard_normal((4, 3, 6))
    targets = rng.integers(6, size=(4, 3))
    loss, gradient = cross_entropy(logits, targets)
    assert loss == pytest.approx(mean_nats(logits, targets), rel=1e-13)
    numeric = central_differences(lambda: cross_entropy(logits, targets)[0], logits)
    np.testing.assert_allclose(gradient, numeric, atol=1e-9)


def test_cross_entropy_leaves_padding_out(rng):
    logits = rng.standard_normal((40, 5))
    targets = rng.integers(5, size=40)
    padded = rng.random(40) < 0.4
    marked = np.where(padded, -7, targets)
    loss, gradient = cross_entropy(logits, marked, ignore_index=-7)
    kept_loss, kept_gradient = cross_entropy(logits[~padded], targets[~padded])
    assert loss == pytest.approx(kept_loss, rel=1e-13)
    np.testing.assert_allclose(gradient[~padded], kept_gradient, rtol=1e-13)
    logits[padded] = np.nan  # whatever stands in the padding stays there
    again, clean = cross_entropy(logits, marked, ignore_index=-7)
    assert again == loss
    np.testing.assert_array_equal(clean, gradient)
    assert not clean[padded].any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("padded", [False, True])
def test_cross_entropy_weights_classes_as_pytorch(rng, dtype, padded):
    torch = pytest.importorskip("torch", reason="compares with PyTorch's loss")
    logits = (3 * rng.standard_normal((7, 40, 6))).astype(dtype)
    targets = rng.integers(6, size=(7, 40))
    weight = np.array([0.2, 1.0, 3.0, 0.0, 0.7, 2.5])
    if padded:
        targets[rng.random((7, 40)) < 0.3] = -7
    theirs = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(
        theirs.reshape(-1, 6), torch.tensor(targets.reshape(-1)), torch.tensor(weight),
        ignore_index=-7,
    )  # fmt: skip
    expected.backward()
    options = {"ignore_index": -7} if padded else {}
    loss, gradient = cross_entropy(logits, targets, weight=weight, **options)
    tolerance = 1e-12 if dtype == "float64" else 2e-6
    assert gradient.dtype == dtype
    assert loss == pytest.approx(expected.item(), rel=tolerance)
    np.testing.assert_allclose(gradient, theirs.grad.numpy(), rtol=10 * tolerance, atol=1e-9)
    in_place, result = cross_entropy(logits, targets, weight=weight, out=logits, **options)
    assert in_place == loss
    np.testing.assert_array_equal(result, gradient)


def test_cross_entropy_with_equal_weights_is_the_mean(rng):
    logits, targets = rng.standard_normal((30, 4)), rng.integers(4, size=30)
    loss, gradient = cross_entropy(logits, targets)
    for weight in (np.full(4, 0.3), np.ones(4, "float32"), np.full(4, 2)):
        same, close = cross_entropy(logits, targets, weight=weight)
        assert same == pytest.approx(loss, rel=1e-12)
        np.testing.assert_allclose(close, gradient, rtol=1e-12)


def test_cross_entropy_refuses_weights(rng):
    logits, targets = rng.standard_normal((5, 3)), np.array([0, 0, 0, 0, 2])
    for wrong, message in (
        (np.ones(4), r"weight has shape \(4,\), expected \(3,\)"),
        (np.array([1.0, -0.1, 1.0]), "weight is negative or not finite, expected at least 0"),
        (np.array([1.0, np.nan, 1.0]), "weight is negative or not finite"),
        (np.array([1.0, np.inf, 1.0]), "weight is negative or not finite"),
        (np.array([0.0, 1.0, 0.0]), "no target to average over"),
        (np.ones(3, bool), "weight has dtype bool, expected real numbers"),
    ):
        with pytest.raises(ValueError, match=f"cross_entropy: {message}"):
            cross_entropy(logits, targets, weight=wrong)
    with pytest.raises(TypeError, match="weight is a list, expected a NumPy array"):
        cross_entropy(logits, targets, weight=[1.0, 1.0, 1.0])


def test_cross_entropy_walks_many_blocks_in_place(rng):
    logits = rng.standard_normal((3001, 97)).astype("float32")
    targets = rng.integers(97, size=3001)
    exact, exact_gradient = cross_entropy(logits.astype("float64"), targets)
    loss, gradient = cross_entropy(logits.copy(), targets)
    assert loss == pytest.approx(exact, rel=1e-6)
    np.testing.assert_allclose(gradient, exact_gradient, rtol=2e-5, atol=1e-12)
    in_place, result = cross_entropy(logits, targets, out=logits)
    assert result is logits
    assert in_place == loss
    np.testing.assert_array_equal(logits, gradient)


def test_cross_entropy_is_stable(rng):
    logits = rng.standard_normal((3, 4)).astype("float32")
    targets = np.array([0, 3, 2])
    loss, gradient = cross_entropy(logits, targets)
    moved, moved_gradient = cross_entropy(logits + np.float32(1e4), targets)
    assert moved == pytest.approx(loss, abs=2e-3)
    np.testing.assert_allclose(moved_gradient, gradient, atol=2e-3)
    huge, steep = cross_entropy(np.array([[3e38, -3e38, 0.0]], "float32"), np.array([0]))
    assert huge == 0.0
    assert np.isfinite(steep).all()


def test_cross_entropy_lets_nan_through(rng):
    logits = rng.standard_normal((3, 4))
    logits[1, 2] = np.nan
    loss, gradient = cross_entropy(logits, np.array([0, 1, 2]))
    assert np.isnan(loss)
    assert np.isnan(gradient[1]).all()
    assert np.isfinite(gradient[[0, 2]]).all()


def test_cross_entropy_refuses(rng):
    logits = rng.standard_normal((2, 3, 5))
    targets = rng.integers(5, size=(2, 3))
    with pytest.raises(ValueError, match=r"targets has shape \(3, 2\), expected \(2, 3\)"):
        cross_entropy(logits, targets.T)
    targets[1, 1:] = 5, -1
    with pytest.raises(ValueError, match=r"targets\[1, 1\] is 5, expected 0 to 4"):
        cross_entropy(logits, targets)
    with pytest.raises(ValueError, match=r"targets\[1, 2\] is -1, expected 0 to 4"):
        cross_entropy(logits, targets, ignore_index=5)
    with pytest.raises(ValueError, match="targets is 5, expected 0 to 4"):
        cross_entropy(logits[0, 0], np.array(5))
    with pytest.raises(ValueError, match="no target to average over"):
        cross_entropy(logits, np.full((2, 3), -1), ignore_index=-1)
    with pytest.raises(ValueError, match="targets has dtype float64, expected integers"):
        cross_entropy(logits, targets.astype(float))
    with pytest.raises(ValueError, match="logits has dtype int64, expected floating point"):
        cross_entropy(logits.astype(int), targets)
    with pytest.raises(TypeError, match="targets is a list, expected a NumPy array"):
        cross_entropy(logits, targets.tolist())


def test_losses_refuse_a_buffer_that_they_cannot_fill(rng):
    logits, targets = rng.standard_normal((2, 3, 5)), rng.integers(5, size=(2, 3))
    buffers = [np.empty((5, 3, 2)).T, np.empty((3, 2, 5)), np.empty((2, 3, 5), "f")]
    for out in buffers:
        with pytest.raises(ValueError, match="cross_entropy: out has shape"):
            cross_entropy(logits, targets, out=out)
        with pytest.raises(ValueError, match="mse_loss: out has shape"):
            mse_loss(logits, logits, out=out)


def test_mse_loss(rng):
    prediction, target = rng.standard_normal((2, 4, 3))
    loss, gradient = mse_loss(prediction, target)
    assert loss == pytest.approx(float(((prediction - target) ** 2).mean()), rel=1e-14)
    numeric = central_differences(lambda: mse_loss(prediction, target)[0], prediction)
    np.testing.assert_allclose(gradient, numeric, atol=1e-9)
    single = prediction.astype("float32")
    _, in_place = mse_loss(single, target, out=single)
    assert in_place is single
    np.testing.assert_allclose(in_place, gradient, rtol=1e-5, atol=1e-7)


def test_mse_loss_refuses(rng):
    with pytest.raises(ValueError, match=r"target has shape \(3,\), expected \(2,\)"):
        mse_loss(rng.standard_normal(2), rng.standard_normal(3))
    with pytest.raises(ValueError, match="at least one element"):
        mse_loss(np.empty(0), np.empty(0))
    with pytest.raises(ValueError, match="prediction has dtype int64, expected floating point"):
        mse_loss(np.array([1, 2]), np.array([1.0, 2.0]))
    with pytest.raises(TypeError, match="target is a list, expected a NumPy array"):
        mse_loss(np.array([1.0, 2.0]), [1.0, 2.0])
