from __future__ import annotations

import numpy as np
import torch
from numpy.testing import assert_allclose

from ddn_etf.figures import cosines, gram_figure
from ddn_etf.frames import simplex_etf


def test_cosines_are_those_of_numpy():
    generator = torch.Generator().manual_seed(0)
    A, B = (torch.randn(5, 7, generator=generator, dtype=torch.float64) for _ in range(2))
    a, b = (X.numpy() - X.numpy().mean(0) for X in (A, B))
    expected = a @ b.T / np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))
    assert_allclose(cosines(A, B).numpy(), expected, atol=1e-14)


def test_a_row_at_the_mean_has_cosine_zero():
    rows = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
    assert_allclose(cosines(rows, rows).numpy(), [[1, -1, 0], [-1, 1, 0], [0, 0, 0]])


def test_the_matrices_that_are_drawn():
    means, weight = torch.randn(4, 6), simplex_etf(4, 6)
    figure = gram_figure({"first": (means, weight), "second": (2 * weight, weight)})
    *panels, bar = figure.axes
    assert len(panels) == 6
    drawn = [np.asarray(axes.images[0].get_array()) for axes in panels]
    assert_allclose(drawn[0], cosines(means, means), atol=1e-12)
    assert_allclose(drawn[2], cosines(weight, means), atol=1e-12)
    for matrix in (drawn[1], *drawn[3:]):
        assert_allclose(matrix, (4 * np.eye(4) - 1) / 3, atol=1e-6)
    assert panels[3].get_title(loc="left") == (
        "second: class means\n-0.333 [-0.333, -0.333] (ETF: -0.333)"
    )
    assert {axes.images[0].get_clim() for axes in panels} == {(-1, 1)}
    assert all((a.get_xlabel(), a.get_ylabel()) == ("class", "class") for a in panels)
    assert bar.get_ylabel() == "cosine"
