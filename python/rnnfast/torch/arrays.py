"""Tensors as arrays and arrays as tensors, over the same memory."""

from __future__ import annotations

from typing import Any

import torch

from rnnfast.flat import Array

Tensor = torch.Tensor
State = tuple[Tensor, ...]  # (h,), or (h, c) of an LSTM; () for zeros
PLAIN = (torch.Tensor, torch.nn.Parameter)
_STRIDED = torch.strided


def is_plain(tensor: Any, dtype: torch.dtype) -> bool:
    """Tell whether a tensor's memory may be read as an array: no subclass, on the CPU, strided."""
    return (
        type(tensor) in PLAIN
        and tensor.dtype is dtype
        and tensor.is_cpu
        and tensor.layout is _STRIDED
        and not tensor.is_neg()
    )


def as_array(tensor: Tensor) -> Array:
    """View a tensor that is plain as an array."""
    return tensor.detach().numpy() if tensor.requires_grad else tensor.numpy()
