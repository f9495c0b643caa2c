"""Optimisers over one flat parameter buffer, and clipping by the global norm.

Every update walks the buffer in blocks that stay in the cache together with their moments, and
works in place with two blocks of scratch: no temporaries of the buffer's size.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from . import checks
from .checks import Array

_BLOCK = 16384  # elements: six such float32 arrays take 384 KiB; smaller ones cost more calls


class Optimizer(ABC):
    """Common part of the optimisers: the buffer, its moments, the walk and the saved state.

    Parameters
    ----------
    parameters : numpy.ndarray
        1-D contiguous, writable float buffer, updated in place by `step`.
    lr : float
        Learning rate, at least 0 and finite.
    moments : tuple of str
        Names of the running averages kept beside the parameters.

    Attributes
    ----------
    steps : int
        Updates made so far.

    Raises
    ------
    TypeError
        If `parameters` is no array, or another argument of the wrong type.
    ValueError
        If it is not such a buffer, or a number is out of range.
    """

    def __init__(self, parameters: Array, lr: float, moments: tuple[str, ...]) -> None:
        _check_flat("optimizer: parameters", parameters)
        self.parameters = parameters
        self.lr = _not_negative("lr", lr)
        self.steps = 0
        self.moments = {name: np.zeros_like(parameters) for name in moments}
        self._scratch = np.empty((2, min(_BLOCK, parameters.size)), parameters.dtype)

    def step(self, gradient: Array, *, lr: float | None = None) -> None:
        """Update the parameters once.

        Parameters
        ----------
        gradient : numpy.ndarray
            Like the parameters; only read.
        lr : float, optional
            Learning rate of this step in place of `self.lr`, for schedules.

        Raises
        ------
        TypeError, ValueError
            If the gradient is no array, or has another shape or dtype, or the rate is not finite or
            negative.
        """
        checks.instance("optimizer: gradient", gradient, np.ndarray, "a NumPy array")
        if gradient.shape != self.parameters.shape or gradient.dtype != self.parameters.dtype:
            raise ValueError(
                f"optimizer: gradient has shape {gradient.shape} and dtype {gradient.dtype}, "
                f"expected {self.parameters.shape} and {self.parameters.dtype}"
            )
        rate = _not_negative("lr", self.lr if lr is None else lr)
        self.steps += 1
        averages = tuple(self.moments.values())
        for start in range(0, self.parameters.size, _BLOCK):
            span = slice(start, start + _BLOCK)
            block = self.parameters[span]
            scratch = self._scratch[:, : block.size]
            self._update(block, gradient[span], [m[span] for m in averages], scratch, rate)

    @abstractmethod
    def _update(self, p: Array, g: Array, moments: list[Array], scratch: Array, lr: float) -> None:
        """Update block `p` by its gradient `g`; `scratch` is two blocks to write in."""

    def state_dict(self) -> dict[str, Array]:
        """Return copies of what `load_state_dict` needs: `steps` () int64 and the moments."""
        state = {name: moment.copy() for name, moment in self.moments.items()}
        return {"steps": np.array(self.steps, np.int64), **state}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Take over a state from `state_dict`.

        Raises
        ------
        TypeError
            If it is no mapping.
        ValueError
            If names are missing or surplus, a shape differs, or a value cannot be one; nothing is
            changed then.
        """
        checks.instance("optimizer: state", state, Mapping, "a mapping of names to arrays")
        expected = ["steps", *self.moments]
        if set(state) != set(expected):
            raise ValueError(f"optimizer: state has {list(state)}, expected {expected}")
        steps = checks.array_like("optimizer: steps", state["steps"], "iu")
        checks.shape("optimizer: steps", steps, ())
        counted = checks.integer("optimizer: steps", int(steps), 0)
        values = {}
        for name, moment in self.moments.items():
            value = checks.array_like(f"optimizer: {name}", state[name], "f")
            checks.shape(f"optimizer: {name}", value, moment.shape)
            values[name] = checks.converted(f"optimizer: {name}", value, moment.dtype)
        self.steps = counted
        for name, moment in self.moments.items():
            moment[:] = values[name]


