"""PyTorch's own functions, for what is differentiated twice or by a transform of functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import _VF

from .arrays import Tensor
from .engine import Call, Inputs


def _function(call: Call, inputs: Inputs) -> Sequence[Tensor]:
    """Call PyTorch's function for what has the axis B."""
    spec, (x, state, weights) = call.plan.spec, inputs
    name = spec.mode.lower()
    hx: Any = state if call.plan.pair else state[0]
    if spec.cell:
        results = getattr(_VF, f"{name}_cell")(x, hx, *weights)
        return results if call.plan.pair else (results,)
    options = (list(weights), spec.bias, spec.num_layers, 0.0, False, spec.bidirectional)
    if call.packing is None:
        return tuple(getattr(_VF, name)(x, hx, *options, spec.batch_first))
    return tuple(getattr(_VF, name)(x, call.packing.batch_sizes, hx, *options))


def _batched(call: Call, inputs: Inputs) -> Sequence[Tensor]:
    """Give x an axis B if it has none, and a state if there is none."""
    spec, (x, state, weights) = call.plan.spec, inputs
    batch = spec.batch(x.shape) if call.packing is None else (len(call.packing.lengths),)
    state = state or tuple(x.new_zeros(shape) for shape in spec.states(batch))
    if batch:
        return _function(call, Inputs(x, state, weights))
    axes = [0 if spec.cell or spec.batch_first else 1] + [0 if spec.cell else 1] * len(state)
    x, *parts = (t.unsqueeze(axis) for t, axis in zip((x, *state), axes, strict=True))
    results = _function(call, Inputs(x, tuple(parts), weights))
    return [result.squeeze(axis) for result, axis in zip(results, axes, strict=False)]


def outputs(call: Call, inputs: Inputs) -> Sequence[Tensor]:
    """Compute what rnnfast does by what can be differentiated any number of times."""
    onednn, cudnn = torch._C._get_mkldnn_enabled(), torch._C._get_cudnn_enabled()
    torch._C._set_mkldnn_enabled(False)  # their LSTM has no second derivative
    torch._C._set_cudnn_enabled(False)
    try:
        with torch.autocast(inputs.x.device.type, enabled=False):
            return _batched(call, inputs)
    finally:
        torch._C._set_mkldnn_enabled(onednn)
        torch._C._set_cudnn_enabled(cudnn)


def gradients(
    call: Call, inputs: Inputs, cotangents: Sequence[Tensor | None], wanted: Sequence[bool]
) -> list[Tensor | None]:
    """Differentiate by PyTorch: gradients of x, the state's parts and the weights.

    Raises
    ------
    RuntimeError
        If outputs were dropped: PyTorch would drop others.
    """
    if call.plan.spec.dropout:
        raise RuntimeError(
            "rnnfast.torch: a recurrent module with dropout was to be differentiated twice or in "
            "a batch of gradients, expected dropout=0 or eval()"
        )
    given = (inputs.x, *inputs.state, *inputs.weights)
    with torch.enable_grad():
        # As tensors of their own: one of them may be computed from another.
        own = [t.view_as(t) if w else t for t, w in zip(given, wanted, strict=True)]
        end = 1 + len(inputs.state)
        results = outputs(call, Inputs(own[0], tuple(own[1:end]), own[end:]))
        pairs = [(r, d) for r, d in zip(results, cotangents, strict=True) if d is not None]
        found = torch.autograd.grad(
            [result for result, _ in pairs],
            [tensor for tensor, want in zip(own, wanted, strict=True) if want],
            [cotangent for _, cotangent in pairs],
            create_graph=True,
            allow_unused=True,
        )
    rest = iter(found)
    return [next(rest) if want else None for want in wanted]
