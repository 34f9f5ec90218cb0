from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import relu

from ddn_etf._description import describe, describe_modules, digest
from ddn_etf.losses import CrossEntropy, WeightedSum
from ddn_etf.optimizers import SGD


class Plain:
    def __init__(self, value):
        self.value, self._hidden = value, object()


@dataclass
class Loop:
    inner: object = None


def scaled(scale, power=1):
    return lambda value: scale * value**power


@pytest.mark.parametrize(
    "value", [1, True, None, "a'b", 0.1, (1,), (1, "x"), [2.0], {"a": (1,)}, SGD(), CrossEntropy()]
)
def test_plain_values_look_as_ever(value):
    assert describe(value) == repr(value)


def test_rounding_of_another_machine_makes_no_difference():
    assert describe(0.1 + 0.2) == describe(0.3)
    weights = torch.rand(300, dtype=torch.float64)
    assert describe(weights) == describe(weights * (1 + 1e-14))
    assert describe(weights) != describe(weights * (1 + 1e-4))
    assert describe(torch.tensor([0.0, 1.0])) == describe(torch.tensor([-0.0, 1.0]))
    assert describe(torch.zeros(2)) != describe(torch.zeros(3))


@pytest.mark.parametrize(
    "make",
    [
        Plain,
        scaled,
        lambda x: scaled(2, power=x),
        lambda x: functools.partial(scaled, x),
        lambda x: nn.Dropout(x / 10),
        lambda x: {"a": {x, 0}},
        lambda x: np.array([0.0] * 2000 + [x] + [0.0] * 2000),
        lambda x: torch.tensor([0.0] * 2000 + [x] + [0.0] * 2000),
        lambda x: WeightedSum((CrossEntropy(class_weights=torch.tensor([1.0, x])),), (1.0,)),
        lambda x: Plain(Plain([scaled(x)])),
    ],
)
def test_equal_things_have_equal_words_and_others_have_not(make):
    assert describe(make(1)) == describe(make(1)) != describe(make(2))
    assert "0x" not in describe(make(1))


def test_functions_are_told_apart_by_what_they_do():
    one, same, other = (lambda x: x + 1), (lambda x: x + 1), (lambda x: x + 2)
    assert describe(one) == describe(same) != describe(other)
    assert describe(lambda x: [y + 1 for y in x]) != describe(lambda x: [y + 2 for y in x])
    assert describe(relu).startswith("relu(")
    assert "0x" not in describe(torch.relu)


def test_what_holds_itself():
    loop = Loop()
    loop.inner = [loop]
    assert describe(loop) == "Loop(inner=[...])"


def test_modules_line_by_line():
    network = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5))
    assert describe_modules(network).splitlines() == [
        "module: Sequential()",
        "0: Linear(in_features=2, out_features=3)",
        "1: Dropout(p=0.5, inplace=False)",
    ]


def test_a_digest_is_of_all_bytes_however_they_lie():
    values = torch.arange(12.0).reshape(3, 4)
    assert digest([values]) == digest(values.split(1)) == digest([values.mT.contiguous().mT])
    for other in (values + 1e-6, values.mT, values.double(), values.bfloat16()):
        assert digest([values]) != digest([other])
    assert digest([torch.tensor(1)]) != digest([torch.tensor(2)])
