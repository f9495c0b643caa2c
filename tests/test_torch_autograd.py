"""rnnfast.torch under autograd, tracers, transforms and several processes."""

from __future__ import annotations

import copy
import gc
import weakref
from typing import Any

import pytest

from processes import run_python

torch = pytest.importorskip("torch", reason="rnnfast.torch needs torch")

import rnnfast.torch as bridge  # noqa: E402
from rnnfast.torch import tapes  # noqa: E402
from rnnfast.torch.base import Bridged  # noqa: E402

# PyTorch's compiler imports what PyTorch has deprecated.
COMPILES = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


class Net(torch.nn.Module):
    """Layers around recurrent ones, a cell among them."""

    def __init__(self, kind: str = "GRU") -> None:
        super().__init__()
        self.encode = torch.nn.Linear(5, 4)
        self.layers = getattr(torch.nn, kind)(4, 6, 2, bidirectional=True)
        self.cell = getattr(torch.nn, f"{kind}Cell")(12, 3)

    def forward(self, x: Any) -> Any:
        y = torch.relu_(self.layers(torch.tanh(self.encode(x)))[0] * 2)
        after = self.cell(y[-1])
        return y.sum(), after[0] if isinstance(after, tuple) else after


def both(kind: str = "GRU") -> tuple[Any, Any]:
    stock = Net(kind)
    ours = copy.deepcopy(stock)
    bridge.accelerate(ours)
    return stock, ours


def assert_same(stock: Any, ours: Any, x: Any, call: Any = None) -> None:
    for module in (stock, ours):
        module.zero_grad()
    theirs, mine = stock(x), (ours if call is None else call)(x)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    for total in (theirs, mine):
        (total[0] + total[1].square().sum()).backward()
    for (name, one), other in zip(ours.named_parameters(), stock.parameters(), strict=True):
        largest = float(other.grad.abs().max())
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=1e-4 * largest, msg=name)


@pytest.fixture
def lstm() -> Any:
    return bridge.LSTM(3, 4, 2, bidirectional=True, dtype=torch.float64)


@pytest.fixture
def inputs() -> list[Any]:
    shapes = [(3, 2, 3), (4, 2, 4), (4, 2, 4)]
    return [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]


def function_of(module: Any) -> Any:
    names = [name for name, _ in module.named_parameters()]

    def call(x: Any, h: Any, c: Any, *weights: Any) -> Any:
        given = dict(zip(names, weights, strict=True)) if weights else {}
        y, (h, c) = torch.func.functional_call(module, given, (x, (h, c)))
        return y, h, c

    return call


# -- autograd --------------------------------------------------------------------------------------


def test_gradients_of_everything(lstm: Any, inputs: list[Any]) -> None:
    assert torch.autograd.gradcheck(function_of(lstm), (*inputs, *lstm.parameters()))


def test_a_batch_of_gradients(lstm: Any, inputs: list[Any]) -> None:
    assert torch.autograd.gradcheck(function_of(lstm), inputs, check_batched_grad=True)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_forward_mode(lstm: Any, inputs: list[Any]) -> None:
    assert torch.autograd.gradcheck(function_of(lstm), inputs, check_forward_ad=True)


def test_gradients_of_gradients(lstm: Any, inputs: list[Any]) -> None:
    assert torch.autograd.gradgradcheck(function_of(lstm), inputs)


@pytest.mark.parametrize("kind", ["RNNCell", "LSTMCell", "GRUCell"])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_gradients_of_gradients_of_cells(kind: str, batch: tuple[int, ...]) -> None:
    cell = getattr(bridge, kind)(3, 4, dtype=torch.float64)
    x = torch.randn(*batch, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(cell, x) and torch.autograd.gradgradcheck(cell, x)


def test_gradients_of_gradients_in_float32_and_packed() -> None:
    lstm = bridge.LSTM(3, 4)
    stock = torch.nn.LSTM(3, 4, dtype=torch.float64)
    stock.load_state_dict(lstm.state_dict())
    found = []
    for module in (lstm, stock):
        dtype = next(module.parameters()).dtype
        torch.manual_seed(0)
        rows = torch.randn(5, 3, dtype=torch.float64).to(dtype).requires_grad_()
        packed = torch.nn.utils.rnn.PackedSequence(rows, torch.tensor([2, 2, 1]))
        first = torch.autograd.grad(module(packed)[0].data.sum(), rows, create_graph=True)[0]
        found.append(torch.autograd.grad(first.square().sum(), rows)[0].double())
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)


