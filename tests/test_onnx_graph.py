"""Graphs: what PyTorch exports, what is refused on loading, and what a call refuses."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the ONNX bridge needs onnx")
pytest.importorskip("onnxruntime", reason="the ONNX bridge is compared with onnxruntime")

from onnx import TensorProto, helper, numpy_helper

import rnnfast.onnx
from onnx_models import Array, assert_same, draw_feeds, model_of, recurrent_model, run_peer, value

# -- models of PyTorch -----------------------------------------------------------------------------


def tagger(torch: Any, cell: str, embedded: bool, **options: Any) -> Any:
    """A recurrent model with heads on every output and on the last state."""

    class Tagger(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(11, 5) if embedded else torch.nn.Identity()
            self.recurrent = getattr(torch.nn, cell)(5, 7, **options)
            width = 14 if options.get("bidirectional") else 7
            self.tags, self.scores = torch.nn.Linear(width, 3), torch.nn.Linear(7, 4)

        def forward(self, x: Any) -> Any:
            y, state = self.recurrent(self.embedding(x))
            h = state[0] if isinstance(state, tuple) else state
            tags = self.tags(torch.tanh(y))
            return torch.softmax(tags, -1), torch.log_softmax(self.scores(h[-1]), -1), y.mean(1)

    torch.manual_seed(0)
    return Tagger().eval()


def exported(torch: Any, module: Any, x: Any) -> Any:
    """Export with both axes free; the exporter warns about itself."""
    file, axes = io.BytesIO(), {"x": {0: "first", 1: "second"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (x,), file, dynamo=False, input_names=["x"], dynamic_axes=axes)
    return onnx.load_model_from_string(file.getvalue())


def exported_by_dynamo(torch: Any, module: Any, x: Any, axis: int) -> Any:
    """Export with the batch's axis free; this exporter writes the example's steps down."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module, (x,), dynamo=True, input_names=["x"], verbose=False,
            dynamic_shapes=({axis: torch.export.Dim.AUTO},),
        )  # fmt: skip
    return program.model_proto


def draw_example(torch: Any, rng: np.random.Generator, embedded: bool, *size: int) -> Any:
    if embedded:
        return torch.from_numpy(rng.integers(11, size=size))
    return torch.from_numpy(rng.standard_normal((*size, 5), dtype=np.float32))


def check_module(torch: Any, module: Any, model: Any, examples: list[Any]) -> None:
    graph = rnnfast.onnx.load(model)
    for x in examples:
        with torch.no_grad():
            expected = [v.numpy() for v in module(x)]
        mine = graph(x=x.numpy())
        assert_same(mine, dict(zip(mine, expected, strict=True)), 2e-6)


@pytest.mark.parametrize("embedded", [False, True], ids=["features", "embedded"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_first": True},
        {"num_layers": 2, "bidirectional": True},
        {"num_layers": 2, "bidirectional": True, "batch_first": True, "bias": False},
    ],
    ids=lambda o: "-".join(o) or "plain",
)
@pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU"])
def test_models_of_pytorch(
    cell: str, options: dict[str, Any], embedded: bool, rng: np.random.Generator
) -> None:
    torch = pytest.importorskip("torch", reason="exports models of PyTorch")
    module = tagger(torch, cell, embedded, **options)
    examples = [draw_example(torch, rng, embedded, *s) for s in ((6, 4), (3, 5), (1, 1))]
    check_module(torch, module, exported(torch, module, examples[0]), examples)


@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "bidirectional"])
@pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU"])
def test_models_of_pytorchs_newer_exporter(
    cell: str, bidirectional: bool, rng: np.random.Generator
) -> None:
    torch = pytest.importorskip("torch", reason="exports models of PyTorch")
    pytest.importorskip("onnxscript", reason="PyTorch's newer exporter needs onnxscript")
    module = tagger(
        torch, cell, bidirectional, num_layers=2, bidirectional=bidirectional,
        batch_first=bidirectional,
    )  # fmt: skip
    sizes = [(4, 6), (5, 6)] if bidirectional else [(6, 4), (6, 5)]
    examples = [draw_example(torch, rng, bidirectional, *size) for size in sizes]
    model = exported_by_dynamo(torch, module, examples[0], 0 if bidirectional else 1)
    check_module(torch, module, model, examples)


