"""Dense layers, activations and losses: what a model needs around its recurrent layers.

Letters: N rows, I input features, O output features, V classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from . import _core, checks
from .flat import Array, FlatParameters

_FEW_ROWS = 16  # of a product: for more of them the kernels pay, which copy the weights first


@dataclass(frozen=True, eq=False)
class DenseTape:
    """What the backward pass of `Dense` reads: the input, which must not change in between.

    Attributes
    ----------
    x : numpy.ndarray
        (N, I) rows of the input, of the layer's dtype.
    shape : tuple of int
        That of the input.
    """

    x: Array
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class DenseGradients:
    """Gradients of `Dense`.

    Attributes
    ----------
    x : numpy.ndarray or None
        Gradient of the input, in its shape; None with ``input_gradient=False``.
    parameters : dict of str to numpy.ndarray
        Gradient of each parameter, views of `flat`.
    flat : numpy.ndarray
        All of them in one 1-D buffer, in the order of ``Dense.flat``.
    """

    x: Array | None
    parameters: dict[str, Array]
    flat: Array


class Dense(FlatParameters):
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
    parameters : mapping of str to numpy.ndarray
        Views of `flat` under PyTorch's names `weight` and `bias`.

    Raises
    ------
    TypeError
        If a size is no integer, `bias` no bool or `rng` no source of chance.
    ValueError
        If a size, the dtype or a seed is out of range.
    """

    _name = "dense"

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: DTypeLike = "float32",
        rng: int | np.random.Generator | None = None,
    ) -> None:
        self.in_features = checks.integer("dense: in_features", in_features, 1, checks.MOST)
        self.out_features = checks.integer("dense: out_features", out_features, 1, checks.MOST)
        self.bias = checks.flag("dense: bias", bias)
        self.dtype = checks.float_type("dense: dtype", dtype)
        generator = checks.generator("dense: rng", rng)
        bound = 1.0 / math.sqrt(self.in_features)
        size = self.out_features * (self.in_features + int(self.bias))
        initial = generator.uniform(-bound, bound, size)
        self._attach(initial.astype(self.dtype))

    def _views(self, flat: Array) -> dict[str, Array]:
        weights = self.out_features * self.in_features
        views = {"weight": flat[:weights].reshape(self.out_features, self.in_features)}
        if self.bias:
            views["bias"] = flat[weights:]
        return views

    def _rows(self, name: str, array: Array, features: int) -> Array:
        checks.array(f"dense: {name}", array, "fiu")
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
            (N, O) contiguous array of this layer's dtype, apart from `x` and the parameters, that
            receives the rows of the result.

        Returns
        -------
        numpy.ndarray
            (..., O), of this layer's dtype; a view of `out` where that is given.

        Raises
        ------
        TypeError, ValueError
            If `x` or `out` is not an array, or has another shape or dtype.
        """
        rows = self._rows("x", x, self.in_features)
        if out is not None:
            checks.buffer("dense: out", out, (len(rows), self.out_features), self.dtype)
            _check_apart("dense: out", out, x=rows, parameters=self.flat)
        y = np.empty((len(rows), self.out_features), self.dtype) if out is None else out
        weight, bias = self.parameters["weight"], self.parameters.get("bias")
        if len(rows) > _FEW_ROWS:
            _core.dense_forward(rows, weight, bias, y, None)
        else:
            np.matmul(rows, weight.T, out=y)
            if bias is not None:
                y += bias
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
            (N, I) contiguous buffer that receives the input's gradient (overwritten); may not alias
            `dy`.
        input_gradient : bool
            Whether the input's gradient is wanted.

        Returns
        -------
        DenseGradients
            Of the parameters and, unless it is not wanted, of the input.

        Raises
        ------
        TypeError, ValueError
            If `tape` is no tape of this layer's sizes, or `dy` or a buffer does not fit.
        """
        checks.instance("dense: tape", tape, DenseTape, "what forward returned")
        if tape.x.shape[1] != self.in_features or tape.x.dtype != self.dtype:
            raise ValueError(
                "dense: tape is of another layer, expected one from this one's forward"
            )
        input_gradient = checks.flag("dense: input_gradient", input_gradient)
        rows = self._rows("dy", dy, self.out_features)
        if rows.shape[0] != tape.x.shape[0]:
            raise ValueError(f"dense: dy has {rows.shape[0]} rows, expected {tape.x.shape[0]}")
        if out is None:
            out = np.empty_like(self.flat)
        self._check_buffer("out", out)
        _check_apart("dense: out", out, x=tape.x, dy=rows, parameters=self.flat)
        views = self._views(out)
        _core.dense_weight_gradient(rows, tape.x, views["weight"], None)
        if self.bias:
            np.add.reduce(rows, axis=0, out=views["bias"])
        if not input_gradient:
            return DenseGradients(None, views, out)
        if dx is not None:
            checks.buffer("dense: dx", dx, tape.x.shape, self.dtype)
            _check_apart("dense: dx", dx, dy=rows, parameters=self.flat)
        else:
            dx = np.empty_like(tape.x)
        if len(rows) > _FEW_ROWS:
            _core.dense_input_gradient(rows, self.parameters["weight"], dx, None)
        else:
            np.matmul(rows, self.parameters["weight"], out=dx)
        return DenseGradients(dx.reshape(tape.shape), views, out)


