"""What Lightning is given: data, a trainer, checkpoints that are written whole."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from ddn_etf._extras import optional_import
from ddn_etf.batches import ShuffledBatches
from ddn_etf.checkpoints import CHECKPOINT_NAME, write_checkpoint
from ddn_etf.classifier import Classifier, TrainingError
from ddn_etf.data import Dataset
from ddn_etf.files import write_atomically
from ddn_etf.history import EpochRecord, history_csv
from ddn_etf.settings import TrainingSettings
from ddn_etf.sharding import BatchShard, SplitShard, rank_and_size

with optional_import("train", "Training"):
    import lightning as L
    from lightning.fabric.plugins import TorchCheckpointIO
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.loggers import TensorBoardLogger

__all__ = ["HISTORY_NAME", "Splits", "make_trainer"]

HISTORY_NAME = "history.csv"

_EVALUATION_BATCH = 512


class Splits(L.LightningDataModule):
    """The shuffled training batches; both splits in their own order for evaluation.

    Loaders are made when all processes are there, so that each gets its part. A sampler that yields
    lists, with ``batch_size=None``, indexes a whole batch at once. Loaders draw a random number
    whenever they are started, which a resumed run does at other times: theirs comes from a generator
    of their own.
    """

    def __init__(self, dataset: Dataset, batches: ShuffledBatches) -> None:
        super().__init__()
        self._train, self._test = dataset.train_split, dataset.test_split
        self._batches = batches
        self._generator = torch.Generator()

    def train_dataloader(self) -> DataLoader[Any]:
        """This process's part of the shuffled batches."""
        return DataLoader(
            self._train,
            sampler=BatchShard(self._batches, *rank_and_size()),
            batch_size=None,
            generator=self._generator,
        )

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """This process's part of both splits."""
        return [
            DataLoader(
                split,
                sampler=SplitShard(len(split), _EVALUATION_BATCH, *rank_and_size()),
                batch_size=None,
                generator=self._generator,
            )
            for split in (self._train, self._test)
        ]


def make_trainer(
    settings: TrainingSettings,
    folder: Path | None,
    on_epoch: Callable[[EpochRecord], None] | None,
    *,
    tensorboard: bool,
    unused_parameters: bool = False,
) -> L.Trainer:
    """A trainer that says nothing by itself and keeps what it does in a folder.

    With ``unused_parameters``, some parameters may get no gradient, which processes have to find out.
    """
    strategy = "ddp" if settings.devices > 1 else settings.strategy
    if strategy == "ddp" and unused_parameters:
        strategy = "ddp_find_unused_parameters_true"
    callbacks: list[L.Callback] = [_AfterEpoch(folder, on_epoch)]
    if folder is not None:
        callbacks.append(
            ModelCheckpoint(
                folder,
                filename=Path(CHECKPOINT_NAME).stem,
                save_on_train_epoch_end=True,
                enable_version_counter=False,
            )
        )
    try:
        return L.Trainer(
            accelerator=settings.accelerator,
            devices=settings.devices,
            strategy=strategy,
            precision={"32": "32-true"}.get(settings.precision, settings.precision),  # type: ignore[arg-type]
            max_epochs=settings.epochs,
            deterministic=True,
            callbacks=callbacks,
            plugins=[_WholeCheckpoints()],
            logger=_tensorboard(folder) if tensorboard else False,
            enable_checkpointing=folder is not None,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            # Only epochs are logged, of which Lightning knows nothing; it would warn of few steps.
            log_every_n_steps=1,
            # On GPUs batch normalisation can look at the whole batch; PyTorch has no such layer for
            # processes on CPUs.
            sync_batchnorm=settings.devices > 1 and settings.accelerator == "gpu",
            # The samplers already are the parts of this process.
            use_distributed_sampler=False,
        )
    except MisconfigurationException as error:
        raise TrainingError(
            f"accelerator {settings.accelerator!r} with {settings.devices} device(s) cannot be used "
            f"on this machine: {error}"
        ) from error


def _tensorboard(folder: Path | None) -> TensorBoardLogger:
    if folder is None:
        raise TrainingError("logs for TensorBoard need a folder; give checkpoint_dir")
    with optional_import("tensorboard", "A log for TensorBoard"):
        importlib.import_module("tensorboard")
    return TensorBoardLogger(folder, name="tensorboard", version="")


class _WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints are files on this machine, replaced at once, the one before being kept."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        write_checkpoint(Path(path), checkpoint)


class _AfterEpoch(L.Callback):
    """Write the history so far, and hand the new record to a function."""

    def __init__(self, folder: Path | None, on_epoch: Callable[[EpochRecord], None] | None) -> None:
        self.folder, self.on_epoch = folder, on_epoch

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        if not trainer.is_global_zero:
            return
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self.folder / HISTORY_NAME, history_csv(pl_module.history))
        if self.on_epoch is not None:
            self.on_epoch(pl_module.history[-1])
