"""Recurrent layers as parts of a model: making them, chaining them, naming their states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from rnnfast import checks
from rnnfast.flat import Array
from rnnfast.layers import GRU, LSTM, RNN

Recurrent: TypeAlias = RNN | LSTM | GRU
State: TypeAlias = Any  # h (L, B, H), or (h, c)
States: TypeAlias = tuple[State, ...]  # one for each recurrent part

CELLS: dict[str, type[RNN] | type[LSTM] | type[GRU]] = {"basic": RNN, "lstm": LSTM, "gru": GRU}


def make_layers(
    cell: str,
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    **options: Any,
) -> Recurrent:
    """Make equal layers of one cell.

    Parameters
    ----------
    cell : str
        `basic`, `lstm` or `gru`.
    input_size, hidden_size, num_layers : int
        As for the layers.
    **options
        Those of `rnnfast.RNN`, `LSTM` or `GRU`.

    Raises
    ------
    TypeError, ValueError
        If the cell is unknown, or an option is of the wrong type or out of range.
    """
    checks.choice("model: cell", cell, CELLS)
    return CELLS[cell](input_size, hidden_size, num_layers, **options)


def check_layer(what: str, layer: Recurrent) -> None:
    """Refuse what is no recurrent layer."""
    checks.instance(what, layer, Recurrent, "an RNN, LSTM or GRU")


def check_chain(layers: Sequence[Recurrent], features: int | None = None) -> tuple[Recurrent, ...]:
    """Check that every layer reads what the one before writes; the first, `features` if given."""
    chain = checks.parts("model: layers", layers, "a sequence of RNN, LSTM or GRU")
    if not chain:
        raise ValueError("model: got no recurrent layer, expected at least one")
    for i, layer in enumerate(chain):
        check_layer(f"model: layers[{i}]", layer)
    features = chain[0].input_size if features is None else features
    for i, layer in enumerate(chain):
        if layer.input_size != features:
            raise ValueError(
                f"model: layer {i} has input_size={layer.input_size}, expected {features}"
            )
        if layer.batch_first or layer.bidirectional:
            raise ValueError(
                f"model: layer {i} is batch-first or bidirectional, "
                "expected time-major in one direction"
            )
        features = layer._width
    return chain


def hidden_of(state: State) -> Array:
    """Return h (L, B, H) of a layer's state."""
    h: Array = state[0] if isinstance(state, tuple) else state
    return h


def gradient_like(state: State, dh: Array) -> State:
    """Make a gradient of a layer's state from that of its h."""
    return (dh, np.zeros_like(state[1])) if isinstance(state, tuple) else dh


def state_arrays(states: States) -> dict[str, Array]:
    """Name the arrays of carried states: `0.h`, and `0.c` for an LSTM, one for each part."""
    arrays: dict[str, Array] = {}
    for i, state in enumerate(states):
        pair = state if isinstance(state, tuple) else (state,)
        arrays.update((f"{i}.{name}", array) for name, array in zip("hc", pair, strict=False))
    return arrays


def states_from(arrays: Mapping[str, Array]) -> States:
    """Undo `state_arrays`."""
    parts = sorted({int(name.split(".")[0]) for name in arrays})
    return tuple(
        (arrays[f"{i}.h"], arrays[f"{i}.c"]) if f"{i}.c" in arrays else arrays[f"{i}.h"]
        for i in parts
    )


def remember(layer: Recurrent, longest: int, rng: int | np.random.Generator | None = None) -> None:
    """Set the biases of the gates so that a layer starts out remembering, each unit for its time.

    A unit that keeps the share s of its state in each step forgets in 1 / (1 - s) steps; the times
    are drawn evenly from 2 to `longest` + 1, by the forget and input gates of an LSTM and the
    update gate of a GRU (Tallec and Ollivier 2018, "Can recurrent neural networks warp time?"). A
    basic layer has no such gate and is left as it is.

    Parameters
    ----------
    layer : RNN, LSTM or GRU
        With biases.
    longest : int
        Steps, at least 1.
    rng : None, int or numpy.random.Generator
        Source of chance.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range.
    """
    check_layer("remember: layer", layer)
    longest = checks.integer("remember: longest", longest, 1, checks.MOST)
    generator = checks.generator("remember: rng", rng)
    for name, bias in layer.parameters.items():
        if not name.startswith("bias_ih"):
            continue
        keep = np.log(generator.uniform(1.0, longest, layer.hidden_size))
        gates = bias.reshape(-1, layer.hidden_size)
        other = layer.parameters[name.replace("bias_ih", "bias_hh")].reshape(gates.shape)
        if isinstance(layer, LSTM):
            gates[:2], other[:2] = (-keep, keep), 0.0
        elif isinstance(layer, GRU):
            gates[1], other[1] = keep, 0.0
