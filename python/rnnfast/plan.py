"""How a call would be run, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from . import _core, checks
from .options import Options

__all__ = ["LayerPlan", "Plan", "explain"]


def _percent(share: float) -> str:
    return f"{share:.1%}" if share <= 1 else "more than 100%"


@dataclass(frozen=True)
class LayerPlan:
    """How one layer is run; see :func:`explain`.

    Attributes
    ----------
    crews, crew : int
        The threads of a direction form `crews` crews of `crew` threads. A crew owns rows of the
        batch and waits for no other; its members own units and meet after every step (but see
        `claims`), and within it where a cell has a second product of the first one's result.
    claims : int
        Where not 0, of a single step: the units are cut into so many shares for each crew's rows,
        which all threads claim one by one. Nobody meets, so that a thread that has lost its core
        delays only the share it is at.
    together : bool
        Both directions are processed at once, each by such crews; else one after the other, as in
        the training of a layer that recomputes.
    layers : int
        So many layers are processed at once, this one among them, each by such crews: each follows
        the one below step by step; where the batch is one sequence, sixteen steps behind. Not in
        the training of a layer with dropout or one that recomputes.
    input_first : bool
        The input product of all steps is formed before the first one, or of sixteen steps at a
        time where several layers are processed at once; else within each.
    prefetch : bool
        The weights that a thread reads in a step exceed its second-level cache: it asks for them
        ahead.
    share : float
        Of a single thread's time, that the plan is expected to take.
    rows_alone, units_alone : float
        The same if all threads split the rows only, or the units only.
    step_flops : float
        Floating-point operations of a step.
    weight_bytes : int
        Of the packed weights. A crew reads them all in every step, but those of an input product
        that is formed beforehand and those that tokens leave out.
    cache_bytes : int
        Of a core's second-level cache.
    """

    crews: int
    crew: int
    claims: int
    together: bool
    layers: int
    input_first: bool
    prefetch: bool
    share: float
    rows_alone: float
    units_alone: float
    step_flops: float
    weight_bytes: int
    cache_bytes: int

    @property
    def num_threads(self) -> int:
        """Threads that work on the layer at once."""
        return self.crews * self.crew * (2 if self.together else self.layers)

    def lines(self) -> Iterator[str]:
        """The plan in words."""
        yield self._threads()
        own, cache = self.weight_bytes / self.crew / 2**20, self.cache_bytes / 2**20
        held = (
            f"more than its second-level cache of {cache:.3g} MiB: it asks for them ahead"
            if self.prefetch
            else f"which its second-level cache of {cache:.3g} MiB holds"
        )
        yield (
            f"a step: {self.step_flops / 1e6:.3g} MFLOP; "
            f"each thread reads {own:.3g} MiB of weights, {held}"
        )
        yield "input product: " + (
            "of many steps beforehand" if self.input_first else "in each step"
        )
        rows, units = map(_percent, (self.rows_alone, self.units_alone))
        yield (
            f"expected: {_percent(self.share)} of one thread's time "
            f"(rows alone {rows}, units alone {units})"
        )

    def _threads(self) -> str:
        if self.together:
            return f"both directions at once, each by {self._crews()}"
        if self.layers > 1:
            return f"{self.layers} layers at once, each by {self._crews()}"
        if self.num_threads == 1:
            return "one thread: more would gain less than it takes to wake or to meet them"
        return self._crews()

    def _crews(self) -> str:
        if self.crews * self.crew == 1:
            return "one thread"
        if self.claims:
            return f"{self.crews * self.crew} threads that claim {self.crews * self.claims} shares"
        if self.crew == 1:
            return f"{self.crews} threads with rows of their own, which never wait"
        units = f"{self.crew} threads with units of their own, which meet after every step"
        return (
            units if self.crews == 1 else f"{self.crews} crews with rows of their own, of {units}"
        )


@dataclass(frozen=True)
class Plan:
    """How a call would be run; see :func:`explain`. ``print`` tells it in words.

    Attributes
    ----------
    call : str
        Layer, shape, instruction set and number of threads on offer.
    layers : tuple of LayerPlan
        From the first layer to the last.
    """

    call: str
    layers: tuple[LayerPlan, ...]

    def __str__(self) -> str:
        lines = [self.call]
        for number, layer in enumerate(self.layers):
            first, *rest = layer.lines()
            lines += [f"layer {number}: {first}", *(f"  {line}" for line in rest)]
        return "\n".join(lines)


def explain(
    layer: Options,
    seq_length: int,
    batch: int,
    *,
    lengths: npt.ArrayLike | None = None,
    tokens: bool = False,
    num_threads: int | None = None,
) -> Plan:
    """Tell how a layer would run a call of that shape on this machine.

    Parameters
    ----------
    layer : RNN, LSTM, GRU or QuantizedLayer
        The layer.
    seq_length : int
        Steps T, at least 1.
    batch : int
        Sequences B, at least 1.
    lengths : array_like, shape (B,), optional
        Integers from 0 to T; all T by default.
    tokens : bool
        Whether the input is integers in place of features.
    num_threads : int, optional
        Threads on offer; as calls take it.

    Returns
    -------
    plan : Plan
        Which threads do what, and what was expected of the alternatives.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range.

    Examples
    --------
    >>> print(rnnfast.explain(rnnfast.LSTM(128, 512), 256, 32))
    """
    checks.instance("explain: layer", layer, Options, "an RNN, LSTM, GRU or QuantizedLayer")
    if layer.device != "cpu":
        raise layer._wrong_value(
            f"explain: device is {layer.device!r}, expected a layer with device 'cpu'"
        )
    named = layer._argument
    steps = checks.integer(named("seq_length"), seq_length, 1, checks.MOST)
    rows = checks.integer(named("batch"), batch, 1, checks.MOST)
    tokens = checks.flag(named("tokens"), tokens)
    total = steps * rows
    if lengths is not None:
        given = _checked_lengths(layer, lengths, steps, rows)
        steps, rows, total = int(given.max()), int(np.count_nonzero(given)), int(given.sum())
    plans = layer._core.explain(steps, total, rows, tokens, num_threads)
    offered = _core.get_num_threads() if num_threads is None else num_threads
    call = (
        f"{layer!r}: T = {seq_length}, B = {batch} on {_core.isa()}, "
        f"{offered} thread{'s' if offered > 1 else ''} on offer"
    )
    return Plan(call, tuple(LayerPlan(**plan) for plan in plans))


def _checked_lengths(
    layer: Options, lengths: npt.ArrayLike, steps: int, rows: int
) -> npt.NDArray[np.integer]:
    """Refuse lengths in the words of a call, and those that leave nothing to plan."""
    given = checks.array_like(layer._argument("lengths"), lengths, "iu", "(B,)")
    checks.shape(layer._argument("lengths"), given, (rows,), "(B,)")
    wrong = (given < 0) | (given > steps)
    if wrong.any():
        first = int(wrong.argmax())
        raise layer._wrong_value(
            f"lengths[{first}] is {given[first]}, expected 0 <= length <= T={steps}"
        )
    if not given.any():
        raise layer._wrong_value("lengths are all 0, expected at least one step")
    return given
