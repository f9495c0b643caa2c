"""Arrays of other libraries as arguments, weights in files of theirs, and no import of theirs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rnnfast
from cases import Call, assert_equal, build, changed, draw_call, outcome, pair
from rnnfast.checkpoint import Checkpoint, load_weights, save, save_weights

VARIANTS = ["rnn-tanh", "lstm", "lstm-proj", "gru"]

# -- arguments --------------------------------------------------------------------------------


class OnlyArray:
    """What knows `__array__` alone."""

    def __init__(self, v: Any) -> None:
        self.v = v

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.array(self.v, dtype, copy=copy)


class OnlyDlpack:
    """What knows the DLPack protocol alone."""

    def __init__(self, v: Any) -> None:
        self.v = v

    def __dlpack__(self, **options: Any) -> Any:
        return np.ascontiguousarray(self.v).__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.v.__dlpack_device__()


class Elsewhere(OnlyDlpack):
    """Data on a device that cannot hand them to the CPU."""

    def __dlpack__(self, **options: Any) -> Any:
        raise BufferError(f"cannot export to {options['dl_device']}")

    def __dlpack_device__(self) -> Any:
        return 2, 0


def torch_tensor(v: Any) -> Any:
    torch = pytest.importorskip("torch", reason="tensors of PyTorch need torch")
    return torch.from_numpy(np.ascontiguousarray(v))


def jax_array(v: Any) -> Any:
    jax = pytest.importorskip("jax", reason="arrays of JAX need jax")
    return jax.numpy.asarray(v)


MAKERS = {
    "torch": torch_tensor,
    "jax": jax_array,
    "__array__": OnlyArray,
    "__dlpack__": OnlyDlpack,
}


def foreign(call: Call, maker: str) -> Call:
    """Make every array of the call another library's."""
    return changed(call, MAKERS[maker])


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_arrays_of_other_libraries_are_arguments(
    variant: str, maker: str, rng: np.random.Generator
) -> None:
    layer = build(rnnfast, variant, 5, 7, 2, bidirectional=True, rng=rng)
    call = draw_call(rng, layer, 6, 4, lengths=True, reset=True)
    assert_equal(outcome(layer, foreign(call, maker)), outcome(layer, call))
    tokens = draw_call(rng, layer, 6, 4, tokens=True)
    np.testing.assert_array_equal(
        layer(MAKERS[maker](tokens.x.astype("i4")))[0], layer(tokens.x)[0]
    )


@pytest.mark.parametrize("maker", MAKERS)
def test_steps_streams_and_quantized_layers_take_them_too(
    maker: str, rng: np.random.Generator
) -> None:
    layer, make = rnnfast.LSTM(5, 7, rng=rng), MAKERS[maker]
    x = rng.standard_normal((6, 4, 5)).astype("f")
    zeros = np.zeros((1, 4, 7), "f")
    y, state = layer.step(make(x[0]), (make(zeros), make(zeros)))
    np.testing.assert_array_equal(y, layer.step(x[0])[0])
    np.testing.assert_array_equal(pair(state)[1], pair(layer.step(x[0])[1])[1])
    with layer.stream(4) as one, layer.stream(4) as other:
        np.testing.assert_array_equal(one.push(make(x)), other.push(x))
    small = layer.quantize(calibration=make(x))
    assert small.scales == layer.quantize(calibration=x).scales
    np.testing.assert_array_equal(small(make(x))[0], small(x)[0])


@pytest.mark.parametrize("maker", ["torch", "jax", "__array__"])
def test_parameters_are_read_from_them(maker: str) -> None:
    layer, other = rnnfast.GRU(3, 4, rng=0), rnnfast.GRU(3, 4, rng=1)
    other.load_state_dict({name: MAKERS[maker](v) for name, v in layer.state_dict().items()})
    np.testing.assert_array_equal(other.flat, layer.flat)


def test_a_tensor_is_read_without_copying() -> None:
    """A view of a tensor is what the tape keeps: it sees the change that its rules forbid."""
    tensor = torch_tensor(np.ones((2, 1, 3), "f"))
    layer = rnnfast.RNN(3, 4, rng=0)
    y, _, tape = layer.forward(tensor)
    before = layer.backward(layer.forward(tensor)[2], y).parameters["weight_ih_l0"].copy()
    tensor.zero_()
    after = layer.backward(tape, y).parameters["weight_ih_l0"]
    assert np.abs(before).max() > 0 and np.abs(after).max() == 0


def test_tensors_that_cannot_be_read_are_refused() -> None:
    torch = pytest.importorskip("torch", reason="tensors of PyTorch need torch")
    layer, x = rnnfast.LSTM(3, 4), torch.ones(5, 2, 3)
    h = torch.zeros(1, 2, 4, requires_grad=True)
    lengths = torch.tensor([1, 2], device="meta")
    for wrong, name, message in (
        ({"x": x.to("meta")}, "x", r"Use Tensor\.cpu\(\)"),
        ({"x": x.bfloat16()}, "x", "BFloat16"),
        ({"x": x, "state": (h, None)}, r"state\[0\]", r"Use tensor\.detach\(\)"),
        ({"x": x, "lengths": lengths}, "lengths", r"Use Tensor\.cpu\(\)"),
    ):
        with pytest.raises(
            TypeError, match=f"^lstm: {name} is a Tensor that makes no NumPy array: .*{message}"
        ):
            layer(**wrong)
    with pytest.raises(ValueError, match=r"^lstm: x has dtype complex64, expected floating point"):
        layer(x.to(torch.complex64))


