"""The commands of the command line; `cli.main` runs them and reports their errors."""

from __future__ import annotations

from typing import Annotated

import typer

import rnnfast
from rnnfast.bench.cli import command as bench

from .forecast import forecast
from .generate import generate
from .gradients import gradients
from .predict import predict
from .show import info, show
from .suggest import suggest
from .train import app as train

app = typer.Typer(
    help="Recurrent networks on the CPU: train, generate, measure.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print("rnnfast", rnnfast.__version__)
        raise typer.Exit


app.add_typer(train, name="train")
app.command("bench")(bench)
for _command in (generate, suggest, predict, forecast, gradients, show, info):
    app.command()(_command)
