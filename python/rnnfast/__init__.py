"""Fast recurrent networks for NumPy: RNN, LSTM and GRU, forward and BPTT, in C++."""

from __future__ import annotations

from typing import Any

from . import _core
from ._core import Tape, get_num_threads, set_num_threads
from .layers import GRU, LSTM, RNN, Gradients
from .plan import LayerPlan, Plan, explain
from .quantized import QuantizationError, QuantizedLayer
from .stream import Stream

__version__ = "0.1.0"

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Gradients",
    "LayerPlan",
    "Plan",
    "QuantizationError",
    "QuantizedLayer",
    "Stream",
    "Tape",
    "__version__",
    "explain",
    "get_num_threads",
    "info",
    "set_num_threads",
]


def info() -> dict[str, Any]:
    """Tell what serves this process.

    Returns
    -------
    dict
        ``version``, ``isa`` (instruction set in use), ``isas`` (those this machine can run, best
        last), ``num_threads``, ``cpu`` and ``compiler``.
    """
    return {
        "version": __version__,
        "isa": _core.isa(),
        "isas": _core.isas(),
        "num_threads": _core.get_num_threads(),
        "cpu": _core.cpu(),
        "compiler": _core.compiler(),
    }
