"""RNN, LSTM, GRU and the cells of rnnfast.torch against those of torch.nn."""

from __future__ import annotations

import copy
import io
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any, cast
from unittest import TestCase

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="rnnfast.torch needs torch")

# PyTorch's lists of inputs import a package for tests of its own, of which nothing is used here.
sys.modules.setdefault("expecttest", cast("ModuleType", SimpleNamespace(TestCase=TestCase)))

from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence  # noqa: E402
from torch.testing._internal.common_modules import module_db  # noqa: E402

import rnnfast.torch as bridge  # noqa: E402
from rnnfast.torch import packing  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported"),
    pytest.mark.filterwarnings("ignore:dropout option adds dropout"),
]

LAYERS = ["RNN", "LSTM", "GRU"]
CELLS = ["RNNCell", "LSTMCell", "GRUCell"]
OUTPUTS = {torch.float32: 1e-5, torch.float64: 1e-10}  # of the largest element of each
GRADIENTS = {torch.float32: 1e-4, torch.float64: 1e-10}


def tensors(given: Any) -> Iterator[Any]:
    """All tensors of inputs or results, in order."""
    if isinstance(given, PackedSequence):
        yield given.data
    elif isinstance(given, torch.Tensor):
        yield given
    elif isinstance(given, tuple | list):
        for part in given:
            yield from tensors(part)


def fresh(given: Any) -> Any:
    """Copies whose gradients are of interest."""
    if isinstance(given, PackedSequence):
        return PackedSequence(fresh(given.data), *given[1:])
    if isinstance(given, tuple | list):
        return type(given)(fresh(part) for part in given)
    return given.detach().clone().requires_grad_() if isinstance(given, torch.Tensor) else given


def pair(kind: str, *args: Any, **options: Any) -> tuple[Any, Any]:
    """A module of torch.nn and one of ours with equal weights."""
    stock = getattr(torch.nn, kind)(*args, **options)
    ours = getattr(bridge, kind)(*args, **options)
    ours.load_state_dict(stock.state_dict())
    return stock, ours


def outcome(module: Any, inputs: Sequence[Any], seed: int = 0) -> tuple[list[Any], list[Any]]:
    """Results, and gradients of inputs and parameters for random cotangents."""
    given = [fresh(i) for i in inputs]
    module.zero_grad()
    results = list(tensors(module(*given)))
    generator = torch.Generator().manual_seed(seed)
    torch.autograd.backward(
        results, [torch.randn(r.shape, generator=generator, dtype=r.dtype) for r in results]
    )
    return results, [t.grad for t in (*tensors(given), *module.parameters())]


def assert_close(mine: Any, theirs: Any, relative: float) -> None:
    assert mine.shape == theirs.shape and mine.dtype == theirs.dtype
    largest = float(theirs.detach().abs().max()) if theirs.numel() else 0.0
    torch.testing.assert_close(mine, theirs, rtol=0, atol=relative * largest)


def assert_same(stock: Any, ours: Any, *inputs: Any) -> None:
    """Equal results and gradients, with and without autograd."""
    theirs, mine = outcome(stock, inputs), outcome(ours, inputs)
    dtype = theirs[0][0].dtype
    for name, a, b in zip("yg", mine, theirs, strict=True):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_close(one, other, (OUTPUTS if name == "y" else GRADIENTS)[dtype])
    with torch.no_grad():
        for one, other in zip(tensors(ours(*inputs)), theirs[0], strict=True):
            assert_close(one, other, OUTPUTS[dtype])


def is_ours(module: Any, *inputs: Any) -> bool:
    """Whether the results come from the compiled layer."""
    results = tensors(module(*inputs))
    nodes, names = [r.grad_fn for r in results], set()
    while nodes:
        node = nodes.pop()
        if node is not None:
            names.add(node.name())
            nodes += [following for following, _ in node.next_functions]
    return "RecurrenceBackward" in names


# -- PyTorch's own inputs -------------------------------------------------------------------------

