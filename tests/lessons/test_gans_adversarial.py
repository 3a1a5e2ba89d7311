"""Two networks in the harness: the textbook's very steps, resumed bit for bit, with samples kept on the way."""

from __future__ import annotations

import copy
import math
import signal
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from coursekit import runtime
from coursekit.config import Training
from coursekit.data import Data, load
from coursekit.errors import ArgumentError, CheckpointError, DivergedError, StoppedError
from coursekit.harness import fit
from lessons.gans.adversarial import Adversarial, Pair, in_tanh_range
from lessons.gans.losses import LOSSES, AdversarialLoss, GradientPenalty, adversarial_loss
from lessons.gans.networks import (
    DCGANDiscriminator,
    DCGANGenerator,
    PerceptronDiscriminator,
    PerceptronGenerator,
    SNGANDiscriminator,
    SNGANGenerator,
)

LATENT, BATCH = 6, 16
ADAM = partial(torch.optim.Adam, lr=1e-3, betas=(0.5, 0.999))


@pytest.fixture(scope="module")
def digits() -> Data:
    return in_tanh_range(load("digits", limit=6 * BATCH))


def settings(**changes: Any) -> Training:
    return Training(**{"epochs": 2, "batch_size": BATCH, "device": "cpu", "threads": 1, **changes})


def perceptrons(seed: int = 0, **sizes: Any) -> tuple[nn.Module, nn.Module]:
    runtime.seed_everything(seed)
    generator = PerceptronGenerator((1, 8, 8), latent=LATENT, width=16, **sizes)
    return generator, PerceptronDiscriminator((1, 8, 8), width=16, **sizes)


def build(
    networks: tuple[nn.Module, nn.Module] | None = None, loss: str = "non-saturating", **kwargs: Any
) -> Adversarial:
    generator, discriminator = networks or perceptrons()
    return Adversarial(
        generator,
        discriminator,
        **{"latent": LATENT, "loss": adversarial_loss(loss), "generator_optimizer": ADAM, **kwargs},
    )


