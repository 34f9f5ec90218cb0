"""Two different sets do not share a name, and one set has one name in every process."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddn_etf.data import (
    AsymmetricNoise,
    ExponentialProfile,
    StepProfile,
    SymmetricNoise,
    digits,
    gaussian_mixture,
    hierarchical_mixture,
    imbalanced,
    noisy,
)
from ddn_etf.data._naming import fingerprint, number
from ddn_etf.hierarchy import balanced_hierarchy

DIGITS = digits()


def test_how_a_set_was_made_is_in_its_name():
    assert DIGITS.name == "digits"
    rare = imbalanced(DIGITS, ExponentialProfile(100))
    assert rare.name == "digits, imbalance 100 (exponential), seed 0"
    step = imbalanced(DIGITS, StepProfile(2.5, minority=0.3), seed=4)
    assert step.name == "digits, imbalance 2.5 (step, minority 0.3), seed 4"
    wrong, _ = noisy(rare, SymmetricNoise(0.1), seed=1)
    assert wrong.name == f"{rare.name}, label noise 0.1 (symmetric), seed 1"
    assert noisy(DIGITS, AsymmetricNoise(0.4))[0].name == (
        "digits, label noise 0.4 (asymmetric), seed 0"
    )
    assert noisy(DIGITS, AsymmetricNoise(0.4, {9: 1, 2: 0}))[0].name == (
        "digits, label noise 0.4 (asymmetric, 2 as 0, 9 as 1), seed 0"
    )


def test_selections_and_labels_have_fingerprints():
    first = DIGITS.select_train(torch.arange(60))
    # The same in every process and on every machine.
    assert first.name == "digits, 60 of 1347 train samples (e7466545)"
    assert DIGITS.select_train(torch.arange(60, dtype=torch.int32)).name == first.name
    assert DIGITS.select_train(torch.arange(1, 61)).name != first.name
    assert DIGITS.select_train(torch.arange(60).flip(0)).name != first.name
    assert DIGITS.select_train(torch.arange(60), name="a tenth").name == "a tenth"
    shifted = DIGITS.relabel_train((DIGITS.train_labels + 1) % 10)
    assert shifted.name.startswith("digits, relabelled (")
    assert shifted.name != DIGITS.relabel_train((DIGITS.train_labels + 2) % 10).name
    assert DIGITS.relabel_train(DIGITS.train_labels, name="as it was").name == "as it was"


def test_many_confusions_are_not_listed():
    pairs = {k: (k + 1) % 10 for k in range(9)}
    name = noisy(DIGITS, AsymmetricNoise(0.4, pairs))[0].name
    other = noisy(DIGITS, AsymmetricNoise(0.4, pairs | {8: 0}))[0].name
    assert "9 confusions" in name
    assert name != other
    assert len(name) < 80
    assert noisy(DIGITS, AsymmetricNoise(0.4, dict(reversed(pairs.items()))))[0].name == name


@dataclass
class Shares:
    """A profile that says nothing of itself."""

    last: float

    def shares(self, num_classes):
        return [1.0] * (num_classes - 1) + [self.last]


class Transition:
    def __init__(self, T):
        self.T = T

    def transition(self, num_classes):
        return self.T


def test_what_a_user_wrote_is_told_by_what_it_makes():
    half, third = (imbalanced(DIGITS, Shares(share)).name for share in (1 / 2, 1 / 3))
    assert half != third
    assert half.startswith("digits, Shares ")
    assert half == imbalanced(DIGITS, Shares(1 / 2)).name
    some = [noisy(DIGITS, Transition(SymmetricNoise(rate).transition(10))) for rate in (0.1, 0.2)]
    assert some[0][0].name != some[1][0].name
    assert "0x" not in some[0][0].name


def test_generated_sets():
    assert gaussian_mixture().name == "gaussian-mixture"
    assert gaussian_mixture(4, 8, seed=1, train_per_class=7).name == (
        "gaussian-mixture, classes 4, dim 8, train per class 7, seed 1"
    )
    assert digits(test_size=300).name == "digits, test size 300"
    first, second = balanced_hierarchy((2, 3)), balanced_hierarchy((3, 2))
    names = {
        hierarchical_mixture(tree, **options).name
        for tree in (first, second)
        for options in ({}, {"seed": 1}, {"noise": 0.5}, {"dim": 4}, {"train_per_class": 3})
    }
    assert len(names) == 10
    assert hierarchical_mixture(first).name == hierarchical_mixture(balanced_hierarchy((2, 3))).name


def test_the_hierarchy_is_not_in_the_name():
    assert replace(DIGITS, hierarchy=None).name == "digits"


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_written_without_loss(value):
    assert float(number(value)) == value
    assert float(number(0.1)) == 0.1


def test_fingerprints_know_the_shape():
    flat = torch.arange(6)
    assert fingerprint(flat) != fingerprint(flat.reshape(2, 3))
    assert fingerprint(flat) == fingerprint(flat.int())
    assert len(fingerprint(flat)) == 8


@pytest.mark.parametrize("make", [imbalanced, noisy])
def test_the_function_in_place_of_the_set(make):
    with pytest.raises(TypeError, match=r"dataset must be a Dataset.*call it: digits\(\)"):
        make(digits, ExponentialProfile(2))
