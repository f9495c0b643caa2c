"""Calls of the GPU backend's layer with tensors, apart from autograd; as those of `engine`.

The layer takes float32 and bfloat16 and gives outputs of its input's type, states and gradients of
float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from . import gpu
from .arrays import State, Tensor
from .engine import Call, Gradients, Inputs
from .tapes import Recording
from .weights import gather


def _state_arrays(call: Call, parts: Sequence[Tensor | None]) -> Any:
    """View a state as what the layer takes; None, as a part too, are zeros."""
    if not parts:
        return None
    arrays = [None if part is None else _shown(call, part) for part in parts]
    return tuple(arrays) if call.plan.pair else arrays[0]


def _shown(call: Call, tensor: Tensor) -> gpu.Shown:
    """View a tensor, which lacks an axis if it is a cell's, as what the layer takes."""
    return gpu.Shown(tensor[None] if call.plan.spec.cell else tensor)


def _state_tensors(call: Call, state: Any, dtype: torch.dtype) -> State:
    """Make a state of what the layer returns."""
    parts = state if call.plan.pair else (state,)
    return tuple(_as_tensor(call, array, dtype) for array in parts)


def _as_tensor(call: Call, array: Any, dtype: torch.dtype) -> Tensor:
    """Make a tensor of a result, without the axis that cells do not have."""
    tensor = gpu.as_tensor(array)
    return (tensor.squeeze_(0) if call.plan.spec.cell else tensor).to(dtype)


def run(call: Call, inputs: Inputs, record: bool) -> tuple[Tensor, State, Recording | None]:
    """Run forward: the output, the state and, if wanted, what backward needs."""
    core: Any = call.plan.core
    dtype = torch.bfloat16 if call.plan.spec.compute == "bfloat16" else torch.float32
    y, after, tape = core.forward(
        gpu.Shown(gather(inputs.weights)),
        _shown(call, inputs.x.to(dtype)),
        _state_arrays(call, inputs.state),
        None,
        None,
        record or call.plan.spec.dropout > 0,  # outputs are dropped in recorded calls alone
        call.seed,
        None,
        None,
    )
    recording = Recording(core, tape, inputs.x.data_ptr(), None) if record else None
    return _as_tensor(call, y, dtype), _state_tensors(call, after, dtype), recording


def run_back(
    call: Call,
    inputs: Inputs,
    recording: Recording | None,
    y: Tensor | None,  # noqa: ARG001  # the tape does not read it
    cotangents: tuple[Tensor | None, ...],
    input_gradient: bool,
) -> Gradients:
    """Run backward; the forward pass is run again where the recording is of no use."""
    if recording is None or not recording.fits(inputs.x, None):
        recording = run(call, inputs, record=True)[2]
        assert recording is not None
    dy, *dstate = cotangents
    core: Any = recording.core
    dx, dinitial, dweights = core.backward(
        gpu.Shown(gather(inputs.weights)),
        recording.take(),
        None if dy is None else _shown(call, dy),
        _state_arrays(call, dstate) if any(part is not None for part in dstate) else None,
        None,
        input_gradient,
        None,
    )
    return Gradients(
        None if dx is None else _as_tensor(call, dx, inputs.x.dtype),
        _state_tensors(call, dinitial, inputs.state[0].dtype) if inputs.state else (),
        gpu.as_tensor(dweights).to(inputs.weights[0].dtype),
    )
