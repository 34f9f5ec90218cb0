from __future__ import annotations

import base64
import csv
import io
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from ddn_etf.compare import compare, summarize
from ddn_etf.methods import METHODS
from ddn_etf.report import (
    REPORT_FILES,
    command_line,
    history_csv,
    report_html,
    run_table,
    summary_csv,
    summary_table,
    table_title,
    write_report,
)
from ddn_etf.settings import TrainingSettings


class Page(HTMLParser):
    """The tags of a page that have to be closed, and the addresses it refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        if tag not in {"meta", "img", "link", "br"}:
            self.open.append(tag)
        self.addresses += [value for name, value in attributes if name in {"src", "href"}]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


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


def test_summary_is_written_without_rounding(comparison):
    rows = list(csv.DictReader(io.StringIO(summary_csv(comparison))))
    summary = summarize(comparison)
    assert len(rows) == sum(map(len, summary.values()))
    for row in rows:
        expected = summary[row["head"]][row["quantity"]]
        found = [float(row[name]) for name in ("median", "minimum", "maximum")]
        assert found == [expected.median, expected.low, expected.high]
        assert row["seeds"] == "2"
    never = [row for row in rows if row["quantity"] == "epochs_to_target"]
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
    ]
    nc1 = summarize(comparison)["fixed-etf"]["train_NC1"]
    assert rows[2][2] == f"{nc1.median:.4f} [{nc1.low:.4f}–{nc1.high:.4f}]"
    assert rows[5][1] == "never"


def test_no_range_where_all_seeds_agree(comparison):
    one_seed = replace(
        comparison, seeds=(0,), records=tuple(r for r in comparison.records if r.seed == 0)
    )
    assert not any("[" in cell for row in summary_table(one_seed)[1] for cell in row)
    assert table_title(one_seed) == "digits after 2 epochs: one seed [range]"


def test_the_table_of_one_run(comparison):
    run = comparison.run("nearest-etf", 1)
    header, rows = run_table(run)
    assert header == ["", "nearest-etf"]
    assert rows[1] == ["test accuracy (%)", f"{run[-1].values['test_accuracy']:.1f}"]


def test_the_page_refers_to_nothing_outside_itself(comparison):
    page = Page(report_html(comparison, b"picture"))
    assert page.open == []
    assert page.addresses == ["data:image/png;base64," + base64.b64encode(b"picture").decode()]


def test_the_page_holds_table_settings_versions_and_command(comparison):
    text = report_html(comparison, b"")
    for row in summary_table(comparison)[1]:
        for cell in row:
            assert cell in text
    for method in METHODS.values():
        assert method.description in text
    assert re.search(r"learning rate</th><td>0\.1</td>", text)
    assert re.search(r"torch</th><td>\d+\.\d+", text)
    assert "ddn_etf.compare.compare" in text  # 16 features are no option of the command line


def test_text_is_escaped_in_the_page(comparison):
    assert "&lt;b&gt;digits" in report_html(replace(comparison, dataset="<b>digits"), b"")


def test_the_command_repeats_the_comparison(comparison):
    settings = TrainingSettings(epochs=7, learning_rate=0.025, threads=2)
    assert command_line(replace(comparison, settings=settings)) == (
        "ddn-etf compare --heads linear,fixed-etf,nearest-etf --seeds 2 --epochs 7 "
        "--batch-size 128 --learning-rate 0.025 --threads 2 --accelerator cpu"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"settings": TrainingSettings(dim=32)},
        {"settings": TrainingSettings(), "seeds": (1, 2)},
        {"settings": TrainingSettings(), "dataset": "other"},
    ],
)
def test_no_command_where_an_option_is_missing(comparison, change):
    assert command_line(replace(comparison, **change)) is None


def test_all_files_are_written(comparison, tmp_path):
    paths = write_report(comparison, tmp_path)
    assert [path.name for path in paths] == list(REPORT_FILES)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(REPORT_FILES)
    assert (tmp_path / "history.csv").read_text() == history_csv(comparison.records)
    picture = (tmp_path / "figure.png").read_bytes()
    assert base64.b64encode(picture).decode() in (tmp_path / "report.html").read_text("utf-8")


def test_equal_runs_give_equal_files(comparison, small_digits, quick, tmp_path):
    again = compare(comparison.methods, comparison.seeds, small_digits, quick)
    for name, result in (("first", comparison), ("second", again)):
        (tmp_path / name).mkdir()
        write_report(result, tmp_path / name)
    for name in REPORT_FILES:
        first, second = (tmp_path / run / name for run in ("first", "second"))
        assert first.read_bytes() == second.read_bytes(), name