class SGD(Optimizer):
    """Stochastic gradient descent, PyTorch's formulas.

    g ← g + weight_decay·p; u ← momentum·u + g; p ← p - lr·u, or p - lr·(g + momentum·u) with
    `nesterov`.

    Parameters
    ----------
    parameters : numpy.ndarray
        1-D contiguous float buffer, updated in place.
    lr, momentum, weight_decay : float
        At least 0 and finite.
    nesterov : bool
        Look ahead along the momentum; needs momentum > 0.
    """

    def __init__(
        self,
        parameters: Array,
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        self.momentum = _not_negative("momentum", momentum)
        self.weight_decay = _not_negative("weight_decay", weight_decay)
        self.nesterov = checks.flag("optimizer: nesterov", nesterov)
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("optimizer: momentum is 0.0 with nesterov, expected above 0")
        super().__init__(parameters, lr, ("momentum_buffer",) if self.momentum else ())

    def _update(self, p: Array, g: Array, moments: list[Array], scratch: Array, lr: float) -> None:
        direction, ahead = scratch
        g = _decayed(p, g, self.weight_decay, direction)
        if moments:
            velocity = moments[0]
            velocity *= self.momentum
            velocity += g
            if self.nesterov:
                np.multiply(velocity, self.momentum, out=ahead)
                ahead += g
            g = ahead if self.nesterov else velocity
        p -= np.multiply(g, lr, out=direction)


class Adam(Optimizer):
    """Adam with bias correction, PyTorch's formulas.

    m ← β₁m + (1-β₁)g; v ← β₂v + (1-β₂)g²; p ← p - lr·(m / (1-β₁ᵗ)) / (sqrt(v / (1-β₂ᵗ)) + eps),
    where weight_decay·p is added to g beforehand.

    Parameters
    ----------
    parameters : numpy.ndarray
        1-D contiguous float buffer, updated in place.
    lr, eps, weight_decay : float
        At least 0 and finite.
    betas : pair of float
        β₁ and β₂ in [0, 1).
    """

    _decoupled = False

    def __init__(
        self,
        parameters: Array,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        pair = checks.parts("optimizer: betas", betas, "a pair of numbers")
        if len(pair) != 2:
            raise ValueError(f"optimizer: betas has {len(pair)} parts, expected a pair of numbers")
        first, second = (
            checks.number(f"optimizer: betas[{i}]", beta, checks.BELOW_ONE)
            for i, beta in enumerate(pair)
        )
        self.betas = first, second
        self.eps = _not_negative("eps", eps)
        self.weight_decay = _not_negative("weight_decay", weight_decay)
        super().__init__(parameters, lr, ("exp_avg", "exp_avg_sq"))

    def _update(self, p: Array, g: Array, moments: list[Array], scratch: Array, lr: float) -> None:
        m, v = moments
        update, decayed = scratch
        beta1, beta2 = self.betas
        # Both corrections are folded into eps and the step size: two passes fewer.
        root = math.sqrt(1.0 - beta2**self.steps)
        size = lr * root / (1.0 - beta1**self.steps)
        if self._decoupled:
            p *= 1.0 - lr * self.weight_decay
        else:
            g = _decayed(p, g, self.weight_decay, decayed)
        m *= beta1
        m += np.multiply(g, 1.0 - beta1, out=update)
        v *= beta2
        np.multiply(g, g, out=update)
        update *= 1.0 - beta2
        v += update
        np.sqrt(v, out=update)
        update += self.eps * root
        np.divide(m, update, out=update)
        update *= size
        p -= update


class AdamW(Adam):
    """Adam with decoupled weight decay: p ← p·(1 - lr·weight_decay) before the step.

    Parameters
    ----------
    parameters, lr, betas, eps, weight_decay
        As in `Adam`; the decay is 0.01 unless given.
    """

    _decoupled = True

    def __init__(
        self,
        parameters: Array,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(parameters, lr, betas, eps, weight_decay)


def _decayed(p: Array, g: Array, weight_decay: float, out: Array) -> Array:
    """Return g + weight_decay·p, in `out`, or g itself where there is no decay."""
    if weight_decay == 0.0:
        return g
    return np.add(g, np.multiply(p, weight_decay, out=out), out=out)


def _not_negative(name: str, value: float) -> float:
    return checks.number(f"optimizer: {name}", value, checks.NOT_NEGATIVE)


def _check_flat(what: str, array: Array) -> None:
    """Refuse what cannot be updated in place, block by block."""
    checks.instance(what, array, np.ndarray, "a NumPy array")
    flat = array.ndim == 1 and array.flags.c_contiguous and array.flags.writeable
    if not flat or array.dtype.kind != "f":
        raise ValueError(
            f"{what} has shape {array.shape} and dtype {array.dtype}, expected one contiguous, "
            "writable axis of floats"
        )


def clip_grad_norm(gradient: Array, max_norm: float) -> float:
    """Scale a flat gradient down, in place, so that its 2-norm is at most `max_norm`.

    Parameters
    ----------
    gradient : numpy.ndarray
        1-D contiguous, writable float buffer.
    max_norm : float
        Positive; `inf` only measures.

    Returns
    -------
    float
        The norm before clipping. NaN or infinite where the gradient is, or where no float can
        hold the norm; nothing is scaled then.

    Raises
    ------
    TypeError
        If `gradient` is no array, or `max_norm` no number.
    ValueError
        If it is not such a buffer, or `max_norm` is not positive.
    """
    _check_flat("clip_grad_norm: gradient", gradient)
    max_norm = checks.number("clip_grad_norm: max_norm", max_norm, checks.POSITIVE_OR_INFINITE)
    norm = _norm(gradient)
    scale = max_norm / (norm + 1e-6)
    if scale < 1.0 and math.isfinite(norm):
        if scale < _smallest_sum(gradient.dtype):  # the type has too few digits for it, or none
            largest = _largest(gradient)
            gradient /= largest
            scale = max_norm / (norm / largest)
        gradient *= scale
    return norm


@cache
def _smallest_sum(dtype: np.dtype[Any]) -> float:
    """Beside which what is too small for the type does not matter."""
    limits = np.finfo(dtype)
    return float(limits.tiny / limits.eps)


def _largest(gradient: Array) -> float:
    return float(np.maximum(gradient.max(initial=0.0), -gradient.min(initial=0.0)))


def _norm(gradient: Array) -> float:
    """Add squares up in the gradient's own type, and again where that has not room for them."""
    blocks = [gradient[i : i + _BLOCK] for i in range(0, gradient.size, _BLOCK)]
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        squares = sum(float(np.dot(block, block)) for block in blocks)
    if gradient.size * _smallest_sum(gradient.dtype) <= squares < math.inf:
        return math.sqrt(squares)
    largest = _largest(gradient)
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    shares = (block.astype(np.float64) / largest for block in blocks)
    return largest * math.sqrt(sum(float(np.dot(share, share)) for share in shares))
