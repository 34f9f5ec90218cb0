from __future__ import annotations

import io
from dataclasses import replace

import pytest
import torch
from PIL import Image

from ddn_etf.compare import summarize
from ddn_etf.evaluation import evaluate
from ddn_etf.figures import confusion_matrix
from ddn_etf.metrics import neural_collapse
from ddn_etf.report_figures import Evidence, report_figures
from ddn_etf.training import train


@pytest.fixture(scope="module")
def evidence(comparison, small_digits, quick):
    found = {}
    for method in comparison.methods[::2]:
        classifier = train(method, 0, small_digits, quick)
        found[method.name] = Evidence(
            evaluate(classifier, small_digits), tuple(classifier.snapshots)
        )
    return found


@pytest.fixture(scope="module")
def figures(comparison, evidence):
    return {figure.name: figure for figure in report_figures(comparison, evidence)}


def test_names_and_kinds(figures):
    assert list(figures) == [
        "metrics.png",
        "cosine_margins.png",
        "gram_matrices.png",
        "frame_linear.gif",
        "frame_nearest-etf.gif",
        "confusion.png",
    ]
    for figure in figures.values():
        image = Image.open(io.BytesIO(figure.content))
        assert image.format.lower() == figure.kind
        assert figure.title
        assert figure.caption.endswith(".")
    assert Image.open(io.BytesIO(figures["frame_linear.gif"].content)).n_frames == 2


def test_alternatives_hold_the_numbers(figures, comparison, evidence):
    summary = summarize(comparison)["linear"]
    assert (
        f"learned ends at {summary['test_accuracy'].median:.1f} % test accuracy"
        in figures["metrics.png"].alternative
    )
    nearest = evidence["nearest-etf"].evaluation
    train_split, test = nearest.splits["train"], nearest.splits["test"]
    margins = neural_collapse(train_split.h, train_split.labels, nearest.weight)["cosine_margins"]
    assert (
        f"nearest ETF: median {margins.median():.3f}, smallest {margins.min():.3f}"
        in figures["cosine_margins.png"].alternative
    )
    counts = confusion_matrix(test.logits, test.labels)
    errors = int(counts.sum() - counts.diagonal().sum())
    assert f"with {errors} errors among 100 samples" in figures["confusion.png"].alternative


def test_without_trained_classifiers_there_is_one_figure(comparison):
    assert [figure.name for figure in report_figures(comparison)] == ["metrics.png"]


def test_without_snapshots_nothing_moves_and_the_tree_of_a_hierarchy_is_named(comparison, evidence):
    bare = {"linear": replace(evidence["linear"], snapshots=())}
    names = [f"digit {k}" for k in range(10)]
    figures = report_figures(comparison, bare, class_distances=1 - torch.eye(10), class_names=names)
    assert not any(figure.kind == "gif" for figure in figures)
    assert "distance in the hierarchy" in figures[-1].caption
    assert "class digit " in figures[-1].alternative
