"""Series as a system: windows, scaling, learning, resume, and forecasts on the command line."""

import csv
import io
import runpy
from pathlib import Path

import numpy as np
import pytest

from command_line import run
from rnnfast.checkpoint import load
from rnnfast.cli import EXTRAS
from rnnfast.data import waves
from rnnfast.parallel import Alone
from rnnfast.run import Run
from rnnfast.systems import SeriesSettings, TimeSeries
from rnnfast.trained import load_trained

for extra in (*EXTRAS, "matplotlib"):
    pytest.importorskip(extra, reason="trainings and the command line need the extra `cli`")

SMALL = {"hidden": 10, "seq_length": 12, "batch": 8, "epochs": 2, "lr": 5e-3}
FLAGS = ["--hidden", 10, "--seq-length", 12, "--batch", 8, "--lr", 5e-3, "--epochs", 2]


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A file of 400 values in a folder of its own, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return write(tmp_path / "table.csv", waves(400).values)


def write(path, values):
    path.write_text(
        "day,height\n" + "".join(f"d{i},{v!r}\n" for i, v in enumerate(values.tolist()))
    )
    return path


def settings(table, **options):
    return SeriesSettings(data=str(table), **(SMALL | options))


class Part(Alone):
    """One of two processes, as far as dividing a batch goes."""

    def __init__(self, rank):
        self.rank, self.size = rank, 2


def test_scaling_is_learnt_on_the_training_part_alone(tmp_path, table):
    values = waves(400).values
    values[320:] = 1e6 + np.arange(80)
    system = TimeSeries(settings(write(table, values)), np.random.default_rng(0), Alone())
    assert system.about["mean"] == pytest.approx(values[:320].mean())
    assert system.about["deviation"] == pytest.approx(values[:320].std())
    assert system.about["column"] == "height"
    assert system.about["last"] == values[-12:].tolist()


def test_no_batch_reads_held_out_values(table):
    values = waves(400).values
    first = TimeSeries(settings(table), np.random.default_rng(0), Alone())
    values[320:] += 5.0
    other = TimeSeries(settings(write(table, values)), np.random.default_rng(0), Alone())
    assert len(first._windows) == 320 - 12
    for index in range(first.batches_per_epoch):
        assert first.step(index) == other.step(index)
        np.testing.assert_array_equal(first.model.gradient, other.model.gradient)
    assert first.evaluate() != other.evaluate()


def test_targets_are_the_window_shifted_by_one(table):
    """A model of zero weights expects the last value: its loss is that of persistence."""
    system = TimeSeries(settings(table, batch=308), np.random.default_rng(0), Alone())
    system.model.flat[:] = 0.0
    scaled = system.model.scale(waves(400).values[:320])
    windows = np.lib.stride_tricks.sliding_window_view(np.square(np.diff(scaled)), 12)
    assert system.step(0).mean == pytest.approx(windows.mean(), rel=1e-5)


def test_a_model_of_zero_weights_is_persistence(table):
    system = TimeSeries(settings(table), np.random.default_rng(0), Alone())
    system.model.flat[:] = 0.0
    values = waves(400).values
    figures = system.evaluate()
    assert figures["rmse"] == pytest.approx(np.sqrt(np.square(np.diff(values[319:])).mean()), 1e-5)
    assert figures["% below persistence"] == pytest.approx(0.0, abs=1e-4)
    assert "persistence" in system.report()


def test_parts_of_a_batch_make_up_its_gradient(table):
    whole, *parts = (
        TimeSeries(settings(table, batch=7), np.random.default_rng(0), group)
        for group in (Alone(), Part(0), Part(1))
    )
    loss, losses = whole.step(3), [part.step(3) for part in parts]
    assert sum(weight for _, weight in losses) == loss.weight == 7 * 12
    gradient = sum(p.model.gradient * w for p, (_, w) in zip(parts, losses, strict=True))
    np.testing.assert_allclose(gradient / loss.weight, whole.model.gradient, atol=1e-6)


@pytest.mark.parametrize("target", ["change", "value"])
def test_a_model_beats_persistence(table, target):
    run = Run(TimeSeries, settings(table, target=target, epochs=15, hidden=24))
    assert run.train()
    assert run.history.evaluations[-1]["% below persistence"] > 20.0
    lines = run.system.report()
    assert "height, one step ahead on the last 80 values: RMSE " in lines
    assert lines.endswith("% below persistence")


def test_a_resumed_run_repeats_the_straight_one(tmp_path, table):
    straight, cut = (Run(TimeSeries, settings(table)) for _ in range(2))
    straight.train()
    cut.train(stop=lambda: cut.trainer.steps == 30)
    cut.save(tmp_path / "cut.st")
    resumed = Run.resume(TimeSeries, tmp_path / "cut.st", {})
    assert resumed.train()
    np.testing.assert_array_equal(resumed.system.model.flat, straight.system.model.flat)


@pytest.fixture
def trained(table, capsys):
    """A checkpoint beside the table."""
    assert run("train", "series", "--data", table, *FLAGS, "--out", "m.st", "--no-plot") == 0
    capsys.readouterr()
    return table.with_name("m.st")


