"""Models read from checkpoints: what they are, and what is none."""

import pytest

from rnnfast.checkpoint import Checkpoint, load, save
from rnnfast.systems import Text
from rnnfast.trained import load_trained
from texts import settings, start, write_text

pytest.importorskip("safetensors", reason="checkpoints are safetensors files")


def test_a_loaded_model_generates_as_the_run_does(rng, tmp_path):
    path = tmp_path / "model.safetensors"
    run = start(settings(write_text(tmp_path / "text.txt", rng), cell="lstm"))
    run.train()
    run.save(path)
    model, mine = load_trained(path).model, run.system.model
    assert model.vocabulary.characters == mine.vocabulary.characters
    assert model.generate(80, "alpha", rng=3) == mine.generate(80, "alpha", rng=3)


def test_everything_but_the_optimiser_is_there(rng, tmp_path):
    path = tmp_path / "model.safetensors"
    run = start(settings(write_text(tmp_path / "text.txt", rng)))
    run.trainer.advance()
    run.save(path)
    trained = load_trained(path)
    assert trained.system is Text
    assert trained.settings == run.settings
    assert trained.about == run.system.about
    assert trained.description["steps"] == 1
    assert (trained.model.flat == run.system.model.flat).all()


def test_other_kinds_are_refused(rng, tmp_path):
    path = tmp_path / "model.safetensors"
    start(settings(write_text(tmp_path / "text.txt", rng))).save(path)
    message = r"model\.safetensors: a checkpoint of kind 'text', expected series or digits"
    with pytest.raises(ValueError, match=message):
        load_trained(path, ("series", "digits"))
    whole = load(path)
    save(path, Checkpoint("weather", whole.groups, whole.description))
    with pytest.raises(ValueError, match=r"a checkpoint of kind 'weather', expected .*text"):
        load_trained(path)


@pytest.mark.parametrize(
    "change",
    [{"settings": {"hiden": 3}}, {"settings": None}, {"about": {}}, {"about": {"vocabulary": ""}},
     {"about": {"vocabulary": "abc"}}, {"settings": {"epochs": 1, "hidden": "many"}}],
)  # fmt: skip
def test_damaged_descriptions_are_refused(rng, tmp_path, change):
    path = tmp_path / "model.safetensors"
    start(settings(write_text(tmp_path / "text.txt", rng))).save(path)
    whole = load(path)
    save(path, Checkpoint("text", whole.groups, {**whole.description, **change}))
    with pytest.raises(ValueError, match=r"model\.safetensors: damaged checkpoint \("):
        load_trained(path)
