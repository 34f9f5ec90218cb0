from __future__ import annotations

import csv
import io
import math
from dataclasses import replace

from ddn_etf.compare import Comparison, quantities, summarize
from ddn_etf.history import EpochRecord
from ddn_etf.tables import (
    evaluation_table,
    full_table,
    run_table,
    summary_csv,
    summary_table,
    table_title,
)


def test_summary_is_written_without_rounding(comparison):
    rows = list(csv.DictReader(io.StringIO(summary_csv(comparison))))
    summary = summarize(comparison)
    assert len(rows) == sum(map(len, summary.values()))
    for row in rows:
        expected = summary[row["head"]][row["quantity"]]
        found = [float(row[name]) for name in ("median", "minimum", "maximum")]
        assert found == [expected.median, expected.low, expected.high]
        assert row["seeds"] == "2"
    never = [row for row in rows if row["quantity"] == "epochs_to_100"]
    assert math.isinf(float(never[0]["maximum"]))  # two epochs on 300 images are too few


def test_the_table_has_a_row_per_quantity_and_a_column_per_head(comparison):
    header, rows = summary_table(comparison)
    assert header == ["", "learned", "fixed ETF", "nearest ETF"]
    assert [row[0] for row in rows] == [
        "train accuracy (%)",
        "test accuracy (%)",
        "mistake severity (test)",
        "hd@5 (test)",
        "hp@5 (test)",
        "NC1 (train)",
        "NC2",
        "NC3 (train)",
        "epochs to 99 % train",
        "epochs to 100 % train",
    ]
    nc1 = summarize(comparison)["fixed-etf"]["train_NC1"]
    assert rows[5][2] == f"{nc1.median:.4f} [{nc1.low:.4f}–{nc1.high:.4f}]"
    assert rows[9][1] == "never"


def test_large_numbers_are_short():
    values = {"train_accuracy": 10.0, "train_NC1": 123456789.0, "train_NC3": 1.5}
    _, rows = run_table([EpochRecord("linear", 0, 1, values)])
    cells = dict(rows)
    assert (cells["NC1 (train)"], cells["NC3 (train)"]) == ("1.235e+08", "1.5000")


def test_the_full_table_has_everything(comparison):
    header, rows = full_table(comparison)
    assert header == ["", "learned", "fixed ETF", "nearest ETF"]
    assert len(rows) == len(quantities(comparison.records))
    table = {row[0]: row[1:] for row in rows}
    vci = summarize(comparison)["linear"]["test_VCI"]
    assert table["VCI (test)"][0] == f"{vci.median:.4g} [{vci.low:.4g}–{vci.high:.4g}]"
    assert table["epochs to 100 % train"][0] == "never"
    assert "cosine margin (train)" in table


def test_no_range_where_all_seeds_agree(comparison):
    one_seed = replace(
        comparison, seeds=(0,), records=tuple(r for r in comparison.records if r.seed == 0)
    )
    for table in (summary_table(one_seed), full_table(one_seed)):
        assert not any("[" in cell for row in table[1] for cell in row)
    assert table_title(one_seed) == "digits after 2 epochs: one seed [range]"


def test_heads_with_fewer_seeds_say_so(comparison):
    fewer = replace(
        comparison,
        records=tuple(r for r in comparison.records if (r.head, r.seed) != ("linear", 1)),
    )
    for header, _ in (summary_table(fewer), full_table(fewer)):
        assert header == ["", "learned (1 of 2 seeds)", "fixed ETF", "nearest ETF"]
    assert table_title(fewer) == "digits after 2 epochs: median over 1–2 seeds [range]"
    assert table_title(comparison) == "digits after 2 epochs: median over 2 seeds [range]"


def test_the_table_of_one_run(comparison):
    run = comparison.run("nearest-etf", 1)
    header, rows = run_table(run)
    assert header == ["", "nearest-etf"]
    assert rows[1] == ["test accuracy (%)", f"{run[-1].values['test_accuracy']:.1f}"]


def test_the_table_of_an_evaluation():
    values = {
        "train": {"loss": 0.5, "cosine_margin": 1.0},
        "test": {"loss": 2.0, "cosine_margin": -1},
    }
    assert evaluation_table(values) == (
        ["", "train", "test"],
        [["loss", "0.5", "2"], ["cosine margin", "1", "-1"]],
    )


def severities(comparison: Comparison, values: dict[int, float]) -> Comparison:
    """The last epoch of the first head of a comparison with these severities, by seed."""
    records = []
    for seed, value in values.items():
        end = comparison.run("linear", 0)[-1].values | {"test_mistake_severity": value}
        records.append(EpochRecord("linear", seed, 2, end))
    return replace(
        comparison,
        methods=comparison.methods[:1],
        seeds=tuple(values),
        records=tuple(records),
    )


def test_seeds_without_a_mistake_are_left_out_and_counted(comparison):
    some = severities(comparison, {0: 2.0, 1: math.nan, 2: 1.0})
    assert dict(summary_table(some)[1])["mistake severity (test)"] == (
        "1.500 [1.000–2.000] (2 of 3 seeds)"
    )
    assert dict(full_table(some)[1])["mistake severity (test)"] == "1.5 [1–2] (2 of 3 seeds)"
    rows = list(csv.DictReader(io.StringIO(summary_csv(some))))
    seeds = {row["quantity"]: row["seeds"] for row in rows}
    assert seeds["test_mistake_severity"] == "2"
    assert seeds["test_accuracy"] == "3"


def test_no_mistake_at_all_is_a_dash(comparison):
    none = severities(comparison, {0: math.nan, 1: math.nan})
    assert dict(summary_table(none)[1])["mistake severity (test)"] == "–"
    assert dict(full_table(none)[1])["mistake severity (test)"] == "–"
    assert dict(run_table(none.run("linear", 0))[1])["mistake severity (test)"] == "–"
    assert evaluation_table({"test": {"mistake_severity": math.nan}})[1] == [
        ["mistake severity", "–"]
    ]
    [row] = [
        row
        for row in csv.DictReader(io.StringIO(summary_csv(none)))
        if row["quantity"] == "test_mistake_severity"
    ]
    assert (row["median"], row["seeds"]) == ("nan", "0")


def test_without_a_hierarchy_there_are_no_rows_about_it(comparison):
    plain = tuple(
        replace(
            record,
            values={
                name: value
                for name, value in record.values.items()
                if not any(word in name for word in ("severity", "hd@", "hp@"))
            },
        )
        for record in comparison.records
    )
    titles = [row[0] for row in summary_table(replace(comparison, records=plain))[1]]
    assert titles[1:3] == ["test accuracy (%)", "NC1 (train)"]
    # A history from before the data set had a hierarchy beside a new one.
    mixed = tuple(
        old if old.head == "linear" else new
        for old, new in zip(plain, comparison.records, strict=True)
    )
    row = {row[0]: row[1:] for row in summary_table(replace(comparison, records=mixed))[1]}
    assert row["hd@5 (test)"][0] == "–"
    assert "–" not in row["hd@5 (test)"][1][:1]
