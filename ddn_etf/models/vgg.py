"""VGG networks: 3 x 3 convolutions and max-pooling, nothing else.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition" (2015),
with batch normalisation, and without the two hidden linear layers of the original, as is usual for
small images. Plain PyTorch; the parameters of ``features`` have the names of torchvision's.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ddn_etf.validation import check_count

__all__ = ["VGG", "vgg11", "vgg13", "vgg16", "vgg19"]

_WIDTHS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """Five groups of convolutions, each halving the image, and the mean over what is left.

    Args:
        depths: convolutions of each of the five groups.
        feature_dim: d; the last convolution has that many outputs, 512 if not given.
        channels: of the input.

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number is below 1, or there are not five depths.
    """

    def __init__(
        self, depths: Sequence[int], *, feature_dim: int | None = None, channels: int = 3
    ) -> None:
        super().__init__()
        self.feature_dim = _WIDTHS[-1] if feature_dim is None else feature_dim
        check_count("feature_dim", self.feature_dim, 1)
        check_count("channels", channels, 1)
        if len(depths) != 5:
            raise ValueError(f"depths must be five numbers, one per group, found {depths}")
        layers: list[nn.Module] = []
        inputs = channels
        for group, (width, depth) in enumerate(zip(_WIDTHS, depths, strict=True)):
            check_count(f"depths[{group}]", depth, 1)
            for number in range(depth):
                is_last = group == len(_WIDTHS) - 1 and number == depth - 1
                outputs = self.feature_dim if is_last else width
                convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
                nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(convolution.bias)  # type: ignore[arg-type] # there is a bias
                layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
                inputs = outputs
            # An image that is 1 pixel high or wide by now stays so.
            layers.append(nn.MaxPool2d(2, stride=2, ceil_mode=True))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)

    def forward(self, images: Tensor) -> Tensor:
        """(N, channels, H, W) to (N, feature_dim), never negative."""
        features: Tensor = self.avgpool(self.features(images)).flatten(1)
        return features


def vgg11(feature_dim: int | None = None, *, channels: int = 3) -> VGG:
    """The VGG with 8 convolutions."""
    return VGG((1, 1, 2, 2, 2), feature_dim=feature_dim, channels=channels)


def vgg13(feature_dim: int | None = None, *, channels: int = 3) -> VGG:
    """The VGG with 10 convolutions."""
    return VGG((2, 2, 2, 2, 2), feature_dim=feature_dim, channels=channels)


def vgg16(feature_dim: int | None = None, *, channels: int = 3) -> VGG:
    """The VGG with 13 convolutions."""
    return VGG((2, 2, 3, 3, 3), feature_dim=feature_dim, channels=channels)


def vgg19(feature_dim: int | None = None, *, channels: int = 3) -> VGG:
    """The VGG with 16 convolutions."""
    return VGG((2, 2, 4, 4, 4), feature_dim=feature_dim, channels=channels)
