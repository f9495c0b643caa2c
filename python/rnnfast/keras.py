"""Layers and weights to and from Keras 3: SimpleRNN, LSTM, GRU, Bidirectional and stacks of them.

Importing it does not import Keras: lists of weights and masks need NumPy alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from .flat import Array
from .layers import GRU, LSTM, RNN, Layer

__all__ = ["from_keras", "get_weights", "lengths_from_mask", "set_weights", "to_keras"]

_ACTIVATIONS = {"tanh": "tanh", "relu": "relu", "sigmoid": "sigmoid", "linear": "identity"}
_CELLS = {"SimpleRNN": RNN, "LSTM": LSTM, "GRU": GRU}
_EXPECTED = "SimpleRNN, LSTM, GRU, Bidirectional, or RNN of their cells"


def from_keras(layers: Any, *, batch_first: bool = True) -> Layer:
    """Make a layer with the weights of Keras layers.

    Parameters
    ----------
    layers : keras.layers.Layer, keras.Sequential or sequence of keras.layers.Layer
        SimpleRNN, LSTM, GRU, Bidirectional of one of them, RNN of their cells or of
        StackedRNNCells; several on top of each other, if they are alike.
    batch_first : bool
        Whether the layer takes (N, T, I), as Keras does, or (T, N, I).

    Returns
    -------
    RNN, LSTM or GRU
        Of the dtype of the Keras layers, with copies of their weights.

    Raises
    ------
    TypeError
        If one is no such layer.
    ValueError
        If one has no weights yet, computes what this library does not, or differs from the others.

    Notes
    -----
    Dropout, regularizers and constraints are for training in Keras, and not taken over. What Keras
    returns, and where it begins (`return_sequences`, `return_state`, `stateful`), is the caller's
    affair here: calls return outputs and state, and take a state.
    """
    levels = _levels(layers)
    kind = _common_kind(levels)
    options: dict[str, Any] = {"batch_first": batch_first, "bias": kind.use_bias}
    options |= {"bidirectional": kind.bidirectional, "dtype": kind.dtype}
    if kind.cell == "SimpleRNN":
        options["nonlinearity"] = _ACTIVATIONS[kind.activation]
    elif kind.cell == "GRU":
        options["reset_after"] = kind.reset_after
    weights = [array for level in levels for array in _read(level)]
    layer: Layer = _CELLS[kind.cell](weights[0].shape[0], kind.units, len(levels), rng=0, **options)
    set_weights(layer, weights)
    return layer


def to_keras(layer: Layer, target: Any) -> None:
    """Write the weights of a layer into Keras layers.

    Parameters
    ----------
    layer : RNN, LSTM or GRU
        The source.
    target : keras.layers.Layer, keras.Sequential or sequence of keras.layers.Layer
        As for :func:`from_keras`, built, of the same options, sizes and dtype.

    Raises
    ------
    TypeError
        If one is no such layer.
    ValueError
        If the target does not match. Nothing is changed then.
    """
    _check_layer(layer)
    levels = _levels(target)
    _expect_kind(_common_kind(levels), _kind_of(layer))
    if len(levels) != layer.num_layers:
        raise ValueError(f"keras: target has {len(levels)} layers, expected {layer.num_layers}")
    cells = [id(cell) for level in levels for cell in level.cells]
    if len(set(cells)) < len(cells):
        raise ValueError("keras: target has the same layer twice, expected one for each of ours")
    weights = get_weights(layer)
    each = len(weights) // len(levels)
    parts = [weights[k * each : (k + 1) * each] for k in range(len(levels))]
    for level, part in zip(levels, parts, strict=True):
        found, expected = ([v.shape for v in arrays] for arrays in (_read(level), part))
        if found != expected:
            raise ValueError(
                f"keras: {level.name} has weights of shapes {found}, expected {expected}"
            )
    for level, part in zip(levels, parts, strict=True):
        each = len(part) // len(level.cells)
        for k, cell in enumerate(level.cells):
            cell.set_weights(part[k * each : (k + 1) * each])


# -- weights ----------------------------------------------------------------------------------


def get_weights(layer: Layer) -> list[Array]:
    """Weights in Keras's layouts and gate orders, as ``get_weights`` of Keras layers returns them.

    Parameters
    ----------
    layer : RNN, LSTM or GRU
        Without projection.

    Returns
    -------
    list of ndarray
        For each layer and direction `kernel` (I, G·H), `recurrent_kernel` (H, G·H) and, with
        biases, `bias`: (2, 3·H) for a GRU with `reset_after`, else (G·H,), the sum of both of
        ours.

    Raises
    ------
    TypeError
        If it is no such layer.
    ValueError
        If it has a projection, which Keras has not.
    """
    _check_layer(layer)
    weights = []
    for end in _suffixes(layer):
        own = [layer.parameters[name] for name in _names(layer, end)]
        own = [_swap_gates(layer, array) for array in own]
        weights += [np.ascontiguousarray(array.T) for array in own[:2]]
        if layer.bias:
            weights.append(np.stack(own[2:]) if _has_two_biases(layer) else own[2] + own[3])
    return weights


def set_weights(layer: Layer, weights: Sequence[npt.ArrayLike]) -> None:
    """Set all parameters from weights in Keras's layouts and gate orders.

    Parameters
    ----------
    layer : RNN, LSTM or GRU
        Without projection.
    weights : sequence of array_like
        As :func:`get_weights` returns them. Where Keras has one bias it becomes `bias_ih`, and
        `bias_hh` zero.

    Raises
    ------
    TypeError
        If it is no such layer, or the weights no sequence.
    ValueError
        If their number, a shape or a value does not fit. Nothing is changed then.
    """
    _check_layer(layer)
    if not isinstance(weights, list | tuple):
        raise TypeError(f"keras: weights is a {type(weights).__name__}, expected a list of arrays")
    each = 3 if layer.bias else 2
    suffixes = _suffixes(layer)
    if len(weights) != each * len(suffixes):
        raise ValueError(
            f"keras: {len(weights)} weights, expected {each * len(suffixes)}: {each} for each "
            "layer and direction"
        )
    state: dict[str, Array] = {}
    for k, end in enumerate(suffixes):
        names = _names(layer, end)
        part = _checked(layer, names, [np.asarray(v) for v in weights[k * each : (k + 1) * each]])
        arrays = [part[0].T, part[1].T]
        if layer.bias:
            arrays += list(part[2]) if _has_two_biases(layer) else [part[2], 0 * part[2]]
        state |= {n: _swap_gates(layer, v) for n, v in zip(names, arrays, strict=True)}
    layer.load_state_dict(state)


def _suffixes(layer: Layer) -> list[str]:
    """Endings of our names in the order of Keras: layer by layer, forward and backward."""
    return [f"_l{k}{end}" for k in range(layer.num_layers) for end in layer._endings]


def _names(layer: Layer, end: str) -> list[str]:
    names = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if layer.bias else [])]
    return [name + end for name in names]


def _has_two_biases(layer: Layer) -> bool:
    return isinstance(layer, GRU) and layer.reset_after


def _swap_gates(layer: Layer, array: Array) -> Array:
    """Between GRU's r, z, n and Keras's z, r, h, along the first axis; others agree."""
    if not isinstance(layer, GRU):
        return array
    r, z, n = np.split(array, 3)
    return np.concatenate([z, r, n])


def _checked(layer: Layer, names: list[str], arrays: list[Array]) -> list[Array]:
    """The weights of one layer and direction, of the shapes that Keras gives them."""
    w, u = (layer.parameters[name].shape[::-1] for name in names[:2])
    expected = {"kernel": w, "recurrent_kernel": u}
    if layer.bias:
        expected["bias"] = (2, w[1]) if _has_two_biases(layer) else (w[1],)
    for (name, shape), array in zip(expected.items(), arrays, strict=True):
        if array.shape != shape:
            raise ValueError(
                f"keras: {name} for {names[0]} and its like has shape {array.shape}, "
                f"expected {shape}"
            )
    return arrays


def _check_layer(layer: Layer) -> None:
    if not isinstance(layer, Layer):
        raise TypeError(f"keras: layer is a {type(layer).__name__}, expected an RNN, LSTM or GRU")
    if layer.proj_size:
        raise ValueError(f"keras: proj_size is {layer.proj_size}, expected 0: Keras has none")


# -- masks ------------------------------------------------------------------------------------


def lengths_from_mask(mask: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Turn a mask of Keras into lengths.

    Parameters
    ----------
    mask : array_like of bool, shape (N, T)
        True where a step counts; in each row true from the start and false from some step on.

    Returns
    -------
    ndarray of int, shape (N,)
        The `lengths` for calls of a layer.

    Raises
    ------
    ValueError
        If it is no such mask; the message names the first row that is not.
    """
    flags = np.asarray(mask)
    if flags.ndim != 2 or flags.dtype != bool:
        raise ValueError(
            f"mask has shape {flags.shape} and dtype {flags.dtype}, expected (N, T) and bool"
        )
    gaps = np.flatnonzero((flags[:, 1:] & ~flags[:, :-1]).any(axis=1))
    if gaps.size:
        raise ValueError(
            f"mask[{gaps[0]}] is true again after false, expected a run of true from the start"
        )
    lengths: npt.NDArray[np.int64] = flags.sum(axis=1, dtype=np.int64)
    return lengths


