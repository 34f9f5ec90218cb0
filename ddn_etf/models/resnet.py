"""Residual networks for small and for large images, with any number of features.

He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition" (2016). Plain PyTorch, so that
they run without torchvision; names of the parameters are those of torchvision, whose weights for
large images load but for the last layer.
"""

from __future__ import annotations

from torch import Tensor, nn

from ddn_etf.validation import check_count

__all__ = ["BasicBlock", "Bottleneck", "ResNet", "resnet18", "resnet34", "resnet50"]


class BasicBlock(nn.Module):
    """y = relu(x' + f(x)), f two 3 x 3 convolutions, x' = x or its projection where shapes differ.

    Args:
        inputs: channels of x.
        width: channels between the convolutions.
        outputs: channels of y.
        stride: of the first convolution.
    """

    expansion = 1

    def __init__(self, inputs: int, width: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _convolution(width, outputs, 3, 1)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H/stride, W/stride)."""
        branch = self.relu(self.bn1(self.conv1(x)))
        y: Tensor = self.relu(self.downsample(x) + self.bn2(self.conv2(branch)))
        return y


class Bottleneck(nn.Module):
    """y = relu(x' + f(x)), f convolutions 1 x 1 to ``width``, 3 x 3, and 1 x 1 to ``outputs``.

    The stride is that of the 3 x 3 convolution, as torchvision has it.

    Args:
        inputs: channels of x.
        width: channels of the 3 x 3 convolution.
        outputs: channels of y.
        stride: of the 3 x 3 convolution.
    """

    expansion = 4

    def __init__(self, inputs: int, width: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, width, 1, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _convolution(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _convolution(width, outputs, 1, 1)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H/stride, W/stride)."""
        branch = self.relu(self.bn1(self.conv1(x)))
        branch = self.relu(self.bn2(self.conv2(branch)))
        y: Tensor = self.relu(self.downsample(x) + self.bn3(self.conv3(branch)))
        return y


class ResNet(nn.Module):
    """Stem, four groups of residual blocks, mean over the image: inputs to features, no last layer.

    Features are means of what a ReLU lets through, hence never negative.

    With ``feature_dim`` other than 512 (times 4 for bottlenecks) the last block alone is changed: its
    last convolution has that many outputs, and a projection takes the place of its identity. This is
    the architecture of Zhu et al., "A Geometric Analysis of Neural Collapse with Unconstrained
    Features" (2021), with feature_dim = K under a fixed simplex ETF: the ResNet-18 with
    10 classes goes from 11 173 962 to 8 859 762 trained parameters (10 of them the last bias), 20.71 %
    fewer.

    Args:
        block: :class:`BasicBlock` or :class:`Bottleneck`.
        depths: blocks of each of the four groups.
        feature_dim: d, number of features; that of the original network if not given.
        channels: of the input.
        small_images: a 3 x 3 stem without max-pooling, as is usual for images of 32 x 32 pixels, in
            place of 7 x 7 with stride 2 and max-pooling.

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number is below 1, or there are not four depths.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, int, int, int],
        *,
        feature_dim: int | None = None,
        channels: int = 3,
        small_images: bool = True,
    ) -> None:
        super().__init__()
        full = 512 * block.expansion
        self.feature_dim = full if feature_dim is None else feature_dim
        check_count("feature_dim", self.feature_dim, 1)
        check_count("channels", channels, 1)
        if len(depths) != 4:
            raise ValueError(f"depths must be four numbers, one per group, found {depths}")
        kernel, stride = (3, 1) if small_images else (7, 2)
        self.conv1 = _convolution(channels, 64, kernel, stride)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small_images else nn.MaxPool2d(3, stride=2, padding=1)
        inputs, groups = 64, []
        for group, (width, depth) in enumerate(zip((64, 128, 256, 512), depths, strict=True)):
            check_count(f"depths[{group}]", depth, 1)
            blocks = []
            for number in range(depth):
                is_last = group == 3 and number == depth - 1
                outputs = self.feature_dim if is_last else width * block.expansion
                blocks.append(block(inputs, width, outputs, 2 if group and not number else 1))
                inputs = outputs
            groups.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = groups
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """(N, channels, H, W) to (N, feature_dim)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        features: Tensor = self.avgpool(x).flatten(1)
        return features


def resnet18(
    feature_dim: int | None = None, *, channels: int = 3, small_images: bool = True
) -> ResNet:
    """The ResNet of 18 layers, without the last; 512 features unless told otherwise."""
    return ResNet(
        BasicBlock,
        (2, 2, 2, 2),
        feature_dim=feature_dim,
        channels=channels,
        small_images=small_images,
    )


def resnet34(
    feature_dim: int | None = None, *, channels: int = 3, small_images: bool = True
) -> ResNet:
    """The ResNet of 34 layers, without the last; 512 features unless told otherwise."""
    return ResNet(
        BasicBlock,
        (3, 4, 6, 3),
        feature_dim=feature_dim,
        channels=channels,
        small_images=small_images,
    )


def resnet50(
    feature_dim: int | None = None, *, channels: int = 3, small_images: bool = True
) -> ResNet:
    """The ResNet of 50 layers, without the last; 2048 features unless told otherwise."""
    return ResNet(
        Bottleneck,
        (3, 4, 6, 3),
        feature_dim=feature_dim,
        channels=channels,
        small_images=small_images,
    )


def _convolution(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    if inputs == outputs and stride == 1:
        return nn.Identity()
    return nn.Sequential(_convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
