"""Error bounds of the vectorised tanh and sigmoid, by sweeps over the floating-point numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rnnfast

Array = np.ndarray[Any, Any]

FUNCTIONS = ["tanh", "sigmoid"]
WIDER = {"float32": np.float64, "float64": np.longdouble}
BITS = {"float32": np.uint32, "float64": np.uint64}
ULP = {"float32": 4, "float64": 4}
ABSOLUTE = {"float32": 2e-7, "float64": 1e-15}
LIMITS = {"tanh": (-1, 1), "sigmoid": (0, 1)}


def exact(name: str, x: Array) -> Array:
    """The function in a wider type, which x already has."""
    return np.tanh(x) if name == "tanh" else 1 / (1 + np.exp(-x))


def ours(name: str, x: Array) -> Array:
    y = rnnfast._core.activation(name, x)
    assert y.dtype == x.dtype and y.shape == x.shape
    return y


def sweep(dtype: str, rng: np.random.Generator) -> Array:
    """Random bit patterns (denormals, infinities, NaN and all), a dense grid, every power of 2."""
    bits = rng.integers(0, np.iinfo(BITS[dtype]).max, 200_000, BITS[dtype], endpoint=True)
    low, high = np.finfo(dtype).minexp - 5, np.finfo(dtype).maxexp
    powers = np.ldexp(np.ones(1, dtype), np.arange(low, high))
    borders = np.concatenate([np.nextafter(powers, 0), powers, np.nextafter(powers, np.inf)])
    dense = rng.uniform(-10, 10, 200_000)
    small = rng.choice([-1, 1], 50_000) * 2 ** rng.uniform(-30, 0, 50_000)
    edge = rng.uniform(-110, 110, 50_000)
    with np.errstate(all="ignore"):
        parts = [bits.view(dtype), borders, -borders, dense, small, edge]
        return np.concatenate([p.astype(dtype) for p in parts])


def precise(dtype: str) -> bool:
    return np.finfo(WIDER[dtype]).eps < np.finfo(dtype).eps / 100


@pytest.mark.parametrize("dtype", WIDER)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_error(name: str, dtype: str, isa: str, rng: np.random.Generator) -> None:
    if not precise(dtype):
        pytest.skip("this machine's long double is no wider than double")
    x = sweep(dtype, rng)
    x = x[np.isfinite(x)]
    with np.errstate(all="ignore"):
        y, truth = ours(name, x), exact(name, x.astype(WIDER[dtype]))
    error = np.abs(y - truth)
    assert error.max() <= ABSOLUTE[dtype]
    # in ulp of the result near 0; there the results below the normal numbers may be flushed
    error, truth = error[np.abs(x) < 8], np.abs(truth[np.abs(x) < 8])
    smallest = np.finfo(dtype).smallest_normal
    normal = truth >= 2 * smallest
    assert (error[normal] / np.spacing(truth[normal].astype(dtype))).max() <= ULP[dtype]
    assert error[~normal].max(initial=0) <= smallest


@pytest.mark.parametrize("dtype", WIDER)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_limits(name: str, dtype: str, isa: str, rng: np.random.Generator) -> None:
    low, high = LIMITS[name]
    x = sweep(dtype, rng)
    with np.errstate(all="ignore"):
        y = ours(name, x)
    number = ~np.isnan(x)
    assert ((y[number] >= low) & (y[number] <= high)).all()
    assert np.isnan(y[~number]).all() and not number.all()
    ends = np.array([-np.inf, np.inf, np.finfo(dtype).min, np.finfo(dtype).max], dtype)
    np.testing.assert_array_equal(ours(name, ends), np.array([low, high] * 2, dtype))
    zeros = ours(name, np.array([0.0, -0.0], dtype))
    np.testing.assert_array_equal(zeros, [0, 0] if name == "tanh" else [0.5, 0.5])


@pytest.mark.parametrize("dtype", WIDER)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_place_in_the_vector(name: str, dtype: str, isa: str, rng: np.random.Generator) -> None:
    """Neither the neighbours nor the rest of a vector at the end change a result."""
    x = rng.normal(scale=4, size=70).astype(dtype)
    whole = ours(name, x)
    for start in range(20):
        for size in range(1, 40):
            part = ours(name, x[start : start + size])
            np.testing.assert_array_equal(part, whole[start : start + size])
    x[::3] = np.nan
    np.testing.assert_array_equal(ours(name, x)[1::3], whole[1::3])
