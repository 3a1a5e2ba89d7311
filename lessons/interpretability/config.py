"""The configuration of lesson 5. It imports no torch, so that a wrong setting is told at once."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, get_args

from pydantic import Field, model_validator

from coursekit.config import Settings, Training

Method = Literal[
    "saliency",
    "smoothgrad",
    "integrated gradients",
    "grad-cam",
    "occlusion",
    "lime",
    "kernel shap",
    "attention",
]
METHODS: tuple[Method, ...] = get_args(Method)


def rising(name: str, values: tuple[int, ...]) -> None:
    """Refuse numbers that do not rise: they are drawn along an axis."""
    if any(after <= before for before, after in pairwise(values)):
        raise ValueError(f"{name}, each number larger than the one before it")


class Pictures(Settings):
    """Pictures of digits, a convolutional network, and one that reads by attention."""

    data: Literal["digits", "mnist", "fashion_mnist"] = Field(
        default="digits", description="digits, mnist or fashion_mnist"
    )
    channels: int = Field(default=16, ge=4, le=512, multiple_of=2, description="filters of the first layer")
    lr: float = Field(default=3e-3, gt=0, description="the learning rate of Adam for the convolutional network")
    epochs: int = Field(default=10, ge=3, description="passes over the pictures")
    attention_lr: float = Field(default=5e-3, gt=0, description="likewise for the network with attention")
    attention_epochs: int = Field(default=15, ge=3, description="likewise for the network with attention")
    batch_size: int = Field(default=64, gt=0, description="pictures in a mini-batch")
    target: float = Field(default=0.9, gt=0, lt=1, description="the validation accuracy that counts as converged")


class Tables(Settings):
    """Rows of the breast-cancer table, a multilayer perceptron, and two models that explain themselves."""

    hidden: tuple[int, ...] = Field(default=(32, 16), min_length=1, description="units of the hidden layers")
    lr: float = Field(default=3e-3, gt=0, description="the learning rate of Adam")
    epochs: int = Field(default=30, ge=3, description="passes over the rows")
    batch_size: int = Field(default=32, gt=0, description="rows in a mini-batch")
    target: float = Field(default=0.93, gt=0, lt=1, description="the validation accuracy that counts as converged")


class Additive(Settings):
    """The additive network, whose contributions are its explanation."""

    units: int = Field(default=16, ge=2, le=1024, description="ReLUs of each feature's own network")
    lr: float = Field(default=5e-3, gt=0, description="the learning rate of Adam")
    epochs: int = Field(default=30, ge=3, description="passes over the rows; for pictures two thirds of it")


class Explaining(Settings):
    """The settings of the methods, the same wherever they are used."""

    methods: tuple[Method, ...] = Field(
        default=METHODS, min_length=1, description="methods for pictures, of: " + ", ".join(METHODS)
    )
    baseline: Literal["black", "mean"] = Field(
        default="black", description="what a pixel that is taken away becomes: black or mean"
    )
    ig_steps: int = Field(default=32, ge=1, le=100_000, description="midpoints of integrated gradients")
    noise: float = Field(default=0.15, ge=0, description="SmoothGrad's noise, a share of each picture's own range")
    noise_draws: int = Field(default=25, ge=1, le=100_000, description="noisy copies that SmoothGrad averages")
    patch: int = Field(default=2, ge=1, le=64, description="side of the patches of occlusion, LIME and SHAP in pixels")
    samples: int = Field(default=300, ge=40, le=1_000_000, description="perturbed copies for LIME and KernelSHAP")


class Trials(Settings):
    """What each explanation has to stand."""

    images: int = Field(default=60, ge=10, le=10_000, description="test pictures that are explained")
    curve_steps: int = Field(default=16, ge=2, le=64, description="steps of a deletion or insertion curve")
    random_orders: int = Field(default=10, ge=1, le=1000, description="random orders that deletion is compared with")
    stability_noise: float = Field(default=0.1, gt=0, description="noise on the input, in standard deviations")
    step_counts: tuple[int, ...] = Field(
        default=(8, 16, 32, 64, 128, 256), min_length=2, description="steps of integrated gradients, rising"
    )
    sample_counts: tuple[int, ...] = Field(
        default=(40, 80, 160, 320, 640), min_length=2, description="model calls of sampled Shapley values, rising"
    )
    rows: int = Field(default=12, ge=2, le=10_000, description="test rows and pictures for the laws, in float64")
    repeats: int = Field(default=10, ge=2, le=10_000, description="repetitions of each sampled estimate")

    @model_validator(mode="after")
    def _counts_rise(self) -> Trials:
        rising("step_counts", self.step_counts)
        rising("sample_counts", self.sample_counts)
        return self


class Shortcut(Settings):
    """The course exercise, first half: a network that cheats, and whether an explanation tells."""

    share: float = Field(default=1.0, ge=0, le=1, description="share of the training pictures that carry a mark")
    strength: float = Field(default=1.0, gt=0, le=1, description="brightness of the mark, from 0 to 1")
    epochs: int = Field(default=6, ge=1, description="passes over the marked pictures")
    top: int = Field(default=4, ge=1, le=64, description="a mark counts as found among this many pixels of a map")


class Case(Settings):
    """The course exercise, second half: one decision, explained on one page to a reader who is no expert."""

    data: Literal["table", "picture"] = Field(default="table", description="table or picture")
    row: int | Literal["least sure", "wrong", "typical"] = Field(
        default="typical", description="the row of the test part, or: typical, least sure, wrong"
    )
    reasons: int = Field(default=5, ge=1, le=10, description="measures that the page names")


class Units(Settings):
    """What single units answer to, and what each layer knows."""

    shown: int = Field(default=6, ge=1, le=12, description="units of each layer that are drawn")
    steps: int = Field(default=60, ge=1, le=100_000, description="steps of activation maximisation")
    penalty: float = Field(
        default=0.5,
        ge=0,
        description="weight of the mean square of the picture, and of neighbours' squared differences",
    )
    strong_penalty: float = Field(default=10.0, ge=0, description="the same, for a second row of the classes")


class Pretrained(Settings):
    """A torchvision network, when its weights file is there."""

    network: Literal["none", "resnet18", "resnet50"] = Field(default="none", description="none, resnet18 or resnet50")
    folder: str = Field(default="", description="the folder of the weights file; empty for PyTorch's own")
    samples: int = Field(default=1000, ge=40, description="perturbed copies for LIME and KernelSHAP")
    patch: int = Field(default=32, ge=4, le=112, description="side of the patches in pixels")


Part = Literal["pictures", "tests", "laws", "tables", "additive", "units", "shortcut", "case", "pretrained"]


class Config(Settings):
    """Everything that can be set in lesson 5."""

    parts: tuple[Part, ...] = Field(
        default=get_args(Part), min_length=1, description="experiments to run, of: " + ", ".join(get_args(Part))
    )
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1, description="seeds, for example [0, 1, 2]")
    training: Training = Training()
    pictures: Pictures = Pictures()
    tables: Tables = Tables()
    additive: Additive = Additive()
    explaining: Explaining = Explaining()
    tests: Trials = Trials()
    shortcut: Shortcut = Shortcut()
    case: Case = Case()
    units: Units = Units()
    pretrained: Pretrained = Pretrained()

    @model_validator(mode="after")
    def _each_experiment_has_its_own_epochs(self) -> Config:
        plain = Training()
        if (self.training.epochs, self.training.batch_size) != (plain.epochs, plain.batch_size):
            raise ValueError("epochs and batch_size in an experiment's own section, such as pictures.epochs")
        return self
