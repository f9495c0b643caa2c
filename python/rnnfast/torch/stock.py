"""PyTorch's own functions for what is differentiated twice, or by a transform of functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import _VF

from .arrays import State, Tensor
from .engine import Call, Inputs


def _function(call: Call, inputs: Inputs, state: State) -> tuple[Tensor, ...]:
    spec = call.spec
    hx: Any = state if spec.mode == "LSTM" else state[0]
    function = getattr(_VF, spec.mode.lower())
    weights = list(inputs.weights)
    options = (spec.bias, spec.num_layers, 0.0, False, spec.bidirectional)
    if call.packing:
        return tuple(function(inputs.x, call.packing.batch_sizes, hx, weights, *options))
    return tuple(function(inputs.x, hx, weights, *options, spec.batch_first))


def outputs(call: Call, inputs: Inputs) -> tuple[Tensor, ...]:
    """Compute output and state by PyTorch, by what can be differentiated any number of times."""
    spec, x = call.spec, inputs.x
    single = x.dim() == 2 and not call.packing
    if single:
        axis = 0 if spec.batch_first else 1
        inputs = Inputs(x.unsqueeze(axis), tuple(s.unsqueeze(1) for s in inputs.state), inputs.weights)
    state = inputs.state or _zeros(call, inputs.x)
    # oneDNN's LSTM has no second derivative.
    enabled = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        with torch.autocast("cpu", enabled=False):
            y, *after = _function(call, inputs, state)
    finally:
        torch._C._set_mkldnn_enabled(enabled)
    if single:
        return (y.squeeze(axis), *(s.squeeze(1) for s in after))
    return (y, *after)


def _zeros(call: Call, x: Tensor) -> State:
    spec = call.spec
    batch = (len(call.packing.lengths),) if call.packing else spec.batch(x)
    h = x.new_zeros(spec.tracks, *batch, spec.output_size)
    c = x.new_zeros(spec.tracks, *batch, spec.hidden_size)
    return (h, c) if spec.mode == "LSTM" else (h,)


def gradients(
    call: Call, inputs: Inputs, cotangents: Sequence[Tensor | None], wanted: Sequence[bool]
) -> list[Tensor | None]:
    """Differentiate by PyTorch: gradients of x, the state's parts and the weights.

    Raises
    ------
    RuntimeError
        If outputs were dropped: PyTorch would drop others.
    """
    if call.spec.dropout:
        raise RuntimeError(
            "rnnfast.torch: cannot differentiate a recurrent module with dropout twice, or inside "
            "a transform of torch.func, expected dropout=0 or eval()"
        )
    given = [inputs.x, *inputs.state, *inputs.weights]
    with torch.enable_grad():
        # As tensors of their own: one of them may be computed from another.
        own = [t.view_as(t) if w else t for t, w in zip(given, wanted, strict=True)]
        parts = 1 + len(inputs.state)
        results = outputs(call, Inputs(own[0], tuple(own[1:parts]), own[parts:]))
        pairs = [(r, d) for r, d in zip(results, cotangents, strict=True) if d is not None]
        found = iter(
            torch.autograd.grad(
                [r for r, _ in pairs],
                [t for t, w in zip(own, wanted, strict=True) if w],
                [d for _, d in pairs],
                create_graph=True,
                allow_unused=True,
            )
        )
    return [next(found) if w else None for w in wanted]
