from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from ddn_etf.figures import landscape_figure, landscape_slice

A = torch.diag(torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64))
X, U, V = (torch.tensor(v, dtype=torch.float64) for v in ([0.5, 0, 1], [2.0, 1, 0], [0, 1.0, 1]))


def quadratic(x):
    return x @ A @ x / 2


def test_values_are_those_of_the_function():
    found = landscape_slice(quadratic, X, U, V, radius=2.0, points=5)
    assert_allclose(found.steps, [-2, -1, 0, 1, 2])
    for i, a in enumerate(found.steps):
        for j, b in enumerate(found.steps):
            x = (X + a * U + b * V).numpy()
            assert found.values[i, j].item() == pytest.approx(x @ A.numpy() @ x / 2, rel=1e-14)


def test_the_middle_is_the_point_and_the_function_is_called_without_gradient():
    def function(x):
        assert not torch.is_grad_enabled()
        return quadratic(x)

    found = landscape_slice(function, X.requires_grad_(), U, V, radius=0.3, points=41)
    assert found.values[20, 20] == quadratic(X.detach())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": 4}, "odd number"),
        ({"points": 1}, "odd number"),
        ({"second": -3 * U}, "parallel or zero"),
        ({"second": 0 * U}, "parallel or zero"),
        ({"second": U[:2]}, "vectors of one length"),
        ({"point": X.detach().reshape(1, 3)}, "vectors of one length"),
    ],
)
def test_what_spans_no_plane(change, message):
    arguments = {"point": X.detach(), "first": U, "second": V} | change
    points = {name: arguments.pop(name) for name in ("points",) if name in arguments}
    with pytest.raises(ValueError, match=message):
        landscape_slice(quadratic, *arguments.values(), **points)


def test_the_figure_shows_the_slice_and_both_directions():
    found = landscape_slice(quadratic, X.detach(), U, V, points=11)
    figure = landscape_figure(found, title="A saddle", first="u", second="v", value="f")
    plane, lines, bar = figure.axes
    assert plane.get_title(loc="left") == "A saddle"
    assert (plane.get_xlabel(), plane.get_ylabel()) == ("u (steps)", "v (steps)")
    assert bar.get_ylabel() == lines.get_ylabel() == "f"
    along = {line.get_label(): line for line in lines.lines}
    steps = np.linspace(-1, 1, 11)
    for name, direction in (("along u", U), ("along v", V)):
        values = [quadratic(X.detach() + s * direction).item() for s in steps]
        assert_allclose(along[name].get_ydata(), values, rtol=1e-12)
    assert along["along u"].get_linestyle() != along["along v"].get_linestyle()
    star = plane.lines[0]
    assert (list(star.get_xdata()), list(star.get_ydata())) == ([0], [0])
