"""Pictures of trainings: curves and confusions. Matplotlib is imported when one is drawn."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .checkpoint import write_atomically
from .history import History

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which stay apart for the colour-blind, and a grey in place of black.
PALETTE = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#999999",
)  # fmt: skip

_NAMED = 25  # classes whose names and counts have room in a picture


def _plain(text: str) -> str:
    """Keep dollar signs from beginning a formula."""
    return text.replace("$", r"\$")


def rendered(figure: Figure) -> bytes:
    """Return a figure in PNG format."""
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    return image.getvalue()


def write(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, replacing the file at once, and return its path."""
    write_atomically(path, rendered(figure))
    return path


def curves(history: History, title: str, path: Path) -> Path:
    """Draw the training loss, and below it each figure of the evaluations.

    Parameters
    ----------
    history : History
        With at least one evaluation.
    title : str
        Above the picture.
    path : Path
        PNG file to write.

    Returns
    -------
    Path
        The file.
    """
    from matplotlib.figure import Figure

    names = [name for name in history.evaluations[0] if name != "step"]
    figure = Figure(figsize=(7, 2 + 1.8 * len(names)), layout="constrained")
    first, *rest = figure.subplots(1 + len(names), 1, sharex=True)
    steps, losses = zip(*history.losses, strict=True) if history.losses else ((), ())
    first.plot(steps, losses, color=PALETTE[0], linewidth=1)
    first.set_ylabel("training loss")
    first.set_title(title)
    for axes, name in zip(rest, names, strict=True):
        points = [(entry["step"], entry[name]) for entry in history.evaluations]
        axes.plot(*zip(*points, strict=True), color=PALETTE[1], marker="o", markersize=3)
        axes.set_ylabel(name)
    for axes in (first, *rest):
        axes.grid(alpha=0.3)
    (rest or [first])[-1].set_xlabel("step")
    return write(figure, path)


def confusion(counts: NDArray[np.int64], labels: tuple[str, ...], path: Path) -> Path:
    """Draw a confusion matrix.

    Parameters
    ----------
    counts : numpy.ndarray
        (V, V) examples by true class (rows) and predicted class (columns).
    labels : tuple of str
        The V classes.
    path : Path
        PNG file to write.

    Returns
    -------
    Path
        The file.
    """
    from matplotlib.figure import Figure

    size = 2.5 + 0.6 * min(len(labels), _NAMED)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes: Any = figure.subplots()
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    axes.imshow(shares, vmin=0.0, vmax=1.0, cmap="Blues")
    if len(labels) <= _NAMED:
        for row, column in np.ndindex(*counts.shape):
            color = "white" if shares[row, column] > 0.5 else "black"
            text = f"{counts[row, column]:,}"
            axes.text(column, row, text, ha="center", va="center", color=color)
        names = [_plain(label) for label in labels]
        axes.set_xticks(range(len(labels)), names, rotation=45, ha="right")
        axes.set_yticks(range(len(labels)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    return write(figure, path)


def gradient_norms(norms: Mapping[str, NDArray[np.float64]], path: Path) -> Path:
    """Draw how gradients shrink with the distance in time.

    Parameters
    ----------
    norms : mapping of str to numpy.ndarray
        By cell, as `rnnfast.gradients.compare` returns them.
    path : Path
        PNG file to write.

    Returns
    -------
    Path
        The file.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes: Any = figure.subplots()
    cells = list(dict.fromkeys(name.split(",")[0] for name in norms))
    for name, values in norms.items():
        cell = name.split(",")[0]
        style = "-" if name == cell else "--"
        shown = np.where(values > 0.0, values, np.nan)  # what has underflown has no logarithm
        axes.semilogy(shown, style, color=PALETTE[cells.index(cell)], label=name)
    axes.set_xlabel("steps before the last one")
    axes.set_ylabel("norm of the input's gradient, relative")
    axes.set_title("what is left of the last output's gradient")
    axes.grid(alpha=0.3)
    axes.legend()
    return write(figure, path)


def forecast(
    values: NDArray[np.float64],
    cut: int,
    one_ahead: NDArray[np.float64],
    fed_back: NDArray[np.float64],
    name: str,
    path: Path,
) -> Path:
    """Draw what was expected of the held-out part of a series.

    Parameters
    ----------
    values : numpy.ndarray
        (N,) the series.
    cut : int
        Where its held-out part begins.
    one_ahead : numpy.ndarray
        (N - cut,) expected of every held-out value by those before it.
    fed_back : numpy.ndarray
        (S,) forecast of the first held-out values by those before `cut`, at most N - cut.
    name : str
        Of the values.
    path : Path
        PNG file to write.

    Returns
    -------
    Path
        The file.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    upper, lower = figure.subplots(2, 1)
    size, steps = len(values), len(fed_back)
    upper.plot(range(cut, size), values[cut:], color="0.6", linewidth=1, label="data")
    upper.plot(range(cut, size), one_ahead, color=PALETTE[0], linewidth=1, label="one step ahead")
    start = max(0, cut - 2 * steps)
    lower.plot(range(start, cut + steps), values[start : cut + steps], color="0.6", label="data")
    lower.plot(range(cut, cut + steps), fed_back, color=PALETTE[1], label="forecast, fed back")
    lower.axvline(cut - 0.5, color="0.6", linestyle=":")
    for axes in (upper, lower):
        axes.set_ylabel(_plain(name))
        axes.grid(alpha=0.3)
        axes.legend(loc="upper left")
    lower.set_xlabel("row")
    return write(figure, path)
