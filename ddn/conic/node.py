"""A CVXPY problem as a differentiable layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ddn.batching import broadcast_shapes, expand_batch
from ddn.conic.attributes import impose_attributes
from ddn.conic.canonical import canonicalize
from ddn.conic.checks import require_problem, require_solver
from ddn.conic.function import Context, solve_cone_programs
from ddn.conic.pattern import Pattern
from ddn.conic.solve import Clarabel, ConeSolver
from ddn.conic.translation import parameter_gather, trace_duals, trace_variables
from ddn.errors import DtypeError, ShapeError
from ddn.failure import POLICIES
from ddn.functional import eager
from ddn.solution import Status

__all__ = ["ConvexSolution", "CvxpyNode"]


@dataclass(frozen=True)
class ConvexSolution:
    """Solution of a batch of CVXPY problems; values and duals are differentiable.

    Attributes:
        values: of the variables, ``(*batch, *shape)`` each, in the order of the node's variables.
        dual_values: of the problem's constraints, in their order and with CVXPY's signs: a tensor
            ``(*batch, *shape)``, or a tuple for constraints with several dual variables (``SOC``,
            ``ExpCone``, ``PowCone3D``).
        optimal_value: of the objective, ``(*batch,)``.
        weakly_active: where a constraint binds with a multiplier of zero, to √ε of their sizes,
            ``(*batch,)``: the solution has a kink, or is near one, and its derivative is one-sided.
        status: integers of :class:`ddn.Status`, ``(*batch,)``.
        iterations: of the solver, ``(*batch,)``.
    """

    values: tuple[Tensor, ...]
    dual_values: list[Tensor | tuple[Tensor, ...]]
    optimal_value: Tensor
    weakly_active: Tensor
    status: Tensor
    iterations: Tensor

    @property
    def converged(self) -> Tensor:
        """True where the problem was solved, ``(*batch,)``."""
        return self.status == Status.CONVERGED


class CvxpyNode(nn.Module):
    """The solution of a convex problem stated in CVXPY, as a function of its parameters:

        y(θ) ∈ argmin_y f(θ, y)   subject to   the problem's constraints

    for every problem that follows CVXPY's rules for parametrized problems (DPP), with any of its cones:
    linear, second-order, semidefinite, exponential, power. CVXPY turns it into a cone program once, when
    the node is made; every call updates numbers only. Solutions are polished to rounding by Newton's method
    on the optimality conditions of the cone program, and the gradient comes from the same linear system
    by a direct factorization (:mod:`ddn.conic.system`).

    Inputs are tensors of the parameters' shapes with batch dimensions in front that broadcast as in NumPy;
    a shared input receives the sum of the gradients over the batch. The computation runs in float64 on the
    CPU, and the result is cast back. Works with ``backward``, forward mode, and ``torch.func`` (``vmap,
    grad, vjp, jvp, jacrev, jacfwd``); second derivatives raise :class:`ddn.errors.DerivativeError`.

    Where the solution has a kink (a constraint about to bind), the gradient is one-sided. Where a
    solution is accepted that could not be polished, a derivative of it is announced by a
    :class:`ddn.errors.SolveWarning`.

    Sources: Agrawal, Amos, Barratt, Boyd, Diamond and Kolter (2019), Differentiable convex optimization
    layers; Agrawal, Barratt, Boyd, Busseti and Moursi (2019), Differentiating through a cone program.

    Args:
        problem: a ``cvxpy.Problem``, DPP, with real and continuous variables.
        parameters: all of its parameters, in the order of the node's inputs.
        variables: those of its variables whose values are wanted, in the order of the node's outputs.
        solver: solves the cone programs; default :class:`ddn.conic.Clarabel`.
        on_failure: "raise" (default), "warn" or "nan": what to do for problems of a batch that are
            infeasible, unbounded, not finite, or not solved. With "nan", only these get NaN, in values and
            gradients.

    Raises:
        DeclarativeNodeError: the problem is not DPP, or parameters or variables are not those of the problem.
        MissingDependencyError: CVXPY or Clarabel is not installed.

    Example:
        >>> import cvxpy as cp
        >>> x, y = cp.Parameter(3), cp.Variable(3)
        >>> problem = cp.Problem(cp.Minimize(cp.sum_squares(y - x)), [cp.norm1(y) <= 1])
        >>> node = ddn.CvxpyNode(problem, parameters=[x], variables=[y])
        >>> node(torch.tensor([1.0, 0.8, 0.6]))
        tensor([0.5333, 0.3333, 0.1333])
    """

    def __init__(
        self,
        problem: Any,
        parameters: Sequence[Any],
        variables: Sequence[Any],
        *,
        solver: ConeSolver | None = None,
        on_failure: str = "raise",
    ) -> None:
        super().__init__()
        if on_failure not in POLICIES:
            raise ValueError(f"on_failure is one of {POLICIES}, but was given {on_failure!r}.")
        require_problem(problem, parameters, variables)
        solver = Clarabel() if solver is None else solver
        require_solver(solver)
        self.problem = problem
        self.parameters_of_problem = tuple(parameters)
        self.variables = tuple(variables)
        self.on_failure = on_failure
        self.solver = solver
        canonical = canonicalize(problem, parameters)
        self._pattern = Pattern(canonical.program)
        self._sign = canonical.sign
        self._parameter_index = parameter_gather(canonical, parameters)
        self._values = trace_variables(canonical, variables)
        self._duals = trace_duals(canonical, problem.constraints)

    @eager
    def forward(self, *values: Tensor) -> Any:
        """Solve the batch of problems.

        Args:
            *values: of the parameters, ``(*batch, *shape)`` each, in their order.

        Returns:
            The value of the variable, ``(*batch, *shape)``, or a tuple with one tensor per variable.

        Raises:
            ShapeError: a value does not have the shape of its parameter.
            DtypeError: a value is not a real floating-point tensor, or dtypes or devices differ.
            SolveError: problems were not solved (with ``on_failure="raise"``).
        """
        x, *_ = self._solve(values)
        found = tuple(self._present(gather(x), values) for gather in self._values)
        return found[0] if len(found) == 1 else found

    @eager
    def solution(self, *values: Tensor) -> ConvexSolution:
        """Solve the batch and return duals, optimal value and status, too.

        Args:
            *values: as for ``node(*values)``.
        """
        x, z, value, _, _, status, iterations, weak = self._solve(values)
        duals: list[Tensor | tuple[Tensor, ...]] = []
        for gathers in self._duals:
            found = tuple(self._present(gather(z), values) for gather in gathers)
            duals.append(found[0] if len(found) == 1 else found)
        device = values[0].device
        return ConvexSolution(
            tuple(self._present(gather(x), values) for gather in self._values),
            duals,
            self._present(self._sign * value, values),
            weak.to(device),
            status.to(device),
            iterations.to(device),
        )

    def extra_repr(self) -> str:
        """Parameters and variables with their shapes, and options that differ from the defaults."""
        inputs = ", ".join(f"{p.name()} {p.shape}" for p in self.parameters_of_problem)
        outputs = ", ".join(f"{v.name()} {v.shape}" for v in self.variables)
        parts = [f"parameters=[{inputs}]", f"variables=[{outputs}]"]
        parts += [f"solver={self.solver}"] if self.solver != Clarabel() else []
        parts += [f"on_failure={self.on_failure!r}"] if self.on_failure != "raise" else []
        return ", ".join(parts)

    def _solve(self, values: Sequence[Tensor]) -> tuple[Tensor, ...]:
        context = Context(self._pattern, self.solver, self.on_failure)
        return solve_cone_programs(context, self._stack(values))

    def _present(self, result: Tensor, values: Sequence[Tensor]) -> Tensor:
        return result.to(device=values[0].device, dtype=values[0].dtype)

    def _stack(self, values: Sequence[Tensor]) -> Tensor:
        """θ ``(*batch, p)`` of the cone program."""
        parameters = self.parameters_of_problem
        if len(values) != len(parameters):
            names = ", ".join(p.name() for p in parameters)
            raise ShapeError(
                f"CvxpyNode takes {len(parameters)} input(s), the values of {names}, but was given "
                f"{len(values)}."
            )
        doubles, batches = [], []
        for position, (parameter, value) in enumerate(zip(parameters, values, strict=True)):
            label = f"input {position}, parameter {parameter.name()},"
            _check_tensor(label, value, values[0])
            rank = len(parameter.shape)
            batch = value.shape[: max(value.ndim - rank, 0)]
            if value.ndim < rank or value.shape[len(batch) :] != parameter.shape:
                raise ShapeError(
                    f"CvxpyNode: {label} must have shape (*batch, "
                    f"{', '.join(map(str, parameter.shape))}), but has {tuple(value.shape)}."
                )
            doubles.append(impose_attributes(parameter, value.double().cpu(), label.rstrip(",")))
            batches.append(batch)
        try:
            common = broadcast_shapes(batches)
        except RuntimeError as error:
            shapes = ", ".join(str(tuple(batch)) for batch in batches)
            raise ShapeError(
                f"CvxpyNode: the batch shapes {shapes} of the inputs do not broadcast."
            ) from error
        flat = [
            expand_batch(value, len(parameter.shape), common).reshape((*common, parameter.size))
            for parameter, value in zip(parameters, doubles, strict=True)
        ]
        return torch.cat(flat, -1)[..., self._parameter_index]


def _check_tensor(label: str, value: Any, first: Tensor) -> None:
    if not isinstance(value, Tensor):
        raise DtypeError(
            f"CvxpyNode: {label} must be a tensor, but is {type(value).__name__}: wrap it in torch.as_tensor."
        )
    if not value.is_floating_point():
        raise DtypeError(
            f"CvxpyNode: {label} has dtype {value.dtype}: a node differentiates with respect to real "
            "numbers. Convert it, for example by .to(torch.get_default_dtype())."
        )
    if value.dtype != first.dtype or value.device != first.device:
        raise DtypeError(
            f"CvxpyNode: {label} is {value.dtype} on {value.device}, but input 0 is {first.dtype} on "
            f"{first.device}. Convert all inputs to one dtype and device."
        )
