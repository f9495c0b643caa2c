"""One training: evaluations, the best of them, patience; checkpoints from which it goes on."""

import json

import numpy as np
import pytest

from rnnfast.checkpoint import Checkpoint, load, save
from rnnfast.models import Model
from rnnfast.nn import Dense, mse_loss
from rnnfast.run import Run
from rnnfast.settings import Settings
from rnnfast.systems import Source, System, Text
from rnnfast.train import Loss, TrainingPlan
from rnnfast.trained import load_trained
from texts import settings, start, write_text

pytest.importorskip("safetensors", reason="checkpoints are safetensors files")


class Scripted(System):
    """A small regression of ten batches whose figures on held-out data are made up."""

    kind = "scripted"
    settings_type = Settings
    length = {"epochs": 3}  # noqa: RUF012
    unit = "rows"
    best = ("error", False)
    figures = ()  # one after another, the last again and again

    def __init__(self, settings, rng, group):
        self.model = self.make_model(settings, {}, rng)
        self.source = Source("numbers", "the same")
        self.about = {}
        self.batches_per_epoch, self.items_per_batch = 10, 30
        data = np.random.default_rng(0)
        self._x = data.standard_normal((10, 30, 6))
        self._y = self._x @ data.standard_normal((6, 4))
        self._asked = 0

    @classmethod
    def make_model(cls, settings, about, rng=None):
        return Model({"dense": Dense(6, 4, dtype="float64", rng=rng)})

    def step(self, index):
        dense = self.model._parts["dense"]
        prediction, tape = dense.forward(self._x[index % 10])
        loss, gradient = mse_loss(prediction, self._y[index % 10])
        dense.backward(tape, gradient, out=self.model.gradient_of("dense"))
        return Loss(loss, 30)

    def evaluate(self):
        value = self.figures[min(self._asked, len(self.figures) - 1)]
        self._asked += 1
        return {"other": -value, "error": value}

    def summary(self):
        return "ten batches"


def scripted(*figures, kind=Scripted, **changes):
    """Begin a training whose evaluations find these figures."""
    cls = type("Scripted", (kind,), {"figures": figures or (1.0,)})
    length = {} if "minutes" in changes else {"epochs": 3}
    return Run(cls, Settings(**{**length, **changes}))


def evaluated_at(run):
    return [entry["step"] for entry in run.history.evaluations]


def stop_after(run, steps):
    """Train for so many steps."""
    if steps:
        run.train(stop=lambda: run.trainer.steps == steps)
    assert run.trainer.steps == steps


def resume(path, given, kind=Text):
    return Run.resume(kind, path, given)


@pytest.mark.parametrize(
    ("changes", "evaluations", "expected"),
    [
        ({"epochs": 3}, 1, [10, 20, 30]),  # every epoch
        ({"epochs": 3}, 10, [3, 6, 9, 12, 15, 18, 21, 24, 27, 30]),  # more, if the system wants it
        ({"epochs": 3}, 4, [8, 16, 24, 30]),  # and at the end
        ({"epochs": 1}, 100, list(range(1, 11))),
        ({"epochs": 2, "accumulate": 4}, 1, [2, 4]),
        ({"epochs": 2, "accumulate": 40}, 1, [1, 2]),
    ],
)
def test_evaluations_come_every_epoch_or_as_often_as_wanted(
    monkeypatch, changes, evaluations, expected
):
    monkeypatch.setattr(Scripted, "evaluations", evaluations)
    run = scripted(**changes)
    told = []
    assert run.train(on_evaluation=lambda figures, best: told.append(run.trainer.steps))
    assert evaluated_at(run) == told == expected


def test_a_timed_run_is_evaluated_at_its_end():
    run = scripted(minutes=0.0005)
    assert run.train()
    assert evaluated_at(run)[-1] == run.trainer.steps == run.trainer.plan.total


@pytest.mark.parametrize(("rises", "expected"), [(False, "10100"), (True, "11001")])
def test_the_best_evaluation_is_told(monkeypatch, rises, expected):
    monkeypatch.setattr(Scripted, "best", ("error", rises))
    monkeypatch.setattr(Scripted, "evaluations", 5)
    run = scripted(0.5, 0.7, 0.4, 0.6, 0.8)
    seen = []
    run.train(on_evaluation=lambda figures, best: seen.append((figures, best)))
    assert "".join("01"[best] for _, best in seen[:5]) == expected
    assert seen[0][0] == {"other": -0.5, "error": 0.5}
    best = run.history.evaluations[run.history.best(*run.system.best)]
    assert best["error"] == (0.8 if rises else 0.4)


def test_an_equal_figure_is_no_better():
    run = scripted(0.5, 0.5, 0.5)
    bests = []
    run.train(on_evaluation=lambda figures, best: bests.append(best))
    assert bests[0] and not any(bests[1:])


def test_patience_ends_the_run():
    run = scripted(0.5, 0.7, 0.4, 0.6, 0.6, 0.6, patience=2)
    assert run.train()
    assert run.stalled
    assert evaluated_at(run) == [3, 6, 9, 12, 15]
    assert not run.trainer.finished
    patient = scripted(0.5, 0.7, 0.4, 0.6, 0.6, 0.3, 0.2, 0.3, 0.3, 0.1, patience=3)
    assert patient.train()
    assert patient.trainer.finished