INFOS = {
    info.module_cls.__name__: info
    for info in module_db
    if info.module_cls.__name__ in [*LAYERS, *CELLS]
}


@pytest.mark.parametrize("dtype", OUTPUTS, ids=str)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", INFOS)
def test_the_inputs_of_pytorchs_tests(kind: str, training: bool, dtype: Any) -> None:
    info = INFOS[kind]
    samples = info.module_inputs_func(
        info,
        device="cpu",
        dtype=dtype,
        requires_grad=True,
        training=training,
        with_packed_sequence=True,
    )
    assert len(samples) >= 2
    for sample in samples:
        made, given = sample.constructor_input, sample.forward_input
        stock, ours = pair(kind, *made.args, **made.kwargs, dtype=dtype)
        assert_same(
            stock.train(training), ours.train(training), *given.args, *given.kwargs.values()
        )
        assert is_ours(ours, *given.args, *given.kwargs.values())


@pytest.mark.parametrize("kind", INFOS)
def test_the_error_inputs_of_pytorchs_tests(kind: str) -> None:
    info = INFOS[kind]
    samples = info.module_error_inputs_func(
        info, device="cpu", dtype=torch.float32, requires_grad=False, training=True
    )
    assert samples
    for sample in samples:
        given = sample.module_error_input
        made, call = given.constructor_input, given.forward_input
        with pytest.raises(sample.error_type, match=sample.error_regex):
            getattr(bridge, kind)(*made.args, **made.kwargs)(*call.args, **call.kwargs)


# -- more inputs -----------------------------------------------------------------------------------

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "two layers both ways": {"num_layers": 2, "bidirectional": True},
    "batch first without bias": {"batch_first": True, "bias": False},
}


@pytest.mark.parametrize("dtype", OUTPUTS, ids=str)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("kind", [*LAYERS, "projected"])
def test_layers(kind: str, options: dict[str, Any], dtype: Any) -> None:
    own = {"proj_size": 4} if kind == "projected" else {}
    kind = "LSTM" if own else kind
    stock, ours = pair(kind, 7, 9, **options, **own, dtype=dtype)
    tracks = stock.num_layers * (2 if stock.bidirectional else 1)
    for steps in (1, 6):
        x = torch.randn(3, steps, 7, dtype=dtype)
        x = x if stock.batch_first else x.transpose(0, 1)  # not contiguous
        h = torch.randn(tracks, 3, own.get("proj_size", 9), dtype=dtype)
        c = torch.randn(tracks, 3, 9, dtype=dtype)
        state = (h, c) if kind == "LSTM" else h
        assert_same(stock, ours, x)
        assert_same(stock, ours, x, state)
        assert is_ours(ours, x, state)
        assert_same(stock, ours, x[0] if stock.batch_first else x[:, 0])


@pytest.mark.parametrize("lengths", [[9, 6, 6, 2, 1], [2, 9, 1, 6, 6], [5, 5, 5]])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("kind", LAYERS)
def test_packed_sequences(
    kind: str, options: dict[str, Any], lengths: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "np", Poisonous())
    stock, ours = pair(kind, 7, 9, **options, dtype=torch.float64)
    rows = torch.randn(len(lengths), max(lengths), 7, dtype=torch.float64)
    ordered = lengths == sorted(lengths, reverse=True)
    packed = pack_padded_sequence(rows, torch.tensor(lengths), True, enforce_sorted=ordered)
    tracks = stock.num_layers * (2 if stock.bidirectional else 1)
    h = torch.randn(2, tracks, len(lengths), 9, dtype=torch.float64)
    assert_same(stock, ours, packed)
    assert_same(stock, ours, packed, tuple(h) if kind == "LSTM" else h[0])
    assert is_ours(ours, packed)
    theirs, mine = stock(packed)[0], ours(packed)[0]
    for one, other in zip(mine[1:], theirs[1:], strict=True):
        assert (one is None and other is None) or torch.equal(one, other)


