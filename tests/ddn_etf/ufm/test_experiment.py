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
    NoStableRateError,
    Run,
    converge,
    largest_stable_rate,
    run_experiment,
)
from ddn_etf.ufm.experiment.start import starting_point
from ddn_etf.ufm.rows import read_rows

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
    result.write_csv(path)
    assert read_rows(Run, path) == list(result.runs)


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
        ({"hold": -1}, ValueError, "hold"),
        ({"samples_per_class": 0}, ValueError, "samples_per_class is 0"),
        ({"num_classes": 1}, FrameSizeError, "num_classes is 1"),
        ({"gap": math.nan}, ValueError, "gap must be a positive number, found nan"),
        ({"gap": "0.1"}, TypeError, "gap must be a number"),
        ({"feature_rates": (1.0, math.nan)}, ValueError, "each of feature_rates"),
        ({"seeds": (0, -1)}, ValueError, "each of seeds"),
        ({"seeds": (0.5,)}, TypeError, "each of seeds"),
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


def losses_of(head, settings, rate, steps, seed):
    """The loss after every step, by a loop of its own."""
    features, module, labels = starting_point(find_method(head), settings, seed)
    velocity = torch.zeros_like(features)
    found = []
    for _ in range(steps + 1):
        loss = torch.nn.functional.cross_entropy(module(features, labels), labels)
        (slope,) = torch.autograd.grad(loss, features)
        velocity = settings.momentum * velocity + slope
        with torch.no_grad():
            features -= rate * len(features) * velocity
        found.append(loss.item())
    return found


@pytest.mark.parametrize("head", ["fixed-etf", "nearest-etf"])
def test_hold_counts_the_step_from_which_the_loss_stays_in_the_gap(head):
    """K = 10: at rate 128 the nearest frame is in the gap at once, and leaves it for a while."""
    settings = replace(EXPERIMENTS["ufm-10"], max_iterations=100)
    losses = losses_of(head, settings, 128.0, 160, seed=0)
    inside = [loss <= settings.lower_bound + settings.gap for loss in losses]
    method = find_method(head)
    for hold in (0, 1, 60):
        expected = next(k for k in range(101) if all(inside[k : k + hold + 1]))
        run = converge(method, replace(settings, hold=hold), 128.0, None, seed=0)
        assert run.iterations == expected
    assert converge(method, settings, 128.0, None, seed=0).iterations == 1
    if head == "nearest-etf":
        assert expected > 10


def test_a_run_that_does_not_stay_is_given_up():
    settings = replace(EXPERIMENTS["ufm-10"], max_iterations=10, hold=20)
    assert converge(find_method("nearest-etf"), settings, 128.0, None, seed=0).iterations is None


def dense_edge(head, settings, seed):
    """2 (1 + μ)/(N λ_max) of the Hessian by automatic differentiation, with a fixed frame."""
    settings = replace(settings, double=True)
    features, module, labels = starting_point(find_method(head), settings, seed)

    def loss(f):
        return torch.nn.functional.cross_entropy(module(f.view_as(features), labels), labels)

    hessian = torch.autograd.functional.hessian(loss, features.detach().reshape(-1))
    largest = torch.linalg.eigvalsh(hessian)[-1].item()
    return 2 * (1 + settings.momentum) / (largest * len(features))


@pytest.mark.parametrize("seed", [0, 1])
def test_largest_stable_rate_against_the_dense_hessian(seed):
    for head in ("fixed-etf", "linear"):
        found = largest_stable_rate(find_method(head), SMALL, seed)
        assert found == pytest.approx(dense_edge(head, SMALL, seed), rel=0.05)


def test_largest_stable_rate_of_a_frame_that_follows_the_features():
    """Directions of the gradient of a fresh head, which moves its frame with the features."""
    method = find_method("nearest-etf")
    found = largest_stable_rate(method, SMALL, 0)
    settings = replace(SMALL, double=True)
    features = starting_point(method, settings, 0)[0].detach()

    def slope(f):
        _, head, labels = starting_point(method, settings, 0)
        f = f.detach().requires_grad_()
        loss = torch.nn.functional.cross_entropy(head(f, labels), labels)
        return torch.autograd.grad(loss, f)[0].reshape(-1)

    size, step = features.numel(), 1e-5
    columns = []
    for k in range(size):
        offset = torch.zeros(size, dtype=torch.float64)
        offset[k] = step
        offset = offset.view_as(features)
        columns.append((slope(features + offset) - slope(features - offset)) / (2 * step))
    hessian = torch.stack(columns)
    # The gradient takes the proximal point as constant, so that symmetry ends at about δ = 1e-3.
    assert (hessian - hessian.mT).abs().max() < 3e-3 * hessian.abs().max()
    largest = torch.linalg.eigvalsh((hessian + hessian.mT) / 2)[-1].item()
    assert found == pytest.approx(3.8 / (largest * len(features)), rel=0.05)


def test_only_stable_rates():
    limits = {head: largest_stable_rate(find_method(head), SMALL, 100) for head in SMALL.heads}
    highest = max(limits.values())
    rates = (0.01, 0.9 * min(limits.values()), 1.1 * highest, 100 * highest)
    result = run_experiment(replace(SMALL, feature_rates=rates, stable_rates_only=True))
    for head in SMALL.heads:
        tried = {run.feature_rate for run in result.runs if run.head == head}
        assert tried == set(rates[:2])
    with pytest.raises(NoStableRateError, match="no rate of the features is stable for head"):
        run_experiment(replace(SMALL, feature_rates=rates[2:], stable_rates_only=True))


def test_finished_runs_are_not_made_again(result):
    made = []
    again = run_experiment(SMALL, on_run=made.append, finished=reversed(result.runs))
    assert again == result
    assert made == []
    half = result.runs[: len(result.runs) // 2]
    again = run_experiment(SMALL, on_run=made.append, finished=half)
    assert [replace(run, seconds=0) for run in again.runs] == [
        replace(run, seconds=0) for run in result.runs
    ]
    assert [replace(run, seconds=0) for run in made] == [
        replace(run, seconds=0) for run in result.runs[len(half) :]
    ]


def test_finished_runs_of_another_size_do_not_count(result):
    made = []
    run_experiment(replace(SMALL, samples_per_class=4), on_run=made.append, finished=result.runs)
    assert len(made) == len(result.runs)
