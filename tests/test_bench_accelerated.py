"""Models of PyTorch, stock and accelerated, are compared with each other and measured."""

import json
from functools import partial

import pytest

torch = pytest.importorskip("torch", reason="models of PyTorch need torch")

from command_line import run
from rnnfast.bench import accelerated
from rnnfast.bench.measure import Effort
from rnnfast.bench.problem import DisagreementError

ONCE = Effort(seconds=0.0, least=1, most=1)


@pytest.fixture(autouse=True)
def threads():
    """Leave PyTorch's threads as they were."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "make",
    [
        accelerated.tagger,
        accelerated.agent,
        partial(accelerated.padded, "LSTM", 3, 8),
        partial(accelerated.packed, "GRU", 3, 8),
        partial(accelerated.step, "GRU", 8),
    ],
)
def test_both_versions_are_timed(make):
    comparison = accelerated.measure(make, 2, ONCE)
    assert set(comparison.seconds) == {accelerated.STOCK, accelerated.OURS}
    assert all(spread.median > 0 for spread in comparison.seconds.values())
    stock, ours = (comparison.seconds[n].median for n in (accelerated.STOCK, accelerated.OURS))
    assert comparison.ratio == stock / ours


@pytest.mark.parametrize(
    "make", [partial(accelerated.padded, "GRU", 3, 8), partial(accelerated.step, "GRU", 8)]
)
def test_versions_that_disagree_are_not_timed(monkeypatch, make):
    def spoil(model):
        with torch.no_grad():
            model.weight_ih_l0 += 1

    monkeypatch.setattr(accelerated, "accelerate", spoil)
    with pytest.raises(DisagreementError, match=r"accelerated gives .*, PyTorch"):
        accelerated.measure(make, 2, ONCE)


@pytest.mark.parametrize("option", ["--batch=3", "--dtype=float64", "--no-peers"])
def test_options_of_the_grid_are_refused(option, capsys):
    assert run("bench", "--torch", option) == 2
    assert "--torch has models of its own" in capsys.readouterr().err


def test_the_command_writes_what_it_measured(monkeypatch, tmp_path, capsys):
    makes = [partial(accelerated.step, "LSTM", 8), partial(accelerated.padded, "GRU", 3, 8)]
    monkeypatch.setattr(accelerated, "workloads", lambda: iter(makes))
    out = tmp_path / "results"
    assert run("bench", "--torch", "--rounds", 1, "--threads", 1, "--out", out) == 0
    printed = capsys.readouterr().out
    assert "LSTM step, B 1, I = H = 8" in printed
    written = json.loads((out / "bench-torch.json").read_text())
    assert written["machine"]["threads"] == 1
    assert [w["name"] for w in written["workloads"]] == [make().name for make in makes]
    assert all(w["ratio"] > 0 for w in written["workloads"])
