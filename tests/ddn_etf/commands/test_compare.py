from __future__ import annotations

import os
import shutil
import signal
import tomllib
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from ddn_etf.commands import app
from ddn_etf.commands.compare import options_of_run
from ddn_etf.commands.options import CompareOptions, TrainOptions
from ddn_etf.commands.progress import RunProgress
from ddn_etf.data import DATASETS
from ddn_etf.hierarchy import digit_shapes
from ddn_etf.methods import DEFAULT_METHODS
from ddn_etf.report import REPORT_FILES

pytestmark = pytest.mark.usefixtures("without_figures")

HEADS = [method.name for method in DEFAULT_METHODS]
ONE = ("--epochs", "1", "--seeds", "1", "--heads", "linear", "--dim", "16", "--batch-size", "256")


def test_a_table_and_a_complete_folder(tmp_path, invoke, rows):
    folder = tmp_path / "new" / "folder"
    status, output = invoke(
        *("compare", "--output", folder, "--epochs", "1", "--seeds", "2", "--batch-size", "256")
    )
    assert status == 0, output
    for head in HEADS:
        for seed in (0, 1):
            assert f"{head} seed {seed} loss" in output
    assert "digits after 1 epoch: median over 2 seeds [range]" in output
    assert "epochs to 99 % train never" in output
    assert "epochs to 100 % train never" in output
    files = {path.name for path in folder.iterdir()}
    assert files == {*REPORT_FILES, "config.toml", "figures", "runs"}
    pairs = {(head, seed) for head in HEADS for seed in "01"}
    assert {(row["head"], row["seed"]) for row in rows(folder / "history.csv")} == pairs
    assert {path.name for path in (folder / "runs").iterdir()} == {
        f"{head}-seed-{seed}" for head, seed in pairs
    }
    config = tomllib.loads((folder / "runs" / "linear-seed-1" / "config.toml").read_text())
    assert (config["train"]["head"], config["train"]["seed"]) == ("linear", 1)


def test_the_heads_asked_for_in_order(tmp_path, invoke, rows):
    arguments = ("compare", "--output", tmp_path, *ONE, "--heads", " fixed-etf ,linear")
    status, output = invoke(*arguments)
    assert status == 0, output
    found = list(dict.fromkeys(row["head"] for row in rows(tmp_path / "summary.csv")))
    assert found == ["fixed-etf", "linear"]


