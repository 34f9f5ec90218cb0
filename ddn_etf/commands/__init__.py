"""The commands of ``ddn-etf``: arguments in, files and a table out; a module for each.

What takes time to import (PyTorch, Lightning, Matplotlib) is imported inside the commands, so that
``--help`` and wrong arguments are answered at once.
"""

from __future__ import annotations

import typer

from ddn_etf.commands.compare import compare_command
from ddn_etf.commands.evaluate import evaluate_command
from ddn_etf.commands.report import report_command
from ddn_etf.commands.train import train_command
from ddn_etf.commands.ufm import ufm_command
from ddn_etf.commands.ufm_minimize import ufm_minimize_command
from ddn_etf.commands.ufm_saddles import ufm_saddles_command

__all__ = ["app"]

app = typer.Typer(
    help="Train classifiers whose last layer is, or is not, the nearest simplex ETF.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("train")(train_command)
app.command("compare")(compare_command)
app.command("evaluate")(evaluate_command)
app.command("ufm")(ufm_command)
app.command("ufm-minimize")(ufm_minimize_command)
app.command("ufm-saddles")(ufm_saddles_command)
app.command("report")(report_command)
