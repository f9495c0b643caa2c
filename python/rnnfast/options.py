"""The options of a layer, checked, and its compiled half."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _core
from . import device as devices
from .flat import Named

_NONLINEARITIES = ("tanh", "relu", "sigmoid", "identity")
_COMPUTE = {"cpu": ("float32", "bfloat16"), "cuda": ("float32", "tf32", "bfloat16")}
_MOST = 2**31 - 1
_WINDOWS: dict[Any, int] = {None: 0, "auto": -1}  # what the compiled half calls them
_MOST_LAYERS = 2**16  # each has parameters with names

Shape = tuple[int, ...]


def make_core(cell: str, arguments: dict[str, Any]) -> _core.Layer:
    """Make the compiled half of a layer from what it was constructed with."""
    options = dict(arguments)
    window = options.pop("recompute")
    if options.pop("device") == "cuda":
        del options["dtype"]
        made: _core.Layer = devices.cuda().Layer(cell=cell, **options)
        return made
    return _core.Layer(cell=cell, **options, recompute=_WINDOWS.get(window, window))


class Options(Named, ABC):
    """What a layer is made with, and the compiled half that is made of it."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        dtype: npt.DTypeLike,
        compute: str,
        *,
        proj_size: int = 0,
        reset_after: bool = True,
        nonlinearity: str = "tanh",
        recompute: int | str | None = None,
        device: str = "cpu",
    ) -> None:
        self.input_size = self._integer("input_size", input_size, 1)
        self.hidden_size = self._integer("hidden_size", hidden_size, 1)
        self.num_layers = self._integer("num_layers", num_layers, 1, _MOST_LAYERS)
        self.bias = self._flag("bias", bias)
        self.batch_first = self._flag("batch_first", batch_first)
        self.dropout = self._probability(dropout)
        self.bidirectional = self._flag("bidirectional", bidirectional)
        self.proj_size = self._projection(proj_size)
        self.dtype = self._float_type(dtype)
        self.device = self._choice("device", device, ("cpu", "cuda"))
        self.compute = self._choice("compute", compute, _COMPUTE[self.device])
        if self.compute != "float32" and self.dtype != np.float32:
            raise self._wrong_value(
                f"compute is {self.compute!r} with dtype {self.dtype}, expected dtype float32"
            )
        self.recompute = self._window(recompute)
        if self.device == "cuda":
            self._check_device()
        self._options: dict[str, Any] = {
            "reset_after": self._flag("reset_after", reset_after),
            "nonlinearity": self._choice("nonlinearity", nonlinearity, _NONLINEARITIES),
        }

    # Checks of the constructor's arguments.

    def _integer(
        self, name: str, value: int, least: int, most: int = _MOST, expected: str = "an integer"
    ) -> int:
        try:
            number = None if isinstance(value, bool | np.bool_) else operator.index(value)
        except TypeError:
            number = None
        if number is None:
            raise self._wrong_type(name, value, expected)
        if not least <= number <= most:
            raise self._wrong_value(f"{name} is {number}, expected {least} to {most}")
        return number

    def _flag(self, name: str, value: bool) -> bool:
        if not isinstance(value, bool | np.bool_):
            raise self._wrong_type(name, value, "a bool")
        return bool(value)

    def _probability(self, value: float) -> float:
        if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
            raise self._wrong_type("dropout", value, "a number")
        if not 0 <= value <= 1:
            raise self._wrong_value(f"dropout is {value}, expected 0 to 1")
        return float(value)

    def _projection(self, value: int) -> int:
        number = self._integer("proj_size", value, 0)
        if number >= self.hidden_size:
            raise self._wrong_value(
                f"proj_size is {number}, expected less than hidden_size={self.hidden_size}"
            )
        return number

    def _float_type(self, dtype: npt.DTypeLike) -> np.dtype[Any]:
        try:
            kind = None if dtype is None else np.dtype(dtype)
        except (SyntaxError, TypeError, ValueError):
            kind = None
        if kind is None or kind not in (np.dtype(np.float32), np.dtype(np.float64)):
            raise self._wrong_value(f"dtype is {kind or repr(dtype)}, expected float32 or float64")
        return kind

    def _choice(self, name: str, value: str, allowed: tuple[str, ...]) -> str:
        if not isinstance(value, str):
            raise self._wrong_type(name, value, "a string")
        if value not in allowed:
            raise self._wrong_value(
                f"{name} is {value!r}, expected {' or '.join(map(repr, allowed))}"
            )
        return value

    def _window(self, value: int | str | None) -> int | str | None:
        expected = "None, 'auto' or an integer"
        if value is None:
            return None
        if isinstance(value, str):
            if value != "auto":
                raise self._wrong_value(f"recompute is {value!r}, expected {expected}")
            return value
        return self._integer("recompute", value, 1, expected=expected)

    def _check_device(self) -> None:
        for name, value, expected in (
            ("dtype", self.dtype, np.dtype(np.float32)),
            ("recompute", self.recompute, None),
        ):
            if value != expected:
                raise self._wrong_value(
                    f"{name} is {value!r} with device 'cuda', expected {expected!r}"
                )

    # The compiled half.

    def _arguments(self) -> dict[str, Any]:
        """What makes the same again."""
        return {
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "num_layers": self.num_layers,
            "bias": self.bias,
            "batch_first": self.batch_first,
            "dropout": self.dropout,
            "bidirectional": self.bidirectional,
            "dtype": self.dtype.name,
            "compute": self.compute,
            "proj_size": self.proj_size,
            "recompute": self.recompute,
            "device": self.device,
            **self._options,
        }

    def _make_core(self) -> None:
        try:
            self._core = make_core(self._name, self._arguments())
        except ValueError as error:
            raise self._wrong_value(
                f"input_size={self.input_size}, hidden_size={self.hidden_size}, "
                f"num_layers={self.num_layers}: {error}"
            ) from None
        self._layout = self._core.parameters()

    @abstractmethod
    def _pack(self, num_threads: int | None) -> _core.Packed:
        """Weights for a stream."""

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self._describe())
        return f"{type(self).__name__}({self.input_size}, {self.hidden_size}, {options})"

    def _describe(self) -> Iterator[tuple[str, Any]]:
        names = ("num_layers", "bias", "batch_first", "dropout", "bidirectional")
        yield from ((name, getattr(self, name)) for name in names)
        yield "dtype", self.dtype.name
        if self.compute != "float32":
            yield "compute", self.compute
        if self.recompute is not None:
            yield "recompute", self.recompute
        if self.device != "cpu":
            yield "device", self.device

    # What follows from the options: D directions, h of P units, or of H without a projection.

    @property
    def _endings(self) -> tuple[str, ...]:
        """What the names of parameters end with, for each direction."""
        return ("", "_reverse") if self.bidirectional else ("",)

    @property
    def _directions(self) -> int:
        """How many there are, D."""
        return len(self._endings)

    @property
    def _width(self) -> int:
        """Size of h in one direction."""
        return self.proj_size or self.hidden_size

    @property
    def _state_widths(self) -> dict[str, int]:
        """Sizes of the parts of a state by name: h, and of an LSTM c."""
        return {"h": self._width} | ({"c": self.hidden_size} if self._name == "lstm" else {})

    def _state_shapes(self, batch: Shape) -> list[tuple[Shape, str]]:
        """Shapes of the parts, and what their axes are; `batch` is (B,), or () for one sequence."""
        rows, axes = self.num_layers * self._directions, "L*D, B" if batch else "L*D"
        return [
            ((rows, *batch, size), f"({axes}, {'H' if size == self.hidden_size else 'P'})")
            for size in self._state_widths.values()
        ]

    def _checked_state(
        self, state: Any, batch: Shape, check: Callable[[str, Any, Shape, str], Any]
    ) -> Any:
        """Put in place of each part what `check` makes of its name, itself, its shape and axes."""
        expected = self._state_shapes(batch)
        if len(expected) == 1:
            return check("state", state, *expected[0])
        if not isinstance(state, tuple | list):
            raise self._wrong_type("state", state, "a pair (h, c)")
        if len(state) != 2:
            raise self._wrong_value(f"state has {len(state)} parts, expected the pair (h, c)")
        return tuple(
            None if part is None else check(f"state[{k}]", part, *expected[k])
            for k, part in enumerate(state)
        )
