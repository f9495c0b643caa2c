"""The basic cell with its own output map, against a loop in plain NumPy and its derivatives."""

import copy
import pickle

import numpy as np
import pytest

from rnnfast.models import OutputMapRNN, fixed_point
from rnnfast.nn import mse_loss
from rnnfast.optim import Adam
from rnnfast.reference.activations import NONLINEARITIES

T, B, I, H, O = 7, 3, 4, 5, 2  # noqa: E741
STEP = 1e-200  # of complex-step derivatives


def loop(x, state, parameters, activation):
    """The same model as a loop over time; takes complex numbers."""
    f, _ = NONLINEARITIES[activation]
    A_v, B_v = parameters["recurrence.weight_ih_l0"], parameters["recurrence.weight_hh_l0"]
    b_v = parameters["recurrence.bias_ih_l0"] + parameters["recurrence.bias_hh_l0"]
    A_u, B_u = np.split(parameters["output.weight"], [x.shape[-1]], axis=1)
    b_u = parameters["output.bias"]
    y, s = [], state[0]
    for x_t in x:
        y.append(f(x_t @ A_u.T + s @ B_u.T + b_u))
        s = np.tanh(x_t @ A_v.T + s @ B_v.T + b_v)
    return np.array(y), s[None]


def case(rng, activation="tanh", batch=(B,)):
    model = OutputMapRNN(I, H, O, activation, dtype="float64", rng=rng)
    x, dy = rng.standard_normal((T, *batch, I)), rng.standard_normal((T, *batch, O))
    state, dstate = rng.standard_normal((2, 1, *batch, H))
    return model, x, state, dy, dstate


