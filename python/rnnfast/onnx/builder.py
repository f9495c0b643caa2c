"""A model under construction: nodes, constants, inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, checker, helper, numpy_helper

import rnnfast
from rnnfast.flat import Array

OPSET = 17  # from 14 on the recurrent operators have not changed but in types
IR_VERSION = 8  # of the same time: what reads this opset reads it
_MOST_BYTES = 2**31 - 2**20  # protobuf holds no more; some are for names


class Builder:
    """Collects what a model is made of, and makes it."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: dict[str, Array] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def input(self, name: str, dtype: np.dtype[Any], shape: Sequence[int | str]) -> str:
        """Add an input; axes of any size have names."""
        self._inputs.append(_value(name, dtype, shape))
        return name

    def output(
        self, name: str, value: str, dtype: np.dtype[Any], shape: Sequence[int | str]
    ) -> None:
        """Make a value that a node computes an output, by its new name."""
        for node in self._nodes:
            for names in (node.input, node.output):
                for i, known in enumerate(names):
                    names[i] = name if known == value else known
        self._outputs.append(_value(name, dtype, shape))

    def constant(self, name: str, array: Array) -> str:
        """Add a constant."""
        self._constants[name] = array
        return name

    def integers(self, *values: int) -> str:
        """Add a constant of integers, once."""
        return self.constant(f"integers_{'_'.join(map(str, values))}", np.array(values, np.int64))

    def add(self, op: str, inputs: Sequence[str], **options: Any) -> str:
        """Add a node of one output, both named by operator and number."""
        name = f"{op}_{len(self._nodes)}"
        self.add_named(op, inputs, [name], name, **options)
        return name

    def add_named(
        self, op: str, inputs: Sequence[str], outputs: Sequence[str], name: str, **options: Any
    ) -> None:
        """Add a node."""
        self._nodes.append(helper.make_node(op, inputs, outputs, name, **options))

    def model(self, name: str) -> ModelProto:
        """Make the model, and have it checked."""
        size = sum(array.nbytes for array in self._constants.values())
        if size > _MOST_BYTES:
            raise ValueError(
                f"export: {name} has parameters of {size} bytes, expected at most {_MOST_BYTES}"
            )
        graph = helper.make_graph(
            self._nodes,
            name,
            self._inputs,
            self._outputs,
            [numpy_helper.from_array(array, key) for key, array in self._constants.items()],
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="rnnfast",
            producer_version=rnnfast.__version__,
        )
        checker.check_model(model, full_check=True)
        return model


def _value(name: str, dtype: np.dtype[Any], shape: Sequence[int | str]) -> Any:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), shape)
