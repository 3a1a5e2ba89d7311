"""Style transfer by Gram matrices: one picture's content with the texture of another.

Pixels are what is optimised: ℓ(x) = w_c · content(x, c) + w_s · style(x, s). Content is the squared distance of feature
maps; style that of their Gram matrices, which keep what features occur together and forget where (Gatys, Ecker & Bethge
2016, equations 1 to 7). They take features of a VGG-19 trained on ImageNet. Those weights are used where a file of them
is at hand (`vgg_features`). Without them random filters at several scales will do for textures, as Ustyuzhaninov et al.
2017 found (there with several sizes of filter; here with one size on a pyramid of smaller pictures): a texture is kept,
objects are not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.errors import ArgumentError, DataError

Features = Callable[[Tensor], list[Tensor]]
"""From a picture (1, 3, h, w), brightness 0 to 1, to feature maps (1, c, h', w'), the finest first."""


def pictures(size: int = 96) -> tuple[Tensor, Tensor]:
    """Return scikit-learn's two sample pictures, a temple and a flower, each (1, 3, size, size), brightness 0 to 1.

    The square in the middle of each, made smaller by antialiased bilinear interpolation.

    Raises:
        ArgumentError: a size below 16, or above the pictures' 427 pixels.
    """
    if not 16 <= size <= 427:
        raise ArgumentError("pictures", "a size from 16 to 427 pixels", got=size, fix="choose one there")
    from sklearn.datasets import load_sample_images

    squares = []
    for picture in load_sample_images().images:
        pixels = torch.tensor(picture).permute(2, 0, 1)[None].float() / 255
        left = (pixels.shape[3] - pixels.shape[2]) // 2
        square = pixels[..., left : left + pixels.shape[2]]
        shrunk = F.interpolate(square, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
        squares.append(shrunk.clamp(0, 1))
    temple, flower = squares
    return temple, flower


class RandomFilters(nn.Module):
    """One layer of random filters with ReLU, on the picture and on halves of it: features without any training.

    Filters have mean 0, so that an even surface gives none, and length 1.

    Args:
        filters: at each scale.
        size: of a filter, in pixels.
        scales: how many pictures, each half as high and wide as the one before.
        seed: of the filters.
    """

    filters: Tensor

    def __init__(self, filters: int = 48, size: int = 5, scales: int = 4, seed: int = 0) -> None:
        super().__init__()
        drawn = torch.randn(filters, 3, size, size, generator=torch.Generator().manual_seed(seed))
        drawn = drawn - drawn.mean((1, 2, 3), keepdim=True)
        self.register_buffer("filters", F.normalize(drawn.flatten(1), dim=1).view_as(drawn))
        self.scales = scales

    def forward(self, picture: Tensor) -> list[Tensor]:
        """Return one feature map (1, filters, h / 2^i, w / 2^i) for each scale i.

        Raises:
            ArgumentError: the picture is too small for so many scales.
        """
        side, size = min(picture.shape[2:]), self.filters.shape[-1]
        if side >> (self.scales - 1) < size:
            got = f"{side} pixels at {self.scales} scales"
            raise ArgumentError("RandomFilters", f"{size} pixels at the smallest scale", got=got, fix="enlarge it")
        maps = []
        for scale in range(self.scales):
            picture = _half(picture) if scale else picture
            padded = F.pad(picture, [size // 2] * 4, mode="reflect")
            maps.append(F.relu(F.conv2d(padded, self.filters)))
        return maps


def _half(picture: Tensor) -> Tensor:
    """Halve height and width; the places that are averaged overlap, so that no blocks show in the gradient."""
    return F.avg_pool2d(F.pad(picture, [1] * 4, mode="reflect"), 4, stride=2)


def vgg_features(weights: Path | None = None) -> Features:
    """Return the features of VGG-19 after the first convolution of each of its five stages, from a file of weights.

    Nothing is downloaded.

    Args:
        weights: torchvision's file; None looks where torch.hub keeps it.

    Raises:
        DataError: there is no such file.
    """
    from torchvision.models import vgg19

    weights = weights or Path(torch.hub.get_dir()) / "checkpoints" / _VGG
    if not weights.is_file():
        raise DataError(
            "vgg_features",
            f"torchvision's VGG-19 weights in {weights}",
            got="no such file",
            fix="put the file there, or use RandomFilters",
        )
    network = vgg19()
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    layers = list(network.features.eval().requires_grad_(False).children())
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (_MEAN, _STD))

    def features(picture: Tensor) -> list[Tensor]:
        x, maps = (picture - mean.to(picture)) / std.to(picture), []
        for number, layer in enumerate(layers):
            x = layer(x.clone() if isinstance(layer, nn.ReLU) else x)  # its ReLU works in place
            if number in _STAGES:
                maps.append(x)
        return maps

    return features


_VGG = "vgg19-dcbb9e9d.pth"
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_STAGES = (1, 6, 11, 20, 29)  # ReLUs after conv1_1, conv2_1, conv3_1, conv4_1, conv5_1


def gram(features: Tensor) -> Tensor:
    """Return the Gram matrix of feature maps: the mean over places of the products of each two channels.

    Args:
        features: (b, c, h, w).

    Returns:
        (b, c, c); Gatys et al. divide later, by the squares of the numbers of places and channels.
    """
    places = features.flatten(2)
    return places @ places.mT / places.shape[2]


@dataclass
class Transfer:
    """What came of a style transfer.

    Attributes:
        picture: (1, 3, h, w), brightness 0 to 1.
        content: squared distance of its features from those of the content picture, for each evaluation, as a share of
            the distance between the two given pictures.
        style: squared distance of its Gram matrices from those of the style picture, likewise: 1 at the beginning.
    """

    picture: Tensor
    content: list[float] = field(default_factory=list)
    style: list[float] = field(default_factory=list)


def transfer(
    content: Tensor,
    style: Tensor,
    features: Features,
    *,
    steps: int = 40,
    style_weight: float = 1.0,
    content_weight: float = 0.05,
) -> Transfer:
    """Change the pixels of one picture until its Gram matrices are those of another.

    Both terms are shares of the distance between the two pictures, so weights do not depend on the features; each scale
    has an equal part.

    Args:
        content: (1, 3, h, w), brightness 0 to 1: where it begins.
        style: (1, 3, h', w') likewise.
        features: what to compare by.
        steps: of L-BFGS; each takes one evaluation or a few.
        style_weight: w_s.
        content_weight: w_c; content is judged at the coarsest scale alone.

    Raises:
        ArgumentError: pictures of another shape, or no step.
    """
    for picture in (content, style):
        if picture.dim() != 4 or picture.shape[:2] != (1, 3) or steps < 1:
            got = f"{tuple(picture.shape)}, {steps} steps"
            raise ArgumentError("transfer", "pictures (1, 3, h, w), and at least 1 step", got=got, fix="mend that")
    with torch.no_grad():
        wanted, kept = [gram(maps) for maps in features(style)], features(content)[-1]
        pairs = zip(features(content), wanted, strict=True)
        begun = [F.mse_loss(gram(maps), goal).clamp(min=1e-12) for maps, goal in pairs]
        # The coarsest map of the other picture, brought to the same size.
        far = F.interpolate(features(style)[-1], size=kept.shape[2:], mode="bilinear", align_corners=False)
        apart = F.mse_loss(far, kept).clamp(min=1e-12)
    picture = content.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([picture], max_iter=steps, history_size=20, line_search_fn="strong_wolfe")
    done = Transfer(content.clone())

    def closure() -> Tensor:
        optimizer.zero_grad()
        maps = features(picture)
        shares = [F.mse_loss(gram(one), goal) / first for one, goal, first in zip(maps, wanted, begun, strict=True)]
        textured = torch.stack(shares).mean()
        placed = F.mse_loss(maps[-1], kept) / apart
        # Brightness below 0 or above 1 cannot be shown: the further outside, the dearer.
        outside = (picture - picture.clamp(0, 1)).square().sum()
        loss = style_weight * textured + content_weight * placed + outside
        loss.backward()
        done.style.append(float(textured.detach()))
        done.content.append(float(placed.detach()))
        return loss

    optimizer.step(closure)
    done.picture = picture.detach().clamp(0, 1)
    return done
