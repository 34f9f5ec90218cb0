"""What a node made of a CVXPY problem promises: values, duals, batches, failures, and words."""

from __future__ import annotations

import copy
import warnings

import cvxpy as cp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddn import Status
from ddn.conic import AnySolver, Clarabel, CvxpyNode
from ddn.errors import (
    DeclarativeNodeError,
    DtypeError,
    ShapeError,
    SingularSystemError,
    SolveError,
    SolveWarning,
)
from tests.ddn.conic.families import FAMILIES


def normal(*shape):
    return torch.randn(shape, dtype=torch.float64)


def simplex_node(n, **options):
    x, y = cp.Parameter(n), cp.Variable(n)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(y - x)), [cp.sum(y) == 1, y >= 0])
    return CvxpyNode(problem, [x], [y], **options)


def interval_node(**options):
    """argmin (y − x)² s.t. low ≤ y ≤ 1: infeasible for low > 1."""
    x, low, y = cp.Parameter(), cp.Parameter(), cp.Variable()
    problem = cp.Problem(cp.Minimize(cp.square(y - x)), [y >= low, y <= 1])
    return CvxpyNode(problem, [x, low], [y], **options)


def project_simplex(x):
    """By sorting (Held, Wolfe, Crowder 1974)."""
    ordered = x.sort(-1, descending=True).values
    number = torch.arange(1, x.shape[-1] + 1, dtype=x.dtype)
    excess = (ordered.cumsum(-1) - 1) / number
    threshold = excess.gather(-1, (ordered > excess).sum(-1, keepdim=True) - 1)
    return (x - threshold).clamp(min=0)


# -- values ---------------------------------------------------------------------------------------


def test_simplex_projection():
    x = normal(5, 7).requires_grad_()
    y = simplex_node(7)(x)
    expected = project_simplex(x)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    weight = normal(5, 7)
    (found,) = torch.autograd.grad((weight * y).sum(), x)
    (exact,) = torch.autograd.grad((weight * expected).sum(), x)
    torch.testing.assert_close(found, exact, rtol=1e-10, atol=1e-10)


