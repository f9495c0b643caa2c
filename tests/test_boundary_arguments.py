"""Arguments that are no data: the constructors', parameters, buffers, thread counts, huge sizes."""

from __future__ import annotations

import copy as copies
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import rnnfast
from boundary import CELLS, WIDTH, B, H, T, refused, unharmed, zeros
from cases import (
    VARIANTS,
    Array,
    assert_equal,
    build,
    collect,
    draw_call,
    misaligned,
    outcome,
    pair,
    unpair,
)
from processes import run_python

# -- constructors -----------------------------------------------------------------------------

SIZE = "expected 1 to 2147483647"
SEED = "expected None, an integer of at least 0 or a NumPy Generator"

CONSTRUCTOR: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"input_size": 0}, ValueError, f"input_size is 0, {SIZE}"),
    ({"input_size": -3}, ValueError, f"input_size is -3, {SIZE}"),
    ({"input_size": 2**40}, ValueError, f"input_size is 1099511627776, {SIZE}"),
    ({"input_size": "3"}, TypeError, "input_size is a str, expected an integer"),
    ({"input_size": True}, TypeError, "input_size is a bool, expected an integer"),
    ({"input_size": np.True_}, TypeError, "input_size is a bool, expected an integer"),
    ({"input_size": 3.0}, TypeError, "input_size is a float, expected an integer"),
    ({"input_size": None}, TypeError, "input_size is a NoneType, expected an integer"),
    ({"input_size": np.ones(2, int)}, TypeError, "input_size is a ndarray, expected an integer"),
    ({"hidden_size": 0}, ValueError, f"hidden_size is 0, {SIZE}"),
    ({"hidden_size": 4.5}, TypeError, "hidden_size is a float, expected an integer"),
    ({"num_layers": 0}, ValueError, "num_layers is 0, expected 1 to 65536"),
    ({"num_layers": 65537}, ValueError, "num_layers is 65537, expected 1 to 65536"),
    ({"num_layers": "2"}, TypeError, "num_layers is a str, expected an integer"),
    ({"bias": 1}, TypeError, "bias is a int, expected a bool"),
    ({"batch_first": "no"}, TypeError, "batch_first is a str, expected a bool"),
    ({"bidirectional": None}, TypeError, "bidirectional is a NoneType, expected a bool"),
    ({"dropout": float("nan")}, ValueError, "dropout is nan, expected 0 to 1"),
    ({"dropout": -0.1}, ValueError, "dropout is -0.1, expected 0 to 1"),
    ({"dropout": 2}, ValueError, "dropout is 2, expected 0 to 1"),
    ({"dropout": "half"}, TypeError, "dropout is a str, expected a number"),
    ({"dropout": True}, TypeError, "dropout is a bool, expected a number"),
    ({"dtype": "float16"}, ValueError, "dtype is float16, expected float32 or float64"),
    ({"dtype": ">f4"}, ValueError, "dtype is >f4, expected float32 or float64"),
    ({"dtype": int}, ValueError, "dtype is int64, expected float32 or float64"),
    ({"dtype": None}, ValueError, "dtype is None, expected float32 or float64"),
    ({"dtype": "flo"}, ValueError, "dtype is 'flo', expected float32 or float64"),
    ({"dtype": ","}, ValueError, "dtype is ',', expected float32 or float64"),
    (
        {"dtype": [("a", "f4"), ("a", "f4")]},
        ValueError,
        "dtype is [('a', 'f4'), ('a', 'f4')], expected float32 or float64",
    ),
    (
        {"compute": "float16"},
        ValueError,
        "compute is 'float16', expected 'float32' or 'bfloat16'",
    ),
    (
        {"compute": "bfloat16", "dtype": "float64"},
        ValueError,
        "compute is 'bfloat16' with dtype float64, expected dtype float32",
    ),
    ({"compute": np.float32}, TypeError, "compute is a type, expected a string"),
    ({"rng": -1}, ValueError, f"rng is -1, {SEED}"),
    ({"rng": 1.5}, TypeError, f"rng is a float, {SEED}"),
    ({"rng": "seed"}, TypeError, f"rng is a str, {SEED}"),
]

