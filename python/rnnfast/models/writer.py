"""Going on with a text: what may come next, and what did."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rnnfast import checks
from rnnfast.flat import Array

from .recurrent import States

if TYPE_CHECKING:
    from .language import TextGenerator


class Suggestion(NamedTuple):
    """A token that may come next, the text that it adds, and how likely that text is."""

    token: int
    text: str
    probability: float


class Writer:
    """A text that grows, and the state of a language model that has read it.

    Nothing is read twice: what is added goes on from the state.

    Parameters
    ----------
    model : LanguageModel or QuantizedLanguageModel
        Reads the text.
    text : str
        What there is; while it is empty, the vocabulary's start stands in for it.

    Raises
    ------
    TypeError, ValueError
        If the model writes no text, or the text is none or has an unknown character.

    Examples
    --------
    >>> writer = Writer(model, "Call me")
    >>> writer.suggestions(3)
    >>> writer.write("Ishmael, for I was")
    """

    def __init__(self, model: TextGenerator, text: str = "") -> None:
        from .language import TextGenerator

        checks.instance("writer: model", model, TextGenerator, "a LanguageModel")
        self._model = model
        self._states: States | None = None
        self._logits: Array | None = None
        self._unread: list[int] = []  # by the model
        self._before: int | None = None  # None where text begins, or white space ends it
        self.write(text)

    @property
    def logits(self) -> Array:
        """Of the next token, (V,); that of the unknown one is -inf."""
        if self._logits is None and not self._unread:
            self._unread.append(self._model.vocabulary.start)
        if self._unread:
            self._read()
        assert self._logits is not None
        return self._logits

    def _read(self) -> None:
        if len(self._unread) == 1:
            row, self._states = self._model.step(self._unread[0], self._states)
        else:
            rows, self._states = self._model(np.array(self._unread, np.int32), self._states)
            row = rows[-1]
        unknown = self._model.vocabulary.unknown
        if unknown is not None:
            row[unknown] = -math.inf
        self._logits, self._unread = row, []

    def write(self, text: str) -> str:
        """Add text.

        Parameters
        ----------
        text : str
            Words need no space in front of them.

        Returns
        -------
        str
            What has been added: the text, behind the space that sets it apart.

        Raises
        ------
        TypeError, ValueError
            If the text is none, or has an unknown character; nothing is added then.
        """
        checks.string("writer: text", text)
        vocabulary = self._model.vocabulary
        tokens = vocabulary.encode(text).tolist()
        if not tokens:
            return ""
        apart = vocabulary.spell(tokens[0], self._before).startswith(" ")
        self._unread += tokens
        self._before = None if text[-1].isspace() else tokens[-1]
        return f" {text}" if apart and not text[0].isspace() else text

    def take(self, token: int) -> str:
        """Add one token, and return the text that it adds.

        Raises
        ------
        TypeError, ValueError
            If it is no token of the vocabulary.
        """
        token = checks.integer("writer: token", token, 0, len(self._model.vocabulary) - 1)
        text = self._model.vocabulary.spell(token, self._before)
        self._unread.append(token)
        self._before = token
        return text

    def suggestions(self, count: int = 10) -> list[Suggestion]:
        """Return the most likely continuations, the likeliest first.

        Parameters
        ----------
        count : int
            How many, at least 0; fewer where there are fewer.

        Returns
        -------
        list of Suggestion
            Of different texts; tokens that differ only in the space behind them are one, with
            their probabilities added. The unknown token is left out, and the rest add up to 1.

        Raises
        ------
        TypeError, ValueError
            If the count is no integer, or negative.
        """
        count = checks.integer("writer: count", count, 0)
        exact = self.logits.astype(np.float64)
        chances = np.exp(exact - exact.max())
        chances /= chances.sum()
        found: dict[str, Suggestion] = {}
        for token in np.argsort(-chances, kind="stable").tolist():
            chance = float(chances[token])
            if token != self._model.vocabulary.unknown:
                text = self._model.vocabulary.spell(token, self._before)
                first = found.get(text, Suggestion(token, text, 0.0))
                found[text] = first._replace(probability=first.probability + chance)
        return sorted(found.values(), key=lambda one: -one.probability)[:count]
