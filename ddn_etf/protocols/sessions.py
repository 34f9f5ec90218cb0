"""Few-shot class-incremental learning: a large base session, then a few samples of new classes.

All sessions share one numbering of the classes, base classes first, so that one frame over base and
future classes serves them all; a prediction is made among the classes seen so far.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddn.errors import ShapeError
from ddn_etf.data import Dataset, LabelledInputs
from ddn_etf.data._draws import seeded_generator
from ddn_etf.data.dataset import LazyInputs, check_dataset
from ddn_etf.errors import FeatureError, LabelError
from ddn_etf.validation import check_count, check_floating

__all__ = ["Session", "few_shot_sessions", "predict_seen"]


@dataclass(frozen=True, eq=False)
class Session:
    """What arrives at one time, and what is tested then.

    Attributes:
        new_classes: the classes of ``train``.
        seen_classes: those and all before; 0, ..., n-1.
        train: samples of the new classes.
        test: test samples of all classes seen.
    """

    new_classes: tuple[int, ...]
    seen_classes: tuple[int, ...]
    train: LabelledInputs
    test: LabelledInputs


def few_shot_sessions(
    dataset: Dataset, *, base: int, way: int, shot: int, seed: int = 0
) -> list[Session]:
    """Session 0 has all train samples of the first classes; every later one few of the next classes.

    Tao, Hong, Chang, Dong, Wei and Gong, "Few-Shot Class-Incremental Learning" (2020): CIFAR-100 with
    base = 60, way = 5 and shot = 5 has 9 sessions.

    Args:
        dataset: all classes; classes are taken in the order of their numbers.
        base: classes of session 0, >= 1.
        way: new classes of every later session, >= 1; divides K - base.
        shot: train samples of each of them, >= 1.
        seed: of the choice of these samples, >= 0.

    Raises:
        TypeError: a number is not an integer, or no data set.
        ValueError: a number is below 1, or ``way`` does not divide K - base.
        LabelError: a class has fewer than ``shot`` train samples.
    """
    check_dataset(dataset)
    for name, value in (("base", base), ("way", way), ("shot", shot)):
        check_count(name, value, 1)
    K = dataset.num_classes
    if base > K or (K - base) % way:
        raise ValueError(
            f"{K} classes cannot be divided into {base} base classes and sessions of {way}; choose "
            f"base <= {K} and way so that it divides the rest"
        )
    order = torch.randperm(
        len(dataset.train_labels), generator=seeded_generator(seed), device="cpu"
    ).to(dataset.train_labels.device)
    labels = dataset.train_labels[order]
    sessions = []
    for first, last in [(0, base), *((k, k + way) for k in range(base, K, way))]:
        if first == 0:
            train = torch.nonzero(dataset.train_labels < base).flatten()
        else:
            train = torch.cat([_few(order[labels == k], k, shot) for k in range(first, last)])
        test = torch.nonzero(dataset.test_labels < last).flatten()
        sessions.append(
            Session(
                tuple(range(first, last)),
                tuple(range(last)),
                _part(dataset.train_inputs, dataset.train_labels, train),
                _part(dataset.test_inputs, dataset.test_labels, test),
            )
        )
    return sessions


def predict_seen(logits: Tensor, session: Session) -> Tensor:
    """argmax_k z_k over the classes seen so far.

    Args:
        logits: z, (N, K), over all classes.
        session: whose classes count.

    Returns:
        (N,), int64.

    Raises:
        TypeError: no session.
        ShapeError: not (N, K) with room for every class seen.
        DtypeError: not floating point.
        FeatureError: NaN; names the first such row.
    """
    if not isinstance(session, Session):
        raise TypeError(f"session must be a Session of few_shot_sessions, found {session!r}")
    check_floating("logits", logits)
    if logits.ndim != 2 or logits.shape[1] < len(session.seen_classes):
        raise ShapeError(
            f"logits must be (N, K) with K >= {len(session.seen_classes)}, found "
            f"{tuple(logits.shape)}"
        )
    seen = logits[:, : len(session.seen_classes)]
    undefined = torch.nonzero(seen.isnan().any(dim=1)).flatten()
    if len(undefined):
        raise FeatureError(f"logits hold NaN, first in row {int(undefined[0])}")
    return seen.argmax(dim=1)


def _few(members: Tensor, label: int, shot: int) -> Tensor:
    if len(members) < shot:
        raise LabelError(
            f"class {label} has {len(members)} train samples, fewer than shot = {shot}"
        )
    return members[:shot]


def _part(inputs: Tensor | LazyInputs, labels: Tensor, indices: Tensor) -> LabelledInputs:
    part = inputs[indices] if isinstance(inputs, Tensor) else inputs.select(indices.tolist())
    return LabelledInputs(part, labels[indices])
