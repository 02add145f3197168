"""ResNet-50 (He et al., CVPR 2016): from a picture to a feature vector.

Module names are torchvision's (`layer1.0.conv1.weight`), so that weights published for it load as
they are; so is the place of the stride, which is in a block's 3 x 3 convolution.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

FEATURE = 2048
EXPANSION = 4
BLOCKS = (3, 4, 6, 3)
CLASSES = 1000


class Bottleneck(nn.Module):
    """Convolutions of 1, 3 and 1 pixels over few channels, with a skip connection."""

    def __init__(self, into: int, width: int, stride: int) -> None:
        super().__init__()
        out = width * EXPANSION
        self.conv1 = nn.Conv2d(into, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample = (
            nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))
            if stride > 1 or into != out
            else None
        )

    def forward(self, x: Float[Tensor, "batch into h w"]) -> Float[Tensor, "batch out h2 w2"]:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet50(nn.Module):
    """Four stages of bottlenecks, each but the first halving the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _stage(64, 64, BLOCKS[0], 1)
        self.layer2 = _stage(256, 128, BLOCKS[1], 2)
        self.layer3 = _stage(512, 256, BLOCKS[2], 2)
        self.layer4 = _stage(1024, 512, BLOCKS[3], 2)
        # Published weights hold the classifier, although a feature extractor does without.
        self.fc = nn.Linear(FEATURE, CLASSES)

    def forward(self, images: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch 2048"]:
        """The mean feature over the picture, before the classifier."""
        x = torch.relu(self.bn1(self.conv1(images)))
        x = nn.functional.max_pool2d(x, 3, 2, padding=1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean((2, 3))


def _stage(into: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    out = width * EXPANSION
    rest = (Bottleneck(out, width, 1) for _ in range(blocks - 1))
    return nn.Sequential(Bottleneck(into, width, stride), *rest)
