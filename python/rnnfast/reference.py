"""The recurrent layers in plain NumPy: the arbiter that the compiled kernels are checked against.

Written to be read beside a textbook. It works in float32, float64 and, so that its gradients can
be verified by complex-step derivatives, in complex numbers (there is no conjugate anywhere).

Letters: T time steps, B sequences, I inputs, H hidden units, P projected units (LSTM only),
R = P or H the width of h, G gates, D directions, L layers. Gates are stacked along the rows of the
weights: LSTM i, f, g, o; GRU r, z, n. ``dv`` is the derivative of the loss with respect to ``v``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["GRU", "LSTM", "RNN", "Gradients", "Tape"]

Array: TypeAlias = npt.NDArray[Any]
States: TypeAlias = tuple[Array, ...]  # (h,) or (h, c)
Saved: TypeAlias = tuple[Any, ...]  # what a step leaves for its derivative
State: TypeAlias = Array | tuple[Array, Array]  # as the user passes it: h or (h, c)


# ---------------------------------------------------------------------------------------------
# Activations, and their derivatives in terms of their own outputs
# ---------------------------------------------------------------------------------------------


def sigmoid(a: Array) -> Array:
    """1 / (1 + e^-a), with the sign chosen such that the exponential cannot overflow."""
    e: Array = np.exp(np.where(a.real > 0, -a, a))
    y: Array = np.where(a.real > 0, 1, e) / (1 + e)
    return y


def d_sigmoid(y: Array) -> Array:
    """σ' = σ (1 - σ)."""
    slope: Array = y * (1 - y)
    return slope


def d_tanh(y: Array) -> Array:
    """tanh' = 1 - tanh²."""
    slope: Array = 1 - y * y
    return slope


def relu(a: Array) -> Array:
    """Max(a, 0) by the sign of the real part; NaN stays NaN."""
    return np.where(a.real <= 0, 0, a)


def d_relu(y: Array) -> Array:
    """0 where the unit is off, else 1."""
    return np.where(y.real <= 0, 0, np.ones_like(y))


NONLINEARITIES: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "tanh": (np.tanh, d_tanh),
    "relu": (relu, d_relu),
    "sigmoid": (sigmoid, d_sigmoid),
    "identity": (np.copy, np.ones_like),
}


# ---------------------------------------------------------------------------------------------
# Cells: one time step and its derivative
# ---------------------------------------------------------------------------------------------


class Weights(NamedTuple):
    """The parameters of one direction of one layer, or the gradients with respect to them."""

    ih: Array  # (G·H, I)
    hh: Array  # (G·H, R)
    b_ih: Array  # (G·H,)
    b_hh: Array  # (G·H,)
    hr: Array | None  # (P, H), the LSTM's projection


class Cell(ABC):
    """One time step of a layer and its derivative."""

    gates: ClassVar[int]
    states: ClassVar[int] = 1

    @abstractmethod
    def step(self, w: Weights, x: Array, s: States) -> tuple[States, Saved]:
        """x (B, I) and the states after t-1 → the states after t, what `step_back` needs."""

    @abstractmethod
    def step_back(self, w: Weights, dw: Weights, saved: Saved, ds: States) -> tuple[Array, States]:
        """Derivatives of the states after t → dx (B, I), those after t-1; adds to dw."""


