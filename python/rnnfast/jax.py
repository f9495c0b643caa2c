"""Layers as functions of JAX arrays, under ``jit``, ``grad`` and ``vmap``; imports JAX.

The layer runs on the CPU, or its own device, through ``jax.pure_callback``, its gradient too, as a
``custom_vjp``.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from . import _core
from .flat import Array, Named
from .layers import Layer

try:
    import jax
    import jax.numpy as jnp
except ImportError as error:
    raise ImportError(f"rnnfast.jax needs JAX ({error}): pip install jax") from error

__all__ = ["Function"]

Tree: TypeAlias = Any  # of JAX arrays

_TICKET = 16  # bytes: chance does not draw the same twice


class Function(Named):
    """A layer as a pure function: parameters are an argument.

    Parameters
    ----------
    layer : RNN, LSTM or GRU
        Its options count; its parameters are where :meth:`parameters` begins, and are not read in
        a call.
    keep : int
        Bytes of tapes that may wait for their backward pass at a time. Where they would take more,
        the oldest are given up, and made again by running the layer forward once more; 0 does so
        for every gradient.

    Raises
    ------
    TypeError
        If an argument is of another type.
    ValueError
        If `keep` is negative, or the layer has dropout between layers, which is no pure function.

    Notes
    -----
    ``vmap`` calls the layer once for each element; an axis that is a batch belongs into the axis B
    of `x`. Derivatives are reverse mode and first order.
    """

    def __init__(self, layer: Layer, *, keep: int = 2**30) -> None:
        self._name = "rnnfast.jax"
        if not isinstance(layer, Layer):
            raise self._wrong_type("layer", layer, "a layer: RNN, LSTM or GRU")
        self._name = layer._name
        if layer.dropout > 0 and layer.num_layers > 1:
            raise self._wrong_value(
                f"dropout is {layer.dropout}, expected 0: it would be no pure function"
            )
        self.layer = layer
        self._apply = jax.custom_vjp(self._primal)
        self._apply.defvjp(self._forward, self._backward, symbolic_zeros=True)
        self._tapes = _Tapes(self._limit(keep))

    def parameters(self) -> dict[str, Any]:
        """Copy the layer's parameters into JAX arrays.

        Returns
        -------
        dict of str to jax.Array
            By PyTorch's names.

        Raises
        ------
        ValueError
            If the layer is float64 and JAX is not.
        """
        self._check_precision()
        return {name: jnp.array(value) for name, value in self.layer.parameters.items()}

    def init(self, key: Any) -> dict[str, Any]:
        """Draw parameters from U(±1/√H).

        Parameters
        ----------
        key : jax.Array
            From ``jax.random.key``.

        Returns
        -------
        dict of str to jax.Array
            By PyTorch's names.

        Raises
        ------
        ValueError
            If the layer is float64 and JAX is not.
        """
        self._check_precision()
        bound = self.layer.hidden_size**-0.5
        shapes = {name: value.shape for name, value in self.layer.parameters.items()}
        keys = jax.random.split(key, len(shapes))
        return {
            name: jax.random.uniform(part, shape, self.layer.dtype, -bound, bound)
            for part, (name, shape) in zip(keys, shapes.items(), strict=True)
        }

    def __call__(
        self,
        parameters: Mapping[str, Any],
        x: Any,
        state: Tree = None,
        lengths: Any = None,
        reset: Any = None,
    ) -> tuple[Any, Tree]:
        """Run the layer; arguments but the first are those of calling the layer itself.

        Parameters
        ----------
        parameters : mapping of str to array_like
            By PyTorch's names, as from :meth:`parameters` or :meth:`init`.
        x : array_like
            Features (T, B, I), or integer tokens (T, B); with `batch_first` (B, T, I) and (B, T).
            Without the axis B: one sequence.
        state : array_like or pair of array_like, optional
            Initial h, or for LSTM (h, c). Zeros by default, also where one of the pair is None.
        lengths : array_like of int, shape (B,), optional
            Steps of each sequence.
        reset : array_like of bool, shape (T, B), optional
            Where a new segment begins with zero state.

        Returns
        -------
        y : jax.Array
            Outputs.
        state : jax.Array or pair of jax.Array
            Final state.

        Raises
        ------
        TypeError, ValueError
            While tracing, if names, shapes or dtypes do not fit. Values that do not, a token or a
            length out of range, are known only when it runs: JAX then raises an error of its own
            that quotes ours.
        """
        self._check_precision()
        flat = self._flatten(parameters)
        x = self._input(x)
        batch = self._batch(x)
        if state is not None:
            state = self.layer._checked_state(state, batch, self._floats)
        if lengths is not None:
            lengths = self._lengths(lengths, batch)
        if reset is not None:
            reset = self._reset(reset, x)
        return self._apply(flat, x, state, lengths, reset)  # type: ignore[no-any-return]

    # The function and its derivative; each argument may be a tree.

    def _primal(self, *arguments: Tree) -> Tree:
        return self._call(self._run, self._results(arguments[1]), *arguments)

    def _forward(self, *primals: Tree) -> tuple[Tree, Tree]:
        """Results and what `_backward` gets: the ticket of the tape, and what makes it again."""
        arguments = jax.tree.map(lambda primal: primal.value, primals)
        ticket = jax.ShapeDtypeStruct((_TICKET,), np.uint8)
        results = (self._results(arguments[1]), ticket)
        results, ticket = self._call(self._run_and_keep, results, *arguments)
        input_gradient = primals[1].perturbed and not _is_integer(arguments[1])
        # Residuals are arrays; what is known while tracing is said by their structure.
        return results, (ticket, arguments, () if input_gradient else None)

    def _backward(self, residuals: Tree, cotangents: Tree) -> Tree:
        ticket, arguments, input_gradient = residuals
        flat, x, state, _, _ = arguments
        dx = None if input_gradient is None else _like(x)
        results = (_like(flat), dx, jax.tree.map(_like, state))
        known = jax.tree.map(_unless_zero, cotangents, is_leaf=_is_symbolic_zero)
        run = self._run_backward
        dflat, dx, dstate = self._call(run, results, ticket, arguments, known, input_gradient)
        return dflat, dx, dstate, None, None

    def _call(self, run: Callable[..., Tree], results: Tree, *arguments: Tree) -> Tree:
        return jax.pure_callback(run, results, *arguments, vmap_method="sequential")

    # On the host. No call of JAX may come from here, which could wait for itself.

    def _run(self, *arguments: Tree) -> Tree:
        y, final, _ = self._record(_as_numpy(arguments), False)
        return y, final

    def _run_and_keep(self, *arguments: Tree) -> Tree:
        if not self._tapes.limit:
            return self._run(*arguments), np.zeros(_TICKET, np.uint8)
        flat, x, *rest = _as_numpy(arguments)
        x = x.copy()  # the tape reads it after JAX has taken its memory back
        y, final, tape = self._record((flat, x, *rest), True)
        return (y, final), self._tapes.put(tape, tape.nbytes + x.nbytes + y.nbytes)

    def _run_backward(
        self, ticket: Any, arguments: Tree, cotangents: Tree, input_gradient: Tree
    ) -> Tree:
        arguments, (dy, dfinal) = _as_numpy(arguments), _as_numpy(cotangents)
        tape = self._tapes.take(np.asarray(ticket))
        if tape is None:
            _, _, tape = self._record(arguments, True)
        flat, _, state, _, _ = arguments
        dx, dinitial, dflat = self.layer._core.backward(
            flat, tape, dy, dfinal, None, input_gradient is not None, None
        )
        return dflat, dx, _select(dinitial, state)

    def _record(self, arguments: Tree, record: bool) -> Any:
        flat, x, state, lengths, reset = arguments
        core = self.layer._core
        return core.forward(flat, x, state, lengths, reset, record, 0, None, None)

    # Arguments, checked while tracing.

    def _limit(self, keep: int) -> int:
        if isinstance(keep, bool) or not isinstance(keep, int | np.integer):
            raise self._wrong_type("keep", keep, "an integer")
        if keep < 0:
            raise self._wrong_value(f"keep is {keep}, expected at least 0")
        return int(keep)

    def _check_precision(self) -> None:
        if self.layer.dtype == np.float64 and not jax.config.jax_enable_x64:
            raise self._wrong_value("the layer is float64, expected jax_enable_x64 to be set")

    def _array(self, name: str, value: Any) -> Any:
        try:
            return jnp.asarray(value)
        except (TypeError, ValueError):
            raise self._wrong_type(name, value, "an array") from None

    def _floats(self, name: str, value: Any, shape: tuple[int, ...], meaning: str) -> Any:
        array = self._array(name, value)
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise self._wrong_value(f"{name} has dtype {array.dtype}, expected floating point")
        self._expect_shape(name, array, shape, meaning)
        return array.astype(self.layer.dtype)

    def _expect_shape(self, name: str, array: Any, shape: tuple[int, ...], meaning: str) -> None:
        if array.shape != shape:
            raise self._wrong_value(
                f"{name} has shape {array.shape}, expected {meaning}{' = ' if meaning else ''}"
                f"{shape}"
            )

    def _flatten(self, parameters: Mapping[str, Any]) -> Any:
        own = self.layer.parameters
        if not isinstance(parameters, Mapping):
            raise self._wrong_type("parameters", parameters, "a mapping of names to arrays")
        if set(parameters) != set(own):
            raise self._wrong_value(
                f"parameters have the names {list(parameters)}, expected exactly {list(own)}"
            )
        return jnp.concatenate(
            [
                self._floats(name, parameters[name], value.shape, "").ravel()
                for name, value in own.items()
            ]
        )

    def _input(self, x: Any) -> Any:
        x = self._array("x", x)
        layer = self.layer
        lead = "(B, T" if layer.batch_first else "(T, B"
        if _is_integer(x):
            if x.ndim not in {1, 2}:
                raise self._wrong_value(f"x has shape {x.shape}, expected tokens {lead}) or (T,)")
        elif not jnp.issubdtype(x.dtype, jnp.floating):
            raise self._wrong_value(
                f"x has dtype {x.dtype}, expected floating point, or integers for tokens"
            )
        elif x.ndim not in {2, 3}:
            raise self._wrong_value(f"x has shape {x.shape}, expected {lead}, I) or (T, I)")
        elif x.shape[-1] != layer.input_size:
            raise self._wrong_value(
                f"x has {x.shape[-1]} features in its last axis, "
                f"expected input_size={layer.input_size}"
            )
        else:
            x = x.astype(layer.dtype)
        lead_shape = self._lead(x)
        if lead_shape[-1 if layer.batch_first else 0] == 0:
            raise self._wrong_value(f"x has shape {x.shape}, expected at least one time step")
        return x

    def _lead(self, x: Any) -> tuple[int, ...]:
        """Axes of x but for the features."""
        return tuple(x.shape if _is_integer(x) else x.shape[:-1])

    def _batch(self, x: Any) -> tuple[int, ...]:
        """(B,), or () for one sequence."""
        lead = self._lead(x)
        return (lead[0 if self.layer.batch_first else 1],) if len(lead) == 2 else ()

    def _results(self, x: Any) -> Tree:
        """What the function returns, as shapes and types."""
        layer = self.layer
        states = [shape for shape, _ in layer._state_shapes(self._batch(x))]
        shapes = [(*self._lead(x), layer._directions * layer._width), *states]
        y, *state = [jax.ShapeDtypeStruct(shape, layer.dtype) for shape in shapes]
        return y, tuple(state) if len(state) > 1 else state[0]

    def _lengths(self, lengths: Any, batch: tuple[int, ...]) -> Any:
        lengths = self._array("lengths", lengths)
        if not _is_integer(lengths):
            raise self._wrong_value(f"lengths has dtype {lengths.dtype}, expected integers")
        if batch or lengths.ndim:
            self._expect_shape("lengths", lengths, batch or (1,), "(B,)")
        return lengths

    def _reset(self, reset: Any, x: Any) -> Any:
        reset = self._array("reset", reset)
        if reset.dtype != bool:
            raise self._wrong_value(f"reset has dtype {reset.dtype}, expected bool")
        meaning = "(B, T)" if self.layer.batch_first else "(T, B)"
        self._expect_shape("reset", reset, self._lead(x), meaning)
        return reset


class _Tapes:
    """Tapes between forward and backward, by tickets that JAX carries for us.

    JAX may repeat a callback, drop it or its results, and use a result twice. So no ticket is given
    out twice, in other processes neither, and whoever asks for a tape that was used, given up or
    is in another process makes it again.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._nbytes = 0
        self._kept: dict[bytes, tuple[_core.Tape, int]] = {}  # the oldest first
        self._lock = threading.Lock()

    def put(self, tape: _core.Tape, nbytes: int) -> Array:
        """Keep a tape, giving up the oldest ones where they take too much; its ticket."""
        ticket = os.urandom(_TICKET)
        with self._lock:
            self._kept[ticket] = tape, nbytes
            self._nbytes += nbytes
            while self._nbytes > self.limit:
                self._pop(next(iter(self._kept)))
        return np.frombuffer(ticket, np.uint8)

    def take(self, ticket: Array) -> _core.Tape | None:
        """Hand out a tape for its one use, if it is still there."""
        with self._lock:
            return self._pop(ticket.tobytes())

    def _pop(self, ticket: bytes) -> _core.Tape | None:
        tape, nbytes = self._kept.pop(ticket, (None, 0))
        self._nbytes -= nbytes
        return tape


def _is_symbolic_zero(cotangent: Any) -> bool:
    return isinstance(cotangent, jax.custom_derivatives.SymbolicZero)


def _unless_zero(cotangent: Any) -> Any:
    return None if _is_symbolic_zero(cotangent) else cotangent


def _is_integer(array: Any) -> bool:
    return bool(jnp.issubdtype(array.dtype, jnp.integer))


def _like(array: Any) -> Any:
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


def _as_numpy(tree: Tree) -> Tree:
    """NumPy's views of the arrays in tuples that may hold None."""
    if tree is None:
        return None
    return tuple(map(_as_numpy, tree)) if isinstance(tree, tuple) else np.asarray(tree)


def _select(gradient: Tree, given: Tree) -> Tree:
    """The gradients of what was given."""
    if given is None:
        return None
    if isinstance(given, tuple):
        return tuple(map(_select, gradient, given))
    return gradient
