"""The arrays of a case: the same weights, inputs and cotangent for every subject.

Results have the names ``y``, and for training ``dx`` and ``d`` + parameter name; for one step
``y`` is the new h and ``c`` the new cell state. Weights have PyTorch's names, shapes and gate
order, without the layer suffix.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rnnfast.bench.grid import GATES, Case

Array: TypeAlias = NDArray[np.floating]
Arrays: TypeAlias = dict[str, Array]

WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")

TOLERANCE = {"float32": 1e-4, "float64": 1e-4, "bfloat16": 0.1, "int8": 0.075}
"""Largest difference between two subjects by the case's dtype, relative to the larger of 1 and the
array's largest element: gradients sum over T * B terms. An order above what float32 loses on the
largest case; up to 0.053 was seen in bfloat16 and 0.045 in int8. Wrong gate orders show."""


class DisagreementError(RuntimeError):
    """Two subjects computed different results for the same case: their times mean nothing."""


@dataclass(frozen=True)
class Problem:
    """A case and its arrays.

    Attributes
    ----------
    case : Case
        The sizes T, B, I, H and G that the shapes below use.
    x : (T, B, I) array
        Standard normal.
    dy : (T, B, H) array
        The cotangent of the outputs, standard normal.
    h, c : (1, B, H) array
        State before the step, uniform in (-1, 1); used by the pass ``"step"`` alone, the others
        start from zero.
    weights : dict
        ``weight_ih`` (G*H, I), ``weight_hh`` (G*H, H), ``bias_ih`` and ``bias_hh`` (G*H,),
        uniform in ±1/sqrt(H).
    """

    case: Case
    x: Array
    dy: Array
    h: Array
    c: Array
    weights: Arrays


def make(case: Case) -> Problem:
    """Draw the arrays of a case; the same case always gets the same ones."""
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))
    dtype = np.dtype(case.array_dtype)
    t, b, i, h = case.seq_length, case.batch, case.input_size, case.hidden_size
    rows, bound = GATES[case.cell] * h, h**-0.5
    shapes: tuple[tuple[int, ...], ...] = ((rows, i), (rows, h), (rows,), (rows,))
    return Problem(
        case=case,
        x=rng.standard_normal((t, b, i)).astype(dtype),
        dy=rng.standard_normal((t, b, h)).astype(dtype),
        h=rng.uniform(-1, 1, (1, b, h)).astype(dtype),
        c=rng.uniform(-1, 1, (1, b, h)).astype(dtype),
        weights={
            name: rng.uniform(-bound, bound, shape).astype(dtype)
            for name, shape in zip(WEIGHTS, shapes, strict=True)
        },
    )


def difference(expected: Mapping[str, Array], actual: Mapping[str, Array]) -> float:
    """The largest relative difference over all arrays that both have; NaN counts as infinite.

    Raises
    ------
    DisagreementError
        If the two have no array in common, or the shapes of one differ.
    """
    common = expected.keys() & actual.keys()
    if not common:
        raise DisagreementError("no result in common")
    worst = 0.0
    for name in sorted(common):
        want, got = expected[name], actual[name]
        if want.shape != got.shape:
            raise DisagreementError(f"{name} has shape {got.shape}, expected {want.shape}")
        error = float(np.max(np.abs(want - got))) / max(1.0, float(np.max(np.abs(want))))
        worst = max(worst, error if np.isfinite(error) else np.inf)
    return worst


def check(
    case: Case, subject: str, expected: Mapping[str, Array], actual: Mapping[str, Array]
) -> float:
    """Return the `difference` of a subject, or refuse it.

    Raises
    ------
    DisagreementError
        If it exceeds the case's `TOLERANCE`; the message names case and subject.
    """
    label, allowed = f"{case.name}: {subject}", TOLERANCE[case.dtype]
    try:
        found = difference(expected, actual)
    except DisagreementError as error:
        raise DisagreementError(f"{label}: {error}") from None
    if found > allowed:
        raise DisagreementError(f"{label}: results differ by {found:.1e}, allowed {allowed:.0e}")
    return found
