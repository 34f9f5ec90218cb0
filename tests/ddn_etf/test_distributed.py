"""Two processes with the batch split between them, against one process that has all of it."""

from __future__ import annotations

import os
import pickle
import socket
import traceback
from dataclasses import dataclass

import pytest
import torch
import torch.multiprocessing as multiprocessing
from torch import distributed, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from ddn_etf.class_means import ClassMeans
from ddn_etf.distributed import batch_share, fail_together, is_distributed, sum_over_ranks
from ddn_etf.heads import NearestETFHead

K, D, INPUTS, STEPS = 4, 6, 5, 3

# Which samples of a step of 12 each of the two ranks has.
LABELS = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 0])
SPLITS = {
    "equal": ([0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]),
    "unequal": ([0, 1, 2, 3, 4, 5, 6, 7, 8], [9, 10, 11]),
    "classes apart": ([0, 4, 8, 11, 1, 5], [2, 6, 10, 3, 7, 9]),
    "one class alone": ([0, 4, 8, 11], [1, 2, 3, 5, 6, 7, 9, 10]),
    "one sample": ([0], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
}
OPTIONS = {
    "published": {},
    "balanced": {"class_balanced": True},
    "no gradient through the frame": {"gradient_through_frame": False},
    "not validated": {"validate": False},
}


@dataclass
class Trained:
    """What both ways have to agree on."""

    losses: list[float]
    gradients: list[torch.Tensor]
    state: dict[str, torch.Tensor]
    means: torch.Tensor


def network(options):
    torch.manual_seed(0)
    head = NearestETFHead(D, K, **options).double()
    return nn.ModuleDict({"backbone": nn.Linear(INPUTS, D).double(), "head": head})


class Step(nn.Module):
    """Inputs and labels to the mean loss of the samples given."""

    def __init__(self, parts):
        super().__init__()
        self.parts = parts

    def forward(self, inputs, labels):
        logits = self.parts["head"](self.parts["backbone"](inputs), labels)
        return cross_entropy(logits, labels)


def data():
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(STEPS, 12, INPUTS, generator=generator).double()
    # In the last step the first class is missing everywhere.
    labels = [LABELS, LABELS, LABELS.clamp(min=1)]
    return list(zip(inputs, labels, strict=True))


def train(parts, step, chosen, weight=lambda samples: 1.0):
    optimizer = torch.optim.SGD(parts.parameters(), lr=0.5)
    losses, gradients = [], []
    for inputs, labels in data():
        optimizer.zero_grad()
        loss = step(inputs[chosen], labels[chosen]) * weight(len(chosen))
        loss.backward()
        losses.append(loss.item())
        gradients.append(torch.cat([p.grad.flatten() for p in parts.parameters()]))
        optimizer.step()
    state = {name: value.clone() for name, value in parts.state_dict().items()}
    return Trained(losses, gradients, state, parts["head"].class_means.eval()())


def on_rank(rank, port, results):
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    try:
        results.put((rank, pickle.dumps(findings(rank))))
    except BaseException:
        results.put((rank, traceback.format_exc()))
    finally:
        distributed.destroy_process_group()


def findings(rank):
    """What the tests compare. A function, since no DDP wrapper may outlive the process group."""
    found = {}
    for split, chosen in SPLITS.items():
        for name, options in OPTIONS.items():
            parts = network(options)
            step = DistributedDataParallel(Step(parts))
            found[split, name] = train(parts, step, chosen[rank], batch_share)
    found["errors"] = errors(rank)
    found["loaded on one rank"] = loaded_on_one_rank(rank)
    found["second order"] = second_order(rank)
    found["apart"] = apart(rank)
    return found


def errors(rank):
    """The message of each rank for a batch that one of them cannot use, and whether all go on."""
    head = NearestETFHead(D, K).double()
    inputs, labels = torch.randn(6, D).double(), torch.arange(6) % K
    messages = []
    for spoil in (
        lambda: head(inputs * torch.nan, labels),
        lambda: head(inputs, labels + 3),
        lambda: head(inputs, None),
        lambda: head(inputs[:, 1:], labels),
        lambda: head(inputs.long(), labels),
        lambda: head(inputs[:0], labels[:0]),
    ):
        try:
            spoil() if rank else head(inputs, labels)
            messages.append("no error")
        except Exception as error:
            messages.append(f"{type(error).__name__}: {error}")
    assert head.class_means.step == 0
    head(inputs, labels)
    return messages


def loaded_on_one_rank(rank):
    """The first weight after a state that only rank 0 has loaded, and DDP has broadcast."""
    parts = network({})
    if rank == 0:
        trained = network({"synchronize": False})
        train(trained, Step(trained), SPLITS["equal"][0])
        parts.load_state_dict(trained.state_dict())
    step = DistributedDataParallel(Step(parts))
    inputs, labels = data()[0]
    chosen = SPLITS["equal"][rank]
    step(inputs[chosen], labels[chosen])
    return parts["head"].weight


def second_order(rank):
    """Derivative of a squared derivative, of a sum over ranks."""
    x = torch.tensor([1.0 + rank, 2.0], dtype=torch.float64, requires_grad=True)
    y = sum_over_ranks(x**2).prod() / 2
    (first,) = torch.autograd.grad(y, x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    return first.detach(), second


def apart(rank):
    """Without synchronisation each rank has its own means."""
    means = ClassMeans(K, D, synchronize=False).double()
    return means(torch.eye(K, D).double() * (1 + rank), torch.arange(K).roll(rank))


@pytest.fixture(scope="module")
def ranks():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=on_rank, args=(rank, port, results)) for rank in range(2)]
    for process in processes:
        process.start()
    found = dict(results.get(timeout=100) for _ in processes)
    for process in processes:
        process.join(timeout=60)
    failed = [text for text in found.values() if isinstance(text, str)]
    assert not failed, failed[0]
    return [pickle.loads(found[rank]) for rank in range(2)]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("split", SPLITS)
