"""The tolerances of the whole suite, named by what is compared, one set per dtype.

Each number bounds a relative error (and an absolute one where the expected number is near zero):
`torch.testing.assert_close(actual, expected, rtol=tolerance.gradient, atol=tolerance.gradient)`.
Tests take them from the fixture `tolerance`. They follow from the dtype and the kind of
computation, never from what a test happened to give.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

__all__ = ["TOLERANCES", "Tolerance"]


@dataclass(frozen=True)
class Tolerance:
    """How closely two routes to one number must agree."""

    #: Closed forms: identities and known answers, a few well-conditioned operations apart.
    value: float
    #: First derivatives by two exact routes, each with one linear solve.
    gradient: float
    #: Second derivatives by two exact routes, where the first solve is differentiated again.
    second_order: float
    #: A solution found by iteration against the known one.
    solver: float
    #: First derivatives against finite differences (the step error dominates).
    finite_difference: float
    #: Published or precomputed reference numbers, given in float64.
    reference: float


TOLERANCES = {
    torch.float64: Tolerance(
        value=1e-10,
        gradient=1e-8,
        second_order=1e-7,
        solver=1e-6,
        finite_difference=1e-5,
        reference=1e-9,
    ),
    torch.float32: Tolerance(
        value=1e-5,
        gradient=1e-4,
        second_order=1e-3,
        solver=1e-4,
        finite_difference=1e-2,
        reference=1e-5,
    ),
}
