"""Settings and outputs of the wrong kind."""

from __future__ import annotations

import pytest
import torch

from ddn.errors import DtypeError, ShapeError
from ddn_etf import losses
from ddn_etf.errors import FeatureError
from ddn_etf.heads import HeadOutput
from ddn_etf.losses.base import check_loss
from tests.ddn_etf.losses.cases import D, K, N, output, random_batch

WITH_A_NUMBER = {
    "temperature": losses.CrossEntropy,
    "gamma": losses.Focal,
    "smoothing": losses.LabelSmoothing,
    "scale": losses.MeanSquaredError,
    "target": losses.DotRegression,
    "alpha": losses.HierarchyAware,
}


@pytest.mark.parametrize("value", [True, "5", torch.tensor(2.0), [1.0]])
@pytest.mark.parametrize("name", WITH_A_NUMBER)
def test_what_is_no_number(name, value):
    with pytest.raises(TypeError, match=rf"{name} must be a number, found"):
        WITH_A_NUMBER[name](**{name: value})
    with pytest.raises(TypeError, match="scale must be a number"):
        losses.CenterCollapse(scale=value)


def test_classes_in_place_of_losses():
    with pytest.raises(
        TypeError, match=r"losses\[0\] must be a loss, found the class CrossEnt.*\("
    ):
        losses.WeightedSum([losses.CrossEntropy, losses.Focal()], [1.0, 1.0])
    with pytest.raises(TypeError, match=r"losses\[1\] must be a loss, which can be called"):
        losses.WeightedSum([losses.Focal(), "focal"], [1.0, 1.0])
    with pytest.raises(TypeError, match="the class Focal; make an instance of it"):
        check_loss("loss", losses.Focal)
    check_loss("loss", lambda found, labels: found.logits.sum())
    with pytest.raises(TypeError, match=r"looked up by its name, found <class .*; known losses: "):
        losses.find_loss(losses.Focal)


def test_sums():
    with pytest.raises(TypeError, match="losses must be a sequence"):
        losses.WeightedSum(losses.Focal(), (1.0,))
    with pytest.raises(TypeError, match="weights must be a sequence"):
        losses.WeightedSum((losses.Focal(),), 1.0)
    with pytest.raises(TypeError, match=r"weights\[0\] must be a number"):
        losses.WeightedSum((losses.Focal(),), (True,))
    # Lists and tuples are one setting: the identity of a run has it.
    assert losses.WeightedSum([losses.Focal()], [1.0]).weights == (1.0,)

    tensors, labels = random_batch()
    per_sample = losses.WeightedSum((lambda found, y: found.logits[:, 0],), (1.0,))
    with pytest.raises(ShapeError, match=r"returned a tensor \(7,\); a loss returns one number"):
        per_sample(output(*tensors), labels)
    number = losses.WeightedSum((lambda found, y: 3.0,), (1.0,))
    with pytest.raises(TypeError, match=r"returned 3\.0; a loss returns a tensor"):
        number(output(*tensors), labels)


def test_constants_that_are_not_finite():
    bad = torch.eye(K)
    bad[1, 2] = torch.nan
    with pytest.raises(FeatureError, match="cosines holds NaN"):
        losses.HierarchyAware(0.4, bad)
    with pytest.raises(FeatureError, match="frame holds NaN"):
        losses.CenterCollapse(bad)
    with pytest.raises(DtypeError, match=r"cosines must be a tensor, found ndarray; convert with"):
        losses.HierarchyAware(0.4, bad.numpy())
    for weights, text in ((torch.ones(K) * torch.nan, "is nan"), (torch.ones(K) * 0, "is 0")):
        with pytest.raises(ValueError, match=text):
            losses.CrossEntropy(class_weights=weights)


def test_what_is_no_output_of_a_head():
    (h, weight, bias), labels = random_batch()
    good = output(h, weight, bias)
    with pytest.raises(TypeError, match=r"head\.outputs\(features, labels\).*found Tensor"):
        losses.CrossEntropy()(good.logits, labels)
    for change, text in (
        ({"h": h[:-1]}, rf"h has shape \({N - 1}, {D}\)"),
        ({"weight": weight[:-1]}, rf"weight has shape \({K - 1}, {D}\).* need \({K}, {D}\)"),
        ({"weight": weight.mT}, "weight has shape"),
        ({"bias": bias[:1]}, r"bias has shape \(1,\)"),
    ):
        parts = {"h": h, "weight": weight, "bias": bias, "logits": good.logits} | change
        with pytest.raises(ShapeError, match=text):
            losses.DotRegression()(HeadOutput(**parts), labels)
    with pytest.raises(DtypeError, match="h must be a tensor, found NoneType"):
        losses.CrossEntropy()(HeadOutput(None, weight, bias, good.logits), labels)
