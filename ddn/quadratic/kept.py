"""What a quadratic program keeps between solution and derivative: its matrices, and its active set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddn.problem import Problem
from ddn.quadratic.active_set import ActiveSetSystem
from ddn.quadratic.balance import Balanced
from ddn.quadratic.data import QuadraticData, times

__all__ = ["KeptSolution", "StatedMatrices", "detached"]


def detached(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The same numbers without their graphs."""
    return tuple(tensor.detach() for tensor in tensors)


@dataclass(frozen=True)
class StatedMatrices:
    """The matrices of a problem, and how they depend on its operands.

    Attributes:
        leaves: operands, ``(*batch, *core)``, those that are differentiated requiring grad.
        graph: the matrices as functions of the leaves, one batch dimension or none.
        data: the same as constants, in float64.
        differentiated: positions of operands.
        batch: ``*batch``.
        direct: positions of the operands that the matrices are, by name, if each of them is one; None
            if they are computed from operands.
    """

    leaves: Sequence[Tensor]
    graph: QuadraticData
    data: QuadraticData
    differentiated: tuple[int, ...]
    batch: torch.Size
    direct: dict[str, int] | None

    @classmethod
    def at(
        cls, problem: Problem, operands: Sequence[Tensor], differentiated: tuple[int, ...]
    ) -> StatedMatrices:
        """The matrices for operands, some of which will be differentiated."""
        leaves = [
            operand.detach().requires_grad_(position in differentiated)
            for position, operand in enumerate(operands)
        ]
        with torch.enable_grad():
            flat = problem.flatten_batch(leaves)
            graph = problem.quadratic_program(flat)
        own = {id(value): position for position, value in enumerate(flat)}
        parts = {name: value for name, value in graph.parts().items() if value.requires_grad}
        direct = {name: own[id(value)] for name, value in parts.items() if id(value) in own}
        is_direct = len(direct) == len(parts) == len(set(direct.values()))
        # In double precision: which rows are active is decided by small differences.
        data = graph.map(lambda value: value.detach().double())
        batch = problem.batch_shape(operands)
        return cls(leaves, graph, data, differentiated, batch, direct if is_direct else None)

    def pull_back(self, cotangents: dict[str, Tensor], needed: Sequence[int]) -> dict[int, Tensor]:
        """From cotangents of the matrices to gradients of the operands."""
        like = self.leaves[0].dtype
        cotangents = {name: value.to(like) for name, value in cotangents.items()}
        if self.direct is not None:
            found = {
                position: self._own(cotangents[name], position)
                for name, position in self.direct.items()
                if name in cotangents
            }
            for position in needed:
                if position not in found:
                    found[position] = torch.zeros_like(self.leaves[position])
            return found
        outputs = [
            (value, cotangents[name])
            for name, value in self.graph.parts().items()
            if value.requires_grad and name in cotangents
        ]
        wanted = [self.leaves[position] for position in needed]
        if not outputs:
            return dict(zip(needed, map(torch.zeros_like, wanted), strict=True))
        gradients = torch.autograd.grad(
            [value for value, _ in outputs],
            wanted,
            [cotangent for _, cotangent in outputs],
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        return dict(zip(needed, gradients, strict=True))

    def _own(self, cotangent: Tensor, position: int) -> Tensor:
        """A cotangent of a matrix, which is an operand, in the shape of that."""
        shape = self.leaves[position].shape
        if cotangent.numel() == shape.numel():
            return cotangent.reshape(shape)
        rank = cotangent.ndim - 1  # of the matrix: one batch dimension is left
        whole = cotangent.reshape(*self.batch, *cotangent.shape[cotangent.ndim - rank :])
        return whole.sum_to_size(shape)


@dataclass(frozen=True)
class KeptSolution:
    """A solution, its matrices and the system of its active set.

    Attributes:
        point: y, μ, active and the operands.
        stated: the matrices.
        balanced: the same in units in which variables are alike.
        system: of the active set; None if it is still to be factorized.
    """

    point: tuple[Tensor, ...]
    stated: StatedMatrices
    balanced: Balanced
    system: ActiveSetSystem | None

    def pull_back(
        self,
        grad_y: Tensor,
        grad_multipliers: Tensor,
        y: Tensor,
        multipliers: Tensor,
        active: Tensor,
        needed: Sequence[int],
    ) -> dict[int, Tensor] | None:
        """Gradients of operands by position; None where the system is not regular."""
        data = self.stated.data
        n, p, k = data.num_variables, data.num_equalities, data.num_inequalities
        y, grad_y = (t.double().reshape(-1, n) for t in (y, grad_y))
        multipliers, grad_multipliers = (
            t.double().reshape(len(y), -1) for t in (multipliers, grad_multipliers)
        )
        active = active.reshape(len(y), -1)
        if data.has_bounds and bool((grad_multipliers[:, p + k :] != 0).any()):
            return None
        system = self.system or _active_set_system(self.balanced.data, active)
        units = self.balanced.units
        right_y = -grad_y if units is None else -grad_y * units
        u, s, error = system.refined(right_y, -grad_multipliers[:, : p + k])
        u = u if units is None else u * units
        if not bool((error <= torch.finfo(y.dtype).eps ** 0.5).all()):
            return None
        rows = multipliers[:, : p + k]
        cotangents = {"q": u, **self._rows(u, s, y, rows)}
        cotangents["Q"] = _outer((u, y), (y / 2, u / 2), data.Q.ndim)
        if data.has_bounds:
            force = grad_y + times(data.symmetric, u) + times(data.rows.mT, s)
            lower, upper = active[:, k : k + n], active[:, k + n :]
            # A variable whose bounds agree is moved by both together: half of it by each.
            share = torch.where(lower & upper, 0.5, 1.0).to(y.dtype)
            cotangents["lower"] = torch.where(lower, force * share, 0)
            cotangents["upper"] = torch.where(upper, force * share, 0)
        shapes = self.stated.graph.parts()
        cotangents = {
            name: _summed(value, shapes[name])
            for name, value in cotangents.items()
            if name in shapes
        }
        return self.stated.pull_back(cotangents, needed)

    def _rows(self, u: Tensor, s: Tensor, y: Tensor, rows: Tensor) -> dict[str, Tensor]:
        data, p = self.stated.data, self.stated.data.num_equalities
        result = {}
        for names, part in ((("A", "b"), slice(0, p)), (("G", "h"), slice(p, None))):
            matrix = getattr(data, names[0])
            if matrix is not None:
                result[names[0]] = _outer((rows[:, part], s[:, part]), (u, y), matrix.ndim)
                result[names[1]] = -s[:, part]
        return result


def _active_set_system(data: QuadraticData, active: Tensor) -> ActiveSetSystem:
    n, p, k = data.num_variables, data.num_equalities, data.num_inequalities
    kept = torch.cat([active.new_ones(len(active), p), active[:, :k]], -1)
    free = ~(active[:, k : k + n] | active[:, k + n :]) if data.has_bounds else None
    return ActiveSetSystem.of(data, kept, free)


def _outer(left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor], ndim: int) -> Tensor:
    """a cᵀ + b dᵀ for every problem; summed over them for a matrix that they share."""
    if ndim == 2:
        return torch.cat(left).mT @ torch.cat(right)
    return torch.stack(left, -1) @ torch.stack(right, -2)


def _summed(value: Tensor, like: Tensor) -> Tensor:
    return value.sum(0) if value.ndim > like.ndim else value
