"""Images read row by row and sorted into classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rnnfast.confusion import Confusion
from rnnfast.data import ImageSet, Pixels, ShuffledBatches, read_images, small_digits
from rnnfast.flat import Array
from rnnfast.models import Encoder, SequenceClassifier, make_layers
from rnnfast.nn import cross_entropy
from rnnfast.parallel import Group, share
from rnnfast.plot import confusion
from rnnfast.settings import RecurrentSettings, at_least, positive, setting
from rnnfast.train import Loss

from .system import Source, System

_BLOCK = 500  # images classified at a time
_SMALL = 16  # rows or columns; a pixel is much of fewer
_SHIFTS = 1  # third number of the seeds of shifts, whatever else has two


@dataclass(frozen=True, kw_only=True)
class DigitsSettings(RecurrentSettings):
    """What a classifier of images is trained with, beside what all are.

    Attributes
    ----------
    shift : int or None
        Pixels by which the images of a training batch are at most shifted, each by chance; None for
        1, but for 0 where images are small.
    bidirectional : bool
        Whether rows are read upwards too.
    """

    data: str | None = setting(
        None, "Folder of the four IDX files of MNIST.", shown="scikit-learn's 8 x 8 digits"
    )
    shift: int | None = setting(
        None, "Pixels by which training images are at most shifted, by chance.", at_least(0),
        shown=f"1; 0 where images have fewer than {_SMALL} rows or columns",
    )  # fmt: skip
    bidirectional: bool = setting(True, "Whether rows are read upwards too.")
    batch: int = setting(64, "Images side by side.", at_least(1))
    lr: float = setting(6e-3, "Peak learning rate.", positive())


class Digits(System):
    """Handwritten digits, or other images: rows as a sequence, sorted into classes."""

    kind = "digits"
    settings_type = DigitsSettings
    duration: ClassVar = {"epochs": 10}
    unit = "images"
    evaluations = 5
    best = ("accuracy", True)

    model: SequenceClassifier

    def __init__(self, settings: DigitsSettings, rng: np.random.Generator, group: Group) -> None:
        data = _read(settings)
        self._settings, self._data = settings, data
        self.source = Source(data.name, data.digest)
        self.about = {"labels": list(data.labels), "columns": data.training.pixels.shape[2]}
        self.model = self.make_model(settings, self.about, rng)
        self._batches = ShuffledBatches(len(data.training), settings.batch, settings.seed)
        small = min(data.training.pixels.shape[1:]) < _SMALL
        self._shift = int(not small) if settings.shift is None else settings.shift
        self._part = share(self._batches.batch, group)
        self.batches_per_epoch = len(self._batches)
        self.items_per_batch = self._batches.batch

    @classmethod
    def make_model(
        cls,
        settings: DigitsSettings,
        about: Mapping[str, Any],
        rng: np.random.Generator | None = None,
    ) -> SequenceClassifier:
        """Make the model of images so many columns wide."""
        generator = np.random.default_rng(rng)
        stack = make_layers(
            settings.cell, about["columns"], settings.hidden, settings.layers,
            bidirectional=settings.bidirectional, dropout=settings.dropout,
            compute=settings.compute, rng=generator,
        )  # fmt: skip
        return SequenceClassifier(
            about["labels"], Encoder(stack), dropout=settings.dropout, rng=generator
        )

    def step(self, index: int) -> Loss:
        """Train on a batch of images, each shifted by chance; see `train.Task`."""
        images, most = self._data.training, self._shift
        rng = np.random.default_rng([self._settings.seed, index, _SHIFTS])
        shifts = rng.integers(-most, most, (self._batches.batch, 2), endpoint=True)[self._part]
        chosen = self._batches.cut(index, self._part)
        pixels = shifted(images.pixels[chosen], shifts)
        loss = self.model.loss_and_gradient(as_rows(pixels), images.classes[chosen])
        return Loss(loss, len(chosen))

    def evaluate(self) -> dict[str, float]:
        """Accuracy and cross-entropy on the held-out images, without shifts and dropout."""
        logits = self._logits()
        classes = self._data.held_out.classes
        right = float((logits.argmax(axis=1) == classes).mean())
        return {"accuracy": right, "nats/image": cross_entropy(logits, classes)[0]}

    def _logits(self) -> Array:
        pixels = self._data.held_out.pixels
        blocks = [
            self.model(as_rows(pixels[start : start + _BLOCK]))
            for start in range(0, len(pixels), _BLOCK)
        ]
        return np.concatenate(blocks)

    def summary(self) -> str:
        """Describe the model, the images and the batches in one line."""
        settings, images = self._settings, self._data.training.pixels
        directions = ", both directions" if settings.bidirectional else ""
        return (
            f"{settings.layers} x {settings.hidden} {settings.cell}{directions}, "
            f"{self.model.flat.size:,} parameters; {len(images):,} images of "
            f"{images.shape[1]} x {images.shape[2]} in {len(self._data.labels)} classes from "
            f"{self._data.name}, {len(self._data.held_out):,} held out; "
            f"{self.batches_per_epoch:,} batches of {self.items_per_batch}"
        )

    def report(self) -> str:
        """Write precision, recall and the confusion of the held-out images."""
        return str(self._confusion())

    def pictures(self) -> dict[str, Callable[[Path], Path]]:
        """Draw the confusion."""
        table = self._confusion()
        return {"confusion": lambda path: confusion(table.counts, table.labels, path)}

    def _confusion(self) -> Confusion:
        table = Confusion(self._data.labels)
        table.add(self._data.held_out.classes, self._logits().argmax(axis=1))
        return table


def _read(settings: DigitsSettings) -> ImageSet:
    return small_digits() if settings.data is None else read_images(settings.data)


def as_rows(pixels: Pixels) -> Array:
    """Make sequences (H, N, W) of rows, float32 from 0 to 1, of images (N, H, W)."""
    return pixels.transpose(1, 0, 2).astype(np.float32) / np.float32(255.0)


def shifted(pixels: Pixels, shifts: NDArray[np.int64]) -> Pixels:
    """Shift each image; what comes in is black, what goes out is lost.

    Parameters
    ----------
    pixels : numpy.ndarray
        (N, H, W).
    shifts : numpy.ndarray
        (N, 2): pixels downwards and to the right.

    Returns
    -------
    numpy.ndarray
        (N, H, W), a copy.
    """
    height, width = pixels.shape[1:]
    margin = int(np.abs(shifts).max(initial=0))
    padded = np.pad(pixels, ((0, 0), (margin, margin), (margin, margin)))
    down, right = (margin - shifts).T
    lines = down[:, None] + np.arange(height)
    columns = right[:, None] + np.arange(width)
    result: Pixels = padded[
        np.arange(len(pixels))[:, None, None], lines[:, :, None], columns[:, None]
    ]
    return result
