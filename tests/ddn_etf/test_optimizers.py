from __future__ import annotations

import pytest
import torch

from ddn_etf.optimizers import OPTIMIZERS, SGD, Adam, AdamW, find_optimizer


def step(optimizer, learning_rate: float, weight_decay: float, gradients: list[float]) -> float:
    """Where a parameter gets to from 1 with these gradients."""
    w = torch.nn.Parameter(torch.tensor(1.0, dtype=torch.float64))
    built = optimizer.build([w], learning_rate, weight_decay)
    for gradient in gradients:
        w.grad = torch.tensor(gradient, dtype=torch.float64)
        built.step()
    return w.item()


def test_sgd_is_its_formula():
    w, m = 1.0, 0.0
    for k, g in enumerate((0.5, -0.2, 0.1)):
        m = (0.8 * m if k else 0.0) + g + 0.01 * w
        w -= 0.1 * m
    assert step(SGD(0.8), 0.1, 0.01, [0.5, -0.2, 0.1]) == pytest.approx(w, rel=1e-14)


@pytest.mark.parametrize(("kind", "decoupled"), [(Adam, False), (AdamW, True)])
def test_adam_is_its_formula(kind, decoupled):
    w, m, v = 1.0, 0.0, 0.0
    for t, g in enumerate((0.5, -0.2, 0.1), start=1):
        if decoupled:
            w *= 1 - 0.1 * 0.01
        pull = g if decoupled else g + 0.01 * w
        m, v = 0.7 * m + 0.3 * pull, 0.99 * v + 0.01 * pull * pull
        w -= 0.1 * (m / (1 - 0.7**t)) / ((v / (1 - 0.99**t)) ** 0.5 + 1e-8)
    assert step(kind(0.7, 0.99), 0.1, 0.01, [0.5, -0.2, 0.1]) == pytest.approx(w, rel=1e-12)


def test_names():
    assert list(OPTIMIZERS) == ["sgd", "adam", "adamw"]
    assert find_optimizer("adam", 0.8) == Adam(0.8)
    with pytest.raises(ValueError, match="unknown optimizer 'lion'; known optimizers: sgd, adam"):
        find_optimizer("lion")


@pytest.mark.parametrize("momentum", [-0.1, 1.0, float("nan")])
@pytest.mark.parametrize("kind", OPTIMIZERS.values())
def test_a_momentum_out_of_range(kind, momentum):
    with pytest.raises(ValueError, match=r"^momentum must be"):
        kind(momentum)


def test_second_momentum_and_nesterov_are_checked():
    with pytest.raises(ValueError, match=r"^second_momentum must be"):
        Adam(second_momentum=1.0)
    with pytest.raises(ValueError, match="nesterov needs a momentum"):
        SGD(momentum=0.0, nesterov=True)
