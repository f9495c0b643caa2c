"""Layers for inference with weights of eight bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _core, checks
from .flat import Array
from .options import Options, make_core
from .parameters import Parametrized
from .stream import State, Stream

__all__ = ["QuantizationError", "QuantizedLayer"]

_LARGEST = 127
_MOST_PRODUCTS = 2**16  # that a sum of 32 bits holds
_FLOAT = {"compute": "float32", "recompute": None, "device": "cpu"}  # as it is measured
_OPERANDS = ("input", "hidden", "gated")  # as the core orders them


def _root_mean_square(a: Array) -> float:
    return float(np.sqrt(np.mean(np.square(a, dtype=np.float64)))) if a.size else 0.0


@dataclass(frozen=True)
class QuantizationError:
    """What eight bits cost on some data; see :meth:`QuantizedLayer.error`.

    Attributes
    ----------
    largest : float
        Largest absolute difference of an output.
    rms : float
        Root mean square of the differences.
    relative : float
        `rms` over the root mean square of the outputs themselves; 0 where these are all zero.
    """

    largest: float
    rms: float
    relative: float


class QuantizedLayer(Options):
    """A layer for inference, made by a layer's `quantize`.

    Each row of a weight matrix is integers from -127 to 127 and a scale. Each row that multiplies
    them, of the input or of h, is scaled to such integers when its step begins: by its own largest
    magnitude, or by a scale that calibration fixed. Products are summed in integers where the
    processor multiplies bytes, and biases, states and results are float32.

    Parameters
    ----------
    layer : RNN, LSTM or GRU
        Whose weights, as they are now, are taken over. float32.
    calibration : ndarray or sequence of ndarray, optional
        Data to fix the scales of the input and of h with; see the layers' `quantize`.

    Raises
    ------
    TypeError
        If it is no such layer, or the calibration data are no arrays.
    ValueError
        If the layer is not float32, a weight is not finite, a product has more than 65536 terms, or
        the calibration data do not fit the layer, are none or are not finite.
    """

    _name = "quantize"

    def __init__(self, layer: Any, calibration: Any = None) -> None:
        self._check_layer(layer)
        self._name = layer._name
        super().__init__(**{**layer._arguments(), **_FLOAT})
        self.compute = "int8"
        self._described = {"cell": type(layer).__name__, **dict(layer._describe())}
        self._described.pop("device", None)  # it runs on the CPU
        if self.dtype != np.float32:
            raise self._wrong_value(f"quantize: dtype is {self.dtype}, expected float32")
        widest = max(w.shape[1] for w in layer.parameters.values() if w.ndim == 2)
        if widest > _MOST_PRODUCTS:
            raise self._wrong_value(
                f"quantize: a product has {widest} terms, expected at most {_MOST_PRODUCTS}"
            )
        arrays: dict[str, Array] = {}
        for name, value in layer.parameters.items():
            if value.ndim == 1:
                arrays[name] = value.copy()
            else:
                arrays[name], arrays[f"{name}_scale"] = self._quantized(name, value)
        self._scales = {} if calibration is None else self._calibrated(layer, calibration)
        self._take(arrays)

    def _check_layer(self, layer: Any) -> None:
        checks.instance(self._argument("layer"), layer, Parametrized, "an RNN, LSTM or GRU")

    def _quantized(self, name: str, w: Array) -> tuple[Array, Array]:
        if not np.isfinite(w).all():
            raise self._wrong_value(f"quantize: {name} has values that are not finite")
        scale = (np.abs(w).max(axis=1) / np.float32(_LARGEST)).astype(np.float32)
        integers = np.rint(w / np.where(scale > 0, scale, 1)[:, None])
        return integers.clip(-_LARGEST, _LARGEST).astype(np.int8), scale

    def _calibrated(self, layer: Parametrized, calibration: Any) -> dict[str, float]:
        """Measure with the float layer what its products read, and scale it to 127."""
        parts = {"calibration": calibration}
        if isinstance(calibration, Sequence) and not isinstance(calibration, str | bytes):
            parts = {f"calibration[{i}]": x for i, x in enumerate(calibration)}
        if not parts:
            raise self._wrong_value("calibration is empty, expected at least one array")
        core = make_core(layer._name, {**layer._arguments(), **_FLOAT, "dropout": 0.0})
        measured = [self._measured(core, layer.flat, name, x) for name, x in parts.items()]
        largest = np.maximum.reduce(measured)
        fixed = dict(zip(self._operands(), (largest / np.float32(_LARGEST)).flat, strict=True))
        return {name: float(s) for name, s in fixed.items() if s >= np.finfo(np.float32).tiny}

    def _measured(self, core: _core.Layer, flat: Array, name: str, x: Any) -> Array:
        """Return the largest magnitude of each operand, a row for each layer and direction."""
        x = self._as_array(name, x)
        if not x.size:
            raise self._wrong_value(f"{name} has shape {x.shape}, expected some data")
        with np.errstate(over="ignore"):
            finite = x.dtype.kind != "f" or np.isfinite(x.astype(np.float32)).all()
        if not finite:
            raise self._wrong_value(f"{name} has values that are not finite in float32")
        try:
            _, _, tape = core.forward(flat, x, None, None, None, True, 0, None, None)
        except ValueError as error:
            text = str(error).removeprefix(f"{self._name}: ")
            raise self._wrong_value(f"{name}: {text}") from None
        assert tape is not None
        largest = core.magnitudes(tape)
        if not np.isfinite(largest).all():
            raise self._wrong_value(f"{name} makes the layer's outputs overflow")
        return largest

    def _operands(self) -> list[str]:
        """Names of what multiplies weights, as the parameters are ordered and named."""
        return [
            f"{operand}_l{layer}{ending}"
            for layer in range(self.num_layers)
            for ending in self._endings
            for operand in _OPERANDS
        ]

    def _take(self, arrays: dict[str, Array]) -> None:
        """Pack the weights for the kernels, which find the same integers again."""
        for array in arrays.values():
            array.flags.writeable = False
        self._arrays: Mapping[str, Array] = MappingProxyType(arrays)
        self._make_core()
        flat = np.empty(sum(int(np.prod(shape)) for _, shape, _ in self._layout), np.float32)
        for name, shape, offset in self._layout:
            values = flat[offset : offset + int(np.prod(shape))].reshape(shape)
            values[...] = arrays[name]
            if len(shape) > 1:
                values *= arrays[f"{name}_scale"][:, None]
        scales = [self._scales.get(name, 0) for name in self._operands()]
        self._packed = self._core.pack(flat, np.array(scales, np.float32), None)

    @property
    def parameters(self) -> Mapping[str, Array]:
        """Read-only arrays by name: int8 weights, their ``…_scale`` by row, float32 biases."""
        return self._arrays

    @property
    def scales(self) -> Mapping[str, float]:
        """What an integer of the operands stands for that calibration fixed a scale for, by name.

        ``input_l0`` is x of the first layer, ``hidden_l0`` its h; ``gated_l0`` is r ∘ h of a GRU
        with ``reset_after=False`` and o ∘ tanh(c) of a projected LSTM; the other direction's end in
        ``_reverse``. Rows of operands that have no scale here, as tokens, which multiply nothing,
        or what was zero in all calibration data, are scaled by their own largest magnitude.
        """
        return MappingProxyType(self._scales)

    @property
    def nbytes(self) -> int:
        """Bytes of the parameters.

        The kernels' own copy is as large where the processor multiplies bytes, else four times so.
        """
        return sum(array.nbytes for array in self._arrays.values())

    def __call__(
        self,
        x: Array,
        state: State = None,
        lengths: npt.ArrayLike | None = None,
        reset: Array | None = None,
        *,
        num_threads: int | None = None,
    ) -> tuple[Array, State]:
        """Run the layer; arguments, results and errors as for calling the layer it was made of."""
        y, final, _ = self._core.forward(
            None, x, state, lengths, reset, False, 0, num_threads, self._packed
        )
        return y, final

    def step(
        self, x: Array | int, state: State = None, *, num_threads: int | None = None
    ) -> tuple[Array, State]:
        """Advance by one time step, bit for bit as within a sequence.

        Arguments, results and errors are those of the `step` of the layer it was made of.
        """
        return self._core.step(None, x, state, num_threads, self._packed)

    def stream(
        self, batch: int = 1, state: State = None, *, num_threads: int | None = None
    ) -> Stream:
        """Open a stream that carries the state from block to block, as a layer's `stream` does."""
        return Stream(self, batch, state, num_threads)

    def _pack(self, num_threads: int | None) -> _core.Packed:
        if num_threads is not None:
            checks.integer(self._argument("num_threads"), num_threads, 1, _core.max_threads())
        return self._packed

    def _describe(self) -> Iterator[tuple[str, Any]]:
        yield from {**self._described, "compute": self.compute}.items()

    def error(
        self,
        layer: Any,
        x: Array,
        state: State = None,
        lengths: npt.ArrayLike | None = None,
        reset: Array | None = None,
        *,
        num_threads: int | None = None,
    ) -> QuantizationError:
        """Compare the outputs with those of the layer it was made of, on data of your own.

        Parameters
        ----------
        layer : RNN, LSTM or GRU
            The layer that was quantized.
        x, state, lengths, reset, num_threads
            As for a call; `num_threads` is for what runs on the CPU.

        Returns
        -------
        QuantizationError
            Over all outputs y.

        Raises
        ------
        TypeError, ValueError
            As for a call, or if the two layers' outputs differ in shape.
        """
        self._check_layer(layer)
        threads = None if layer.device == "cuda" else num_threads
        exact, _ = layer(x, state, lengths, reset, num_threads=threads)
        y, _ = self(x, state, lengths, reset, num_threads=num_threads)
        if y.shape != exact.shape:
            raise self._wrong_value(
                f"layer has outputs of shape {exact.shape}, expected {y.shape}, those of the layer "
                "that was quantized"
            )
        difference = y.astype(np.float64) - exact
        rms, size = _root_mean_square(difference), _root_mean_square(exact)
        largest = float(np.abs(difference).max(initial=0.0))
        return QuantizationError(largest, rms, rms / size if size else 0.0)

    # Copies and pickles: the compiled half and the packed weights are made anew.

    def __getstate__(self) -> dict[str, Any]:
        state = {k: v for k, v in self.__dict__.items() if k not in ("_core", "_packed", "_layout")}
        state["_arrays"] = dict(self._arrays)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._take(dict(state["_arrays"]))
