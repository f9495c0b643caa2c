"""ONNX models for the tests, and ONNX Runtime's answers to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from onnx import ModelProto, helper, numpy_helper

Array = np.ndarray[Any, Any]
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
OPSET, IR_VERSION = 17, 8


def run_peer(model: ModelProto, feeds: dict[str, Array]) -> dict[str, Array]:
    """Outputs of ONNX Runtime by name."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def value(name: str, dtype: Any, shape: Any) -> Any:
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape
    )


def model_of(
    nodes: list[Any],
    inputs: list[Any],
    outputs: list[Any],
    constants: dict[str, Array] | None = None,
    opset: int = OPSET,
) -> ModelProto:
    tensors = [numpy_helper.from_array(v, k) for k, v in (constants or {}).items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def recurrent_model(
    rng: np.random.Generator,
    op: str,
    *,
    inputs: int = 5,
    hidden: int = 7,
    direction: str = "forward",
    bias: bool = True,
    lengths: bool = False,
    initial: bool = False,
    dtype: Any = np.float32,
    left_out: tuple[str, ...] = (),
    **attributes: Any,
) -> ModelProto:
    """A model of one node with random weights, T and B free; `left_out` names outputs."""
    D, G = 2 if direction == "bidirectional" else 1, GATES[op]
    shapes = {"W": (D, G * hidden, inputs), "R": (D, G * hidden, hidden)}
    if bias:
        shapes["B"] = (D, 2 * G * hidden)
    constants = {
        name: (rng.standard_normal(shape) / np.sqrt(hidden)).astype(dtype)
        for name, shape in shapes.items()
    }
    batch_first = attributes.get("layout") == 1
    state = ["B", D, hidden] if batch_first else [D, "B", hidden]
    fed = [value("X", dtype, ["B", "T", inputs] if batch_first else ["T", "B", inputs])]
    if lengths:
        fed.append(value("lengths", np.int32, ["B"]))
    if initial:
        fed += [value(f"initial_{s}", dtype, state) for s in ("hc" if op == "LSTM" else "h")]
    given = {v.name for v in fed} | set(constants)
    names = ["X", "W", "R", "B", "lengths", "initial_h", *(["initial_c"] if op == "LSTM" else [])]
    made = {"Y": ["B", "T", D, hidden] if batch_first else ["T", D, "B", hidden], "Y_h": state}
    if op == "LSTM":
        made["Y_c"] = state
    node = helper.make_node(
        op,
        [name if name in given else "" for name in names],
        ["" if name in left_out else name for name in made],
        name="node",
        hidden_size=hidden,
        direction=direction,
        **attributes,
    )
    outputs = [value(k, dtype, shape) for k, shape in made.items() if k not in left_out]
    return model_of([node], fed, outputs, constants)


def draw_feeds(rng: np.random.Generator, model: ModelProto, T: int, B: int) -> dict[str, Array]:
    """Random inputs; lengths of 1 to T in any order, the first of them T."""
    feeds = {}
    for info in model.graph.input:
        dtype = helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
        sizes = {"T": T, "B": B, "time": T, "batch": B}
        dims = info.type.tensor_type.shape.dim
        shape = [sizes[d.dim_param] if d.dim_param else d.dim_value for d in dims]
        if info.name == "lengths":
            feeds[info.name] = rng.integers(1, T + 1, size=shape).astype(dtype)
            feeds[info.name][:1] = T
        else:
            feeds[info.name] = rng.standard_normal(shape).astype(dtype)
    return feeds


def assert_same(mine: dict[str, Array], theirs: dict[str, Array], tolerance: float = 1e-5) -> None:
    assert list(mine) == list(theirs)
    for name, v in mine.items():
        assert v.shape == theirs[name].shape, name
        np.testing.assert_allclose(v, theirs[name], rtol=0, atol=tolerance, err_msg=name)
