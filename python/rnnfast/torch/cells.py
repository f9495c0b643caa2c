"""RNNCell, LSTMCell and GRUCell: PyTorch's modules, computed by rnnfast."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch

from .base import Bridged, parts_of
from .spec import CELLS, Options
from .surroundings import runs_as_it_is


class _Cell(Bridged, torch.nn.modules.rnn.RNNCellBase):
    """What calls PyTorch's own forward wherever rnnfast does not compute."""

    @abstractmethod
    def _mode(self) -> str:
        """Name the kind of cell, as `Spec.mode`."""

    def _names(self) -> Sequence[str]:
        weights = ("weight_ih", "weight_hh")
        return (*weights, "bias_ih", "bias_hh") if self.bias else weights

    def _options(self, packed: bool) -> Options:
        sizes = (self.input_size, self.hidden_size)
        return (self._mode(), *sizes, 1, bool(self.bias), False, 0.0, False, 0, True)

    def _autocast_type(self, given: torch.dtype, packed: bool) -> torch.dtype:
        return torch.bfloat16 if isinstance(self, RNNCell) else given

    @runs_as_it_is
    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002
        """Compute the next state; see ``torch.nn``."""
        mode = self._mode()
        state = parts_of(mode, hx) if mode in CELLS else None
        result = None if state is None else self._recur(input, state)
        if result is None:
            return super().forward(input, hx)
        h, after = result
        return (h, *after) if after else h


class RNNCell(_Cell, torch.nn.RNNCell):  # noqa: D101
    __doc__ = torch.nn.RNNCell.__doc__

    def _mode(self) -> str:
        return f"RNN_{self.nonlinearity.upper()}"


class LSTMCell(_Cell, torch.nn.LSTMCell):  # noqa: D101
    __doc__ = torch.nn.LSTMCell.__doc__

    def _mode(self) -> str:
        return "LSTM"


class GRUCell(_Cell, torch.nn.GRUCell):  # noqa: D101
    __doc__ = torch.nn.GRUCell.__doc__

    def _mode(self) -> str:
        return "GRU"
