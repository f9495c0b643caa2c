"""The commands of the command line; `cli.main` runs them and reports their errors."""

from __future__ import annotations

import itertools
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import rnnfast

from .bench.cli import command as bench
from .checkpoint import check_writable, load
from .cli import INTERRUPTED, UNSAVED
from .progress import Meter, Progress
from .text import PRESETS, TextOptions, TextRun, load_model
from .train import Interruption

_DEFAULTS = TextOptions(minutes=2.0)
_SAMPLE = 500  # characters shown after a training
_SAMPLE_TEMPERATURE = 0.7

app = typer.Typer(
    help="Recurrent networks on the CPU: train, generate, measure.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
train = typer.Typer(help="Train a model.", no_args_is_help=True)
app.add_typer(train, name="train")
app.command("bench")(bench)


def _default(name: str) -> Any:
    return str(getattr(_DEFAULTS, name))


@train.command("text")
def train_text(
    data: Annotated[
        Path | None,
        typer.Option(help="Text file.", show_default="the standard library's source"),
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Of the text file.", show_default=_default("encoding"))
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help=f"Options to start from: {', '.join(PRESETS)}.", show_default=False),
    ] = None,
    cell: Annotated[
        str | None, typer.Option(help="basic, lstm or gru.", show_default=_default("cell"))
    ] = None,
    layers: Annotated[
        int | None, typer.Option(help="Recurrent layers.", show_default=_default("layers"))
    ] = None,
    hidden: Annotated[
        int | None, typer.Option(help="Units in a layer.", show_default=_default("hidden"))
    ] = None,
    seq_length: Annotated[
        int | None,
        typer.Option(help="Steps of a window.", show_default=_default("seq_length")),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(help="Streams side by side.", show_default=_default("batch")),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the text.", show_default=False)
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(help="Time to train for.", show_default=_default("minutes")),
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Peak learning rate.", show_default=_default("lr"))
    ] = None,
    clip: Annotated[
        float | None,
        typer.Option(help="Largest gradient norm.", show_default=_default("clip")),
    ] = None,
    dropout: Annotated[
        float | None, typer.Option(help="Between layers.", show_default=_default("dropout"))
    ] = None,
    compute: Annotated[
        str | None,
        typer.Option(
            help="Precision of products: float32 or bfloat16.", show_default=_default("compute")
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Of weights and dropout.", show_default=_default("seed")),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(help="Of the recurrent kernels.", show_default="one for each core"),
    ] = None,
    out: Annotated[Path, typer.Option(help="Checkpoint to write.")] = Path("text.safetensors"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on from --out.")] = False,
    checkpoint_every: Annotated[float, typer.Option(help="Seconds between checkpoints.")] = 60.0,
) -> None:
    """Train a character model on text; by default two minutes on the standard library's source.

    A checkpoint is written at intervals, at the end, and on Ctrl-C. With --resume the training
    goes on from it as if it had never stopped; then --epochs or --minutes make it longer.
    """
    given = {
        "data": None if data is None else str(data), "encoding": encoding, "cell": cell,
        "layers": layers, "hidden": hidden, "seq_length": seq_length, "batch": batch,
        "epochs": epochs, "minutes": minutes, "lr": lr, "clip": clip, "dropout": dropout,
        "compute": compute, "seed": seed,
    }  # fmt: skip
    given = _preset(preset) | {name: value for name, value in given.items() if value is not None}
    if not checkpoint_every >= 0.0:
        raise ValueError(f"--checkpoint-every is {checkpoint_every}, expected at least 0")
    if threads is not None:
        _set_threads(threads)
    check_writable(out)
    if not resume:
        _check_replaceable(out)
    run = TextRun.resume(out, given) if resume else _start(given)
    _train(run, out, checkpoint_every)


def _set_threads(count: int) -> None:
    try:
        rnnfast.set_num_threads(count)
    except ValueError as error:
        raise ValueError(str(error).replace("num_threads", "--threads")) from None


def _check_replaceable(out: Path) -> None:
    """Refuse to write over a file that is no checkpoint, such as the text itself."""
    try:
        if out.exists():
            load(out)
    except ValueError:
        raise ValueError(f"--out is {out}, which exists and is no checkpoint") from None


def _preset(name: str | None) -> dict[str, Any]:
    if name is None:
        return {}
    if name not in PRESETS:
        raise ValueError(f"--preset is {name!r}, expected one of {', '.join(PRESETS)}")
    return dict(PRESETS[name])


def _start(given: dict[str, Any]) -> TextRun:
    if "epochs" not in given:
        given = {"minutes": _DEFAULTS.minutes} | given
    options = TextOptions(**given)
    return TextRun(options, options.corpus())


def _train(run: TextRun, out: Path, interval: float) -> None:
    """Train, save, and report; the progress on standard error, the results on standard output."""
    progress = Progress(Meter(run.trainer, run.task.characters_per_step, run.seconds))
    progress.note(run.summary())

    def save() -> bool:
        try:
            run.save(out)
        except OSError as error:  # the training is worth more, and a later one may succeed
            progress.note(f"checkpoint not written: {error.strerror}: {out}")
            return False
        return True

    def checkpoint() -> None:
        save()
        progress.note(f"step {run.trainer.steps}: held-out {run.task.evaluate():.3f} bits/char")

    with Interruption() as interruption, progress:
        finished = run.trainer.run(
            seconds=run.seconds, interval=interval, checkpoint=checkpoint,
            on_step=progress.on_step, stop=interruption,
        )  # fmt: skip
    saved = save()
    if not finished:
        again = shlex.join(["rnnfast", "train", "text", "--resume", "--out", str(out)])
        how = f"saved; go on with: {again}" if saved else "not saved"
        progress.note(f"stopped after step {run.trainer.steps}, {how}")
        raise typer.Exit(INTERRUPTED)
    print(f"held-out: {run.task.evaluate():.3f} bits per character")
    print(f"checkpoint: {out}\n" if saved else "no checkpoint\n")
    print(run.model.generate(_SAMPLE, temperature=_SAMPLE_TEMPERATURE, rng=run.options.seed))
    if not saved:
        raise typer.Exit(UNSAVED)


@app.command()
def generate(
    checkpoint: Annotated[Path, typer.Argument(help="From `rnnfast train text`.")],
    length: Annotated[int, typer.Option(help="Characters.")] = 1000,
    temperature: Annotated[
        float, typer.Option(help="Below 1 more likely, above 1 more varied.")
    ] = 0.8,
    prompt: Annotated[str, typer.Option(help="Text to go on from.")] = "",
    seed: Annotated[
        int | None, typer.Option(help="For the same text again.", show_default=False)
    ] = None,
) -> None:
    """Generate text from a checkpoint: the prompt, and what follows it."""
    if length < 0:
        raise ValueError(f"--length is {length}, expected at least 0")
    if seed is not None and seed < 0:
        raise ValueError(f"--seed is {seed}, expected at least 0")
    characters = load_model(checkpoint).sample(prompt, temperature, seed)
    sys.stdout.write(prompt)
    for character in itertools.islice(characters, length):
        sys.stdout.write(character)
    sys.stdout.write("\n")


@app.command()
def info() -> None:
    """Print the version, the instruction set and the number of threads."""
    for name, value in rnnfast.info().items():
        text = ", ".join(value) if isinstance(value, list | tuple) else value
        print(f"{name.replace('_', ' ')}: {text}")
