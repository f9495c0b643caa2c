"""Optimisers over one flat parameter buffer, and clipping by the global norm.

Every update walks the buffer in blocks that stay in the cache together with their moments, and
works in place with two blocks of scratch: no temporaries of the buffer's size.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_BLOCK = 16384  # elements: six such float32 arrays take 384 KiB; smaller ones cost more calls


class Optimizer(ABC):
    """Common part of the optimisers: the buffer, its moments, the walk and the saved state.

    Parameters
    ----------
    parameters : numpy.ndarray
        1-D contiguous, writable float buffer, updated in place by `step`.
    lr : float
        Learning rate, at least 0.
    moments : tuple of str
        Names of the running averages kept beside the parameters.

    Attributes
    ----------
    steps : int
        Updates made so far.

    Raises
    ------
    TypeError
        If `parameters` is no array.
    ValueError
        If it is not such a buffer, or a number is out of range.
    """

    def __init__(self, parameters: Array, lr: float, moments: tuple[str, ...]) -> None:
        _check_flat("optimizer: parameters", parameters)
        _check_range("lr", lr, lr >= 0.0 and math.isfinite(lr), "a finite number of at least 0")
        self.parameters = parameters
        self.lr = lr
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
            If the gradient is no array, or has another shape or dtype.
        """
        _require_array("optimizer: gradient", gradient)
        if gradient.shape != self.parameters.shape or gradient.dtype != self.parameters.dtype:
            raise ValueError(
                f"optimizer: gradient has shape {gradient.shape} and dtype {gradient.dtype}, "
                f"expected {self.parameters.shape} and {self.parameters.dtype}"
            )
        self.steps += 1
        rate = self.lr if lr is None else lr
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
        ValueError
            If names are missing or surplus, a shape differs, or a value cannot be one; nothing is
            changed then.
        """
        expected = {"steps", *self.moments}
        if set(state) != expected:
            raise ValueError(f"optimizer: state has {sorted(state)}, expected {sorted(expected)}")
        values = {name: np.asarray(value) for name, value in state.items()}
        steps = values.pop("steps")
        if steps.shape != () or steps.dtype.kind not in "iu" or steps < 0:
            raise ValueError(f"optimizer: steps is {steps}, expected an integer of at least 0")
        for name, moment in self.moments.items():
            value = values[name]
            if value.shape != moment.shape or value.dtype.kind != "f":
                raise ValueError(
                    f"optimizer: {name} has shape {value.shape} and dtype {value.dtype}, "
                    f"expected {moment.shape} and {moment.dtype}"
                )
        self.steps = int(steps)
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
        At least 0.
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
        _check_range("momentum", momentum, momentum >= 0.0, "at least 0")
        _check_range("weight_decay", weight_decay, weight_decay >= 0.0, "at least 0")
        if nesterov and momentum == 0.0:
            raise ValueError("optimizer: nesterov needs a momentum above 0")
        super().__init__(parameters, lr, ("momentum_buffer",) if momentum else ())
        self.momentum, self.weight_decay, self.nesterov = momentum, weight_decay, nesterov

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
        At least 0.
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
        for name, beta in zip(("betas[0]", "betas[1]"), betas, strict=True):
            _check_range(name, beta, 0.0 <= beta < 1.0, "in [0, 1)")
        _check_range("eps", eps, eps >= 0.0, "at least 0")
        _check_range("weight_decay", weight_decay, weight_decay >= 0.0, "at least 0")
        super().__init__(parameters, lr, ("exp_avg", "exp_avg_sq"))
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay

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


def _check_range(name: str, value: float, valid: bool, expected: str) -> None:
    if not valid:
        raise ValueError(f"optimizer: {name} is {value}, expected {expected}")


def _require_array(what: str, array: Array) -> None:
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{what} is a {type(array).__name__}, expected a NumPy array")


def _check_flat(what: str, array: Array) -> None:
    """Refuse what cannot be updated in place, block by block."""
    _require_array(what, array)
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
        The norm before clipping; NaN or infinite where the gradient is.

    Raises
    ------
    TypeError
        If `gradient` is no array.
    ValueError
        If it is not such a buffer, or `max_norm` is not positive.
    """
    _check_flat("clip_grad_norm: gradient", gradient)
    if not max_norm > 0.0:
        raise ValueError(f"clip_grad_norm: max_norm is {max_norm}, expected above 0")
    blocks = (gradient[i : i + _BLOCK] for i in range(0, gradient.size, _BLOCK))
    norm = math.sqrt(sum(float(np.dot(block, block)) for block in blocks))
    scale = max_norm / (norm + 1e-6)
    if scale < 1.0:
        gradient *= scale
    return norm