class AddingCell(Cell):
    """A cell whose two products are ready before its gates: all but the GRU of 2014."""

    @abstractmethod
    def forward(self, a: Array, u: Array, s: States) -> tuple[States, Saved]:
        """The gates' inputs a, u (B, G·H) and the states → output and states, saved gates."""

    @abstractmethod
    def backward(self, saved: Saved, ds: States) -> tuple[Array, Array, tuple[Any, ...]]:
        """ds → da, du (B, G·H) and what reaches the former states on the way around u."""

    def step(self, w: Weights, x: Array, s: States) -> tuple[States, Saved]:
        # 1. a = x W_ihᵀ + b_ih,  u = h W_hhᵀ + b_hh
        a = x @ w.ih.T + w.b_ih
        u = s[0] @ w.hh.T + w.b_hh
        # 2. the gates: m is the output, h itself where there is no projection
        (m, *c), gates = self.forward(a, u, s)
        # 3. h = m W_hrᵀ
        h = m if w.hr is None else m @ w.hr.T
        return (h, *c), (x, s[0], m, gates)

    def step_back(self, w: Weights, dw: Weights, saved: Saved, ds: States) -> tuple[Array, States]:
        x, h, m, gates = saved
        dm, *dc = ds
        # 3. dm = dh W_hr,  dW_hr += dhᵀ m
        if w.hr is not None and dw.hr is not None:
            dw.hr[:] += dm.T @ m
            dm = dm @ w.hr
        # 2. the gates
        da, du, (dh, *dc) = self.backward(gates, (dm, *dc))
        # 1. dx = da W_ih,  dh += du W_hh,  dW += (d product)ᵀ (left factor),  db += Σ_b
        dw.ih[:] += da.T @ x
        dw.hh[:] += du.T @ h
        dw.b_ih[:] += da.sum(0)
        dw.b_hh[:] += du.sum(0)
        return da @ w.ih, (dh + du @ w.hh, *dc)


class Basic(AddingCell):
    """h = φ(a + u)."""

    gates = 1

    def __init__(self, nonlinearity: str) -> None:
        self.phi, self.d_phi = NONLINEARITIES[nonlinearity]

    def forward(self, a: Array, u: Array, s: States) -> tuple[States, Saved]:
        h = self.phi(a + u)
        return (h,), (h,)

    def backward(self, saved: Saved, ds: States) -> tuple[Array, Array, tuple[Any, ...]]:
        (h,) = saved
        da = ds[0] * self.d_phi(h)
        return da, da, (0.0,)


class LongShortTerm(AddingCell):
    """i, f, o = σ(a + u), g = tanh(a + u); c = f∘c + i∘g; h = o∘tanh(c)."""

    gates, states = 4, 2

    def forward(self, a: Array, u: Array, s: States) -> tuple[States, Saved]:
        a_i, a_f, a_g, a_o = np.split(a + u, 4, axis=1)
        i, f, g, o = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)
        c = f * s[1] + i * g
        k = np.tanh(c)
        return (o * k, c), (i, f, g, o, k, s[1])

    def backward(self, saved: Saved, ds: States) -> tuple[Array, Array, tuple[Any, ...]]:
        i, f, g, o, k, c_before = saved
        dh, dc = ds
        dc = dc + dh * o * d_tanh(k)
        di = dc * g * d_sigmoid(i)
        df = dc * c_before * d_sigmoid(f)
        dg = dc * i * d_tanh(g)
        do = dh * k * d_sigmoid(o)
        da = np.concatenate([di, df, dg, do], axis=1)
        return da, da, (0.0, dc * f)


class Gated(AddingCell):
    """r, z = σ(a + u), n = tanh(a_n + r∘u_n); h = (1 - z)∘n + z∘h (``reset_after=True``)."""

    gates = 3

    def forward(self, a: Array, u: Array, s: States) -> tuple[States, Saved]:
        (a_r, a_z, a_n), (u_r, u_z, u_n) = np.split(a, 3, axis=1), np.split(u, 3, axis=1)
        r, z = sigmoid(a_r + u_r), sigmoid(a_z + u_z)
        n = np.tanh(a_n + r * u_n)
        return ((1 - z) * n + z * s[0],), (r, z, n, u_n, s[0])

    def backward(self, saved: Saved, ds: States) -> tuple[Array, Array, tuple[Any, ...]]:
        r, z, n, u_n, h = saved
        (dh,) = ds
        dn = dh * (1 - z) * d_tanh(n)
        dz = dh * (h - n) * d_sigmoid(z)
        dr = dn * u_n * d_sigmoid(r)
        da = np.concatenate([dr, dz, dn], axis=1)
        du = np.concatenate([dr, dz, dn * r], axis=1)
        return da, du, (dh * z,)


