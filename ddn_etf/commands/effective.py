"""Options that do something: which of them a run does not look at, and options without those."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, TypeVar

from ddn_etf.commands.options import CompareOptions, TrainingOptions, TrainOptions

__all__ = ["HEAD_OPTIONS", "has_head_options", "in_effect", "in_vain"]

HEAD_OPTIONS = ("average", "proximal_weight", "class_balanced", "warm_up")
"""Fields that only heads that follow the class means look at."""

_KINDS = {"imbalance": "imbalance_kind", "label_noise": "label_noise_kind"}

Chosen = TypeVar("Chosen", bound=TrainingOptions)


def has_head_options(options: TrainingOptions) -> bool:
    """Whether one of the heads follows the class means.

    Raises:
        ValueError: an unknown name.
    """
    from ddn_etf.methods import find_method

    names: list[str] = []
    if isinstance(options, TrainOptions):
        names = [options.head]
    elif isinstance(options, CompareOptions):
        names = options.head_names()
    return any(find_method(name).follows_means for name in names)


def in_vain(options: TrainingOptions) -> dict[str, Any]:
    """What is chosen and not looked at: options of heads that have none, kinds of nothing.

    Runs of earlier versions have such in their ``config.toml``.

    Returns:
        Values by the names of the fields, those that are not as by default.
    """
    ignored = [kind for name, kind in _KINDS.items() if getattr(options, name) is None]
    if not has_head_options(options):
        ignored += HEAD_OPTIONS
    defaults = {each.name: each.default for each in fields(options)}
    values = {name: getattr(options, name) for name in ignored}
    return {name: value for name, value in values.items() if value != defaults[name]}


def in_effect(options: Chosen) -> Chosen:
    """The same run without :func:`in_vain`."""
    defaults = {each.name: each.default for each in fields(options)}
    reset: dict[str, Any] = {name: defaults[name] for name in in_vain(options)}
    return replace(options, **reset)
