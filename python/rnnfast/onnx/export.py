"""Layers and models written as ONNX models.

T time steps, B sequences, L layers, D directions, H hidden units, P of them projected.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from rnnfast.checkpoint import write_atomically
from rnnfast.layers import Layer
from rnnfast.models import (
    Forecaster,
    LanguageModel,
    SequenceClassifier,
    SequenceModel,
    TextClassifier,
)
from rnnfast.nn import Dense

from .builder import Builder
from .stack import Run, Stack

_INTEGERS, _LENGTHS = np.dtype(np.int64), np.dtype(np.int32)


def export(
    model: Layer | SequenceModel | SequenceClassifier,
    path: str | os.PathLike[str] | None = None,
    *,
    tokens: bool | None = None,
    initial_state: bool = False,
    lengths: bool = False,
) -> ModelProto:
    """Write a layer or a model as an ONNX model, with any number of steps and of sequences.

    Inputs are `x` and, where asked for, `h_0`, `c_0` and `lengths`. Outputs are `y` and, but for
    classifiers, the last state `h_n`, and `c_n` of an LSTM. Axes are as in a call of the model.
    States of a model of several recurrent parts are called `0.h_0`, `1.h_0` and so on.

    Parameters
    ----------
    model : RNN, LSTM, GRU, SequenceModel or SequenceClassifier
        Or a kind of these, such as LanguageModel, Forecaster and TextClassifier. As it infers:
        without dropout, in float32 whatever `compute` says.
    path : path, optional
        A file to write, or to replace.
    tokens : bool, optional
        Whether `x` holds integers (T, B) that stand for one-hot rows; by default as the model
        takes them: language models and text classifiers do.
    initial_state : bool
        Whether the state before the first step is an input; zeros otherwise.
    lengths : bool
        Whether the steps of each sequence, int32 (B,), are an input.

    Returns
    -------
    onnx.ModelProto
        Checked; of opset 17.

    Raises
    ------
    TypeError
        If the model is none of these, or an option no bool.
    ValueError
        If the model has no such input; if an LSTM with a projection is to start from a state, of
        which ONNX knows only the unprojected one; or if the parameters are too large for a file.
    OSError
        If the file cannot be written.
    """
    for name, value in (("initial_state", initial_state), ("lengths", lengths)):
        _check_flag(name, value)
    if tokens is None:
        tokens = isinstance(model, LanguageModel | TextClassifier)
    _check_flag("tokens", tokens)
    options = _Options(tokens, initial_state, lengths)
    builder = Builder()
    if isinstance(model, Layer):
        _write_layer(builder, model, options)
    elif isinstance(model, SequenceModel):
        _write_sequence_model(builder, model, options)
    elif isinstance(model, SequenceClassifier):
        _write_classifier(builder, model, options)
    else:
        raise TypeError(
            f"export: model is a {type(model).__name__}, expected a layer (RNN, LSTM, GRU), "
            "a SequenceModel or a SequenceClassifier"
        )
    result = builder.model(type(model).__name__)
    if path is not None:
        write_atomically(Path(path), result.SerializeToString())
    return result


@dataclass(frozen=True)
class _Options:
    tokens: bool
    initial_state: bool
    lengths: bool


def _check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"export: {name} is a {type(value).__name__}, expected a bool")


# -- layers and models -----------------------------------------------------------------------------


def _write_layer(b: Builder, layer: Layer, options: _Options) -> None:
    x = _input(b, layer, options, layer.batch_first)
    initial = _initial(b, layer, "", options)
    run = Stack(b, layer, lengths=_lengths(b, options)).write(x, initial)
    y = b.add("Transpose", [run.y], perm=[1, 0, 2]) if layer.batch_first else run.y
    width = layer._directions * layer._width
    b.output("y", y, layer.dtype, [*_axes(layer.batch_first), width])
    _final(b, layer, "", run)


def _write_sequence_model(b: Builder, model: SequenceModel, options: _Options) -> None:
    if options.lengths:
        raise ValueError(f"export: lengths is True, but a {type(model).__name__} takes none")
    y = x = _input(b, model.layers[0], options)
    several = len(model.layers) > 1
    runs = []
    for i, layer in enumerate(model.layers):
        prefix = f"{i}." if several else ""
        runs.append(Stack(b, layer, prefix).write(y, _initial(b, layer, prefix, options)))
        y = runs[-1].y
    y = _dense(b, "projection", model.projection, y)
    if isinstance(model, Forecaster) and model.shortcut:
        y = b.add("Add", [x, y])
    b.output("y", y, model.flat.dtype, [*_axes(), model.projection.out_features])
    for i, (layer, run) in enumerate(zip(model.layers, runs, strict=True)):
        _final(b, layer, f"{i}." if several else "", run)


def _write_classifier(b: Builder, model: SequenceClassifier, options: _Options) -> None:
    if options.initial_state:
        raise ValueError(f"export: initial_state is True, but a {type(model).__name__} takes none")
    stacks: dict[str, Any] = dict(model.encoder.parts)
    x, lengths = _input(b, stacks["forward"], options), _lengths(b, options)
    vectors = []
    for name, layer in stacks.items():
        last = Stack(b, layer, f"{name}.", lengths, reverse=name == "backward").write(x).last
        for direction in range(layer._directions):
            index = b.constant(f"index_{direction}", np.array(direction, np.int64))
            vectors.append(b.add("Gather", [last, index], axis=0))
    parts: dict[str, Any] = dict(model.parts)
    projected = [
        _dense(b, f"projection.{i}", parts[f"projection.{i}"], v) for i, v in enumerate(vectors)
    ]
    y = projected[0] if len(projected) == 1 else b.add("Sum", projected)
    if "head" in parts:
        y = _dense(b, "head", parts["head"], y)
    b.output("y", y, model.flat.dtype, ["batch", len(model.labels)])


def _dense(b: Builder, name: str, dense: Dense, x: str) -> str:
    weight = b.constant(f"{name}.weight", dense.parameters["weight"].T)
    y = b.add("MatMul", [x, weight])
    if not dense.bias:
        return y
    return b.add("Add", [y, b.constant(f"{name}.bias", dense.parameters["bias"])])


# -- inputs and outputs ----------------------------------------------------------------------------


def _axes(batch_first: bool = False) -> tuple[str, str]:
    return ("batch", "time") if batch_first else ("time", "batch")


def _input(b: Builder, layer: Layer, options: _Options, batch_first: bool = False) -> str:
    """Add x, and what makes features (T, B, I) of it."""
    axes = _axes(batch_first)
    if not options.tokens:
        x = b.input("x", layer.dtype, [*axes, layer.input_size])
    else:
        depth = b.constant("depth", np.array(layer.input_size, np.int64))
        values = b.constant("off_on", np.array([0, 1], layer.dtype))
        x = b.add("OneHot", [b.input("x", _INTEGERS, axes), depth, values])
    return b.add("Transpose", [x], perm=[1, 0, 2]) if batch_first else x


def _lengths(b: Builder, options: _Options) -> str:
    return b.input("lengths", _LENGTHS, ["batch"]) if options.lengths else ""


def _initial(b: Builder, layer: Layer, prefix: str, options: _Options) -> tuple[str, ...]:
    """Add the initial state if it is asked for."""
    if not options.initial_state:
        return ()
    if layer.proj_size:
        raise ValueError(
            f"export: initial_state is True, but the LSTM has proj_size={layer.proj_size}: "
            "ONNX starts from the h before the projection, which none can be made of"
        )
    rows = layer.num_layers * layer._directions
    return tuple(
        b.input(f"{prefix}{part}_0", layer.dtype, [rows, "batch", width])
        for part, width in layer._state_widths.items()
    )


def _final(b: Builder, layer: Layer, prefix: str, run: Run) -> None:
    """Add the last state as outputs."""
    rows = layer.num_layers * layer._directions
    for state, (part, width) in zip(run.states, layer._state_widths.items(), strict=True):
        b.output(f"{prefix}{part}_n", state, layer.dtype, [rows, "batch", width])
