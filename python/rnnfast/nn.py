"""Dense layers and losses in NumPy: what a model needs around its recurrent layers.

N rows, I input features, O output features, V classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]

_BLOCK_BYTES = 1 << 18  # rows of a loss are walked in blocks that stay in the L2 cache


@dataclass(frozen=True)
class DenseTape:
    """What the backward pass of `Dense` reads: the input, which must not change in between."""

    x: Array
    shape: tuple[int, ...]


@dataclass(frozen=True)
class DenseGradients:
    """Gradients of `Dense`: `x` like the input (or None), `parameters` as views of `flat`."""

    x: Array | None
    parameters: dict[str, Array]
    flat: Array


class Dense:
    """An affine map of the last axis: y = x Wᵀ + b.

    Parameters
    ----------
    in_features, out_features : int
        I and O, at least 1.
    bias : bool
        Whether b is added.
    dtype : dtype
        float32 or float64.
    rng : None, int or numpy.random.Generator
        Source of the initial values, uniform in ±1/sqrt(I).

    Attributes
    ----------
    flat : numpy.ndarray
        The one parameter buffer: weight (O, I), then bias (O,).
    parameters : dict of str to numpy.ndarray
        Views of `flat` under PyTorch's names `weight` and `bias`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: DTypeLike = "float32",
        rng: int | np.random.Generator | None = None,
    ) -> None:
        if in_features < 1 or out_features < 1:
            raise ValueError(
                f"dense: got in_features={in_features}, out_features={out_features}, "
                "expected at least 1 each"
            )
        self.in_features, self.out_features, self.bias = in_features, out_features, bias
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.dtype("float32"), np.dtype("float64")):
            raise ValueError(f"dense: dtype is {self.dtype}, expected float32 or float64")
        bound = 1.0 / math.sqrt(in_features)
        initial = np.random.default_rng(rng).uniform(-bound, bound, self._size)
        self._adopt(initial.astype(self.dtype))

    @property
    def _size(self) -> int:
        return self.out_features * (self.in_features + int(self.bias))

    def _views(self, flat: Array) -> dict[str, Array]:
        weights = self.out_features * self.in_features
        views = {"weight": flat[:weights].reshape(self.out_features, self.in_features)}
        if self.bias:
            views["bias"] = flat[weights:]
        return views

    def _adopt(self, flat: Array) -> None:
        self.flat = flat
        self.parameters = self._views(flat)

    def bind(self, buffer: Array) -> None:
        """Move the parameters into `buffer`, a contiguous slice of a larger flat array.

        Parameters
        ----------
        buffer : numpy.ndarray
            1-D, writable, of this layer's dtype and number of parameters; values are copied in.

        Raises
        ------
        ValueError
            If the buffer does not fit.
        """
        _check_flat("dense: buffer", buffer, self._size, self.dtype)
        buffer[:] = self.flat
        self._adopt(buffer)

    def _rows(self, name: str, array: Array, features: int) -> Array:
        if not isinstance(array, np.ndarray):
            raise TypeError(f"dense: {name} is {type(array).__name__}, expected a NumPy array")
        if array.ndim == 0 or array.shape[-1] != features:
            got = f"{array.shape[-1]} features in its last axis" if array.ndim else "no axis"
            side = "in_features" if name == "x" else "out_features"
            raise ValueError(f"dense: {name} has {got}, expected {side}={features}")
        return np.ascontiguousarray(array, dtype=self.dtype).reshape(-1, features)

    def __call__(self, x: Array, *, out: Array | None = None) -> Array:
        """Apply the map.

        Parameters
        ----------
        x : numpy.ndarray
            (..., I) numbers.
        out : numpy.ndarray, optional
            (N, O) array that receives the rows of the result.

        Returns
        -------
        numpy.ndarray
            (..., O), of this layer's dtype; a view of `out` where that is given.

        Raises
        ------
        TypeError, ValueError
            If `x` is not an array, or has another number of features.
        """
        rows = self._rows("x", x, self.in_features)
        y = np.matmul(rows, self.parameters["weight"].T, out=out)
        if self.bias:
            y += self.parameters["bias"]
        return y.reshape(*x.shape[:-1], self.out_features)

    def forward(self, x: Array, *, out: Array | None = None) -> tuple[Array, DenseTape]:
        """Apply the map and keep what `backward` needs; arguments as in a call."""
        y = self(x, out=out)
        return y, DenseTape(self._rows("x", x, self.in_features), x.shape)

    def backward(
        self,
        tape: DenseTape,
        dy: Array,
        *,
        out: Array | None = None,
        dx: Array | None = None,
        input_gradient: bool = True,
    ) -> DenseGradients:
        """Gradients with respect to the parameters and the input.

        Parameters
        ----------
        tape : DenseTape
            From `forward`.
        dy : numpy.ndarray
            (..., O), gradient of the loss with respect to the output.
        out : numpy.ndarray, optional
            Flat buffer that receives the parameters' gradients (overwritten).
        dx : numpy.ndarray, optional
            (N, I) buffer that receives the input's gradient (overwritten); may not alias `dy`.
        input_gradient : bool
            Whether the input's gradient is wanted.

        Returns
        -------
        DenseGradients
            x as the input's shape or None, parameters as views of flat.

        Raises
        ------
        TypeError, ValueError
            If `dy` or a buffer does not fit.
        """
        rows = self._rows("dy", dy, self.out_features)
        if rows.shape[0] != tape.x.shape[0]:
            raise ValueError(f"dense: dy has {rows.shape[0]} rows, expected {tape.x.shape[0]}")
        if out is None:
            out = np.empty(self._size, self.dtype)
        _check_flat("dense: out", out, self._size, self.dtype)
        views = self._views(out)
        np.matmul(rows.T, tape.x, out=views["weight"])
        if self.bias:
            np.add.reduce(rows, axis=0, out=views["bias"])
        if not input_gradient:
            return DenseGradients(None, views, out)
        dx = np.matmul(rows, self.parameters["weight"], out=dx)
        return DenseGradients(dx.reshape(tape.shape), views, out)


