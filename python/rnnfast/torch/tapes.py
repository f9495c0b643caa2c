"""Tapes that are carried by tensors, as everything is that autograd keeps.

A tape is found by the address of a tensor of one element, and lives as long as that tensor. Where
there is none, since it was used before or the tensor is a copy, the forward pass is run again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch

from rnnfast import _core

from .arrays import Tensor


@dataclass(eq=False, slots=True)
class Recording:
    """A tape, and the memory that it reads beside the weights."""

    core: _core.Layer
    tape: _core.Tape | None  # None once it was used
    x: int  # address
    y: Tensor | None  # the output, if the tape reads what others have: apart from the graph
    version: int = 0

    def fits(self, x: Tensor, y: Tensor | None) -> bool:
        """Tell whether the tape can be used for an input, and for an output if one is given.

        It cannot after the output was changed in place, nor for copies of what it reads.
        """
        if self.tape is None or self.x != x.data_ptr():
            return False
        if self.y is None:
            return True
        same = y is None or y.data_ptr() == self.y.data_ptr()
        return same and self.y._version == self.version

    def take(self) -> _core.Tape:
        """Use the tape up."""
        tape, self.tape = self.tape, None
        assert tape is not None
        return tape


class _Owner(np.ndarray[Any, Any]):
    """The memory of a tensor that carries a recording."""

    recording: Recording


_owners: WeakValueDictionary[int, _Owner] = WeakValueDictionary()  # by the tensor's address


def carry(recording: Recording) -> Tensor:
    """Make the tensor that carries a recording."""
    owner = np.zeros(1, np.int64).view(_Owner)
    owner.recording = recording
    tensor = torch.from_numpy(owner)
    _owners[tensor.data_ptr()] = owner
    return tensor


def carried(tensor: Tensor) -> Recording | None:
    """Find the recording that a tensor carries."""
    owner = _owners.get(tensor.data_ptr()) if tensor.numel() else None
    return None if owner is None else owner.recording
