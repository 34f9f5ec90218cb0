"""The contract that every node keeps, as one function."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from ddn.node import DeclarativeNode
from ddn.testing import derivatives, mapping, optimality
from ddn.testing.report import CheckFailure, CheckReport, CheckResult
from ddn.testing.subject import Subject

__all__ = ["check_node"]

Check = Callable[[Subject], str]

_CHECKS: dict[str, Check] = {
    "solution is stationary and feasible": optimality.check_stationarity,
    "solution is a local minimum": optimality.check_curvature,
    "certificate: the gradient can be trusted": optimality.check_certificate,
    "no other solver finds a better one": optimality.check_against_solver,
    "gradient (finite differences, reverse and forward mode)": derivatives.check_first_order,
    "second derivatives (finite differences, all modes)": derivatives.check_second_order,
    "gradient of the multipliers (finite differences)": derivatives.check_multipliers,
    "closed-form vjp agrees with the engine": derivatives.check_against_engine,
    "batch agrees with single problems": mapping.check_batch,
    "vmap agrees with a loop": mapping.check_vmap,
    "gradient of a shared input is the sum over the batch": mapping.check_shared_inputs,
    "non-contiguous inputs": mapping.check_noncontiguous,
    "empty batch": mapping.check_empty_batch,
}


def check_node(
    node: DeclarativeNode, *inputs: Tensor, skip: Sequence[str] = (), raises: bool = True
) -> CheckReport:
    """Check that a node keeps its contract at the given inputs.

    The checks run in float64 on a copy of the node: optimality of the solution (first and second order,
    and against another solver); its certificate; gradients with respect to inputs and parameters against
    finite differences, in reverse and forward mode, to second order, and those of the multipliers to first
    order; a closed-form ``vjp`` against the generic engine; batches, ``vmap``, shared inputs,
    non-contiguous inputs and empty batches.

    Args:
        node: any node whose problem is small enough for finite differences.
        *inputs: as for ``node(*inputs)``, at a point where the solution is unique. If some of them
            require grad, only these are differentiated; else all are.
        skip: names of checks to leave out, as they stand in the report.
        raises: raise if a check fails; else only report.

    Returns:
        A report with the largest error of each check.

    Raises:
        CheckFailure: an AssertionError that lists every check, if one failed.
        ValueError: if ``skip`` names a check that does not exist.
        TypeError: without a node or without inputs.
    """
    if not isinstance(node, DeclarativeNode) or not inputs:
        raise TypeError(
            "check_node takes a node (an instance) and inputs for it, check_node(MyNode(), x), but was given "
            f"{node!r} and {len(inputs)} input(s)."
        )
    unknown = set(skip) - set(_CHECKS)
    if unknown:
        raise ValueError(f"No such check: {sorted(unknown)}. The checks are {list(_CHECKS)}.")
    subject = Subject.make(copy.deepcopy(node).double(), inputs)
    report = CheckReport(type(node).__name__, tuple(_run(subject, skip)))
    if raises and not report.passed:
        raise CheckFailure(report)
    return report


def _run(subject: Subject, skip: Sequence[str]) -> Iterator[CheckResult]:
    for name, check in _CHECKS.items():
        if name in skip:
            continue
        try:
            yield CheckResult(name, True, check(subject))
        except Exception as error:
            text = str(error).strip() or type(error).__name__
            yield CheckResult(
                name,
                False,
                text if isinstance(error, AssertionError) else f"{type(error).__name__}: {text}",
            )