def test_results_are_not_overwritten_unless_asked_for(tmp_path, invoke, rows):
    (tmp_path / "summary.csv").write_text("precious")
    (tmp_path / "notes.txt").write_text("mine")
    status, output = invoke("compare", "--output", tmp_path, *ONE)
    assert status == 1
    assert f"Error: {tmp_path} already holds summary.csv; give another --output, --re" in output
    assert (tmp_path / "summary.csv").read_text() == "precious"
    status, output = invoke("compare", "--output", tmp_path, *ONE, "--overwrite")
    assert status == 0, output
    assert len(rows(tmp_path / "summary.csv")) > 0
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_interrupted_comparison_keeps_its_finished_runs(tmp_path, monkeypatch, invoke):
    arguments = (*ONE, "--epochs", "2", "--heads", "linear,nearest-etf")
    status, output = invoke("compare", "--output", tmp_path / "whole", *arguments)
    assert status == 0, output
    parts = tmp_path / "parts"

    def interrupt(self, record):
        if (record.head, record.epoch) == ("nearest-etf", 2):
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(RunProgress, "update", interrupt)
            status, output = invoke("compare", "--output", parts, *arguments)
    finally:
        signal.signal(signal.SIGINT, before)
    assert status == 130
    command = f"ddn-etf compare --config {parts}/config.toml --output {parts} --resume"
    assert output.endswith(command)
    kept = (parts / "runs" / "linear-seed-0" / "last.ckpt").stat().st_mtime_ns
    status, output = invoke(*command.split()[1:])
    assert status == 0, output
    assert "(kept)" in output
    assert (parts / "runs" / "linear-seed-0" / "last.ckpt").stat().st_mtime_ns == kept
    for name in ("history.csv", "summary.csv"):
        assert (parts / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_overwrite_trains_anew(tmp_path, invoke):
    for extra in ((), ("--overwrite", "--learning-rate", "0.05")):
        status, output = invoke("compare", "--output", tmp_path, *ONE, *extra)
        assert status == 0, output
    status, output = invoke("compare", "--output", tmp_path, *ONE, "--resume")
    assert status == 1
    assert "--learning-rate 0.05, and --learning-rate 0.1 is asked for; resume with the" in output


def test_resume_with_fewer_heads_or_seeds_keeps_the_larger_table(tmp_path, invoke, rows):
    arguments = ("compare", "--output", tmp_path, *ONE, "--resume")
    status, output = invoke(*arguments, "--heads", "linear,fixed-etf", "--seeds", "2")
    assert status == 0, output
    before = {name: (tmp_path / name).read_bytes() for name in ("history.csv", "summary.csv")}
    status, output = invoke(*arguments, "--heads", "fixed-etf")
    assert status == 0, output
    assert output.count("(kept)") == 1
    assert "With the runs that the folder has of an earlier comparison. wrote" in output
    # The same rows, the head that was asked for first.
    for name, content in before.items():
        lines = (tmp_path / name).read_bytes().splitlines()
        assert sorted(lines) == sorted(content.splitlines())
    config = tomllib.loads((tmp_path / "config.toml").read_text())["compare"]
    assert (config["heads"], config["seeds"]) == ("fixed-etf,linear", 2)
    status, output = invoke(*arguments, "--heads", "nearest-etf")
    assert status == 0, output
    assert "left out: nearest-etf, seed 1: 0 of 1 epochs." in output
    found = {(row["head"], row["seed"]) for row in rows(tmp_path / "history.csv")}
    assert len(found) == 5
    page = (tmp_path / "report.html").read_text()
    assert "With the runs that the folder has" in page


def test_resume_does_not_mix_comparisons(tmp_path, trained, invoke):
    arguments = ("compare", "--output", tmp_path, *ONE)
    status, output = invoke(*arguments)
    assert status == 0, output
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    other = ("--resume", "--heads", "fixed-etf")
    status, output = invoke(*arguments, *other, "--learning-rate", "0.2")
    assert status == 1
    assert "holds a comparison with --learning-rate 0.1, and --learning-rate 0.2 is asked" in output
    # The same name and settings, but other data.
    source = DATASETS["digits"]
    fewer = replace(source.load().select_train(torch.arange(600)), name="digits")
    smaller = replace(source, read=lambda root: fewer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, "digits", smaller)
        status, output = invoke(*arguments, *other)
    assert status == 1
    assert "linear-seed-0/last.ckpt belongs to a run with other number of train samples" in output
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    status, output = invoke("compare", "--output", trained, *ONE, "--resume")
    assert status == 1
    assert "is a folder of ddn-etf train; give another --output" in output


def test_a_run_is_made_with_the_options_of_the_comparison():
    options = CompareOptions(epochs=7, model="mlp", heads="linear", seeds=2)
    assert options_of_run(options, "linear", 1) == TrainOptions(
        epochs=7, model="mlp", head="linear", seed=1
    )


HEAD_OPTIONS = (
    *("--average", "cumulative", "--class-balanced", "--proximal-weight", "0.01"),
    *("--warm-up", "1", "--imbalance", "20", "--epochs", "2"),
)


@pytest.fixture(scope="module")
def with_head_options(tmp_path_factory):
    """A comparison in which one head of two has options; not to be changed."""
    folder = tmp_path_factory.mktemp("options")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ddn_etf.commands.folders.report_figures", lambda *_, **__: [])
        words = (
            "compare",
            "--output",
            folder,
            *ONE,
            *HEAD_OPTIONS,
            "--heads",
            "linear,nearest-etf",
        )
        result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return folder


def test_a_head_without_options_has_a_run_folder_without_them(with_head_options, tmp_path, invoke):
    options = CompareOptions(average="cumulative", class_balanced=True, warm_up=1, epochs=2)
    assert options_of_run(options, "linear", 1) == TrainOptions(epochs=2, head="linear", seed=1)
    found = options_of_run(options, "nearest-etf", 1)
    assert (found.average, found.class_balanced, found.warm_up) == ("cumulative", True, 1)
    linear, nearest = (
        with_head_options / "runs" / f"{head}-seed-0" for head in ("linear", "nearest-etf")
    )
    table = tomllib.loads((linear / "config.toml").read_text())["train"]
    assert (table["average"], table["class-balanced"], table["warm-up"]) == (
        "exponential",
        False,
        0,
    )
    assert table["imbalance"] == 20
    table = tomllib.loads((nearest / "config.toml").read_text())["train"]
    assert (table["average"], table["class-balanced"], table["warm-up"]) == ("cumulative", True, 1)
    # Both belong into one table: what one of them has no use for does not part them.
    status, output = invoke("report", linear, nearest, "--output", tmp_path)
    assert status == 0, output
    assert "learned nearest ETF" in output


def test_run_folders_of_earlier_versions_are_read(with_head_options, tmp_path, invoke):
    folder = tmp_path / "run"
    shutil.copytree(with_head_options / "runs" / "linear-seed-0", folder)
    config = folder / "config.toml"
    text = config.read_text()
    old = text
    for default, chosen in (
        ('average = "exponential"', 'average = "cumulative"'),
        ("class-balanced = false", "class-balanced = true"),
        ("warm-up = 0", "warm-up = 1"),
        ('label-noise-kind = "symmetric"', 'label-noise-kind = "asymmetric"'),
    ):
        assert default in old
        old = old.replace(default, chosen)
    resume = ("train", "--config", config, "--output", folder, "--resume")
    for command in (
        ("evaluate", folder),
        ("report", folder),
        resume,
        (*resume, "--epochs", "3"),
    ):
        config.write_text(old)
        status, output = invoke(*command)
        assert status == 0, output
    # The run that went on is written without them.
    assert config.read_text() == text.replace("epochs = 2", "epochs = 3")
    config.write_text(old)
    status, output = invoke(*resume, "--average", "exponential-per-class")
    assert status == 2
    assert "head 'linear' has no --average" in output


def test_a_report_of_a_folder_with_unknown_names_is_an_error_in_one_line(
    with_head_options, tmp_path, invoke
):
    folder = tmp_path / "run"
    shutil.copytree(with_head_options / "runs" / "linear-seed-0", folder)
    text = (folder / "config.toml").read_text()
    for name, value in (("head", "linear"), ("optimizer", "sgd"), ("loss", "cross-entropy")):
        wrong = text.replace(f'{name} = "{value}"', f'{name} = "later"')
        assert wrong != text
        (folder / "config.toml").write_text(wrong)
        for command in ("report", "evaluate"):
            status, output = invoke(command, folder)
            assert status in {1, 2}
            assert "'later'" in output


def test_resume_with_heads_that_have_no_options(with_head_options, tmp_path, invoke):
    folder = tmp_path / "comparison"
    shutil.copytree(with_head_options, folder)
    before = tomllib.loads((folder / "config.toml").read_text())["compare"]
    asked = ("--resume", "--heads", "fixed-etf")
    status, output = invoke(
        "compare", "--config", folder / "config.toml", "--output", folder, *asked
    )
    assert status == 0, output
    assert "fixed ETF learned nearest ETF" in output
    after = tomllib.loads((folder / "config.toml").read_text())["compare"]
    assert after == {**before, "heads": "fixed-etf,linear,nearest-etf"}
    # Nor need they be given: they are those of the folder, for the heads that have them.
    others = (*ONE, "--imbalance", "20", "--epochs", "2")
    status, output = invoke("compare", "--output", folder, *others, "--resume")
    assert status == 0, output
    assert tomllib.loads((folder / "config.toml").read_text())["compare"]["average"] == "cumulative"
    # Other options for such heads are another comparison.
    status, output = invoke(
        *("compare", "--output", folder, *others, "--resume", "--heads", "nearest-etf")
    )
    assert status == 1
    assert "holds a comparison with --average cumulative, and --average exponential is" in output
    # And an option that no head of the whole comparison has is a mistake.
    plain = tmp_path / "plain"
    status, output = invoke("compare", "--output", plain, *ONE)
    assert status == 0, output
    status, output = invoke("compare", "--output", plain, *ONE, "--resume", "--class-balanced")
    assert status == 2
    assert "head 'linear' has no --class-balanced" in output
    # Options of a head that comes to a comparison without any are new.
    more = ("--heads", "nearest-etf", "--resume", "--class-balanced")
    status, output = invoke("compare", "--output", plain, *ONE, *more)
    assert status == 0, output
    assert tomllib.loads((plain / "config.toml").read_text())["compare"]["class-balanced"] is True


def test_table_and_report_say_how_many_seeds_each_head_has(tmp_path, invoke):
    arguments = ("compare", "--output", tmp_path, *ONE, "--resume")
    status, output = invoke(*arguments)
    assert status == 0, output
    status, output = invoke(*arguments, "--heads", "fixed-etf", "--seeds", "2")
    assert status == 0, output
    for text in (output, (tmp_path / "report.html").read_text()):
        assert "digits after 1 epoch: median over 1–2 seeds [range]" in text
        assert "learned (1 of 2 seeds)" in text
        assert "fixed ETF (2 of" not in text


def test_more_epochs_are_for_all_runs_of_the_folder(tmp_path, invoke, rows):
    arguments = ("compare", "--output", tmp_path, *ONE)
    status, output = invoke(*arguments, "--heads", "linear,fixed-etf")
    assert status == 0, output
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    status, output = invoke(*arguments, "--heads", "fixed-etf", "--epochs", "2", "--resume")
    assert status == 1
    assert "holds a comparison with --epochs 1, and --epochs 2 is asked for" in output
    assert "ask for all of them, --heads fixed-etf,linear --seeds 1" in output
    every = ("--heads", "fixed-etf,linear", "--resume")
    # The learning rates of a longer run would be others.
    status, output = invoke(*arguments, *every, "--epochs", "2", "--schedule", "cosine")
    assert status == 1
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    status, output = invoke(*arguments, *every, "--epochs", "2")
    assert status == 0, output
    found = {(row["head"], row["epoch"]) for row in rows(tmp_path / "history.csv")}
    assert found == {(head, epoch) for head in ("linear", "fixed-etf") for epoch in "12"}
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    status, output = invoke(*arguments, *every)
    assert status == 1
    assert "last.ckpt already has 2 epochs, and --epochs 1 is asked for" in output
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("flag", ["--resume", "--overwrite"])
def test_a_folder_without_results_may_be_resumed_or_overwritten(flag, tmp_path, invoke):
    status, output = invoke("compare", "--output", tmp_path, *ONE, flag)
    assert status == 0, output


def test_a_head_without_its_hierarchy_replaces_nothing(tmp_path, invoke):
    arguments = ("compare", "--output", tmp_path, *ONE)
    status, output = invoke(*arguments)
    assert status == 0, output
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    status, output = invoke(
        *(*arguments, "--overwrite", "--heads", "linear,ha-frame"),
        *("--dataset", "gaussian-mixture", "--model", "mlp"),
    )
    assert status == 2
    assert "head 'ha-frame' follows a hierarchy of the classes" in output
    assert "'gaussian-mixture' has none; data sets with one: digits, hierarchical-mixture" in output
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_the_tree_of_the_figure_is_that_of_the_data(tmp_path, monkeypatch, invoke):
    given = {}
    monkeypatch.setattr(
        "ddn_etf.commands.folders.report_figures", lambda *_, **named: given.update(named) or []
    )
    status, output = invoke(
        *("compare", "--output", tmp_path, *ONE, "--heads", "nearest-ha-frame"),
        *("--loss", "hierarchy-aware"),
    )
    assert status == 0, output
    assert "mistake severity (test)" in output
    assert given["class_names"] == tuple("0123456789")
    assert given["class_distances"].equal(digit_shapes().distances)
