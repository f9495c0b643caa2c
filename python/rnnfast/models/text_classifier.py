"""Many to one: texts sorted into classes by their characters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rnnfast import checks
from rnnfast.data import OpenVocabulary, Tokens, pad
from rnnfast.flat import Array

from .classifier import SequenceClassifier
from .encoder import Encoder
from .recurrent import make_layers, remember

STACKS = ("independent", "interleaved")
_ROWS = 64  # texts at once


class TextClassifier(SequenceClassifier):
    """A classifier of texts, which it reads character by character.

    Parameters
    ----------
    vocabulary : OpenVocabulary
        The characters that it knows; all others are one more.
    labels : sequence of str
        The classes.
    encoder : Encoder
        Of tokens of the vocabulary.
    projection : int, optional
        As for `SequenceClassifier`.
    seq_length : int, optional
        Characters of a text that are read; all of them unless given.
    dropout : float
        As for `SequenceClassifier`.
    rng : None, int or numpy.random.Generator
        Source of the projections' initial weights and of dropout.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range.
    """

    def __init__(
        self,
        vocabulary: OpenVocabulary,
        labels: Sequence[str],
        encoder: Encoder,
        projection: int | None = None,
        *,
        seq_length: int | None = None,
        dropout: float = 0.0,
        rng: int | np.random.Generator | None = None,
    ) -> None:
        super().__init__(labels, encoder, projection, dropout=dropout, rng=rng)
        _check_vocabulary(vocabulary)
        if seq_length is not None:
            seq_length = checks.integer("model: seq_length", seq_length, 1)
        self.vocabulary, self.seq_length = vocabulary, seq_length

    @classmethod
    def of(
        cls,
        vocabulary: OpenVocabulary,
        labels: Sequence[str],
        cell: str,
        hidden_size: int,
        num_layers: int = 1,
        *,
        stacks: str = "independent",
        projection: int | None = None,
        seq_length: int | None = None,
        dropout: float = 0.0,
        memory: int = 0,
        rng: int | np.random.Generator | None = None,
        **options: Any,
    ) -> TextClassifier:
        """Make a classifier that reads texts from both ends.

        Parameters
        ----------
        vocabulary, labels, projection, seq_length
            As for the class.
        cell : str
            `basic`, `lstm` or `gru`.
        hidden_size, num_layers : int
            Units in a layer of one direction; layers of each direction.
        stacks : str
            `independent`: one stack of layers reads forward, another one backward. `interleaved`:
            every layer sees both directions of the one below, as in PyTorch's bidirectional
            layers.
        dropout : float
            Probability of dropping an output of a layer, in training.
        memory : int
            Steps for which units at most remember at first, see `remember`; 0 for PyTorch's initial
            values.
        rng : None, int or numpy.random.Generator
            Source of all initial weights, and of dropout.
        **options
            Of the layers, such as `compute`.

        Raises
        ------
        TypeError, ValueError
            If the cell or the stacks are unknown, or an argument is of the wrong type or out of
            range.
        """
        _check_vocabulary(vocabulary)
        checks.choice("model: stacks", stacks, STACKS)
        memory = checks.integer("model: memory", memory, 0)
        generator = checks.generator("model: rng", rng)
        interleaved = stacks == "interleaved"
        layers = [
            make_layers(
                cell, len(vocabulary), hidden_size, num_layers, bidirectional=interleaved,
                dropout=dropout, rng=generator, **options,
            )
            for _ in range(1 if interleaved else 2)
        ]  # fmt: skip
        for layer in layers if memory else ():
            remember(layer, memory, generator)
        return cls(
            vocabulary, labels, Encoder(*layers), projection,
            seq_length=seq_length, dropout=dropout, rng=generator,
        )  # fmt: skip

    def encode(self, texts: Sequence[str], rows: int = 0) -> tuple[Tokens, Array]:
        """Number the characters of texts.

        Parameters
        ----------
        texts : sequence of str
            Any, empty ones included.
        rows : int, optional
            Texts wanted at least; empty ones are added.

        Returns
        -------
        tokens : numpy.ndarray
            (T, B) int32, padded.
        lengths : numpy.ndarray
            (B,).

        Raises
        ------
        TypeError, ValueError
            If the texts are no strings, one of them alone included, or `rows` is negative.
        """
        return self._encode(_checked_texts(texts), checks.integer("model: rows", rows, 0))

    def _encode(self, texts: Sequence[str], rows: int) -> tuple[Tokens, Array]:
        return pad([self.vocabulary.encode(text[: self.seq_length]) for text in texts], rows)

    def predict(self, texts: Sequence[str]) -> Array:
        """Tell the probabilities of the classes.

        Parameters
        ----------
        texts : sequence of str
            N of them. What is told of a text does not depend on the others.

        Returns
        -------
        numpy.ndarray
            (N, V), in the order of `labels`.

        Raises
        ------
        TypeError
            If the texts are no strings, one of them alone included.
        """
        texts = _checked_texts(texts)
        shares = np.empty((len(texts), len(self.labels)))
        for start in range(0, len(texts), _ROWS):
            some = texts[start : start + _ROWS]
            # BLAS may round products of other sizes in another way, so there is one size.
            shares[start : start + _ROWS] = self.probabilities(*self._encode(some, _ROWS))[
                : len(some)
            ]
        return shares


def _check_vocabulary(vocabulary: OpenVocabulary) -> None:
    checks.instance("model: vocabulary", vocabulary, OpenVocabulary, "an OpenVocabulary")


def _checked_texts(texts: Sequence[str]) -> tuple[str, ...]:
    if isinstance(texts, str):  # whose characters would be taken for texts
        raise checks.wrong_type("model: texts", texts, "a sequence of strings")
    given = checks.parts("model: texts", texts, "a sequence of strings")
    return tuple(checks.string(f"model: texts[{i}]", text) for i, text in enumerate(given))
