"""Linear programs, smoothed, so that their solution moves with the cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ddn.certificate import Certificate
from ddn.node import DeclarativeNode
from ddn.nodes.programs import StatedProgram
from ddn.solution import Solution
from ddn.solvers.warm_start import Previous

__all__ = [
    "EntropicSmoothing",
    "LinearProgram",
    "QuadraticSmoothing",
    "Smoothing",
    "solve_linear_program",
]


class Smoothing(Protocol):
    """A strictly convex term that is added to a linear objective."""

    def value(self, y: Tensor) -> Tensor:
        """Its value for one problem, a scalar; y is ``(n,)``."""


@dataclass(frozen=True)
class QuadraticSmoothing:
    """(δ/2) ‖y‖². The linear program becomes a quadratic one; many components stay exactly at their bounds.

    For small δ the solution is that of the linear program, of least norm (Mangasarian and Meyer 1979).

    Attributes:
        weight: δ > 0, in units of cost over y.
    """

    weight: float = 1e-2

    def __post_init__(self) -> None:
        _require_positive(self.weight)

    def value(self, y: Tensor) -> Tensor:
        """(δ/2) ‖y‖²."""
        value: Tensor = 0.5 * self.weight * y.square().sum()
        return value

    def matrix(self, q: Tensor) -> Tensor:
        """δ I for a cost ``(*batch, n)``."""
        return self.weight * torch.eye(q.shape[-1], dtype=q.dtype, device=q.device)


@dataclass(frozen=True)
class EntropicSmoothing:
    """ε Σ (y_i log y_i − y_i), which keeps y > 0 by itself. All components move, and all stay positive.

    On the simplex the solution is softmax(−c/ε); on transport polytopes it is that of Cuturi (2013).

    Attributes:
        weight: ε > 0, in units of cost.
    """

    weight: float = 1e-2

    def __post_init__(self) -> None:
        _require_positive(self.weight)

    def value(self, y: Tensor) -> Tensor:
        """ε Σ (y_i log y_i − y_i)."""
        value: Tensor = self.weight * (torch.special.xlogy(y, y) - y).sum()
        return value


def _require_positive(weight: float) -> None:
    if not weight > 0:
        raise ValueError(f"weight is a number > 0, but was given {weight!r}.")


class _Linear(StatedProgram):
    """A linear program with a given selection of inputs."""

    def __init__(self, smoothing: Smoothing | None = None, **options: Any) -> None:
        super().__init__(**options)
        if smoothing is not None and not callable(getattr(smoothing, "value", None)):
            raise TypeError(
                "smoothing is an object such as ddn.nodes.QuadraticSmoothing(), or None, but was given "
                f"{smoothing!r}."
            )
        self.smoothing = smoothing
        if not (smoothing is None or isinstance(smoothing, QuadraticSmoothing)):
            self.quadratic_program = None  # type: ignore[assignment,method-assign]
            self._looked_through = self._inner_looked_through = False

    def options(self) -> dict[str, Any]:
        return {**super().options(), "smoothing": self.smoothing}

    def hessian(self, parts: dict[str, Tensor]) -> Tensor:
        smoothing = self.smoothing
        if isinstance(smoothing, QuadraticSmoothing):
            return smoothing.matrix(parts["q"])
        return super().hessian(parts)

    def objective(self, *inputs: Tensor) -> Tensor:
        value: Tensor = self.named(inputs)["q"] @ inputs[-1]
        return value if self.smoothing is None else value + self.smoothing.value(inputs[-1])


_Linear.general = _Linear


class LinearProgram(_Linear):
    """argmin_y  cᵀy + smoothing(y)   subject to   A y = b,   G y ≤ h,   l ≤ y ≤ u.

    Without smoothing the solution is a vertex, which does not move with c: its gradient with respect to c is
    zero (those with respect to b, h, l and u are not). A smoothing makes the solution unique, and a smooth
    function of c (quadratic: piecewise smooth). To keep the vertex as value and smooth the derivative
    alone, use ``gradient=ddn.ImplicitGradient(smoothing=...)`` in place of it.

    Args:
        smoothing: :class:`QuadraticSmoothing`, :class:`EntropicSmoothing` (for y > 0; it takes the place of
            lower bounds at zero), or None.
        **options: of :class:`ddn.DeclarativeNode`.

    Shapes: c ``(*batch, n)``, A ``(*batch, p, n)``, b ``(*batch, p)``, G ``(*batch, k, n)``, h
    ``(*batch, k)``, lower and upper ``(*batch, n)``; returns ``(*batch, n)``.

    Raises:
        SolveError: infeasible or unbounded problems, or NaN (with ``on_failure="raise"``).
        SingularSystemError: in the backward pass, where the solution is not unique.

    Source: Mangasarian and Meyer (1979); Cuturi (2013).
    """

    names = ("q", "A", "b", "G", "h")
    signature = "(n),(p,n),(p),(k,n),(k)->(n)"
    bounds = None  # type: ignore[assignment]  # five inputs have none

    def forward(  # type: ignore[override]
        self,
        c: Tensor,
        A: Tensor | None = None,
        b: Tensor | None = None,
        G: Tensor | None = None,
        h: Tensor | None = None,
        *,
        lower: Tensor | None = None,
        upper: Tensor | None = None,
        warm_start: Previous | None = None,
    ) -> Tensor:
        """The solution; see the class for inputs and errors."""
        node, inputs = self.stated(q=c, A=A, b=b, G=G, h=h, lower=lower, upper=upper)
        result: Tensor = DeclarativeNode.forward(node, *inputs, warm_start=warm_start)
        return result

    def solution(  # type: ignore[override]
        self,
        c: Tensor,
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
        node, inputs = self.stated(q=c, A=A, b=b, G=G, h=h, lower=lower, upper=upper)
        return DeclarativeNode.solution(node, *inputs, warm_start=warm_start)

    def certificate(  # type: ignore[override]
        self,
        c: Tensor,
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
        node, inputs = self.stated(q=c, A=A, b=b, G=G, h=h, lower=lower, upper=upper)
        return DeclarativeNode.certificate(node, *inputs, y=y)

    def extra_repr(self) -> str:
        """The options."""
        return f"smoothing={self.smoothing}, {super().extra_repr()}"


def solve_linear_program(
    c: Tensor,
    A: Tensor | None = None,
    b: Tensor | None = None,
    G: Tensor | None = None,
    h: Tensor | None = None,
    *,
    lower: Tensor | None = None,
    upper: Tensor | None = None,
    smoothing: Smoothing | None = None,
) -> Tensor:
    """:class:`LinearProgram` as a function."""
    result: Tensor = LinearProgram(smoothing)(c, A, b, G, h, lower=lower, upper=upper)
    return result
