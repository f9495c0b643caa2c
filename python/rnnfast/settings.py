"""What a training is made with: dataclasses whose fields carry their help, range and default.

The command line, the checks, the checkpoints and the docs of `rnnfast train …` all read them here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, Self

CELLS = ("basic", "lstm", "gru")
COMPUTE = ("float32", "bfloat16")
SCHEDULES = ("cosine", "linear", "constant")

Check = tuple[Callable[[Any], bool], str]


def at_least(least: int) -> Check:
    """Accept what is not below `least`."""
    return (lambda value: value >= least), f"at least {least}"


def below_one() -> Check:
    """Accept what can be dropped of a whole."""
    return (lambda value: 0.0 <= value < 1.0), "at least 0 and below 1"


def positive() -> Check:
    """Accept finite numbers above 0."""
    return (lambda value: 0.0 < value < math.inf), "above 0 and finite"


def not_negative() -> Check:
    """Accept finite numbers of at least 0."""
    return (lambda value: 0.0 <= value < math.inf), "at least 0 and finite"


def one_of(*names: str) -> Check:
    """Accept one of these."""
    return (lambda value: value in names), "one of " + ", ".join(names)


def setting(
    default: Any, text: str, check: Check | None = None, *, shown: str | None = None
) -> Any:
    """Make a field of `Settings`.

    Parameters
    ----------
    default : object
        None where the setting may be left out.
    text : str
        For the command line's help.
    check : pair of callable and str, optional
        What a value has to be, other than None.
    shown : str, optional
        Stands in the help for a default that is None.
    """
    return field(default=default, metadata={"help": text, "check": check, "shown": shown})


def flag(name: str) -> str:
    """Name a setting as the command line does."""
    return "--" + name.replace("_", "-")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every training has.

    Attributes
    ----------
    epochs : int or None
        Passes over the data.
    minutes : float or None
        Time to train for; exactly one of `epochs` and `minutes` is given.
    batch : int
        Sequences side by side.
    accumulate : int
        Batches whose gradients make one update.
    lr, clip, weight_decay : float
        Peak learning rate; largest gradient norm; AdamW's decay of the weights.
    schedule : str
        How the learning rate falls: `cosine`, `linear` or `constant`.
    patience : int or None
        Evaluations without a better one after which the training ends.
    compute : str
        Precision of the layers' products: `float32` or `bfloat16`.
    seed : int
        Of all chance.

    Raises
    ------
    ValueError
        Naming the setting that is out of range.
    """

    epochs: int | None = setting(None, "Passes over the data.", at_least(1))
    minutes: float | None = setting(None, "Time to train for.", positive())
    batch: int = setting(32, "Sequences side by side.", at_least(1))
    accumulate: int = setting(1, "Batches whose gradients make one update.", at_least(1))
    lr: float = setting(3e-3, "Peak learning rate.", positive())
    schedule: str = setting(
        "cosine", "How the learning rate falls: cosine, linear, constant.", one_of(*SCHEDULES)
    )
    clip: float = setting(1.0, "Largest gradient norm.", positive())
    weight_decay: float = setting(0.0, "Decay of the weights, by AdamW.", not_negative())
    patience: int | None = setting(
        None, "End after so many evaluations without a better one.", at_least(1), shown="never"
    )
    compute: str = setting(
        "float32", "Precision of products: float32 or bfloat16.", one_of(*COMPUTE)
    )
    seed: int = setting(0, "Seed of all chance: weights, batches, dropout.", at_least(0))

    def __post_init__(self) -> None:
        for entry in fields(self):
            _check(entry, getattr(self, entry.name))
        if (self.epochs is None) == (self.minutes is None):
            came = "neither" if self.epochs is None else "both"
            raise ValueError(f"expected --epochs or --minutes, came {came}")

    def extended(self, given: Mapping[str, Any], free: frozenset[str]) -> Self:
        """Return these settings with the free ones as given; the others must be as they are.

        Raises
        ------
        ValueError
            Naming the setting that differs.
        """
        for name, value in given.items():
            if name not in free and value != getattr(self, name):
                raise ValueError(
                    f"{flag(name)} is {value}, but the checkpoint's is {getattr(self, name)}; "
                    "leave it out, or start anew without --resume"
                )
        changed = {name: given[name] for name in free & set(given)}
        if LENGTH & set(given):
            changed = dict.fromkeys(LENGTH) | changed
        return replace(self, **changed)


LENGTH = frozenset({"epochs", "minutes"})


def refuse_without_data(settings: Settings, *names: str) -> None:
    """Refuse settings that say how a file is read, where none is.

    Raises
    ------
    ValueError
        Naming the first that is not as by default.
    """
    for entry in fields(settings):
        value = getattr(settings, entry.name)
        if entry.name in names and value != entry.default:
            raise ValueError(f"{flag(entry.name)} is {value!r}, but there is no --data")


@dataclass(frozen=True, kw_only=True)
class RecurrentSettings(Settings):
    """What every training of equal recurrent layers has, beside that.

    Attributes
    ----------
    cell : str
        `basic`, `lstm` or `gru`.
    layers, hidden : int
        Recurrent layers and units in each.
    dropout : float
        Of the outputs of every layer.
    """

    cell: str = setting("gru", "basic, lstm or gru.", one_of(*CELLS))
    layers: int = setting(1, "Recurrent layers.", at_least(1))
    hidden: int = setting(128, "Units in a layer.", at_least(1))
    dropout: float = setting(0.0, "Dropped share of every layer's outputs.", below_one())


def _check(entry: Field[Any], value: Any) -> None:
    check: Check | None = entry.metadata["check"]
    if value is not None and check is not None and not check[0](value):
        shown = repr(value) if isinstance(value, str) else value
        raise ValueError(f"{flag(entry.name)} is {shown}, expected {check[1]}")
