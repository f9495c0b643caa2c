"""The operators ``rnnfast::recurrence`` and ``rnnfast::recurrence_backward``.

They are what tracers see: ``torch.compile``, ``torch.export`` and dispatch modes. In eager mode the
modules call the compiled layer themselves, past the dispatcher.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from . import stock
from .arrays import State, Tensor
from .engine import Call, Inputs, run, run_back
from .spec import Spec
from .tapes import carried, carry
from .weights import cut

_INPUTS = (
    "Tensor x, Tensor[] state, Tensor[] weights, Tensor? seed, "
    "str mode, int input_size, int hidden_size, int num_layers, bool bias, bool batch_first, "
    "float dropout, bool bidirectional, int proj_size, str compute"
)
_LIBRARY = torch.library.Library("rnnfast", "DEF")
_LIBRARY.define(
    f"recurrence({_INPUTS}, bool record) -> (Tensor y, Tensor h, Tensor c, Tensor tape)",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_LIBRARY.define(
    f"recurrence_backward({_INPUTS}, Tensor y, Tensor tape, Tensor? dy, Tensor? dh, Tensor? dc, "
    "bool input_gradient) -> (Tensor dx, Tensor dh0, Tensor dc0, Tensor dweights)",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_Four = tuple[Tensor, Tensor, Tensor, Tensor]


def _call(seed: Tensor | None, spec: Sequence[Any]) -> Call:
    return Call(Spec(*spec), seed=0 if seed is None else int(seed))


def _two(state: State, like: Tensor) -> State:
    return state if len(state) == 2 else (*state, like.new_empty(0))


def _forward(
    x: Tensor, state: list[Tensor], weights: list[Tensor], seed: Tensor | None, *rest: Any
) -> _Four:
    *spec, record = rest
    y, after, recording = run(_call(seed, spec), Inputs(x, tuple(state), weights), record)
    h, c = _two(after, x)
    tape = torch.empty(0, dtype=torch.int64) if recording is None else carry(recording)
    return y, h, c, tape


def _backward(
    x: Tensor, state: list[Tensor], weights: list[Tensor], seed: Tensor | None, *rest: Any
) -> _Four:
    *spec, y, tape, dy, dh, dc, input_gradient = rest
    call = _call(seed, spec)
    cotangents = (dy, dh, dc) if call.spec.mode == "LSTM" else (dy, dh)
    dx, dstate, dweights = run_back(
        call, Inputs(x, tuple(state), weights), carried(tape), y, cotangents, input_gradient
    )
    dh0, dc0 = _two(dstate, x)
    return x.new_empty(0) if dx is None else dx, dh0, dc0, dweights


def _fake_state(x: Tensor, spec: Spec) -> State:
    batch = spec.batch(x)
    h = x.new_empty(spec.tracks, *batch, spec.output_size)
    c = x.new_empty(spec.tracks, *batch, spec.hidden_size) if spec.mode == "LSTM" else None
    return h, x.new_empty(0) if c is None else c


def _fake_forward(x: Tensor, *rest: Any) -> _Four:
    spec, record = Spec(*rest[3:-1]), rest[-1]
    width = spec.output_size * spec.directions
    h, c = _fake_state(x, spec)
    return (
        x.new_empty(*x.shape[:-1], width),
        h,
        c,
        x.new_empty(1 if record else 0, dtype=torch.int64),
    )


def _fake_backward(x: Tensor, _: Any, weights: list[Tensor], *rest: Any) -> _Four:
    h, c = _fake_state(x, Spec(*rest[1:11]))
    dx = x.new_empty(x.shape if rest[-1] else 0)
    return dx, h, c, x.new_empty(sum(weight.numel() for weight in weights))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: _Four) -> None:
    x, state, weights, seed, *spec, _ = inputs
    y, _, _, tape = output
    ctx.spec, ctx.parts = spec, len(state)
    ctx.save_for_backward(y, tape, seed, x, *state, *weights)
    ctx.set_materialize_grads(False)


def _differentiate(
    ctx: Any, dy: Tensor | None, dh: Tensor | None, dc: Tensor | None, _: None
) -> tuple[Any, ...]:
    y, tape, seed, x, *others = ctx.saved_tensors
    state, weights = others[: ctx.parts], others[ctx.parts :]
    nothing = (None,) * (len(ctx.spec) + 2)
    if torch.is_grad_enabled():
        wanted = [ctx.needs_input_grad[0], *ctx.needs_input_grad[1], *ctx.needs_input_grad[2]]
        call, inputs = _call(seed, ctx.spec), Inputs(x, tuple(state), weights)
        cotangents = (dy, dh, dc) if call.spec.mode == "LSTM" else (dy, dh)
        dx, *found = stock.gradients(call, inputs, cotangents, wanted)
        return dx, found[: len(state)], found[len(state) :], *nothing
    dx, dh0, dc0, buffer = torch.ops.rnnfast.recurrence_backward(
        x, state, weights, seed, *ctx.spec, y, tape, dy, dh, dc, ctx.needs_input_grad[0]
    )
    dstate = [dh0, dc0][: len(state)]
    return dx if ctx.needs_input_grad[0] else None, dstate, list(cut(buffer, weights)), *nothing


_LIBRARY.impl("recurrence", _forward, "CPU")
_LIBRARY.impl("recurrence_backward", _backward, "CPU")
torch.library.register_fake("rnnfast::recurrence", _fake_forward, lib=_LIBRARY)
torch.library.register_fake("rnnfast::recurrence_backward", _fake_backward, lib=_LIBRARY)
torch.library.register_autograd(
    "rnnfast::recurrence", _differentiate, setup_context=_setup_context, lib=_LIBRARY
)


def recurrence(
    spec: Spec, inputs: Inputs, seed: Tensor | None, record: bool
) -> tuple[Tensor, State]:
    """Run forward by the operator."""
    y, h, c, _ = torch.ops.rnnfast.recurrence(
        inputs.x, list(inputs.state), list(inputs.weights), seed, *spec, record
    )
    return y, (h, c) if spec.mode == "LSTM" else (h,)