class GatedResetBefore(Cell):
    """r, z = σ(a + u), n = tanh(a_n + W_hn (r∘h) + b_hn); h = (1-z)∘n + z∘h.

    The candidate's product waits for r, so the step has its own order: r and z, q = r∘h, then n.
    """

    gates = 3

    def forward(self, a_n: Array, u_n: Array, z: Array, h: Array) -> tuple[Array, Array]:
        """→ new h, n."""
        n = np.tanh(a_n + u_n)
        return (1 - z) * n + z * h, n

    def backward(self, dh: Array, z: Array, n: Array, h: Array) -> tuple[Array, Array, Array]:
        """→ dz and dn before their activations, what reaches the former h through z∘h."""
        return dh * (h - n) * d_sigmoid(z), dh * (1 - z) * d_tanh(n), dh * z

    def step(self, w: Weights, x: Array, s: States) -> tuple[States, Saved]:
        (h,), k = s, 2 * s[0].shape[1]
        # 1. a = x W_ihᵀ + b_ih
        a = x @ w.ih.T + w.b_ih
        # 2. r, z = σ(a + h W_hhᵀ + b_hh),  q = r∘h
        r, z = np.split(sigmoid(a[:, :k] + h @ w.hh[:k].T + w.b_hh[:k]), 2, axis=1)
        q = r * h
        # 3. n = tanh(a_n + q W_hnᵀ + b_hn),  h = (1-z)∘n + z∘h
        new, n = self.forward(a[:, k:], q @ w.hh[k:].T + w.b_hh[k:], z, h)
        return (new,), (x, h, q, r, z, n)

    def step_back(self, w: Weights, dw: Weights, saved: Saved, ds: States) -> tuple[Array, States]:
        x, h, q, r, z, n = saved
        k = 2 * h.shape[1]
        # 3. dz, dn, dh = dh∘z
        dz, dn, dh = self.backward(ds[0], z, n, h)
        # 2. dq = dn W_hn,  dr = dq∘h∘σ',  dh += dq∘r + [dr, dz] W_hrz
        dq = dn @ w.hh[k:]
        da = np.concatenate([dq * h * d_sigmoid(r), dz, dn], axis=1)
        dh = dh + dq * r + da[:, :k] @ w.hh[:k]
        # 1. dx = da W_ih,  dW += (d product)ᵀ (left factor),  db += Σ_b
        dw.ih[:] += da.T @ x
        dw.hh[:k] += da[:, :k].T @ h
        dw.hh[k:] += dn.T @ q
        dw.b_ih[:] += da.sum(0)
        dw.b_hh[:] += da.sum(0)
        return da @ w.ih, (dh,)


# ---------------------------------------------------------------------------------------------
# The time loop, forward and back
# ---------------------------------------------------------------------------------------------


class Moment(NamedTuple):
    """One step of one direction: what happens at time t."""

    t: int
    rows: slice | Array  # the sequences that have a step t
    fresh: Array  # those of them whose segment begins here with a zero state


def moments(lengths: Array, reset: Array, reverse: bool) -> list[Moment]:
    """The steps of one direction in the order in which they run.

    A segment begins at every t with reset[t]. Walking forward it is entered there, walking back at
    the step before the next one's beginning; nothing crosses that border.

    Parameters
    ----------
    lengths : ndarray of int, shape (B,)
    reset : ndarray of bool, shape (T, B)
    reverse : bool
    """
    T = len(reset)
    alive = np.arange(T)[:, None] < lengths
    begins = reset & alive
    if reverse:
        begins = np.concatenate([begins[1:], np.zeros_like(begins[:1])])
    every = slice(None)
    steps = [
        Moment(t, every if alive[t].all() else np.flatnonzero(alive[t]), np.flatnonzero(begins[t]))
        for t in range(T)
    ]
    return steps[::-1] if reverse else steps


def run(
    cell: Cell, w: Weights, x: Array, s: States, order: list[Moment]
) -> tuple[Array, States, list[Any]]:
    """Run one direction of one layer.

    x (T, B, I) and the initial states (B, ·) → y (T, B, R), zero where a sequence has no step,
    the final states and what `run_back` needs of each step.
    """
    s = tuple(np.copy(v) for v in s)
    y = np.zeros((*x.shape[:2], s[0].shape[1]), x.dtype)
    tape = []
    for t, rows, fresh in order:
        # 1. a new segment forgets
        for v in s:
            v[fresh] = 0
        # 2. the step, for those that have one; the others keep their states
        new, saved = cell.step(w, x[t, rows], tuple(np.copy(v[rows]) for v in s))
        for v, v_new in zip(s, new, strict=True):
            v[rows] = v_new
        # 3. the output
        y[t, rows] = new[0]
        tape.append(saved)
    return y, s, tape


