"""The declarative node: what a user subclasses."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, cast

from torch import Tensor, nn

from ddn.binding import Bound, bind
from ddn.certificate import Certificate
from ddn.certify import certify, require_feasible_size
from ddn.closed_form import ClosedForm
from ddn.closures import guard_undeclared
from ddn.compiled import break_graph_at_change, is_traced, solve_in_graph
from ddn.errors import SignatureError
from ddn.failure import POLICIES
from ddn.forward_mode import is_differentiated
from ddn.functional import eager
from ddn.gradient import Gradient, ImplicitGradient, require_gradient
from ddn.kkt.automatic import Automatic
from ddn.nested import guard_inner_gradients, refuse_to_be_minimized_over
from ddn.node_functions import NodeFunctions, guard_parameters
from ddn.quadratic.agreement import agrees
from ddn.registry import identify
from ddn.riemannian import RiemannianGradient
from ddn.signature import Signature
from ddn.solution import Solution, SolvedProblem
from ddn.solvers.automatic import AutomaticQuadratic
from ddn.solvers.base import GivenPoint, NodeSolve, Solver, require_solver
from ddn.solvers.interior_point import InteriorPoint
from ddn.solvers.levenberg_marquardt import LevenbergMarquardt
from ddn.solvers.newton import Newton
from ddn.solvers.pymanopt import Pymanopt
from ddn.solvers.warm_start import Previous, warm_started
from ddn.verification import solve_verified

__all__ = ["DeclarativeNode"]


# Parts of a problem that go unnoticed if they are misspelt.
_PARTS = ("equality", "inequality", "bounds", "starting_point", "vjp", "residual")


class DeclarativeNode(nn.Module):
    """A layer whose output is the solution of an optimization problem,

        y(x) ∈ argmin_u f(x, u)   subject to   h(x, u) = 0,  g(x, u) ≤ 0,  l(x) ≤ u ≤ b(x),

    and whose gradient comes from the optimality conditions at the solution (Gould, Hartley and Campbell
    2021). A subclass states the problem; solver and gradient are separate objects.

    A subclass sets ``signature`` and defines ``objective`` or ``residual``; the rest is optional. Functions
    of the problem see ONE problem, without batch dimensions; the library maps them over the batch.
    ``solve`` and ``vjp`` are batched.

    * ``signature``: core dimensions of the inputs and of the solution blocks in NumPy's gufunc notation,
      ``"(m,n),(m)->(n)"``.
    * ``objective(*inputs, *blocks)``: f, a scalar.
    * ``residual(*inputs, *blocks)``: r, any tensor or a tuple of tensors, in place of ``objective``, which
      then is f = ½ ‖r‖²: solvers for least squares know what to make of it.
    * ``equality(*inputs, *blocks)``: h, any tensor, zero at a feasible point; mark symmetric matrices by
      :func:`ddn.symmetric`; a tuple joins several constraints.
    * ``inequality(*inputs, *blocks)``: g, like ``equality``, at most zero at a feasible point.
    * ``bounds(*inputs)``: a pair (l, b) of lower and upper bounds, each None or something that broadcasts
      to the solution block (with several blocks, a tuple with one entry per block); ±∞ is no bound.
    * ``starting_point(*inputs)``: where the solver starts.
    * ``quadratic_program(*inputs)``: the same problem as matrices, a :class:`ddn.QuadraticData`, if it is a
      quadratic program; batched like ``solve``, without its batch dimensions expanded. Solvers for quadratic
      programs use it, and derivatives need no automatic differentiation of the objective. That it
      agrees with the other functions is checked on the first call.
    * ``solve(*inputs)``: ``(*batch, *core)`` each, all inputs with the whole batch shape; returns the
      solution block, or a tuple of them. Runs without gradient.
    * ``vjp(inputs, y, grad_y)``: closed form of the derivative, v ↦ (∂y/∂x)ᵀ v, in differentiable torch
      operations, shapes as for ``solve``; returns one gradient (or None) per input.
    * ``iteration(*inputs, *blocks)``: one step of a fixed-point method for ONE problem, which the
      solution does not move; differentiated by :class:`ddn.UnrolledGradient`.
    * ``solve_and_save(*inputs)``: like ``solve``, but returns ``(y, saved)`` with a tuple of tensors
      (a factorization, say), ``(*batch, ...)`` each, that ``vjp`` receives as further arguments. They are
      constants in the derivative: ``vjp`` must be right without them, too.

    Parameters and buffers of the module (and of submodules) may be used in the problem; parameters get
    gradients like inputs. Anything else that requires grad must be an input; that the problem uses no such
    tensor is checked on every call, for a node with ``vjp`` on its first.

    Args:
        solver: finds the solution; None means ``solve`` if the node has it, else
            :class:`ddn.solvers.AutomaticQuadratic` with ``quadratic_program``,
            :class:`ddn.solvers.LevenbergMarquardt` with ``residual`` and no constraints but bounds,
            :class:`ddn.solvers.InteriorPoint` with inequalities or bounds, else
            :class:`ddn.solvers.Newton`.
        gradient: how to differentiate, an object such as :class:`ddn.ImplicitGradient`,
            :class:`ddn.OneStepGradient` or :class:`ddn.UnrolledGradient`; None means ``vjp`` if the node
            has it, else the first.
        on_failure: what to do for problems that fail, in the solve or in the gradient: ``"raise"`` an
            error that lists them, ``"warn"``, or ``"nan"`` in exactly these problems.

    Example:
        >>> class MinKL(ddn.DeclarativeNode):
        ...     signature = "(n)->(n)"
        ...
        ...     def objective(self, x, y):
        ...         return torch.special.xlogy(y, y / x).sum()
        ...
        ...     def equality(self, x, y):
        ...         return y.sum().unsqueeze(0) - 1
        >>> MinKL()(torch.tensor([1.0, 3.0]))
        tensor([0.2500, 0.7500])
    """

    signature: str
    dimensions: Mapping[str, int] = {}
    """Sizes of dimensions that no input has, by name."""

    objective: Callable[..., Tensor]
    residual: ClassVar[Callable[..., Any] | None] = None
    equality: ClassVar[Callable[..., Any] | None] = None
    inequality: ClassVar[Callable[..., Any] | None] = None
    bounds: ClassVar[Callable[..., Any] | None] = None
    starting_point: ClassVar[Callable[..., Any] | None] = None
    iteration: ClassVar[Callable[..., Any] | None] = None
    quadratic_program: ClassVar[Callable[..., Any] | None] = None
    solve: ClassVar[Callable[..., Any] | None] = None
    solve_and_save: ClassVar[Callable[..., Any] | None] = None
    vjp: ClassVar[Callable[..., Any] | None] = None

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Warn of methods that look like a misspelt part of the problem, which would go unnoticed."""
        super().__init_subclass__(**keywords)
        for name, value in vars(cls).items():
            if name.startswith("_") or not callable(value) or hasattr(DeclarativeNode, name):
                continue
            close = difflib.get_close_matches(name, _PARTS, n=1, cutoff=0.75)
            if name in ("constraint", "constraints"):
                close = ["equality` or `inequality"]
            if close and getattr(cls, close[0], None) is None:
                warnings.warn(
                    f"{cls.__name__}.{name} is no part of a problem, and will not be used as one: is "
                    f"`{close[0]}` meant? (Another name for it avoids this warning.)",
                    stacklevel=2,
                )

    def __init__(
        self,
        *,
        solver: Solver | None = None,
        gradient: Gradient | None = None,
        on_failure: str = "raise",
    ) -> None:
        super().__init__()
        if on_failure not in POLICIES:
            raise ValueError(f"on_failure is one of {POLICIES}, but was given {on_failure!r}.")
        require_solver(solver)
        require_gradient(gradient)
        self.solver = solver
        self.gradient = gradient
        self.on_failure = on_failure
        self._looked_through = False
        self._inner_looked_through = False
        self._identity = identify(self)

    def __setattr__(self, name: str, value: Any) -> None:
        break_graph_at_change(self, name)
        super().__setattr__(name, value)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._identity = identify(self)  # a copy is another node

    @property
    def has_equality(self) -> bool:
        """Whether the node states equality constraints."""
        return self.equality is not None

    @property
    def uses_closed_form(self) -> bool:
        """Whether the derivative is the node's own ``vjp``."""
        return self.vjp is not None and self.gradient is None

    def forward(
        self, *inputs: Tensor, warm_start: Previous | None = None, **keywords: Tensor
    ) -> Any:
        """Solve the batch of problems.

        Args:
            *inputs: ``(*batch, *core)`` each; batch dimensions broadcast.
            warm_start: where the solver starts, a :class:`ddn.Solution` of similar problems (or solution
                blocks alone); None means a cold start. The result is the same, but for rounding, and but for
                problems with several solutions. A node's own ``solve`` has no use for it.
            **keywords: none; inputs have no names.

        Returns:
            ``(*batch, *core)``, or a tuple with one tensor per solution block.

        Raises:
            ShapeError: an input does not fit its term of the signature.
            DtypeError: an input is not a real floating-point tensor, or dtypes or devices differ.
            SolveError: problems were not solved (with ``on_failure="raise"``).
            UndeclaredTensorError: the problem uses a tensor that requires grad but is not declared.
        """
        if keywords:
            raise TypeError(
                f"{type(self).__name__} takes its inputs in the order of the signature, without keywords, "
                f"but was given {', '.join(keywords)}."
            )
        if is_traced() and warm_start is None:
            return solve_in_graph(self, cast("tuple[Tensor, ...]", self.bind(*inputs)))
        return self._solve_outside(warm_start, *inputs)

    @eager
    def _solve_outside(self, warm_start: Previous | None, *inputs: Tensor) -> Any:
        bound = self.bind(*inputs)
        if bound.is_empty:
            return bound.present(bound.empty_solution())
        solver = self._started_solver(warm_start)
        if self.uses_closed_form:
            return bound.present(self._closed_form(bound, solver))
        return bound.present(bound.problem.split(self._solve(bound, solver).y))

    @eager
    def solution(self, *inputs: Tensor, warm_start: Previous | None = None) -> Solution:
        """Solve the batch and return multipliers and diagnostics, too.

        The multipliers are differentiable like y. Always uses the generic gradient, whether the node
        has a ``vjp`` or not.

        Args:
            *inputs: as for ``node(*inputs)``.
            warm_start: likewise.
        """
        bound = self.bind(*inputs)
        if bound.is_empty:
            raise SignatureError(
                f"{type(self).__name__}.solution needs at least one problem, but the batch is empty."
            )
        return bound.present_solution(self._solve(bound, self._started_solver(warm_start)))

    @eager
    def certificate(self, *inputs: Tensor, y: Any = None) -> Certificate:
        """Measure whether the gradient can be trusted, problem by problem; raises for none of them.

        Args:
            *inputs: as for ``node(*inputs)``.
            y: certify this point, ``(*batch, *core)`` or a tuple of blocks, in place of the node's own
                solution.
        """
        bound = self.bind(*inputs)
        if bound.is_empty:
            raise SignatureError(
                f"{type(self).__name__}.certificate needs at least one problem, but the batch is empty."
            )
        if isinstance(self._default_gradient(), RiemannianGradient):
            raise SignatureError(
                f"{type(self).__name__}.certificate measures optimality conditions of stated constraints, "
                "and this node is differentiated on a manifold without: see `status` and `stationarity` of "
                "`solution`, or state the manifold by `equality` and use gradient=ddn.ImplicitGradient()."
            )
        problem, operands = bound.problem, [operand.detach() for operand in bound.operands]
        require_feasible_size(problem)
        solver = self._default_solver() if y is None else GivenPoint(y)
        linear_solver = getattr(self.gradient, "linear_solver", None) or Automatic()
        return certify(problem, solve_verified(problem, solver, operands), operands, linear_solver)

    def bind(self, *inputs: Tensor) -> Bound:
        """Check inputs against the signature: the problem and its operands, ready to be solved."""
        if is_traced():
            return cast("Bound", inputs)  # checked by the operator, see ddn.compiled
        return bind(self, self._signature(), inputs)

    def extra_repr(self) -> str:
        """The signature and the options that differ from the defaults."""
        parts = [f"signature={str(self._signature())!r}"]
        parts += [f"solver={self.solver}"] if self.solver is not None else []
        parts += [f"gradient={self.gradient}"] if self.gradient is not None else []
        parts += [f"on_failure={self.on_failure!r}"] if self.on_failure != "raise" else []
        return ", ".join(parts)

    def _signature(self) -> Signature:
        text = getattr(self, "signature", None)
        has_objective = callable(getattr(self, "objective", None))
        if text is None or not (has_objective or self.residual is not None):
            raise SignatureError(
                f"{type(self).__name__} must set `signature` and define `objective` (or `residual`)."
            )
        if has_objective and self.residual is not None:
            raise SignatureError(
                f"{type(self).__name__} defines both `objective` and `residual`, whose objective is ½‖r‖²: "
                "leave one of them out."
            )
        return Signature.parse(text)

    def _default_solver(self) -> Solver:
        if self.solver is not None:
            return self.solver
        has_own = self.solve is not None or self.solve_and_save is not None
        if has_own:
            return NodeSolve()
        if self.quadratic_program is not None:
            return AutomaticQuadratic()
        if self.inequality is not None or (self.bounds is not None and self.residual is None):
            return InteriorPoint()
        if self.residual is not None and self.equality is None:
            return LevenbergMarquardt()
        return InteriorPoint() if self.bounds is not None else Newton()

    def _default_gradient(self) -> Gradient:
        if self.gradient is not None:
            return self.gradient
        if self.equality is None and isinstance(self.solver, Pymanopt):
            return RiemannianGradient(self.solver.manifold)
        return ImplicitGradient()

    def _started_solver(self, warm_start: Previous | None) -> Solver:
        solver = self._default_solver()
        if warm_start is None or isinstance(solver, NodeSolve):
            return solver
        return warm_started(solver, warm_start)

    def _solve(self, bound: Bound, solver: Solver) -> SolvedProblem:
        refuse_to_be_minimized_over(self, bound.operands)
        guard_inner_gradients(bound.problem, bound.operands)
        if bound.problem.is_quadratic:
            self._look_through_once(bound)
        elif is_differentiated():
            guard_undeclared(bound.problem, bound.operands)
        gradient = self._default_gradient()
        return gradient.solve(bound.problem, solver, bound.operands, self.on_failure)

    def _look_through_once(self, bound: Bound) -> None:
        """Matrices are worth their speed: they are compared with the functions once, not on every call."""
        if not self._looked_through:
            guard_undeclared(bound.problem, bound.operands)
            self._looked_through = agrees(bound.problem, bound.operands)

    def _closed_form(self, bound: Bound, solver: Solver) -> tuple[Tensor, ...]:
        guard_parameters(bound.problem, bound.operands)
        # A closed form is worth its speed: it is looked through once, not on every call.
        if not self._looked_through and is_differentiated():
            guard_undeclared(bound.problem, bound.operands)
            self._looked_through = True
        functions = NodeFunctions(bound.problem, solver)
        outputs: tuple[Tensor, ...] = ClosedForm.apply(functions, *bound.operands)
        return outputs[: functions.num_blocks]
