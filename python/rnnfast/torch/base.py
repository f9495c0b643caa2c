"""What modules and cells have in common: who computes a call, and where the weights lie."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from copy import copy
from itertools import repeat
from typing import Any

import torch

from . import gpu
from .arrays import State, Tensor, is_plain
from .autograd import compute, requires_grad
from .engine import Call, Inputs
from .operators import recurrence
from .packing import Packing
from .spec import CELLS, DTYPES, Options, Spec, plan_of
from .surroundings import compute_type, is_eager, takes_operators
from .weights import Flat, find_flat, flatten

_CACHE = "_rnnfast_flat"
_LOW = (torch.float32, torch.bfloat16)
Result = tuple[Tensor, State]


def parts_of(mode: str, hx: Any) -> State | None:
    """Take a state apart; None if it is none of this mode."""
    if hx is None:
        return ()
    if mode != "LSTM":
        return (hx,) if isinstance(hx, Tensor) else None
    pair = isinstance(hx, tuple | list) and len(hx) == 2
    return tuple(hx) if pair and all(isinstance(part, Tensor) for part in hx) else None


def _is_traced(tensor: Any, dtype: torch.dtype) -> bool:
    """Tell whether a tensor that a tracer shows stands for one that is plain."""
    return (
        isinstance(tensor, Tensor)
        and tensor.dtype is dtype
        and tensor.device.type == "cpu"
        and tensor.layout is torch.strided
    )


def _fits(
    spec: Spec,
    weights: Sequence[Any],
    dtype: Any,
    suits: Callable[[Any, Any], bool] = is_plain,
) -> bool:
    """Tell whether weights have the type and the shapes of the layer's."""
    if spec.mode not in CELLS:  # as PyTorch's own forward will tell
        return False
    shapes = spec.shapes()
    return len(weights) == len(shapes) and all(
        suits(weight, dtype) and weight.shape == shape
        for weight, shape in zip(weights, shapes, strict=True)
    )


def as_stock(module: torch.nn.Module) -> torch.nn.Module:
    """Turn a module of ours into PyTorch's of the same name."""
    module.__dict__.pop(_CACHE, None)
    module.__class__ = getattr(torch.nn, type(module).__name__)
    return module


def _draw_seed() -> Tensor:
    """Draw from PyTorch's generator what decides about dropout."""
    return torch.randint(2**63 - 1, (1,), dtype=torch.int64, device="cpu")


def _trace(spec: Spec, inputs: Inputs) -> Result | None:
    """Compute by the operator, which tracers see."""
    x, state, weights = inputs
    if not (takes_operators() and x.dtype in DTYPES and _fits(spec, weights, x.dtype, _is_traced)):
        return None
    if not all(_is_traced(tensor, x.dtype) for tensor in (x, *state)):
        return None
    if not spec.takes(x.shape, [part.shape for part in state], None):
        return None
    seed = _draw_seed() if spec.dropout else None
    # An exported program is for inference; whoever trains it computes forward twice.
    record = torch.is_grad_enabled() and not torch.compiler.is_exporting()
    return recurrence(spec, inputs, seed, record and requires_grad(inputs))


