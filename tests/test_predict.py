"""`rnnfast predict`: labels and probabilities of lines from a file or a pipe."""

import io
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from rnnfast import cli
from rnnfast.trained import load_trained

for extra in cli.EXTRAS:
    pytest.importorskip(extra, reason="the command line needs the extra `cli`")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A classifier of three labels, trained for a moment."""
    folder = tmp_path_factory.mktemp("trained")
    lines = [
        f"{('bad', 'good one', 'so')[i % 3]}\ttext {i} {'xyz'[i % 3] * 3}\n" for i in range(60)
    ]
    (folder / "texts.tsv").write_text("".join(lines))
    _train(folder, "sentiment", "--data", str(folder / "texts.tsv"), "--seq-length", "30")
    return folder / "m.st"


def _train(folder, *arguments):
    flags = ["--hidden", "8", "--batch", "8", "--epochs", "2", "--no-plot"]
    with pytest.raises(SystemExit) as caught:
        cli.main(["train", *arguments, *flags, "--out", str(folder / "m.st")])
    assert caught.value.code == 0


@pytest.fixture
def predict(capsys, monkeypatch, checkpoint):
    """Run the command: exit code, output, errors."""

    def call(*arguments, given=None, path=checkpoint):
        if given is not None:
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))
        with pytest.raises(SystemExit) as caught:
            cli.main(["predict", str(path), *map(str, arguments)])
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    return call


TEXTS = ["text 1 yyy", "", "ünknöwn \u4e2d\U0001f600", "a" * 500, 'tab\tand "quote"', "text 3 xxx"]
CONTENT = ("\n".join(TEXTS) + "\n").encode()


def test_lines_of_a_file(predict, checkpoint, tmp_path):
    (tmp_path / "texts.txt").write_bytes(CONTENT)
    code, out, err = predict(tmp_path / "texts.txt")
    assert (code, err) == (0, "")
    rows = [line.split("\t") for line in out.splitlines()]
    assert len(rows) == len(TEXTS)
    model = load_trained(checkpoint).model
    for row, shares in zip(rows, model.predict(TEXTS), strict=True):
        found = dict(zip(row[::2], map(float, row[1::2]), strict=True))
        expected = dict(zip(("bad", "good one", "so"), shares, strict=True))
        assert found == pytest.approx(expected, abs=1e-6)
        assert list(found.values()) == sorted(found.values(), reverse=True)


def test_standard_input_gives_the_same(predict, tmp_path):
    (tmp_path / "texts.txt").write_bytes(CONTENT)
    from_file = predict(tmp_path / "texts.txt")
    assert predict(given=CONTENT) == from_file
    assert predict(given=b"\xef\xbb\xbf" + CONTENT.replace(b"\n", b"\r\n")) == from_file
    assert predict(given=CONTENT.removesuffix(b"\n")) == from_file


def test_each_line_is_predicted_alike_in_any_company(predict, rng):
    texts = ["".join(rng.choice(list("xyz text"), size=n)) for n in rng.integers(0, 50, 700)]
    _, together, _ = predict(given="\n".join(texts).encode())
    lines = together.splitlines()
    assert len(lines) == 700
    assert len(set(lines)) > 300
    for i in (0, 255, 256, 699):
        assert predict(given=texts[i].encode() + b"\n")[1] == lines[i] + "\n"
    backward = predict(given="\n".join(reversed(texts)).encode())[1]
    assert backward.splitlines() == lines[::-1]


def test_json_lines(predict):
    _, tabs, _ = predict(given=CONTENT)
    code, out, _ = predict("--json", given=CONTENT)
    assert code == 0
    for line, row in zip(out.splitlines(), tabs.splitlines(), strict=True):
        entry, cells = json.loads(line), row.split("\t")
        assert entry["label"] == cells[0]
        assert list(entry["probabilities"]) == cells[::2]
        assert list(entry["probabilities"].values()) == list(map(float, cells[1::2]))


def test_nothing_in_nothing_out(predict):
    assert predict(given=b"") == (0, "", "")


def test_another_encoding(predict):
    expected = predict(given="ü x\n".encode())
    assert predict("--encoding", "latin-1", given="ü x\n".encode("latin-1")) == expected


def test_an_answer_comes_before_the_next_question(checkpoint):
    process = subprocess.Popen(
        [sys.executable, "-m", "rnnfast", "predict", str(checkpoint)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ},
    )  # fmt: skip
    guard = threading.Timer(120.0, process.kill)  # an answer that does not come ends the test
    guard.start()
    try:
        for text in ("text 1 yyy", "text 2 zzz"):
            process.stdin.write(text + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            assert answer.split("\t")[0] in ("bad", "good one", "so")
        process.stdin.close()
        assert process.wait() == 0
        assert process.stdout.read() == ""
    finally:
        guard.cancel()
        process.kill()
        process.stdout.close()


def test_bad_input_is_one_line(predict, checkpoint, tmp_path):
    (tmp_path / "latin.txt").write_bytes(b"good\nK\xe4se\n")
    cases = [
        (predict(tmp_path / "none.txt"), "none.txt: No such file or directory"),
        (predict(tmp_path), "Is a directory"),
        (predict(tmp_path / "latin.txt"), "latin.txt: not utf-8 at byte 6 (line 2)"),
        (predict(given=b"\xff\n"), "standard input: not utf-8 at byte 0 (line 1)"),
        (predict("--encoding", "utf-99", given=b"x\n"), "Python knows no encoding 'utf-99'"),
        (predict("--encoding", "utf-16", given=b"x\n"), "not utf-16 at byte 0 (line 1)"),
        (predict(path=tmp_path / "none.st", given=b""), "none.st: No such file or directory"),
        (predict(path=tmp_path / "latin.txt", given=b""), "latin.txt: truncated, or not a check"),
    ]
    for (code, _, err), message in cases:
        assert code == 2
        assert err.startswith("rnnfast: ") and message in err and err.count("\n") == 1


def test_a_checkpoint_of_another_kind(predict, tmp_path, rng):
    text = tmp_path / "text.txt"
    text.write_text(" ".join(rng.choice(["one", "two", "three"], size=200)))
    _train(tmp_path, "text", "--data", str(text), "--seq-length", "16")
    code, _, err = predict(path=tmp_path / "m.st", given=b"text\n")
    assert code == 2
    assert "m.st: a checkpoint of kind 'text', expected sentiment" in err


def test_the_probabilities_are_those_of_python(checkpoint):
    model = load_trained(checkpoint).model
    shares = model.predict(["text 1 yyy", "text 2 zzz"])
    tokens, lengths = model.encode(["text 1 yyy", "text 2 zzz"])
    np.testing.assert_allclose(shares, model.probabilities(tokens, lengths), rtol=1e-5)


def test_a_reader_who_has_enough_is_no_error(checkpoint, tmp_path):
    lines = tmp_path / "lines.txt"
    lines.write_text("some text\n" * 20_000)
    command = [sys.executable, "-m", "rnnfast", "predict", str(checkpoint), str(lines)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline().count(b"\t") == 5
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=60) == cli.UNREAD
    process.stderr.close()
