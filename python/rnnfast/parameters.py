"""What a layer is made of: its options, checked, and its parameters in one buffer."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _core, checks
from . import device as devices
from .flat import Array, FlatParameters, new_buffer
from .options import Options


class Parametrized(Options, FlatParameters):
    """The options of a layer, checked, and its parameters.

    These have PyTorch's names and lie layer by layer and direction by direction.
    """

    def __init__(
        self, *options: Any, rng: int | np.random.Generator | None, **own_options: Any
    ) -> None:
        super().__init__(*options, **own_options)
        self.rng = checks.generator(self._argument("rng"), rng)
        self._make_core()
        size = sum(int(np.prod(shape)) for _, shape, _ in self._layout)
        bound = 1 / np.sqrt(self.hidden_size)
        flat = new_buffer(size, self.dtype)
        flat[:] = self.rng.uniform(-bound, bound, size)
        self._attach(flat)

    def _make_core(self) -> None:
        super()._make_core()
        self._cache = None if self.device == "cuda" else _core.WeightCache()

    @property
    def _tape_type(self) -> type[_core.Tape]:
        tape: type[_core.Tape] = devices.cuda().Tape if self.device == "cuda" else _core.Tape
        return tape

    def _views(self, flat: Array) -> dict[str, Array]:
        return {
            name: flat[offset : offset + int(np.prod(shape))].reshape(shape)
            for name, shape, offset in self._layout
        }

    def _pack(self, num_threads: int | None) -> _core.Packed:
        return self._core.pack(self._flat, None, num_threads)

    # Copies and pickles: the compiled half is made anew.

    def __getstate__(self) -> dict[str, Any]:
        compiled = ("_core", "_layout", "_cache")
        return {key: value for key, value in super().__getstate__().items() if key not in compiled}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._make_core()
        super().__setstate__(state)
