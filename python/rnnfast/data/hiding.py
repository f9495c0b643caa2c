"""Hiding characters and whole words of texts in training, so that none is relied on alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rnnfast import checks

from .text import Tokens, Vocabulary


@dataclass(frozen=True)
class Hiding:
    """Shares of what is hidden; words are what lies between white space.

    Attributes
    ----------
    characters, words : float
        Probability of each, 0 to 1.

    Raises
    ------
    TypeError, ValueError
        If one is no number, or out of range.
    """

    characters: float = 0.0
    words: float = 0.0

    def __post_init__(self) -> None:
        checks.number("hiding: characters", self.characters, checks.PROBABILITY)
        checks.number("hiding: words", self.words, checks.PROBABILITY)

    def hide(self, tokens: Tokens, vocabulary: Vocabulary, rng: np.random.Generator) -> None:
        """Put the unknown character in place of those that are hidden.

        Parameters
        ----------
        tokens : numpy.ndarray
            (T, B), changed in place.
        vocabulary : Vocabulary
            Of the tokens, with an unknown character.
        rng : Generator
            Draws which.

        Raises
        ------
        TypeError
            If an argument is of the wrong type.
        ValueError
            If the tokens are none, or the vocabulary has no unknown character.
        """
        checks.array("hide: tokens", tokens, "iu")
        checks.instance("hide: vocabulary", vocabulary, Vocabulary, "a Vocabulary")
        checks.instance("hide: rng", rng, np.random.Generator, "a NumPy Generator")
        if tokens.ndim != 2:
            raise ValueError(f"hide: tokens has shape {tokens.shape}, expected (T, B)")
        if not (self.characters or self.words):
            return
        if vocabulary.unknown is None:
            raise ValueError("hide: the vocabulary has no unknown character, expected an open one")
        hidden = np.zeros(tokens.shape, bool)
        if self.characters:
            hidden |= rng.random(tokens.shape, np.float32) < self.characters
        if self.words:
            space = _spaces(vocabulary.characters, len(vocabulary))[tokens]
            word = np.cumsum(space, axis=0, dtype=np.intp)
            chosen = rng.random((len(tokens) + 1, tokens.shape[1]), np.float32) < self.words
            hidden |= np.take_along_axis(chosen, word, axis=0) & ~space
        tokens[hidden] = vocabulary.unknown


@lru_cache(maxsize=8)
def _spaces(characters: str, size: int) -> NDArray[np.bool_]:
    """Tell which of so many tokens are white space."""
    spaces = np.zeros(size, bool)
    spaces[: len(characters)] = [c.isspace() for c in characters]
    return spaces
