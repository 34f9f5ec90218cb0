"""The options of ``train`` and ``compare``: each flag, its default and its key in a file, once.

A field here is a flag of the command (``learning_rate`` is ``--learning-rate``) and a key of the
command's table in a configuration file (``learning-rate``).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from ddn_etf._extras import optional_import
from ddn_etf._names import find_named
from ddn_etf.commands.checks import (
    asked_too_much,
    check_gpus,
    check_head_options,
    check_kinds,
    check_loss,
    option_flag,
)
from ddn_etf.errors import FrameSizeError, LabelError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ddn_etf.commands.variants import DataVariant
    from ddn_etf.data import Dataset, DatasetSource
    from ddn_etf.head_options import HeadOptions
    from ddn_etf.methods import Method
    from ddn_etf.models import ModelSource
    from ddn_etf.settings import TrainingSettings

__all__ = ["CompareOptions", "TrainOptions", "TrainingOptions"]


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """What a run is, apart from its head and its seed."""

    command: ClassVar[str]

    dataset: Annotated[str, typer.Option(help="Name of the data set.")] = "digits"
    data_folder: Annotated[
        Path | None, typer.Option(help="Folder with its files; digits needs none.")
    ] = None
    imbalance: Annotated[
        float | None, typer.Option(help="Largest class over smallest, of the train split.")
    ] = None
    imbalance_kind: Annotated[str, typer.Option(help="exponential or step.")] = "exponential"
    label_noise: Annotated[
        float | None, typer.Option(help="Share of the train labels that are made wrong.")
    ] = None
    label_noise_kind: Annotated[str, typer.Option(help="symmetric or asymmetric.")] = "symmetric"
    model: Annotated[str, typer.Option(help="Name of the backbone.")] = "small-convnet"
    dim: Annotated[int, typer.Option(min=1, help="Number of features.")] = 64
    temperature: Annotated[float, typer.Option(help="Length of the features.")] = 5.0
    loss: Annotated[str, typer.Option(help="Name of the loss.")] = "cross-entropy"
    loss_options: Annotated[
        str, typer.Option(help="Numbers of the loss, such as gamma=2, separated by commas.")
    ] = ""
    average: Annotated[
        str,
        typer.Option(
            help="Of the class means, in heads that follow them, as are the next three: exponential, "
            "exponential-per-class or cumulative."
        ),
    ] = "exponential"
    proximal_weight: Annotated[float, typer.Option(help="Pull to the frame of the last step.")] = (
        1e-3
    )
    class_balanced: Annotated[
        bool, typer.Option(help="Centre the means at the mean of the class means.")
    ] = False
    warm_up: Annotated[
        int, typer.Option(min=0, help="Epochs with a learned classifier at the beginning.")
    ] = 0
    epochs: Annotated[int, typer.Option(min=1, help="Passes through the training data.")] = 30
    batch_size: Annotated[
        int, typer.Option(min=2, help="Samples per step, of all devices together.")
    ] = 128
    batches: Annotated[str, typer.Option(help="shuffled or stratified.")] = "shuffled"
    optimizer: Annotated[str, typer.Option(help="sgd, adam or adamw.")] = "sgd"
    learning_rate: Annotated[
        float, typer.Option(help="The same for all heads; Adam wants about 0.001.")
    ] = 0.1
    schedule: Annotated[str, typer.Option(help="Of the learning rate: constant or cosine.")] = (
        "constant"
    )
    momentum: Annotated[float, typer.Option(help="Of the gradient; Adam's first beta.")] = 0.9
    weight_decay: Annotated[float, typer.Option(help="On everything that is trained.")] = 5e-4
    precision: Annotated[str, typer.Option(help="32, bf16-mixed or 16-mixed.")] = "32"
    accelerator: Annotated[str, typer.Option(help="cpu or gpu.")] = "cpu"
    devices: Annotated[int, typer.Option(min=1, help="Processes that share every batch.")] = 1
    strategy: Annotated[str, typer.Option(help="auto or ddp.")] = "auto"
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of PyTorch, per process.")] = 1
    tensorboard: Annotated[bool, typer.Option(help="Also write logs for TensorBoard.")] = False

    def settings(self) -> TrainingSettings:
        """The settings that these options describe.

        Raises:
            ValueError: an unknown name, or a number out of its range.
        """
        from ddn_etf.batches import BATCHES
        from ddn_etf.commands.loss_options import with_loss_options
        from ddn_etf.learning_rates import SCHEDULES
        from ddn_etf.losses import LOSSES
        from ddn_etf.optimizers import find_optimizer
        from ddn_etf.settings import TrainingSettings

        loss = find_named("loss", self.loss, LOSSES, "known losses")
        return TrainingSettings(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            optimizer=find_optimizer(self.optimizer, self.momentum),
            schedule=find_named("schedule", self.schedule, SCHEDULES, "known schedules")(),
            loss=with_loss_options(self.loss, loss, self.loss_options),
            batches=find_named("order of batches", self.batches, BATCHES),
            temperature=self.temperature,
            dim=self.dim,
            precision=self.precision,
            accelerator=self.accelerator,
            devices=self.devices,
            strategy=self.strategy,
            threads=self.threads,
        )

    def methods(self) -> tuple[Method, ...]:
        """The heads, with their options.

        Raises:
            ValueError: an unknown name, or none, or options that the one head does not have.
        """
        raise NotImplementedError

    def head_options(self) -> HeadOptions:
        """What is chosen for heads that follow the class means.

        Raises:
            ValueError: an unknown name, or a number out of its range.
        """
        from ddn_etf.head_options import AVERAGES, HeadOptions

        if self.warm_up >= self.epochs:
            raise ValueError(
                f"--warm-up {self.warm_up} leaves no epoch of --epochs {self.epochs} for the head "
                "itself; warm up for fewer"
            )
        return HeadOptions(
            average=find_named("average", self.average, AVERAGES),
            proximal_weight=self.proximal_weight,
            class_balanced=self.class_balanced,
            warm_up_epochs=self.warm_up,
        )

    def variant(self) -> DataVariant:
        """How the train split is changed.

        Raises:
            ValueError: an unknown name, or a number out of its range.
        """
        from ddn_etf.commands.variants import IMBALANCES, LABEL_NOISES, DataVariant

        imbalance = find_named("kind of imbalance", self.imbalance_kind, IMBALANCES)
        noise = find_named("kind of label noise", self.label_noise_kind, LABEL_NOISES)
        return DataVariant(
            None if self.imbalance is None else imbalance(self.imbalance),
            # No noise is no other data set.
            noise(self.label_noise) if self.label_noise else None,
        )

    def seed_numbers(self) -> tuple[int, ...]:
        """The seeds."""
        raise NotImplementedError

    def check(self) -> None:
        """Find out whether every name and number is good, before anything takes time.

        Raises:
            ValueError: one is not, a head or the loss needs a hierarchy that the data set does not
                have, a kind is chosen of what is not asked for, or the machine has too few GPUs.
            MissingDependencyError: TensorBoard is asked for and missing.
        """
        from ddn_etf.batches import check_seed
        from ddn_etf.methods import check_hierarchy

        methods, source = self.methods(), self._source()
        check_kinds(self)
        for seed in self.seed_numbers():
            check_seed(seed)
        check_hierarchy(methods, source.name, has_hierarchy=source.has_hierarchy)
        check_loss(self, source)
        self._model()
        self.variant()
        if self.accelerator == "gpu":
            check_gpus(self.devices)
        if self.tensorboard:
            with optional_import("tensorboard", "A log for TensorBoard"):
                importlib.import_module("tensorboard")

    def notes(self) -> list[str]:
        """What these options say in vain."""
        notes = []
        if self.data_folder is not None and not self._source().needs_files:
            notes.append(
                f"the data set {self.dataset!r} needs no files; the data folder is not looked at"
            )
        changed = self.head_options().changed()
        without = [each.name for each in self.methods() if not each.follows_means]
        if changed and without:
            notes.append(
                f"{', '.join(map(option_flag, changed))}: only for heads that follow the class means, "
                f"not for {', '.join(without)}"
            )
        return notes

    def load_data(self) -> Dataset:
        """Read the data set, change its train split, and see that all the rest goes with it.

        Raises:
            ValueError: the data set needs a folder, its inputs are none of the backbone's, a head
                needs more features for that many classes, or a class would be left without samples.
            BatchSizeError: a batch is larger than the train split.
        """
        import torch

        source = self._source()
        if source.needs_files and self.data_folder is None:
            raise ValueError(
                f"the data set {source.name!r} is read from files: give the folder that holds them "
                "with --data-folder"
            )
        dataset = source.load(self.data_folder)
        with asked_too_much(LabelError):
            dataset = self.variant().of(dataset)
        # Without memory and without random numbers.
        with torch.device("meta"):
            self.backbone(dataset)(self.dim)
        with torch.random.fork_rng(devices=[]), asked_too_much(FrameSizeError):
            for method in self.methods():
                method.build(
                    self.dim,
                    dataset.num_classes,
                    self.temperature,
                    distances=dataset.class_distances,
                    steps_per_epoch=1,
                )
        self.settings().batches.build(dataset.train_labels, self.batch_size, 0)
        return dataset

    def backbone(self, dataset: Dataset) -> Callable[[int], nn.Module]:
        """dim -> network for the inputs of a data set."""
        model = self._model()
        return lambda dim: model.build(dim, dataset.input_shape)

    def device(self) -> torch.device:
        """Where one process computes."""
        import torch

        if self.accelerator == "cpu":
            return torch.device("cpu")
        return torch.device("cuda" if torch.cuda.is_available() else "mps")

    def _source(self) -> DatasetSource:
        from ddn_etf.data import DATASETS

        return find_named("data set", self.dataset, DATASETS)

    def _model(self) -> ModelSource:
        from ddn_etf.models import MODELS

        return find_named("backbone", self.model, MODELS)


@dataclass(frozen=True, kw_only=True)
class TrainOptions(TrainingOptions):
    """One run."""

    command: ClassVar[str] = "train"

    head: Annotated[
        str, typer.Option(help="Name of the head, for example linear or fixed-etf.")
    ] = "nearest-etf"
    seed: Annotated[int, typer.Option(min=0, help="Decides everything that is random.")] = 0

    def methods(self) -> tuple[Method, ...]:
        """The one head."""
        from ddn_etf.methods import find_method

        method, options = find_method(self.head), self.head_options()
        check_head_options((method,), options)
        return (method.with_options(options),)

    def seed_numbers(self) -> tuple[int, ...]:
        """The one seed."""
        return (self.seed,)


@dataclass(frozen=True, kw_only=True)
class CompareOptions(TrainingOptions):
    """Several heads with several seeds."""

    command: ClassVar[str] = "compare"

    heads: Annotated[str, typer.Option(help="Heads to compare, separated by commas.")] = (
        "linear,fixed-etf,nearest-etf"
    )
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds: 0, 1, ...")] = 3

    def head_names(self) -> list[str]:
        """The heads, in the order given."""
        return [name.strip() for name in self.heads.split(",") if name.strip()]

    def methods(self) -> tuple[Method, ...]:
        """The heads, in the order given, with the options that each of them has."""
        from ddn_etf.methods import find_methods

        options = self.head_options()
        return tuple(
            method.with_options(options) if method.follows_means else method
            for method in find_methods(self.head_names())
        )

    def check(self) -> None:
        """As for one run; options that none of the heads has are a mistake as well."""
        check_head_options(self.methods(), self.head_options())
        super().check()

    def seed_numbers(self) -> tuple[int, ...]:
        """0, 1, ..."""
        return tuple(range(self.seeds))