def test_the_command_reports_and_draws(tmp_path, table, capsys):
    flags = ["--data", "table.csv", "--column", "height", *FLAGS, "--out", "m.st"]
    assert run("train", "series", *flags) == 0
    out, err = capsys.readouterr()
    assert "400 values of height from table.csv, the last 80 held out; 38 batches of 8 x 12" in err
    assert "held-out: rmse " in out and "% below persistence" in out
    assert out.endswith("picture: m.forecast.png\n")
    assert (tmp_path / "m.forecast.png").read_bytes().startswith(b"\x89PNG")
    assert load("m.st", "series").description["about"]["column"] == "height"


def test_the_notes_have_a_preset(table):
    assert run("train", "series", "--preset", "notes", "--data", table, *FLAGS, "--no-plot") == 0
    settings = load_trained("series.safetensors").settings
    assert (settings.cell, settings.target, settings.hidden) == ("basic", "value", 10)


def test_without_data_there_are_waves(table, capsys):
    assert run("train", "series", *FLAGS, "--epochs", 1, "--no-plot") == 0
    assert "1,500 values of value from generated waves, seed 0" in capsys.readouterr().err


def read(text):
    header, *rows = csv.reader(io.StringIO(text))
    assert header == ["step", "height"]
    assert [int(step) for step, _ in rows] == list(range(1, len(rows) + 1))
    return np.array([float(value) for _, value in rows])


@pytest.mark.parametrize("moved", [False, True])
def test_forecast_continues_the_series(trained, table, capsys, moved):
    """From the end of the data trained on, which need not be there any more."""
    values = waves(400).values
    if moved:
        table.unlink()
    assert run("forecast", trained, "--steps", 30) == 0
    out, err = capsys.readouterr()
    expected = load_trained(trained).model.forecast(values, 30)
    np.testing.assert_allclose(read(out), expected, rtol=1e-5)
    assert err == ""


def test_forecast_continues_other_data(trained, tmp_path, capsys):
    other = waves(50, seed=3).values
    write(tmp_path / "other.csv", other)
    assert run("forecast", trained, "--steps", 5, "--data", "other.csv") == 0
    expected = load_trained(trained).model.forecast(other, 5)
    np.testing.assert_allclose(read(capsys.readouterr().out), expected, rtol=1e-5)


BAD = {
    "missing": ("train series --data nowhere.csv", "nowhere.csv: No such file or directory"),
    "column": ("train series --data table.csv --column x", "table.csv: no column 'x' in line 1"),
    "no data": ("train series --column height", "--column is 'height', but there is no --data"),
    "text": ("train series --data table.csv --column day", "table.csv: line 2: day is 'd0'"),
    "nan": ("train series --data nan.csv", "nan.csv: line 4: height is 'nan', expected a finite"),
    "ragged": ("train series --data ragged.csv", "ragged.csv: line 3 has 1 values, expected 2"),
    "short": (
        "train series --data short.csv",
        "short.csv: 50 values leave 40 for training, fewer than the 41 of one window of sequence",
    ),
    "constant": (
        "train series --data flat.csv",
        "flat.csv: all 160 training values of height are 3, expected values that change",
    ),
    "constant end": ("train series --data end.csv", "end.csv: all 41 held-out values of height"),
    "target": ("train series --target x", "--target is 'x', expected one of change, value"),
    "steps": ("forecast m.st --steps -1", "--steps is -1, expected at least 0"),
    "short history": (
        "forecast m.st --steps 1 --data tiny.csv",
        "tiny.csv: 11 values of height, fewer than the 12 of a window",
    ),
    "other column": ("forecast m.st --steps 1 --data b.csv", "b.csv: no column 'height' in line 1"),
    "no checkpoint": ("forecast table.csv --steps 1", "table.csv: truncated, or not a checkpoint"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(trained, tmp_path, capsys, name):
    values = waves(200).values
    write(tmp_path / "nan.csv", np.array([1.0, 2.0, np.nan, 3.0]))
    (tmp_path / "ragged.csv").write_text("day,height\nd,1\n2\n")
    (tmp_path / "b.csv").write_text("day,b\nd,1\n")
    write(tmp_path / "short.csv", values[:50])
    write(tmp_path / "tiny.csv", values[:11])
    write(tmp_path / "flat.csv", np.full(200, 3.0))
    write(tmp_path / "end.csv", np.concatenate([values[:160], np.full(40, values[159])]))
    before = sorted(path.name for path in tmp_path.iterdir())
    arguments, message = BAD[name]
    assert run(*arguments.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert message in err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_other_checkpoints_are_refused(trained, capsys):
    kept = load(trained)
    from rnnfast.checkpoint import Checkpoint, save

    save("text.st", Checkpoint("text", kept.groups, kept.description))
    assert run("forecast", "text.st", "--steps", 1) == 2
    assert "text.st: a checkpoint of kind 'text', expected series" in capsys.readouterr().err


def test_the_example_beats_persistence(capsys):
    example = runpy.run_path(str(Path(__file__).parents[1] / "examples/series.py"))
    assert example["main"]() < 0.8
    assert "the next ten: [" in capsys.readouterr().out
