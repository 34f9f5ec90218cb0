from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddn_etf.data import (
    Dataset,
    ExponentialProfile,
    StepProfile,
    digits,
    imbalanced,
    imbalanced_counts,
)
from ddn_etf.errors import LabelError

PROFILES = st.builds(ExponentialProfile, st.floats(1, 200)) | st.builds(
    StepProfile, st.floats(1, 200), st.floats(0, 0.99)
)


def test_the_long_tails_of_cifar():
    # The sizes that are in use for CIFAR-10-LT and CIFAR-100-LT.
    counts = imbalanced_counts([5000] * 10, ExponentialProfile(100))
    assert counts == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert sum(imbalanced_counts([500] * 100, ExponentialProfile(100))) == 10847


def test_a_step():
    assert imbalanced_counts([5000] * 10, StepProfile(10)) == [5000] * 5 + [500] * 5
    assert imbalanced_counts([60] * 5, StepProfile(3, minority=0.4)) == [60, 60, 60, 20, 20]
    assert imbalanced_counts([60] * 3, StepProfile(3, minority=0)) == [60] * 3


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=30), PROFILES)
def test_counts_are_the_largest_that_the_profile_and_the_classes_allow(available, profile):
    try:
        counts = imbalanced_counts(available, profile)
    except LabelError:
        return
    shares = profile.shares(len(available))
    assert all(1 <= count <= have for count, have in zip(counts, available, strict=True))
    largest = max(counts)
    assert all(
        share * largest - 1 < count <= share * (largest + 1e-6)
        for share, count in zip(shares, counts, strict=True)
    )
    # One more in the largest class would be too many for some class.
    assert any(
        share * (largest + 1) >= have + 1 - 1e-6
        for share, have in zip(shares, available, strict=True)
    )


def test_factor_one_leaves_equal_classes():
    assert imbalanced_counts([7, 9, 8], ExponentialProfile(1)) == [7, 7, 7]


def test_a_class_that_would_be_empty():
    with pytest.raises(LabelError, match="class 1 would keep none of its 5 samples"):
        imbalanced_counts([5, 5, 5], ExponentialProfile(100))
    with pytest.raises(LabelError, match="class 1 has no samples"):
        imbalanced_counts([5, 0], ExponentialProfile(1))


@pytest.mark.parametrize("profile", [ExponentialProfile, StepProfile])
@pytest.mark.parametrize("factor", [0.5, float("nan"), float("inf")])
def test_factors_out_of_range(profile, factor):
    with pytest.raises(ValueError, match="largest class over the smallest"):
        profile(factor)


@pytest.mark.parametrize("minority", [-0.1, 1.0])
def test_shares_out_of_range(minority):
    with pytest.raises(ValueError, match=r"minority must lie in \[0, 1\)"):
        StepProfile(2, minority)


def test_train_samples_are_left_out_and_test_samples_stay():
    dataset = digits()
    smaller = imbalanced(dataset, ExponentialProfile(100), seed=3)
    counts = imbalanced_counts(dataset.train_counts, ExponentialProfile(100))
    assert smaller.train_counts == counts
    assert counts[0] == min(dataset.train_counts[0], max(counts))
    assert smaller.test_inputs is dataset.test_inputs
    before = {tuple(image) for image in dataset.train_inputs.flatten(1).tolist()}
    after = {tuple(image) for image in smaller.train_inputs.flatten(1).tolist()}
    assert len(after) == sum(counts)
    assert after < before


def test_the_choice_depends_on_the_seed_alone_and_is_nested():
    dataset = digits()

    def kept(factor: float, seed: int) -> set[tuple[float, ...]]:
        chosen: Dataset = imbalanced(dataset, ExponentialProfile(factor), seed=seed)
        return {tuple(image) for image in chosen.train_inputs.flatten(1).tolist()}

    first = kept(20, 0)
    torch.manual_seed(99)
    assert kept(20, 0) == first
    assert kept(20, 1) != first
    assert kept(50, 0) < first
