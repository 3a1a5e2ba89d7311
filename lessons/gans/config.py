"""The configuration of lesson 3. It imports no torch, so that a wrong setting is told at once."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from coursekit.config import Settings, Training, nearest

LOSSES = ("minimax", "non-saturating", "least-squares", "hinge", "wasserstein")
"""The pairs of losses that a recipe begins with."""

REMEDIES = ("penalty", "spectral_norm", "critic_steps", "no_momentum", "small_steps")
"""What a recipe may add to a loss, joined by `+`, as in `wasserstein+penalty`."""

BASELINE = "non-saturating"
CURE = "wasserstein+penalty"

DIGITS_OF_TEN = 10


def check_recipe(recipe: str) -> str:
    """Return a recipe, or say which part of it is not known, or comes twice."""
    loss, *remedies = recipe.split("+")
    for part, known, what in [(loss, LOSSES, "loss"), *((remedy, REMEDIES, "remedy") for remedy in remedies)]:
        if part not in known:
            close = nearest(part, known)
            hint = f"did you mean {close}?" if close else f"there are {', '.join(known)}"
            raise ValueError(f"a {what} that exists, not {part!r}: {hint}")
    if len({*remedies}) < len(remedies):
        raise ValueError("each remedy once in a recipe")
    return recipe


def check_recipes(recipes: tuple[str, ...]) -> tuple[str, ...]:
    """Return recipes that are all known and all different."""
    for recipe in recipes:
        check_recipe(recipe)
    if len({*recipes}) < len(recipes):
        raise ValueError("each recipe once")
    return recipes


def rising(values: tuple[float, ...]) -> tuple[float, ...]:
    """Refuse numbers that do not rise: they are drawn along an axis."""
    if any(after <= before for before, after in pairwise(values)):
        raise ValueError("each number must be larger than the one before it")
    return values


Recipes = Annotated[tuple[str, ...], AfterValidator(check_recipes)]
Weight = Annotated[float, Field(ge=0)]
Beta = Annotated[float, Field(ge=0, lt=1)]


class Game(Settings):
    """Two known densities on a line, where the best discriminator can be computed."""

    steps: int = Field(default=400, ge=10, le=1_000_000, description="steps of the discriminator")
    batch_size: int = Field(default=512, ge=2, le=1 << 20, description="points of each density in a step")
    shifts: Annotated[tuple[float, ...], AfterValidator(rising)] = Field(
        default=(0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0),
        min_length=2,
        max_length=50,
        description="how far two normal densities lie apart, in standard deviations, rising",
    )


class Gan(Settings):
    """The two networks and how they learn, the same for all recipes."""

    network: Literal["perceptron", "dcgan", "sngan"] = Field(
        default="perceptron", description="perceptron, or dcgan or sngan (images of 32 × 32)"
    )
    latent: int = Field(default=16, ge=1, le=4096, description="numbers in one row of noise")
    width: int = Field(default=128, ge=1, le=4096, description="units of a hidden layer, or channels")
    lr: float = Field(default=5e-3, gt=0, description="the learning rate of Adam, for both networks")
    betas: tuple[Beta, Beta] = Field(default=(0.9, 0.999), description="Adam's betas; PyTorch's own by default")
    critic_steps: int = Field(
        default=3, ge=1, le=100, description="steps of D for each of G, with penalty or critic_steps"
    )
    penalty: float = Field(default=10.0, gt=0, description="weight of the gradient penalty")
    decay: float = Field(default=0.98, ge=0, lt=1, description="of the moving average of G's weights; 0 for none")
    repeats: int = Field(default=4, ge=1, le=10_000, description="times that the training part stands in an epoch")
    update: Literal["alternating", "simultaneous"] = Field(
        default="alternating", description="alternating, or simultaneous: both steps by the networks as they were"
    )


class Ring(Settings):
    """Gaussians on a circle: a task whose modes are known."""

    recipes: Recipes = Field(
        default=(
            "minimax",
            "non-saturating",
            "least-squares",
            "hinge",
            "hinge+spectral_norm",
            "wasserstein+penalty",
        ),
        min_length=1,
        max_length=12,
        description="what is compared",
    )
    modes: int = Field(default=8, ge=1, le=100, description="Gaussians on the circle")
    std: float = Field(default=0.1, gt=0, description="their standard deviation; the circle's radius is 2")
    latent: int = Field(default=8, ge=1, le=1024, description="numbers in one row of noise")
    width: int = Field(default=64, ge=1, le=4096, description="units of a hidden layer")
    lr: float = Field(default=3e-3, gt=0, description="the learning rate of Adam, for both networks")
    betas: tuple[Beta, Beta] = Field(default=(0.5, 0.999), description="Adam's betas")
    penalty: float = Field(default=1.0, gt=0, description="weight of the gradient penalty")
    gain: float = Field(default=10.0, gt=0, description="what multiplies D's logits under spectral normalisation")
    batch_size: int = Field(default=128, ge=2, le=1 << 20, description="points in a mini-batch")
    steps: int = Field(default=100, ge=1, le=1_000_000, description="steps of G in an epoch")
    epochs: int = Field(default=8, ge=1, le=10_000, description="epochs")


class Augmentation(Settings):
    """A classifier with few labels, helped by a conditional GAN that saw the same labels and no more."""

    recipe: str = Field(default="non-saturating+no_momentum", description="how the conditional GANs learn")
    rows: tuple[int, ...] = Field(default=(50, 200), min_length=1, description="labelled rows, at least ten")
    generated: int = Field(default=1000, ge=10, le=1_000_000, description="generated rows that are added")
    noise: float = Field(default=0.3, ge=0, description="of the control: deviation of noise on pixels in [-1, 1]")
    epochs: int = Field(default=8, ge=1, le=10_000, description="epochs of each classifier, of 1000 rows or more each")

    _known = field_validator("recipe")(check_recipe)

    @field_validator("rows")
    @classmethod
    def _enough(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if min(values) < DIGITS_OF_TEN or sorted({*values}) != [*values]:
            raise ValueError("numbers of at least 10, rising")
        return values


class Cycle(Settings):
    """Two domains of digits without pairs, and the way there and back."""

    steps: int = Field(default=240, ge=10, le=10_000_000, description="steps of both pairs of networks")
    lr: float = Field(default=2e-3, gt=0, description="the learning rate of Adam, for all four networks")
    weight: float = Field(default=10.0, gt=0, description="of the cycle's error in the loss, where it has a part")


class Style(Settings):
    """Pictures with the content of one and the Gram matrices of another."""

    size: int = Field(default=96, ge=40, le=427, description="height and width of the pictures in pixels")
    steps: int = Field(default=20, ge=1, le=100_000, description="steps of L-BFGS")
    content_weights: tuple[Weight, ...] = Field(
        default=(0.05, 1.0), min_length=1, max_length=4, description="weights of the content beside a style of weight 1"
    )


class Problem(Settings):
    """The course exercise: save the collapsing GAN by settings alone, or compare what you like."""

    compare: Recipes = Field(
        default=(
            "non-saturating",
            "non-saturating+no_momentum",
            "non-saturating+spectral_norm",
            "non-saturating+penalty",
            "least-squares",
            "wasserstein",
        ),
        min_length=1,
        max_length=12,
        description="recipes: a loss, then remedies, joined by +",
    )
    lr: float | None = Field(default=None, gt=0, description="another learning rate; null for that of gan.lr")
    betas: tuple[Beta, Beta] | None = Field(default=None, description="other betas; null for those of gan.betas")
    seeds: int = Field(default=1, ge=1, le=100, description="how many of the seeds to use, from the first on")


class Config(Settings):
    """Everything that can be set in lesson 3."""

    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1, description="seeds, for example [0, 1, 2]")
    data: Literal["digits", "mnist", "fashion_mnist", "cifar10"] = Field(
        default="digits", description="digits, mnist, fashion_mnist or cifar10"
    )
    size: int | None = Field(default=None, description="height and width of the images; null as they are")
    samples: int = Field(default=1000, ge=100, le=100_000, description="generated rows that are measured")
    least: float = Field(
        default=0.02, ge=0, lt=0.1, description="share of the samples that a class needs to count as covered"
    )
    classifier_epochs: int = Field(default=20, ge=1, le=1000, description="epochs of the classifier that measures")
    target: float = Field(default=15.0, gt=0, description="the Fréchet distance on validation that counts as converged")
    training: Training = Training(epochs=8, batch_size=64)
    gan: Gan = Gan()
    game: Game = Game()
    ring: Ring = Ring()
    augmentation: Augmentation = Augmentation()
    cycle: Cycle = Cycle()
    style: Style = Style()
    exercise: Problem = Problem()

    @model_validator(mode="after")
    def _networks_fit(self) -> Config:
        if self.gan.network != "perceptron" and self.size != 32:
            raise ValueError("size = 32 with the networks dcgan and sngan")
        return self
