"""The language model of words: the next word or punctuation mark after every one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rnnfast.data import Corpus, WordVocabulary, documentation, read_words
from rnnfast.data.words import LINES
from rnnfast.settings import (
    CELLS,
    at_least,
    below_one,
    one_of,
    positive,
    refuse_without_data,
    setting,
)

from .language import LanguageSettings, LanguageSystem


@dataclass(frozen=True, kw_only=True)
class WordsSettings(LanguageSettings):
    """What a word model is trained with, beside what language models are.

    Attributes
    ----------
    vocabulary : int
        Largest number of words and marks, the unknown word among them.
    occurrences : int
        Rarer words are unknown.
    lines : str
        `join` makes one line of every paragraph, as prose wants it; `keep` keeps line ends, as
        verse does.
    """

    data: str | None = setting(None, "Text file.", shown="the standard library's documentation")
    vocabulary: int = setting(
        10_000, "Largest number of words, the unknown one included.", at_least(2)
    )
    occurrences: int = setting(2, "Words that occur less often are unknown.", at_least(1))
    lines: str = setting("join", "Line ends in a paragraph: join or keep.", one_of(*LINES))
    cell: str = setting("lstm", "basic, lstm or gru.", one_of(*CELLS))
    seq_length: int = setting(20, "Steps of a window.", at_least(1))
    batch: int = setting(32, "Streams or windows side by side.", at_least(1))
    dropout: float = setting(0.5, "Dropped share of every layer's outputs.", below_one())
    lr: float = setting(1e-2, "Peak learning rate.", positive())


class Words(LanguageSystem):
    """Words of a text: stateful truncated BPTT over streams, or shuffled windows."""

    kind = "words"
    settings_type = WordsSettings
    duration: ClassVar = {"epochs": 5}
    unit = "words"
    evaluations = 4
    best = ("perplexity", False)
    sample = 100
    held_out_limit = 50_000  # tells models 0.01 nats apart; the products by V words are slow

    @staticmethod
    def read(settings: WordsSettings) -> Corpus[WordVocabulary]:
        """Read the words of the file, or of the standard library's documentation."""
        how: dict[str, Any] = {
            "limit": settings.vocabulary, "occurrences": settings.occurrences,
            "lines": settings.lines, "held_out": Words.held_out_limit,
        }  # fmt: skip
        if settings.data is None:
            refuse_without_data(settings, "encoding")
            return documentation(**how)
        return read_words(settings.data, settings.encoding, **how)

    @staticmethod
    def make_vocabulary(description: Mapping[str, Any]) -> WordVocabulary:
        """Make the vocabulary of these words."""
        return WordVocabulary(**description)

    def figures(self, nats: float) -> dict[str, float]:
        """Give the loss as perplexity and in nats; the unknown word and marks count as words."""
        return {"perplexity": perplexity(nats), "nats/word": nats}

    def loss_text(self, loss: float) -> str:
        """Write a loss in nats: a perplexity jumps."""
        return f"{loss:.3f} nats/word"

    def kinds(self) -> str:
        """Say how many words are known, and how much of the held-out text is not."""
        unknown = float(np.mean(self._tokens == self.model.vocabulary.unknown))
        return f"{super().kinds()}, {unknown:.1%} of the held-out end unknown"


def perplexity(nats: float) -> float:
    """Return exp(nats), infinite where that is too large."""
    return math.exp(nats) if nats < 700.0 else math.inf