# -- what Keras layers are --------------------------------------------------------------------


@dataclass(frozen=True)
class _Kind:
    """What all layers of a stack have in common, in Keras's words."""

    cell: str
    units: int
    use_bias: bool
    bidirectional: bool
    dtype: str
    activation: str
    reset_after: bool


@dataclass(frozen=True)
class _Level:
    """One of our layers: a Keras cell for each direction."""

    name: str
    kind: _Kind
    cells: list[Any]


def _kind_of(layer: Layer) -> _Kind:
    """What a layer of ours is called there."""
    (cell,) = (name for name, ours in _CELLS.items() if isinstance(layer, ours))
    names = {ours: theirs for theirs, ours in _ACTIVATIONS.items()}
    return _Kind(
        cell,
        layer.hidden_size,
        layer.bias,
        layer.bidirectional,
        layer.dtype.name,
        names[layer.nonlinearity] if isinstance(layer, RNN) else "tanh",
        isinstance(layer, GRU) and layer.reset_after,
    )


def _class(layer: Any) -> str:
    """Name of a class of Keras's own, else nothing: a subclass may compute anything."""
    cls = type(layer)
    return cls.__name__ if cls.__module__.partition(".")[0] == "keras" else ""


def _levels(layers: Any) -> list[_Level]:
    """All that is stacked, the lowest first."""
    if _class(layers) == "Sequential":
        layers = layers.layers
    given = list(layers) if isinstance(layers, list | tuple) else [layers]
    if not given:
        raise ValueError(f"keras: no layers, expected {_EXPECTED}")
    for k, layer in enumerate(given[:-1]):
        if getattr(layer, "return_sequences", True) is False:
            raise ValueError(
                f"keras: {_label(k, layer)} has return_sequences=False, expected True below "
                "another layer"
            )
    return [level for k, layer in enumerate(given) for level in _levels_of(_label(k, layer), layer)]


