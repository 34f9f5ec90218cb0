from __future__ import annotations

import tomllib

import pytest

from ddn_etf.commands.ufm import UFM_FILES, UfmOptions
from ddn_etf.ufm import experiment
from ddn_etf.ufm.experiment import ExperimentSettings, convergence


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
        (("--feature-rates", "1,x"), "feature-rates must be numbers separated by commas"),
        (("--feature-rates", ","), "feature_rates is empty"),
        (("--samples-per-class", "0"), "samples_per_class is 0"),
        (("--resume", "--overwrite"), "give one"),
    ],
)
def test_a_wrong_argument_is_explained(arguments, message, tmp_path, monkeypatch, invoke):
    monkeypatch.chdir(tmp_path)
    status, output = invoke("ufm", *arguments)
    assert status == 2
    assert message in output
    assert list(tmp_path.iterdir()) == []


def test_sizes_and_grids_of_ones_own():
    settings = UfmOptions(
        classes=6,
        samples_per_class=2,
        dim=9,
        feature_rates="1, 2.5",
        weight_rates="4",
        hold=3,
        stable=True,
    ).settings()
    assert (settings.num_classes, settings.samples_per_class, settings.dim) == (6, 2, 9)
    assert (settings.feature_rates, settings.weight_rates) == ((1.0, 2.5), (4.0,))
    assert (settings.hold, settings.stable_rates_only) == (3, True)
    assert UfmOptions().settings() == ExperimentSettings()


def test_an_interrupt_keeps_the_finished_runs(tiny, tmp_path, invoke, rows, monkeypatch):
    whole, part = tmp_path / "whole", tmp_path / "part"
    arguments = ("ufm", "--seeds", "2", "--gap", "0.1")
    assert invoke(*arguments, "--output", whole)[0] == 0
    converge, calls = convergence.converge, []

    def counted(*values, **options):
        calls.append(values)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return converge(*values, **options)

    monkeypatch.setattr(convergence, "converge", counted)
    status, output = invoke(*arguments, "--output", part)
    assert status == 130
    assert f"6 finished runs are kept in {part / 'runs.csv'}" in output
    assert output.endswith(f"ddn-etf ufm --config {part / 'config.toml'} --output {part} --resume")
    assert len(rows(part / "runs.csv")) == 6
    calls[:] = [None] * 100
    config = ("--config", part / "config.toml", "--output", part, "--resume")
    status, output = invoke("ufm", *config)
    assert status == 0, output
    assert "kept 6 finished runs" in output

    def numbers(folder):
        return [{**row, "seconds": ""} for row in rows(folder / "runs.csv")]

    assert len(calls) - 100 == len(numbers(whole)) - 6
    assert numbers(part) == numbers(whole)
    assert (part / "summary.csv").read_text() == (whole / "summary.csv").read_text()
    # More seeds: those that are there stay.
    calls[:] = [None] * 100
    assert invoke("ufm", *config, "--seeds", "3")[0] == 0
    assert len(calls) - 100 == 3
    # Fewer heads: the summary is about those, and no finished run is lost.
    assert invoke("ufm", *config, "--heads", "fixed-etf")[0] == 0
    assert [row["head"] for row in rows(part / "summary.csv")] == ["fixed-etf"]
    assert len(calls) - 100 == 3
    status, output = invoke("ufm", *config, "--gap", "0.2")
    assert status == 1
    assert "were made with gap = 0.1, and gap = 0.2 is asked for" in output
    assert len(rows(part / "runs.csv")) == len(numbers(whole)) + 3


def test_overwriting_forgets_the_runs(tiny, tmp_path, invoke, monkeypatch):
    arguments = ("ufm", "--seeds", "1", "--gap", "0.1", "--output", tmp_path)
    assert invoke(*arguments)[0] == 0
    monkeypatch.setattr(convergence, "converge", interrupt)
    assert invoke(*arguments, "--overwrite")[0] == 130
    assert (tmp_path / "runs.csv").read_text().count("\n") == 1


def interrupt(*_, **__):
    raise KeyboardInterrupt


def test_no_stable_rate_is_an_error(tiny, tmp_path, invoke):
    status, output = invoke(
        "ufm", "--stable", "--feature-rates", "1e6", "--output", tmp_path / "run"
    )
    assert status == 1
    assert "no rate of the features is stable for head 'linear'" in output
