"""The step from images or points to rows of numbers, which knows how many it needs."""

from __future__ import annotations

from torch import Tensor, nn

from ddn.errors import ShapeError

__all__ = ["FlattenTo"]


class FlattenTo(nn.Flatten):
    """(N, ...) to (N, n), for one n alone.

    Args:
        numbers: n.

    Raises:
        ShapeError: when called, other inputs.
    """

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.numbers = numbers

    def forward(self, inputs: Tensor) -> Tensor:
        """(N, n)."""
        if inputs.ndim < 2 or inputs.shape[1:].numel() != self.numbers:
            raise ShapeError(
                f"the linear layer after this step was built for {self.numbers} numbers per sample, "
                f"and found {tuple(inputs.shape)}; build the network for the shape of its inputs"
            )
        return super().forward(inputs)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return str(self.numbers)
