from __future__ import annotations

import csv
import io
import math

import pytest

from ddn_etf.history import EpochRecord, HistoryError, history_csv, read_history


def test_history_is_written_without_rounding(comparison):
    rows = list(csv.DictReader(io.StringIO(history_csv(comparison.records))))
    assert list(rows[0]) == ["head", "seed", "epoch", "split", "quantity", "value"]
    read = {
        (
            row["head"],
            int(row["seed"]),
            int(row["epoch"]),
            f"{row['split']}_{row['quantity']}",
        ): float(row["value"])
        for row in rows
    }
    assert read == {
        (record.head, record.seed, record.epoch, name): value
        for record in comparison.records
        for name, value in record.values.items()
    }
    assert {row["split"] for row in rows} == {"train", "test"}


def test_what_is_read_is_what_was_written(comparison, tmp_path):
    path = tmp_path / "history.csv"
    path.write_text(history_csv(comparison.records))
    assert read_history(path) == list(comparison.records)


def test_infinity_and_nan_come_back(tmp_path):
    path = tmp_path / "history.csv"
    values = {"train_loss": math.inf, "test_etf_distance": math.nan}
    path.write_text(history_csv([EpochRecord("linear", 0, 1, values)]))
    [record] = read_history(path)
    assert record.values["train_loss"] == math.inf
    assert math.isnan(record.values["test_etf_distance"])
    assert record == EpochRecord("linear", 0, 1, values)


def test_records_are_compared_value_by_value():
    record = EpochRecord("linear", 0, 1, {"train_loss": 1.0, "test_mistake_severity": float("nan")})
    assert record == EpochRecord(
        "linear", 0, 1, {"train_loss": 1.0, "test_mistake_severity": float("nan")}
    )
    assert record != EpochRecord("linear", 0, 1, {"train_loss": 1.0, "test_mistake_severity": 1.0})
    assert record != EpochRecord("linear", 0, 1, {"train_loss": 1.0})
    assert record != EpochRecord("linear", 0, 2, record.values)
    assert record != "linear"


def test_files_that_are_no_history(tmp_path):
    path = tmp_path / "history.csv"
    with pytest.raises(HistoryError, match="there is no history"):
        read_history(path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(HistoryError, match="found a, b"):
        read_history(path)
    path.write_text("")
    with pytest.raises(HistoryError, match="found none"):
        read_history(path)


@pytest.mark.parametrize(
    "row", ["linear,0,1,train,loss,zero", "linear,0,one,train,loss,0", "linear"]
)
def test_a_damaged_row_is_named(row, tmp_path):
    path = tmp_path / "history.csv"
    path.write_text(f"head,seed,epoch,split,quantity,value\nlinear,0,1,train,NC1,0.5\n{row}\n")
    with pytest.raises(HistoryError, match="line 3"):
        read_history(path)
