"""The layers: RNN, LSTM and GRU over the compiled kernels."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _core

__all__ = ["GRU", "LSTM", "RNN", "Gradients", "Layer", "Stream"]

Array = npt.NDArray[Any]
State = Any  # h, or the pair (h, c) of an LSTM

_NONLINEARITIES = ("tanh", "relu", "sigmoid", "identity")
_MOST = 2**31 - 1
_MOST_LAYERS = 2**16  # each has parameters with names


@dataclass(frozen=True)
class Gradients:
    """What :meth:`Layer.backward` returns.

    Attributes
    ----------
    x : ndarray or None
        Gradient of the input, in its shape; None for tokens or with ``input_gradient=False``.
    state : ndarray or pair of ndarray
        Gradient of the initial state, shaped like the state.
    parameters : mapping of str to ndarray
        Gradient of each parameter, views of `flat`.
    flat : ndarray
        All parameter gradients in one 1-D buffer, in the order of ``Layer.flat``.
    """

    x: Array | None
    state: State
    parameters: Mapping[str, Array]
    flat: Array


class Layer:
    """What RNN, LSTM and GRU have in common; not made directly."""

    _cell = ""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        dtype: npt.DTypeLike,
        compute: str,
        rng: int | np.random.Generator | None,
        *,
        proj_size: int = 0,
        reset_after: bool = True,
        nonlinearity: str = "tanh",
    ) -> None:
        self.input_size = self._integer("input_size", input_size, 1)
        self.hidden_size = self._integer("hidden_size", hidden_size, 1)
        self.num_layers = self._integer("num_layers", num_layers, 1, _MOST_LAYERS)
        self.bias = self._flag("bias", bias)
        self.batch_first = self._flag("batch_first", batch_first)
        self.dropout = self._probability(dropout)
        self.bidirectional = self._flag("bidirectional", bidirectional)
        self.proj_size = self._projection(proj_size)
        self.dtype = self._float_type(dtype)
        self.compute = self._choice("compute", compute, ("float32",))
        self.rng = self._generator(rng)
        self._options: dict[str, Any] = {
            "reset_after": self._flag("reset_after", reset_after),
            "nonlinearity": self._choice("nonlinearity", nonlinearity, _NONLINEARITIES),
        }
        self._make_core()
        size = sum(int(np.prod(shape)) for _, shape, _ in self._layout)
        bound = 1 / np.sqrt(self.hidden_size)
        flat = np.empty(size, self.dtype)
        flat[:] = self.rng.uniform(-bound, bound, size)
        self._attach(flat)

    # Checks of the constructor's arguments.

    def _fail(self, text: str) -> ValueError:
        return ValueError(f"{self._cell}: {text}")

    def _wrong_type(self, name: str, value: object, expected: str) -> TypeError:
        kind = type(value).__name__
        return TypeError(f"{self._cell}: {name} is a {kind}, expected {expected}")

    def _integer(self, name: str, value: int, least: int, most: int = _MOST) -> int:
        try:
            number = None if isinstance(value, bool | np.bool_) else operator.index(value)
        except TypeError:
            number = None
        if number is None:
            raise self._wrong_type(name, value, "an integer")
        if not least <= number <= most:
            raise self._fail(f"{name} is {number}, expected {least} to {most}")
        return number

    def _flag(self, name: str, value: bool) -> bool:
        if not isinstance(value, bool | np.bool_):
            raise self._wrong_type(name, value, "a bool")
        return bool(value)

    def _probability(self, value: float) -> float:
        if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
            raise self._wrong_type("dropout", value, "a number")
        if not 0 <= value <= 1:
            raise self._fail(f"dropout is {value}, expected 0 to 1")
        return float(value)

    def _projection(self, value: int) -> int:
        number = self._integer("proj_size", value, 0)
        if number >= self.hidden_size:
            raise self._fail(
                f"proj_size is {number}, expected less than hidden_size={self.hidden_size}"
            )
        return number

    def _float_type(self, dtype: npt.DTypeLike) -> np.dtype[Any]:
        try:
            kind = None if dtype is None else np.dtype(dtype)
        except (SyntaxError, TypeError, ValueError):
            kind = None
        if kind is None or kind not in (np.dtype(np.float32), np.dtype(np.float64)):
            raise self._fail(f"dtype is {kind or repr(dtype)}, expected float32 or float64")
        return kind

    def _choice(self, name: str, value: str, allowed: tuple[str, ...]) -> str:
        if not isinstance(value, str):
            raise self._wrong_type(name, value, "a string")
        if value not in allowed:
            raise self._fail(f"{name} is {value!r}, expected {' or '.join(map(repr, allowed))}")
        return value

    def _generator(self, rng: int | np.random.Generator | None) -> np.random.Generator:
        expected = "None, an integer of at least 0 or a NumPy Generator"
        try:
            return np.random.default_rng(rng)
        except TypeError:
            raise self._wrong_type("rng", rng, expected) from None
        except ValueError:
            raise self._fail(f"rng is {rng!r}, expected {expected}") from None

    # Parameters.

    def _make_core(self) -> None:
        try:
            self._core = _core.Layer(
                cell=self._cell,
                dtype=self.dtype.name,
                input_size=self.input_size,
                hidden_size=self.hidden_size,
                num_layers=self.num_layers,
                bias=self.bias,
                batch_first=self.batch_first,
                dropout=self.dropout,
                bidirectional=self.bidirectional,
                proj_size=self.proj_size,
                **self._options,
            )
        except ValueError as error:
            raise self._fail(
                f"input_size={self.input_size}, hidden_size={self.hidden_size}, "
                f"num_layers={self.num_layers}: {error}"
            ) from None
        self._layout = self._core.parameters()

    def _attach(self, flat: Array) -> None:
        self._flat = flat
        self._parameters = MappingProxyType(self._views(flat))

    def _views(self, flat: Array) -> dict[str, Array]:
        return {
            name: flat[offset : offset + int(np.prod(shape))].reshape(shape)
            for name, shape, offset in self._layout
        }

    @property
    def flat(self) -> Array:
        """All parameters in one 1-D buffer, layer by layer and direction by direction."""
        return self._flat

    @property
    def parameters(self) -> Mapping[str, Array]:
        """Parameters by PyTorch's names; writable views of :attr:`flat`."""
        return self._parameters

    def bind(self, buffer: Array) -> None:
        """Move the parameters into `buffer`, a slice of a larger model's buffer.

        Parameters
        ----------
        buffer : ndarray, shape (flat.size,)
            Contiguous, writable and of the layer's dtype. Receives the present values;
            :attr:`flat` and :attr:`parameters` are views of it from now on.
        """
        self._check_buffer("buffer", buffer)
        buffer[:] = self._flat
        self._attach(np.asarray(buffer))  # whatever the subclass

    def _check_buffer(self, name: str, buffer: Array) -> None:
        if not isinstance(buffer, np.ndarray):
            raise self._wrong_type(name, buffer, "a NumPy array")
        fits = buffer.shape == self._flat.shape and buffer.dtype == self.dtype
        if not (fits and buffer.flags.carray):
            raise self._fail(
                f"{name} has shape {buffer.shape} and dtype {buffer.dtype}, expected a writable, "
                f"aligned, contiguous {self._flat.shape} of {self.dtype}"
            )

    def state_dict(self) -> dict[str, Array]:
        """Copies of the parameters by PyTorch's names."""
        return {name: value.copy() for name, value in self._parameters.items()}

    def load_state_dict(self, mapping: Mapping[str, Any]) -> None:
        """Set all parameters; arrays or whatever :func:`numpy.asarray` takes.

        Raises
        ------
        ValueError
            If names are missing or unknown, a shape differs, or a value does not fit the layer's
            dtype. Nothing is changed then.
        """
        if not isinstance(mapping, Mapping):
            raise self._wrong_type("state_dict", mapping, "a mapping of names to arrays")
        missing = [name for name in self._parameters if name not in mapping]
        surplus = [name for name in mapping if name not in self._parameters]
        if missing or surplus:
            raise self._fail(
                f"state_dict lacks {missing or 'nothing'} and has unknown {surplus or 'nothing'}, "
                f"expected exactly {list(self._parameters)}"
            )
        values = {name: self._checked_parameter(name, mapping[name]) for name in self._parameters}
        for name, value in values.items():
            self._parameters[name][...] = value

    def _checked_parameter(self, name: str, given: Any) -> Array:
        try:
            value = np.asarray(given)
        except ValueError as error:
            raise self._fail(f"{name} is no array: {error}") from None
        expected = self._parameters[name].shape
        if value.shape != expected:
            raise self._fail(f"{name} has shape {value.shape}, expected {expected}")
        if value.dtype.kind not in "fiu":
            raise self._fail(f"{name} has dtype {value.dtype}, expected floating point")
        try:
            with np.errstate(over="raise", under="ignore"):
                return value.astype(self.dtype)  # a copy: it may be a view of our own
        except FloatingPointError:
            raise self._fail(f"{name} has values too large, expected {self.dtype}") from None

    # Calls.

    def __call__(
        self,
        x: Array,
        state: State = None,
        lengths: npt.ArrayLike | None = None,
        reset: Array | None = None,
        *,
        num_threads: int | None = None,
    ) -> tuple[Array, State]:
        """Run the layer for inference; nothing is kept for BPTT.

        Parameters
        ----------
        x : ndarray
            Features (T, B, I), or integer tokens (T, B) that stand for one-hot rows of size I;
            with `batch_first` (B, T, I) and (B, T). Without the batch axis: one sequence.
        state : ndarray or pair of ndarray, optional
            Initial h, shape (L·D, B, H) or (L·D, B, P); for LSTM the pair (h, c), c of shape
            (L·D, B, H). Zeros by default.
        lengths : array_like of int, shape (B,), optional
            Steps of each sequence, 0 to T, in any order. Outputs past a length are zero.
        reset : ndarray of bool, shape (T, B), optional
            Where true, a new, independent segment of the sequence begins with zero state.
        num_threads : int, optional
            Threads for this call; results do not depend on it.

        Returns
        -------
        y : ndarray
            Outputs (T, B, D·H), or D·P with a projection; axes as in `x`.
        state : ndarray or pair of ndarray
            State after each sequence's last step (reverse direction: after its first).

        Raises
        ------
        TypeError
            If an argument is no array.
        ValueError
            If a shape, dtype, length or token does not fit; the message names it.
        """
        y, final, _ = self._core.forward(
            self._flat, x, state, lengths, reset, False, 0, num_threads, None
        )
        return y, final

    def forward(
        self,
        x: Array,
        state: State = None,
        lengths: npt.ArrayLike | None = None,
        reset: Array | None = None,
        *,
        num_threads: int | None = None,
    ) -> tuple[Array, State, _core.Tape]:
        """Run the layer for training; arguments as for calling the layer.

        Returns
        -------
        y : ndarray
            Outputs, read-only: the tape reads them.
        state : ndarray or pair of ndarray
            Final state.
        tape : Tape
            What :meth:`backward` needs, for one use. It also reads `x` again, which must not
            change until then.
        """
        seed = 0
        if self.dropout > 0 and self.num_layers > 1:
            seed = int(self.rng.integers(2**63))
        y, final, tape = self._core.forward(
            self._flat, x, state, lengths, reset, True, seed, num_threads, None
        )
        assert tape is not None
        return y, final, tape

    def backward(
        self,
        tape: _core.Tape,
        dy: Array | None = None,
        dstate: State = None,
        *,
        out: Array | None = None,
        input_gradient: bool = True,
        num_threads: int | None = None,
    ) -> Gradients:
        """Back-propagate through time.

        Parameters
        ----------
        tape : Tape
            From :meth:`forward` of this layer; used up.
        dy : ndarray, optional
            Gradient of the outputs, shaped like y. Zeros by default.
        dstate : ndarray or pair of ndarray, optional
            Gradient of the returned state, shaped like it. Zeros by default.
        out : ndarray, shape (flat.size,), optional
            Buffer that receives the parameter gradients; apart from the parameters.
        input_gradient : bool
            Whether to compute the gradient of x.
        num_threads : int, optional
            Threads for this call; results do not depend on it.

        Raises
        ------
        ValueError
            If the tape was used before or belongs to another layer, or a shape does not fit.
        """
        if not isinstance(tape, _core.Tape):
            raise self._wrong_type("tape", tape, "what forward returned")
        input_gradient = self._flag("input_gradient", input_gradient)
        if out is not None:
            self._check_buffer("out", out)
            if np.may_share_memory(out, self._flat):
                raise self._fail("out shares memory with the parameters, expected another buffer")
        dx, dinitial, flat = self._core.backward(
            self._flat, tape, dy, dstate, out, input_gradient, num_threads
        )
        return Gradients(dx, dinitial, MappingProxyType(self._views(flat)), flat)

    def step(
        self, x: Array | int, state: State = None, *, num_threads: int | None = None
    ) -> tuple[Array, State]:
        """Advance by one time step.

        Parameters
        ----------
        x : ndarray
            Features (B, I) or (I,), or integer tokens (B,) or a single one.
        state : ndarray or pair of ndarray, optional
            State before the step, without the batch axis if x has none.

        Returns
        -------
        y : ndarray
            Output (B, H) or (H,); P in place of H with a projection.
        state : ndarray or pair of ndarray
            State after the step.

        Notes
        -----
        Sums are formed in another order than in the whole-sequence call: results agree with it
        to rounding. Use :meth:`stream` to continue a sequence bit for bit.
        """
        return self._core.step(self._flat, x, state, num_threads)

    def stream(
        self, batch: int = 1, state: State = None, *, num_threads: int | None = None
    ) -> Stream:
        """Open a stream that carries the state from block to block.

        Parameters
        ----------
        batch : int
            Sequences that run side by side.
        state : ndarray or pair of ndarray, optional
            Initial state. Zeros by default.
        """
        if self.bidirectional:
            raise self._fail("stream needs a layer that is not bidirectional")
        return Stream(self, self._integer("batch", batch, 1), state, num_threads)

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self._describe())
        return f"{type(self).__name__}({self.input_size}, {self.hidden_size}, {options})"

    def _describe(self) -> Iterator[tuple[str, Any]]:
        names = ("num_layers", "bias", "batch_first", "dropout", "bidirectional")
        yield from ((name, getattr(self, name)) for name in names)
        yield "dtype", self.dtype.name

    # Copies and pickles: the compiled half is made anew, the buffer becomes the copy's own.

    def __getstate__(self) -> dict[str, Any]:
        left_out = ("_core", "_layout", "_parameters")
        state = {key: value for key, value in self.__dict__.items() if key not in left_out}
        state["_flat"] = self._flat.copy()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._make_core()
        self._attach(self._flat)


