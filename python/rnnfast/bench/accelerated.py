"""PyTorch models, stock and by `rnnfast.torch.accelerate`, in one run; imports PyTorch.

Whole training steps of three models (embedding, recurrent layers, head, loss, Adam), and the
recurrent modules alone. Both versions begin with the same weights and data, and their first losses
and gradients are compared.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from rnnfast.bench.measure import Effort, Spread, interleave, settle, timed, turn
from rnnfast.bench.problem import DisagreementError
from rnnfast.torch import accelerate

if TYPE_CHECKING:
    from rich.table import Table

STOCK, OURS = "PyTorch", "accelerated"
TOLERANCE = 1e-4  # of the first loss and of the gradient's norm, relative

Loss = Callable[[torch.nn.Module], torch.Tensor]


@dataclass(frozen=True)
class Workload:
    """A model and what is done with it.

    Attributes
    ----------
    name : str
        With its sizes.
    model : torch.nn.Module
        Stock.
    loss : callable
        A number of the model's outputs on fixed data.
    trains : bool
        Whether a call is a training step, with Adam; else one of inference.
    """

    name: str
    model: torch.nn.Module
    loss: Loss
    trains: bool = True


@dataclass(frozen=True)
class Comparison:
    """Seconds of a call, by version."""

    name: str
    seconds: Mapping[str, Spread]

    @property
    def ratio(self) -> float:
        """Time of PyTorch over that of the accelerated version."""
        return self.seconds[STOCK].median / self.seconds[OURS].median


class TextModel(torch.nn.Module):
    """Characters to logits of the next ones."""

    def __init__(self, characters: int = 96, hidden: int = 256) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(characters, 128)
        self.gru = torch.nn.GRU(128, hidden)
        self.head = torch.nn.Linear(hidden, characters)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(T, B) to (T, B, V)."""
        logits: torch.Tensor = self.head(self.gru(self.embedding(tokens))[0])
        return logits


class Tagger(torch.nn.Module):
    """Words of sentences of unequal length to logits of their tags."""

    def __init__(self, words: int = 5000, tags: int = 17, hidden: int = 128) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(words, 128)
        self.lstm = torch.nn.LSTM(128, hidden, bidirectional=True)
        self.head = torch.nn.Linear(2 * hidden, tags)

    def forward(self, words: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """(T, B) to (sum of lengths, V)."""
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            self.embedding(words), lengths, enforce_sorted=False
        )
        logits: torch.Tensor = self.head(self.lstm(packed)[0].data)
        return logits


class Agent(torch.nn.Module):
    """Observations to values of actions, with memory."""

    def __init__(self, observations: int = 64, actions: int = 8, hidden: int = 128) -> None:
        super().__init__()
        self.encoder = torch.nn.Linear(observations, hidden)
        self.lstm = torch.nn.LSTM(hidden, hidden)
        self.head = torch.nn.Linear(hidden, actions)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """(T, B, I) to (T, B, A)."""
        values: torch.Tensor = self.head(self.lstm(functional.relu(self.encoder(observations)))[0])
        return values


def text() -> Workload:
    """A small language model."""
    tokens = torch.randint(96, (257, 16))

    def loss(model: torch.nn.Module) -> torch.Tensor:
        return functional.cross_entropy(model(tokens[:-1]).flatten(0, 1), tokens[1:].flatten())

    return Workload("text: GRU 256, B 16, T 256", TextModel(), loss)


def tagger() -> Workload:
    """A bidirectional tagger of packed batches."""
    words, lengths = torch.randint(5000, (128, 32)), torch.randint(1, 129, (32,))
    tags = torch.randint(17, (int(lengths.sum()),))

    def loss(model: torch.nn.Module) -> torch.Tensor:
        return functional.cross_entropy(model(words, lengths), tags)

    return Workload("tagger: LSTM 2 x 128, packed, B 32, T 1 to 128", Tagger(), loss)


def agent() -> Workload:
    """Recurrent Q-learning on stretches of episodes; the next values come from the same network."""
    observations, rewards = torch.randn(65, 16, 64), torch.randn(64, 16)
    actions = torch.randint(8, (64, 16, 1))

    def loss(model: torch.nn.Module) -> torch.Tensor:
        with torch.no_grad():
            target = rewards + 0.99 * model(observations)[1:].amax(-1)
        values = model(observations[:-1]).gather(-1, actions).squeeze(-1)
        return functional.smooth_l1_loss(values, target)

    return Workload("agent: LSTM 128, B 16, T 64", Agent(), loss)


