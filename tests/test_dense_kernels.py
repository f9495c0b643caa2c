"""The products of dense layers and the softmax of rows, by every instruction set."""

import re

import numpy as np
import pytest

import rnnfast
from rnnfast import _core
from rnnfast.nn import Dense, cross_entropy

SIZES = [(1, 1, 1), (9, 5, 7), (17, 33, 65), (121, 257, 31), (513, 16, 300), (130, 1000, 129)]


def on_threads(count, function):
    """What `function` returns on so many threads."""
    before = rnnfast.get_num_threads()
    rnnfast.set_num_threads(count)
    try:
        return function()
    finally:
        rnnfast.set_num_threads(before)


def close(got, exact, scale):
    """Within what blocked sums of that type lose, relative to the sum of magnitudes."""
    unit = np.finfo(got.dtype).eps
    assert np.all(np.abs(got - exact) <= 8 * unit * scale)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_products_agree_with_wide_ones(rng, isa, sizes, dtype):
    rows, columns, outputs = sizes
    x, dy = (rng.standard_normal((rows, n)).astype(dtype) for n in (columns, outputs))
    weight = rng.standard_normal((outputs, columns)).astype(dtype)
    bias = rng.standard_normal(outputs).astype(dtype)
    y, dx, dweight = (np.full_like(a, np.nan) for a in (dy, x, weight))
    _core.dense_forward(x, weight, bias, y, None)
    _core.dense_input_gradient(dy, weight, dx, None)
    _core.dense_weight_gradient(dy, x, dweight, None)
    wide = np.longdouble
    x, dy, weight, bias = (a.astype(wide) for a in (x, dy, weight, bias))
    sizes_of = [abs(a) for a in (x, dy, weight, bias)]
    close(y, x @ weight.T + bias, sizes_of[0] @ sizes_of[2].T + sizes_of[3])
    close(dx, dy @ weight, sizes_of[1] @ sizes_of[2])
    close(dweight, dy.T @ x, sizes_of[1].T @ sizes_of[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("columns", [1, 2, 7, 8, 15, 16, 17, 33, 100, 1001])
def test_softmax_agrees_with_a_wide_one(rng, isa, columns, dtype):
    x = (30 * rng.standard_normal((13, columns))).astype(dtype)
    scales = rng.standard_normal(13).astype(dtype)
    y, norms = np.full_like(x, np.nan), np.empty((13, 2), dtype)
    _core.softmax(x, scales, y, norms, None)
    wide = x.astype(np.longdouble)
    shifted = wide - wide.max(axis=1, keepdims=True)
    exact = np.exp(shifted)
    np.testing.assert_array_equal(norms[:, 0], x.max(axis=1))
    np.testing.assert_allclose(norms[:, 1], exact.sum(axis=1), rtol=30 * np.finfo(dtype).eps)
    expected = scales[:, None] * exact / exact.sum(axis=1, keepdims=True)
    kind = np.finfo(dtype)
    lost = (16 + abs(shifted)) * kind.eps  # rounding of x - m is an error relative to e^(x - m)
    assert np.all(abs(y - expected) <= lost * abs(expected) + 8 * kind.tiny)
    _core.softmax(x, scales, x, norms, None)  # in place
    np.testing.assert_array_equal(x, y)


def test_softmax_of_what_is_not_finite(isa):
    x = np.zeros((4, 19), np.float32)
    x[0, 18], x[1, 3], x[2, 4], x[2, 0] = np.nan, np.inf, -np.inf, 3e38
    y, norms = np.empty_like(x), np.empty((4, 2), np.float32)
    _core.softmax(x, np.ones(4, np.float32), y, norms, None)
    assert np.isnan(y[:2]).all()
    np.testing.assert_array_equal(y[2], np.eye(19, dtype=np.float32)[0])
    np.testing.assert_allclose(y[3], 1 / 19, rtol=1e-6)


@pytest.mark.parametrize("sizes", [(3001, 130, 97), (200, 60, 1500), (1100, 900, 30)], ids=str)
def test_dense_is_the_same_on_any_number_of_threads(rng, sizes):
    rows, columns, outputs = sizes
    dense = Dense(columns, outputs, rng=rng)
    x, dy = (rng.standard_normal((rows, n), dtype=np.float32) for n in (columns, outputs))

    def compute():
        y, tape = dense.forward(x)
        gradients = dense.backward(tape, dy)
        return y, gradients.x, gradients.flat

    one, two, five = (on_threads(count, compute) for count in (1, 2, 5))
    for first, second, third in zip(one, two, five, strict=True):
        np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(first, third)


def test_cross_entropy_is_the_same_on_any_number_of_threads(rng):
    logits = rng.standard_normal((5000, 80), dtype=np.float32)
    targets = rng.integers(80, size=5000)
    targets[::7] = -1
    one, two, five = (
        on_threads(count, lambda: cross_entropy(logits, targets, ignore_index=-1))
        for count in (1, 2, 5)
    )
    assert one[0] == two[0] == five[0]
    np.testing.assert_array_equal(one[1], two[1])
    np.testing.assert_array_equal(one[1], five[1])


def test_results_may_not_overwrite_what_is_read(rng):
    dense = Dense(30, 30, rng=rng)
    x = rng.standard_normal((30, 30), dtype=np.float32)
    for rows in (x, x[:4]):
        with pytest.raises(ValueError, match="dense: out shares memory with x, expected another"):
            dense(rows, out=rows)
        _, tape = dense.forward(rows)
        with pytest.raises(ValueError, match="dense: dx shares memory with dy"):
            dense.backward(tape, rows, dx=rows)
        with pytest.raises(ValueError, match="dense: out shares memory with parameters"):
            dense.backward(tape, rows, out=dense.flat)
    with pytest.raises(ValueError, match="cross_entropy: out shares memory with logits"):
        cross_entropy(x[:-1], np.zeros(29, int), out=x[1:])


def test_kernels_refuse_what_they_cannot_read(rng):
    weight, x = np.zeros((4, 3), np.float32), np.zeros((20, 3), np.float32)
    y = np.empty((20, 4), np.float32)
    for wrong, message in (
        (np.zeros((20, 5), np.float32), "dense: x has shape (20, 5), expected"),
        (np.zeros((20, 3)), "dense: x has dtype float64, expected that of the others"),
        (np.zeros((40, 3), np.float32)[::2], "dense: x is not C-contiguous and aligned"),
        (np.zeros(3, np.float32), "dense: x has shape (3,), expected two axes"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            _core.dense_forward(wrong, weight, None, y, None)
    with pytest.raises(ValueError, match="dense: y has shape"):
        _core.dense_forward(x, weight, None, y[:19], None)
    with pytest.raises(ValueError, match=r"dense: weight has shape \(4, 0\), expected two axes"):
        _core.dense_forward(x, np.zeros((4, 0), np.float32), None, y, None)


def test_empty_batch(rng):
    dense = Dense(3, 4, rng=rng)
    y, tape = dense.forward(np.zeros((0, 3), np.float32))
    gradients = dense.backward(tape, np.zeros((0, 4), np.float32))
    assert y.shape == (0, 4)
    assert gradients.x.shape == (0, 3)
    np.testing.assert_array_equal(gradients.flat, 0)
