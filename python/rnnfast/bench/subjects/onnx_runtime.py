"""ONNX Runtime: a graph of one RNN, LSTM or GRU node, on the CPU, at its defaults."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnfast.bench.grid import GATES, Case
from rnnfast.bench.problem import Array, Arrays, Problem
from rnnfast.bench.subjects import Job

OPERATORS = {"basic": "RNN", "lstm": "LSTM", "gru": "GRU"}

# Where ONNX has each gate, in PyTorch's numbering: LSTM i o f g from i f g o, GRU z r n from r z n.
GATE_ORDER = {"basic": (0,), "lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}

OPSET = 14
IR_VERSION = 8


def version() -> str:
    """The version of ONNX Runtime."""
    import onnxruntime

    return str(onnxruntime.__version__)


def supports(case: Case) -> bool:
    """Forward passes and steps of float32 arrays: it neither trains nor runs others."""
    return case.work != "train" and case.array_dtype == "float32"


def prepare(problem: Problem, num_threads: int) -> Job:
    """A session on a graph whose initialisers are the weights of the problem."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model(problem).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feeds = inputs(problem)

    def call() -> Any:
        return session.run(None, feeds)

    def read(result: Any) -> Arrays:
        y = result[0][:, 0]  # (T, 1, B, H): one direction
        if problem.case.work != "step":
            return {"y": y}
        return {"y": y[0], **({"c": result[1][0]} if len(result) > 1 else {})}

    return Job(call, read)


def inputs(problem: Problem) -> Arrays:
    """The arrays fed on every call: x, and for a step the state."""
    if problem.case.work != "step":
        return {"x": problem.x}
    return {"x": problem.x, "h": problem.h} | (
        {"c": problem.c} if problem.case.cell == "lstm" else {}
    )


def model(problem: Problem) -> Any:
    """The ``onnx.ModelProto`` of a problem: x (T, B, I) to y (T, 1, B, H), state on request."""
    from onnx import helper, numpy_helper

    case = problem.case
    stepping, lstm = case.work == "step", case.cell == "lstm"
    attributes: dict[str, Any] = {"linear_before_reset": 1} if case.cell == "gru" else {}
    outputs = ["y", "", "c_out"] if stepping and lstm else ["y"]
    fed = ["x", "W", "R", "B", "", "h", "c"] if lstm else ["x", "W", "R", "B", "", "h"]
    node = helper.make_node(
        OPERATORS[case.cell],
        fed if stepping else fed[:4],
        outputs,
        hidden_size=case.hidden_size,
        **attributes,
    )
    state = (1, case.batch, case.hidden_size)
    results = {"y": (case.seq_length, *state), "c_out": state}
    graph = helper.make_graph(
        [node],
        case.cell,
        [_value(name, array.shape) for name, array in inputs(problem).items()],
        [_value(name, results[name]) for name in outputs if name],
        [numpy_helper.from_array(array, name) for name, array in _initialisers(problem).items()],
    )
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)


def _value(name: str, shape: tuple[int, ...]) -> Any:
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _initialisers(problem: Problem) -> Arrays:
    """W (1, G*H, I), R (1, G*H, H) and B (1, 2*G*H) in the order of ONNX."""

    def reorder(array: Array) -> Array:
        blocks = np.split(array, GATES[problem.case.cell])
        return np.concatenate([blocks[gate] for gate in GATE_ORDER[problem.case.cell]])

    ours = {name: reorder(array) for name, array in problem.weights.items()}
    bias = np.concatenate([ours["bias_ih"], ours["bias_hh"]])
    return {"W": ours["weight_ih"][None], "R": ours["weight_hh"][None], "B": bias[None]}
