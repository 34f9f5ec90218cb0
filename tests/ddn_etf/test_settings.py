from __future__ import annotations

import numpy as np
import pytest
import torch

from ddn_etf.learning_rates import Cosine
from ddn_etf.losses import CrossEntropy, LabelSmoothing
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


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", 1.5, "an integer, found 1.5"),
        ("epochs", "3", "an integer, found '3'"),
        ("batch_size", 64.0, "an integer, found 64.0"),
        ("dim", "64", "an integer, found '64'"),
        ("devices", True, "an integer, found True"),
        ("threads", None, "an integer, found None"),
        ("temperature", True, "a number, found True"),
        ("temperature", torch.tensor(5.0), "a number, found tensor"),
        ("learning_rate", "0.1", "a number, found '0.1'"),
        ("weight_decay", None, "a number, found None"),
        ("precision", 32, "text, found 32"),
        (
            "optimizer",
            "adam",
            r"an object such as SGD\(\), or find_optimizer\(name\), found 'adam'",
        ),
        ("schedule", Cosine, r"an object such as Cosine\(\), .* found <class"),
        (
            "batches",
            "stratified",
            r"an object such as Shuffled\(\) or Stratified\(\), found 'strat",
        ),
        ("loss", "focal", r"an object such as CrossEntropy\(\), .* found 'focal'"),
        ("loss", LabelSmoothing, r"an object such as CrossEntropy\(\), .* found <class"),
    ],
)
def test_a_value_of_another_kind_is_named(name, value, message):
    with pytest.raises(TypeError, match=f"^{name} must be {message}"):
        TrainingSettings(**{name: value})


def test_numbers_of_numpy_are_numbers():
    settings = TrainingSettings(epochs=np.int64(3), learning_rate=np.float64(0.2))
    assert (settings.epochs, settings.learning_rate) == (3, 0.2)


def test_the_table_tells_tensors_and_functions_apart_and_has_no_addresses():
    def table(loss):
        return TrainingSettings(loss=loss).as_table()["loss"]

    def scaled(scale):
        return lambda output, labels: scale * output.logits.mean()

    assert table(scaled(2)) == table(scaled(2)) != table(scaled(3))
    assert " at 0x" not in table(scaled(2))
    weights = torch.ones(2000)
    other = weights.clone()
    other[1000] = 2
    one = table(CrossEntropy(class_weights=weights))
    assert one == table(CrossEntropy(class_weights=weights.clone()))
    assert one != table(CrossEntropy(class_weights=other))


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
    assert table["batches"] == "Shuffled()"
    assert list(table) == list(TrainingSettings.__dataclass_fields__)
    assert all(isinstance(value, (int, float, str)) for value in table.values())
