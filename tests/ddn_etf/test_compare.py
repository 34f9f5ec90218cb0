from __future__ import annotations

import math
from dataclasses import replace

import pytest

from ddn_etf.checkpoints import CHECKPOINT_NAME, ResumeError
from ddn_etf.compare import (
    Comparison,
    Spread,
    compare,
    curve,
    epochs_to_accuracy,
    over_seeds,
    quantities,
    run_folder,
    spread,
    summarize,
)
from ddn_etf.history import EpochRecord
from ddn_etf.methods import DEFAULT_METHODS, METHODS
from ddn_etf.settings import TrainingSettings
from ddn_etf.training import check_resume, load_classifier, train

HEADS = [method.name for method in DEFAULT_METHODS]
MEASURED = ("train_accuracy", "test_accuracy", "train_NC1", "test_NC1")

LINEAR, NEAREST = METHODS["linear"], METHODS["nearest-etf"]


def by_hand(accuracies: dict[int, list[float]]) -> Comparison:
    """A comparison of one head with these train accuracies, every other value being the epoch."""
    records = [
        EpochRecord(
            "linear",
            seed,
            epoch,
            {name: float(epoch) for name in MEASURED} | {"train_accuracy": accuracy},
        )
        for seed, run in accuracies.items()
        for epoch, accuracy in enumerate(run, start=1)
    ]
    settings = TrainingSettings(epochs=len(next(iter(accuracies.values()))))
    return Comparison("by hand", settings, (LINEAR,), tuple(accuracies), tuple(records))


def test_every_run_is_there_in_order(comparison):
    assert [(r.head, r.seed, r.epoch) for r in comparison.records] == [
        (head, seed, epoch) for head in HEADS for seed in (0, 1) for epoch in (1, 2)
    ]
    assert comparison.dataset == "digits"
    assert comparison.seeds == (0, 1)


def test_a_run_does_not_depend_on_those_before_it(comparison, small_digits, quick):
    other_order = compare((NEAREST, LINEAR), (1,), small_digits, quick)
    for head in ("nearest-etf", "linear"):
        assert other_order.run(head, 1) == comparison.run(head, 1)
    assert comparison.run("nearest-etf", 1) == train(NEAREST, 1, small_digits, quick).history


def test_progress_is_told_as_it_happens(comparison, small_digits, quick):
    told: list[object] = []
    result = compare(
        (LINEAR,),
        (1, 0),
        small_digits,
        quick,
        on_start=lambda head, seed: told.append((head, seed)),
        on_epoch=told.append,
    )
    first, second = comparison.run("linear", 1), comparison.run("linear", 0)
    assert told == [("linear", 1), *first, ("linear", 0), *second]
    assert result.records == (*first, *second)


def test_epochs_to_accuracy_is_the_first_epoch_that_is_good_enough():
    run = by_hand({0: [50.0, 98.9, 99.0, 98.0, 100.0]}).run("linear", 0)
    assert epochs_to_accuracy(run) == 3
    assert epochs_to_accuracy(run, 100.0) == 5
    assert epochs_to_accuracy(run, 50.0) == 1
    assert epochs_to_accuracy(run[:2]) == math.inf


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3.0], Spread(3.0, 3.0, 3.0)),
        ([5.0, 1.0, 2.0], Spread(2.0, 1.0, 5.0)),
        ([4.0, 1.0], Spread(2.5, 1.0, 4.0)),
        ([math.inf, 2.0, 3.0], Spread(3.0, 2.0, math.inf)),
        ([math.inf, 2.0], Spread(math.inf, 2.0, math.inf)),
        ([math.nan, 2.0, 4.0], Spread(3.0, 2.0, 4.0, missing=1)),
    ],
)
def test_spread(values, expected):
    assert spread(values) == expected


def test_nothing_is_spread_over_no_value():
    nothing = spread([math.nan, math.nan])
    assert nothing.missing == 2
    assert all(math.isnan(value) for value in (nothing.median, nothing.low, nothing.high))


def test_a_head_without_its_hierarchy_is_found_before_any_run(small_digits, quick):
    told: list[object] = []
    heads = (LINEAR, METHODS["ha-frame"])
    with pytest.raises(ValueError, match=r"'ha-frame' follows a hierarchy .* 'digits' has none"):
        compare(
            heads,
            (0,),
            replace(small_digits, hierarchy=None),
            quick,
            on_start=lambda *run: told.append(run),
        )
    assert told == []


def test_summary_of_runs_by_hand():
    runs = {0: [98.0, 99.5, 100.0], 1: [99.0, 99.0, 99.2], 7: [10.0, 20.0, 30.0]}
    summary = summarize(by_hand(runs))
    assert list(summary) == ["linear"]
    assert tuple(summary["linear"]) == (*MEASURED, "epochs_to_99", "epochs_to_100")
    assert summary["linear"]["train_accuracy"] == Spread(99.2, 30.0, 100.0)
    assert summary["linear"]["epochs_to_99"] == Spread(2, 1, math.inf)
    assert summary["linear"]["epochs_to_100"] == Spread(math.inf, 3, math.inf)
    assert summary["linear"]["test_NC1"] == Spread(3.0, 3.0, 3.0)  # of the last epoch


