"""PyTorch's modules on a GPU, computed by rnnfast's backend where `use_cuda` says so.

On the emulator tensors are in the CPU's memory, and a few functions of `rnnfast.torch.gpu` say that
they are on the GPU.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from rnnfast import device
from test_cuda import machine  # noqa: F401

torch = pytest.importorskip("torch", reason="rnnfast.torch needs PyTorch")

from torch.nn.utils.rnn import pack_padded_sequence  # noqa: E402

from rnnfast import torch as bridge  # noqa: E402
from rnnfast.torch import autograd, gpu  # noqa: E402
from rnnfast.torch.spec import core_of, plan_of  # noqa: E402

MODES = [
    ("RNN", {}),
    ("RNN", {"nonlinearity": "relu"}),
    ("LSTM", {}),
    ("GRU", {}),
    ("LSTM", {"proj_size": 3}),
]
CELLS = ["RNNCell", "LSTMCell", "GRUCell"]
ALL = [*MODES, *((name, {}) for name in CELLS)]
STREAM = 0x700


@pytest.fixture(autouse=True)
def where(machine: str, rng: Any, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: F811
    """Let modules compute there."""
    torch.manual_seed(int(rng.integers(2**31)))
    if machine == "emulated":
        taken, shown, kept = gpu.as_tensor, gpu.Shown, []

        def awaited(array: Any) -> Any:
            np.asarray(array)
            return taken(array)

        def keeping(tensor: Any) -> Any:  # the CPU's would be freed before the emulator is done
            kept.append(tensor)
            return shown(tensor)

        def never(address: int) -> None:
            kept.append(gpu._blocks.pop(address))

        monkeypatch.setattr(gpu, "_FIRST", torch.device("cpu"))
        monkeypatch.setattr(gpu, "current_stream", lambda: STREAM)
        monkeypatch.setattr(gpu, "as_tensor", awaited)
        monkeypatch.setattr(gpu, "Shown", keeping)
        monkeypatch.setattr(gpu, "_give", never)
        monkeypatch.setattr(gpu, "is_captured", lambda: False)
        monkeypatch.setattr(gpu, "bring", torch.from_numpy)
    clear_caches()
    bridge.use_cuda()
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield torch.device("cpu" if machine == "emulated" else "cuda:0")
    bridge.use_cuda(False)
    clear_caches()
    assert not gpu._blocks  # all was given back


def clear_caches() -> None:
    """Forget the layers of another machine."""
    for cached in (plan_of, core_of, gpu._memory):
        cached.cache_clear()


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Which calls the backend computed."""
    calls: list[Any] = []
    run = autograd.gpu_engine.run
    monkeypatch.setattr(
        autograd.gpu_engine, "run", lambda *a, **k: calls.append(a[0].plan.spec) or run(*a, **k)
    )
    return calls