def _label(k: int, layer: Any) -> str:
    return f"layers[{k}] ({getattr(layer, 'name', type(layer).__name__)})"


def _levels_of(label: str, layer: Any) -> Iterator[_Level]:
    """The levels of one Keras layer: one, but for StackedRNNCells."""
    if _class(layer) == "Bidirectional":
        cells = _both_directions(label, layer)
        forward, backward = (_kind(label, layer, cell) for cell in cells)
        _expect_kind(backward, forward, f"the backward layer of {label}")
        yield _Level(label, forward, cells)
        return
    if _class(layer) not in {*_CELLS, "RNN"}:
        raise TypeError(f"keras: {label} is a {type(layer).__name__}, expected {_EXPECTED}")
    if layer.go_backwards:
        raise ValueError(f"keras: {label} has go_backwards=True, expected it in Bidirectional only")
    stacked = _class(layer.cell) == "StackedRNNCells"
    for cell in layer.cell.cells if stacked else [layer.cell]:
        yield _Level(label, _kind(label, layer, cell), [cell])


def _both_directions(label: str, layer: Any) -> list[Any]:
    if layer.merge_mode != "concat":
        raise ValueError(
            f"keras: {label} has merge_mode={layer.merge_mode!r}, expected 'concat': for others "
            "take the halves of the outputs' last axis"
        )
    parts = [layer.forward_layer, layer.backward_layer]
    for part in parts:
        if _class(part) not in {*_CELLS, "RNN"}:
            raise TypeError(
                f"keras: {label} wraps a {type(part).__name__}, expected SimpleRNN, LSTM or GRU"
            )
    if parts[0].go_backwards:
        raise ValueError(f"keras: {label} has a forward layer with go_backwards=True")
    return [part.cell for part in parts]


