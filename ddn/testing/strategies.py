"""Hypothesis strategies from a node's signature."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ddn.errors import MissingDependencyError
from ddn.node import DeclarativeNode
from ddn.signature import Signature

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["inputs"]


def inputs(
    node: DeclarativeNode,
    *,
    sizes: Mapping[str, int | tuple[int, int]] | None = None,
    where: Callable[[Mapping[str, int]], bool] | None = None,
    transforms: Mapping[int, Callable[[Tensor], Tensor]] | None = None,
    max_size: int = 4,
    max_batch: int = 3,
    dtype: torch.dtype = torch.float64,
) -> SearchStrategy[tuple[Tensor, ...]]:
    """Inputs for ``node``, of random sizes, batch shapes, scales and memory layouts.

    Values are standard normal times a scale between 0.1 and 10. Batch shapes have at most two dimensions;
    an input may have all of them, some with size 1, or none.

    Args:
        node: whose signature is followed.
        sizes: of named dimensions: a number, or an inclusive range.
        where: keeps only sizes for which it is true, ``lambda sizes: sizes["m"] >= sizes["n"]``.
        transforms: by position of the input, maps its values into the problem's domain,
            ``{0: torch.exp}``.
        max_size: largest size of a dimension without an entry in ``sizes``.
        max_batch: largest size of a batch dimension.
        dtype: of all inputs.

    Returns:
        A strategy of tuples, to be used as ``@given(ddn.testing.inputs(node))`` or ``.example()``.

    Raises:
        MissingDependencyError: without hypothesis.
    """
    try:
        from hypothesis import strategies as st
    except ImportError as error:
        raise MissingDependencyError("hypothesis", "testing", "ddn.testing.inputs") from error

    signature = Signature.parse(node.signature)
    ranges = {name: _range(size) for name, size in {**node.dimensions, **(sizes or {})}.items()}
    names = sorted({d for term in signature.inputs for d in term if isinstance(d, str)})
    draw_sizes = st.fixed_dictionaries(
        {name: st.integers(*ranges.get(name, (1, max_size))) for name in names}
    )
    if where is not None:
        draw_sizes = draw_sizes.filter(where)
    maps = dict(transforms or {})

    @st.composite
    def strategy(draw: Any) -> tuple[Tensor, ...]:
        known = draw(draw_sizes)
        batch = draw(st.lists(st.integers(1, max_batch), max_size=2))
        generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
        result = []
        for position, term in enumerate(signature.inputs):
            core = [d if isinstance(d, int) else known[d] for d in term]
            kept = batch[draw(st.integers(0, len(batch))) :]
            own = [1 if draw(st.booleans()) and position > 0 else size for size in kept]
            scale = draw(st.sampled_from([0.1, 1.0, 10.0]))
            value = scale * torch.randn(*own, *core, generator=generator, dtype=torch.float64)
            value = maps.get(position, _identity)(value).to(dtype)
            result.append(_strided(value) if draw(st.booleans()) else value)
        return tuple(result)

    return strategy()


def _range(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _identity(value: Tensor) -> Tensor:
    return value


def _strided(value: Tensor) -> Tensor:
    return torch.stack([value, value], -1)[..., 1]