def run_back(
    cell: Cell, w: Weights, dw: Weights, dy: Array, ds: States, order: list[Moment], tape: list[Any]
) -> tuple[Array, States]:
    """BPTT through `run`: dy (T, B, R), ds after the last step → dx (T, B, I), ds before the first.

    The gradients of the parameters are added to dw.
    """
    ds = tuple(np.copy(v) for v in ds)
    dx = np.zeros((*dy.shape[:2], w.ih.shape[1]), dy.dtype)
    for (t, rows, fresh), saved in zip(reversed(order), reversed(tape), strict=True):
        # 3. dh_t += dy_t
        ds[0][rows] += dy[t, rows]
        # 2. the step
        dx[t, rows], before = cell.step_back(w, dw, saved, tuple(v[rows] for v in ds))
        for v, v_before in zip(ds, before, strict=True):
            v[rows] = v_before
        # 1. nothing reaches what was forgotten
        for v in ds:
            v[fresh] = 0
    return dx, ds


# ---------------------------------------------------------------------------------------------
# Dropout between layers
# ---------------------------------------------------------------------------------------------


def splitmix64(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Sebastiano Vigna's mixing function: a 64-bit hash of every element, modulo 2⁶⁴."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def dropout_factor(p: float, seed: int, layer: int, like: Array) -> Array:
    """What the output of a layer is multiplied by: 0 with probability p, else 1 / (1 - p).

    Element (t, b, j) of layer l is a function of the seed and of its own position alone.

    Parameters
    ----------
    p : float
    seed : int
        Below 2⁶⁴.
    layer : int
    like : ndarray, shape (T, B, W)
        Gives shape and dtype.
    """
    position = np.arange(like.size, dtype=np.uint64) + np.uint64(layer * like.size)
    draw = splitmix64(position + np.uint64(seed)) >> np.uint64(40)
    kept = (draw >= np.uint64(round(p * 2**24))).reshape(like.shape)
    scale = 1 / (1 - p) if p < 1 else 0.0
    return np.where(kept, scale, 0.0).astype(like.dtype)


# ---------------------------------------------------------------------------------------------
# Layers
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """How the user's arrays lie: the layer itself always works on (T, B, …)."""

    batched: bool
    batch_first: bool

    def inside(self, v: Array) -> Array:
        """(T, …), (T, B, …) or (B, T, …) → (T, B, …)."""
        if not self.batched:
            return v[:, None]
        return v.swapaxes(0, 1) if self.batch_first else v

    def outside(self, v: Array) -> Array:
        """Undo `inside`."""
        if not self.batched:
            return v[:, 0]
        return np.ascontiguousarray(v.swapaxes(0, 1)) if self.batch_first else v

    def states(self, s: States) -> State:
        """States (L·D, B, ·) → h or (h, c) as the user sees them."""
        s = s if self.batched else tuple(v[:, 0] for v in s)
        return s[0] if len(s) == 1 else (s[0], s[1])


@dataclass
class Tape:
    """What `backward` needs of one `forward`; it serves once."""

    layer: Recurrent
    layout: Layout
    tokens: bool
    dropout_seed: int | None
    shape: tuple[int, int, int]  # T, B, D·R of the output
    orders: list[list[Moment]]  # [d]
    runs: list[list[list[Any]]] = field(default_factory=list)  # [l][d][step]
    factors: list[Array | None] = field(default_factory=list)  # [l], dropout of layer l's output
    used: bool = False


@dataclass(frozen=True)
class Gradients:
    """Gradients of a loss with respect to everything that went into `forward`.

    Attributes
    ----------
    x : ndarray or None
        Shaped as x; None for tokens and with ``input_gradient=False``.
    state : ndarray or pair of ndarrays
        With respect to the initial state, shaped as it.
    parameters : dict of str to ndarray
        Views of `flat`.
    flat : ndarray, shape (number of parameters,)
    """

    x: Array | None
    state: State
    parameters: dict[str, Array]
    flat: Array


class Recurrent:
    """What the three layers share: parameters, layers × directions, layouts."""

    name: ClassVar[str]
    proj_size: int = 0

    def __init__(
        self,
        cell: Cell,
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
    ) -> None:
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.bidirectional = bias, batch_first, bidirectional
        self.dropout, self.dtype, self.compute = float(dropout), np.dtype(dtype), compute
        for argument in ("input_size", "hidden_size", "num_layers"):
            self._require(getattr(self, argument) >= 1, argument, "at least 1")
        self._require(0 <= self.dropout <= 1, "dropout", "a probability from 0 to 1")
        self._require(compute == "float32", "compute", "'float32': the reference has no other")
        self.rng = np.random.default_rng(rng)
        self._cell, self._directions = cell, 2 if bidirectional else 1
        self._shapes = self._parameter_shapes()
        size = sum(int(np.prod(shape)) for shape in self._shapes.values())
        bound = 1 / np.sqrt(hidden_size)
        self.flat: Array = self.rng.uniform(-bound, bound, size).astype(self.dtype)
        self.parameters = self._views(self.flat)

    # -- parameters ---------------------------------------------------------------------------

    @property
    def _width(self) -> int:
        """R, the width of h."""
        return self.proj_size or self.hidden_size

    def _suffixes(self) -> list[list[str]]:
        """Return the suffix of layer l, direction d: "l0", "l0_reverse", "l1", ...."""
        ends = ["", "_reverse"][: self._directions]
        return [[f"l{k}{end}" for end in ends] for k in range(self.num_layers)]

    def _parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes in PyTorch's order."""
        rows, shapes = self._cell.gates * self.hidden_size, dict[str, tuple[int, ...]]()
        for layer, suffixes in enumerate(self._suffixes()):
            inputs = self._directions * self._width if layer else self.input_size
            for suffix in suffixes:
                shapes[f"weight_ih_{suffix}"] = (rows, inputs)
                shapes[f"weight_hh_{suffix}"] = (rows, self._width)
                if self.bias:
                    shapes[f"bias_ih_{suffix}"] = shapes[f"bias_hh_{suffix}"] = (rows,)
                if self.proj_size:
                    shapes[f"weight_hr_{suffix}"] = (self.proj_size, self.hidden_size)
        return shapes

    def _views(self, flat: Array) -> dict[str, Array]:
        """Cut a flat buffer into the parameters."""
        views, at = {}, 0
        for name, shape in self._shapes.items():
            size = int(np.prod(shape))
            views[name] = flat[at : at + size].reshape(shape)
            at += size
        return views

    def _weights(self, views: Mapping[str, Array], layer: int, direction: int) -> Weights:
        """The parameters of one run; without bias, zeros that nobody keeps."""
        suffix = self._suffixes()[layer][direction]
        ih, hh = views[f"weight_ih_{suffix}"], views[f"weight_hh_{suffix}"]
        b_ih, b_hh = (
            views[f"{b}_{suffix}"] if self.bias else np.zeros(len(ih), ih.dtype)
            for b in ("bias_ih", "bias_hh")
        )
        return Weights(ih, hh, b_ih, b_hh, views.get(f"weight_hr_{suffix}"))

    def bind(self, buffer: Array) -> None:
        """Move the parameters into `buffer`, from now on `flat`.

        Parameters
        ----------
        buffer : ndarray of the layer's dtype, shape (number of parameters,)
            Written: it receives the values. Usually a slice of a model's one flat buffer.
        """
        self._check_flat("buffer", buffer)
        buffer[:] = self.flat
        self.flat, self.parameters = buffer, self._views(buffer)

    def state_dict(self) -> dict[str, Array]:
        """Copies of the parameters, by PyTorch's names."""
        return {name: v.copy() for name, v in self.parameters.items()}

    def load_state_dict(self, mapping: Mapping[str, npt.ArrayLike]) -> None:
        """Copy the parameters out of `mapping`, as `state_dict` gave it.

        Raises
        ------
        ValueError
            If a name is missing or unknown, or a shape is wrong.
        """
        if mapping.keys() != self._shapes.keys():
            missing = sorted(self._shapes.keys() - mapping.keys())
            surplus = sorted(mapping.keys() - self._shapes.keys())
            raise ValueError(f"{self.name}: state_dict lacks {missing}, has unknown {surplus}")
        values = {name: np.asarray(mapping[name]) for name in self._shapes}
        for name, v in values.items():
            self._require_shape(name, v, self._shapes[name])
        for name, v in values.items():
            self.parameters[name][...] = v

    # -- calls --------------------------------------------------------------------------------

    def __call__(
        self,
        x: Array,
        state: State | None = None,
        lengths: npt.ArrayLike | None = None,
        reset: npt.ArrayLike | None = None,
        *,
        num_threads: int | None = None,
    ) -> tuple[Array, State]:
        """Inference: `forward` without dropout and without a tape."""
        y, s, _ = self._forward(x, state, lengths, reset, None)
        return y, s

    def forward(
        self,
        x: Array,
        state: State | None = None,
        lengths: npt.ArrayLike | None = None,
        reset: npt.ArrayLike | None = None,
        *,
        num_threads: int | None = None,
        dropout_seed: int | None = None,
    ) -> tuple[Array, State, Tape]:
        """Run over whole sequences and keep what `backward` needs.

        Parameters
        ----------
        x : ndarray, shape (T, B, I), or of integers, shape (T, B)
            Integers mean one-hot rows of size I. Without a batch (T, I) or (T,); with
            ``batch_first`` the axes T and B are swapped. Never written.
        state : ndarray or pair of ndarrays, optional
            h (L·D, B, R), for an LSTM (h, c) with c (L·D, B, H); zero if omitted. Without a batch
            they have no axis B.
        lengths : array of int, shape (B,), optional
            Sequence b ends before lengths[b] ≤ T; its outputs from there on are zero.
        reset : array of bool, shaped as the leading axes of x, optional
            Where true a new segment begins with zero state, in both directions.
        num_threads : int, optional
            Part of the layers' common interface; here NumPy decides.
        dropout_seed : int, optional
            Of this call's dropout; drawn from `rng` if omitted.

        Returns
        -------
        y : ndarray, shape (T, B, D·R), read-only
        state : as the argument
            Each sequence's own last one.
        tape : Tape
        """
        if self.dropout > 0 and self.num_layers > 1 and dropout_seed is None:
            dropout_seed = int(self.rng.integers(2**63))
        y, s, tape = self._forward(x, state, lengths, reset, dropout_seed)
        y.flags.writeable = False
        return y, s, tape

    def step(
        self, x: Array, state: State | None = None, *, num_threads: int | None = None
    ) -> tuple[Array, State]:
        """One time step: x (B, I) or (I,), tokens (B,) or () → y (B, D·R) or (D·R,), state."""
        x = np.asarray(x)
        batched = x.ndim == (1 if np.issubdtype(x.dtype, np.integer) else 2)
        axis = 1 if batched and self.batch_first else 0
        y, s = self(np.expand_dims(x, axis), state)
        return y.take(0, axis), s

    def backward(
        self,
        tape: Tape,
        dy: Array | None = None,
        dstate: State | None = None,
        *,
        out: Array | None = None,
        input_gradient: bool = True,
        num_threads: int | None = None,
    ) -> Gradients:
        """Back-propagation through time of a loss whose derivatives are dy and dstate.

        Parameters
        ----------
        tape : Tape
            From `forward` of this layer, whose parameters must not have changed since.
        dy, dstate : shaped as y and state, optional
            Zero if omitted.
        out : ndarray of the layer's dtype, shape (number of parameters,), optional
            Overwritten by the parameters' gradients, and then `Gradients.flat`.
        input_gradient : bool
            Whether `Gradients.x` is wanted.
        num_threads : int, optional
            Part of the layers' common interface; here NumPy decides.

        Raises
        ------
        ValueError
            If the tape has been used or is another layer's, or for a wrong shape.
        """
        self._require(tape.layer is self, "tape", "one from forward of this layer")
        self._require(not tape.used, "tape", "one that has not been used: it serves one backward")
        dy_inside = self._output_gradient(tape, dy)
        ds = self._states("dstate", dstate, tape.layout, tape.shape[1])
        flat = np.zeros_like(self.flat) if out is None else out
        self._check_flat("out", flat)
        flat[:] = 0
        tape.used = True
        dx, ds = self._backward(tape, dy_inside, ds, self._views(flat))
        wanted = input_gradient and not tape.tokens
        return Gradients(
            tape.layout.outside(dx) if wanted else None,
            tape.layout.states(ds),
            self._views(flat),
            flat,
        )

    # -- layers × directions ------------------------------------------------------------------

    def _forward(
        self,
        x: Array,
        state: State | None,
        lengths: npt.ArrayLike | None,
        reset: npt.ArrayLike | None,
        dropout_seed: int | None,
    ) -> tuple[Array, State, Tape]:
        y, layout, tokens = self._input(x)
        T, B, _ = y.shape
        s = self._states("state", state, layout, B)
        ends, begins = self._lengths(lengths, T, B), self._reset(reset, layout, T, B)
        orders = [moments(ends, begins, reverse=d == 1) for d in range(self._directions)]
        shape = T, B, self._directions * self._width
        tape = Tape(self, layout, tokens, dropout_seed, shape, orders)
        after: list[States] = []
        for layer in range(self.num_layers):
            # 1. both directions read the layer's input, their outputs lie side by side
            first = layer * self._directions
            results = [
                run(
                    self._cell,
                    self._weights(self.parameters, layer, d),
                    y,
                    tuple(v[first + d] for v in s),
                    order,
                )
                for d, order in enumerate(orders)
            ]
            y = np.concatenate([r[0] for r in results], axis=2)
            after += [r[1] for r in results]
            tape.runs.append([r[2] for r in results])
            # 2. dropout, except after the last layer
            factor = None
            if dropout_seed is not None and layer < self.num_layers - 1:
                factor = dropout_factor(self.dropout, dropout_seed, layer, y)
                y = y * factor
            tape.factors.append(factor)
        return layout.outside(y), layout.states(_stack(after)), tape

    def _backward(
        self, tape: Tape, dy: Array, ds: States, gradients: Mapping[str, Array]
    ) -> tuple[Array, States]:
        """Time-major twin of `backward`: dx (T, B, I) and ds (L·D, B, ·); adds to gradients."""
        before: list[States] = []
        for layer in reversed(range(self.num_layers)):
            # 2. dropout
            factor = tape.factors[layer]
            if factor is not None:
                dy = dy * factor
            # 1. each direction has its part of dy; both have read the layer's input
            parts = np.split(dy, self._directions, axis=2)
            first = layer * self._directions
            results = [
                run_back(
                    self._cell,
                    self._weights(self.parameters, layer, d),
                    self._weights(gradients, layer, d),
                    parts[d],
                    tuple(v[first + d] for v in ds),
                    order,
                    tape.runs[layer][d],
                )
                for d, order in enumerate(tape.orders)
            ]
            dy = np.sum([r[0] for r in results], axis=0)
            before = [r[1] for r in results] + before
        return dy, _stack(before)

    # -- checks -------------------------------------------------------------------------------

    def _require(self, good: bool, argument: str, expected: str) -> None:
        if not good:
            raise ValueError(f"{self.name}: {argument} must be {expected}")

    def _require_shape(self, argument: str, v: Array, expected: tuple[int, ...]) -> None:
        if v.shape != expected:
            raise ValueError(
                f"{self.name}: {argument} has shape {v.shape}, expected shape {expected}"
            )

    def _check_flat(self, argument: str, v: Array) -> None:
        self._require_shape(argument, v, self.flat.shape)
        self._require(v.dtype == self.dtype, argument, f"of dtype {self.dtype}")

    def _input(self, x: Array) -> tuple[Array, Layout, bool]:
        """x as the user gave it → (T, B, I) in the layer's dtype, its layout, whether tokens."""
        if not isinstance(x, np.ndarray):
            raise TypeError(f"{self.name}: x must be a NumPy array, got {type(x).__name__}")
        tokens = np.issubdtype(x.dtype, np.integer)
        rank = 2 if tokens else 3
        if x.ndim not in (rank - 1, rank):
            raise ValueError(f"{self.name}: x has {x.ndim} axes, expected {rank - 1} or {rank}")
        layout = Layout(x.ndim == rank, self.batch_first)
        self._require(len(layout.inside(x)) > 0, "x", "of at least one time step")
        if tokens:
            self._require(
                bool(np.all((x >= 0) & (x < self.input_size))),
                "x",
                f"tokens from 0 to {self.input_size - 1}",
            )
            return np.eye(self.input_size, dtype=self.dtype)[layout.inside(x)], layout, True
        if x.shape[-1] != self.input_size:
            raise ValueError(
                f"{self.name}: x has {x.shape[-1]} features in its last axis, "
                f"expected input_size={self.input_size}"
            )
        return layout.inside(x).astype(self.dtype), layout, False

    def _lengths(self, lengths: npt.ArrayLike | None, T: int, B: int) -> Array:
        if lengths is None:
            return np.full(B, T)
        n = np.atleast_1d(np.asarray(lengths))
        self._require_shape("lengths", n, (B,))
        whole = np.issubdtype(n.dtype, np.integer)
        self._require(
            whole and bool(np.all((n >= 0) & (n <= T))), "lengths", f"integers from 0 to {T}"
        )
        return n

    def _reset(self, reset: npt.ArrayLike | None, layout: Layout, T: int, B: int) -> Array:
        if reset is None:
            return np.zeros((T, B), bool)
        r = np.asarray(reset)
        self._require(r.dtype == np.bool_, "reset", "an array of booleans")
        r = layout.inside(r)
        self._require_shape("reset", r, (T, B))
        return r

    def _states(self, argument: str, state: State | None, layout: Layout, B: int) -> States:
        """State or dstate as the user gave it → (h,) or (h, c), each (L·D, B, ·)."""
        rows = self.num_layers * self._directions
        shapes = [(rows, B, self._width), (rows, B, self.hidden_size)][: self._cell.states]
        if state is None:
            return tuple(np.zeros(shape, self.dtype) for shape in shapes)
        given = state if len(shapes) == 2 else (state,)
        if not isinstance(given, tuple | list) or len(given) != len(shapes):
            raise TypeError(f"{self.name}: {argument} must be a pair of arrays (h, c)")
        for v, shape in zip(given, shapes, strict=True):
            if not isinstance(v, np.ndarray):
                raise TypeError(f"{self.name}: {argument} must be an array")
            expected = shape if layout.batched else (shape[0], shape[2])
            self._require_shape(argument, v, expected)
        return tuple(
            np.reshape(v, shape).astype(self.dtype) for v, shape in zip(given, shapes, strict=True)
        )

    def _output_gradient(self, tape: Tape, dy: Array | None) -> Array:
        if dy is None:
            return np.zeros(tape.shape, self.dtype)
        self._require_shape("dy", dy, tape.layout.outside(np.empty(tape.shape)).shape)
        return tape.layout.inside(dy).astype(self.dtype)


def _stack(states: list[States]) -> States:
    """A list over l·D + d of (h,) or (h, c) → (h,) or (h, c) with that as the first axis."""
    return tuple(np.stack(v) for v in zip(*states, strict=True))


class RNN(Recurrent):
    """h_t = φ(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), as `rnnfast.RNN`."""

    name = "rnn"

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
        self._require(
            nonlinearity in NONLINEARITIES, "nonlinearity", f"one of {list(NONLINEARITIES)}"
        )
        self.nonlinearity = nonlinearity
        super().__init__(
            Basic(nonlinearity),
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
        )


class LSTM(Recurrent):
    """Long short-term memory with an optional projection of h, as `rnnfast.LSTM`."""

    name = "lstm"

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
        self._require(0 <= proj_size < hidden_size, "proj_size", "from 0 to below hidden_size")
        self.proj_size = proj_size
        super().__init__(
            LongShortTerm(),
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
        )


class GRU(Recurrent):
    """Gated recurrent unit, the reset after or before the product, as `rnnfast.GRU`."""

    name = "gru"

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
        self.reset_after = reset_after
        super().__init__(
            Gated() if reset_after else GatedResetBefore(),
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
        )
