"""A language model: the probability of the next token, of any vocabulary.

T time steps, B sequences, V tokens of the vocabulary.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from rnnfast import checks
from rnnfast.flat import Array
from rnnfast.nn import cross_entropy

from .recurrent import Recurrent, check_chain, make_layers
from .sequence import SequenceModel, Stack
from .writer import Writer


@runtime_checkable
class Alphabet(Protocol):
    """What numbers the tokens of a text: `data.Vocabulary` or `data.WordVocabulary`."""

    @property
    def start(self) -> int:
        """The token that stands in for an empty prompt."""
        ...

    @property
    def unknown(self) -> int | None:
        """The token of what is not known, which is never generated; None where there is none."""
        ...

    def __len__(self) -> int:
        """Return V."""
        ...

    def encode(self, text: str) -> Array:
        """Number the tokens of a text."""
        ...

    def decode(self, tokens: Array) -> str:
        """Write a text again."""
        ...

    def spell(self, token: int, before: int | None) -> str:
        """Write a token as it reads after another one, None where text begins."""
        ...


class TextGenerator(Stack):
    """What writes the tokens of a vocabulary.

    Attributes
    ----------
    vocabulary : data.Vocabulary or data.WordVocabulary
        The V characters or words.
    """

    vocabulary: Alphabet

    def sample(
        self,
        prompt: str = "",
        temperature: float = 1.0,
        rng: int | np.random.Generator | None = None,
        *,
        stop: int | str | None = None,
        limit: int | None = None,
    ) -> Iterator[str]:
        r"""Generate one token after another: without end, or to an end symbol or a limit.

        Parameters
        ----------
        prompt : str
            Text to go on from; the vocabulary's start stands in for none.
        temperature : float
            Divides the logits: below 1 more likely, above 1 more varied; 0 takes the likeliest.
        rng : None, int or numpy.random.Generator
            Source of chance.
        stop : int or str, optional
            The token that ends the text, and is the last one generated; or what is written for
            it, such as `"\n"` or `"."`.
        limit : int, optional
            Tokens to be generated at most.

        Yields
        ------
        str
            The next characters: one, or a word as it follows what stands before.

        Raises
        ------
        TypeError
            If an argument is of the wrong type.
        ValueError
            If the temperature is negative or not finite, the limit is negative, the prompt has an
            unknown character, or `stop` is no token of the vocabulary.
        """
        checks.string("model: prompt", prompt)
        temperature = checks.number("model: temperature", temperature, checks.NOT_NEGATIVE)
        generator = checks.generator("model: rng", rng)
        if limit is not None:
            limit = checks.integer("model: limit", limit, 0)
        ends, writer = self._ends(stop), Writer(self, prompt)
        return self._continue(writer, temperature, generator, ends, limit)

    def _ends(self, stop: int | str | None) -> set[int]:
        """Return the tokens that end a text: words have several that are written alike."""
        size = len(self.vocabulary)
        if isinstance(stop, str):
            found = {token for token in range(size) if self.vocabulary.spell(token, None) == stop}
            if not found:
                raise ValueError(f"model: stop is {stop!r}, expected one token of the vocabulary")
            return found
        if stop is None:
            return set()
        return {checks.integer("model: stop", stop, 0, size - 1, "None, a string or an integer")}

    @staticmethod
    def _continue(
        writer: Writer,
        temperature: float,
        rng: np.random.Generator,
        ends: set[int],
        limit: int | None,
    ) -> Iterator[str]:
        for _ in itertools.count() if limit is None else range(limit):
            token = choose(writer.logits, temperature, rng)
            yield writer.take(token)
            if token in ends:
                break

    def generate(
        self,
        length: int,
        prompt: str = "",
        temperature: float = 1.0,
        rng: int | np.random.Generator | None = None,
    ) -> str:
        """Generate `length` characters or words; arguments and errors as in `sample`."""
        length = checks.integer("model: length", length, 0)
        return "".join(self.sample(prompt, temperature, rng, limit=length))


class LanguageModel(SequenceModel, TextGenerator):
    """Recurrent layers on integer tokens, projected to the next token's logits.

    Parameters
    ----------
    vocabulary : data.Vocabulary or data.WordVocabulary
        The V characters or words.
    layers : sequence of RNN, LSTM or GRU
        One or more, each reading the output of the one before; the first has input_size = V. All
        time-major (`batch_first=False`), in one direction, of one dtype.
    dropout : float
        Probability of dropping an output of the last layer, in training.
    rng : None, int or numpy.random.Generator
        Source of the projection's initial weights and of dropout.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range, or the layers do not fit together.
    """

    def __init__(
        self,
        vocabulary: Alphabet,
        layers: Sequence[Recurrent],
        *,
        dropout: float = 0.0,
        rng: int | np.random.Generator | None = None,
    ) -> None:
        _check_vocabulary(vocabulary)
        self.vocabulary = vocabulary
        layers = check_chain(layers, len(vocabulary))
        super().__init__(layers, len(vocabulary), cross_entropy, dropout=dropout, rng=rng)

    @classmethod
    def of(
        cls,
        vocabulary: Alphabet,
        cell: str,
        hidden_size: int,
        num_layers: int = 1,
        *,
        dropout: float = 0.0,
        rng: int | np.random.Generator | None = None,
        **options: Any,
    ) -> LanguageModel:
        """Make a model of equal layers of one cell: `basic`, `lstm` or `gru`.

        The options are those of the layers; with `recompute`, training takes less memory. Dropout
        acts on the outputs of every layer, the last one's too.

        Raises
        ------
        TypeError, ValueError
            If the cell is unknown, or an argument is of the wrong type or out of range.
        """
        _check_vocabulary(vocabulary)
        generator = checks.generator("model: rng", rng)
        stack = make_layers(
            cell, len(vocabulary), hidden_size, num_layers,
            dropout=dropout, rng=generator, **options,
        )  # fmt: skip
        return cls(vocabulary, [stack], dropout=dropout, rng=generator)

    def quantize(self, calibration: str | None = None) -> QuantizedLanguageModel:
        """Make an int8 copy to generate with: a quarter of the bytes that each step reads.

        Parameters
        ----------
        calibration : str, optional
            Typical text: its magnitudes fix the scales of the integers, as in `GRU.quantize`.

        Returns
        -------
        QuantizedLanguageModel
            With the weights as they are now.

        Raises
        ------
        TypeError, ValueError
            If the layers cannot be quantized, or the text is none, empty or has an unknown
            character.
        """
        return QuantizedLanguageModel(self, calibration)


def _check_vocabulary(vocabulary: Alphabet) -> None:
    checks.instance("model: vocabulary", vocabulary, Alphabet, "a vocabulary")


class QuantizedLanguageModel(TextGenerator):
    """A language model with layers of eight bits, for generation; made by `LanguageModel.quantize`.

    The projection stays as it is.
    """

    def __init__(self, model: LanguageModel, calibration: str | None = None) -> None:
        checks.instance("model: model", model, LanguageModel, "a LanguageModel")
        self.vocabulary, self.projection = model.vocabulary, copy.deepcopy(model.projection)
        if calibration is None:
            self.layers = tuple(layer.quantize() for layer in model.layers)
            return
        checks.string("model: calibration", calibration)
        y, layers = model.vocabulary.encode(calibration), []
        if not y.size:
            raise ValueError("model: calibration is empty, expected some text")
        for layer in model.layers:
            layers.append(layer.quantize(y))
            y, _ = layer(y)
        self.layers = tuple(layers)


def choose(logits: Array, temperature: float, rng: np.random.Generator) -> int:
    """Draw a class from softmax(logits (V,) / temperature); temperature 0 takes the likeliest."""
    if temperature == 0.0:
        return int(logits.argmax())
    exact = logits.astype(np.float64)
    with np.errstate(over="ignore"):
        cumulative = np.exp((exact - exact.max()) / temperature).cumsum()
    drawn = int(cumulative.searchsorted(rng.random() * cumulative[-1], side="right"))
    return min(drawn, logits.size - 1)