def _sigmoid(a: Array) -> Array:
    """1 / (1 + e⁻ᵃ), by the exponent that cannot overflow."""
    e = np.exp(-np.abs(a))
    y: Array = np.where(a > 0, 1, e) / (1 + e)
    return y


_ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    # φ of a, and φ' of y = φ(a)
    "tanh": (np.tanh, lambda y: 1 - y * y),
    "relu": (lambda a: np.maximum(a, 0), lambda y: ~(y <= 0)),
    "sigmoid": (_sigmoid, lambda y: y * (1 - y)),
    "identity": (np.copy, np.ones_like),
}


class Activation:
    """A function of every element, y = φ(a), without parameters.

    Parameters
    ----------
    name : {"tanh", "relu", "sigmoid", "identity"}
        φ, as in `rnnfast.RNN`.

    Raises
    ------
    TypeError, ValueError
        If the name is no string, or there is none of that name.
    """

    def __init__(self, name: str) -> None:
        self.name = checks.choice("activation: name", name, _ACTIVATIONS)

    def __call__(self, a: Array) -> Array:
        """Apply φ.

        Parameters
        ----------
        a : numpy.ndarray
            Floats of any shape.

        Returns
        -------
        numpy.ndarray
            A new array like `a`.

        Raises
        ------
        TypeError, ValueError
            If `a` is no array, or not of floats.
        """
        checks.array("activation: a", a, "f")
        return _ACTIVATIONS[self.name][0](a)

    def forward(self, a: Array) -> tuple[Array, Array]:
        """Apply φ; the second result is what `backward` needs: y itself, which must not change."""
        y = self(a)
        return y, y

    def backward(self, tape: Array, dy: Array) -> Array:
        """Gradient with respect to a.

        Parameters
        ----------
        tape : numpy.ndarray
            From `forward`.
        dy : numpy.ndarray
            Gradient of the loss with respect to y.

        Returns
        -------
        numpy.ndarray
            dy ∘ φ'(a), a new array.

        Raises
        ------
        TypeError, ValueError
            If `tape` is not what `forward` returned, or `dy` no array, not of numbers, or not of
            y's shape.
        """
        checks.instance("activation: tape", tape, np.ndarray, "what forward returned")
        checks.array("activation: dy", dy, "fiu")
        checks.shape("activation: dy", dy, tape.shape)
        da: Array = dy * _ACTIVATIONS[self.name][1](tape)
        return da


def _check_apart(what: str, assigned: Array, **read: Array) -> None:
    """Refuse to write over what is read."""
    for name, array in read.items():
        if np.may_share_memory(assigned, array):
            raise ValueError(f"{what} shares memory with {name}, expected another buffer")


