"""Weights of a module in one buffer, which is what the compiled layer reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch

from ..flat import Array
from .arrays import Tensor, as_array

_same_memory = torch.Tensor.is_set_to  # one storage, offset, shape and strides


@dataclass(frozen=True, eq=False, slots=True)
class Flat:
    """A buffer, and the views of it that the weights are expected to be."""

    tensor: Tensor
    views: tuple[Tensor, ...]
    array: Array
    pointer: int

    def holds(self, weights: Sequence[Tensor]) -> bool:
        """Tell whether the weights are the views still; a storage may also have moved."""
        return self.tensor.data_ptr() == self.pointer and all(
            map(_same_memory, weights, self.views)
        )


def _ends(weights: Sequence[Tensor]) -> list[int]:
    return list(accumulate(weight.numel() for weight in weights))


def cut(buffer: Array, like: Sequence[Tensor]) -> list[Tensor]:
    """Cut a buffer into tensors shaped as the given ones."""
    ends = _ends(like)
    return [
        torch.from_numpy(buffer[start:end].reshape(tensor.shape))
        for tensor, start, end in zip(like, [0, *ends], ends, strict=False)
    ]


def _flat(buffer: Tensor, weights: Sequence[Tensor]) -> Flat:
    parts = buffer.split([weight.numel() for weight in weights])
    views = tuple(part.view(w.shape) for part, w in zip(parts, weights, strict=True))
    return Flat(buffer, views, buffer.numpy(), buffer.data_ptr())


def find_flat(weights: Sequence[Tensor]) -> Flat | None:
    """Find the buffer that the weights fill one after the other; None where they do not."""
    first, size = weights[0].detach(), weights[0].element_size()
    ends = _ends(weights)
    in_order = all(
        weight.is_contiguous() and weight.data_ptr() == first.data_ptr() + start * size
        for weight, start in zip(weights, [0, *ends], strict=False)
    )
    room = first.untyped_storage().nbytes() - first.storage_offset() * size
    if not in_order or room < ends[-1] * size:
        return None
    return _flat(first.as_strided((ends[-1],), (1,)), weights)


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
