from __future__ import annotations

import copy
import math

import pytest
import torch

from ddn.errors import DtypeError, ShapeError
from ddn_etf.class_means import ExponentialAverage
from ddn_etf.errors import FeatureError, FrameSizeError, LabelError
from ddn_etf.heads import FixedETFHead, LinearHead, NearestETFHead, NearestFrameHead
from ddn_etf.schedules import LinearSchedule
from tests.ddn_etf.heads.cases import D, K, assert_same_state, with_value

BAD_BATCHES = {
    "NaN": (lambda h, y: (with_value(h, torch.nan), y), FeatureError, "row 5"),
    "infinity": (lambda h, y: (with_value(h, torch.inf), y), FeatureError, "row 5"),
    "empty": (lambda h, y: (h[:0], y[:0]), FeatureError, "empty"),
    "no labels": (lambda h, y: (h, None), LabelError, r"\.eval\(\)"),
    "label too large": (lambda h, y: (h, y + 1), LabelError, r"labels\[3\] is 4"),
    "label negative": (lambda h, y: (h, y - 1), LabelError, r"labels\[0\] is -1"),
    "float labels": (lambda h, y: (h, y.float()), DtypeError, "integer"),
    "too few labels": (lambda h, y: (h, y[:-1]), ShapeError, r"\(24,\)"),
}


@pytest.mark.parametrize("name", BAD_BATCHES)
def test_bad_batches_are_refused_and_leave_the_state_alone(nearest, batches, name):
    spoil, error, message = BAD_BATCHES[name]
    for trained in range(2):
        before = copy.deepcopy(nearest)
        with pytest.raises(error, match=message):
            nearest(*spoil(*batches[trained]))
        assert_same_state(nearest, before)
        expected = before(*batches[trained])
        assert torch.equal(nearest(*batches[trained]), expected)


def test_wrong_features_are_refused_by_every_head(head, batches):
    features, labels = batches[0]
    with pytest.raises(ShapeError, match=r"\(N, 6\)"):
        head(features[:, :5], labels)
    with pytest.raises(ShapeError, match=r"\(N, 6\)"):
        head(features[0], labels)
    with pytest.raises(DtypeError, match="floating-point"):
        head(features.long(), labels)
    with pytest.raises(DtypeError, match=r"convert the head with \.to\(torch\.float64\)"):
        head.float()(features.double(), labels)


@pytest.mark.parametrize("make", [FixedETFHead, NearestETFHead])
@pytest.mark.parametrize(("dim", "num_classes"), [(6, 1), (2, 4), (0, 2)])
def test_impossible_frames_are_refused(make, dim, num_classes):
    with pytest.raises(FrameSizeError):
        make(dim, num_classes)


def test_published_form_needs_as_many_dimensions_as_classes():
    with pytest.raises(ValueError, match=r"published form .* dim >= 4"):
        NearestETFHead(K - 1, K, form="published")
    with pytest.raises(ValueError, match="form"):
        NearestETFHead(D, K, form="other")


@pytest.mark.parametrize("weight", [0.0, -1.0, math.inf, math.nan])
def test_proximal_weight_must_be_positive(weight):
    with pytest.raises(ValueError, match="proximal_weight"):
        NearestETFHead(D, K, proximal_weight=weight)


@pytest.mark.parametrize("make", [LinearHead, FixedETFHead, NearestETFHead])
def test_options_are_checked(make):
    for temperature in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="temperature"):
            make(D, K, temperature=temperature)
    for sizes in ((6.0, K), (D, "4"), (D, True)):
        with pytest.raises(TypeError, match="must be an integer"):
            make(*sizes)
    assert make(D, K, temperature=None).normalize(torch.ones(2, D)).tolist() == [[1.0] * D] * 2


@pytest.mark.parametrize("make", [FixedETFHead, LinearHead, NearestETFHead])
@pytest.mark.parametrize("temperature", [True, "5", torch.tensor(5.0), LinearSchedule])
def test_a_temperature_is_a_number_or_a_schedule(make, temperature):
    with pytest.raises(TypeError, match="temperature must be a number, or a schedule such as"):
        make(D, K, temperature=temperature)


@pytest.mark.parametrize("average", [ExponentialAverage, 0.1, None])
def test_an_average_is_an_object(average):
    with pytest.raises(TypeError, match=r"such as ExponentialAverage\(\), found"):
        NearestETFHead(D, K, average=average)


def test_misspelt_options_are_refused():
    with pytest.raises(TypeError, match="unexpected keyword argument 'temprature'"):
        NearestFrameHead(torch.eye(K), D, temprature=5.0)
