"""What a trained classifier makes of whole splits: features, logits and all metrics."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ddn_etf.classifier import Classifier, measure
from ddn_etf.data import Dataset
from ddn_etf.history import csv_text

__all__ = ["Evaluation", "SplitOutput", "evaluate", "evaluation_csv", "evaluation_json"]

_BATCH = 512


@dataclass(frozen=True, eq=False)
class SplitOutput:
    """One split as the classifier sees it.

    Attributes:
        h: (N, d), what the weight is multiplied with.
        logits: (N, K).
        labels: (N,).
        values: of :func:`ddn_etf.classifier.measure`.
    """

    h: Tensor
    logits: Tensor
    labels: Tensor
    values: dict[str, float]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Both splits, and the classifier.

    Attributes:
        head: name of the method.
        seed: of the run.
        epochs: how long it was trained.
        weight: W, (K, d).
        bias: b, (K,).
        splits: ``train`` and ``test``.
    """

    head: str
    seed: int
    epochs: int
    weight: Tensor
    bias: Tensor
    splits: dict[str, SplitOutput]


@torch.no_grad()
def evaluate(classifier: Classifier, dataset: Dataset) -> Evaluation:
    """Run both splits through a classifier in evaluation mode and measure everything.

    Args:
        classifier: from :func:`ddn_etf.training.train` or
            :func:`ddn_etf.training.load_classifier`.
        dataset: train and test split; with a hierarchy, mistakes are measured in it.

    Returns:
        Tensors on the CPU.
    """
    classifier.eval()
    head = classifier.head
    splits = {}
    for split, data in (("train", dataset.train_split), ("test", dataset.test_split)):
        labels, device = data.labels, head.weight.device
        batches = torch.arange(len(data)).split(_BATCH)
        features = torch.cat(
            [classifier.backbone(data[batch.tolist()][0].to(device)) for batch in batches]
        )
        output = head.outputs(features)
        values = measure(
            head, features, labels.to(device), classifier.settings.loss, dataset.class_distances
        )
        splits[split] = SplitOutput(output.h.cpu(), output.logits.cpu(), labels.cpu(), values)
    return Evaluation(
        classifier.name,
        classifier.seed,
        len(classifier.history),
        head.weight.detach().cpu(),
        head.bias.detach().cpu(),
        splits,
    )


def evaluation_csv(evaluation: Evaluation) -> str:
    """One row per split and quantity; numbers are written without rounding."""
    rows = [
        (evaluation.head, evaluation.seed, evaluation.epochs, split, name, repr(value))
        for split, output in evaluation.splits.items()
        for name, value in output.values.items()
    ]
    return csv_text(("head", "seed", "epochs", "split", "quantity", "value"), rows)


def evaluation_json(evaluation: Evaluation) -> str:
    """The same as JSON: head, seed, epochs, and the values by split and quantity; null if not finite."""
    content = {
        "head": evaluation.head,
        "seed": evaluation.seed,
        "epochs": evaluation.epochs,
        "values": {
            split: {
                name: value if math.isfinite(value) else None
                for name, value in output.values.items()
            }
            for split, output in evaluation.splits.items()
        },
    }
    return json.dumps(content, indent=2) + "\n"
