"""Graphs that run: recurrent nodes on our layers, what stands around them in NumPy."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from onnx import ModelProto

from rnnfast.flat import Array
from rnnfast.layers import Layer

from .operators import ONLY, OPERATORS
from .recurrent import Cell, Recurrence, cell_of, make_layer
from .source import Node, Source, Value, check_values, read, take_apart
from .weights import LAYERS

_WEIGHTS = slice(1, 4)  # W, R and B among the inputs of a recurrent node
_TRAINING_MODE = 2  # of Dropout


@dataclass(frozen=True, eq=False)
class Step:
    """A node made ready to run."""

    node: Node
    function: Callable[..., Any]
    inputs: tuple[str, ...]

    def __call__(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """Compute the node's outputs from the values of its inputs."""
        arrays = [values[name] if name else None for name in self.inputs]
        try:
            results = self.function(*arrays)
        except (ArithmeticError, IndexError, TypeError, ValueError) as error:
            raise self.node.error(error) from error
        outputs = results if isinstance(results, tuple) else (results,)
        return {
            name: np.asarray(output)
            for name, output in zip(self.node.outputs, outputs, strict=False)
            if name
        }


class Graph:
    """A model that can be called, made by `load`.

    ``graph(x=x)`` or ``graph({"x": x})`` returns a dictionary of the outputs by name. A graph keeps
    nothing from call to call and may be called from several threads at once.

    Attributes
    ----------
    name : str
        As the model says.
    inputs, outputs : mapping of str to Value
        Types and shapes by name.
    """

    def __init__(self, source: Source, steps: list[Step]) -> None:
        self.name = source.name
        self.inputs: Mapping[str, Value] = MappingProxyType(source.inputs)
        self.outputs: Mapping[str, Value] = MappingProxyType(source.outputs)
        self._steps = steps
        used = {name for step in steps for name in step.inputs} | set(source.outputs)
        self._constants = {k: v for k, v in source.constants.items() if k in used}
        self._dropped = _last_uses(steps, keep=set(source.outputs))

    def __call__(
        self, feeds: Mapping[str, Any] | None = None, /, **arrays: Any
    ) -> dict[str, Array]:
        """Run the graph.

        Parameters
        ----------
        feeds : mapping of str to ndarray, optional
            Inputs by name; for names that are no Python identifiers.
        **arrays
            Inputs by name. All inputs are needed, in one way or the other.

        Returns
        -------
        dict of str to ndarray
            Outputs by name, arrays of the caller's own.

        Raises
        ------
        TypeError
            If `feeds` is no mapping.
        ValueError
            If an input is missing, unknown or does not fit; or if shapes within the graph do not
            fit, by name of the node.
        """
        if not isinstance(feeds, Mapping | None):
            raise TypeError(
                f"graph: feeds is a {type(feeds).__name__}, expected a mapping of names to arrays"
            )
        fed = self._checked({**(feeds or {}), **arrays})
        values = {**self._constants, **fed}
        with np.errstate(all="ignore"):
            for step, dropped in zip(self._steps, self._dropped, strict=True):
                values.update(step(values))
                for name in dropped:
                    del values[name]
        return {name: _own(values[name], fed) for name in self.outputs}

    def _checked(self, given: dict[str, Any]) -> dict[str, Array]:
        missing = [name for name in self.inputs if name not in given]
        surplus = [name for name in given if name not in self.inputs]
        if missing or surplus:
            raise ValueError(
                f"graph: inputs missing: {missing}, unknown: {surplus}, "
                f"expected exactly {list(self.inputs)}"
            )
        return {name: _fitting(name, given[name], value) for name, value in self.inputs.items()}

    def __repr__(self) -> str:
        counts = Counter(step.node.op for step in self._steps)
        made_of = ", ".join(f"{count} {op}" for op, count in counts.most_common())
        lines = [f"Graph {self.name!r}: {made_of or 'no nodes'}"]
        for what, values in (("input", self.inputs), ("output", self.outputs)):
            lines += [f"  {what} {name}: {value}" for name, value in values.items()]
        return "\n".join(lines)


def load(source: str | os.PathLike[str] | ModelProto) -> Graph:
    """Make a model run: RNN, LSTM and GRU nodes on rnnfast's layers, the others in NumPy.

    Weights that are constants are brought into the layers' form once, here.

    Parameters
    ----------
    source : path or onnx.ModelProto
        Of opset 7 or later.

    Returns
    -------
    Graph
        To be called with arrays.

    Raises
    ------
    TypeError
        If the source is neither.
    OSError
        If the file cannot be read.
    ValueError
        If it is no ONNX model, or has an operator, an attribute or a type that is not run here, or
        shapes that do not fit; naming the node and the attribute.
    """
    model = read(source)
    parts = take_apart(model)
    for node in parts.nodes:
        _check(node)
    _check_names(parts)
    check_values(model, parts.nodes)
    return Graph(parts, [_prepared(node, parts.constants) for node in _folded(parts)])


