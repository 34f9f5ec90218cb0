"""Train one backbone with one head, and measure neural collapse after every epoch.

Everything that is random follows from the seed: the backbone's initial weights from ``seed``, the
order of the samples and any other random number of an epoch from ``(seed, epoch)``. Two heads with
the same seed therefore start from the same backbone and see the same batches, and a run that is
interrupted and resumed goes through the same numbers as one that is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from ddn.errors import DeclarativeNodeError
from ddn_etf._extras import optional_import
from ddn_etf._runtime import lightning_quietly, reproducible
from ddn_etf.batches import ShuffledBatches, epoch_seed
from ddn_etf.checkpoints import CHECKPOINT_NAME, ResumeError, check_checkpoint, run_identity
from ddn_etf.data import Dataset
from ddn_etf.heads import Head
from ddn_etf.methods import Method
from ddn_etf.metrics import neural_collapse
from ddn_etf.models import small_convnet
from ddn_etf.settings import TrainingSettings

with optional_import("train", "Training"):
    import lightning as L
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch.callbacks import ModelCheckpoint

__all__ = [
    "Classifier",
    "EpochRecord",
    "TrainingError",
    "measure",
    "train",
]


class TrainingError(DeclarativeNodeError, RuntimeError):
    """A run that cannot start or go on."""


@dataclass(frozen=True)
class EpochRecord:
    """What was measured at the end of one epoch, in evaluation mode and on whole splits.

    Attributes:
        head: name of the method.
        seed: of the run.
        epoch: 1 after the first pass through the training data.
        values: ``train_loss``, ``train_accuracy``, ``train_NC1``, ... and the same for ``test``.
            Accuracies are per cent; the metrics are
            those of :func:`ddn_etf.metrics.neural_collapse` that are a single number.
    """

    head: str
    seed: int
    epoch: int
    values: dict[str, float]


class Classifier(L.LightningModule):
    """A backbone with a head, trained by cross entropy; it keeps its own history.

    Args:
        backbone: inputs (N, ...) to features (N, d).
        head: the last layer, whose weight (K, d) and bias (K,) are measured.
        settings: the optimiser's numbers.
        name: of the method, for the history.
        seed: of the run.
    """

    def __init__(
        self, backbone: nn.Module, head: Head, settings: TrainingSettings, name: str, seed: int
    ) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.settings, self.name, self.seed = settings, name, seed
        self.history: list[EpochRecord] = []
        self._seen: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (N, K) in evaluation mode."""
        logits: Tensor = self.head(self.backbone(inputs))
        return logits

    def on_train_epoch_start(self) -> None:
        """Make all random numbers of an epoch a function of (seed, epoch)."""
        torch.manual_seed(epoch_seed(self.seed, self.current_epoch))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """Cross entropy of one batch; Lightning takes its gradient and the step."""
        inputs, labels = batch
        loss = cross_entropy(self.head(self.backbone(inputs), labels), labels)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"{self.name}, seed {self.seed}: the loss became {loss.item()} in epoch "
                f"{self.current_epoch + 1}; a smaller learning rate is the usual remedy"
            )
        return loss

    def on_validation_epoch_start(self) -> None:
        """Forget the features of the epoch before."""
        self._seen = {"train": [], "test": []}

    def validation_step(
        self, batch: tuple[Tensor, Tensor], batch_index: int, dataloader_idx: int
    ) -> None:
        """Collect features in evaluation mode; loader 0 is the train split, 1 the test split."""
        inputs, labels = batch
        self._seen["test" if dataloader_idx else "train"].append((self.backbone(inputs), labels))

    def on_validation_epoch_end(self) -> None:
        """Measure both splits and add a record to the history."""
        values: dict[str, float] = {}
        for split, batches in self._seen.items():
            features, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
            for quantity, value in measure(self.head, features, labels).items():
                values[f"{split}_{quantity}"] = value
        self._seen = {}
        self.history.append(EpochRecord(self.name, self.seed, self.current_epoch + 1, values))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Stochastic gradient descent with a constant learning rate."""
        return torch.optim.SGD(
            self.parameters(),
            lr=self.settings.learning_rate,
            momentum=self.settings.momentum,
            weight_decay=self.settings.weight_decay,
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the history, and what the run was, beside the weights."""
        checkpoint["run"] = run_identity(self.name, self.seed, self.settings)
        checkpoint["history"] = [asdict(record) for record in self.history]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the history where the checkpoint left it."""
        self.history = [EpochRecord(**record) for record in checkpoint["history"]]


def measure(head: Head, features: Tensor, labels: Tensor) -> dict[str, float]:
    """Loss and every scalar neural-collapse metric of one split.

    The metrics are taken on what multiplies the weight, h = tau f / ||f||.
    """
    values = {"loss": cross_entropy(head(features), labels).item()}
    metrics = neural_collapse(head.normalize(features), labels, head.weight, head.bias)
    return values | {name: value.item() for name, value in metrics.items() if value.ndim == 0}


def train(
    method: Method,
    seed: int,
    dataset: Dataset,
    settings: TrainingSettings | None = None,
    *,
    backbone: Callable[[int], nn.Module] = small_convnet,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    checkpoint_dir: Path | None = None,
    resume: bool = False,
) -> Classifier:
    """Train one backbone with one head.

    Args:
        method: which head, from :data:`ddn_etf.methods.METHODS`.
        seed: decides everything that is random.
        dataset: train and test split.
        settings: the optimiser's numbers.
        backbone: dim -> network from inputs to features (N, dim).
        on_epoch: called with what was measured, after every epoch.
        checkpoint_dir: where the state is kept after every epoch, in ``last.ckpt``.
        resume: continue from that checkpoint instead of from the start. ``settings.epochs`` is the
            total, so it may be larger than before.

    Returns:
        The trained classifier, in evaluation mode; its ``history`` has one record per epoch,
        including those before a resume.

    Raises:
        ResumeError: ``resume`` without a checkpoint, with one of a run with another head, seed or
            setting, or with one that has more epochs than are asked for.
        BatchSizeError: the training set is smaller than a batch.
        TrainingError: an accelerator that this machine lacks, or a loss that is not finite.
    """
    settings = settings or TrainingSettings()
    checkpoint = None
    if resume:
        if checkpoint_dir is None:
            raise ResumeError("resume needs checkpoint_dir, the folder that holds the checkpoint")
        checkpoint = checkpoint_dir / CHECKPOINT_NAME
        check_checkpoint(checkpoint, run_identity(method.name, seed, settings))
    with reproducible(seed, settings.threads), lightning_quietly():
        network = backbone(settings.dim)
        head = method.build(settings.dim, dataset.num_classes, settings.temperature)
        classifier = Classifier(network, head, settings, method.name, seed)
        trainer = _trainer(settings, checkpoint_dir, on_epoch)
        train_loader, evaluation_loaders = _loaders(dataset, settings.batch_size, seed)
        trainer.fit(classifier, train_loader, evaluation_loaders, ckpt_path=checkpoint)
    return classifier.eval()


def _trainer(
    settings: TrainingSettings,
    checkpoint_dir: Path | None,
    on_epoch: Callable[[EpochRecord], None] | None,
) -> L.Trainer:
    callbacks: list[L.Callback] = []
    if checkpoint_dir is not None:
        callbacks.append(
            ModelCheckpoint(
                checkpoint_dir,
                filename=Path(CHECKPOINT_NAME).stem,
                save_on_train_epoch_end=True,
                enable_version_counter=False,
            )
        )
    if on_epoch is not None:
        callbacks.append(_Report(on_epoch))
    try:
        return L.Trainer(
            accelerator=settings.accelerator,
            devices=1,
            max_epochs=settings.epochs,
            deterministic=True,
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=checkpoint_dir is not None,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
    except MisconfigurationException as error:
        raise TrainingError(
            f"accelerator {settings.accelerator!r} cannot be used on this machine: {error}"
        ) from error


class _Report(L.Callback):
    """Hand every new record to a function."""

    def __init__(self, on_epoch: Callable[[EpochRecord], None]) -> None:
        self.on_epoch = on_epoch

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        self.on_epoch(pl_module.history[-1])


def _loaders(
    dataset: Dataset, batch_size: int, seed: int
) -> tuple[DataLoader[Any], list[DataLoader[Any]]]:
    """The shuffled training batches; both splits in their own order for evaluation.

    A sampler that yields lists, with ``batch_size=None``, indexes a whole batch at once. Loaders draw
    a random number whenever they are started, which a resumed run does at other times: theirs comes
    from a generator of their own.
    """
    generator = torch.Generator()
    train_split = TensorDataset(dataset.train_inputs, dataset.train_labels)
    test_split = TensorDataset(dataset.test_inputs, dataset.test_labels)
    batches = ShuffledBatches(len(train_split), batch_size, seed)
    return (
        DataLoader(train_split, sampler=batches, batch_size=None, generator=generator),
        [
            DataLoader(split, batch_size=512, generator=generator)
            for split in (train_split, test_split)
        ],
    )
