"""A learned classifier: the usual last layer, and the standard method for comparisons."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ddn_etf.heads.base import Head
from ddn_etf.schedules import Schedule

__all__ = ["LinearHead"]


class LinearHead(Head):
    """A learned weight and bias, as in ``torch.nn.Linear``.

    With ``unit_rows`` the rows of the weight are kept at unit length: whenever the head is called
    they are renormalised first, outside the graph, so that the weight is never used as an optimiser
    step has left it. This is the standard method that Markou, Ajanthan and Gould, "Guiding Neural
    Collapse" (2024), compare with. A row of zeros stays zero.

    Labels are ignored. See :class:`Head` for features that are zero, NaN or infinite. Without
    ``bias`` the bias is a buffer of zeros.

    Args:
        dim: d >= 1, number of features.
        num_classes: K >= 1.
        bias: learn a bias.
        temperature: τ > 0, the length of the normalised features, or None to leave them as they
            are; or a schedule of τ.
        unit_rows: keep the rows of the weight at unit length.

    Raises:
        TypeError: a size is not an integer.
        ValueError: a size is below 1, or the temperature is not a positive number.
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        *,
        bias: bool = True,
        temperature: float | Schedule | None = None,
        unit_rows: bool = False,
    ) -> None:
        super().__init__(dim, num_classes, temperature)
        self.unit_rows = unit_rows
        self.weight = nn.Parameter(torch.empty(num_classes, dim))
        if bias:
            self.bias = nn.Parameter(torch.empty(num_classes))
        else:
            self.register_buffer("bias", torch.zeros(num_classes))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias uniformly from ±1/√d, as ``torch.nn.Linear`` does."""
        bound = 1 / math.sqrt(self.dim)
        nn.init.uniform_(self.weight, -bound, bound)
        if isinstance(self.bias, nn.Parameter):
            nn.init.uniform_(self.bias, -bound, bound)
        if self.unit_rows:
            self._renormalise()

    def classifier(self, h: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Weight and bias, after renormalising the rows if asked to."""
        if self.unit_rows:
            self._renormalise()
        return self.weight, self.bias

    @torch.no_grad()
    def _renormalise(self) -> None:
        # Rows that already have unit length up to rounding stay bit for bit as they are. So nothing
        # changes between two calls without an optimiser step in between, and writing through
        # `.data`, which autograd does not notice, cannot corrupt the graph of the first call.
        norms = torch.linalg.vector_norm(
            self.weight,
            dim=1,
            keepdim=True,
            dtype=torch.promote_types(self.weight.dtype, torch.float32),
        )
        rounding = (8 + math.sqrt(self.dim)) * torch.finfo(self.weight.dtype).eps
        settled = ((norms - 1).abs() <= rounding) | (norms == 0)
        self.weight.data.copy_(self.weight / torch.where(settled, 1, norms))

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        learned = isinstance(self.bias, nn.Parameter)
        return f"{super().extra_repr()}, bias={learned}, unit_rows={self.unit_rows}"
