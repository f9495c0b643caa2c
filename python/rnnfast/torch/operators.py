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
from .autograd import returned, with_state
from .engine import Call, Inputs, run, run_back
from .spec import Spec, plan_of
from .tapes import carried, carry

_INPUTS = (
    "Tensor x, Tensor[] state, Tensor[] weights, Tensor? seed, "
    "str mode, int input_size, int hidden_size, int num_layers, bool bias, bool batch_first, "
    "float dropout, bool bidirectional, int proj_size, "
    "bool cell, str compute"
)
_LIBRARY: Any = torch.library.Library("rnnfast", "DEF")  # type: ignore[no-untyped-call]
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


def _call(x: Tensor, state: Sequence[Tensor], seed: Tensor | None, spec: Sequence[Any]) -> Call:
    *options, compute = spec
    shapes = tuple(part.shape for part in state)
    plan = plan_of(tuple(options), compute, x.dtype, x.shape, shapes, None, False)
    if plan is None:
        raise ValueError(f"rnnfast::recurrence: {Spec(*spec)} does not take x of {tuple(x.shape)}")
    return Call(plan, seed=0 if seed is None else int(seed))


def _two(parts: Sequence[Tensor], like: Tensor) -> Sequence[Tensor]:
    """Stand in for what a state or a call has not."""
    return (*parts, *(like.new_empty(0) for _ in range(2 - len(parts))))


def _forward(
    x: Tensor, state: list[Tensor], weights: list[Tensor], seed: Tensor | None, *rest: Any
) -> _Four:
    *spec, record = rest
    call = _call(x, state, seed, spec)
    y, after, recording = run(call, Inputs(x, tuple(state), weights), record)
    first, second = _two(returned(call.plan.spec, after), x)
    tape = torch.empty(0, dtype=torch.int64) if recording is None else carry(recording)
    return y, first, second, tape


def _backward(
    x: Tensor, state: list[Tensor], weights: list[Tensor], seed: Tensor | None, *rest: Any
) -> _Four:
    *spec, y, tape, dy, dfirst, dsecond, input_gradient = rest
    call = _call(x, state, seed, spec)
    dx, dstate, dweights = run_back(
        call,
        Inputs(x, tuple(state), weights),
        carried(tape),
        y,
        _cotangents(call.plan.spec, dy, dfirst, dsecond),
        input_gradient,
    )
    dh0, dc0 = _two(dstate, x)
    return x.new_empty(0) if dx is None else dx, dh0, dc0, torch.from_numpy(dweights)


def _cotangents(spec: Spec, *three: Tensor | None) -> tuple[Tensor | None, ...]:
    """Gradients of the output and of all parts of the state."""
    given = tuple(None if d is None else d.resolve_neg() for d in three)
    return with_state(spec, given)[: 1 + len(spec.parts())]


def _fake_forward(x: Tensor, *rest: Any) -> _Four:
    spec, record = Spec(*rest[3:-1]), rest[-1]
    states = [x.new_empty(shape) for shape in spec.states(spec.batch(x.shape))]
    width = spec.width * spec.directions
    first, second = _two(states[1:] if spec.cell else states, x)
    tape = x.new_empty(1 if record else 0, dtype=torch.int64)
    return x.new_empty(*x.shape[:-1], width), first, second, tape


def _fake_backward(x: Tensor, state: list[Tensor], weights: list[Tensor], *rest: Any) -> _Four:
    dh0, dc0 = _two([part.new_empty(part.shape) for part in state], x)
    dweights = x.new_empty(sum(weight.numel() for weight in weights))
    return x.new_empty(x.shape if rest[-1] else 0), dh0, dc0, dweights


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: _Four) -> None:
    x, state, weights, seed, *spec, _ = inputs
    y, _, _, tape = output
    ctx.spec, ctx.parts = spec, len(state)
    ctx.save_for_backward(y, tape, seed, x, *state, *weights)
    ctx.set_materialize_grads(False)


def _differentiate(
    ctx: Any, dy: Tensor | None, dfirst: Tensor | None, dsecond: Tensor | None, _: None
) -> tuple[Any, ...]:
    y, tape, seed, x, *others = ctx.saved_tensors
    state, weights = others[: ctx.parts], others[ctx.parts :]
    wanted = ctx.needs_input_grad[0]
    nothing = (None,) * (1 + len(ctx.spec) + 1)  # the seed, the options, whether to record
    if torch.is_grad_enabled():
        spec = Spec._make(ctx.spec)
        all_wanted = [wanted, *ctx.needs_input_grad[1], *ctx.needs_input_grad[2]]
        given = (dy, dfirst, dsecond)[: len(spec.parts()) + (not spec.cell)]
        inputs = Inputs(x, tuple(state), weights)
        dx, *found = stock.gradients(spec, None, inputs, given, all_wanted)
        return dx, found[: ctx.parts], found[ctx.parts :], *nothing
    dx, dh0, dc0, buffer = torch.ops.rnnfast.recurrence_backward(
        x, state, weights, seed, *ctx.spec, y, tape, dy, dfirst, dsecond, wanted
    )
    parts = buffer.split([weight.numel() for weight in weights])
    dweights = [part.view(weight.shape) for part, weight in zip(parts, weights, strict=True)]
    return dx if wanted else None, [dh0, dc0][: ctx.parts], dweights, *nothing


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
    y, *after, _ = torch.ops.rnnfast.recurrence(
        inputs.x, list(inputs.state), list(inputs.weights), seed, *spec, record
    )
    return y, tuple(after[: (1 if spec.mode != "LSTM" else 2) - spec.cell])
