"""Is what a node says about an example right, or does it say that it is not?"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from enum import StrEnum

import torch
from torch import Tensor

from ddn.errors import SolveError, SolveWarning
from ddn.solvers.base import as_blocks
from tests.ddn.testing.examples import Example
from tests.ddn.testing.units import Units

__all__ = ["Outcome", "judge"]

Function = Callable[..., tuple[Tensor, ...]]


class Outcome(StrEnum):
    """What came of an example that is in order."""

    RIGHT = "right"
    """A regular problem: everything agrees."""
    REFUSED = "refused"
    """Not regular: an error or a warning says so, and the certificate, too."""
    FLAGGED = "flagged"
    """Not regular: answered, rightly if the answer is known, and the certificate says so."""


def judge(example: Example, device: torch.device | None = None) -> Outcome:
    """Run one example.

    Raises:
        AssertionError: a number is wrong, a regular problem is refused or flagged, or one that is not
            regular passes without a word.
    """
    problem = example.problem
    with warnings.catch_warnings():
        warnings.simplefilter("error", SolveWarning)
        try:
            _check_numbers(example, device)
        except (SolveError, SolveWarning) as error:
            if problem.regular:
                raise AssertionError(f"a regular problem was refused: {error}") from error
            outcome = Outcome.REFUSED
        else:
            outcome = Outcome.RIGHT if problem.regular else Outcome.FLAGGED
    if example.certified or not problem.regular:
        _check_certificate(example, device)
    return outcome


def _check_certificate(example: Example, device: torch.device | None) -> None:
    problem = example.problem
    inputs = [x.to(device) for x in example.sample(example.generator())]
    certificate = example.node().to(device).certificate(*inputs)
    if problem.regular:
        assert bool(certificate.trustworthy.all()), f"false alarm\n{certificate}"
    else:
        for flag in ("trustworthy", *problem.flags):
            assert not bool(getattr(certificate, flag).any()), f"{flag} all the same\n{certificate}"


def _check_numbers(example: Example, device: torch.device | None) -> None:
    """y and its derivatives, in reverse and forward mode, against the known ones."""
    problem, generator = example.problem, example.generator()
    node = example.node().to(device)
    parameters = {name: value.detach() for name, value in node.named_parameters()}
    inputs = [x.to(device) for x in example.sample(generator)]
    values = [*inputs, *parameters.values()]
    moving = [i for i in range(len(values)) if i >= len(inputs) or example.differentiated[i]]

    def split(
        moved: tuple[Tensor, ...], dtype: torch.dtype
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        arguments = [value.to(dtype) for value in values]
        for i, value in zip(moving, moved, strict=True):
            arguments[i] = value
        state = dict(zip(parameters, arguments[len(inputs) :], strict=True))
        return arguments[: len(inputs)], state

    def found(*moved: Tensor) -> tuple[Tensor, ...]:
        arguments, state = split(moved, example.dtype)
        if state:
            return as_blocks(torch.func.functional_call(node, state, tuple(arguments)))
        return as_blocks(node(*arguments))

    def known(*moved: Tensor) -> tuple[Tensor, ...]:
        arguments, state = split(moved, torch.float64)
        return problem.blocks(*arguments, **state)

    points = [values[i] for i in moving]
    if problem.solution is None:
        _ask_for_gradient(found, points)
        return
    exact = [point.detach().double().requires_grad_() for point in points]
    known_y = known(*exact)
    units = Units.of(problem, node, inputs, points, known_y, example.batch)
    if problem.differentiable:
        _compare_derivatives(example, found, known, points, exact, known_y, units, generator)
    else:
        units.compare_solutions(found(*points), known_y)


def _ask_for_gradient(found: Function, points: list[Tensor]) -> None:
    """Without a known answer nothing can be compared, but the gradient can be refused."""
    leaves = [point.detach().requires_grad_() for point in points]
    total = sum(block.sum() for block in found(*leaves))
    torch.autograd.grad(total, leaves, materialize_grads=True)


def _compare_derivatives(
    example: Example,
    found: Function,
    known: Function,
    points: list[Tensor],
    exact: list[Tensor],
    known_y: tuple[Tensor, ...],
    units: Units,
    generator: torch.Generator,
) -> None:
    cotangents = [units.noise(block, generator) for block in known_y]
    directions = units.directions(generator)
    known_first = _gradients(example, known_y, exact, cotangents)
    known_tangents = _tangents(known, exact, directions)[1]

    leaves = [point.detach().requires_grad_() for point in points]
    if example.joint:
        # Forward mode inside of reverse mode: one solve for both.
        y, tangents = _tangents(found, leaves, directions)
    else:
        y, tangents = found(*leaves), _tangents(found, points, directions)[1]
    first = _gradients(example, y, leaves, cotangents)

    units.compare_solutions(y, known_y)
    units.compare_gradients(first, known_first, cotangents, "reverse mode")
    units.compare_tangents(tangents, known_tangents)
    if example.second_order:
        second = _second_order(first, directions, leaves)
        known_second = _second_order(known_first, directions, exact)
        units.compare_gradients(second, known_second, cotangents, "second order")


def _tangents(
    function: Function, at: Sequence[Tensor], directions: Sequence[Tensor]
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    tangents = [d.to(point.dtype) for d, point in zip(directions, at, strict=True)]
    result: tuple[tuple[Tensor, ...], tuple[Tensor, ...]] = torch.func.jvp(
        function, tuple(at), tuple(tangents)
    )
    return result


def _gradients(
    example: Example, y: Sequence[Tensor], leaves: Sequence[Tensor], cotangents: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    return torch.autograd.grad(
        y,
        leaves,
        [v.to(block.dtype) for v, block in zip(cotangents, y, strict=True)],
        create_graph=example.second_order,
        materialize_grads=True,
    )


def _second_order(
    first: Sequence[Tensor], directions: Sequence[Tensor], leaves: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Gradients of the gradients along ``directions``; zero where these are constant."""
    along = [
        (gradient * direction.to(gradient.dtype)).sum()
        for gradient, direction in zip(first, directions, strict=True)
        if gradient.requires_grad
    ]
    if not along:
        return tuple(map(torch.zeros_like, leaves))
    return torch.autograd.grad(sum(along), leaves, materialize_grads=True)
