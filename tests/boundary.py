"""What the tests of the boundary share: cells, small arrays, and how a refusal is expected."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import rnnfast
from cases import Array

CELLS = {"rnn": rnnfast.RNN, "lstm": rnnfast.LSTM, "gru": rnnfast.GRU}
T, B, WIDTH, H = 5, 2, 3, 4

Case = tuple[Any, type[Exception], str]  # an argument, and how it is refused


@contextmanager
def refused(error: type[Exception], text: str) -> Iterator[None]:
    """Expect exactly this type and this text."""
    with pytest.raises(error, match="^" + re.escape(text) + "$") as caught:
        yield
    assert type(caught.value) is error


@contextmanager
def unharmed(layer: Any) -> Iterator[None]:
    """Expect that the layer's parameters and results are afterwards what they were before."""
    x = np.random.default_rng(3).standard_normal((T, B, WIDTH)).astype(layer.dtype)
    flat, y = layer.flat.copy(), layer(x)[0]
    yield
    np.testing.assert_array_equal(layer.flat, flat)
    np.testing.assert_array_equal(layer(x)[0], y)


def zeros(*shape: int, dtype: Any = np.float32) -> Array:
    return np.zeros(shape, dtype)


def ids(cases: list[Case]) -> list[str]:
    """Name cases by their texts."""
    return [text.replace("{cell}: ", "") for *_, text in cases]