OWN: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("lstm", {"proj_size": H}, ValueError, "proj_size is 4, expected less than hidden_size=4"),
    ("lstm", {"proj_size": -1}, ValueError, "proj_size is -1, expected 0 to 2147483647"),
    ("lstm", {"proj_size": None}, TypeError, "proj_size is a NoneType, expected an integer"),
    (
        "rnn",
        {"nonlinearity": "elu"},
        ValueError,
        "nonlinearity is 'elu', expected 'tanh' or 'relu' or 'sigmoid' or 'identity'",
    ),
    ("rnn", {"nonlinearity": np.tanh}, TypeError, "nonlinearity is a ufunc, expected a string"),
    ("gru", {"reset_after": 1}, TypeError, "reset_after is a int, expected a bool"),
]

CASES = [*((cell, *case) for cell in CELLS for case in CONSTRUCTOR), *OWN]


@pytest.mark.parametrize(("cell", "arguments", "error", "text"), CASES)
def test_constructor(
    cell: str, arguments: dict[str, Any], error: type[Exception], text: str
) -> None:
    with refused(error, f"{cell}: {text}"):
        CELLS[cell](**({"input_size": WIDTH, "hidden_size": H} | arguments))


@pytest.mark.parametrize("make", CELLS.values())
def test_constructor_takes_numpy_scalars(make: Any) -> None:
    layer = make(np.int64(3), np.uint8(4), bias=np.False_, dropout=np.float32(0.5), dtype=np.double)
    assert (layer.input_size, layer.hidden_size, layer.bias) == (3, 4, False)
    assert layer.dtype == np.float64 and layer(zeros(T, WIDTH))[0].shape == (T, 4)


# -- parameters -------------------------------------------------------------------------------

Change = Callable[[dict[str, Any]], Any]

LOADS: dict[str, tuple[Change, type[Exception], str]] = {
    "missing": (
        lambda d: {k: v for k, v in d.items() if k != "bias_hh_l0"},
        ValueError,
        "state_dict lacks ['bias_hh_l0'] and has unknown nothing, expected exactly ",
    ),
    "surplus": (
        lambda d: d | {"weight_ih_l1": 0, 3: 0},
        ValueError,
        "state_dict lacks nothing and has unknown ['weight_ih_l1', 3], expected exactly ",
    ),
    "shape": (
        lambda d: d | {"weight_ih_l0": d["weight_ih_l0"].T},
        ValueError,
        "weight_ih_l0 has shape (3, ",
    ),
    "scalar": (lambda d: d | {"bias_ih_l0": 1.0}, ValueError, "bias_ih_l0 has shape (), expected"),
    "ragged": (
        lambda d: d | {"bias_ih_l0": [[1.0], [1.0, 2.0]]},
        ValueError,
        "bias_ih_l0 is no array, expected real numbers",
    ),
    "overflow": (
        lambda d: d | {"bias_hh_l0": np.full(len(d["bias_hh_l0"]), 1e300)},
        ValueError,
        "bias_hh_l0 has values too large, expected float32",
    ),
    **{
        f"dtype {dtype}": (
            lambda d, dtype=dtype: d | {"bias_hh_l0": d["bias_hh_l0"].astype(dtype)},
            ValueError,
            f"bias_hh_l0 has dtype {np.dtype(dtype)}, expected real numbers",
        )
        for dtype in ("complex64", "object", "bool", "S9", "M8[s]")
    },
    "list": (
        lambda d: list(d.items()),
        TypeError,
        "mapping is a list, expected a mapping of names to arrays",
    ),
    "None": (lambda _: None, TypeError, "mapping is a NoneType, expected a mapping"),
}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("case", LOADS)
def test_a_state_dict_that_does_not_fit_changes_nothing(case: str, cell: str) -> None:
    layer = CELLS[cell](WIDTH, H, rng=0)
    change, error, text = LOADS[case]
    good = {name: v + 1 for name, v in layer.state_dict().items()}
    with unharmed(layer), pytest.raises(error, match=re.escape(f"{cell}: {text}")):
        layer.load_state_dict(change(good))
    layer.load_state_dict(good)
    assert all(np.array_equal(layer.parameters[name], v) for name, v in good.items())


