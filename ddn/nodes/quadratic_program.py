"""Quadratic programs whose matrices are inputs."""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar

from torch import Tensor

from ddn.certificate import Certificate
from ddn.errors import SignatureError
from ddn.functional import eager
from ddn.node import DeclarativeNode
from ddn.quadratic.data import QuadraticData
from ddn.solution import Solution
from ddn.solvers.warm_start import Previous

__all__ = ["QuadraticProgram", "solve_quadratic_program"]

_TERMS = {
    "Q": "(n,n)",
    "q": "(n)",
    "A": "(p,n)",
    "b": "(p)",
    "G": "(k,n)",
    "h": "(k)",
    "lower": "(n)",
    "upper": "(n)",
}


class _Stated(DeclarativeNode):
    """A quadratic program with a given selection of inputs."""

    names: ClassVar[tuple[str, ...]]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # The functions below are the matrices: there is nothing to be looked through or compared.
        self._looked_through = self._inner_looked_through = True

    def _named(self, inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return dict(zip(self.names, inputs, strict=False))

    def objective(self, *inputs: Tensor) -> Tensor:
        parts, y = self._named(inputs), inputs[-1]
        return 0.5 * y @ parts["Q"] @ y + parts["q"] @ y

    def equality(self, *inputs: Tensor) -> Tensor:
        parts = self._named(inputs)
        return parts["A"] @ inputs[-1] - parts["b"]

    def inequality(self, *inputs: Tensor) -> Tensor:
        parts = self._named(inputs)
        return parts["G"] @ inputs[-1] - parts["h"]

    def bounds(self, *inputs: Tensor) -> tuple[Tensor | None, Tensor | None]:
        parts = self._named(inputs)
        return parts.get("lower"), parts.get("upper")

    def quadratic_program(self, *inputs: Tensor) -> QuadraticData:
        return QuadraticData(**self._named(inputs))


class QuadraticProgram(_Stated):
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

    The default solver is :class:`ddn.solvers.DAQP` on CPU (``pip install "ddn-torch[qp]"``), else
    :class:`ddn.solvers.InteriorPoint`. Whatever solves, the solution is made exact on its active set, and
    verified.

    Shapes: Q ``(*batch, n, n)``, q ``(*batch, n)``, A ``(*batch, p, n)``, b ``(*batch, p)``, G ``(*batch, k,
    n)``, h ``(*batch, k)``, lower and upper ``(*batch, n)``; returns ``(*batch, n)``.

    Raises:
        SolveError: infeasible or unbounded problems, or NaN (with ``on_failure="raise"``).
        SingularSystemError: in the backward pass, where the solution is not unique.

    Source: Amos and Kolter (2017), OptNet, for the derivative.
    """

    names = ("Q", "q", "A", "b", "G", "h")
    signature = "(n,n),(n),(p,n),(p),(k,n),(k)->(n)"
    bounds = None  # type: ignore[assignment]  # six inputs have none, see _variant_class

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
        node, inputs = self._stated(Q, q, A, b, G, h, lower, upper)
        if node is self:
            result: Tensor = super().forward(*inputs, warm_start=warm_start)
        else:
            result = node(*inputs, warm_start=warm_start)
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
        node, inputs = self._stated(Q, q, A, b, G, h, lower, upper)
        if node is self:
            return super().solution(*inputs, warm_start=warm_start)
        return node.solution(*inputs, warm_start=warm_start)

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
        node, inputs = self._stated(Q, q, A, b, G, h, lower, upper)
        if node is self:
            return super().certificate(*inputs, y=y)
        return node.certificate(*inputs, y=y)

    def _stated(self, *inputs: Tensor | None) -> tuple[DeclarativeNode, tuple[Tensor, ...]]:
        """The node for the inputs that are given, and these inputs."""
        given = tuple(
            (name, value) for name, value in zip(_TERMS, inputs, strict=True) if value is not None
        )
        names = tuple(name for name, _ in given)
        for pair in (("A", "b"), ("G", "h")):
            if (pair[0] in names) != (pair[1] in names):
                raise SignatureError(
                    f"QuadraticProgram: {pair[0]} and {pair[1]} belong together, but only one was given."
                )
        values = tuple(value for _, value in given)
        return (self if names == self.names else self._variant(names)), values

    @eager
    def _variant(self, names: tuple[str, ...]) -> DeclarativeNode:
        variants: dict[tuple[str, ...], DeclarativeNode] = self.__dict__.setdefault("_variants", {})
        if names not in variants:
            variants[names] = _variant_class(names)()
        node = variants[names]
        for option in ("solver", "gradient", "on_failure"):
            if getattr(node, option) is not getattr(self, option):
                setattr(node, option, getattr(self, option))
        return node


@cache
def _variant_class(names: tuple[str, ...]) -> type[_Stated]:
    body: dict[str, Any] = {
        "names": names,
        "signature": ",".join(_TERMS[name] for name in names) + "->(n)",
        "__doc__": _Stated.__doc__,
        "__module__": __name__,
    }
    for function, part in (("equality", "A"), ("inequality", "G")):
        if part not in names:
            body[function] = None
    if "lower" not in names and "upper" not in names:
        body["bounds"] = None
    return type("QuadraticProgram", (_Stated,), body)


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
