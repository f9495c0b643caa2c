"""Checks of arguments, all in the same words: ``dense: bias is a int, expected a bool``.

`what` says whose argument it is and its name, ``"dense: bias"``. A wrong type is a TypeError, a
wrong value a ValueError; what is returned is the argument in its plain type.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Callable, Iterable
from numbers import Real
from types import UnionType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MOST = 2**31 - 1  # that the compiled half counts to

_KINDS = {"f": "floating point", "iu": "integers", "fiu": "real numbers"}  # of dtypes, in words


class Range(NamedTuple):
    """Which numbers will do, and in words."""

    holds: Callable[[float], bool]
    expected: str


FINITE = Range(math.isfinite, "a finite number")
NOT_NEGATIVE = Range(lambda x: 0.0 <= x < math.inf, "a finite number of at least 0")
POSITIVE = Range(lambda x: 0.0 < x < math.inf, "a finite number above 0")
POSITIVE_OR_INFINITE = Range(lambda x: x > 0.0, "above 0")
PROBABILITY = Range(lambda x: 0.0 <= x <= 1.0, "0 to 1")
BELOW_ONE = Range(lambda x: 0.0 <= x < 1.0, "0 to below 1")


def wrong_type(what: str, value: object, expected: str) -> TypeError:
    """Make the error of an argument of the wrong type."""
    return TypeError(f"{what} is a {type(value).__name__}, expected {expected}")


def instance(what: str, value: object, kind: type | UnionType, expected: str) -> None:
    """Accept what is of this kind."""
    if not isinstance(value, kind):
        raise wrong_type(what, value, expected)


def function(what: str, value: object) -> None:
    """Accept what can be called."""
    if not callable(value):
        raise wrong_type(what, value, "a function")


def integer(
    what: str,
    value: int,
    least: int | None,
    most: int | None = None,
    expected: str = "an integer",
) -> int:
    """Accept integers of any type from `least` to `most`; None for no bound."""
    try:
        number = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise wrong_type(what, value, expected)
    if (least is not None and number < least) or (most is not None and number > most):
        bounds = f"at least {least}" if most is None else f"{least} to {most}"
        raise ValueError(f"{what} is {number}, expected {bounds}")
    return number


def number(what: str, value: float, within: Range) -> float:
    """Accept real numbers of any type, or arrays without axes of one, within a range."""
    if not isinstance(value, Real) and getattr(value, "ndim", None) == 0:
        value = array_like(what, value, "fiu").item()
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise wrong_type(what, value, "a number")
    try:
        plain = float(value)
    except OverflowError:  # an integer
        plain = math.inf if value > 0 else -math.inf
    if not within.holds(plain):
        raise ValueError(f"{what} is {value}, expected {within.expected}")
    return plain


def flag(what: str, value: bool) -> bool:
    """Accept a bool, Python's or NumPy's."""
    if not isinstance(value, bool | np.bool_):
        raise wrong_type(what, value, "a bool")
    return bool(value)


def string(what: str, value: str) -> str:
    """Accept a string."""
    if not isinstance(value, str):
        raise wrong_type(what, value, "a string")
    return value


def choice(what: str, value: str, allowed: Iterable[str]) -> str:
    """Accept one of these strings."""
    if string(what, value) not in allowed:
        raise ValueError(f"{what} is {value!r}, expected {' or '.join(map(repr, allowed))}")
    return value


def path(what: str, value: str | os.PathLike[str]) -> None:
    """Accept the name of a file: an integer would be an open one's number."""
    instance(what, value, str | os.PathLike, "a path")


def parts(what: str, value: Iterable[Any], expected: str) -> tuple[Any, ...]:
    """Accept what has parts, such as a list, and is no string, whose parts nobody means."""
    if isinstance(value, str):
        raise wrong_type(what, value, expected)
    try:
        return tuple(value)
    except TypeError:
        raise wrong_type(what, value, expected) from None


def float_type(what: str, dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Accept float32 and float64."""
    try:
        kind = None if dtype is None else np.dtype(dtype)
    except (SyntaxError, TypeError, ValueError):
        kind = None
    if kind is None or kind not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(f"{what} is {kind or repr(dtype)}, expected float32 or float64")
    return kind


def generator(what: str, rng: int | np.random.Generator | None) -> np.random.Generator:
    """Accept a source of chance, or make one from a seed."""
    expected = "None, an integer of at least 0 or a NumPy Generator"
    try:
        return np.random.default_rng(rng)
    except TypeError:
        raise wrong_type(what, rng, expected) from None
    except ValueError:
        raise ValueError(f"{what} is {rng!r}, expected {expected}") from None


def array(what: str, value: Any, kinds: str) -> Array:
    """Accept an array whose dtype is of one of these kinds."""
    if not isinstance(value, np.ndarray):
        raise wrong_type(what, value, "a NumPy array")
    return _of_kind(what, value, kinds)


def made_array(what: str, value: Any) -> Array:
    """Accept what makes an array of itself, as another library's arrays do, as the core does."""
    kind = type(value)
    try:
        if hasattr(kind, "__array__"):
            return np.asarray(value)
        if hasattr(kind, "__dlpack__"):
            return np.from_dlpack(value)
    except MemoryError:
        raise
    except Exception as error:
        raise _makes_none(what, value, error) from error
    raise wrong_type(what, value, "a NumPy array")


def array_like(what: str, value: npt.ArrayLike, kinds: str, axes: str = "") -> Array:
    """Accept what NumPy makes an array of, such as a list; `axes` are those in the words."""
    try:
        made = np.asarray(value)
    except ValueError:
        shape = f" of shape {axes}" if axes else ""
        raise ValueError(f"{what} is no array, expected {_KINDS[kinds]}{shape}") from None
    except MemoryError:
        raise
    except Exception as error:
        raise _makes_none(what, value, error) from error
    return _of_kind(what, made, kinds)


def _makes_none(what: str, value: object, error: Exception) -> TypeError:
    return TypeError(f"{what} is a {type(value).__name__} that makes no NumPy array: {error}")


def _of_kind(what: str, value: Array, kinds: str) -> Array:
    if value.dtype.kind not in kinds:
        raise ValueError(f"{what} has dtype {value.dtype}, expected {_KINDS[kinds]}")
    return value


def shape(what: str, value: Array, expected: tuple[int, ...], axes: str = "") -> None:
    """Accept an array of this shape; `axes` are their letters in the words, ``"(T, B)"``."""
    if value.shape != expected:
        named = f"{axes} = {expected}" if axes else f"{expected}"
        raise ValueError(f"{what} has shape {value.shape}, expected {named}")


def converted(what: str, value: Array, dtype: np.dtype[Any]) -> Array:
    """Copy an array, which may be a view of what it is meant for, to a dtype that has room."""
    try:
        with np.errstate(over="raise", under="ignore"):
            return value.astype(dtype)
    except FloatingPointError:
        raise ValueError(f"{what} has values too large, expected {dtype}") from None


def buffer(what: str, value: Array, expected: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Accept an array of this shape and dtype that results can be written into as they are."""
    if not isinstance(value, np.ndarray):
        raise wrong_type(what, value, "a NumPy array")
    if not (value.shape == expected and value.dtype == dtype and value.flags.carray):
        raise ValueError(
            f"{what} has shape {value.shape} and dtype {value.dtype}, "
            f"expected {expected} and {dtype}, aligned, contiguous and writable"
        )
