"""What a step leaves behind: buffers that anybody may write to, read, copy and average."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import AveragedModel
from torch.testing import assert_close

from ddn.errors import DerivativeError, UndeclaredTensorError
from ddn_etf.heads import FixedETFHead, LinearHead, NearestETFHead, WarmUpHead
from ddn_etf.nearest import NearestETF
from ddn_etf.schedules import LinearSchedule
from tests.ddn_etf.heads.cases import D, K, assert_same_state

SCHEDULE = LinearSchedule(5.0, 10.0, 5)
WITH_HOST_COPIES = {
    "fixed ETF": lambda: FixedETFHead(D, K, temperature=SCHEDULE),
    "nearest ETF": lambda: NearestETFHead(D, K, temperature=SCHEDULE, proximal_weight=SCHEDULE),
    "warm-up": lambda: WarmUpHead(LinearHead(D, K), NearestETFHead(D, K), steps=2),
}


@pytest.mark.parametrize("name", WITH_HOST_COPIES)
def test_buffers_that_were_written_to_are_followed(name, batches, device):
    """As by a broadcast of DDP, or by an average of models."""
    head = WITH_HOST_COPIES[name]().to(device)
    average = AveragedModel(head, avg_fn=lambda old, new, steps: new, use_buffers=True)
    for features, labels in batches:
        head(features, labels)
        head.advance()
        average.update_parameters(head)
    features, _ = batches[0]
    assert average.module.temperature == head.temperature
    assert torch.equal(average.module.eval()(features), head.eval()(features))
    if name == "nearest ETF":
        assert average.module.proximal_weight == head.proximal_weight == 10.0


def test_a_functional_call_leaves_the_head_as_it_was(nearest, batches):
    features, labels = batches[0]
    untouched = copy.deepcopy(nearest)
    state = {name: value.clone() for name, value in nearest.state_dict().items()}
    torch.func.functional_call(nearest, state, (features, labels))
    assert_same_state(nearest, untouched)
    assert torch.equal(nearest(features, labels), untouched(features, labels))


@pytest.mark.parametrize("transform", ["grad", "jvp", "hessian"])
def test_a_step_inside_a_transform_leaves_plain_buffers(nearest, batches, transform):
    (features, labels), expected = batches[0], copy.deepcopy(nearest)

    def loss(x):
        return cross_entropy(nearest(x, labels), labels)

    if transform == "jvp":
        torch.func.jvp(loss, (features,), (torch.ones_like(features),))
    else:
        getattr(torch.func, transform)(loss)(features)
    expected(features, labels)
    restored = pickle.loads(pickle.dumps(copy.deepcopy(nearest)))
    for name, value in restored.state_dict().items():
        assert_close(value, expected.state_dict()[name])
    restored(features, labels)


def test_a_step_is_not_mapped(nearest, batches):
    features = torch.stack([features for features, _ in batches])
    labels = batches[0][1]
    untouched = copy.deepcopy(nearest)
    with pytest.raises(DerivativeError, match="loop over the batches"):
        torch.vmap(lambda x: nearest(x, labels))(features)
    assert_same_state(nearest, untouched)
    nearest.eval()
    mapped = torch.vmap(nearest)(features)
    assert_close(mapped, torch.stack([nearest(each) for each in features]))


def test_a_step_in_inference_mode_is_a_step(nearest, batches):
    expected = copy.deepcopy(nearest)
    with torch.inference_mode():
        nearest(*batches[0])
    expected(*batches[0])
    assert_same_state(nearest, expected)
    leaf = batches[1][0].clone().requires_grad_()
    nearest(leaf, batches[1][1]).sum().backward()
    expected(*batches[1])
    assert_same_state(nearest, expected)


@pytest.mark.parametrize("create_graph", [False, True])
def test_hooks_of_features_act_once(nearest, batches, create_graph):
    features, labels = batches[0]
    gradients = []
    for factor in (1.0, 2.0):
        head, calls = copy.deepcopy(nearest), []
        leaf = features.clone().requires_grad_()
        inner = leaf * 1.0
        inner.register_hook(lambda g, f=factor, calls=calls: (calls.append(1), f * g)[1])
        loss = cross_entropy(head(inner, labels), labels)
        (gradient,) = torch.autograd.grad(loss, leaf, create_graph=create_graph)
        assert len(calls) == 1
        gradients.append(gradient.detach())
    assert_close(gradients[1], 2 * gradients[0])


def test_a_loss_that_is_kept_keeps_no_step(nearest, batches):
    features, labels = batches[0]
    leaf = features.clone().requires_grad_()
    kept = []

    def pack(tensor):
        kept.append(weakref.ref(tensor))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = cross_entropy(nearest(leaf, labels), labels)
    loss.backward()
    gc.collect()
    # What is left belongs to the state of the head, to its constant frame, or to the batch.
    state = {value.data_ptr() for value in nearest.buffers()}
    state |= {value.data_ptr() for value in nearest.node._rounded.values()}
    state |= {leaf.data_ptr(), labels.data_ptr()}
    left = [ref() for ref in kept if ref() is not None]
    assert len(kept) > 10
    assert all(tensor.data_ptr() in state or tensor.ndim < 2 for tensor in left)


def test_narrow_states_are_widened_when_they_are_assigned(nearest, batches):
    nearest(*batches[0])
    state = {
        name: value.bfloat16() if value.is_floating_point() else value
        for name, value in nearest.state_dict().items()
    }
    fresh = copy.deepcopy(nearest).bfloat16()
    fresh.load_state_dict(state, assign=True)
    assert fresh.class_means.running_means.dtype == torch.float32
    assert fresh.proximal.dtype == torch.float32


class Learned(NearestETF):
    """A node with a parameter that its own derivative leaves out."""

    def __init__(self, *sizes):
        super().__init__(*sizes, form="intrinsic")
        self.gain = nn.Parameter(torch.ones(()))


def test_parameters_of_a_node_are_not_left_out_in_silence(batches, dtype):
    features, labels = batches[0]
    head = NearestETFHead(D, K).to(features)
    head(features, labels)
    head.node = Learned(K, D).to(features)
    with pytest.raises(UndeclaredTensorError, match=r"gradient=ddn\.ImplicitGradient"):
        head(features.clone().requires_grad_(), labels)


class LearnedAverage(nn.Module):
    """α = a learned number."""

    def __init__(self):
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(0.3))

    def weight(self, counts):
        return self.alpha


def test_an_average_may_be_learned(batches):
    average = LearnedAverage()
    head = NearestETFHead(D, K, average=average).to(batches[0][0])
    head(*batches[0])
    found = []
    for create_graph in (False, True):
        leaf, labels = batches[1][0].clone().requires_grad_(), batches[1][1]
        again = copy.deepcopy(head)
        loss = cross_entropy(again(leaf, labels), labels)
        parameters = (leaf, again.class_means.average.alpha)
        found.append(torch.autograd.grad(loss, parameters, create_graph=create_graph))
    for first, second in zip(*found, strict=True):
        assert first.abs().sum() > 0
        assert_close(first, second)


def test_hooks_of_the_node_are_called(nearest, batches):
    calls = []
    nearest.node.register_forward_hook(lambda *_: calls.append(1))
    nearest(batches[0][0].clone().requires_grad_(), batches[0][1])
    nearest(batches[1][0].clone().requires_grad_(), batches[1][1])
    assert len(calls) == 3  # the first step solves twice
