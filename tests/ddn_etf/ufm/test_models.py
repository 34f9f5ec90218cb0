from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from torch.testing import assert_close

from ddn.errors import DtypeError, ShapeError
from ddn_etf.errors import FrameSizeError
from ddn_etf.ufm import (
    CrossEntropy,
    ExtendedUnconstrainedFeatures,
    FreeBias,
    MeanSquaredError,
    RegularizedBias,
    ReLU,
    UnconstrainedFeatures,
)
from tests.ddn_etf.ufm.cases import (
    BIASES,
    K,
    cross_entropy_model,
    d,
    extended_model,
    n,
    squared_error_model,
    start,
)

MODELS = [
    *map(cross_entropy_model, BIASES),
    *map(squared_error_model, BIASES),
    squared_error_model(activation=ReLU()),
    extended_model(),
    extended_model(activation=ReLU(), bias=RegularizedBias(0.1)),
    extended_model(loss=CrossEntropy(), bias=FreeBias()),
]


def value_in_numpy(model, vector):
    """f by its definition, with columns for samples as in the papers."""
    blocks = {key: part.numpy() for key, part in model.split(vector).items()}
    relu = isinstance(model.activation, ReLU)

    def activated(x):
        return np.maximum(x, 0) if relu else x

    if isinstance(model, ExtendedUnconstrainedFeatures):
        Z = blocks["W2"] @ activated(blocks["W1"] @ blocks["H"].T)
        decays = {
            "W2": model.weight_decay_W2,
            "W1": model.weight_decay_W1,
            "H": model.weight_decay_H,
        }
    else:
        Z = blocks["W"] @ activated(blocks["H"].T)
        decays = {"W": model.weight_decay_W, "H": model.weight_decay_H}
    if "b" in blocks:
        Z = Z + blocks["b"][:, None]
        decays["b"] = model.bias.weight_decay
    K, n = model.num_classes, model.samples_per_class
    Y = np.kron(np.eye(K), np.ones((1, n)))
    if isinstance(model.loss, MeanSquaredError):
        loss = np.sum((Z - Y) ** 2) / (2 * K * n)
    else:
        loss = np.mean(logsumexp(Z, axis=0) - np.sum(Z * Y, axis=0))
    return loss + sum(decay / 2 * np.sum(blocks[key] ** 2) for key, decay in decays.items())


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_objective_by_its_definition(model):
    vector = start(model, 0)
    assert model.objective(vector).item() == pytest.approx(value_in_numpy(model, vector), rel=1e-13)
    assert_close(model.join(model.split(vector)), vector, rtol=0, atol=0)


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_derivatives(model):
    vector = start(model, 1)
    value, gradient = model.value_and_gradient(vector)
    assert value == model.objective(vector)
    direction = start(model, 2)
    step = 1e-5
    ends = [model.value_and_gradient(vector + sign * step * direction) for sign in (1, -1)]
    slope = (ends[0][0] - ends[1][0]) / (2 * step)
    close = {"rtol": 1e-6, "atol": 1e-6}
    assert_close(slope, gradient @ direction, **close)
    bend = (ends[0][1] - ends[1][1]) / (2 * step)
    assert_close(model.curvature(vector)(direction), bend, **close)
    hessian = model.hessian(vector)
    assert_close(hessian @ direction, model.curvature(vector)(direction))
    assert torch.equal(hessian, hessian.mT)


def test_slope_of_the_loss():
    model = cross_entropy_model()
    vector = start(model, 0)
    softmax = model.logits(vector).softmax(dim=1)
    expected = (softmax - torch.eye(K).double().repeat_interleave(n, dim=0)) / (K * n)
    assert_close(model.loss_slope(vector), expected)


def test_vectors_of_single_precision_stay_so():
    model = squared_error_model()
    vector = model.random_start(torch.Generator().manual_seed(0), dtype=torch.float32)
    value, gradient = model.value_and_gradient(vector)
    assert value.dtype == gradient.dtype == torch.float32
    assert model.hessian(vector).dtype == torch.float32


def test_transforms_of_torch():
    model = cross_entropy_model()
    vectors = torch.stack([start(model, seed) for seed in range(3)])
    values = torch.vmap(model.objective)(vectors)
    assert_close(values, torch.stack([model.objective(v) for v in vectors]))
    gradients = torch.vmap(torch.func.grad(model.objective))(vectors)
    assert_close(gradients[1], model.value_and_gradient(vectors[1])[1])


def test_random_starts_follow_the_generator():
    model = squared_error_model()
    assert torch.equal(start(model, 3), start(model, 3))
    assert not torch.equal(start(model, 3), start(model, 4))
    assert_close(start(model, 3, 0.1), 0.1 * start(model, 3))


@pytest.mark.parametrize("loss", [CrossEntropy(), MeanSquaredError()])
def test_conjugate(loss):
    """Fenchel and Young: g(Z) + g*(Θ) >= ⟨Θ, Z⟩, with equality for Θ = ∇g(Z)."""
    model = UnconstrainedFeatures(
        num_classes=K,
        samples_per_class=n,
        dim=d,
        weight_decay_W=1e-3,
        weight_decay_H=1e-3,
        loss=loss,
    )
    labels = model.labels()
    first, second = (model.logits(start(model, seed)) for seed in (0, 1))
    slope = model.loss_slope(start(model, 1))
    for scale in (1.0, 0.3):
        conjugate = loss.conjugate(scale * slope, labels)
        assert loss(first, labels) + conjugate >= (scale * slope * first).sum()
    assert_close(loss(second, labels) + loss.conjugate(slope, labels), (slope * second).sum())
    balanced = loss.balance(slope, labels)
    assert balanced.sum(dim=0).abs().max() < 1e-15
    assert loss.conjugate(balanced, labels).isfinite()
    assert loss(first, labels) + loss.conjugate(balanced, labels) >= (balanced * first).sum()


def test_bad_input():
    model = cross_entropy_model()
    with pytest.raises(ShapeError, match=r"has shape \(148,\), found \(147,\)"):
        model.objective(torch.zeros(147, dtype=torch.float64))
    with pytest.raises(DtypeError, match="floating-point"):
        model.objective(torch.zeros(148, dtype=torch.int64))
    parts = model.split(start(model, 0))
    with pytest.raises(ValueError, match="block 'W' is missing"):
        model.join({"H": parts["H"], "b": parts["b"]})
    with pytest.raises(ValueError, match="no block 'V'"):
        model.join({**parts, "V": parts["W"]})
    with pytest.raises(ShapeError, match="block 'W'"):
        model.join({**parts, "W": parts["W"].mT})
    with pytest.raises(ValueError, match="no block 'b'"):
        squared_error_model().join({**parts, "b": torch.ones(K)})
    with pytest.raises(ValueError, match="weight_decay_W must be a positive"):
        cross_entropy_model(decays=(0.0, 1.0))
    with pytest.raises(ValueError, match="dim must be at least 1"):
        cross_entropy_model(dim=0)
    with pytest.raises(FrameSizeError):
        UnconstrainedFeatures(
            num_classes=1, samples_per_class=1, dim=2, weight_decay_W=1.0, weight_decay_H=1.0
        )
