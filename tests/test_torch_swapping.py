"""accelerate() and restore(): what becomes of a model's modules."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from processes import run_python

torch = pytest.importorskip("torch", reason="rnnfast.torch needs torch")

import rnnfast.torch as bridge  # noqa: E402

ROOT = Path(__file__).parents[1]


class Own(torch.nn.LSTM):
    """A user's class."""


class Model(torch.nn.Module):
    """Modules that can be swapped, and some that cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.LSTM(4, 6, batch_first=True)
        self.again = self.a
        self.b = torch.nn.ModuleDict({"cell": torch.nn.GRUCell(6, 6)})
        self.own = Own(6, 6)
        self.half = torch.nn.GRU(6, 6, dtype=torch.bfloat16)
        self.elsewhere = torch.nn.RNN(6, 6, device="meta")
        self.normal = torch.nn.utils.parametrizations.weight_norm(
            torch.nn.RNN(6, 6), "weight_hh_l0"
        )
        self.replaced = torch.nn.RNN(6, 6)
        self.replaced.forward = lambda x: x


def test_what_is_swapped_and_what_is_left() -> None:
    model = Model()
    parameters, before = list(model.parameters()), list(model.state_dict())
    swaps = bridge.accelerate(model)
    assert swaps.swapped == ["a", "b.cell"]
    assert swaps.left == {
        "own": "it is a test_torch_swapping.Own, a class of its own",
        "half": "weight_ih_l0 is torch.bfloat16, expected torch.float32 or torch.float64",
        "elsewhere": "weight_ih_l0 is on meta, expected the CPU (a GPU: use_cuda())",
        "normal": "its weights are parametrized: accelerate first, then parametrize",
        "replaced": "its forward was replaced",
    }
    assert str(swaps).startswith("swapped: a, b.cell\nleft own: it is a ")
    assert type(model.a) is bridge.LSTM and model.again is model.a
    assert type(model.b["cell"]) is bridge.GRUCell
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert list(model.state_dict()) == before
    assert bridge.accelerate(model).swapped == []
    assert bridge.restore(model).swapped == ["a", "b.cell"]
    assert type(model.a) is torch.nn.LSTM and type(model.b["cell"]) is torch.nn.GRUCell
    assert str(bridge.restore(model)) == "swapped: nothing"


def test_a_model_that_is_itself_recurrent() -> None:
    lstm = torch.nn.LSTM(4, 6).eval()
    called: list[Any] = []
    lstm.register_forward_hook(lambda *_: called.append(1))
    x = torch.randn(5, 2, 4)
    expected = lstm(x)[0]
    assert str(bridge.accelerate(lstm)) == "swapped: the model itself"
    torch.testing.assert_close(lstm(x)[0], expected)
    assert len(called) == 2 and not lstm.training
    assert repr(lstm) == repr(torch.nn.LSTM(4, 6))
    bridge.restore(lstm)
    torch.testing.assert_close(lstm(x)[0], expected, rtol=0, atol=0)


def test_what_was_parametrized_since_is_not_restored() -> None:
    lstm = bridge.LSTM(4, 6)
    torch.nn.utils.parametrizations.weight_norm(lstm, "weight_hh_l0")
    assert list(bridge.restore(lstm).left) == [""]


def test_weights_tied_between_modules() -> None:
    model = torch.nn.ModuleList([torch.nn.GRU(6, 6), torch.nn.GRU(6, 6)])
    model[1].weight_hh_l0 = model[0].weight_hh_l0
    x = torch.randn(5, 2, 6)
    expected = [gru(x)[0] for gru in model]
    bridge.accelerate(model)
    assert model[1].weight_hh_l0 is model[0].weight_hh_l0
    for _ in range(2):
        for gru, y in zip(model, expected, strict=True):
            torch.testing.assert_close(gru(x)[0], y)
    with torch.no_grad():
        model[0].weight_hh_l0.zero_()
    bridge.restore(model)
    expected = [gru(x)[0] for gru in model]
    bridge.accelerate(model)
    for gru, y in zip(model, expected, strict=True):
        torch.testing.assert_close(gru(x)[0], y)


@pytest.mark.parametrize("function", [bridge.accelerate, bridge.restore])
def test_what_is_no_module(function: Any) -> None:
    with pytest.raises(TypeError, match=r"model is a list, expected a torch\.nn\.Module"):
        function([torch.nn.LSTM(1, 1)])


def test_rnnfast_does_not_import_pytorch() -> None:
    assert run_python("import sys, rnnfast; print('torch' in sys.modules)") == "False"


def test_without_pytorch_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("rnnfast.torch")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"rnnfast\.torch needs PyTorch.*pip install torch"):
        importlib.import_module("rnnfast.torch")


@pytest.mark.parametrize("name", ["_functorch.peek_interpreter_stack", "_storage_Use_Count"])
def test_a_pytorch_that_lacks_a_name_is_told_with_the_tested_one(name: str) -> None:
    code = f"""
import torch
del torch._C.{name}
try:
    import rnnfast.torch
except ImportError as error:
    print(error)
"""
    told = run_python(code)
    assert f"found PyTorch {torch.__version__}, which lacks a name" in told
    assert name.rpartition(".")[2] in told
    tested = re.findall(r"torch==([\d.]+)", told)
    assert tested == re.findall(r"torch==([\d.]+)", (ROOT / ".ci/run").read_text())
    assert f"tested with PyTorch {tested[0]}." in (ROOT / "docs/from-pytorch.md").read_text("utf-8")


def test_the_page_from_pytorch_runs() -> None:
    page = ROOT / "docs/from-pytorch.md"
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL)
    exec("import rnnfast\n" + "\n".join(blocks), names)
    assert len(blocks) == 3 and type(names["model"][1]) is torch.nn.GRU
    x = torch.randn(2, 5, 64)
    mine, theirs = names["gru"](x.numpy())[0], names["model"][1](x)[0]
    torch.testing.assert_close(torch.from_numpy(mine), theirs.detach())
