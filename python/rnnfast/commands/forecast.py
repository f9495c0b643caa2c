"""`rnnfast forecast`: a series continued by a trained model."""

from __future__ import annotations

import csv
import itertools
import sys
from pathlib import Path
from typing import Annotated, cast

import numpy as np
import typer

from rnnfast.data import read_series
from rnnfast.models import Forecaster, Values
from rnnfast.trained import load_trained


def forecast(
    checkpoint: Annotated[Path, typer.Argument(help="From `rnnfast train series`.")],
    steps: Annotated[int, typer.Option(help="Values to forecast.")],
    data: Annotated[
        Path | None,
        typer.Option(
            help="CSV file to go on from, with the column trained on.",
            show_default="the end of the data trained on",
        ),
    ] = None,
) -> None:
    """Continue a series, as CSV: steps from 1 on, and the value expected at each."""
    if steps < 0:
        raise ValueError(f"--steps is {steps}, expected at least 0")
    trained = load_trained(checkpoint, ("series",))
    model, column = cast(Forecaster, trained.model), trained.about["column"]
    history = _read(data, column, model.window) if data else np.array(trained.about["last"])
    lines = csv.writer(sys.stdout, lineterminator="\n")
    lines.writerow(["step", column])
    for step, value in enumerate(itertools.islice(model.continued(history), steps), 1):
        lines.writerow([step, f"{value:.6g}"])


def _read(path: Path, column: str, window: int) -> Values:
    values = read_series(path, column).values
    if len(values) < window:
        raise ValueError(
            f"{path}: {len(values)} values of {column}, fewer than the {window} of a window"
        )
    return values
