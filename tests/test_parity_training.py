"""Whole trainings beside PyTorch's: the same weights and batches give the same losses."""

import numpy as np
import pytest

from rnnfast.run import Run
from rnnfast.systems import Text, TextSettings

torch = pytest.importorskip("torch", reason="parity needs PyTorch")

STEPS = 50


@pytest.fixture(autouse=True)
def single_thread():
    """Keep PyTorch's threads from waiting for each other where cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


MODULES = {"basic": "RNN", "lstm": "LSTM", "gru": "GRU"}


def peer_of(model, settings):
    """The same model in PyTorch, with a copy of the weights."""
    size, hidden = len(model.vocabulary), settings.hidden
    recurrent = getattr(torch.nn, MODULES[settings.cell])(size, hidden, settings.layers)
    head = torch.nn.Linear(hidden, size)
    for module, prefix in ((recurrent, "layers.0."), (head, "projection.")):
        weights = {
            name.removeprefix(prefix): torch.from_numpy(array.copy())
            for name, array in model.parameters.items()
            if name.startswith(prefix)
        }
        module.load_state_dict(weights)
    return recurrent, head


def peer_losses(run):
    """Losses of the same training by PyTorch's layers, loss, clipping and optimiser."""
    settings, system = run.settings, run.system
    recurrent, head = peer_of(system.model, settings)
    parameters = [*recurrent.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, weight_decay=settings.weight_decay)
    state, size = None, len(system.model.vocabulary)
    for step in range(STEPS):
        tokens, targets = (torch.from_numpy(a.astype("i8")) for a in system._batches.cut(step))
        if not system._batches.follows(step):
            state = None
        y, state = recurrent(torch.nn.functional.one_hot(tokens, size).float(), state)
        state = tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()
        loss = torch.nn.functional.cross_entropy(head(y).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, settings.clip)
        for group in optimizer.param_groups:
            group["lr"] = run.trainer.plan.rate(step)
        optimizer.step()
        yield loss.item()


@pytest.mark.parametrize("offset", [None, 5])
@pytest.mark.parametrize(("cell", "layers"), [("basic", 1), ("lstm", 2), ("gru", 2)])
def test_the_losses_of_a_text_are_those_of_pytorch(rng, tmp_path, cell, layers, offset):
    path = tmp_path / "text.txt"
    words = rng.choice(["one", "two", "three", "four", "five\n"], size=1500)
    path.write_text(" ".join(words), encoding="utf-8")
    settings = TextSettings(
        data=str(path), cell=cell, layers=layers, hidden=48, seq_length=24, batch=8, epochs=4,
        offset=offset, weight_decay=0.01,
    )  # fmt: skip
    run = Run(Text, settings)
    theirs = list(peer_losses(run))
    ours = [run.trainer.advance() for _ in range(STEPS)]
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    assert ours[-1] < 0.85 * ours[0]
