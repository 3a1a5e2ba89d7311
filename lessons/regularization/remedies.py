"""The remedies against overfitting, each as what it changes in an otherwise equal training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.data import Data
from coursekit.data.augmentation import Augmentation, Chain, CutMix, Mixup, RandomCrop
from coursekit.data.batches import Batch
from coursekit.harness import Classifier, EarlyStopping
from coursekit.harness.early_stopping import Stopper
from coursekit.harness.learner import LearnerCode
from coursekit.harness.module import Loss
from lessons.regularization.config import Config, Strengths
from lessons.regularization.wide_resnet import WideResNet


@dataclass(frozen=True)
class Remedy:
    """What a remedy adds to a training. The defaults add nothing: that is no regularisation.

    Attributes:
        normalise: from a number of units to a layer, put after each linear map.
        drop: makes a layer, put after each ReLU.
        loss: of logits and targets, for training.
        augment: changes each mini-batch.
        weight_decay: of AdamW, on weights and not on biases.
        l1: what a proximal step takes from each weight's size, divided by the learning rate.
        soft_threshold: the proximal step, from weights and threshold to new weights.
        penalty: is added to the loss, from the named parameters.
        stopper: makes what decides when to stop.
    """

    normalise: Callable[[int], nn.Module] | None = None
    drop: Callable[[], nn.Module] | None = None
    loss: Loss | None = None
    augment: Augmentation | None = None
    weight_decay: float = 0.0
    l1: float = 0.0
    soft_threshold: Callable[[Tensor, float], Tensor] = F.softshrink
    penalty: Callable[[Iterable[tuple[str, Tensor]]], Tensor] | None = None
    stopper: Callable[[], Stopper] | None = None

    def __add__(self, other: Remedy) -> Remedy:
        """Return both together. Augmentations follow each other; of anything else set twice the other's holds."""
        defaults = Remedy()
        own = {part.name: getattr(other, part.name) for part in fields(Remedy)}
        changes = {name: value for name, value in own.items() if value is not getattr(defaults, name)}
        if self.augment and other.augment:
            changes["augment"] = Chain(self.augment, other.augment)
        return replace(self, **changes)


def remedy(name: str, strengths: Strengths, data: Data) -> Remedy:
    """Return the remedy of a name, or several joined by `+`, in PyTorch's form."""
    k = len(data.classes)
    fill = 0.0 if data.low is None else float(data.low.mean())
    known = {
        "none": lambda: Remedy(),
        "l1": lambda: Remedy(l1=strengths.l1),
        "weight_decay": lambda: Remedy(weight_decay=strengths.weight_decay),
        "dropout": lambda: Remedy(drop=lambda: nn.Dropout(strengths.dropout)),
        "batch_norm": lambda: Remedy(normalise=nn.BatchNorm1d),
        "layer_norm": lambda: Remedy(normalise=nn.LayerNorm),
        "label_smoothing": lambda: Remedy(loss=partial(F.cross_entropy, label_smoothing=strengths.smoothing)),
        "mixup": lambda: Remedy(augment=Mixup(k, strengths.mixup)),
        "cutmix": lambda: Remedy(augment=CutMix(k, strengths.cutmix)),
        "early_stopping": lambda: Remedy(stopper=lambda: EarlyStopping(strengths.patience)),
        "bootstrapping": lambda: Remedy(loss=partial(hard_bootstrap, trust=strengths.trust)),
        "crops": lambda: Remedy(augment=RandomCrop(strengths.padding, fill)),
    }
    first, *others = (known[part]() for part in name.split("+"))
    return sum(others, start=first)


def learners(mine: LearnerCode, strengths: Strengths, data: Data) -> tuple[dict[str, Remedy], list[str]]:
    """Return the same remedies built on the learner's functions, and the names of those not written yet.

    Args:
        mine: the learner's file.
        strengths: as for `remedy`.
        data: as for `remedy`.
    """
    k = len(data.classes)
    built: dict[str, tuple[str, Callable[[], Remedy]]] = {
        "l1": ("soft_threshold", lambda: Remedy(l1=strengths.l1, soft_threshold=mine.soft_threshold)),
        "dropout": ("dropout", lambda: Remedy(drop=lambda: LearnersDropout(mine.dropout, strengths.dropout))),
        "batch_norm": ("batch_norm", lambda: Remedy(normalise=lambda width: LearnersBatchNorm(mine, width))),
        "layer_norm": ("layer_norm", lambda: Remedy(normalise=lambda width: LearnersLayerNorm(mine, width))),
        "label_smoothing": (
            "smooth_ce",
            lambda: Remedy(loss=partial(mine.smooth_ce, smoothing=strengths.smoothing)),
        ),
        "mixup": ("mixup", lambda: Remedy(augment=partial(_mixed, mine.mixup, strengths.mixup, k))),
        "cutmix": ("cutmix", lambda: Remedy(augment=partial(_mixed, mine.cutmix, strengths.cutmix, k))),
        "early_stopping": ("EarlyStopping", lambda: Remedy(stopper=lambda: mine.EarlyStopping(strengths.patience))),
        "bootstrapping": (
            "bootstrap_loss",
            lambda: Remedy(loss=partial(mine.bootstrap_loss, beta=strengths.trust, mode="hard")),
        ),
    }
    written = {name: make() for name, (needed, make) in built.items() if mine.has(needed)}
    missing = [needed for needed, _ in built.values() if not mine.has(needed)]
    return written, missing


