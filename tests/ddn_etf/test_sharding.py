from __future__ import annotations

from itertools import chain

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddn_etf.batches import ShuffledBatches
from ddn_etf.sharding import BatchShard, SplitShard, gather_rows, rank_and_size


@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 30), st.integers(0, 3))
def test_the_parts_of_a_batch_are_the_batch(size, part, extra, epoch):
    batches = ShuffledBatches(size * part + extra, size * part, seed=3)
    shards = [BatchShard(batches, rank, size) for rank in range(size)]
    for shard in shards:
        shard.set_epoch(epoch)
    together = [sorted(chain(*parts)) for parts in zip(*shards, strict=True)]
    assert together == [sorted(batch) for batch in batches]
    assert all(len(p) == part for shard in shards for p in shard)
    assert all(len(shard) == len(batches) for shard in shards)


def test_batches_that_cannot_be_dealt_out():
    with pytest.raises(ValueError, match="batches of 5 samples cannot be dealt out to 2 processes"):
        BatchShard(ShuffledBatches(10, 5, seed=0), 0, 2)


@given(st.integers(0, 60), st.integers(1, 9), st.integers(1, 7))
def test_every_sample_of_a_split_is_in_one_part_in_order(samples, batch_size, size):
    shards = [SplitShard(samples, batch_size, rank, size) for rank in range(size)]
    parts = [list(chain(*shard)) for shard in shards]
    assert list(chain(*parts)) == list(range(samples))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for shard in shards:
        assert len(list(shard)) == len(shard)
        assert all(1 <= len(batch) <= batch_size for batch in shard)


def test_alone():
    assert rank_and_size() == (0, 1)
    rows = gather_rows([torch.ones(2, 3), torch.zeros(1, 3)], torch.empty(0, 3))
    assert torch.equal(rows, torch.tensor([[1.0] * 3, [1.0] * 3, [0.0] * 3]))
    assert gather_rows([], torch.empty(0, 3)).shape == (0, 3)
