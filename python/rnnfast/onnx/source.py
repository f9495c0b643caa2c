"""What a model says, read and checked: its nodes with all attributes, its constants, its values."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from onnx import (
    AttributeProto,
    ModelProto,
    TensorProto,
    ValueInfoProto,
    checker,
    defs,
    external_data_helper,
    helper,
    inliner,
    load_model_from_string,
    numpy_helper,
    shape_inference,
)

from rnnfast.flat import Array

OLDEST_OPSET = 7  # the first with today's broadcasting
_TENSORS = ("FLOAT", "DOUBLE", "BOOL", *(f"{u}INT{n}" for u in ("", "U") for n in (8, 16, 32, 64)))
DTYPES: dict[int, np.dtype[Any]] = {
    number: helper.tensor_dtype_to_np_dtype(number)
    for number in map(TensorProto.DataType.Value, _TENSORS)
}
_SMALL = 1024  # elements of a constant whose values may decide about shapes


class Value(NamedTuple):
    """An input or output of a graph.

    Attributes
    ----------
    dtype : numpy.dtype
        Of its elements.
    shape : tuple or None
        An integer for an axis of one size, a name or None for one of any size; None where the
        model does not say.
    """

    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...] | None

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.dtype} of any shape"
        return f"{self.dtype} ({', '.join('?' if n is None else str(n) for n in self.shape)})"


@dataclass(frozen=True, eq=False)
class Node:
    """A node of a graph.

    Attributes
    ----------
    op : str
        The operator, behind its domain if that is not ONNX's.
    name : str
        Its own, or one made of the operator and the node's number.
    inputs, outputs : tuple of str
        Names of values; empty where one is left out.
    attributes : dict
        All that the operator has, the default where none is given; None without one.
    opset : int
        Version of the operators.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    opset: int

    def __str__(self) -> str:
        return f"{self.op} node {self.name!r}"

    def __getitem__(self, attribute: str) -> Any:
        return self.attributes.get(attribute)

    def error(self, text: object) -> ValueError:
        """Make an error that names the node."""
        return ValueError(f"{self}: {text}")


@dataclass(frozen=True, eq=False)
class Source:
    """A model, taken apart."""

    name: str
    nodes: list[Node]
    constants: dict[str, Array]
    inputs: dict[str, Value]
    outputs: dict[str, Value]


def read(source: str | os.PathLike[str] | ModelProto) -> ModelProto:
    """Read a model from a file, with its external data, or take it as it is; functions inlined."""
    if isinstance(source, str | os.PathLike):
        model = _read_file(Path(source))
    elif isinstance(source, ModelProto):
        model = source
    else:
        kind = type(source).__name__
        raise TypeError(f"source is a {kind}, expected a path or an onnx.ModelProto")
    return inliner.inline_local_functions(model) if model.functions else model


def _read_file(path: Path) -> ModelProto:
    content = path.read_bytes()
    try:
        model = load_model_from_string(content)
    except DecodeError:
        raise ValueError(f"{path} is no ONNX model") from None
    try:
        external_data_helper.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, checker.ValidationError) as error:
        raise ValueError(f"{path}: external data cannot be read: {error}") from None
    return model


def take_apart(model: ModelProto) -> Source:
    """Read nodes, constants and values of a model."""
    opset = _opset(model)
    graph = model.graph
    if graph.sparse_initializer:
        name = graph.sparse_initializer[0].values.name
        raise ValueError(f"initializer {name!r} is sparse, expected dense ones")
    constants = {tensor.name: _constant(tensor) for tensor in graph.initializer}
    return Source(
        graph.name,
        list(_nodes(model, opset)),
        constants,
        {v.name: _declared("input", v) for v in graph.input if v.name not in constants},
        {v.name: _declared("output", v) for v in graph.output},
    )


def _opset(model: ModelProto) -> int:
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    newest = defs.onnx_opset_version()
    if not versions:
        raise ValueError("the model imports no ONNX operators: it is empty or no ONNX model")
    if not OLDEST_OPSET <= versions[0] <= newest:
        raise ValueError(f"the model has opset {versions[0]}, expected {OLDEST_OPSET} to {newest}")
    return int(versions[0])


def _constant(tensor: TensorProto) -> Array:
    what = f"initializer {tensor.name!r}"
    if tensor.data_location == TensorProto.EXTERNAL:
        raise ValueError(f"{what} lies in a file of its own, expected a path to read it from")
    if tensor.data_type not in DTYPES:
        raise ValueError(f"{what} is of type {_type_name(tensor.data_type)}, which is not run here")
    return _array(tensor, what)


def _array(tensor: TensorProto, what: str) -> Array:
    try:
        array: Array = numpy_helper.to_array(tensor)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{what} cannot be read: {error}") from None
    array.flags.writeable = False
    return array


