"""Weights of a module in one buffer, which is what the compiled layer reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch

from rnnfast import _core
from rnnfast.flat import Array

from .arrays import Tensor, as_array

_same_memory = torch.Tensor.is_set_to  # one storage, offset, shape and strides


@dataclass(frozen=True, eq=False, slots=True)
class Flat:
    """A buffer, and the views of it that the weights are expected to be."""

    tensor: Tensor
    views: tuple[Tensor, ...]
    array: Array
    pointer: int
    cuts: tuple[tuple[int, int, tuple[int, ...]], ...]  # each weight's begin, end and shape
    cache: _core.WeightCache = field(default_factory=_core.WeightCache)

    def holds(self, weights: Sequence[Tensor]) -> bool:
        """Tell whether the weights are the views still; a storage may also have moved."""
        return self.tensor.data_ptr() == self.pointer and all(
            map(_same_memory, weights, self.views)
        )


def cut(buffer: Array | Tensor, cuts: Sequence[tuple[int, int, tuple[int, ...]]]) -> list[Tensor]:
    """Cut an array or a tensor as long as the buffer into tensors."""
    if isinstance(buffer, Tensor):
        room = buffer.untyped_storage()  # of views, each change would count for all
        made: Any = buffer.new_empty
        return [made(0).set_(room, begin, shape) for begin, _, shape in cuts]
    return [torch.from_numpy(buffer[begin:end].reshape(shape)) for begin, end, shape in cuts]


def cuts_of(weights: Sequence[Tensor]) -> tuple[tuple[int, int, tuple[int, ...]], ...]:
    """Tell where each weight is in a buffer of all."""
    ends = list(accumulate(weight.numel() for weight in weights))
    shapes = [tuple(weight.shape) for weight in weights]
    return tuple(zip([0, *ends[:-1]], ends, shapes, strict=True))


def _flat(buffer: Tensor, weights: Sequence[Tensor]) -> Flat:
    cuts = cuts_of(weights)
    views = tuple(buffer[begin:end].view(shape) for begin, end, shape in cuts)
    return Flat(buffer, views, buffer.numpy(), buffer.data_ptr(), cuts)


def find_flat(weights: Sequence[Tensor]) -> Flat | None:
    """Find the buffer that the weights fill one after the other; None where they do not."""
    first, cuts = weights[0].detach(), cuts_of(weights)
    address, size, count = first.data_ptr(), first.element_size(), cuts[-1][1]
    in_order = all(
        weight.is_contiguous() and weight.data_ptr() == address + begin * size
        for weight, (begin, _, _) in zip(weights, cuts, strict=True)
    )
    room = first.untyped_storage().nbytes() - first.storage_offset() * size
    if not in_order or room < count * size:
        return None
    return _flat(first.as_strided((count,), (1,)), weights)


def _users(tensor: Tensor) -> int:
    """Count who holds the memory of a tensor: other tensors, arrays, this function itself."""
    storage = tensor.untyped_storage()
    return int(torch._C._storage_Use_Count(storage._cdata))


_ALONE = _users(torch.empty(1))


def _owns_its_storage(weight: Tensor) -> bool:
    """Tell whether nothing else would notice if the weight moved."""
    storage = weight.untyped_storage()
    whole = weight.is_contiguous() and storage.nbytes() == weight.nbytes
    shared = storage.is_shared()
    del storage  # it counts
    return whole and not shared and _users(weight) == _ALONE


def flatten(weights: Sequence[Tensor]) -> Flat | None:
    """Move weights into one buffer, as ``flatten_parameters`` does on a GPU; they stay themselves.

    None where one of them shares its memory with something that is not moved along.
    """
    if len(set(map(id, weights))) < len(weights) or not all(map(_owns_its_storage, weights)):
        return None
    with torch.inference_mode(False), torch.no_grad():
        flat = _flat(gather(weights), weights)
        for weight, view in zip(weights, flat.views, strict=True):
            weight.data = view
    return flat


def gather(weights: Sequence[Tensor]) -> Tensor:
    """Copy weights into a new buffer."""
    return torch.cat([weight.detach().reshape(-1) for weight in weights])


def parameters_of(weights: Sequence[Tensor], flat: Flat | None) -> Array:
    """View the weights as one array, copied only where they do not lie so."""
    if flat is None or not flat.holds(weights):
        flat = find_flat(weights)
    return as_array(gather(weights)) if flat is None else flat.array
