"""What a trainable system is: data, a model, batches, and how good the model has become."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from rnnfast.flat import Array
from rnnfast.models import Model
from rnnfast.parallel import Group
from rnnfast.settings import Settings
from rnnfast.train import Loss


@dataclass(frozen=True)
class Source:
    """Where data came from, and a fingerprint by which a resumed run knows them again."""

    name: str
    digest: str


class System(ABC):
    """A system in training.

    Parameters
    ----------
    settings : Settings
        Of the class's `settings_type`.
    rng : numpy.random.Generator
        Of the initial weights and of dropout.
    group : Group
        Processes that each take their part of every batch.

    Attributes
    ----------
    kind : str
        Name of the command and of the checkpoints.
    settings_type : type
        Its settings.
    presets : dict of str to dict
        Settings to start from, by name.
    duration : dict
        How long it trains by default: `epochs` or `minutes`.
    unit : str
        What the speed counts.
    evaluations : int
        How often at least it is evaluated in a training.
    best : tuple of str and bool
        The figure that tells the best checkpoint, and whether it rises.
    model : Model
        What is trained.
    source : Source
        Of the data.
    about : dict
        What a model is made from beside the settings, such as a vocabulary; JSON can hold it.
    batches_per_epoch, items_per_batch : int
        Of the data; items are of the `unit`.
    """

    kind: ClassVar[str]
    settings_type: ClassVar[type[Settings]]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    duration: ClassVar[Mapping[str, Any]]
    unit: ClassVar[str]
    evaluations: ClassVar[int] = 10
    best: ClassVar[tuple[str, bool]]

    model: Model
    source: Source
    about: dict[str, Any]
    batches_per_epoch: int
    items_per_batch: int

    @abstractmethod
    def __init__(self, settings: Any, rng: np.random.Generator, group: Group) -> None: ...

    @classmethod
    @abstractmethod
    def make_model(
        cls, settings: Any, about: Mapping[str, Any], rng: np.random.Generator | None = None
    ) -> Model:
        """Make a model with fresh weights; KeyError or ValueError if `about` is damaged."""

    @abstractmethod
    def step(self, index: int) -> Loss:
        """Leave the gradient of this process's part of a batch in the model's buffer."""

    @abstractmethod
    def evaluate(self) -> dict[str, float]:
        """Return figures on held-out data by name, the most telling first."""

    @abstractmethod
    def summary(self) -> str:
        """Describe model, data and batches in one line."""

    def loss_text(self, loss: float) -> str:
        """Write a training loss."""
        return f"loss {loss:.4f}"

    def report(self) -> str:
        """Show in lines what was learnt, when the training has ended."""
        return ""

    def pictures(self) -> dict[str, Callable[[Path], Path]]:
        """Return what draws pictures of it into a file, by the names of the pictures."""
        return {}

    def state(self) -> dict[str, Array]:
        """Return what is carried from one step to the next, of all processes."""
        return {}

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Take over what `state` returned."""
        if state:
            raise ValueError(f"{self.kind}: got a state {sorted(state)}, expected none")


Prediction = Mapping[str, float]  # probability by label


class LineSystem(System):
    """A system whose models label lines of text: `rnnfast predict` takes them."""

    @classmethod
    @abstractmethod
    def predict_lines(cls, model: Model, lines: Sequence[str]) -> Iterator[Prediction]:
        """Tell the probability of each label for each line; no line depends on another."""


def figures_text(figures: Mapping[str, float]) -> str:
    """Write figures in one line."""
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items() if name != "step")
