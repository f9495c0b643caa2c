"""The roofline: how near each case comes to what its weights' cache and the FMA units allow.

The arithmetic intensity of a case is that of `rnnfast.bench.grid.Case.intensity`: its operations
per byte of weights that its steps must read. Nothing else that is read or written counts, so
the roofs are upper bounds. One sequence does two operations with every weight it reads for the
state, and its roof is the bandwidth; with more sequences, the FMA units are.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from rnnfast.bench import caches
from rnnfast.bench.grid import CELLS, PASSES
from rnnfast.bench.run import Measurement
from rnnfast.bench.subjects import OURS
from rnnfast.plot import PALETTE, rendered

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKERS = dict(zip(CELLS, "os^", strict=True))
Roofs = dict[str, float]


def roofs(
    measurements: Sequence[Measurement], num_threads: int, sizes: dict[int, int]
) -> tuple[Roofs, list[str]]:
    """The measured bandwidth of each cache that holds weights, and which one holds each case's.

    Parameters
    ----------
    measurements : sequence of Measurement
        The cases.
    num_threads : int
        That the bandwidths were measured with.
    sizes : dict of int to int
        Bytes of the caches by level.

    Returns
    -------
    bandwidths : dict of str to float
        Bytes per second by the cache's name, the nearest first: the median over its cases.
    held : list of str
        The cache's name for every measurement.
    """
    held = [caches.holder(m.case.weight_bytes, num_threads, sizes) for m in measurements]
    rates: dict[str, list[float]] = {}
    for name, measurement in zip(held, measurements, strict=True):
        rates.setdefault(name, []).append(measurement.bandwidth.median)
    return {name: median(rates[name]) for name in sorted(rates)}, held


def png(
    measurements: Sequence[Measurement], title: str, num_threads: int, sizes: dict[int, int]
) -> bytes:
    """The figure of `draw` in PNG format."""
    return rendered(draw(measurements, title, num_threads, sizes))


def draw(
    measurements: Sequence[Measurement], title: str, num_threads: int, sizes: dict[int, int]
) -> Figure:
    """Draw one panel a pass: rnnfast's cases below the roofs, those of one sequence large.

    Parameters
    ----------
    measurements : sequence of Measurement
        At least one.
    title : str
        Above the panels.
    num_threads, sizes
        As for `roofs`.
    """
    from matplotlib.figure import Figure

    bandwidths, held = roofs(measurements, num_threads, sizes)
    colours = dict(zip(bandwidths, PALETTE, strict=False))
    works = [work for work in PASSES if any(m.case.work == work for m in measurements)]
    figure = Figure(figsize=(1 + 4.5 * len(works), 5.5), layout="constrained")
    panels = figure.subplots(1, len(works), squeeze=False, sharex=True, sharey=True)[0]
    for axes, work in zip(panels, works, strict=True):
        for measurement, name in zip(measurements, held, strict=True):
            if measurement.case.work == work:
                _draw_case(axes, measurement, colours[name])
        axes.set(title=work, xscale="log", yscale="log")
        axes.set_xlabel("flops per byte of weights that steps must read")
    panels[0].set_ylabel("GFLOP/s")
    peak = median(m.peak.median for m in measurements)
    for axes in panels:
        _draw_roofs(axes, bandwidths, peak, colours)
    figure.legend(handles=_legend(bandwidths, colours), loc="outside lower center", ncols=5)
    figure.suptitle(title, fontsize="medium")
    return figure


def _draw_case(axes: Any, measurement: Measurement, colour: str) -> None:
    """A point, and for one sequence a larger one with its units beside."""
    case, alone = measurement.case, measurement.case.batch == 1
    place = case.intensity, measurement.gflops(OURS.name)
    axes.plot(
        *place,
        MARKERS[case.cell],
        color=colour,
        markersize=9 if alone else 5,
        alpha=1.0 if alone else 0.4,
        markeredgecolor="black" if alone else "none",
    )
    if alone:
        axes.annotate(
            f"H{case.hidden_size}", place, (7, -3), textcoords="offset points", fontsize="small"
        )


def _draw_roofs(axes: Any, bandwidths: Roofs, peak: float, colours: dict[str, str]) -> None:
    """The line of each bandwidth up to the peak, and the peak, over all points of the figure."""
    low, high = axes.get_xlim()
    for name, bandwidth in bandwidths.items():
        ridge = peak * 1e9 / bandwidth
        left = min(low, ridge)
        axes.plot([left, ridge], [left * bandwidth / 1e9, peak], color=colours[name], zorder=0)
    axes.axhline(peak, color="black", zorder=0)
    axes.set_xlim(low, high)


def _legend(bandwidths: Roofs, colours: dict[str, str]) -> list[Any]:
    from matplotlib.lines import Line2D

    grey: dict[str, Any] = {"color": "grey", "linestyle": "none"}
    return [
        Line2D([], [], color="black", label="FMA peak"),
        *(
            Line2D([], [], color=colours[name], label=f"weights in {name}, {rate / 1e9:.0f} GB/s")
            for name, rate in bandwidths.items()
        ),
        *(Line2D([], [], marker=mark, label=cell, **grey) for cell, mark in MARKERS.items()),
        Line2D([], [], marker="o", markersize=9, markeredgecolor="black", label="B 1", **grey),
    ]
