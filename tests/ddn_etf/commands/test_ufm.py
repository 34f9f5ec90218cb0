from __future__ import annotations

import tomllib

import pytest

from ddn_etf.commands.ufm import UFM_FILES, UfmOptions
from ddn_etf.ufm import experiment
from ddn_etf.ufm.experiment import ExperimentSettings


@pytest.fixture
def tiny(monkeypatch):
    settings = ExperimentSettings(
        num_classes=4, samples_per_class=3, dim=5, feature_rates=(1.0, 8.0), weight_rates=(1.0,)
    )
    monkeypatch.setitem(experiment.EXPERIMENTS, "ufm-10", settings)


def test_options_are_laid_over_the_experiment(tiny):
    settings = UfmOptions(heads=" linear , fixed-etf", seeds=2, gap=0.1).settings()
    assert (settings.num_classes, settings.heads, settings.seeds) == (
        4,
        ("linear", "fixed-etf"),
        (0, 1),
    )
    assert (settings.gap, settings.max_iterations) == (0.1, ExperimentSettings().max_iterations)
    assert UfmOptions(max_iterations=7).settings().max_iterations == 7


def test_a_table_and_a_complete_folder(tiny, tmp_path, invoke, rows):
    arguments = ("ufm", "--output", tmp_path, "--seeds", "2", "--gap", "0.1")
    status, output = invoke(*arguments)
    assert status == 0, output
    assert {path.name for path in tmp_path.iterdir()} == {*UFM_FILES, "config.toml", "figures"}
    summary = {row["head"]: row for row in rows(tmp_path / "summary.csv")}
    assert list(summary) == ["linear", "fixed-etf", "nearest-etf"]
    for head, row in summary.items():
        reported = [
            float(run["iterations"])
            for run in rows(tmp_path / "runs.csv")
            if run["head"] == head and run["tuning"] == "False"
        ]
        assert len(reported) == 2
        assert float(row["median"]) == sum(reported) / 2
        assert (float(row["minimum"]), float(row["maximum"])) == (min(reported), max(reported))
    assert tomllib.loads((tmp_path / "config.toml").read_text())["ufm"]["gap"] == 0.1
    page = (tmp_path / "report.html").read_text()
    assert "ddn-etf ufm --experiment ufm-10" in page
    assert 'src="data:image/png;base64,' in page
    assert 'href="' not in page
    status, output = invoke(*arguments)
    assert status == 1
    assert "already holds runs.csv" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--experiment", "ufm-7"), "unknown experiment 'ufm-7'; known experiments: ufm-10"),
        (("--heads", "etf"), "unknown head 'etf'"),
        (("--momentum", "1"), "momentum must lie in [0, 1)"),
        (("--gap", "0"), "gap must be a positive number"),
    ],
)
def test_a_wrong_argument_is_explained(arguments, message, tmp_path, monkeypatch, invoke):
    monkeypatch.chdir(tmp_path)
    status, output = invoke("ufm", *arguments)
    assert status == 2
    assert message in output
    assert list(tmp_path.iterdir()) == []
