"""The character language model as a task: options, training, checkpoints, resume."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import info
from .checkpoint import Checkpoint, load, save
from .data import Corpus, TokenStreams, Vocabulary, read_corpus, standard_library
from .flat import Array
from .models import CELLS, CharacterModel, States, state_arrays, states_from
from .optim import Adam
from .train import Plan, Trainer

KIND = "text"
COMPUTE = ("float32", "bfloat16")

PRESETS: dict[str, dict[str, Any]] = {
    "notes": {"cell": "gru", "layers": 3, "hidden": 512, "seq_length": 256},
}


@dataclass(frozen=True)
class TextOptions:
    """What a training of a character model is made with.

    Attributes
    ----------
    data : str or None
        A text file; the standard library's source where None.
    encoding : str
        Of that file.
    cell : str
        `basic`, `lstm` or `gru`.
    layers, hidden : int
        Recurrent layers and units in each.
    seq_length, batch : int
        Steps of a window, streams side by side.
    epochs : int or None
        Passes over the text.
    minutes : float or None
        Time to train for; exactly one of `epochs` and `minutes` is given.
    lr, clip : float
        Peak learning rate, largest gradient norm.
    dropout : float
        Between layers.
    compute : str
        Precision of the layers' products: `float32` or `bfloat16`.
    seed : int
        Of the initial weights and the dropout.

    Raises
    ------
    ValueError
        Naming the option that is out of range.
    """

    data: str | None = None
    encoding: str = "utf-8"
    cell: str = "gru"
    layers: int = 1
    hidden: int = 384
    seq_length: int = 256
    batch: int = 16
    epochs: int | None = None
    minutes: float | None = None
    lr: float = 6e-3
    clip: float = 1.0
    dropout: float = 0.0
    compute: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.cell not in CELLS:
            raise ValueError(f"--cell is {self.cell!r}, expected one of {', '.join(CELLS)}")
        if self.compute not in COMPUTE:
            raise ValueError(f"--compute is {self.compute!r}, expected {' or '.join(COMPUTE)}")
        for name in ("layers", "hidden", "seq_length", "batch", "epochs"):
            value = getattr(self, name)
            _require(name, value, value is None or value >= 1, "at least 1")
        for name in ("minutes", "lr", "clip"):
            value = getattr(self, name)
            _require(name, value, value is None or 0.0 < value < math.inf, "above 0 and finite")
        _require("seed", self.seed, self.seed >= 0, "at least 0")
        _require("dropout", self.dropout, 0.0 <= self.dropout < 1.0, "at least 0 and below 1")
        if self.dropout and self.layers == 1:
            raise ValueError("--dropout acts between layers: it needs --layers 2 or more")
        if (self.epochs is None) == (self.minutes is None):
            raise ValueError("expected one of --epochs and --minutes")

    def corpus(self) -> Corpus:
        """Read the text; errors as in `data.read_corpus`."""
        return standard_library() if self.data is None else read_corpus(self.data, self.encoding)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _require(name: str, value: object, valid: bool, expected: str) -> None:
    if not valid:
        raise ValueError(f"{_flag(name)} is {value}, expected {expected}")


class TextTask:
    """Stateful truncated BPTT over a text: windows in order, the state carried between them.

    Parameters
    ----------
    model : CharacterModel
        What is trained.
    training, held_out : TokenStreams
        The text's two parts.
    """

    def __init__(
        self, model: CharacterModel, training: TokenStreams, held_out: TokenStreams
    ) -> None:
        self.model = model
        self.training, self.held_out = training, held_out
        self.steps_per_epoch = training.windows
        self.characters_per_step = training.batch * training.seq_length
        self._states: States | None = None

    def step(self, index: int) -> float:
        """Loss in nats of window `index`, counted through the epochs; see `train.Task`."""
        window = index % self.steps_per_epoch
        states = None if window == 0 else self._states
        tokens, targets = self.training.window(window)
        loss, self._states = self.model.loss_and_gradient(tokens, targets, states)
        return loss

    def evaluate(self) -> float:
        """Bits per character of the held-out text, without dropout."""
        total, count, states = 0.0, 0, None
        for tokens, targets in self.held_out:
            loss, states = self.model.loss(tokens, targets, states)
            total += loss * targets.size
            count += targets.size
        return bits(total / count)

    def state(self) -> dict[str, Array]:
        """Return the carried states' arrays; none before the first step."""
        return {} if self._states is None else state_arrays(self._states)

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Take over what `state` returned."""
        self._states = states_from(state) if state else None


def bits(nats: float) -> float:
    """Convert nats to bits."""
    return nats / math.log(2.0)


class TextRun:
    """A character model in training: from its options, or from a checkpoint by `resume`.

    Parameters
    ----------
    options : TextOptions
        All of them.
    corpus : Corpus
        The text that the options name.

    Attributes
    ----------
    model : CharacterModel
    task : TextTask
    trainer : Trainer
    seconds : float or None
        For `trainer.run`.

    Raises
    ------
    ValueError
        If the text is shorter than one window.
    """

    def __init__(self, options: TextOptions, corpus: Corpus) -> None:
        self.options, self.corpus = options, corpus
        training, held_out = corpus.split(options.seq_length)
        vocabulary = Vocabulary.of(corpus.text)
        self._rng = np.random.default_rng(options.seed)
        self.model = CharacterModel.of(
            vocabulary, options.cell, options.hidden, options.layers,
            dropout=options.dropout, compute=options.compute, rng=self._rng,
        )  # fmt: skip
        streams = [
            TokenStreams(vocabulary.encode(part), options.batch, options.seq_length)
            for part in (training, held_out)
        ]
        self.task = TextTask(self.model, *streams)
        self.trainer = Trainer(
            self.task, Adam(self.model.flat, options.lr), Plan(options.lr), options.clip
        )
        self._plan()

    def _plan(self) -> None:
        """Plan the length that the options give; a time becomes steps when the trainer runs."""
        epochs = self.options.epochs
        plan = Plan(self.options.lr)
        self.trainer.plan = (
            plan if epochs is None else plan.of_length(epochs * self.task.steps_per_epoch)
        )

    @property
    def seconds(self) -> float | None:
        """Time to train for, if the options give one."""
        return None if self.options.minutes is None else 60.0 * self.options.minutes

    def summary(self) -> str:
        """Describe the model, the text and the batches in one line."""
        options, task = self.options, self.task
        return (
            f"{options.layers} x {options.hidden} {options.cell}, {self.model.flat.size:,} "
            f"parameters; {len(self.corpus.text):,} characters of {self.corpus.name}, "
            f"{len(self.model.vocabulary)} different; {task.training.batch} streams, "
            f"{task.steps_per_epoch:,} windows of {options.seq_length} in each"
        )

    def _rooted(self) -> TextOptions:
        """Return the options with a path that holds in any folder."""
        data = self.options.data
        return self.options if data is None else replace(self.options, data=os.path.abspath(data))

    def save(self, path: str | Path) -> None:
        """Write a checkpoint; errors as in `checkpoint.save`."""
        description = {
            "version": info()["version"],
            "options": asdict(self._rooted()),
            "vocabulary": self.model.vocabulary.characters,
            "corpus": {"name": self.corpus.name, "digest": self.corpus.digest},
            "steps": self.trainer.steps,
            "plan": asdict(self.trainer.plan),
            "rng": self._rng.bit_generator.state,
        }
        groups = {
            "model": self.model.parameters,
            "optimizer": self.trainer.optimizer.state_dict(),
            "state": self.task.state(),
        }
        save(path, Checkpoint(KIND, groups, description))

    @classmethod
    def resume(cls, path: str | Path, given: Mapping[str, Any]) -> TextRun:
        """Go on from a checkpoint.

        Parameters
        ----------
        path : str or Path
            The checkpoint.
        given : mapping of str to object
            Options asked for anew. A length other than the checkpoint's extends the plan: `epochs`
            are counted from the first step on, `minutes` from now on. The text may have moved.
            Everything else has to be as in the checkpoint.

        Returns
        -------
        TextRun
            In the state of the run that wrote the checkpoint.

        Raises
        ------
        OSError, ValueError
            If the checkpoint or the text cannot be read, the text is another one, an option
            differs, or the plan is already finished.
        """
        checkpoint = load(path, KIND)
        try:
            stored = TextOptions(**checkpoint.description["options"])
            digest = checkpoint.description["corpus"]["digest"]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: damaged checkpoint ({error})") from None
        options = _merged(stored, given)
        corpus = options.corpus()
        if corpus.digest != digest:
            raise ValueError(f"{corpus.name}: not the text that {path} was trained on")
        run = cls(options, corpus)
        run._restore(path, checkpoint)
        asked, planned = (options.epochs, options.minutes), (stored.epochs, stored.minutes)
        if asked != planned or (run.trainer.finished and _LENGTH & set(given)):
            run._plan()
        if run.trainer.finished:
            raise ValueError(
                f"{path}: trained for all of its {run.trainer.steps} steps; "
                "give more --epochs, or --minutes to add"
            )
        return run

    def _restore(self, path: str | Path, checkpoint: Checkpoint) -> None:
        groups, description = checkpoint.groups, checkpoint.description
        try:
            self.model.load_state_dict(groups["model"])
            self.trainer.optimizer.load_state_dict(groups["optimizer"])
            self.task.load_state(groups.get("state", {}))
            self.trainer.steps = description["steps"]
            self.trainer.plan = Plan(**description["plan"])
            self._rng.bit_generator.state = description["rng"]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: damaged checkpoint ({error})") from None


_LENGTH = {"epochs", "minutes"}
_FREE = _LENGTH | {"data", "encoding"}


def _merged(stored: TextOptions, given: Mapping[str, Any]) -> TextOptions:
    """Return the stored options with the length and the place of the text as given."""
    for name, value in given.items():
        if name not in _FREE and value != getattr(stored, name):
            raise ValueError(
                f"{_flag(name)} is {value}, but the checkpoint's is {getattr(stored, name)}; "
                "leave it out, or start anew without --resume"
            )
    changed = {name: given[name] for name in _FREE & set(given)}
    if _LENGTH & set(given):
        changed = dict.fromkeys(_LENGTH) | changed
    return replace(stored, **changed)


def load_model(path: str | Path) -> CharacterModel:
    """Read the model of a checkpoint, for generation.

    Raises
    ------
    OSError, ValueError
        If the file cannot be read or is not the checkpoint of a character model.
    """
    checkpoint = load(path, KIND)
    try:
        options = TextOptions(**checkpoint.description["options"])
        vocabulary = Vocabulary(checkpoint.description["vocabulary"])
        model = CharacterModel.of(
            vocabulary, options.cell, options.hidden, options.layers, compute=options.compute
        )
        model.load_state_dict(checkpoint.groups["model"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: damaged checkpoint ({error})") from None
    return model
