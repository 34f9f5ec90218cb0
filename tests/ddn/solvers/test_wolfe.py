"""The line search: what it returns satisfies the strong Wolfe conditions, whatever the function."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddn.solvers.wolfe import Sample, search_wolfe

FUNCTIONS = {
    "quadratic": lambda t: (t - 1) ** 2,
    "far": lambda t: (t / 1e4 - 1) ** 2,
    "quartic": lambda t: (t - 3) ** 4 + t,
    "wave": lambda t: torch.cos(3 * t) - t / 5 + 0.01 * t**2 - 1e-1 * torch.sin(t),
    "barrier": lambda t: -torch.log(2 - t) - 3 * torch.log(t + 0.1),
    "moré": lambda t: -t / (t**2 + 2),
    "steep": lambda t: torch.exp(20 * t) - 1e3 * t,
}


def search(function, first, longest=None, evaluations=40):
    """Along one line for each of the first steps."""
    first = torch.as_tensor(first, dtype=torch.float64)
    calls = torch.zeros(len(first))

    def sample(t):
        t = t.detach().requires_grad_()
        value = function(t)
        (slope,) = torch.autograd.grad(value.sum(), t)
        return Sample(
            t.detach(), t.detach().unsqueeze(-1), value.detach(), slope.unsqueeze(-1), slope
        )

    def evaluate(index, step):
        calls[index] += 1
        return sample(step)

    origin = sample(torch.zeros_like(first))
    longest = torch.full_like(first, torch.inf if longest is None else longest)
    found = search_wolfe(evaluate, origin, first, longest, torch.zeros_like(first), evaluations)
    return origin, found, calls


@pytest.mark.parametrize("name", FUNCTIONS)
@given(exponents=st.lists(st.floats(-5, 3), min_size=1, max_size=5))
def test_strong_wolfe_conditions(name, exponents):
    origin, found, calls = search(FUNCTIONS[name], [10.0**e for e in exponents])
    point = found.sample
    assert bool(found.moved.all())
    assert bool((point.value <= origin.value + 1e-4 * point.step * origin.slope).all())
    assert bool((point.slope.abs() <= 0.9 * origin.slope.abs()).all())
    assert int(calls.max()) < 40


def test_the_longest_step_is_taken_where_the_function_still_falls():
    _, found, calls = search(FUNCTIONS["far"], [1.0, 7.0], longest=5.0)
    assert found.sample.step.tolist() == [5.0, 5.0]
    assert calls.tolist() == [3, 1]


def test_lines_without_end():
    _, found, _ = search(lambda t: -torch.exp(t), [1.0])
    assert bool(found.endless.all())
    assert bool(found.sample.value.isfinite().all())


def test_lines_that_do_not_fall():
    """φ'(0) ≥ 0, or every trial outside of the domain: the origin is returned."""
    origin, found, calls = search(lambda t: t**2 + t, [1.0])
    assert not bool(found.moved.any())
    assert calls.tolist() == [0]
    assert found.sample.step.tolist() == origin.step.tolist()
    _, found, _ = search(lambda t: torch.where(t > 0, torch.nan, -t), [1.0])
    assert not bool((found.moved | found.endless).any())
