from __future__ import annotations

import json
import shutil

import pytest

SMALL = ("--epochs", "1", "--dim", "16", "--batch-size", "256")


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    from typer.testing import CliRunner

    from ddn_etf.commands import app

    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ddn_etf.commands.folders.report_figures", lambda *_, **__: [])
        for head, seed in (("linear", "0"), ("fixed-etf", "1")):
            arguments = ["train", "--output", str(folder / head), "--head", head, "--seed", seed]
            result = CliRunner().invoke(app, [*arguments, *SMALL])
            assert result.exit_code == 0, result.output
    return folder


def test_the_report_of_a_run_is_made_again_as_it_was(trained, tmp_path, invoke):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    shutil.rmtree(folder / "figures")
    for name in ("report.html", "summary.csv"):
        (folder / name).unlink()
    status, output = invoke("report", folder)
    assert status == 0, output
    assert "digits after 2 epochs: one seed" in output
    names = [path.relative_to(trained) for path in trained.rglob("*") if path.is_file()]
    assert len(names) > 10
    for name in names:
        assert (folder / name).read_bytes() == (trained / name).read_bytes(), name


@pytest.mark.usefixtures("without_figures")
def test_the_versions_are_those_of_the_run(trained, tmp_path, invoke):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    (folder / "versions.json").write_text(json.dumps({"torch": "0.0.1"}))
    status, output = invoke("report", folder)
    assert status == 0, output
    assert "torch</th><td>0.0.1</td>" in (folder / "report.html").read_text()
    assert json.loads((folder / "versions.json").read_text()) == {"torch": "0.0.1"}


def test_several_folders_in_one_table(two_runs, tmp_path, invoke, rows):
    folders = (two_runs / "linear", two_runs / "fixed-etf")
    status, output = invoke("report", *folders, "--output", tmp_path)
    assert status == 0, output
    assert "learned (1 of 2 seeds) fixed ETF (1 of 2 seeds)" in output
    found = {(row["head"], row["seed"]) for row in rows(tmp_path / "history.csv")}
    assert found == {("linear", "0"), ("fixed-etf", "1")}
    page = (tmp_path / "report.html").read_text()
    assert page.count("ddn-etf train --dataset digits") == 2
    assert (tmp_path / "figures" / "frame_linear.gif").is_file()


def test_without_checkpoints_the_other_figures_are_drawn(two_runs, tmp_path, invoke):
    folder = tmp_path / "run"
    shutil.copytree(two_runs / "linear", folder)
    (folder / "last.ckpt").unlink()
    (folder / "previous.ckpt").unlink(missing_ok=True)
    status, output = invoke("report", folder)
    assert status == 0, output
    assert [path.name for path in (folder / "figures").iterdir()] == ["metrics.png"]
    assert (
        "Figures of features are left out: there is no checkpoint"
        in (folder / "report.html").read_text()
    )


def test_folders_that_do_not_belong_together(two_runs, trained, tmp_path, invoke):
    linear = two_runs / "linear"
    status, output = invoke("report", linear, trained, "--output", tmp_path)
    assert status == 1
    assert f"{linear} was run with --epochs 1 and {trained} with --epochs 2" in output
    status, output = invoke("report", linear, linear, "--output", tmp_path)
    assert status == 1
    assert "a run with head linear and seed 0, and so has another of the folders" in output
    status, output = invoke("report", linear, trained)
    assert status == 2
    assert "the report of several folders needs --output" in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("without_figures")
def test_an_unfinished_run_is_left_out_and_named(two_runs, tmp_path, invoke):
    folder = tmp_path / "comparison"
    (folder / "runs").mkdir(parents=True)
    shutil.copytree(two_runs / "linear", folder / "runs" / "linear-seed-0")
    text = (two_runs / "linear" / "config.toml").read_text()
    text = text.replace("[train]", "[compare]").replace('head = "linear"', 'heads = "linear"')
    (folder / "config.toml").write_text(text.replace("seed = 0", "seeds = 2"))
    status, output = invoke("report", folder)
    assert status == 0, output
    assert "Unfinished, and left out: linear, seed 1: 0 of 1 epochs." in output
    assert "Unfinished, and left out" in (folder / "report.html").read_text()
    shutil.rmtree(folder / "runs")
    status, output = invoke("report", folder)
    assert status == 1
    assert "no finished run" in output
