from __future__ import annotations

import tomllib

import pytest

from ddn_etf.commands.ufm_minimize import UFM_MINIMIZE_FILES
from ddn_etf.commands.ufm_model_options import UfmMinimizeOptions
from ddn_etf.ufm import (
    LBFGS,
    CrossEntropy,
    ExtendedUnconstrainedFeatures,
    FreeBias,
    GradientDescent,
    Linear,
    MeanSquaredError,
    RegularizedBias,
    ReLU,
    TrustRegion,
    UnconstrainedFeatures,
    cross_entropy_minimum,
    study,
)

SMALL = ("--classes", 4, "--samples-per-class", 5, "--dim", 6)


def test_options_make_the_model_and_the_solver():
    options = UfmMinimizeOptions(classes=4, samples_per_class=5, dim=6)
    assert options.model() == UnconstrainedFeatures(
        num_classes=4,
        samples_per_class=5,
        dim=6,
        loss=CrossEntropy(),
        bias=FreeBias(),
        activation=Linear(),
        weight_decay_W=5e-3,
        weight_decay_H=1e-3,
    )
    assert options.solver_object() == LBFGS()
    options = UfmMinimizeOptions(
        classes=4,
        samples_per_class=5,
        dim=6,
        layers=2,
        width=7,
        loss="mean-squared-error",
        bias="regularized",
        activation="relu",
        weight_decay_w=1e-3,
        weight_decay_w1=2e-3,
        weight_decay_h=3e-3,
        weight_decay_b=4e-3,
        solver="gradient-descent",
        learning_rate=0.1,
        momentum=0.5,
        tolerance=1e-4,
        max_iterations=9,
    )
    assert options.model() == ExtendedUnconstrainedFeatures(
        num_classes=4,
        samples_per_class=5,
        dim=6,
        width=7,
        loss=MeanSquaredError(),
        bias=RegularizedBias(4e-3),
        activation=ReLU(),
        weight_decay_W2=1e-3,
        weight_decay_W1=2e-3,
        weight_decay_H=3e-3,
    )
    assert options.solver_object() == GradientDescent(0.1, 0.5, 1e-4, 9)
    newton = UfmMinimizeOptions(solver="newton-cg", tolerance=1e-5)
    assert newton.solver_object() == TrustRegion(tolerance=1e-5)


def test_a_table_and_a_complete_folder(tmp_path, invoke, rows):
    arguments = ("ufm-minimize", *SMALL, "--seeds", 2, "--output", tmp_path)
    status, output = invoke(*arguments)
    assert status == 0, output
    minimum = cross_entropy_minimum(4, 5, 5e-3, 1e-3)
    assert f"Closed form: {minimum.value:.10f}, the global minimum." in output
    assert "certified as global minima 2 of 2" in output
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {*UFM_MINIMIZE_FILES, "config.toml", "figures", "histories"}
    found = rows(tmp_path / "runs.csv")
    assert [row["seed"] for row in found] == ["0", "1"]
    for row in found:
        assert float(row["value"]) == pytest.approx(minimum.value, abs=1e-8)
        assert row["is_global"] == "True"
        assert float(row["NC1"]) < 1e-8
        history = rows(tmp_path / "histories" / f"seed-{row['seed']}.csv")
        assert len(history) == int(row["iterations"]) + 1
        assert float(history[-1]["value"]) == pytest.approx(float(row["value"]), abs=1e-12)
    config = tomllib.loads((tmp_path / "config.toml").read_text())
    assert config["ufm-minimize"]["classes"] == 4
    page = (tmp_path / "report.html").read_text()
    assert "ddn-etf ufm-minimize --classes 4" in page
    assert 'src="data:image/png;base64,' in page
    status, output = invoke(*arguments)
    assert status == 1
    assert "already holds runs.csv" in output


@pytest.mark.parametrize(
    "arguments",
    [
        ("--loss", "mean-squared-error", "--bias", "none", "--activation", "relu"),
        ("--loss", "mean-squared-error", "--bias", "none", "--layers", 2),
        ("--bias", "regularized", "--weight-decay-b", 0.01, "--solver", "newton-cg"),
        ("--layers", 2, "--solver", "gradient-descent", "--max-iterations", 5),
    ],
    ids=str,
)
def test_every_kind_of_model(arguments, tmp_path, invoke, rows):
    status, output = invoke("ufm-minimize", *SMALL, *arguments, "--seeds", 1, "--output", tmp_path)
    assert status == 0, output
    assert len(rows(tmp_path / "runs.csv")) == 1


