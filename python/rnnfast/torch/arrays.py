"""Tensors as arrays and arrays as tensors, over the same memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rnnfast.flat import Array

Tensor = torch.Tensor
State = tuple[Tensor, ...]  # (h,), or (h, c) of an LSTM; () for zeros
_PLAIN = (torch.Tensor, torch.nn.Parameter)
_STRIDED = torch.strided


def is_plain(tensor: Any, dtype: torch.dtype) -> bool:
    """Tell whether a tensor's memory may be read as an array: no subclass, on the CPU, strided."""
    return (
        type(tensor) in _PLAIN
        and tensor.dtype is dtype
        and tensor.is_cpu
        and tensor.layout is _STRIDED
        and not tensor.is_neg()
    )


def as_array(tensor: Tensor) -> Array:
    """View a tensor that is plain as an array."""
    return tensor.detach().numpy() if tensor.requires_grad else tensor.numpy()


class _Writable:
    """Memory of a read-only array, said to be writable."""

    __slots__ = ("__array_interface__", "owner")

    def __init__(self, owner: Array) -> None:
        interface = owner.__array_interface__
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface
        self.owner = owner


def as_tensor(array: Array) -> Tensor:
    """View an array as a tensor.

    Outputs of a recorded call are read-only, since the tape reads them. A tensor cannot be: who
    takes one of them must look at its version before the tape is used.
    """
    if not array.flags.writeable:
        array = np.asarray(_Writable(array))
    return torch.from_numpy(array)
