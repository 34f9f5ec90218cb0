"""Import of optional packages, with one message for every missing one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["optional_import"]


@contextmanager
def optional_import(extra: str, purpose: str) -> Iterator[None]:
    """Import optional packages inside this context; a missing one names the command to run.

    Args:
        extra: the extra of the distribution that brings the packages, for example ``"train"``.
        purpose: what needs them, the subject of the message.

    Raises:
        ddn.errors.MissingDependencyError: a package is missing. It is an ``ImportError`` as well.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "of unknown name").partition(".")[0]
        # A damaged installation of this distribution is not a missing extra.
        if package in {"ddn", "ddn_etf"}:
            raise
        # Imported here: it takes PyTorch along, and `ddn-etf --help` should not wait for that.
        from ddn.errors import MissingDependencyError

        raise MissingDependencyError(package, extra, purpose) from error
