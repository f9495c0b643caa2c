"""Sequence models: parts composed over one flat parameter buffer.

T time steps, B sequences, V characters.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

from .data import Tokens, Vocabulary
from .flat import Array, FlatParameters
from .layers import GRU, LSTM, RNN
from .nn import Dense, cross_entropy

Recurrent: TypeAlias = RNN | LSTM | GRU
States: TypeAlias = tuple[Any, ...]  # one layer state, h or (h, c), for each recurrent part

CELLS: dict[str, type[RNN] | type[LSTM] | type[GRU]] = {"basic": RNN, "lstm": LSTM, "gru": GRU}


class Part(Protocol):
    """What a model is made of: parameters in a flat buffer that can be moved into a larger one."""

    @property
    def flat(self) -> Array:
        """The part's parameters, 1-D."""
        ...

    @property
    def parameters(self) -> Mapping[str, Array]:
        """Views of `flat` by name."""
        ...

    def bind(self, buffer: Array) -> None:
        """Move the parameters into the buffer."""
        ...


class Model(FlatParameters):
    """Named parts whose parameters lie in one flat buffer, and their gradients in another.

    Parameters
    ----------
    parts : mapping of str to Part
        In the order of the buffer; all of one dtype. Their parameters are moved.

    Attributes
    ----------
    flat, gradient : numpy.ndarray
        1-D buffers of the same layout.
    parameters : mapping of str to numpy.ndarray
        Views of `flat`, named `part.parameter`.
    """

    _name = "model"

    def __init__(self, parts: Mapping[str, Part]) -> None:
        sizes = {name: part.flat.size for name, part in parts.items()}
        dtypes = {part.flat.dtype for part in parts.values()}
        if len(dtypes) != 1:
            raise ValueError(f"model: parts have dtypes {sorted(map(str, dtypes))}, expected one")
        ends = itertools.accumulate(sizes.values())
        self._parts = dict(parts)
        self._spans = {
            name: slice(end - size, end)
            for (name, size), end in zip(sizes.items(), ends, strict=True)
        }
        self._attach(np.empty(sum(sizes.values()), dtypes.pop()))
        self.gradient: Array = np.zeros_like(self.flat)

    def _attach(self, flat: Array) -> None:
        for name, part in self._parts.items():
            part.bind(flat[self._spans[name]])
        super()._attach(flat)

    def _views(self, flat: Array) -> dict[str, Array]:
        """Those of the parts, which have been moved into `flat`."""
        return {
            f"{name}.{key}": view
            for name, part in self._parts.items()
            for key, view in part.parameters.items()
        }

    def gradient_of(self, part: str) -> Array:
        """Return the slice of `gradient` that belongs to the named part."""
        return self.gradient[self._spans[part]]

    def _wrong_names(self, missing: list[str], surplus: list[str]) -> ValueError:
        """Leave out what is expected: a model has many names."""
        return self._wrong_value(f"parameters missing: {missing}, surplus: {surplus}")


