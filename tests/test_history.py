"""What a training went through: the curve of its losses, and the best of its evaluations."""

import json

import numpy as np
import pytest

from rnnfast import history
from rnnfast.history import History


def evaluated(*values):
    kept = History()
    for step, value in enumerate(values):
        kept.add_evaluation(step, {"error": value})
    return kept


@pytest.mark.parametrize("total", [1, 399, 400, 401, 5000])
def test_losses_are_kept_as_means_of_so_many_points(rng, total):
    kept, losses = History(), rng.random(total)
    for step, loss in enumerate(losses, 1):
        kept.add_loss(step, loss, total)
    steps = [step for step, _ in kept.losses]
    assert min(total, history._POINTS) / 2 <= len(steps) <= history._POINTS
    begin = 0
    for step, mean in kept.losses:
        assert mean == pytest.approx(losses[begin:step].mean(), rel=1e-12)
        begin = step


def test_losses_of_an_unknown_length_are_all_kept():
    kept = History()
    for step in range(1, 9):
        kept.add_loss(step, float(step), None)
    assert kept.losses == [(step, float(step)) for step in range(1, 9)]


def test_the_best_is_the_first_of_equals():
    kept = evaluated(3.0, 1.0, 2.0, 1.0, 3.0)
    assert kept.best("error", rises=False) == 1
    assert kept.best("error", rises=True) == 0


def test_stalled():
    kept = evaluated(3.0, 1.0, 2.0, 2.0)
    assert not kept.stalled("error", False, None)
    assert not kept.stalled("error", False, 3)
    assert kept.stalled("error", False, 2)
    assert kept.stalled("error", True, 3)
    assert not History().stalled("error", False, 1)


def test_the_state_repeats_it_in_json(rng):
    kept = evaluated(*rng.random(3).tolist())
    for step in range(1, 70):
        kept.add_loss(step, float(rng.random()), 10_000)
    assert kept.losses and kept._count
    again = History.of(json.loads(json.dumps(kept.state())))
    assert again == kept
    for one in (kept, again):
        one.add_loss(70, 0.1, 10_000)
    assert again.state() == kept.state()


@pytest.mark.parametrize(
    "wrong",
    [{}, {"losses": [], "evaluations": []}, {"losses": 3, "evaluations": [], "open": [0.0, 0]},
     {"losses": [[1]], "evaluations": [], "open": [0.0, 0]},
     {"losses": [], "evaluations": [4], "open": [0.0, 0]},
     {"losses": [], "evaluations": [], "open": [0.0]}],
)  # fmt: skip
def test_what_is_no_state_is_refused(wrong):
    with pytest.raises((KeyError, TypeError, ValueError)):
        History.of(wrong)


def test_nothing_kept_has_a_state():
    assert History.of(History().state()) == History()
    assert np.isfinite(History().state()["open"]).all()