class Poisonous:
    """NumPy whose new memory holds NaN: nothing between packed rows is read."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def empty(self, shape: Any, dtype: Any) -> Any:
        return np.full(shape, np.nan, dtype)


@pytest.mark.parametrize("batch_sizes", [[1, 2], [2, 2], [4]])
def test_packed_sequences_that_are_none(batch_sizes: list[int]) -> None:
    stock, ours = pair("GRU", 7, 9)
    packed = PackedSequence(torch.randn(3, 7), torch.tensor(batch_sizes))
    with pytest.raises(Exception, match=r".") as theirs:
        stock(packed)
    with pytest.raises(theirs.type) as mine:
        ours(packed)
    assert str(mine.value) == str(theirs.value)


def test_packed_rows_with_an_axis_too_many() -> None:
    packed = PackedSequence(torch.randn(3, 1, 7), torch.tensor([2, 1]))
    with pytest.raises(RuntimeError, match="input must have 2 dimensions, got 3"):
        bridge.GRU(7, 9)(packed)


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("bias", [True, False])
def test_cells(kind: str, bias: bool) -> None:
    for dtype in OUTPUTS:
        stock, ours = pair(kind, 7, 9, bias, dtype=dtype)
        x, h, c = torch.randn(5, 7), torch.randn(5, 9), torch.randn(5, 9)
        x, h, c = (t.to(dtype) for t in (x, h, c))
        state = (h, c) if kind == "LSTMCell" else h
        assert_same(stock, ours, x)
        assert_same(stock, ours, x, state)
        assert_same(stock, ours, x[0])
        assert_same(stock, ours, torch.randn(100, 7, dtype=dtype))
        assert is_ours(ours, x)


def test_a_cell_with_a_nonlinearity_that_is_none() -> None:
    cell = bridge.RNNCell(3, 4, nonlinearity="sigmoid")
    with pytest.raises(RuntimeError, match="Unknown nonlinearity: sigmoid"):
        cell(torch.zeros(2, 3))


@pytest.mark.parametrize("shape", [(0, 2, 7), (4, 0, 7)], ids=["no steps", "no sequences"])
@pytest.mark.parametrize("kind", LAYERS)
def test_nothing_is_as_in_pytorch(kind: str, shape: tuple[int, ...]) -> None:
    stock, ours = pair(kind, 7, 9)
    assert what_becomes_of(ours, torch.zeros(shape)) == what_becomes_of(stock, torch.zeros(shape))


def what_becomes_of(module: Any, x: Any) -> Any:
    """The shapes of the results, or the error."""
    try:
        return [result.shape for result in tensors(module(x))]
    except RuntimeError as error:
        return str(error)


@pytest.mark.parametrize(
    ("x", "hx"),
    [
        (torch.zeros(4, 2, 7, dtype=torch.float64), None),
        (torch.zeros(4, 2, 7, dtype=torch.int64), None),
        (torch.zeros(4, 2, 6), None),
        (torch.zeros(4, 2, 7, 1), None),
        (torch.zeros(4, 2, 7), torch.zeros(1, 3, 9)),
        (torch.zeros(4, 2, 7), torch.zeros(2, 9)),
        (torch.zeros(4, 2, 7), torch.zeros(1, 2, 9, dtype=torch.float64)),
        (torch.zeros(4, 2, 7, device="meta"), torch.zeros(1, 2, 9)),
        (torch.zeros(4, 2, 7).to_sparse(), None),
        ([1.0], None),
    ],
)
def test_what_does_not_fit_is_refused_as_by_pytorch(x: Any, hx: Any) -> None:
    stock, ours = pair("GRU", 7, 9)
    with pytest.raises(Exception, match=r".") as theirs:
        stock(x, hx)
    with pytest.raises(theirs.type):
        ours(x, hx)


@pytest.mark.parametrize("lowered", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_autocast(kind: str, lowered: Any) -> None:
    stock, ours = pair(kind, 32, 24)
    x = torch.randn(3, 32) if kind in CELLS else torch.randn(5, 3, 32)
    inputs = [x, x.to(lowered)]
    if kind in LAYERS:
        inputs.append(pack_padded_sequence(x, torch.tensor([5, 4, 1])))
    for given in inputs if lowered is torch.bfloat16 else inputs[1:2]:
        with torch.autocast("cpu", lowered):
            theirs, mine = stock(given), ours(given)
        for one, other in zip(tensors(mine), tensors(theirs), strict=True):
            assert one.dtype == other.dtype
            torch.testing.assert_close(one.float(), other.float(), rtol=0, atol=0.03)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_other_types_are_for_pytorch(dtype: Any) -> None:
    stock, ours = pair("GRU", 7, 9, dtype=dtype)
    x = torch.randn(4, 2, 7).to(dtype)
    assert torch.equal(ours(x)[0], stock(x)[0])


def test_the_memory_of_a_negative_view_is_not_taken_as_it_is() -> None:
    stock, ours = pair("GRU", 1, 9)
    x = torch.complex(torch.randn(1, 1, 1), torch.randn(1, 1, 1)).conj().imag
    assert x.is_neg()
    torch.testing.assert_close(ours(x)[0], stock(x)[0])


# -- dropout ---------------------------------------------------------------------------------------


def test_dropout_repeats_by_the_seed_and_scales() -> None:
    gru = bridge.GRU(8, 64, 2, dropout=0.4)
    x = torch.randn(20, 4, 8)

    def run(seed: int) -> Any:
        torch.manual_seed(seed)
        return gru(x)[0]

    assert torch.equal(run(1), run(1)) and not torch.equal(run(1), run(2))
    with torch.no_grad():  # training mode decides, as in PyTorch
        torch.testing.assert_close(run(1), run(1))
        assert not torch.equal(run(1), gru.eval()(x)[0])
    assert torch.equal(run(1), run(2))
    all_dropped = bridge.GRU(8, 64, 2, dropout=1.0)
    other = all_dropped(torch.randn_like(x))[0]
    assert torch.equal(all_dropped(x)[0], other)  # nothing of the input is left


def test_gradients_of_dropout_are_those_of_its_outputs() -> None:
    gru = bridge.GRU(3, 5, 2, dropout=0.5, dtype=torch.float64)

    def run(x: Any) -> Any:
        torch.manual_seed(5)
        return gru(x)[0]

    assert torch.autograd.gradcheck(run, torch.randn(4, 2, 3, dtype=torch.float64).requires_grad_())


# -- the modules themselves ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_modules_are_pytorchs(kind: str) -> None:
    torch.manual_seed(3)
    stock = getattr(torch.nn, kind)(5, 6)
    torch.manual_seed(3)
    ours = getattr(bridge, kind)(5, 6)
    assert isinstance(ours, type(stock)) and repr(ours) == repr(stock)
    assert type(ours).__doc__ == type(stock).__doc__
    assert list(ours.state_dict()) == list(stock.state_dict())
    for one, other in zip(ours.parameters(), stock.parameters(), strict=True):
        assert torch.equal(one, other) and isinstance(one, torch.nn.Parameter)


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_copies_and_pickles(kind: str) -> None:
    _, ours = pair(kind, 5, 6)
    x = torch.randn(3, 5) if kind in CELLS else torch.randn(4, 3, 5)
    expected = list(tensors(ours(x)))
    file = io.BytesIO()
    torch.save(ours, file)
    file.seek(0)
    for twin in (copy.deepcopy(ours), torch.load(file, weights_only=False)):
        for one, other in zip(tensors(twin(x)), expected, strict=True):
            assert torch.equal(one, other)
        with torch.no_grad():
            twin.weight_hh_l0.zero_() if kind in LAYERS else twin.weight_hh.zero_()
        for one, other in zip(tensors(ours(x)), expected, strict=True):
            assert torch.equal(one, other)
