"""The character model as a task: it learns, and goes on from a checkpoint as if never stopped."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from rnnfast import text
from rnnfast.checkpoint import Checkpoint, load, save
from rnnfast.models import CELLS
from rnnfast.text import TextOptions, TextRun, bits, load_model

WORDS = ("alpha", "beta", "gamma", "delta", "omega")


def write_text(path, rng, words=600):
    path.write_text(" ".join(rng.choice(WORDS, size=words)) + "\n", encoding="utf-8")
    return str(path)


def options(path, **changes):
    small = TextOptions(
        data=path, cell="gru", layers=2, hidden=12, seq_length=16, batch=4, epochs=1, dropout=0.2
    )
    return replace(small, **changes)


def start(chosen):
    return TextRun(chosen, chosen.corpus())


def contents(path):
    return path.read_bytes()


@pytest.mark.parametrize("cell", CELLS)
def test_it_learns_a_periodic_text(rng, tmp_path, cell):
    pattern = "".join(rng.permutation(list("abcdefgh"))) + "".join(rng.permutation(list("abcd")))
    path = tmp_path / "text.txt"
    path.write_text(pattern * 150, encoding="utf-8")
    run = start(
        TextOptions(data=str(path), cell=cell, hidden=24, seq_length=12, batch=4, epochs=3, lr=0.02)
    )
    untrained = run.task.evaluate()
    assert 2.5 < untrained < 3.5  # log2 of 8 characters
    assert run.trainer.run()
    assert run.task.evaluate() < 0.1  # each character follows from the three before it
    generated = run.model.generate(48, prompt=pattern + pattern[:3], temperature=0.3, rng=1)
    assert generated == (pattern * 6)[3:51]


def test_evaluation_is_the_mean_over_the_held_out_text(rng, tmp_path):
    run = start(options(write_text(tmp_path / "text.txt", rng), batch=1))
    _, held_out = run.corpus.split(16)
    tokens = run.model.vocabulary.encode(held_out)[:, None]
    nats, _ = run.model.loss(tokens[:-1], tokens[1:])
    assert run.task.evaluate() == pytest.approx(bits(nats), rel=1e-5)
    assert bits(math.log(8)) == pytest.approx(3.0)


def test_the_state_is_carried_through_an_epoch_and_dropped_at_its_end(rng, tmp_path):
    run = start(options(write_text(tmp_path / "text.txt", rng), dropout=0.0))
    windows = run.task.steps_per_epoch
    first = run.task.step(0)
    second = run.task.step(1)
    assert run.task.step(windows) == first
    assert run.task.step(windows + 1) == second
    carried = run.task.state()
    run.task.load_state(
        {name: rng.standard_normal(a.shape).astype("f") for name, a in carried.items()}
    )
    assert run.task.step(1) != second


@pytest.mark.parametrize("stop", [0, 1, 17, 30])
@pytest.mark.parametrize(
    ("cell", "compute"), [("gru", "float32"), ("lstm", "float32"), ("gru", "bfloat16")]
)
def test_resume_equals_straight_through(rng, tmp_path, cell, compute, stop):
    chosen = options(write_text(tmp_path / "text.txt", rng), cell=cell, compute=compute)
    straight, halves = tmp_path / "straight.safetensors", tmp_path / "halves.safetensors"
    whole = start(chosen)
    assert whole.trainer.run()
    assert whole.trainer.steps > 40
    whole.save(straight)
    first = start(chosen)
    for _ in range(stop):
        first.trainer.advance()
    first.save(halves)
    second = TextRun.resume(halves, {})
    assert second.trainer.steps == stop
    assert second.trainer.run()
    second.save(halves)
    assert contents(halves) == contents(straight)


def test_training_in_bfloat16_follows_float32(rng, tmp_path):
    file = write_text(tmp_path / "text.txt", rng)
    ends = {}
    for compute in text.COMPUTE:
        run = start(options(file, compute=compute, dropout=0.0, hidden=32))
        assert run.trainer.run()
        ends[compute] = run.task.evaluate()
    assert ends["bfloat16"] != ends["float32"]
    assert ends["bfloat16"] == pytest.approx(ends["float32"], rel=0.01)


def test_resume_repeats_the_command_and_refuses_another(rng, tmp_path):
    path = tmp_path / "model.safetensors"
    chosen = options(write_text(tmp_path / "text.txt", rng))
    run = start(chosen)
    run.trainer.advance()
    run.save(path)
    same = {"cell": "gru", "hidden": 12, "epochs": 1, "data": chosen.data, "dropout": 0.2}
    assert TextRun.resume(path, same).trainer.plan == run.trainer.plan
    for name, other in (("hidden", 13), ("lr", 0.5), ("seed", 7), ("seq_length", 8)):
        flag = name.replace("_", "-")
        with pytest.raises(ValueError, match=f"--{flag} is {other}, but the checkpoint's is"):
            TextRun.resume(path, {name: other})


def test_resume_knows_the_text(rng, tmp_path):
    path, file = tmp_path / "model.safetensors", tmp_path / "text.txt"
    run = start(options(write_text(file, rng)))
    run.save(path)
    moved = file.rename(tmp_path / "moved.txt")
    with pytest.raises(FileNotFoundError):
        TextRun.resume(path, {})
    assert TextRun.resume(path, {"data": str(moved)}).trainer.steps == 0
    write_text(file, rng)
    with pytest.raises(ValueError, match=r"text\.txt: not the text that .* was trained on"):
        TextRun.resume(path, {})


def test_resume_finds_a_relative_path_from_elsewhere(rng, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "text.txt", rng)
    start(options("text.txt")).save("model.safetensors")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert TextRun.resume("../model.safetensors", {}).corpus.text


def test_a_finished_run_can_be_prolonged(rng, tmp_path):
    path = tmp_path / "model.safetensors"
    run = start(options(write_text(tmp_path / "text.txt", rng)))
    run.trainer.run()
    run.save(path)
    steps = run.task.steps_per_epoch
    for given in ({}, {"epochs": 1}):
        with pytest.raises(ValueError, match=f"trained for all of its {steps} steps; give more"):
            TextRun.resume(path, given)
    longer = TextRun.resume(path, {"epochs": 3})
    assert longer.trainer.plan.total == 3 * steps
    assert longer.seconds is None
    timed = TextRun.resume(path, {"minutes": 0.5})
    assert timed.trainer.plan.total is None
    assert timed.seconds == 30.0
    assert timed.trainer.run(seconds=0.05)
    assert timed.trainer.steps > steps


def test_an_unfinished_timed_run_keeps_its_plan(rng, tmp_path):
    path = tmp_path / "model.safetensors"
    chosen = options(write_text(tmp_path / "text.txt", rng), epochs=None, minutes=0.5)
    run = start(chosen)
    run.trainer.plan = run.trainer.plan.of_length(123)
    run.trainer.advance()
    run.save(path)
    for given in ({}, {"minutes": 0.5}):
        assert TextRun.resume(path, given).trainer.plan == run.trainer.plan
    assert TextRun.resume(path, {"minutes": 0.25}).trainer.plan.total is None


def test_load_model_generates_as_the_run_does(rng, tmp_path):
    path = tmp_path / "model.safetensors"
    run = start(options(write_text(tmp_path / "text.txt", rng), cell="lstm"))
    run.trainer.run()
    run.save(path)
    model = load_model(path)
    assert model.vocabulary.characters == run.model.vocabulary.characters
    assert model.generate(80, "alpha", rng=3) == run.model.generate(80, "alpha", rng=3)


@pytest.mark.parametrize("group", ["model", "optimizer"])
def test_damaged_checkpoints_are_refused(rng, tmp_path, group):
    path = tmp_path / "model.safetensors"
    start(options(write_text(tmp_path / "text.txt", rng))).save(path)
    whole = load(path)
    groups = {name: dict(members) for name, members in whole.groups.items()}
    groups[group].popitem()
    save(path, Checkpoint(whole.kind, groups, dict(whole.description)))
    with pytest.raises(ValueError, match=r"model\.safetensors: damaged checkpoint \(\w+: "):
        TextRun.resume(path, {})
    del groups[group]
    save(path, Checkpoint(whole.kind, groups, dict(whole.description)))
    with pytest.raises(ValueError, match="damaged checkpoint"):
        TextRun.resume(path, {})
    for wrong in ({"hiden": 3}, {**whole.description["options"], "hidden": 0}):
        description = {**whole.description, "options": wrong}
        save(path, Checkpoint(whole.kind, whole.groups, description))
        for read in (load_model, lambda p: TextRun.resume(p, {})):
            with pytest.raises(ValueError, match="damaged checkpoint"):
                read(path)


def test_short_texts_make_fewer_streams(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog", encoding="utf-8")
    assert start(options(str(path))).task.training.batch == 2
    with pytest.raises(ValueError, match=r"fewer than the 40 of one window of sequence length 39"):
        start(options(str(path), seq_length=39))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cell": "elman"}, "--cell is 'elman', expected one of basic, lstm, gru"),
        ({"compute": "half"}, "--compute is 'half', expected float32 or bfloat16"),
        ({"layers": 0}, "--layers is 0, expected at least 1"),
        ({"hidden": -3}, "--hidden is -3"),
        ({"seq_length": 0}, "--seq-length is 0"),
        ({"batch": 0}, "--batch is 0"),
        ({"epochs": 0}, "--epochs is 0"),
        ({"epochs": None, "minutes": 0.0}, "--minutes is 0.0, expected above 0"),
        ({"epochs": None, "minutes": math.nan}, "--minutes is nan"),
        ({"lr": -1.0}, "--lr is -1.0"),
        ({"clip": math.inf}, "--clip is inf"),
        ({"seed": -1}, "--seed is -1, expected at least 0"),
        ({"dropout": 1.0}, "--dropout is 1.0, expected at least 0 and below 1"),
        ({"layers": 1}, "--dropout acts between layers"),
        ({"epochs": None}, "expected one of --epochs and --minutes"),
        ({"minutes": 1.0}, "expected one of --epochs and --minutes"),
    ],
)
def test_options_out_of_range_are_named(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        options(None, **changes)


def test_the_presets_are_options():
    notes = TextOptions(**text.PRESETS["notes"], epochs=1)
    assert (notes.cell, notes.layers, notes.hidden, notes.seq_length) == ("gru", 3, 512, 256)


def test_the_summary_says_what_is_trained(rng, tmp_path):
    line = start(options(write_text(tmp_path / "text.txt", rng))).summary()
    assert "2 x 12 gru" in line
    assert "4 streams" in line
    assert "\n" not in line


def test_initial_weights_follow_the_seed(rng, tmp_path):
    path = write_text(tmp_path / "text.txt", rng)
    one, same, other = (start(options(path, seed=s)).model.flat for s in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
