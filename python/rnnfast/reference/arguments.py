"""The arrays of a call: their checks, and how they lie; inside, all are (T, B, …)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .cell import Array, States

State: TypeAlias = Array | tuple[Array, Array]  # as the user passes it: h or (h, c)
Shapes: TypeAlias = list[tuple[int, int, int]]  # of h and c inside


def require(good: bool, name: str, given: str, expected: str) -> None:
    """Raise a ValueError that names the layer and tells what the argument is, unless it is good."""
    if not good:
        raise ValueError(f"{name}: {given}, expected {expected}")


def require_array(name: str, argument: str, v: object) -> None:
    """Raise a TypeError, unless it is an array."""
    if not isinstance(v, np.ndarray):
        raise TypeError(f"{name}: {argument} is a {type(v).__name__}, expected a NumPy array")


def require_shape(name: str, argument: str, v: Array, expected: tuple[int, ...]) -> None:
    """Raise a ValueError, unless the array has this shape."""
    require(v.shape == expected, name, f"{argument} has shape {v.shape}", f"shape {expected}")


@dataclass(frozen=True)
class Layout:
    """How the arrays of one call of a layer lie."""

    name: str  # of the layer
    dtype: npt.DTypeLike
    batched: bool
    batch_first: bool
    tokens: bool

    def inside(self, v: Array) -> Array:
        """(T, …), (T, B, …) or (B, T, …) → (T, B, …)."""
        if not self.batched:
            return v[:, None]
        return v.swapaxes(0, 1) if self.batch_first else v

    def outside(self, v: Array) -> Array:
        """Undo `inside`."""
        if not self.batched:
            return v[:, 0]
        return np.ascontiguousarray(v.swapaxes(0, 1)) if self.batch_first else v

    def states_inside(self, argument: str, state: State | None, shapes: Shapes) -> States:
        """h or (h, c) or their gradients, as the user gave them → these shapes (L·D, B, ·)."""
        if state is None:
            return tuple(np.zeros(shape, self.dtype) for shape in shapes)
        given: Any = state if len(shapes) == 2 else (state,)
        if not isinstance(given, tuple | list) or len(given) != len(shapes):
            what = f"is a {type(state).__name__}"
            if isinstance(given, tuple | list):
                what = f"has {len(given)} parts"
            raise TypeError(f"{self.name}: {argument} {what}, expected a pair of arrays (h, c)")
        for v, (rows, B, width) in zip(given, shapes, strict=True):
            require_array(self.name, argument, v)
            expected = (rows, B, width) if self.batched else (rows, width)
            require_shape(self.name, argument, v, expected)
        return tuple(
            v.reshape(shape).astype(self.dtype) for v, shape in zip(given, shapes, strict=True)
        )

    def states_outside(self, s: States) -> State:
        """States (L·D, B, ·) → h or (h, c) as the user sees them."""
        s = s if self.batched else tuple(v[:, 0] for v in s)
        return s[0] if len(s) == 1 else (s[0], s[1])

    def lengths(self, lengths: npt.ArrayLike | None, T: int, B: int) -> Array:
        """→ integers (B,)."""
        n = np.full(B, T) if lengths is None else np.atleast_1d(np.asarray(lengths))
        require_shape(self.name, "lengths", n, (B,))
        expected = f"integers from 0 to {T}"
        whole = np.issubdtype(n.dtype, np.integer)
        require(whole, self.name, f"lengths has dtype {n.dtype}", expected)
        wrong = n[(n < 0) | (n > T)]
        require(not wrong.size, self.name, f"lengths has {wrong[:1]}", expected)
        return n

    def reset(self, reset: npt.ArrayLike | None, T: int, B: int) -> Array:
        """→ booleans (T, B)."""
        if reset is None:
            return np.zeros((T, B), bool)
        flags = np.asarray(reset)
        require(flags.dtype == np.bool_, self.name, f"reset has dtype {flags.dtype}", "booleans")
        flags = self.inside(flags)
        require_shape(self.name, "reset", flags, (T, B))
        return flags

    def output_gradient(self, dy: Array | None, shape: tuple[int, ...]) -> Array:
        """→ dy of this shape (T, B, D·R)."""
        if dy is None:
            return np.zeros(shape, self.dtype)
        require_shape(self.name, "dy", dy, self.outside(np.empty(shape)).shape)
        return self.inside(dy).astype(self.dtype)


def read_input(
    name: str, x: Array, input_size: int, dtype: npt.DTypeLike, batch_first: bool
) -> tuple[Array, Layout]:
    """x as the user gave it → (T, B, I), tokens as one-hot rows, and the layout of the call."""
    require_array(name, "x", x)
    tokens = bool(np.issubdtype(x.dtype, np.integer))
    rank = 2 if tokens else 3
    require(x.ndim in (rank - 1, rank), name, f"x has {x.ndim} axes", f"{rank - 1} or {rank}")
    layout = Layout(name, dtype, x.ndim == rank, batch_first, tokens)
    inside = layout.inside(x)
    require(len(inside) > 0, name, f"x has shape {x.shape}", "at least one time step")
    if tokens:
        wrong = x[(x < 0) | (x >= input_size)]
        require(not wrong.size, name, f"x has {wrong[:1]}", f"tokens from 0 to {input_size - 1}")
        return np.eye(input_size, dtype=dtype)[inside], layout
    given = f"x has {x.shape[-1]} features in its last axis"
    require(x.shape[-1] == input_size, name, given, f"input_size={input_size}")
    return inside.astype(dtype), layout
