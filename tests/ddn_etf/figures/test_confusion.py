from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.cluster.hierarchy import cophenet
from scipy.spatial.distance import squareform
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix

from ddn_etf.figures import class_tree, confusion_matrix, hierarchy_confusion_figure

# Classes 0 and 2 are siblings, and so are 1 and 3.
D = torch.tensor([[0, 2, 1, 2], [2, 0, 2, 1], [1, 2, 0, 2], [2, 1, 2, 0]], dtype=torch.float64)


@pytest.fixture
def predictions():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (200,), generator=generator)
    logits = torch.randn(200, 4, generator=generator)
    logits[torch.arange(200), labels] += 2
    return logits, labels


def test_counts_are_those_of_scikit_learn(predictions):
    logits, labels = predictions
    expected = sklearn_confusion_matrix(labels, logits.argmax(1))
    assert_array_equal(confusion_matrix(logits, labels), expected)


def test_a_class_that_nobody_predicts_keeps_its_column():
    counts = confusion_matrix(torch.tensor([[1.0, 0, 0]]), torch.tensor([1]))
    assert_array_equal(counts, [[0, 0, 0], [1, 0, 0], [0, 0, 0]])


def test_the_tree_gives_an_ultrametric_back():
    assert_allclose(squareform(cophenet(class_tree(D))), D)


@pytest.mark.parametrize(
    ("distances", "message"),
    [
        (torch.ones(2, 3), "shape"),
        (torch.zeros(1, 1), "K >= 2"),
        (-D, "not negative"),
        (D + torch.eye(4), "zeros on the diagonal"),
        (D.triu(), "symmetric"),
        (D * torch.nan, "finite"),
    ],
)
def test_what_is_no_distance(distances, message):
    with pytest.raises(ValueError, match=message):
        class_tree(distances)


def test_the_matrix_is_in_the_order_of_the_tree_and_shows_shares(predictions):
    logits, labels = predictions
    names = ["a", "b", "c", "d"]
    figure = hierarchy_confusion_figure(D, logits, labels, names=names, distance="height")
    tree, matrix, bar = figure.axes
    order = [text.get_text() for text in matrix.get_yticklabels()]
    assert order == [text.get_text() for text in matrix.get_xticklabels()]
    assert {frozenset(order[:2]), frozenset(order[2:])} == {frozenset("ac"), frozenset("bd")}
    counts = sklearn_confusion_matrix(labels, logits.argmax(1))
    shares = 100 * counts / counts.sum(1, keepdims=True)
    drawn = np.ma.filled(np.ma.asarray(matrix.images[0].get_array(), dtype=float), np.nan)
    for i, row in enumerate(order):
        for j, column in enumerate(order):
            if i == j:
                assert np.isnan(drawn[i, j])
            else:
                expected = shares[names.index(row), names.index(column)]
                assert drawn[i, j] == pytest.approx(expected, rel=1e-5)
    written = {
        (round(text.get_position()[1]), round(text.get_position()[0])): int(text.get_text())
        for text in matrix.texts
    }
    for (i, j), count in written.items():
        assert count == counts[names.index(order[i]), names.index(order[j])]
    assert sum(written.values()) == 200
    assert tree.get_xlabel() == "height"
    assert bar.get_ylabel().endswith("(%)")
    assert f"{200 - counts.trace()} of 200" in matrix.get_title(loc="left")


def test_the_leaves_of_the_tree_are_beside_their_rows(predictions):
    figure = hierarchy_confusion_figure(D, *predictions)
    tree, matrix, _ = figure.axes
    figure.draw_without_rendering()
    # A leaf of a dendrogram is at 5, 15, 25, ... of its axis; the rows are at 0, 1, 2, ...
    for k in range(4):
        leaf = tree.transData.transform((0, 5 + 10 * k))[1]
        row = matrix.transData.transform((0, k))[1]
        assert leaf == pytest.approx(row, abs=1.0)


def test_many_classes_have_no_numbers_and_no_error_is_no_problem():
    K = 25
    figure = hierarchy_confusion_figure(1 - torch.eye(K), torch.eye(K), torch.arange(K))
    assert not figure.axes[1].texts
    assert "0 of 25" in figure.axes[1].get_title(loc="left")