class CharacterModel(Model):
    """A language model: recurrent layers on integer tokens, projected to the next token's logits.

    Parameters
    ----------
    vocabulary : Vocabulary
        The V characters.
    layers : sequence of RNN, LSTM or GRU
        One or more, each reading the output of the one before; the first has input_size = V. All
        time-major (`batch_first=False`), in one direction, of one dtype.
    rng : None, int or numpy.random.Generator
        Source of the projection's initial weights.

    Raises
    ------
    ValueError
        If the layers do not fit together.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        layers: Sequence[Recurrent],
        *,
        rng: int | np.random.Generator | None = None,
    ) -> None:
        width = _check_chain(len(vocabulary), layers)
        self.vocabulary = vocabulary
        self.layers = tuple(layers)
        self.projection = Dense(width, len(vocabulary), dtype=layers[0].dtype, rng=rng)
        self._names = [f"layers.{i}" for i in range(len(self.layers))]
        parts: dict[str, Part] = dict(zip(self._names, self.layers, strict=True))
        super().__init__({**parts, "projection": self.projection})
        self._buffers: dict[str, Array] = {}

    @classmethod
    def of(
        cls,
        vocabulary: Vocabulary,
        cell: str,
        hidden_size: int,
        num_layers: int = 1,
        *,
        dropout: float = 0.0,
        dtype: str = "float32",
        compute: str = "float32",
        recompute: int | str | None = None,
        rng: int | np.random.Generator | None = None,
    ) -> CharacterModel:
        """Make a model of equal layers of one cell: `basic`, `lstm` or `gru`.

        The options are those of the layers; with `recompute`, training takes less memory.

        Raises
        ------
        ValueError
            If the cell is unknown, or a size is out of range.
        """
        if cell not in CELLS:
            raise ValueError(f"cell is {cell!r}, expected one of {', '.join(CELLS)}")
        generator = np.random.default_rng(rng)
        stack = CELLS[cell](
            len(vocabulary), hidden_size, num_layers,
            dropout=dropout, dtype=dtype, compute=compute, recompute=recompute, rng=generator,
        )  # fmt: skip
        return cls(vocabulary, [stack], rng=generator)

    def __call__(self, tokens: Tokens, states: States | None = None) -> tuple[Array, States]:
        """Logits of the next token after every token.

        Parameters
        ----------
        tokens : numpy.ndarray
            (T, B) or (T,) integers in [0, V).
        states : tuple, optional
            One state for each recurrent part, from a former call; zero unless given.

        Returns
        -------
        logits : numpy.ndarray
            (T, B, V) or (T, V).
        states : tuple
            After the last step.

        Raises
        ------
        TypeError, ValueError
            If the tokens or the states do not fit; the message names what does not.
        """
        y: Array = tokens
        after = []
        for layer, state in zip(self.layers, self._initial(states), strict=True):
            y, last = layer(y, state)
            after.append(last)
        return self.projection(y), tuple(after)

    def step(self, token: Any, states: States | None = None) -> tuple[Array, States]:
        """Logits of the token that follows.

        Parameters
        ----------
        token : int or numpy.ndarray
            One token, or (B,) of them, in [0, V).
        states : tuple, optional
            One state for each recurrent part; zero unless given.

        Returns
        -------
        logits : numpy.ndarray
            (V,) or (B, V).
        states : tuple
            After the token.
        """
        y: Array = np.asarray(token)
        after = []
        for layer, state in zip(self.layers, self._initial(states), strict=True):
            y, last = layer.step(y, state)
            after.append(last)
        return self.projection(y), tuple(after)

    def loss(
        self, tokens: Tokens, targets: Tokens, states: States | None = None
    ) -> tuple[float, States]:
        """Compute the loss without dropout; arguments and results as in `loss_and_gradient`."""
        logits, states = self(tokens, states)
        return cross_entropy(logits, targets, out=logits)[0], states

    def loss_and_gradient(
        self, tokens: Tokens, targets: Tokens, states: States | None = None
    ) -> tuple[float, States]:
        """Compute the loss, with dropout, and leave its gradient in `self.gradient`.

        The gradient stops at the initial states (truncated BPTT).

        Parameters
        ----------
        tokens, targets : numpy.ndarray
            (T, B) integers in [0, V).
        states : tuple, optional
            Initial states; zero unless given.

        Returns
        -------
        loss : float
            Mean cross-entropy in nats.
        states : tuple
            After the last step.

        Raises
        ------
        TypeError, ValueError
            If tokens, targets or states do not fit; the message names what does not.
        """
        y: Array = tokens
        tapes, after = [], []
        for layer, state in zip(self.layers, self._initial(states), strict=True):
            y, last, tape = layer.forward(y, state)
            tapes.append(tape)
            after.append(last)
        dy: Array | None
        loss, dy = self._projection_loss(y, targets)
        for i in reversed(range(len(self.layers))):
            gradients = self.layers[i].backward(
                tapes[i], dy, out=self.gradient_of(self._names[i]), input_gradient=i > 0
            )
            dy = gradients.x
        return loss, tuple(after)

    def _projection_loss(self, y: Array, targets: Tokens) -> tuple[float, Array]:
        """Compute the loss of outputs y (T, B, H), and dy; the logits' buffer is reused."""
        rows = y.size // y.shape[-1]
        logits, tape = self.projection.forward(
            y, out=self._buffer("logits", rows, self.projection.out_features)
        )
        loss, dlogits = cross_entropy(logits, targets, out=logits)
        gradients = self.projection.backward(
            tape,
            dlogits,
            out=self.gradient_of("projection"),
            dx=self._buffer("dy", rows, y.shape[-1]),
        )
        assert gradients.x is not None
        return loss, gradients.x

    def _buffer(self, name: str, rows: int, columns: int) -> Array:
        """Scratch kept from step to step: fresh pages would cost more than what is done in them."""
        buffer = self._buffers.get(name)
        if buffer is None or buffer.shape != (rows, columns):
            self._buffers[name] = buffer = np.empty((rows, columns), self.flat.dtype)
        return buffer

    def _initial(self, states: States | None) -> States:
        if states is None:
            return (None,) * len(self.layers)
        if len(states) != len(self.layers):
            raise ValueError(f"model: got {len(states)} states, expected {len(self.layers)}")
        return states

    def sample(
        self,
        prompt: str = "",
        temperature: float = 1.0,
        rng: int | np.random.Generator | None = None,
    ) -> Iterator[str]:
        """Generate characters one after another, without end.

        Parameters
        ----------
        prompt : str
            Text to go on from; a line end, or else the first character, stands in for none.
        temperature : float
            Divides the logits: below 1 more likely, above 1 more varied; 0 takes the likeliest.
        rng : None, int or numpy.random.Generator
            Source of chance.

        Yields
        ------
        str
            The next character.

        Raises
        ------
        ValueError
            If the temperature is negative or not finite, or the prompt has an unknown character.
        """
        if not 0.0 <= temperature < math.inf:
            raise ValueError(
                f"temperature is {temperature}, expected a finite number of at least 0"
            )
        start = "\n" if "\n" in self.vocabulary.characters else self.vocabulary.characters[0]
        tokens = self.vocabulary.encode(prompt or start)
        return self._continue(tokens, temperature, np.random.default_rng(rng))

    def _continue(
        self, tokens: Tokens, temperature: float, rng: np.random.Generator
    ) -> Iterator[str]:
        logits, states = self(tokens)
        row = logits[-1]
        while True:
            token = choose(row, temperature, rng)
            yield self.vocabulary.characters[token]
            row, states = self.step(token, states)

    def generate(
        self,
        length: int,
        prompt: str = "",
        temperature: float = 1.0,
        rng: int | np.random.Generator | None = None,
    ) -> str:
        """Generate `length` characters; arguments and errors as in `sample`."""
        if length < 0:
            raise ValueError(f"length is {length}, expected at least 0")
        characters = self.sample(prompt, temperature, rng)
        return "".join(next(characters) for _ in range(length))


