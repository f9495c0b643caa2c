"""Tensors on a GPU: whether rnnfast computes them, and their memory and streams for its backend."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from rnnfast import device
from rnnfast.flat import Array

from .arrays import PLAIN, Tensor
from .surroundings import unwrap_if_dead

_FIRST = torch.device("cuda", 0)
_TYPES = {torch.float32: "<f4", torch.bfloat16: "<V2"}  # as ml_dtypes has the latter
DTYPES = tuple(_TYPES)
_DEFAULT_STREAM = 1  # as arrays call it


@dataclass
class _Choice:
    rnnfast: bool = False


_choice = _Choice()


def use_cuda(enabled: bool = True) -> None:
    """Choose who computes modules on the first GPU: rnnfast's GPU backend, or PyTorch by cuDNN.

    PyTorch does unless told otherwise: the backend has not been measured yet. It takes tensors
    outside transforms and tracers: float32, with TF32 where ``torch.backends.cudnn`` allows it,
    and bfloat16, also as autocast's type; all else is PyTorch's.

    Parameters
    ----------
    enabled : bool
        Whether rnnfast does.

    Raises
    ------
    RuntimeError
        If this build has no GPU backend, or there is no GPU that it can use.
    """
    if enabled:
        device.cuda()
    _choice.rnnfast = bool(enabled)


def is_there(tensor: Any) -> bool:
    """Tell whether something is a tensor on the GPU that the backend uses."""
    return isinstance(tensor, Tensor) and tensor.device == _FIRST


def is_used(x: Any) -> bool:
    """Tell whether rnnfast is to compute a call with that input on the GPU."""
    return _choice.rnnfast and is_there(x)


def is_plain(tensor: Any, dtypes: Container[torch.dtype]) -> bool:
    """Tell whether a tensor has one of the types and may be read as an array on the GPU."""
    return (
        type(tensor) in PLAIN
        and is_there(tensor)
        and tensor.dtype in dtypes
        and tensor.layout is torch.strided
        and not tensor.is_neg()
    )


def precision(x: Tensor) -> tuple[str, tuple[torch.dtype, ...]] | None:
    """Name the precision of products and the types that all tensors of a call may have.

    None if that is for PyTorch alone.
    """
    if torch.is_autocast_enabled("cuda"):
        wanted = torch.get_autocast_dtype("cuda")
        return ("bfloat16", DTYPES) if wanted is torch.bfloat16 else None
    if x.dtype is torch.bfloat16:
        return "bfloat16", (x.dtype,)
    return ("tf32" if _allows_tf32() else "float32"), (torch.float32,)


def _allows_tf32() -> bool:
    rnn = getattr(torch.backends.cudnn, "rnn", None)  # since PyTorch 2.9
    return torch.backends.cudnn.allow_tf32 if rnn is None else rnn.fp32_precision == "tf32"


def current_stream() -> int:
    """Return the stream that PyTorch's operators run on."""
    # torch.cuda.current_stream makes an object each time, and this is asked several times a call.
    return torch._C._cuda_getCurrentRawStream(0) or _DEFAULT_STREAM


def bring(array: Array) -> Tensor:
    """Copy an array to the GPU without waiting for what is under way there."""
    return torch.from_numpy(array).pin_memory().to(_FIRST, non_blocking=True)


def is_captured() -> bool:
    """Tell whether a CUDA graph records what is done."""
    with torch.cuda.device(_FIRST):
        return torch.cuda.is_current_stream_capturing()


class Shown:
    """A tensor as an array on the current stream, which tensors do not tell themselves."""

    __slots__ = ("__cuda_array_interface__", "tensor")

    def __init__(self, tensor: Tensor) -> None:
        tensor = unwrap_if_dead(tensor)
        self.tensor = tensor
        size = tensor.element_size()
        self.__cuda_array_interface__ = {
            "shape": tuple(tensor.shape),
            "strides": tuple(step * size for step in tensor.stride()),
            "typestr": _TYPES[tensor.dtype],
            "data": (tensor.data_ptr(), False),
            "version": 3,
            "stream": current_stream(),
        }


_blocks: dict[int, torch.UntypedStorage] = {}  # memory of the backend's, by address


def _new_block(size: int) -> torch.UntypedStorage:
    return torch.UntypedStorage(size, device=_FIRST)  # type: ignore[no-untyped-call]


def _take(size: int, stream: int) -> int:
    if stream == current_stream():
        block = _new_block(size)
    else:
        other = torch.cuda.ExternalStream(stream, _FIRST)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(other):
            block = _new_block(size)
    address = block.data_ptr()
    _blocks[address] = block
    return address


# Blocks may be given back when this module is gone.
def _give(address: int, blocks: dict[int, torch.UntypedStorage] = _blocks) -> None:
    del blocks[address]


def as_tensor(array: Any) -> Tensor:
    """Make a tensor of an array of the backend's, whose memory it takes over.

    It is no view, so that it may be changed in place where a function of autograd returns it.
    """
    dtype, shape, address = getattr(torch, array.dtype), array.shape, array.release()
    tensor = torch.empty(0, dtype=dtype, device=_FIRST)
    if address:
        return tensor.set_(_blocks.pop(address), 0, shape)  # type: ignore[call-overload, no-any-return]
    return tensor.reshape(shape)


@cache
def _memory() -> Any:
    return device.cuda().Memory(_take, _give)


def make_core(**options: Any) -> Any:
    """Make a layer of the backend that takes its memory from PyTorch."""
    core = device.cuda().Layer(**options)
    core.use_memory(_memory())
    return core