class RNN(Layer):
    """Basic (Elman) recurrent layers.

    h_t = φ(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)

    Parameters
    ----------
    input_size, hidden_size : int
        I and H.
    num_layers : int
        Layers on top of each other.
    nonlinearity : {"tanh", "relu", "sigmoid", "identity"}
        φ.
    bias : bool
        Whether there are b_ih and b_hh.
    batch_first : bool
        Whether arrays are (B, T, …) rather than (T, B, …). States are not affected.
    dropout : float
        Probability of dropping an output between layers, in training.
    bidirectional : bool
        Whether a second set of weights runs from each sequence's end.
    dtype : {"float32", "float64"}
        Type of parameters, states and results.
    compute : {"float32"}
        Precision of the products of a float32 layer.
    rng : int, Generator or None
        Source of the initial weights, U(±1/√H), and of dropout.
    """

    _cell = "rnn"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: npt.DTypeLike = "float32",
        compute: str = "float32",
        rng: int | np.random.Generator | None = None,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            dtype,
            compute,
            rng,
            nonlinearity=nonlinearity,
        )
        self.nonlinearity = nonlinearity

    def _describe(self) -> Iterator[tuple[str, Any]]:
        yield "nonlinearity", self.nonlinearity
        yield from super()._describe()


class LSTM(Layer):
    """Long short-term memory layers; states are pairs (h, c).

    i, f, o = σ(·), g = tanh(·), each of W_ih x_t + b_ih + W_hh h_{t-1} + b_hh;
    c_t = f ∘ c_{t-1} + i ∘ g, h_t = o ∘ tanh(c_t), or W_hr (o ∘ tanh(c_t)) with a projection.
    Gates lie in the order i, f, g, o.

    Parameters
    ----------
    input_size, hidden_size : int
        I and H.
    num_layers : int
        Layers on top of each other.
    bias : bool
        Whether there are b_ih and b_hh.
    batch_first : bool
        Whether arrays are (B, T, …) rather than (T, B, …). States are not affected.
    dropout : float
        Probability of dropping an output between layers, in training.
    bidirectional : bool
        Whether a second set of weights runs from each sequence's end.
    proj_size : int
        Size P of the projected h; 0 for none.
    dtype : {"float32", "float64"}
        Type of parameters, states and results.
    compute : {"float32"}
        Precision of the products of a float32 layer.
    rng : int, Generator or None
        Source of the initial weights, U(±1/√H), and of dropout.
    """

    _cell = "lstm"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        dtype: npt.DTypeLike = "float32",
        compute: str = "float32",
        rng: int | np.random.Generator | None = None,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            dtype,
            compute,
            rng,
            proj_size=proj_size,
        )

    def _describe(self) -> Iterator[tuple[str, Any]]:
        yield from super()._describe()
        yield "proj_size", self.proj_size


