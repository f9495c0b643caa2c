"""Arrays that are on the GPU already, given to layers with ``device="cuda"``.

Classes of this file stand for other libraries' arrays. The emulator's memory is that of the CPU; it
does nothing before it is awaited, so that results are right only if streams are. On a GPU, PyTorch
brings the arrays there.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import rnnfast
from cases import (
    VARIANTS,
    Array,
    Call,
    assert_equal,
    build,
    changed,
    collect,
    draw_call,
    outcome,
    pair,
)
from rnnfast import device
from test_bfloat16 import CELLS
from test_cuda import machine  # noqa: F401

CUDA = 2  # DLPack's type of device
FIRST, SECOND = "first", "second"


class Emulated:
    """The emulator's memory, and streams by name."""

    streams: Mapping[Any, Any] = {FIRST: 0x700, SECOND: 0x900, None: None, 0: 0}

    def put(self, array: Array) -> Any:
        return array

    def describe(self, array: Any) -> tuple[int, tuple[int, ...]]:
        """Address and strides in bytes."""
        return array.ctypes.data, array.strides


class OnGpu:
    """A GPU's, by PyTorch."""

    def __init__(self) -> None:
        import torch

        self.torch = torch
        self.made = [torch.cuda.Stream() for _ in range(2)]
        handles = [stream.cuda_stream for stream in self.made]
        self.streams = {FIRST: handles[0], SECOND: handles[1], None: None, 0: 0}

    def put(self, array: Array) -> Any:
        if array.flags.c_contiguous:
            there = self.torch.from_numpy(array).cuda()
        else:
            room = self.torch.zeros((*array.shape, 2), dtype=self.torch.from_numpy(array).dtype)
            room[..., 0] = self.torch.from_numpy(array)
            there = room.cuda()[..., 0]
        self.torch.cuda.synchronize()
        return there

    def describe(self, array: Any) -> tuple[int, tuple[int, ...]]:
        size = array.element_size()
        return array.data_ptr(), tuple(step * size for step in array.stride())


_place: list[Any] = [Emulated()]


class Exposed:
    """An array by ``__cuda_array_interface__``, on a stream."""

    def __init__(self, array: Array, stream: Any = FIRST, **fields: Any) -> None:
        place = _place[-1]
        self.there = place.put(array)
        address, strides = place.describe(self.there)
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (address, False),
            "strides": strides,
            "version": 3,
            "stream": place.streams[stream],
            **fields,
        }


class Asked(Exposed):
    """Counts how often it is asked for its interface, which other libraries make anew each time."""

    times = 0

    def __getattribute__(self, name: str) -> Any:
        if name == "__cuda_array_interface__":
            self.times += 1
        return super().__getattribute__(name)


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _Managed(ctypes.Structure):
    pass


_Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Managed))
_Managed._fields_ = [("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter)]
_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype, _new_capsule.argtypes = (
    ctypes.py_object,
    [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p],
)
_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype, _pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}
_BFLOAT = 4  # in DLPack


class Exported:
    """An array by DLPack alone."""

    def __init__(self, array: Array, device: int = 0, code: int | None = None) -> None:
        self.array, self.device, self.there = array, device, _place[-1].put(array)
        self.code = _CODES[array.dtype.kind] if code is None else code
        self.streams: list[int] = []
        self.deleted = 0
        self._kept: list[Any] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, self.device

    def __dlpack__(self, *, stream: int) -> Any:
        self.streams.append(stream)
        a = self.array
        address, steps = _place[-1].describe(self.there)
        axes = ctypes.c_int64 * a.ndim
        shape, strides = axes(*a.shape), axes(*(s // a.itemsize for s in steps))

        def delete(_: Any) -> None:
            self.deleted += 1

        fields = (address, CUDA, self.device, a.ndim, self.code, 8 * a.itemsize, 1)
        managed = _Managed(_Tensor(*fields, shape, strides, 0), None, _Deleter(delete))
        self._kept += [shape, strides, managed]
        return _new_capsule(ctypes.addressof(managed), b"dltensor", None)


def exposed(call: Call, show: Callable[[Array], Any] = Exposed) -> Call:
    """Put the arrays of a call on the GPU, but for the lengths."""
    return replace(changed(call, show), lengths=call.lengths)


def with_gaps(v: Array) -> Exposed:
    """Every second element of a larger array."""
    room = np.zeros((*v.shape, 2), v.dtype)
    room[..., 0] = v
    return Exposed(room[..., 0])


def halved(v: Array) -> Array:
    """Numbers that bfloat16 has."""
    if v.dtype != np.float32:
        return v
    return (np.ascontiguousarray(v).view(np.int32) & -65536).view(np.float32)


def bits(v: Array) -> Array:
    """Those of such numbers in bfloat16."""
    return (np.ascontiguousarray(v).view(np.int32) >> 16).astype(np.int16)


def narrow(v: Array) -> Exposed:
    """An array of bfloat16 by its interface."""
    return Exposed(bits(v), typestr="<V2") if v.dtype == np.float32 else Exposed(v)


def narrow_by_dlpack(v: Array) -> Exported:
    return Exported(bits(v), code=_BFLOAT) if v.dtype == np.float32 else Exported(v)


def narrow_with_gaps(v: Array) -> Exposed:
    if v.dtype != np.float32:
        return with_gaps(v)
    room = np.zeros((*v.shape, 2), np.int16)
    room[..., 0] = bits(v)
    return Exposed(room[..., 0], typestr="<V2")


def round_to_bfloat16(v: Array) -> Array:
    """To nearest, ties to even, as float32."""
    words = v.view(np.uint32).astype(np.uint64)
    return ((words + 0x7FFF + (words >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def assert_same(found: dict[str, Any], expected: dict[str, Array]) -> None:
    """Bit for bit, once they are on the CPU."""
    assert_equal({name: np.asarray(v) for name, v in found.items()}, expected)


def is_there(array: Any) -> bool:
    return type(array).__name__ == "DeviceArray"


@pytest.fixture(autouse=True)
def place(machine: str) -> Iterator[Any]:  # noqa: F811
    """Where the arrays are."""
    if machine == "gpu":
        torch = pytest.importorskip("torch", reason="no PyTorch brings arrays to the GPU")
        if not torch.cuda.is_available():
            pytest.skip("this PyTorch brings no arrays to the GPU")
        _place.append(OnGpu())
    else:
        _place.append(Emulated())
    yield _place[-1]
    _place.pop()


@pytest.fixture
def layer(rng: np.random.Generator) -> rnnfast.LSTM:
    return rnnfast.LSTM(3, 4, device="cuda", rng=rng)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_they_give_what_arrays_of_the_cpu_give(
    variant: str, tokens: bool, batch_first: bool, rng: np.random.Generator
) -> None:
    options: dict[str, Any] = {"bidirectional": True, "batch_first": batch_first, "device": "cuda"}
    layer = build(rnnfast, variant, 9, 17, 2, **options, rng=rng)
    call = draw_call(rng, layer, T=5, B=7, tokens=tokens, lengths=True, reset=True)
    expected = outcome(layer, call)
    for show in (Exposed, lambda v: Exposed(v, None), Exported, with_gaps):
        found = outcome(layer, exposed(call, show))
        assert is_there(found["y"]) and is_there(found["dstate[0]"])
        assert is_there(found["dx"]) if not tokens else "dx" not in found
        assert_same(found, expected)


@pytest.mark.parametrize("variant", CELLS)
@pytest.mark.parametrize("B", [None, 0])
def test_without_the_axis_of_sequences_or_without_any(
    variant: str, B: int | None, rng: np.random.Generator
) -> None:
    layer = build(rnnfast, variant, 5, 6, 2, device="cuda", rng=rng)
    call = draw_call(rng, layer, T=4, B=1 if B is None else B, batched=B is not None)
    assert_same(outcome(layer, exposed(call)), outcome(layer, call))


@pytest.mark.parametrize("variant", VARIANTS)
def test_steps(variant: str, rng: np.random.Generator) -> None:
    layer = build(rnnfast, variant, 5, 6, 2, device="cuda", rng=rng)
    x = rng.standard_normal((4, 3, 5)).astype(np.float32)
    state, there = None, None
    for row in x:
        y, state = layer.step(row, state)
        found, there = layer.step(Exposed(row), there)
        np.testing.assert_array_equal(np.asarray(found), y)
    tokens = np.array([1, 4, 0])
    np.testing.assert_array_equal(np.asarray(layer.step(Exposed(tokens))[0]), layer.step(tokens)[0])


@pytest.mark.parametrize("variant", CELLS)
def test_persistent_kernels(
    variant: str, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    monkeypatch.setenv("RNNFAST_CUDA_PERSISTENT", "1")
    options: dict[str, Any] = {"bidirectional": True, "batch_first": True, "compute": "tf32"}
    layer = build(rnnfast, variant, 9, 17, 2, device="cuda", **options, rng=rng)
    call = draw_call(rng, layer, T=5, B=7, lengths=True, reset=True)
    given = exposed(call)
    assert_same(outcome(layer, given), outcome(layer, call))
    tape = layer.forward(*given.arguments)[2]
    assert tape.persistent_kernels == (0 if variant in ("lstm-proj", "gru-before") else 2)


@pytest.mark.parametrize("show", [narrow, narrow_by_dlpack, narrow_with_gaps])
@pytest.mark.parametrize(
    ("compute", "persistent"),
    [("float32", "0"), ("bfloat16", "0"), ("bfloat16", "1"), ("tf32", "1")],
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_bfloat16_gives_what_the_same_numbers_in_float32_give(
    variant: str,
    compute: str,
    persistent: str,
    show: Callable[[Array], Any],
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RNNFAST_CUDA_PERSISTENT", persistent)
    options: dict[str, Any] = {"bidirectional": True, "batch_first": show is narrow}
    lengths = show is not narrow_by_dlpack
    options["dropout"] = 0.0 if lengths else 0.3
    layer = build(rnnfast, variant, 9, 17, 2, device="cuda", compute=compute, **options, rng=rng)
    drawn = draw_call(rng, layer, T=5, B=7, lengths=lengths, reset=True)
    call = replace(changed(drawn, halved), lengths=drawn.lengths)
    layer.rng = np.random.default_rng(5)  # of dropout
    expected = outcome(layer, exposed(call))
    layer.rng = np.random.default_rng(5)
    found = outcome(layer, exposed(call, show))
    assert [found[name].dtype for name in ("y", "dx", "state[0]")] == ["bfloat16"] + 2 * ["float32"]
    rounded = {**expected, "y": round_to_bfloat16(np.asarray(expected["y"]))}
    assert_same(found, {name: np.asarray(v) for name, v in rounded.items()})


def test_parameters_may_change_after_the_call(
    layer: rnnfast.LSTM,
    machine: str,  # noqa: F811
    rng: np.random.Generator,
) -> None:
    given = exposed(draw_call(rng, layer, T=4, B=2))
    expected = np.asarray(layer(*given.arguments)[0])
    flat = layer.flat.copy()
    if machine == "gpu":  # which reads pageable memory at once
        import torch

        flat = torch.from_numpy(flat).pin_memory().numpy()
    arguments = (given.x, given.state, None, None, False, 0, None, None)
    y = layer._core.forward(flat, *arguments)[0]
    flat[:] = np.nan
    np.testing.assert_array_equal(np.asarray(y), expected)


@pytest.mark.parametrize("show", [Exposed, narrow])
@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_parameters_of_either_type(
    variant: str,
    compute: str,
    tokens: bool,
    show: Callable[[Array], Any],
    rng: np.random.Generator,
) -> None:
    options: dict[str, Any] = {"bidirectional": True, "compute": compute, "device": "cuda"}
    layer = build(rnnfast, variant, 9, 17, 2, **options, rng=rng)
    layer.flat[:] = halved(layer.flat)
    call = draw_call(rng, layer, T=5, B=3, tokens=tokens)
    expected, there = outcome(layer, call), exposed(call)
    core, parameters = layer._core, show(layer.flat)
    other = (narrow if show is Exposed else Exposed)(layer.flat)
    y, state, tape = core.forward(parameters, there.x, there.state, None, None, True, 0, None, None)
    with pytest.raises(
        ValueError, match=r"the parameter buffer has the type <.* on the GPU, expec"
    ):
        core.backward(other, tape, there.dy, None, None, True, None)
    dx, dstate, d = core.backward(parameters, tape, there.dy, there.dstate, None, True, None)
    grads = rnnfast.layers.Gradients(dx, dstate, layer._views(np.asarray(d)), np.asarray(d))
    assert_same(collect(y, state, grads), expected)


@pytest.mark.parametrize("show", [Exposed, narrow])
def test_tapes_keep_no_parameters_that_are_there(
    show: Callable[[Array], Any], rng: np.random.Generator
) -> None:
    layer = rnnfast.LSTM(4, 64, compute="bfloat16", device="cuda", rng=rng)
    x, parameters = Exposed(np.zeros((1, 1, 4), np.float32)), show(layer.flat)
    tape = layer._core.forward(parameters, x, None, None, None, True, 0, None, None)[2]
    assert tape.nbytes < layer.flat.size


def test_results_of_bfloat16_are_for_others_too(
    layer: rnnfast.LSTM, rng: np.random.Generator
) -> None:
    x = halved(rng.standard_normal((4, 2, 3)).astype(np.float32))
    given = narrow(x)
    y = layer(given)[0]
    expected = round_to_bfloat16(np.asarray(layer(Exposed(x))[0]))
    np.testing.assert_array_equal(np.asarray(y), expected)
    assert np.asarray(y).dtype == np.float32
    assert y.__cuda_array_interface__["typestr"] == "<V2"
    upper = rnnfast.LSTM(4, 3, device="cuda", rng=rng)
    above = round_to_bfloat16(np.asarray(upper(Exposed(expected))[0]))
    for shown in (y, DLPackAlone(y)):
        np.testing.assert_array_equal(np.asarray(upper(shown)[0]), above)
    with layer.stream(2) as stream:
        halves = [narrow(x[:2]), narrow(x[2:])]
        blocks = [np.asarray(stream.push(half)) for half in halves]
    # A GPU's product of other sizes may add in another order, and so round to the neighbour.
    np.testing.assert_allclose(np.concatenate(blocks), expected, rtol=0, atol=2**-8)


@pytest.mark.parametrize("variant", VARIANTS)
def test_arrays_are_asked_once(variant: str, rng: np.random.Generator) -> None:
    layer = build(rnnfast, variant, 5, 6, device="cuda", rng=rng)
    call = draw_call(rng, layer, T=4, B=3, reset=True)
    given = exposed(call, Asked)
    outcome(layer, given)
    arrays = [given.x, *pair(given.state), given.reset, given.dy, *pair(given.dstate)]
    assert [v.times for v in arrays] == [1] * len(arrays)


def test_what_comes_from_another_stream_is_waited_for(
    layer: rnnfast.LSTM, rng: np.random.Generator
) -> None:
    call, next_call = (draw_call(rng, layer, T=4, B=2) for _ in range(2))
    state, tape = layer.forward(*call.arguments)[1:]
    y, last, next_tape = layer.forward(next_call.x, state)
    next_grads = layer.backward(next_tape, next_call.dy, next_call.dstate)
    grads = layer.backward(tape, None, next_grads.state)

    state, tape = layer.forward(Exposed(call.x), *exposed(call).arguments[1:])[1:]
    found, found_last, next_tape = layer.forward(Exposed(next_call.x, SECOND), state)
    del state
    found_grads = layer.backward(next_tape, Exposed(next_call.dy), exposed(next_call).dstate)
    given = tuple(map(DLPackAlone, found_grads.state))
    found_grads = layer.backward(tape, None, given)
    del given
    assert_same(collect(found, found_last, found_grads), collect(y, last, grads))


def test_a_state_of_another_stream_is_waited_for(
    layer: rnnfast.LSTM, rng: np.random.Generator
) -> None:
    call = draw_call(rng, layer, T=4, B=2)
    expected = layer(call.x, layer(call.x)[1])[0]
    for _ in range(10):  # of which stream is ahead, the emulator decides by chance
        found = layer(Exposed(call.x, SECOND), layer(Exposed(call.x))[1])[0]
        np.testing.assert_array_equal(np.asarray(found), expected)


def test_what_dlpack_alone_shows_may_change_after_the_call(
    layer: rnnfast.LSTM, rng: np.random.Generator
) -> None:
    call = draw_call(rng, layer, T=4, B=2)
    expected = layer(*call.arguments)[0]
    state = tuple(Exported(part.copy()) for part in call.state)
    y = layer(Exposed(call.x), state)[0]
    for part in state:
        assert part.deleted == 1
        part.there[...] = np.nan
    np.testing.assert_array_equal(np.asarray(y), expected)


def test_what_another_stream_reads_by_dlpack_is_freed_after_that(
    layer: rnnfast.LSTM, place: Any, rng: np.random.Generator
) -> None:
    upper = rnnfast.LSTM(4, 5, device="cuda", rng=rng)
    call = draw_call(rng, layer, T=4, B=2)
    expected = upper(layer(*call.arguments)[0])[0]
    for _ in range(10):
        y = layer(*exposed(call).arguments)[0]
        capsule = y.__dlpack__(stream=place.streams[SECOND])
        shown = y.__cuda_array_interface__ | {"stream": place.streams[SECOND]}
        found = upper(SimpleNamespace(__cuda_array_interface__=shown))[0]
        del y, capsule
        np.asarray(layer(Exposed(call.x))[0])  # after what was freed too early on its stream
        np.testing.assert_array_equal(np.asarray(found), expected)


@pytest.mark.parametrize("backward_stream", [FIRST, SECOND])
def test_parameters_that_are_there(
    backward_stream: str, layer: rnnfast.LSTM, rng: np.random.Generator
) -> None:
    call = draw_call(rng, layer, T=4, B=2)
    expected = outcome(layer, call)
    core, parameters, there = layer._core, Exposed(layer.flat), exposed(call)
    y, state, tape = core.forward(parameters, there.x, there.state, None, None, True, 0, None, None)
    back = exposed(call, lambda v: Exposed(v, backward_stream))
    dx, dstate, d = core.backward(parameters, tape, back.dy, back.dstate, None, True, None)
    np.asarray(layer(*there.arguments)[0])  # after what was freed too early on its stream
    grads = rnnfast.layers.Gradients(dx, dstate, layer._views(np.asarray(d)), np.asarray(d))
    assert is_there(d)
    assert_same(collect(y, state, grads), expected)
    for wrong, text in [
        (layer.flat.astype("f8"), "has the type <f8"),
        (layer.flat[1:], "has .* elements, expected "),
        (np.zeros(2 * layer.flat.size, "f4")[::2], "has gaps"),
    ]:
        with pytest.raises(ValueError, match=f"^lstm: the parameter buffer {text}"):
            core.forward(Exposed(wrong), there.x, None, None, None, False, 0, None, None)
    tape = core.forward(parameters, there.x, None, None, None, True, 0, None, None)[2]
    with pytest.raises(ValueError, match=r"^lstm: out is given, expected None"):
        core.backward(parameters, tape, back.dy, None, layer.flat.copy(), True, None)


def test_what_is_dropped_early_is_freed_late(layer: rnnfast.LSTM, rng: np.random.Generator) -> None:
    call = draw_call(rng, layer, T=4, B=2)
    expected = outcome(layer, call)
    there = exposed(call)
    y, state, tape = layer.forward(*there.arguments)
    layer.forward(*there.arguments)
    grads = layer.backward(tape, there.dy, there.dstate)
    del tape
    gc.collect()
    layer(*exposed(call, lambda v: Exposed(v, SECOND)).arguments)
    assert_same(collect(y, state, grads), expected)


class DLPackAlone:
    """One of our arrays that is shown by DLPack alone."""

    def __init__(self, array: Any) -> None:
        self.__dlpack__, self.__dlpack_device__ = array.__dlpack__, array.__dlpack_device__


def test_dlpack_there_and_back(layer: rnnfast.LSTM, place: Any, rng: np.random.Generator) -> None:
    upper = rnnfast.LSTM(4, 5, device="cuda", rng=rng)
    call = draw_call(rng, layer, T=4, B=2)
    expected = upper(layer(*call.arguments)[0])[0]
    y = layer(*exposed(call).arguments)[0]
    assert y.shape == (4, 2, 4) and y.__dlpack_device__() == (CUDA, 0)
    assert y.__cuda_array_interface__["stream"] == place.streams[FIRST]
    shown = DLPackAlone(y)
    del y
    np.testing.assert_array_equal(np.asarray(upper(shown)[0]), expected)
    x = Exported(call.x)
    layer(x)
    assert x.deleted == 1 and len(set(x.streams)) == 1
    for stream, text in ((0, "stream is 0"), (1, "copy is True")):
        with pytest.raises(BufferError, match=text):
            shown.__dlpack__(stream=stream, copy=True if stream else None)
    with pytest.raises(BufferError, match="dl_device"):
        shown.__dlpack__(dl_device=(1, 0))
    shown.__dlpack__(stream=-1)  # a capsule that nobody uses


def test_tokens_that_are_none_give_nan(rng: np.random.Generator) -> None:
    layer = rnnfast.GRU(5, 4, device="cuda", rng=rng)
    tokens = rng.integers(5, size=(4, 3))
    y = np.asarray(layer(Exposed(tokens))[0])
    wrong = tokens.copy()
    wrong[2, 0], wrong[3, 1] = 5, -1
    found, _, tape = layer.forward(Exposed(wrong))
    nan = np.isnan(np.asarray(found)).all(-1)
    assert nan[2:, 0].all() and nan[3, 1] and nan.sum() == 3
    np.testing.assert_array_equal(np.asarray(found)[~nan], y[~nan])
    grads = layer.backward(tape, found)  # their rows of W_ih's gradient are nobody's
    assert np.isnan(grads.parameters["bias_ih_l0"]).any()


@pytest.mark.parametrize("variant", CELLS)
def test_streams_of_blocks(variant: str, rng: np.random.Generator) -> None:
    layer = build(rnnfast, variant, 5, 6, 2, device="cuda", rng=rng)
    call = draw_call(rng, layer, T=6, B=3)
    y, last = layer(call.x, call.state)
    with layer.stream(3, exposed(call).state) as stream:
        blocks = [stream.push(Exposed(call.x[a:b])) for a, b in ((0, 1), (1, 4), (4, 6))]
        state = stream.state
        with pytest.raises(ValueError, match=r": block has shape \(2, 2, 5\), expected 3 axes"):
            stream.push(Exposed(call.x[:2, :2]))
    layer(call.x)  # after what closing freed too early on a machine's own stream
    # To rounding: a GPU's product of other sizes may add in another order.
    np.testing.assert_allclose(np.concatenate([np.asarray(b) for b in blocks]), y, atol=1e-6)
    for found, expected in zip(pair(state), pair(last), strict=True):
        np.testing.assert_allclose(np.asarray(found), expected, atol=1e-6)
    with layer.stream(3) as stream:
        tokens = rng.integers(5, size=(2, 3))
        found = np.asarray(stream.push(Exposed(tokens)))
        np.testing.assert_array_equal(found, layer(tokens)[0])
    with pytest.raises(ValueError, match=r": state.* has shape .*, expected \(L"):
        layer.stream(2, exposed(call).state)


def test_another_librarys_memory(layer: rnnfast.LSTM, place: Any, rng: np.random.Generator) -> None:
    if isinstance(place, OnGpu):
        pytest.skip("tests/test_torch_gpu.py takes PyTorch's memory there")
    blocks: dict[int, Any] = {}

    def take(size: int, stream: int) -> int:
        assert stream == place.streams[FIRST] and size > 0
        room = np.empty(size, np.uint8)
        blocks[room.ctypes.data] = room
        return int(room.ctypes.data)

    call = draw_call(rng, layer, T=4, B=2)
    expected = outcome(layer, call)
    # Given back at once, while the emulator has not used it yet: kept here.
    given: list[int] = []
    layer._core.use_memory(device.cuda().Memory(take, given.append))
    found = outcome(layer, exposed(call))
    assert_same(found, expected)
    del found
    gc.collect()
    assert sorted(given) == sorted(blocks)

    def fail(size: int, stream: int) -> int:
        raise MemoryError("no more")

    layer._core.use_memory(device.cuda().Memory(fail, given.append))
    with pytest.raises(MemoryError, match="no more"):
        layer(*exposed(call).arguments)
    np.testing.assert_array_equal(layer(*call.arguments)[0], expected["y"])  # not of there


def test_errors_name_what_is_wrong(layer: rnnfast.LSTM, rng: np.random.Generator) -> None:
    call = draw_call(rng, layer, T=4, B=2)
    x, state = Exposed(call.x), tuple(map(Exposed, call.state))
    masked = tuple(Exposed(part, mask=x) for part in call.state)
    for error, arguments, text in [
        (ValueError, (Exposed(call.x.astype("f8")),), "lstm: x has the type <f8 on the GPU"),
        (ValueError, (Exposed(call.x[..., :2]),), "lstm: x has 2 features in its last axis"),
        (ValueError, (Exposed(call.x[0]), state), "lstm: state.0. has shape .1, 2, 4., expected"),
        (ValueError, (Exposed(call.x, 0),), "lstm: x is on stream 0, expected"),
        (ValueError, (Exposed(call.x, mask=x),), "lstm: x has a mask"),
        (ValueError, (Exposed(call.x, strides=(4,)),), "lstm: x has the type <f4 and 1 strides"),
        (ValueError, (Exposed(call.x, typestr="<"),), "lstm: x has the type <"),
        (ValueError, (Exposed(call.x, strides=(32, 16, 3)),), "lstm: x has strides that are no"),
        (ValueError, (Exported(call.x, device=1),), "lstm: x is on GPU 1, expected GPU 0"),
        (ValueError, (x, call.state), "lstm: state.0. is a ndarray in the CPU's memory, expected"),
        (ValueError, (call.x, state), "lstm: state.0. is on the GPU, expected the CPU's memory"),
        (ValueError, (call.x, masked), "lstm: state.0. is on the GPU, expected the CPU's memory"),
        (ValueError, (x, state, Exposed(np.array([4, 4]))), "lstm: lengths is on the GPU"),
        (ValueError, (x, state, [4, 5]), "lstm: lengths.1. is 5"),
        (ValueError, (x, state, None, Exposed(call.x)), "lstm: reset has the type <f4 on the GPU"),
        (ValueError, (x, state, None, call.x[..., 0] > 9), None),
    ]:
        if text is None:
            layer(*arguments)  # resets may be in the CPU's memory
            continue
        with pytest.raises(error, match=f"^{text}"):
            layer(*arguments)
    y, _, tape = layer.forward(x)
    with pytest.raises(ValueError, match=r"^lstm: dy is a ndarray in the CPU's memory"):
        layer.backward(tape, call.dy)
    with pytest.raises(
        ValueError, match=r"^lstm: dy has shape \(4, 2, 3\), expected the shape of y"
    ):
        layer.backward(tape, x)
    layer.backward(tape, y)
    tape = layer.forward(call.x)[2]
    with pytest.raises(ValueError, match=r"^lstm: dy is on the GPU"):
        layer.backward(tape, y)
    with pytest.raises(TypeError, match=r"^lstm: x is a Exposed"):
        rnnfast.LSTM(3, 4)(x)
