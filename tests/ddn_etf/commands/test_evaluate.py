from __future__ import annotations

import json
import shutil

import pytest
import torch

from ddn_etf.commands.options import TrainOptions


def test_everything_is_measured_as_at_the_end_of_training(trained, tmp_path, invoke, rows):
    status, output = invoke("evaluate", trained, "--output", tmp_path)
    assert status == 0, output
    assert "digits: nearest ETF, seed 3, epoch 2" in output
    found = {
        (r["split"], r["quantity"]): float(r["value"]) for r in rows(tmp_path / "evaluation.csv")
    }
    last = {
        (r["split"], r["quantity"]): float(r["value"])
        for r in rows(trained / "history.csv")
        if r["epoch"] == "2"
    }
    assert found == pytest.approx(last, rel=1e-6)
    content = json.loads((tmp_path / "evaluation.json").read_text())
    assert content["values"]["test"]["NC1"] == found["test", "NC1"]
    assert f"{found['test', 'NC1']:.6g}" in output
    assert f"mistake severity {found['train', 'mistake_severity']:.6g}" in output


def test_an_earlier_checkpoint(trained, tmp_path, invoke, rows):
    status, output = invoke(
        "evaluate", trained, "--checkpoint", "previous.ckpt", "--output", tmp_path
    )
    assert status == 0, output
    assert "epoch 1" in output
    assert {row["epochs"] for row in rows(tmp_path / "evaluation.csv")} == {"1"}


def test_a_checkpoint_that_is_not_there(trained, tmp_path, invoke):
    arguments = ("evaluate", trained, "--output", tmp_path, "--checkpoint")
    status, output = invoke(*arguments, "nope.ckpt")
    assert status == 1
    assert output == (
        f"Error: there is no checkpoint {trained / 'nope.ckpt'}; {trained} has last.ckpt and "
        "previous.ckpt"
    )


def test_other_data(trained, tmp_path, invoke):
    # Two numbers per sample are no images of one channel.
    status, output = invoke("evaluate", trained, "--dataset", "gaussian-mixture")
    assert status == 2
    assert "an input has shape" in output
    status, output = invoke("evaluate", trained, "--dataset", "mnist")
    assert status == 2
    assert "give the folder that holds them with --data-folder" in output


def test_a_folder_that_is_not_looked_at_is_told(trained, tmp_path, invoke):
    arguments = ("evaluate", trained, "--output", tmp_path)
    status, output = invoke(*arguments, "--data-folder", tmp_path)
    assert status == 0, output
    assert "Note: the data set 'digits' needs no files; the data folder is not looked at" in output
    assert "Note" not in invoke(*arguments)[1]


def test_another_accelerator(trained, tmp_path, invoke, monkeypatch):
    arguments = ("evaluate", trained, "--output", tmp_path, "--accelerator")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    status, output = invoke(*arguments, "gpu")
    assert status == 2
    assert "accelerator gpu with devices = 1: PyTorch finds 0 on this machine" in output
    status, output = invoke(*arguments, "abacus")
    assert status == 2
    assert "accelerator must be one of cpu, gpu, found 'abacus'" in output
    # There is no GPU where this is tested: meta stands for another device.
    monkeypatch.setattr("ddn_etf.commands.options.check_gpus", lambda devices: None)
    seen = []

    def evaluate(classifier, dataset):
        seen.append(classifier.head.weight.device.type)
        raise OSError("seen")

    monkeypatch.setattr("ddn_etf.evaluation.evaluate", evaluate)
    monkeypatch.setattr(TrainOptions, "device", lambda self: torch.device("meta"))
    assert invoke(*arguments, "gpu") == (1, "Error: seen")
    assert seen == ["meta"]


def test_a_run_of_several_gpus_is_evaluated_on_the_cpu(trained, tmp_path, invoke):
    text = (trained / "config.toml").read_text()
    for old, new in (
        ('accelerator = "cpu"', 'accelerator = "gpu"'),
        ("devices = 1", "devices = 2"),
        ('precision = "32"', 'precision = "16-mixed"'),
    ):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "config.toml").write_text(text)
    shutil.copy(trained / "last.ckpt", tmp_path)
    status, output = invoke("evaluate", tmp_path)
    assert status == 0, output


def test_folders_that_cannot_be_evaluated(trained, tmp_path, invoke):
    status, output = invoke("evaluate", tmp_path)
    assert status == 1
    assert f"Error: there is no {tmp_path / 'config.toml'}; give the folder of a run" in output
    (tmp_path / "config.toml").write_text('[compare]\nheads = "linear"\nseeds = 1\n')
    status, output = invoke("evaluate", tmp_path)
    assert status == 1
    assert f"holds several runs; give one of {tmp_path / 'runs' / 'linear-seed-0'}" in output
    shutil.copy(trained / "config.toml", tmp_path)
    (tmp_path / "last.ckpt").write_bytes(b"damaged")
    status, output = invoke("evaluate", tmp_path)
    assert status == 1
    assert "last.ckpt is damaged" in output