@pytest.mark.parametrize("lengths", [[6, 4, 1], [2, 6, 3]], ids=["sorted", "unsorted"])
def test_packed_sequences_of_pytorch(lengths: list[int], rng: np.random.Generator) -> None:
    """Lengths reach the node as sequence_lens."""
    torch = pytest.importorskip("torch", reason="exports models of PyTorch")
    rnn = torch.nn.utils.rnn

    class Packed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = torch.nn.GRU(5, 7, 2, bidirectional=True)

        def forward(self, x: Any, lengths: Any) -> Any:
            y, h = self.gru(rnn.pack_padded_sequence(x, lengths, enforce_sorted=False))
            return rnn.pad_packed_sequence(y)[0], h

    torch.manual_seed(0)
    module, file = Packed().eval(), io.BytesIO()
    x = torch.from_numpy(rng.standard_normal((6, 3, 5), dtype=np.float32))
    steps = torch.tensor(lengths)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (x, steps), file, dynamo=False, input_names=["x", "lengths"],
            dynamic_axes={"x": {0: "T", 1: "B"}, "lengths": {0: "B"}},
        )  # fmt: skip
    graph = rnnfast.onnx.load(onnx.load_model_from_string(file.getvalue()))
    with torch.no_grad():
        expected = [v.numpy() for v in module(x, steps)]
    mine = graph(x=x.numpy(), lengths=steps.numpy())
    assert_same(mine, dict(zip(mine, expected, strict=True)), 2e-6)


# -- graphs as other exporters write them ----------------------------------------------------------


def test_a_model_as_tf2onnx_writes_it(rng: np.random.Generator) -> None:
    """Batch-first tokens, two nodes of one direction each, zero states by Shape and Expand."""
    H = 6
    lstms = [
        recurrent_model(rng, "LSTM", inputs=4, hidden=H, direction=d)
        for d in ("forward", "reverse")
    ]
    constants = {
        f"{t.name}_{i}": numpy_helper.to_array(t)
        for i, m in enumerate(lstms)
        for t in m.graph.initializer
    }
    constants |= {
        "embeddings": rng.standard_normal((9, 4)).astype(np.float32),
        "kernel": rng.standard_normal((2 * H, 3)).astype(np.float32),
        "bias": rng.standard_normal(3).astype(np.float32),
        "zero": np.zeros(1, np.int64), "one": np.ones(1, np.int64), "units": np.array([1, H]),
        "nothing": np.zeros((1, 1, 1), np.float32), "end": np.array([-1]),
        "last": np.array([2**31 - 1]),
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("Gather", ["embeddings", "tokens"], ["embedded"]),
        node("Transpose", ["embedded"], ["x"], perm=[1, 0, 2]),
        node("Shape", ["tokens"], ["shape"]),
        node("Slice", ["shape", "zero", "one", "zero"], ["batch"]),
        node("Concat", ["one", "batch", "units"], ["long"], axis=0),
        node("Slice", ["long", "zero", "end", "zero", "one"], ["most"]),
        node("Slice", ["units", "one", "last"], ["H"]),
        node("Concat", ["one", "batch", "H"], ["state_shape"], axis=0),
        node("Expand", ["nothing", "state_shape"], ["state"]),
    ]
    for i, direction in enumerate(("forward", "reverse")):
        weights = [f"{name}_{i}" for name in "WRB"]
        nodes += [
            node(
                "LSTM", ["x", *weights, "", "state", "state"], ["", f"h_{i}"], name=f"lstm_{i}",
                direction=direction, hidden_size=H,
            ),
            node("Squeeze", [f"h_{i}", "zero"], [f"last_{i}"]),
        ]  # fmt: skip
    nodes += [
        node("Concat", ["last_0", "last_1"], ["both"], axis=-1),
        node("MatMul", ["both", "kernel"], ["product"]),
        node("Add", ["product", "bias"], ["logits"]),
        node("Softmax", ["logits"], ["shares"]),
    ]
    model = model_of(
        nodes,
        [value("tokens", np.int64, ["B", "T"])],
        [value("shares", np.float32, ["B", 3]), value("most", np.int64, [3])],
        constants,
    )
    graph = rnnfast.onnx.load(model)
    for B, T in ((1, 1), (3, 5)):
        feeds = {"tokens": rng.integers(9, size=(B, T))}
        assert_same(graph(feeds), run_peer(model, feeds))
    assert list(rnnfast.onnx.layers(model)) == ["lstm_0", "lstm_1"]


