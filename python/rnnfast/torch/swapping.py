"""A model's recurrent modules turned into rnnfast's, and back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from . import gpu
from .base import Bridged, as_stock
from .cells import GRUCell, LSTMCell, RNNCell
from .modules import GRU, LSTM, RNN
from .spec import DTYPES

_OURS: dict[type[torch.nn.Module], type[Bridged]] = {
    torch.nn.RNN: RNN,
    torch.nn.LSTM: LSTM,
    torch.nn.GRU: GRU,
    torch.nn.RNNCell: RNNCell,
    torch.nn.LSTMCell: LSTMCell,
    torch.nn.GRUCell: GRUCell,
}
_RECURRENT = (torch.nn.RNNBase, torch.nn.modules.rnn.RNNCellBase)


@dataclass(frozen=True)
class Swaps:
    """What `accelerate` or `restore` did.

    Attributes
    ----------
    swapped : list of str
        Names of the modules that were turned, "" for the model itself.
    left : dict of str to str
        Names of the recurrent modules that were left as they are, and why.
    """

    swapped: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        names = [name or "the model itself" for name in self.swapped]
        lines = [f"swapped: {', '.join(names) or 'nothing'}"]
        lines += [f"left {name or 'the model itself'}: {why}" for name, why in self.left.items()]
        return "\n".join(lines)


def accelerate(model: torch.nn.Module) -> Swaps:
    """Let rnnfast compute the recurrent modules of a model.

    Every ``torch.nn`` RNN, LSTM, GRU, RNNCell, LSTMCell and GRUCell becomes that of this package in
    place: it stays the same object with the same parameters, hooks and attributes, wherever else it
    is used. Optimizers and ``state_dict`` are not affected. The parameters of each are moved into
    one buffer.

    Parameters
    ----------
    model : torch.nn.Module
        A module, itself recurrent or with such submodules.

    Returns
    -------
    Swaps
        What was swapped, and what was not and why.

    Raises
    ------
    TypeError
        If `model` is no module.
    """
    swaps = Swaps()
    for name, module in _recurrent_modules("accelerate", model):
        if isinstance(module, Bridged):
            continue
        why = _why_not(module)
        if why:
            swaps.left[name] = why
        else:
            module.__class__ = _OURS[type(module)]
            assert isinstance(module, Bridged)
            module._gather_weights()
            swaps.swapped.append(name)
    return swaps


def restore(model: torch.nn.Module) -> Swaps:
    """Undo `accelerate`: PyTorch computes the modules again.

    Parameters
    ----------
    model : torch.nn.Module
        A module, itself one of this package's or with such submodules.

    Returns
    -------
    Swaps
        What was turned back, and what was not and why.

    Raises
    ------
    TypeError
        If `model` is no module.
    """
    swaps = Swaps()
    for name, module in _recurrent_modules("restore", model):
        if type(module) in _OURS.values():
            as_stock(module)
            swaps.swapped.append(name)
        elif isinstance(module, Bridged):
            swaps.left[name] = _subclass(module)
    return swaps


def _recurrent_modules(
    caller: str, model: torch.nn.Module
) -> Iterator[tuple[str, torch.nn.Module]]:
    if not isinstance(model, torch.nn.Module):
        kind = type(model).__name__
        raise TypeError(f"{caller}: model is a {kind}, expected a torch.nn.Module")
    for name, module in model.named_modules():
        if isinstance(module, _RECURRENT):
            yield name, module


def _subclass(module: torch.nn.Module) -> str:
    if torch.nn.utils.parametrize.is_parametrized(module):
        return "its weights are parametrized: accelerate first, then parametrize"
    kind = type(module)
    return f"it is a {kind.__module__}.{kind.__qualname__}, a class of its own"


def _why_not(module: torch.nn.Module) -> str:
    """Tell why a recurrent module has to stay as it is, "" if it need not."""
    if type(module) not in _OURS:
        return _subclass(module)
    if "forward" in module.__dict__:
        return "its forward was replaced"
    for name, weight in module.named_parameters(recurse=False):
        used = gpu.is_used(weight)
        if weight.device.type != "cpu" and not used:
            return f"{name} is on {weight.device}, expected the CPU (a GPU: use_cuda())"
        if weight.dtype not in (dtypes := gpu.DTYPES if used else DTYPES):
            return f"{name} is {weight.dtype}, expected {' or '.join(map(str, dtypes))}"
    return ""
