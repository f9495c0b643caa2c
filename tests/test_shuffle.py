"""Shuffled batches: every example once in an epoch, the same at every run."""

import numpy as np

from rnnfast.data import ShuffledBatches


def test_an_epoch_has_every_example_once_and_each_has_its_own_order():
    batches = ShuffledBatches(12, 4, seed=3)
    assert (len(batches), batches.batch) == (3, 4)
    epochs = [np.concatenate([batches.cut(3 * e + i) for i in range(3)]) for e in range(2)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(12))
    assert list(epochs[0]) != list(epochs[1]) != list(range(12))


def test_a_batch_depends_on_its_index_and_the_seed_alone():
    batches, again = ShuffledBatches(10, 3, seed=0), ShuffledBatches(10, 3, seed=0)
    for index in (7, 0, 4, 7):
        np.testing.assert_array_equal(batches.cut(index), again.cut(index))
    others = [ShuffledBatches(10, 3, seed=1).cut(i) for i in range(3)]
    assert not np.array_equal(others, [again.cut(i) for i in range(3)])


def test_parts_make_up_the_batch():
    batches = ShuffledBatches(10, 5, seed=0)
    parts = [batches.cut(1, slice(0, 2)), batches.cut(1, slice(2, 5))]
    np.testing.assert_array_equal(np.concatenate(parts), batches.cut(1))


def test_few_examples_make_a_small_batch():
    batches = ShuffledBatches(3, 8, seed=0)
    assert (len(batches), batches.batch) == (1, 3)
    assert sorted(batches.cut(5)) == [0, 1, 2]
