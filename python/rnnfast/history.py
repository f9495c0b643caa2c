"""What a training went through: losses, evaluations, the best of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

_POINTS = 400  # of the loss's curve


@dataclass
class History:
    """Curves of a training, which its checkpoint keeps.

    Attributes
    ----------
    losses : list of (int, float)
        Steps, and the mean training loss since the point before.
    evaluations : list of dict
        Figures on held-out data by name, and the `step` at which they were found.
    """

    losses: list[tuple[int, float]] = field(default_factory=list)
    evaluations: list[dict[str, float]] = field(default_factory=list)
    _sum: float = 0.0
    _count: int = 0

    def add_loss(self, step: int, loss: float, total: int | None) -> None:
        """Take in the loss of a step, of `total` where the length is known."""
        self._sum += loss
        self._count += 1
        if self._count >= (total or _POINTS) / _POINTS:
            self.losses.append((step, self._sum / self._count))
            self._sum, self._count = 0.0, 0

    def add_evaluation(self, step: int, figures: dict[str, float]) -> None:
        """Take in what an evaluation found."""
        self.evaluations.append({"step": step, **figures})

    def best(self, name: str, rises: bool) -> int:
        """Return the index of the best evaluation by a figure, the first of equals."""
        sign = -1.0 if rises else 1.0
        return min(range(len(self.evaluations)), key=lambda i: sign * self.evaluations[i][name])

    def stalled(self, name: str, rises: bool, patience: int | None) -> bool:
        """Tell whether the last `patience` evaluations brought nothing better."""
        if patience is None or not self.evaluations:
            return False
        return len(self.evaluations) - 1 - self.best(name, rises) >= patience

    def state(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "losses": [list(point) for point in self.losses],
            "evaluations": self.evaluations,
            "open": [self._sum, self._count],
        }

    @classmethod
    def of(cls, state: dict[str, Any]) -> History:
        """Undo `state`; KeyError, TypeError or ValueError if it is none."""
        losses = [(int(step), float(loss)) for step, loss in state["losses"]]
        evaluations = [dict(evaluation) for evaluation in state["evaluations"]]
        total, count = state["open"]
        return cls(losses, evaluations, float(total), int(count))
