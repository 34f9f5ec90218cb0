"""The layers between a backbone and a frame in as many dimensions as there are classes."""

from __future__ import annotations

from torch import Tensor, nn

from ddn.errors import ShapeError
from ddn_etf.validation import check_count, check_floating

__all__ = ["FeatureTransform", "ResidualBlock"]


class ResidualBlock(nn.Module):
    """x + f(x) with f = linear, batch normalisation, PReLU, linear, batch normalisation, PReLU.

    Shapes: (N, d) to (N, d). In training mode N >= 2, as batch normalisation needs.

    Args:
        dim: d >= 1.

    Raises:
        TypeError: not an integer.
        ValueError: below 1.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        check_count("dim", dim, 1)
        # The normalisation has a bias of its own.
        self.layers = nn.Sequential(
            nn.Linear(dim, dim, bias=False),
            nn.BatchNorm1d(dim),
            nn.PReLU(),
            nn.Linear(dim, dim, bias=False),
            nn.BatchNorm1d(dim),
            nn.PReLU(),
        )

    def forward(self, features: Tensor) -> Tensor:
        """x + f(x), (N, d)."""
        transformed: Tensor = self.layers(features)
        return features + transformed


class FeatureTransform(nn.Module):
    """1×1 convolution d → K, average over the positions, batch normalisation, two residual blocks.

    It maps feature maps (N, d, height, width), or features (N, d) that are averaged already, to
    (N, K): the space of a hierarchy-aware frame, and one without the sign constraint of a backbone
    that ends in a ReLU. Averaging and a 1×1 convolution commute, so for features (N, d) the first
    step is a linear layer with the same weights, and

        transform(maps) = transform(maps.mean(dim=(2, 3))) .

    Liang and Davis (2023).

    Args:
        in_dim: d, channels of the backbone.
        out_dim: K, or whatever dimension the frame lives in.
        blocks: number of residual blocks; 2 in the source.

    Raises:
        TypeError: a size is not an integer.
        ValueError: a dimension below 1, or a negative number of blocks.
        ShapeError: when called, other than (N, d) or (N, d, height, width).
        DtypeError: when called, not floating point.
    """

    def __init__(self, in_dim: int, out_dim: int, *, blocks: int = 2) -> None:
        super().__init__()
        check_count("in_dim", in_dim, 1)
        check_count("out_dim", out_dim, 1)
        check_count("blocks", blocks, 0)
        self.in_dim, self.out_dim = in_dim, out_dim
        self.projection = nn.Linear(in_dim, out_dim, bias=False)
        self.normalization = nn.BatchNorm1d(out_dim)
        self.blocks = nn.Sequential(*(ResidualBlock(out_dim) for _ in range(blocks)))

    def forward(self, features: Tensor) -> Tensor:
        """(N, K) from (N, d) or (N, d, height, width)."""
        check_floating("features", features)
        if features.ndim not in {2, 4} or features.shape[1] != self.in_dim:
            raise ShapeError(
                f"features must have shape (N, {self.in_dim}) or (N, {self.in_dim}, height, "
                f"width), found {tuple(features.shape)}"
            )
        if features.ndim == 4:
            features = features.mean(dim=(2, 3))
        transformed: Tensor = self.blocks(self.normalization(self.projection(features)))
        return transformed
