"""`rnnfast generate`: text from a trained model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, cast

import typer

from rnnfast.models import LanguageModel
from rnnfast.systems import LANGUAGE
from rnnfast.train import blas_on_one_thread
from rnnfast.trained import load_trained


def generate(
    checkpoint: Annotated[Path, typer.Argument(help="From `rnnfast train text` or `words`.")],
    length: Annotated[int, typer.Option(help="Characters or words.")] = 1000,
    temperature: Annotated[
        float, typer.Option(help="Below 1 for likelier text, above 1 for more varied text.")
    ] = 0.8,
    prompt: Annotated[str, typer.Option(help="Text to go on from.")] = "",
    seed: Annotated[
        int | None, typer.Option(help="Seed; the same one gives the same text.", show_default=False)
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Compute with weights of eight bits, which is faster.")
    ] = False,
) -> None:
    """Generate text from a checkpoint: the prompt, and what follows it."""
    if length < 0:
        raise ValueError(f"--length is {length}, expected at least 0")
    if seed is not None and seed < 0:
        raise ValueError(f"--seed is {seed}, expected at least 0")
    model = cast(LanguageModel, load_trained(checkpoint, LANGUAGE).model)
    writer = model.quantize() if int8 else model
    pieces = writer.sample(prompt, temperature, seed, limit=length)
    sys.stdout.write(prompt)
    with blas_on_one_thread():
        for piece in pieces:
            sys.stdout.write(piece)
    sys.stdout.write("\n")
