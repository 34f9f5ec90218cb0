"""A classification set, split once into train and test, in a fixed order.

A :class:`Dataset` says nothing about batches or shuffling; the order of the samples in training is
decided in :mod:`ddn_etf.batches`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from ddn.errors import DtypeError, ShapeError
from ddn_etf.data._naming import fingerprint
from ddn_etf.errors import LabelError
from ddn_etf.hierarchy.errors import HierarchyError
from ddn_etf.hierarchy.tree import Hierarchy
from ddn_etf.validation import check_count, check_floating, class_labels

__all__ = ["Dataset", "LabelledInputs", "LazyInputs", "check_dataset"]


class LazyInputs(Protocol):
    r"""Inputs that are read when they are asked for, for sets that do not fit in memory.

    They are indexed as a tensor (N, \*input_shape) is along its first dimension:
    ``inputs[3]`` is one input and ``inputs[[3, 1]]`` a stack of two.
    :class:`ddn_etf.data.ImageFiles` is one such class.
    """

    @property
    def shape(self) -> torch.Size:
        r"""(N, \*input_shape)."""
        ...

    def __len__(self) -> int:
        """N."""
        ...

    def __getitem__(self, index: Any) -> Tensor:
        """One input for an integer, a stack of inputs for a sequence of integers."""
        ...

    def select(self, indices: Sequence[int]) -> LazyInputs:
        """These inputs alone, in this order, still unread."""
        ...


class LabelledInputs(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """One split as a :class:`torch.utils.data.DataLoader` wants it: ``split[i]`` is (input, label).

    An index may be a list, so that a sampler that yields lists fetches whole batches at once, with
    ``DataLoader(split, sampler=batches, batch_size=None)``.

    Attributes:
        inputs: a tensor, or inputs that are read when they are asked for.
        labels: (N,), int64.
    """

    def __init__(self, inputs: Tensor | LazyInputs, labels: Tensor) -> None:
        self.inputs, self.labels = inputs, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Any) -> tuple[Tensor, Tensor]:
        return self.inputs[index], self.labels[index]


@dataclass(frozen=True, eq=False)
class Dataset:
    r"""A classification set split into train and test.

    Attributes:
        name: what the reports call it. A run is that of a set of this name: give another set
            another name.
        num_classes: K; labels are 0, ..., K-1.
        train_inputs: (N, \*input_shape), floating point; a tensor, or :class:`LazyInputs`.
        train_labels: (N,), int64; other integers are converted.
        test_inputs: (M, \*input_shape).
        test_labels: (M,), int64, likewise.
        hierarchy: how the classes are related, its leaf k being class k; None if nothing is known.

    Raises:
        TypeError: the name is no text, K not an integer, or the hierarchy none.
        DtypeError: inputs are not floating point, or labels are not integers.
        ShapeError: inputs and labels of a split differ in length, or the splits in input shape.
        LabelError: a split is empty, or a label lies outside 0, ..., K-1.
        HierarchyError: the hierarchy has more or fewer leaves than there are classes.
    """

    name: str
    num_classes: int
    train_inputs: Tensor | LazyInputs
    train_labels: Tensor
    test_inputs: Tensor | LazyInputs
    test_labels: Tensor
    hierarchy: Hierarchy | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"name must be a text, found {self.name!r}")
        check_count("num_classes", self.num_classes, 1)
        if not isinstance(self.hierarchy, Hierarchy | None):
            raise TypeError(
                f"{self.name}: hierarchy must be a Hierarchy or None, found "
                f"{type(self.hierarchy).__name__}; make one with Hierarchy.from_mapping, say"
            )
        for name in ("train_labels", "test_labels"):
            labels = class_labels(f"{self.name}: {name}", getattr(self, name))
            if labels.ndim != 1:
                raise ShapeError(
                    f"{self.name}: {name} must have shape (N,), one class index per input, found "
                    f"{tuple(labels.shape)}"
                )
            object.__setattr__(self, name, labels)
        for name in ("train_inputs", "test_inputs"):
            inputs = getattr(self, name)
            # What can select is no array in memory.
            if isinstance(inputs, Tensor) or not hasattr(inputs, "select"):
                check_floating(f"{self.name}: {name}", inputs)
            if len(inputs.shape) == 0:
                raise ShapeError(f"{self.name}: {name} must have shape (N, ...), found ()")
        splits = {
            "train": (self.train_inputs, self.train_labels),
            "test": (self.test_inputs, self.test_labels),
        }
        for split, (inputs, labels) in splits.items():
            if len(inputs) != len(labels):
                raise ShapeError(
                    f"{self.name}: the {split} split has {len(inputs)} inputs but {len(labels)} "
                    "labels; give one label per input"
                )
            if len(labels) == 0:
                raise LabelError(f"{self.name}: the {split} split is empty")
            low, high = int(labels.min()), int(labels.max())
            if low < 0 or high >= self.num_classes:
                raise LabelError(
                    f"{self.name}: {split} labels run from {low} to {high}; with num_classes = "
                    f"{self.num_classes} they must lie in 0, ..., {self.num_classes - 1}"
                )
        if self.train_inputs.shape[1:] != self.test_inputs.shape[1:]:
            raise ShapeError(
                f"{self.name}: train inputs have shape {tuple(self.train_inputs.shape[1:])}, test "
                f"inputs {tuple(self.test_inputs.shape[1:])}; both splits need the same shape"
            )
        if self.hierarchy is not None and self.hierarchy.num_classes != self.num_classes:
            raise HierarchyError(
                f"{self.name}: the hierarchy has {self.hierarchy.num_classes} leaves and the set "
                f"{self.num_classes} classes; give a tree with one leaf per class, in the order of "
                "the labels (Hierarchy.select), or hierarchy=None"
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, for example (1, 8, 8): channels, height, width."""
        return tuple(self.train_inputs.shape[1:])

    @property
    def class_distances(self) -> Tensor | None:
        """D of the hierarchy, (K, K) float64; None if there is no hierarchy."""
        return None if self.hierarchy is None else self.hierarchy.distances

    @property
    def train_split(self) -> LabelledInputs:
        """Train inputs with their labels, for a data loader."""
        return LabelledInputs(self.train_inputs, self.train_labels)

    @property
    def test_split(self) -> LabelledInputs:
        """Test inputs with their labels, for a data loader."""
        return LabelledInputs(self.test_inputs, self.test_labels)

    @property
    def train_counts(self) -> list[int]:
        """Train samples of each class."""
        counts: list[int] = torch.bincount(self.train_labels, minlength=self.num_classes).tolist()
        return counts

    def select_train(self, indices: Tensor, *, name: str | None = None) -> Dataset:
        """These train samples alone, in this order; the test split as it is.

        Args:
            indices: integers in 0, ..., N-1, (n,).
            name: of the new set. If not given, a fingerprint of the indices tells it from others:
                ``"digits, 60 of 1347 train samples (e7466545)"``.

        Raises:
            DtypeError: not integers.
            ShapeError: not a vector.
            IndexError: an index is out of range.
            LabelError: no index.
        """
        if not isinstance(indices, Tensor):
            raise DtypeError(
                f"indices must be a tensor of integers, found {type(indices).__name__}; convert "
                "with torch.as_tensor()"
            )
        if indices.dtype == torch.bool or indices.is_floating_point() or indices.is_complex():
            raise DtypeError(
                f"indices must be integers, found {indices.dtype}; of a mask, torch.nonzero(mask)"
                ".flatten() are the indices"
            )
        if indices.ndim != 1:
            raise ShapeError(f"indices must have shape (n,), found {tuple(indices.shape)}")
        indices = indices.long()
        if len(indices):
            low, high = int(indices.min()), int(indices.max())
            if low < 0 or high >= len(self.train_labels):
                raise IndexError(
                    f"indices run from {low} to {high}, but {self.name} has "
                    f"{len(self.train_labels)} train samples"
                )
        chosen = (
            self.train_inputs[indices]
            if isinstance(self.train_inputs, Tensor)
            else self.train_inputs.select(indices.tolist())
        )
        if name is None:
            some = f"{len(indices)} of {len(self.train_labels)}"
            name = f"{self.name}, {some} train samples ({fingerprint(indices)})"
        return replace(
            self, name=name, train_inputs=chosen, train_labels=self.train_labels[indices]
        )

    def relabel_train(self, labels: Tensor, *, name: str | None = None) -> Dataset:
        """The same samples with other train labels.

        Args:
            labels: (N,), integers in 0, ..., K-1.
            name: of the new set. If not given, a fingerprint of the labels tells it from others:
                ``"digits, relabelled (4be17a70)"``.

        Raises:
            DtypeError: not integers.
            ShapeError: not one label per train sample.
            LabelError: a label is out of range.
        """
        labels = class_labels("labels", labels)
        if name is None:
            name = f"{self.name}, relabelled ({fingerprint(labels)})"
        return replace(self, name=name, train_labels=labels)


def check_dataset(value: object) -> None:
    """Check that a data set is one, and not the function that makes it.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(value, Dataset):
        call = "; call it: digits(), say" if callable(value) else ""
        raise TypeError(f"dataset must be a Dataset, found {value!r}{call}")
