"""Vanishing gradients: norms against known ones and differences, table, picture, command."""

import re

import numpy as np
import pytest

import rnnfast
from rnnfast import cli
from rnnfast.gradients import compare, gradient_norms, table

needs_command_line = pytest.mark.skipif(
    any(not cli.find_spec(extra) for extra in (*cli.EXTRAS, "matplotlib")),
    reason="the command line needs the extra `cli`",
)


def test_a_linear_cell_shrinks_gradients_by_its_factor(rng):
    layer = rnnfast.RNN(5, 5, nonlinearity="identity", dtype="float64", rng=rng)
    rotation, _ = np.linalg.qr(rng.standard_normal((5, 5)))
    layer.parameters["weight_hh_l0"][...] = 0.8 * rotation
    layer.parameters["weight_ih_l0"][...] = np.eye(5)
    norms = gradient_norms(layer, rng.standard_normal((30, 4, 5)), rng)
    np.testing.assert_allclose(norms, 0.8 ** np.arange(30), rtol=1e-12)


@pytest.mark.parametrize("kind", [rnnfast.RNN, rnnfast.LSTM, rnnfast.GRU])
def test_norms_equal_those_by_differences(rng, kind):
    layer = kind(3, 4, dtype="float64", rng=rng)
    x, step = rng.standard_normal((6, 2, 3)), 1e-6
    seed = 5
    directions = np.random.default_rng(seed).standard_normal((2, 4))
    exact = np.empty_like(x)
    for index in np.ndindex(x.shape):
        ends = []
        for sign in (1, -1):
            shifted = x.copy()
            shifted[index] += sign * step
            ends.append((layer(shifted)[0][-1] * directions).sum())
        exact[index] = (ends[0] - ends[1]) / (2 * step)
    expected = np.linalg.norm(exact, axis=-1).mean(axis=1)[::-1]
    np.testing.assert_allclose(
        gradient_norms(layer, x, seed), expected / expected[0], rtol=1e-5, atol=1e-9
    )


def test_gradients_vanish_slower_where_gates_remember():
    norms = compare(["basic", "lstm", "gru"], length=60, hidden=32)
    assert list(norms) == ["basic", "lstm", "lstm, remembering", "gru", "gru, remembering"]
    ends = {name: values[-1] for name, values in norms.items()}
    assert all(len(values) == 60 and values[0] == 1.0 for values in norms.values())
    assert ends["basic"] < ends["lstm"] < 1e-8
    assert ends["lstm, remembering"] > 1e-3
    assert ends["basic"] < ends["gru"] < 1e-8
    assert ends["gru, remembering"] > 1e-3
    again = compare(["basic", "lstm", "gru"], length=60, hidden=32)
    assert all(np.array_equal(values, again[name]) for name, values in norms.items())
    other = compare(["basic"], length=60, hidden=32, seed=1)
    assert not np.array_equal(other["basic"], norms["basic"])


def test_the_table_has_distances_and_the_factor_of_a_step():
    norms = {"basic": 0.5 ** np.arange(31.0), "gru": np.ones(31)}
    assert table(norms).splitlines() == [
        " distance    basic      gru",
        "        0  1.0e+00  1.0e+00",
        "        1  5.0e-01  1.0e+00",
        "        2  2.5e-01  1.0e+00",
        "        5  3.1e-02  1.0e+00",
        "       10  9.8e-04  1.0e+00",
        "       20  9.5e-07  1.0e+00",
        "       30  9.3e-10  1.0e+00",
        "each step    0.500    1.000",
    ]


def test_what_does_not_fit_is_refused(rng):
    with pytest.raises(ValueError, match="length is 1, expected at least 2"):
        compare(["gru"], length=1)
    with pytest.raises(ValueError, match="cell is 'elman', expected 'basic' or 'lstm' or 'gru'"):
        compare(["elman"])
    x = rng.standard_normal((4, 2, 3))
    with pytest.raises(ValueError, match="batch-first or bidirectional, expected neither"):
        gradient_norms(rnnfast.GRU(3, 2, bidirectional=True), x)
    with pytest.raises(ValueError, match="x are tokens, expected features"):
        gradient_norms(rnnfast.GRU(3, 2), np.zeros((4, 2), int))


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run the command in this process, in `tmp_path`: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main(["gradients", *map(str, arguments)])
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    return call


@needs_command_line
def test_the_command_prints_a_table_and_draws_a_picture(run, tmp_path):
    code, out, err = run("--length", 12, "--hidden", 8, "--cells", "gru, basic", "--out", "a.png")
    assert (code, err) == (0, "")
    assert re.search(r"distance +gru +gru, remembering +basic\n", out)
    assert re.search(r"\n +11 ", out) and out.endswith("picture: a.png\n")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert run("--length", 12, "--hidden", 8, "--cells", "gru, basic", "--out", "a.png")[1] == out
    code, _, _ = run("--length", 1500, "--hidden", 2)  # where gradients underflow
    assert code == 0 and (tmp_path / "gradients.png").exists()


@needs_command_line
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cells", "gru,elman"], "--cells is gru, elman, expected some of basic, lstm, gru"),
        (["--cells", ""], "--cells is , expected some of basic, lstm, gru"),
        (["--length", 1], "--length is 1, expected at least 2"),
        (["--hidden", 0], "--hidden is 0, expected at least 1"),
        (["--seed", -1], "--seed is -1, expected at least 0"),
        (["--out", "missing/a.png"], "missing: No such file or directory"),
    ],
)
def test_the_command_refuses_in_one_line(run, tmp_path, options, message):
    code, out, err = run(*options)
    assert (code, out, err) == (2, "", f"rnnfast: {message}\n")
    assert not list(tmp_path.iterdir())
