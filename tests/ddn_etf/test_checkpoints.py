from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace

import pytest
import torch
from torch import nn

from ddn_etf.checkpoints import (
    BACKUP_NAME,
    AnotherRunError,
    ResumeError,
    ResumeWarning,
    check_checkpoint,
    read_checkpoint,
    run_identity,
    write_checkpoint,
)
from ddn_etf.class_means import CumulativeAverage
from ddn_etf.data import Dataset
from ddn_etf.files import WriteError
from ddn_etf.frames import orthogonal_frame
from ddn_etf.heads import LinearHead, NearestETFHead, NearestFrameHead
from ddn_etf.hierarchy import balanced_hierarchy
from ddn_etf.learning_rates import Cosine
from ddn_etf.losses import CrossEntropy, HierarchyAware, find_loss
from ddn_etf.optimizers import Adam
from ddn_etf.schedules import LinearSchedule
from ddn_etf.settings import TrainingSettings

SETTINGS = TrainingSettings(epochs=3)
DATA = Dataset(
    name="points",
    num_classes=3,
    train_inputs=torch.arange(24.0).reshape(6, 4),
    train_labels=torch.arange(6) % 3,
    test_inputs=torch.arange(12.0).reshape(3, 4),
    test_labels=torch.arange(3),
    hierarchy=balanced_hierarchy((3,)),
)


def identity(name="linear", seed=0, settings=SETTINGS, dataset=DATA, head=None, backbone=None):
    head = head or LinearHead(4, 3)
    return run_identity(name, seed, settings, dataset, head, backbone or nn.Dropout(0.1))


def named(dataset):
    """Under the old name: variants of a data set may have names of their own."""
    return replace(dataset, name=DATA.name)


RUN = identity()


def content(epochs: int) -> dict[str, object]:
    return {"run": RUN, "history": [{}] * epochs, "state_dict": {"w": torch.arange(500.0)}}


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "last.ckpt"
    write_checkpoint(path, content(2))
    return path


def flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[data.index(torch.arange(400.0, 410.0).numpy().tobytes())] ^= 1
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[:200])


def empty(path):
    path.write_bytes(b"")


DAMAGE = pytest.mark.parametrize("damage", [flip_a_byte, truncate, empty])


def test_the_same_run_may_go_on(checkpoint):
    check_checkpoint(checkpoint, RUN)
    check_checkpoint(checkpoint, {**RUN, "epochs": 50})
    found = check_checkpoint(checkpoint, {**RUN, "epochs": 2})
    assert torch.equal(found["state_dict"]["w"], torch.arange(500.0))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (identity("fixed-etf"), "head = 'linear', and head = 'fixed-etf'"),
        (identity(seed=1), "seed = 0, and seed = 1 is asked for"),
        (identity(dataset=replace(DATA, name="x")), "dataset = 'points', and dataset = 'x'"),
        (
            identity(dataset=named(DATA.select_train(torch.arange(5)))),
            r"other number of train samples \(6 there, 5 now\); resume with the same data, imbalance",
        ),
        (
            identity(dataset=named(DATA.relabel_train(torch.tensor([0, 1, 2, 0, 1, 1])))),
            r"a run with other train labels \(\w{16} there, \w{16} now\); .* or start a new run",
        ),
        (identity(dataset=replace(DATA, train_inputs=-DATA.train_inputs)), "other train inputs"),
        (identity(dataset=replace(DATA, test_inputs=-DATA.test_inputs)), "other test inputs"),
        (identity(dataset=replace(DATA, test_labels=torch.zeros(3).long())), "other test labels"),
        (
            identity(dataset=replace(DATA, hierarchy=None)),
            r"other distances.*\w{16} there, none now",
        ),
        (
            identity(head=LinearHead(4, 3, unit_rows=True)),
            r"unit_rows=False.* is asked for; resume",
        ),
        (identity(backbone=nn.Dropout(0.2)), r"Dropout\(p=0\.1.*and backbone = .*Dropout\(p=0\.2"),
        (
            identity(settings=replace(SETTINGS, learning_rate=0.5)),
            r"learning_rate = 0\.1, and learning_rate = 0\.5",
        ),
        (
            identity(settings=replace(SETTINGS, optimizer=Adam())),
            r"optimizer = 'SGD\(momentum=0\.9, nesterov=False\)', and optimizer = 'Adam",
        ),
        (
            identity(settings=replace(SETTINGS, schedule=Cosine())),
            r"schedule = 'Constant\(\)', and schedule = 'Cosine",
        ),
        (
            identity(settings=replace(SETTINGS, loss=find_loss("focal"))),
            r"loss = 'CrossEntropy\(.*', and loss = 'Focal",
        ),
        ({**RUN, "epochs": 1}, "already has 2 epochs, and 1 are asked for"),
    ],
)
def test_another_run_may_not(checkpoint, other, message):
    with pytest.raises(ResumeError, match=message) as caught:
        check_checkpoint(checkpoint, other)
    assert isinstance(caught.value, AnotherRunError) == ("already has" not in message)