def test_dropout_is_not_differentiated_twice() -> None:
    gru = bridge.GRU(3, 4, 2, dropout=0.5)
    x = torch.randn(3, 2, 3, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"dropout was to be differentiated twice"):
        torch.autograd.grad(gru(x)[0].sum(), x, create_graph=True)


def test_a_graph_that_is_kept_serves_again(lstm: Any, inputs: list[Any]) -> None:
    y = function_of(lstm)(*inputs)[0].sum()
    first = torch.autograd.grad(y, inputs, retain_graph=True)
    for one, other in zip(torch.autograd.grad(y, inputs), first, strict=True):
        assert torch.equal(one, other)


def test_an_output_may_be_changed_in_place(lstm: Any, inputs: list[Any]) -> None:
    apart = torch.autograd.grad((function_of(lstm)(*inputs)[0] * 3).sum(), inputs)
    in_place = torch.autograd.grad(function_of(lstm)(*inputs)[0].mul_(3).sum(), inputs)
    for one, other in zip(in_place, apart, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("changed", ["x", "h", "weight"])
def test_an_input_may_not(changed: str, lstm: Any, inputs: list[Any]) -> None:
    x, h, c = (i.detach() for i in inputs)
    y = lstm(x, (h, c))[0]
    with torch.no_grad():
        {"x": x, "h": h, "weight": lstm.weight_hh_l0}[changed].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_no_recording_without_a_gradient(lstm: Any, inputs: list[Any]) -> None:
    before = len(tapes._owners)
    with torch.no_grad():
        assert lstm(inputs[0])[0].grad_fn is None
    with torch.inference_mode():
        assert lstm(inputs[0])[0].is_inference()
    lstm.requires_grad_(False)
    assert not lstm(inputs[0].detach())[0].requires_grad
    assert len(tapes._owners) == before


def test_a_graph_that_is_thrown_away_frees_its_tape(lstm: Any, inputs: list[Any]) -> None:
    gc.collect()
    before = len(tapes._owners)
    y = lstm(inputs[0])[0]
    owner = weakref.ref(list(tapes._owners.values())[-1])
    assert len(tapes._owners) == before + 1
    del y
    assert owner() is None and len(tapes._owners) == before


def test_saved_tensors_may_be_moved_or_computed_again(lstm: Any, inputs: list[Any]) -> None:
    x = inputs[0]
    expected = torch.autograd.grad(lstm(x)[0].sum(), x)[0]
    with torch.autograd.graph.save_on_cpu():
        y = lstm(x)[0]
    assert torch.equal(torch.autograd.grad(y.sum(), x)[0], expected)
    y = torch.utils.checkpoint.checkpoint(lambda x: lstm(x)[0], x, use_reentrant=False)
    assert torch.equal(torch.autograd.grad(y.sum(), x)[0], expected)


def test_hooks_are_called(lstm: Any, inputs: list[Any]) -> None:
    seen = []
    lstm.register_forward_pre_hook(lambda *_: seen.append("before"))
    lstm.register_forward_hook(lambda *_: seen.append("after"))
    lstm.register_full_backward_hook(lambda *_: seen.append("gradient"))
    lstm.weight_hh_l0.register_hook(lambda g: seen.append(tuple(g.shape)))
    lstm(inputs[0])[0].sum().backward()
    assert seen[:2] == ["before", "after"] and set(seen[2:]) == {"gradient", (16, 4)}


# -- transforms, tracers, modes --------------------------------------------------------------------


def test_transforms_of_functions() -> None:
    ours = bridge.GRU(5, 4)
    stock = copy.deepcopy(ours)
    bridge.restore(stock)
    x = torch.randn(6, 2, 5)

    def gradients(module: Any) -> dict[str, Any]:
        def loss(weights: Any) -> Any:
            return torch.func.functional_call(module, weights, (x,))[0].square().sum()

        weights = {name: p.detach() for name, p in module.named_parameters()}
        return dict(torch.func.grad(loss)(weights))

    mine, theirs = gradients(ours), gradients(stock)
    for name, expected in theirs.items():
        torch.testing.assert_close(mine[name], expected)


def test_a_gradient_may_have_the_negative_bit() -> None:
    ours = bridge.GRU(5, 4)
    stock = copy.deepcopy(ours)
    bridge.restore(stock)
    x = torch.randn(6, 2, 5)
    for module in (ours, stock):
        y = module(x)[0]
        torch.complex(torch.ones_like(y), y).conj().imag.square().sum().backward()
    for one, other in zip(ours.parameters(), stock.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_traced_with_symbolic_shapes_it_is_differentiated_twice() -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    ours = bridge.GRU(5, 4)
    names, weights = zip(*((name, p.detach()) for name, p in ours.named_parameters()), strict=True)

    def second(x: torch.Tensor, *given: torch.Tensor) -> torch.Tensor:
        y = torch.func.functional_call(ours, dict(zip(names, given, strict=True)), (x,))[0]
        (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), x)[0]

    x = torch.randn(6, 2, 5, requires_grad=True)
    traced = make_fx(second, tracing_mode="symbolic")(x, *weights)
    torch.testing.assert_close(traced(x, *weights), second(x, *weights))


def test_what_a_transform_left_behind_is_a_tensor() -> None:
    ours = bridge.GRU(5, 4)
    left: list[torch.Tensor] = []

    def keep(x: torch.Tensor) -> torch.Tensor:
        left.append(x)
        return x.sum()

    torch.func.grad(keep)(torch.randn(6, 2, 5))
    y = ours(left[0])[0]
    y.sum().backward()
    torch.testing.assert_close(y, ours(left[0].clone())[0])


@pytest.mark.parametrize("backend", [pytest.param("aot_eager", marks=COMPILES)])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_compiled_without_a_break(kind: str, backend: str) -> None:
    import torch._dynamo

    stock, ours = both(kind)
    torch._dynamo.reset()
    with torch._dynamo.config.patch(allow_rnn=True):
        compiled = torch.compile(ours, fullgraph=True, backend=backend)
        for shape in ((6, 2, 5), (6, 2, 5), (9, 3, 5)):
            assert_same(stock, ours, torch.randn(shape), compiled)
        with torch.no_grad():
            x = torch.randn(4, 2, 5)
            torch.testing.assert_close(compiled(x), stock(x), rtol=1e-5, atol=1e-5)
    torch._dynamo.reset()


@pytest.mark.parametrize("backend", [pytest.param("aot_eager", marks=COMPILES)])
def test_compiled_with_breaks_it_runs_as_in_eager_mode(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch._dynamo

    stock, ours = both()
    torch._dynamo.reset()
    used = []
    recur = Bridged._recur_in
    monkeypatch.setattr(
        Bridged, "_recur_in", lambda *a: used.append(torch.compiler.is_compiling()) or recur(*a)
    )
    assert_same(stock, ours, torch.randn(6, 2, 5), torch.compile(ours, backend=backend))
    assert used[0] is False  # the layer's, at which Dynamo breaks by default
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_exported() -> None:
    stock, ours = both("LSTM")
    sizes = {0: torch.export.Dim("T", min=2), 1: torch.export.Dim("B", min=2)}
    program = torch.export.export(ours, (torch.randn(6, 2, 5),), dynamic_shapes=(sizes,))
    targets = [node.target for node in program.graph.nodes]
    assert targets.count(torch.ops.rnnfast.recurrence.default) == 2
    exported = program.module()
    x = torch.randn(9, 3, 5)
    torch.testing.assert_close(exported(x), stock(x), rtol=1e-5, atol=1e-5)
    weights = list(exported.parameters())
    found = torch.autograd.grad(exported(x)[1].sum(), weights)
    expected = torch.autograd.grad(stock(x)[1].sum(), list(stock.parameters()))
    shapes = [p.shape for p in stock.parameters()]
    assert [g.shape for g in found] == shapes
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_torchscript_has_pytorchs_modules() -> None:
    stock, ours = both()
    x, step = torch.randn(4, 2, 4), torch.randn(2, 12)
    scripted = torch.jit.script(torch.nn.Sequential(ours.layers))
    torch.testing.assert_close(scripted(x)[0], stock.layers(x)[0])
    torch.testing.assert_close(torch.jit.script(ours.cell)(step), stock.cell(step))
    x = torch.randn(4, 2, 5)
    torch.testing.assert_close(torch.jit.trace(ours, x)(x), stock(x))
    assert type(ours.layers) is bridge.GRU


def test_modes_see_the_operator() -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    stock, ours = both("LSTM")
    with Watch():
        assert_same(stock, ours, torch.randn(4, 2, 5))
    assert seen.count("rnnfast.recurrence.default") == 2
    assert seen.count("rnnfast.recurrence_backward.default") == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("mode", ["LSTM", "GRU", "RNN_TANH"])
@pytest.mark.parametrize("cell", [True, False])
def test_the_operator_is_what_it_says(mode: str, cell: bool) -> None:
    kind = mode.partition("_")[0] + ("Cell" if cell else "")
    weights = [p.detach().requires_grad_() for p in getattr(bridge, kind)(5, 4).parameters()]
    parts = 2 if mode == "LSTM" else 1
    x = torch.randn((2, 5) if cell else (3, 2, 5), requires_grad=True)
    state = [torch.randn((2, 4) if cell else (1, 2, 4), requires_grad=True) for _ in range(parts)]
    spec = (mode, 5, 4, 1, True, False, 0.0, False, 0, cell, "float32")
    for given in (state, []):
        arguments = (x, given, weights, None, *spec, True)
        torch.library.opcheck(torch.ops.rnnfast.recurrence.default, arguments)


# -- processes -------------------------------------------------------------------------------------


def test_workers_that_load_data() -> None:
    code = """
import torch, rnnfast.torch as bridge
gru = bridge.GRU(8, 32).requires_grad_(False)
x = torch.randn(6, 20, 8)
expected = [gru(sample)[0] for sample in x]

class Data(torch.utils.data.Dataset):
    def __len__(self):
        return len(x)
    def __getitem__(self, k):
        return gru(x[k])[0]

loader = torch.utils.data.DataLoader(Data(), None, num_workers=2, multiprocessing_context="fork")
print(all(torch.equal(y, e) for y, e in zip(loader, expected, strict=True)))
"""
    assert run_python(code) == "True"


def test_distributed_data_parallel() -> None:
    code = """
import copy, os, tempfile, torch, torch.distributed as dist, rnnfast.torch as bridge
torch.set_num_threads(1)
stock = torch.nn.LSTM(8, 16, 2)
x = torch.randn(5, 4, 8)

def train(module, x):
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        module(x)[0].square().mean().backward()
        optimizer.step()

def work(rank, path):
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
    model = copy.deepcopy(stock)
    bridge.accelerate(model)
    train(torch.nn.parallel.DistributedDataParallel(model), x[:, 2 * rank : 2 * rank + 2])
    expected = copy.deepcopy(stock)
    train(expected, x)
    same = all(
        torch.allclose(p, q, rtol=0, atol=1e-5)
        for p, q in zip(model.parameters(), expected.parameters(), strict=True)
    )
    dist.destroy_process_group()
    return 0 if same else 1

path = tempfile.mktemp()
pids = []
for rank in range(2):
    pid = os.fork()
    if pid == 0:
        os._exit(work(rank, path))
    pids.append(pid)
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids])
"""
    assert run_python(code) == "[0, 0]"