def without_seconds(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


# ------------------------------------------------------------------------------------------- the textbook's steps


def textbook(
    networks: tuple[nn.Module, nn.Module],
    batches: list[Tensor],
    noise: list[Tensor],
    losses: AdversarialLoss,
    *,
    simultaneous: bool = False,
    critic_steps: int = 1,
) -> list[dict[str, Tensor]]:
    """Train as a textbook does: each kind of rows in a pass of its own, the generator's gradient by another pass.

    Returns the gradients by which each network stepped, by the names of the pair.
    """
    generator, discriminator = networks
    optimizers = ADAM(generator.parameters()), ADAM(discriminator.parameters())
    taken = []
    for number, (real, z) in enumerate(zip(batches, noise, strict=True), start=1):
        discriminator.zero_grad()
        fake = generator(z)
        losses.discriminator(discriminator(real), discriminator(fake.detach())).backward()
        slopes = copy.deepcopy([part.grad for part in discriminator.parameters()])
        if not simultaneous:
            optimizers[1].step()
        if number % critic_steps == 0:
            generator.zero_grad()
            losses.generator(discriminator(fake)).backward()
            if not simultaneous:
                optimizers[0].step()
        for part, slope in zip(discriminator.parameters(), slopes, strict=True):
            part.grad = slope  # the generator's pass has written over it
        if simultaneous:
            for optimizer in optimizers:
                optimizer.step()
        taken.append(
            {name: part.grad.clone() for name, part in Pair(*networks).named_parameters() if part.grad is not None}
        )
    return taken


class Watched(Adversarial):
    """Notes the gradients by which each network stepped, and the rows it saw."""

    taken: list[dict[str, Tensor]]
    seen: list[Tensor]

    def optimize(self, batch: Any) -> dict[str, Tensor]:
        values = super().optimize(batch)
        self.taken.append(
            {name: part.grad.clone() for name, part in self.network.named_parameters() if part.grad is not None}
        )
        self.seen.append(batch[0])
        return values


def dcgan() -> tuple[nn.Module, nn.Module]:
    runtime.seed_everything(0)
    return DCGANGenerator(1, latent=LATENT, width=4), DCGANDiscriminator(1, width=4)


@pytest.mark.parametrize("update", ["alternating", "simultaneous"])
@pytest.mark.parametrize(
    ("networks", "name"),
    [*((perceptrons, name) for name in LOSSES), (dcgan, "non-saturating"), (dcgan, "minimax")],
    ids=[*LOSSES, "non-saturating, DCGAN with BatchNorm", "minimax, DCGAN with BatchNorm"],
)
def test_gradients_and_weights_are_the_textbooks(digits, networks, name, update):
    """In float64. BatchNorm takes the statistics of real and of generated rows apart, in both.

    Simultaneous: both gradients at the same two networks, here by two passes of the generated rows, there by one. The
    running statistics of the discriminator then differ, which saw those rows once instead of twice: it is never put
    into evaluation mode to train.
    """
    data = digits if networks is perceptrons else in_tanh_range(load("digits", size=32, limit=3 * BATCH))
    pair = networks()
    mine = Watched(
        *copy.deepcopy(pair), latent=LATENT, loss=LOSSES[name], generator_optimizer=ADAM, update=update, seed=3
    )
    mine.taken, mine.seen = [], []
    fit(mine, data, settings(epochs=1, precision="64", channels_last=False, fused=False), quiet=True)
    draw = torch.Generator().manual_seed(3)
    noise = [torch.randn(BATCH, LATENT, generator=draw, dtype=torch.float64) for _ in mine.seen]
    theirs = pair[0].double(), pair[1].double()
    taken = textbook(theirs, mine.seen, noise, LOSSES[name], simultaneous=update == "simultaneous")
    assert len(taken) == len(mine.taken) >= 3
    for ours, expected in zip(mine.taken, taken, strict=True):
        assert ours.keys() == expected.keys()
        for part in expected:
            torch.testing.assert_close(ours[part], expected[part], rtol=1e-6, atol=1e-12, msg=part)
    for (part, a), b in zip(mine.network.named_parameters(), Pair(*theirs).parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9, msg=part)


def test_the_critic_takes_more_steps_on_fresh_noise(digits):
    mine = Watched(
        *perceptrons(), latent=LATENT, loss=LOSSES["hinge"], generator_optimizer=ADAM, critic_steps=3, seed=3
    )
    mine.taken, mine.seen = [], []
    fit(mine, digits, settings(epochs=1, precision="64", fused=False), quiet=True)
    draw = torch.Generator().manual_seed(3)
    noise = [torch.randn(BATCH, LATENT, generator=draw, dtype=torch.float64) for _ in range(6)]
    pair = perceptrons()
    theirs = pair[0].double(), pair[1].double()
    textbook(theirs, mine.seen, noise, LOSSES["hinge"], critic_steps=3)
    for a, b in zip(mine.network.parameters(), Pair(*theirs).parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


def test_the_penalty_enters_the_discriminators_gradient(digits):
    mine = build(loss="wasserstein", penalty=GradientPenalty(10.0))
    run = fit(mine, digits, settings(epochs=1), quiet=True)
    assert run.history[0]["penalty"] > 0
    plain = build(loss="wasserstein")
    fit(plain, digits, settings(epochs=1), quiet=True)
    pairs = zip(mine.discriminator.parameters(), plain.discriminator.parameters(), strict=True)
    assert not all(a.equal(b) for a, b in pairs)


@pytest.mark.parametrize("update", ["alternating", "simultaneous"])
def test_a_step_leaves_no_gradient_of_one_network_in_the_other(digits, update):
    """The generator's loss would push the discriminator the wrong way, were its gradient kept for the next step."""
    mine = build(update=update)
    mine.loss = AdversarialLoss(
        "one-sided", lambda real, fake: 0 * (real.mean() + fake.mean()), lambda fake: -fake.mean()
    )
    before = copy.deepcopy(mine.discriminator.state_dict())
    start = copy.deepcopy(mine.generator.state_dict())
    fit(mine, digits, settings(epochs=1), quiet=True)
    assert all(value.equal(before[name]) for name, value in mine.discriminator.state_dict().items())
    assert not all(value.equal(start[name]) for name, value in mine.generator.state_dict().items())


def test_a_step_of_ones_own_takes_the_place_of_ours(digits):
    calls = []

    def step(g: Any, d: Any, opt_g: Any, opt_d: Any, real: Tensor, draw: Any) -> tuple[Tensor, Tensor]:
        fake = g(draw(len(real)))
        d_loss = F.softplus(-d(real)).mean() + F.softplus(d(fake.detach())).mean()
        opt_d.zero_grad()
        d_loss.backward()
        opt_d.step()
        g_loss = F.softplus(-d(fake)).mean()
        opt_g.zero_grad()
        g_loss.backward()
        opt_g.step()
        calls.append(len(real))
        return d_loss, g_loss

    mine, ours = build(step=step), build()
    theirs = fit(mine, digits, settings(), quiet=True).history
    expected = fit(ours, digits, settings(), quiet=True).history
    assert calls == [BATCH] * 12
    for row, other in zip(theirs, expected, strict=True):
        assert row["g_loss"] == pytest.approx(other["g_loss"], rel=1e-4)
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-4)


# ------------------------------------------------------------------------------------------- history, samples, grids


def test_the_history_holds_both_sides_and_the_score(digits):
    seen = []

    def score(samples: Tensor, real: Tensor, labels: Tensor) -> dict[str, float]:
        seen.append((samples.shape, real.shape, labels.shape))
        return {"spread": float(samples.std())}

    run = fit(build(score=score), digits, settings(), quiet=True)
    wanted = {"loss", "g_loss", "penalty", "real", "fake", "val_real", "val_fake", "val_spread"}
    assert wanted <= run.history[0].keys()
    rows = digits.validation.inputs.shape
    assert seen[-1] == (rows, rows, rows[:1])
    assert run.history[0]["val_spread"] == pytest.approx(float(build().sample(len(digits.validation)).std()), rel=0.5)


def test_samples_do_not_disturb_the_training(digits):
    plain = fit(build(), digits, settings(), quiet=True)
    watched = fit(build(grid_epochs=(0, 1, 2), score=lambda samples, *_: {}), digits, settings(), quiet=True)
    assert without_seconds(plain.history) == without_seconds(watched.history)
    module = build()
    state = module.random.get_state()
    a, b = module.sample(5), module.sample(5, seed=1)
    assert a.equal(module.sample(5))
    assert not a.equal(b)
    assert module.random.get_state().equal(state)
    assert module.training


def test_grids_are_of_the_same_noise(digits):
    module = build(grid_epochs=(0, 2, 9), grid_rows=5)
    untrained = module.sample(5)
    fit(module, digits, settings(), quiet=True)
    assert list(module.grids.kept) == [0, 2]
    assert module.grids.kept[0].equal(untrained)
    assert module.grids.kept[2].equal(module.sample(5))
    with pytest.raises(ArgumentError, match="epochs from 0 on"):
        build(grid_epochs=(-1,))


def test_the_average_makes_the_samples_when_there_is_one(digits):
    module = build(decay=0.9)
    fit(module, digits, settings(), quiet=True)
    assert module.average is not None
    assert module.average.updates == 12
    assert not module.sample(4).equal(module.sample(4, averaged=False))
    slow = build(decay=0.9, critic_steps=4)
    fit(slow, digits, settings(), quiet=True)
    assert slow.average is not None
    assert slow.average.updates == 3


def test_conditional_networks_get_the_classes_of_their_real_neighbours(digits):
    class Judge(PerceptronDiscriminator):
        def forward(self, rows: Tensor, labels: Tensor | None = None) -> Tensor:
            assert labels is not None
            given.append(labels)
            return super().forward(rows, labels)

    given: list[Tensor] = []
    runtime.seed_everything(0)
    generator = PerceptronGenerator((1, 8, 8), latent=LATENT, width=16, classes=10)
    module = build((generator, Judge((1, 8, 8), width=16, classes=10)), classes=10)
    fit(module, digits, settings(epochs=1), quiet=True)
    twice = [labels for labels in given if len(labels) == 2 * BATCH]
    assert len(twice) == 6
    assert all(labels[:BATCH].equal(labels[BATCH:]) for labels in twice)
    samples = module.sample(20)
    assert samples.equal(module.sample(20, labels=torch.arange(20) % 10))
    assert not samples.equal(module.sample(20, labels=torch.zeros(20, dtype=torch.long)))


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_spectral_normalisation_and_residual_networks_train(precision):
    data = in_tanh_range(load("digits", size=32, limit=2 * BATCH))
    runtime.seed_everything(0)
    generator = SNGANGenerator(1, latent=LATENT, width=8, classes=10)
    module = build((generator, SNGANDiscriminator(1, width=8, classes=10)), loss="hinge", classes=10, decay=0.9)
    run = fit(module, data, settings(epochs=1, precision=precision), quiet=True)
    assert math.isfinite(run.history[-1]["loss"])
    assert {part.dtype for part in module.parameters()} == {torch.float32}
    assert module.sample(3).shape == (3, 1, 32, 32)


@pytest.mark.parametrize("update", ["alternating", "simultaneous"])
def test_mixed_precision_keeps_logits_and_samples_wide(digits, update):
    wide: list[torch.dtype] = []

    def penalty(critic: Any, real: Tensor, fake: Tensor, random: torch.Generator) -> Tensor:
        wide.extend([critic(real).dtype, fake.dtype])
        return GradientPenalty()(critic, real, fake, random)

    module = build(loss="wasserstein", decay=0.9, update=update, penalty=penalty)
    run = fit(module, digits, settings(precision="bf16"), quiet=True)
    assert {*wide} == {torch.float32}
    assert all(math.isfinite(value) for row in run.history for value in row.values())
    assert module.sample(2).dtype == torch.float32


# ------------------------------------------------------------------------------------------- stopping and failing


@pytest.mark.parametrize("kind", ["plain", "everything"])
@pytest.mark.parametrize("stop_at", [2, 6, 9], ids=["inside an epoch", "at its end", "in the second"])
def test_it_continues_bit_for_bit(digits, tmp_path, kind, stop_at):
    def fresh() -> Adversarial:
        if kind == "plain":
            return build(update="simultaneous")
        networks = perceptrons(classes=10)
        for layer in networks[1].modules():
            if isinstance(layer, nn.Linear):
                spectral_norm(layer)
        more = {"penalty": GradientPenalty(), "critic_steps": 2, "classes": 10, "decay": 0.9, "grid_epochs": (0, 1, 2)}
        return build(networks, "wasserstein", **more)

    class Stopped(Adversarial):
        def optimize(self, batch: Any) -> dict[str, Tensor]:
            if self.position.step + 1 == stop_at:
                signal.raise_signal(signal.SIGINT)
            return super().optimize(batch)

    straight = fit(fresh(), digits, settings(), quiet=True)
    stopped = fresh()
    stopped.__class__ = type("Adversarial", (Stopped,), {})  # of the same name, for the fingerprint
    with pytest.raises(StoppedError):
        fit(stopped, digits, settings(), out=tmp_path, quiet=True)
    resumed = fit(fresh(), digits, settings(), out=tmp_path, quiet=True)
    assert without_seconds(resumed.history) == without_seconds(straight.history)
    read_back = fit(fresh(), digits, settings(), out=tmp_path, quiet=True)
    for other in (resumed, read_back):
        states = straight.module.state_dict(), other.module.state_dict()
        assert states[0].keys() == states[1].keys()
        assert all(value.equal(states[1][name]) for name, value in states[0].items())
    if kind == "everything":
        assert isinstance(read_back.module, Adversarial)
        assert list(read_back.module.grids.kept) == [0, 1, 2]


def test_another_setting_does_not_continue_it(digits, tmp_path):
    fit(build(), digits, settings(), out=tmp_path, quiet=True)
    for other in (build(loss="minimax"), build(critic_steps=2), build(update="simultaneous"), build(seed=1)):
        with pytest.raises(CheckpointError, match="another configuration"):
            fit(other, digits, settings(), out=tmp_path, quiet=True)


@pytest.mark.parametrize("side", ["discriminator", "generator"])
def test_a_loss_that_is_not_finite_ends_with_the_harnesss_error(digits, side):
    module = build()
    usual = module.loss
    nan = torch.tensor(math.nan)
    module.loss = AdversarialLoss(
        "broken",
        lambda real, fake: usual.discriminator(real, fake) * (nan if side == "discriminator" else 1),
        lambda fake: usual.generator(fake) * (nan if side == "generator" else 1),
    )
    with pytest.raises(DivergedError, match="finite loss at every step"):
        fit(module, digits, settings(), quiet=True)


def test_a_generators_loss_that_is_not_finite_in_the_last_step_is_seen(digits):
    """No later step would carry it into the discriminator's."""
    module = build()
    usual, last = module.loss, 6

    def broken(fake: Tensor) -> Tensor:
        return usual.generator(fake) * (math.nan if module.position.step == last - 1 else 1)

    module.loss = AdversarialLoss("broken", usual.discriminator, broken)
    with pytest.raises(DivergedError, match=rf"at step {last - 1} "):
        fit(module, digits, settings(epochs=1), quiet=True)
    assert module.position.step == last


def test_weights_that_are_not_finite_end_it_too_whatever_the_score_would_say(digits, tmp_path):
    def score(samples: Tensor, real: Tensor, labels: Tensor) -> dict[str, float]:
        assert samples.isfinite().all()
        return {}

    def explode(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=math.inf)

    module = build(generator_optimizer=explode, discriminator_optimizer=ADAM, critic_steps=6, score=score)
    with pytest.raises(DivergedError):
        fit(module, digits, settings(epochs=1), out=tmp_path, quiet=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"latent": 0}, "at least 1"),
        ({"critic_steps": 0}, "at least 1"),
        ({"grid_rows": 0}, "at least 1"),
        ({"update": "both"}, "alternating or simultaneous"),
        ({"step": lambda *_: (torch.zeros(()), torch.zeros(())), "critic_steps": 2}, "step of one's own"),
    ],
    ids=["latent", "critic steps", "grid", "update", "own step"],
)
def test_settings_that_do_not_fit_are_refused(changes, words):
    with pytest.raises(ArgumentError, match=words):
        build(**changes)


def test_a_penalty_wants_rows_judged_alone():
    with pytest.raises(ArgumentError, match="judges each row alone"):
        build(dcgan(), penalty=GradientPenalty())


def test_images_are_brought_into_the_range_of_tanh():
    usual = load("digits", limit=50)
    data = in_tanh_range(usual, repeats=3)
    assert len(data.train) == 150
    assert data.train.inputs.min() == -1
    assert data.train.inputs.max() == 1
    torch.testing.assert_close(data.denormalise(data.test.inputs), usual.denormalise(usual.test.inputs))
    with pytest.raises(ArgumentError, match="images"):
        in_tanh_range(load("breast_cancer"))
    with pytest.raises(ArgumentError, match="at least 1 repeat"):
        in_tanh_range(usual, repeats=0)
