"""Which figures a report shows, and what they say in words."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddn_etf.classifier import Snapshot
from ddn_etf.compare import Comparison, over_seeds, summarize
from ddn_etf.evaluation import Evaluation
from ddn_etf.figures import (
    animation_gif,
    comparison_figure,
    confusion_matrix,
    cosine_margin_figure,
    cosines,
    frame_animation,
    gram_figure,
    hierarchy_confusion_figure,
    png,
)
from ddn_etf.metrics import SplitStatistics, cosine_margins

__all__ = ["Evidence", "ReportFigure", "report_figures"]

_LARGEST_CONFUSION = 64
"""More classes than this and the names of a confusion matrix cannot be read."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What one trained classifier left behind for the figures.

    Attributes:
        evaluation: both splits as the classifier sees them.
        snapshots: class means and classifier epoch by epoch; there may be none.
    """

    evaluation: Evaluation
    snapshots: tuple[Snapshot, ...] = ()


@dataclass(frozen=True, eq=False)
class ReportFigure:
    """One figure of a report.

    Attributes:
        name: of its file, with ``.png`` or ``.gif``.
        title: above it.
        caption: below it: what is drawn.
        alternative: what it shows, in words and numbers, for those who do not see it.
        content: of the file.
    """

    name: str
    title: str
    caption: str
    alternative: str
    content: bytes

    @property
    def kind(self) -> str:
        """``png`` or ``gif``."""
        return self.name.rpartition(".")[2]

    @property
    def encoded(self) -> str:
        """The content in base 64, to be embedded in a page."""
        return base64.b64encode(self.content).decode()


def report_figures(
    comparison: Comparison,
    evidence: Mapping[str, Evidence] | None = None,
    *,
    class_distances: Tensor | None = None,
    class_names: Sequence[str] | None = None,
) -> list[ReportFigure]:
    """The figures of a report, in order.

    Args:
        comparison: the outcome of all runs.
        evidence: by method name, of one seed; without it there is only the figure of what was
            measured against the epoch.
        class_distances: between classes in their hierarchy, (K, K). Without it the tree beside the
            confusion matrix is that of the class means.
        class_names: for the confusion matrix; the numbers of the classes by default.
    """
    found = [_curves(comparison)]
    if not evidence:
        return found
    titles = {method.name: method.title for method in comparison.methods}
    named = {titles[name]: each for name, each in evidence.items() if name in titles}
    found += [_margins(named), _grams(named)]
    for number, (name, each) in enumerate(named.items()):
        found += _animation(name, each, number)
    name, each = list(named.items())[-1]
    found += _confusion(name, each.evaluation, class_distances, class_names)
    return found


def _curves(comparison: Comparison) -> ReportFigure:
    words = []
    for method in comparison.methods:
        end = summarize(comparison)[method.name]
        words.append(
            f"{method.title} ends at {end['test_accuracy'].median:.1f} % test accuracy, train loss "
            f"{end['train_loss'].median:.3g}, NC1 {end['train_NC1'].median:.3g}, NC2 "
            f"{end['train_NC2'].median:.3g} and NC3 {end['train_NC3'].median:.3g}"
        )
    return ReportFigure(
        "metrics.png",
        "Against the epoch",
        f"Loss, accuracy, NC1, NC2 and NC3 after every epoch: {over_seeds(comparison)}, range "
        "shaded; train split solid, test split dashed.",
        "Line charts against the epoch. " + "; ".join(words) + ".",
        png(comparison_figure(comparison)),
    )


def _margins(named: Mapping[str, Evidence]) -> ReportFigure:
    margins = {
        name: cosine_margins(_statistics(each.evaluation), each.evaluation.weight)
        for name, each in named.items()
    }
    words = [
        f"{name}: median {values.median():.3f}, smallest {values.min():.3f}, "
        f"{100 * (values < 0).double().mean():.1f} % below zero"
        for name, values in margins.items()
    ]
    num_classes = len(next(iter(named.values())).evaluation.weight)
    return ReportFigure(
        "cosine_margins.png",
        "Cosine margins",
        f"Sorted cosine margins of the train split, one curve per head, {_seed(named)}. Collapse "
        "would put every sample on the dotted line K/(K\N{MINUS SIGN}1).",
        "Sorted cosine margins. " + "; ".join(words) + ".",
        png(cosine_margin_figure(margins, num_classes)),
    )


def _grams(named: Mapping[str, Evidence]) -> ReportFigure:
    pairs = {
        name: (_statistics(each.evaluation).deviations.mT, each.evaluation.weight)
        for name, each in named.items()
    }
    return ReportFigure(
        "gram_matrices.png",
        "Gram matrices",
        "Cosines between the class means of the train split, between the rows of the classifier, "
        f"and between the two, all centred, {_seed(named)}. The titles give the mean and the range "
        "beside the diagonal.",
        "Matrices of cosines for " + ", ".join(named) + "; the numbers are in their titles.",
        png(gram_figure(pairs)),
    )


def _animation(name: str, evidence: Evidence, number: int) -> list[ReportFigure]:
    snapshots = evidence.snapshots
    if not snapshots or len(snapshots[-1].weight) < 3 or snapshots[-1].weight.shape[1] < 2:
        return []
    # A GIF of many frames is large and slow: at most forty, evenly spread, with first and last.
    count = min(40, len(snapshots))
    chosen = [snapshots[round(k)] for k in torch.linspace(0, len(snapshots) - 1, count).tolist()]
    animation = frame_animation(chosen, name=f"{name}, ")
    return [
        ReportFigure(
            f"frame_{evidence.evaluation.head}.gif",
            f"Class means on their way: {name}",
            f"Class means of the train split (dots) and classifier (lines) after {count} of "
            f"{len(snapshots)} epochs, projected so that a simplex ETF is a regular polygon; seed "
            f"{evidence.evaluation.seed}.",
            f"Animation of {name}: dots, one per class, and lines from the centre. The mean cosine "
            f"between a class mean and its row of the classifier goes from "
            f"{_alignment(snapshots[0]):.3f} to {_alignment(snapshots[-1]):.3f}.",
            animation_gif(animation),
        )
    ]


def _alignment(snapshot: Snapshot) -> float:
    return float(cosines(snapshot.means, snapshot.weight).diagonal().mean())


def _confusion(
    name: str,
    evaluation: Evaluation,
    distances: Tensor | None,
    class_names: Sequence[str] | None,
) -> list[ReportFigure]:
    test = evaluation.splits["test"]
    if len(evaluation.weight) > _LARGEST_CONFUSION:
        return []
    names = list(map(str, range(len(evaluation.weight)))) if class_names is None else class_names
    unit = "distance in the hierarchy"
    if distances is None:
        unit = "distance of class means"
        means = _statistics(evaluation).deviations.mT
        distances = torch.cdist(means, means)
        distances = ((distances + distances.mT) / 2).fill_diagonal_(0)
    counts = confusion_matrix(test.logits, test.labels)
    errors = counts.clone().fill_diagonal_(0)
    largest = divmod(int(errors.argmax()), len(errors))
    words = (
        f"most often, class {names[largest[0]]} is taken for class {names[largest[1]]} "
        f"({int(errors.max())} times)"
        if errors.any()
        else "there is no error"
    )
    return [
        ReportFigure(
            "confusion.png",
            f"Errors and the tree of the classes: {name}",
            f"Confusion matrix of the test split in the order of a tree ({unit}, average linkage), "
            f"seed {evaluation.seed}; numbers are samples.",
            f"Confusion matrix with {int(errors.sum())} errors among {len(test.labels)} samples; "
            f"{words}.",
            png(
                hierarchy_confusion_figure(
                    distances, test.logits, test.labels, names=names, distance=unit
                )
            ),
        )
    ]


def _statistics(evaluation: Evaluation) -> SplitStatistics:
    train = evaluation.splits["train"]
    return SplitStatistics.from_features(train.h, train.labels, len(evaluation.weight))


def _seed(named: Mapping[str, Evidence]) -> str:
    seeds = sorted({each.evaluation.seed for each in named.values()})
    return "seed " + ", ".join(map(str, seeds))
