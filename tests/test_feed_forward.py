"""Activations and models without time: gradients, parity with PyTorch, training, refusals."""

import numpy as np
import pytest

from rnnfast.models import FeedForward
from rnnfast.nn import Activation, cross_entropy, mse_loss, softmax
from rnnfast.optim import SGD, Adam
from rnnfast.reference.activations import NONLINEARITIES

SHAPES = {"linear": [6, 4], "one hidden": [6, 9, 4], "two hidden": [6, 5, 7, 4]}


@pytest.mark.parametrize("name", NONLINEARITIES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_activation_and_its_gradient_equal_the_reference(rng, name, dtype):
    phi, _ = NONLINEARITIES[name]
    a = rng.standard_normal((7, 3, 11)).astype(dtype) * 3
    dy = rng.standard_normal(a.shape).astype(dtype)
    activation = Activation(name)
    y, tape = activation.forward(a)
    da = activation.backward(tape, dy)
    assert y.dtype == da.dtype == a.dtype
    assert not np.shares_memory(y, a) and not np.shares_memory(da, dy)
    np.testing.assert_array_equal(activation(a), y)
    rtol = 1e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(y, phi(a), rtol=rtol)
    exact = dy * phi(a.astype("float64") + 1e-200j).imag / 1e-200  # complex-step derivative
    np.testing.assert_allclose(da, exact, rtol=10 * rtol, atol=rtol)


def test_activations_at_their_ends():
    a = np.array([-1e30, -800.0, 0.0, 800.0, 1e30, np.nan])
    with np.errstate(all="raise", under="ignore"):
        values = {name: Activation(name)(a) for name in NONLINEARITIES}
    np.testing.assert_array_equal(values["sigmoid"], [0, 0, 0.5, 1, 1, np.nan])
    np.testing.assert_array_equal(values["tanh"], [-1, -1, 0, 1, 1, np.nan])
    np.testing.assert_array_equal(values["relu"], [0, 0, 0, 800, 1e30, np.nan])
    np.testing.assert_array_equal(values["identity"], a)


def test_activations_refuse(rng):
    with pytest.raises(
        ValueError, match="name is 'swish', expected 'tanh' or 'relu' or 'sigmoid' "
    ):
        Activation("swish")
    tanh, a = Activation("tanh"), rng.standard_normal((2, 3))
    with pytest.raises(ValueError, match="activation: a has dtype int64, expected floating point"):
        tanh(np.arange(3))
    with pytest.raises(TypeError, match="activation: a is a list, expected a NumPy array"):
        tanh([1.0])
    with pytest.raises(ValueError, match=r"dy has shape \(3, 2\), expected \(2, 3\)"):
        tanh.backward(a, a.T)


def problem(rng, loss, rows=(8,)):
    """Random inputs and targets that suit the loss."""
    x = rng.standard_normal((*rows, 6))
    if loss is mse_loss:
        return x, rng.standard_normal((*rows, 4))
    return x, rng.integers(4, size=rows)


@pytest.mark.parametrize("loss", [mse_loss, cross_entropy])
@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid", "identity"])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient(rng, shape, activation, loss):
    model = FeedForward(SHAPES[shape], activation, loss, dtype="float64", rng=rng)
    x, targets = problem(rng, loss, rows=(2, 4))
    value = model.loss_and_gradient(x, targets)
    assert value == pytest.approx(model.loss(x, targets), rel=1e-14)
    gradient, start, step = model.gradient.copy(), model.flat.copy(), 1e-6
    for direction in rng.standard_normal((8, start.size)):
        losses = []
        for sign in (1, -1):
            model.flat[:] = start + sign * step * direction
            losses.append(model.loss(x, targets))
        numeric = (losses[0] - losses[1]) / (2 * step)
        assert gradient @ direction == pytest.approx(numeric, rel=1e-6, abs=1e-8)


def test_a_perceptron_equals_pytorch(rng):
    torch = pytest.importorskip("torch", reason="compares with the same model in PyTorch")
    model = FeedForward([6, 5, 4], "relu", dtype="float64", rng=rng)
    peer = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 4))
    peer = peer.double()
    values = [torch.tensor(value) for value in model.state_dict().values()]
    peer.load_state_dict(dict(zip(peer.state_dict(), values, strict=True)))
    x, targets = problem(rng, cross_entropy)
    expected = torch.nn.functional.cross_entropy(peer(torch.tensor(x)), torch.tensor(targets))
    expected.backward()
    assert model.loss_and_gradient(x, targets) == pytest.approx(expected.item(), rel=1e-13)
    theirs = np.concatenate([p.grad.numpy().reshape(-1) for p in peer.parameters()])
    np.testing.assert_allclose(model.gradient, theirs, rtol=1e-11, atol=1e-15)