def _type_name(number: int) -> str:
    known = number in TensorProto.DataType.values()
    return str(TensorProto.DataType.Name(number)).lower() if known else f"number {number}"


def _declared(what: str, info: ValueInfoProto) -> Value:
    tensor = info.type.tensor_type
    if tensor.elem_type not in DTYPES:
        raise ValueError(
            f"{what} {info.name!r} is of type {_type_name(tensor.elem_type)}, which is not run here"
        )
    shape: tuple[int | str | None, ...] | None = None
    if tensor.HasField("shape"):
        shape = tuple(
            dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None
            for dim in tensor.shape.dim
        )
    return Value(DTYPES[tensor.elem_type], shape)


def _nodes(model: ModelProto, opset: int) -> Iterator[Node]:
    """Read nodes; names are made up or extended where they would not tell nodes apart."""
    seen: set[str] = set()
    for i, proto in enumerate(model.graph.node):
        ours = proto.domain in ("", "ai.onnx")
        op = proto.op_type if ours else f"{proto.domain}.{proto.op_type}"
        name = proto.name or f"{op}_{i}"
        name = f"{name}_{i}" if name in seen else name
        seen.add(name)
        node = Node(op, name, tuple(proto.input), tuple(proto.output), {}, opset)
        if ours and op.isascii() and defs.has(op):
            node.attributes.update(_attributes(node, proto.attribute))
        yield node


def _attributes(node: Node, given: Iterable[AttributeProto]) -> dict[str, Any]:
    try:
        schema = defs.get_schema(node.op, node.opset, "")
    except defs.SchemaError:
        raise node.error(f"there is no such operator in opset {node.opset}") from None
    if not (
        schema.min_input <= len(node.inputs) <= schema.max_input
        and schema.min_output <= len(node.outputs) <= schema.max_output
    ):
        raise node.error(
            f"{len(node.inputs)} inputs and {len(node.outputs)} outputs are not what opset "
            f"{node.opset} has"
        )
    for name, formal in zip(node.inputs, schema.inputs, strict=False):
        if not name and formal.option != defs.OpSchema.FormalParameterOption.Optional:
            raise node.error(f"input {formal.name} is left out")
    values = {
        name: _attribute(node, attribute.default_value) if attribute.default_value.name else None
        for name, attribute in schema.attributes.items()
    }
    for attribute in given:
        known = schema.attributes.get(attribute.name)
        if known is None:
            raise node.error(f"opset {node.opset} has no attribute {attribute.name}")
        if known.type.name != AttributeProto.AttributeType.Name(attribute.type):
            raise node.error(f"attribute {attribute.name} is not of type {known.type.name.lower()}")
        values[attribute.name] = _attribute(node, attribute)
    for name, attribute in schema.attributes.items():
        if attribute.required and values[name] is None:
            raise node.error(f"attribute {name} is missing")
    return values


def _attribute(node: Node, attribute: AttributeProto) -> Any:
    value = helper.get_attribute_value(attribute)
    if isinstance(value, TensorProto):
        return _array(value, f"{node}: attribute {attribute.name}")
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if attribute.type == AttributeProto.STRINGS:
        return [text.decode("utf-8", "replace") for text in value]
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else value


def check_values(model: ModelProto, nodes: Iterable[Node]) -> None:
    """Refuse values of which ONNX's own rules say that they do not fit, or that are not run here.

    Raises
    ------
    ValueError
        Naming the node.
    """
    try:
        inferred = shape_inference.infer_shapes(
            _light(model), check_type=True, strict_mode=True, data_prop=True
        )
    except shape_inference.InferenceError as error:
        raise ValueError(f"the model does not fit together: {error}") from None
    types = {v.name: v.type for v in [*inferred.graph.value_info, *inferred.graph.output]}
    for node in nodes:
        for name in filter(None, node.outputs):
            known = types.get(name)
            if known is None or not known.WhichOneof("value"):
                continue
            if not known.HasField("tensor_type") or known.tensor_type.elem_type not in DTYPES:
                kind = _type_name(known.tensor_type.elem_type)
                raise node.error(f"makes values of type {kind}, which is not run here")


def _light(model: ModelProto) -> ModelProto:
    """Copy a model without what shape inference need not read: weights, former inferences."""
    light = ModelProto(ir_version=max(model.ir_version, 4))
    light.opset_import.extend(model.opset_import)
    graph = light.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    graph.output.extend(model.graph.output)
    constants = {tensor.name for tensor in model.graph.initializer}
    graph.input.extend(v for v in model.graph.input if v.name not in constants)
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= _SMALL:
            graph.initializer.append(tensor)
        else:
            graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    return light
