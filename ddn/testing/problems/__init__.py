"""A zoo of small problems whose solution and derivative are known.

For anyone who tests a solver, a gradient or a linear solver: every :class:`KnownProblem` has a node, random
inputs of any size and scale, and the answer as a closed form in plain torch operations, whose own
derivative is the known one. Most are *regular*: the hypotheses of the implicit function theorem hold, and
answer and gradient must be right. The others each break one hypothesis, or have no solution at all, and
name the flags of :class:`ddn.Certificate` that must say so.

Example:
    >>> problem = by_name("simplex_projection")
    >>> inputs = problem.sample(torch.Generator().manual_seed(0), size=4, batch=(2,))
    >>> y = problem.node()(*inputs)
    >>> torch.testing.assert_close(y, problem.solution(*inputs))
"""

from ddn.testing.problems import (
    bounded,
    degenerate,
    equality,
    inequality,
    polyhedral,
    simplex,
    smooth,
    sphere,
    unsolvable,
)
from ddn.testing.problems.draw import Draw
from ddn.testing.problems.known import KnownAnswer, KnownProblem

__all__ = ["ZOO", "Draw", "KnownAnswer", "KnownProblem", "by_name"]

ZOO: tuple[KnownProblem, ...] = (
    *smooth.PROBLEMS,
    *equality.PROBLEMS,
    *sphere.PROBLEMS,
    *bounded.PROBLEMS,
    *simplex.PROBLEMS,
    *inequality.PROBLEMS,
    *polyhedral.PROBLEMS,
    *degenerate.PROBLEMS,
    *unsolvable.PROBLEMS,
)
"""All problems, the regular ones first."""


def by_name(name: str) -> KnownProblem:
    """The problem of that name.

    Raises:
        KeyError: if there is none.
    """
    found = {problem.name: problem for problem in ZOO}
    if name not in found:
        raise KeyError(f"{name!r} is no problem of the zoo. There are {', '.join(sorted(found))}.")
    return found[name]
