"""`rnnfast show` and `rnnfast info`: what a checkpoint is, and what this machine has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

import rnnfast
from rnnfast.settings import flag
from rnnfast.systems import figures_text
from rnnfast.trained import Trained, load_trained


def show(
    checkpoint: Annotated[Path, typer.Argument(help="From `rnnfast train`.")],
) -> None:
    """Tell what a checkpoint is: the system, its settings, how far it came and how good it is."""
    trained = load_trained(checkpoint)
    try:
        lines = list(_described(trained))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{checkpoint}: damaged checkpoint ({error})") from None
    print("\n".join(lines))


def _described(trained: Trained) -> Iterator[str]:
    description = trained.description
    yield f"system: {trained.system.kind}, rnnfast {description['version']}"
    settings = {n: v for n, v in asdict(trained.settings).items() if v is not None}
    yield "settings: " + " ".join(f"{flag(name)} {value}" for name, value in settings.items())
    yield f"data: {description['source']['name']}"
    yield f"steps: {description['steps']:,} of {_number(description['plan']['total'])}"
    for evaluation in description["history"]["evaluations"]:
        yield f"held-out at step {evaluation['step']:,}: {figures_text(evaluation)}"
    yield f"parameters: {trained.model.flat.size:,}"
    for name, array in trained.model.parameters.items():
        yield f"  {name} {' x '.join(map(str, array.shape))}"


def _number(value: Any) -> str:
    return "a number not known yet" if value is None else f"{value:,}"


def info() -> None:
    """Print the version, the instruction set and the number of threads."""
    for name, value in rnnfast.info().items():
        text = ", ".join(value) if isinstance(value, list | tuple) else value
        print(f"{name.replace('_', ' ')}: {text}")
