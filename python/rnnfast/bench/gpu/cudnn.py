"""cuDNN's recurrent layers, called past PyTorch, which chooses among their algorithms by itself.

Names and numbers are those of ``cudnn_adv.h`` and ``cudnn_graph.h`` of cuDNN 9.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterator, Mapping
from ctypes import byref, c_char_p, c_float, c_int, c_size_t, c_ulonglong, c_void_p
from functools import cache
from typing import Any

import torch

from rnnfast.bench.gpu.precision import Precision
from rnnfast.bench.grid import GATES, Case

LIBRARY = "libcudnn.so.9"

ALGORITHMS = ("STANDARD", "PERSIST_STATIC", "PERSIST_DYNAMIC", "PERSIST_STATIC_SMALL_H")
"""In the order of their numbers."""

_CELLS = {"basic": 1, "lstm": 2, "gru": 3}
_TYPES = {torch.float32: 0, torch.float16: 2, torch.bfloat16: 9}
_FLOAT = _TYPES[torch.float32]
_MATHS = {"float32": 3, "tf32": 0, "bfloat16": 1, "float16": 1}  # FMA, DEFAULT, TENSOR_OP
_DOUBLE_BIAS = 2
_UNIDIRECTIONAL = _LINEAR_INPUT = 0
_SEQ_MAJOR_PACKED, _PADDED_IO_DISABLED = 1, 0
_INFERENCE, _TRAINING = 0, 1
_ADD_GRADIENT = 0


class CudnnError(RuntimeError):
    """A function of cuDNN failed; for some algorithms that is how they refuse a layer."""


class Library:
    """The functions of cuDNN, and a handle on a stream.

    Parameters
    ----------
    functions : object
        Has them as attributes, as a ``ctypes.CDLL`` does.
    stream : int
        Where they are to run.
    """

    def __init__(self, functions: Any, stream: int) -> None:
        self._functions = functions
        self.handle = self.make("").pointer
        self.call("cudnnSetStream", self.handle, c_void_p(stream))

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function.

        Raises
        ------
        CudnnError
            If it fails.
        """
        status = getattr(self._functions, name)(*arguments)
        if status:
            tell = self._functions.cudnnGetErrorString
            tell.restype = c_char_p
            raise CudnnError(f"{name}: {tell(c_int(status)).decode()}")

    def make(self, kind: str) -> _Owned:
        """Create a descriptor of a kind, or with "" a handle."""
        return _Owned(self, kind)


class _Owned:
    """What cuDNN created, destroyed along with this object."""

    def __init__(self, library: Library, kind: str) -> None:
        self.pointer = c_void_p()
        library.call(f"cudnnCreate{kind}", byref(self.pointer))
        if kind:  # a handle lives as long as the process
            weakref.finalize(self, library.call, f"cudnnDestroy{kind}", self.pointer).atexit = False


@cache
def load() -> Library:
    """Find the library that PyTorch has loaded.

    Raises
    ------
    CudnnError
        If there is none.
    """
    try:
        functions = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise CudnnError(str(error)) from None
    return Library(functions, torch.cuda.current_stream().cuda_stream)


def _address(tensor: torch.Tensor | None) -> c_void_p | None:
    return None if tensor is None else c_void_p(tensor.data_ptr())


