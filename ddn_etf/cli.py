"""Entry point of ``ddn-etf``: it finds out whether the command line can run at all.

The commands themselves are in :mod:`ddn_etf.commands`.
"""

from __future__ import annotations

import sys

from ddn_etf._extras import optional_import

__all__ = ["main"]


def main() -> None:
    """Run ``ddn-etf`` with the arguments of this process; never returns.

    Exit status: 0 for success, 1 for a run that could not be done, 2 for a wrong argument.
    """
    try:
        with optional_import("train", "The command line"):
            from ddn_etf.commands import app
    except ImportError as error:
        from ddn.errors import MissingDependencyError

        if not isinstance(error, MissingDependencyError):
            raise
        sys.exit(f"Error: {error}")
    app(prog_name="ddn-etf")
