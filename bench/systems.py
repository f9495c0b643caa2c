"""Whole systems beside PyTorch's: steps of a training, and generation one character at a time.

    python bench/systems.py [--rounds 7]

Turns are interleaved; medians are shown. Training steps have B 32, T 256, H 512 and 96 characters:
forward, loss, BPTT, clipping and Adam; *outside the kernels* is what the recurrent layer does not
take of it.
Generation is by three GRU layers of 512 units, each character drawn from the softmax.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import rnnfast
from rnnfast.data import Vocabulary
from rnnfast.models import LanguageModel
from rnnfast.optim import Adam, clip_grad_norm
from rnnfast.train import blas_on_one_thread

B, T, H = 32, 256, 512
VOCABULARY = Vocabulary("".join(map(chr, range(32, 128))))
V = len(VOCABULARY)
CHARACTERS = 200  # generated in a turn
Turn = Callable[[], object]


def our_step(cell: str) -> tuple[Turn, list[float]]:
    """Make a training step; the list receives the seconds of each that its layer takes."""
    model = LanguageModel.of(VOCABULARY, cell, H, rng=0)
    optimizer = Adam(model.flat, 1e-3)
    tokens, targets = np.random.default_rng(0).integers(0, V, (2, T, B)).astype(np.int32)
    (layer,) = model.layers
    parts: list[float] = []
    for name in ("forward", "backward"):
        setattr(layer, name, timed(getattr(layer, name), parts))
    kernels: list[float] = []

    def step() -> None:
        parts.clear()
        model.loss_and_gradient(tokens, targets)
        clip_grad_norm(model.gradient, 1.0)
        optimizer.step(model.gradient)
        kernels.append(sum(parts))

    return step, kernels


def timed(call: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    """Let every call add its seconds to the list."""

    def run(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        result = call(*arguments, **options)
        seconds.append(time.perf_counter() - start)
        return result

    return run


def their_step(cell: str) -> Turn:
    """Make the same step in PyTorch; its layers take one-hot vectors."""
    layer = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell](V, H)
    head = torch.nn.Linear(H, V)
    parameters = [*layer.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, 1e-3)
    tokens, targets = torch.randint(V, (2, T, B))

    def step() -> None:
        optimizer.zero_grad()
        y, _ = layer(torch.nn.functional.one_hot(tokens, V).float())
        loss = torch.nn.functional.cross_entropy(head(y).flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return step


def our_generation() -> dict[str, Turn]:
    """Make generation in float32 and by eight bits."""
    model = LanguageModel.of(VOCABULARY, "gru", H, 3, rng=0)
    model.flat *= 2.0  # less even than fresh weights
    writers = {"rnnfast": model, "rnnfast int8": model.quantize()}
    return {
        name: lambda writer=writer: list(writer.sample("a", rng=0, limit=CHARACTERS))
        for name, writer in writers.items()
    }


def their_generation() -> Turn:
    """Make generation in PyTorch."""
    layer, head = torch.nn.GRU(V, H, 3), torch.nn.Linear(H, V)

    @torch.inference_mode()
    def generate() -> None:
        token, state = torch.tensor([0]), None
        for _ in range(CHARACTERS):
            x = torch.nn.functional.one_hot(token, V).float()
            y, state = layer(x, state)
            token = torch.multinomial(torch.softmax(head(y[-1]), -1), 1)

    return generate


def interleaved(turns: dict[str, Turn], rounds: int) -> dict[str, float]:
    """Median seconds of each, after one turn that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for index in range(rounds + 1):
        for name, turn in turns.items():
            start = time.perf_counter()
            turn()
            if index:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def main(rounds: int) -> None:
    """Measure and print."""
    torch.set_num_threads(rnnfast.get_num_threads())
    with blas_on_one_thread():
        for cell in ("lstm", "gru"):
            step, kernels = our_step(cell)
            found = interleaved({"whole": step, "PyTorch": their_step(cell)}, rounds)
            outside = 1.0 - statistics.median(kernels[1:]) / found["whole"]
            print(
                f"{cell} training step: {found['whole'] * 1e3:.0f} ms, {outside:.1%} outside the "
                f"kernels; PyTorch {found['PyTorch'] / found['whole']:.2f} x"
            )
        turns = {**our_generation(), "PyTorch": their_generation()}
        for name, seconds in interleaved(turns, rounds).items():
            print(f"generation by {name}: {CHARACTERS / seconds:,.0f} characters/s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    main(parser.parse_args().rounds)