def test_summary_of_trained_runs(comparison):
    summary = summarize(comparison)
    for head in HEADS:
        last = [comparison.run(head, seed)[-1].values["test_NC3"] for seed in (0, 1)]
        assert summary[head]["test_NC3"] == Spread(sum(last) / 2, min(last), max(last))
    for head in ("fixed-etf", "nearest-etf"):
        assert summary[head]["train_NC2"].high < 1e-5  # both are simplex ETFs
    assert summary["linear"]["train_NC2"].low > 0.01


def test_a_summary_holds_everything_that_was_measured(comparison):
    names = quantities(comparison.records)
    assert set(names) == comparison.records[0].values.keys() | {"epochs_to_99", "epochs_to_100"}
    assert all(tuple(found) == names for found in summarize(comparison).values())


def test_seeds_that_a_head_lacks_are_left_out():
    both = by_hand({0: [90.0], 1: [80.0]})
    other = tuple(EpochRecord("nearest-etf", 1, 1, both.records[0].values) for _ in range(1))
    mixed = replace(both, methods=(LINEAR, NEAREST), records=(*both.records, *other))
    assert [len(mixed.runs(head)) for head in ("linear", "nearest-etf")] == [2, 1]
    assert summarize(mixed)["nearest-etf"]["train_accuracy"] == Spread(90.0, 90.0, 90.0)
    assert curve(mixed, "nearest-etf", "train_accuracy") == [Spread(90.0, 90.0, 90.0)]


def test_finished_runs_are_kept_and_the_interrupted_one_goes_on(
    comparison, small_digits, quick, tmp_path
):
    class StopError(Exception):
        pass

    def stop(record):
        if (record.head, record.seed, record.epoch) == ("linear", 1, 2):
            raise StopError

    heads = (LINEAR, NEAREST)
    with pytest.raises(StopError):
        compare(heads, (0, 1), small_digits, quick, folder=tmp_path, on_epoch=stop)
    first = run_folder(tmp_path, "linear", 0) / CHECKPOINT_NAME
    before = first.stat().st_mtime_ns
    told: list[object] = []
    resumed = compare(
        heads,
        (0, 1),
        small_digits,
        quick,
        folder=tmp_path,
        resume=True,
        on_start=lambda head, seed: told.append((head, seed)),
        on_epoch=lambda record: told.append(record.epoch),
        on_kept=lambda record: told.append(("kept", record.head, record.seed, record.epoch)),
    )
    assert told == [
        ("kept", "linear", 0, 2),
        ("linear", 1),
        2,
        ("nearest-etf", 0),
        1,
        2,
        ("nearest-etf", 1),
        1,
        2,
    ]
    assert first.stat().st_mtime_ns == before
    for head in heads:
        for seed in (0, 1):
            assert resumed.run(head.name, seed) == comparison.run(head.name, seed)


def test_runs_with_other_settings_are_not_kept(small_digits, quick, tmp_path):
    compare((LINEAR,), (0,), small_digits, quick, folder=tmp_path)
    with pytest.raises(ResumeError, match=r"learning_rate = 0\.1, and learning_rate = 0\.2"):
        compare(
            (LINEAR,),
            (0,),
            small_digits,
            replace(quick, learning_rate=0.2),
            folder=tmp_path,
            resume=True,
        )
    with pytest.raises(ResumeError, match="needs checkpoint_dir"):
        compare((LINEAR,), (0,), small_digits, quick, resume=True)


def test_runs_are_not_replaced_unless_asked_for(small_digits, quick, tmp_path):
    compare((NEAREST,), (1,), small_digits, quick, folder=tmp_path)
    told: list[object] = []
    arguments = ((LINEAR, NEAREST), (0, 1), small_digits, quick)
    # All are looked at before the first is trained.
    with pytest.raises(FileExistsError, match=r"nearest-etf-seed-1/last\.ckpt .* overwrite=True"):
        compare(*arguments, folder=tmp_path, on_start=lambda *run: told.append(run))
    assert told == []
    compare(
        *((NEAREST,), (1,), small_digits, quick),
        folder=tmp_path,
        overwrite=True,
        on_start=lambda *run: told.append(run),
    )
    assert told == [("nearest-etf", 1)]


def test_curve_of_runs_by_hand():
    points = curve(
        by_hand({0: [90.0, 95.0], 1: [80.0, 99.0], 2: [70.0, 98.0]}), "linear", "train_accuracy"
    )
    assert points == [Spread(80.0, 70.0, 90.0), Spread(98.0, 95.0, 99.0)]


def test_over_seeds():
    assert over_seeds(by_hand({0: [1.0]})) == "one seed"
    assert over_seeds(by_hand({0: [1.0], 5: [1.0]})) == "median over 2 seeds"


def test_folders_may_be_text(small_digits, quick, tmp_path):
    short = replace(quick, epochs=1)
    compare((LINEAR,), (0,), small_digits, short, folder=str(tmp_path))
    place = run_folder(str(tmp_path), "linear", 0)
    assert (place / "last.ckpt").is_file()
    path = str(place / "last.ckpt")
    check_resume(path, LINEAR, 0, small_digits, short)
    kept = load_classifier(path, LINEAR, small_digits, short)
    again = train(LINEAR, 0, small_digits, short, checkpoint_dir=str(place), resume=True)
    assert again.history == kept.history
