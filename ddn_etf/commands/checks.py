"""Checks of options that need more than one of them to be judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ddn_etf.commands.options import TrainingOptions
    from ddn_etf.data import DatasetSource
    from ddn_etf.head_options import HeadOptions
    from ddn_etf.methods import Method

__all__ = [
    "asked_too_much",
    "check_gpus",
    "check_head_options",
    "check_kinds",
    "check_loss",
    "option_flag",
]


@contextmanager
def asked_too_much(kind: type[ValueError]) -> Iterator[None]:
    """An error of this kind is a plain ValueError: one of the options, not of the data."""
    try:
        yield
    except kind as error:
        raise ValueError(str(error)) from error


def option_flag(option: str) -> str:
    """The flag of an option of :class:`ddn_etf.head_options.HeadOptions`."""
    return "--" + option.removesuffix("_epochs").replace("_", "-")


def check_head_options(methods: Sequence[Method], options: HeadOptions) -> None:
    """Check that one of the heads looks at what is chosen for heads.

    Raises:
        ValueError: none does.
    """
    from ddn_etf.methods import METHODS

    changed = options.changed()
    if changed and not any(method.follows_means for method in methods):
        following = ", ".join(name for name, each in METHODS.items() if each.follows_means)
        raise ValueError(
            f"head {methods[0].name!r} has no {option_flag(changed[0])}: only heads that follow the "
            f"class means do ({following})"
        )


def check_kinds(options: TrainingOptions) -> None:
    """Check that no kind is chosen of what is not asked for.

    Raises:
        ValueError: a kind of imbalance without an imbalance, or of label noise without any.
    """
    defaults = {each.name: each.default for each in fields(options)}
    for name, meaning in (
        ("imbalance", "samples are left out"),
        ("label_noise", "labels are made wrong"),
    ):
        kind = getattr(options, f"{name}_kind")
        if getattr(options, name) is None and kind != defaults[f"{name}_kind"]:
            flag = f"--{name.replace('_', '-')}"
            raise ValueError(
                f"{flag}-kind {kind} says how {meaning}, and without {flag} none are; give {flag} as "
                "well, or leave the kind out"
            )


def check_loss(options: TrainingOptions, source: DatasetSource) -> None:
    """Check that there is a hierarchy for a loss that is about one.

    Raises:
        ValueError: there is none.
    """
    from ddn_etf.data.registry import names_with_hierarchy
    from ddn_etf.losses import HierarchyAware

    if isinstance(options.settings().loss, HierarchyAware) and not source.has_hierarchy:
        raise ValueError(
            f"loss {options.loss!r} follows a hierarchy of the classes, and the data set "
            f"{source.name!r} has none; data sets with one: {names_with_hierarchy()}"
        )


def check_gpus(devices: int) -> None:
    """Check that this machine has so many GPUs.

    Raises:
        ValueError: it has not.
    """
    import torch

    found = torch.cuda.device_count() or int(torch.backends.mps.is_available())
    if found < devices:
        raise ValueError(
            f"accelerator gpu with devices = {devices}: PyTorch finds {found} on this machine; use "
            "fewer devices, or the accelerator cpu"
        )
