"""Numbers of a loss as text: ``gamma=2,validate=false``."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, get_type_hints

from ddn_etf._names import unknown_name

if TYPE_CHECKING:
    from ddn_etf.losses import Loss

__all__ = ["with_loss_options"]

_TRUTH = {"true": True, "false": False}


def with_loss_options(name: str, loss: Loss, text: str) -> Loss:
    """A loss with other numbers.

    Args:
        name: of the loss, for messages.
        loss: with its defaults.
        text: ``option=value``, separated by commas; empty for none.

    Raises:
        ValueError: not of this form, an option that the loss does not have or that is no number, or a
            value out of its range.
    """
    pairs = [part.strip() for part in text.split(",") if part.strip()]
    if not pairs:
        return loss
    known = _plain_fields(loss)
    values: dict[str, Any] = {}
    for pair in pairs:
        option, sign, value = (part.strip() for part in pair.partition("="))
        if not sign:
            raise ValueError(f"loss options look like gamma=2, found {pair!r}")
        if not known:
            raise ValueError(f"the loss {name!r} has no options, found {pair!r}")
        if option not in known:
            raise ValueError(unknown_name("option", option, known, f"options of {name}"))
        if option in values:
            raise ValueError(f"the loss option {option!r} is given twice; give it once")
        values[option] = _value(option, value, known[option])
    return replace(loss, **values)  # type: ignore[type-var] # it has fields


def _plain_fields(loss: Loss) -> dict[str, type]:
    """Fields that are numbers or true or false, and their types."""
    if not is_dataclass(loss):
        return {}
    hints = get_type_hints(type(loss))
    kinds: tuple[type, ...] = (float, int, bool)
    return {
        field.name: kind
        for field in fields(loss)
        for kind in kinds
        if hints[field.name] in (kind, kind | None)
    }


def _value(option: str, text: str, kind: type) -> Any:
    try:
        return _TRUTH[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        word = "true or false" if kind is bool else "a number"
        raise ValueError(f"the loss option {option} must be {word}, found {text!r}") from None
