"""What goes on around a call: tracers, transforms, autocast."""

from __future__ import annotations

from types import FunctionType
from typing import TypeVar

import torch
from torch.autograd import forward_ad


_Function = TypeVar("_Function", bound=FunctionType)


def runs_as_it_is(function: _Function) -> _Function:
    """Keep Dynamo from compiling a function, and those it calls, each by itself.

    It would where the graph of the caller is broken at the call, as it is at ``torch.nn.LSTM`` and
    its subclasses by default. Where it is not, the function becomes part of that graph.
    """
    frames = torch._C._dynamo.eval_frame
    skip = frames._FrameAction.SKIP
    frames.set_code_exec_strategy(function.__code__, frames._FrameExecStrategy(skip, skip))
    return function


def is_transformed() -> bool:
    """Tell whether a transform of torch.func or a batch of gradients is under way."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def _needs_stock() -> bool:
    """Tell whether what is under way knows PyTorch's functions alone."""
    return (
        torch._C._get_tracing_state() is not None
        or is_transformed()
        or forward_ad._current_level >= 0
    )


def is_eager() -> bool:
    """Tell whether nobody but autograd watches what is called."""
    return not (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
        or _needs_stock()
    )


def takes_operators() -> bool:
    """Tell whether who watches, as `is_eager` found, takes any operator."""
    if torch.compiler.is_compiling():
        return not torch.onnx.is_in_onnx_export()
    return not _needs_stock()


def compute_type() -> str | None:
    """Name the precision that autocast asks for; None if that is for PyTorch alone."""
    if not torch.is_autocast_enabled("cpu"):
        return "float32"
    return "bfloat16" if torch.get_autocast_dtype("cpu") is torch.bfloat16 else None
