"""Tensors on a GPU: whether rnnfast computes them, and their memory and streams for its backend."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from rnnfast import device

from .arrays import PLAIN, Tensor

_FIRST = torch.device("cuda", 0)
_DEFAULT_STREAM = 1  # as arrays call it


@dataclass
class _Choice:
    rnnfast: bool = False


_choice = _Choice()


def use_cuda(enabled: bool = True) -> None:
    """Choose who computes modules on the first GPU: rnnfast's GPU backend, or PyTorch by cuDNN.

    PyTorch does unless told otherwise: the backend has not been measured yet. It takes float32
    tensors that are not packed, outside autocast, transforms and tracers, and uses TF32 where
    ``torch.backends.cudnn.allow_tf32`` says so; all else is PyTorch's.

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


def is_plain(tensor: Any, dtype: torch.dtype) -> bool:
    """Tell whether a tensor's memory may be read as an array on the GPU."""
    return (
        type(tensor) in PLAIN
        and is_there(tensor)
        and tensor.dtype is dtype
        and tensor.layout is torch.strided
        and not tensor.is_neg()
    )


def compute_type() -> str | None:
    """Name the precision of products; None if that is for PyTorch alone."""
    if torch.is_autocast_enabled("cuda"):
        return None
    return "tf32" if torch.backends.cudnn.allow_tf32 else "float32"


def current_stream() -> int:
    """Return the stream that PyTorch's operators run on."""
    return torch.cuda.current_stream(_FIRST).cuda_stream or _DEFAULT_STREAM


class Shown:
    """A tensor as an array on the current stream, which tensors do not tell themselves."""

    __slots__ = ("__cuda_array_interface__", "tensor")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        size = tensor.element_size()
        self.__cuda_array_interface__ = {
            "shape": tuple(tensor.shape),
            "strides": tuple(step * size for step in tensor.stride()),
            "typestr": "<f4",
            "data": (tensor.data_ptr(), False),
            "version": 3,
            "stream": current_stream(),
        }


def as_tensor(array: Any) -> Tensor:
    """View an array of the backend's as a tensor."""
    tensor: Tensor = torch.utils.dlpack.from_dlpack(array)
    return tensor


def _take(size: int, stream: int) -> int:
    given = 0 if stream == _DEFAULT_STREAM else stream
    return int(torch.cuda.caching_allocator_alloc(size, _FIRST, given))


def _give(address: int) -> None:
    torch.cuda.caching_allocator_delete(address)  # type: ignore[no-untyped-call]


@cache
def _memory() -> Any:
    return device.cuda().Memory(_take, _give)


def make_core(**options: Any) -> Any:
    """Make a layer of the backend that takes its memory from PyTorch."""
    core = device.cuda().Layer(**options)
    core.use_memory(_memory())
    return core
