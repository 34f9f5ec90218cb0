"""What happens to problems that fail."""

from __future__ import annotations

import warnings

import pytest
import torch

from ddn import Status
from ddn.errors import DeclarativeNodeError, SingularSystemError, SolveError, SolveWarning
from ddn.failure import apply_policy, format_indices
from tests.ddn.problems import Ridge, make_node


def distance(**options):
    """argmin ½ ‖y − x‖²."""
    return make_node("(n)->(n)", lambda x, y: 0.5 * (y - x).square().sum(), **options)


def partly_bad(device, dtype, requires_grad=False):
    x = torch.randn(2, 3, 4, device=device, dtype=dtype)
    x[0, 1, 2], x[1, 2, 0] = torch.nan, torch.inf
    failed = torch.zeros(2, 3, dtype=torch.bool, device=device)
    failed[0, 1] = failed[1, 2] = True
    return x.requires_grad_(requires_grad), failed


def test_raise_lists_the_problems(device, dtype):
    x, _ = partly_bad(device, dtype)
    with pytest.raises(SolveError, match=r"(?s)2 of 6 .*\(0, 1\), \(1, 2\): NOT_FINITE") as caught:
        distance()(x)
    assert caught.value.indices == [(0, 1), (1, 2)]
    assert isinstance(caught.value, DeclarativeNodeError)


def test_nan_in_exactly_these_rows(device, dtype, tolerance):
    x, failed = partly_bad(device, dtype, requires_grad=True)
    y = distance(on_failure="nan")(x)
    assert torch.equal(y.isnan().all(-1), failed)
    assert torch.equal(y.isnan().any(-1), failed)
    weight = torch.randn_like(y)
    (gradient,) = torch.autograd.grad((y * weight).sum(), x)
    torch.testing.assert_close(
        gradient[~failed], weight[~failed], rtol=tolerance.gradient, atol=tolerance.gradient
    )


def test_gradient_of_good_rows_alone(device, dtype, tolerance):
    """A loss that leaves the failed rows out has a finite gradient for the inputs."""
    node = make_node(
        "(n),()->(n)",
        lambda x, s, y: 0.5 * (y - s * x).square().sum(),
        on_failure="nan",
    )
    x, failed = partly_bad(device, dtype)
    scale = torch.ones(2, 3, device=device, dtype=dtype, requires_grad=True)
    y = node(x, scale)
    (gradient,) = torch.autograd.grad(y[~failed].sum(), scale)
    expected = torch.where(failed, 0, x.detach().sum(-1))
    torch.testing.assert_close(
        gradient[~failed], expected[~failed], rtol=tolerance.gradient, atol=tolerance.gradient
    )


def test_warn(device, dtype):
    x, failed = partly_bad(device, dtype)
    with pytest.warns(SolveWarning, match=r"(?s)2 of 6.*\(0, 1\)"):
        y = distance(on_failure="warn")(x)
    torch.testing.assert_close(y[~failed], x[~failed])


def test_no_warning_without_failure(device, dtype):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        distance(on_failure="warn")(torch.zeros(2, 3, device=device, dtype=dtype))


@pytest.mark.parametrize("value", ["ignore", "", None, True])
def test_unknown_policy(value):
    with pytest.raises(ValueError, match="on_failure is one of"):
        Ridge(on_failure=value)


def test_unbatched_message(device, dtype):
    with pytest.raises(SolveError, match=r"(?s)1 of 1 .*the problem: NOT_FINITE") as caught:
        distance()(torch.full((3,), torch.nan, device=device, dtype=dtype))
    assert caught.value.indices == [()]


def test_long_lists_are_cut():
    text = format_indices(torch.ones(25, dtype=torch.bool))
    assert text.startswith("batch element(s) 0, 1, 2")
    assert text.endswith("9 and 15 more")
    assert format_indices(torch.tensor(True)) == "the problem"


def test_policy_on_tensors():
    failed = torch.tensor([False, True])
    first, second = apply_policy("nan", failed, str, (torch.ones(2, 3), torch.ones(2)))
    assert first.isnan().tolist() == [[False] * 3, [True] * 3]
    assert second.isnan().tolist() == [False, True]
    scalar, vector = apply_policy("nan", torch.tensor(True), str, (torch.ones(()), torch.ones(2)))
    assert bool(scalar.isnan())
    assert bool(vector.isnan().all())


def test_message_is_made_only_on_failure():
    def fail():
        raise AssertionError("the message was made although nothing failed")

    tensors = (torch.ones(2),)
    assert apply_policy("raise", torch.zeros(2, dtype=torch.bool), fail, tensors) is tensors


def flat(**options):
    """argmin (Σ y − Σ x)²: the sum is determined, the rest is free."""
    return make_node("(n)->(n)", lambda x, y: (y.sum() - x.sum()).square(), **options)


def test_gradient_of_solution_that_is_not_unique(device, dtype):
    x = torch.randn(3, 2, device=device, dtype=dtype, requires_grad=True)
    y = flat()(x)
    weight = torch.ones_like(y)
    (gradient,) = torch.autograd.grad((y * weight).sum(), x, retain_graph=True)
    torch.testing.assert_close(gradient, torch.ones_like(gradient))
    weight = torch.tensor([[1.0, 1.0], [1.0, 0.0], [1.0, 1.0]], device=device, dtype=dtype)
    with pytest.raises(
        SingularSystemError, match=r"gradient is not defined for .* 1\. .*singular"
    ) as caught:
        torch.autograd.grad((y * weight).sum(), x)
    assert caught.value.indices == [(1,)]


def test_gradient_that_is_not_defined_gives_nan(device, dtype):
    x = torch.randn(3, 2, device=device, dtype=dtype, requires_grad=True)
    y = flat(on_failure="nan")(x)
    weight = torch.tensor([[1.0, 1.0], [1.0, 0.0], [1.0, 1.0]], device=device, dtype=dtype)
    (gradient,) = torch.autograd.grad((y * weight).sum(), x)
    assert gradient.isnan().all(-1).tolist() == [False, True, False]
    torch.testing.assert_close(gradient[[0, 2]], torch.ones_like(gradient[[0, 2]]))


def test_status_has_a_remedy():
    assert all(isinstance(status.remedy, str) and status.remedy for status in Status)
