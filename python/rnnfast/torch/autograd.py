"""The autograd function: forward and backward by the compiled layer."""

from __future__ import annotations

from typing import Any

import torch

from . import engine, gpu_engine, stock
from .arrays import State, Tensor
from .engine import Call, Inputs
from .spec import Spec
from .surroundings import is_transformed, unwrap_if_dead
from .tapes import carried, carry
from .weights import cut, cuts_of

_is_legacy_batch = torch._C._functorch.is_legacy_batchedtensor


def _is_batch(cotangent: Tensor | None) -> bool:
    """Tell whether a tensor is a batch of gradients, of ``is_grads_batched``."""
    return cotangent is not None and _is_legacy_batch(cotangent)


def with_state(spec: Spec, cotangents: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    """Complete what a call returned by the h that a cell has returned as its output."""
    return (cotangents[0], None, *cotangents[1:]) if spec.cell else cotangents


def returned(spec: Spec, state: State) -> State:
    """Name the parts of a state that are returned beside the output, which is a cell's h."""
    return state[1:] if spec.cell else state


def _computes(call: Call) -> Any:
    """Choose whose `run`, `step` and `run_back` compute a call."""
    return gpu_engine if call.plan.gpu else engine


class Recurrence(torch.autograd.Function):
    """apply(call, parts of the state, x, *state, *weights) → (y, *state)."""

    @staticmethod
    def forward(ctx: Any, call: Call, parts: int, x: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        """Run forward and record."""
        inputs = Inputs(x, others[:parts], others[parts:])
        y, after, recording = _computes(call).run(call, inputs, record=True)
        assert recording is not None
        ctx.call, ctx.parts = call, parts
        ctx.save_for_backward(carry(recording), x, *others)
        ctx.set_materialize_grads(False)
        return (y, *returned(call.plan.spec, after))

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
        """Run backward, by PyTorch's own functions where gradients are differentiated again."""
        tape, x, *others = ctx.saved_tensors
        call, inputs = ctx.call, Inputs(x, tuple(others[: ctx.parts]), others[ctx.parts :])
        spec, wanted = call.plan.spec, ctx.needs_input_grad[2:]
        if torch.is_grad_enabled() or is_transformed() or any(map(_is_batch, cotangents)):
            again = stock.gradients(spec, call.packing, inputs, cotangents, wanted)
            return (None, None, *again)
        cotangents = tuple([None if d is None else d.resolve_neg() for d in cotangents])
        dx, dstate, buffer = _computes(call).run_back(
            call, inputs, carried(tape), None, with_state(spec, cotangents), wanted[0]
        )
        cuts = cuts_of(inputs.weights) if call.flat is None else call.flat.cuts
        found = (dx, *dstate, *cut(buffer, cuts))
        if not all(wanted):
            found = tuple(d if want else None for d, want in zip(found, wanted, strict=True))
        return (None, None, *found)


# Past the Python half of `apply`, which costs twice the other and is for transforms of functions.
_apply: Any = super(torch.autograd.Function, Recurrence).apply


def requires_grad(inputs: Inputs) -> bool:
    """Tell whether a tensor of the call requires a gradient."""
    x, state, weights = inputs
    return any(tensor.requires_grad for tensor in (*weights, x, *state))


def compute(call: Call, inputs: Inputs) -> tuple[Tensor, State]:
    """Run forward in eager mode, recorded if autograd is on and a tensor requires a gradient."""
    if torch.is_grad_enabled() and requires_grad(inputs):
        x, state, weights = inputs
        tensors = map(unwrap_if_dead, (x, *state, *weights))
        y, *after = _apply(call, len(state), *tensors)
        return y, tuple(after)
    if call.plan.steps:
        y, after = engine.step(call, inputs)
    else:
        y, after, _ = _computes(call).run(call, inputs, record=False)
    return y, returned(call.plan.spec, after)
