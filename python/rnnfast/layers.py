"""The layers: RNN, LSTM and GRU over the compiled kernels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _core, checks
from .flat import Array
from .parameters import Parametrized
from .quantized import QuantizedLayer
from .stream import State, Stream

__all__ = ["GRU", "LSTM", "RNN", "Gradients", "Layer"]


@dataclass(frozen=True, eq=False)
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


class Layer(Parametrized):
    """What RNN, LSTM and GRU have in common; not made directly."""

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
            with `batch_first` (B, T, I) and (B, T). Without the axis B, which then no other array
            has either: one sequence.
        state : ndarray or pair of ndarray, optional
            Initial h, shape (L·D, B, H) or (L·D, B, P); for LSTM the pair (h, c), c of shape
            (L·D, B, H). Zeros by default, also where one of the pair is None.
        lengths : array_like of int, shape (B,), optional
            Steps of each sequence, 0 to T, in any order. Outputs past a length are zero.
        reset : ndarray of bool, shape (T, B), optional
            Where true, a new, independent segment of the sequence begins with zero state; axes as
            in `x`.
        num_threads : int, optional
            Threads for this call, 1 to 1024; results do not depend on it. Refused with
            ``device="cuda"``.

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
        MemoryError
            If the results have no room.

        Notes
        -----
        Arrays of another floating-point type, byte order or layout are converted once.

        Where two calls of at most 2,048 time steps, in all sequences together, find the same
        parameters, the second one keeps the packed weights for the next, and a copy of the
        parameters that tells it whether these have changed: about twice the memory of the
        parameters. :meth:`forward` lets go of them.
        """
        y, final, _ = self._core.forward(
            self._flat, x, state, lengths, reset, False, 0, num_threads, self._cache
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
        """Run the layer for training; arguments and errors as for calling the layer.

        Returns
        -------
        y : ndarray
            Outputs, read-only: the tape reads them.
        state : ndarray or pair of ndarray
            Final state.
        tape : Tape
            What :meth:`backward` needs, for one use. It reads `x` and the parameters again, which
            must not change until then. ``tape.nbytes`` is the memory it holds beside `x` and `y`.
        """
        seed = 0
        if self.dropout > 0 and self.num_layers > 1:
            seed = int(self.rng.integers(2**63))
        y, final, tape = self._core.forward(
            self._flat, x, state, lengths, reset, True, seed, num_threads, self._cache
        )
        assert tape is not None
        if isinstance(y, np.ndarray):
            y.flags.writeable = False
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
            Buffer that receives the parameter gradients; apart from the parameters, `dy`,
            `dstate` and the x of the forward call.
        input_gradient : bool
            Whether to compute the gradient of x.
        num_threads : int, optional
            Threads for this call, 1 to 1024; results do not depend on it. Refused with
            ``device="cuda"``.

        Returns
        -------
        Gradients
            Of the input, the initial state and the parameters.

        Raises
        ------
        TypeError
            If `tape` is no tape, or another argument no array.
        ValueError
            If the tape was used before or belongs to another layer; or if `out` overlaps what is
            read, or a shape or dtype does not fit, after which the tape can still be used.
        """
        if not isinstance(tape, self._tape_type):
            raise self._wrong_type("tape", tape, "what forward returned")
        input_gradient = checks.flag(self._argument("input_gradient"), input_gradient)
        if out is not None:
            self._check_buffer("out", out)
            if np.may_share_memory(out, self._flat):
                raise self._wrong_value(
                    "out shares memory with the parameters, expected another buffer"
                )
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
        x : ndarray or int
            Features (B, I) or (I,), or integer tokens (B,) or a single one.
        state : ndarray or pair of ndarray, optional
            State before the step, (L, B, ·), without the axis B if x has none. Zeros by default.
        num_threads : int, optional
            Threads for this call, 1 to 1024; results do not depend on it. Refused with
            ``device="cuda"``.

        Returns
        -------
        y : ndarray
            Output (B, H) or (H,); P in place of H with a projection.
        state : ndarray or pair of ndarray
            State after the step.

        Raises
        ------
        TypeError
            If an argument is no array.
        ValueError
            If the layer is bidirectional, or a shape, dtype or token does not fit.

        Notes
        -----
        Sums are formed in another order than in the whole-sequence call: results agree with it
        to rounding. With ``compute="bfloat16"`` a step is computed in float32, since it reads the
        parameters as they are; then they agree to bfloat16's rounding. Use :meth:`stream` to
        continue a sequence bit for bit. With ``device="cuda"`` a step rounds its operands like the
        whole call, and streams too agree with it to rounding only.
        """
        return self._core.step(self._flat, x, state, num_threads, None)

    def stream(
        self, batch: int = 1, state: State = None, *, num_threads: int | None = None
    ) -> Stream:
        """Open a stream that carries the state from block to block.

        Parameters
        ----------
        batch : int
            Sequences that run side by side, at least 1.
        state : ndarray or pair of ndarray, optional
            Initial state, (L, B, ·), which is copied unless it is on a GPU. Zeros by default.
        num_threads : int, optional
            Threads for the blocks, 1 to 1024; results do not depend on it. Refused with
            ``device="cuda"``.

        Returns
        -------
        Stream
            To be used in a ``with`` statement, or closed.

        Raises
        ------
        TypeError, ValueError
            If `batch` or `num_threads` is no such integer, the state does not fit, or the layer is
            bidirectional.
        """
        return Stream(self, batch, state, num_threads)

    def quantize(self, calibration: Array | Sequence[Array] | None = None) -> QuantizedLayer:
        """Make an int8 copy for inference: a quarter of the bytes.

        Faster where the processor multiplies bytes; elsewhere float32 products of the same integers
        serve.

        Parameters
        ----------
        calibration : ndarray or sequence of ndarray, optional
            Typical data, each array an `x` as for a call, without padding. The largest magnitudes
            of all that multiplies weights, x and h of every layer and direction, are measured on
            them, from a zero state, and fix the scales of the integers. By default each row of x
            and of h has a scale of its own, found anew in each step.

        Returns
        -------
        QuantizedLayer
            With the weights as they are now. Its `error` tells what that costs on data of yours.

        Raises
        ------
        TypeError
            If the calibration data are no arrays.
        ValueError
            If the layer is not float32, a weight is not finite, a product has more than 65536
            terms, or the calibration data do not fit the layer, are none or are not finite.

        Notes
        -----
        With fixed scales, what exceeds the largest magnitude of the calibration data counts as that
        magnitude; what is not finite makes the outputs of its own sequence NaN all the same. An h
        that cannot exceed 1 is measured like all else: where it stays smaller, its integers are
        finer. Scales of its own for each row are finer where rows differ in size; fixed ones save a
        pass over the operands.
        """
        return QuantizedLayer(self, calibration)


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
    compute : {"float32", "bfloat16"}
        Precision of the products of a float32 layer. With ``"bfloat16"`` their operands, gradients
        of gates among them, are rounded to it, and the gates that the tape keeps to at least as
        many bits; sums, parameters, states and results stay float32.
    recompute : None, "auto" or int
        Memory for time: the tape of `forward` keeps states every so many steps, with ``"auto"`` √T
        of them, rather than the gates of all steps, which :meth:`backward` computes again between
        two of them at a time. Rounded up to some 500 rows, steps times batch. Results are the same,
        bit for bit.
    device : {"cpu", "cuda"}
        What computes. ``"cuda"`` needs a build with the GPU backend: float32 alone, where `compute`
        may also be ``"tf32"``, without `recompute` and `num_threads`. Arrays that are on the GPU
        are used where they are, NumPy's are copied there and back.
    rng : int, Generator or None
        Source of the initial weights, U(±1/√H), and of dropout.

    Raises
    ------
    TypeError, ValueError
        Naming the argument that is of the wrong type or out of range.
    """

    _name = "rnn"

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
        recompute: int | str | None = None,
        device: str = "cpu",
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
            rng=rng,
            nonlinearity=nonlinearity,
            recompute=recompute,
            device=device,
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
    compute : {"float32", "bfloat16"}
        Precision of the products of a float32 layer. With ``"bfloat16"`` their operands, gradients
        of gates among them, are rounded to it, and the gates that the tape keeps to at least as
        many bits; sums, parameters, states and results stay float32.
    recompute : None, "auto" or int
        Memory for time: the tape of `forward` keeps states every so many steps, with ``"auto"`` √T
        of them, rather than the gates of all steps, which :meth:`backward` computes again between
        two of them at a time. Rounded up to some 500 rows, steps times batch. Results are the same,
        bit for bit.
    device : {"cpu", "cuda"}
        What computes. ``"cuda"`` needs a build with the GPU backend: float32 alone, where `compute`
        may also be ``"tf32"``, without `recompute` and `num_threads`. Arrays that are on the GPU
        are used where they are, NumPy's are copied there and back.
    rng : int, Generator or None
        Source of the initial weights, U(±1/√H), and of dropout.

    Raises
    ------
    TypeError, ValueError
        Naming the argument that is of the wrong type or out of range.
    """

    _name = "lstm"

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
        recompute: int | str | None = None,
        device: str = "cpu",
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
            rng=rng,
            proj_size=proj_size,
            recompute=recompute,
            device=device,
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
    compute : {"float32", "bfloat16"}
        Precision of the products of a float32 layer. With ``"bfloat16"`` their operands, gradients
        of gates among them, are rounded to it, and the gates that the tape keeps to at least as
        many bits; sums, parameters, states and results stay float32.
    recompute : None, "auto" or int
        Memory for time: the tape of `forward` keeps states every so many steps, with ``"auto"`` √T
        of them, rather than the gates of all steps, which :meth:`backward` computes again between
        two of them at a time. Rounded up to some 500 rows, steps times batch. Results are the same,
        bit for bit.
    device : {"cpu", "cuda"}
        What computes. ``"cuda"`` needs a build with the GPU backend: float32 alone, where `compute`
        may also be ``"tf32"``, without `recompute` and `num_threads`. Arrays that are on the GPU
        are used where they are, NumPy's are copied there and back.
    rng : int, Generator or None
        Source of the initial weights, U(±1/√H), and of dropout.

    Raises
    ------
    TypeError, ValueError
        Naming the argument that is of the wrong type or out of range.
    """

    _name = "gru"

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
        recompute: int | str | None = None,
        device: str = "cpu",
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
            rng=rng,
            reset_after=reset_after,
            recompute=recompute,
            device=device,
        )
        self.reset_after: bool = self._options["reset_after"]

    def _describe(self) -> Iterator[tuple[str, Any]]:
        yield from super()._describe()
        yield "reset_after", self.reset_after
