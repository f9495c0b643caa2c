"""Fixed points of cells: found, not found, and refused."""

import numpy as np
import pytest

import rnnfast
from rnnfast.models import OutputMapRNN, fixed_point


def contracting(kind, rng, **options):
    """A layer whose steps bring any two states nearer to each other."""
    layer = kind(3, 8, dtype="float64", rng=rng, **options)
    layer.flat *= 0.5
    return layer


@pytest.mark.parametrize("kind", [rnnfast.RNN, rnnfast.LSTM, rnnfast.GRU])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_contracting_cell_ends_where_a_step_changes_nothing(rng, kind, layers):
    layer = contracting(kind, rng, num_layers=layers)
    x = rng.standard_normal((4, 3))
    found = fixed_point(layer, x, tolerance=1e-12)
    assert found.converged
    assert 5 < found.steps < 1000
    _, after = layer.step(x, found.state)
    for before, now in zip(np.atleast_2d(found.state), np.atleast_2d(after), strict=True):
        np.testing.assert_allclose(now, before, atol=1e-12)
    random = rng.standard_normal((layers, 4, 8))
    start = (random, random[::-1].copy()) if kind is rnnfast.LSTM else random
    again = fixed_point(layer, x, start, tolerance=1e-12)
    np.testing.assert_allclose(again.state, found.state, atol=1e-10)
    _, run = layer(np.repeat(x[None], found.steps, axis=0))  # the same steps as one sequence
    np.testing.assert_allclose(run, found.state, atol=1e-12)


def test_a_linear_cell_ends_at_its_solution(rng):
    layer = contracting(rnnfast.RNN, rng, nonlinearity="identity")
    x = rng.standard_normal(3)
    state = fixed_point(layer, x, tolerance=1e-14).state
    p = layer.parameters
    constant = p["weight_ih_l0"] @ x + p["bias_ih_l0"] + p["bias_hh_l0"]
    solution = np.linalg.solve(np.eye(8) - p["weight_hh_l0"], constant)
    np.testing.assert_allclose(state, solution[None], rtol=1e-12)


def swinging(value=0.0):
    """s ← -s, but for a zero state."""
    layer = rnnfast.RNN(1, 1, nonlinearity="identity", bias=False)
    layer.flat[:] = [value, -1.0]
    return layer


def test_a_cell_that_swings_is_told_to_have_none():
    found = fixed_point(swinging(), np.zeros(1, "f"), np.ones((1, 1), "f"), limit=7)
    assert (found.steps, found.converged) == (7, False)
    np.testing.assert_array_equal(found.state, [[-1.0]])
    still = fixed_point(swinging(), np.zeros(1, "f"), tolerance=0.0)
    assert (still.steps, still.converged) == (1, True)


def test_the_whole_batch_must_have_stopped():
    state = np.array([[[0.0], [1.0]]], "f")
    assert not fixed_point(swinging(), np.zeros((2, 1), "f"), state, limit=5).converged
    assert fixed_point(swinging(), np.zeros((2, 1), "f"), 0 * state, limit=5).converged


def test_what_is_not_finite_has_not_stopped():
    state = np.full((1, 1), np.nan, "f")
    found = fixed_point(swinging(), np.zeros(1, "f"), state, limit=3)
    assert (found.steps, found.converged) == (3, False)


def test_tokens_quantised_layers_and_models_have_fixed_points(rng):
    layer = rnnfast.GRU(4, 6, rng=rng)
    exact = fixed_point(layer, np.array([1, 3])).state
    quick = fixed_point(layer.quantize(), np.array([1, 3]), tolerance=1e-3)
    assert quick.converged
    np.testing.assert_allclose(quick.state, exact, atol=0.05)
    assert fixed_point(OutputMapRNN(4, 6, 2, rng=rng), np.ones(4, "f")).converged


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0}, "fixed_point: limit is 0, expected at least 1"),
        ({"tolerance": -1.0}, "tolerance is -1.0, expected a finite number of at least 0"),
        ({"tolerance": float("nan")}, "tolerance is nan, expected"),
        ({"state": np.zeros((1, 2, 6), "f")}, "state"),
    ],
)
def test_what_does_not_fit_is_refused(rng, options, message):
    with pytest.raises(ValueError, match=message):
        fixed_point(rnnfast.GRU(4, 6, rng=rng), np.zeros(4, "f"), **options)
    with pytest.raises(ValueError, match="bidirectional"):
        fixed_point(rnnfast.GRU(4, 6, bidirectional=True), np.zeros(4, "f"))


def test_a_part_of_a_state_that_is_not_finite_has_not_stopped():
    layer = rnnfast.LSTM(1, 1, dtype="float64")
    layer.flat[:] = 0.0
    for c in (np.inf, np.nan):
        found = fixed_point(layer, np.zeros(1), (np.zeros((1, 1)), np.full((1, 1), c)), limit=5)
        assert not found.converged
