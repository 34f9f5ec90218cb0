from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddn_etf.ufm.rows import RowError, read_rows, rows_csv


@dataclass(frozen=True)
class Row:
    name: str
    count: int | None
    good: bool
    value: float
    rate: float | None


texts = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"))
rows = st.builds(
    Row,
    name=texts,
    count=st.none() | st.integers(),
    good=st.booleans(),
    value=st.floats(allow_nan=False),
    rate=st.none() | st.floats(allow_nan=False),
)


@given(st.lists(rows, max_size=4))
def test_rows_come_back_as_they_were(tmp_path_factory, written):
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    path.write_text(rows_csv(Row, written), encoding="utf-8", newline="")
    assert read_rows(Row, path) == written


def test_nan_comes_back(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(rows_csv(Row, [Row("a", 1, True, math.nan, None)]))
    assert math.isnan(read_rows(Row, path)[0].value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,count\na,1\n", "columns of .* must be name, count, good.*found name, count"),
        ("", "found none"),
        ("name,count,good,value,rate\na,1,True,x,\n", "line 2, is not a row"),
        ("name,count,good,value,rate\na,1,True\n", "line 2, is not a row"),
        ("name,count,good,value,rate\na,1,yes,1.0,\n", "line 2, is not a row"),
    ],
)
def test_other_files_are_refused(text, message, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(RowError, match=message):
        read_rows(Row, path)


def test_no_file(tmp_path):
    with pytest.raises(RowError, match="there is no file"):
        read_rows(Row, tmp_path / "rows.csv")