@pytest.fixture
def autocast(machine: str, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: F811
    """Enter autocast on the GPU; the emulator's PyTorch is told that it has."""

    @contextmanager
    def entered(dtype: Any) -> Any:
        if machine != "emulated":
            with torch.autocast("cuda", dtype=dtype):
                yield
            return
        with monkeypatch.context() as patched:
            patched.setattr(torch, "is_autocast_enabled", lambda kind: kind == "cuda")
            patched.setattr(torch, "get_autocast_dtype", lambda _: dtype)
            yield

    return entered


def outcome(module: Any, x: Any, state: Any) -> list[Any]:
    """Run forward and backward with cotangents of all outputs: results and gradients."""
    tensors = [x, *(state if isinstance(state, tuple) else [] if state is None else [state])]
    leaves = [t.detach().requires_grad_() for t in tensors]
    given = None if state is None else tuple(leaves[1:]) if isinstance(state, tuple) else leaves[1]
    results = module(leaves[0], given)
    flat: list[Any] = []
    for result in results if isinstance(results, tuple) else (results,):
        flat += result if isinstance(result, tuple) else [result]
    return gradients(module, flat, leaves)


def packed_outcome(module: Any, x: Any, lengths: list[int], state: Any) -> list[Any]:
    """The same of sequences that are packed."""
    parts = state if isinstance(state, tuple) else () if state is None else (state,)
    leaf, *given = (t.detach().requires_grad_() for t in (x, *parts))
    in_order = lengths == sorted(lengths, reverse=True)
    packed = pack_padded_sequence(leaf, torch.tensor(lengths), enforce_sorted=in_order)
    hx = tuple(given) if isinstance(state, tuple) else given[0] if given else None
    y, after = module(packed, hx)
    results = [y.data, *(after if isinstance(after, tuple) else (after,))]
    return gradients(module, results, [leaf, *given])


def gradients(module: Any, flat: list[Any], leaves: list[Any]) -> list[Any]:
    """Complete results by gradients of leaves and parameters."""
    generator = torch.Generator().manual_seed(3)
    cotangents = [
        torch.randn(r.shape, generator=generator).bfloat16().to(r.device, r.dtype) for r in flat
    ]
    torch.autograd.backward(flat, cotangents)
    grads = [p.grad.clone() for p in module.parameters()]
    module.zero_grad()
    return [*flat, *(leaf.grad for leaf in leaves), *grads]


def assert_same(ours: Any, stock: Any, x: Any, state: Any = None) -> None:
    pairs = zip(outcome(ours, x, state), outcome(stock, x, state), strict=True)
    for found, expected in pairs:
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")  # PyTorch's own
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(("kind", "options"), MODES)
def test_layers(kind: str, options: Any, batch_first: bool, where: Any, runs: list[Any]) -> None:
    stock = getattr(torch.nn, kind)(
        5, 7, 2, bidirectional=True, batch_first=batch_first, **options, device=where
    )
    ours = copy.deepcopy(stock)
    assert bridge.accelerate(ours).swapped == [""]
    x, h = torch.randn(4, 3, 5, device=where), torch.randn(4, 4 if batch_first else 3, 7)
    h = h[..., : options.get("proj_size", 7)].contiguous().to(where)
    c = torch.randn(4, h.shape[1], 7, device=where)
    assert_same(ours, stock, x)
    assert_same(ours, stock, x.transpose(0, 1).contiguous().transpose(0, 1), None)
    assert_same(ours, stock, x, (h, c) if kind == "LSTM" else h)
    assert len(runs) == 3
    ours.eval(), stock.eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(x)[0], stock(x)[0], rtol=1e-4, atol=1e-5)
    assert len(runs) == 4


@pytest.mark.parametrize("kind", CELLS)
def test_cells(kind: str, where: Any, runs: list[Any]) -> None:
    stock = getattr(torch.nn, kind)(5, 7, device=where)
    ours = copy.deepcopy(stock)
    bridge.accelerate(ours)
    x, h, c = (torch.randn(3, n, device=where) for n in (5, 7, 7))
    assert_same(ours, stock, x, (h, c) if kind == "LSTMCell" else h)
    assert_same(ours, stock, x[0], None)
    assert len(runs) == 2


@pytest.mark.parametrize("kind", CELLS)
def test_results_may_be_changed_in_place(kind: str, where: Any) -> None:
    stock = getattr(torch.nn, kind)(5, 7, device=where)
    ours = copy.deepcopy(stock)
    bridge.accelerate(ours)
    x, mask = torch.randn(3, 5, device=where), torch.rand(3, 1, device=where)
    for module, scale in ((ours, torch.Tensor.mul_), (stock, torch.Tensor.mul)):
        results = module(x)
        parts = results if isinstance(results, tuple) else (results,)
        sum(scale(part, mask).sum() for part in parts).backward()
    for one, other in zip(ours.parameters(), stock.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)


def test_what_a_transform_left_behind_is_a_tensor(where: Any) -> None:
    ours = bridge.GRU(5, 4, device=where)
    left: list[Any] = []
    torch.func.grad(lambda x: left.append(x) or x.sum())(torch.randn(6, 2, 5, device=where))
    with torch.no_grad():
        torch.testing.assert_close(ours(left[0])[0], ours(left[0].clone())[0])


def test_weights_and_their_gradients_are_not_kept_or_tied(where: Any) -> None:
    cell = bridge.GRUCell(5, 7, device=where)
    x, gathered = torch.randn(3, 5, device=where), []
    h = None
    for _ in range(3):
        h = cell(x, h)
        gathered += [sum(len(block) for block in gpu._blocks.values())]
    first, second = np.diff(gathered)
    assert first == second < sum(p.nbytes for p in cell.parameters())
    h.sum().backward()
    before = cell.weight_hh.grad._version
    cell.weight_ih.grad.add_(1)
    assert cell.weight_hh.grad._version == before


