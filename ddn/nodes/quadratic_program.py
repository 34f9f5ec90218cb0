"""Quadratic programs whose matrices are inputs."""

from __future__ import annotations

from torch import Tensor

from ddn.certificate import Certificate
from ddn.node import DeclarativeNode
from ddn.nodes.programs import StatedProgram
from ddn.solution import Solution
from ddn.solvers.warm_start import Previous

__all__ = ["QuadraticProgram", "solve_quadratic_program"]


class QuadraticProgram(StatedProgram):
    """argmin_y  ½ yᵀQ y + qᵀy   subject to   A y = b,   G y ≤ h,   l ≤ y ≤ u.

    Every matrix and vector is a differentiable input; batch dimensions broadcast, and shared inputs get the
    sum of the gradients of all problems. Equality constraints, inequality constraints and bounds may each be
    left out (None). Only the symmetric part of Q counts; it should be positive semidefinite (otherwise a
    local minimum is found, and the problem may be unbounded). Entries +∞ of h and infinite bounds are no
    constraints.

    ``node.solution(...)`` gives the multipliers, differentiable like y, of L = f + λᵀ(A y − b) + νᵀ(G y − h)
    and so on. Derivatives of every order are those of the active set at the solution; see
    :class:`ddn.ImplicitGradient`, also for ``smoothing``, which linear programs (Q = 0) need: the vertex that
    solves them does not move with q (:class:`ddn.nodes.LinearProgram`).

    The default solver is :class:`ddn.solvers.AutomaticQuadratic`; ``pip install "ddn-torch[qp]"`` brings the
    compiled ones. Whatever solves, the solution is made exact on its active set, and verified; that, and the
    first derivative, are computed in float64 whatever the dtype of the inputs.

    Shapes: Q ``(*batch, n, n)``, q ``(*batch, n)``, A ``(*batch, p, n)``, b ``(*batch, p)``, G ``(*batch, k,
    n)``, h ``(*batch, k)``, lower and upper ``(*batch, n)``; returns ``(*batch, n)``.

    Raises:
        SolveError: infeasible or unbounded problems, or NaN (with ``on_failure="raise"``).
        SingularSystemError: in the backward pass, where the solution is not unique.

    Source: Amos and Kolter (2017), OptNet, for the derivative.
    """

    names = ("Q", "q", "A", "b", "G", "h")
    signature = "(n,n),(n),(p,n),(p),(k,n),(k)->(n)"
    bounds = None  # type: ignore[assignment]  # six inputs have none

    def forward(  # type: ignore[override]
        self,
        Q: Tensor,
        q: Tensor,
        A: Tensor | None = None,
        b: Tensor | None = None,
        G: Tensor | None = None,
        h: Tensor | None = None,
        *,
        lower: Tensor | None = None,
        upper: Tensor | None = None,
        warm_start: Previous | None = None,
    ) -> Tensor:
        """The solution; see the class for inputs and errors.

        Args:
            Q: see the class.
            q: likewise.
            A: with b, or None.
            b: with A, or None.
            G: with h, or None.
            h: with G, or None.
            lower: l, or None.
            upper: u, or None.
            warm_start: where the solver starts; see :meth:`ddn.DeclarativeNode.forward`.
        """
        node, inputs = self.stated(Q=Q, q=q, A=A, b=b, G=G, h=h, lower=lower, upper=upper)
        result: Tensor = DeclarativeNode.forward(node, *inputs, warm_start=warm_start)
        return result

    def solution(  # type: ignore[override]
        self,
        Q: Tensor,
        q: Tensor,
        A: Tensor | None = None,
        b: Tensor | None = None,
        G: Tensor | None = None,
        h: Tensor | None = None,
        *,
        lower: Tensor | None = None,
        upper: Tensor | None = None,
        warm_start: Previous | None = None,
    ) -> Solution:
        """The solution with multipliers and diagnostics; inputs as for the node itself."""
        node, inputs = self.stated(Q=Q, q=q, A=A, b=b, G=G, h=h, lower=lower, upper=upper)
        return DeclarativeNode.solution(node, *inputs, warm_start=warm_start)

    def certificate(  # type: ignore[override]
        self,
        Q: Tensor,
        q: Tensor,
        A: Tensor | None = None,
        b: Tensor | None = None,
        G: Tensor | None = None,
        h: Tensor | None = None,
        *,
        lower: Tensor | None = None,
        upper: Tensor | None = None,
        y: Tensor | None = None,
    ) -> Certificate:
        """Whether the gradient can be trusted; inputs as for the node itself."""
        node, inputs = self.stated(Q=Q, q=q, A=A, b=b, G=G, h=h, lower=lower, upper=upper)
        return DeclarativeNode.certificate(node, *inputs, y=y)


def solve_quadratic_program(
    Q: Tensor,
    q: Tensor,
    A: Tensor | None = None,
    b: Tensor | None = None,
    G: Tensor | None = None,
    h: Tensor | None = None,
    *,
    lower: Tensor | None = None,
    upper: Tensor | None = None,
) -> Tensor:
    """:class:`QuadraticProgram` as a function."""
    result: Tensor = QuadraticProgram()(Q, q, A, b, G, h, lower=lower, upper=upper)
    return result