def test_softmax():
    c, x = cp.Parameter(5), cp.Variable(5)
    problem = cp.Problem(cp.Maximize(cp.sum(cp.entr(x)) + c @ x), [cp.sum(x) == 1])
    node = CvxpyNode(problem, [c], [x])
    scores = 3 * normal(4, 5)
    scores.requires_grad_()
    solution = node.solution(scores)
    torch.testing.assert_close(solution.values[0], scores.softmax(-1), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(solution.optimal_value, scores.logsumexp(-1), rtol=1e-10, atol=1e-10)
    (slope,) = torch.autograd.grad(solution.optimal_value.sum(), scores)
    torch.testing.assert_close(slope, scores.softmax(-1), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", FAMILIES)
def test_values_duals_and_optimum_are_those_of_cvxpy(name):
    family = FAMILIES[name]()
    node = CvxpyNode(family.problem, family.parameters, family.variables)
    values = family.values()
    solution = node.solution(*values)
    for parameter, value in zip(family.parameters, values, strict=True):
        parameter.value = value.numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        family.problem.solve(solver=cp.CLARABEL)
    assert solution.converged.all()
    np.testing.assert_allclose(solution.optimal_value, family.problem.value, rtol=1e-6, atol=1e-6)
    for variable, value in zip(family.variables, solution.values, strict=True):
        np.testing.assert_allclose(value, variable.value, atol=2e-3)
    for constraint, dual in zip(family.problem.constraints, solution.dual_values, strict=True):
        duals = dual if isinstance(dual, tuple) else (dual,)
        for variable, value in zip(constraint.dual_variables, duals, strict=True):
            assert value.shape == variable.shape
            np.testing.assert_allclose(value, variable.value, atol=2e-3)


def test_variables_and_parameters_of_all_shapes():
    scale, C = cp.Parameter(nonneg=True), cp.Parameter((3, 3), symmetric=True)
    L = cp.Parameter((2, 2), diag=True)
    a, M = cp.Variable(), cp.Variable((2, 3), nonneg=True)
    S, D = cp.Variable((3, 3), PSD=True), cp.Variable((2, 2), diag=True)
    B = cp.Variable(2, bounds=[-1, 1])
    objective = cp.square(a - scale) + cp.sum_squares(M - scale) + cp.sum_squares(S - C)
    objective += cp.sum_squares(D - L) + cp.sum_squares(B + 3 * scale)
    node = CvxpyNode(cp.Problem(cp.Minimize(objective)), [C, scale, L], [S, a, D, M, B])
    root = normal(2, 3, 3)
    matrix, number = root @ root.mT + torch.eye(3, dtype=torch.float64), normal(2).abs()
    diagonal = torch.diag_embed(normal(2, 2))
    S, a, D, M, B = node(matrix, number, diagonal)
    torch.testing.assert_close(S, matrix, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(a, number, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(D, diagonal, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(M, number[:, None, None].expand(2, 2, 3), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(B, (-3 * number).clamp(min=-1)[:, None].expand(2, 2))


def test_gradient_of_a_symmetric_parameter_is_symmetric():
    family = FAMILIES["semidefinite"]()
    node = CvxpyNode(family.problem, family.parameters, family.variables)
    (C,) = (value.requires_grad_() for value in family.values())
    (gradient,) = torch.autograd.grad((node(C) * normal(4, 4)).sum(), C)
    torch.testing.assert_close(gradient, gradient.mT)
    assert gradient.abs().max() > 1e-3


def test_a_matrix_that_is_not_symmetric_acts_by_its_symmetric_part():
    Q, x = cp.Parameter((3, 3)), cp.Variable(3)
    problem = cp.Problem(cp.Minimize(cp.quad_form(x, Q, assume_PSD=True) - cp.sum(x)))
    node = CvxpyNode(problem, [Q], [x])
    root, skew = normal(3, 3), normal(3, 3)
    matrix = (root @ root.mT + torch.eye(3, dtype=root.dtype) + skew - skew.mT).requires_grad_()
    ones = torch.ones(3, 1, dtype=root.dtype)
    expected = torch.cholesky_solve(ones, torch.linalg.cholesky(matrix + matrix.mT))[:, 0]
    found, weight = node(matrix), normal(3)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    (slope,) = torch.autograd.grad((weight * found).sum(), matrix)
    (exact,) = torch.autograd.grad((weight * expected).sum(), matrix)
    torch.testing.assert_close(slope, exact, rtol=1e-9, atol=1e-9)


def test_unconstrained_problem():
    c, x = cp.Parameter(3), cp.Variable(3)
    node = CvxpyNode(cp.Problem(cp.Minimize(cp.sum_squares(x) - c @ x)), [c], [x])
    value = normal(2, 3)
    torch.testing.assert_close(node(value), value / 2, rtol=1e-12, atol=1e-12)


@given(objective=st.integers(-6, 6), variable=st.integers(-6, 6), constraint=st.integers(-6, 6))
def test_units_do_not_matter(objective, variable, constraint):
    """Rescaled objective, variables and constraints: the same solution and gradient, rescaled."""
    f, u, c = (10.0**exponent for exponent in (objective, variable, constraint))
    A, b, x = cp.Parameter((6, 3)), cp.Parameter(6), cp.Variable(3)
    problem = cp.Problem(
        cp.Minimize(f * cp.norm(A @ x - b) / u),
        [c * cp.sum(x) / u == 0.1 * c, c * x >= -0.3 * c * u],
    )
    node = CvxpyNode(problem, [A, b], [x])
    plain = cp.Problem(cp.Minimize(cp.norm(A @ x - b)), [cp.sum(x) == 0.1, x >= -0.3])
    reference = CvxpyNode(plain, [A, b], [x])
    A_value, b_value = normal(6, 3), normal(6).requires_grad_()
    y, expected = node(A_value, u * b_value) / u, reference(A_value, b_value)
    torch.testing.assert_close(y, expected, rtol=1e-7, atol=1e-7)
    weight = normal(3)
    (found,) = torch.autograd.grad((weight * y).sum(), b_value)
    (exact,) = torch.autograd.grad((weight * expected).sum(), b_value)
    torch.testing.assert_close(found, exact, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["SCS", "CLARABEL"])
@pytest.mark.parametrize("family", ["second_order", "log_determinant", "general_power"])
def test_any_solver_of_cvxpy(family, name):
    family = FAMILIES[family]()
    parts = (family.problem, family.parameters, family.variables)
    values = family.values(2)
    found = CvxpyNode(*parts, solver=AnySolver(name))(*values)
    torch.testing.assert_close(found, CvxpyNode(*parts)(*values), rtol=1e-9, atol=1e-9)


# -- batches --------------------------------------------------------------------------------------


def test_batches_broadcast_and_shared_gradients_add_up():
    family = FAMILIES["second_order"]()
    node = CvxpyNode(family.problem, family.parameters, family.variables)
    A, b = normal(3, 1, 8, 5).requires_grad_(), normal(2, 8).requires_grad_()
    y = node(A, b)
    assert y.shape == (3, 2, 5)
    weight = normal(3, 2, 5)
    grad_A, grad_b = torch.autograd.grad((weight * y).sum(), (A, b))
    sum_A, sum_b = torch.zeros_like(grad_A), torch.zeros_like(grad_b)
    for i in range(3):
        for j in range(2):
            one = A[i, 0].detach().requires_grad_(), b[j].detach().requires_grad_()
            single = node(*one)
            torch.testing.assert_close(y[i, j], single, rtol=1e-10, atol=1e-10)
            first, second = torch.autograd.grad((weight[i, j] * single).sum(), one)
            sum_A[i, 0] += first
            sum_b[j] += second
    torch.testing.assert_close(grad_A, sum_A, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(grad_b, sum_b, rtol=1e-9, atol=1e-9)


def test_empty_batch():
    node = simplex_node(4)
    x = torch.zeros(0, 4, dtype=torch.float64, requires_grad=True)
    y = node(x)
    assert y.shape == (0, 4)
    y.sum().backward()
    assert x.grad.shape == (0, 4)
    _, tangent = torch.func.jvp(node, (x.detach(),), (x.detach(),))
    assert tangent.shape == (0, 4)


def test_float32():
    x = torch.randn(3, 6, requires_grad=True)
    y = simplex_node(6)(x)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, project_simplex(x), rtol=1e-6, atol=1e-6)
    y.square().sum().backward()
    assert x.grad.dtype == torch.float32


def test_workers_do_not_change_the_result():
    x = normal(6, 5)
    one, three = (simplex_node(5, solver=Clarabel(workers=k))(x) for k in (1, 3))
    assert torch.equal(one, three)


def test_the_problem_is_left_as_it_was():
    x, y = cp.Parameter(3), cp.Variable(3)
    known = cp.Parameter(value=2.0)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(y - x) + known * cp.sum(y)), [y >= 0])
    node = CvxpyNode(problem, [x, known], [y])
    node(normal(3), normal())
    assert x.value is None
    assert known.value == 2
    assert y.value is None
    assert problem.constraints[0].dual_value is None


def test_copies_are_nodes_of_their_own():
    node = interval_node()
    x = torch.tensor([0.3, 2.0], dtype=torch.float64)
    assert torch.equal(copy.deepcopy(node)(x, 0 * x), node(x, 0 * x))


# -- failures -------------------------------------------------------------------------------------


def troubled():
    """Solved, infeasible, solved, NaN."""
    x = torch.tensor([0.5, 0.5, 3.0, torch.nan], dtype=torch.float64, requires_grad=True)
    low = torch.tensor([0.0, 2.0, 0.0, 0.0], dtype=torch.float64, requires_grad=True)
    return x, low


def test_failed_elements_raise_and_are_listed():
    with pytest.raises(SolveError, match=r"element\(s\) 1: INFEASIBLE") as caught:
        interval_node()(*troubled())
    assert caught.value.indices == [(1,), (3,)]
    assert "3: NOT_FINITE" in str(caught.value)


def test_failed_elements_become_nan_and_the_others_are_right():
    node = interval_node(on_failure="nan")
    x, low = troubled()
    solution = node.solution(x, low)
    y = solution.values[0]
    assert solution.status.tolist() == [
        Status.CONVERGED,
        Status.INFEASIBLE,
        Status.CONVERGED,
        Status.NOT_FINITE,
    ]
    expected = torch.tensor([0.5, torch.nan, 1.0, torch.nan], dtype=torch.float64)
    torch.testing.assert_close(y, expected, equal_nan=True)
    grad_x, grad_low = torch.autograd.grad(y[[0, 2]].sum(), (x, low), retain_graph=True)
    torch.testing.assert_close(grad_x, torch.tensor([1.0, 0, 0, 0], dtype=torch.float64))
    torch.testing.assert_close(grad_low, torch.zeros(4, dtype=torch.float64))
    (grad_x,) = torch.autograd.grad(y.sum(), x)
    expected = torch.tensor([1.0, torch.nan, 0, torch.nan], dtype=torch.float64)
    torch.testing.assert_close(grad_x, expected, equal_nan=True)


def test_a_failed_element_that_the_loss_leaves_out_is_out_of_shared_gradients():
    node = interval_node(on_failure="nan")
    x = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    y = node(x, torch.tensor([0.0, 2.0], dtype=torch.float64))
    (gradient,) = torch.autograd.grad(y[0], x)
    assert gradient == 1


def test_a_loss_that_is_nan_is_no_matter_of_the_node():
    x = normal(2, 4).requires_grad_()
    y = simplex_node(4)(x)
    weight = torch.tensor([[torch.nan], [1.0]], dtype=torch.float64)
    (gradient,) = torch.autograd.grad((weight * y).square().sum(), x)
    assert gradient[0].isnan().all()
    assert gradient[1].isfinite().all()


def test_failed_elements_warn():
    node = interval_node(on_failure="warn")
    with pytest.warns(SolveWarning, match="INFEASIBLE"):
        y = node(*troubled())
    torch.testing.assert_close(y[[0, 2]], torch.tensor([0.5, 1.0], dtype=torch.float64))
    assert y[[1, 3]].isnan().all()


def test_unbounded_elements():
    c, x = cp.Parameter(2), cp.Variable(2)
    node = CvxpyNode(cp.Problem(cp.Minimize(c @ x), [x >= 0]), [c], [x], on_failure="nan")
    costs = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    solution = node.solution(costs)
    assert solution.status.tolist() == [Status.CONVERGED, Status.UNBOUNDED]
    torch.testing.assert_close(solution.values[0][0], torch.zeros(2, dtype=torch.float64))


def test_iteration_limit():
    node = simplex_node(4, solver=Clarabel(max_iterations=1))
    with pytest.raises(SolveError, match=r"MAX_ITERATIONS.*max_iterations"):
        node(10 * normal(4))


def tie_node(**options):
    """argmin c (x₁ + x₂) s.t. x₁ + x₂ = 1, x ≥ 0: every point of the segment."""
    c, x = cp.Parameter(2), cp.Variable(2)
    problem = cp.Problem(cp.Minimize(c @ x), [cp.sum(x) == 1, x >= 0])
    return CvxpyNode(problem, [c], [x], **options)


def test_a_solution_that_is_not_unique_has_no_derivative():
    c = torch.tensor([[1.0, 2.0], [1.0, 1.0]], dtype=torch.float64, requires_grad=True)
    y = tie_node()(c)
    with pytest.raises(SingularSystemError, match=r"element\(s\) 1.*not unique") as caught:
        y[:, 0].sum().backward()
    assert caught.value.indices == [(1,)]
    # What is unique has one: the sum of the two.
    (gradient,) = torch.autograd.grad(tie_node()(c).sum(), c)
    torch.testing.assert_close(gradient, torch.zeros_like(c))
    (gradient,) = torch.autograd.grad(tie_node(on_failure="nan")(c)[:, 0].sum(), c)
    assert gradient[0].isfinite().all()
    assert gradient[1].isnan().all()


def test_redundant_constraints_do_no_harm():
    x, y = cp.Parameter(4), cp.Variable(4)
    constraints = [cp.sum(y) == 1, 2 * cp.sum(y) == 2, y >= 0, 3 * y >= 0]
    problem = cp.Problem(cp.Minimize(cp.sum_squares(y - x)), constraints)
    value = normal(3, 4).requires_grad_()
    found, expected = CvxpyNode(problem, [x], [y])(value), project_simplex(value)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    weight = normal(3, 4)
    (slope,) = torch.autograd.grad((weight * found).sum(), value)
    (exact,) = torch.autograd.grad((weight * expected).sum(), value)
    torch.testing.assert_close(slope, exact, rtol=1e-8, atol=1e-8)


def test_at_a_kink_the_gradient_is_one_sided():
    """argmin (y − x)² s.t. y ≥ 0 at x = 0."""
    x, y = cp.Parameter(), cp.Variable()
    node = CvxpyNode(cp.Problem(cp.Minimize(cp.square(y - x)), [y >= 0]), [x], [y])
    value = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(node(value), value)
    assert min(abs(slope), abs(slope - 1)) < 1e-6


# -- words ----------------------------------------------------------------------------------------

X, Y, Z = cp.Parameter(2, name="x"), cp.Variable(2, name="y"), cp.Parameter(2, name="z")
NEAREST = cp.Minimize(cp.sum_squares(Y - X))


@pytest.mark.parametrize(
    ("problem", "parameters", "variables", "words"),
    [
        (cp.Problem(NEAREST), [], [Y], "`parameters` is empty"),
        (cp.Problem(NEAREST), [X], [], "`variables` is empty"),
        (cp.Problem(NEAREST), [X, Z], [Y], "entry 1 of `parameters`.*not a parameter"),
        (cp.Problem(NEAREST), [X], [X], "entry 0 of `variables`.*not a variable"),
        (cp.Problem(NEAREST), [X, X], [Y], "listed twice"),
        (cp.Problem(NEAREST, [Y >= Z]), [X], [Y], "depends on z.*missing in `parameters`"),
        (cp.Problem(cp.Minimize(cp.sum_squares(Y - cp.square(X)))), [X], [Y], "DPP"),
        (cp.Problem(cp.Maximize(cp.sum_squares(Y - X))), [X], [Y], "not convex by CVXPY's rules"),
    ],
)
def test_problems_that_cannot_be_nodes(problem, parameters, variables, words):
    with pytest.raises(DeclarativeNodeError, match=words):
        CvxpyNode(problem, parameters, variables)


def test_integer_variables_are_refused():
    n = cp.Variable(2, integer=True)
    with pytest.raises(DeclarativeNodeError, match="integer"):
        CvxpyNode(cp.Problem(cp.Minimize(cp.sum_squares(n - X))), [X], [n])


def test_complex_variables_are_refused():
    w = cp.Variable(2, complex=True)
    with pytest.raises(DeclarativeNodeError, match="real and imaginary"):
        CvxpyNode(cp.Problem(cp.Minimize(cp.norm(w - X))), [X], [w])


def test_what_is_no_problem_is_refused():
    with pytest.raises(TypeError, match=r"cvxpy\.Problem"):
        CvxpyNode(NEAREST, [X], [Y])
    for solver in ("SCS", Clarabel):
        with pytest.raises(TypeError, match=r'AnySolver\("SCS"\)'):
            CvxpyNode(cp.Problem(NEAREST), [X], [Y], solver=solver)
    with pytest.raises(ValueError, match="on_failure"):
        CvxpyNode(cp.Problem(NEAREST), [X], [Y], on_failure="ignore")


def test_inputs_that_do_not_fit():
    node = CvxpyNode(cp.Problem(NEAREST, [Y >= Z]), [X, Z], [Y])
    x = normal(2)
    with pytest.raises(ShapeError, match="takes 2 input"):
        node(x)
    with pytest.raises(ShapeError, match=r"input 1, parameter z, must have shape \(\*batch, 2\)"):
        node(x, normal(3))
    with pytest.raises(ShapeError, match="do not broadcast"):
        node(normal(3, 2), normal(4, 2))
    with pytest.raises(DtypeError, match="must be a tensor"):
        node(x, [1.0, 2.0])
    with pytest.raises(DtypeError, match="real numbers"):
        node(x, torch.zeros(2, dtype=torch.int64))
    with pytest.raises(DtypeError, match="one dtype and device"):
        node(x, x.float())


@pytest.mark.parametrize(
    ("attribute", "value", "words"),
    [
        ({"nonneg": True}, [[1.0, -1.0], [1.0, 1.0]], "not nonnegative"),
        ({"nonpos": True}, [[-1.0, 1.0], [-1.0, -1.0]], "not nonpositive"),
        ({"symmetric": True}, [[1.0, 2.0], [0.0, 1.0]], "not symmetric"),
        ({"PSD": True}, [[1.0, 2.0], [2.0, 1.0]], "not positive semidefinite"),
        ({"NSD": True}, [[1.0, 0.0], [0.0, -1.0]], "not negative semidefinite"),
        ({"diag": True}, [[1.0, 1.0], [0.0, 1.0]], "not diagonal"),
        ({"sparsity": ((0, 1), (0, 1))}, [[1.0, 1.0], [0.0, 1.0]], "not zero outside"),
    ],
)
def test_values_that_contradict_their_attributes(attribute, value, words):
    P, M = cp.Parameter((2, 2), **attribute), cp.Variable((2, 2))
    node = CvxpyNode(cp.Problem(cp.Minimize(cp.sum_squares(M - P))), [P], [M])
    right = torch.zeros(2, 2, dtype=torch.float64)
    torch.testing.assert_close(node(right), right)
    wrong = torch.stack([right, torch.tensor(value, dtype=torch.float64)])
    with pytest.raises(DeclarativeNodeError, match=rf"{words}.*for batch element\(s\) 1"):
        node(wrong)


def test_representation_names_parameters_and_variables():
    assert "parameters=[x (2,)], variables=[y (2,)]" in repr(
        CvxpyNode(cp.Problem(NEAREST), [X], [Y])
    )