def _check_flat(what: str, array: Array, size: int, dtype: np.dtype[Any]) -> None:
    fits = array.shape == (size,) and array.dtype == dtype
    if not (fits and array.flags.c_contiguous and array.flags.writeable):
        raise ValueError(
            f"{what} has shape {array.shape} and dtype {array.dtype}, "
            f"expected ({size},) and {dtype}, contiguous and writable"
        )


def cross_entropy(
    logits: Array,
    targets: Array,
    *,
    ignore_index: int | None = None,
    out: Array | None = None,
) -> tuple[float, Array]:
    """Mean softmax cross-entropy and its gradient, in one pass over the logits.

    loss = mean over the targets kept of (log Σ_v exp(l_v) - l_target), shifted by the row's
    maximum, so that no logit overflows.

    Parameters
    ----------
    logits : numpy.ndarray
        (..., V) float32 or float64.
    targets : numpy.ndarray
        (...) integers in [0, V), or `ignore_index`.
    ignore_index : int, optional
        Value that marks padding: such rows count nothing and have zero gradient.
    out : numpy.ndarray, optional
        Contiguous array like `logits` that receives the gradient; may be `logits` itself.

    Returns
    -------
    loss : float
        In nats.
    gradient : numpy.ndarray
        (..., V), dtype of the logits.

    Raises
    ------
    TypeError
        If the logits are not a float array or the targets not an integer array.
    ValueError
        If shapes disagree, a target is out of range (the first position is named), or every
        target is padding.
    """
    _check_targets(logits, targets)
    classes = logits.shape[-1]
    flat_targets = targets.reshape(-1)
    keep = None if ignore_index is None else flat_targets != ignore_index
    _check_range(flat_targets, classes, keep)
    count = flat_targets.size if keep is None else int(np.count_nonzero(keep))
    if count == 0:
        raise ValueError("cross_entropy: no target to average over")
    gradient = np.empty(logits.shape, logits.dtype) if out is None else out
    rows, drows = logits.reshape(-1, classes), gradient.reshape(-1, classes)
    loss = 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        for span in _blocks(rows):
            kept = None if keep is None else keep[span]
            loss += _block_loss(rows[span], flat_targets[span], kept, 1.0 / count, drows[span])
    return loss / count, gradient