@pytest.fixture
def poisoned() -> Any:
    """Let new memory hold NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")  # PyTorch's own
@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("lengths", [[6, 4, 4, 1], [2, 6, 1], [3, 3]])
@pytest.mark.parametrize(("kind", "options"), MODES)
def test_packed_sequences(
    kind: str, options: Any, lengths: list[int], where: Any, runs: list[Any]
) -> None:
    stock = getattr(torch.nn, kind)(5, 7, 2, bidirectional=True, **options, device=where)
    ours = copy.deepcopy(stock)
    bridge.accelerate(ours)
    x = torch.randn(max(lengths), len(lengths), 5, device=where)
    h = torch.randn(4, len(lengths), options.get("proj_size", 7), device=where)
    c = torch.randn(4, len(lengths), 7, device=where)
    for state in (None, (h, c) if kind == "LSTM" else h):
        found = packed_outcome(ours, x, lengths, state)
        for one, other in zip(found, packed_outcome(stock, x, lengths, state), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    stock.load_state_dict({name: rounded(value) for name, value in stock.state_dict().items()})
    found = packed_outcome(ours.bfloat16(), x.bfloat16(), lengths, None)
    assert {v.dtype for v in found} == {torch.bfloat16}
    assert_close(found, packed_outcome(stock, rounded(x), lengths, None))
    assert [spec.compute for spec in runs] == ["float32", "float32", "bfloat16"]


def rounded(tensor: Any, dtype: Any = torch.float32) -> Any:
    """Round to bfloat16 and show as another type."""
    return tensor.bfloat16().to(dtype)


def problem(kind: str, options: Any, where: Any) -> tuple[Any, Any, Any]:
    """Make a module, an input and a state of numbers that bfloat16 has."""
    cell = kind.endswith("Cell")
    stock = getattr(torch.nn, kind)(5, 7, *([] if cell else [2]), **options, device=where)
    stock.load_state_dict({name: rounded(value) for name, value in stock.state_dict().items()})
    shape = () if cell else (2,)
    h = rounded(torch.randn(*shape, 3, options.get("proj_size", 7), device=where))
    c = rounded(torch.randn(*shape, 3, 7, device=where))
    x = rounded(torch.randn(*(() if cell else (4,)), 3, 5, device=where))
    return stock, x, (h, c) if kind.startswith("LSTM") else h


def assert_close(found: list[Any], expected: list[Any]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() < 0.02 * other.norm()


def convert(state: Any, dtype: Any) -> Any:
    return tuple(s.to(dtype) for s in state) if isinstance(state, tuple) else state.to(dtype)


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")  # PyTorch's own
@pytest.mark.parametrize(("kind", "options"), ALL)
def test_bfloat16(kind: str, options: Any, where: Any, runs: list[Any]) -> None:
    stock, x, state = problem(kind, options, where)
    ours = copy.deepcopy(stock).bfloat16()
    bridge.accelerate(ours)
    found = outcome(ours, x.bfloat16(), convert(state, torch.bfloat16))
    assert {tensor.dtype for tensor in found} == {torch.bfloat16}
    assert_close(found, outcome(stock, x, state))
    assert [spec.compute for spec in runs] == ["bfloat16"]
    bare = ours(x.bfloat16())
    assert len(runs) == 2
    assert (bare[0] if isinstance(bare, tuple) else bare).dtype is torch.bfloat16


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")  # PyTorch's own
@pytest.mark.parametrize(("kind", "options"), ALL)
def test_autocast(kind: str, options: Any, where: Any, runs: list[Any], autocast: Any) -> None:
    stock, x, state = problem(kind, options, where)
    ours = copy.deepcopy(stock)
    bridge.accelerate(ours)
    if isinstance(state, tuple):
        state = (state[0], state[1].bfloat16())
    with autocast(torch.bfloat16):
        found = outcome(ours, x, state)
    results = 2 + isinstance(state, tuple) - kind.endswith("Cell")
    kinds = {tensor.dtype for tensor in found[:results]}
    assert kinds == {torch.bfloat16}
    *parts, last = state if isinstance(state, tuple) else (state,)
    assert found[results + len(parts) + 1].dtype is last.dtype
    assert found[-1].dtype is torch.float32
    assert_close(found, outcome(stock, x, convert(state, torch.float32)))
    assert [spec.compute for spec in runs] == ["bfloat16"]


def test_gradients_of_float32_are_not_rounded(where: Any, autocast: Any) -> None:
    layer = bridge.LSTM(5, 7, device=where)
    layer.weight_ih_l0 = torch.nn.Parameter(layer.weight_ih_l0.detach().bfloat16())
    h, c = (torch.randn(1, 3, 7, device=where, requires_grad=True) for _ in "hc")
    with autocast(torch.bfloat16):
        y, _ = layer(torch.randn(4, 3, 5, device=where), (h, c.bfloat16()))
    y.float().square().sum().backward()
    assert layer.weight_ih_l0.grad.dtype is torch.bfloat16
    for exact in (layer.weight_hh_l0, layer.bias_hh_l0, h):
        assert not torch.equal(exact.grad, rounded(exact.grad))


def test_bfloat16_differentiated_twice(where: Any, runs: list[Any]) -> None:
    stock, x, _ = problem("GRU", {}, where)
    ours = copy.deepcopy(stock).bfloat16()
    bridge.accelerate(ours)
    seconds = []
    for module, dtype in ((ours, torch.bfloat16), (stock, torch.float32)):
        leaf = x.to(dtype).requires_grad_()
        (first,) = torch.autograd.grad(module(leaf)[0].square().sum(), leaf, create_graph=True)
        first.square().sum().backward()
        seconds.append([leaf.grad, *(p.grad for p in module.parameters())])
    assert {tensor.dtype for tensor in seconds[0]} == {torch.bfloat16}
    for one, other in zip(*seconds, strict=True):
        assert (one - other).norm() < 0.05 * other.norm()
    assert len(runs) == 1


def test_dropout_is_drawn_in_training_alone(where: Any) -> None:
    layer = bridge.GRU(5, 7, 2, dropout=0.5, device=where)
    x = torch.randn(4, 3, 5, device=where)
    assert not torch.equal(layer(x)[0], layer(x)[0])
    layer.eval()
    assert torch.equal(layer(x)[0], layer(x)[0])


def test_a_graph_would_drop_the_same_again_and_knows_no_other_lengths(
    where: Any, runs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, x = bridge.GRU(5, 7, 2, dropout=0.5, device=where), torch.randn(4, 3, 5, device=where)
    monkeypatch.setattr(gpu, "is_captured", lambda: True)
    layer(x)
    layer.eval()(pack_padded_sequence(x, [4, 2, 1]))
    assert not runs
    layer(x)
    assert len(runs) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_graph_computes_what_was_captured(dtype: Any, where: Any) -> None:
    if where.type == "cpu":
        pytest.skip("only a GPU captures")
    layer = bridge.GRU(5, 7, 2, device=where, dtype=dtype)
    x = torch.randn(40, 3, 5, device=where, dtype=dtype)
    with torch.no_grad(), torch.cuda.stream(torch.cuda.Stream()):
        layer(x)  # loads what a capture could not
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        y = layer(x)[0]
    for _ in range(2):
        x.copy_(torch.randn_like(x))
        graph.replay()
        with torch.no_grad():
            assert torch.equal(y, layer(x)[0])


@pytest.mark.parametrize("packed", [False, True])
def test_twice_differentiated_and_used_again(packed: bool, where: Any, runs: list[Any]) -> None:
    layer = bridge.GRU(3, 4, device=where)
    x = torch.randn(4, 2, 3, device=where, requires_grad=True)
    y = layer(pack_padded_sequence(x, [4, 2]))[0].data if packed else layer(x)[0]
    (first,) = torch.autograd.grad(y.square().sum(), x, retain_graph=True)
    (again,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    torch.testing.assert_close(first, again, rtol=1e-4, atol=1e-5)
    again.square().sum().backward()
    assert layer.weight_hh_l0.grad.abs().sum() > 0
    assert len(runs) == 2  # forward again for what had been used
    torch.autograd.grad(layer(x)[0].sum(), list(layer.parameters()))
    assert len(runs) == 3


def test_what_the_backend_does_not_take_is_pytorchs(
    where: Any, runs: list[Any], autocast: Any
) -> None:
    layer = bridge.LSTM(5, 7, device=where)
    layer.double()(torch.randn(4, 2, 5, device=where, dtype=torch.float64))
    x = torch.randn(4, 2, 5, device=where)
    layer.half()(x.half())
    left = bridge.accelerate(torch.nn.GRU(5, 7, device=where, dtype=torch.float16)).left
    assert left[""].endswith("torch.float16, expected torch.float32 or torch.bfloat16")
    with autocast(torch.float16):
        layer.float()(x)
    bridge.use_cuda(False)
    layer(x)
    assert not runs
    bridge.use_cuda()
    layer(x)
    assert len(runs) == 1
    for allowed, kind in ((True, "tf32"), (False, "float32")):
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=allowed):
            assert gpu.precision(x) == (kind, (torch.float32,))


def test_without_the_backend_it_cannot_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Any:
        raise RuntimeError("device is 'cuda', for which there is no backend")

    bridge.use_cuda(False)
    monkeypatch.setattr(device, "cuda", none)
    with pytest.raises(RuntimeError, match="no backend"):
        bridge.use_cuda()
    assert not gpu.is_used(torch.zeros(1))
