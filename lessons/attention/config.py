"""The configuration of lesson 6. It imports no torch, so that a wrong setting is told at once."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, model_validator

from coursekit.config import Settings, Training


class Recall(Settings):
    """Key-value pairs, then a key: which value belongs to it?"""

    rows: int = Field(default=4096, ge=256, le=1_000_000, description="rows to learn from")
    pairs: int = Field(default=8, ge=2, le=256, description="pairs in a row, at most a quarter of the keys")
    keys: int = Field(default=32, ge=8, le=1024, description="different keys")
    values: int = Field(default=32, ge=4, le=1024, description="different values")
    width: int = Field(default=64, ge=8, le=1024, description="features of an embedded symbol")
    lr: float = Field(default=3e-3, gt=0, description="the learning rate of Adam")
    epochs: int = Field(default=6, ge=3, description="passes over the rows")
    batch_size: int = Field(default=128, gt=0, description="rows in a mini-batch")
    target: float = Field(default=0.95, gt=0, lt=1, description="the validation accuracy that counts as converged")

    @model_validator(mode="after")
    def _longer_rows_need_more_keys(self) -> Recall:
        if 4 * self.pairs > self.keys:
            raise ValueError(
                f"four times as many keys as pairs (at least {4 * self.pairs}), for longer rows are read too"
            )
        return self


class Hard(Settings):
    """One place instead of a mean of all, on the same rows and for as long as recall."""

    tau: float = Field(default=1.0, gt=0, description="the temperature of the straight-through gradient")
    draws: int = Field(default=400, ge=50, le=100_000, description="draws of each gradient estimate")


class Dates(Settings):
    """Dates in eight written forms, translated to ISO 8601 by two recurrent networks, with and without attention."""

    rows: int = Field(default=4096, ge=64, le=60_000, description="dates to learn from")
    width: int = Field(default=32, ge=8, le=1024, multiple_of=2, description="features of a state")
    lr: float = Field(default=1e-2, gt=0, description="the learning rate of Adam")
    epochs: int = Field(default=3, ge=3, description="passes over the dates")
    batch_size: int = Field(default=64, gt=0, description="dates in a mini-batch")
    target: float = Field(default=0.9, gt=0, lt=1, description="share of whole dates that counts as converged")


class Text(Settings):
    """A text by characters: which one comes next?"""

    source: str = Field(default="python_reference", min_length=1, description="python_reference, or a text file's path")
    window: int = Field(default=64, ge=8, le=8192, description="characters read at once")
    stride: int = Field(default=384, ge=1, description="characters from the start of one training row to the next")
    width: int = Field(default=48, ge=8, le=4096, description="features of the transformer, twice its heads divide it")
    layers: int = Field(default=2, ge=1, le=64, description="blocks of the transformer")
    heads: int = Field(default=4, ge=1, le=64, description="heads of the transformer")
    recurrent: int = Field(default=48, ge=8, le=4096, description="features of the recurrent network beside it")
    lr: float = Field(default=1e-2, gt=0, description="the highest learning rate of AdamW")
    epochs: int = Field(default=3, ge=1, description="passes over the rows")
    batch_size: int = Field(default=16, gt=0, description="rows in a mini-batch")
    validation: int = Field(default=64, ge=1, description="rows that each epoch is validated on")

    @model_validator(mode="after")
    def _heads_rotate_pairs(self) -> Text:
        if self.width % (2 * self.heads):
            raise ValueError(f"a width that {2 * self.heads} divides: each head rotates pairs of features")
        return self


class Vision(Settings):
    """The course exercise: a digit somewhere among pieces of others, read with attention and without."""

    data: Literal["digits", "mnist", "fashion_mnist"] = Field(
        default="digits", description="digits, mnist or fashion_mnist"
    )
    networks: tuple[Literal["cnn", "vit"], ...] = Field(
        default=("cnn",), min_length=1, description="cnn, vit (a vision transformer), or both"
    )
    pooling: tuple[Literal["mean", "max", "attention"], ...] = Field(
        default=("mean", "max", "attention"),
        min_length=1,
        description="ways to sum up the places: mean, max, attention",
    )
    size: int = Field(default=16, ge=8, le=256, multiple_of=4, description="height and width of a canvas in pixels")
    clutter: int = Field(default=3, ge=0, le=64, description="pieces of other digits on a canvas")
    channels: int = Field(default=16, ge=4, le=512, multiple_of=4, description="features; the second layer has twice")
    lr: float = Field(default=1e-2, gt=0, description="the highest learning rate of Adam for the cnn")
    vit_lr: float = Field(default=2e-3, gt=0, description="likewise for the vit")
    epochs: int = Field(default=10, ge=3, description="passes over the canvases")
    batch_size: int = Field(default=32, gt=0, description="canvases in a mini-batch")
    target: float = Field(default=0.7, gt=0, lt=1, description="the validation accuracy that counts as converged")

    @model_validator(mode="after")
    def _no_name_twice(self) -> Vision:
        for name, values in (("networks", self.networks), ("pooling", self.pooling)):
            if len(set(values)) < len(values):
                raise ValueError(f"{name} with each kind once")
        return self


class Explain(Settings):
    """Rows of a digit read one after the other: do the attention weights tell why?"""

    width: int = Field(default=32, ge=8, le=1024, multiple_of=2, description="features of a state")
    lr: float = Field(default=1e-2, gt=0, description="the learning rate of Adam")
    epochs: int = Field(default=12, ge=1, description="passes over the digits")
    permutations: int = Field(default=20, ge=1, le=10_000, description="times that the weights are shuffled")


class Cost(Settings):
    """What attention costs against the length of the sequence."""

    lengths: tuple[int, ...] = Field(default=(256, 512, 1024, 2048), min_length=2, description="lengths, rising")
    heads: int = Field(default=4, ge=1, le=128, description="heads")
    head_size: int = Field(default=64, ge=8, le=256, multiple_of=8, description="features of a head")
    rounds: int = Field(default=3, ge=1, le=1000, description="timed calls of each method")
    flex: bool = Field(default=False, description="true to add flex_attention (a compiler, half a minute)")
    half: bool = Field(default=False, description="true for bf16, in which CUDA has its flash kernel")
    prompt: int = Field(default=64, ge=1, description="characters before the generated ones")
    decoder_width: int = Field(default=128, ge=8, multiple_of=8, description="features of the decoder that is timed")
    generated: int = Field(default=256, ge=8, le=65_536, description="characters to generate, cached and not")

    @model_validator(mode="after")
    def _lengths_rise(self) -> Cost:
        if list(self.lengths) != sorted(set(self.lengths)) or self.lengths[0] < 1:
            raise ValueError("lengths that are positive and rise")
        return self


Part = Literal["laws", "recall", "hard", "dates", "places", "explain", "text", "cost"]


class Config(Settings):
    """Everything that can be set in lesson 6."""

    parts: tuple[Part, ...] = Field(
        default=get_args(Part), min_length=1, description="experiments to run, of: " + ", ".join(get_args(Part))
    )
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1, description="seeds, for example [0, 1, 2]")
    training: Training = Training()
    recall: Recall = Recall()
    hard: Hard = Hard()
    dates: Dates = Dates()
    text: Text = Text()
    vision: Vision = Vision()
    explain: Explain = Explain()
    cost: Cost = Cost()

    @model_validator(mode="after")
    def _each_experiment_has_its_own_epochs(self) -> Config:
        plain = Training()
        if (self.training.epochs, self.training.batch_size) != (plain.epochs, plain.batch_size):
            raise ValueError("epochs and batch_size in an experiment's own section, such as recall.epochs")
        return self
