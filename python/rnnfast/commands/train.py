"""`rnnfast train`: one command for each system, with the options that its settings have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer

import rnnfast
from rnnfast.checkpoint import check_writable, load
from rnnfast.cli import BAD_INPUT, UNSAVED
from rnnfast.parallel import FailedElsewhereError, Group, join, together
from rnnfast.run import Run
from rnnfast.settings import LENGTH, flag
from rnnfast.systems import SYSTEMS, System
from rnnfast.train import DivergenceError

from .options import Parameters, command, option, setting_options
from .session import Participant, Session, best_path, curves_path, is_log, open_log

app = typer.Typer(help="Train a model.", no_args_is_help=True)


def _parameters(kind: type[System]) -> Parameters:
    out = Path(f"{kind.kind}.safetensors")
    preset = [option("preset", str | None, None, help=_presets(kind))]
    threads = "Threads to compute with. Default: one for each core."
    every = "Seconds between checkpoints. Default: 60."
    plot = "Whether to draw curves and pictures beside --out. Default: yes."
    return [
        *setting_options(kind.settings_type, kind.duration),
        *(preset if kind.presets else []),
        option("threads", int | None, None, help=threads),
        option("out", Path, out, help=f"Checkpoint to write. Default: {out}."),
        option("resume", bool, False, "--resume", help="Go on from --out."),
        option("checkpoint_every", float, 60.0, help=every),
        option("log", Path | None, None, help="JSON lines of steps and evaluations."),
        option("plot", bool, True, help=plot),
    ]


def _presets(kind: type[System]) -> str:
    """Tell the presets and what they stand for."""
    told = (
        f"{name} ({' '.join(f'{flag(key)} {value}' for key, value in settings.items())})"
        for name, settings in kind.presets.items()
    )
    return f"Options to start from: {', '.join(told)}."


def _train(kind: type[System], given: dict[str, Any]) -> None:
    group = join()
    with ExitStack() as stack:
        try:
            session = together(group, lambda: _session(kind, given, group, stack))
        except FailedElsewhereError:
            raise typer.Exit(BAD_INPUT) from None
        with _one_fate(group):
            session.train()


@contextmanager
def _one_fate(group: Group) -> Iterator[None]:
    """Let one process tell what ended all of them, and none wait for one that failed alone."""
    try:
        yield
    except DivergenceError:
        if group.rank > 0:
            raise typer.Exit(UNSAVED) from None
        raise
    except typer.Exit:
        raise
    except BaseException:
        group.abandon()
        raise


def _session(
    kind: type[System], given: Mapping[str, Any], group: Group, stack: ExitStack
) -> Participant:
    """Prepare all that can be refused, in the order in which nothing is left behind then."""
    names = {entry.name for entry in fields(kind.settings_type)}
    settings = {n: v for n, v in given.items() if n in names and v is not None}
    settings = _over(_preset(kind, given.get("preset")), settings)
    out, interval, resume = given["out"], given["checkpoint_every"], given["resume"]
    if not interval >= 0.0:
        raise ValueError(f"--checkpoint-every is {interval}, expected at least 0")
    if given["threads"] is not None:
        _set_threads(given["threads"])
    if group.rank == 0:
        _check_outputs(kind, given)
    if resume:
        run = Run.resume(kind, out, settings, group)
    else:
        length = {} if LENGTH & set(settings) else kind.duration
        run = Run(kind, kind.settings_type(**length, **settings), group)
    if group.rank > 0:
        return Participant(run, out, interval, resume)
    log = open_log(given["log"], resume, stack)
    return Session(run, out, interval, resume, log, given["plot"])


def _check_outputs(kind: type[System], given: Mapping[str, Any]) -> None:
    """Refuse now what could not be written later, or would take the place of something else."""
    out, log = given["out"], given["log"]
    if given["plot"] and find_spec("matplotlib") is None:
        raise ValueError("--plot needs matplotlib: pip install 'rnnfast[cli]', or give --no-plot")
    check_writable(out)
    if given["plot"] and curves_path(out) == out:
        raise ValueError(f"--out is {out}, where the curves go; give another ending, or --no-plot")
    if not given["resume"]:
        _check_replaceable(out, kind)
    if log is not None:
        _check_log(log, out)


def _check_log(log: Path, out: Path) -> None:
    """Refuse to write the log over another file, of the training or the user's."""
    others = {"--out": out, "the best checkpoint": best_path(out), "the picture": curves_path(out)}
    for name, other in others.items():
        if log.resolve() == other.resolve():
            raise ValueError(f"--log is {log}, which is {name}")
    if log.is_file() and not is_log(log):
        raise ValueError(f"--log is {log}, which exists and is no log")


def _preset(kind: type[System], name: str | None) -> dict[str, Any]:
    if name is None:
        return {}
    if name not in kind.presets:
        raise ValueError(f"--preset is {name!r}, expected one of {', '.join(kind.presets)}")
    return dict(kind.presets[name])


def _over(preset: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Let the settings given stand over those of the preset, a length over any length."""
    if LENGTH & set(given):
        preset = {name: value for name, value in preset.items() if name not in LENGTH}
    return preset | given


def _set_threads(count: int) -> None:
    try:
        rnnfast.set_num_threads(count)
    except ValueError as error:
        raise ValueError(str(error).replace("num_threads", "--threads")) from None


def _check_replaceable(out: Path, kind: type[System]) -> None:
    """Refuse to write over what is no checkpoint, such as the data, or one of another system."""
    for path in (out, best_path(out)):
        try:
            if path.exists():
                load(path, kind.kind)
        except ValueError as error:
            raise ValueError(f"--out is {out}, but {path} would be lost ({error})") from None


def _add(kind: type[System]) -> None:
    doc = f"""{kind.__doc__}

    A checkpoint is written at intervals, at the end, and on Ctrl-C, and the best one by held-out
    data beside it. With --resume the training goes on as if it had never stopped; then --epochs or
    --minutes make it longer.
    """
    body = command(kind.kind, doc, _parameters(kind), lambda given: _train(kind, given))
    app.command(kind.kind)(body)


for _kind in SYSTEMS.values():
    _add(_kind)