def _kind(label: str, layer: Any, cell: Any) -> _Kind:
    """Read a cell's options, refusing what this library does not compute."""
    name = _class(cell).removesuffix("Cell")
    if name not in _CELLS:
        raise TypeError(
            f"keras: {label} has a cell of type {type(cell).__name__}, "
            "expected SimpleRNNCell, LSTMCell or GRUCell"
        )
    basic = name == "SimpleRNN"
    activation = _activation(label, cell, "activation", list(_ACTIVATIONS) if basic else ["tanh"])
    if not basic:
        _activation(label, cell, "recurrent_activation", ["sigmoid"])
    dtypes = {cell.variable_dtype, cell.compute_dtype, layer.compute_dtype}
    if dtypes not in ({"float32"}, {"float64"}):
        raise ValueError(
            f"keras: {label} has dtype {' and '.join(sorted(dtypes))}, expected float32 or float64"
        )
    return _Kind(
        name,
        cell.units,
        cell.use_bias,
        _class(layer) == "Bidirectional",
        cell.variable_dtype,
        activation,
        name == "GRU" and cell.reset_after,
    )


def _activation(label: str, cell: Any, argument: str, allowed: list[str]) -> str:
    function = getattr(cell, argument)
    name = getattr(function, "__name__", repr(function))
    own = getattr(function, "__module__", "").partition(".")[0] == "keras"
    if not own or name not in allowed:
        whose = "" if own else " that is not Keras's own"
        raise ValueError(
            f"keras: {label} has {argument} {name}{whose}, expected {' or '.join(allowed)}"
        )
    return str(name)


def _common_kind(levels: list[_Level]) -> _Kind:
    first = levels[0]
    for level in levels[1:]:
        _expect_kind(level.kind, first.kind, level.name, f" as {first.name}")
    return first.kind


def _expect_kind(found: _Kind, expected: _Kind, who: str = "target", why: str = "") -> None:
    """Refuse what one layer of ours cannot hold."""
    for field in fields(_Kind):
        a, b = (getattr(kind, field.name) for kind in (found, expected))
        if a != b:
            raise ValueError(
                f"keras: {who} has {field.name}={a!r}, expected {b!r}{why}: one layer holds what "
                "is alike"
            )


def _read(level: _Level) -> list[Array]:
    """The weights of all directions."""
    from keras.ops import convert_to_numpy

    weights = []
    for cell in level.cells:
        if not cell.built:
            raise ValueError(
                f"keras: {level.name} has no weights yet, expected a layer that was built or called"
            )
        own = [cell.kernel, cell.recurrent_kernel, *([cell.bias] if cell.use_bias else [])]
        weights += [np.asarray(convert_to_numpy(variable.value)) for variable in own]
    return weights
