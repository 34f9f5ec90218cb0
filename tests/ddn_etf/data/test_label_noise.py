from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from ddn.errors import ShapeError
from ddn_etf.data import AsymmetricNoise, SymmetricNoise, digits, noisy, noisy_labels

RATES = st.floats(0, 1)
#: Patrini et al. (2017) for CIFAR-10.
CIFAR_10 = {9: 1, 2: 0, 4: 7, 3: 5, 5: 3}


@given(st.integers(2, 20), RATES)
def test_transitions_are_distributions(num_classes, rate):
    for noise in (SymmetricNoise(rate), AsymmetricNoise(rate)):
        T = noise.transition(num_classes)
        assert T.shape == (num_classes, num_classes)
        assert (T >= 0).all()
        torch.testing.assert_close(T.sum(dim=1), torch.ones(num_classes, dtype=torch.float64))
        torch.testing.assert_close(T.diagonal(), torch.full_like(T.diagonal(), 1 - rate))


def test_symmetric_noise_by_hand():
    expected = torch.tensor([[0.7, 0.15, 0.15], [0.15, 0.7, 0.15], [0.15, 0.15, 0.7]])
    torch.testing.assert_close(SymmetricNoise(0.3).transition(3), expected.double())


def test_asymmetric_noise_by_hand():
    T = AsymmetricNoise(0.4, CIFAR_10).transition(10)
    assert T[9, 1].item() == T[3, 5].item() == T[5, 3].item() == 0.4
    assert T[0].tolist() == [1.0] + [0.0] * 9
    assert AsymmetricNoise(0.25).transition(3)[2].tolist() == [0.25, 0, 0.75]


@pytest.mark.parametrize(
    "noise", [SymmetricNoise(0.4), AsymmetricNoise(0.4, CIFAR_10), SymmetricNoise(0.9)]
)
def test_labels_follow_the_transition(noise):
    labels = torch.arange(10).repeat_interleave(5000)
    new, flipped = noisy_labels(labels, noise.transition(10), seed=1)
    T = noise.transition(10)
    for k in range(10):
        found = torch.bincount(new[labels == k], minlength=10)
        possible = T[k] > 0
        assert found[~possible].sum() == 0
        if possible.sum() > 1:
            # One in 10⁵ such tests would fail by chance, but the seed is fixed.
            expected = 5000 * T[k][possible]
            assert chisquare(found[possible], expected).pvalue > 1e-5
    assert torch.equal(flipped, new != labels)


@given(RATES, RATES, st.integers(0, 2**31))
def test_a_higher_rate_flips_more_of_the_same(first, second, seed):
    low, high = sorted((first, second))
    labels = torch.arange(60) % 5
    _, few = noisy_labels(labels, SymmetricNoise(low).transition(5), seed=seed)
    _, many = noisy_labels(labels, SymmetricNoise(high).transition(5), seed=seed)
    assert (few <= many).all()


def test_no_noise_and_nothing_but_noise():
    labels = torch.arange(60) % 5
    assert not noisy_labels(labels, SymmetricNoise(0.0).transition(5))[1].any()
    assert noisy_labels(labels, SymmetricNoise(1.0).transition(5))[1].all()
    shifted, _ = noisy_labels(labels, AsymmetricNoise(1.0).transition(5))
    assert torch.equal(shifted, (labels + 1) % 5)


def test_the_draw_depends_on_the_seed_alone():
    dataset = digits()
    first, flipped = noisy(dataset, SymmetricNoise(0.2), seed=4)
    torch.manual_seed(77)
    again, _ = noisy(dataset, SymmetricNoise(0.2), seed=4)
    other, _ = noisy(dataset, SymmetricNoise(0.2), seed=5)
    assert torch.equal(first.train_labels, again.train_labels)
    assert not torch.equal(first.train_labels, other.train_labels)
    assert torch.equal(flipped, first.train_labels != dataset.train_labels)
    assert 0.15 < flipped.double().mean() < 0.25
    assert first.test_labels is dataset.test_labels


@pytest.mark.parametrize("noise", [SymmetricNoise, AsymmetricNoise])
@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_rates_out_of_range(noise, rate):
    with pytest.raises(ValueError, match=r"rate is a probability in \[0, 1\]"):
        noise(rate)


def test_classes_that_do_not_exist():
    with pytest.raises(ValueError, match=r"confused_with has 9: 1, but the classes are 0\.\.4"):
        AsymmetricNoise(0.1, CIFAR_10).transition(5)


def test_transitions_that_are_none():
    labels = torch.arange(2)
    with pytest.raises(ShapeError, match=r"transition must be \(K, K\), found \(2, 3\)"):
        noisy_labels(labels, torch.ones(2, 3))
    with pytest.raises(ValueError, match="row 1 of transition is no distribution"):
        noisy_labels(labels, torch.tensor([[1.0, 0.0], [0.5, 0.6]]))
    with pytest.raises(ValueError, match="row 0 of transition is no distribution"):
        noisy_labels(labels, torch.tensor([[1.5, -0.5], [0.5, 0.5]]))
    with pytest.raises(ValueError, match=r"labels\[1\] is 2, outside 0\.\.1"):
        noisy_labels(torch.tensor([0, 2]), torch.eye(2))