class Layer:
    """A layer of one direction and its memory, which all calls share.

    Parameters
    ----------
    library : Library
        cuDNN.
    case : Case
        The cell, the pass and the sizes.
    algorithm : str
        One of `ALGORITHMS`.
    precision : Precision
        Of tensors and products.
    weights : mapping of name to tensor
        Under the names of `rnnfast.bench.problem`, on the device.

    Raises
    ------
    CudnnError
        If the algorithm is not for such a layer. Some tell no sooner than in `forward`.
    """

    def __init__(
        self,
        library: Library,
        case: Case,
        algorithm: str,
        precision: Precision,
        weights: Mapping[str, torch.Tensor],
    ) -> None:
        self._library, self._case, self._precision = library, case, precision
        self.trains = case.work == "train"
        self._mode = _TRAINING if self.trains else _INFERENCE
        self._empty = weights["weight_ih"].new_empty
        self._describe(algorithm)
        self._weights = self._new_weights()
        for name, place in self._places(self._weights):
            place.copy_(weights[name].to(precision.dtype).reshape(-1))
        self._gradients = self._new_weights() if self.trains else None
        shape = (case.seq_length, case.batch, case.hidden_size)
        self._y = self._empty(shape, dtype=precision.dtype)
        self._h = self._empty(shape[1:], dtype=precision.dtype)
        self._c = torch.empty_like(self._h) if case.cell == "lstm" else None
        self._dx = self._empty((*shape[:2], case.input_size), dtype=precision.dtype)
        self._work, self._reserve = self._new_rooms()
        self._x_place, self._dy_place = c_void_p(), c_void_p()  # of the present call
        self._forward = self._forward_arguments()
        self._backward = self._backward_arguments() if self.trains else []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the outputs, and the last state beside them."""
        self._x_place.value = x.data_ptr()
        self._call("cudnnRNNForward", *self._forward)
        return self._y

    def backward(self, x: torch.Tensor, dy: torch.Tensor) -> torch.Tensor:
        """Compute the gradient of x, and those of the weights beside it."""
        assert self._gradients is not None
        self._x_place.value, self._dy_place.value = x.data_ptr(), dy.data_ptr()
        of_data, of_weights = self._backward
        self._call("cudnnRNNBackwardData_v8", *of_data)
        self._gradients.zero_()  # they are added to
        self._call("cudnnRNNBackwardWeights_v8", *of_weights)
        return self._dx

    def gradients(self) -> dict[str, torch.Tensor]:
        """Tell the gradients of the weights, by name, after `backward`."""
        assert self._gradients is not None
        case = self._case
        rows = GATES[case.cell] * case.hidden_size
        found = {name: place.view(rows, -1) for name, place in self._places(self._gradients)}
        return {name: d.squeeze(1) if name.startswith("bias") else d for name, d in found.items()}

    def _forward_arguments(self) -> list[Any]:
        """List what does not change from call to call."""
        state = self._state.pointer
        return [
            *(c_int(self._mode), None),  # no lengths: they are all the same
            *(self._x.pointer, self._x_place, self._outputs.pointer, _address(self._y)),
            *(state, None, _address(self._h), state, None, _address(self._c)),
            *(*self._sized(self._weights), *self._rooms()),
        ]

    def _backward_arguments(self) -> list[list[Any]]:
        """List those of the two functions."""
        assert self._gradients is not None
        state, y = self._state.pointer, (self._outputs.pointer, _address(self._y))
        of_data = [
            *(None, *y, self._dy_place, self._x.pointer, _address(self._dx)),
            *(state, None, None, None, state, None, None, None),
            *(*self._sized(self._weights), *self._rooms()),
        ]
        of_weights = [
            *(c_int(_ADD_GRADIENT), None),
            *(self._x.pointer, self._x_place, state, None, *y),
            *(*self._sized(self._gradients), *self._rooms()),
        ]
        return [of_data, of_weights]

    def _call(self, name: str, *arguments: Any) -> None:
        self._library.call(name, self._library.handle, self._rnn.pointer, *arguments)

    def _describe(self, algorithm: str) -> None:
        """Make the descriptors of the layer, its inputs, outputs and state."""
        case, library, kind = self._case, self._library, c_int(_TYPES[self._precision.dtype])
        self._dropout = library.make("DropoutDescriptor")
        nothing = (c_float(0), None, c_size_t(0), c_ulonglong(0))
        library.call("cudnnSetDropoutDescriptor", self._dropout.pointer, library.handle, *nothing)
        self._rnn = library.make("RNNDescriptor")
        library.call(
            "cudnnSetRNNDescriptor_v8",
            self._rnn.pointer,
            *(c_int(ALGORITHMS.index(algorithm)), c_int(_CELLS[case.cell]), c_int(_DOUBLE_BIAS)),
            *(c_int(_UNIDIRECTIONAL), c_int(_LINEAR_INPUT)),
            *(kind, c_int(_FLOAT), c_int(_MATHS[self._precision.name])),
            *(c_int(case.input_size), c_int(case.hidden_size), c_int(case.hidden_size)),
            *(c_int(1), self._dropout.pointer, c_int(_PADDED_IO_DISABLED)),
        )
        if algorithm == "PERSIST_DYNAMIC":
            self._call("cudnnBuildRNNDynamic", c_int(case.batch))
        self._x, self._outputs = map(self._sequences, (case.input_size, case.hidden_size))
        self._state = library.make("TensorDescriptor")
        sizes = (c_int * 3)(1, case.batch, case.hidden_size)
        strides = (c_int * 3)(case.batch * case.hidden_size, case.hidden_size, 1)
        library.call(
            "cudnnSetTensorNdDescriptor", self._state.pointer, kind, c_int(3), sizes, strides
        )

    def _sequences(self, width: int) -> _Owned:
        """Describe sequences of all the same length."""
        case = self._case
        made = self._library.make("RNNDataDescriptor")
        self._library.call(
            "cudnnSetRNNDataDescriptor",
            made.pointer,
            c_int(_TYPES[self._precision.dtype]),
            c_int(_SEQ_MAJOR_PACKED),  # as they lie where no sequence is shorter
            *(c_int(case.seq_length), c_int(case.batch), c_int(width)),
            (c_int * case.batch)(*[case.seq_length] * case.batch),
            None,  # what to pad outputs with
        )
        return made

    def _new_weights(self) -> torch.Tensor:
        size = c_size_t()
        self._call("cudnnGetRNNWeightSpaceSize", byref(size))
        count = size.value // self._precision.dtype.itemsize
        return self._empty(count, dtype=self._precision.dtype).zero_()  # gaps too

    def _new_rooms(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Allocate what a call works in, and what forward keeps for backward."""
        work, reserve = c_size_t(), c_size_t()
        self._call(
            "cudnnGetRNNTempSpaceSizes",
            c_int(self._mode),
            *(self._x.pointer, byref(work), byref(reserve)),
        )
        rooms = [self._empty(size.value, dtype=torch.uint8) for size in (work, reserve)]
        return rooms[0], rooms[1]

    def _rooms(self) -> tuple[Any, ...]:
        return (*self._sized(self._work), *self._sized(self._reserve))

    @staticmethod
    def _sized(tensor: torch.Tensor) -> tuple[c_size_t, c_void_p | None]:
        """Give the size in bytes and the address."""
        return c_size_t(tensor.nbytes), _address(tensor if tensor.numel() else None)

    def _places(self, space: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        """Tell where each weight is in a space: the rows of its gates, which lie together."""
        case, gates = self._case, GATES[self._case.cell]
        widths = {"ih": case.input_size, "hh": case.hidden_size}
        for first, (name, width) in zip((0, gates), widths.items(), strict=True):
            starts = [self._addresses(space, first + gate) for gate in range(gates)]
            for part, size in enumerate((case.hidden_size * width, case.hidden_size)):
                offsets = [(start[part] - space.data_ptr()) // space.itemsize for start in starts]
                if offsets != [offsets[0] + gate * size for gate in range(gates)]:
                    raise CudnnError(f"gates do not lie one after the other, but at {offsets}")
                kind = "bias" if part else "weight"
                yield f"{kind}_{name}", space[offsets[0] : offsets[0] + gates * size]

    def _addresses(self, space: torch.Tensor, number: int) -> tuple[int, int]:
        """Tell the addresses of the matrix of a gate and of its bias."""
        matrix, bias, shape = c_void_p(), c_void_p(), self._library.make("TensorDescriptor")
        self._call(
            "cudnnGetRNNWeightParams",
            c_int(0),
            *self._sized(space),
            c_int(number),
            *(shape.pointer, byref(matrix), shape.pointer, byref(bias)),
        )
        return matrix.value or 0, bias.value or 0