def _check_chain(features: int, layers: Sequence[Recurrent]) -> int:
    """Check that every layer reads what the one before writes; return the last one's width."""
    if not layers:
        raise ValueError("model: got no recurrent layer, expected at least one")
    for i, layer in enumerate(layers):
        if layer.input_size != features:
            raise ValueError(
                f"model: layer {i} has input_size={layer.input_size}, expected {features}"
            )
        if layer.batch_first or layer.bidirectional:
            raise ValueError(
                f"model: layer {i} is batch-first or bidirectional, "
                "expected time-major in one direction"
            )
        features = layer.proj_size or layer.hidden_size
    return features


def choose(logits: Array, temperature: float, rng: np.random.Generator) -> int:
    """Draw a class from softmax(logits (V,) / temperature); temperature 0 takes the likeliest."""
    if temperature == 0.0:
        return int(logits.argmax())
    exact = logits.astype(np.float64)
    with np.errstate(over="ignore"):
        cumulative = np.exp((exact - exact.max()) / temperature).cumsum()
    drawn = int(cumulative.searchsorted(rng.random() * cumulative[-1], side="right"))
    return min(drawn, logits.size - 1)


def state_arrays(states: States) -> dict[str, Array]:
    """Name the arrays of carried states: `0.h`, and `0.c` for an LSTM, one for each part."""
    arrays: dict[str, Array] = {}
    for i, state in enumerate(states):
        pair = state if isinstance(state, tuple) else (state,)
        arrays.update((f"{i}.{name}", array) for name, array in zip("hc", pair, strict=False))
    return arrays


def states_from(arrays: Mapping[str, Array]) -> States:
    """Undo `state_arrays`."""
    parts = sorted({int(name.split(".")[0]) for name in arrays})
    return tuple(
        (arrays[f"{i}.h"], arrays[f"{i}.c"]) if f"{i}.c" in arrays else arrays[f"{i}.h"]
        for i in parts
    )
