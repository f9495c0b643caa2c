"""The character model as a system: what it learns from a text, its batches and its figures."""

import math

import numpy as np
import pytest

from rnnfast.data import TokenWindows, read_corpus
from rnnfast.models import CELLS
from rnnfast.parallel import Alone
from rnnfast.run import Run
from rnnfast.settings import COMPUTE
from rnnfast.systems import Text, TextSettings
from rnnfast.systems.language import cut_batches
from rnnfast.systems.text import bits
from texts import settings, start, write_text


@pytest.mark.parametrize("cell", CELLS)
def test_it_learns_a_periodic_text(rng, tmp_path, cell):
    pattern = "".join(rng.permutation(list("abcdefgh"))) + "".join(rng.permutation(list("abcd")))
    path = tmp_path / "text.txt"
    path.write_text(pattern * 150, encoding="utf-8")
    chosen = TextSettings(
        data=str(path), cell=cell, hidden=24, seq_length=12, batch=4, epochs=3, lr=0.02
    )
    run = start(chosen)
    untrained = run.system.evaluate()
    assert 2.5 < untrained["bits/char"] < 3.5  # log2 of 8 characters
    assert run.train()
    assert run.system.evaluate()["bits/char"] < 0.1  # each follows from the three before it
    generated = run.system.model.generate(48, prompt=pattern + pattern[:3], temperature=0.3, rng=1)
    assert generated == (pattern * 6)[3:51]


def test_evaluation_is_the_mean_over_the_held_out_text(rng, tmp_path):
    run = start(settings(write_text(tmp_path / "text.txt", rng), batch=1))
    model = run.system.model
    content = (tmp_path / "text.txt").read_text(encoding="utf-8")
    tokens = model.vocabulary.encode(content[-(len(content) // 10) :])[:, None]
    nats, _ = model.loss(tokens[:-1], tokens[1:])
    figures = run.system.evaluate()
    assert figures["bits/char"] == pytest.approx(bits(nats), rel=1e-5)
    assert figures["nats/char"] == pytest.approx(nats, rel=1e-5)
    assert bits(math.log(8)) == pytest.approx(3.0)


def test_the_state_is_carried_through_an_epoch_and_dropped_at_its_end(rng, tmp_path):
    run = start(settings(write_text(tmp_path / "text.txt", rng), dropout=0.0))
    windows = run.system.batches_per_epoch
    first = run.system.step(0)
    second = run.system.step(1)
    assert run.system.step(windows) == first
    assert run.system.step(windows + 1) == second
    carried = run.system.state()
    run.system.load_state(
        {name: rng.standard_normal(a.shape).astype("f") for name, a in carried.items()}
    )
    assert run.system.step(1) != second


def test_training_in_bfloat16_follows_float32(rng, tmp_path):
    file = write_text(tmp_path / "text.txt", rng)
    ends = {}
    for compute in COMPUTE:
        run = start(settings(file, compute=compute, dropout=0.0, hidden=32))
        assert run.train()
        ends[compute] = run.system.evaluate()["bits/char"]
    assert ends["bfloat16"] != ends["float32"]
    assert ends["bfloat16"] == pytest.approx(ends["float32"], rel=0.01)


def test_short_texts_make_fewer_streams(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog", encoding="utf-8")
    assert start(settings(str(path))).system.items_per_batch == 2 * 16
    with pytest.raises(ValueError, match=r"fewer than the 40 of one window of sequence length 39"):
        start(settings(str(path), seq_length=39))


def test_the_presets_are_settings():
    notes = TextSettings(**Text.presets["notes"], epochs=1)
    assert (notes.cell, notes.layers, notes.hidden, notes.seq_length) == ("gru", 3, 512, 256)
    whale = TextSettings(**Text.presets["whale"])
    assert (whale.cell, whale.layers, whale.hidden, whale.seq_length) == ("lstm", 1, 128, 60)
    assert (whale.epochs, whale.minutes) == (15, None)


def test_an_offset_makes_shuffled_windows_that_start_from_zero(rng, tmp_path):
    path = write_text(tmp_path / "text.txt", rng)
    system = start(settings(path, dropout=0.0, offset=5)).system
    streams = start(settings(path, dropout=0.0)).system
    assert system.batches_per_epoch > 2 * streams.batches_per_epoch
    batches = cut_batches(training_part(path), settings(path, offset=5))
    assert isinstance(batches, TokenWindows)
    for index in (1, 3):
        tokens, targets = batches.cut(index)
        expected = system.model.loss_and_gradient(tokens, targets)[0]
        assert system.step(index) == (expected, tokens.size)
    assert system.state() == {}
    other = cut_batches(training_part(path), settings(path, offset=5, seed=1))
    assert not np.array_equal(other.cut(0)[0], batches.cut(0)[0])


def training_part(path):
    return read_corpus(path).split(16)[0]


class OneOfTwo(Alone):
    """A process whose fellow is not there, as long as it is asked for nothing."""

    size = 2

    def __init__(self, rank):
        self.rank = rank


@pytest.mark.parametrize("offset", [None, 5])
def test_the_processes_parts_make_up_the_batch(rng, tmp_path, offset):
    path = write_text(tmp_path / "text.txt", rng)
    chosen = settings(path, dropout=0.0, batch=5, offset=offset)
    whole = start(chosen).system
    parts = [Run(Text, chosen, OneOfTwo(rank)).system for rank in range(2)]
    for index in range(3):
        expected, losses = whole.step(index), [part.step(index) for part in parts]
        assert [loss.weight for loss in losses] == [2 * 16, 3 * 16]
        mean = sum(loss.mean * loss.weight for loss in losses) / expected.weight
        assert mean == pytest.approx(expected.mean, rel=1e-6)
        gradient = sum(
            part.model.gradient * loss.weight for part, loss in zip(parts, losses, strict=True)
        )
        np.testing.assert_allclose(
            gradient / expected.weight, whole.model.gradient, rtol=1e-4, atol=1e-7
        )
    assert parts[0].evaluate() == parts[1].evaluate() == whole.evaluate()


def test_a_batch_too_small_for_the_processes_is_refused(rng, tmp_path):
    path = write_text(tmp_path / "text.txt", rng)
    with pytest.raises(ValueError, match="batches of 1 cannot be divided among 2 processes"):
        Run(Text, settings(path, batch=1), OneOfTwo(0))


def test_the_summary_says_what_is_trained(rng, tmp_path):
    line = start(settings(write_text(tmp_path / "text.txt", rng))).system.summary()
    assert "2 x 12 gru" in line
    assert "batches of 4 x 16" in line
    assert "\n" not in line


def test_initial_weights_follow_the_seed(rng, tmp_path):
    path = write_text(tmp_path / "text.txt", rng)
    one, same, other = (start(settings(path, seed=s)).system.model.flat for s in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
