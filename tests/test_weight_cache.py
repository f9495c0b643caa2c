"""Weights packed for one call of a layer serve the next ones, until the parameters change."""

from __future__ import annotations

import copy
import pickle
import threading
import time
from typing import Any

import numpy as np
import pytest

import rnnfast
from cases import VARIANTS, build, forced, pair


def pickled(layer: Any) -> Any:
    return pickle.loads(pickle.dumps(layer))


def draw(rng: np.random.Generator, variant: str, **options: Any) -> tuple[Any, np.ndarray]:
    layer = build(rnnfast, variant, 19, 35, 2, bidirectional=True, **options)
    return layer, rng.standard_normal((7, 1, 19)).astype(layer.dtype)


def assert_right(layer: Any, x: np.ndarray) -> None:
    """Compare with a twin, which has packed nothing yet."""
    (y, state), (wanted, wanted_state, _) = layer(x), copy.deepcopy(layer).forward(x)
    assert np.array_equal(y, wanted, equal_nan=True)
    for part, wanted_part in zip(pair(state), pair(wanted_state), strict=True):
        assert np.array_equal(part, wanted_part, equal_nan=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_changed_parameters_are_seen(
    variant: str, dtype: str, isa: str, rng: np.random.Generator
) -> None:
    layer, x = draw(rng, variant, dtype=dtype)
    for place in (0, layer.flat.size // 2, layer.flat.size // 2 + 1, layer.flat.size - 1):
        for _ in range(12):  # after changes that its sample misses it keeps nothing for a while
            assert_right(layer, x)
        assert layer._cache.nbytes > 0
        layer.flat[place] += 0.5


def test_parameters_that_come_back(rng: np.random.Generator) -> None:
    layer, x = draw(rng, "lstm")
    first, flat = layer(x)[0], layer.flat.copy()
    for values in (0, flat, 0, flat):
        layer.flat[:] = values
        for _ in range(3):
            y, _ = layer(x)
        assert layer._cache.nbytes > 0
        assert np.array_equal(y, first) == (values is flat)


def test_nan_in_parameters(rng: np.random.Generator) -> None:
    layer, x = draw(rng, "lstm")
    layer.flat[0] = np.nan
    for _ in range(3):
        assert np.isnan(layer(x)[0]).any()
    assert layer._cache.nbytes > 0  # NaN does not count as a change
    layer.flat[0] = 0
    assert np.isfinite(layer(x)[0]).all()


def test_instruction_set_that_changes(rng: np.random.Generator) -> None:
    layer, x = draw(rng, "gru")
    for isa in rnnfast._core.isas() * 2:
        with forced(isa):
            for _ in range(3):
                assert_right(layer, x)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, pickled])
def test_copies_keep_weights_of_their_own(again: Any, rng: np.random.Generator) -> None:
    layer, x = draw(rng, "gru")
    for _ in range(2):
        before, _ = layer(x)
    assert layer._cache.nbytes > 0
    other = again(layer)
    assert other._cache.nbytes == 0
    assert np.array_equal(other(x)[0], before)
    other.flat[0] += 0.5
    assert_right(other, x)
    assert_right(layer, x)


def test_what_is_kept_and_when(rng: np.random.Generator) -> None:
    layer = rnnfast.LSTM(32, 64, rng=0)
    cache = layer._cache
    x = rng.standard_normal((2049, 1, 32), dtype=np.float32)
    layer(x)
    layer(x)
    assert cache.nbytes == 0  # too long to gain by it
    layer(x[:5])
    assert cache.nbytes == 0
    layer(x[:5])
    assert 1.9 * layer.flat.nbytes < cache.nbytes < 2.1 * layer.flat.nbytes
    layer(x)
    assert cache.nbytes > 0
    layer.flat[:] += 0.5
    layer(x[:5])
    assert cache.nbytes == 0
    layer(x[:5])
    assert cache.nbytes > 0
    layer.forward(x[:5])
    assert cache.nbytes == 0


def test_parameters_that_change_while_they_are_packed() -> None:
    """And then are as before: what was packed of the others must not serve again."""
    layer = rnnfast.LSTM(512, 512, 2, rng=0)
    x = np.random.default_rng(0).standard_normal((1, 1, 512), dtype=np.float32)
    before, expected = layer.flat.copy(), layer.forward(x)[0]
    for wait in np.linspace(0, 8e-3, 24):
        layer.forward(x)
        layer(x)

        def change(wait: float = wait) -> None:
            time.sleep(wait)
            layer.flat[1::2] += 1

        thread = threading.Thread(target=change)
        thread.start()
        layer(x)  # which keeps what it packs
        thread.join()
        layer.flat[:] = before
        for _ in range(3):
            assert np.array_equal(layer(x)[0], expected)


def test_changes_that_a_sample_misses(rng: np.random.Generator) -> None:
    layer = rnnfast.LSTM(32, 64, rng=0)
    x = rng.standard_normal((5, 1, 32), dtype=np.float32)
    kept = []
    for _ in range(40):
        layer.flat[1] += 0.25
        assert_right(layer, x)
        kept.append(layer._cache.nbytes > 0)
    assert 0 < sum(kept) < 10  # ever more rarely


def test_calls_from_several_threads(rng: np.random.Generator) -> None:
    layer = rnnfast.GRU(64, 128, rng=0)
    x = rng.standard_normal((9, 1, 64), dtype=np.float32)
    expected = layer.forward(x)[0]
    wrong = []

    def call() -> None:
        wrong.extend(1 for _ in range(50) if not np.array_equal(layer(x)[0], expected))

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong and layer._cache.nbytes > 0


def test_no_steps_at_all(rng: np.random.Generator) -> None:
    layer, x = draw(rng, "lstm")
    y, _ = layer(x, lengths=[0])
    assert not y.any()
    assert_right(layer, x)