def test_weights_that_are_computed_from_constants(rng: np.random.Generator) -> None:
    model = recurrent_model(rng, "RNN")
    (w,) = [t for t in model.graph.initializer if t.name == "W"]
    constant = helper.make_node(
        "Constant", [], ["flat"], value=numpy_helper.from_array(numpy_helper.to_array(w)[0])
    )
    one = helper.make_node("Constant", [], ["axis"], value_ints=[0])
    unsqueeze = helper.make_node("Unsqueeze", ["flat", "axis"], ["W"])
    computed = onnx.ModelProto()
    computed.CopyFrom(model)
    computed.graph.initializer.remove(w)
    for n in (unsqueeze, one, constant):
        computed.graph.node.insert(0, n)
    feeds = draw_feeds(rng, model, 4, 3)
    assert_same(rnnfast.onnx.load(computed)(feeds), rnnfast.onnx.load(model)(feeds), 0.0)
    assert "1 RNN" in repr(rnnfast.onnx.load(computed)) and "Constant" not in repr(
        rnnfast.onnx.load(computed)
    )
    assert list(rnnfast.onnx.layers(computed)) == ["node"]


def test_weights_that_are_inputs_with_a_default(rng: np.random.Generator) -> None:
    """Models of before IR version 4 list all constants among the inputs."""
    model = recurrent_model(rng, "GRU")
    feeds = draw_feeds(rng, model, 4, 3)
    expected = rnnfast.onnx.load(model)(feeds)
    for t in model.graph.initializer:
        model.graph.input.append(value(t.name, np.float32, t.dims))
    model.ir_version = 3
    graph = rnnfast.onnx.load(model)
    assert list(graph.inputs) == ["X"]
    assert_same(graph(feeds), expected, 0.0)


def test_functions_of_the_model(rng: np.random.Generator) -> None:
    node, opsets = helper.make_node, [helper.make_opsetid("", 17)]
    twice = helper.make_function(
        "own", "Twice", ["a"], ["b"], [node("Add", ["a", "a"], ["b"])], opsets
    )
    model = model_of(
        [node("Twice", ["x"], ["y"], domain="own")],
        [value("x", np.float32, ["N"])],
        [value("y", np.float32, ["N"])],
    )
    model.functions.append(twice)
    model.opset_import.append(helper.make_opsetid("own", 1))
    x = rng.standard_normal(3).astype(np.float32)
    assert_same(rnnfast.onnx.load(model)(x=x), {"y": 2 * x}, 0.0)


