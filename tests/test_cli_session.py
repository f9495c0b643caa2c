"""What a training on the command line leaves: log, curves, the best checkpoint, what they show."""

import importlib
import json
import re
from contextlib import nullcontext

import numpy as np
import pytest

from rnnfast import cli
from rnnfast.checkpoint import Checkpoint, load, save

pytest.importorskip("rich", reason="the command line needs the extra `cli`")
pytest.importorskip("typer", reason="the command line needs the extra `cli`")
pytest.importorskip("safetensors", reason="the command line needs the extra `cli`")

from rnnfast.commands import session
from rnnfast.run import Run
from rnnfast.systems import Text
from texts import settings, write_text

SMALL = ["--hidden=10", "--seq-length=16", "--batch=4"]
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def run(capsys, monkeypatch, tmp_path, rng):
    """Train a character model in `tmp_path` on its `text.txt`: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "text.txt", rng)

    def call(*arguments, command=("train", "text", "--data=text.txt", *SMALL)):
        with pytest.raises(SystemExit) as caught:
            cli.main([*command, *map(str, arguments)])
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    return call


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def evaluations(path):
    return load(path, "text").description["history"]["evaluations"]


def test_the_log_has_every_step_and_evaluation(run, tmp_path):
    assert run("--epochs=1", "--no-plot", "--log=log.jsonl", "--clip=0.2")[0] == 0
    entries = lines(tmp_path / "log.jsonl")
    steps = [entry for entry in entries if "loss" in entry]
    found = [entry for entry in entries if "held_out" in entry]
    assert len(steps) + len(found) == len(entries)
    assert [entry["step"] for entry in steps] == list(range(1, len(steps) + 1))
    history = load("text.safetensors").description["history"]
    losses = [[entry["step"], entry["loss"]] for entry in steps]
    assert losses == history["losses"]
    assert [{"step": e["step"], **e["held_out"]} for e in found] == history["evaluations"]
    assert set(steps[0]) == {"time", "step", "loss", "gradient_norm", "lr"}
    assert max(entry["gradient_norm"] for entry in steps) > 0.2  # before clipping
    assert max(entry["lr"] for entry in steps) == pytest.approx(6e-3)
    assert sorted(e["time"] for e in entries) == [e["time"] for e in entries]


def test_a_resumed_training_goes_on_with_its_log(run, tmp_path):
    assert run("--epochs=1", "--no-plot", "--log=log.jsonl")[0] == 0
    first = (tmp_path / "log.jsonl").read_text()
    again = ("train", "text", "--resume", "--no-plot", "--log=log.jsonl")
    assert run("--epochs=2", command=again)[0] == 0
    both = (tmp_path / "log.jsonl").read_text()
    assert both.startswith(first) and len(both) > 1.8 * len(first)
    steps = [entry["step"] for entry in lines(tmp_path / "log.jsonl") if "loss" in entry]
    assert steps == list(range(1, len(steps) + 1))
    assert run("--epochs=1", "--no-plot", "--log=log.jsonl")[0] == 0
    assert len((tmp_path / "log.jsonl").read_text()) == pytest.approx(len(first), rel=0.02)


def test_a_log_that_fails_ends_without_the_training(run, tmp_path, monkeypatch):
    dumped = []

    def full(value):
        dumped.append(value)
        if len(dumped) > 5:
            raise OSError(28, "No space left on device")
        return "{}"

    monkeypatch.setattr(session.json, "dumps", full)
    monkeypatch.setattr("rnnfast.run.save", lambda path, checkpoint: None)
    code, out, err = run("--epochs=1", "--no-plot", "--log=log.jsonl")
    assert code == 0 and "held-out" in out
    assert err.count("log ends here: No space left on device: log.jsonl") == 1
    assert len(dumped) == 6


def test_curves_are_drawn_beside_the_checkpoint(run, tmp_path):
    code, out, _ = run("--epochs=1", "--out=m.st")
    assert code == 0
    assert "picture: m.png\n" in out
    assert (tmp_path / "m.png").read_bytes().startswith(PNG)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.best.st", "m.png", "m.st", "text.txt"]


def test_no_plot_draws_nothing(run, tmp_path):
    code, out, _ = run("--epochs=1", "--no-plot")
    assert code == 0 and "picture" not in out
    assert not list(tmp_path.glob("*.png"))


def test_matplotlib_is_missed_by_name_before_the_training(run, tmp_path, monkeypatch):
    train = importlib.import_module("rnnfast.commands.train")
    monkeypatch.setattr(train, "find_spec", lambda name: None)
    code, out, err = run("--epochs=1")
    assert (code, out) == (2, "")
    assert err == (
        "rnnfast: --plot needs matplotlib: pip install 'rnnfast[cli]', or give --no-plot\n"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["text.txt"]
    assert run("--epochs=1", "--no-plot")[0] == 0


def test_curves_that_cannot_be_written_lose_no_results(run, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(session, "curves", full)
    code, out, err = run("--epochs=1")
    assert code == 0
    assert "picture not written: No space left on device: text.png" in err
    assert len(out.split("\n\n", 1)[1]) == 501  # the sample and a line end


def test_the_best_checkpoint_is_kept(run, tmp_path):
    code, out, _ = run(
        "--epochs=40", "--lr=0.03", "--hidden=24", "--schedule=constant", "--no-plot"
    )
    assert code == 0
    found = evaluations("text.safetensors")
    best = min(found, key=lambda entry: entry["bits/char"])
    kept = evaluations("text.best.safetensors")
    assert kept[-1] == best
    assert load("text.best.safetensors").description["steps"] == best["step"]
    assert best is not found[-1], "the last evaluation is the best: this trains too short"
    told = re.search(r"best: bits/char (\S+) at step (\d+), in text\.best\.safetensors\n", out)
    assert float(told[1]) == pytest.approx(best["bits/char"], rel=1e-3)
    assert int(told[2]) == best["step"]


def test_patience_ends_a_training_in_good_order(run):
    flags = ("--lr=0.03", "--hidden=24", "--schedule=constant", "--no-plot")
    code, out, err = run("--epochs=40", "--patience=2", *flags)
    assert code == 0
    assert "held-out" in out and "stopped after" not in err
    description = load("text.safetensors").description
    assert description["steps"] < description["plan"]["total"]
    found = [entry["bits/char"] for entry in description["history"]["evaluations"]]
    assert np.argmin(found) == len(found) - 3
    again = ("train", "text", "--resume", "--no-plot")
    code, out, err = run(command=again)
    assert (code, out) == (2, "")
    assert err == (
        "rnnfast: text.safetensors: ended after 2 evaluations without a better one; "
        "give a larger --patience\n"
    )
    assert run("--patience=9", command=again)[0] == 0
    longer = load("text.safetensors").description
    assert longer["steps"] > description["steps"]


def test_show_tells_what_a_checkpoint_is(run):
    assert run("--epochs=1", "--no-plot", "--offset=7")[0] == 0
    code, out, err = run(command=("show", "text.safetensors"))
    assert (code, err) == (0, "")
    checkpoint = load("text.safetensors")
    description = checkpoint.description
    assert f"system: text, rnnfast {description['version']}\n" in out
    for setting in ("--offset 7", "--hidden 10", "--cell gru", "--epochs 1", "--seed 0"):
        assert setting in out
    assert "--minutes" not in out and "None" not in out
    assert "data: " in out and "text.txt\n" in out
    total = f"{description['steps']:,}"
    assert f"steps: {total} of {total}\n" in out
    for entry in description["history"]["evaluations"]:
        shown = f"held-out at step {entry['step']:,}: bits/char {entry['bits/char']:.4g}, nats/char"
        assert shown in out
    size = sum(array.size for array in checkpoint.groups["model"].values())
    assert f"parameters: {size:,}\n" in out
    assert "  layers.0.weight_hh_l0 30 x 10\n" in out
    assert out.count("\n  ") == len(checkpoint.groups["model"])


def test_show_tells_that_a_length_is_not_known_yet(run, tmp_path):
    timed = Run(Text, settings(str(tmp_path / "text.txt"), epochs=None, minutes=9.0))
    timed.trainer.advance()
    timed.save("timed.st")
    code, out, _ = run(command=("show", "timed.st"))
    assert code == 0
    assert "steps: 1 of a number not known yet\n" in out
    assert "--minutes 9.0" in out


@pytest.mark.parametrize("missing", ["version", "source", "steps", "plan", "history"])
def test_show_refuses_a_description_with_gaps(run, missing):
    assert run("--epochs=1", "--no-plot")[0] == 0
    whole = load("text.safetensors")
    description = {name: v for name, v in whole.description.items() if name != missing}
    save("cut.st", Checkpoint(whole.kind, whole.groups, description))
    code, out, err = run(command=("show", "cut.st"))
    assert (code, out) == (2, "")
    assert err == f"rnnfast: cut.st: damaged checkpoint ('{missing}')\n"


def test_a_log_takes_no_other_files_place(run, tmp_path):
    kept = (tmp_path / "text.txt").read_bytes()
    assert run("--epochs=1", "--no-plot")[0] == 0
    for flags in (["--log=text.txt"], ["--resume", "--epochs=2", "--log=text.txt"]):
        code, _, err = run(*flags)
        assert code == 2 and "--log is text.txt, which exists and is no log" in err
    assert (tmp_path / "text.txt").read_bytes() == kept
    for _ in range(2):
        assert run("--epochs=1", "--no-plot", "--log=log.jsonl")[0] == 0


def test_the_best_checkpoint_of_a_former_training_goes_with_it(run, tmp_path, monkeypatch):
    assert run("--epochs=1", "--no-plot")[0] == 0
    best = tmp_path / "text.best.safetensors"
    assert best.exists()
    monkeypatch.setattr(session, "Interruption", lambda: nullcontext(lambda: True))
    assert run("--epochs=1", "--no-plot")[0] == cli.INTERRUPTED
    assert not best.exists() and (tmp_path / "text.safetensors").exists()


def test_a_picture_that_cannot_be_written_loses_no_results(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "series.forecast.png").mkdir()
    with pytest.raises(SystemExit) as caught:
        cli.main(["train", "series", "--hidden=4", "--epochs=1"])
    out, err = capsys.readouterr()
    assert caught.value.code == 0 and "below persistence" in out
    assert "picture not written: Is a directory: series.forecast.png" in err
    assert (tmp_path / "series.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ("system", "flags"),
    [
        ("text", ["--encoding=latin-1"]),
        ("words", ["--encoding=latin-1"]),
        ("sentiment", ["--text-column=a"]),
        ("series", ["--column=a"]),
    ],
)
def test_settings_of_files_need_a_file(run, system, flags):
    code, _, err = run(*flags, command=("train", system))
    name, value = flags[0].split("=")
    assert code == 2 and f"{name} is '{value}', but there is no --data" in err


def test_an_earlier_training_is_replaced_with_a_word_and_another_systems_is_kept(run, tmp_path):
    assert "will be replaced" not in run("--epochs=1", "--no-plot")[2]
    assert (
        "text.safetensors of an earlier training will be replaced"
        in run("--epochs=1", "--no-plot")[2]
    )
    kept = (tmp_path / "text.safetensors").read_bytes()
    code, _, err = run("--out=text.safetensors", command=("train", "sort"))
    assert code == 2
    assert "text.safetensors would be lost (text.safetensors: a checkpoint of kind 'text'" in err
    assert (tmp_path / "text.safetensors").read_bytes() == kept
