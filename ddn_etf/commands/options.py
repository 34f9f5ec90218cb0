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

if TYPE_CHECKING:
    from torch import nn

    from ddn_etf.data import Dataset
    from ddn_etf.methods import Method
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
    model: Annotated[str, typer.Option(help="Name of the backbone.")] = "small-convnet"
    dim: Annotated[int, typer.Option(min=1, help="Number of features.")] = 64
    temperature: Annotated[float, typer.Option(help="Length of the features.")] = 5.0
    loss: Annotated[str, typer.Option(help="Name of the loss.")] = "cross-entropy"
    epochs: Annotated[int, typer.Option(min=1, help="Passes through the training data.")] = 30
    batch_size: Annotated[
        int, typer.Option(min=2, help="Samples per step, of all devices together.")
    ] = 128
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
        from ddn_etf.learning_rates import find_schedule
        from ddn_etf.losses import find_loss
        from ddn_etf.optimizers import find_optimizer
        from ddn_etf.settings import TrainingSettings

        return TrainingSettings(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            optimizer=find_optimizer(self.optimizer, self.momentum),
            schedule=find_schedule(self.schedule),
            loss=find_loss(self.loss),
            temperature=self.temperature,
            dim=self.dim,
            precision=self.precision,
            accelerator=self.accelerator,
            devices=self.devices,
            strategy=self.strategy,
            threads=self.threads,
        )

    def methods(self) -> tuple[Method, ...]:
        """The heads.

        Raises:
            ValueError: an unknown name, or none.
        """
        raise NotImplementedError

    def seed_numbers(self) -> tuple[int, ...]:
        """The seeds."""
        raise NotImplementedError

    def check(self) -> None:
        """Find out whether every name and number is good, before anything takes time.

        Raises:
            ValueError: one is not, a head needs a hierarchy that the data set does not have, or
                the machine has too few GPUs.
            MissingDependencyError: TensorBoard is asked for and missing.
        """
        from ddn_etf.data import find_dataset
        from ddn_etf.methods import check_hierarchy
        from ddn_etf.models import find_model

        methods, source = self.methods(), find_dataset(self.dataset)
        self.settings()
        check_hierarchy(methods, source.name, has_hierarchy=source.has_hierarchy)
        find_model(self.model)
        if self.accelerator == "gpu":
            _check_gpus(self.devices)
        if self.tensorboard:
            with optional_import("tensorboard", "A log for TensorBoard"):
                importlib.import_module("tensorboard")

    def load_data(self) -> Dataset:
        """Read the data set, and find out whether backbone, heads and batches go with it.

        Raises:
            ValueError: the data set needs a folder, or its inputs are none of the backbone's.
            FrameSizeError: a head needs more features for that many classes.
            BatchSizeError: a batch is larger than the train split.
        """
        import torch

        from ddn_etf.batches import ShuffledBatches
        from ddn_etf.data import find_dataset

        dataset = find_dataset(self.dataset).load(self.data_folder)
        # Without memory and without random numbers.
        with torch.device("meta"):
            self.backbone(dataset)(self.dim)
        with torch.random.fork_rng(devices=[]):
            for method in self.methods():
                method.build(
                    self.dim,
                    dataset.num_classes,
                    self.temperature,
                    distances=dataset.class_distances,
                )
        ShuffledBatches(len(dataset.train_labels), self.batch_size, seed=0)
        return dataset

    def backbone(self, dataset: Dataset) -> Callable[[int], nn.Module]:
        """dim -> network for the inputs of a data set."""
        from ddn_etf.models import find_model

        model = find_model(self.model)
        return lambda dim: model.build(dim, dataset.input_shape)


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

        return (find_method(self.head),)

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

    def methods(self) -> tuple[Method, ...]:
        """The heads, in the order given."""
        from ddn_etf.methods import find_methods

        return find_methods([name.strip() for name in self.heads.split(",") if name.strip()])

    def seed_numbers(self) -> tuple[int, ...]:
        """0, 1, ..."""
        return tuple(range(self.seeds))


def _check_gpus(devices: int) -> None:
    import torch

    found = torch.cuda.device_count() or int(torch.backends.mps.is_available())
    if found < devices:
        raise ValueError(
            f"accelerator gpu with devices = {devices}: PyTorch finds {found} on this machine; use "
            "fewer devices, or the accelerator cpu"
        )
