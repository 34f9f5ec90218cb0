"""Certificates: each flag falls where it should, and only there."""

from __future__ import annotations

import pytest
import torch

import ddn
from ddn.errors import DeclarativeNodeError, SignatureError
from tests.ddn.problems import Entropy, EqualityQP, Ridge, make_node
from tests.ddn.test_inequality import Ball, Box

FLAGS = (
    "optimal",
    "feasible",
    "independent_constraints",
    "strict_minimum",
    "strictly_complementary",
    "well_conditioned",
)


def raised(certificate, index=()):
    """The flags that are not met by one problem."""
    return {name for name in FLAGS if not bool(getattr(certificate, name)[index])}


def quadratic(hessian, **options):
    """argmin ½ yᵀ H y − xᵀ y with a given, possibly singular or indefinite H, and a given solution."""
    return make_node(
        "(n)->(n)",
        lambda x, y: 0.5 * y @ hessian @ y - x @ y,
        solve=lambda x: torch.linalg.lstsq(hessian, x.unsqueeze(-1)).solution.squeeze(-1),
        **options,
    )


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_regular_problems_raise_no_flag(scale, device, dtype):
    torch.manual_seed(0)
    x = scale * torch.randn(3, 4, device=device, dtype=dtype)
    A = scale * torch.randn(6, 4, device=device, dtype=dtype)
    b = torch.randn(3, 6, device=device, dtype=dtype)
    r = torch.tensor(scale**2, device=device, dtype=dtype)
    radius = 0.4 * x.norm(dim=-1)
    certificates = [
        Entropy().certificate(x if scale == 1 else x / scale),
        Ridge().certificate(A, b, r),
        Box().certificate(x, torch.full_like(x, -0.1 * scale), torch.full_like(x, torch.inf)),
        Ball().certificate(x, radius),
        Ball().certificate(x, 9 * radius),
    ]
    for certificate in certificates:
        assert bool(certificate.trustworthy.all()), str(certificate)
        assert "NOT" not in str(certificate)


def test_fields_are_tensors_of_the_batch_shape(device, dtype):
    certificate = Entropy().certificate(torch.randn(2, 3, 4, device=device, dtype=dtype))
    for name in certificate.__dataclass_fields__:
        if name != "name":
            assert getattr(certificate, name).shape == (2, 3), name
    assert certificate.trustworthy.shape == (2, 3)
    assert certificate.num_active.eq(1).all()
    assert certificate.rank.eq(1).all()


def test_not_optimal(device, dtype):
    x = torch.randn(2, 4, device=device, dtype=dtype)
    y = torch.softmax(x, -1)
    y[1] = 0.25
    certificate = Entropy().certificate(x, y=y)
    assert raised(certificate, 0) == set()
    assert raised(certificate, 1) == {"optimal"}


def test_infeasible(device, dtype):
    """Two constraints that contradict each other, at a point that satisfies one of them."""
    x = torch.randn(3, device=device, dtype=dtype)
    y = torch.softmax(x, -1)
    certificate = Entropy().certificate(x, y=y * 1.01)
    assert "feasible" in raised(certificate)
    box = torch.zeros_like(x), torch.ones_like(x)
    assert "feasible" in raised(Box().certificate(x, *box, y=x.clamp_min(0) + 2))


