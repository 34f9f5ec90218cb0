"""Whether a CVXPY problem can be a node, and if not, why and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ddn.conic.canonical import import_cvxpy
from ddn.errors import DeclarativeNodeError

__all__ = ["require_problem", "require_solver"]


def require_problem(problem: Any, parameters: Sequence[Any], variables: Sequence[Any]) -> None:
    """Raise if the problem, with these parameters and variables, cannot be a node."""
    cvxpy = import_cvxpy()
    if not isinstance(problem, cvxpy.Problem):
        raise TypeError(
            f"CvxpyNode: `problem` must be a cvxpy.Problem, but is {type(problem).__name__}."
        )
    for title, listed, owned in (
        ("parameter", parameters, problem.parameters()),
        ("variable", variables, problem.variables()),
    ):
        identifiers = [getattr(item, "id", None) for item in listed]
        known = {item.id for item in owned}
        for position, identifier in enumerate(identifiers):
            if identifier not in known:
                raise DeclarativeNodeError(
                    f"CvxpyNode: entry {position} of `{title}s`, {listed[position]}, is not a {title} of the "
                    f"problem, which has {_names(owned)}."
                )
        if len(set(identifiers)) < len(identifiers):
            raise DeclarativeNodeError(f"CvxpyNode: a {title} is listed twice in `{title}s`.")
        if not listed:
            raise DeclarativeNodeError(f"CvxpyNode: `{title}s` is empty: list at least one.")
    missing = [p for p in problem.parameters() if p.id not in {q.id for q in parameters}]
    if missing:
        raise DeclarativeNodeError(
            f"CvxpyNode: the problem depends on {_names(missing)}, missing in `parameters`: list every "
            "parameter, or replace it by a constant."
        )
    if problem.is_mixed_integer():
        raise DeclarativeNodeError(
            "CvxpyNode: the problem has boolean or integer variables, whose solution does not move "
            "continuously with the parameters. Relax them to intervals."
        )
    if any(leaf.is_complex() for leaf in (*problem.parameters(), *problem.variables())):
        raise DeclarativeNodeError(
            "CvxpyNode: the problem has complex variables or parameters. State it with real and imaginary "
            "parts."
        )
    _check_disciplined(problem)


def _check_disciplined(problem: Any) -> None:
    if not problem.is_dcp():
        raise DeclarativeNodeError(
            "CvxpyNode: the problem is not convex by CVXPY's rules (DCP): problem.is_dcp() is False. See "
            "https://www.cvxpy.org/tutorial/dcp/. A smooth problem that is not convex can be a "
            "ddn.DeclarativeNode."
        )
    # Quadratic forms with a parameter as matrix are affine data of a quadratic objective.
    if not problem.is_dpp("dcp", quad_form_dpp="qp"):
        raise DeclarativeNodeError(
            "CvxpyNode: the problem is not parametrized by CVXPY's rules (DPP): problem.is_dpp() is "
            "False. Products of parameters, and nonlinear functions of them, are not allowed: make the "
            "product or the function a parameter of its own and compute it in torch, before the node. See "
            "https://www.cvxpy.org/tutorial/dpp/."
        )


def _names(leaves: Sequence[Any]) -> str:
    return ", ".join(f"{leaf.name()} {leaf.shape}" for leaf in leaves) or "none"


def require_solver(solver: Any) -> None:
    """Raise if this is not a solver of cone programs."""
    if not callable(getattr(solver, "solve", None)) or isinstance(solver, type):
        raise TypeError(
            f"CvxpyNode: `solver` must be a solver of cone programs such as ddn.conic.Clarabel(), or "
            f'ddn.conic.AnySolver("SCS") for a solver that CVXPY knows, but is {solver!r}.'
        )
