from __future__ import annotations

import pytest

from ddn_etf.commands.ufm_model_options import UfmSaddlesOptions
from ddn_etf.commands.ufm_saddles import UFM_SADDLES_FILES
from ddn_etf.ufm.landscape import strict_saddle_report
from ddn_etf.ufm.landscape.groups import PointRow, point_row
from ddn_etf.ufm.landscape.search import FewerFeatures
from ddn_etf.ufm.rows import read_rows

SMALL = ("--classes", 4, "--samples-per-class", 2, "--dim", 5, "--count", 6)


def test_a_table_and_a_complete_folder(tmp_path, invoke, rows):
    arguments = ("ufm-saddles", *SMALL, "--output", tmp_path)
    status, output = invoke(*arguments)
    assert status == 0, output
    assert "6 critical points in" in output
    assert "0 undecided" in output
    assert "At saddles ‖∇g‖ is at least" in output
    assert {path.name for path in tmp_path.iterdir()} == {
        *UFM_SADDLES_FILES,
        "config.toml",
        "figures",
    }
    options = UfmSaddlesOptions(classes=4, samples_per_class=2, dim=5)
    report = strict_saddle_report(options.one_layer(), 6)
    found = read_rows(PointRow, tmp_path / "points.csv")
    assert [row.kind for row in found] == [point.kind.value for point in report.points]
    for row, point in zip(found, report.points, strict=True):
        expected = point_row(point)
        assert row.value == pytest.approx(expected.value, abs=1e-9)
        assert (row.rank, row.index, row.source) == (point.rank, point.index, point.source)
    assert sum(int(row["times"]) for row in rows(tmp_path / "groups.csv")) == 6
    page = (tmp_path / "report.html").read_text()
    assert "ddn-etf ufm-saddles --classes 4" in page
    assert 'src="data:image/png;base64,' in page
    status, output = invoke(*arguments)
    assert status == 1
    assert "already holds points.csv" in output


def test_fewer_points_than_asked_for_are_told(tmp_path, invoke):
    status, output = invoke("ufm-saddles", *SMALL, "--max-attempts", 1, "--output", tmp_path)
    assert status == 0, output
    assert "6 points were asked for" in output


def test_an_interrupt_keeps_the_points(tmp_path, invoke, monkeypatch):
    def find(self, model, generator):
        raise KeyboardInterrupt

    # The third search of the default ones.
    monkeypatch.setattr(FewerFeatures, "find", find)
    status, output = invoke("ufm-saddles", *SMALL, "--output", tmp_path)
    assert status == 130
    found = read_rows(PointRow, tmp_path / "points.csv")
    assert 1 <= len(found) <= 2
    assert f"The {len(found)} points found so far" in output
    assert "--overwrite" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--bias", "some"), "unknown bias 'some'"),
        (("--weight-decay-w", "0"), "weight_decay_W must be a positive number"),
        (("--count", "0"), "count"),
    ],
)
def test_a_wrong_argument_is_explained(arguments, message, tmp_path, monkeypatch, invoke):
    monkeypatch.chdir(tmp_path)
    status, output = invoke("ufm-saddles", *arguments)
    assert status == 2
    assert message in output
    assert list(tmp_path.iterdir()) == []