def test_infeasible_problem_does_not_raise():
    a = torch.tensor([[1.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    b = torch.tensor([1.0, 2.0], dtype=torch.float64)
    eye = torch.eye(2, dtype=torch.float64)
    certificate = EqualityQP().certificate(eye, b, a, b)
    assert {"feasible", "optimal"} <= raised(certificate)
    assert "NOT feasible" in str(certificate)


def test_dependent_constraints(device, dtype):
    q, b = torch.randn(2, 4, device=device, dtype=dtype)
    eye = torch.eye(4, device=device, dtype=dtype)
    a = torch.stack([q, -3 * q])
    certificate = EqualityQP().certificate(eye, b, a, a @ b)
    assert raised(certificate) == {"independent_constraints", "well_conditioned"}
    assert certificate.rank.item() == 1
    assert certificate.num_active.item() == 2


def test_symmetric_mark_makes_constraints_independent():
    """YᵀY = I states four equations in three unknown entries of a symmetric matrix."""

    def node(mark):
        return make_node(
            "(m,n)->(m,n)",
            lambda c, y: -(c * y).sum(),
            lambda c, y: mark(y.mT @ y - torch.eye(2, dtype=y.dtype)),
            solve=lambda c: torch.linalg.svd(c).U[..., :2] @ torch.linalg.svd(c).Vh,
        )

    c = torch.randn(3, 2, dtype=torch.float64)
    assert raised(node(ddn.symmetric).certificate(c)) == set()
    assert "independent_constraints" in raised(node(lambda m: m).certificate(c))


@pytest.mark.parametrize(
    ("eigenvalues", "expected"),
    [
        ([1.0, 0.0], {"strict_minimum", "well_conditioned"}),
        ([1.0, -1.0], {"strict_minimum"}),
        ([1.0, 2.0], set()),
    ],
    ids=["singular", "indefinite", "definite"],
)
def test_curvature(eigenvalues, expected, device, dtype):
    hessian = torch.diag(torch.tensor(eigenvalues, device=device, dtype=dtype))
    x = torch.tensor([1.0, 0.0], device=device, dtype=dtype)
    assert raised(quadratic(hessian).certificate(x)) == expected


def test_flat_minimum_of_higher_order():
    """y⁴ has a minimum at zero, but no curvature there."""
    node = make_node("()->()", lambda x, y: (y - x) ** 4, solve=lambda x: x + 1e-6)
    assert "strict_minimum" in raised(node.certificate(torch.tensor(0.5, dtype=torch.float64)))


def test_constraints_may_hold_what_the_objective_does_not(device, dtype):
    """Negative curvature across the constraint does no harm."""
    q = torch.diag(torch.tensor([1.0, -5.0], device=device, dtype=dtype))
    a = torch.tensor([[0.0, 1.0]], device=device, dtype=dtype)
    b = torch.tensor([0.5], device=device, dtype=dtype)
    zero = torch.zeros(2, device=device, dtype=dtype)
    certificate = EqualityQP().certificate(q, zero, a, b)
    assert raised(certificate) == set()
    assert certificate.curvature.item() > 0


def test_vertex_leaves_nothing_free(device, dtype):
    node = make_node("(n)->(n)", lambda c, y: c @ y, solve=lambda c: -c.sign())
    type(node).bounds = lambda self, c: (-1.0, 1.0)
    certificate = node.certificate(torch.tensor([1.0, -2.0], device=device, dtype=dtype))
    assert raised(certificate) == set()
    assert certificate.curvature.item() == float("inf")


def test_weakly_active(device, dtype):
    x = torch.tensor([[0.0, 1.0, -1.0], [0.5, 1.0, -1.0]], device=device, dtype=dtype)
    certificate = Box().certificate(x, torch.zeros_like(x), torch.full_like(x, torch.inf))
    assert raised(certificate, 0) == {"strictly_complementary"}
    assert raised(certificate, 1) == set()
    assert certificate.num_weakly_active.tolist() == [1, 0]
    assert certificate.num_active.tolist() == [2, 1]


def test_ill_conditioned():
    """Two constraints that are almost the same, and two variables that almost are."""
    a = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 3e-6]], dtype=torch.float64)
    eye = torch.eye(3, dtype=torch.float64)
    y = torch.tensor([0.3, 0.4, 0.5], dtype=torch.float64)
    hessian = torch.diag(torch.tensor([1.0, 1.0, 1e-9], dtype=torch.float64))
    hessian = hessian + torch.tensor([[0, 1, 0], [1, 0, 0], [0, 0, 0]]) * (1 - 1e-9)
    assert raised(EqualityQP().certificate(eye, -y, a, a @ y)) == {"well_conditioned"}
    node = quadratic(hessian)
    assert raised(node.certificate(hessian @ y)) == {"well_conditioned", "strict_minimum"}


def test_scaling_alone_is_no_ill_condition(device, dtype):
    """Variables in units of 1e-4 and 1e4: equilibration takes it away."""
    diagonal = torch.tensor([1e8, 1.0, 1e-8], device=device, dtype=dtype)
    x = torch.tensor([1e4, 1.0, 1e-4], device=device, dtype=dtype)
    node = make_node(
        "(n)->(n)",
        lambda x, y: (0.5 * diagonal * y.square() - x * y).sum(),
        solve=lambda x: x / diagonal,
    )
    certificate = node.certificate(x)
    assert raised(certificate) == set(), str(certificate)
    assert certificate.condition.item() < 2


def test_neighbours_do_not_matter(dtype):
    x = torch.randn(3, 4, dtype=dtype)
    alone = Entropy().certificate(x[1])
    x[0] *= torch.nan
    x[2] *= 1e3
    together = Entropy().certificate(x)
    assert bool(together.trustworthy[1])
    assert {"optimal", "feasible"} <= raised(together, 0)
    for name in ("stationarity", "curvature", "condition"):
        torch.testing.assert_close(getattr(together, name)[1], getattr(alone, name))


def test_text_names_problems_and_remedy():
    x = torch.tensor([[0.0, 1.0], [0.5, 1.0]], dtype=torch.float64)
    text = str(Box().certificate(x, torch.zeros_like(x), torch.full_like(x, torch.inf)))
    assert "1 of 2 problem(s)" in text
    assert "NOT strictly complementary: batch element(s) 0" in text
    assert "smoothing" in text


def test_empty_batches_and_sizes_out_of_reach():
    with pytest.raises(SignatureError, match="at least one problem"):
        Entropy().certificate(torch.zeros(0, 3))
    with pytest.raises(DeclarativeNodeError, match="out of reach"):
        Box().certificate(*(torch.zeros(10_000) for _ in range(3)))
