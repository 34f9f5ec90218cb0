from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from ddn.errors import DtypeError
from ddn_etf.errors import LabelError
from ddn_etf.validation import (
    check_count,
    check_counts,
    check_instance,
    check_integer,
    check_real,
    class_labels,
)


@pytest.mark.parametrize("value", [True, 2.0, "2", None, np.int64(2), torch.tensor(2)])
def test_integers(value):
    check_integer("n", -3)
    check_count("n", 2, 2)
    with pytest.raises(TypeError, match="n must be an integer, found"):
        check_count("n", value, 0)


def test_the_remedy_is_given_where_it_is_one():
    with pytest.raises(TypeError, match=r"convert it with int\(\)"):
        check_integer("n", np.int64(2))
    for value in (True, 2.5):
        with pytest.raises(TypeError, match=rf"found {value}$"):
            check_integer("n", value)


@pytest.mark.parametrize("value", [1, 1.5, float("nan"), np.float32(2), np.int8(1), Fraction(1, 3)])
def test_real_numbers(value):
    check_real("x", value)


@pytest.mark.parametrize("value", [True, np.bool_(True), "1", None, 1j, [1.0]])
def test_what_is_no_real_number(value):
    with pytest.raises(TypeError, match="x must be a number, found"):
        check_real("x", value)


def test_tensors_in_place_of_numbers():
    for value in (torch.tensor(1.0), np.array(1.0)):
        with pytest.raises(TypeError, match=r"convert it with \.item\(\)"):
            check_real("x", value)


def test_counts_become_integers():
    for counts in ([3, 0], (3.0, 0.0), np.array([3, 0]), torch.tensor([3.0, 0.0])):
        assert check_counts("n", counts, 0) == [3, 0]
    with pytest.raises(LabelError, match=r"n\[1\] is 0, class 1 has no samples.*at least 1"):
        check_counts("n", [3, 0], 1)
    with pytest.raises(TypeError, match=r"n\[0\] must be a number"):
        check_counts("n", [True, 2], 1)
    with pytest.raises(TypeError, match="sequence of whole numbers, found '12'"):
        check_counts("n", "12", 1)
    large = 2**53 + 1
    assert check_counts("n", [large], 1) == [large]


def test_instances():
    check_instance("f", len, "a function")
    with pytest.raises(
        TypeError, match=r"f must be a loss, found the class list; .*: list\(\.\.\.\)"
    ):
        check_instance("f", list, "a loss")
    with pytest.raises(TypeError, match="which can be called; found 3"):
        check_instance("f", 3, "a loss")


def test_labels():
    assert class_labels("y", torch.tensor([1], dtype=torch.uint8)).dtype == torch.int64
    for wrong in (torch.tensor([1.0]), torch.tensor([True]), torch.tensor([1j])):
        with pytest.raises(DtypeError, match=r"y must be integer class indices.*\.long\(\)"):
            class_labels("y", wrong)
    for wrong in ([1], np.array([1])):
        with pytest.raises(DtypeError, match=r"y must be a tensor.*torch\.as_tensor\(\)"):
            class_labels("y", wrong)
