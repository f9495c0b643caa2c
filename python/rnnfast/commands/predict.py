"""`rnnfast predict`: labels and probabilities of lines of text."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, cast

import typer

from rnnfast.data import Readable, decode_chunks, line_lists
from rnnfast.systems import SYSTEMS, LineSystem, Prediction
from rnnfast.trained import load_trained

_LINES = 256  # predicted before the output goes on


def predict(
    checkpoint: Annotated[Path, typer.Argument(help="Such as from `rnnfast train sentiment`.")],
    file: Annotated[
        Path | None,
        typer.Argument(help="Texts, one on each line.", show_default="standard input"),
    ] = None,
    encoding: Annotated[str, typer.Option(help="Encoding of the texts.")] = "utf-8",
    as_json: Annotated[
        bool, typer.Option("--json", help="Write JSON lines: label, and probabilities by label.")
    ] = False,
) -> None:
    """Label lines of text: each line read is answered at once by a line of labels.

    Such a line has the likeliest label, its probability, the next label, its probability and so on,
    separated by tabs. Lines to read are texts alone, without labels; an empty one is an empty text.
    """
    kinds = [name for name, kind in SYSTEMS.items() if issubclass(kind, LineSystem)]
    trained = load_trained(checkpoint, kinds)
    system = cast(type[LineSystem], trained.system)
    write = _json if as_json else _tabs
    for lines in _lines(file, encoding):
        for prediction in system.predict_lines(trained.model, lines):
            sys.stdout.write(write(prediction) + "\n")
        sys.stdout.flush()


def _lines(file: Path | None, encoding: str) -> Iterator[Sequence[str]]:
    """Read the lines that have come, at most so many at once."""
    if file is None:
        yield from _some(cast(Readable, sys.stdin.buffer), "standard input", encoding)
        return
    with open(file, "rb") as source:
        yield from _some(source, str(file), encoding)


def _some(source: Readable, name: str, encoding: str) -> Iterator[Sequence[str]]:
    for lines in line_lists(decode_chunks(source, name, encoding)):
        for start in range(0, len(lines), _LINES):
            yield lines[start : start + _LINES]


def _ranked(prediction: Prediction) -> dict[str, float]:
    """Round, and put the likeliest first; equals in order of their names."""
    rounded = {label: round(share, 6) for label, share in prediction.items()}
    return dict(sorted(rounded.items(), key=lambda entry: (-entry[1], entry[0])))


def _tabs(prediction: Prediction) -> str:
    return "\t".join(f"{label}\t{share:.6f}" for label, share in _ranked(prediction).items())


def _json(prediction: Prediction) -> str:
    ranked = _ranked(prediction)
    return json.dumps({"label": next(iter(ranked)), "probabilities": ranked}, ensure_ascii=False)