def padded(cell: str, batch: int, hidden: int) -> Workload:
    """A module alone, forward and backward."""
    x = torch.randn(256, batch, 128)
    cotangent = torch.randn(256, batch, hidden)
    return Workload(
        f"{cell} training, B {batch}, I 128, H {hidden}, T 256",
        getattr(torch.nn, cell)(128, hidden),
        lambda model: (model(x)[0] * cotangent).sum(),
    )


def packed(cell: str, batch: int, hidden: int) -> Workload:
    """The same on sequences of unequal length."""
    lengths = torch.randint(1, 257, (batch,))
    x = torch.nn.utils.rnn.pack_padded_sequence(
        torch.randn(256, batch, 128), lengths, enforce_sorted=False
    )
    cotangent = torch.randn(int(lengths.sum()), hidden)
    return Workload(
        f"{cell} training, packed, B {batch}, I 128, H {hidden}, T 1 to 256",
        getattr(torch.nn, cell)(128, hidden),
        lambda model: (model(x)[0].data * cotangent).sum(),
    )


def step(cell: str, hidden: int) -> Workload:
    """A module called for a single time step, without gradients."""
    x = torch.randn(1, 1, hidden)
    return Workload(
        f"{cell} step, B 1, I = H = {hidden}",
        getattr(torch.nn, cell)(hidden, hidden),
        lambda model: model(x)[0],
        trains=False,
    )


def workloads() -> Iterator[Callable[[], Workload]]:
    """All that is measured; each is made when its turn comes."""
    yield from (text, tagger, agent)
    for cell in ("LSTM", "GRU"):
        for batch, hidden in ((16, 128), (32, 512)):
            yield partial(padded, cell, batch, hidden)
        yield partial(packed, cell, 64, 512)
        for hidden in (128, 512):
            yield partial(step, cell, hidden)


def measure(make: Callable[[], Workload], num_threads: int, effort: Effort) -> Comparison:
    """Take the times of both versions in turns.

    Raises
    ------
    DisagreementError
        If they do not compute the same.
    """
    torch.set_num_threads(num_threads)
    torch.manual_seed(0)
    workload = make()
    swapped = copy.deepcopy(workload.model)
    accelerate(swapped)
    models = {STOCK: workload.model, OURS: swapped}
    results = {name: _first(workload, model) for name, model in models.items()}
    for found, expected in zip(results[OURS], results[STOCK], strict=True):
        if not math.isclose(found, expected, rel_tol=TOLERANCE, abs_tol=1e-6):
            raise DisagreementError(f"{workload.name}: {OURS} gives {found}, {STOCK} {expected}")
    calls = {name: _call(workload, model) for name, model in models.items()}
    turns = {}
    for name, call in calls.items():
        settle()
        turns[name] = turn(call, timed(call))
    return Comparison(workload.name, interleave(turns, effort))


def _first(workload: Workload, model: torch.nn.Module) -> list[float]:
    """The first loss, or sum of outputs, and the norm of the gradient."""
    if not workload.trains:
        with torch.inference_mode():
            return [float(workload.loss(model).sum())]
    value = workload.loss(model)
    gradients = torch.autograd.grad(value, list(model.parameters()))
    return [float(value.detach()), math.sqrt(sum(float(g.square().sum()) for g in gradients))]


def _call(workload: Workload, model: torch.nn.Module) -> Callable[[], Any]:
    if not workload.trains:

        def infer() -> None:
            with torch.inference_mode():
                workload.loss(model)

        return infer
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)

    def train() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(workload.loss(model))
        optimizer.step()

    return train


def document(comparison: Comparison) -> dict[str, Any]:
    """A comparison as a JSON object."""
    seconds = {name: asdict(spread) for name, spread in comparison.seconds.items()}
    return {"name": comparison.name, "seconds": seconds, "ratio": comparison.ratio}


def table(comparisons: list[Comparison]) -> Table:
    """One row a workload: median times and their ratio."""
    from rich import box
    from rich.table import Table

    rows = Table(title="PyTorch, stock and accelerated, median ms", box=box.SIMPLE_HEAD)
    rows.add_column("")
    for name in (STOCK, OURS, "ratio"):
        rows.add_column(name, justify="right")
    for one in comparisons:
        times = (f"{one.seconds[name].median * 1e3:.4g}" for name in (STOCK, OURS))
        rows.add_row(one.name, *times, f"{one.ratio:.2f}")
    return rows
