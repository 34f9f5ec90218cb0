"""Train one backbone with one head, and measure neural collapse after every epoch.

Everything that is random follows from the seed: the backbone's initial weights from ``seed``, the
order of the samples and any other random number of an epoch from ``(seed, epoch)``. Two heads with
the same seed therefore start from the same backbone and see the same batches, and a run that is
interrupted and resumed goes through the same numbers as one that is not.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from ddn_etf._lightning import HISTORY_NAME, Splits, make_trainer
from ddn_etf._runtime import lightning_quietly, reproducible
from ddn_etf.batches import check_seed
from ddn_etf.checkpoints import (
    BACKUP_NAME,
    CHECKPOINT_NAME,
    AnotherRunError,
    ResumeError,
    check_checkpoint,
    read_checkpoint,
    run_identity,
)
from ddn_etf.classifier import Classifier, TrainingError, measure
from ddn_etf.data import Dataset
from ddn_etf.files import write_atomically
from ddn_etf.heads import WarmUpHead
from ddn_etf.history import EpochRecord, history_csv
from ddn_etf.methods import Method, check_hierarchy
from ddn_etf.models import small_convnet
from ddn_etf.settings import TrainingSettings

__all__ = [
    "Classifier",
    "EpochRecord",
    "TrainingError",
    "check_resume",
    "identity_of",
    "load_classifier",
    "measure",
    "train",
]


def train(
    method: Method,
    seed: int,
    dataset: Dataset,
    settings: TrainingSettings | None = None,
    *,
    backbone: Callable[[int], nn.Module] = small_convnet,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    checkpoint_dir: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    tensorboard: bool = False,
) -> Classifier:
    """Train one backbone with one head.

    Schedules of the head (of its temperature, of its proximal weight: :mod:`ddn_etf.schedules`) go
    one step per epoch, so that their lengths are numbers of epochs.

    With several devices this is called by every process, and all of them return the same classifier
    and history. Lightning starts the other processes by running the program's own command again, so
    such a call belongs in a script or a command, not in a notebook.

    Args:
        method: which head, from :data:`ddn_etf.methods.METHODS`.
        seed: decides everything that is random.
        dataset: train and test split.
        settings: the optimiser's numbers.
        backbone: dim -> network from inputs to features (N, dim).
        on_epoch: called with what was measured, after every epoch, by the first process.
        checkpoint_dir: where the state is kept after every epoch, in ``last.ckpt`` (and the one
            before in ``previous.ckpt``), and the history in ``history.csv``.
        resume: continue from that checkpoint instead of from the start. ``settings.epochs`` is the
            total, so with a constant learning rate it may be larger than before.
        overwrite: replace the run in ``checkpoint_dir``, if there is one.
        tensorboard: also write the history to ``checkpoint_dir/tensorboard``, for TensorBoard.

    Returns:
        The trained classifier, in evaluation mode; its ``history`` has one record per epoch,
        including those before a resume.

    Raises:
        ResumeError: ``resume`` without a checkpoint, with a damaged one, with one of a run with
            another head, seed, network, setting or other data
            (:func:`ddn_etf.checkpoints.run_identity`), or with one that has more epochs than are
            asked for.
        FileExistsError: ``checkpoint_dir`` has a checkpoint, and neither ``resume`` nor
            ``overwrite`` says what is to become of it.
        WriteError: a file could not be written, for want of space for example; the checkpoint of
            the epoch before is still there.
        BatchSizeError: the training set is smaller than a batch.
        TrainingError: an accelerator that this machine lacks, or a loss that is not finite.
        MissingDependencyError: ``tensorboard`` without the package.
        ValueError: the head needs a hierarchy of the classes and the data set has none, resume and
            overwrite are both asked for, or the seed is none of :func:`ddn_etf.batches.check_seed`.

    Warns:
        ResumeWarning: the checkpoint was written with other versions, or by one that did not keep
            all of this: :func:`ddn_etf.checkpoints.check_checkpoint`.
    """
    settings = settings or TrainingSettings()
    check_seed(seed)
    folder = None if checkpoint_dir is None else Path(checkpoint_dir)
    path = None if folder is None else folder / CHECKPOINT_NAME
    _check_place(path, resume=resume, overwrite=overwrite)
    with reproducible(seed, settings.threads), lightning_quietly():
        classifier = _untrained(method, seed, dataset, settings, backbone)
        splits = Splits(
            dataset, settings.batches.build(dataset.train_labels, settings.batch_size, seed)
        )
        if path is not None:
            classifier.identity = _identity(classifier, dataset)
        if path is not None and resume:
            checkpoint = _resumable(classifier, path)
            if len(checkpoint["history"]) == settings.epochs:
                _restored(classifier, checkpoint)
                write_atomically(path.with_name(HISTORY_NAME), history_csv(classifier.history))
                return classifier
        trainer = make_trainer(
            settings,
            folder,
            on_epoch,
            tensorboard=tensorboard,
            unused_parameters=isinstance(classifier.head, WarmUpHead),
        )
        if path is not None and overwrite:
            # Now, so that nothing can be resumed that belongs to the run that is being replaced.
            for name in (CHECKPOINT_NAME, BACKUP_NAME):
                path.with_name(name).unlink(missing_ok=True)
        trainer.fit(classifier, datamodule=splits, ckpt_path=path if resume else None)
    return classifier.eval()


def check_resume(
    path: str | Path,
    method: Method,
    seed: int,
    dataset: Dataset,
    settings: TrainingSettings,
    *,
    backbone: Callable[[int], nn.Module] = small_convnet,
) -> None:
    """Find out whether :func:`train` would go on from a checkpoint; nothing is changed.

    Args:
        path: the checkpoint.
        method: what :func:`train` would be given, and the same below.
        seed: of the run.
        dataset: train and test split.
        settings: of the run.
        backbone: dim -> network.

    Raises:
        ResumeError: it would not; names what differs.
    """
    path = Path(path)
    read_checkpoint(path)
    with reproducible(seed, settings.threads):
        classifier = _untrained(method, seed, dataset, settings, backbone)
        classifier.identity = _identity(classifier, dataset)
    _resumable(classifier, path)


def identity_of(
    method: Method,
    seed: int,
    dataset: Dataset,
    settings: TrainingSettings,
    *,
    backbone: Callable[[int], nn.Module] = small_convnet,
) -> dict[str, Any]:
    """What :func:`train` would write into the checkpoint of a run, to know it again.

    See :func:`ddn_etf.checkpoints.run_identity`; arguments are those of :func:`check_resume`.
    """
    with reproducible(seed, settings.threads):
        return _identity(_untrained(method, seed, dataset, settings, backbone), dataset)


def load_classifier(
    path: str | Path,
    method: Method,
    dataset: Dataset,
    settings: TrainingSettings,
    *,
    seed: int = 0,
    backbone: Callable[[int], nn.Module] = small_convnet,
) -> Classifier:
    """The classifier of a checkpoint, in evaluation mode, with the history so far.

    Args:
        path: the checkpoint.
        method: what :func:`train` was given, and the same below.
        dataset: gives the number of classes, their hierarchy and, by its name, the run.
        settings: give the sizes, the temperature and the loss.
        seed: for what the checkpoint does not decide.
        backbone: dim -> network.

    Raises:
        ResumeError: no file, a damaged one, or one of another head or network.
    """
    path = Path(path)
    if not path.is_file():
        there = [name for name in (CHECKPOINT_NAME, BACKUP_NAME) if path.with_name(name).is_file()]
        raise ResumeError(
            f"there is no checkpoint {path}; {path.parent} has {' and '.join(there) or 'none'}"
        )
    checkpoint = read_checkpoint(path)
    if checkpoint["run"]["head"] != method.name:
        raise AnotherRunError(
            f"{path} belongs to a run with head = {checkpoint['run']['head']!r}, and head = "
            f"{method.name!r} is asked for"
        )
    with reproducible(seed, settings.threads):
        classifier = _untrained(method, seed, dataset, settings, backbone)
    _check_network(classifier, checkpoint, path)
    return _restored(classifier, checkpoint)


def _check_place(path: Path | None, *, resume: bool, overwrite: bool) -> None:
    if resume and overwrite:
        raise ValueError("resume continues the run that overwrite would replace; give one of them")
    if resume and path is None:
        raise ResumeError("resume needs checkpoint_dir, the folder that holds the checkpoint")
    if path is None:
        return
    if resume:
        read_checkpoint(path)
    elif path.is_file() and not overwrite:
        raise FileExistsError(
            f"{path} is the checkpoint of a run; give resume=True to go on with it, overwrite=True "
            "to replace it, or another checkpoint_dir"
        )


def _identity(classifier: Classifier, dataset: Dataset) -> dict[str, Any]:
    return run_identity(
        classifier.name,
        classifier.seed,
        classifier.settings,
        dataset,
        classifier.head,
        classifier.backbone,
    )


def _resumable(classifier: Classifier, path: Path) -> dict[str, Any]:
    """The checkpoint, which is one of this run."""
    may_be_longer = not classifier.settings.schedule.depends_on_epochs
    checkpoint = check_checkpoint(path, classifier.identity, may_be_longer=may_be_longer)
    _check_network(classifier, checkpoint, path)
    return checkpoint


def _untrained(
    method: Method,
    seed: int,
    dataset: Dataset,
    settings: TrainingSettings,
    backbone: Callable[[int], nn.Module],
) -> Classifier:
    network = backbone(settings.dim)
    check_hierarchy([method], dataset.name, has_hierarchy=dataset.hierarchy is not None)
    head = method.build(
        settings.dim,
        dataset.num_classes,
        settings.temperature,
        distances=dataset.class_distances,
        steps_per_epoch=len(dataset.train_labels) // settings.batch_size,
    )
    return Classifier(
        network,
        head,
        settings,
        method.name,
        seed,
        dataset.name,
        class_distances=dataset.class_distances,
    )


def _restored(classifier: Classifier, checkpoint: dict[str, Any]) -> Classifier:
    classifier.load_state_dict(checkpoint["state_dict"])
    classifier.on_load_checkpoint(checkpoint)
    return classifier.eval()


def _check_network(classifier: Classifier, checkpoint: dict[str, Any], path: Path) -> None:
    """Check that the tensors of a checkpoint are those of this network."""
    wanted = {name: tuple(value.shape) for name, value in classifier.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in checkpoint["state_dict"].items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise AnotherRunError(
                f"{path} belongs to another network: {name} has shape "
                f"{found.get(name, 'none')} there and {wanted.get(name, 'none')} in this one; give "
                "the same model, head and number of features, or start a new run"
            )
