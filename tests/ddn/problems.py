"""Problems with known answers, for the tests of the core."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import ddn

__all__ = ["Affine", "Entropy", "EqualityQP", "Ridge", "make_node", "ridge", "softmax"]


class Entropy(ddn.DeclarativeNode):
    """argmin Σ y log y − xᵀy s.t. Σ y = 1: softmax(x), with multiplier logsumexp(x) − 1."""

    signature = "(n)->(n)"

    def objective(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.special.xlogy(y, y).sum() - x @ y

    def equality(self, x: Tensor, y: Tensor) -> Tensor:
        return y.sum().unsqueeze(0) - 1


def softmax(x: Tensor) -> Tensor:
    """The solution of :class:`Entropy`."""
    return torch.softmax(x, -1)


class Ridge(ddn.DeclarativeNode):
    """argmin ½ ‖A y − b‖² + ½ r ‖y‖²: three inputs of different core ranks."""

    signature = "(m,n),(m),()->(n)"

    def objective(self, A: Tensor, b: Tensor, r: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (A @ y - b).square().sum() + 0.5 * r * y.square().sum()


def ridge(A: Tensor, b: Tensor, r: Tensor) -> Tensor:
    """The solution of :class:`Ridge` by a Cholesky factorization."""
    identity = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
    factor = torch.linalg.cholesky(A.mT @ A + r[..., None, None] * identity)
    return torch.cholesky_solve(A.mT @ b.unsqueeze(-1), factor).squeeze(-1)


class EqualityQP(ddn.DeclarativeNode):
    """argmin ½ yᵀQ y + qᵀy s.t. A y = b."""

    signature = "(n,n),(n),(p,n),(p)->(n)"

    def objective(self, Q: Tensor, q: Tensor, A: Tensor, b: Tensor, y: Tensor) -> Tensor:
        return 0.5 * y @ Q @ y + q @ y

    def equality(self, Q: Tensor, q: Tensor, A: Tensor, b: Tensor, y: Tensor) -> Tensor:
        return A @ y - b


class Affine(ddn.DeclarativeNode):
    """argmin ½ ‖y‖² − s yᵀ(W x + c): the output of its own linear layer, scaled by a buffer."""

    signature = "(n)->(m)"

    def __init__(self, inputs: int = 3, outputs: int = 2, **options: Any) -> None:
        super().__init__(**options)
        self.linear = nn.Linear(inputs, outputs)
        self.dimensions = {"m": outputs}
        self.register_buffer("scale", torch.tensor(2.0))
        self.register_buffer("steps", torch.tensor(7))

    def objective(self, x: Tensor, y: Tensor) -> Tensor:
        return 0.5 * y.square().sum() - self.scale * (y @ self.linear(x))

    def closed_form(self, x: Tensor) -> Tensor:
        """The solution in torch operations."""
        return self.scale * self.linear(x)


def make_node(
    signature: str,
    objective: Callable[..., Any],
    equality: Callable[..., Any] | None = None,
    *,
    start: Callable[..., Any] | None = None,
    dimensions: dict[str, int] | None = None,
    solve: Callable[..., Any] | None = None,
    **options: Any,
) -> ddn.DeclarativeNode:
    """A node from functions of the inputs and the solution."""
    members: dict[str, Any] = {
        "signature": signature,
        "objective": lambda self, *arguments: objective(*arguments),
    }
    for name, function in (("equality", equality), ("starting_point", start), ("solve", solve)):
        if function is not None:
            members[name] = _method(function)
    if dimensions is not None:
        members["dimensions"] = dimensions
    return type("MadeNode", (ddn.DeclarativeNode,), members)(**options)


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *arguments: function(*arguments)