def test_a_run_whose_rates_depend_on_its_length_cannot_be_made_longer(checkpoint):
    check_checkpoint(checkpoint, RUN, may_be_longer=False)
    with pytest.raises(ResumeError, match="epochs = 3, and epochs = 50 is asked for"):
        check_checkpoint(checkpoint, {**RUN, "epochs": 50}, may_be_longer=False)


def options(head):
    return identity(head=head)["head_options"]


def test_every_option_of_a_head_is_in_the_identity():
    plain = options(NearestETFHead(4, 3))
    others = [
        NearestETFHead(4, 3, gradient_through_frame=False),
        NearestETFHead(4, 3, class_balanced=True),
        NearestETFHead(4, 3, average=CumulativeAverage()),
        NearestETFHead(4, 3, proximal_weight=0.5),
        NearestETFHead(4, 3, form="published"),
        NearestETFHead(4, 3, temperature=2.0),
        NearestETFHead(4, 3, temperature=LinearSchedule(5.0, 2.0, 10)),
        NearestETFHead(4, 3, temperature=LinearSchedule(5.0, 2.0, 20)),
        NearestFrameHead(orthogonal_frame(3, 3), 4),
        NearestFrameHead(orthogonal_frame(3, 3) * torch.tensor([[1.0], [1.0], [2.0]]), 4),
    ]
    assert plain == options(NearestETFHead(4, 3))
    assert len({plain, *map(options, others)}) == len(others) + 1


def test_the_middle_of_a_large_tensor_of_the_loss_counts():
    weights = torch.ones(2000)
    other = weights.clone()
    other[1000] = 2
    for make in (
        lambda a: CrossEntropy(class_weights=a),
        lambda a: HierarchyAware(cosines=a.expand(2000, 2000)),
    ):
        one, same, another = (
            identity(settings=replace(SETTINGS, loss=make(a)))["loss"]
            for a in (weights, weights.clone(), other)
        )
        assert one == same != another


class Lazy:
    """Inputs that are views drawn at random, and read when they are asked for."""

    def __init__(self, start):
        self.start, self.shape = start, torch.Size((1000, 4))

    def __len__(self):
        return 1000

    def __getitem__(self, index):
        return torch.rand(len(index), 4) + self.start + torch.tensor(index).unsqueeze(1)

    def select(self, indices):
        raise NotImplementedError


def test_inputs_that_are_not_read_yet():
    head, labels = LinearHead(4, 3), torch.arange(1000) % 3

    def of(start):
        dataset = replace(DATA, train_inputs=Lazy(start), train_labels=labels)
        return identity(dataset=dataset, head=head)

    state = torch.get_rng_state()
    assert of(0) == of(0)
    assert torch.equal(torch.get_rng_state(), state)
    assert of(0)["train_inputs"] != of(1)["train_inputs"]


def test_a_checkpoint_of_an_earlier_version(tmp_path):
    path = tmp_path / "last.ckpt"
    kept = {name: RUN[name] for name in ("head", "seed", "dataset", *SETTINGS.as_table())}
    write_checkpoint(path, {**content(2), "run": kept})
    with pytest.warns(ResumeWarning, match="did not keep train_samples, .*, backbone; whether"):
        check_checkpoint(path, RUN)
    with pytest.raises(ResumeError, match="seed = 0, and seed = 1"):
        check_checkpoint(path, identity(seed=1))


