"""Models read from checkpoints, to be used rather than trained on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .checkpoint import Checkpoint, load
from .models import Model
from .settings import Settings
from .systems import SYSTEMS, System


@dataclass(frozen=True)
class Trained:
    """What is in a checkpoint, but for the optimiser.

    Attributes
    ----------
    system : type of System
        What was trained.
    settings : Settings
        It was trained with.
    model : Model
        With the checkpoint's weights.
    about : dict
        What the model is made from beside the settings.
    description : dict
        Everything else that the checkpoint tells.
    """

    system: type[System]
    settings: Settings
    model: Model
    about: dict[str, Any]
    description: dict[str, Any]


def load_trained(path: str | Path, kinds: Collection[str] = tuple(SYSTEMS)) -> Trained:
    """Read the model of a checkpoint.

    Parameters
    ----------
    path : str or Path
        The checkpoint.
    kinds : collection of str
        The systems that will do.

    Raises
    ------
    OSError, ValueError
        If the file cannot be read, is not a checkpoint, or one of another kind.
    """
    checkpoint = load(path)
    if checkpoint.kind not in kinds:
        raise ValueError(
            f"{path}: a checkpoint of kind {checkpoint.kind!r}, expected {' or '.join(kinds)}"
        )
    try:
        return _make(checkpoint)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: damaged checkpoint ({error})") from None


def _make(checkpoint: Checkpoint) -> Trained:
    description = checkpoint.description
    system = SYSTEMS[checkpoint.kind]
    settings = system.settings_type(**description["settings"])
    about = description["about"]
    model = system.make_model(settings, about)
    model.load_state_dict(checkpoint.groups["model"])
    return Trained(system, settings, model, about, description)
