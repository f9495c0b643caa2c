"""A cuDNN that computes by PyTorch on the CPU, behind the functions that the bench calls.

Parameters have the names and the order of ``cudnn_adv.h``.
"""

# ruff: noqa: N802  # the library's names

from __future__ import annotations

import ctypes
from typing import Any

import torch

NOT_SUPPORTED = 3000
TYPES = {0: torch.float32, 2: torch.float16, 9: torch.bfloat16}
SETTINGS = (
    *("algo", "cellMode", "biasMode", "dirMode", "inputMode", "dataType", "mathPrec", "mathType"),
    *("inputSize", "hiddenSize", "projSize", "numLayers", "dropoutDesc", "auxFlags"),
)


def tensor_at(address: Any, dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """View memory."""
    count = torch.Size(shape).numel()
    room = (ctypes.c_uint8 * (count * dtype.itemsize)).from_address(address.value)
    return torch.frombuffer(room, dtype=dtype, count=count).view(shape)


class Rnn:
    """What a descriptor of a layer says."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.dtype = TYPES[settings["dataType"]]
        self.kind, self.gates = {1: ("RNN", 1), 2: ("LSTM", 4), 3: ("GRU", 3)}[settings["cellMode"]]
        self.input, self.hidden = settings["inputSize"], settings["hiddenSize"]
        widths = [self.input] * self.gates + [self.hidden] * self.gates
        self.sizes = [self.hidden * width for width in widths] + [self.hidden] * 2 * self.gates
        self.count = sum(self.sizes)

    def module(self, space: torch.Tensor) -> torch.nn.Module:
        """Make a layer with the weights of a space, which has them in the order of PyTorch."""
        layer = getattr(torch.nn, self.kind)(self.input, self.hidden)
        torch.nn.utils.vector_to_parameters(space.float(), layer.parameters())
        return layer


class FakeCudnn:
    """The functions of the library, as ``ctypes`` calls them."""

    def __init__(self, refused: tuple[int, ...] = ()) -> None:
        self.refused = refused
        self.objects: dict[int, Any] = {}
        self.alive: list[int] = []
        self.forwards: list[Rnn] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("cudnnCreate"):
            return self._create
        if name.startswith("cudnnDestroy"):
            return self._destroy
        raise AttributeError(name)

    def _create(self, pointer: Any) -> int:
        number = len(self.objects) + 1
        self.objects[number] = None
        self.alive.append(number)
        pointer._obj.value = number
        return 0

    def _destroy(self, pointer: Any) -> int:
        self.alive.remove(pointer.value)
        return 0

    class cudnnGetErrorString:  # noqa: N801
        """Has a type of results, as functions of ``ctypes`` have."""

        def __new__(cls, status: Any) -> Any:
            assert status.value == NOT_SUPPORTED
            return b"CUDNN_STATUS_NOT_SUPPORTED"

    def cudnnSetStream(self, handle: Any, stream: Any) -> int:
        assert handle.value in self.alive
        assert isinstance(stream, ctypes.c_void_p)
        return 0

    def cudnnSetDropoutDescriptor(self, desc: Any, handle: Any, dropout: Any, *rest: Any) -> int:
        assert (dropout.value, len(rest)) == (0.0, 3)
        assert {desc.value, handle.value} <= set(self.alive)
        return 0

    def cudnnSetRNNDescriptor_v8(self, desc: Any, *given: Any) -> int:
        values = dict(zip(SETTINGS, (one.value for one in given), strict=True))
        if values["algo"] in self.refused:
            return NOT_SUPPORTED
        assert values["projSize"] == values["hiddenSize"]
        assert values["dropoutDesc"] in self.alive
        self.objects[desc.value] = Rnn(values)
        return 0

    def cudnnBuildRNNDynamic(self, handle: Any, rnn: Any, batch: Any) -> int:
        self.objects[rnn.value].built = batch.value
        return 0

    def cudnnSetRNNDataDescriptor(
        self, desc: Any, kind: Any, layout: Any, steps: Any, batch: Any, width: Any, *rest: Any
    ) -> int:
        lengths, padding = rest
        assert list(lengths) == [steps.value] * batch.value
        assert (layout.value, padding) == (1, None)
        self.objects[desc.value] = (TYPES[kind.value], steps.value, batch.value, width.value)
        return 0

    def cudnnSetTensorNdDescriptor(
        self, desc: Any, kind: Any, axes: Any, sizes: Any, strides: Any
    ) -> int:
        assert axes.value == len(sizes) == len(strides) == 3
        assert torch.empty(list(sizes)).stride() == tuple(strides)
        self.objects[desc.value] = (TYPES[kind.value], *sizes)
        return 0

    def cudnnGetRNNWeightSpaceSize(self, handle: Any, rnn: Any, size: Any) -> int:
        described = self.objects[rnn.value]
        size._obj.value = described.count * described.dtype.itemsize
        return 0

    def cudnnGetRNNTempSpaceSizes(
        self, handle: Any, rnn: Any, mode: Any, x: Any, work: Any, reserve: Any
    ) -> int:
        work._obj.value, reserve._obj.value = 24, 8 * mode.value
        return 0

    def cudnnGetRNNWeightParams(
        self, handle: Any, rnn: Any, layer: Any, size: Any, space: Any, number: Any, *rest: Any
    ) -> int:
        described = self.objects[rnn.value]
        matrix_shape, matrix, bias_shape, bias = rest
        assert {matrix_shape.value, bias_shape.value} <= set(self.alive)
        assert (layer.value, size.value) == (0, described.count * described.dtype.itemsize)
        for place, first in ((matrix, 0), (bias, 2 * described.gates)):
            before = sum(described.sizes[: first + number.value])
            place._obj.value = space.value + before * described.dtype.itemsize
        return 0

    def cudnnRNNForward(self, handle: Any, rnn: Any, mode: Any, lengths: Any, *rest: Any) -> int:
        described: Rnn = self.objects[rnn.value]
        x_desc, x, y_desc, y, h_desc, hx, hy, c_desc, cx, cy, *spaces = rest
        assert lengths is hx is cx is None
        assert h_desc.value == c_desc.value
        dtype, steps, batch, width = self.objects[x_desc.value]
        assert (dtype, width) == (described.dtype, described.input)
        assert self.objects[y_desc.value] == (dtype, steps, batch, described.hidden)
        assert self.objects[h_desc.value] == (dtype, 1, batch, described.hidden)
        assert [one.value for one in spaces[2::2]] == [24, 8 * mode.value]
        assert (spaces[5] is None) == (mode.value == 0)
        layer = described.module(self._space(described, *spaces[:2]))
        inputs = tensor_at(x, dtype, steps, batch, width).float()
        outputs, after = layer(inputs)
        tensor_at(y, dtype, steps, batch, described.hidden).copy_(outputs.detach())
        parts = after if isinstance(after, tuple) else (after,)
        assert (cy is None) == (len(parts) == 1)
        for part, room in zip(parts, (hy, cy), strict=False):
            tensor_at(room, dtype, *part.shape).copy_(part.detach())
        self.forwards.append(described)
        return 0

    def cudnnRNNBackwardData_v8(self, handle: Any, rnn: Any, lengths: Any, *rest: Any) -> int:
        described: Rnn = self.objects[rnn.value]
        y_desc, y, dy, x_desc, dx, h_desc, *nothing, c_desc, _, _, _ = rest[:13]
        assert nothing == [None] * 3
        assert (lengths, rest[10:13]) == (None, (None, None, None))
        assert h_desc.value == c_desc.value
        x_shape, y_shape = self.objects[x_desc.value][1:], self.objects[y_desc.value][1:]
        described.layer = described.module(self._space(described, *rest[13:15]))
        described.dy = tensor_at(dy, described.dtype, *y_shape).float()
        described.to_dx = tensor_at(dx, described.dtype, *x_shape)
        assert y.value
        return 0

    def cudnnRNNBackwardWeights_v8(
        self, handle: Any, rnn: Any, mode: Any, lengths: Any, *rest: Any
    ) -> int:
        described: Rnn = self.objects[rnn.value]
        x_desc, x, h_desc, hx, y_desc, y, *spaces = rest
        assert (mode.value, lengths, hx) == (0, None, None)
        assert h_desc.value and y_desc.value and y.value
        leaf = tensor_at(x, described.dtype, *self.objects[x_desc.value][1:]).float()
        leaf.requires_grad_()
        outputs = described.layer(leaf)[0]
        dx, *found = torch.autograd.grad(
            outputs, [leaf, *described.layer.parameters()], described.dy
        )
        described.to_dx.copy_(dx)
        space = self._space(described, *spaces[:2])
        space += torch.cat([d.reshape(-1) for d in found]).to(described.dtype)
        return 0

    @staticmethod
    def _space(described: Rnn, size: Any, address: Any) -> torch.Tensor:
        assert size.value == described.count * described.dtype.itemsize
        return tensor_at(address, described.dtype, described.count)