def test_indices_that_reach_a_part(rng: np.random.Generator) -> None:
    """Of the other axes, elements are taken and put as far as there are indices."""
    nodes = [
        helper.make_node("GatherElements", ["x", "i"], ["taken"], axis=-1),
        helper.make_node("ScatterElements", ["x", "i", "updates"], ["put"], axis=1),
    ]
    names = {"x": [3, 5], "updates": [1, 2]}
    fed = [*(value(k, np.float32, v) for k, v in names.items()), value("i", np.int64, [1, 2])]
    outputs = [value("taken", np.float32, [1, 2]), value("put", np.float32, [3, 5])]
    model = model_of(nodes, fed, outputs)
    feeds = {k: rng.standard_normal(v).astype(np.float32) for k, v in names.items()}
    feeds["i"] = np.array([[4, -3]])
    assert_same(rnnfast.onnx.load(model)(feeds), run_peer(model, feeds), 0.0)


@pytest.mark.parametrize("opset", [7, 11])
def test_older_opsets(opset: int, rng: np.random.Generator) -> None:
    """Axes, bounds and parts were attributes; softmax went over all axes from its own one on."""
    node = helper.make_node
    bounds: dict[str, Any] = {"starts": [1], "ends": [5], "axes": [2]} if opset < 10 else {}
    nodes = [
        node("Squeeze", ["x"], ["a"], axes=[1]),
        node("Unsqueeze", ["a"], ["b"], axes=[0]),
        node("Softmax", ["b"], ["soft"], axis=2),
        node("LogSoftmax", ["b"], ["logs"]),
        node("ReduceSum", ["b"], ["sums"], axes=[-1], keepdims=0),
        node("ReduceMean", ["b"], ["mean"]),
        node("Split", ["b"], ["left", "right"], axis=3, split=[1, 3]),
        node("Slice", ["b"] if bounds else ["b", "starts", "ends", "axes"], ["part"], **bounds),
        node("Dropout", ["b"], ["kept"], ratio=0.5),
        *([node("Clip", ["b"], ["clipped"], min=-0.5, max=0.5)] if opset < 11 else []),
    ]  # fmt: skip
    made = [name for n in nodes[2:] for name in n.output]
    constants = {"starts": np.array([1]), "ends": np.array([5]), "axes": np.array([2])}
    model = model_of(
        nodes,
        [value("x", np.float32, [3, 1, 6, 4])],
        [value(name, np.float32, None) for name in made],
        {} if bounds else constants,
        opset,
    )
    feeds = {"x": rng.standard_normal((3, 1, 6, 4), dtype=np.float32)}
    assert_same(rnnfast.onnx.load(model)(feeds), run_peer(model, feeds), 1e-6)


def test_logic_and_integers(rng: np.random.Generator) -> None:
    node = helper.make_node
    nodes = [
        node("Not", ["flags"], ["no"]),
        node("Div", ["a", "b"], ["quotient"]),
        node("Unsqueeze", ["a", "one"], ["column"]),
        node("Gemm", ["column", "column", "one"], ["products"], transB=1),
    ]
    model = model_of(
        nodes,
        [value("flags", np.bool_, ["N"]), value("a", np.int64, ["N"]), value("b", np.int64, ["N"])],
        [
            value("no", np.bool_, ["N"]),
            value("quotient", np.int64, ["N"]),
            value("products", np.int64, ["N", "N"]),
        ],
        {"one": np.array([1])},
    )
    feeds = {
        "flags": np.array([True, False, True, False]),
        "a": np.array([7, -7, 7, -7]), "b": np.array([2, 2, -2, -2]),
    }  # fmt: skip
    expected = {
        "no": ~feeds["flags"],
        "quotient": np.array([3, -3, -3, 3]),
        "products": np.multiply.outer(feeds["a"], feeds["a"]) + 1,
    }
    mine = rnnfast.onnx.load(model)(feeds)
    assert_same(mine, expected, 0.0)
    assert mine["products"].dtype == np.int64


