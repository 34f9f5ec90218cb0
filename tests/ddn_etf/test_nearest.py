"""The nearest frame: three independent routes, known answers, all derivative modes, bad input."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ddn
from ddn.errors import DtypeError, ShapeError, SolveError
from ddn_etf import NearestETF, NearestFrame, simplex_etf

REFERENCE = json.loads((Path(__file__).parents[1] / "reference_values.json").read_text())
SIZES = [(6, 4), (12, 5), (16, 10)]


def problem(dim: int, classes: int, seed: int = 0, rank: int | None = None):
    """Centred class means of unit norm and an orthonormal proximal point, float64."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(dim, classes, generator=generator, dtype=torch.float64)
    means = means - means.mean(1, keepdim=True)
    rank = rank or classes
    proximal = torch.randn(dim, rank, generator=generator, dtype=torch.float64)
    return means / means.norm(), torch.linalg.qr(proximal).Q


def solve(node, means, proximal):
    """V, and the gradients of a generic function of it with respect to both inputs."""
    means, proximal = means.clone().requires_grad_(), proximal.clone().requires_grad_()
    V = node(means, proximal)
    weight = torch.linspace(-1, 2, V.numel(), dtype=V.dtype).reshape(V.shape).cos()
    return V.detach(), torch.autograd.grad((weight * V).sum() + (V**3).sum(), (means, proximal))


def relative(actual, expected) -> float:
    return float((actual - expected).norm() / expected.norm())