class GRU(Layer):
    """Gated recurrent units.

    r, z = σ(·); n = tanh(W_in x_t + b_in + r ∘ (W_hn h_{t-1} + b_hn)) with `reset_after`, else
    tanh(W_in x_t + b_in + W_hn (r ∘ h_{t-1}) + b_hn); h_t = (1 - z) ∘ n + z ∘ h_{t-1}.
    Gates lie in the order r, z, n.

    Parameters
    ----------
    input_size, hidden_size : int
        I and H.
    num_layers : int
        Layers on top of each other.
    bias : bool
        Whether there are b_ih and b_hh.
    batch_first : bool
        Whether arrays are (B, T, …) rather than (T, B, …). States are not affected.
    dropout : float
        Probability of dropping an output between layers, in training.
    bidirectional : bool
        Whether a second set of weights runs from each sequence's end.
    reset_after : bool
        Whether r gates the product W_hn h + b_hn (PyTorch, cuDNN) or h itself (Cho et al. 2014).
    dtype : {"float32", "float64"}
        Type of parameters, states and results.
    compute : {"float32"}
        Precision of the products of a float32 layer.
    rng : int, Generator or None
        Source of the initial weights, U(±1/√H), and of dropout.
    """

    _cell = "gru"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        reset_after: bool = True,
        dtype: npt.DTypeLike = "float32",
        compute: str = "float32",
        rng: int | np.random.Generator | None = None,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            dtype,
            compute,
            rng,
            reset_after=reset_after,
        )
        self.reset_after: bool = self._options["reset_after"]

    def _describe(self) -> Iterator[tuple[str, Any]]:
        yield from super()._describe()
        yield "reset_after", self.reset_after


