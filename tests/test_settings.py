"""What a training is made with: ranges, what a resumed one may change, options made of it."""

import math
import re
from dataclasses import dataclass, fields

import pytest

from rnnfast.models import CELLS
from rnnfast.run import FREE
from rnnfast.settings import CELLS as NAMES
from rnnfast.settings import RecurrentSettings, Settings, at_least, flag, setting
from texts import settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cell": "elman"}, "--cell is 'elman', expected one of basic, lstm, gru"),
        ({"compute": "half"}, "--compute is 'half', expected one of float32, bfloat16"),
        ({"layers": 0}, "--layers is 0, expected at least 1"),
        ({"hidden": -3}, "--hidden is -3"),
        ({"seq_length": 0}, "--seq-length is 0"),
        ({"batch": 0}, "--batch is 0"),
        ({"epochs": 0}, "--epochs is 0"),
        ({"epochs": None, "minutes": 0.0}, "--minutes is 0.0, expected above 0"),
        ({"epochs": None, "minutes": math.nan}, "--minutes is nan"),
        ({"lr": -1.0}, "--lr is -1.0"),
        ({"clip": math.inf}, "--clip is inf"),
        ({"offset": 0}, "--offset is 0, expected at least 1"),
        ({"accumulate": 0}, "--accumulate is 0, expected at least 1"),
        ({"patience": 0}, "--patience is 0, expected at least 1"),
        ({"schedule": "steps"}, "--schedule is 'steps', expected one of cosine, linear, constant"),
        ({"lr": math.nan}, "--lr is nan, expected above 0 and finite"),
        ({"dropout": -0.1}, "--dropout is -0.1"),
        ({"seed": -1}, "--seed is -1, expected at least 0"),
        ({"dropout": 1.0}, "--dropout is 1.0, expected at least 0 and below 1"),
        ({"epochs": None}, "expected --epochs or --minutes, came neither"),
        ({"minutes": 1.0}, "expected --epochs or --minutes, came both"),
    ],
)
def test_settings_out_of_range_are_named(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        settings(None, **changes)


@pytest.mark.parametrize(
    "changes",
    [{"layers": 1, "dropout": 0.0}, {"clip": 1e-9}, {"epochs": None, "minutes": 1e-6},
     {"patience": None}, {"patience": 1}, {"offset": 1}, {"seed": 0}],
)  # fmt: skip
def test_settings_at_the_end_of_a_range_are_taken(changes):
    chosen = settings(None, **changes)
    assert {name: getattr(chosen, name) for name in changes} == changes


def test_the_cells_are_those_of_the_models():
    assert tuple(CELLS) == NAMES


def test_flags():
    assert flag("seq_length") == "--seq-length"


def test_extended_takes_what_is_free_and_refuses_what_differs():
    stored = settings("a.txt", patience=3)
    assert stored.extended({}, FREE) == stored
    assert stored.extended({"hidden": 12, "cell": "gru"}, FREE) == stored
    moved = stored.extended({"data": "b.txt", "patience": 5}, FREE)
    assert (moved.data, moved.patience, moved.epochs) == ("b.txt", 5, 1)
    with pytest.raises(ValueError, match=r"--hidden is 13, but the checkpoint's is 12; leave it"):
        stored.extended({"data": "b.txt", "hidden": 13}, FREE)
    with pytest.raises(ValueError, match="--patience is 5, but the checkpoint's is 3"):
        stored.extended({"patience": 5}, FREE - {"patience"})


def test_extended_replaces_one_length_by_another():
    stored = settings(None, epochs=4)
    assert stored.extended({"epochs": 6}, FREE).epochs == 6
    timed = stored.extended({"minutes": 2.0}, FREE)
    assert (timed.epochs, timed.minutes) == (None, 2.0)
    with pytest.raises(ValueError, match="expected --epochs or --minutes, came both"):
        stored.extended({"minutes": 2.0, "epochs": 3}, FREE)
    with pytest.raises(ValueError, match="--epochs is 0, expected at least 1"):
        stored.extended({"epochs": 0}, FREE)


def test_every_setting_has_its_help():
    for kind in (Settings, RecurrentSettings, type(settings(None))):
        for entry in fields(kind):
            assert re.fullmatch(r"\S.*\.", entry.metadata["help"]), entry.name


def test_a_system_adds_settings_with_checks_of_their_own():
    @dataclass(frozen=True, kw_only=True)
    class Sorting(RecurrentSettings):
        range: int = setting(32, "Numbers from 1 to this.", at_least(2))

    assert Sorting(epochs=1).range == 32
    with pytest.raises(ValueError, match="--range is 1, expected at least 2"):
        Sorting(epochs=1, range=1)
