"""Random layers and random calls of them, shared by the tests.

Letters: T time steps, B sequences, I inputs, H hidden units, L layers, D directions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "rnn-tanh": ("RNN", {}),
    "rnn-relu": ("RNN", {"nonlinearity": "relu"}),
    "rnn-sigmoid": ("RNN", {"nonlinearity": "sigmoid"}),
    "rnn-identity": ("RNN", {"nonlinearity": "identity"}),
    "lstm": ("LSTM", {}),
    "lstm-proj": ("LSTM", {"proj_size": None}),  # of 2/3 of H, see build
    "gru": ("GRU", {}),
    "gru-before": ("GRU", {"reset_after": False}),
}


def build(
    module: Any, variant: str, inputs: int, hidden: int, num_layers: int = 1, **options: Any
) -> Any:
    """Make a layer of `module`, rnnfast or rnnfast.reference."""
    name, extra = VARIANTS[variant]
    if "proj_size" in extra:
        hidden = max(hidden, 2)  # a projection narrows
        extra = {"proj_size": max(1, 2 * hidden // 3)}
    return getattr(module, name)(inputs, hidden, num_layers, **extra, **options)


def twin(module: Any, layer: Any, dtype: Any) -> Any:
    """Make the same layer with the same parameters in another module or dtype."""
    everyone = [
        "input_size",
        "hidden_size",
        "num_layers",
        "bias",
        "batch_first",
        "dropout",
        "bidirectional",
    ]
    own = {"RNN": "nonlinearity", "LSTM": "proj_size", "GRU": "reset_after"}[type(layer).__name__]
    arguments = {name: getattr(layer, name) for name in [*everyone, own]}
    other = getattr(module, type(layer).__name__)(**arguments, dtype=dtype)
    other.flat[...] = layer.flat
    return other


@dataclass
class Call:
    """The arguments of one call, and cotangents for all that comes out of it."""

    x: Array
    state: Any
    lengths: Array | None
    reset: Array | None
    dy: Array
    dstate: Any
    threads: int | None = None
    dropout_seed: int | None = None  # the reference's

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The positional arguments of `forward`."""
        return self.x, self.state, self.lengths, self.reset


def pair(state: Any) -> tuple[Array, ...]:
    """State as a tuple: (h,) or (h, c)."""
    return tuple(state) if isinstance(state, tuple | list) else (state,)


def unpair(arrays: tuple[Array, ...]) -> Any:
    """Undo `pair`."""
    return arrays if len(arrays) == 2 else arrays[0]


def draw_call(
    rng: np.random.Generator,
    layer: Any,
    T: int,
    B: int,
    *,
    tokens: bool = False,
    lengths: bool = False,
    reset: bool = False,
    state: bool = True,
    batched: bool = True,
    threads: int | None = None,
) -> Call:
    """Draw random arguments and cotangents that suit `layer`.

    Lengths are unsorted and hold a 0 and a T where there are sequences enough; resets are frequent
    and may fall on the first step and past an end.
    """
    dtype = layer.dtype
    time = (T,) if not batched else (B, T) if layer.batch_first else (T, B)
    width = getattr(layer, "proj_size", 0) or layer.hidden_size
    directions = 2 if layer.bidirectional else 1
    rows = (layer.num_layers * directions, *((B,) if batched else ()))
    shapes = [(*rows, width)]
    if type(layer).__name__ == "LSTM":
        shapes.append((*rows, layer.hidden_size))

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(dtype)

    return Call(
        x=rng.integers(layer.input_size, size=time) if tokens else normal(*time, layer.input_size),
        state=unpair(tuple(normal(*s) for s in shapes)) if state else None,
        lengths=draw_lengths(rng, T, B) if lengths else None,
        reset=rng.random(time) < 0.3 if reset else None,
        dy=normal(*time, directions * width),
        dstate=unpair(tuple(normal(*s) for s in shapes)),
        threads=threads,
    )


def changed(call: Call, change: Callable[[Array], Any]) -> Call:
    """Apply `change` to every array of the call."""

    def visit(v: Any) -> Any:
        if isinstance(v, tuple):
            return tuple(visit(part) for part in v)
        return change(v) if isinstance(v, np.ndarray) else v

    return replace(call, **{f.name: visit(getattr(call, f.name)) for f in fields(call)})


def misaligned(v: Array, offset: int = 1) -> Array:
    """Copy v to an address `offset` bytes past a multiple of 64."""
    room = np.empty(v.nbytes + 64 + offset, np.uint8)
    start = -room.ctypes.data % 64 + offset
    copy = room[start : start + v.nbytes].view(v.dtype).reshape(v.shape)
    copy[...] = v
    return copy


def draw_lengths(rng: np.random.Generator, T: int, B: int) -> Array:
    """Unsorted lengths, among them 0 and T."""
    n = rng.integers(0, T + 1, size=B)
    n[rng.permutation(B)[:2]] = [T, 0][: min(B, 2)]
    return n


def collect(y: Array, state: Any, grads: Any) -> dict[str, Array]:
    """Everything that comes out of a forward and its backward, by name."""
    results = {"y": y}
    results |= {f"state[{k}]": v for k, v in enumerate(pair(state))}
    if grads.x is not None:
        results["dx"] = grads.x
    results |= {f"dstate[{k}]": v for k, v in enumerate(pair(grads.state))}
    results |= {f"d{name}": v for name, v in grads.parameters.items()}
    return results


def outcome(layer: Any, call: Call) -> dict[str, Array]:
    """Run forward and backward: everything that comes out, by name."""
    seed = {} if call.dropout_seed is None else {"dropout_seed": call.dropout_seed}
    y, state, tape = layer.forward(*call.arguments, num_threads=call.threads, **seed)
    grads = layer.backward(tape, call.dy, call.dstate, num_threads=call.threads)
    return collect(y, state, grads)


def assert_equal(ours: dict[str, Array], theirs: dict[str, Array]) -> None:
    """Bit for bit."""
    assert ours.keys() == theirs.keys()
    for name, v in ours.items():
        assert v.dtype == theirs[name].dtype and v.shape == theirs[name].shape, name
        np.testing.assert_array_equal(v, theirs[name], err_msg=name)


@contextmanager
def forced(isa: str) -> Iterator[None]:
    """Run with the instruction set `isa`."""
    import rnnfast

    before = rnnfast.info()["isa"]
    rnnfast._core.use_isa(isa)
    try:
        assert rnnfast.info()["isa"] == isa
        yield
    finally:
        rnnfast._core.use_isa(before)