# -- what loading refuses --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "attributes", "text"),
    [
        ("LSTM", {"clip": 3.0}, "clip is 3.0"),
        ("LSTM", {"input_forget": 1}, "input_forget is set"),
        ("GRU", {"activations": ["HardSigmoid", "Tanh"]}, r"activations are \['hardsigmoid'"),
        ("RNN", {"activations": ["Elu"]}, r"activations are \['elu'\]"),
        ("RNN", {"activation_alpha": [0.5]}, r"activation_alpha is \[0.5\]"),
        ("RNN", {"activation_beta": [0.5]}, r"activation_beta is \[0.5\]"),
        (
            "RNN",
            {"activations": ["Affine"], "activation_alpha": [2.0], "activation_beta": [0.0]},
            r"activation Affine has activation_alpha=\[2.0\]",
        ),
        (
            "RNN",
            {"direction": "bidirectional", "activations": ["Tanh", "Relu"]},
            "expected the same ones in each direction",
        ),
        ("LSTM", {"direction": "backward"}, "direction is 'backward', expected forward or"),
        ("LSTM", {"layout": 2}, "layout is 2, expected 0 or 1"),
        ("LSTM", {"output_sequence": 1}, "opset 17 has no attribute output_sequence"),
        ("GRU", {"input_forget": 1}, "opset 17 has no attribute input_forget"),
        ("GRU", {"linear_before_reset": 1.0}, "attribute linear_before_reset is not of type int"),
    ],
)  # fmt: skip
def test_refused_attributes(
    op: str, attributes: dict[str, Any], text: str, rng: np.random.Generator
) -> None:
    model = recurrent_model(rng, op, **attributes)
    for function in (rnnfast.onnx.load, rnnfast.onnx.layers):
        with pytest.raises(ValueError, match=f"^{op} node 'node': .*{text}"):
            function(model)


def test_layout_before_opset_14(rng: np.random.Generator) -> None:
    model = recurrent_model(rng, "GRU", layout=1)
    model.opset_import[0].version = 13
    with pytest.raises(ValueError, match="GRU node 'node': opset 13 has no attribute layout"):
        rnnfast.onnx.load(model)


def test_peepholes(rng: np.random.Generator) -> None:
    model = recurrent_model(rng, "LSTM", lengths=True, initial=True)
    model.graph.node[0].input.append("P")
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 21), np.float32), "P"))
    with pytest.raises(ValueError, match="LSTM node 'node': P is given: peepholes"):
        rnnfast.onnx.load(model)


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "text"),
    [
        ("W", (1, 21, 5), np.float32, r"W has shape \(1, 21, 5\), expected \(1, 28, 5\) for"),
        ("W", (28, 5), np.float32, r"W has shape \(28, 5\), expected 3 axes"),
        ("R", (1, 28, 8), np.float32, r"R has shape \(1, 28, 8\), expected \(1, 28, 7\)"),
        ("R", (2, 28, 7), np.float32, r"R has shape \(2, 28, 7\), expected \(1, 28, 7\)"),
        ("B", (1, 28), np.float32, r"B has shape \(1, 28\), expected \(1, 56\)"),
        ("B", (56,), np.float32, r"B has shape \(56,\), expected 2 axes"),
        ("R", (1, 28, 7), np.float64, "R"),
    ],
)
def test_refused_weights(
    name: str, shape: tuple[int, ...], dtype: Any, text: str, rng: np.random.Generator
) -> None:
    model = recurrent_model(rng, "LSTM")
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(np.zeros(shape, dtype), name))
    with pytest.raises(ValueError, match=text) as raised:
        rnnfast.onnx.load(model)
    assert str(raised.value).count("'node'") <= 1 and "node" in str(raised.value)


def one_node(op: str, *, domain: str = "", dtype: Any = np.float32, **attributes: Any) -> Any:
    node = helper.make_node(op, ["x"], ["y"], name="odd", domain=domain, **attributes)
    return model_of([node], [value("x", dtype, ["N"])], [value("y", dtype, None)])


