"""Are the derivatives of a node right?"""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from ddn.gradient import ImplicitGradient, UnconstrainedGradient
from ddn.testing.subject import Subject, assert_close, generic_loss
from ddn.unrolled import OneStepGradient, UnrolledGradient

__all__ = [
    "check_against_engine",
    "check_first_order",
    "check_multipliers",
    "check_second_order",
]

# Above this many numbers, finite differences along random directions take the place of full Jacobians.
_FULL_JACOBIAN = 300


def check_first_order(subject: Subject) -> str:
    """Reverse and forward mode against finite differences."""
    function, variables = subject.variables()
    fast = _is_large(variables)
    gradcheck(
        function,
        variables,
        atol=1e-5,
        rtol=1e-4,
        check_forward_ad=True,
        fast_mode=fast,
        nondet_tol=1e-10,
    )
    return f"{_count(variables)} numbers, relative tolerance 1e-4"


def check_second_order(subject: Subject) -> str:
    """Reverse over reverse and forward over reverse against finite differences."""
    function, variables = subject.variables()
    gradgradcheck(
        function,
        variables,
        atol=1e-4,
        rtol=1e-3,
        check_fwd_over_rev=True,
        check_rev_over_rev=True,
        fast_mode=True,
        nondet_tol=1e-10,
    )
    return f"{_count(variables)} numbers along random directions, relative tolerance 1e-3"


def check_multipliers(subject: Subject) -> str:
    """The derivatives of the multipliers against finite differences."""
    problem = subject.node.bind(*subject.inputs).problem
    if not problem.is_constrained:
        return "the node has no constraints"
    if isinstance(
        subject.node.gradient, UnrolledGradient | OneStepGradient | UnconstrainedGradient
    ):
        return "the gradient of the node is an approximation"
    function, variables = subject.variables(of_multipliers=True)
    gradcheck(
        function,
        variables,
        atol=1e-5,
        rtol=1e-4,
        check_forward_ad=True,
        fast_mode=True,
        nondet_tol=1e-10,
    )
    return f"{_count(variables)} numbers along random directions, relative tolerance 1e-4"


def check_against_engine(subject: Subject) -> str:
    """The node's own derivative against the one from its optimality conditions."""
    if not subject.node.uses_closed_form:
        return "the node has no vjp of its own"
    engine = copy.deepcopy(subject.node)
    engine.gradient = ImplicitGradient()
    other = Subject(engine, subject.inputs, subject.core_ranks, subject.differentiated)
    error = assert_close(_gradients(subject), _gradients(other), "vjp against the engine", 1e-7)
    return f"relative difference {error:.1e}"


def _gradients(subject: Subject) -> tuple[Tensor, ...]:
    function, variables = subject.variables()
    loss = generic_loss(function(*variables), subject.core_shapes())
    return tuple(torch.autograd.grad(loss, variables, materialize_grads=True))


def _is_large(variables: tuple[Tensor, ...]) -> bool:
    return _count(variables) > _FULL_JACOBIAN


def _count(variables: tuple[Tensor, ...]) -> int:
    return sum(variable.numel() for variable in variables)