def test_linear_regression_finds_the_least_squares(rng):
    """From R^10 to R^15, by gradient descent; NumPy solves the same problem at once."""
    x = rng.standard_normal((200, 10))
    target = x @ rng.standard_normal((10, 15)) + 3.0 + 0.1 * rng.standard_normal((200, 15))
    model = FeedForward([10, 15], loss=mse_loss, dtype="float64", rng=rng)
    optimizer = SGD(model.flat, lr=5.0)
    for _ in range(200):
        model.loss_and_gradient(x, target)
        optimizer.step(model.gradient)
    solution, *_ = np.linalg.lstsq(np.hstack([x, np.ones((200, 1))]), target, rcond=None)
    np.testing.assert_allclose(model.parameters["layers.0.weight"], solution[:-1].T, atol=1e-6)
    np.testing.assert_allclose(model.parameters["layers.0.bias"], solution[-1], atol=1e-6)


def test_a_softmax_classifier_learns_the_shares_of_each_class(rng):
    """On one-hot rows, where the best probabilities are the counted ones."""
    counts = np.array([[1, 5, 2], [7, 1, 4]])
    symbols, classes = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices((2, 3)))
    model = FeedForward([2, 3], dtype="float64", rng=rng)
    optimizer = Adam(model.flat, lr=0.05)
    for _ in range(1000):
        model.loss_and_gradient(np.eye(2)[symbols], classes)
        optimizer.step(model.gradient)
    shares = counts / counts.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax(model(np.eye(2))), shares, atol=1e-6)


def test_a_perceptron_learns_what_no_linear_model_can(rng):
    x, classes = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], "f"), np.array([0, 1, 1, 0])
    losses = {}
    for sizes in ([2, 2], [2, 8, 2]):
        model = FeedForward(sizes, rng=0)
        optimizer = Adam(model.flat, lr=0.05)
        for _ in range(400):
            losses[len(sizes)] = model.loss_and_gradient(x, classes)
            optimizer.step(model.gradient)
    assert losses[2] == pytest.approx(np.log(2), rel=1e-3)
    assert losses[3] < 0.01


def test_softmax_does_not_overflow():
    shares = softmax(np.array([[1e4, 1e4, -1e4], [0.0, 0.0, 0.0]], "f"))
    np.testing.assert_allclose(shares, [[0.5, 0.5, 0.0], [1 / 3] * 3])


def test_what_does_not_fit_is_refused(rng):
    with pytest.raises(ValueError, match=r"got sizes \[3\], expected at least input and output"):
        FeedForward([3])
    with pytest.raises(ValueError, match=r"sizes\[1\] is 0, expected 1 to 2147483647"):
        FeedForward([3, 0])
    with pytest.raises(ValueError, match="activation: name is 'none'"):
        FeedForward([3, 2], "none")
    model = FeedForward([3, 2], rng=rng)
    with pytest.raises(ValueError, match="x has 4 features in its last axis, expected in_features"):
        model(np.zeros((5, 4), "f"))
    with pytest.raises(ValueError, match="targets has dtype float64, expected integers"):
        model.loss_and_gradient(np.zeros((5, 3), "f"), np.zeros(5))
