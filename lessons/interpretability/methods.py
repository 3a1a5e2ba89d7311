"""The methods of the lesson under one call each: a network, pictures and classes go in, maps come out."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit import attribution
from coursekit.attribution import MaskingGame, grid_segments, heatmap, paint
from coursekit.harness.learner import LearnerCode
from lessons.interpretability.config import Explaining

Explain = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""Network, pictures (n, c, h, w) and their classes (n,) to maps (n, h, w), of the class's logit."""

READS_BY_ATTENTION = "attention"
"""The one method that cannot explain every network: it reads weights that only a network with attention has."""


def in_bf16(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return the network as a function that runs in bf16 where that is safe, and answers in float32."""

    def run(rows: Tensor) -> Tensor:
        with torch.autocast(rows.device.type, torch.bfloat16):
            return network(rows).float()

    return run


def noise_of(images: Tensor, share: float) -> Tensor:
    """Return a share of each picture's own range, (n, 1, 1, 1), as SmoothGrad measures its noise."""
    low, high = images.flatten(1).aminmax(dim=1)
    return (share * (high - low)).view(-1, 1, 1, 1)


def picture_methods(
    settings: Explaining, *, baseline: Tensor | float, layer: str, seed: int, half: bool = False
) -> dict[str, Explain]:
    """Return the chosen methods, all asked about the same logit and with the same thing for absent.

    Each call draws from the seed anew: two networks are explained with the same noise and the same coalitions, so
    that a difference between their maps is one between the networks.

    Args:
        settings: which methods, and how finely.
        baseline: what a pixel that is taken away becomes.
        layer: dotted name of the layer that Grad-CAM looks at.
        seed: of noise and coalitions.
        half: whether the methods that only ask for outputs run the network in bf16.
    """

    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    def outputs(network: nn.Module) -> Callable[[Tensor], Tensor]:
        return in_bf16(network) if half else network

    def cells(images: Tensor) -> Tensor:
        return grid_segments(images.shape[2], images.shape[3], settings.patch, device=images.device)

    def smooth(network: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        sigma = noise_of(images, settings.noise)
        draws = settings.noise_draws
        return heatmap(
            attribution.smoothgrad(network, images, classes, sigma=sigma, draws=draws, generator=generator())
        )

    def local_model(network: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        found = attribution.lime(
            outputs(network),
            images,
            classes,
            segments=cells(images),
            baseline=baseline,
            samples=settings.samples,
            generator=generator(),
        )
        return paint(found.coefficients, cells(images))

    def shapley(network: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        found = attribution.kernel_shap(
            outputs(network),
            images,
            classes,
            segments=cells(images),
            baseline=baseline,
            samples=settings.samples,
            generator=generator(),
        )
        return paint(found, cells(images))

    known: dict[str, Explain] = {
        "saliency": lambda network, images, classes: heatmap(attribution.saliency(network, images, classes)),
        "smoothgrad": smooth,
        "integrated gradients": lambda network, images, classes: heatmap(
            attribution.integrated_gradients(network, images, classes, baseline=baseline, steps=settings.ig_steps),
            channels="sum",
        ),
        "grad-cam": lambda network, images, classes: attribution.grad_cam(network, images, classes, layer=layer),
        "occlusion": lambda network, images, classes: attribution.occlusion(
            outputs(network),
            images,
            classes,
            window=settings.patch,
            stride=max(1, settings.patch // 2),
            baseline=baseline,
        ),
        "lime": local_model,
        "kernel shap": shapley,
    }
    return {name: known[name] for name in settings.methods if name in known}


def attention_weights(network: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Return where the network's own attention lay, (n, h, w): it is the same for whichever class one asks about."""
    (weights,) = attribution.attention_maps(network, images).values()  # (n, heads, 1, h * w)
    return weights.mean((1, 2)).view(len(images), *images.shape[2:])


def own_methods(
    mine: LearnerCode, settings: Explaining, *, baseline: Tensor | float, layer: str, seed: int
) -> dict[str, Explain]:
    """Return those of the learner's methods that are written, under the same call; named as those of the library."""

    def generator(device: torch.device | str = "cpu") -> torch.Generator:
        return torch.Generator(device).manual_seed(seed)

    def integrated(network: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        maps = torch.empty_like(images)
        for label in classes.unique():  # one function of rows for each class
            rows = classes == label
            start = torch.as_tensor(baseline).to(images).expand_as(images[rows])
            maps[rows] = mine.integrated_gradients(
                lambda part, label=label: network(part)[:, label], images[rows], start, settings.ig_steps
            )
        return maps.sum(1)

    def class_map(network: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        maps = mine.grad_cam(network, network.get_submodule(layer), images, classes)
        return F.interpolate(maps[:, None], images.shape[2:], mode="bilinear", align_corners=False)[:, 0]

    def shapley(network: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        cells = grid_segments(images.shape[2], images.shape[3], settings.patch, device=images.device)
        game = MaskingGame(network, images, classes, segments=cells, baseline=baseline)
        values = mine.kernel_shap(lambda coalitions: game(coalitions).T, game.players, settings.samples, generator())
        return paint(values.T, cells)

    known: dict[str, tuple[str, Explain]] = {
        "saliency": ("saliency", lambda network, images, classes: mine.saliency(network, images, classes)),
        "smoothgrad": (
            "smoothgrad",
            lambda network, images, classes: mine.smoothgrad(
                network, images, classes, settings.noise, settings.noise_draws, generator(images.device)
            ),
        ),
        "integrated gradients": ("integrated_gradients", integrated),
        "grad-cam": ("grad_cam", class_map),
        "kernel shap": ("kernel_shap", shapley),
    }
    return {
        name: explain for name, (written, explain) in known.items() if name in settings.methods and mine.has(written)
    }
