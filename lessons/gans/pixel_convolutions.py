"""The two convolutions of DCGAN that meet the pixels, faster on a CPU.

From one or three channels to many and back, PyTorch's CPU kernel for the direction "many channels to few" takes several
times as long as a matrix product. Here that direction is one: the transposed convolution's forward pass, and the usual
one's gradient by its input. Everything else, and everything on a GPU or in mixed precision, is PyTorch's own.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_KERNEL, _STRIDE, _PADDING = 4, 2, 1


class FromPixels(nn.Conv2d):
    """A convolution (4 × 4, stride 2, padding 1) of images with few channels, without bias: `torch.nn.Conv2d`.

    Args:
        channels: of the images.
        width: channels that come out, at half the height and width.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(channels, width, _KERNEL, stride=_STRIDE, padding=_PADDING, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """Return (b, width, h/2, w/2) of images (b, channels, h, w)."""
        if _is_for_pytorch(input):
            return super().forward(input)
        return _Gather.apply(input, self.weight)


class ToPixels(nn.ConvTranspose2d):
    """A transposed convolution (4 × 4, stride 2, padding 1) to few channels, without bias: `torch.nn.ConvTranspose2d`.

    Args:
        width: channels that come in.
        channels: of the images, at twice the height and width.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__(width, channels, _KERNEL, stride=_STRIDE, padding=_PADDING, bias=False)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return images (b, channels, 2h, 2w) of (b, width, h, w)."""
        if _is_for_pytorch(input):
            return super().forward(input, output_size)
        return _Spread.apply(input, self.weight)


def _is_for_pytorch(images: Tensor) -> bool:
    return images.device.type != "cpu" or torch.is_autocast_enabled("cpu")


class _Gather(torch.autograd.Function):
    """The convolution: image (b, few, 2h, 2w) and weight (many, few, 4, 4) to (b, many, h, w)."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(image, weight)
        return F.conv2d(image, weight, stride=_STRIDE, padding=_PADDING)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, Tensor | None]:
        image, weight = ctx.saved_tensors
        wants_image, wants_weight = ctx.needs_input_grad
        return (
            _Spread.apply(slopes[0], weight) if wants_image else None,
            _weight_slope(image, slopes[0], weight) if wants_weight else None,
        )


class _Spread(torch.autograd.Function):
    """Its transpose: (b, many, h, w) and weight (many, few, 4, 4) to an image (b, few, 2h, 2w)."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(features, weight)
        b, many, h, w = features.shape
        # Each feature vector writes one patch of 4 × 4 pixels; overlapping patches add up.
        patches = features.permute(0, 2, 3, 1).reshape(-1, many) @ weight.flatten(1)
        columns = patches.view(b, h * w, -1).transpose(1, 2)  # (b, few · 16, h · w)
        image = F.fold(columns, (_STRIDE * h, _STRIDE * w), _KERNEL, padding=_PADDING, stride=_STRIDE)
        return image.to(memory_format=torch.channels_last)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, Tensor | None]:
        features, weight = ctx.saved_tensors
        wants_features, wants_weight = ctx.needs_input_grad
        return (
            _Gather.apply(slopes[0], weight) if wants_features else None,
            _weight_slope(slopes[0], features, weight) if wants_weight else None,
        )


def _weight_slope(image: Tensor, features: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient by the weight of the convolution of an image whose result's gradient is `features`."""
    # As torch.nn.grad.conv2d_weight, but in the weight's own memory layout.
    return torch.ops.aten.convolution_backward(
        features, image, weight, None, [_STRIDE] * 2, [_PADDING] * 2, [1, 1], False, [0, 0], 1, [False, True, False]
    )[1]
