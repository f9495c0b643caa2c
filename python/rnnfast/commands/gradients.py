"""`rnnfast gradients`: how gradients vanish over time, as a table and a picture."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from rnnfast.checkpoint import check_writable
from rnnfast.gradients import compare, table
from rnnfast.models import CELLS
from rnnfast.plot import gradient_norms


def gradients(
    cells: Annotated[str, typer.Option(help="Cells, separated by commas.")] = ",".join(CELLS),
    length: Annotated[int, typer.Option(help="Steps of the sequences.")] = 100,
    hidden: Annotated[int, typer.Option(help="Units, and input features.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of the weights and sequences.")] = 0,
    out: Annotated[Path, typer.Option(help="PNG file to write.")] = Path("gradients.png"),
) -> None:
    """Show how much of the last output's gradient reaches the inputs of earlier steps.

    The norm of the gradient with respect to the input so many steps before the last, relative to
    that of the last step itself, for fresh layers of each cell; LSTM and GRU also with gate biases
    that let them remember.
    """
    names = [name.strip() for name in cells.split(",")]
    _check("--cells", ", ".join(names), set(names) <= set(CELLS), f"some of {', '.join(CELLS)}")
    _check("--length", length, length >= 2, "at least 2")
    _check("--hidden", hidden, hidden >= 1, "at least 1")
    _check("--seed", seed, seed >= 0, "at least 0")
    if find_spec("matplotlib") is None:
        raise ValueError("the picture needs matplotlib: pip install 'rnnfast[cli]'")
    check_writable(out)
    norms = compare(names, length, hidden, seed)
    print(table(norms))
    print(f"picture: {gradient_norms(norms, out)}")


def _check(name: str, value: object, valid: bool, expected: str) -> None:
    if not valid:
        raise ValueError(f"{name} is {value}, expected {expected}")