class Stream:
    """A running sequence fed block by block; made by :meth:`Layer.stream`.

    The weights are packed once, when the stream opens: changes of the parameters take effect
    with the next stream. Outputs equal those of one call on the whole sequence bit for bit.
    """

    def __init__(self, layer: Layer, batch: int, state: State, num_threads: int | None) -> None:
        self._layer = layer
        self._batch = batch
        self._state = state
        self._num_threads = num_threads
        self._weights = layer._flat.copy()
        self._packed: _core.Packed | None = layer._core.pack(self._weights, num_threads)

    @property
    def state(self) -> State:
        """State after the last block; None before the first one where none was given."""
        return self._state

    def push(self, block: Array) -> Array:
        """Continue with a block.

        Parameters
        ----------
        block : ndarray
            Features (T, B, I) or tokens (T, B), any T ≥ 1; axes as the layer's `batch_first` says.

        Returns
        -------
        y : ndarray
            Outputs of the block.

        Raises
        ------
        ValueError
            If the block does not fit the layer and batch, or the stream is closed.
        """
        layer = self._layer
        if self._packed is None:
            raise layer._fail("the stream is closed, expected an open one")
        if not isinstance(block, np.ndarray) and hasattr(type(block), "__array__"):
            block = np.asarray(block)
        if not isinstance(block, np.ndarray):
            raise layer._wrong_type("block", block, "a NumPy array")
        self._check_batch(block)
        y, self._state, _ = layer._core.forward(
            self._weights, block, self._state, None, None, False, 0, self._num_threads, self._packed
        )
        return y

    def _check_batch(self, block: Array) -> None:
        axis = 0 if self._layer.batch_first else 1
        axes = 2 if block.dtype.kind in "iu" else 3
        if block.ndim != axes or block.shape[axis] != self._batch:
            raise self._layer._fail(
                f"block has shape {block.shape}, expected {axes} axes, with batch {self._batch} "
                f"on axis {axis}"
            )

    def close(self) -> None:
        """Release the packed weights."""
        self._packed = None

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
