from __future__ import annotations

import csv
import io
import math
from dataclasses import replace

from ddn_etf.compare import quantities, summarize
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
        "NC1 (train)",
        "NC2",
        "NC3 (train)",
        "epochs to 99 % train",
        "epochs to 100 % train",
    ]
    nc1 = summarize(comparison)["fixed-etf"]["train_NC1"]
    assert rows[2][2] == f"{nc1.median:.4f} [{nc1.low:.4f}–{nc1.high:.4f}]"
    assert rows[6][1] == "never"


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