SUBGRAPH = helper.make_graph([], "then", [], [value("x", np.float32, ["N"])])


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (one_node("Mish2"), "Mish2 node 'odd': this operator is not run here"),
        (
            one_node("Gelu", domain="com.microsoft"),
            r"com\.microsoft\.Gelu node 'odd': this operator",
        ),
        (one_node("Erf"), "Erf node 'odd': this operator is not run here"),
        (
            one_node("If", then_branch=SUBGRAPH, else_branch=SUBGRAPH),
            "If node 'odd': this operator",
        ),
        (one_node("Cast"), "Cast node 'odd': attribute to is missing"),
        (one_node("Add"), "Add node 'odd': 1 inputs and 1 outputs are not what opset 17 has"),
        (one_node("Tanh", dtype=np.float16), "input 'x' is of type float16, which is not run here"),
        (one_node("Tanh", dtype=np.int64), "the model does not fit together: .*odd"),
        (one_node("Transpose", perm=[0, 1]), "the model does not fit together: .*odd"),
    ],
    ids=lambda v: v.graph.node[0].op_type if isinstance(v, onnx.ModelProto) else "",
)
def test_refused_nodes(model: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        rnnfast.onnx.load(model)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda t: t.__setattr__("data_type", 112), "attribute value cannot be read"),
        (lambda t: t.__setattr__("raw_data", b"abc"), "attribute value cannot be read"),
    ],
    ids=["type", "size"],
)
def test_refused_tensors(change: Any, text: str) -> None:
    tensor = numpy_helper.from_array(np.zeros(2, np.float32))
    change(tensor)
    node = helper.make_node("Constant", [], ["y"], name="odd", value=tensor)
    with pytest.raises(ValueError, match=f"Constant node 'odd': {text}"):
        rnnfast.onnx.load(model_of([node], [], [value("y", np.float32, [2])]))


def test_names_that_are_no_text(tmp_path: Path) -> None:
    content = one_node("Tanh").SerializeToString().replace(b"Tanh", b"Ta\xffh")
    (tmp_path / "odd.onnx").write_bytes(content)
    with pytest.raises(ValueError, match=r"node 'odd': this operator is|no ONNX model"):
        rnnfast.onnx.load(tmp_path / "odd.onnx")


def test_refused_types_within_the_graph() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["half"], name="narrow", to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["half"], ["y"], to=TensorProto.FLOAT),
    ]
    model = model_of(nodes, [value("x", np.float32, ["N"])], [value("y", np.float32, ["N"])])
    with pytest.raises(ValueError, match="Cast node 'narrow': makes values of type float16"):
        rnnfast.onnx.load(model)


@pytest.mark.parametrize(
    ("op", "attributes", "text"),
    [
        ("BatchNormalization", {"training_mode": 1}, "training_mode is 1, expected 0"),
        ("ScatterElements", {"reduction": "add"}, "reduction is 'add', expected 'none'"),
    ],
)
def test_refused_modes(op: str, attributes: dict[str, Any], text: str) -> None:
    names = ["x", "a", "b", "c", "d"][: 5 if op == "BatchNormalization" else 3]
    node = helper.make_node(op, names, ["y"], name="odd", **attributes)
    inputs = [value(name, np.float32, None) for name in names]
    with pytest.raises(ValueError, match=f"{op} node 'odd': {text}"):
        rnnfast.onnx.load(model_of([node], inputs, [value("y", np.float32, None)]))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda g: g.node[0].input.__setitem__(0, "nowhere"), "input 'nowhere' is made by no node"),
        (lambda g: g.node[0].input.__setitem__(0, ""), "Tanh node 'odd': input input is left out"),
        (lambda g: g.node.append(g.node[0]), "Tanh node 'odd_1': output 'y' is there already"),
        (lambda g: g.output[0].__setattr__("name", "z"), "output 'z' of the graph is made by no"),
        (lambda g: g.sparse_initializer.add(), "initializer '' is sparse"),
    ],
)
def test_refused_graphs(change: Any, text: str) -> None:
    model = one_node("Tanh")
    change(model.graph)
    with pytest.raises(ValueError, match=text):
        rnnfast.onnx.load(model)


