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


def _parts(call: Call, state: Any) -> Sequence[Any]:
    return state if call.plan.pair else (state,)


def _as_tensor(call: Call, array: Any) -> Tensor:
    """Make a tensor of a result, without the axis that cells do not have."""
    tensor = gpu.as_tensor(array)
    return tensor.squeeze_(0) if call.plan.spec.cell else tensor


def _padded(call: Call, rows: Tensor) -> Tensor:
    """Spread packed rows over (T, B, ·). What lies between them is never used."""
    packing = call.packing
    if packing is None:
        return rows
    steps, batch = len(packing.batch_sizes), len(packing.lengths)
    padded = torch.empty(steps * batch, rows.shape[1], dtype=rows.dtype, device=rows.device)
    assert packing.rows_there is not None
    padded.index_copy_(0, packing.rows_there, rows)
    return padded.view(steps, batch, -1)


def _packed(call: Call, padded: Tensor) -> Tensor:
    """Collect the rows of packed sequences."""
    if call.packing is None:
        return padded
    assert call.packing.rows_there is not None
    return padded.flatten(0, 1).index_select(0, call.packing.rows_there)


def run(call: Call, inputs: Inputs, record: bool) -> tuple[Tensor, State, Recording | None]:
    """Run forward: the output, the state and, if wanted, what backward needs."""
    core: Any = call.plan.core
    dtype = torch.bfloat16 if call.plan.spec.compute == "bfloat16" else torch.float32
    y, after, tape = core.forward(
        gpu.Shown(gather(inputs.weights)),
        _shown(call, _padded(call, inputs.x.to(dtype))),
        _state_arrays(call, inputs.state),
        None if call.packing is None else call.packing.lengths,
        None,
        record or call.plan.spec.dropout > 0,  # outputs are dropped in recorded calls alone
        call.seed,
        None,
        None,
    )
    recording = Recording(core, tape, inputs.x.data_ptr(), None) if record else None
    state = tuple(_as_tensor(call, array).to(dtype) for array in _parts(call, after))
    return _packed(call, _as_tensor(call, y)), state, recording


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
        None if dy is None else _shown(call, _padded(call, dy)),
        _state_arrays(call, dstate) if any(part is not None for part in dstate) else None,
        None,
        input_gradient,
        None,
    )
    # Autograd would convert what has another type too, but weights one by one.
    buffer, (first, *others) = gpu.as_tensor(dweights), [w.dtype for w in inputs.weights]
    return Gradients(
        None if dx is None else _packed(call, _as_tensor(call, dx)),
        tuple(_as_tensor(call, d) for d in _parts(call, dinitial)) if inputs.state else (),
        buffer.to(first) if all(dtype is first for dtype in others) else buffer,
    )