def hard_bootstrap(logits: Tensor, targets: Tensor, trust: float) -> Tensor:
    """Return the cross entropy against labels that the network's own choice corrects (Reed et al. 2015, hard).

    Args:
        logits: (b, classes).
        targets: int64 (b,), or shares (b, classes).
        trust: what the given label counts; the rest goes to the class that the network holds most likely.
    """
    return trust * F.cross_entropy(logits, targets) + (1 - trust) * F.cross_entropy(logits, logits.argmax(1))


# ---------------------------------------------------------------------------------------------- network and training


def build_network(config: Config, data: Data, remedy: Remedy) -> nn.Module:
    """Return an untrained network for the data, with the remedy's layers: a perceptron, or a WRN-16-4 for images."""
    drop = remedy.drop or nn.Identity
    classes = len(data.classes)
    if config.network == "wide_resnet" and len(data.input_shape) == 3:
        normalise = remedy.normalise or (lambda width: nn.Identity())
        return WideResNet(data.input_shape[0], classes, normalise=lambda c: over_channels(normalise(c)), drop=drop)
    normalise = remedy.normalise or (lambda width: nn.Identity())
    widths = [math.prod(data.input_shape), *config.hidden]
    hidden = [
        [nn.Linear(narrow, wide), normalise(wide), nn.ReLU(), drop()] for narrow, wide in itertools.pairwise(widths)
    ]
    # Identities draw no random numbers: one seed gives every remedy the same first weights.
    return nn.Sequential(nn.Flatten(), *itertools.chain(*hidden), nn.Linear(widths[-1], classes))


def over_channels(layer: nn.Module) -> nn.Module:
    """Return the layer's counterpart for images (b, c, h, w)."""
    if isinstance(layer, nn.BatchNorm1d):
        return nn.BatchNorm2d(layer.num_features)
    if isinstance(layer, nn.LayerNorm):
        return nn.GroupNorm(1, layer.normalized_shape[0])  # over channels and pixels of one image
    return layer


class Regularised(Classifier):
    """A classifier with what the harness leaves to the lesson: a penalty on the loss, and proximal steps."""

    def __init__(self, network: nn.Module, remedy: Remedy, lr: float) -> None:
        super().__init__(
            network,
            optimizer=partial(decoupled, lr=lr, weight_decay=remedy.weight_decay),
            loss=remedy.loss or F.cross_entropy,
            augment=remedy.augment,
        )
        self.remedy, self.threshold = remedy, lr * remedy.l1

    def training_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of one mini-batch with its penalty, and the accuracy."""
        loss, values = super().training_loss(batch)
        if self.remedy.penalty is not None:
            loss = loss + self.remedy.penalty(self.network.named_parameters())
        return loss, values

    def optimize(self, batch: Batch) -> dict[str, Tensor]:
        """Take one optimizer step, and one proximal step after it."""
        values = super().optimize(batch)
        if self.threshold:
            with torch.no_grad():
                for weight in weights(self.network):
                    weight.copy_(self.remedy.soft_threshold(weight, self.threshold))
        return values


def decoupled(parameters: Iterable[nn.Parameter], *, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Return AdamW that decays weights, and neither biases nor the scales of norm layers."""
    parts = list(parameters)
    groups = [
        {"params": [part for part in parts if part.dim() > 1], "weight_decay": weight_decay},
        {"params": [part for part in parts if part.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr)


def weights(network: nn.Module) -> list[nn.Parameter]:
    """Return what is penalised: parameters of two axes or more."""
    return [part for part in network.parameters() if part.dim() > 1]


# ---------------------------------------------------------------------------------------------- the learner's layers


class LearnersDropout(nn.Module):
    """The learner's `dropout` as a layer."""

    def __init__(self, dropout: Callable[..., Tensor], p: float) -> None:
        super().__init__()
        self.dropout, self.p = dropout, p

    def forward(self, x: Tensor) -> Tensor:
        """Map x to the same shape."""
        return self.dropout(x, self.p, self.training)


class LearnersBatchNorm(nn.Module):
    """The learner's `batch_norm` as a layer of `width` features or channels."""

    def __init__(self, mine: Any, width: int) -> None:
        super().__init__()
        self.batch_norm = mine.batch_norm
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, width) or (b, width, h, w) to the same shape."""
        return self.batch_norm(x, self.weight, self.bias, self.running_mean, self.running_var, self.training)


class LearnersLayerNorm(nn.Module):
    """The learner's `layer_norm` as a layer over all axes but the first, with a scale for each of `width` channels."""

    def __init__(self, mine: Any, width: int) -> None:
        super().__init__()
        self.layer_norm = mine.layer_norm
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, width) or (b, width, h, w) to the same shape."""
        shape = tuple(x.shape[1:])
        weight, bias = (part.view(-1, *[1] * (x.dim() - 2)).expand(shape) for part in (self.weight, self.bias))
        return self.layer_norm(x, shape, weight, bias)


def _mixed(mix: Callable[..., Any], alpha: float, classes: int, batch: Batch) -> Batch:
    """Return the learner's mixed inputs, with the two labels as shares: the loss is linear in them."""
    inputs, own, others, share = mix(*batch, alpha)
    return inputs, F.one_hot(own, classes).float().lerp(F.one_hot(others, classes).float(), 1 - float(share))
