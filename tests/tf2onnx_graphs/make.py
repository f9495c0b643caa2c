"""Make the models of this folder: Keras's layers as tf2onnx writes them, with inputs and outputs.

They were made with TensorFlow 2.21, Keras 3.15, tf_keras 2.21 and tf2onnx 1.17:

    pip install tensorflow-cpu tf_keras tf2onnx && python tests/tf2onnx_graphs/make.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
import tf_keras

FOLDER = Path(__file__).parent
SHAPES = ((3, 6), (2, 9))  # B, T


def of(kit: Any, *layers: Any, features: int | None = 5) -> Any:
    """Put layers on top of each other."""
    given = kit.Input((None,) if features is None else (None, features))
    value = given
    for layer in layers:
        value = layer(value)
    return kit.Model(given, value)


def cases() -> Iterator[tuple[str, int, Callable[[], Any]]]:
    """Name, opset and how to make each; tf2onnx knows the GRU of Keras 2 alone."""
    k3, k2 = keras.layers, tf_keras.layers
    yield "lstm", 13, lambda: of(keras, k3.LSTM(7, return_sequences=True))
    yield "lstm_states", 17, lambda: of(keras, k3.LSTM(7, return_sequences=True, return_state=True))
    yield "lstm_backwards", 17, lambda: of(keras, k3.LSTM(7, go_backwards=True))
    yield (
        "lstm_both",
        13,
        lambda: of(keras, k3.Bidirectional(k3.LSTM(7, return_sequences=True), merge_mode="sum")),
    )
    yield "gru", 9, lambda: of(tf_keras, k2.GRU(7, return_sequences=True))
    yield (
        "gru_text",
        17,
        lambda: of(
            tf_keras, k2.Embedding(11, 5), k2.Bidirectional(k2.GRU(7)), k2.Dense(2), features=None
        ),
    )
    yield (
        "tagger",
        13,
        lambda: of(
            tf_keras,
            k2.Bidirectional(k2.LSTM(7, return_sequences=True)),
            k2.LSTM(4, return_sequences=True),
            k2.TimeDistributed(k2.Dense(3, activation="softmax")),
        ),
    )
    yield "loop", 13, lambda: of(keras, k3.GRU(7))


def main() -> None:
    """Write them."""
    rng = np.random.default_rng(0)
    for name, opset, make in cases():
        keras.utils.set_random_seed(0)
        model = make()
        tokens = len(model.input.shape) == 2
        shape, dtype = ((None, None), tf.int32) if tokens else ((None, None, 5), tf.float32)
        signature = [tf.TensorSpec(shape, dtype, name="x")]
        function = tf.function(lambda x, m=model: m(x, training=False), input_signature=signature)
        made, _ = tf2onnx.convert.from_function(function, signature, opset=opset)
        onnx.save(made, FOLDER / f"{name}.onnx")
        if name == "loop":  # nobody is to run it
            continue
        arrays = {}
        for k, (B, T) in enumerate(SHAPES):
            x = rng.integers(11, size=(B, T)) if tokens else rng.standard_normal((B, T, 5))
            x = x.astype(np.int32 if tokens else np.float32)
            outputs = model(x, training=False)
            arrays[f"x{k}"] = x
            for n, y in enumerate(outputs if isinstance(outputs, list | tuple) else [outputs]):
                arrays[f"y{k}_{n}"] = np.asarray(y)
        np.savez_compressed(FOLDER / f"{name}.npz", **arrays)


if __name__ == "__main__":
    main()
