from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from ddn_etf.class_means import CumulativeAverage
from ddn_etf.compare import compare
from ddn_etf.data import SymmetricNoise, digits, noisy
from ddn_etf.head_options import HeadOptions
from ddn_etf.history import history_csv
from ddn_etf.methods import DEFAULT_METHODS
from ddn_etf.report import REPORT_FILES, Origin, report_html, write_report
from ddn_etf.report_figures import ReportFigure
from ddn_etf.tables import full_table, summary_table

FIGURE = ReportFigure("one.png", "A title", "A caption", "In <words>", b"picture")
MOVING = ReportFigure("two.gif", "Another", "Moves", "Dots move", b"film")


class Page(HTMLParser):
    """The tags of a page that have to be closed, its images, and the addresses it refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.alternatives: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        if tag not in {"meta", "img", "link", "br"}:
            self.open.append(tag)
        self.addresses += [value for name, value in attributes if name in {"src", "href"}]
        if tag == "img":
            self.alternatives.append(dict(attributes)["alt"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_refers_to_nothing_outside_itself(comparison):
    page = Page(report_html(comparison, [FIGURE, MOVING]))
    assert page.open == []
    assert page.addresses == [
        "data:image/png;base64," + base64.b64encode(b"picture").decode(),
        "data:image/gif;base64," + base64.b64encode(b"film").decode(),
    ]
    assert page.alternatives == ["In <words>", "Dots move"]


def test_the_page_holds_tables_settings_versions_and_captions(comparison):
    text = report_html(comparison, [FIGURE])
    for table in (summary_table(comparison), full_table(comparison)):
        for row in table[1]:
            for cell in row:
                assert cell in text
    for method in DEFAULT_METHODS:
        assert method.description in text
    assert re.search(r"learning rate</th><td>0\.1</td>", text)
    assert re.search(r"torch</th><td>\d+\.\d+", text)
    assert "<figcaption>A caption</figcaption>" in text


def test_the_page_says_how_it_was_made(comparison):
    assert "ddn_etf.compare.compare" in report_html(comparison, [])
    origin = Origin("ddn-etf compare --epochs 2", "[compare]\nepochs = 2", {"torch": "99.1"})
    text = report_html(comparison, [], origin=origin, missing="No data.")
    assert "<pre>ddn-etf compare --epochs 2</pre>" in text
    assert "<pre>[compare]\nepochs = 2</pre>" in text
    assert "torch</th><td>99.1</td>" in text
    assert "No data." in text
    assert "ddn_etf.compare.compare" not in text


def test_the_page_says_which_options_heads_have(comparison):
    plain = report_html(comparison, [])
    assert "options of" not in plain
    assert "stands in its place" not in plain
    options = HeadOptions(CumulativeAverage(), 0.25, class_balanced=True, warm_up_epochs=2)
    methods = tuple(
        each.with_options(options) if each.follows_means else each for each in DEFAULT_METHODS
    )
    text = " ".join(report_html(replace(comparison, methods=methods), []).split())
    assert text.count("options of") == 1
    row = "average CumulativeAverage(), proximal weight 0.25, class balanced True, warm up epochs 2"
    assert f'<th scope="row">options of nearest ETF</th><td>{row}</td>' in text
    assert text.count("In the first 2 epochs a learned classifier with rows of unit length") == 1


def test_the_page_says_that_labels_are_wrong(comparison):
    assert "made wrong on purpose" not in report_html(comparison, [])
    dataset, _ = noisy(digits(), SymmetricNoise(0.2), seed=0)
    assert "made wrong on purpose" in report_html(replace(comparison, dataset=dataset.name), [])


def test_text_is_escaped_in_the_page(comparison):
    assert "&lt;b&gt;digits" in report_html(replace(comparison, dataset="<b>digits"), [])


def test_all_files_are_written(comparison, tmp_path):
    origin = Origin(versions={"torch": "99.1"})
    paths = write_report(comparison, tmp_path, figures=[FIGURE], origin=origin)
    assert all(path.is_file() for path in paths)
    assert {path.name for path in paths} == {*REPORT_FILES, "one.png"}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*REPORT_FILES, "figures"])
    assert (tmp_path / "history.csv").read_text() == history_csv(comparison.records)
    assert (tmp_path / "figures" / "one.png").read_bytes() == b"picture"
    assert json.loads((tmp_path / "versions.json").read_text()) == {"torch": "99.1"}


def test_equal_runs_give_equal_files(comparison, small_digits, quick, tmp_path):
    again = compare(comparison.methods, comparison.seeds, small_digits, quick)
    written = []
    for name, result in (("first", comparison), ("second", again)):
        (tmp_path / name).mkdir()
        written.append(write_report(result, tmp_path / name, origin=Origin(versions={})))
    assert [path.name for path in written[0]] == [path.name for path in written[1]]
    assert "metrics.png" in [path.name for path in written[0]]
    for first, second in zip(*written, strict=True):
        assert first.read_bytes() == second.read_bytes(), first.name


@pytest.mark.parametrize("name", REPORT_FILES)
def test_an_old_file_is_replaced(comparison, tmp_path, name):
    (tmp_path / name).write_text("old")
    write_report(comparison, tmp_path, figures=[])
    assert (tmp_path / name).read_text() != "old"


def test_the_page_explains_the_metrics_of_mistakes_where_there_are_any(comparison):
    assert "lowest common ancestor" in report_html(comparison, [])
    plain = tuple(
        replace(
            record,
            values={k: v for k, v in record.values.items() if "@" not in k and "severity" not in k},
        )
        for record in comparison.records
    )
    assert "lowest common ancestor" not in report_html(replace(comparison, records=plain), [])
