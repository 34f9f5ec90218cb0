"""Records of runs as rows of a CSV file, and back without loss."""

from __future__ import annotations

import csv
import types
from collections.abc import Iterable
from dataclasses import astuple, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from ddn.errors import DeclarativeNodeError
from ddn_etf.history import csv_text

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Row = TypeVar("Row", bound=DataclassInstance)
else:
    Row = TypeVar("Row")

__all__ = ["RowError", "read_rows", "rows_csv"]


class RowError(DeclarativeNodeError, ValueError):
    """A file that does not hold the records it should."""


def rows_csv(kind: type[Row], rows: Iterable[Row]) -> str:
    """A line per record, under the names of its fields; numbers are not rounded, None is empty.

    Args:
        kind: a dataclass whose fields are str, bool, int or float, or one of them or None.
        rows: objects of it; there may be none.
    """
    return csv_text([field.name for field in fields(kind)], map(astuple, rows))


def read_rows(kind: type[Row], path: Path) -> list[Row]:
    """The records of a file of :func:`rows_csv`, equal to those that were written.

    Raises:
        RowError: no such file, other columns, or a cell that cannot be read; names the line.
    """
    if not path.is_file():
        raise RowError(f"there is no file {path}")
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    rows = []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if list(reader.fieldnames or ()) != names:
            raise RowError(
                f"the columns of {path} must be {', '.join(names)}, found "
                f"{', '.join(reader.fieldnames or ['none'])}; it was made by another version or "
                "another command, start anew with --overwrite"
            )
        for line in reader:
            try:
                rows.append(kind(**{name: _value(hints[name], line[name]) for name in names}))
            except (KeyError, TypeError, ValueError) as error:
                raise RowError(
                    f"{path}, line {reader.line_num}, is not a row of that table ({error}); take it "
                    "away, or start anew with --overwrite"
                ) from error
    return rows


def _value(hint: Any, text: str) -> Any:
    if get_origin(hint) in {types.UnionType, Union}:
        if text == "":
            return None
        (hint,) = (each for each in get_args(hint) if each is not types.NoneType)
    if hint is bool:
        return {"True": True, "False": False}[text]
    return hint(text)
