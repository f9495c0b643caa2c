"""Named views of one flat buffer: what layers, dense layers and models keep their parameters in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from . import checks

Array = npt.NDArray[Any]

_LINE = 64  # bytes


def new_buffer(size: int, dtype: npt.DTypeLike) -> Array:
    """Make a 1-D array that begins with a cache line: a step reads the weights where they lie."""
    count = size * np.dtype(dtype).itemsize
    room = np.empty(count + _LINE, np.uint8)
    start = -room.ctypes.data % _LINE
    return room[start : start + count].view(dtype)


class Named:
    """What begins the texts of its errors with its name."""

    _name = ""

    def _argument(self, name: str) -> str:
        """Name an argument as the checks do."""
        return f"{self._name}: {name}"

    def _wrong_value(self, text: str) -> ValueError:
        return ValueError(f"{self._name}: {text}")

    def _wrong_type(self, name: str, value: object, expected: str) -> TypeError:
        return checks.wrong_type(self._argument(name), value, expected)

    def _as_array(self, name: str, value: Any) -> Array:
        return checks.made_array(self._argument(name), value)


class FlatParameters(Named, ABC):
    """Parameters that are named views of one 1-D buffer; a class says how it is cut by `_views`."""

    @abstractmethod
    def _views(self, flat: Array) -> dict[str, Array]:
        """Cut a buffer of the parameters, or of their gradients."""

    def _attach(self, flat: Array) -> None:
        """Let the parameters be what lies in `flat`."""
        self._flat = flat
        self._parameters: Mapping[str, Array] = MappingProxyType(self._views(flat))

    @property
    def flat(self) -> Array:
        """All parameters in one 1-D buffer.

        ``flat -= step`` changes it in place; :meth:`bind` puts another one in its stead.
        """
        return self._flat

    @flat.setter
    def flat(self, buffer: Array) -> None:
        if buffer is not self._flat:  # which is what an assignment in place ends with
            raise AttributeError(
                f"{self._name}: flat cannot be replaced, expected a change in place or bind(buffer)"
            )

    @property
    def parameters(self) -> Mapping[str, Array]:
        """Parameters by name; writable views of :attr:`flat`."""
        return self._parameters

    def bind(self, buffer: Array) -> None:
        """Move the parameters into `buffer`, a slice of a larger model's buffer.

        Parameters
        ----------
        buffer : ndarray, shape (flat.size,)
            Contiguous, writable and of the parameters' dtype. Receives the present values;
            :attr:`flat` and :attr:`parameters` are views of it from now on.

        Raises
        ------
        TypeError, ValueError
            If the buffer is no array or does not fit.
        """
        self._check_buffer("buffer", buffer)
        buffer[:] = self._flat
        self._attach(np.asarray(buffer))  # whatever the subclass

    def _check_buffer(self, name: str, buffer: Array) -> None:
        checks.buffer(self._argument(name), buffer, self._flat.shape, self._flat.dtype)

    def state_dict(self) -> dict[str, Array]:
        """Copies of the parameters by name."""
        return {name: value.copy() for name, value in self._parameters.items()}

    def load_state_dict(self, mapping: Mapping[str, Any]) -> None:
        """Set all parameters.

        Parameters
        ----------
        mapping : mapping of str to array_like
            Values by name, in the shapes of :attr:`parameters`; numbers of any real type, converted
            to the parameters'.

        Raises
        ------
        TypeError
            If it is no mapping.
        ValueError
            If names are missing or unknown, a shape differs, or a value does not fit the dtype.
            Nothing is changed then.
        """
        if not isinstance(mapping, Mapping):
            raise self._wrong_type("mapping", mapping, "a mapping of names to arrays")
        missing = [name for name in self._parameters if name not in mapping]
        surplus = [name for name in mapping if name not in self._parameters]
        if missing or surplus:
            raise self._wrong_names(missing, surplus)
        values = {name: self._checked_parameter(name, mapping[name]) for name in self._parameters}
        for name, value in values.items():
            self._parameters[name][...] = value

    def _wrong_names(self, missing: list[str], surplus: list[str]) -> ValueError:
        return self._wrong_value(
            f"state_dict lacks {missing or 'nothing'} and has unknown {surplus or 'nothing'}, "
            f"expected exactly {list(self._parameters)}"
        )

    def _checked_parameter(self, name: str, given: Any) -> Array:
        value = checks.array_like(self._argument(name), given, "fiu")
        checks.shape(self._argument(name), value, self._parameters[name].shape)
        return checks.converted(self._argument(name), value, self._flat.dtype)

    # Copies and pickles: the buffer becomes the copy's own, and the views are cut anew.

    def __getstate__(self) -> dict[str, Any]:
        state = {key: value for key, value in self.__dict__.items() if key != "_parameters"}
        state["_flat"] = self._flat.copy()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        flat = new_buffer(self._flat.size, self._flat.dtype)
        flat[:] = self._flat
        self._attach(flat)
