"""What goes on around a call: tracers, transforms, autocast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.autograd import forward_ad

_dispatch_modes = torch._C._len_torch_dispatch_stack
_traces = torch._C._get_tracing_state  # of torch.jit.trace
_transforms = torch._C._functorch.peek_interpreter_stack
unwrap_if_dead = torch._C._functorch.unwrap_if_dead  # of a transform that is over
_Function = TypeVar("_Function", bound=Callable[..., Any])


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
    return _transforms() is not None


def is_eager() -> bool:
    """Tell whether nobody but autograd watches what is called."""
    return not (
        torch.compiler.is_compiling()
        or _dispatch_modes() > 0
        or _traces() is not None
        or _transforms() is not None
        or forward_ad._current_level >= 0
    )


def takes_operators() -> bool:
    """Tell whether who watches, as `is_eager` found, takes any operator."""
    if torch.compiler.is_compiling():
        return not torch.onnx.is_in_onnx_export()
    return _traces() is None and _transforms() is None and forward_ad._current_level < 0


def compute_type() -> str | None:
    """Name the precision that autocast asks for; None if that is for PyTorch alone."""
    if not torch.is_autocast_enabled("cpu"):
        return "float32"
    return "bfloat16" if torch.get_autocast_dtype("cpu") is torch.bfloat16 else None