def _check_targets(logits: Array, targets: Array) -> None:
    if not isinstance(logits, np.ndarray) or logits.dtype.kind != "f":
        raise TypeError("cross_entropy: logits are not a NumPy array of floats")
    if not isinstance(targets, np.ndarray) or targets.dtype.kind not in "iu":
        raise TypeError("cross_entropy: targets are not a NumPy array of integers")
    if logits.ndim < 1 or logits.shape[:-1] != targets.shape:
        raise ValueError(
            f"cross_entropy: targets have shape {targets.shape}, "
            f"expected {logits.shape[:-1]} for logits {logits.shape}"
        )


def _check_range(targets: Array, classes: int, keep: NDArray[np.bool_] | None) -> None:
    wrong = (targets < 0) | (targets >= classes)
    if keep is not None:
        wrong &= keep
    if wrong.any():
        first = int(wrong.argmax())
        raise ValueError(
            f"cross_entropy: target {targets[first]} at position {first}, "
            f"expected 0 to {classes - 1}"
        )


def _blocks(rows: Array) -> Iterator[slice]:
    height = max(1, _BLOCK_BYTES // max(1, rows.shape[1] * rows.itemsize))
    for start in range(0, rows.shape[0], height):
        yield slice(start, start + height)


def _block_loss(
    logits: Array, targets: Array, keep: NDArray[np.bool_] | None, scale: float, gradient: Array
) -> float:
    """Sum of the losses of a block of rows; writes (softmax - one-hot)·scale into `gradient`."""
    rows = np.arange(targets.size)
    targets = targets if keep is None else np.where(keep, targets, 0)
    np.subtract(logits, logits.max(axis=1, keepdims=True), out=gradient)
    chosen = gradient[rows, targets]
    np.exp(gradient, out=gradient)
    total = gradient.sum(axis=1, keepdims=True)
    losses = np.log(total[:, 0]) - chosen
    np.multiply(gradient, scale / total, out=gradient)
    gradient[rows, targets] -= scale
    if keep is not None:
        gradient[~keep] = 0.0
        losses = losses[keep]
    return float(losses.sum(dtype=np.float64))


def mse_loss(prediction: Array, target: Array, *, out: Array | None = None) -> tuple[float, Array]:
    """Mean squared error over all elements, and its gradient.

    Parameters
    ----------
    prediction, target : numpy.ndarray
        Float arrays of one shape, not empty.
    out : numpy.ndarray, optional
        Array like `prediction` that receives the gradient; may be `prediction` itself.

    Returns
    -------
    loss : float
        In squared units of the data.
    gradient : numpy.ndarray
        Like `prediction`.

    Raises
    ------
    TypeError
        If the prediction is not a float array.
    ValueError
        If the shapes differ or are empty.
    """
    if not isinstance(prediction, np.ndarray) or prediction.dtype.kind != "f":
        raise TypeError("mse_loss: prediction is not a NumPy array of floats")
    if prediction.shape != np.shape(target) or prediction.size == 0:
        raise ValueError(
            f"mse_loss: target has shape {np.shape(target)}, "
            f"expected {prediction.shape} and at least one element"
        )
    difference = np.subtract(prediction, target, out=out, dtype=prediction.dtype)
    loss = float(np.square(difference).sum(dtype=np.float64)) / difference.size
    difference *= 2.0 / difference.size
    return loss, difference
