"""The classifier of texts: many characters to one of several classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np

from rnnfast.confusion import Confusion
from rnnfast.data import (
    Hiding,
    LabelledTexts,
    OpenVocabulary,
    TextBatches,
    library_lines,
    read_labelled,
)
from rnnfast.flat import Array
from rnnfast.models import STACKS, Model, TextClassifier
from rnnfast.parallel import Group, share
from rnnfast.plot import confusion
from rnnfast.settings import (
    RecurrentSettings,
    at_least,
    below_one,
    not_negative,
    one_of,
    positive,
    refuse_without_data,
    setting,
)
from rnnfast.train import Loss

from .system import LineSystem, Prediction, Source

CLASS_WEIGHTS = ("none", "balanced")
_TEST_BATCH = 128


@dataclass(frozen=True, kw_only=True)
class SentimentSettings(RecurrentSettings):
    """What a classifier of texts is trained with, beside what all are.

    Attributes
    ----------
    encoding : str
        Of the file.
    text_column, label_column : str or None
        Names of columns in the file's first line; both or none.
    seq_length : int
        Characters of a text that are read.
    stacks : str
        Layers of both directions: `independent` or `interleaved`.
    projection : int or None
        Size that the last outputs of both directions are projected to and added in, before they
        are projected to the classes; without it they are projected to the classes themselves.
    class_weights : str
        `balanced` lets all classes count alike in the loss, however many texts they have.
    memory : int
        Steps that units hold what they have read, at most, before training; 0 for initial values
        as in PyTorch.
    mask, mask_words : float
        Shares of the characters and of the words that are hidden in training, others each time.
    """

    data: str | None = setting(
        None, "File of labelled texts.",
        shown="lines of the standard library's source, labelled code, comment or docstring",
    )  # fmt: skip
    encoding: str = setting("utf-8", "Encoding of the file.")
    text_column: str | None = setting(
        None, "Name of the column with the texts.", shown="the second of a CSV file"
    )
    label_column: str | None = setting(
        None, "Name of the column with the labels.", shown="the first of a CSV file"
    )
    seq_length: int = setting(256, "Characters of a text that are read.", at_least(1))
    stacks: str = setting(
        "independent", "Layers of both directions: independent or interleaved.", one_of(*STACKS)
    )
    projection: int | None = setting(
        None, "Size to project both directions to.", at_least(1), shown="number of classes"
    )
    class_weights: str = setting(
        "none", "none, or balanced: rare classes count as much as others.", one_of(*CLASS_WEIGHTS)
    )
    memory: int = setting(
        100, "Most steps that a fresh LSTM or GRU remembers; 0 for a few.", at_least(0)
    )
    mask: float = setting(0.05, "Share of characters hidden in training.", below_one())
    mask_words: float = setting(0.3, "Share of words hidden in training.", below_one())
    batch: int = setting(32, "Texts side by side.", at_least(1))
    lr: float = setting(6e-3, "Peak learning rate.", positive())
    weight_decay: float = setting(0.1, "Decay of the weights, by AdamW.", not_negative())
    dropout: float = setting(0.5, "Dropped share of every layer's outputs.", below_one())


class Sentiment(LineSystem):
    """Classes of labelled texts: reads the characters of a text from both ends.

    The file has a label, a tab and a text in each line; or its name ends in .csv and it has columns
    separated by commas, named in its first line. A fifth of the texts of each label is held out.
    """

    kind = "sentiment"
    settings_type = SentimentSettings
    presets: ClassVar = {
        "notes": {
            "cell": "gru", "layers": 4, "hidden": 128, "seq_length": 256, "stacks": "independent",
            "projection": 128, "dropout": 0.2, "lr": 2e-3, "epochs": 12,
        },
    }  # fmt: skip
    duration: ClassVar = {"epochs": 24}
    unit = "texts"
    best = ("accuracy", True)

    model: TextClassifier

    def __init__(self, settings: SentimentSettings, rng: np.random.Generator, group: Group) -> None:
        texts = _read(settings)
        self.source = Source(texts.name, texts.digest)
        self.about = {"vocabulary": texts.vocabulary.characters, "labels": list(texts.labels)}
        self.model = self.make_model(settings, self.about, rng)
        self._settings, self._texts = settings, texts
        hiding = Hiding(settings.mask, settings.mask_words)
        self._batches = TextBatches(texts, settings.batch, settings.seed, hiding)
        self._part = share(self._batches.batch, group)
        self._weights = _class_weights(settings.class_weights, texts)
        self._confusion = Confusion(texts.labels)
        self.batches_per_epoch = len(self._batches)
        self.items_per_batch = self._batches.batch

    @classmethod
    def make_model(
        cls,
        settings: SentimentSettings,
        about: Mapping[str, Any],
        rng: np.random.Generator | None = None,
    ) -> TextClassifier:
        """Make the model of a vocabulary and of labels."""
        return TextClassifier.of(
            OpenVocabulary(about["vocabulary"]), about["labels"], settings.cell, settings.hidden,
            settings.layers, stacks=settings.stacks, projection=settings.projection,
            seq_length=settings.seq_length, memory=settings.memory, dropout=settings.dropout,
            compute=settings.compute, rng=rng,
        )  # fmt: skip

    @classmethod
    def predict_lines(cls, model: Model, lines: Sequence[str]) -> Iterator[Prediction]:
        """Tell the probability of each label."""
        classifier = cast(TextClassifier, model)
        for row in classifier.predict(lines).tolist():
            yield dict(zip(classifier.labels, row, strict=True))

    def step(self, index: int) -> Loss:
        """Train on one batch, in nats; see `train.Task`."""
        tokens, lengths, targets = self._batches.cut(index, self._part)
        loss = self.model.loss_and_gradient(tokens, targets, lengths, self._weights)
        weight = targets.size if self._weights is None else float(self._weights[targets].sum())
        return Loss(loss, weight)

    def evaluate(self) -> dict[str, float]:
        """Accuracy, mean F1 of the classes and cross-entropy on the held-out texts."""
        self._confusion, total = Confusion(self._texts.labels), 0.0
        for tokens, lengths, targets in self._texts.test_batches(_TEST_BATCH):
            shares = self.model.probabilities(tokens, lengths)
            self._confusion.add(targets, shares.argmax(axis=1))
            chosen = np.maximum(shares[np.arange(targets.size), targets], np.finfo(float).tiny)
            total -= float(np.log(chosen).sum())
        return {
            "accuracy": self._confusion.accuracy,
            "macro F1": self._confusion.macro_f1,
            "nats": total / float(self._confusion.counts.sum()),
        }

    def summary(self) -> str:
        """Describe the model, the texts and the batches in one line."""
        settings, texts, batches = self._settings, self._texts, self._batches
        return (
            f"{settings.layers} x {settings.hidden} {settings.cell} in each direction, "
            f"{settings.stacks}, {self.model.flat.size:,} parameters; {len(texts):,} texts of "
            f"{self.source.name}, {int(texts.held_out.sum()):,} held out, "
            f"{len(texts.labels)} classes; {len(batches):,} batches of {batches.batch}"
        )

    def report(self) -> str:
        """Tell which classes are told apart."""
        return f"held-out texts, by this checkpoint\n\n{self._confusion}"

    def pictures(self) -> dict[str, Callable[[Path], Path]]:
        """Draw the confusion of the held-out texts."""
        table = self._confusion
        return {"confusion": lambda path: confusion(table.counts, table.labels, path)}


def _read(settings: SentimentSettings) -> LabelledTexts:
    if settings.data is None:
        refuse_without_data(settings, "encoding", "text_column", "label_column")
        return library_lines(settings.seq_length, settings.seed)
    return read_labelled(
        settings.data, encoding=settings.encoding, text_column=settings.text_column,
        label_column=settings.label_column, seq_length=settings.seq_length, seed=settings.seed,
    )  # fmt: skip


def _class_weights(kind: str, texts: LabelledTexts) -> Array | None:
    """Weigh the classes so that each counts alike, and a text 1 in the mean."""
    if kind == "none":
        return None
    counts = texts.counts()
    weights: Array = counts.sum() / (counts.size * counts.astype(np.float64))
    return weights
