"""One training of one system: settings, evaluations, checkpoints, resume.

Nothing that decides a step depends on the clock, so that a run resumed from a checkpoint repeats
the straight run bit for bit. The one measured quantity, how many steps a number of minutes holds,
becomes part of the plan that the checkpoint keeps.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import info
from .checkpoint import Checkpoint, load, save
from .history import History
from .optim import AdamW
from .parallel import Alone, Group
from .settings import LENGTH, Settings
from .systems.system import System
from .train import Trainer, TrainingPlan

FREE = LENGTH | {"data", "encoding", "patience"}  # settings that a resumed run may change
Figures = dict[str, float]


class Run:
    """A system in training: from its settings, or from a checkpoint by `resume`.

    Parameters
    ----------
    kind : type of System
        Such as `rnnfast.systems.Text`.
    settings : Settings
        Of that kind.
    group : Group, optional
        Processes that train together; this one alone unless given.

    Attributes
    ----------
    settings : Settings
    group : Group
    system : System
    trainer : Trainer
    history : History

    Raises
    ------
    OSError, ValueError
        If the data cannot be read or do not fit the settings.
    """

    def __init__(self, kind: type[System], settings: Settings, group: Group | None = None) -> None:
        self.group: Group = Alone() if group is None else group
        self.settings, self.history = settings, History()
        self._rng = np.random.default_rng(settings.seed)
        self.system = kind(settings, self._rng, self.group)
        model = self.system.model
        optimizer = AdamW(model.flat, settings.lr, weight_decay=settings.weight_decay)
        self._part_ways()
        self.trainer = Trainer(
            self.system, optimizer, TrainingPlan(settings.lr),
            settings.clip, settings.accumulate, self.group,
        )  # fmt: skip
        self._plan()

    def _plan(self) -> None:
        """Plan the length that the settings give; a time becomes steps when the trainer runs."""
        epochs = self.settings.epochs
        plan = TrainingPlan(self.settings.lr, schedule=self.settings.schedule)
        self.trainer.plan = (
            plan if epochs is None else plan.of_length(epochs * self._steps_per_epoch)
        )

    def _part_ways(self) -> None:
        """Let processes, which have drawn the same weights, draw dropout apart from each other."""
        if self.group.rank > 0:  # even no advance would drop half a draw that is left over
            self._rng.bit_generator.advance(self.group.rank << 64)  # type: ignore[attr-defined]

    @property
    def _steps_per_epoch(self) -> int:
        return max(1, self.system.batches_per_epoch // self.settings.accumulate)

    @property
    def seconds(self) -> float | None:
        """Time to train for, if the settings give one."""
        return None if self.settings.minutes is None else 60.0 * self.settings.minutes

    @property
    def stalled(self) -> bool:
        """Whether the last evaluations brought nothing better, as many as the patience."""
        return self.history.stalled(*self.system.best, self.settings.patience)

    def train(
        self,
        *,
        on_step: Callable[[float], None] = lambda _: None,
        on_evaluation: Callable[[Figures, bool], None] = lambda *_: None,
        checkpoint: Callable[[], None] = lambda: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Train to the end of the plan, or until patience or `stop` ends it.

        Parameters
        ----------
        on_step : callable
            Told the loss of every step, after it.
        on_evaluation : callable
            Told the figures of every evaluation, and whether it is the best so far.
        checkpoint : callable
            Called after every step, when its evaluation, if any, is in the history: now or in
            `on_evaluation`, a checkpoint holds all of the step.
        stop : callable
            Asked after every step; true ends the run early.

        Returns
        -------
        bool
            False if `stop` ended the run.

        Raises
        ------
        DivergenceError
            If the loss is no longer finite.
        """

        def step(loss: float) -> None:
            trainer = self.trainer
            self.history.add_loss(trainer.steps, loss, trainer.plan.total)
            on_step(loss)
            if self._evaluation_is_due():
                figures = self.group.agree(self.system.evaluate())
                self.history.add_evaluation(trainer.steps, figures)
                last = len(self.history.evaluations) - 1
                on_evaluation(figures, self.history.best(*self.system.best) == last)
            checkpoint()

        finished = self.trainer.run(
            seconds=self.seconds, on_step=step, stop=lambda: self.stalled or stop()
        )
        return finished or self.stalled

    def _evaluation_is_due(self) -> bool:
        """Each epoch, or as often as the system wants where that is more, and at the end."""
        steps, total = self.trainer.steps, self.trainer.plan.total
        if total is None:
            return False
        every = max(1, min(self._steps_per_epoch, -(-total // self.system.evaluations)))
        return steps % every == 0 or steps >= total

    def save(self, path: str | Path) -> None:
        """Write a checkpoint; errors as in `checkpoint.save`.

        Called by all processes of the group, of which the first one writes.
        """
        source = self.system.source
        description = {
            "version": info()["version"],
            "settings": asdict(self._rooted()),
            "about": self.system.about,
            "source": asdict(source),
            "steps": self.trainer.steps,
            "plan": asdict(self.trainer.plan),
            "history": self.history.state(),
            "rng": self._rng.bit_generator.state,
        }
        groups = {
            "model": self.system.model.parameters,
            "optimizer": self.trainer.optimizer.state_dict(),
            "state": self.system.state(),
        }
        if self.group.rank == 0:
            save(path, Checkpoint(self.system.kind, groups, description))

    def _rooted(self) -> Settings:
        """Return the settings with a path that holds in any folder."""
        data: str | None = getattr(self.settings, "data", None)
        if data is None:
            return self.settings
        changed: dict[str, Any] = {"data": os.path.abspath(data)}
        return replace(self.settings, **changed)

    @classmethod
    def resume(
        cls,
        kind: type[System],
        path: str | Path,
        given: Mapping[str, Any],
        group: Group | None = None,
    ) -> Run:
        """Go on from a checkpoint.

        Parameters
        ----------
        kind : type of System
            What is in the checkpoint.
        path : str or Path
            The checkpoint.
        given : mapping of str to object
            Settings asked for anew. A length other than the checkpoint's extends the plan: `epochs`
            are counted from the first step on, `minutes` from now on. The data may have moved, and
            the patience may change. Everything else has to be as in the checkpoint.
        group : Group, optional
            Processes that train together.

        Returns
        -------
        Run
            In the state of the run that wrote the checkpoint.

        Raises
        ------
        OSError, ValueError
            If the checkpoint or the data cannot be read, the data are others, a setting differs, or
            the plan is already finished.
        """
        checkpoint = load(path, kind.kind)
        try:
            stored = kind.settings_type(**checkpoint.description["settings"])
            digest = checkpoint.description["source"]["digest"]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: damaged checkpoint ({error})") from None
        settings = stored.extended(given, FREE)
        run = cls(kind, settings, group)
        if run.system.source.digest != digest:
            raise ValueError(f"{run.system.source.name}: not the data that {path} was trained on")
        run._restore(path, checkpoint)
        asked, planned = (settings.epochs, settings.minutes), (stored.epochs, stored.minutes)
        if asked != planned or (run.trainer.finished and LENGTH & set(given)):
            run._plan()
        run._check_unfinished(path)
        return run

    def _check_unfinished(self, path: str | Path) -> None:
        if self.trainer.finished:
            raise ValueError(
                f"{path}: trained for all of its {self.trainer.steps} steps; "
                "give more --epochs, or --minutes to add"
            )
        if self.stalled:
            raise ValueError(
                f"{path}: ended after {self.settings.patience} evaluations without a better one; "
                "give a larger --patience"
            )

    def _restore(self, path: str | Path, checkpoint: Checkpoint) -> None:
        groups, description = checkpoint.groups, checkpoint.description
        try:
            self.system.model.load_state_dict(groups["model"])
            self.trainer.optimizer.load_state_dict(groups["optimizer"])
            self.system.load_state(groups.get("state", {}))
            self.trainer.steps = description["steps"]
            self.trainer.plan = TrainingPlan(**description["plan"])
            self.history = History.of(description["history"])
            self._rng.bit_generator.state = description["rng"]
            self._part_ways()
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: damaged checkpoint ({error})") from None
