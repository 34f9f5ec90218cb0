from __future__ import annotations

import pytest

from ddn_etf.learning_rates import Cosine
from ddn_etf.losses import LabelSmoothing
from ddn_etf.optimizers import Adam
from ddn_etf.settings import TrainingSettings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", 1),
        ("dim", 0),
        ("threads", 0),
        ("devices", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("temperature", -5.0),
        ("weight_decay", float("inf")),
        ("accelerator", "abacus"),
        ("precision", "8"),
        ("strategy", "guess"),
    ],
)
def test_a_number_out_of_range_is_named(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be .*{value}"):
        TrainingSettings(**{name: value})


def test_choices_that_do_not_go_together():
    with pytest.raises(ValueError, match="precision must not be 16-mixed on the CPU"):
        TrainingSettings(precision="16-mixed")
    assert TrainingSettings(precision="16-mixed", accelerator="gpu").precision == "16-mixed"
    with pytest.raises(
        ValueError, match="batch_size must be divisible by the number of devices, 3"
    ):
        TrainingSettings(devices=3)


def test_the_table_has_every_setting_and_is_plain():
    settings = TrainingSettings(optimizer=Adam(0.8), schedule=Cosine(2), loss=LabelSmoothing())
    table = settings.as_table()
    assert table["optimizer"] == "Adam(momentum=0.8, second_momentum=0.999)"
    assert table["schedule"] == "Cosine(warm_up_epochs=2)"
    assert "LabelSmoothing(" in table["loss"]
    assert table["learning_rate"] == 0.1
    assert list(table) == list(TrainingSettings.__dataclass_fields__)
    assert all(isinstance(value, (int, float, str)) for value in table.values())