def layers(source: str | os.PathLike[str] | ModelProto) -> dict[str, Layer]:
    """Make a layer of each RNN, LSTM and GRU node of a model, to train on or to use elsewhere.

    Parameters
    ----------
    source : path or onnx.ModelProto
        Operators that `load` refuses are passed over.

    Returns
    -------
    dict of str to RNN, LSTM or GRU
        By name of the node (nodes without one are named by operator and number, such as `LSTM_3`),
        in their order. Each has one level, `batch_first` where the node has layout 1. A node that
        runs in reverse becomes a layer in one direction: its input is to be turned around in time.

    Raises
    ------
    TypeError, OSError, ValueError
        As for `load`, but only about these nodes; and if their weights are no constants.
    """
    parts = take_apart(read(source))
    made = {}
    for node in _folded(parts):
        if node.op in LAYERS:
            layer = _layer(cell_of(node), parts.constants)
            if layer is None:
                raise node.error("W, R or B is computed from inputs, expected constants")
            made[node.name] = layer
    return made


def _check(node: Node) -> None:
    """Refuse a node that is not run here."""
    if node.op in LAYERS:
        cell_of(node)
    elif node.op not in OPERATORS:
        raise node.error("this operator is not run here")
    elif node.op == "Dropout" and any(node.inputs[_TRAINING_MODE:]):
        raise node.error("training_mode is given, expected inference")
    for name, only in ONLY.get(node.op, {}).items():
        if node[name] not in (None, only):
            raise node.error(f"{name} is {node[name]!r}, expected {only!r}")


def _check_names(parts: Source) -> None:
    """Refuse values that are read before they are made, or made twice."""
    known = {*parts.constants, *parts.inputs}
    for node in parts.nodes:
        for name in filter(None, node.inputs):
            if name not in known:
                raise node.error(f"input {name!r} is made by no node before it")
        for name in filter(None, node.outputs):
            if name in known:
                raise node.error(f"output {name!r} is there already")
            known.add(name)
    for name in parts.outputs:
        if name not in known:
            raise ValueError(f"output {name!r} of the graph is made by no node")


def _folded(parts: Source) -> list[Node]:
    """Compute what depends on constants alone; return the nodes that are left."""
    left = []
    for node in parts.nodes:
        needed = filter(None, node.inputs)
        if node.op in OPERATORS and all(name in parts.constants for name in needed):
            with np.errstate(all="ignore"):
                results = _prepared(node, {})(parts.constants)
            for name, array in results.items():
                array.flags.writeable = False
                parts.constants[name] = array
        else:
            left.append(node)
    return left


def _prepared(node: Node, constants: Mapping[str, Array]) -> Step:
    if node.op not in LAYERS:
        return Step(node, functools.partial(OPERATORS[node.op], node), node.inputs)
    cell = cell_of(node)
    layer = _layer(cell, constants)
    inputs = list(node.inputs)
    if layer is not None:  # which has the weights
        inputs[_WEIGHTS] = [""] * len(inputs[_WEIGHTS])
    return Step(node, Recurrence(cell, layer), tuple(inputs))


def _layer(cell: Cell, constants: Mapping[str, Array]) -> Layer | None:
    """Make the layer of a recurrent node, if all of W, R and B (where given) are constants."""
    w, r, b = (*cell.node.inputs, "")[_WEIGHTS]
    if any(name and name not in constants for name in (w, r, b)):
        return None
    try:
        return make_layer(cell, constants[w], constants[r], constants[b] if b else None)
    except ValueError as error:
        raise cell.node.error(error) from None


def _last_uses(steps: list[Step], keep: set[str]) -> list[list[str]]:
    """Tell for each step which of the values computed so far nothing reads any more."""
    made = {name for step in steps for name in step.node.outputs if name} - keep
    dropped: list[list[str]] = []
    for step in reversed(steps):
        names = {*step.inputs, *step.node.outputs} & made
        made -= names
        dropped.append(sorted(names))
    return dropped[::-1]


def _fitting(name: str, given: Any, value: Value) -> Array:
    """Check an input; one of another byte order is converted."""
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise ValueError(f"graph: {name} is no array: {error}") from None
    if array.dtype.newbyteorder("=") != value.dtype:
        raise ValueError(f"graph: {name} has dtype {array.dtype}, expected {value.dtype}")
    if value.shape is not None and not (
        array.ndim == len(value.shape)
        and all(n == m for n, m in zip(array.shape, value.shape, strict=True) if type(m) is int)
    ):
        raise ValueError(f"graph: {name} has shape {array.shape}, expected {value}")
    return array.astype(value.dtype, copy=False)


def _own(array: Array, fed: Mapping[str, Array]) -> Array:
    """Copy an output that is a constant or shares memory with an input."""
    shared = any(np.may_share_memory(array, other) for other in fed.values())
    return array if array.flags.writeable and not shared else array.copy()
