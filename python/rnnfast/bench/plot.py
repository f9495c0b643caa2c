"""The result of a run as a picture: GFLOP/s reached against the peak, peers beside."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from rnnfast.bench.grid import CELLS
from rnnfast.bench.run import Measurement
from rnnfast.bench.subjects import SUBJECTS
from rnnfast.plot import PALETTE, rendered

ROWS = ("forward", "train")


def available() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def png(measurements: Sequence[Measurement], title: str) -> bytes:
    """Draw forward above training, one column of panels a cell, one group of bars a shape.

    Parameters
    ----------
    measurements : sequence of Measurement
        At least one forward or training case.
    title : str
        Above the panels.

    Returns
    -------
    bytes
        The image in PNG format.
    """
    from matplotlib.figure import Figure

    cells = [cell for cell in CELLS if any(m.case.cell == cell for m in measurements)]
    shapes = list(dict.fromkeys(m.case.sizes for m in measurements))
    size = (1 + len(cells) * max(3.2, 0.32 * len(shapes)), 7)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(ROWS), len(cells), squeeze=False, sharex=True, sharey=True)
    for row, work in enumerate(ROWS):
        for column, cell in enumerate(cells):
            _draw(axes[row, column], _panel(measurements, cell, work), shapes)
            axes[row, column].set_title(f"{cell} {work}")
        axes[row, 0].set_ylabel("GFLOP/s")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    figure.suptitle(title, fontsize="medium")
    return rendered(figure)


def _panel(measurements: Sequence[Measurement], cell: str, work: str) -> list[Measurement]:
    return [m for m in measurements if (m.case.cell, m.case.work) == (cell, work)]


def _colour(name: str) -> str:
    """The same for a subject in every picture."""
    index = [subject.name for subject in SUBJECTS].index(name)
    return PALETTE[index]


def _draw(axes: Any, panel: Sequence[Measurement], shapes: Sequence[str]) -> None:
    """Bars of every subject and a line for the peak, over the shapes of one cell and pass."""
    names = [s.name for s in SUBJECTS if any(s.name in m.seconds for m in panel)]
    width = 0.8 / max(1, len(names))
    for index, name in enumerate(names):
        shown = [m for m in panel if name in m.seconds]
        axes.bar(
            [shapes.index(m.case.sizes) - 0.4 + (index + 0.5) * width for m in shown],
            [m.gflops(name) for m in shown],
            width,
            color=_colour(name),
            label=name,
        )
    # A line per case: the peak is measured anew in each.
    places = [shapes.index(m.case.sizes) for m in panel]
    axes.hlines(
        [m.peak.median for m in panel],
        [place - 0.5 for place in places],
        [place + 0.5 for place in places],
        color="black",
        label="FMA peak",
    )
    axes.set_xticks(range(len(shapes)), shapes, rotation=60, ha="right")
    axes.set_xlim(-0.6, len(shapes) - 0.4)
