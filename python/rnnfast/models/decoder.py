"""One to many: a sequence written from a vector.

T time steps, B sequences, S numbers of the source vector, H hidden units, V symbols.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rnnfast import checks
from rnnfast.flat import Array
from rnnfast.nn import Dense, DenseTape, cross_entropy

from .dropout import Dropout, masked
from .language import choose
from .model import Model
from .recurrent import Recurrent, check_layer

FEEDS = ("every", "once")
PADDING = -1  # target of a step that does not count


@dataclass(frozen=True, eq=False)
class DecoderTape:
    """What `Decoder.backward` reads."""

    recurrent: Any
    mask: Array | None
    projection: DenseTape


class Decoder(Model):
    """A recurrent layer that is given a vector and projects each output to the symbols' logits.

    Parameters
    ----------
    symbols : int
        V.
    source : int
        S.
    layer : RNN, LSTM or GRU
        Time-major, in one direction; its input_size is S, and V more with `feedback`.
    feed : {"every", "once"}
        The vector is the input of every step, or of the first, after which come zeros, the empty
        symbol.
    feedback : bool
        Whether each step is also given the symbol before it, as a one-hot vector (zeros in the
        first step).
    dropout : float
        Probability of dropping an output of the layer, in training.
    rng : None, int or numpy.random.Generator
        Source of the projection's initial weights and of dropout.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range, or the layer does not fit.
    """

    def __init__(
        self,
        symbols: int,
        source: int,
        layer: Recurrent,
        feed: str = "every",
        feedback: bool = False,
        *,
        dropout: float = 0.0,
        rng: int | np.random.Generator | None = None,
    ) -> None:
        self.symbols = checks.integer("decoder: symbols", symbols, 1, checks.MOST)
        self.source = checks.integer("decoder: source", source, 0, checks.MOST)
        self.feed = checks.choice("decoder: feed", feed, FEEDS)
        self.feedback = checks.flag("decoder: feedback", feedback)
        check_layer("decoder: layer", layer)
        expected = self.source + (self.symbols if self.feedback else 0)
        if layer.input_size != expected or layer.batch_first or layer.bidirectional:
            raise ValueError(
                f"decoder: expected a time-major layer in one direction with "
                f"input_size={expected}, got {layer!r}"
            )
        self.layer = layer
        generator = checks.generator("decoder: rng", rng)
        self.projection = Dense(layer._width, self.symbols, dtype=layer.dtype, rng=generator)
        self._dropout = Dropout(dropout, generator)
        super().__init__({"layer": layer, "projection": self.projection})

    def __call__(self, vector: Array, steps: int, previous: Array | None = None) -> Array:
        """Logits of all steps.

        Parameters
        ----------
        vector : numpy.ndarray
            (B, S) floats, or (B,) integers in [0, S): one-hot vectors, such as of classes.
        steps : int
            T.
        previous : numpy.ndarray, optional
            (T, B) symbols that the steps are given; needed with `feedback`. `PADDING` is none,
            as `generate` gives the first step.

        Returns
        -------
        numpy.ndarray
            (T, B, V).

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit.
        """
        y, _ = self.layer(self._inputs(vector, steps, previous))
        return self.projection(y)

    def forward(
        self, vector: Array, steps: int, previous: Array | None = None
    ) -> tuple[Array, DecoderTape]:
        """Compute logits and keep what `backward` needs; arguments as in a call."""
        y, _, tape = self.layer.forward(self._inputs(vector, steps, previous))
        mask = self._dropout.mask(y)
        logits, dense = self.projection.forward(masked(y, mask))
        return logits, DecoderTape(tape, mask, dense)

    def backward(self, tape: DecoderTape, dlogits: Array) -> Array:
        """Leave the parameters' gradient in `self.gradient`.

        Returns
        -------
        numpy.ndarray
            (B, S), gradient of the vector.

        Raises
        ------
        TypeError, ValueError
            If `tape` is not what `forward` returned, or `dlogits` does not fit.
        """
        checks.instance("decoder: tape", tape, DecoderTape, "what forward returned")
        dy = self._through("projection", self.projection, tape.projection, dlogits)
        dy = masked(dy, tape.mask)
        dx = self.layer.backward(tape.recurrent, dy, out=self.gradient_of("layer")).x
        assert dx is not None
        dvectors = dx[:, :, : self.source]
        dvector: Array = dvectors.sum(axis=0) if self.feed == "every" else dvectors[0].copy()
        return dvector

    def loss_and_gradient(self, vector: Array, targets: Array) -> tuple[float, Array]:
        """Compute the loss of sequences, each step given the true symbol before it.

        Parameters
        ----------
        vector : numpy.ndarray
            As in a call.
        targets : numpy.ndarray
            (T, B) symbols; `PADDING` where a sequence has ended.

        Returns
        -------
        loss : float
            Mean cross-entropy in nats; the parameters' gradient is left in `self.gradient`.
        dvector : numpy.ndarray
            (B, S), gradient of the vector.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit.
        """
        checks.array("decoder: targets", targets, "iu")
        if targets.ndim != 2 or not len(targets):
            raise ValueError(
                f"decoder: targets has shape {targets.shape}, expected (T, B) and at least one step"
            )
        source = self._vectors(vector)
        checks.shape("decoder: targets", targets, (len(targets), len(source)), "(T, B)")
        logits, tape = self.forward(source, len(targets), before(targets))
        loss, dlogits = cross_entropy(logits, targets, ignore_index=PADDING, out=logits)
        return loss, self.backward(tape, dlogits)

    def generate(
        self,
        vector: Array,
        limit: int,
        end: int | None = None,
        temperature: float = 0.0,
        rng: int | np.random.Generator | None = None,
    ) -> tuple[Array, Array]:
        """Write sequences, step by step.

        Parameters
        ----------
        vector : numpy.ndarray
            As in a call.
        limit : int
            Steps at most.
        end : int, optional
            The symbol that ends a sequence; without it all take `limit` steps.
        temperature : float
            0 takes the likeliest symbol, else as for `LanguageModel.sample`.
        rng : None, int or numpy.random.Generator
            Source of chance.

        Returns
        -------
        symbols : numpy.ndarray
            (T, B) int32, T up to `limit`; `PADDING` after the end symbol.
        lengths : numpy.ndarray
            (B,) symbols before the end.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit.
        """
        limit = checks.integer("decoder: limit", limit, 0, checks.MOST)
        if end is not None:
            end = checks.integer("decoder: end", end, 0, self.symbols - 1)
        temperature = checks.number("decoder: temperature", temperature, checks.NOT_NEGATIVE)
        generator = checks.generator("decoder: rng", rng)
        source = self._vectors(vector)
        lengths = np.full(len(source), limit)
        rows: list[Array] = []
        state, last = None, np.full(len(source), PADDING, np.int32)
        for step in range(limit):
            x = self._joined(source, 1, last[None] if self.feedback else None)[0]
            y, state = self.layer.step(x, state)
            logits = self.projection(y)
            last = np.array([choose(row, temperature, generator) for row in logits], np.int32)
            rows.append(np.where(lengths > step, last, PADDING).astype(np.int32))
            lengths = np.where((lengths > step) & (last == end), step, lengths)
            if self.feed == "once":
                source = np.zeros_like(source)
            if (lengths <= step).all():
                break
        return np.array(rows, np.int32).reshape(-1, len(source)), lengths

    def _vectors(self, vector: Array) -> Array:
        checks.array("decoder: vector", vector, "fiu")
        if vector.dtype.kind in "iu" and vector.ndim == 1:
            wrong = (vector < 0) | (vector >= self.source)
            if wrong.any():
                first = int(wrong.argmax())
                raise ValueError(
                    f"decoder: vector[{first}] is {vector[first]}, expected 0 to {self.source - 1}"
                )
            return one_hot(vector, self.source, self.layer.dtype)
        if vector.ndim != 2 or vector.shape[1] != self.source:
            raise ValueError(
                f"decoder: vector has shape {vector.shape}, expected (B, {self.source}) or classes"
            )
        return vector.astype(self.layer.dtype, copy=False)

    def _inputs(self, vector: Array, steps: int, previous: Array | None) -> Array:
        """Check what the layer is given, and lay it out."""
        source = self._vectors(vector)
        steps = checks.integer("decoder: steps", steps, 1, checks.MOST)
        if not self.feedback:
            return self._joined(source, steps, None)
        symbols = checks.array("decoder: previous", previous, "iu")
        checks.shape("decoder: previous", symbols, (steps, len(source)), "(T, B)")
        return self._joined(source, steps, symbols)

    def _joined(self, source: Array, steps: int, previous: Array | None) -> Array:
        """Inputs (T, B, ·) of the layer."""
        x = np.zeros((steps, len(source), self.layer.input_size), self.layer.dtype)
        x[: steps if self.feed == "every" else 1, :, : self.source] = source
        if previous is not None:
            x[:, :, self.source :] = one_hot(previous, self.symbols, x.dtype)
        return x


def one_hot(symbols: Array, count: int, dtype: np.dtype[Any]) -> Array:
    """Make vectors (…, count) with a one where each symbol points, zeros for `PADDING`."""
    vectors: Array = (symbols[..., None] == np.arange(count)).astype(dtype)
    return vectors


def before(targets: Array) -> Array:
    """Shift symbols (T, B) one step later; the first step is given none."""
    return np.concatenate([np.full_like(targets[:1], PADDING), targets[:-1]])
