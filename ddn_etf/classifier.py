"""A backbone with a head as Lightning trains it, which measures itself and keeps its history."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ddn.errors import DeclarativeNodeError
from ddn_etf._extras import optional_import
from ddn_etf.batches import epoch_seed
from ddn_etf.heads import Head, HeadOutput
from ddn_etf.history import EpochRecord
from ddn_etf.losses import CrossEntropy, Loss
from ddn_etf.metrics import SplitStatistics, neural_collapse
from ddn_etf.metrics.hierarchical import (
    hierarchical_distance,
    hierarchical_precision,
    mistake_severity,
)
from ddn_etf.settings import TrainingSettings
from ddn_etf.sharding import gather_rows, rank_and_size

with optional_import("train", "Training"):
    import lightning as L

__all__ = ["SNAPSHOT_SIZE", "Classifier", "Snapshot", "TrainingError", "measure"]

SNAPSHOT_SIZE = 4096
"""The largest K d of which a snapshot is kept in every epoch; beyond it checkpoints would swell."""

_TOP = 5
"""How many predictions of a sample the hierarchical metrics look at."""


class TrainingError(DeclarativeNodeError, RuntimeError):
    """A run that cannot start or go on."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Where the class means and the classifier were at the end of an epoch.

    Attributes:
        epoch: 1 after the first pass through the training data.
        means: μ_k - μ_G, (K, d), of h over the train split.
        weight: W, (K, d).
    """

    epoch: int
    means: Tensor
    weight: Tensor


class Classifier(L.LightningModule):
    """A backbone with a head, trained by any loss; it keeps its own history.

    Args:
        backbone: inputs (N, ...) to features (N, d).
        head: the last layer, whose weight (K, d) and bias (K,) are measured.
        settings: the optimiser's numbers and the loss.
        name: of the method, for the history.
        seed: of the run.
        dataset: its name.
        class_distances: D, (K, K), with which mistakes are measured; None to leave that out.
        identity: what a run that is resumed must share, as
            :func:`ddn_etf.checkpoints.run_identity` says it; kept in checkpoints. Without it they
            say no more than the arguments here do.
    """

    def __init__(
        self,
        backbone: nn.Module,
        head: Head,
        settings: TrainingSettings,
        name: str,
        seed: int,
        dataset: str = "digits",
        *,
        class_distances: Tensor | None = None,
        identity: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.settings, self.name, self.seed, self.dataset = settings, name, seed, dataset
        self.class_distances = class_distances
        self.identity = identity or {
            "head": name,
            "seed": seed,
            "dataset": dataset,
            **settings.as_table(),
        }
        self.history: list[EpochRecord] = []
        self.snapshots: list[Snapshot] = []
        self._seen: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (N, K) in evaluation mode."""
        logits: Tensor = self.head(self.backbone(inputs))
        return logits

    def on_train_epoch_end(self) -> None:
        """One step of the schedules of the head, where it has any: they move once per epoch."""
        self.head.advance()

    def on_train_epoch_start(self) -> None:
        """Make the random numbers and the learning rate of an epoch functions of the epoch."""
        rank, _ = rank_and_size()
        torch.manual_seed(epoch_seed(self.seed, self.current_epoch) + (rank << 44))
        factor = self.settings.schedule.factor(self.current_epoch, self.settings.epochs)
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.settings.learning_rate * factor

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """The loss of one batch; Lightning takes its gradient and the step."""
        inputs, labels = batch
        loss = self.settings.loss(self.head.outputs(self.backbone(inputs), labels), labels)
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
        features = self.backbone(inputs).to(self.head.weight.dtype)
        self._seen["test" if dataloader_idx else "train"].append((features, labels))

    def on_validation_epoch_end(self) -> None:
        """Measure both splits and add a record to the history."""
        values: dict[str, float] = {}
        # The metrics are taken in full precision whatever the backbone computes in.
        with torch.autocast(self.device.type, enabled=False):
            for split, batches in self._seen.items():
                features = gather_rows(
                    [part for part, _ in batches], self.head.weight.new_empty(0, self.head.dim)
                )
                labels = gather_rows(
                    [part for _, part in batches],
                    torch.empty(0, dtype=torch.int64, device=self.device),
                )
                found = measure(
                    self.head, features, labels, self.settings.loss, self.class_distances
                )
                values |= {f"{split}_{name}": value for name, value in found.items()}
                if split == "train" and self.head.weight.numel() <= SNAPSHOT_SIZE:
                    self.snapshots.append(self._snapshot(features, labels))
        self._seen = {}
        self.history.append(EpochRecord(self.name, self.seed, self.current_epoch + 1, values))
        for logger in self.loggers:
            logger.log_metrics(values, step=self.current_epoch + 1)

    def _snapshot(self, features: Tensor, labels: Tensor) -> Snapshot:
        statistics = SplitStatistics.from_features(
            self.head.normalize(features), labels, self.head.num_classes
        )
        weight = self.head.weight.detach()
        means = statistics.deviations.mT.to(weight.dtype)
        return Snapshot(self.current_epoch + 1, means.cpu().contiguous(), weight.cpu().clone())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimiser of the settings."""
        return self.settings.optimizer.build(
            self.parameters(), self.settings.learning_rate, self.settings.weight_decay
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the history, and what the run was, beside the weights."""
        checkpoint["run"] = dict(self.identity)
        checkpoint["history"] = [asdict(record) for record in self.history]
        checkpoint["snapshots"] = [asdict(each) for each in self.snapshots]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the history where the checkpoint left it."""
        self.history = [EpochRecord(**record) for record in checkpoint["history"]]
        self.snapshots = [Snapshot(**each) for each in checkpoint["snapshots"]]


@torch.no_grad()
def measure(
    head: Head,
    features: Tensor,
    labels: Tensor,
    loss: Loss | None = None,
    distances: Tensor | None = None,
) -> dict[str, float]:
    """Loss, every scalar neural-collapse metric and, with distances, how bad mistakes are.

    The metrics are taken on what multiplies the weight, h = tau f / ||f||.

    Args:
        head: in evaluation mode.
        features: (N, d).
        labels: (N,).
        loss: an object of :mod:`ddn_etf.losses`; cross entropy by default.
        distances: D, (K, K), between the classes in their hierarchy.

    Returns:
        ``loss``, the names of :func:`ddn_etf.metrics.neural_collapse` and, with distances,
        ``mistake_severity`` (NaN where there is no mistake), ``hd@1`` and, for K >= 5, ``hd@5`` and
        ``hp@5``: see :mod:`ddn_etf.metrics.hierarchical`.
    """
    output: HeadOutput = head.outputs(features)
    values = {"loss": float((loss or CrossEntropy())(output, labels))}
    metrics = neural_collapse(output.h, labels, head.weight, head.bias)
    values |= {name: value.item() for name, value in metrics.items() if value.ndim == 0}
    if distances is None:
        return values
    scored = output.logits, labels, distances
    values["mistake_severity"] = mistake_severity(*scored).item()
    values["hd@1"] = hierarchical_distance(*scored).item()
    if len(distances) >= _TOP:
        values[f"hd@{_TOP}"] = hierarchical_distance(*scored, _TOP).item()
        values[f"hp@{_TOP}"] = hierarchical_precision(*scored, _TOP).item()
    return values