@pytest.mark.parametrize("opset", [6, 1000])
def test_refused_opsets(opset: int) -> None:
    model = one_node("Tanh")
    model.opset_import[0].version = opset
    with pytest.raises(ValueError, match=rf"the model has opset {opset}, expected 7 to \d\d"):
        rnnfast.onnx.load(model)


def test_weights_that_are_not_there(tmp_path: Path, rng: np.random.Generator) -> None:
    model = recurrent_model(rng, "GRU", inputs=50, hidden=40)
    feeds = draw_feeds(rng, model, 3, 2)
    expected = rnnfast.onnx.load(model)(feeds)
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin")
    assert_same(rnnfast.onnx.load(path)(feeds), expected, 0.0)
    bare = onnx.load(path, load_external_data=False)
    with pytest.raises(ValueError, match=r"initializer '[WR]' lies in a file of its own"):
        rnnfast.onnx.load(bare)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ValueError, match="external data cannot be read"):
        rnnfast.onnx.load(path)


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(
        TypeError, match=r"source is a list, expected a path or an onnx\.ModelProto"
    ):
        rnnfast.onnx.load([])  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        rnnfast.onnx.load(tmp_path / "nothing.onnx")
    for content, text in ((b"", "it is empty or no ONNX model"), (b"\xff\xfe", "is no ONNX model")):
        (tmp_path / "odd.onnx").write_bytes(content)
        with pytest.raises(ValueError, match=text):
            rnnfast.onnx.load(tmp_path / "odd.onnx")


def test_layers_need_constant_weights(rng: np.random.Generator) -> None:
    model = recurrent_model(rng, "GRU")
    model.graph.initializer.remove(next(t for t in model.graph.initializer if t.name == "R"))
    model.graph.input.append(value("R", np.float32, [1, 21, 7]))
    with pytest.raises(ValueError, match="GRU node 'node': W, R or B is computed from inputs"):
        rnnfast.onnx.layers(model)


def test_layers_of_a_model_that_does_not_run(rng: np.random.Generator) -> None:
    """Names are made up where there are none, and told apart where they are alike."""
    model = recurrent_model(rng, "GRU")
    model.graph.node.append(helper.make_node("Erf", ["Y"], ["z"]))
    again = model.graph.node.add()
    again.CopyFrom(model.graph.node[0])
    again.output[:] = ["Y2", "h2"]
    third = model.graph.node.add()
    third.CopyFrom(again)
    third.name, third.output[:] = "", ["Y3", "h3"]
    assert list(rnnfast.onnx.layers(model)) == ["node", "node_2", "GRU_3"]


# -- calls -----------------------------------------------------------------------------------------


@pytest.fixture
def graph(rng: np.random.Generator) -> rnnfast.onnx.Graph:
    return rnnfast.onnx.load(recurrent_model(rng, "LSTM", lengths=True))


def test_repr_and_values(graph: rnnfast.onnx.Graph) -> None:
    assert repr(graph).splitlines() == [
        "Graph 'g': 1 LSTM",
        "  input X: float32 (T, B, 5)",
        "  input lengths: int32 (B)",
        "  output Y: float32 (T, 1, B, 7)",
        "  output Y_h: float32 (1, B, 7)",
        "  output Y_c: float32 (1, B, 7)",
    ]
    assert graph.inputs["X"] == (np.dtype(np.float32), ("T", "B", 5))


X, LENGTHS = np.zeros((4, 2, 5), np.float32), np.array([4, 2], np.int32)


