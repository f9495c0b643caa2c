"""Sorting: a list of numbers read into a vector, and written in order from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rnnfast.data import number_lists
from rnnfast.models import Decoder, Encoder, EncoderDecoder, make_layers, remember
from rnnfast.parallel import Group, share
from rnnfast.settings import RecurrentSettings, at_least, positive, setting
from rnnfast.train import Loss

from .system import Source, System

_EPOCH = 1000  # batches of generated lists that count as a pass
_HELD_OUT = 2000  # lists of an evaluation
_SHOWN = 3  # lists of the report
_TRAINING, _EVALUATION = 0, 1  # streams of chance that are apart


@dataclass(frozen=True, kw_only=True)
class SortSettings(RecurrentSettings):
    """What sorting is trained with, beside what all systems are.

    Attributes
    ----------
    length, range : int
        Numbers in a list; they are 1 to `range`.
    """

    length: int = setting(32, "Numbers in a list.", at_least(1))
    range: int = setting(32, "Largest number; the smallest is 1.", at_least(2))
    hidden: int = setting(256, "Units in a layer.", at_least(1))
    batch: int = setting(128, "Lists side by side.", at_least(1))
    lr: float = setting(1e-2, "Peak learning rate.", positive())


class Sort(System):
    """Sort lists of numbers: an encoder to a vector, a decoder that writes them in order."""

    kind = "sort"
    settings_type = SortSettings
    duration: ClassVar = {"epochs": 3}
    unit = "lists"
    evaluations = 15
    best = ("per element", True)

    model: EncoderDecoder

    def __init__(self, settings: SortSettings, rng: np.random.Generator, group: Group) -> None:
        self._settings, self._part = settings, share(settings.batch, group)
        self.source = Source("generated lists", "")
        self.about = {}
        self.model = self.make_model(settings, self.about, rng)
        self.batches_per_epoch, self.items_per_batch = _EPOCH, settings.batch

    @classmethod
    def make_model(
        cls,
        settings: SortSettings,
        about: Mapping[str, Any],
        rng: np.random.Generator | None = None,
    ) -> EncoderDecoder:
        """Make encoder and decoder, of equal layers."""
        generator = np.random.default_rng(rng)
        sizes = (settings.hidden, settings.layers)
        options: dict[str, Any] = {
            "dropout": settings.dropout,
            "compute": settings.compute,
            "rng": generator,
        }
        reader = make_layers(settings.cell, settings.range, *sizes, **options)
        writer = make_layers(settings.cell, settings.hidden, *sizes, **options)
        remember(reader, settings.length, generator)
        decoder = Decoder(
            settings.range, settings.hidden, writer, dropout=settings.dropout, rng=generator
        )
        return EncoderDecoder(Encoder(reader), decoder)

    def step(self, index: int) -> Loss:
        """Train on one batch of fresh lists; see `train.Task`."""
        settings = self._settings
        numbers, in_order = self._draw(settings.batch, _TRAINING, index)
        numbers, in_order = (np.ascontiguousarray(a[:, self._part]) for a in (numbers, in_order))
        return Loss(self.model.loss_and_gradient(numbers, in_order), numbers.size)

    def _draw(self, count: int, *stream: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        settings = self._settings
        rng = np.random.default_rng([settings.seed, *stream])
        return number_lists(settings.length, settings.range, count, rng)

    def evaluate(self) -> dict[str, float]:
        """Shares of right elements, of lists without an error, and of lists that never fall."""
        numbers, in_order = self._draw(_HELD_OUT, _EVALUATION)
        written = self._sort(numbers)
        right = written == in_order
        return {
            "per element": float(right.mean()),
            "per list": float(right.all(axis=0).mean()),
            "increasing": float((np.diff(written, axis=0) >= 0).all(axis=0).mean()),
        }

    def _sort(self, numbers: NDArray[np.int32]) -> NDArray[np.int32]:
        logits = self.model.decoder(self.model.encode(numbers), len(numbers))
        written: NDArray[np.int32] = logits.argmax(axis=2).astype(np.int32)
        return written

    def summary(self) -> str:
        """Describe the model, the lists and the batches in one line."""
        settings = self._settings
        return (
            f"encoder and decoder of {settings.layers} x {settings.hidden} {settings.cell}, "
            f"{self.model.flat.size:,} parameters; lists of {settings.length} numbers from 1 to "
            f"{settings.range}, {settings.batch} at a time"
        )

    def report(self) -> str:
        """Show lists as they were written, with errors marked."""
        numbers, in_order = self._draw(_SHOWN, _EVALUATION)
        written = self._sort(numbers)
        lines = []
        for column in range(_SHOWN):
            given, right, answer = (a[:, column] + 1 for a in (numbers, in_order, written))
            marks = [f"{a}" if a == r else f"{a}({r})" for a, r in zip(answer, right, strict=True)]
            lines += [f"given:  {' '.join(map(str, given))}", f"sorted: {' '.join(marks)}"]
        return "\n".join([*lines, "(in brackets what is right, where it is another)"])
