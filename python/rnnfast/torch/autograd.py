"""The autograd function: forward and backward by the compiled layer."""

from __future__ import annotations

from typing import Any

import torch

from . import stock
from .arrays import State, Tensor
from .engine import Call, Inputs, run, run_back, step
from .spec import Spec
from .surroundings import is_transformed
from .tapes import carried, carry
from .weights import cut


def _is_batch(cotangent: Tensor | None) -> bool:
    """Tell whether a tensor is a batch of gradients, of ``is_grads_batched``."""
    return cotangent is not None and torch._C._functorch.is_legacy_batchedtensor(cotangent)


def gradients(
    call: Call,
    inputs: Inputs,
    tape: Tensor,
    y: Tensor | None,
    cotangents: tuple[Tensor | None, ...],
    wanted: tuple[bool, ...],
) -> tuple[Tensor | None, ...]:
    """Differentiate: gradients of x, the state's parts and the weights, None where not wanted."""
    if torch.is_grad_enabled() or is_transformed() or any(map(_is_batch, cotangents)):
        return tuple(stock.gradients(call, inputs, cotangents, wanted))
    dx, dstate, buffer = run_back(call, inputs, carried(tape), y, cotangents, wanted[0])
    found = (dx, *(dstate if inputs.state else ()), *cut(buffer, inputs.weights))
    return tuple(d if w else None for d, w in zip(found, wanted, strict=True))


class Recurrence(torch.autograd.Function):
    """apply(call, parts of the state, x, *state, *weights) → (y, *state)."""

    @staticmethod
    def forward(ctx: Any, call: Call, parts: int, x: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        inputs = Inputs(x, others[:parts], others[parts:])
        y, after, recording = run(call, inputs, record=True)
        assert recording is not None
        ctx.call, ctx.parts = call, parts
        ctx.save_for_backward(carry(recording), x, *others)
        ctx.set_materialize_grads(False)
        return (y, *after)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
        tape, x, *others = ctx.saved_tensors
        if all(d is None for d in cotangents):
            return (None,) * (3 + len(others))
        inputs = Inputs(x, tuple(others[: ctx.parts]), others[ctx.parts :])
        wanted = ctx.needs_input_grad[2:]
        return (None, None, *gradients(ctx.call, inputs, tape, None, cotangents, wanted))


def apply(call: Call, inputs: Inputs) -> tuple[Tensor, State]:
    """Run forward so that autograd can run backward."""
    y, *after = Recurrence.apply(  # type: ignore[no-untyped-call]
        call, len(inputs.state), inputs.x, *inputs.state, *inputs.weights
    )
    return y, tuple(after)


def requires_grad(inputs: Inputs) -> bool:
    """Tell whether a tensor of the call requires a gradient."""
    return (
        inputs.x.requires_grad
        or any(weight.requires_grad for weight in inputs.weights)
        or any(part.requires_grad for part in inputs.state)
    )


def _is_step(spec: Spec, x: Tensor) -> bool:
    axis = 1 if spec.batch_first and x.dim() == 3 else 0
    return x.shape[axis] == 1 and not spec.bidirectional and not spec.dropout


def compute(call: Call, inputs: Inputs) -> tuple[Tensor, State]:
    """Run forward in eager mode, recorded if autograd is on and a tensor requires a gradient."""
    if torch.is_grad_enabled() and requires_grad(inputs):
        return apply(call, inputs)
    if call.packing is None and _is_step(call.spec, inputs.x):
        return step(call, inputs)
    y, after, _ = run(call, inputs, record=False)
    return y, after
