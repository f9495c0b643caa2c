"""The forecaster: gradients against differences, forecasts against feeding back by hand."""

import itertools

import numpy as np
import pytest

from rnnfast import GRU
from rnnfast.models import Forecaster

CELLS = ("basic", "lstm", "gru")


def make(cell="gru", hidden=5, **options):
    given = {"window": 6, "mean": 3.0, "deviation": 2.0, "rng": 1, "dtype": "float64"}
    return Forecaster.of(cell, hidden, **(given | options))


def batch(rng, steps=7, rows=3):
    values = rng.standard_normal((steps + 1, rows, 1))
    return values[:-1], values[1:]


@pytest.mark.parametrize("shortcut", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_are_differences_of_the_loss(rng, cell, shortcut):
    model = make(cell, shortcut=shortcut)
    x, targets = batch(rng)
    loss, _ = model.loss_and_gradient(x, targets)
    y, _ = model(x)
    assert loss == pytest.approx(np.square(y - targets).mean(), rel=1e-12)
    assert loss == pytest.approx(model.loss(x, targets)[0], rel=1e-12)
    direction = rng.standard_normal(model.flat.size)
    expected = model.gradient @ direction
    start = model.flat.copy()
    losses = []
    for step in (1e-6, -1e-6):
        model.flat[:] = start + step * direction
        losses.append(model.loss(x, targets)[0])
    assert (losses[0] - losses[1]) / 2e-6 == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("shortcut", [True, False])
def test_steps_equal_a_call(rng, shortcut):
    model = make("lstm", num_layers=2, shortcut=shortcut)
    x, _ = batch(rng)
    y, last = model(x)
    states = None
    for t in range(len(x)):
        row, states = model.step(x[t], states)
        np.testing.assert_allclose(row, y[t], rtol=1e-12)
    for one, other in zip(states[0], last[0], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_scaling_is_undone(rng):
    model = make()
    values = rng.standard_normal(9)
    scaled = model.scale(values)
    np.testing.assert_allclose(scaled, (values - 3.0) / 2.0)
    np.testing.assert_allclose(model.unscale(scaled), values)


def test_one_ahead_reads_each_window_from_a_zero_state(rng):
    model = make()
    series = rng.standard_normal(300) + 3.0  # more windows than are read at once
    expected = model.one_ahead(series)
    assert expected.shape == (294,)
    for start in (0, 1, 255, 256, 293):
        y, _ = model(model.scale(series[start : start + 6])[:, None])
        assert expected[start] == pytest.approx(model.unscale(y)[-1, 0], rel=1e-10)


def test_a_forecast_feeds_back(rng):
    model = make()
    history = rng.standard_normal(20) + 3.0
    series = list(history)
    for _ in range(15):
        window = np.array([*series[-6:], 0.0])
        series.append(model.one_ahead(window)[0])
    np.testing.assert_allclose(model.forecast(history, 15), series[20:], rtol=1e-10)
    first = list(itertools.islice(model.continued(history), 4))
    np.testing.assert_array_equal(first, model.forecast(history, 4))
    assert model.forecast(history, 0).shape == (0,)


def test_a_history_may_be_shorter_than_the_window():
    model = make()
    y, _ = model(model.scale(np.array([1.0, 2.0]))[:, None])
    assert model.forecast(np.array([1.0, 2.0]), 1)[0] == pytest.approx(model.unscale(y)[-1, 0])


def test_without_layers_the_shortcut_is_persistence(rng):
    model = make()
    model.flat[:] = 0.0
    series = rng.standard_normal(10)
    np.testing.assert_allclose(model.one_ahead(series), series[5:-1])
    np.testing.assert_allclose(model.forecast(series, 3), [series[-1]] * 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make(window=0), "window is 0, expected at least 1"),
        (lambda: make(deviation=0.0), "deviation is 0.0, expected a finite number above 0"),
        (
            lambda: make(deviation=float("nan")),
            "deviation is nan, expected a finite number above 0",
        ),
        (lambda: make("gnu"), "cell is 'gnu', expected 'basic' or"),
        (lambda: Forecaster([GRU(2, 3)], 6), "layer 0 has input_size=2, expected 1"),
        (lambda: Forecaster([], 6), "got no recurrent layer"),
        (lambda: make().one_ahead(np.zeros(6)), "got 6 values, expected more than the 6"),
        (lambda: make().forecast(np.zeros(0), 3), "got no values to go on from"),
        (lambda: make().forecast(np.zeros(3), -1), "steps is -1, expected at least 0"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
