from __future__ import annotations

import pytest

from ddn_etf.settings import TrainingSettings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", 1),
        ("dim", 0),
        ("threads", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("temperature", -5.0),
        ("momentum", -0.1),
        ("weight_decay", float("inf")),
        ("accelerator", "abacus"),
    ],
)
def test_a_number_out_of_range_is_named(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be .*{value}"):
        TrainingSettings(**{name: value})