@pytest.mark.parametrize("batch", [(B,), ()], ids=["batch", "one"])
@pytest.mark.parametrize("activation", NONLINEARITIES)
def test_outputs_equal_a_loop(rng, activation, batch):
    model, x, state, *_ = case(rng, activation, batch)
    for start in (state, None):
        y, last = model(x, start)
        initial = np.zeros_like(state) if start is None else start
        expected, expected_last = loop(x, initial, model.parameters, activation)
        np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(last, expected_last, rtol=1e-12)
        trained, trained_last, _ = model.forward(x, start)
        np.testing.assert_array_equal(trained, y)
        np.testing.assert_array_equal(trained_last, last)
        stepped = start
        for x_t, y_t in zip(x, y, strict=True):
            now, stepped = model.step(x_t, stepped)
            np.testing.assert_allclose(now, y_t, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(stepped, last, rtol=1e-12)


@pytest.mark.parametrize("batch", [(B,), ()], ids=["batch", "one"])
@pytest.mark.parametrize("activation", NONLINEARITIES)
def test_gradients_equal_complex_step_derivatives(rng, activation, batch):
    model, x, state, dy, dstate = case(rng, activation, batch)
    gradients = model.backward(model.forward(x, state)[2], dy, dstate)
    values = {"x": x, "state": state, **model.state_dict()}
    ours = {"x": gradients.x, "state": gradients.state, **gradients.parameters}
    assert ours.keys() == values.keys()
    for name, value in values.items():
        exact = np.empty_like(value)
        for index in np.ndindex(value.shape):
            shifted = value.astype(complex)
            shifted[index] += STEP * 1j
            given = {**values, name: shifted}
            y, last = loop(given["x"], given["state"], given, activation)
            exact[index] = ((y * dy).sum() + (last * dstate).sum()).imag / STEP
        np.testing.assert_allclose(ours[name], exact, rtol=1e-10, atol=1e-12, err_msg=name)


def test_gradients_are_in_the_models_buffer(rng):
    model, x, state, dy, dstate = case(rng)
    gradients = model.backward(model.forward(x, state)[2], dy, dstate)
    assert gradients.flat is model.gradient
    assert gradients.parameters.keys() == model.parameters.keys()
    assert all(np.shares_memory(view, model.gradient) for view in gradients.parameters.values())
    both = model.gradient.copy()
    parts = [
        model.backward(model.forward(x, state)[2], *given).flat.copy()
        for given in ((dy, None), (None, dstate))
    ]
    np.testing.assert_allclose(parts[0] + parts[1], both, rtol=1e-12, atol=1e-14)


def test_the_output_sees_the_input_at_once_and_the_state_a_step_later(rng):
    model, x, state, *_ = case(rng)
    y, _ = model(x, state)
    blind = model.parameters["output.weight"][:, :I]
    changed = x.copy()
    changed[3] += 1.0
    assert not np.allclose(model(changed, state)[0][3], y[3])
    blind[...] = 0.0
    before, after = model(x, state)[0], model(changed, state)[0]
    np.testing.assert_array_equal(after[:4], before[:4])
    assert not np.allclose(after[4], before[4])


def test_float32_agrees(rng):
    model, x, state, *_ = case(rng)
    single = OutputMapRNN(I, H, O, "tanh")
    single.load_state_dict(model.state_dict())
    y, last = single(x, state)  # converted once
    assert y.dtype == last.dtype == np.float32
    np.testing.assert_allclose(y, model(x, state)[0], atol=1e-6)


def test_a_model_learns_to_repeat_its_last_input(rng):
    model = OutputMapRNN(1, 16, 1, rng=0)
    optimizer = Adam(model.flat, lr=0.02)
    losses = []
    for _ in range(150):
        x = rng.uniform(-1, 1, (10, 32, 1)).astype("f")
        target = np.concatenate([0 * x[:1], x[:-1]])
        y, _, tape = model.forward(x)
        loss, dy = mse_loss(y, target)
        model.backward(tape, dy)
        optimizer.step(model.gradient)
        losses.append(loss)
    assert losses[-1] < 0.02 < losses[0]


def test_copies_are_their_own(rng):
    model, x, *_ = case(rng)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(twin(x)[0], model(x)[0])
        twin.flat[:] = 0
        assert model.flat.all()


def test_what_makes_arrays_will_do(rng):
    class Foreign:
        def __init__(self, array):
            self.array = array

        def __array__(self, dtype=None, copy=None):
            return self.array

    model, x = OutputMapRNN(3, 4, 2, rng=0), rng.standard_normal((5, 2, 3)).astype("f")
    np.testing.assert_array_equal(model(Foreign(x))[0], model(x)[0])
    np.testing.assert_array_equal(model.step(Foreign(x[0]))[0], model.step(x[0])[0])


def test_it_has_a_fixed_point(rng):
    model, x, *_ = case(rng)
    model.flat *= 0.5
    found = fixed_point(model, x[0], tolerance=1e-12)
    assert found.converged
    y, _ = model.step(x[0], found.state)
    np.testing.assert_allclose(model.step(x[0], model.step(x[0], found.state)[1])[0], y)


def test_what_does_not_fit_is_refused(rng):
    model, x, state, dy, dstate = case(rng)
    with pytest.raises(ValueError, match="x has dtype int64, expected floating point"):
        model(np.zeros((T, B), int))
    with pytest.raises(ValueError, match="x has 3 features in its last axis, expected input_size"):
        model(x[..., :3])
    with pytest.raises(ValueError, match="state"):
        model(x, state[:, :1])
    with pytest.raises(TypeError, match="x is a list"):
        model([[0.0]])
    y, _, tape = model.forward(x, state)
    assert not y.flags.writeable
    with pytest.raises(ValueError, match="dy has shape"):
        model.backward(tape, dy[1:])
    model.backward(tape, dy, dstate)
    with pytest.raises(ValueError, match="tape"):
        model.backward(tape, dy, dstate)
    with pytest.raises(TypeError, match="tape is a tuple, expected what forward returned"):
        model.backward((), dy)
    with pytest.raises(ValueError, match="activation: name is 'swish'"):
        OutputMapRNN(I, H, O, "swish")
