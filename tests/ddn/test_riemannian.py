"""Derivatives on the tangent space of a manifold, and Pymanopt on each of its manifolds."""

from __future__ import annotations

import pytest
import torch

import ddn
from ddn.errors import DerivativeError, ShapeError, SignatureError, SolveError
from ddn.solvers import Pymanopt
from tests.ddn.problems import make_node

pymanopt = pytest.importorskip("pymanopt")
manifolds = pymanopt.manifolds


def symmetric(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return root + root.mT


def positive(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return root @ root.mT + torch.eye(shape[-1], dtype=torch.float64)


def subspace(M, Y):
    """argmin over subspaces of −tr(YᵀMY): spanned by the dominant eigenvectors."""
    return -(Y.mT @ M @ Y).diagonal().sum()


def projector_of_eigenvectors(M, r):
    vectors = torch.linalg.eigh((M + M.mT) / 2).eigenvectors[..., -r:]
    return vectors @ vectors.mT


def on(manifold, signature, objective, **options):
    return make_node(signature, objective, solver=Pymanopt(manifold=manifold), **options)


def compare(function, reference, x, tolerance):
    """Value and gradient of a random function of both."""
    x = x.clone().requires_grad_()
    y, expected = function(x), reference(x)
    torch.testing.assert_close(y, expected, rtol=tolerance.solver, atol=tolerance.solver)
    cotangent = torch.randn(*expected.shape, dtype=expected.dtype)
    (found,) = torch.autograd.grad(y, x, cotangent)
    (known,) = torch.autograd.grad(expected, x, cotangent)
    size = float(known.abs().max())
    torch.testing.assert_close(found, known, rtol=tolerance.solver, atol=tolerance.solver * size)


def test_grassmann_dominant_subspace(tolerance):
    node = on(manifolds.Grassmann(5, 2), "(n,n)->(n,2)", subspace)

    def projector(M):
        Y = node((M + M.mT) / 2)
        return Y @ Y.mT

    def reference(M):
        return projector_of_eigenvectors(M, 2)

    compare(projector, reference, symmetric(2, 5, 5, seed=7), tolerance)


def test_grassmann_refuses_a_loss_of_the_representative():
    node = on(manifolds.Grassmann(5, 2), "(n,n)->(n,2)", subspace)
    M = symmetric(3, 5, 5).requires_grad_()
    with pytest.raises(DerivativeError, match="batch element 0: the loss depends on which"):
        (node(M) * torch.randn(3, 5, 2, dtype=torch.float64)).sum().backward()


def test_sphere_without_constraint(tolerance):
    node = on(manifolds.Sphere(4), "(n)->(n)", lambda x, y: 0.5 * (y - x).square().sum())
    x = torch.randn(3, 4, dtype=torch.float64)
    compare(node, lambda x: x / x.norm(dim=-1, keepdim=True), x, tolerance)


def test_oblique_normalizes_columns(tolerance):
    node = on(manifolds.Oblique(4, 3), "(n,k)->(n,k)", lambda x, y: 0.5 * (y - x).square().sum())
    x = torch.randn(2, 4, 3, dtype=torch.float64)
    compare(node, lambda x: x / x.norm(dim=-2, keepdim=True), x, tolerance)


def test_stiefel_polar_factor(tolerance):
    node = on(manifolds.Stiefel(5, 2), "(d,r)->(d,r)", lambda C, V: 0.5 * (V - C).square().sum())
    C = torch.randn(2, 5, 2, dtype=torch.float64)
    compare(node, ddn.nodes.orthogonal_procrustes, C, tolerance)


def test_positive_definite_matrices(tolerance):
    """argmin tr(S X⁻¹) + log det X, which is S: the estimate of a covariance."""

    def objective(S, X):
        return torch.linalg.solve(X, S).diagonal().sum() + torch.linalg.slogdet(X).logabsdet

    node = on(manifolds.SymmetricPositiveDefinite(3), "(n,n)->(n,n)", objective)
    compare(lambda S: node((S + S.mT) / 2), lambda S: (S + S.mT) / 2, positive(2, 3, 3), tolerance)


def test_rotations(tolerance):
    """Wahba's problem: the nearest rotation, by the SVD with a determinant of one."""

    def nearest(B):
        left, _, right = torch.linalg.svd(B)
        sign = torch.linalg.det(left @ right)
        ones = torch.ones_like(B[..., 0])
        signs = torch.cat([ones[..., :-1], sign.unsqueeze(-1)], -1)
        return (left * signs.unsqueeze(-2)) @ right

    node = on(
        manifolds.SpecialOrthogonalGroup(3),
        "(n,n)->(n,n)",
        lambda B, R: 0.5 * (R - B).square().sum(),
    )
    generator = torch.Generator().manual_seed(1)
    B = torch.eye(3).double() + 0.5 * torch.randn(2, 3, 3, generator=generator, dtype=torch.float64)
    compare(node, nearest, B, tolerance)


def test_a_product_finds_the_dominant_singular_pair(tolerance):
    node = make_node(
        "(m,n)->(m),(n)",
        lambda A, u, v: -(u @ A @ v),
        solver=Pymanopt(manifold=manifolds.Product([manifolds.Sphere(4), manifolds.Sphere(3)])),
    )

    def product(A):
        u, v = node(A)
        return u.unsqueeze(-1) * v.unsqueeze(-2)

    def reference(A):
        left, _, right = torch.linalg.svd(A, full_matrices=False)
        return left[..., :1] * right[..., :1, :]

    compare(product, reference, torch.randn(2, 4, 3, dtype=torch.float64), tolerance)


def test_both_gradients_agree_where_both_apply(tolerance):
    def normalized(x, y):
        return y.square().sum().unsqueeze(0) - 1

    def tilted(x, y):
        return y @ torch.diag(torch.arange(1.0, 5.0, dtype=y.dtype)) @ y - x @ y

    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    cotangent = torch.randn(3, 4, dtype=torch.float64)
    solver = Pymanopt(manifold=manifolds.Sphere(4))
    found = []
    for gradient in (ddn.ImplicitGradient(), ddn.RiemannianGradient()):
        node = make_node("(n)->(n)", tilted, normalized, solver=solver, gradient=gradient)
        found.append(torch.autograd.grad(node(x), x, cotangent)[0])
    torch.testing.assert_close(*found, rtol=tolerance.solver, atol=tolerance.solver)


def test_failed_elements_are_flagged_and_the_others_right(tolerance):
    node = on(
        manifolds.Sphere(4),
        "(n)->(n)",
        lambda x, y: 0.5 * (y - x).square().sum(),
        on_failure="nan",
    )
    x = torch.randn(3, 4, dtype=torch.float64)
    x[1, 2] = torch.nan
    solution = node.solution(x)
    assert solution.status.tolist() == [0, ddn.Status.NOT_FINITE, 0]
    expected = x / x.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(
        solution.y[[0, 2]], expected[[0, 2]], rtol=tolerance.solver, atol=tolerance.solver
    )


def test_a_limit_is_a_status():
    node = make_node(
        "(n,n)->(n)",
        lambda M, y: y @ M @ y,
        solver=Pymanopt(
            pymanopt.optimizers.SteepestDescent(max_iterations=1, verbosity=0),
            manifolds.Sphere(6),
        ),
    )
    with pytest.raises(SolveError, match="MAX_ITERATIONS"):
        node(symmetric(6, 6))


def test_a_degenerate_minimum_has_no_gradient():
    node = on(manifolds.Sphere(3), "(n)->(n)", lambda x, y: (x @ y) * 0 + y[0].square() * x.sum())
    x = torch.ones(3, dtype=torch.float64, requires_grad=True)
    with pytest.raises(SolveError, match="Riemannian Hessian is singular"):
        node(x).sum().backward()


def test_second_derivatives_and_transforms_are_refused():
    node = on(manifolds.Sphere(3), "(n)->(n)", lambda x, y: 0.5 * (y - x).square().sum())
    x = torch.randn(3, dtype=torch.float64, requires_grad=True)
    with pytest.raises(DerivativeError, match="first derivatives only"):
        torch.autograd.grad(node(x).sum(), x, create_graph=True)
    with pytest.raises(DerivativeError, match=r"not under transforms of torch\.func"):
        torch.func.vmap(node)(x.detach().unsqueeze(0))


def test_a_warm_start_needs_fewer_iterations():
    node = on(manifolds.Sphere(8), "(n,n)->(n)", lambda M, y: y @ M @ y)
    M = symmetric(8, 8, seed=3)
    cold = node.solution(M)
    warm = node.solution(M + 1e-3 * symmetric(8, 8, seed=4), warm_start=cold)
    assert warm.iterations < cold.iterations


def test_units_do_not_matter(tolerance):
    x = torch.randn(3, 4, dtype=torch.float64)
    expected = x / x.norm(dim=-1, keepdim=True)
    for scale in (1e-9, 1e9):
        node = on(
            manifolds.Sphere(4),
            "(n)->(n)",
            lambda x, y, scale=scale: scale * (y - x).square().sum(),
        )
        torch.testing.assert_close(node(x), expected, rtol=tolerance.solver, atol=tolerance.solver)


def test_mistakes_are_named():
    with pytest.raises(TypeError, match="A manifold is passed by name"):
        Pymanopt(manifolds.Sphere(3))
    node = on(manifolds.Sphere(3), "(n)->(n)", lambda x, y: 0.5 * (y - x).square().sum())
    with pytest.raises(ShapeError, match=r"shape \[\(4,\)\], but points of"):
        node(torch.randn(4, dtype=torch.float64))

    class Bounded(ddn.DeclarativeNode):
        signature = "(n)->(n)"

        def objective(self, x, y):
            return (y - x).square().sum()

        def bounds(self, x):
            return 0, None

    bounded = Bounded(solver=Pymanopt(manifold=manifolds.Sphere(3)))
    with pytest.raises(SignatureError, match="states inequalities or bounds"):
        bounded(torch.randn(3, dtype=torch.float64))


def nearest(x, y):
    return 0.5 * (y - x).square().sum()


def covariance(S, X):
    """argmin tr(S X⁻¹) + log det X = S."""
    return torch.linalg.solve(X, S).diagonal().sum() + torch.linalg.slogdet(X).logabsdet


def test_a_point_off_the_manifold_is_no_solution():
    """Newton knows of no sphere: its point is stationary in space, not on the manifold."""
    gradient = ddn.RiemannianGradient(manifolds.Sphere(4))
    node = make_node("(n)->(n)", nearest, solver=ddn.solvers.Newton(), gradient=gradient)
    with pytest.raises(SolveError, match=r"INFEASIBLE[^@]*not on the manifold \(Sphere"):
        node(torch.tensor([1.0, 2, 3, 4], dtype=torch.float64))


def test_constraints_besides_the_manifold_are_refused():
    node = on(
        manifolds.Sphere(4),
        "(n)->(n)",
        nearest,
        equality=lambda x, y: torch.stack([y.square().sum() - 1, y.sum()]),
        gradient=ddn.RiemannianGradient(),
    )
    with pytest.raises(SignatureError, match="states more than the manifold"):
        node(torch.tensor([1.0, 2, 3, 4], dtype=torch.float64))


def test_multipliers_of_constraints_that_state_the_manifold(tolerance):
    """∇f + λ ∇h = (y − x) + 2 λ y = 0 at y = x/‖x‖, so λ = (‖x‖ − 1)/2."""
    node = on(
        manifolds.Sphere(4),
        "(n)->(n)",
        nearest,
        equality=lambda x, y: y.square().sum().unsqueeze(0) - 1,
        gradient=ddn.RiemannianGradient(),
    )
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    multipliers = node.solution(x).equality_multipliers
    expected = (x.norm(dim=-1, keepdim=True) - 1) / 2
    torch.testing.assert_close(
        multipliers.detach(), expected.detach(), rtol=tolerance.solver, atol=tolerance.solver
    )
    with pytest.raises(DerivativeError, match="no derivatives of multipliers"):
        multipliers.sum().backward()


def test_an_objective_that_tells_representatives_apart_is_refused():
    node = on(manifolds.Grassmann(5, 2), "(n,k)->(n,k)", nearest)
    with pytest.raises(SignatureError, match="no function on that manifold"):
        node(torch.randn(5, 2, dtype=torch.float64))


def test_a_projection_that_is_not_orthogonal_is_refused():
    """That of Pymanopt's Elliptope leaves vertical directions: the derivative would be wrong."""
    node = on(manifolds.Elliptope(5, 2), "(n,n)->(n,2)", lambda A, Y: (Y @ Y.mT - A).square().sum())
    A = positive(5, 5).requires_grad_()
    Y = node(A)
    with pytest.raises(DerivativeError, match=r"has rank 5, and the manifold .* dimension 4"):
        (Y @ Y.mT).square().sum().backward()


def test_fixed_rank_matrices(tolerance):
    """The nearest positive semidefinite matrix of rank two, by its eigenvectors."""
    node = on(
        manifolds.PSDFixedRank(5, 2), "(n,n)->(n,2)", lambda A, Y: (Y @ Y.mT - A).square().sum()
    )

    def product(A):
        Y = node((A + A.mT) / 2)
        return Y @ Y.mT

    def reference(A):
        values, vectors = torch.linalg.eigh((A + A.mT) / 2)
        return (vectors[..., -2:] * values[..., None, -2:]) @ vectors[..., -2:].mT

    compare(product, reference, positive(2, 5, 5, seed=2), tolerance)


def test_elements_without_a_part_in_the_loss_do_not_spoil_shared_gradients(tolerance):
    def scaled(x, s, y):
        return nearest(s * x, y) + 0.1 * (s * y[0]).square()

    x = torch.randn(3, 4, dtype=torch.float64)
    x[1, 2] = torch.nan
    gradients = []
    for rows in ([0, 1, 2], [0, 2]):
        node = on(manifolds.Sphere(4), "(n),()->(n)", scaled, on_failure="nan")
        s = torch.tensor(1.2, dtype=torch.float64, requires_grad=True)
        solution = node.solution(x[rows], s)
        (gradient,) = torch.autograd.grad(solution.y[solution.converged].pow(3).sum(), s)
        gradients.append(gradient)
    assert gradients[0].isfinite()
    torch.testing.assert_close(*gradients, rtol=tolerance.value, atol=tolerance.value)


def test_a_failed_element_has_no_gradient_and_the_others_theirs(tolerance):
    node = on(manifolds.Sphere(4), "(n)->(n)", nearest, on_failure="warn")
    x = torch.randn(3, 4, dtype=torch.float64)
    good = x[[0, 2]].clone().requires_grad_()
    x[1, 2] = torch.nan
    x.requires_grad_()
    with pytest.warns(ddn.errors.SolveWarning, match="NOT_FINITE"):
        y = node(x)
    (found,) = torch.autograd.grad(y.pow(3).sum(), x)
    (expected,) = torch.autograd.grad(node(good).pow(3).sum(), good)
    torch.testing.assert_close(found[[0, 2]], expected, rtol=tolerance.value, atol=tolerance.value)
    assert found[1].isnan().all()


def test_an_objective_that_raises_for_one_element():
    """Eigenvectors of a matrix with a NaN are an error in torch."""

    def objective(A, y):
        return y @ torch.linalg.eigh(A + A.mT).eigenvectors @ y

    node = on(manifolds.Sphere(3), "(n,n)->(n)", objective, on_failure="nan")
    A = torch.randn(3, 3, 3, dtype=torch.float64)
    A[1, 0, 0] = torch.nan
    assert node.solution(A).status.tolist() == [0, ddn.Status.NOT_FINITE, 0]


def test_a_solution_is_a_warm_start(tolerance):
    """The gradient vanishes there, and with it what it might be measured by."""
    node = on(manifolds.SymmetricPositiveDefinite(3), "(n,n)->(n,n)", covariance)
    S = positive(2, 3, 3)
    cold = node.solution(S)
    warm = node.solution(S, warm_start=cold)
    assert bool((warm.iterations < cold.iterations).all())
    torch.testing.assert_close(warm.y, S, rtol=tolerance.solver, atol=tolerance.solver)


def test_units_of_the_solution_do_not_matter(tolerance):
    node = on(manifolds.SymmetricPositiveDefinite(3), "(n,n)->(n,n)", covariance)
    S = positive(3, 3)
    for scale in (1e-6, 1e6):
        torch.testing.assert_close(
            node(scale * S) / scale, S, rtol=tolerance.solver, atol=tolerance.solver
        )


def test_a_small_input_beside_a_constant_of_the_manifold():
    """½‖y − x‖² is ½ − xᵀy there: what matters is 10⁻⁸ of it, and so are the digits that can be had."""
    node = on(manifolds.Sphere(4), "(n)->(n)", nearest)
    x = torch.cat([torch.eye(4), -torch.eye(4)]).double()
    torch.testing.assert_close(node(1e-8 * x), x, rtol=1e-5, atol=1e-5)


def test_what_a_problem_starts_from_does_not_depend_on_its_batch():
    """The sign of an eigenvector is that of the start."""
    node = on(manifolds.Sphere(4), "(n,n)->(n)", lambda M, y: y @ M @ y)
    M = symmetric(8, 4, 4)
    alone = torch.cat([node(M[i : i + 1]) for i in range(8)])
    assert torch.equal(node(M), alone)


def test_a_manifold_of_dimension_zero():
    node = on(manifolds.SpecialOrthogonalGroup(1), "(n,n)->(n,n)", nearest)
    y = node(torch.full((1, 1), 3.0, dtype=torch.float64))
    assert y.tolist() == [[1.0]]


def test_a_product_of_one(tolerance):
    node = on(manifolds.Product([manifolds.Sphere(4)]), "(n)->(n)", nearest)
    x = torch.randn(3, 4, dtype=torch.float64)
    compare(node, lambda x: x / x.norm(dim=-1, keepdim=True), x, tolerance)


@pytest.mark.parametrize(
    "manifold", [manifolds.UnitaryGroup(3), manifolds.FixedRankEmbedded(3, 3, 2)]
)
def test_points_that_are_no_real_array(manifold):
    node = on(manifold, "(n,n)->(n,n)", nearest)
    with pytest.raises(ShapeError, match="complex, or several arrays"):
        node(torch.randn(3, 3, dtype=torch.float64))


def test_a_class_is_no_manifold():
    node = on(manifolds.Sphere, "(n)->(n)", nearest)
    with pytest.raises(TypeError, match="an instance, not a class"):
        node(torch.randn(3, dtype=torch.float64))


def test_float32(tolerance):
    node = on(manifolds.Sphere(4), "(n)->(n)", nearest)
    x = torch.tensor([1.0, 2, 3, 4], requires_grad=True)
    y = node(x)
    assert y.dtype == torch.float32
    weight = torch.tensor([1.0, 0, 0, 0])
    (found,) = torch.autograd.grad(y, x, weight)
    (expected,) = torch.autograd.grad(x / x.norm(), x, weight)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings(
    "ignore:.torch.jit.script:DeprecationWarning"
)  # of torch's own forward mode
def test_forward_mode_is_refused():
    node = on(manifolds.Sphere(4), "(n)->(n)", nearest)
    x = torch.randn(4, dtype=torch.float64)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        with pytest.raises(DerivativeError, match="reverse mode only"):
            node(dual)


def test_conditions_of_constraints_that_are_not_stated():
    M = symmetric(5, 5)
    node = on(manifolds.Grassmann(5, 2), "(n,n)->(n,2)", subspace, gradient=ddn.ImplicitGradient())
    with pytest.raises(SolveError, match=r"NOT_STATIONARY[^@]*ddn\.RiemannianGradient\(\)"):
        node(M)
    with pytest.raises(SignatureError, match="differentiated on a manifold"):
        on(manifolds.Grassmann(5, 2), "(n,n)->(n,2)", subspace).certificate(M)
