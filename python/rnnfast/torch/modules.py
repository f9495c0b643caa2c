"""RNN, LSTM and GRU: PyTorch's modules, computed by rnnfast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence

from . import gpu
from .base import Bridged, parts_of
from .packing import Packing
from .spec import Options
from .surroundings import is_eager, runs_as_it_is


class _Layer(Bridged, torch.nn.RNNBase):
    """What calls PyTorch's own forward wherever rnnfast does not compute."""

    def _names(self) -> Sequence[str]:
        return self._flat_weights_names

    def _options(self, packed: bool) -> Options:
        dropped = self.training and self.num_layers > 1
        return (
            self.mode,
            self.input_size,
            self.hidden_size,
            self.num_layers,
            self.bias,
            self.batch_first and not packed,
            self.dropout if dropped else 0.0,
            self.bidirectional,
            self.proj_size,
            False,
        )

    def _autocast_type(self, given: torch.dtype, packed: bool) -> torch.dtype:
        fused = self.mode == "LSTM" and not packed and not self.proj_size
        return torch.bfloat16 if fused or self.mode.startswith("RNN") else given

    def flatten_parameters(self) -> None:
        """Move the parameters into one buffer, where they are computed with fastest."""
        super().flatten_parameters()
        if len(self._flat_weights) == len(self._flat_weights_names):  # all of them are there
            self._gather_weights()

    @runs_as_it_is
    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002
        """Compute the output and the last state; see ``torch.nn``."""
        if isinstance(input, PackedSequence):
            result = self._forward_packed(input, hx)
            return super().forward(input, hx) if result is None else result
        state = parts_of(self.mode, hx)
        computed = None if state is None else self._recur(input, state)
        if computed is None:
            return super().forward(input, hx)
        y, after = computed
        return y, after if len(after) == 2 else after[0]

    def _forward_packed(self, packed: PackedSequence, hx: Any) -> Any:
        data, sizes, sorted_indices, unsorted_indices = packed
        here = (data.is_cpu or (gpu.is_used(data) and gpu.precision(data))) and is_eager()
        packing = Packing.of(sizes, len(data)) if here else None
        if packing is None or parts_of(self.mode, hx) is None:
            return None
        given = None if hx is None else self.permute_hidden(hx, sorted_indices)
        result = self._recur(data, parts_of(self.mode, given) or (), packing)
        if result is None:
            return None
        y, after = result
        hn: Any = after if len(after) == 2 else after[0]
        packed_y = PackedSequence(y, sizes, sorted_indices, unsorted_indices)
        return packed_y, self.permute_hidden(hn, unsorted_indices)


class RNN(_Layer, torch.nn.RNN):  # noqa: D101
    __doc__ = torch.nn.RNN.__doc__


class LSTM(_Layer, torch.nn.LSTM):  # noqa: D101
    __doc__ = torch.nn.LSTM.__doc__


class GRU(_Layer, torch.nn.GRU):  # noqa: D101
    __doc__ = torch.nn.GRU.__doc__
