"""Runs that are small enough to be trained in a test."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ddn_etf.compare import Comparison, compare
from ddn_etf.data import Dataset, digits
from ddn_etf.methods import DEFAULT_METHODS
from ddn_etf.settings import TrainingSettings


@pytest.fixture(scope="session")
def small_digits() -> Dataset:
    """Some of the digits; each of the ten classes is among them."""
    dataset = digits()
    return replace(
        dataset,
        train_inputs=dataset.train_inputs[:300],
        train_labels=dataset.train_labels[:300],
        test_inputs=dataset.test_inputs[:100],
        test_labels=dataset.test_labels[:100],
    )


@pytest.fixture(scope="session")
def quick() -> TrainingSettings:
    """Settings of a run that takes a fraction of a second."""
    return TrainingSettings(epochs=2, batch_size=60, dim=16)


@pytest.fixture(scope="session")
def comparison(small_digits: Dataset, quick: TrainingSettings) -> Comparison:
    """The three heads of the default comparison with two seeds."""
    return compare(DEFAULT_METHODS, (0, 1), small_digits, quick)
