"""Riemannian optimization by Pymanopt as the solver of a node."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import ddn
from ddn.errors import DeclarativeNodeError, MissingDependencyError, SolveError
from ddn.nodes import OrthogonalProcrustes, orthogonal_procrustes
from ddn.solvers import Pymanopt
from tests.ddn.problems import Entropy, make_node

pymanopt = pytest.importorskip("pymanopt")


def test_three_routes_to_the_polar_factor(device, dtype, tolerance):
    """Closed form, trust region with the engine's gradient, Newton with the engine's gradient."""
    C = torch.randn(2, 5, 3, device=device, dtype=dtype, requires_grad=True)
    weight = torch.randn(2, 5, 3, device=device, dtype=dtype)
    expected = orthogonal_procrustes(C)
    (expected_gradient,) = torch.autograd.grad((expected * weight).sum(), C)
    for solver in (Pymanopt(), ddn.solvers.Newton()):
        node = OrthogonalProcrustes(solver=solver, gradient=ddn.ImplicitGradient())
        V = node(C)
        torch.testing.assert_close(V, expected, rtol=tolerance.solver, atol=tolerance.solver)
        (gradient,) = torch.autograd.grad((V * weight).sum(), C)
        torch.testing.assert_close(
            gradient, expected_gradient, rtol=tolerance.solver, atol=tolerance.solver
        )


def test_manifold_given_to_the_solver(device, dtype, tolerance):
    """The smallest eigenvector by a sphere that the node knows nothing of."""
    node = make_node(
        "(n,n)->(n)",
        lambda M, y: y @ M @ y,
        lambda M, y: y.square().sum().unsqueeze(0) - 1,
        solver=Pymanopt(manifold=pymanopt.manifolds.Sphere(4)),
    )
    root = torch.randn(4, 4, device=device, dtype=dtype)
    M = root + root.mT
    y = node(M)
    smallest = torch.linalg.eigvalsh(M)[0]
    torch.testing.assert_close(y @ M @ y, smallest, rtol=tolerance.solver, atol=tolerance.solver)


def test_random_state_is_left_alone():
    C = torch.randn(4, 2, dtype=torch.float64)
    node = OrthogonalProcrustes(solver=Pymanopt(seed=3))
    np.random.seed(11)  # noqa: NPY002 - pymanopt draws from the global state
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = node(C)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(first, node(C))


def test_node_without_manifold():
    with pytest.raises(DeclarativeNodeError, match=r"on which manifold .*Pymanopt\(manifold="):
        Entropy(solver=Pymanopt())(torch.zeros(3, dtype=torch.float64))


def test_optimizer_that_stops_too_early():
    """What the optimizer returns is verified, not believed."""
    optimizer = pymanopt.optimizers.SteepestDescent(max_iterations=1, verbosity=0)
    node = OrthogonalProcrustes(
        solver=Pymanopt(optimizer=optimizer), gradient=ddn.ImplicitGradient()
    )
    with pytest.raises(SolveError, match="MAX_ITERATIONS"):
        node(torch.randn(6, 3, dtype=torch.float64))


def test_missing_package(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr("ddn.solvers.manifolds.importlib.import_module", missing)
    with pytest.raises(MissingDependencyError, match=r'pip install "ddn-torch\[pymanopt\]"'):
        OrthogonalProcrustes(solver=Pymanopt())(torch.randn(4, 2))
