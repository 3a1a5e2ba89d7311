"""A wide residual network for small images, with its normalisation and its dropout as parts to choose."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn


class WideResNet(nn.Module):
    """WRN-16-k: 16 convolutional layers, k times as wide as the first residual networks.

    Args:
        channels: of the images.
        classes: logits to return.
        normalise: from a number of channels to the layer in front of each convolution's ReLU.
        drop: makes the layer between the two convolutions of a block.
        widen: k.

    Source: Zagoruyko & Komodakis 2016, with pre-activation (He et al. 2016, "Identity mappings").
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        normalise: Callable[[int], nn.Module],
        drop: Callable[[], nn.Module],
        widen: int = 4,
    ) -> None:
        super().__init__()
        widths = [16, 16 * widen, 32 * widen, 64 * widen]
        self.stem = nn.Conv2d(channels, widths[0], 3, padding=1)
        blocks = []
        for group, stride in enumerate((1, 2, 2), start=1):
            blocks.append(Block(widths[group - 1], widths[group], stride, normalise, drop))
            blocks.append(Block(widths[group], widths[group], 1, normalise, drop))
        self.blocks = nn.Sequential(*blocks)
        self.norm = normalise(widths[-1])
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (b, c, h, w) to logits (b, classes)."""
        x = self.norm(self.blocks(self.stem(images))).relu()
        return self.head(x.mean((2, 3)))  # (b, c, h / 4, w / 4) to (b, c)


class Block(nn.Module):
    """Two 3 × 3 convolutions beside a shortcut, each after normalisation and ReLU."""

    def __init__(
        self, narrow: int, wide: int, stride: int, normalise: Callable[[int], nn.Module], drop: Callable[[], nn.Module]
    ) -> None:
        super().__init__()
        self.norms = nn.ModuleList([normalise(narrow), normalise(wide)])
        self.drop = drop()
        self.convs = nn.ModuleList(
            [nn.Conv2d(narrow, wide, 3, stride=stride, padding=1), nn.Conv2d(wide, wide, 3, padding=1)]
        )
        same = narrow == wide and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(narrow, wide, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, narrow, h, w) to (b, wide, h / stride, w / stride)."""
        hidden = F.relu(self.norms[0](x))
        inner = self.drop(F.relu(self.norms[1](self.convs[0](hidden))))
        return self.shortcut(x) + self.convs[1](inner)