class Bridged(torch.nn.Module):
    """A recurrent module whose weights lie in one buffer, where nothing forbids that."""

    @abstractmethod
    def _names(self) -> Sequence[str]:
        """Names of the weights, in the compiled layer's order."""

    @abstractmethod
    def _options(self, packed: bool) -> Options:
        """Options of a call made now."""

    def _weights(self) -> list[Tensor]:
        parameters: dict[str, Any] = self._parameters
        try:
            return [parameters[name] for name in self._names()]
        except KeyError:  # computed by a hook or a parametrization
            return [getattr(self, name) for name in self._names()]

    def _recur(self, x: Tensor, state: State, packing: Packing | None = None) -> Result | None:
        """Compute output and state; None where that is for PyTorch."""
        if gpu.is_used(x):
            return self._recur_on_gpu(x, state, packing)
        kind = compute_type()
        if kind == "float32":
            return self._recur_in(kind, x, state, packing)
        tensors = (x, *state, *self._weights())
        if kind is None or any(tensor.dtype not in _LOW for tensor in tensors):
            return None
        result = self._recur_in(kind, x.float(), tuple(s.float() for s in state), packing)
        return result and self._rounded(result, (state or (x,))[0].dtype, packing is not None)

    def _rounded(self, result: Result, given: torch.dtype, packed: bool) -> Result:
        """Convert results under autocast to the type that PyTorch's have."""
        y, state = result
        dtype = self._autocast_type(given, packed)
        return y.to(dtype), tuple(part.to(dtype) for part in state)

    def _recur_in(
        self, kind: str, x: Tensor, state: State, packing: Packing | None
    ) -> Result | None:
        inputs, options = Inputs(x, state, self._weights()), self._options(packing is not None)
        if not is_eager():
            return _trace(Spec._make((*options, kind)), inputs) if packing is None else None
        dtype = x.dtype
        if not all(map(is_plain, (x, *state), repeat(dtype))):
            return None
        shapes = tuple([part.shape for part in state])
        rows = None if packing is None else len(packing.lengths)
        plan = plan_of(options, kind, dtype, x.shape, shapes, rows, False)
        if plan is None:
            return None
        flat: Flat | None = self.__dict__.get(_CACHE)
        if flat is None or flat.tensor.dtype is not dtype or not flat.holds(inputs.weights):
            if not _fits(plan.spec, inputs.weights, dtype):
                return None
            flat = self._settle(inputs.weights)
        seed = int(_draw_seed()) if plan.spec.dropout else 0
        return compute(Call(plan, packing, seed, flat), inputs)

    def _recur_on_gpu(self, x: Tensor, state: State, packing: Packing | None) -> Result | None:
        precision = gpu.precision(x)
        if precision is None or not is_eager():
            return None
        kind, dtypes = precision
        if not all(map(gpu.is_plain, (x, *state), repeat(dtypes))):
            return None
        inputs, shapes = Inputs(x, state, self._weights()), tuple(part.shape for part in state)
        options, rows = self._options(packing is not None), packing and len(packing.lengths)
        plan = plan_of(options, kind, torch.float32, x.shape, shapes, rows, True)
        if plan is None or not _fits(plan.spec, inputs.weights, dtypes, gpu.is_plain):
            return None
        # Replays would all drop the same, and lengths come from the CPU's memory.
        if (plan.spec.dropout or packing is not None) and gpu.is_captured():
            return None
        if packing is not None:
            packing = packing._replace(rows_there=gpu.bring(packing.rows))
        seed = int(_draw_seed()) if plan.spec.dropout else 0
        return compute(Call(plan, packing, seed), inputs)

    def _settle(self, weights: Sequence[Tensor]) -> Flat | None:
        """Find the buffer of the weights or make one; None if they have to stay apart."""
        flat = find_flat(weights)
        if flat is None and all(type(weight) is torch.nn.Parameter for weight in weights):
            flat = flatten(weights)
        self.__dict__[_CACHE] = flat
        return flat

    def _gather_weights(self) -> None:
        """Move the weights into one buffer, if they are the layer's to compute with."""
        weights = self._weights()
        dtype = getattr(weights[0], "dtype", None)
        if is_eager() and dtype in DTYPES and _fits(Spec(*self._options(False)), weights, dtype):
            self._settle(weights)

    @abstractmethod
    def _autocast_type(self, given: torch.dtype, packed: bool) -> torch.dtype:
        """Tell the type of results under autocast, from that of the state or the input."""

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]
        return {name: value for name, value in state.items() if name != _CACHE}

    def __prepare_scriptable__(self) -> torch.nn.Module:
        """Let TorchScript have PyTorch's module, with the same parameters."""
        ours = type(self).__module__.startswith(f"{__package__}.")
        return as_stock(copy(self)) if ours else self
