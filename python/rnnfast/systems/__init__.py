"""The systems that `rnnfast train` knows, by the name of their command."""

from __future__ import annotations

from .digits import Digits, DigitsSettings
from .language import LanguageSystem
from .sentiment import Sentiment, SentimentSettings
from .series import SeriesSettings, TimeSeries
from .sort import Sort, SortSettings
from .system import LineSystem, Prediction, Source, System, figures_text
from .text import Text, TextSettings
from .words import Words, WordsSettings

SYSTEMS: dict[str, type[System]] = {
    kind.kind: kind for kind in (Text, Words, Sentiment, Sort, Digits, TimeSeries)
}
LANGUAGE = tuple((name for name, kind in SYSTEMS.items() if issubclass(kind, LanguageSystem)))

__all__ = [
    "LANGUAGE",
    "SYSTEMS",
    "Digits",
    "DigitsSettings",
    "LanguageSystem",
    "LineSystem",
    "Prediction",
    "Sentiment",
    "SentimentSettings",
    "SeriesSettings",
    "Sort",
    "SortSettings",
    "Source",
    "System",
    "Text",
    "TextSettings",
    "TimeSeries",
    "Words",
    "WordsSettings",
    "figures_text",
]
