"""RNNCell, LSTMCell and GRUCell: PyTorch's modules, computed by rnnfast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .arrays import Tensor
from .base import Bridged, Result, as_given, parts_of
from .spec import Spec
from .surroundings import runs_as_it_is


class _Cell(Bridged, torch.nn.modules.rnn.RNNCellBase):
    """A layer that runs for one step."""

    _mode: str

    def _names(self) -> Sequence[str]:
        weights = ("weight_ih", "weight_hh")
        return (*weights, "bias_ih", "bias_hh") if self.bias else weights

    def _spec(self, packed: bool) -> Spec:
        sizes = (self.input_size, self.hidden_size, 1)
        return Spec(self._mode, *sizes, self.bias, False, 0.0, False, 0, "float32")

    def _autocast_type(self, given: torch.dtype, packed: bool) -> torch.dtype:
        return torch.bfloat16 if self._mode.startswith("RNN") else given

    @runs_as_it_is
    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002
        """Compute the next state; see ``torch.nn``."""
        state = parts_of(self._mode, hx)
        result = None if state is None else self._step(input, state)
        if result is None:
            return super().forward(input, hx)
        return as_given(tuple(part.squeeze(0) for part in result[1]))

    def _step(self, x: Any, state: tuple[Tensor, ...]) -> Result | None:
        if not isinstance(x, Tensor):
            return None
        return self._recur(x.unsqueeze(0), tuple(part.unsqueeze(0) for part in state))


class RNNCell(_Cell, torch.nn.RNNCell):
    __doc__ = torch.nn.RNNCell.__doc__

    @property
    def _mode(self) -> str:  # type: ignore[override]
        return "RNN_TANH" if self.nonlinearity == "tanh" else "RNN_RELU"


class LSTMCell(_Cell, torch.nn.LSTMCell):
    __doc__ = torch.nn.LSTMCell.__doc__
    _mode = "LSTM"


class GRUCell(_Cell, torch.nn.GRUCell):
    __doc__ = torch.nn.GRUCell.__doc__
    _mode = "GRU"