def test_a_state_dict_may_be_lists_other_types_and_views_of_the_layer() -> None:
    layer = rnnfast.RNN(H, H, rng=0)
    before = layer.state_dict()
    layer.load_state_dict({name: v.tolist() for name, v in before.items()})
    assert all(np.array_equal(layer.parameters[name], v) for name, v in before.items())
    layer.load_state_dict({name: v.astype(np.float64) for name, v in before.items()})
    assert all(np.array_equal(layer.parameters[name], v) for name, v in before.items())
    swapped = {"weight_ih_l0": "weight_hh_l0", "weight_hh_l0": "weight_ih_l0"}
    layer.load_state_dict({name: layer.parameters[swapped.get(name, name)] for name in before})
    for name in before:
        np.testing.assert_array_equal(layer.parameters[name], before[swapped.get(name, name)])


@pytest.mark.parametrize("variant", VARIANTS)
def test_copies_and_pickles_are_layers_of_their_own(variant: str, rng: np.random.Generator) -> None:
    layer = build(rnnfast, variant, WIDTH, H, 2, dropout=0.5, batch_first=True, rng=rng)
    x = rng.standard_normal((B, T, WIDTH)).astype(np.float32)
    for copy in (copies.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert repr(copy) == repr(layer)
        assert copy.flat.ctypes.data % 64 == layer.flat.ctypes.data % 64 == 0  # a cache line
        np.testing.assert_array_equal(copy(x)[0], layer(x)[0])
        assert copy.rng.integers(2**63) == copies.deepcopy(layer).rng.integers(2**63)
        before = layer.flat.copy()
        copy.flat[:] = 0
        assert not any(v.any() for v in copy.parameters.values())
        np.testing.assert_array_equal(layer.flat, before)


@pytest.mark.parametrize("variant", VARIANTS)
def test_repr_makes_the_same_layer(variant: str) -> None:
    layer = build(rnnfast, variant, WIDTH, H, 2, bias=False, dropout=0.5, dtype="float64")
    again = eval(repr(layer), vars(rnnfast))
    assert repr(again) == repr(layer)
    assert {name: v.shape for name, v in again.parameters.items()} == {
        name: v.shape for name, v in layer.parameters.items()
    }


def read_only(n: int) -> Array:
    v = np.zeros(n, np.float32)
    v.flags.writeable = False
    return v


BUFFERS: dict[str, Callable[[int], Any]] = {
    "too small": lambda n: zeros(n - 1),
    "too large": lambda n: zeros(n + 1),
    "two axes": lambda n: zeros(n, 1),
    "float64": lambda n: zeros(n, dtype=np.float64),
    "big-endian": lambda n: zeros(n, dtype=">f4"),
    "not contiguous": lambda n: zeros(2 * n)[::2],
    "zero stride": lambda n: np.broadcast_to(zeros(1), n),
    "misaligned": lambda n: misaligned(zeros(n)),
    "read-only": read_only,
    "list": lambda n: [0.0] * n,
    "memory": lambda n: memoryview(zeros(n)),
}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("buffer", BUFFERS)
def test_buffers_that_do_not_fit(buffer: str, cell: str) -> None:
    layer = CELLS[cell](WIDTH, H, rng=0)
    wrong = BUFFERS[buffer](layer.flat.size)
    tape = layer.forward(zeros(T, B, WIDTH))[2]
    for name, use in [
        ("buffer", lambda: layer.bind(wrong)),
        ("out", lambda: layer.backward(tape, out=wrong)),
    ]:
        text, error = f"{cell}: {name} has shape {np.shape(wrong)} and dtype ", ValueError
        if not isinstance(wrong, np.ndarray):
            text, error = (
                f"{cell}: {name} is a {type(wrong).__name__}, expected a NumPy ",
                TypeError,
            )
        with unharmed(layer), pytest.raises(error, match=re.escape(text)):
            use()
    assert np.size(layer.backward(tape, out=np.zeros_like(layer.flat)).flat) == layer.flat.size


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_may_not_overwrite_the_parameters(cell: str) -> None:
    layer = CELLS[cell](WIDTH, H, rng=0)
    room = np.zeros(layer.flat.size + 1, np.float32)
    layer.bind(room[1:])
    tape = layer.forward(zeros(T, B, WIDTH))[2]
    text = f"{cell}: out shares memory with the parameters, expected another buffer"
    for out in (layer.flat, room[:-1]):
        with unharmed(layer), refused(ValueError, text):
            layer.backward(tape, out=out)


def overlapping(v: Array, size: int, shared: int) -> tuple[Array, Array]:
    """Make a buffer of `size`, and a copy of v whose first `shared` elements lie in it."""
    room = np.empty(size + v.size - shared, v.dtype)
    copy = room[size - shared :].reshape(v.shape)
    copy[...] = v
    return room[:size], copy


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    ("name", "text"), [("x", "x, which the tape reads"), ("dy", "dy"), ("dstate", "dstate")]
)
def test_gradients_may_not_overwrite_what_they_are_made_of(
    name: str, text: str, cell: str, rng: np.random.Generator
) -> None:
    layer = CELLS[cell](WIDTH, H, rng=rng)
    call = draw_call(rng, layer, T, B)
    expected = outcome(layer, call)
    arrays = {"x": call.x, "dy": call.dy, "dstate": pair(call.dstate)[-1]}

    def backward(shared: int) -> None:
        out, copy = overlapping(arrays[name], layer.flat.size, shared)
        given = arrays | {name: copy}
        y, state, tape = layer.forward(given["x"], call.state)
        dstate = unpair((*pair(call.dstate)[:-1], given["dstate"]))
        grads = layer.backward(tape, given["dy"], dstate, out=out)
        assert grads.flat is out
        assert_equal(collect(y, state, grads), expected)

    backward(shared=0)
    for shared in (1, min(layer.flat.size, arrays[name].size)):
        message = f"{cell}: out shares memory with {text}, expected another buffer"
        with refused(ValueError, message):
            backward(shared)


