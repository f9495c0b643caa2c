"""Calls of the GPU backend's layer with tensors, apart from autograd; as those of `engine`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import gpu
from .arrays import State, Tensor
from .engine import Call, Gradients, Inputs
from .tapes import Recording
from .weights import gather


def _state_arrays(call: Call, parts: Sequence[Tensor | None]) -> Any:
    """View a state as what the layer takes; None, as a part too, are zeros."""
    if not parts:
        return None
    cell = call.plan.spec.cell
    arrays = [None if part is None else gpu.Shown(part[None] if cell else part) for part in parts]
    return tuple(arrays) if call.plan.pair else arrays[0]


def _state_tensors(call: Call, state: Any) -> State:
    """View what the layer returns as a state."""
    tensors = [gpu.as_tensor(array) for array in (state if call.plan.pair else (state,))]
    return tuple(_without_axis(call, tensor) for tensor in tensors)


def _without_axis(call: Call, tensor: Tensor) -> Tensor:
    """Take from a cell's result the axis that cells do not have."""
    return tensor.squeeze_(0) if call.plan.spec.cell else tensor


def run(call: Call, inputs: Inputs, record: bool) -> tuple[Tensor, State, Recording | None]:
    """Run forward: the output, the state and, if wanted, what backward needs."""
    plan, x = call.plan, inputs.x
    core: Any = plan.core
    y_array, after, tape = core.forward(
        gpu.Shown(gather(inputs.weights)),
        gpu.Shown(x[None] if plan.spec.cell else x),
        _state_arrays(call, inputs.state),
        None,
        None,
        record or plan.spec.dropout > 0,  # outputs are dropped in recorded calls alone
        call.seed,
        None,
        None,
    )
    y = _without_axis(call, gpu.as_tensor(y_array))
    recording = Recording(core, tape, x.data_ptr(), None) if record else None
    return y, _state_tensors(call, after), recording


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
    cell, (dy, *dstate) = call.plan.spec.cell, cotangents
    core: Any = recording.core
    dx_array, dinitial, dweights = core.backward(
        gpu.Shown(gather(inputs.weights)),
        recording.take(),
        None if dy is None else gpu.Shown(dy[None] if cell else dy),
        _state_arrays(call, dstate) if any(part is not None for part in dstate) else None,
        None,
        input_gradient,
        None,
    )
    return Gradients(
        None if dx_array is None else _without_axis(call, gpu.as_tensor(dx_array)),
        _state_tensors(call, dinitial) if inputs.state else (),
        gpu.as_tensor(dweights),
    )
