"""The command line: every command and option, bad input in one line, a killed training resumed."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import fields

import numpy as np
import pytest

import rnnfast
from rnnfast import cli
from rnnfast.checkpoint import Checkpoint, load, save
from rnnfast.models import LanguageModel
from rnnfast.systems import TextSettings

for extra in cli.EXTRAS:
    pytest.importorskip(extra, reason="the command line needs the extra `cli`")

SMALL = ["--hidden=10", "--seq-length=16", "--batch=4", "--cell=gru", "--no-plot"]


@pytest.fixture
def text(tmp_path, rng):
    """A small text file in a folder of its own."""
    path = tmp_path / "text.txt"
    words = rng.choice(["one", "two", "three", "four"], size=700)
    path.write_text(" ".join(words) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run the command line in this process, in `tmp_path`: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)
    threads = rnnfast.get_num_threads()

    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    yield call
    rnnfast.set_num_threads(threads)


@pytest.fixture
def trained(run, text):
    """A checkpoint of one epoch, beside `text`."""
    code, _, _ = run("train", "text", "--data", text, *SMALL, "--epochs", 1)
    assert code == 0
    return text.with_name("text.safetensors")


def description(path):
    return load(path, "text").description


def test_train_text_reports_and_writes(run, text):
    code, out, err = run("train", "text", "--data", text, *SMALL, "--epochs", 2, "--out", "m.st")
    assert code == 0
    told = r"held-out: bits/char (\d\.\d+), nats/char (\d\.\d+)\ncheckpoint: m\.st\n\n"
    held_out = re.match(told, out)
    assert 0.0 < float(held_out[1]) < 4.0
    assert float(held_out[1]) == pytest.approx(float(held_out[2]) / np.log(2), rel=1e-3)
    assert len(out[held_out.end() :]) == 501  # the sample and a line end
    assert "1 x 10 gru" in err
    assert re.search(r" \d+%  \d\.\d{3} bits/char  [\d,]+ chars/s  0:\d\d left", err)
    assert err.count("\n") <= 1 + 10 + 4
    last = description(text.with_name("m.st"))["history"]["evaluations"][-1]
    assert float(held_out[1]) == pytest.approx(last["bits/char"], rel=1e-3)
    assert re.search(rf"step {last['step']}: held-out bits/char {held_out[1]}, nats", err)
    assert "\x1b" not in out + err
    assert description(text.with_name("m.st"))["steps"] > 50


def test_every_option_reaches_the_training(run, text):
    text.write_text(text.read_text() + "ä", encoding="latin-1")
    options = {
        "data": str(text), "encoding": "latin-1", "cell": "lstm", "layers": 2, "hidden": 9,
        "seq_length": 12, "batch": 3, "epochs": 1, "lr": 0.003, "clip": 0.7, "dropout": 0.1,
        "compute": "bfloat16", "seed": 5, "accumulate": 2, "schedule": "linear", "patience": 7,
        "offset": 5, "weight_decay": 0.02,
    }  # fmt: skip
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    code, _, _ = run("train", "text", *flags, "--threads=1", "--out=x.st", "--no-plot")
    assert code == 0
    assert rnnfast.get_num_threads() == 1
    assert description("x.st")["settings"] == {**options, "minutes": None}
    assert set(options) | {"minutes"} == {entry.name for entry in fields(TextSettings)}


def test_the_preset_gives_way_to_options(run, text):
    flags = ["--hidden", 6, "--batch", 2, "--epochs", 1, "--no-plot"]
    code, _, _ = run("train", "text", "--preset", "notes", "--data", text, *flags)
    assert code == 0
    options = description("text.safetensors")["settings"]
    expected = {"cell": "gru", "layers": 3, "seq_length": 256, "hidden": 6, "batch": 2}
    assert {name: options[name] for name in expected} == expected


def test_a_length_given_replaces_the_preset_s(run, text):
    flags = ["--data", text, "--preset", "whale", *SMALL, "--minutes", 0.001]
    assert run("train", "text", *flags)[0] == 0
    settings = description("text.safetensors")["settings"]
    assert (settings["epochs"], settings["minutes"]) == (None, 0.001)
    assert (settings["offset"], settings["hidden"]) == (3, 10)


def test_minutes(run, text):
    code, out, _ = run("train", "text", "--data", text, *SMALL, "--minutes", 0.003)
    assert code == 0
    assert "held-out" in out
    options = description("text.safetensors")["settings"]
    assert (options["epochs"], options["minutes"]) == (None, 0.003)


def test_seeds_repeat(run, text):
    flags = ["train", "text", "--data", text, *SMALL, "--epochs", 1]
    outputs = [run(*flags, "--out", "m.st", "--seed", seed) for seed in (1, 1, 2)]
    assert outputs[0][1] == outputs[1][1] != outputs[2][1]


def test_checkpoints_are_written_at_intervals(run, text, monkeypatch):
    written = []

    def note(path, checkpoint):
        evaluations = checkpoint.description["history"]["evaluations"]
        written.append((str(path), checkpoint.description["steps"], len(evaluations)))

    def steps(name):
        return [step for path, step, _ in written if path == name]

    monkeypatch.setattr("rnnfast.run.save", note)
    flags = ["--data", text, *SMALL, "--epochs", 1]
    assert run("train", "text", *flags, "--checkpoint-every", 0)[0] == 0
    last = steps("text.safetensors")
    assert last == list(range(1, last[-1] + 1))
    assert last[-1] > 40
    every = -(-last[-1] // 4)
    assert all(count == step // every + (step == last[-1]) for _, step, count in written)
    best = steps("text.best.safetensors")
    assert best[0] == every and set(best) <= {*range(every, last[-1], every), last[-1]}
    written.clear()
    assert run("train", "text", *flags)[0] == 0
    assert steps("text.safetensors") == last[-1:]
    assert steps("text.best.safetensors") == best


def test_a_checkpoint_that_fails_does_not_end_the_training(run, text, monkeypatch):
    def full(path, checkpoint):
        if checkpoint.description["steps"] == 3:
            raise OSError(28, "No space left on device")
        save(path, checkpoint)

    monkeypatch.setattr("rnnfast.run.save", full)
    flags = ["--data", text, *SMALL, "--epochs", 1, "--checkpoint-every", 0]
    code, _, err = run("train", "text", *flags)
    assert code == 0
    assert err.count("checkpoint not written: No space left on device: text.safetensors") == 1


def test_only_checkpoints_are_replaced(run, text):
    kept = text.read_bytes()
    code, _, err = run("train", "text", "--data", text, "--out", text, "--epochs", 1, *SMALL)
    assert code == 2 and f"--out is {text}, but {text} would be lost ({text}: truncated" in err
    assert text.read_bytes() == kept
    best = text.with_name("m.best.txt")
    best.write_bytes(kept)
    code, _, err = run("train", "text", "--data", text, "--out", "m.txt", "--epochs", 1, *SMALL)
    assert (
        code == 2 and "--out is m.txt, but m.best.txt would be lost (m.best.txt: truncated" in err
    )
    assert best.read_bytes() == kept
    for _ in range(2):
        assert run("train", "text", "--data", text, "--epochs", 1, *SMALL)[0] == 0


def test_a_last_checkpoint_that_fails_loses_no_results(run, text, monkeypatch):
    def full(path, checkpoint):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rnnfast.run.save", full)
    code, out, err = run("train", "text", "--data", str(text), "--epochs", "1", *SMALL)
    assert code == 1
    assert "checkpoint not written: No space left on device: text.safetensors" in err
    assert "in text.best.safetensors" not in out
    told = (
        r"held-out: bits/char \d\.\d+, nats/char \d\.\d+\n"
        r"(best: .*, not saved\n)?no checkpoint\n\n(?s:.){100}"
    )
    assert re.match(told, out)


def test_resume_after_the_end_needs_more(run, trained):
    code, _, err = run("train", "text", "--resume", "--no-plot")
    assert code == 2
    assert "give more --epochs, or --minutes to add" in err
    steps = description(trained)["steps"]
    assert run("train", "text", "--resume", "--no-plot", "--epochs", 2)[0] == 0
    assert description(trained)["steps"] == 2 * steps


def start_training(text, out):
    """A training in a process of its own that saves after every step."""
    flags = ["--data", text, *SMALL, "--epochs", "6", "--checkpoint-every", "0", "--out", out]
    return subprocess.Popen(
        [sys.executable, "-m", "rnnfast", "train", "text", *map(str, flags)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(path, process):
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_training_stopped_at_any_moment_goes_on_bit_for_bit(run, text, number):
    stopped = text.with_name("stopped.st")
    process = start_training(text, stopped)
    wait_for(stopped, process)
    process.send_signal(number)
    _, err = process.communicate()
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "go on with: rnnfast train text --resume --out " in err
        assert "Traceback" not in err
    else:
        assert process.returncode == -signal.SIGKILL
    steps = description(stopped)["steps"]
    assert steps >= 1
    assert run("train", "text", "--resume", "--no-plot", "--out", stopped)[0] == 0
    straight = text.with_name("straight.st")
    run("train", "text", "--data", text, *SMALL, "--epochs", 6, "--out", straight)
    assert steps < description(straight)["steps"]
    assert stopped.read_bytes() == straight.read_bytes()


def test_generate(run, trained):
    flags = ["generate", trained, "--length", 50, "--prompt", "one t", "--seed", 3]
    code, out, err = run(*flags)
    assert (code, err) == (0, "")
    assert out.startswith("one t")
    assert len(out) == 5 + 50 + 1
    assert run(*flags)[1] == out
    assert run(*flags[:-1], 4)[1] != out
    greedy = [run(*flags[:-2], "--temperature", 0)[1] for _ in range(2)]
    assert greedy[0] == greedy[1]
    assert len(run("generate", trained)[1]) == 1001
    assert run("generate", trained, "--length", 0)[1] == "\n"
    by_bytes = run(*flags, "--int8")
    assert by_bytes[0] == 0 and len(by_bytes[1]) == len(out)


def test_info(run):
    code, out, _ = run("info")
    assert code == 0
    for name in ("version", "isa", "num threads"):
        value = rnnfast.info()[name.replace(" ", "_")]
        assert f"{name}: {value}\n" in out


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["train", "--help"], ["train", "text", "--help"], ["generate", "--help"],
     ["show", "--help"], ["bench", "--help"], ["info", "--help"]],
)  # fmt: skip
def test_help(run, arguments):
    code, out, err = run(*arguments)
    assert (code, err) == (0, "")
    assert "Usage: rnnfast" in out


@pytest.mark.parametrize("arguments", [[], ["train"]])
def test_a_command_left_out_is_answered_with_help(run, arguments):
    code, out, err = run(*arguments)
    assert code in (0, 2)  # by the version of click
    assert "Usage: rnnfast" in out
    assert err == ""


def test_help_names_the_defaults(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    _, out, _ = run("train", "text", "--help")
    defaults = TextSettings(minutes=2.0)
    for flag, value in (
        ("--cell", defaults.cell), ("--hidden", defaults.hidden), ("--minutes", 2.0),
        ("--patience", "never"), ("--offset", "streams that carry their state"),
    ):  # fmt: skip
        assert re.search(rf"{flag} .*Default: {value}\.", out)


BAD_INPUT = {
    "missing data": (
        "train text --data none.txt",
        r"none\.txt: No such file or directory",
    ),
    "folder as data": (
        "train text --data .",
        r"\.: Is a directory",
    ),
    "empty data": (
        "train text --data empty.txt",
        r"empty\.txt: the file is empty",
    ),
    "short data": (
        "train text --data short.txt",
        r"short\.txt: 20 characters leave 18 .* than the 257 of one window",
    ),
    "not utf-8": (
        "train text --data latin.txt",
        r"latin\.txt: not utf-8 at byte 1 \(line 1\); give .* --encoding",
    ),
    "no such encoding": (
        "train text --data latin.txt --encoding latin-one",
        r"latin\.txt: Python knows no encoding 'latin-one'",
    ),
    "no such preset": (
        "train text --preset lectures",
        r"--preset is 'lectures', expected one of notes, whale",
    ),
    "no such cell": (
        "train text --cell elman",
        r"--cell is 'elman', expected one of basic, lstm, gru",
    ),
    "hidden 0": (
        "train text --hidden 0",
        r"--hidden is 0, expected at least 1",
    ),
    "hidden words": (
        "train text --hidden many",
        r"'--hidden'",
    ),
    "two lengths": (
        "train text --epochs 1 --minutes 1",
        r"expected --epochs or --minutes, came both",
    ),
    "negative interval": (
        "train text --checkpoint-every -1",
        r"--checkpoint-every is -1\.0, expected",
    ),
    "threads 0": (
        "train text --threads 0",
        r": --threads is 0, expected 1 to 1024",
    ),
    "threads 10000": (
        "train text --threads 10000",
        r": --threads is 10000, expected 1 to 1024",
    ),
    "curves over the checkpoint": (
        "train text --out m.png",
        r"--out is m\.png, where the curves go; give another ending, or --no-plot",
    ),
    "log over the data": (
        "train text --data short.txt --log short.txt",
        r"--log is short\.txt, which exists and is no log",
    ),
    "log over the checkpoint": (
        "train text --log ./text.safetensors",
        r"--log is text\.safetensors, which is --out",
    ),
    "log in no folder": (
        "train text --data long.txt --hidden 4 --log none/log.jsonl",
        r"none/log\.jsonl: No such file or directory",
    ),
    "bad data with a log": (
        "train text --data short.txt --log log.jsonl",
        r"short\.txt: 20 characters leave",
    ),
    "bad setting with a log": (
        "train text --data long.txt --lr 0 --log log.jsonl",
        r"--lr is 0\.0, expected above 0",
    ),
    "no text codec": (
        "train text --data latin.txt --encoding hex",
        r"latin\.txt: Python knows no encoding 'hex'",
    ),
    "show nothing": (
        "show none.st",
        r"none\.st: No such file or directory",
    ),
    "show a foreign file": (
        "show short.txt",
        r"short\.txt: truncated, or not a checkpoint",
    ),
    "show another kind": (
        "show other.st",
        r"other\.st: a checkpoint of kind 'weather'",
    ),
    "show a damaged file": (
        "show damaged.st",
        r"damaged\.st: damaged checkpoint",
    ),
    "no such option": (
        "train text --hiden 3",
        r"--hiden",
    ),
    "no such command": (
        "trian",
        r"trian",
    ),
    "out is a folder": (
        "train text --out .",
        r"\.: Is a directory",
    ),
    "out in no folder": (
        "train text --out none/m.st",
        r"none: No such file or directory",
    ),
    "nothing to resume": (
        "train text --resume --out none.st",
        r"none\.st: No such file or directory",
    ),
    "resume a foreign file": (
        "train text --resume --out short.txt",
        r"short\.txt: truncated, or not a checkpoint",
    ),
    "generate from nothing": (
        "generate none.st",
        r"none\.st: No such file or directory",
    ),
    "generate from a foreign file": (
        "generate short.txt",
        r"short\.txt: truncated, or not a checkpoint",
    ),
    "generate from a truncated file": (
        "generate cut.st",
        r"cut\.st: truncated, or not a checkpoint",
    ),
    "generate from another kind": (
        "generate other.st",
        r"other\.st: a checkpoint of kind 'weather'",
    ),
    "no checkpoint named": (
        "generate",
        r"(?i)missing argument 'checkpoint'",
    ),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_is_one_line(run, tmp_path, rng, name):
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "short.txt").write_text("twenty characters ..", encoding="utf-8")
    (tmp_path / "latin.txt").write_bytes("Käse".encode("latin-1"))
    save("other.st", Checkpoint("weather", {"model": {"w": rng.standard_normal(100)}}, {}))
    save("damaged.st", Checkpoint("text", {"model": {"w": rng.standard_normal(100)}}, {}))
    (tmp_path / "long.txt").write_text("abc " * 200, encoding="utf-8")
    (tmp_path / "cut.st").write_bytes((tmp_path / "other.st").read_bytes()[:-9])
    before = sorted(os.listdir(tmp_path))
    arguments, message = BAD_INPUT[name]
    code, out, err = run(*arguments.split())
    assert (code, out) == (2, "")
    assert re.fullmatch(r"rnnfast: .*\n", err)
    assert re.search(message, err)
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--prompt", "one?"], r"character '\?' at position 3 is not one of the"),
        (["--temperature", "-1"], r"temperature is -1.0, expected"),
        (["--length", "-1"], r"--length is -1, expected at least 0"),
        (["--seed", "-1"], r"--seed is -1, expected at least 0"),
    ],
)
def test_bad_generation_is_one_line(run, trained, flags, message):
    code, out, err = run("generate", trained, *flags)
    assert (code, out) == (2, "")
    assert re.fullmatch(r"rnnfast: .*\n", err)
    assert re.search(message, err)


def test_resuming_with_other_options_is_refused(run, trained):
    code, _, err = run("train", "text", "--resume", "--hidden", 11)
    assert code == 2
    assert "--hidden is 11, but the checkpoint's is 10" in err
    assert err.count("\n") == 1


def test_divergence_is_told_and_the_checkpoint_kept(run, text, monkeypatch):
    flags = ["train", "text", "--data", text, *SMALL, "--epochs", 2, "--checkpoint-every", 0]
    original = LanguageModel.loss_and_gradient
    calls = []

    def diverge(self, *arguments):
        calls.append(0)
        loss, states = original(self, *arguments)
        return (np.nan if len(calls) == 5 else loss), states

    monkeypatch.setattr(LanguageModel, "loss_and_gradient", diverge)
    code, _, err = run(*flags)
    assert code == 1
    assert "rnnfast: step 4: loss nan" in err
    assert "Traceback" not in err
    assert description("text.safetensors")["steps"] == 4


def test_missing_extras_are_named(run, monkeypatch):
    monkeypatch.setattr(cli, "EXTRAS", ("rich", "no_such_package_as_this"))
    code, out, err = run("info")
    assert (code, out) == (2, "")
    assert err == (
        "rnnfast: the command line needs no_such_package_as_this: pip install 'rnnfast[cli]'\n"
    )


def test_the_live_bar_shows_loss_speed_and_time_left(rng, text):
    from rich.console import Console

    from rnnfast.progress import Meter, Progress
    from rnnfast.run import Run
    from rnnfast.systems import Text

    run = Run(Text, TextSettings(data=str(text), hidden=8, seq_length=16, batch=4, epochs=1))
    with open(os.devnull, "w", encoding="utf-8") as sink:
        console = Console(file=sink, force_terminal=True, width=120, record=True)
        with Progress(Meter(run), console) as progress:
            run.train(on_step=progress.on_step)
    shown = console.export_text()
    assert "100 %" in shown
    assert re.search(r"\d\.\d{3} bits/char  [\d,]+ chars/s  0:00 left", shown)


def test_the_version_is_told(run):
    assert run("--version") == (0, f"rnnfast {rnnfast.__version__}\n", "")


def test_help_tells_what_presets_stand_for(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    assert (
        "notes (--cell gru --layers 3 --hidden 512 --seq-length 256)"
        in run("train", "text", "--help")[1]
    )
