from __future__ import annotations

import pytest
import torch

from ddn.errors import DtypeError, ShapeError
from ddn_etf.data import digits, image_folder
from ddn_etf.errors import FeatureError, LabelError
from ddn_etf.protocols import few_shot_sessions, predict_seen
from tests.ddn_etf.data import formats


def test_classes_and_samples():
    dataset = digits()
    sessions = few_shot_sessions(dataset, base=4, way=3, shot=5)
    assert [session.new_classes for session in sessions] == [(0, 1, 2, 3), (4, 5, 6), (7, 8, 9)]
    assert [len(session.seen_classes) for session in sessions] == [4, 7, 10]
    counts = dataset.train_counts
    assert torch.bincount(sessions[0].train.labels).tolist() == counts[:4]
    assert torch.bincount(sessions[1].train.labels).tolist() == [0] * 4 + [5] * 3
    assert torch.bincount(sessions[2].train.labels).tolist() == [0] * 7 + [5] * 3
    for session in sessions:
        expected = torch.bincount(dataset.test_labels)[: len(session.seen_classes)]
        assert torch.equal(torch.bincount(session.test.labels), expected)
    assert len(sessions[-1].test) == len(dataset.test_labels)


def test_samples_keep_their_labels():
    dataset = digits()
    known = {
        tuple(image): label
        for image, label in zip(
            dataset.train_inputs.flatten(1).tolist(), dataset.train_labels.tolist(), strict=True
        )
    }
    for session in few_shot_sessions(dataset, base=6, way=2, shot=3):
        inputs, labels = session.train[:]
        found = [known[tuple(image)] for image in inputs.flatten(1).tolist()]
        assert found == labels.tolist()


def test_the_choice_depends_on_the_seed_alone():
    def chosen(seed):
        sessions = few_shot_sessions(digits(), base=8, way=1, shot=4, seed=seed)
        return torch.cat([session.train.inputs for session in sessions[1:]])

    first = chosen(1)
    torch.manual_seed(33)
    assert torch.equal(chosen(1), first)
    assert not torch.equal(chosen(2), first)


def test_fewer_shots_are_a_subset():
    few, more = (
        few_shot_sessions(digits(), base=9, way=1, shot=shot)[1].train.inputs for shot in (2, 5)
    )
    assert torch.equal(few, more[:2])


def test_only_seen_classes_are_predicted():
    sessions = few_shot_sessions(digits(), base=2, way=4, shot=1)
    logits = torch.arange(10.0).expand(3, 10)
    assert [predict_seen(logits, session).tolist() for session in sessions] == [
        [1, 1, 1],
        [5, 5, 5],
        [9, 9, 9],
    ]
    with pytest.raises(ShapeError, match=r"K >= 6, found \(3, 5\)"):
        predict_seen(logits[:, :5], sessions[1])


def test_images_in_files_stay_unread(tmp_path):
    formats.write_image_folder(tmp_path)
    dataset = image_folder(tmp_path, size=12)
    first, second = few_shot_sessions(dataset, base=1, way=1, shot=2)
    assert first.train.inputs.paths == dataset.train_inputs.paths[:3]
    assert set(second.train.inputs.paths) < set(dataset.train_inputs.paths[3:])
    assert second.test[0][0].shape == (3, 12, 12)


def test_all_classes_at_once_is_one_session():
    (session,) = few_shot_sessions(digits(), base=10, way=1, shot=1)
    assert len(session.train) == 1347


def test_sessions_that_do_not_come_out_even():
    with pytest.raises(
        ValueError, match=r"10 classes cannot be divided into 6 base .* sessions of 3"
    ):
        few_shot_sessions(digits(), base=6, way=3, shot=1)
    with pytest.raises(ValueError, match="cannot be divided into 11 base"):
        few_shot_sessions(digits(), base=11, way=1, shot=1)
    with pytest.raises(ValueError, match="shot must be at least 1, found 0"):
        few_shot_sessions(digits(), base=6, way=2, shot=0)
    with pytest.raises(LabelError, match="class 8 has 131 train samples, fewer than shot = 200"):
        few_shot_sessions(digits(), base=8, way=1, shot=200)


def test_logits_without_an_answer():
    [base, *_] = few_shot_sessions(digits(), base=4, way=3, shot=1)
    logits = torch.randn(3, 10)
    logits[1, 2] = torch.nan
    with pytest.raises(FeatureError, match="logits hold NaN, first in row 1"):
        predict_seen(logits, base)
    # What has not been seen yet may be anything, and a class can be ruled out.
    logits[1, 2], logits[1, 9] = -torch.inf, torch.nan
    assert predict_seen(logits, base).shape == (3,)
    with pytest.raises(TypeError, match="session must be a Session"):
        predict_seen(logits, 4)
    with pytest.raises(DtypeError, match="logits must be a tensor"):
        predict_seen(logits.numpy(), base)
    with pytest.raises(TypeError, match=r"call it: digits\(\)"):
        few_shot_sessions(digits, base=4, way=3, shot=1)
