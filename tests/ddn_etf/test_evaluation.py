from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace

import pytest
import torch

from ddn_etf.evaluation import evaluate, evaluation_csv, evaluation_json
from ddn_etf.methods import METHODS
from ddn_etf.metrics import neural_collapse
from ddn_etf.metrics.hierarchical import hierarchical_metrics
from ddn_etf.training import train


@pytest.fixture(scope="module")
def classifier(small_digits, quick):
    return train(METHODS["nearest-etf"], 4, small_digits, quick)


@pytest.fixture(scope="module")
def evaluation(classifier, small_digits):
    return evaluate(classifier, small_digits)


def test_values_are_those_of_the_last_epoch(classifier, evaluation):
    assert (evaluation.head, evaluation.seed, evaluation.epochs) == ("nearest-etf", 4, 2)
    last = classifier.history[-1].values
    found = {
        f"{split}_{name}": value
        for split, output in evaluation.splits.items()
        for name, value in output.values.items()
    }
    assert found == pytest.approx(last, rel=1e-6)


def test_tensors_belong_together(evaluation, small_digits):
    for split, labels in (
        ("train", small_digits.train_labels),
        ("test", small_digits.test_labels),
    ):
        output = evaluation.splits[split]
        assert torch.equal(output.labels, labels)
        torch.testing.assert_close(
            output.h @ evaluation.weight.T + evaluation.bias, output.logits, rtol=1e-4, atol=1e-5
        )
        collapse = neural_collapse(output.h, labels, evaluation.weight, evaluation.bias)
        for name in ("NC1", "NC2", "NC3", "NC4", "accuracy"):
            assert output.values[name] == pytest.approx(collapse[name].item(), rel=1e-12)


def test_mistakes_are_measured_in_the_hierarchy_of_the_data(classifier, evaluation, small_digits):
    for output in evaluation.splits.values():
        expected = hierarchical_metrics(
            output.logits, output.labels, small_digits.hierarchy.distances, (1, 5)
        )
        for name in ("mistake_severity", "hd@1", "hd@5", "hp@5"):
            assert output.values[name] == pytest.approx(expected[name].item(), nan_ok=True)
        wrong = 1 - output.values["accuracy"] / 100
        assert output.values["hd@1"] == pytest.approx(wrong * output.values["mistake_severity"])
    bare = evaluate(classifier, replace(small_digits, hierarchy=None)).splits["test"].values
    assert bare.items() < evaluation.splits["test"].values.items()
    assert not {"mistake_severity", "hd@1", "hd@5", "hp@5"} & bare.keys()


def test_files_hold_every_value_without_rounding(evaluation):
    rows = list(csv.DictReader(io.StringIO(evaluation_csv(evaluation))))
    content = json.loads(evaluation_json(evaluation))
    assert content["values"] == {s: output.values for s, output in evaluation.splits.items()}
    assert {(row["split"], row["quantity"]): float(row["value"]) for row in rows} == {
        (split, name): value
        for split, output in evaluation.splits.items()
        for name, value in output.values.items()
    }
    assert {row["epochs"] for row in rows} == {"2"}


def test_what_is_not_finite_is_null_in_json(evaluation):
    test = replace(evaluation.splits["test"], values={"etf_distance": math.nan, "NC1": 0.5})
    content = json.loads(
        evaluation_json(replace(evaluation, splits={"test": test})), parse_constant=pytest.fail
    )
    assert content["values"]["test"] == {"etf_distance": None, "NC1": 0.5}
