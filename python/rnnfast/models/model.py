"""A model: named parts over one flat parameter buffer, and their gradients in another."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np

from rnnfast import checks
from rnnfast.flat import Array, FlatParameters, new_buffer
from rnnfast.nn import Dense, DenseTape


@runtime_checkable
class Part(Protocol):
    """What a model is made of: parameters in a flat buffer that can be moved into a larger one."""

    @property
    def flat(self) -> Array:
        """The part's parameters, 1-D."""
        ...

    @property
    def parameters(self) -> Mapping[str, Array]:
        """Views of `flat` by name."""
        ...

    def bind(self, buffer: Array) -> None:
        """Move the parameters into the buffer."""
        ...


class Model(FlatParameters):
    """Named parts whose parameters lie in one flat buffer, and their gradients in another.

    A model can be a part of a larger one.

    Parameters
    ----------
    parts : mapping of str to Part
        In the order of the buffer; all of one dtype. Their parameters are moved, and the gradients
        of those that are models.

    Attributes
    ----------
    flat, gradient : numpy.ndarray
        1-D buffers of the same layout.
    parameters : mapping of str to numpy.ndarray
        Views of `flat`, named `part.parameter`.

    Raises
    ------
    TypeError
        If the parts are no mapping, or one has no parameters in a flat buffer.
    ValueError
        If they are not of one dtype.
    """

    _name = "model"

    def __init__(self, parts: Mapping[str, Part]) -> None:
        checks.instance("model: parts", parts, Mapping, "a mapping of names to parts")
        for name, part in parts.items():
            checks.instance(f"model: parts[{name!r}]", part, Part, "a layer or model")
        sizes = {name: part.flat.size for name, part in parts.items()}
        dtypes = {part.flat.dtype for part in parts.values()}
        if len(dtypes) != 1:
            raise ValueError(f"model: parts have dtypes {sorted(map(str, dtypes))}, expected one")
        ends = itertools.accumulate(sizes.values())
        self._parts = dict(parts)
        self._spans = {
            name: slice(end - size, end)
            for (name, size), end in zip(sizes.items(), ends, strict=True)
        }
        self._attach(new_buffer(sum(sizes.values()), dtypes.pop()))
        self._direct(np.zeros_like(self.flat))

    @property
    def parts(self) -> Mapping[str, Part]:
        """What the model is made of, by name, in the order of the buffer."""
        return MappingProxyType(self._parts)

    def _direct(self, gradient: Array) -> None:
        """Let gradients be written into this buffer."""
        self.gradient = gradient
        for name, part in self._parts.items():
            if isinstance(part, Model):
                part._direct(self.gradient_of(name))  # noqa: SLF001

    def _attach(self, flat: Array) -> None:
        for name, part in self._parts.items():
            part.bind(flat[self._spans[name]])
        super()._attach(flat)

    def _views(self, flat: Array) -> dict[str, Array]:
        """Those of the parts, which have been moved into `flat`."""
        return {
            f"{name}.{key}": view
            for name, part in self._parts.items()
            for key, view in part.parameters.items()
        }

    def gradient_of(self, part: str) -> Array:
        """Return the slice of `gradient` that belongs to the named part.

        Raises
        ------
        TypeError, ValueError
            If there is no part of that name.
        """
        checks.choice("model: part", part, self._spans)
        return self.gradient[self._spans[part]]

    def _through(
        self, part: str, dense: Dense, tape: DenseTape, dy: Array, dx: Array | None = None
    ) -> Array:
        """Back-propagate through a dense part: its gradient into the buffer, dx returned."""
        result = dense.backward(tape, dy, out=self.gradient_of(part), dx=dx).x
        assert result is not None
        return result

    def _wrong_names(self, missing: list[str], surplus: list[str]) -> ValueError:
        """Leave out what is expected: a model has many names."""
        return self._wrong_value(f"parameters missing: {missing}, surplus: {surplus}")


class Scratch:
    """Buffers kept from step to step: fresh pages would cost more than what is done in them."""

    def __init__(self) -> None:
        self._buffers: dict[str, Array] = {}

    def __call__(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return the buffer of this name, made anew where shape or dtype has changed."""
        buffer = self._buffers.get(name)
        if buffer is None or buffer.shape != shape or buffer.dtype != dtype:
            self._buffers[name] = buffer = np.empty(shape, dtype)
        return buffer
