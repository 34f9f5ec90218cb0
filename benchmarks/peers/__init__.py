"""Other libraries of differentiable optimization, each in a process of its own.

A file ``with_NAME.py`` says how its library states each kind of problem of :mod:`benchmarks.peers.cases`,
in ``CANDIDATES``, and which releases were measured, in ``VERSIONS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from benchmarks.peers.cases import Case

__all__ = ["Candidate", "Layer"]

Layer = Callable[..., Tensor]


@dataclass(frozen=True)
class Candidate:
    """One way to use a library.

    Attributes:
        layers: what builds the layer of a case, by kind of problem.
        threads: of torch, if not those of the benchmark.
    """

    layers: Mapping[str, Callable[[Case], Layer]]
    threads: int | None = None