def test_an_impatient_end_is_no_place_to_go_on_from(tmp_path):
    path = tmp_path / "model.safetensors"
    run = scripted(0.5, 0.7, 0.6, 0.4, patience=2)
    assert run.train()
    run.save(path)
    kind = type(run.system)
    for given in ({}, {"patience": 2}, {"epochs": 9}):
        message = r"ended after 2 evaluations without a better one; give a larger --patience"
        with pytest.raises(ValueError, match=message):
            resume(path, given, kind)
    longer = resume(path, {"patience": 3}, kind)
    assert (longer.settings.patience, longer.trainer.steps) == (3, 9)
    assert longer.history == run.history


def test_checkpoint_is_called_after_every_step_with_its_evaluation():
    run = scripted()
    seen = []
    run.train(checkpoint=lambda: seen.append((run.trainer.steps, len(run.history.evaluations))))
    assert seen == [(step, step // 3) for step in range(1, 31)]


def test_a_stopped_run_says_so():
    run = scripted()
    assert not run.train(stop=lambda: run.trainer.steps == 7)
    assert run.train()
    assert run.trainer.steps == 30


def test_the_schedule_reaches_the_plan():
    for schedule in ("cosine", "linear", "constant"):
        run = scripted(schedule=schedule, lr=0.25)
        assert run.trainer.plan == TrainingPlan(0.25, schedule=schedule).of_length(30)


def test_accumulated_batches_are_one_larger_batch(rng, tmp_path):
    path = write_text(tmp_path / "text.txt", rng)
    losses = []
    for changes in ({"batch": 8}, {"batch": 4, "accumulate": 2}, {"batch": 2, "accumulate": 4}):
        run = start(settings(path, dropout=0.0, offset=3, **changes))
        steps = min(40, run.trainer.plan.total - 1)
        losses.append([])
        run.train(on_step=losses[-1].append, stop=lambda r=run, n=steps: r.trainer.steps == n)
    for other in losses[1:]:
        np.testing.assert_allclose(other, losses[0], rtol=2e-5)
    assert losses[0][0] > 1.05 * losses[0][-1]


@pytest.mark.parametrize("stop", [1, 8, 17, 29])
def test_the_history_goes_on_bit_for_bit(tmp_path, stop):
    straight, halves = tmp_path / "straight.safetensors", tmp_path / "halves.safetensors"
    whole = scripted(0.5, 0.25)
    whole.train()
    whole.save(straight)
    first = scripted(0.5, 0.25)
    stop_after(first, stop)
    first.save(halves)
    second = resume(halves, {}, type(first.system))
    assert second.history == first.history
    second.system._asked = first.system._asked
    assert second.train()
    second.save(halves)
    assert second.history == whole.history
    assert len(whole.history.losses) == 30
    assert halves.read_bytes() == straight.read_bytes()


def test_what_a_checkpoint_describes(rng, tmp_path):
    path = tmp_path / "model.safetensors"
    run = start(settings(write_text(tmp_path / "text.txt", rng)))
    stop_after(run, 9)
    run.save(path)
    checkpoint = load(path, "text")
    assert json.loads(json.dumps(checkpoint.description)) == checkpoint.description
    description = checkpoint.description
    assert (description["steps"], description["plan"]["lr"]) == (9, run.settings.lr)
    assert description["about"] == {"vocabulary": run.system.model.vocabulary.characters}
    assert description["history"]["losses"][0][0] == 1
    assert set(checkpoint.groups) == {"model", "optimizer", "state"}
    assert set(description) == {
        "version", "settings", "about", "source", "steps", "plan", "history", "rng",
    }  # fmt: skip


def test_only_the_first_process_writes(rng, tmp_path):
    run = start(settings(write_text(tmp_path / "text.txt", rng)))
    run.group.__class__ = type("Second", (type(run.group),), {"rank": 1})
    run.save(tmp_path / "model.safetensors")
    assert not (tmp_path / "model.safetensors").exists()


def test_the_text_may_have_another_encoding_later(rng, tmp_path):
    path, file = tmp_path / "model.safetensors", tmp_path / "text.txt"
    write_text(file, rng)
    file.write_text(file.read_text() + "\u00e4\n", encoding="latin-1")
    start(settings(str(file), encoding="latin-1")).save(path)
    file.write_text(file.read_text(encoding="latin-1"), encoding="utf-16")
    assert resume(path, {"encoding": "utf-16"}).settings.encoding == "utf-16"
    with pytest.raises(ValueError, match="not the data that"):
        resume(path, {})


def test_checkpoints_of_other_kinds_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    scripted().save(path)
    with pytest.raises(ValueError, match="of kind 'scripted', expected 'text'"):
        resume(path, {})
    state = {"0.h": np.zeros((1, 2, 3), "f")}
    whole = load(path)
    save(path, Checkpoint(whole.kind, {**whole.groups, "state": state}, whole.description))
    with pytest.raises(ValueError, match=r"damaged checkpoint \(scripted: got a state \['0.h'\]"):
        resume(path, {}, Scripted)


@pytest.mark.parametrize("stop", [0, 1, 17, 30])
@pytest.mark.parametrize(
    ("cell", "compute"), [("gru", "float32"), ("lstm", "float32"), ("gru", "bfloat16")]
)
def test_resume_equals_straight_through(rng, tmp_path, cell, compute, stop):
    chosen = settings(write_text(tmp_path / "text.txt", rng), cell=cell, compute=compute)
    straight, halves = tmp_path / "straight.safetensors", tmp_path / "halves.safetensors"
    whole = start(chosen)
    assert whole.train()
    assert whole.trainer.steps > 40
    whole.save(straight)
    first = start(chosen)
    stop_after(first, stop)
    first.save(halves)
    second = resume(halves, {})
    assert second.trainer.steps == stop
    assert second.train()
    second.save(halves)
    assert halves.read_bytes() == straight.read_bytes()


def test_resume_repeats_the_command_and_refuses_another(rng, tmp_path):
    path = tmp_path / "model.safetensors"
    chosen = settings(write_text(tmp_path / "text.txt", rng))
    run = start(chosen)
    run.trainer.advance()
    run.save(path)
    same = {"cell": "gru", "hidden": 12, "epochs": 1, "data": chosen.data, "dropout": 0.2}
    assert resume(path, same).trainer.plan == run.trainer.plan
    for name, other in (("hidden", 13), ("lr", 0.5), ("seed", 7), ("seq_length", 8)):
        flag = name.replace("_", "-")
        with pytest.raises(ValueError, match=f"--{flag} is {other}, but the checkpoint's is"):
            resume(path, {name: other})


def test_resume_knows_the_text(rng, tmp_path):
    path, file = tmp_path / "model.safetensors", tmp_path / "text.txt"
    run = start(settings(write_text(file, rng)))
    run.save(path)
    moved = file.rename(tmp_path / "moved.txt")
    with pytest.raises(FileNotFoundError):
        resume(path, {})
    assert resume(path, {"data": str(moved)}).trainer.steps == 0
    write_text(file, rng)
    with pytest.raises(ValueError, match=r"text\.txt: not the data that .* was trained on"):
        resume(path, {})


def test_resume_finds_a_relative_path_from_elsewhere(rng, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "text.txt", rng)
    start(settings("text.txt")).save("model.safetensors")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert resume("../model.safetensors", {}).system.source.name.endswith("text.txt")


def test_a_finished_run_can_be_prolonged(rng, tmp_path):
    path = tmp_path / "model.safetensors"
    run = start(settings(write_text(tmp_path / "text.txt", rng)))
    run.train()
    run.save(path)
    steps = run.system.batches_per_epoch
    for given in ({}, {"epochs": 1}):
        with pytest.raises(ValueError, match=f"trained for all of its {steps} steps; give more"):
            resume(path, given)
    longer = resume(path, {"epochs": 3})
    assert longer.trainer.plan.total == 3 * steps
    assert longer.seconds is None
    timed = resume(path, {"minutes": 0.5})
    assert timed.trainer.plan.total is None
    assert timed.seconds == 30.0
    assert timed.trainer.run(seconds=0.05)
    assert timed.trainer.steps > steps


def test_an_unfinished_timed_run_keeps_its_plan(rng, tmp_path):
    path = tmp_path / "model.safetensors"
    chosen = settings(write_text(tmp_path / "text.txt", rng), epochs=None, minutes=0.5)
    run = start(chosen)
    run.trainer.plan = run.trainer.plan.of_length(123)
    run.trainer.advance()
    run.save(path)
    for given in ({}, {"minutes": 0.5}):
        assert resume(path, given).trainer.plan == run.trainer.plan
    assert resume(path, {"minutes": 0.25}).trainer.plan.total is None


@pytest.mark.parametrize("group", ["model", "optimizer"])
def test_damaged_checkpoints_are_refused(rng, tmp_path, group):
    path = tmp_path / "model.safetensors"
    start(settings(write_text(tmp_path / "text.txt", rng))).save(path)
    whole = load(path)
    groups = {name: dict(members) for name, members in whole.groups.items()}
    groups[group].popitem()
    save(path, Checkpoint(whole.kind, groups, dict(whole.description)))
    with pytest.raises(ValueError, match=r"model\.safetensors: damaged checkpoint \(\w+: "):
        resume(path, {})
    del groups[group]
    save(path, Checkpoint(whole.kind, groups, dict(whole.description)))
    with pytest.raises(ValueError, match="damaged checkpoint"):
        resume(path, {})
    for wrong in ({"hiden": 3}, {**whole.description["settings"], "hidden": 0}):
        description = {**whole.description, "settings": wrong}
        save(path, Checkpoint(whole.kind, whole.groups, description))
        for read in (load_trained, lambda p: resume(p, {})):
            with pytest.raises(ValueError, match="damaged checkpoint"):
                read(path)
