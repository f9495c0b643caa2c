"""How times are taken on a GPU: by events around calls that are queued one after the other.

As on a CPU the subjects take turns, in a new random order every round (`rnnfast.bench.measure`).
Calls of a turn have inputs of their own, more of them than the second-level cache holds, while the
weights stay the same. Where launching takes longer than computing, the launches are what is timed,
for every subject alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import torch

from rnnfast.bench import problem as problems
from rnnfast.bench.gpu import clock
from rnnfast.bench.gpu.precision import Precision
from rnnfast.bench.gpu.subjects import (
    OURS,
    Job,
    Subject,
    Tensors,
    make_module,
    module_job,
    weights_of,
)
from rnnfast.bench.grid import Case
from rnnfast.bench.measure import Effort, Spread, interleave
from rnnfast.bench.problem import DisagreementError, Problem

ROTATED_BYTES = 1 << 27
"""Of inputs that take turns; the second-level cache of an H200 has 50 MiB."""

TURN_SECONDS = 0.02
WARM_CALLS = 3


@dataclass(frozen=True)
class Measurement:
    """The times of one case.

    Attributes
    ----------
    case : Case
        What was measured.
    seconds : dict of Subject to Spread
        Time of a call.
    errors : dict of Subject to float
        Distance from float64: of the result that is furthest off, as the norm of the difference
        over that of the result.
    refused : dict of Subject to str
        Why a peer took no part.
    """

    case: Case
    seconds: dict[Subject, Spread]
    errors: dict[Subject, float]
    refused: dict[Subject, str]

    def best(self, library: str, precisions: Sequence[str]) -> Subject | None:
        """Find the fastest subject of a library in some precisions, if there is one."""
        found = [s for s in self.seconds if s.library == library and s.precision.name in precisions]
        return min(found, key=lambda subject: self.seconds[subject].median, default=None)


class Inputs:
    """Inputs and cotangents that take turns, in the types asked for.

    The first pair is the problem's own, whose results are compared.
    """

    def __init__(self, problem: Problem, device: torch.device) -> None:
        self._problem, self._device = problem, device
        self._made: dict[torch.dtype, list[tuple[torch.Tensor, torch.Tensor]]] = {}

    def first(self, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """Make the pair of x and dy that is the problem's."""
        problem = self._problem
        x, dy = (torch.from_numpy(v).to(self._device, dtype) for v in (problem.x, problem.dy))
        return x.requires_grad_(problem.case.work == "train"), dy

    def of(self, dtype: torch.dtype) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Make all pairs."""
        if dtype not in self._made:
            x, dy = self.first(dtype)
            count = math.ceil(ROTATED_BYTES / (x.nbytes + x.requires_grad * dy.nbytes))
            others = [(_like(x), _like(dy) if x.requires_grad else dy) for _ in range(count - 1)]
            self._made[dtype] = [(x, dy), *others]
        return self._made[dtype]


def _like(tensor: torch.Tensor) -> torch.Tensor:
    return torch.randn_like(tensor).requires_grad_(tensor.requires_grad)


def measure_case(
    case: Case, effort: Effort, among: Sequence[Subject], device: torch.device
) -> Measurement:
    """Measure those of some subjects that can run the case.

    Raises
    ------
    DisagreementError
        If rnnfast fails, or its results are not those of float64.
    """
    problem = problems.make(case)
    weights, inputs = weights_of(problem, device), Inputs(problem, device)
    expected = reference(case, weights, inputs)
    turns: dict[str, Callable[[], float]] = {}
    errors: dict[Subject, float] = {}
    refused: dict[Subject, str] = {}
    for subject in among:
        with subject.precision.allowed():
            try:
                job = subject.prepare(case, weights)
                pairs = inputs.of(subject.precision.dtype)
                found = check(subject, job, pairs[0], expected)
                turns[subject.name] = turn(subject.precision, job, pairs)
                errors[subject] = found
            except RuntimeError as error:  # of the library, or that it is wrong
                if subject.library == OURS:
                    raise DisagreementError(f"{case.name}: {error}") from error
                refused[subject] = str(error)
    spreads = interleave(turns, effort)
    seconds = {subject: spreads[subject.name] for subject in errors}
    return Measurement(case, seconds, errors, refused)


def reference(case: Case, weights: Tensors, inputs: Inputs) -> Tensors:
    """Compute the results of the first input by PyTorch in float64."""
    x, dy = inputs.first(torch.float64)
    job = module_job(make_module(torch.nn, case, weights, torch.float64), case)
    return job.read(job.call(x, dy))


def check(
    subject: Subject, job: Job, pair: tuple[torch.Tensor, torch.Tensor], expected: Tensors
) -> float:
    """Return how far results are from those expected.

    Raises
    ------
    DisagreementError
        If that is too far.
    """
    error = distance(job.read(job.call(*pair)), expected)
    if not error <= subject.precision.tolerance:
        raise DisagreementError(
            f"{subject.name}: results differ from float64's by {error:.1e}, "
            f"allowed {subject.precision.tolerance:.0e}"
        )
    return error


def distance(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> float:
    """Tell the largest relative distance of results; infinite for NaN and what is missing."""
    if found.keys() != expected.keys():
        return math.inf
    distances = [
        float((found[name].detach().double() - want.detach()).norm() / want.detach().norm())
        for name, want in expected.items()
    ]
    return math.inf if any(map(math.isnan, distances)) else max(distances)


def turn(
    precision: Precision, job: Job, pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]
) -> Callable[[], float]:
    """Make the turn of a subject, which gives the seconds of a call."""
    source = cycle(pairs)

    def run(calls: int) -> None:
        for x, dy in islice(source, calls):
            job.call(x, dy)

    run(WARM_CALLS)
    calls = max(1, math.ceil(TURN_SECONDS / clock.seconds(run, WARM_CALLS)))

    def sample() -> float:
        with precision.allowed():
            run(WARM_CALLS)
            return clock.seconds(run, calls)

    return sample
