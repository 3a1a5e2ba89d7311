"""The configuration of lesson 1. It imports no torch, so that a wrong setting is told at once."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from coursekit.config import Settings, Training


class Rates(Settings):
    """Learning rates of the comparison: each method's usual default, not tuned."""

    sgd: float = Field(default=0.03, gt=0, description="the rate of SGD, with and without momentum")
    adagrad: float = Field(default=0.01, gt=0, description="the rate of AdaGrad")
    adam: float = Field(default=1e-3, gt=0, description="the rate of RMSprop and the Adam family")


class Sweep(Settings):
    """Learning rates that are tried for each method, to see how much of a difference is only the rate."""

    sgd: tuple[float, ...] = Field(
        default=(0.01, 0.1, 0.3, 1.0), min_length=1, description="rates for SGD, with and without momentum"
    )
    adam: tuple[float, ...] = Field(default=(3e-4, 1e-3, 3e-3), min_length=1, description="rates for RMSprop and Adam")


class Schedules(Settings):
    """The schedules, all with the same number of steps and the same highest rate."""

    peak: float = Field(default=0.3, gt=0, description="the highest learning rate, for SGD with momentum")
    floor: float = Field(default=1e-3, gt=0, description="the lowest learning rate")
    warmup: float = Field(default=0.1, ge=0, lt=1, description="the part of all steps that warms up, from 0 to 1")


class BatchSizes(Settings):
    """The batch-size sweep, with the learning rate kept and with it scaled."""

    sizes: tuple[int, ...] = Field(default=(32, 64, 256), min_length=2, description="batch sizes, in rising order")
    base_size: int = Field(default=64, gt=0, description="the batch size that the rate belongs to")


class Initialization(Settings):
    """The deep network whose activations are measured before any training."""

    depth: int = Field(default=20, ge=2, le=1000, description="layers, from 2 to 1000")
    width: int = Field(default=512, ge=8, le=8192, description="units in a layer, from 8 to 8192")
    rows: int = Field(default=256, ge=2, description="input rows that are sent through")


class Clipping(Settings):
    """A recurrent network that reads each image pixel by pixel, and so has to look far back."""

    hidden: int = Field(default=64, gt=0, description="hidden units")
    scale: float = Field(default=1.0, gt=0, description="the spectral radius of the first recurrent weights")
    epochs: int = Field(default=6, gt=0, description="passes over the training part")
    lr: float = Field(default=0.3, gt=0, description="the learning rate of SGD")
    max_norm: float = Field(default=1.0, gt=0, description="the largest gradient norm with clipping")


class Rosenbrock(Settings):
    """The valley of Rosenbrock's function, walked down from (-1.5, 2)."""

    steps: int = Field(default=500, gt=0, le=1_000_000, description="steps of each optimizer")


class Config(Settings):
    """Everything that can be set in lesson 1."""

    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1, description="seeds, for example [0, 1, 2]")
    data: Literal["digits", "mnist", "fashion_mnist", "cifar10"] = Field(
        default="digits", description="digits, mnist, fashion_mnist or cifar10"
    )
    network: Literal["mlp", "resnet18"] = Field(default="mlp", description="mlp or resnet18")
    hidden: tuple[int, ...] = Field(default=(128, 64), description="units of the hidden layers of the mlp")
    target: float = Field(default=0.95, gt=0, lt=1, description="the validation accuracy that counts as converged")
    weight_decay: float = Field(default=0.1, ge=0, description="the decay of AdamW and of Adam with L2")
    training: Training = Training(epochs=20, batch_size=64)
    rates: Rates = Rates()
    sweep: Sweep = Sweep()
    schedules: Schedules = Schedules()
    batch_sizes: BatchSizes = BatchSizes()
    initialization: Initialization = Initialization()
    clipping: Clipping = Clipping()
    rosenbrock: Rosenbrock = Rosenbrock()
