"""Tiny cases and made-up measurements, shared by the tests of the bench."""

from __future__ import annotations

from typing import Any

from rnnfast.bench.grid import Case
from rnnfast.bench.measure import Effort, Spread
from rnnfast.bench.run import Measurement
from rnnfast.bench.subjects import OURS

TINY = {"seq_length": 5, "batch": 3, "input_size": 4, "hidden_size": 6}
TWICE = Effort(seconds=0.0, least=2, most=2)
BANDWIDTH = 50e9
KEPT = 12_345_678


def case_of(cell: str, work: str, **sizes: Any) -> Case:
    """A tiny case; a step has one time step."""
    sizes = {**TINY, **({"seq_length": 1} if work == "step" else {}), **sizes}
    return Case(cell, work, **sizes)


def made_up(case: Case, ours: float, **peers: float) -> Measurement:
    """A measurement with given median times, `BANDWIDTH` and, in training, `KEPT`."""

    def spread(median: float) -> Spread:
        return Spread.of([median * factor for factor in (0.99, 1.0, 1.01)])

    seconds = {OURS.name: spread(ours), **{name: spread(time) for name, time in peers.items()}}
    kept = {OURS.name: KEPT} if case.work == "train" else {}
    differences = dict.fromkeys(peers, 1e-6)
    return Measurement(case, spread(400.0), spread(BANDWIDTH), seconds, differences, kept)
