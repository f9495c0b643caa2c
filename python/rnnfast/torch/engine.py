"""Calls of the compiled layer with tensors, apart from autograd."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from .arrays import State, Tensor, as_array, as_arrays, as_tensor, as_tensors
from .packing import Packing
from .spec import Spec, layer
from .tapes import Recording
from .weights import Flat, parameters_of


class Call(NamedTuple):
    """What is no tensor of a call. With a `packing`, x and y are packed rows."""

    spec: Spec
    packing: Packing | None = None
    seed: int = 0  # of dropout
    flat: Flat | None = None  # where the weights are expected


class Inputs(NamedTuple):
    """The tensors of a call."""

    x: Tensor
    state: State
    weights: Sequence[Tensor]


def run(call: Call, inputs: Inputs, record: bool) -> tuple[Tensor, State, Recording | None]:
    """Run forward: the output, the state and, if wanted, what backward needs."""
    spec, packing = call.spec, call.packing
    core = layer(spec, inputs.x.dtype)
    with torch.no_grad():
        x = packing.pad(inputs.x) if packing else inputs.x
    y_array, after, tape = core.forward(
        parameters_of(inputs.weights, call.flat),
        as_array(x),
        as_arrays(inputs.state, spec.mode == "LSTM"),
        packing.lengths if packing else None,
        None,
        record or spec.dropout > 0,  # outputs are dropped in recorded calls alone
        call.seed,
        torch.get_num_threads(),
        None,
    )
    y = as_tensor(y_array)
    recording = None
    if record:
        shown = None if packing else y.detach()
        recording = Recording(core, tape, inputs.x.data_ptr(), shown, y._version)
    return packing.pack(y) if packing else y, as_tensors(after), recording


def step(call: Call, inputs: Inputs) -> tuple[Tensor, State]:
    """Run a single step forward, for inference, of a layer in one direction."""
    spec, x = call.spec, as_array(inputs.x)
    axis = 0 if x.ndim == 2 or not spec.batch_first else 1
    y, after = layer(spec, inputs.x.dtype).step(
        parameters_of(inputs.weights, call.flat),
        x.squeeze(axis),
        as_arrays(inputs.state, spec.mode == "LSTM"),
        torch.get_num_threads(),
        None,
    )
    return torch.from_numpy(y).unsqueeze(axis), as_tensors(after)


class Gradients(NamedTuple):
    """Of a call's inputs; those of all weights in one buffer."""

    x: Tensor | None
    state: State
    weights: Tensor


def run_back(
    call: Call,
    inputs: Inputs,
    recording: Recording | None,
    y: Tensor | None,
    cotangents: tuple[Tensor | None, ...],
    input_gradient: bool,
) -> Gradients:
    """Run backward; `y` is the forward call's output where that is known, None for `cotangents`."""
    if recording is None or not recording.fits(inputs.x, y):
        recording = run(call, inputs, record=True)[2]
        assert recording is not None
    packing, (dy, *dstate) = call.packing, cotangents
    if packing and dy is not None:
        dy = packing.pad(dy)
    dx, dinitial, dweights = recording.core.backward(
        parameters_of(inputs.weights, call.flat),
        recording.take(),
        None if dy is None else as_array(dy),
        None if not any(d is not None for d in dstate) else as_arrays(tuple(dstate), len(dstate) > 1),
        None,
        input_gradient,
        torch.get_num_threads(),
    )
    gradient = None if dx is None else as_tensor(dx)
    if packing and gradient is not None:
        gradient = packing.pack(gradient)
    return Gradients(gradient, as_tensors(dinitial), as_tensor(dweights))
