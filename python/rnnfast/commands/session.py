"""A training on the command line: progress, log, checkpoints, curves."""

from __future__ import annotations

import json
import shlex
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import typer

from rnnfast.cli import INTERRUPTED, UNSAVED
from rnnfast.plot import curves
from rnnfast.progress import Meter, Progress
from rnnfast.run import Figures, Run
from rnnfast.systems import figures_text
from rnnfast.train import Interruption


@dataclass
class Participant:
    """A training in one of several processes, of which another one shows and writes.

    Attributes
    ----------
    run : Run
        The training.
    out : Path
        Its checkpoint; the best one has `.best` before the ending.
    interval : float
        Seconds between checkpoints.
    resumed : bool
        Whether the checkpoints there are its own.
    """

    run: Run
    out: Path
    interval: float
    resumed: bool
    _saved: float = field(default_factory=time.monotonic, init=False)
    _best_lost: bool = field(default=False, init=False)

    @property
    def best(self) -> Path:
        """Where the best checkpoint goes."""
        return best_path(self.out)

    def train(self) -> None:
        """Train.

        Raises
        ------
        typer.Exit
            If the training was interrupted.
        """
        with Interruption() as interruption:
            finished = self._run(interruption)
        self._save(self.out)
        if not finished:
            raise typer.Exit(INTERRUPTED)

    def _run(self, interruption: Interruption) -> bool:
        return self.run.train(
            on_step=self._step, on_evaluation=self._evaluated, checkpoint=self._checkpoint,
            stop=interruption,
        )  # fmt: skip

    def _step(self, loss: float) -> None:
        """Take note of a step."""

    def _evaluated(self, figures: Figures, best: bool) -> None:
        if best:
            self._best_lost = not self._save(self.best)

    def _checkpoint(self) -> None:
        """Save if it is time to, which the first process's clock decides for all."""
        due = time.monotonic() - self._saved >= self.interval
        if self.run.group.agree(due) and not self.run.trainer.finished:
            self._save(self.out)
            self._saved = time.monotonic()

    def _save(self, path: Path) -> bool:
        self.run.save(path)
        if not self.resumed and path == self.out and not self.run.history.evaluations:
            self.best.unlink(missing_ok=True)  # that of a former training
        return True


@dataclass
class Session(Participant):
    """What a training on the command line shows and writes, and where.

    Attributes
    ----------
    log : TextIO or None
        JSON lines.
    pictures : bool
        Whether curves and pictures are drawn.
    """

    log: TextIO | None
    pictures: bool
    _progress: Progress = field(init=False)

    def __post_init__(self) -> None:
        self._progress = Progress(Meter(self.run))

    def train(self) -> None:
        """Train and report: progress on standard error, results on standard output.

        Raises
        ------
        typer.Exit
            If the training was interrupted or could not be saved.
        """
        self._progress.note(self.run.system.summary())
        if not self.resumed and self.out.exists():
            self._progress.note(f"{self.out} of an earlier training will be replaced")
        with Interruption() as interruption, self._progress:
            finished = self._run(interruption)
        saved = self._save(self.out)
        if not finished:
            self._say_how_to_go_on(saved)
            raise typer.Exit(INTERRUPTED)
        self._report(saved)
        if self.pictures:
            self._draw()
        if not saved:
            raise typer.Exit(UNSAVED)

    def _step(self, loss: float) -> None:
        self._progress.on_step(loss)
        trainer = self.run.trainer
        self._write(
            {
                "step": trainer.steps, "loss": loss, "gradient_norm": trainer.norm,
                "lr": trainer.plan.rate(trainer.steps - 1),
            }
        )  # fmt: skip

    def _evaluated(self, figures: Figures, best: bool) -> None:
        step = self.run.trainer.steps
        self._progress.note(f"step {step}: held-out {figures_text(figures)}")
        self._write({"step": step, "held_out": figures})
        super()._evaluated(figures, best)

    def _write(self, line: dict[str, object]) -> None:
        if self.log is None:
            return
        try:
            print(json.dumps({"time": round(time.time(), 3), **line}), file=self.log, flush=True)
        except OSError as error:  # the training is worth more
            self._progress.note(f"log ends here: {error.strerror}: {self.log.name}")
            self.log = None

    def _save(self, path: Path) -> bool:
        try:
            return super()._save(path)
        except OSError as error:  # the training is worth more, and a later one may succeed
            self._progress.note(f"checkpoint not written: {error.strerror}: {path}")
            return False

    def _say_how_to_go_on(self, saved: bool) -> None:
        kind = self.run.system.kind
        again = shlex.join(["rnnfast", "train", kind, "--resume", "--out", str(self.out)])
        how = f"saved; go on with: {again}" if saved else "not saved"
        self._progress.note(f"stopped after step {self.run.trainer.steps}, {how}")

    def _report(self, saved: bool) -> None:
        history, system = self.run.history, self.run.system
        last = history.evaluations[-1]
        best = history.evaluations[history.best(*system.best)]
        print(f"held-out: {figures_text(last)}")
        if best is not last:
            name = system.best[0]
            where = "not saved" if self._best_lost else f"in {self.best}"
            print(f"best: {name} {best[name]:.4g} at step {best['step']}, {where}")
        print(f"checkpoint: {self.out}" if saved else "no checkpoint")
        report = system.report()
        if report:
            print(f"\n{report}")

    def _draw(self) -> None:
        history, system = self.run.history, self.run.system
        drawings = {curves_path(self.out): lambda path: curves(history, system.kind, path)}
        for name, draw in system.pictures().items():
            drawings[self.out.with_suffix(f".{name}.png")] = draw
        drawn = []
        for path, draw in drawings.items():
            try:
                drawn.append(f"\npicture: {draw(path)}")
            except OSError as error:
                self._progress.note(f"picture not written: {error.strerror}: {path}")
        if drawn:
            print("".join(drawn))


def curves_path(out: Path) -> Path:
    """Where the curves of a training go whose checkpoint goes to `out`."""
    return out.with_suffix(".png")


def best_path(out: Path) -> Path:
    """Where the best checkpoint of a training goes whose last one goes to `out`."""
    return out.with_name(f"{out.stem}.best{out.suffix}")


def is_log(path: Path) -> bool:
    """Tell whether a file is empty or begins as a log does."""
    with open(path, "rb") as file:
        start = file.readline(1 << 16)
    try:
        return not start or "time" in json.loads(start)
    except (ValueError, TypeError):
        return False


def open_log(path: Path | None, resume: bool, stack: ExitStack) -> TextIO | None:
    """Open the log, to go on with it where the training goes on."""
    if path is None:
        return None
    return stack.enter_context(open(path, "a" if resume else "w", encoding="utf-8"))
