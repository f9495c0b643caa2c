"""What a layer is made with: its options, and its parameters as views of one flat buffer.

Names, shapes and order are PyTorch's, l being the layer, from 0, and the direction back in time
having a further ``_reverse``; layer by layer, direction by direction:

- ``weight_ih_l``, shape (G·H, I), from the second layer on (G·H, D·R)
- ``weight_hh_l``, shape (G·H, R)
- ``bias_ih_l`` and ``bias_hh_l``, shape (G·H,), unless `bias` is False
- ``weight_hr_l``, shape (P, H), with a projection
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from math import prod
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from .arguments import require, require_shape
from .cell import Array, Cell, Weights


@dataclass(eq=False)
class Parametrized(ABC):
    """The options of a layer, in PyTorch's order, and its parameters.

    Attributes
    ----------
    flat : ndarray, shape (number of parameters,)
        Drawn from U(±1/√H).
    parameters : dict of str to ndarray
        Views of `flat`.
    """

    input_size: int
    hidden_size: int
    num_layers: int = 1
    bias: bool = True
    batch_first: bool = False
    dropout: float = 0.0
    bidirectional: bool = False
    _: KW_ONLY
    dtype: npt.DTypeLike = "float32"
    compute: str = "float32"
    rng: int | np.random.Generator | None = None

    name: ClassVar[str]
    proj_size = 0

    def __post_init__(self) -> None:
        for argument in ("input_size", "hidden_size", "num_layers"):
            size = getattr(self, argument)
            require(size >= 1, self.name, f"{argument} is {size}", "at least 1")
        require(0 <= self.dropout <= 1, self.name, f"dropout is {self.dropout}", "0 to 1")
        only = "'float32': the reference has no other"
        require(self.compute == "float32", self.name, f"compute is {self.compute!r}", only)
        self.dtype, self.rng = np.dtype(self.dtype), np.random.default_rng(self.rng)
        self._cell = self._make_cell()
        self._directions = 2 if self.bidirectional else 1
        self._width = self.proj_size or self.hidden_size  # R
        self._shapes = self._parameter_shapes()
        bound = 1 / np.sqrt(self.hidden_size)
        size = sum(map(prod, self._shapes.values()))
        self.flat: Array = self.rng.uniform(-bound, bound, size).astype(self.dtype)
        self.parameters = self._views(self.flat)

    @abstractmethod
    def _make_cell(self) -> Cell:
        """The cell of all layers; checks the options that the class adds."""

    def _suffixes(self) -> list[str]:
        """How the names of direction d of layer l end, by l·D + d."""
        ends = ["", "_reverse"][: self._directions]
        return [f"l{layer}{end}" for layer in range(self.num_layers) for end in ends]

    def _parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        rows, shapes = self._cell.gates * self.hidden_size, dict[str, tuple[int, ...]]()
        for k, suffix in enumerate(self._suffixes()):
            below = self.input_size if k < self._directions else self._directions * self._width
            shapes[f"weight_ih_{suffix}"] = (rows, below)
            shapes[f"weight_hh_{suffix}"] = (rows, self._width)
            if self.bias:
                shapes[f"bias_ih_{suffix}"] = shapes[f"bias_hh_{suffix}"] = (rows,)
            if self.proj_size:
                shapes[f"weight_hr_{suffix}"] = (self.proj_size, self.hidden_size)
        return shapes

    def _views(self, flat: Array) -> dict[str, Array]:
        """Cut a flat buffer into the parameters."""
        ends = np.cumsum([prod(shape) for shape in self._shapes.values()])
        parts = np.split(flat, ends[:-1])
        named = zip(self._shapes.items(), parts, strict=True)
        return {name: part.reshape(shape) for (name, shape), part in named}

    def _weights(self, views: Mapping[str, Array]) -> list[Weights]:
        """The parameters by l·D + d; without bias, zeros that nobody keeps."""
        zero = np.zeros(self._cell.gates * self.hidden_size, self.dtype)
        return [
            Weights(
                views[f"weight_ih_{end}"],
                views[f"weight_hh_{end}"],
                views.get(f"bias_ih_{end}", zero),
                views.get(f"bias_hh_{end}", zero),
                views.get(f"weight_hr_{end}"),
            )
            for end in self._suffixes()
        ]

    def _check_buffer(self, argument: str, v: Array) -> None:
        require_shape(self.name, argument, v, self.flat.shape)
        good, given = v.dtype == self.dtype, f"{argument} has dtype {v.dtype}"
        require(good, self.name, given, f"dtype {self.dtype}")

    def bind(self, buffer: Array) -> None:
        """Move the parameters into `buffer`, from now on `flat`.

        Parameters
        ----------
        buffer : ndarray of the layer's dtype, shape (number of parameters,)
            Written: it receives the values. Usually a slice of a model's one flat buffer.
        """
        self._check_buffer("buffer", buffer)
        buffer[:] = self.flat
        self.flat, self.parameters = buffer, self._views(buffer)

    def state_dict(self) -> dict[str, Array]:
        """Copies of the parameters, by PyTorch's names."""
        return {name: v.copy() for name, v in self.parameters.items()}

    def load_state_dict(self, mapping: Mapping[str, npt.ArrayLike]) -> None:
        """Copy the parameters out of `mapping`, as `state_dict` gave it.

        Raises
        ------
        ValueError
            If a name is missing or unknown, or a shape is wrong; nothing is changed then.
        """
        if mapping.keys() != self._shapes.keys():
            missing = sorted(self._shapes.keys() - mapping.keys())
            surplus = sorted(mapping.keys() - self._shapes.keys())
            given = f"state_dict lacks {missing} and has unknown {surplus}"
            raise ValueError(f"{self.name}: {given}, expected exactly {list(self._shapes)}")
        values = {name: np.asarray(mapping[name]) for name in self._shapes}
        for name, v in values.items():
            require_shape(self.name, name, v, self._shapes[name])
        for name, v in values.items():
            self.parameters[name][...] = v