def test_other_versions_are_told_and_do_not_stop_a_run(checkpoint, monkeypatch):
    found = read_checkpoint(checkpoint)["versions"]
    assert found["torch"] == torch.__version__
    assert "ddn-torch" in found
    assert "versions" not in read_checkpoint(checkpoint)["run"]
    check_checkpoint(checkpoint, RUN)  # the same versions: no word

    def other(**changed):
        monkeypatch.setattr("ddn_etf.checkpoints._versions", lambda: {**found, **changed})

    other(torch="9.9")
    with pytest.warns(
        ResumeWarning, match=rf"written with torch {torch.__version__[:4]}.*now 9\.9"
    ):
        check_checkpoint(checkpoint, RUN)
    other(commit="abc")
    write_checkpoint(checkpoint, content(2))
    other(commit="abd")
    with pytest.warns(ResumeWarning, match=r"commit abc \(now abd\): .* bit for bit"):
        check_checkpoint(checkpoint, RUN)
    # What is not known, here or there, is not compared.
    monkeypatch.setattr("ddn_etf.checkpoints._versions", dict)
    check_checkpoint(checkpoint, RUN)
    write_checkpoint(checkpoint, content(2))
    other(torch="9.9")
    check_checkpoint(checkpoint, RUN)


def test_no_file(tmp_path):
    with pytest.raises(ResumeError, match="there is no checkpoint"):
        check_checkpoint(tmp_path / "last.ckpt", RUN)


def test_the_checkpoint_before_is_kept(checkpoint):
    write_checkpoint(checkpoint, content(3))
    assert len(read_checkpoint(checkpoint)["history"]) == 3
    assert len(read_checkpoint(checkpoint.with_name(BACKUP_NAME))["history"]) == 2
    write_checkpoint(checkpoint, content(4))
    assert len(read_checkpoint(checkpoint.with_name(BACKUP_NAME))["history"]) == 3
    assert sorted(path.name for path in checkpoint.parent.iterdir()) == ["last.ckpt", BACKUP_NAME]


def test_the_checkpoint_before_is_kept_without_hard_links(checkpoint, monkeypatch):
    def refuse(source, target):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    write_checkpoint(checkpoint, content(3))
    assert len(read_checkpoint(checkpoint.with_name(BACKUP_NAME))["history"]) == 2


@DAMAGE
def test_a_damaged_file_without_another(checkpoint, damage):
    damage(checkpoint)
    with pytest.raises(ResumeError, match=r"is damaged, or not a checkpoint.*start a new run"):
        check_checkpoint(checkpoint, RUN)


@DAMAGE
def test_a_damaged_file_names_the_one_to_use(checkpoint, damage):
    write_checkpoint(checkpoint, content(3))
    damage(checkpoint)
    with pytest.raises(ResumeError, match=r"previous\.ckpt is whole .* epoch 2: copy it to last"):
        check_checkpoint(checkpoint, RUN)
    shutil.copy(checkpoint.with_name(BACKUP_NAME), checkpoint)
    assert len(check_checkpoint(checkpoint, RUN)["history"]) == 2


def test_both_files_damaged(checkpoint):
    write_checkpoint(checkpoint, content(3))
    truncate(checkpoint)
    truncate(checkpoint.with_name(BACKUP_NAME))
    with pytest.raises(ResumeError, match="start a new run"):
        check_checkpoint(checkpoint, RUN)


def test_a_full_disk_loses_nothing(checkpoint, monkeypatch):
    write_checkpoint(checkpoint, content(3))

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match="No space left on device"):
        write_checkpoint(checkpoint, content(4))
    monkeypatch.undo()
    assert len(check_checkpoint(checkpoint, RUN)["history"]) == 3
    assert sorted(path.name for path in checkpoint.parent.iterdir()) == ["last.ckpt", BACKUP_NAME]


@pytest.mark.parametrize("other", [{"state_dict": {}}, [1, 2], 3])
def test_a_file_of_another_program(tmp_path, other):
    path = tmp_path / "last.ckpt"
    torch.save(other, path)
    with pytest.raises(ResumeError, match="not a checkpoint of this program"):
        check_checkpoint(path, RUN)


def test_a_text_file(tmp_path):
    path = tmp_path / "last.ckpt"
    path.write_text("not a checkpoint")
    with pytest.raises(ResumeError, match="not a checkpoint of this program"):
        check_checkpoint(path, RUN)
