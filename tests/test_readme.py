"""The README's Python runs as it stands there."""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import rnnfast
from rnnfast.checkpoint import load_weights, save_weights

README = Path(__file__).parents[1] / "README.md"


class Tensor(SimpleNamespace):
    """What a state_dict of PyTorch holds."""

    def numpy(self) -> Any:
        return self.array


def module(layer: Any) -> Any:
    """A module of PyTorch, as far as the README looks at it."""
    state = {name: Tensor(array=value) for name, value in layer.state_dict().items()}
    return SimpleNamespace(state_dict=lambda: state)


def blocks() -> list[str]:
    """The README's Python: layers, their use, the bridges, a training."""
    return re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), flags=re.DOTALL)


def test_the_examples_run(rng: np.random.Generator) -> None:
    first, second, _, _ = blocks()
    names: dict[str, Any] = {}
    exec(first, names)
    assert names["grads"].x.shape == names["x"].shape
    peer = rnnfast.GRU(64, 256, num_layers=2, bidirectional=True, rng=rng)
    names |= {
        "torch_gru": module(peer),
        "x": rng.standard_normal((256, 3, 64), dtype=np.float32),
        "done": rng.random((256, 3)) < 0.01,
        "dy": rng.standard_normal((256, 3, 512), dtype=np.float32),
        "dstate": rng.standard_normal((4, 3, 256), dtype=np.float32),
        "tokens": rng.integers(96, size=32),
        "block": rng.integers(96, size=(5, 8)),
    }
    exec(second, names)
    updated = peer.flat - np.float32(1e-3) * names["grads"].flat
    np.testing.assert_allclose(names["gru"].flat, updated, rtol=0, atol=1e-6)
    assert names["y"].shape == (5, 8, 512)


def test_the_bridges_run(
    rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "KERAS_BACKEND" not in os.environ:
        monkeypatch.setenv("KERAS_BACKEND", "jax")
    torch, keras = (
        pytest.importorskip(name, reason=f"the bridges' example needs {name}")
        for name in ("torch", "keras")
    )
    for name in ("onnx", "jax"):
        pytest.importorskip(name, reason=f"the bridges' example needs {name}")
    monkeypatch.chdir(tmp_path)
    lstm, gru = rnnfast.LSTM(5, 7, rng=rng), rnnfast.GRU(5, 7, rng=rng)
    keras_model = keras.layers.LSTM(7)
    keras_model.build((None, None, 5))
    importlib.import_module("rnnfast.onnx").export(lstm, "model.onnx")
    wanted = gru.state_dict()
    save_weights(
        "model.safetensors", {f"encoder.gru.{name}": value for name, value in wanted.items()}
    )
    gru.flat[:] = 0
    names = {
        "model": torch.nn.Sequential(torch.nn.LSTM(5, 7)),
        "keras_model": keras_model,
        "x": rng.standard_normal((4, 3, 5), dtype=np.float32),
        "lstm": lstm,
        "gru": gru,
    }
    exec(blocks()[2], names)
    y, _ = lstm(names["x"])
    np.testing.assert_allclose(names["outputs"]["y"], y, rtol=0, atol=1e-6)
    np.testing.assert_allclose(names["y"], y, rtol=0, atol=1e-6)
    assert (tmp_path / "lstm.onnx").exists()
    assert type(names["model"][0]) is torch.nn.LSTM
    np.testing.assert_array_equal(gru.parameters["weight_hh_l0"], wanted["weight_hh_l0"])


def test_the_training_runs(
    rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    x = rng.standard_normal((20, 8, 3), dtype=np.float32)
    names: dict[str, Any] = {"rnnfast": rnnfast, "batches": [(x, x[:, :, :1])] * 100}
    exec(blocks()[3], names)
    assert names["loss"] < 0.2
    saved = load_weights("weights.safetensors")
    np.testing.assert_array_equal(
        names["model"].parameters["projection.bias"], saved["projection.bias"]
    )
