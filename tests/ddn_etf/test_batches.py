from __future__ import annotations

import pytest

from ddn_etf.batches import BatchSizeError, ShuffledBatches, epoch_seed


def test_an_epoch_holds_every_sample_at_most_once_in_full_batches():
    batches = list(ShuffledBatches(23, 5, seed=0))
    assert [len(batch) for batch in batches] == [5, 5, 5, 5]
    indices = [index for batch in batches for index in batch]
    assert len(set(indices)) == 20
    assert set(indices) <= set(range(23))


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        batches = ShuffledBatches(40, 8, seed)
        batches.set_epoch(epoch)
        return list(batches)

    used = ShuffledBatches(40, 8, seed=3)
    for _ in range(4):
        list(used)
    used.set_epoch(2)
    assert list(used) == order(3, 2)
    assert order(3, 2) != order(3, 1)
    assert order(3, 2) != order(4, 2)


def test_seeds_of_epochs_differ():
    assert len({epoch_seed(seed, epoch) for seed in range(20) for epoch in range(50)}) == 1000


@pytest.mark.parametrize("batch_size", [0, 24])
def test_a_batch_that_cannot_be_filled(batch_size):
    with pytest.raises(
        BatchSizeError, match=f"batch_size = {batch_size} must lie between 1 and .*23"
    ):
        ShuffledBatches(23, batch_size, seed=0)
