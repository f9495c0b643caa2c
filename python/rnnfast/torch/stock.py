"""PyTorch's own functions, for what is differentiated twice or by a transform of functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch

from .arrays import Tensor
from .engine import Inputs
from .packing import Packing
from .spec import Spec

_VF: Any = torch._VF
_flag = Lock()


def _function(spec: Spec, packing: Packing | None, inputs: Inputs) -> Sequence[Tensor]:
    """Call PyTorch's function for what has the axis B."""
    x, state, weights = inputs
    name, pair = spec.mode.lower(), spec.mode == "LSTM"
    hx: Any = state if pair else state[0]
    if spec.cell:
        results = getattr(_VF, f"{name}_cell")(x, hx, *weights)
        return results if pair else (results,)
    options = (list(weights), spec.bias, spec.num_layers, 0.0, False, spec.bidirectional)
    if packing is None:
        return tuple(getattr(_VF, name)(x, hx, *options, spec.batch_first))
    return tuple(getattr(_VF, name)(x, packing.batch_sizes, hx, *options))


def _batched(spec: Spec, packing: Packing | None, inputs: Inputs) -> Sequence[Tensor]:
    """Give x an axis B if it has none, and a state if there is none."""
    x, state, weights = inputs
    batch = spec.batch(x.shape) if packing is None else (len(packing.lengths),)
    state = state or tuple(x.new_zeros(shape) for shape in spec.states(batch))
    if batch:
        return _function(spec, packing, Inputs(x, state, weights))
    axes = [0 if spec.cell or spec.batch_first else 1] + [0 if spec.cell else 1] * len(state)
    x, *parts = (t.unsqueeze(axis) for t, axis in zip((x, *state), axes, strict=True))
    results = _function(spec, packing, Inputs(x, tuple(parts), weights))
    return [result.squeeze(axis) for result, axis in zip(results, axes, strict=False)]


@contextmanager
def _native(device: str) -> Iterator[None]:
    """Keep from the device's library, whose functions have no second derivatives.

    Its flag is one for all threads: who meets another thread here must not find it as that one
    has set it.
    """
    name = "cudnn" if device == "cuda" else "mkldnn"
    is_enabled = getattr(torch._C, f"_get_{name}_enabled")
    enable = getattr(torch._C, f"_set_{name}_enabled")
    with _flag, torch.autocast(device, enabled=False):
        before = is_enabled()
        enable(False)
        try:
            yield
        finally:
            enable(before)


def outputs(spec: Spec, packing: Packing | None, inputs: Inputs) -> Sequence[Tensor]:
    """Compute what rnnfast does by what can be differentiated any number of times."""
    with _native(inputs.x.device.type):
        return _batched(spec, packing, inputs)


def gradients(
    spec: Spec,
    packing: Packing | None,
    inputs: Inputs,
    cotangents: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """Differentiate by PyTorch: gradients of x, the state's parts and the weights.

    Raises
    ------
    RuntimeError
        If outputs were dropped: PyTorch would drop others.
    """
    if spec.dropout:
        raise RuntimeError(
            "rnnfast.torch: a recurrent module with dropout was to be differentiated twice or in "
            "a batch of gradients, expected dropout=0 or eval()"
        )
    given = (inputs.x, *inputs.state, *inputs.weights)
    with torch.enable_grad():
        # As tensors of their own: one of them may be computed from another.
        own = [t.view_as(t) if w else t for t, w in zip(given, wanted, strict=True)]
        end = 1 + len(inputs.state)
        wide = [t.float() if t.dtype is torch.bfloat16 else t for t in own]
        results = outputs(spec, packing, Inputs(wide[0], tuple(wide[1:end]), wide[end:]))
        pairs = [
            (r, d.to(r.dtype)) for r, d in zip(results, cotangents, strict=True) if d is not None
        ]
        found = torch.autograd.grad(
            [result for result, _ in pairs],
            [tensor for tensor, want in zip(own, wanted, strict=True) if want],
            [cotangent for _, cotangent in pairs],
            create_graph=True,
            allow_unused=True,
        )
    rest = iter(found)
    return [next(rest) if want else None for want in wanted]