def test_parameters_cannot_be_replaced() -> None:
    layer = rnnfast.GRU(WIDTH, H)
    with pytest.raises(TypeError, match="does not support item assignment"):
        layer.parameters["bias_ih_l0"] = zeros(12)
    with pytest.raises(AttributeError, match="gru: flat cannot be replaced, expected a change in"):
        layer.flat = zeros(layer.flat.size)


def test_parameters_change_in_place() -> None:
    layer = rnnfast.GRU(WIDTH, H, rng=0)
    before = layer.flat.copy()
    layer.flat += 1
    np.testing.assert_array_equal(layer.flat, before + 1)
    assert all(np.shares_memory(v, layer.flat) for v in layer.parameters.values())


@pytest.mark.parametrize("cell", CELLS)
def test_input_gradient_is_a_bool(cell: str) -> None:
    layer = CELLS[cell](WIDTH, H)
    tape = layer.forward(zeros(T, B, WIDTH))[2]
    for wrong in (1, None, "yes"):
        kind = type(wrong).__name__
        with refused(TypeError, f"{cell}: input_gradient is a {kind}, expected a bool"):
            layer.backward(tape, input_gradient=wrong)


# -- thread counts ----------------------------------------------------------------------------

COUNT = "expected 1 to 1024"

THREADS: list[tuple[Any, type[Exception], str]] = [
    (0, ValueError, f"num_threads is 0, {COUNT}"),
    (-1, ValueError, f"num_threads is -1, {COUNT}"),
    (1025, ValueError, f"num_threads is 1025, {COUNT}"),
    (10**4, ValueError, f"num_threads is 10000, {COUNT}"),
    (2**70, ValueError, f"num_threads is 1180591620717411303424, {COUNT}"),
    (np.int8(-3), ValueError, f"num_threads is -3, {COUNT}"),
    (True, TypeError, "num_threads is a bool, expected an integer"),
    (np.True_, TypeError, "num_threads is a bool, expected an integer"),
    (2.0, TypeError, "num_threads is a float, expected an integer"),
    ("2", TypeError, "num_threads is a str, expected an integer"),
    (np.array(2), TypeError, "num_threads is a ndarray, expected an integer"),
    ([2], TypeError, "num_threads is a list, expected an integer"),
]


