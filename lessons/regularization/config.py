"""The configuration of lesson 2. It imports no torch, so that a wrong setting is told at once."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from coursekit.config import Settings, Training, nearest

REMEDIES = (
    "none",
    "l1",
    "weight_decay",
    "dropout",
    "batch_norm",
    "layer_norm",
    "label_smoothing",
    "mixup",
    "cutmix",
    "early_stopping",
    "bootstrapping",
    "crops",
)
"""What can be compared; names joined by `+`, such as `dropout+mixup`, are used together."""


def check_remedies(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names, or say which of them is none of `REMEDIES`, or comes twice."""
    for name in names:
        for part in name.split("+"):
            if part not in REMEDIES:
                close = nearest(part, REMEDIES)
                hint = f"did you mean {close}?" if close else f"there are {', '.join(REMEDIES)}"
                raise ValueError(f"remedies that exist, not {part!r}: {hint}")
    if len({*names}) < len(names):
        raise ValueError("each remedy once")
    return names


class Strengths(Settings):
    """How strong each remedy is: a usual value, not tuned; L1 and weight decay have none, and get one that shows."""

    l1: float = Field(default=0.05, ge=0, description="the L1 penalty, by proximal steps of size lr * l1")
    l1_penalty: float = Field(default=0.003, ge=0, description="the L1 penalty where it is a part of the loss")
    weight_decay: float = Field(default=0.3, ge=0, description="the decay of AdamW, as a part of the rate per step")
    dropout: float = Field(default=0.5, ge=0, lt=1, description="probability that a hidden unit is dropped")
    smoothing: float = Field(default=0.1, ge=0, lt=1, description="label smoothing, the share given to all classes")
    mixup: float = Field(default=1.0, gt=0, description="alpha of mixup's Beta distribution")
    cutmix: float = Field(default=1.0, gt=0, description="alpha of CutMix's Beta distribution")
    patience: int = Field(default=10, gt=0, description="epochs without a better validation loss until it stops")
    trust: float = Field(default=0.8, ge=0, le=1, description="bootstrapping's trust in the given label, 0 to 1")
    padding: int = Field(default=1, gt=0, le=32, description="pixels by which crops move an image")


class Sweep(Settings):
    """Strengths that are tried beside the usual one, to see how much of a result is only the strength."""

    dropout: tuple[float, ...] = Field(default=(0.2, 0.5, 0.8), min_length=1, description="drop probabilities")
    weight_decay: tuple[float, ...] = Field(default=(0.3, 1.0, 4.0), min_length=1, description="decays of AdamW")
    l1: tuple[float, ...] = Field(default=(0.05, 0.1, 0.3), min_length=1, description="L1 penalties")
    smoothing: tuple[float, ...] = Field(default=(0.1, 0.5, 0.8), min_length=1, description="label smoothings")

    @field_validator("*")
    @classmethod
    def _above_zero(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if min(values) <= 0 or sorted({*values}) != [*values]:
            raise ValueError("values above 0 in rising order")
        return values

    @field_validator("dropout", "smoothing")
    @classmethod
    def _below_one(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if max(values) >= 1:
            raise ValueError("values below 1")
        return values


class Problem(Settings):
    """The course exercise: a stated problem, and the remedies that you want to compare on it."""

    data: Literal["digits", "breast_cancer", "mnist", "fashion_mnist", "cifar10"] = Field(
        default="digits", description="digits, breast_cancer, mnist, fashion_mnist or cifar10"
    )
    rows: int = Field(default=60, ge=10, description="training rows, at least as many as there are classes")
    validation_rows: int = Field(default=100, ge=10, description="validation rows, by which the choice is made")
    noise: float = Field(default=0.0, ge=0, le=1, description="share of wrong labels, 0 to 1")
    compare: tuple[str, ...] = Field(
        default=("none", "weight_decay", "dropout", "crops", "dropout+crops"),
        min_length=2,
        max_length=12,
        description="remedies to compare; join names by + to use them together",
    )

    _exist = field_validator("compare")(check_remedies)


class Config(Settings):
    """Everything that can be set in lesson 2."""

    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1, description="seeds, for example [0, 1, 2]")
    data: Literal["digits", "mnist", "fashion_mnist", "cifar10"] = Field(
        default="digits", description="digits, mnist, fashion_mnist or cifar10"
    )
    rows: int = Field(default=200, ge=10, description="training rows")
    validation_rows: int = Field(default=100, ge=10, description="validation rows, with wrong labels like the rest")
    noise: float = Field(default=0.4, gt=0, le=1, description="share of wrong labels, above 0 up to 1")
    network: Literal["mlp", "wide_resnet"] = Field(default="mlp", description="mlp or wide_resnet")
    hidden: tuple[int, ...] = Field(default=(128, 128), min_length=1, description="units of the mlp's hidden layers")
    lr: float = Field(default=2e-3, gt=0, description="the learning rate of AdamW")
    target: float = Field(
        default=0.4, gt=0, lt=1, description="the accuracy on the noisy validation part that counts as converged"
    )
    remedies: tuple[str, ...] = Field(
        default=REMEDIES[:11],
        min_length=2,
        max_length=12,
        description="remedies of the main comparison; join names by + to use them together",
    )
    training: Training = Training(epochs=50, batch_size=40, test_curve=True)
    strengths: Strengths = Strengths()
    sweep: Sweep = Sweep()
    exercise: Problem = Problem()

    _exist = field_validator("remedies")(check_remedies)
