"""Every ready node: the shared contract, a property test, a known answer, and bad input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import ddn
from ddn.errors import ShapeError, SolveError


@dataclass(frozen=True)
class Case:
    """A ready node, the sizes it accepts, and an independent implementation of one problem."""

    node: type[ddn.DeclarativeNode]
    function: Callable[..., Tensor]
    known: Callable[..., np.ndarray]
    sizes: Mapping[str, Any] = field(default_factory=dict)
    where: Callable[[Mapping[str, int]], bool] | None = None

    def inputs(self, **options: Any) -> Any:
        return ddn.testing.inputs(self.node(), sizes=self.sizes, where=self.where, **options)

    def __repr__(self) -> str:
        return self.node.__name__


def softmax(x: np.ndarray) -> np.ndarray:
    weights = np.exp(x - x.max())
    return weights / weights.sum()


CASES = [
    Case(ddn.nodes.EntropicSimplexProjection, ddn.nodes.project_simplex_entropic, softmax),
    Case(
        ddn.nodes.SphereProjection,
        ddn.nodes.project_sphere,
        lambda x: x / np.linalg.norm(x),
        sizes={"n": (2, 4)},
    ),
    Case(
        ddn.nodes.LeastSquares,
        ddn.nodes.solve_least_squares,
        lambda A, b: np.linalg.lstsq(A, b)[0],
        where=lambda sizes: sizes["m"] >= sizes["n"],
    ),
    Case(
        ddn.nodes.LinearSystem,
        ddn.nodes.solve_linear_system,
        lambda A, b: np.linalg.pinv(A) @ b,
        where=lambda sizes: sizes["m"] <= sizes["n"],
    ),
    Case(
        ddn.nodes.OrthogonalProcrustes,
        ddn.nodes.orthogonal_procrustes,
        lambda C: scipy.linalg.polar(C)[0],
        where=lambda sizes: sizes["d"] >= sizes["r"],
    ),
]

cases = pytest.mark.parametrize("case", CASES, ids=repr)


def example(case: Case, seed: int, **sizes: int) -> tuple[Tensor, ...]:
    """Well-conditioned inputs with a batch of two, float64."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "EntropicSimplexProjection": [(4,)],
        "SphereProjection": [(3,)],
        "LeastSquares": [(5, 3), (5,)],
        "LinearSystem": [(2, 4), (2,)],
        "OrthogonalProcrustes": [(4, 3)],
    }[case.node.__name__]
    return tuple(
        torch.randn(2, *shape, generator=generator, dtype=torch.float64) for shape in shapes
    )


@cases
def test_contract(case: Case) -> None:
    report = ddn.testing.check_node(case.node(), *example(case, 0))
    assert report.passed


@cases
@given(data=st.data())
def test_known_answer(case: Case, data: st.DataObject) -> None:
    inputs = data.draw(case.inputs())
    value = case.node()(*inputs)
    ranks = [len(term) for term in ddn.signature.Signature.parse(case.node.signature).inputs]
    batch = value.shape[: value.ndim - (2 if case.node is ddn.nodes.OrthogonalProcrustes else 1)]
    for index in np.ndindex(*batch):
        single = [
            x.expand(*batch, *x.shape[x.ndim - rank :])[index].numpy()
            for x, rank in zip(inputs, ranks, strict=True)
        ]
        size = max(float(np.abs(case.known(*single)).max()), 1e-3)
        condition = np.linalg.cond(single[0]) if single[0].ndim == 2 else 1.0
        error = np.abs(value[index].numpy() - case.known(*single)).max()
        assert error <= 1e-12 * max(condition, 1.0) * size


@cases
@given(data=st.data())
def test_gradient_agrees_with_engine(case: Case, data: st.DataObject) -> None:
    inputs = data.draw(case.inputs())
    if any(x.ndim >= 2 and x.shape[-1] > 1 and x.shape[-2] > 1 for x in inputs[:1]):
        matrix = inputs[0] if case.node.signature.startswith(("(m,n)", "(d,r)")) else None
        if matrix is not None and float(torch.linalg.cond(matrix).max()) > 1e3:
            return  # the two routes agree to the condition number times the rounding error
    gradients = []
    for gradient in (None, ddn.ImplicitGradient()):
        variables = [x.clone().requires_grad_() for x in inputs]
        value = case.node(gradient=gradient)(*variables)
        gradients.append(torch.autograd.grad((value**3).sum(), variables))
    for closed, engine in zip(*gradients, strict=True):
        # Relative to the gradient, or to its inputs where the gradient vanishes (one class, say).
        size = max(float(engine.abs().max()), 1e-3)
        assert float((closed - engine).abs().max()) <= 1e-8 * size


@cases
def test_function_and_class_agree(case: Case) -> None:
    inputs = example(case, 1)
    torch.testing.assert_close(case.function(*inputs), case.node()(*inputs))


