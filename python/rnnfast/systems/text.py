"""The language model of characters: the next character after every one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from rnnfast.data import Corpus, Vocabulary, read_corpus, standard_library
from rnnfast.settings import at_least, positive, refuse_without_data, setting

from .language import LanguageSettings, LanguageSystem


@dataclass(frozen=True, kw_only=True)
class TextSettings(LanguageSettings):
    """What a character model is trained with: as any language model, of other sizes."""

    data: str | None = setting(None, "Text file.", shown="the standard library's source")
    hidden: int = setting(384, "Units in a layer.", at_least(1))
    lr: float = setting(6e-3, "Peak learning rate.", positive())


class Text(LanguageSystem):
    """Characters of a text: stateful truncated BPTT over streams, or shuffled windows."""

    kind = "text"
    settings_type = TextSettings
    presets: ClassVar = {
        "notes": {"cell": "gru", "layers": 3, "hidden": 512, "seq_length": 256},
        "whale": {
            "cell": "lstm", "layers": 1, "hidden": 128, "seq_length": 60, "offset": 3,
            "batch": 128, "epochs": 15,
        },
        "book": {
            "cell": "gru", "layers": 2, "hidden": 512, "dropout": 0.4, "seq_length": 128,
            "batch": 32, "epochs": 12, "lr": 3e-3,
        },
    }  # fmt: skip
    duration: ClassVar = {"minutes": 2.0}
    unit = "chars"
    evaluations = 4
    best = ("bits/char", False)
    sample = 500

    @staticmethod
    def read(settings: TextSettings) -> Corpus[Vocabulary]:
        """Read the characters of the file, or of the standard library's source."""
        if settings.data is None:
            refuse_without_data(settings, "encoding")
            return standard_library()
        return read_corpus(settings.data, settings.encoding)

    @staticmethod
    def make_vocabulary(description: str) -> Vocabulary:
        """Make the vocabulary of these characters."""
        return Vocabulary(description)

    def figures(self, nats: float) -> dict[str, float]:
        """Give the loss in bits and in nats."""
        return {"bits/char": bits(nats), "nats/char": nats}

    def loss_text(self, loss: float) -> str:
        """Write a loss in bits."""
        return f"{bits(loss):.3f} bits/char"


def bits(nats: float) -> float:
    """Convert nats to bits."""
    return nats / math.log(2.0)
