"""Calls of the compiled layer with tensors, apart from autograd."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from rnnfast.flat import Array

from .arrays import State, Tensor, as_array
from .packing import Packing
from .spec import CallPlan
from .tapes import Recording
from .weights import Flat, parameters_of


class Call(NamedTuple):
    """What is no tensor of a call. With a `packing`, x and y are packed rows."""

    plan: CallPlan
    packing: Packing | None = None
    seed: int = 0  # of dropout
    flat: Flat | None = None  # where the weights are


class Inputs(NamedTuple):
    """The tensors of a call; no state stands for zeros."""

    x: Tensor
    state: State
    weights: Sequence[Tensor]


class Gradients(NamedTuple):
    """Of a call's inputs; those of all weights in one array."""

    x: Tensor | None
    state: State
    weights: Array | Tensor


def _state_arrays(call: Call, parts: Sequence[Tensor | None]) -> Any:
    """View a state as what the compiled layer takes; None, as a part too, are zeros."""
    if not parts:
        return None
    arrays = tuple([None if part is None else as_array(part) for part in parts])
    if call.plan.spec.cell:
        arrays = tuple([None if array is None else array[None] for array in arrays])
    return arrays if call.plan.pair else arrays[0]


def _state_tensors(call: Call, state: Any) -> State:
    """View what the compiled layer returns as a state."""
    arrays = state if call.plan.pair else (state,)
    if call.plan.spec.cell:
        return tuple([torch.from_numpy(array[0]) for array in arrays])
    return tuple([torch.from_numpy(array) for array in arrays])


def run(call: Call, inputs: Inputs, record: bool) -> tuple[Tensor, State, Recording | None]:
    """Run forward: the output, the state and, if wanted, what backward needs.

    The output of a cell is its new h; the state is returned in full all the same.
    """
    plan, packing, seed, flat = call
    spec = plan.spec
    x = as_array(inputs.x) if packing is None else packing.pad(as_array(inputs.x))
    y_array, after, tape = plan.core.forward(
        parameters_of(inputs.weights, None) if flat is None else flat.array,
        x[None] if spec.cell else x,
        _state_arrays(call, inputs.state),
        None if packing is None else packing.lengths,
        None,
        record or spec.dropout > 0,  # outputs are dropped in recorded calls alone
        seed,
        torch.get_num_threads(),
        None if flat is None else flat.cache,
    )
    if packing is not None:
        y = torch.from_numpy(packing.pack(y_array))
    else:
        y = torch.from_numpy(y_array[0] if spec.cell else y_array)
    recording = None
    if record:
        shown = y.detach() if packing is None else None
        recording = Recording(plan.core, tape, inputs.x.data_ptr(), shown, y._version)
    return y, _state_tensors(call, after), recording


def step(call: Call, inputs: Inputs) -> tuple[Tensor, State]:
    """Run forward, for inference, where the plan is a step."""
    plan, _, _, flat = call
    x, axis = as_array(inputs.x), plan.axis
    y, after = plan.core.step(
        parameters_of(inputs.weights, None) if flat is None else flat.array,
        x if axis is None else x.squeeze(axis),
        _state_arrays(call, inputs.state),
        torch.get_num_threads(),
        None,
    )
    if axis is not None:
        y = y[:, None] if axis else y[None]
    return torch.from_numpy(y), _state_tensors(call, after)


def run_back(
    call: Call,
    inputs: Inputs,
    recording: Recording | None,
    y: Tensor | None,
    cotangents: tuple[Tensor | None, ...],
    input_gradient: bool,
) -> Gradients:
    """Run backward.

    Parameters
    ----------
    call, inputs
        Of the forward call.
    recording : Recording or None
        Where it is of no use, the forward pass is run again.
    y : Tensor or None
        The output, if what the recording knows of it is not to be trusted.
    cotangents : tuple of (Tensor or None)
        Gradients of the output and of all parts of the state.
    input_gradient : bool
        Whether that of x is wanted.
    """
    if recording is None or not recording.fits(inputs.x, y):
        recording = run(call._replace(flat=None), inputs, record=True)[2]
        assert recording is not None
    spec, packing, (dy, *dstate) = call.plan.spec, call.packing, cotangents
    dy_array = None if dy is None else as_array(dy)
    if dy_array is not None and packing is not None:
        dy_array = packing.pad(dy_array)
    if dy_array is not None and spec.cell:
        dy_array = dy_array[None]
    dx, dinitial, dweights = recording.core.backward(
        parameters_of(inputs.weights, call.flat),
        recording.take(),
        dy_array,
        _state_arrays(call, dstate) if any(part is not None for part in dstate) else None,
        None,
        input_gradient,
        torch.get_num_threads(),
    )
    if dx is not None and packing is not None:
        dx = packing.pack(dx)
    if dx is not None and spec.cell:
        dx = dx[0]
    return Gradients(
        None if dx is None else torch.from_numpy(dx),
        _state_tensors(call, dinitial) if inputs.state else (),
        dweights,
    )
