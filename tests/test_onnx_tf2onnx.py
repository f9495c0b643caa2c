"""Keras's layers as tf2onnx writes them; `tests/tf2onnx_graphs/make.py` made the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="rnnfast.onnx needs onnx")

import rnnfast.onnx

FOLDER = Path(__file__).parent / "tf2onnx_graphs"
NAMES = sorted(path.stem for path in FOLDER.glob("*.onnx"))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "loop"])
def test_outputs_are_keras_own(name: str) -> None:
    graph = rnnfast.onnx.load(FOLDER / f"{name}.onnx")
    arrays = np.load(FOLDER / f"{name}.npz")
    for k in range(2):
        outputs = list(graph(x=arrays[f"x{k}"]).values())
        assert sum(key.startswith(f"y{k}_") for key in arrays) == len(outputs)
        for n, found in enumerate(outputs):
            np.testing.assert_allclose(found, arrays[f"y{k}_{n}"], rtol=0, atol=1e-6)


def test_their_layers_can_be_taken_out() -> None:
    layers = rnnfast.onnx.layers(FOLDER / "tagger.onnx")
    assert sorted(type(layer).__name__ for layer in layers.values()) == ["LSTM", "LSTM"]


def test_loops_are_refused_by_name() -> None:
    with pytest.raises(
        ValueError, match=r"Loop node '.*gru.*while_loop': this operator is not run"
    ):
        rnnfast.onnx.load(FOLDER / "loop.onnx")
