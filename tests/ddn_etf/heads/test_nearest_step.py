"""The gradient of a step in one piece, against autograd through the single operations."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from ddn.errors import DerivativeError
from ddn_etf.heads import NearestETFHead
from tests.ddn_etf.heads.cases import D, K

PARTS = {
    "logits": lambda output, labels: cross_entropy(output.logits, labels),
    "weight": lambda output, labels: output.weight.square().cumsum(1).mean(),
    "bias": lambda output, labels: output.bias.square().cumsum(0).mean(),
}


def gradient(head, features, labels, part, **options):
    loss = PARTS[part](head.outputs(features, labels), labels)
    return torch.autograd.grad(loss, features, **options)[0]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("through_frame", [True, False])
def test_gradient_is_that_of_the_single_operations(
    nearest, batches, tolerance, part, through_frame
):
    close = {"rtol": tolerance.gradient, "atol": tolerance.gradient}
    nearest.gradient_through_frame = through_frame
    for features, labels in batches[:3]:
        leaf = features.clone().requires_grad_()
        if part == "weight" and not through_frame:
            assert not copy.deepcopy(nearest).outputs(leaf, labels).weight.requires_grad
            continue
        # With create_graph and under a transform, autograd goes through the single operations.
        recorded = gradient(copy.deepcopy(nearest), leaf, labels, part, create_graph=True)
        by_transform = torch.func.grad(
            lambda x, head=copy.deepcopy(nearest), y=labels: PARTS[part](head.outputs(x, y), y)
        )(features)
        found = gradient(nearest, leaf, labels, part)
        assert recorded.requires_grad
        assert_close(found, recorded.detach(), **close)
        assert_close(found, by_transform, **close)


def test_second_derivatives(batches, device):
    torch.set_default_dtype(torch.float64)
    head = NearestETFHead(D, K).to(device)
    trained, others = batches[0], batches[1]
    head(trained[0].double(), trained[1])
    features, labels = others[0].double()[:7], others[1][:7]
    leaf = features.requires_grad_()

    def loss(x):
        return cross_entropy(copy.deepcopy(head)(x, labels), labels)

    assert torch.autograd.gradgradcheck(loss, leaf)


def test_weight_of_the_proximal_term_is_that_of_the_forward_pass(batches):
    features, labels = batches[0]
    gradients = []
    for later in (1e-3, 10.0):
        head = NearestETFHead(D, K).to(features)
        leaf = features.clone().requires_grad_()
        loss = cross_entropy(head(leaf, labels), labels)
        head.proximal_weight = later
        gradients.append(torch.autograd.grad(loss, leaf)[0])
        assert head.proximal_weight == later
    assert torch.equal(*gradients)


def test_a_second_backward_pass_needs_the_graph(batches):
    features, labels = batches[0]
    head = NearestETFHead(D, K).to(features)
    leaf = features.clone().requires_grad_()
    loss = cross_entropy(head(leaf, labels), labels)
    first = torch.autograd.grad(loss, leaf, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(loss, leaf)[0], first)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(loss, leaf)


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_activation_checkpointing_is_refused(nearest, batches, use_reentrant):
    """It would make the training step twice."""
    features, labels = batches[0]
    leaf = features.clone().requires_grad_()
    loss = checkpoint(nearest, leaf, labels, use_reentrant=use_reentrant).square().sum()
    trained = copy.deepcopy(nearest.state_dict())
    with pytest.raises(DerivativeError, match="Leave the head out of what is checkpointed"):
        loss.backward()
    for name, value in nearest.state_dict().items():
        assert torch.equal(value, trained[name])
    # Around the backbone it is as useful as ever, and in evaluation mode nothing changes.
    nearest.eval()
    logits = checkpoint(nearest, leaf, use_reentrant=use_reentrant)
    assert torch.autograd.grad(nearest(leaf).sum(), leaf)[0].isfinite().all()
    logits.sum().backward()
