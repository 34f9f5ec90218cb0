from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from ddn_etf.heads import FixedETFHead, LinearHead, NearestETFHead
from tests.ddn_etf.heads.cases import D, K, N, assert_same_state


def test_logits_weight_and_bias(head, batches):
    features, labels = batches[0]
    logits = head(features, labels)
    assert logits.shape == (N, K)
    assert head.weight.shape == (K, D)
    assert head.bias.shape == (K,)
    assert_close(logits, head.normalize(features) @ head.weight.mT + head.bias)
    # The same weight and bias classify in evaluation mode, with or without labels.
    head.eval()
    assert_close(head(features), logits)
    assert torch.equal(head(features, labels.flip(0)), head(features))
    assert head(features[:0]).shape == (0, K)


def test_state_dict_in_the_middle_of_training(head, batches, dtype, device):
    def train(module, optimizer, batches):
        losses = []
        for features, labels in batches:
            optimizer.zero_grad()
            loss = cross_entropy(module(features), labels, label_smoothing=0.1)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    class Network(torch.nn.Module):
        def __init__(self, head):
            super().__init__()
            self.backbone, self.head = torch.nn.Linear(D, D).to(batches[0][0]), head

        def forward(self, inputs):
            labels = torch.arange(N, device=device) % K
            return self.head(self.backbone(inputs), labels)

    fresh = copy.deepcopy(head)
    network = Network(head)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    train(network, optimizer, batches[:3])
    file = io.BytesIO()
    torch.save([network.state_dict(), optimizer.state_dict()], file)
    duplicate, pickled = copy.deepcopy(network), pickle.loads(pickle.dumps(network.head))
    expected = train(network, optimizer, batches[3:])

    file.seek(0)
    network_state, optimizer_state = torch.load(file, weights_only=True)
    resumed = Network(fresh)
    resumed.load_state_dict(network_state)
    optimizer = torch.optim.SGD(resumed.parameters(), lr=0.1, momentum=0.9)
    optimizer.load_state_dict(optimizer_state)
    assert_same_state(pickled, resumed.head)
    assert_same_state(duplicate, resumed)
    assert train(resumed, optimizer, batches[3:]) == expected
    assert_same_state(resumed, network)
    features, labels = batches[3]
    assert torch.equal(pickled(features, labels), duplicate.head(features, labels))


def test_second_forward_leaves_the_first_graph_intact(head, batches):
    gradients = []
    for forwards in (1, 2):
        module, leaf = copy.deepcopy(head), batches[0][0].clone().requires_grad_()
        loss = cross_entropy(module(leaf, batches[0][1]), batches[0][1])
        evaluated = module.eval()(leaf).square().mean()
        for _ in range(forwards - 1):
            module.train()(*batches[0])
        (loss + evaluated).backward()
        gradients.append(leaf.grad)
    assert torch.equal(*gradients)


def test_gradient_against_finite_differences(head, device):
    labels = torch.tensor([0, 1, 2, 3, 1, 0], device=device)
    head = head.double()
    head(torch.randn(6, D, dtype=torch.float64, device=device), labels)
    features = torch.randn(6, D, dtype=torch.float64, device=device, requires_grad=True)

    def logits(features):
        return copy.deepcopy(head)(features, labels)

    assert torch.autograd.gradcheck(logits, features)
    assert torch.autograd.gradgradcheck(logits, features)


def test_zero_rows_are_zero_features_with_zero_gradient(head, batches):
    features, labels = batches[0]
    features = features.clone()
    features[3] = 0
    features.requires_grad_()
    head(features, labels)
    assert torch.count_nonzero(head.normalize(features)[3]) == 0
    logits = head.eval()(features)
    assert_close(logits[3], head.bias)
    if head.temperature is not None:
        logits.square().sum().backward()
        assert torch.count_nonzero(features.grad[3]) == 0
        assert torch.count_nonzero(features.grad[2]) == D


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_nan_and_infinity_in_evaluation_stay_in_their_row(head, batches, value):
    features, labels = batches[0]
    head(features, labels)
    expected = head.eval()(features)
    spoiled = features.clone()
    spoiled[3, 1] = value
    logits = head(spoiled)
    if head.temperature is not None:
        assert logits[3].isnan().all()
    assert not logits[3].isfinite().any()
    rest = torch.arange(N, device=features.device) != 3
    assert torch.equal(logits[rest], expected[rest])


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e30])
def test_normalised_features_have_the_length_of_the_temperature(scale):
    head = FixedETFHead(D, K, temperature=3.0)
    h = head.normalize(scale * torch.randn(N, D))
    assert_close(h.norm(dim=1), torch.full((N,), 3.0))


def test_autocast(head, batches):
    features, labels = batches[0]
    head, features = head.float(), features.float()
    exact = copy.deepcopy(head)
    expected = copy.deepcopy(head)(features, labels)
    leaf = features.bfloat16().requires_grad_()
    with torch.autocast(features.device.type, dtype=torch.bfloat16):
        logits = head(leaf, labels)
        cross_entropy(logits, labels).backward()
    assert logits.dtype == head.weight.dtype == torch.float32
    assert leaf.grad.isfinite().all()
    # Only the features were rounded.
    assert_close(logits, copy.deepcopy(exact)(leaf.detach().float(), labels))
    assert_close(logits, expected, rtol=0.02, atol=0.1)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_module(head, batches, half):
    features, labels = batches[0]
    expected = copy.deepcopy(head).float()(features.float(), labels)
    logits = head.to(half)(features.to(half), labels)
    assert logits.dtype == head.weight.dtype == half
    assert_close(logits.float(), expected, rtol=0.05, atol=0.25)


def test_narrow_features_are_widened(head, batches):
    features, labels = batches[0]
    head = head.double()
    assert head(features.half(), labels).dtype == torch.float64


# Behind a graph break, torch.compile reads the gradient of a tensor that has none, and warns.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compiled_head_gives_the_same(head, batches):
    compiled = torch.compile(copy.deepcopy(head), backend="aot_eager")
    for features, labels in batches[:3]:
        leaves = [features.clone().requires_grad_() for _ in range(2)]
        outputs = [f(leaf, labels) for f, leaf in zip((head, compiled), leaves, strict=True)]
        assert_close(outputs[1], outputs[0])
        for output in outputs:
            output.square().sum().backward()
        assert_close(leaves[1].grad, leaves[0].grad)
    assert_close(compiled.weight, head.weight)
    torch.compiler.reset()


def test_representation_shows_the_options():
    assert repr(LinearHead(D, K, bias=False)) == (
        "LinearHead(dim=6, num_classes=4, temperature=None, bias=False, unit_rows=False)"
    )
    assert repr(FixedETFHead(D, K)) == "FixedETFHead(dim=6, num_classes=4, temperature=5.0)"
    text = repr(NearestETFHead(D, K, gradient_through_frame=False))
    assert "gradient_through_frame=False" in text
    assert "ExponentialAverage(floor=0.0001, per_class=False)" in text