def softmax(logits: Array) -> Array:
    """Probabilities of classes.

    Parameters
    ----------
    logits : numpy.ndarray
        (..., V) numbers.

    Returns
    -------
    numpy.ndarray
        exp(l_v) / Σ_u exp(l_u), float64, shifted by the row's maximum, so that none overflows.

    Raises
    ------
    TypeError
        If `logits` is no array.
    ValueError
        If its dtype is wrong, or it has no class.
    """
    checks.array("softmax: logits", logits, "fiu")
    _check_classes("softmax: logits", logits)
    exact = logits.astype(np.float64)
    shares: Array = np.exp(exact - exact.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    return shares


def cross_entropy(
    logits: Array,
    targets: Array,
    *,
    ignore_index: int | None = None,
    weight: Array | None = None,
    out: Array | None = None,
) -> tuple[float, Array]:
    """Mean softmax cross-entropy and its gradient, in one pass over the logits.

    loss = mean over the targets kept of (log Σ_v exp(l_v) - l_target), shifted by the row's
    maximum, so that no logit overflows; with weights, Σ w_target (…) / Σ w_target.

    Parameters
    ----------
    logits : numpy.ndarray
        (..., V) floats.
    targets : numpy.ndarray
        (...) integers in [0, V), or `ignore_index`.
    ignore_index : int, optional
        Value that marks padding: such rows count nothing and have zero gradient.
    weight : numpy.ndarray, optional
        (V,) how much a target of each class counts, at least 0; all alike by default.
    out : numpy.ndarray, optional
        Contiguous array like `logits` that receives the gradient; may be `logits` itself, where
        that is contiguous, but no other part of its memory.

    Returns
    -------
    loss : float
        In nats.
    gradient : numpy.ndarray
        (..., V), dtype of the logits.

    Raises
    ------
    TypeError
        If an argument is no array, or `ignore_index` no integer.
    ValueError
        If a dtype is wrong, shapes disagree, a target is out of range (the first position is
        named), a weight is negative or not finite, or nothing counts.
    """
    if ignore_index is not None:
        ignore_index = checks.integer("cross_entropy: ignore_index", ignore_index, None)
    _check_targets(logits, targets)
    if out is not None:
        checks.buffer("cross_entropy: out", out, logits.shape, logits.dtype)
        if out.ctypes.data != logits.ctypes.data:
            _check_apart("cross_entropy: out", out, logits=logits)
    classes = logits.shape[-1]
    _check_range(targets, classes, ignore_index)
    counts = _counts(targets.reshape(-1), classes, ignore_index, weight)
    total = float(counts.sum())
    if total == 0:
        raise ValueError("cross_entropy: no target to average over")
    gradient = np.empty(logits.shape, logits.dtype) if out is None else out
    rows = np.ascontiguousarray(logits).reshape(-1, classes)
    # A row that does not count may have any target.
    labels = np.where(counts > 0.0, targets.reshape(-1), 0)
    losses = _losses(rows, labels, counts / total, gradient.reshape(-1, classes))
    kept = counts > 0.0
    return float(np.dot(losses[kept], counts[kept])) / total, gradient


def _losses(
    logits: Array, labels: Array, scales: NDArray[np.float64], gradient: Array
) -> NDArray[np.float64]:
    """Loss of each row; writes scales·(softmax - one-hot), exact zeros where the scale is."""
    order = np.arange(labels.size)
    factors = scales.astype(logits.dtype)
    norms = np.empty((labels.size, 2), logits.dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        chosen = logits[order, labels]  # which the gradient may overwrite
        _core.softmax(logits, factors, gradient, norms, None)
        gradient[order, labels] -= factors
        gradient[scales == 0.0] = 0.0
        losses: NDArray[np.float64] = np.log(norms[:, 1]) - (chosen - norms[:, 0])
    return losses.astype(np.float64)


def _counts(
    targets: Array, classes: int, ignore_index: int | None, weight: Array | None
) -> NDArray[np.float64]:
    """How much each target counts."""
    if ignore_index is None and weight is None:
        return np.ones(targets.shape)
    kept = np.full(targets.shape, True) if ignore_index is None else targets != ignore_index
    if weight is None:
        return kept.astype(np.float64)
    checks.array("cross_entropy: weight", weight, "fiu")
    checks.shape("cross_entropy: weight", weight, (classes,))
    if not (np.isfinite(weight).all() and (weight >= 0).all()):
        raise ValueError("cross_entropy: weight is negative or not finite, expected at least 0")
    counts: NDArray[np.float64] = np.zeros(targets.shape)
    counts[kept] = weight[targets[kept]]
    return counts


def _check_classes(what: str, logits: Array) -> None:
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(
            f"{what} has shape {logits.shape}, expected at least one class in its last axis"
        )


def _check_targets(logits: Array, targets: Array) -> None:
    checks.array("cross_entropy: logits", logits, "f")
    _check_classes("cross_entropy: logits", logits)
    if logits.dtype not in (np.dtype("float32"), np.dtype("float64")):
        raise ValueError(
            f"cross_entropy: logits has dtype {logits.dtype}, expected float32 or float64"
        )
    checks.array("cross_entropy: targets", targets, "iu")
    if logits.shape[:-1] != targets.shape:
        raise ValueError(
            f"cross_entropy: targets has shape {targets.shape}, "
            f"expected {logits.shape[:-1]} for logits {logits.shape}"
        )


def _check_range(targets: Array, classes: int, ignore_index: int | None) -> None:
    wrong = (targets < 0) | (targets >= classes)
    if ignore_index is not None:
        wrong &= targets != ignore_index
    if wrong.any():
        first = np.unravel_index(int(wrong.argmax()), targets.shape)
        place = f"[{', '.join(map(str, first))}]" if first else ""
        raise ValueError(
            f"cross_entropy: targets{place} is {targets[first]}, expected 0 to {classes - 1}"
        )


def mse_loss(prediction: Array, target: Array, *, out: Array | None = None) -> tuple[float, Array]:
    """Mean squared error over all elements, and its gradient.

    Parameters
    ----------
    prediction : numpy.ndarray
        Floats, of any shape but an empty one.
    target : numpy.ndarray
        Real numbers in the same shape.
    out : numpy.ndarray, optional
        Contiguous array like `prediction` that receives the gradient; may be `prediction` itself,
        where that is contiguous.

    Returns
    -------
    loss : float
        In squared units of the data.
    gradient : numpy.ndarray
        Like `prediction`.

    Raises
    ------
    TypeError
        If an argument is no array.
    ValueError
        If a dtype is wrong, or the shapes differ or are empty.
    """
    checks.array("mse_loss: prediction", prediction, "f")
    checks.array("mse_loss: target", target, "fiu")
    if prediction.shape != target.shape or prediction.size == 0:
        raise ValueError(
            f"mse_loss: target has shape {target.shape}, "
            f"expected {prediction.shape} and at least one element"
        )
    if out is not None:
        checks.buffer("mse_loss: out", out, prediction.shape, prediction.dtype)
    difference = np.subtract(prediction, target, out=out, dtype=prediction.dtype)
    loss = float(np.square(difference).sum(dtype=np.float64)) / difference.size
    difference *= 2.0 / difference.size
    return loss, difference
