"""Two networks that learn against each other, as one `Module` of the harness with two optimizers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from coursekit.data import Data, Split
from coursekit.data.batches import Batch
from coursekit.errors import ArgumentError, CheckpointError, DeviceError
from coursekit.harness.averaging import MovingAverage
from coursekit.harness.module import Module, OptimizerFactory, fuse
from coursekit.metrics import evaluating
from lessons.gans.losses import AdversarialLoss, Critic, Penalty
from lessons.gans.networks import couples_rows

Score = Callable[[Tensor, Tensor, Tensor], Mapping[str, float]]
"""Measures generated rows (n, ...) beside real ones (n, ...), whose class numbers are (n,); called after each epoch."""

Draw = Callable[[int], Tensor]
"""Draws as many rows of noise as it is told to."""

Step = Callable[
    [nn.Module, nn.Module, torch.optim.Optimizer, torch.optim.Optimizer, Tensor, Draw], tuple[Tensor, Tensor]
]
"""One step of generator and discriminator, by their optimizers in that order, on real rows; returns D's loss, G's."""

Update = Literal["alternating", "simultaneous"]

_KEY = "adversarial"
_ROWS = 1024  # judged at once in an evaluation


class Pair(nn.Module):
    """A generator and its discriminator."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module) -> None:
        super().__init__()
        self.generator, self.discriminator = generator, discriminator

    def forward(self, noise: Tensor, *labels: Tensor) -> Tensor:
        """Return the discriminator's logits (b,) of what the generator makes of the noise (b, latent)."""
        return self.discriminator(self.generator(noise, *labels), *labels)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the two networks, which training calls one by one."""
        self.generator.compile(*args, **kwargs)
        self.discriminator.compile(*args, **kwargs)


class Judge(nn.Module):
    """A discriminator whose labels are filled in: rows (b, ...) to logits (b,), float32 at least."""

    def __init__(self, discriminator: nn.Module, labels: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.discriminator, self.labels = discriminator, labels

    def forward(self, rows: Tensor) -> Tensor:
        """Return one logit for each row."""
        return _wide(self.discriminator(rows, *self.labels))


class Adversarial(Module):
    """A generator and a discriminator (a critic) that learn in turns.

    One optimizer step of the harness is one step of the discriminator on one mini-batch of real rows and as many
    generated ones; each `critic_steps`-th is followed by one of the generator, on the same generated rows. Real and
    generated rows pass through a discriminator with BatchNorm separately, so each has its own batch statistics.

    `update` says which discriminator the generator meets:
    - `alternating`: the one that has just been changed (Goodfellow et al. 2014, algorithm 1), in a pass of its own.
    - `simultaneous`: the one before that change, so that one pass of the generated rows serves both gradients, and with
      a zero-sum loss one backward pass does (Nowozin et al. 2016, algorithm 1). Another trajectory, for less time.

    The history's columns: `loss` (the discriminator's, its penalty included; not finite as soon as either network's is
    not), `g_loss`, `penalty` (0 without one), `real` and `fake` (mean logits of both kinds of rows), and after each
    epoch `val_real`, `val_fake` on the validation part and what `score` returns, with `val_` before it.

    Args:
        generator: noise (b, latent) to rows (b, ...); conditional networks take class numbers (b,) too.
        discriminator: rows (b, ...) to logits (b,).
        latent: numbers in one row of noise, drawn from N(0, 1).
        loss: the pair of losses; a learner's own may stand in.
        generator_optimizer: builds the optimizer over the generator's parameters.
        discriminator_optimizer: likewise; None takes the generator's.
        penalty: is added to the discriminator's loss, for example `GradientPenalty`.
        critic_steps: steps of the discriminator for each of the generator.
        update: see above.
        classes: above 0, both networks are conditional; a generated row gets the class of its real neighbour.
        decay: of the moving average of the generator's weights, which then makes the samples; 0 keeps none.
        seed: of noise and penalty.
        grid_epochs: after which epochs (from 1; 0 is before training) samples are kept, always of the same noise.
        grid_rows: how many.
        score: measures samples after each epoch.
        step: takes the place of both steps and of `loss`, as a learner's `gan_step` does.

    Attributes:
        average: the moving average of the generator, or None.

    Raises:
        ArgumentError: settings that do not fit each other.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        latent: int,
        loss: AdversarialLoss,
        generator_optimizer: OptimizerFactory,
        discriminator_optimizer: OptimizerFactory | None = None,
        penalty: Penalty | None = None,
        critic_steps: int = 1,
        update: Update = "alternating",
        classes: int = 0,
        decay: float = 0.0,
        seed: int = 0,
        grid_epochs: Collection[int] = (),
        grid_rows: int = 64,
        score: Score | None = None,
        step: Step | None = None,
    ) -> None:
        super().__init__(Pair(generator, discriminator), optimizer=generator_optimizer)
        self._check(latent, critic_steps, update, grid_rows)
        if step is not None and (penalty is not None or critic_steps > 1 or classes or update != "alternating"):
            raise ArgumentError(
                "Adversarial",
                "a step of one's own without penalty, classes, further critic steps and simultaneous update",
                got="a step with one of them",
                fix="leave them out, or leave the step to us",
            )
        if penalty is not None and couples_rows(discriminator):
            raise ArgumentError(
                "Adversarial.penalty",
                "a discriminator that judges each row alone (Gulrajani et al. 2017, section 4)",
                got="one with BatchNorm",
                fix="leave BatchNorm out of it, or the penalty",
            )
        self.make_discriminator_optimizer = discriminator_optimizer or generator_optimizer
        self.latent, self.loss, self.penalty, self.classes = latent, loss, penalty, classes
        self.critic_steps, self.update, self.seed = critic_steps, update, seed
        self.score, self.step = score, step
        self.average = MovingAverage(generator, decay) if decay else None
        self.grids = Grids(grid_epochs, grid_rows)
        self.one_pass = not couples_rows(discriminator)
        self._random: torch.Generator | None = None
        self._random_state: Tensor | None = None
        self._trains = False

    @staticmethod
    def _check(latent: int, critic_steps: int, update: str, grid_rows: int) -> None:
        for name, value in {"latent": latent, "critic_steps": critic_steps, "grid_rows": grid_rows}.items():
            if value < 1:
                raise ArgumentError(f"Adversarial.{name}", "at least 1", got=value, fix="enlarge it")
        if update not in ("alternating", "simultaneous"):
            raise ArgumentError(
                "Adversarial.update", "alternating or simultaneous", got=repr(update), fix="choose one of them"
            )

    @property
    def generator(self) -> nn.Module:
        """What makes rows of noise."""
        return self.network.generator  # pyright: ignore[reportReturnType]

    @property
    def discriminator(self) -> nn.Module:
        """What tells generated rows from real ones."""
        return self.network.discriminator  # pyright: ignore[reportReturnType]

    @property
    def optimizers_of_both(self) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
        """The bare optimizers of generator and discriminator."""
        generator, discriminator = self.trainer.strategy.optimizers
        return generator, discriminator

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Build both optimizers, the generator's first: its learning rate is the history's."""
        both = [
            self.make_optimizer(self.generator.parameters()),
            self.make_discriminator_optimizer(self.discriminator.parameters()),
        ]
        if self.fused:
            for optimizer in both:
                fuse(optimizer)
        return both

    # ------------------------------------------------------------------ noise and samples

    @property
    def random(self) -> torch.Generator:
        """What noise and penalty are drawn from in training; a checkpoint keeps its state."""
        if self._random is None or self._random.device.type != self.device.type:
            self._random = torch.Generator(self.device).manual_seed(self.seed)
            if self._random_state is not None:
                self._random.set_state(self._random_state.cpu())
        return self._random

    def noise(self, count: int, random: torch.Generator | None = None) -> Tensor:
        """Return noise (count, latent) from N(0, 1), in the network's precision and on its device."""
        like = next(self.generator.parameters())
        return torch.randn(count, self.latent, generator=random or self.random, dtype=like.dtype, device=like.device)

    @torch.no_grad()
    def sample(
        self,
        count: int,
        *,
        seed: int = 0,
        labels: Tensor | None = None,
        averaged: bool = True,
    ) -> Tensor:
        """Return generated rows (count, ...), in evaluation mode; neither training nor its noise notices.

        Args:
            count: how many.
            seed: of the noise, apart from the training's.
            labels: their class numbers (count,), where the networks are conditional; None takes 0, 1, 2, ... in turn.
            averaged: whether by the moving average of the weights, where there is one.
        """
        generator = self.average.network if averaged and self.average is not None else self.generator
        # Large and odd, so that no training seed in use begins the same stream.
        random = torch.Generator(self.device).manual_seed(2**40 + 1 + seed)
        if labels is None:
            labels = torch.arange(count, device=self.device) % max(1, self.classes)
        with evaluating(generator), self.mixed_precision():
            return _wide(generator(self.noise(count, random), *self._given(labels.to(self.device))))

    def _given(self, labels: Tensor) -> tuple[Tensor, ...]:
        return (labels,) if self.classes else ()

    # ------------------------------------------------------------------ one step

    def optimize(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step of the discriminator, and of the generator when it is its turn."""
        real, labels = batch[0], self._given(batch[1])
        if self.step is not None:
            return self._step_of_ones_own(self.step, real)
        moves = (self.position.step + 1) % self.critic_steps == 0
        values = (
            self._together(real, labels)
            if moves and self.update == "simultaneous"
            else self._in_turn(real, labels, moves)
        )
        if moves and self.average is not None:
            self.average.update(self.generator)
        # 0 · x is 0 for a finite x only: the harness looks at one column to tell a divergence.
        values["loss"] = values["loss"] + 0 * values["g_loss"]
        return values

    def _in_turn(self, real: Tensor, labels: tuple[Tensor, ...], moves: bool) -> dict[str, Tensor]:
        """Step the discriminator; then, when it is its turn, the generator against the new discriminator."""
        generator_optimizer, discriminator_optimizer = self.optimizers_of_both
        critic = self.critic(labels)
        with self.mixed_precision():
            with torch.set_grad_enabled(moves):
                fake = _wide(self.generator(self.noise(len(real)), *labels))
            real_logits, fake_logits = self._logits(real, fake.detach(), labels)
            d_loss, values = self._discriminator_loss(real_logits, fake_logits, critic, real, fake)
            g_loss = self.loss.generator(fake_logits.detach())
        _descend(d_loss, self.discriminator, discriminator_optimizer)
        if moves:
            with self.mixed_precision():
                g_loss = self.loss.generator(critic(fake))
            _descend(g_loss, self.generator, generator_optimizer)
        return values | {"g_loss": g_loss.detach()}

    def _together(self, real: Tensor, labels: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Step both networks by their gradients at one point; the generated rows are judged once."""
        generator_optimizer, discriminator_optimizer = self.optimizers_of_both
        critic = self.critic(labels)
        with self.mixed_precision():
            fake = _wide(self.generator(self.noise(len(real)), *labels))
            rows = fake.detach().requires_grad_()
            real_logits, fake_logits = critic(real), critic(rows)
            d_loss, values = self._discriminator_loss(real_logits, fake_logits, critic, real, fake)
            g_loss = self.loss.generator(fake_logits)
        discriminator_optimizer.zero_grad()
        generator_optimizer.zero_grad()
        if self.loss.zero_sum:
            d_loss.backward()
            assert rows.grad is not None
            slope = rows.grad.neg()
        else:
            (slope,) = torch.autograd.grad(g_loss, rows, retain_graph=True)
            d_loss.backward(inputs=list(self.discriminator.parameters()))
        fake.backward(slope)
        discriminator_optimizer.step()
        generator_optimizer.step()
        return values | {"g_loss": g_loss.detach()}

    def _logits(self, real: Tensor, fake: Tensor, labels: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return the logits of both kinds of rows: of one pass, where rows do not depend on their neighbours."""
        if not self.one_pass:
            critic = self.critic(labels)
            return critic(real), critic(fake)
        both = self.critic(tuple(label.repeat(2) for label in labels))
        real_logits, fake_logits = both(torch.cat([real, fake])).chunk(2)
        return real_logits, fake_logits

    def _discriminator_loss(
        self, real_logits: Tensor, fake_logits: Tensor, critic: Critic, real: Tensor, fake: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the discriminator's loss, and what the history keeps of it."""
        loss = self.loss.discriminator(real_logits, fake_logits)
        penalty = loss.new_zeros(())
        if self.penalty is not None:
            penalty = self.penalty(critic, real, fake.detach(), self.random)
            loss = loss + penalty
        values = {"loss": loss, "penalty": penalty, "real": real_logits.mean(), "fake": fake_logits.mean()}
        return loss, {name: value.detach() for name, value in values.items()}

    def _step_of_ones_own(self, step: Step, real: Tensor) -> dict[str, Tensor]:
        losses = step(self.generator, self.discriminator, *self.optimizers_of_both, real, self.noise)
        d_loss, g_loss = (torch.as_tensor(loss, device=self.device).detach() for loss in losses)
        if self.average is not None:
            self.average.update(self.generator)
        return {"loss": d_loss + 0 * g_loss, "g_loss": g_loss}

    def critic(self, labels: tuple[Tensor, ...] = ()) -> Critic:
        """Return the discriminator as a module of rows alone; in mixed precision its logits are float32."""
        return Judge(self.discriminator, labels)

    # ------------------------------------------------------------------ after each epoch

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Return mean logits of real and generated rows, and the score of samples; in training, keep a grid.

        The samples are of the same noise at each call, one for each real row and of its class.

        Args:
            batches: (rows, class numbers) pairs on the module's device.
        """
        real, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
        samples = self.sample(len(real), labels=labels)
        with evaluating(self), self.mixed_precision():
            means = {"real": self._mean_logit(real, labels), "fake": self._mean_logit(samples, labels)}
        if self._trains:
            self._keep_grid(self.trainer.current_epoch + 1)
        # Of samples that are not finite there is no score; the harness finds the loss or the weights behind them.
        whole = bool(samples.isfinite().all())
        scores = self.score(samples, real, labels) if self.score is not None and whole else {}
        return {name: float(value) for name, value in {**means, **scores}.items()}

    def _mean_logit(self, rows: Tensor, labels: Tensor) -> Tensor:
        parts = zip(rows.split(_ROWS), labels.split(_ROWS), strict=True)
        return torch.cat([self.critic(self._given(theirs))(part) for part, theirs in parts]).mean()

    def _keep_grid(self, epoch: int) -> None:
        if self.grids.wants(epoch):
            self.grids.keep(epoch, self.sample(self.grids.rows))

    def on_train_start(self) -> None:
        """Keep the samples of the untrained generator, if asked for."""
        if self.trainer.world_size > 1:
            raise DeviceError(
                "Adversarial",
                "one process: its two networks are not shared",
                got=f"{self.trainer.world_size} processes",
                fix="start it without torchrun",
            )
        self._trains = True
        if self.position.step == 0:
            self._keep_grid(0)

    def on_train_end(self) -> None:
        """What is evaluated later is no epoch's."""
        self._trains = False

    # ------------------------------------------------------------------ checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the state of the noise; weights, their average, optimizers and grids are there already."""
        checkpoint[_KEY] = self.random.get_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep that state until the device is known."""
        if _KEY not in checkpoint:
            raise CheckpointError("Adversarial", "a checkpoint with its noise", got="none in it", fix="delete the file")
        self._random, self._random_state = None, checkpoint[_KEY]

    def extra_repr(self) -> str:
        """Say everything that changes the history: a checkpoint of other settings is not continued."""
        settings = {
            "latent": self.latent,
            "loss": self.loss.name,
            "penalty": _name(self.penalty),
            "critic_steps": self.critic_steps,
            "update": self.update,
            "classes": self.classes,
            "seed": self.seed,
            "score": _name(self.score),
            "step": _name(self.step),
        }
        return ", ".join(f"{name}={value}" for name, value in settings.items())


class Grids(nn.Module):
    """Samples of the same noise after chosen epochs; as a submodule they go into every checkpoint.

    Args:
        epochs: after which.
        rows: samples in each.

    Attributes:
        kept: samples (rows, ...) by epoch.

    Raises:
        ArgumentError: an epoch is negative.
    """

    def __init__(self, epochs: Collection[int], rows: int) -> None:
        super().__init__()
        self.epochs, self.rows = tuple(sorted(set(epochs))), rows
        if self.epochs and self.epochs[0] < 0:
            raise ArgumentError("Grids", "epochs from 0 on", got=self.epochs[0], fix="leave it out")
        self.kept: dict[int, Tensor] = {}

    def wants(self, epoch: int) -> bool:
        """Return whether this epoch is one of those."""
        return epoch in self.epochs

    def keep(self, epoch: int, samples: Tensor) -> None:
        """Remember the samples (rows, ...) of an epoch, on the CPU."""
        self.kept[epoch] = samples.cpu()

    def get_extra_state(self) -> Tensor:
        """Return all that is kept, (epochs so far, rows, ...)."""
        return torch.stack(list(self.kept.values())) if self.kept else torch.empty(0)

    def set_extra_state(self, state: Tensor) -> None:
        """Take back what `get_extra_state` returned: the epochs come in their order."""
        self.kept = dict(zip(self.epochs, state, strict=False))

    def extra_repr(self) -> str:
        """Say which epochs."""
        return f"epochs={self.epochs}, rows={self.rows}"


def in_tanh_range(data: Data, *, repeats: int = 1) -> Data:
    """Return image data whose brightness lies in [-1, 1], the range of a generator's tanh.

    Args:
        data: normalised images, as `load` gives them.
        repeats: how often the training part stands in an epoch: a longer epoch is evaluated less often.

    Raises:
        ArgumentError: the data are no images, or `repeats` is below 1.
    """
    if data.low is None or repeats < 1:
        got = f"{data.name}, {repeats} repeats"
        raise ArgumentError("in_tanh_range", "images, and at least 1 repeat", got=got, fix="name an image data set")
    train, validation, test = (
        Split(data.denormalise(part.inputs).mul_(2).sub_(1), part.targets)
        for part in (data.train, data.validation, data.test)
    )
    if repeats > 1:
        train = Split(train.inputs.repeat(repeats, 1, 1, 1), train.targets.repeat(repeats))
    # x = (brightness - ½) / ½
    half = torch.full_like(data.mean, 0.5)
    return replace(data, train=train, validation=validation, test=test, mean=half, std=half)


def _wide(numbers: Tensor) -> Tensor:
    """Return what mixed precision made in float32."""
    return numbers.float() if numbers.dtype == torch.bfloat16 else numbers


def _descend(loss: Tensor, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Take one step of one network; the other one's weights get no gradient, which saves making it."""
    optimizer.zero_grad()
    loss.backward(inputs=list(network.parameters()))
    optimizer.step()


def _name(thing: Any) -> str:
    """Return a name that is the same in the next process (an address is not)."""
    if hasattr(thing, "func"):  # a partial
        return _name(thing.func)
    return getattr(thing, "__qualname__", repr(thing))
