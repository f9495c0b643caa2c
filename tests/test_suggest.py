"""`rnnfast suggest`: picking, typing, and ending, from a pipe and at a terminal."""

import io
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

from rnnfast import cli
from rnnfast.checkpoint import Checkpoint, save

for extra in cli.EXTRAS:
    pytest.importorskip(extra, reason="the command line needs the extra `cli`")

SENTENCE = "The sea rolled on. The whale (white) rose. "


@pytest.fixture(scope="module", params=["words", "text"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def checkpoint(kind, tmp_path_factory):
    """A model that has learnt the sentences."""
    folder = tmp_path_factory.mktemp("suggest")
    text, out = folder / "text.txt", folder / "model.st"
    text.write_text(SENTENCE * 60, encoding="utf-8")
    flags = ["--hidden", "24", "--seq-length", "10", "--batch", "4", "--lr", "0.03", "--no-plot"]
    epochs = "8" if kind == "words" else "3"
    arguments = ["--data", str(text), *flags, "--epochs", epochs, "--out", str(out)]
    with pytest.raises(SystemExit) as caught:
        cli.main(["train", kind, *arguments])
    assert caught.value.code == 0
    return out


class Terminal(io.StringIO):
    """A person's input."""

    def isatty(self):
        return True


@pytest.fixture
def suggest(checkpoint, capsys, monkeypatch):
    """Run the command with these lines as its input: exit code, output, errors."""

    def call(lines, *flags, stdin=io.StringIO):
        monkeypatch.setattr("sys.stdin", stdin(lines))
        with pytest.raises(SystemExit) as caught:
            cli.main(["suggest", str(checkpoint), *map(str, flags)])
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    return call


def rounds(out):
    """Split the output: the text and the suggestions of each round, and the text at the end."""
    *shown, last = re.split(r"(?<=%)\n(?! +\d+  )", out)
    parts = []
    for one in shown:
        lines = one.split("\n")
        rows = [re.fullmatch(r" +(\d+)  (.*?) +(\d+\.\d)%", line) for line in lines]
        first = next(i for i, row in enumerate(rows) if row)
        parts.append(("\n".join(lines[:first]), [row.groups() for row in rows[first:]]))
    return parts, last


def test_picking_goes_on_with_the_text(suggest, kind):
    code, out, err = suggest("1\n1\n", "--prompt", "The sea", "--count", 4)
    assert (code, err) == (0, "")
    shown, last = rounds(out)
    texts = ["The sea", "The sea rolled", "The sea rolled on"]
    if kind == "text":
        texts = ["The sea", "The sea ", "The sea r"]
    assert [text for text, _ in shown] == texts
    assert last == f"\n{texts[-1]}\n"
    for _, rows in shown:
        assert [int(number) for number, _, _ in rows] == [1, 2, 3, 4]
        chances = [float(chance) for _, _, chance in rows]
        assert chances == sorted(chances, reverse=True) and 50.0 < sum(chances) <= 100.2
    assert shown[0][1][0][1] == ("rolled" if kind == "words" else "' '")


def test_typing_goes_on_with_the_text(suggest, kind):
    typed = "The whale\n(white\n" if kind == "words" else "The whale\n (white\n"
    code, out, err = suggest(typed + "1\n")
    assert (code, err) == (0, "")
    shown, last = rounds(out)
    assert [text for text, _ in shown[:3]] == ["", "The whale", "The whale (white"]
    assert last == "\nThe whale (white)\n"


def test_another_number_is_picked(suggest):
    _, out, _ = suggest("3\n", "--prompt", "The")
    (before, after), _ = rounds(out)
    label = before[1][2][1]
    assert after[0] in (f"The {label}", f"The{label}", "The" + label.strip("'"))


def test_ten_are_shown(suggest):
    assert len(rounds(suggest("")[1])[0][0][1]) == 10


@pytest.mark.parametrize("end", ["", "\n1\n", "quit\n1\n"])
def test_it_ends(suggest, end):
    code, out, err = suggest(end, "--prompt", "The sea")
    assert (code, err) == (0, "")
    assert len(rounds(out)[0]) == 1
    assert out.endswith("\n\nThe sea\n")


def test_what_is_wrong_is_told_and_the_writing_goes_on(suggest, kind):
    code, out, err = suggest("11\n0\nThe\nä\n sea\n")
    assert code == 0
    assert out.endswith("\nThe sea\n" if kind == "text" else "\nThe ä sea\n")
    told = err.splitlines()
    assert told[0] == "11 is not one of 1 to 10; with a space in front it is text"
    assert told[1].startswith("0 is not one of")
    assert [("character 'ä'" in line) for line in told[2:]] == [True] * (kind == "text")


def test_a_number_behind_a_space_is_text(suggest, kind):
    code, out, err = suggest(" 4\n", "--prompt", "The")
    assert code == 0
    if kind == "words":
        assert (out.splitlines()[-1], err) == ("The 4", "")
    else:
        assert "character '4'" in err


def test_only_a_terminal_is_prompted(suggest):
    for stdin in (io.StringIO, Terminal):
        _, out, _ = suggest("1\n", stdin=stdin)
        assert out.count("> ") == (2 if stdin is Terminal else 0)
        assert "\x1b" not in out


def test_output_repeats(suggest):
    assert suggest("1\n2\n3\n") == suggest("1\n2\n3\n")


def test_a_long_text_is_shown_by_its_end(suggest, kind):
    text = " ".join(["The sea rolled on."] * 40)
    shown, last = rounds(suggest("1\n", "--prompt", text)[1])
    assert shown[0][0] == f"... {text[-400:]}"
    assert last.startswith(f"\n{text}")


def test_ctrl_c_ends_with_the_text(checkpoint):
    process = subprocess.Popen(
        [sys.executable, "-m", "rnnfast", "suggest", str(checkpoint), "--prompt", "The sea"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"}, text=True,
    )  # fmt: skip
    lines = [process.stdout.readline() for _ in range(11)]
    assert lines[0] == "The sea\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "\nThe sea\n", "")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--count", "0"], r"--count is 0, expected at least 1"),
        (["--count", "ten"], r"--count"),
    ],
)
def test_bad_options_are_one_line(suggest, flags, message):
    code, out, err = suggest("1\n", *flags)
    assert (code, out) == (2, "")
    assert re.fullmatch(r"rnnfast: .*\n", err) and re.search(message, err)


def test_an_unknown_prompt(suggest, kind):
    code, out, err = suggest("", "--prompt", "The 7")
    if kind == "text":
        assert (code, out) == (2, "")
        assert "character '7' at position 4" in err
    else:
        assert (code, err) == (0, "") and out.endswith("\nThe 7\n")


def test_other_checkpoints_are_refused(suggest, tmp_path, capsys, rng):
    path = tmp_path / "other.st"
    save(path, Checkpoint("series", {"model": {"w": np.zeros(3)}}, {}))
    with pytest.raises(SystemExit) as caught:
        cli.main(["suggest", str(path)])
    assert caught.value.code == 2
    assert "a checkpoint of kind 'series', expected text or words" in capsys.readouterr().err


def test_generation_from_either(checkpoint, kind, capsys):
    flags = ["--length", "4", "--prompt", "The sea", "--temperature", "0"]
    with pytest.raises(SystemExit) as caught:
        cli.main(["generate", str(checkpoint), *flags])
    assert caught.value.code == 0
    expected = "The sea rolled on. The\n" if kind == "words" else "The sea rol\n"
    assert capsys.readouterr().out == expected
