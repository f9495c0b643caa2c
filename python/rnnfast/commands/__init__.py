"""The commands of the command line; `cli.main` runs them and reports their errors."""

from __future__ import annotations

import typer

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
app.add_typer(train, name="train")
app.command("bench")(bench)
for _command in (generate, suggest, predict, forecast, gradients, show, info):
    app.command()(_command)
