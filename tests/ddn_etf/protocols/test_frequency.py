from __future__ import annotations

import math

import pytest
import torch

from ddn.errors import DtypeError, ShapeError
from ddn_etf.errors import LabelError
from ddn_etf.protocols import frequency_groups, group_accuracies


def test_the_usual_thresholds_leave_their_own_numbers_in_the_middle():
    assert frequency_groups([500, 101, 100, 20, 19, 1]) == {
        "many": [0, 1],
        "medium": [2, 3],
        "few": [4, 5],
    }


def test_a_group_may_be_empty():
    groups = frequency_groups([500, 400])
    assert groups["medium"] == groups["few"] == []
    accuracies = group_accuracies(
        torch.tensor([0, 1]), torch.tensor([0, 0]), {"many": [0], "few": []}
    )
    assert accuracies["many"] == 50
    assert math.isnan(accuracies["few"])


def test_every_class_counts_the_same():
    labels = torch.tensor([0] * 9 + [1])
    predicted = torch.tensor([0] * 9 + [0])
    assert group_accuracies(predicted, labels, {"all": [0, 1]}) == {"all": 50.0}


def test_every_class_is_in_one_group():
    counts = torch.randint(1, 300, (200,)).tolist()
    groups = frequency_groups(counts)
    assert sorted(k for classes in groups.values() for k in classes) == list(range(200))


def test_what_cannot_be_grouped():
    with pytest.raises(ValueError, match="few = 102 and many = 100 overlap"):
        frequency_groups([1], few=102)
    assert frequency_groups([100, 101], few=101) == {"many": [1], "medium": [], "few": [0]}
    labels = torch.tensor([0, 1])
    with pytest.raises(LabelError, match="class 2 has no test samples"):
        group_accuracies(labels, labels, {"all": [0, 2]})
    with pytest.raises(ShapeError, match=r"found \(2,\) and \(1,\)"):
        group_accuracies(labels, labels[:1], {"all": [0]})


@pytest.mark.parametrize(
    ("counts", "error", "text"),
    [
        ([], LabelError, "counts is empty"),
        ([30, float("nan")], LabelError, r"counts\[1\] is nan"),
        ([30, 1.5], LabelError, r"counts\[1\] is 1.5"),
        ([30, True], TypeError, r"counts\[1\] must be a number"),
    ],
)
def test_counts_that_are_none(counts, error, text):
    with pytest.raises(error, match=text):
        frequency_groups(counts)
    assert frequency_groups(torch.tensor([500.0, 0.0]))["few"] == [1]
    with pytest.raises(TypeError, match="many must be an integer"):
        frequency_groups([1], many=100.5)


def test_predictions_that_are_none():
    labels = torch.tensor([0, 1])
    with pytest.raises(DtypeError, match="predicted must be integer class indices"):
        group_accuracies(labels + 0.5, labels, {"all": [0, 1]})
    with pytest.raises(DtypeError, match="predicted must be a tensor, found ndarray"):
        group_accuracies(labels.numpy(), labels, {"all": [0, 1]})
    with pytest.raises(TypeError, match="groups must be a mapping"):
        group_accuracies(labels, labels, [[0, 1]])
    with pytest.raises(TypeError, match="a class of the group 'all' must be an integer"):
        group_accuracies(labels, labels, {"all": [0.5]})
