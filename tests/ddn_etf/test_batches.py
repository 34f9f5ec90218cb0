from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddn.errors import DtypeError, ShapeError
from ddn_etf.batches import BatchSizeError, ShuffledBatches, StratifiedBatches, epoch_seed
from ddn_etf.errors import LabelError

FOUR_LABELS = torch.tensor([0, 1, 0, 1])


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


@pytest.mark.parametrize(
    "make", [ShuffledBatches, lambda _, size, seed: StratifiedBatches(FOUR_LABELS, size, seed)]
)
def test_seeds_that_a_generator_has_no_room_for(make):
    for seed in (-(2**43), 2**43 - 1):
        batches = make(4, 2, seed)
        batches.set_epoch(2**20 - 1)
        assert len(list(batches)) == 2
    for seed in (2**43, 2**50, -(2**43) - 1):
        with pytest.raises(ValueError, match=rf"seed must lie in -2\^43, .* found {seed}"):
            make(4, 2, seed)
    for seed in (1.5, "1", True, None):
        with pytest.raises(TypeError, match=f"seed must be an integer, found {seed!r}"):
            make(4, 2, seed)


@pytest.mark.parametrize("batch_size", [0, 24])
def test_a_batch_that_cannot_be_filled(batch_size):
    with pytest.raises(
        BatchSizeError, match=f"batch_size = {batch_size} must lie between 1 and .*23"
    ):
        ShuffledBatches(23, batch_size, seed=0)


LABELS = st.lists(st.integers(0, 6), min_size=1, max_size=200).map(torch.tensor)


@given(LABELS, st.integers(1, 200), st.integers(0, 2**31), st.integers(0, 1000))
def test_every_class_has_nearly_its_share_of_every_stratified_batch(labels, size, seed, epoch):
    N, B = len(labels), min(size, len(labels))
    batches = StratifiedBatches(labels, B, seed)
    batches.set_epoch(epoch)
    drawn = list(batches)
    assert [len(batch) for batch in drawn] == [B] * (N // B)
    indices = [index for batch in drawn for index in batch]
    assert len(set(indices)) == len(indices)
    assert set(indices) <= set(range(N))
    n = torch.bincount(labels, minlength=7)
    K = int((n > 0).sum())
    for batch in drawn:
        counts = torch.bincount(labels[batch], minlength=7)
        assert ((counts - n * B / N).abs() < 1 + n * K / N + 1e-9).all()
        if B > K:
            assert (counts[n >= N / (B - K)] > 0).all()


def test_stratified_batches_depend_on_seed_and_epoch_alone():
    labels = torch.arange(60) % 4

    def order(seed, epoch):
        batches = StratifiedBatches(labels, 8, seed)
        batches.set_epoch(epoch)
        return list(batches)

    used = StratifiedBatches(labels, 8, seed=3)
    for _ in range(4):
        list(used)
    torch.manual_seed(5)
    used.set_epoch(2)
    assert list(used) == order(3, 2)
    assert order(3, 2) != order(3, 1)
    assert order(3, 2) != order(4, 2)


def test_a_rare_class_is_not_always_at_the_same_place():
    labels = torch.zeros(100, dtype=torch.int64)
    labels[17] = 1
    batches = StratifiedBatches(labels, 10, seed=0)
    places = set()
    for epoch in range(40):
        batches.set_epoch(epoch)
        places |= {place for place, batch in enumerate(batches) if 17 in batch}
    assert len(places) > 5


def test_labels_that_are_none():
    with pytest.raises(ShapeError, match=r"labels must have shape \(N,\), found \(4, 1\)"):
        StratifiedBatches(torch.zeros(4, 1, dtype=torch.int64), 2, seed=0)
    with pytest.raises(DtypeError, match=r"integer class indices, found torch\.float32"):
        StratifiedBatches(torch.zeros(4), 2, seed=0)
    with pytest.raises(LabelError, match=r"labels\[1\] is -1"):
        StratifiedBatches(torch.tensor([0, -1]), 2, seed=0)
    with pytest.raises(BatchSizeError, match=r"batch_size = 5 must lie between 1 and .*4"):
        StratifiedBatches(torch.zeros(4, dtype=torch.int64), 5, seed=0)