@pytest.mark.parametrize(
    ("feeds", "text"),
    [
        ({"X": X}, r"inputs missing: \['lengths'\], unknown: \[\], expected exactly \['X', 'leng"),
        ({"X": X, "lengths": LENGTHS, "z": X}, r"missing: \[\], unknown: \['z'\]"),
        ({"X": X.astype(float), "lengths": LENGTHS}, "X has dtype float64, expected float32"),
        ({"X": X[0], "lengths": LENGTHS}, r"X has shape \(2, 5\), expected float32 \(T, B, 5\)"),
        ({"X": X[:, :, 1:], "lengths": LENGTHS}, r"X has shape \(4, 2, 4\), expected float32 \(T"),
        ({"X": X, "lengths": LENGTHS.astype(float)}, "lengths has dtype float64, expected int32"),
        ({"X": X, "lengths": LENGTHS + 1}, "LSTM node 'node': lstm: lengths"),
        ({"X": X, "lengths": LENGTHS[:1]}, "LSTM node 'node': lstm: lengths"),
        ({"X": [[1], [1, 2]], "lengths": LENGTHS}, "X is no array"),
    ],
)
def test_refused_calls(graph: rnnfast.onnx.Graph, feeds: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        graph(feeds)


def test_feeds_that_are_no_mapping(graph: rnnfast.onnx.Graph) -> None:
    with pytest.raises(TypeError, match="feeds is a ndarray, expected a mapping"):
        graph(X)  # type: ignore[arg-type]


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_reverse_lengths_are_checked(direction: str, rng: np.random.Generator) -> None:
    model = recurrent_model(rng, "GRU", lengths=True, direction=direction)
    graph = rnnfast.onnx.load(model)
    for lengths in ([5, 1], [-1, 2]):
        with pytest.raises(ValueError, match=r"GRU node 'node': gru: lengths\[0\] is"):
            graph(X=X, lengths=np.array(lengths, np.int32))


def test_feeds_of_any_layout_by_name_or_not(graph: rnnfast.onnx.Graph, rng: Any) -> None:
    x = rng.standard_normal((4, 2, 5), dtype=np.float32)
    expected = graph(X=x, lengths=LENGTHS)
    for other in (np.asfortranarray(x), x.astype(">f4"), np.repeat(x, 2, 1)[:, ::2]):
        assert_same(graph({"X": other}, lengths=LENGTHS), expected, 0.0)


def test_results_are_the_callers_own(rng: np.random.Generator) -> None:
    """Neither an input nor a constant can be changed through an output."""
    nodes = [
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("Transpose", ["x"], ["turned"], perm=[1, 0]),
        helper.make_node("Identity", ["weights"], ["constant"]),
        helper.make_node("Expand", ["x", "shape"], ["spread"]),
    ]
    outputs = [value(n.output[0], np.float32, None) for n in nodes]
    weights: Array = np.ones((2, 2), np.float32)
    model = model_of(
        nodes,
        [value("x", np.float32, [2, 2])],
        outputs,
        {"weights": weights, "shape": np.array([3, 2, 2])},
    )
    graph, x = rnnfast.onnx.load(model), np.ones((2, 2), np.float32)
    for _ in range(2):
        for v in graph(x=x).values():
            assert (v == 1).all()
            v[...] = 2
    assert (x == 1).all()


def test_threads(rng: np.random.Generator) -> None:
    model = recurrent_model(rng, "LSTM", direction="bidirectional")
    graph = rnnfast.onnx.load(model)
    feeds = [draw_feeds(rng, model, 5 + k, 3) for k in range(4)]
    expected = [graph(f) for f in feeds]
    results: dict[int, Any] = {}
    threads = [
        threading.Thread(target=lambda k=k: results.update({k: graph(feeds[k])})) for k in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k, e in enumerate(expected):
        assert_same(results[k], e, 0.0)


def test_without_onnx() -> None:
    """The package itself does not need it; the bridge says what to install."""
    code = "import sys; sys.modules['onnx'] = None; import rnnfast; import rnnfast.onnx"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "ImportError: rnnfast.onnx needs the package onnx: pip install onnx" in run.stderr
