"""Digits as a system: shifts, parts of a batch, learning, resume, and the command line."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from command_line import run
from idx_files import idx, write_folder
from rnnfast.cli import EXTRAS
from rnnfast.parallel import Alone
from rnnfast.run import Run
from rnnfast.systems import Digits, DigitsSettings
from rnnfast.systems.digits import as_rows, shifted

for extra in (*EXTRAS, "matplotlib"):
    pytest.importorskip(extra, reason="trainings and the command line need the extra `cli`")

SMALL = {"hidden": 12, "batch": 10, "epochs": 5, "lr": 2e-2, "cell": "gru"}
FLAGS = ["--hidden", 12, "--batch", 10, "--lr", 2e-2, "--cell", "gru"]


def settings(folder, **options):
    return DigitsSettings(data=str(folder), **(SMALL | options))


class Part(Alone):
    """One of several processes, as far as dividing a batch goes."""

    def __init__(self, rank, size):
        self.rank, self.size = rank, size


def test_images_are_shifted_each_by_its_own(rng):
    pixels = rng.integers(1, 256, (9, 5, 4)).astype(np.uint8)
    shifts = np.array([(down, right) for down in (-2, 0, 1) for right in (-1, 0, 3)])
    before = pixels.copy()
    for image, (down, right), result in zip(pixels, shifts, shifted(pixels, shifts), strict=True):
        for row, column in np.ndindex(5, 4):
            source = (row - down, column - right)
            inside = 0 <= source[0] < 5 and 0 <= source[1] < 4
            assert result[row, column] == (image[source] if inside else 0)
    np.testing.assert_array_equal(pixels, before)
    np.testing.assert_array_equal(shifted(pixels, np.zeros((9, 2), np.int64)), pixels)


def test_rows_are_the_steps_of_a_sequence(rng):
    pixels = rng.integers(0, 256, (3, 5, 4)).astype(np.uint8)
    rows = as_rows(pixels)
    assert (rows.shape, rows.dtype) == ((5, 3, 4), np.float32)
    np.testing.assert_allclose(rows[2, 1], pixels[1, 2] / 255.0, rtol=1e-6)


@pytest.mark.parametrize("shift", [0, 1])
def test_parts_of_a_batch_make_up_its_gradient(tmp_path, rng, shift):
    write_folder(tmp_path, rng)
    options = settings(tmp_path, shift=shift)
    whole, *parts = (
        Digits(options, np.random.default_rng(0), group)
        for group in (Part(0, 1), Part(0, 3), Part(1, 3), Part(2, 3))
    )
    for index in (0, 7):
        loss = whole.step(index)
        losses = [part.step(index) for part in parts]
        assert sum(weight for _, weight in losses) == loss.weight == 10
        mean = sum(m * w for m, w in losses) / 10
        assert mean == pytest.approx(loss.mean, rel=1e-5)
        gradient = sum(p.model.gradient * w for p, (_, w) in zip(parts, losses, strict=True)) / 10
        np.testing.assert_allclose(gradient, whole.model.gradient, atol=1e-6)


def test_shifts_are_new_in_every_batch(tmp_path, rng):
    files = write_folder(tmp_path, rng)
    files["train images"].write_bytes(idx(np.full((60, 9, 7), 200)))  # all alike but for shifts
    system = Digits(settings(tmp_path, batch=60, shift=1), np.random.default_rng(0), Alone())
    assert len({system.step(index).mean for index in range(4)}) == 4
    assert system.step(1) == system.step(1)


@pytest.mark.parametrize(("size", "shift"), [(15, 0), (16, 1)])
def test_small_images_are_not_shifted_by_default(tmp_path, rng, size, shift):
    for name in ("train", "t10k"):
        pixels = rng.integers(0, 256, (20, size, 20))
        (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(idx(pixels))
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(idx(np.arange(20) % 2))
    by_default, told = (
        Digits(settings(tmp_path, shift=given), np.random.default_rng(0), Alone())
        for given in (None, shift)
    )
    other = Digits(settings(tmp_path, shift=1 - shift), np.random.default_rng(0), Alone())
    assert by_default.step(0) == told.step(0) != other.step(0)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_model_learns(tmp_path, rng, bidirectional):
    write_folder(tmp_path, rng)
    run = Run(Digits, settings(tmp_path, bidirectional=bidirectional, shift=0, epochs=20))
    assert run.system.evaluate()["accuracy"] < 0.9
    assert run.train()
    figures = run.history.evaluations[-1]
    assert figures["accuracy"] > 0.95
    assert figures["nats/image"] < 0.3


def test_a_resumed_run_repeats_the_straight_one(tmp_path, rng):
    write_folder(tmp_path, rng)
    straight, cut = (Run(Digits, settings(tmp_path)) for _ in range(2))
    straight.train()
    cut.train(stop=lambda: cut.trainer.steps == 13)
    cut.save(tmp_path / "cut.st")
    resumed = Run.resume(Digits, tmp_path / "cut.st", {})
    assert resumed.train()
    np.testing.assert_array_equal(resumed.system.model.flat, straight.system.model.flat)


def test_the_command_reports_and_draws(tmp_path, rng, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    write_folder(tmp_path / "data", rng)
    assert run("train", "digits", "--data", "data", *FLAGS, "--epochs", 2, "--out", "m.st") == 0
    out, err = capsys.readouterr()
    assert "60 images of 9 x 7 in 3 classes from data, 30 held out; 6 batches of 10" in err
    assert "held-out: accuracy 0." in out
    assert "class  precision  recall     F1  examples\n0 " in out
    assert re.search(r"true . predicted +0 +1 +2\n", out)
    assert out.endswith("picture: m.png\npicture: m.confusion.png\n")
    assert (tmp_path / "m.confusion.png").read_bytes().startswith(b"\x89PNG")
    assert run("show", "m.st") == 0
    assert "system: digits" in capsys.readouterr().out


def test_without_data_or_scikit_learn_the_command_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert run("train", "digits") == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert "pip install 'rnnfast[digits]', or give a folder of IDX files with --data" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data", "nowhere"], "nowhere: No such file or directory"),
        (["--data", "data"], "truncated gzip file, it ends after some"),
        (["--data", "data", "--shift", -1], "--shift is -1, expected at least 0"),
    ],
)
def test_bad_input_is_one_line(tmp_path, rng, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    images = write_folder(tmp_path / "data", rng)["train images"]
    images.write_bytes(images.read_bytes()[:-20])
    assert run("train", "digits", *flags) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert message in err
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_the_example_learns(capsys):
    pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
    names = runpy.run_path(str(Path(__file__).parents[1] / "examples/digits.py"))
    assert names["main"]().accuracy > 0.9
    assert "accuracy 9" in capsys.readouterr().out
