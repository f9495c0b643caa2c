"""The operators around recurrent nodes, each a small function of NumPy.

An operator is called with its node, for the attributes, and with its inputs, None where one is left
out.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from rnnfast.flat import Array
from rnnfast.models.encoder import reverse
from rnnfast.nn import Activation

from .source import DTYPES, Node

Operator = Callable[..., Any]  # (node, *inputs) to an array, or a tuple of them


def _plain(function: Callable[..., Any]) -> Operator:
    """Call a function of NumPy that needs no attribute."""
    return lambda _, *inputs: function(*inputs)


def _folded(function: Callable[..., Any]) -> Operator:
    """Apply a function of two arrays to any number of them."""
    return lambda _, *inputs: functools.reduce(function, inputs)


def _integers(node: Node, attribute: str, given: Array | None) -> list[int] | None:
    """Read integers from an input or, as in earlier opsets, from an attribute."""
    values = node[attribute] if given is None else np.atleast_1d(given)
    return None if values is None else [int(v) for v in values]


def _axes(node: Node, given: Array | None) -> tuple[int, ...] | None:
    axes = _integers(node, "axes", given)
    return None if axes is None else tuple(axes)


# -- arithmetic ----------------------------------------------------------------------------------


def _div(x: Array, y: Array) -> Array:
    if x.dtype.kind == "f":
        return np.asarray(x / y)
    quotient = x // y  # rounds down, ONNX to zero
    return np.asarray(quotient + ((quotient < 0) & (quotient * y != x)))


def _mod(node: Node, x: Array, y: Array) -> Array:
    return np.asarray(np.fmod(x, y) if node["fmod"] else np.mod(x, y))


def _pow(x: Array, y: Array) -> Array:
    return np.power(x, y).astype(x.dtype)


def _clip(node: Node, x: Array, least: Array | None = None, most: Array | None = None) -> Array:
    low = node["min"] if least is None else least
    high = node["max"] if most is None else most
    return np.clip(x, low, high)


def _elu(node: Node, x: Array) -> Array:
    return np.where(x > 0, x, node["alpha"] * np.expm1(np.minimum(x, 0)))


def _leaky_relu(node: Node, x: Array) -> Array:
    return np.where(x > 0, x, node["alpha"] * x)


def _matmul(x: Array, y: Array) -> Array:
    if x.ndim > 2 and y.ndim == 2 and x.size:  # one product instead of one for each step
        rows: Array = x.reshape(-1, x.shape[-1]) @ y
        return rows.reshape(*x.shape[:-1], y.shape[1])
    return np.asarray(np.matmul(x, y))


def _gemm(node: Node, a: Array, b: Array, c: Array | None = None) -> Array:
    result = node["alpha"] * ((a.T if node["transA"] else a) @ (b.T if node["transB"] else b))
    if c is not None:
        result = result + node["beta"] * c
    return np.asarray(result).astype(a.dtype, copy=False)


def _by_rows(function: Callable[[Array, int], Array]) -> Operator:
    """Softmax and the like: along an axis, or before opset 13 over all axes from it on."""

    def operator(node: Node, x: Array) -> Array:
        if node.opset >= 13:
            return function(x, node["axis"])
        return function(_flatten(node, x), 1).reshape(x.shape)

    return operator


def _softmax(x: Array, axis: int) -> Array:
    e = np.exp(x - x.max(axis, keepdims=True))
    return np.asarray(e / e.sum(axis, keepdims=True))


def _log_softmax(x: Array, axis: int) -> Array:
    shifted = x - x.max(axis, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis, keepdims=True)))


def _layer_normalization(
    node: Node, x: Array, scale: Array, bias: Array | None = None
) -> tuple[Array, ...]:
    axes = tuple(range(node["axis"] % x.ndim, x.ndim))
    mean = x.mean(axes, keepdims=True)
    inverse = 1 / np.sqrt(x.var(axes, keepdims=True) + node["epsilon"])
    y = (x - mean) * inverse * scale
    return (y if bias is None else y + bias, mean, inverse)[: len(node.outputs)]


def _batch_normalization(
    node: Node, x: Array, scale: Array, bias: Array, mean: Array, variance: Array
) -> Array:
    factor = scale / np.sqrt(variance + node["epsilon"])
    shape = (-1, *(1,) * (x.ndim - 2))  # one number for each channel, on axis 1
    return np.asarray(x * factor.reshape(shape) + (bias - mean * factor).reshape(shape))


def _reduced(function: Callable[..., Any]) -> Operator:
    def operator(node: Node, x: Array, axes: Array | None = None) -> Array:
        over = _axes(node, axes) or None
        if over is None and node["noop_with_empty_axes"]:
            return x
        result = np.asarray(function(x, axis=over, keepdims=bool(node["keepdims"])))
        return result.astype(x.dtype, copy=False)

    return operator


def _arg(function: Callable[..., Any]) -> Operator:
    def operator(node: Node, x: Array) -> Array:
        axis = node["axis"]
        if not node["select_last_index"]:
            return np.asarray(function(x, axis, keepdims=bool(node["keepdims"])))
        last = function(np.flip(x, axis), axis, keepdims=bool(node["keepdims"]))
        return np.asarray(x.shape[axis] - 1 - last)

    return operator


def _top_k(node: Node, x: Array, k: Array | None = None) -> tuple[Array, Array]:
    """Sort, the first of equals first, and keep the beginning."""
    axis, count = node["axis"], node["k"] if k is None else k.item()
    if node["largest"] == 0:
        order = np.argsort(x, axis, kind="stable")
    else:
        backward = np.flip(np.argsort(np.flip(x, axis), axis, kind="stable"), axis)
        order = x.shape[axis] - 1 - backward
    if count > x.shape[axis]:
        raise ValueError(f"k is {count}, expected at most {x.shape[axis]}")
    first = np.take(order, range(count), axis)
    return np.take_along_axis(x, first, axis), first


# -- shapes --------------------------------------------------------------------------------------


def _reshape(node: Node, x: Array, shape: Array) -> Array:
    kept = not node["allowzero"]
    return x.reshape([x.shape[i] if n == 0 and kept else n for i, n in enumerate(shape.tolist())])


def _flatten(node: Node, x: Array) -> Array:
    axis = node["axis"] + (x.ndim if node["axis"] < 0 else 0)
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def _squeeze(node: Node, x: Array, axes: Array | None = None) -> Array:
    return np.squeeze(x, _axes(node, axes))


def _unsqueeze(node: Node, x: Array, axes: Array | None = None) -> Array:
    return np.expand_dims(x, _axes(node, axes) or ())


def _transpose(node: Node, x: Array) -> Array:
    return np.transpose(x, node["perm"])


def _expand(x: Array, shape: Array) -> Array:
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(shape.tolist())))


def _shape(node: Node, x: Array) -> Array:
    return np.array(x.shape[node["start"] or 0 : node["end"]], np.int64)


# -- parts ---------------------------------------------------------------------------------------


def _concat(node: Node, *inputs: Array) -> Array:
    return np.concatenate(inputs, node["axis"])


def _split(node: Node, x: Array, split: Array | None = None) -> tuple[Array, ...]:
    axis, count = node["axis"], len(node.outputs)
    sizes = _integers(node, "split", split)
    if sizes is None:
        step = -(-x.shape[axis] // count)
        return tuple(np.split(x, [step * i for i in range(1, count)], axis))
    if sum(sizes) != x.shape[axis] or len(sizes) != count:
        raise ValueError(f"parts of {sizes}, expected {count} of {x.shape[axis]} together")
    return tuple(np.split(x, np.cumsum(sizes)[:-1], axis))


def _slice(
    node: Node,
    x: Array,
    starts: Array | None = None,
    ends: Array | None = None,
    axes: Array | None = None,
    steps: Array | None = None,
) -> Array:
    first, last = _integers(node, "starts", starts) or [], _integers(node, "ends", ends) or []
    over = _axes(node, axes) or tuple(range(len(first)))
    strides = _integers(node, "steps", steps) or [1] * len(first)
    parts = [slice(None)] * x.ndim
    for axis, *part in zip(over, first, last, strides, strict=True):
        parts[axis] = slice(*part)
    return x[tuple(parts)]


def _gather(node: Node, x: Array, indices: Array) -> Array:
    return np.take(x, indices, node["axis"])


def _reached(node: Node, x: Array, indices: Array) -> Array:
    """Return a view of x as far as indices go on the other axes; NumPy would repeat these."""
    axis = node["axis"] % x.ndim
    return x[tuple(slice(n) if i != axis else slice(None) for i, n in enumerate(indices.shape))]


def _gather_elements(node: Node, x: Array, indices: Array) -> Array:
    return np.take_along_axis(_reached(node, x, indices), indices, node["axis"])


def _scatter_elements(node: Node, x: Array, indices: Array, updates: Array) -> Array:
    result = x.copy()
    np.put_along_axis(_reached(node, result, indices), indices, updates, node["axis"])
    return result


def _reverse_sequence(node: Node, x: Array, lengths: Array) -> Array:
    axes = (node["time_axis"], node["batch_axis"])
    return np.moveaxis(reverse(np.moveaxis(x, axes, (0, 1)), lengths), (0, 1), axes)


# -- sources and types ---------------------------------------------------------------------------


def _constant(node: Node) -> Array:
    for name, dtype in (("float", np.float32), ("int", np.int64)):
        for value in (node[f"value_{name}"], node[f"value_{name}s"]):
            if value is not None:
                return np.array(value, dtype)
    return np.asarray(node["value"])


def _constant_of_shape(node: Node, shape: Array) -> Array:
    value = np.zeros(1, np.float32) if node["value"] is None else node["value"]
    return np.full(shape.tolist(), value[0])


def _range(start: Array, limit: Array, delta: Array) -> Array:
    return np.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


def _cast(node: Node, x: Array) -> Array:
    return x.astype(DTYPES[node["to"]])


def _one_hot(node: Node, indices: Array, depth: Array, values: Array) -> Array:
    """Put on where an index points, off elsewhere; negative ones count from the end."""
    size, (off, on) = int(depth.item()), values
    hot = np.where(indices < 0, indices + size, indices)[..., None] == np.arange(size)
    return np.moveaxis(np.where(hot, on, off), -1, node["axis"])


def _dropout(node: Node, x: Array, *_: Array | None) -> tuple[Array, ...]:
    return (x, np.ones(x.shape, np.bool_))[: len(node.outputs)]


OPERATORS: dict[str, Operator] = {
    "Abs": _plain(np.abs),
    "Add": _plain(np.add),
    "And": _plain(np.logical_and),
    "ArgMax": _arg(np.argmax),
    "ArgMin": _arg(np.argmin),
    "BatchNormalization": _batch_normalization,
    "Cast": _cast,
    "Ceil": _plain(np.ceil),
    "Clip": _clip,
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Div": _plain(_div),
    "Dropout": _dropout,
    "Elu": _elu,
    "Equal": _plain(np.equal),
    "Exp": _plain(np.exp),
    "Expand": _plain(_expand),
    "Flatten": _flatten,
    "Floor": _plain(np.floor),
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "Gemm": _gemm,
    "Greater": _plain(np.greater),
    "GreaterOrEqual": _plain(np.greater_equal),
    "Identity": _plain(np.asarray),
    "LayerNormalization": _layer_normalization,
    "LeakyRelu": _leaky_relu,
    "Less": _plain(np.less),
    "LessOrEqual": _plain(np.less_equal),
    "Log": _plain(np.log),
    "LogSoftmax": _by_rows(_log_softmax),
    "MatMul": _plain(_matmul),
    "Max": _folded(np.maximum),
    "Min": _folded(np.minimum),
    "Mod": _mod,
    "Mul": _plain(np.multiply),
    "Neg": _plain(np.negative),
    "Not": _plain(np.logical_not),
    "OneHot": _one_hot,
    "Or": _plain(np.logical_or),
    "Pow": _plain(_pow),
    "Range": _plain(_range),
    "Reciprocal": _plain(np.reciprocal),
    "ReduceMax": _reduced(np.max),
    "ReduceMean": _reduced(np.mean),
    "ReduceMin": _reduced(np.min),
    "ReduceProd": _reduced(np.prod),
    "ReduceSum": _reduced(np.sum),
    "Relu": _plain(Activation("relu")),
    "Reshape": _reshape,
    "ReverseSequence": _reverse_sequence,
    "ScatterElements": _scatter_elements,
    "Shape": _shape,
    "Sigmoid": _plain(Activation("sigmoid")),
    "Size": _plain(lambda x: np.array(x.size, np.int64)),
    "Slice": _slice,
    "Softmax": _by_rows(_softmax),
    "Softplus": _plain(lambda x: np.logaddexp(x, x.dtype.type(0))),
    "Split": _split,
    "Sqrt": _plain(np.sqrt),
    "Squeeze": _squeeze,
    "Sub": _plain(np.subtract),
    "Sum": _folded(np.add),
    "Tanh": _plain(np.tanh),
    "Tile": _plain(np.tile),
    "TopK": _top_k,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": _plain(np.where),
    "Xor": _plain(np.logical_xor),
}

# Attributes of which one value alone is run, that of inference or of plain assignment.
ONLY: dict[str, dict[str, Any]] = {
    "BatchNormalization": {"training_mode": 0, "spatial": 1},
    "ScatterElements": {"reduction": "none"},
}
