"""Sorting as a system: it learns, tells how well, and goes on from a checkpoint."""

from dataclasses import replace

import numpy as np
import pytest

from rnnfast.data import number_lists
from rnnfast.parallel import Alone
from rnnfast.run import Run
from rnnfast.systems import Sort, SortSettings
from rnnfast.trained import load_trained

SMALL = SortSettings(length=5, range=4, hidden=32, batch=32, epochs=1, lr=0.02)


class Half(Alone):
    """One of two processes that do not talk to each other."""

    size = 2

    def __init__(self, rank):
        self.rank = rank


def test_lists_are_drawn_evenly_and_sorted(rng):
    numbers, in_order = number_lists(6, 4, 5000, rng)
    np.testing.assert_allclose(np.bincount(numbers.ravel()) / numbers.size, 0.25, atol=0.02)
    np.testing.assert_array_equal(in_order, np.sort(numbers, axis=0))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_it_learns_to_sort(cell):
    run = Run(Sort, replace(SMALL, cell=cell))
    untrained = run.system.evaluate()
    assert untrained["per element"] < 0.6
    assert run.train()
    trained = run.history.evaluations[-1]
    assert trained["per element"] > 0.97
    assert trained["per list"] > 0.85
    assert trained["increasing"] > 0.95


def test_figures_are_shares_of_what_is_written(rng, monkeypatch):
    run = Run(Sort, SMALL)
    _, in_order = run.system._draw(2000, 1)
    written = in_order.copy()
    wrong = rng.choice(2000, 300, replace=False)
    written[-1, wrong] = (written[-1, wrong] + 1) % 4
    monkeypatch.setattr(run.system, "_sort", lambda _: written)
    figures = run.system.evaluate()
    assert figures["per element"] == pytest.approx(1 - 300 / 10_000)
    assert figures["per list"] == pytest.approx(1 - 300 / 2000)
    falls = (np.diff(written, axis=0) < 0).any(axis=0).sum()
    assert figures["increasing"] == pytest.approx(1 - falls / 2000)


def test_the_report_marks_errors(monkeypatch):
    run = Run(Sort, SMALL)
    numbers, in_order = run.system._draw(3, 1)
    written = in_order.copy()
    written[0, 1] += 1
    monkeypatch.setattr(run.system, "_sort", lambda _: written)
    lines = run.system.report().splitlines()
    assert lines[0] == "given:  " + " ".join(map(str, numbers[:, 0] + 1))
    assert lines[1] == "sorted: " + " ".join(map(str, in_order[:, 0] + 1))
    assert lines[3].startswith(f"sorted: {in_order[0, 1] + 2}({in_order[0, 1] + 1}) ")


def test_resume_equals_straight_through(tmp_path):
    straight, halves = tmp_path / "straight.safetensors", tmp_path / "halves.safetensors"
    settings = replace(SMALL, hidden=8, layers=2, dropout=0.1)
    ends = []
    for path, stops in ((straight, [60]), (halves, [23, 60])):
        run = Run(Sort, settings)
        for stop in stops:
            while run.trainer.steps < stop:
                run.trainer.advance()
            run.save(path)
            run = Run.resume(Sort, path, {})
        ends.append(path.read_bytes())
    assert ends[0] == ends[1]


def test_processes_share_a_batch():
    settings = replace(SMALL, batch=7)
    whole = Run(Sort, settings).system
    parts = [Sort(settings, np.random.default_rng(settings.seed), Half(rank)) for rank in (0, 1)]
    for step in (0, 5):
        loss = whole.step(step)
        losses = [part.step(step) for part in parts]
        weights = [part.weight for part in losses]
        assert sum(weights) == loss.weight
        assert np.average([p.mean for p in losses], weights=weights) == pytest.approx(
            loss.mean, rel=1e-6
        )
        mean = np.average([p.model.gradient for p in parts], axis=0, weights=weights)
        np.testing.assert_allclose(mean, whole.model.gradient, rtol=1e-3, atol=1e-7)


def test_a_checkpoint_is_read_for_use(tmp_path):
    run = Run(Sort, SMALL)
    run.trainer.advance()
    run.save(tmp_path / "sort.safetensors")
    trained = load_trained(tmp_path / "sort.safetensors", ["sort"])
    numbers, _ = number_lists(5, 4, 9, np.random.default_rng(0))
    symbols, _ = trained.model.generate(numbers, 5)
    np.testing.assert_array_equal(symbols, run.system._sort(numbers))
