"""What language models of characters and of words have in common.

Stateful truncated BPTT over streams of a text, or shuffled windows of it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rnnfast.data import Corpus, TokenStreams, TokenWindows
from rnnfast.flat import Array
from rnnfast.models import Alphabet, LanguageModel, States, state_arrays, states_from
from rnnfast.parallel import Group, share
from rnnfast.settings import RecurrentSettings, at_least, setting
from rnnfast.train import Loss

from .system import Source, System

_SAMPLE_TEMPERATURE = 0.7
_READ = 100  # tokens that are read before a sample


@dataclass(frozen=True, kw_only=True)
class LanguageSettings(RecurrentSettings):
    """What a language model is trained with, beside what all are.

    Attributes
    ----------
    encoding : str
        Of the text file.
    seq_length : int
        Steps of a window.
    offset : int or None
        Tokens from the start of a window to the next one's; such windows come in random order,
        each from a zero state. Without it the text runs as streams that carry their state.
    """

    encoding: str = setting("utf-8", "Encoding of the text file.")
    seq_length: int = setting(256, "Steps of a window.", at_least(1))
    offset: int | None = setting(
        None, "Steps from one window to the next; they are shuffled, each from a zero state.",
        at_least(1), shown="streams that carry their state",
    )  # fmt: skip
    batch: int = setting(16, "Streams or windows side by side.", at_least(1))


class LanguageSystem(System):
    """The next token after every one of a text.

    Attributes
    ----------
    sample : int
        Tokens shown after a training.
    held_out_limit : int or None
        Tokens at the end of the text that are held out at most; None for `data`'s limit.
    """

    sample: ClassVar[int]
    held_out_limit: ClassVar[int | None] = None

    model: LanguageModel

    def __init__(self, settings: LanguageSettings, rng: np.random.Generator, group: Group) -> None:
        corpus = self.read(settings)
        training, held_out = corpus.split(settings.seq_length, self.held_out_limit)
        self.source = Source(corpus.name, corpus.digest)
        self.about = {"vocabulary": corpus.vocabulary.description}
        self.model = self.make_model(settings, self.about, rng)
        self._settings, self._size, self._group = settings, corpus.tokens.size, group
        self._noun, self._tokens = corpus.unit, held_out
        self._batches = cut_batches(training, settings)
        self._part = share(self._batches.batch, group)
        self._held_out = TokenStreams(held_out, settings.batch, settings.seq_length)
        self.batches_per_epoch = len(self._batches)
        self.items_per_batch = self._batches.batch * settings.seq_length
        self._states: States | None = None

    @staticmethod
    @abstractmethod
    def read(settings: Any) -> Corpus[Any]:
        """Read the text; OSError or ValueError if that fails."""

    @staticmethod
    @abstractmethod
    def make_vocabulary(description: Any) -> Alphabet:
        """Make a vocabulary again of its `description`."""

    @abstractmethod
    def figures(self, nats: float) -> dict[str, float]:
        """Return the figures of a mean loss."""

    @classmethod
    def make_model(
        cls, settings: Any, about: Mapping[str, Any], rng: np.random.Generator | None = None
    ) -> LanguageModel:
        """Make the model of a vocabulary."""
        return LanguageModel.of(
            cls.make_vocabulary(about["vocabulary"]),
            settings.cell, settings.hidden, settings.layers,
            dropout=settings.dropout, compute=settings.compute, rng=rng,
        )  # fmt: skip

    def step(self, index: int) -> Loss:
        """Train on one window, in nats; see `train.Task`."""
        tokens, targets = self._batches.cut(index, self._part)
        states = self._states if self._batches.follows(index) else None
        loss, self._states = self.model.loss_and_gradient(tokens, targets, states)
        return Loss(loss, tokens.size)

    def evaluate(self) -> dict[str, float]:
        """Figures of the held-out text, without dropout."""
        total, count, states = 0.0, 0, None
        for tokens, targets in self._held_out:
            loss, states = self.model.loss(tokens, targets, states)
            total += loss * targets.size
            count += targets.size
        return self.figures(total / count)

    def summary(self) -> str:
        """Describe the model, the text and the batches in one line."""
        settings, batches = self._settings, self._batches
        return (
            f"{settings.layers} x {settings.hidden} {settings.cell}, "
            f"{self.model.flat.size:,} parameters; {self._size:,} {self._noun} of "
            f"{self.source.name}, {self.kinds()}; "
            f"{len(batches):,} batches of {batches.batch} x {settings.seq_length}"
        )

    def kinds(self) -> str:
        """Say how many different tokens are told apart."""
        return f"{len(self.model.vocabulary):,} different"

    def report(self) -> str:
        """Write a sample, as it goes on from the beginning of the held-out text.

        From a zero state, which streams hardly ever have, a model may go astray.
        """
        before = self.model.vocabulary.decode(self._tokens[:_READ])
        return self.model.generate(
            self.sample, before, temperature=_SAMPLE_TEMPERATURE, rng=self._settings.seed
        )

    def state(self) -> dict[str, Array]:
        """Return the carried states' arrays; none where none are carried."""
        if self._states is None or not isinstance(self._batches, TokenStreams):
            return {}
        parts = state_arrays(self._states)
        return {name: self._group.join(array, axis=1) for name, array in parts.items()}

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Take over what `state` returned."""
        parts = {name: np.ascontiguousarray(array[:, self._part]) for name, array in state.items()}
        self._states = states_from(parts) if parts else None


def cut_batches(tokens: Array, settings: LanguageSettings) -> TokenStreams | TokenWindows:
    """Cut the training text as the settings want it."""
    if settings.offset is None:
        return TokenStreams(tokens, settings.batch, settings.seq_length)
    return TokenWindows(tokens, settings.batch, settings.seq_length, settings.offset, settings.seed)
