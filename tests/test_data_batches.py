"""Batches of a language model: streams side by side, and shuffled windows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnfast.data import TokenStreams, TokenWindows


@given(st.integers(2, 300), st.integers(1, 9), st.integers(1, 40))
def test_streams_are_the_text_side_by_side(size, batch, seq_length):
    tokens = np.random.default_rng(size).integers(1000, size=size).astype(np.int32)
    streams = TokenStreams(tokens, batch, seq_length)
    assert 1 <= streams.batch <= batch
    length = (size - 1) // streams.batch
    assert len(streams) == length // seq_length
    assert len(streams) >= 1 or size - 1 < seq_length
    pairs = list(streams)
    inputs = np.concatenate([x for x, _ in pairs]).T
    targets = np.concatenate([y for _, y in pairs]).T
    used = length * streams.batch
    np.testing.assert_array_equal(inputs.reshape(-1), tokens[:used])
    np.testing.assert_array_equal(targets.reshape(-1), tokens[1 : used + 1])
    for index in range(len(streams)):
        for one, other in zip(streams.cut(index), pairs[index], strict=True):
            assert one.shape == (seq_length, streams.batch)
            assert one.flags.c_contiguous
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32"])
def test_streams_go_on_through_the_epochs_and_in_parts(rng, dtype):
    tokens = rng.integers(200, size=500).astype(dtype)
    streams = TokenStreams(tokens, 5, 8)
    count = len(streams)
    first = [index for index in range(3 * count) if not streams.follows(index)]
    assert first == [0, count, 2 * count]
    for index in (0, 3, count - 1):
        whole = streams.cut(index)
        for one, other in zip(whole, streams.cut(2 * count + index), strict=True):
            assert one.dtype == np.int32
            np.testing.assert_array_equal(one, other)
        parts = [streams.cut(index, part) for part in (slice(0, 2), slice(2, 5))]
        for one, cut in zip(whole, zip(*parts, strict=True), strict=True):
            np.testing.assert_array_equal(one, np.concatenate(cut, axis=1))


def test_streams_use_all_they_can():
    tokens = np.random.default_rng(0).integers(9, size=1001).astype(np.int32)
    assert TokenStreams(tokens, 4, 100).batch == 4
    assert TokenStreams(tokens, 40, 100).batch == 10
    with pytest.raises(ValueError, match="got 1 tokens, expected at least 2"):
        TokenStreams(tokens[:1], 1, 1)


def windows_of(tokens, batches, seq_length):
    """The start of every window cut, by its tokens, which are all different."""
    starts = []
    for x, y in batches:
        assert x.shape == y.shape and x.shape[0] == seq_length
        np.testing.assert_array_equal(y, x + 1)
        np.testing.assert_array_equal(x, x[0] + np.arange(seq_length)[:, None])
        starts += x[0].tolist()
    return starts


@given(st.integers(2, 200), st.integers(1, 9), st.integers(1, 20), st.integers(1, 7))
def test_every_window_comes_once_in_an_epoch(size, batch, seq_length, offset):
    tokens = np.arange(size, dtype=np.int32)
    if size <= seq_length:
        with pytest.raises(ValueError, match=f"got {size} tokens, expected at least"):
            TokenWindows(tokens, batch, seq_length, offset, seed=1)
        return
    windows = TokenWindows(tokens, batch, seq_length, offset, seed=1)
    all_starts = range(0, size - seq_length, offset)
    assert windows.batch == min(batch, len(all_starts))
    assert len(windows) == len(all_starts) // windows.batch
    for epoch in range(2):
        cuts = [windows.cut(epoch * len(windows) + i) for i in range(len(windows))]
        starts = windows_of(tokens, cuts, seq_length)
        assert len(starts) == len(set(starts)) == len(windows) * windows.batch
        assert set(starts) <= set(all_starts)
        if len(all_starts) % windows.batch == 0:
            assert sorted(starts) == list(all_starts)


def test_the_windows_order_is_new_in_every_epoch_and_follows_the_seed():
    tokens = np.arange(1000, dtype=np.int32)

    def starts(seed, epoch, windows=None):
        windows = TokenWindows(tokens, 8, 10, 3, seed) if windows is None else windows
        first = epoch * len(windows)
        cuts = [windows.cut(index) for index in range(first, first + len(windows))]
        return windows_of(tokens, cuts, 10)

    orders = [tuple(starts(seed, epoch)) for seed in (1, 2) for epoch in range(3)]
    assert len(set(orders)) == 6
    assert tuple(sorted(orders[0])) != orders[0]
    used = TokenWindows(tokens, 8, 10, 3, seed=1)
    for epoch in (2, 0, 1):  # whatever was cut before
        assert tuple(starts(1, epoch, used)) == orders[epoch]
    assert not any(used.follows(index) for index in range(5))


def test_parts_of_shuffled_windows_are_the_batch():
    tokens = np.arange(300, dtype=np.uint16)
    windows = TokenWindows(tokens, 7, 10, 4, seed=3)
    for index in (0, 5, len(windows) + 1):
        whole = windows.cut(index)
        parts = [windows.cut(index, part) for part in (slice(0, 3), slice(3, 7))]
        for one, cut in zip(whole, zip(*parts, strict=True), strict=True):
            assert one.dtype == np.int32
            np.testing.assert_array_equal(one, np.concatenate(cut, axis=1))