@pytest.mark.parametrize(("count", "error", "text"), THREADS)
def test_thread_counts(count: Any, error: type[Exception], text: str) -> None:
    layer = rnnfast.LSTM(WIDTH, H, rng=0)
    x = zeros(T, B, WIDTH)
    tape = layer.forward(x)[2]
    before = rnnfast.get_num_threads()
    calls: list[Callable[[], Any]] = [
        lambda: layer(x, num_threads=count),
        lambda: layer.forward(x, num_threads=count),
        lambda: layer.backward(tape, num_threads=count),
        lambda: layer.step(x[0], num_threads=count),
        lambda: layer.stream(B, num_threads=count),
        lambda: rnnfast.set_num_threads(count),
    ]
    for call in calls:
        with refused(error, text):
            call()
    assert rnnfast.get_num_threads() == before
    layer.backward(tape)  # the refused call has not used it


def test_the_default_number_of_threads_is_a_number() -> None:
    before = rnnfast.get_num_threads()
    with refused(TypeError, "num_threads is a NoneType, expected an integer"):
        rnnfast.set_num_threads(None)  # type: ignore[arg-type]
    assert rnnfast.get_num_threads() == before


# -- more than there is -----------------------------------------------------------------------


@pytest.mark.parametrize("make", CELLS.values())
def test_layers_too_large(make: Any) -> None:
    most = 2**31 - 1
    for sizes in [(most, most), (1, most, 2**16), (3, 2**20, 2**16)]:
        with pytest.raises(ValueError, match=r"input_size=\d+, .*: the parameters overflow memory"):
            make(*sizes)
    with pytest.raises(MemoryError):
        make(most, 2**20)


@pytest.mark.parametrize("cell", CELLS)
def test_arrays_too_large(cell: str) -> None:
    """Views of one element that claim to be larger than any memory."""
    layer = CELLS[cell](WIDTH, H, rng=0)
    x = zeros(T, B, WIDTH)
    tape = layer.forward(x)[2]
    tokens = np.broadcast_to(np.int64(0), (2**46, 1))
    with unharmed(layer):
        for call in (layer, layer.forward):
            for huge in (tokens, np.broadcast_to(np.float32(0), (2**46, 1, WIDTH))):
                with pytest.raises(MemoryError):
                    call(huge)
            with pytest.raises(ValueError, match="lengths has shape"):
                call(x, lengths=tokens[:, 0])
        with pytest.raises(MemoryError):
            layer.step(tokens[:, 0])
        with pytest.raises(ValueError, match="dy has shape"):
            layer.backward(tape, np.broadcast_to(np.float32(0), (2**46, 1, H)))
        empty, _ = layer(np.zeros((2**40, 0, WIDTH), np.float32))
        assert empty.shape == (2**40, 0, H)


def test_memory_that_cannot_be_had_leaves_everything_as_it_was() -> None:
    code = """
import resource, numpy as np, rnnfast
lstm = rnnfast.LSTM(1, 64, rng=0)
wide = rnnfast.GRU(4096, 8, rng=0)
small = np.ones((30, 4, 1), np.float32)
x, w = np.zeros((4_000_000, 1, 1), np.float32), np.ones((600, 8, 4096), np.float32)
y = lstm(small)[0]
tape = wide.forward(w)[2]
flat = lstm.flat.copy()

def limit(room):
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + room if room else hard, hard))

def fails(call):
    try:
        call()
    except MemoryError:
        return True
    return False

limit(40_000_000)
print(fails(lambda: lstm(x)), fails(lambda: lstm.forward(x)), fails(lambda: wide.backward(tape)))
print(np.array_equal(lstm(small)[0], y), np.array_equal(lstm.flat, flat))
limit(None)
grads, again = wide.backward(tape), wide.backward(wide.forward(w)[2])
print(np.array_equal(grads.x, again.x), np.array_equal(grads.flat, again.flat))
"""
    assert run_python(code) == "True True True\nTrue True\nTrue True"
