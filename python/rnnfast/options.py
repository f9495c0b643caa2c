"""The options of a layer, checked, and its compiled half."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _core, checks
from . import device as devices
from .flat import Named

_NONLINEARITIES = ("tanh", "relu", "sigmoid", "identity")
_COMPUTE = {"cpu": ("float32", "bfloat16"), "cuda": ("float32", "tf32", "bfloat16")}
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
        named = self._argument
        self.input_size = checks.integer(named("input_size"), input_size, 1, checks.MOST)
        self.hidden_size = checks.integer(named("hidden_size"), hidden_size, 1, checks.MOST)
        self.num_layers = checks.integer(named("num_layers"), num_layers, 1, _MOST_LAYERS)
        self.bias = checks.flag(named("bias"), bias)
        self.batch_first = checks.flag(named("batch_first"), batch_first)
        self.dropout = checks.number(named("dropout"), dropout, checks.PROBABILITY)
        self.bidirectional = checks.flag(named("bidirectional"), bidirectional)
        self.proj_size = self._projection(proj_size)
        self.dtype = checks.float_type(named("dtype"), dtype)
        self.device = checks.choice(named("device"), device, ("cpu", "cuda"))
        self.compute = checks.choice(named("compute"), compute, _COMPUTE[self.device])
        if self.compute != "float32" and self.dtype != np.float32:
            raise self._wrong_value(
                f"compute is {self.compute!r} with dtype {self.dtype}, expected dtype float32"
            )
        self.recompute = self._window(recompute)
        if self.device == "cuda":
            self._check_device()
        self._options: dict[str, Any] = {
            "reset_after": checks.flag(named("reset_after"), reset_after),
            "nonlinearity": checks.choice(named("nonlinearity"), nonlinearity, _NONLINEARITIES),
        }

    # Checks of the constructor's arguments.

    def _projection(self, value: int) -> int:
        number = checks.integer(self._argument("proj_size"), value, 0, checks.MOST)
        if number >= self.hidden_size:
            raise self._wrong_value(
                f"proj_size is {number}, expected less than hidden_size={self.hidden_size}"
            )
        return number

    def _window(self, value: int | str | None) -> int | str | None:
        expected = "None, 'auto' or an integer"
        if value is None:
            return None
        if isinstance(value, str):
            if value != "auto":
                raise self._wrong_value(f"recompute is {value!r}, expected {expected}")
            return value
        return checks.integer(self._argument("recompute"), value, 1, checks.MOST, expected)

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