def test_two_processes_equal_one(ranks, split, options):
    parts = network(OPTIONS[options])
    expected = train(parts, Step(parts), list(range(12)))
    close = {"rtol": 0, "atol": 1e-10}
    for rank in ranks:
        found = rank[split, options]
        for name, value in expected.state.items():
            torch.testing.assert_close(found.state[name], value, **close)
        torch.testing.assert_close(found.gradients, expected.gradients, **close)
        torch.testing.assert_close(found.means, expected.means, **close)
    mean_losses = [
        sum(pair) / 2 for pair in zip(*(r[split, options].losses for r in ranks), strict=True)
    ]
    torch.testing.assert_close(mean_losses, expected.losses, **close)
    # One frame: not nearly the same, the same.
    first, second = (rank[split, options].state["head.weight"] for rank in ranks)
    assert torch.equal(first, second)


def test_one_rank_without_the_gradient_of_the_others_would_be_noticed(ranks):
    """The losses of the other rank contribute: the gradient is not that of the own part alone."""
    with_frame = ranks[0]["classes apart", "published"].gradients[0]
    without = ranks[0]["classes apart", "no gradient through the frame"].gradients[0]
    assert (with_frame - without).abs().max() > 1e-4


def test_a_bad_batch_on_one_rank_stops_both_with_a_word(ranks):
    own = ("FeatureError", "LabelError", "LabelError", "ShapeError", "DtypeError", "FeatureError")
    for message, name in zip(ranks[1]["errors"], own, strict=True):
        assert message.startswith(f"{name}: ")
    for message in ranks[0]["errors"]:
        assert message.startswith("RankError: rank 1 was given a batch that it cannot use")


def test_a_state_loaded_on_rank_0_is_that_of_both(ranks):
    first, second = (rank["loaded on one rank"] for rank in ranks)
    assert torch.equal(first, second)


def test_second_derivatives_of_a_sum_over_ranks(ranks):
    # S = (1 + 4, 4 + 4), y = S_1 S_2 / 2 on each rank: the sum of both losses is S_1 S_2.
    for rank, found in enumerate(ranks):
        first, second = found["second order"]
        x = torch.tensor([1.0 + rank, 2.0]).double()
        torch.testing.assert_close(first, 2 * x * torch.tensor([8.0, 5.0]).double())
        assert second.isfinite().all()


def test_means_stay_apart_if_asked_to(ranks):
    first, second = (rank["apart"] for rank in ranks)
    assert not torch.equal(first, second)


def test_a_single_process_does_nothing():
    tensor = torch.ones(3, requires_grad=True)
    assert not is_distributed()
    assert sum_over_ranks(tensor) is tensor
    assert batch_share(7) == 1.0
    fail_together(None, torch.device("cpu"))
    with pytest.raises(ValueError, match="own"):
        fail_together(ValueError("own"), torch.device("cpu"))