@cases
def test_dtype_and_device(case: Case, device: torch.device, dtype: torch.dtype, tolerance) -> None:
    exact = example(case, 2)
    inputs = [x.to(device, dtype).requires_grad_() for x in exact]
    value = case.node()(*inputs)
    assert value.dtype == dtype
    assert value.device == inputs[0].device
    expected = case.node()(*exact)
    torch.testing.assert_close(
        value.cpu().double(), expected, rtol=tolerance.gradient, atol=tolerance.gradient
    )
    value.square().sum().backward()
    assert all(x.grad is not None and bool(x.grad.isfinite().all()) for x in inputs)


@cases
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_solved_in_float32(case: Case, half: torch.dtype) -> None:
    inputs = [x.to(half) for x in example(case, 3)]
    value = case.node()(*inputs)
    assert value.dtype == half
    expected = case.node()(*(x.float() for x in inputs))
    torch.testing.assert_close(value, expected.to(half))


@cases
def test_other_solvers_find_the_same(case: Case) -> None:
    inputs = example(case, 4)
    value = case.node(solver=ddn.solvers.Newton())(*inputs)
    torch.testing.assert_close(value, case.node()(*inputs), rtol=1e-9, atol=1e-9)


@cases
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_failures_stay_in_their_problem(case: Case, bad: float) -> None:
    inputs = [x.clone() for x in example(case, 5)]
    inputs[0][1].view(-1)[0] = bad
    with pytest.raises(SolveError, match=r"batch element\(s\) 1") as caught:
        case.node()(*inputs)
    assert caught.value.indices == [(1,)]
    variables = [x.requires_grad_() for x in inputs]
    value = case.node(on_failure="nan")(*variables)
    assert value[1].isnan().all()
    good = [x.detach()[0].requires_grad_() for x in inputs]
    expected = case.node()(*good)
    torch.testing.assert_close(value[0], expected)
    value[0].square().sum().backward()
    expected.square().sum().backward()
    for batched, single in zip(variables, good, strict=True):
        torch.testing.assert_close(batched.grad[0], single.grad)


@pytest.mark.parametrize(
    ("node", "inputs"),
    [
        (ddn.nodes.SphereProjection, [torch.zeros(3)]),
        (ddn.nodes.LeastSquares, [torch.ones(3, 2), torch.ones(3)]),
        (ddn.nodes.LinearSystem, [torch.ones(2, 3), torch.ones(2)]),
        (ddn.nodes.OrthogonalProcrustes, [torch.ones(3, 2)]),
        (ddn.nodes.OrthogonalProcrustes, [torch.zeros(3, 2)]),
    ],
)
def test_solution_that_is_not_unique(node: type[ddn.DeclarativeNode], inputs: list[Tensor]) -> None:
    with pytest.raises(SolveError, match="on_failure"):
        node()(*inputs)


@pytest.mark.parametrize(
    ("node", "shapes"),
    [
        (ddn.nodes.LeastSquares, [(2, 3), (2,)]),
        (ddn.nodes.LinearSystem, [(3, 2), (3,)]),
        (ddn.nodes.OrthogonalProcrustes, [(2, 3)]),
    ],
)
def test_shapes_without_a_unique_solution(
    node: type[ddn.DeclarativeNode], shapes: list[tuple[int, ...]]
) -> None:
    with pytest.raises(ShapeError, match="as many"):
        node()(*(torch.randn(shape) for shape in shapes))


def test_procrustes_repeated_singular_values() -> None:
    C = (3 * torch.eye(5, 3, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(ddn.nodes.OrthogonalProcrustes(), C, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(ddn.nodes.OrthogonalProcrustes(), C)


def test_procrustes_warns_and_returns_a_minimizer() -> None:
    C = torch.ones(3, 2, dtype=torch.float64, requires_grad=True)
    with pytest.warns(ddn.errors.SolveWarning, match="not unique"):
        V = ddn.nodes.OrthogonalProcrustes(on_failure="warn")(C)
    torch.testing.assert_close(V.mT @ V, torch.eye(2, dtype=torch.float64))
    torch.testing.assert_close((V * C).sum(), torch.linalg.svdvals(C.detach()).sum())
    (gradient,) = torch.autograd.grad(V.sum(), C)
    assert gradient.isfinite().all()


def test_sphere_projection_of_extreme_lengths() -> None:
    x = torch.tensor([[3e200, 4e200], [3e-200, 4e-200]], dtype=torch.float64)
    expected = torch.tensor([[0.6, 0.8]] * 2, dtype=torch.float64)
    torch.testing.assert_close(ddn.nodes.project_sphere(x), expected)


def test_other_solvers_are_verified_although_the_gradient_is_closed() -> None:
    node = ddn.nodes.EntropicSimplexProjection(solver=ddn.solvers.Newton(max_iterations=1))
    with pytest.raises(SolveError, match="MAX_ITERATIONS"):
        node(torch.randn(2, 4))
    value = ddn.nodes.EntropicSimplexProjection(
        solver=ddn.solvers.Newton(max_iterations=1), on_failure="nan"
    )(torch.randn(2, 4))
    assert value.isnan().all()