@pytest.mark.parametrize("case", REFERENCE["nearest_etf"], ids=lambda c: f"d{c['d']}-K{c['K']}")
def test_reference_values(case) -> None:
    names = ("Y", "Prox", "grad_out_P")
    means, proximal, cotangent = (torch.tensor(case[n], dtype=torch.float64) for n in names)
    expected = {
        name: torch.tensor(value, dtype=torch.float64) for name, value in case["expected"].items()
    }
    node = NearestETF(case["K"], case["d"], case["delta"])
    means.requires_grad_()
    V = node(means, proximal)
    (gradient,) = torch.autograd.grad(V, means, cotangent)
    torch.testing.assert_close(V.detach(), expected["P_prox"], rtol=0, atol=1e-9)
    torch.testing.assert_close(node.weight(V).detach(), expected["W_prox"], rtol=0, atol=1e-9)
    assert relative(gradient, expected["grad_Y"]) < 1e-9
    cost = node.objective(means, proximal, V) if case["delta"] else None
    torch.testing.assert_close(cost.detach(), expected["cost_prox"], rtol=1e-9, atol=1e-9)

    intrinsic = NearestETF(case["K"], case["d"], form="intrinsic")
    U = intrinsic(means.detach())
    nearest = U @ intrinsic.frame.mT
    torch.testing.assert_close(nearest, expected["PM_noprox"] / (case["K"] - 1) ** 0.5)
    distance = (means.detach() - nearest).square().sum()
    torch.testing.assert_close(distance, expected["cost_noprox"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("dim", "classes"), SIZES)
def test_three_routes(dim: int, classes: int) -> None:
    means, proximal = problem(dim, classes)
    closed, gradients = solve(NearestETF(classes, dim), means, proximal)
    engine = NearestETF(classes, dim, solver=ddn.solvers.Newton(), gradient=ddn.ImplicitGradient())
    riemannian = NearestETF(
        classes, dim, solver=ddn.solvers.Pymanopt(), gradient=ddn.ImplicitGradient()
    )
    for node in (engine, riemannian):
        V, other = solve(node, means, proximal)
        torch.testing.assert_close(V, closed, rtol=0, atol=1e-6)
        for a, b in zip(other, gradients, strict=True):
            assert relative(a, b) < 1e-6
    # At the same solution the two derivatives agree far better than the solvers do.
    exact = NearestETF(classes, dim, gradient=ddn.ImplicitGradient())
    V, other = solve(exact, means, proximal)
    for a, b in zip(other, gradients, strict=True):
        assert relative(a, b) < 1e-8


@pytest.mark.parametrize(
    ("node", "rank"),
    [
        (NearestETF(4, 6, 0.1), 4),
        (NearestETF(4, 6), 4),
        (NearestETF(4, 3, form="intrinsic"), 3),
        (NearestETF(4, 5, 0.5, form="intrinsic"), 3),
        (NearestFrame(torch.randn(4, 2, generator=torch.Generator().manual_seed(3)), 0.1), 2),
    ],
    ids=["published", "published-weak", "intrinsic-square", "intrinsic-proximal", "any-frame"],
)
def test_contract(node: NearestFrame, rank: int) -> None:
    dim = node.dim if isinstance(node, NearestETF) else 5
    means, proximal = problem(dim, 4, seed=1, rank=rank)
    # Newton's method may stop at the other component of O(d) on square problems: it only compares.
    report = ddn.testing.check_node(node, means, proximal)
    assert report.passed


def test_all_derivative_modes_agree() -> None:
    means, proximal = problem(5, 3, seed=2)
    node = NearestETF(3, 5, 0.1)
    engine = NearestETF(3, 5, 0.1, gradient=ddn.ImplicitGradient())

    def loss(node, means):
        return (node(means, proximal) ** 3).sum()

    expected = torch.func.hessian(lambda m: loss(engine, m))(means)
    modes = (torch.func.jacfwd, torch.func.jacrev)
    for outer in modes:
        for inner in modes:
            actual = outer(inner(lambda m: loss(node, m)))(means)
            torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


def test_compile_gives_the_same() -> None:
    means, proximal = problem(6, 4)
    node = NearestETF(4, 6)
    compiled = torch.compile(node, backend="aot_eager")
    expected, gradients = solve(node, means, proximal)
    actual, same = solve(compiled, means, proximal)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(same, gradients)


@pytest.mark.parametrize("condition", [1.0, 30.0, 1e3])
def test_float32_accuracy(condition: float) -> None:
    """Weight and gradient within 1e-4 relative of float64 up to condition number 1e3."""
    dim, classes = 96, 64
    generator = torch.Generator().manual_seed(4)
    left = torch.linalg.qr(torch.randn(dim, classes, generator=generator).double()).Q
    right = torch.linalg.qr(torch.randn(classes, classes, generator=generator).double()).Q
    spectrum = torch.logspace(0, -float(torch.tensor(condition).log10()), classes).double()
    frame = torch.eye(classes, dtype=torch.float64)
    means = (left * spectrum) @ right.mT
    cotangent = torch.randn(dim, classes, generator=generator).double()
    results = []
    for dtype in (torch.float32, torch.float64):
        variable = means.float().to(dtype).requires_grad_()
        V = NearestFrame(frame)(variable)
        (gradient,) = torch.autograd.grad(V, variable, cotangent.float().to(dtype))
        results.append((V.detach().double(), gradient.double()))
    for single, double in zip(*results, strict=True):
        assert relative(single, double) < 1e-4


@settings(max_examples=30)
@given(
    classes=st.integers(2, 7),
    extra=st.integers(0, 4),
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_no_rotation_is_nearer(classes: int, extra: int, seed: int, scale: float) -> None:
    dim = classes - 1 + extra
    generator = torch.Generator().manual_seed(seed)
    means = scale * torch.randn(dim, classes, generator=generator, dtype=torch.float64)
    node = NearestETF(classes, dim, form="intrinsic")
    singular = torch.linalg.svdvals(means @ node.frame)
    if float(singular[0]) > 1e6 * float(singular[-1]):
        return  # the nearest rotation is not unique to working accuracy
    V = node(means)
    weight = node.weight(V)
    gram = weight @ weight.mT
    cosine = -1 / (classes - 1)
    expected = torch.full_like(gram, cosine).fill_diagonal_(1)
    torch.testing.assert_close(gram, expected, rtol=0, atol=1e-10)
    best = (means - V @ node.frame.mT).norm()
    for _ in range(5):
        step = 0.1 * torch.randn(dim, classes - 1, generator=generator, dtype=torch.float64)
        other = torch.linalg.qr(V + step).Q
        assert (means - other @ node.frame.mT).norm() >= best - 1e-9 * scale


def test_both_forms_give_one_classifier() -> None:
    means, _ = problem(9, 5)
    intrinsic = NearestETF(5, 9, form="intrinsic")
    published = NearestETF(5, 9, proximal_weight=1e-9)
    proximal = torch.linalg.qr(torch.randn(9, 5, dtype=torch.float64)).Q
    W = intrinsic.weight(intrinsic(means))
    torch.testing.assert_close(published.weight(published(means, proximal)), W, rtol=0, atol=1e-6)


def test_means_that_are_an_etf_are_their_own_nearest() -> None:
    W = simplex_etf(6, 8, dtype=torch.float64)
    node = NearestETF(6, 8, form="intrinsic")
    torch.testing.assert_close(node.weight(node(3 * W.mT)), W)


def test_one_node_serves_every_dtype() -> None:
    node = pickle.loads(pickle.dumps(NearestETF(4, 6)))
    means, proximal = problem(6, 4)
    exact = node(means, proximal)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        V = node(means.to(dtype), proximal.to(dtype))
        assert V.dtype == dtype
        torch.testing.assert_close(V.double(), exact, rtol=0, atol=2000 * torch.finfo(dtype).eps)


# -- bad input ----------------------------------------------------------------------------------


def test_rank_deficient_means_need_a_proximal_point() -> None:
    means, _ = problem(6, 4)
    means[:, 1] = means[:, 0]  # two equal classes
    node = NearestETF(4, 6, form="intrinsic")
    with pytest.raises(SolveError, match="rank-deficient"):
        node(means)
    anchor = torch.eye(6, 3, dtype=torch.float64)
    V = node(means, anchor)
    torch.testing.assert_close(V.mT @ V, torch.eye(3, dtype=torch.float64))


def test_zero_means_return_the_proximal_point() -> None:
    _, proximal = problem(6, 4)
    V = NearestETF(4, 6)(torch.zeros(6, 4, dtype=torch.float64), proximal)
    torch.testing.assert_close(V, proximal)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_means_that_are_not_finite(bad: float) -> None:
    means, proximal = problem(6, 4)
    batch = torch.stack([means, means])
    batch[1, 0, 0] = bad
    with pytest.raises(SolveError, match=r"not finite for batch element\(s\) 1"):
        NearestETF(4, 6)(batch, proximal)
    V = NearestETF(4, 6, on_failure="nan")(batch, proximal)
    assert V[1].isnan().all()
    torch.testing.assert_close(V[0], NearestETF(4, 6)(means, proximal))


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="at least 2 classes"):
        NearestETF(1, 5)
    with pytest.raises(ValueError, match="dim >= 4"):
        NearestETF(4, 3)
    with pytest.raises(ValueError, match="dim >= 3"):
        NearestETF(4, 2, form="intrinsic")
    with pytest.raises(ValueError, match="form is"):
        NearestETF(4, 6, form="extrinsic")
    with pytest.raises(ValueError, match="proximal_weight"):
        NearestETF(4, 6, -1.0)
    with pytest.raises(ShapeError, match="one point per row"):
        NearestFrame(torch.ones(3))
    with pytest.raises(ValueError, match="needs a proximal point"):
        NearestETF(4, 6)(torch.randn(6, 4))
    with pytest.raises(ShapeError, match="input 0"):
        NearestETF(4, 6)(torch.randn(4, 6), torch.randn(6, 4))
    with pytest.raises(DtypeError, match="input 0"):
        NearestETF(4, 6, form="intrinsic")(torch.ones(6, 4, dtype=torch.long))


def test_empty_batch() -> None:
    means = torch.zeros(0, 6, 4, requires_grad=True)
    V = NearestETF(4, 6, form="intrinsic")(means)
    assert V.shape == (0, 6, 3)
    V.sum().backward()
    assert means.grad.shape == means.shape