def test_runs_that_diverge_are_told(tmp_path, invoke):
    descent = ("--solver", "gradient-descent", "--learning-rate", "1e9", "--seeds", 2)
    status, output = invoke("ufm-minimize", *SMALL, *descent, "--output", tmp_path)
    assert status == 0, output
    assert "diverged; a smaller --learning-rate helps" in output
    assert "diverged 2 of 2" in output


def test_an_interrupt_keeps_the_finished_seeds(tmp_path, invoke, rows, monkeypatch):
    whole, part = tmp_path / "whole", tmp_path / "part"
    arguments = ("ufm-minimize", *SMALL, "--seeds", 3)
    assert invoke(*arguments, "--output", whole)[0] == 0
    solve, calls = LBFGS.minimize, []

    def minimize(self, model, start):
        calls.append(start)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return solve(self, model, start)

    monkeypatch.setattr(LBFGS, "minimize", minimize)
    status, output = invoke(*arguments, "--output", part)
    assert status == 130
    assert "2 finished seeds are kept" in output
    assert output.endswith(
        f"ddn-etf ufm-minimize --config {part / 'config.toml'} --output {part} --resume"
    )
    calls[:] = []
    config = ("--config", part / "config.toml", "--output", part, "--resume")
    status, output = invoke("ufm-minimize", *config)
    assert status == 0, output
    assert len(calls) == 1
    assert output.count("(kept)") == 2

    def numbers(folder):
        return [{**row, "seconds": ""} for row in rows(folder / "runs.csv")]

    assert numbers(part) == numbers(whole)
    # Fewer seeds: the report is about those, and no finished run is lost.
    assert invoke("ufm-minimize", *config, "--seeds", 1)[0] == 0
    assert numbers(part) == numbers(whole)
    assert invoke("ufm-minimize", *config, "--seeds", 3)[0] == 0
    assert len(calls) == 1
    for name in ("config.toml", "figures/descent.png", "histories/seed-0.csv"):
        assert (part / name).read_bytes() == (whole / name).read_bytes()


def test_other_options_are_not_resumed(tmp_path, invoke):
    assert invoke("ufm-minimize", *SMALL, "--seeds", 1, "--output", tmp_path)[0] == 0
    before = (tmp_path / "runs.csv").read_text()
    other = ("--seeds", 2, "--bias", "none", "--output", tmp_path, "--resume")
    status, output = invoke("ufm-minimize", *SMALL, *other)
    assert status == 1
    assert "were made with bias = 'free', and bias = 'none' is asked for" in output
    assert (tmp_path / "runs.csv").read_text() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--loss", "focal"), "unknown loss 'focal'; give one of cross-entropy, mean-squared"),
        (("--bias", "some"), "unknown bias 'some'; give one of none, free, regularized"),
        (("--bias", "regularized"), "give --weight-decay-b"),
        (("--weight-decay-b", "0.1"), "weight-decay-b belongs to bias regularized"),
        (("--activation", "gelu"), "unknown activation 'gelu'; give one of linear, relu"),
        (("--width", "8"), "width belongs to two layers"),
        (("--solver", "adam"), "unknown solver 'adam'; give one of lbfgs, newton-cg, gradient"),
        (("--learning-rate", "1"), "learning-rate belongs to gradient descent"),
        (("--weight-decay-w", "nan"), "weight_decay_W must be a positive number, found nan"),
        (("--weight-decay-h", "-1"), "weight_decay_H must be a positive number, found -1.0"),
        (("--samples-per-class", "0"), "samples_per_class is 0"),
        (("--max-iterations", "0"), "max_iterations must be at least 1"),
        (("--scale", "0"), "scale must be a positive number"),
        (("--resume", "--overwrite"), "give one"),
    ],
)
def test_a_wrong_argument_is_explained(arguments, message, tmp_path, monkeypatch, invoke):
    monkeypatch.chdir(tmp_path)
    status, output = invoke("ufm-minimize", *arguments)
    assert status == 2
    assert message in output
    assert list(tmp_path.iterdir()) == []


def test_one_class_is_an_error(tmp_path, monkeypatch, invoke):
    monkeypatch.chdir(tmp_path)
    status, output = invoke("ufm-minimize", "--classes", 1)
    assert status == 1
    assert "num_classes is 1" in output
    assert list(tmp_path.iterdir()) == []


def test_the_command_is_what_the_study_does(tmp_path, invoke, rows):
    invoke("ufm-minimize", *SMALL, "--seeds", 1, "--output", tmp_path)
    options = UfmMinimizeOptions(classes=4, samples_per_class=5, dim=6)
    run, _ = study.minimize_once(options.model(), options.solver_object(), 0)
    assert float(rows(tmp_path / "runs.csv")[0]["value"]) == run.value