def test_data_on_another_device_are_refused() -> None:
    layer, x = rnnfast.LSTM(3, 4), np.ones((5, 2, 3), "f")
    for wrong, name in (
        ({"x": Elsewhere(x)}, "x"),
        ({"x": x, "lengths": Elsewhere(np.array([1, 2]))}, "lengths"),
        ({"x": x, "reset": Elsewhere(np.ones((5, 2), bool))}, "reset"),
    ):
        with pytest.raises(TypeError, match=f"^lstm: {name} is a Elsewhere that makes no NumPy ar"):
            layer(**wrong)
    text = "block is a Elsewhere that makes no NumPy array: cannot export"
    with layer.stream() as stream, pytest.raises(TypeError, match=f"^lstm: {text}"):
        stream.push(Elsewhere(x))


def test_what_a_user_interrupts_is_no_wrong_argument() -> None:
    class Interrupted:
        def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rnnfast.LSTM(3, 4)(Interrupted())


def test_the_package_imports_no_framework() -> None:
    code = """
import sys, rnnfast, rnnfast.models, rnnfast.nn, rnnfast.optim, rnnfast.keras
frameworks = {"torch", "jax", "keras", "tensorflow", "onnx", "onnxruntime", "safetensors"}
assert not frameworks & set(sys.modules), frameworks & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# -- files ------------------------------------------------------------------------------------


def assert_same(found: Any, expected: Any) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_go_into_a_file_and_come_back(variant: str, dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "layer.safetensors"
    layer = build(rnnfast, variant, 3, 4, 2, bidirectional=True, dtype=dtype, rng=0)
    save_weights(path, layer.state_dict())
    assert_same(load_weights(path), layer.state_dict())
    other = build(rnnfast, variant, 3, 4, 2, bidirectional=True, dtype=dtype, rng=1)
    other.load_state_dict(load_weights(path))
    np.testing.assert_array_equal(other.flat, layer.flat)
    assert [p.name for p in tmp_path.iterdir()] == ["layer.safetensors"]


def test_one_module_of_a_model_of_pytorch_is_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="modules of PyTorch need torch")
    from safetensors.torch import load_file, save_file

    model = torch.nn.ModuleDict({"embed": torch.nn.Embedding(9, 3), "rnn": torch.nn.GRU(3, 4, 2)})
    path = tmp_path / "model.safetensors"
    save_file(model.state_dict(), path)
    layer = rnnfast.GRU(3, 4, 2)
    layer.load_state_dict(load_weights(path, "rnn."))
    expected = {name: v.numpy() for name, v in model["rnn"].state_dict().items()}
    assert_same(layer.state_dict(), expected)
    save_weights(path, layer.state_dict())
    model["rnn"].load_state_dict(load_file(path))


def test_the_model_of_a_checkpoint_is_read(tmp_path: Path) -> None:
    path, weights = tmp_path / "text.safetensors", rnnfast.GRU(3, 4, rng=0).state_dict()
    save(path, Checkpoint("text", {"model": weights, "optimizer": {"m": np.ones(2)}}, {}))
    assert_same(load_weights(path, "model."), weights)


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "layer.safetensors"
    weights = rnnfast.GRU(3, 4, rng=0).state_dict()
    save_weights(path, weights)
    with pytest.raises(
        ValueError, match=r"layer\.safetensors: no array's name begins with 'rnn': bias_hh"
    ):
        load_weights(path, "rnn")
    with pytest.raises(ValueError, match="but not a checkpoint of rnnfast"):
        rnnfast.checkpoint.load(path)  # type: ignore[attr-defined]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"layer\.safetensors: truncated, or not a safetensors f"):
        load_weights(path)
    with pytest.raises(FileNotFoundError, match="nothing"):
        load_weights(tmp_path / "nothing")


def test_bfloat16_is_read_as_float32(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="bfloat16 tensors need torch")
    from safetensors.torch import save_file

    path = tmp_path / "model.safetensors"
    weights = torch.randn(3, 5).bfloat16()
    save_file({"a": weights, "none": weights[:0], "b.w": torch.ones(2).half()}, path)
    found = load_weights(path)
    assert_same(
        found, {"a": weights.float().numpy(), "none": np.ones((0, 5), "f"), "b.w": np.ones(2, "f2")}
    )
    assert found["a"].dtype == np.float32
    assert_same(load_weights(path, "b."), {"w": np.ones(2, "f2")})


def test_types_that_no_parameter_has_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(path, {"a": np.ones(2, "c8"), "b": np.ones(2)})
    with pytest.raises(ValueError, match="safetensors: a is stored as C64, expected one of"):
        load_weights(path)
    assert_same(load_weights(path, "b"), {"": np.ones(2)})
