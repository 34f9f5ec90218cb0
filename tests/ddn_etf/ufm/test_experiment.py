from __future__ import annotations

import csv
import math
from dataclasses import replace

import pytest
import torch

from ddn_etf.errors import FrameSizeError
from ddn_etf.methods import find_method
from ddn_etf.ufm.experiment import (
    EXPERIMENTS,
    ExperimentResult,
    ExperimentSettings,
    Run,
    converge,
    run_experiment,
)

SMALL = ExperimentSettings(
    num_classes=4,
    samples_per_class=5,
    dim=6,
    feature_rates=(0.5, 4.0),
    weight_rates=(1.0,),
    seeds=(0, 1),
    max_iterations=60,
)


@pytest.fixture(scope="module")
def result():
    return run_experiment(SMALL)


def test_runs_of_all_heads(result):
    linear, fixed, nearest = SMALL.heads
    for head, count in ((linear, 2), (fixed, 2), (nearest, 2)):
        runs = [run for run in result.runs if run.head == head]
        assert [run.tuning for run in runs] == [True] * count + [False] * 2
        assert [run.seed for run in runs] == [100] * count + [0, 1]
        assert all((run.weight_rate is None) == (head != linear) for run in runs)
        for run in runs:
            if run.iterations is not None:
                assert run.loss <= SMALL.lower_bound + SMALL.gap
                assert run.iterations <= SMALL.max_iterations


def test_summaries(result):
    summaries = {summary.head: summary for summary in result.summaries()}
    assert list(summaries) == list(SMALL.heads)
    assert summaries["nearest-etf"].median <= summaries["fixed-etf"].median
    assert summaries["nearest-etf"].median <= summaries["linear"].median
    for summary in summaries.values():
        assert summary.lowest <= summary.median <= summary.highest


def test_best_rates_are_those_of_the_tuning_seeds(result):
    for summary in result.summaries():
        trials = [run for run in result.runs if run.head == summary.head and run.tuning]
        steps = {
            (run.feature_rate, run.weight_rate): math.inf
            if run.iterations is None
            else run.iterations
            for run in trials
        }
        assert steps[summary.feature_rate, summary.weight_rate] == min(steps.values())


def test_known_numbers_of_iterations():
    """The facts sheet's example, K = 10, n = 20, d = 64: 29 steps fixed, 23 nearest, rate N/2."""
    settings = EXPERIMENTS["ufm-10"]
    for head, expected in (("fixed-etf", 29), ("nearest-etf", 23)):
        run = converge(find_method(head), settings, 0.5, None, seed=0)
        assert abs(run.iterations - expected) <= 1


def test_runs_repeat_and_leave_the_global_state_alone():
    method = find_method("linear")
    state = torch.get_rng_state()
    runs = [converge(method, SMALL, 4.0, 1.0, seed=7) for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), state)
    assert replace(runs[0], seconds=0) == replace(runs[1], seconds=0)
    assert converge(method, SMALL, 4.0, 1.0, seed=8).loss != runs[0].loss


def test_a_run_that_does_not_arrive():
    run = converge(find_method("fixed-etf"), replace(SMALL, max_iterations=1), 1e-3, None, seed=0)
    assert run.iterations is None
    result = ExperimentResult(replace(SMALL, heads=("fixed-etf",)), (run,))
    assert result.summaries()[0].median == math.inf


@pytest.mark.parametrize("head", SMALL.heads)
def test_a_run_that_diverges(head):
    run = converge(find_method(head), SMALL, 1e36, 1.0, seed=0)
    assert run.iterations is None
    assert not run.loss <= SMALL.lower_bound + SMALL.gap


def test_double_precision():
    run = converge(find_method("nearest-etf"), replace(SMALL, double=True), 4.0, None, seed=0)
    assert run.iterations is not None


def test_table(result, tmp_path):
    path = tmp_path / "runs.csv"
    result.write_csv(path)
    result.write_csv(path, append=True)
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 2 * len(result.runs)
    assert rows[0].keys() == Run.__dataclass_fields__.keys()


def test_callback():
    seen = []
    settings = replace(SMALL, heads=("fixed-etf",), seeds=(0,), max_iterations=2)
    result = run_experiment(settings, on_run=seen.append)
    assert tuple(seen) == result.runs


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"dim": 2}, FrameSizeError, "dim is 2"),
        ({"heads": ("none",)}, ValueError, "unknown head 'none'"),
        ({"gap": 0.0}, ValueError, "gap"),
        ({"momentum": 1.0}, ValueError, "momentum"),
        ({"feature_rates": ()}, ValueError, "feature_rates"),
        ({"weight_rates": (-1.0,)}, ValueError, "weight_rates"),
        ({"seeds": ()}, ValueError, "seeds"),
        ({"max_iterations": 0}, ValueError, "max_iterations"),
    ],
)
def test_bad_settings(change, error, message):
    with pytest.raises(error, match=message):
        replace(SMALL, **change)


def test_a_learned_head_needs_a_rate():
    with pytest.raises(ValueError, match="needs a weight_rate"):
        converge(find_method("linear"), SMALL, 1.0, None, seed=0)


@pytest.mark.parametrize("head", ["ha-frame", "nearest-ha-frame"])
def test_heads_that_need_a_hierarchy_are_refused(head):
    with pytest.raises(
        ValueError, match=f"'{head}' follows a hierarchy of the classes.* have none"
    ):
        replace(SMALL, heads=("linear", head))
