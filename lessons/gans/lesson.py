"""Lesson 3, generative adversarial networks: two networks that learn against each other, and how to tell what came out.

Run it with `coursekit run gans`, or as a script: `python lessons/gans/lesson.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from statistics import mean

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from coursekit import plots, runtime
from coursekit.config import Training
from coursekit.data import Data, Split, load
from coursekit.data.mixtures import Mixture, ring
from coursekit.errors import DataError, DeviceError
from coursekit.harness import Experiment, Run
from coursekit.harness.module import Classifier
from coursekit.metrics import (
    Scorecard,
    bytes_on_disk,
    inference_time,
    model_size,
    steps_to_target,
)
from coursekit.metrics.generative import (
    Copies,
    Modes,
    find_copies,
    frechet_distance,
    gaussian_moments,
    inception_distance,
    modes_of_points,
)
from coursekit.plots import Band
from lessons.gans.adversarial import Adversarial, in_tanh_range
from lessons.gans.config import BASELINE, CURE, LOSSES, Config
from lessons.gans.cycle import DOMAINS, CycleGAN, LocalTranslator, Translator, unpaired
from lessons.gans.features import FeatureClassifier, Judge, Quality
from lessons.gans.losses import GradientPenalty, adversarial_loss, between, slope_norms
from lessons.gans.networks import PerceptronDiscriminator
from lessons.gans.pictures import clouds, logit_histograms, mosaics
from lessons.gans.recipes import Learning, Parts, build, critic_steps, my_parts
from lessons.gans.style_transfer import RandomFilters, gram, pictures, transfer

CALM = f"{BASELINE}+no_momentum"


def main(config: Config, experiment: Experiment) -> None:
    """Run every experiment of the lesson."""
    data = in_tanh_range(load(config.data, size=config.size))
    with runtime.threads(1):  # densities and small matrices: a second thread would only wait
        play_the_game(config, experiment)
        compare_slopes(experiment)
    judge = build_judge(config, experiment, data)
    groups = {recipe: train(config, experiment, data, judge, recipe) for recipe in (BASELINE, CURE, CALM)}
    watch_the_collapse(config, experiment, groups)
    measure_samples(config, experiment, judge, groups)
    bound_the_slope(experiment, groups)
    compare_on_the_ring(config, experiment)
    normalise_spectra(config, experiment)
    generate_by_class(config, experiment, data, judge)
    translate(config, experiment, data, judge)
    with runtime.threads(1):
        transfer_style(config, experiment)
    if experiment.mine is not None:
        train_on_own_code(config, experiment, data, judge, groups)
    solve_a_problem(config, experiment, data, judge, groups)


# ---------------------------------------------------------------------------------------------- one training


@dataclass(frozen=True, eq=False)
class Trained:
    """A finished training of two networks.

    Attributes:
        run: what the harness returned.
        judge: measures samples.
        count: how many samples are measured.
    """

    run: Run
    judge: Judge
    count: int

    @property
    def module(self) -> Adversarial:
        """The two networks."""
        assert isinstance(self.run.module, Adversarial)
        return self.run.module

    @cached_property
    def samples(self) -> Tensor:
        """Samples (count, c, h, w) of the averaged generator, on the CPU."""
        return self.module.sample(self.count, seed=self.run.seed).cpu()

    @cached_property
    def quality(self) -> Quality:
        """What is measured of them."""
        return self.judge.quality(self.samples)

    @cached_property
    def last_quality(self) -> Quality:
        """The same of the generator as its last step left it."""
        return self.judge.quality(self.module.sample(self.count, seed=self.run.seed, averaged=False))

    @torch.no_grad()
    def logits(self, rows: Tensor) -> Tensor:
        """Return the discriminator's logits (n,), on the CPU."""
        device = next(self.module.discriminator.parameters()).device
        return torch.cat([self.module.discriminator(part.to(device)).float().cpu() for part in rows.split(1024)])

    def slopes(self) -> Tensor:
        """Return ‖∇D‖ at random points between test rows and samples, (n,)."""
        device = next(self.module.discriminator.parameters()).device
        real = self.judge.data.test.inputs.to(device)[: self.count]
        random = torch.Generator(device).manual_seed(self.run.seed)
        points = between(real, self.samples[: len(real)].to(device), random)
        return slope_norms(self.module.discriminator, points).detach().cpu()

    @property
    def generator_steps(self) -> list[int]:
        """The generator's steps at the end of each epoch."""
        return [int(row["step"]) // self.module.critic_steps for row in self.run.history]


def build_judge(config: Config, experiment: Experiment, data: Data) -> Judge:
    """Train the classifier whose features samples are compared in: one for all seeds, as an instrument is."""
    runtime.seed_everything(0)
    network = FeatureClassifier(data.input_shape, len(data.classes))
    module = Classifier(network, optimizer=partial(torch.optim.Adam, lr=2e-3))
    training = config.training.model_copy(update={"epochs": config.classifier_epochs, "test_curve": False})
    run = experiment.fit(module, data, training, label="classifier", seed=0)
    judge = Judge(network, data, config.least)
    experiment.note(f"The classifier that measures is right on {test_accuracy(network, data):.3f} of the test rows.")
    assert run.history
    return judge


@torch.no_grad()
def test_accuracy(network: nn.Module, data: Data) -> float:
    """Return a classifier's accuracy on the test part."""
    network.eval()
    device = next(network.parameters()).device
    hits = [
        network(rows.to(device)).argmax(1).cpu() == targets.cpu()
        for rows, targets in zip(data.test.inputs.split(2048), data.test.targets.split(2048), strict=True)
    ]
    return float(torch.cat(hits).double().mean())


def train(
    config: Config,
    experiment: Experiment,
    data: Data,
    judge: Judge,
    recipe: str,
    *,
    seeds: Sequence[int] | None = None,
    label: str | None = None,
    learning: Learning | None = None,
    parts: Parts | None = None,
) -> list[Trained]:
    """Train one recipe with each seed, all for the same number of the generator's steps.

    Args:
        recipe: a loss and its remedies.
        seeds: None for `config.seeds`.
        label: of the runs; None for the recipe.
        learning: None for the lesson's own settings.
        parts: the learner's functions, or None for ours.
    """
    learning = learning or Learning.of_images(config, data)
    turns = critic_steps(recipe, learning)
    long = repeated(data, config.gan.repeats * turns)
    trained = []
    for seed in seeds or config.seeds:
        runtime.seed_everything(seed)
        module = build(
            recipe,
            learning,
            seed=seed,
            grid_epochs=shown_epochs(config.training.epochs),
            score=judge.score,
            parts=parts,
        )
        run = experiment.fit(module, long, config.training, label=label or recipe, seed=seed)
        trained.append(Trained(run, judge, config.samples))
    return trained


def repeated(data: Data, times: int) -> Data:
    """Return the data with a training part in which every row stands so many times: longer epochs."""
    inputs, targets = data.train.inputs, data.train.targets
    rows = Split(inputs.repeat(times, *[1] * (inputs.dim() - 1)), targets.repeat(times))
    return replace(data, train=rows)


def shown_epochs(epochs: int) -> list[int]:
    """Return the epochs after which samples are shown: none, the first, and a few more up to the last."""
    return sorted({0, 1, *(math.ceil(epochs * share) for share in (0.25, 0.5, 0.75, 1.0))})


def words(recipe: str) -> str:
    """Return a recipe as it stands in a figure."""
    return recipe.replace("_", " ").replace("+", " + ")


def over_seeds(trained: Sequence[Trained], measure: Callable[[Trained], float]) -> list[float]:
    """Return a measure of each seed's training."""
    return [measure(one) for one in trained]


def with_range(values: list[float]) -> tuple[float, float, float]:
    """Return mean, lowest and highest."""
    return mean(values), min(values), max(values)


def band(trained: Sequence[Trained], column: str) -> Band:
    """Return one column of the histories as a seed band over the generator's steps."""
    return Band(trained[0].generator_steps, [one.run.curve(column) for one in trained])


def samples_over_time(one: Trained) -> dict[str, Tensor]:
    """Return the samples that a training kept, by the generator's steps until then."""
    steps = [0, *one.generator_steps]
    return {f"{steps[epoch]} steps": grid for epoch, grid in one.module.grids.kept.items()}


# ---------------------------------------------------------------------------------------------- 1. the game


def normal(x: Tensor, centre: float, std: float) -> Tensor:
    """Return the density of a normal distribution."""
    return torch.exp(-(((x - centre) / std) ** 2) / 2) / (std * math.sqrt(2 * math.pi))


def divergence(p: Tensor, q: Tensor, x: Tensor) -> float:
    """Return the Jensen-Shannon divergence (nats) of two densities on a grid: ½ KL(p, m) + ½ KL(q, m), m their mean."""
    middle = (p + q) / 2
    halves = [torch.trapezoid(torch.special.xlogy(part, part / middle), x) for part in (p, q)]
    return float(sum(halves)) / 2


def value_of(game: Tensor, p: Tensor, q: Tensor, x: Tensor) -> float:
    """Return E_p[log D] + E_q[log(1 − D)] for a discriminator's logits on a grid."""
    return float(torch.trapezoid(p * nn.functional.logsigmoid(game) + q * nn.functional.logsigmoid(-game), x))


def play_the_game(config: Config, experiment: Experiment) -> None:
    """Train a discriminator on two known densities, beside the best one that there is."""
    x = torch.linspace(-12, 12, 24_001, dtype=torch.float64)
    p = (normal(x, -1.5, 0.5) + normal(x, 1.5, 0.5)) / 2
    q = normal(x, 0.0, 1.2)
    best = p.log() - q.log()
    trained, distances, values = [], [], []
    for seed in config.seeds:
        network = learn_to_tell(config, seed)
        with torch.no_grad():
            logits = network(x[:, None].float()).squeeze(1).double()
        apart = (torch.sigmoid(logits) - p / (p + q)).abs()
        distances.append(float(torch.trapezoid(apart * (p + q) / 2, x)))
        values.append(value_of(logits, p, q, x))
        trained.append(torch.sigmoid(logits))
    seen = (x >= -4) & (x <= 4)
    thin = slice(None, None, 40)
    experiment.figure(
        "best-discriminator",
        plots.curves(
            {
                "p, the data": Band(x[seen][thin], p[seen][thin]),
                "q, the generator": Band(x[seen][thin], q[seen][thin]),
                "p / (p + q)": Band(x[seen][thin], (p / (p + q))[seen][thin]),
                "D, trained": Band(x[seen][thin], torch.stack(trained)[:, seen][:, thin]),
            },
            x_label="x",
            y_label="density, or probability of being real",
            title="The best discriminator is known when both densities are",
        ),
        alt="A density with two peaks, one with a single peak, and two nearly equal curves: p / (p + q) and what a "
        "trained discriminator says.",
        caption=f"{config.game.steps} steps on samples of both. Where samples are rare, it is less right.",
    )
    experiment.claim(
        "discriminator-finds-the-ratio",
        "A discriminator trained on samples comes near p / (p + q) (mean distance under (p + q) / 2, largest seed)",
        max(distances),
        at_most=0.05,
    )
    optimum = value_of(best, p, q, x)
    experiment.claim(
        "value-is-the-divergence",
        f"The value of the game at p / (p + q), here {optimum:.4f}, is −log 4 + 2 JSD(p, q) (error)",
        abs(optimum + math.log(4) - 2 * divergence(p, q, x)),
        at_most=1e-9,
    )
    experiment.claim(
        "trained-value-is-below",
        "No trained discriminator's value is above it (smallest distance below, over the seeds)",
        min(optimum - value for value in values),
        at_least=0,
    )
    experiment.claim(
        "least-value",
        "Where the generator's density is the data's, the best discriminator says ½, and the value is −log 4 (error)",
        abs(value_of(torch.zeros_like(x), p, p, x) + math.log(4)),
        at_most=1e-9,
    )
    shifts = list(config.game.shifts)
    grid = torch.linspace(-12, max(12, shifts[-1] + 12), 48_001, dtype=torch.float64)
    far = [divergence(normal(grid, 0, 1), normal(grid, shift, 1), grid) for shift in shifts]
    experiment.figure(
        "divergence",
        plots.curves(
            {
                "Wasserstein-1": Band(shifts, shifts),
                "Jensen-Shannon (nats)": Band(shifts, far),
                "its limit, log 2": Band(shifts, [math.log(2)] * len(shifts)),
            },
            x_label="distance of two normal densities of deviation 1",
            y_label="how different they are",
            title="One measure goes on growing, the other has had enough",
        ),
        alt="A straight line for Wasserstein-1; the Jensen-Shannon divergence flattens at log 2 from a distance of 4.",
        caption="A generator far from the data gets no slope from a measure that is flat there.",
    )


def learn_to_tell(config: Config, seed: int) -> nn.Module:
    """Train a small discriminator on points of the two densities."""
    runtime.seed_everything(seed)
    network = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2, fused=True)
    loss = adversarial_loss("minimax").discriminator
    random = torch.Generator().manual_seed(seed)
    for step in range(config.game.steps):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / config.game.steps)
        noise = torch.randn(2, config.game.batch_size, 1, generator=random)
        side = torch.randint(2, (config.game.batch_size, 1), generator=random) * 3 - 1.5
        value = loss(network(side + 0.5 * noise[0]), network(1.2 * noise[1]))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return network


# ---------------------------------------------------------------------------------------------- 2. five losses


def compare_slopes(experiment: Experiment) -> None:
    """Ask of each loss how hard it pulls a generated row up, over what the discriminator thinks of that row."""
    logits = torch.linspace(-5, 5, 101, dtype=torch.float64)
    experiment.figure(
        "slopes",
        plots.curves(
            {name: Band(logits, pull(name, logits)) for name in LOSSES if name != "wasserstein"},
            x_label="logit D(G(z)): below 0 the row is called generated",
            y_label="how hard the loss pulls the logit up",
            title="What each loss asks of the generator",
        ),
        alt="Minimax pulls with nothing where the logit is low, non-saturating with 1 there, hinge with 1 everywhere; "
        "least squares pulls in proportion to the distance from 1, and down beyond it.",
        caption="The generator's hinge and Wasserstein losses are one: −D(G(z)).",
    )
    surely = torch.tensor([-8.0], dtype=torch.float64)
    experiment.claim(
        "minimax-saturates",
        "Where D is sure that a row is generated (logit −8), the minimax loss pulls with less than a thousandth of the "
        "non-saturating one (ratio)",
        float(pull("minimax", surely) / pull(BASELINE, surely)),
        at_most=1e-3,
    )


def pull(name: str, logits: Tensor) -> Tensor:
    """Return minus the slope of a generator's loss at each logit (n,), as if it were alone."""
    at = logits.clone().requires_grad_()
    total = torch.stack([adversarial_loss(name).generator(one[None]) for one in at]).sum()
    return -torch.autograd.grad(total, at)[0]


# ---------------------------------------------------------------------------------------------- 3. collapse


def watch_the_collapse(config: Config, experiment: Experiment, groups: dict[str, list[Trained]]) -> None:
    """Look at samples, classes and logits while two networks learn: one pair of losses collapses."""
    first = {recipe: trained[0] for recipe, trained in groups.items()}
    experiment.figure(
        "samples-over-time",
        mosaics(
            {words(recipe): samples_over_time(one) for recipe, one in first.items()},
            title=f"The same noise while the generators learn, seed {config.seeds[0]}",
            note="36 samples after so many steps of the generator, by the averaged weights",
        ),
        alt="Mosaics of digits: with the non-saturating loss all samples become one digit; with WGAN-GP and without "
        "momentum all digits appear.",
        caption="All three have the same networks, first weights and rate. The second changes the loss and adds the "
        "penalty, the third changes nothing but Adam's first beta, from 0.9 to 0.",
    )
    experiment.figure(
        "classes-over-time",
        plots.curves(
            {words(recipe): band(trained, "val_classes") for recipe, trained in groups.items()},
            x_label="steps of the generator",
            y_label="classes among the samples, of ten",
            title="Which of the ten digits does it make?",
        ),
        alt="Classes over steps: the non-saturating GAN stays low, the other two reach ten.",
        caption=f"A class counts from {config.least:.0%} of the samples on.",
    )
    experiment.figure(
        "distance-over-time",
        plots.curves(
            {words(recipe): band(trained, "val_distance") for recipe, trained in groups.items()},
            x_label="steps of the generator",
            y_label="Fréchet distance to validation rows, log axis",
            title="Fréchet distance on the classifier's features",
            log_y=True,
            target=config.target,
        ),
        alt="Distances over steps on a logarithmic axis: one stays in the hundreds, two fall below 15.",
        caption="Between Gaussians that are fitted to 32 features of real and of generated rows.",
    )
    experiment.figure(
        "logits",
        logit_histograms(
            {
                words(recipe): (one.logits(one.judge.data.test.inputs), one.logits(one.samples))
                for recipe, one in first.items()
            },
            x_label="logit, or the critic's score",
            title="What the discriminators think of test rows and of samples",
            note=f"seed {config.seeds[0]}; each panel has its own axis",
        ),
        alt="Histograms of logits: after a collapse real and generated rows lie far apart; otherwise they overlap.",
        caption="Where the two overlap, the discriminator cannot tell. A collapsed generator is told at once.",
    )
    collapsed, cured = groups[BASELINE], groups[CURE]
    experiment.claim(
        "non-saturating-collapses",
        "The non-saturating GAN under Adam's usual betas keeps few of the ten digits (classes covered, largest seed)",
        max(over_seeds(collapsed, lambda one: one.quality.classes)),
        at_most=6,
    )
    experiment.claim(
        "wgan-gp-covers-all",
        "WGAN-GP with the same networks, rate and betas covers all ten (classes covered, smallest seed)",
        min(over_seeds(cured, lambda one: one.quality.classes)),
        at_least=10,
    )
    experiment.claim(
        "wgan-gp-is-near",
        "WGAN-GP's Fréchet distance to test rows is small (largest seed)",
        max(over_seeds(cured, lambda one: one.quality.distance)),
        at_most=15,
    )
    experiment.claim(
        "collapse-is-far",
        "The collapsed GAN's Fréchet distance is many times as large (its smallest over WGAN-GP's largest)",
        min(over_seeds(collapsed, lambda one: one.quality.distance))
        / max(over_seeds(cured, lambda one: one.quality.distance)),
        at_least=8,
    )
    experiment.claim(
        "momentum-was-the-cause",
        "The non-saturating GAN without momentum (Adam's first beta 0) does not collapse (classes covered, smallest "
        "seed)",
        min(over_seeds(groups[CALM], lambda one: one.quality.classes)),
        at_least=9,
    )


# ---------------------------------------------------------------------------------------------- 4. the numbers


MEASURES: dict[str, Callable[[Quality], float]] = {
    "classes covered, share": lambda quality: quality.classes / len(quality.shares),
    "precision": lambda quality: quality.manifolds.precision,
    "recall": lambda quality: quality.manifolds.recall,
    "probe accuracy": lambda quality: quality.probe,
    "copies": lambda quality: quality.copies.share,
}


def measured(name: str, qualities: Sequence[Quality]) -> tuple[str, list[float]]:
    """Return one row of a table: its name with the mean Fréchet distance, and the means of all measures."""
    distance = mean(quality.distance for quality in qualities)
    return f"{name}: {distance:.1f}", [mean(measure(quality) for quality in qualities) for measure in MEASURES.values()]


def measure_samples(config: Config, experiment: Experiment, judge: Judge, groups: dict[str, list[Trained]]) -> None:
    """Measure samples in several ways, and measure the measures: on real rows, on noise, and on copies."""
    data = judge.data
    random = torch.Generator().manual_seed(0)
    train_rows, shape = data.train.inputs.cpu(), data.input_shape
    chosen = torch.randperm(len(train_rows), generator=random)[: config.samples]
    references = {
        "real rows it was trained on": judge.quality(train_rows[chosen]),
        "real validation rows": judge.quality(data.validation.inputs),
        "uniform noise": judge.quality(torch.rand(config.samples, *shape, generator=random) * 2 - 1),
    }
    table = dict(
        [
            *(measured(words(recipe), [one.quality for one in trained]) for recipe, trained in groups.items()),
            *(measured(name, [quality]) for name, quality in references.items()),
        ]
    )
    experiment.figure(
        "measures",
        plots.matrix(
            list(table.values()),
            rows=list(table),
            columns=list(MEASURES),
            x_label="measure",
            y_label="samples: Fréchet distance",
            value_label=f"mean over {len(config.seeds)} seeds; the last three rows are references",
            title="Samples, measured in six ways",
        ),
        alt="A table of five measures for three GANs and three references, with the Fréchet distance beside each name.",
        caption="Each measure alone can be fooled: one sharp digit has precision, noise covers all classes, and the "
        "training rows themselves are the best samples by every measure but the last.",
    )
    if shape[0] == 3:
        samples = {recipe: trained[0].samples for recipe, trained in groups.items()}
        experiment.note(inception_note(data.test.inputs.cpu(), samples))
    for recipe, trained in groups.items():
        experiment.score(gan_scorecard(config, recipe, trained))
    cards = {name: card.to_dict() for name, card in experiment.scorecards.items()}
    experiment.figure(
        "scorecard",
        plots.scorecard_figure(cards, title="Ten metrics of three GANs"),
        alt="One panel for each metric, one point with its interval for each GAN.",
        caption=plots.scorecard_caption(cards),
    )
    experiment.claim(
        "collapse-has-no-recall",
        "Recall finds the collapse (largest seed of the non-saturating GAN)",
        max(over_seeds(groups[BASELINE], lambda one: one.quality.manifolds.recall)),
        at_most=0.1,
    )
    experiment.claim(
        "momentum-free-trades-recall",
        "Against the GAN without momentum, WGAN-GP has the better recall (difference of the means)",
        mean(over_seeds(groups[CURE], lambda one: one.quality.manifolds.recall))
        - mean(over_seeds(groups[CALM], lambda one: one.quality.manifolds.recall)),
        at_least=0,
    )
    experiment.claim(
        "no-copies",
        "WGAN-GP does not repeat training rows (share of its samples that are nearer to one than 99 % of the test rows "
        "are, largest seed)",
        max(over_seeds(groups[CURE], lambda one: one.quality.copies.share)),
        at_most=0.02,
    )
    experiment.claim(
        "copies-are-found",
        "Where samples are training rows, this is found (share of training rows called copies)",
        references["real rows it was trained on"].copies.share,
        at_least=0.99,
    )
    averaged, last = (
        mean(over_seeds(groups[CURE], measure))
        for measure in (lambda one: one.quality.distance, lambda one: one.last_quality.distance)
    )
    experiment.claim(
        "averaging-helps",
        f"The average of WGAN-GP's generators is nearer to the data than the last one (mean distance {averaged:.1f} "
        f"and {last:.1f}; their ratio)",
        averaged / last,
        at_most=1.0,
    )


def inception_note(real: Tensor, samples: dict[str, Tensor]) -> str:
    """Return a sentence with each recipe's FID, or one that says what is missing for it.

    Args:
        real: colour images (n, 3, h, w) in [-1, 1].
        samples: by recipe, likewise.
    """
    try:
        found = {
            recipe: inception_distance(real[: len(rows)] / 2 + 0.5, rows / 2 + 0.5) for recipe, rows in samples.items()
        }
    except (DataError, DeviceError) as error:
        return f"No FID, only the distance on the classifier's features: {error}"
    return "FID: " + ", ".join(f"{words(recipe)} {distance:.1f}" for recipe, distance in found.items()) + "."


def gan_scorecard(config: Config, recipe: str, trained: Sequence[Trained]) -> Scorecard:
    """Return the ten metrics of a GAN; what accuracy, precision and recall are here stands in the lesson's text."""
    rows = []
    for one in trained:
        module, quality = one.module, one.quality
        assert module.average is not None or not config.gan.decay
        generator = module.generator
        noise = module.noise(256, torch.Generator(module.device).manual_seed(0))
        speed = inference_time(generator, noise)
        reached = steps_to_target(one.run.curve("val_distance"), config.target, patience=2, mode="min")
        rows.append(
            {
                "accuracy": quality.probe,
                "precision": quality.manifolds.precision,
                "recall": quality.manifolds.recall,
                "f1": quality.manifolds.f1,
                "training_time": one.run.watch.seconds,
                "warmup_time": one.run.watch.warmup_seconds,
                "inference_time": speed.median_ms,
                "inference_time_p95": speed.p95_ms,
                "model_size": bytes_on_disk(generator),
                "parameters": model_size(generator).parameters,
                "convergence_rate": reached,
                "convergence_steps": None if reached is None else one.generator_steps[reached - 1],
                "robustness": float(quality.classes >= len(one.judge.data.classes) - 1),
                "frechet_distance": quality.distance,
                "classes_covered": float(quality.classes),
                "copies": quality.copies.share,
            }
        )
    values = {name: [row[name] for row in rows] for name in rows[0]}
    return Scorecard.from_seeds(
        words(recipe),
        values,
        [one.run.seed for one in trained],
        not_applicable={"loss": "the losses of two games have no common unit, and fall and rise with the opponent"},
        extra={"frechet_distance": "squared features", "classes_covered": "classes", "copies": "fraction"},
    )


# ---------------------------------------------------------------------------------------------- 5. the slope


def bound_the_slope(experiment: Experiment, groups: dict[str, list[Trained]]) -> None:
    """Measure the critics' slopes where the penalty asks for 1: between real rows and samples."""
    slopes = {recipe: over_seeds(trained, lambda one: float(one.slopes().mean())) for recipe, trained in groups.items()}
    experiment.figure(
        "slope-norms",
        plots.bars(
            {words(recipe): with_range(values) for recipe, values in slopes.items()},
            x_label="mean of ‖∇D‖ between test rows and samples",
            y_label="recipe",
            title="How steep are the discriminators?",
            note=f"bar: mean of {len(groups[CURE])} seeds; line: lowest to highest seed",
        ),
        alt="Bars: the penalised critic's slope is near 1, that of the collapsed GAN's many times as large.",
        caption="The slope is taken by the pixels, at one random point between each test row and a sample.",
    )
    experiment.claim(
        "penalty-drives-the-slope-to-one",
        "The gradient penalty drives the critic's slope to 1 (distance of its mean norm from 1, largest seed)",
        max(abs(value - 1) for value in slopes[CURE]),
        at_most=0.15,
    )
    random = torch.Generator().manual_seed(0)
    direction = torch.randn(6, generator=random, dtype=torch.float64)
    rows = torch.randn(2, 9, 6, generator=random, dtype=torch.float64)
    found = GradientPenalty(10.0)(lambda points: points @ direction, rows[0], rows[1], random)
    experiment.claim(
        "penalty-of-a-linear-critic",
        "For a linear critic a · x the penalty is λ (‖a‖ − 1)² (error, λ = 10)",
        abs(float(found - 10 * (direction.norm() - 1) ** 2)),
        at_most=1e-9,
    )


# ---------------------------------------------------------------------------------------------- 6. the ring


def compare_on_the_ring(config: Config, experiment: Experiment) -> None:
    """Let all losses learn eight Gaussians on a circle, where every mode can be counted."""
    settings, learning = config.ring, Learning.of_points(config.ring)
    seed = config.seeds[0]
    variants = {recipe: (recipe, learning) for recipe in settings.recipes}
    if settings.gain != 1 and "hinge+spectral_norm" in variants:
        variants["hinge+spectral_norm, no gain"] = ("hinge+spectral_norm", replace(learning, gain=1.0))
    modes: dict[str, Modes] = {}
    samples: dict[str, dict[str, Tensor]] = {}
    curves = {}
    for name, (recipe, chosen) in variants.items():
        mixture = ring_data(config, seed, critic_steps(recipe, chosen))
        one = learn_the_ring(config, experiment, name, recipe, chosen, mixture, seed)
        module = one.module
        assert isinstance(module, Adversarial)
        steps = [int(row["step"]) // module.critic_steps for row in one.history]
        samples[words(name)] = {
            f"{0 if epoch == 0 else steps[epoch - 1]} steps": grid for epoch, grid in module.grids.kept.items()
        }
        curves[words(name)] = Band(steps, one.curve("val_modes"))
        modes[name] = modes_of_points(
            module.sample(2000, seed=seed).cpu(), mixture.centres, mixture.std, least=LEAST_OF_A_MODE / settings.modes
        )
    centres = ring_data(config, seed, 1).centres
    experiment.figure(
        "ring",
        clouds(
            samples,
            centres,
            reach=3.2,
            title=f"A ring of {settings.modes} Gaussians, seed {seed}",
            note="500 samples after so many steps of the generator; rings: the true centres",
        ),
        alt="Clouds of points over time: most losses spread over all centres; spectral normalisation without a gain "
        "stays in one place.",
        caption="The same networks, rate and number of the generator's steps for all.",
    )
    experiment.figure(
        "ring-modes",
        plots.curves(
            curves,
            x_label="steps of the generator",
            y_label=f"modes covered, of {settings.modes}",
            title="Modes covered over time",
        ),
        alt="Modes over steps for each loss.",
        caption="A mode counts from a quarter of its due share on, within three standard deviations of its centre.",
    )
    experiment.figure(
        "ring-quality",
        plots.bars(
            {f"{words(name)} ({found.covered} modes)": found.high_quality for name, found in modes.items()},
            x_label="share of samples within three standard deviations of a centre",
            y_label="recipe",
            title="High-quality samples on the ring",
            note=f"2000 samples, one seed; the data themselves have {1 - math.exp(-4.5):.3f}",
        ),
        alt="Bars of the share of high-quality samples.",
        caption="With one seed, small differences say nothing.",
    )
    shown = [name for name in ("minimax", "non-saturating", "least-squares", "hinge") if name in modes]
    if shown:
        experiment.claim(
            "ring-is-no-test-of-losses",
            f"On the ring, with a first beta of {settings.betas[0]:g}, no loss collapses "
            f"({', '.join(shown)}; fewest modes covered)",
            min(modes[name].covered for name in shown),
            at_least=settings.modes - 2,
        )
    if "hinge+spectral_norm, no gain" in modes:
        experiment.claim(
            "spectral-norm-needs-a-gain",
            "With spectral normalisation alone D is too flat for a ring this fine (modes covered; with its logits "
            f"multiplied by {settings.gain:g}: {modes['hinge+spectral_norm'].covered})",
            modes["hinge+spectral_norm, no gain"].covered,
            at_most=2,
        )


LEAST_OF_A_MODE = 0.25
"""Of a mode's due share among the samples."""


def ring_data(config: Config, seed: int, turns: int) -> Mixture:
    """Return the ring, with as many rows as one epoch of the generator's steps takes."""
    settings = config.ring
    rows = settings.steps * settings.batch_size * turns
    return ring(rows, 2000, 2000, modes=settings.modes, std=settings.std, seed=seed)


def learn_the_ring(
    config: Config, experiment: Experiment, name: str, recipe: str, learning: Learning, mixture: Mixture, seed: int
) -> Run:
    """Train one recipe on the ring."""
    settings = config.ring
    runtime.seed_everything(seed)
    module = build(
        recipe,
        learning,
        seed=seed,
        grid_epochs=shown_epochs(settings.epochs),
        grid_rows=500,
        score=partial(score_points, mixture),
    )
    training = config.training.model_copy(
        update={"epochs": settings.epochs, "batch_size": settings.batch_size, "precision": "32"}
    )
    return experiment.fit(module, mixture.data, training, label=f"ring, {name}", seed=seed)


def score_points(mixture: Mixture, samples: Tensor, real: Tensor, labels: Tensor) -> dict[str, float]:
    """Return the modes that the samples cover, and the share that lies near one."""
    least = LEAST_OF_A_MODE / len(mixture.centres)
    found = modes_of_points(samples.cpu(), mixture.centres, mixture.std, least=least)
    return {"modes": float(found.covered), "high_quality": found.high_quality}


# ---------------------------------------------------------------------------------------------- 7. spectral norm


def operator_norm(layer: nn.Conv2d, size: int) -> float:
    """Return by how much a convolution can stretch an image of size × size: its largest singular value, exactly.

    The matrix of the convolution as a linear map has one column for each input number.
    """
    channels = layer.in_channels
    basis = torch.eye(channels * size * size, dtype=layer.weight.dtype).view(-1, channels, size, size)
    with torch.no_grad():
        columns = nn.functional.conv2d(basis, layer.weight, padding=layer.padding).flatten(1)
    return float(torch.linalg.matrix_norm(columns, ord=2))


def normalise_spectra(config: Config, experiment: Experiment) -> None:
    """Ask what spectral normalisation bounds: the reshaped weight, or the convolution?"""
    matrices, convolutions = [], []
    for seed in config.seeds:
        runtime.seed_everything(seed)
        layer = normalised_convolution()
        matrices.append(float(torch.linalg.matrix_norm(layer.weight.detach().double().flatten(1), ord=2)))
        convolutions.append(operator_norm(layer, 8))
    experiment.figure(
        "spectral-norms",
        plots.bars(
            {
                "the weight, flattened to (out, rest)": with_range(matrices),
                "the convolution, on 8 × 8 images": with_range(convolutions),
                "the bound for a 3 × 3 kernel, √9": 3.0,
            },
            x_label="largest singular value",
            y_label="of which map",
            title="What spectral normalisation bounds",
            note=f"3 × 3 convolutions from 8 to 16 channels, random weights, {len(config.seeds)} seeds",
        ),
        alt="Bars: 1 for the flattened weight, more for the convolution itself.",
        caption="A network of such layers is not Lipschitz with constant 1.",
    )
    experiment.claim(
        "spectral-norm-bounds-the-matrix",
        "After spectral normalisation the flattened weight's largest singular value is 1 (largest error)",
        max(abs(value - 1) for value in matrices),
        at_most=1e-3,
    )
    experiment.claim(
        "spectral-norm-does-not-bound-the-convolution",
        "The convolution itself still stretches its input by more (smallest over the seeds)",
        min(convolutions),
        at_least=1.2,
    )
    experiment.claim(
        "the-kernel-bounds-it",
        "The convolution stretches by no more than √(3 · 3) times the matrix's bound (largest over the seeds)",
        max(convolutions),
        at_most=3.0,
    )


def normalised_convolution() -> nn.Conv2d:
    """Return a 3 × 3 convolution under spectral normalisation, after enough power iterations."""
    layer = spectral_norm(nn.Conv2d(8, 16, 3, padding=1, bias=False), n_power_iterations=200)
    assert isinstance(layer, nn.Conv2d)
    with torch.no_grad(), parametrize.cached():
        _ = layer.weight
    return layer.eval()


# ---------------------------------------------------------------------------------------------- 8. classes


def generate_by_class(config: Config, experiment: Experiment, data: Data, judge: Judge) -> None:
    """Ask a conditional GAN for chosen digits, and whether its digits help a classifier that has few labels."""
    settings = config.augmentation
    seed = config.seeds[0]
    whole = learn_classes(config, experiment, data, judge, None, seed)
    classes = len(data.classes)
    wanted = torch.arange(classes).repeat_interleave(10)
    asked = whole.module.sample(len(wanted), seed=seed, labels=wanted).cpu()
    many = torch.arange(config.samples) % classes
    made = whole.module.sample(config.samples, seed=seed, labels=many).cpu()
    right = float((judge.probabilities(judge.features(made)).argmax(1) == many).double().mean())
    rows = {"all": asked}
    results: dict[int, list[dict[str, float]]] = {}
    copies: dict[int, list[Copies]] = {}
    for count in settings.rows:
        seeds = config.seeds if count == settings.rows[0] else config.seeds[:1]
        results[count], copies[count] = [], []
        for number in seeds:
            few = few_rows(data, count, number)
            one = learn_classes(config, experiment, few, judge, count, number)
            given = torch.arange(settings.generated) % classes
            fake = one.module.sample(settings.generated, seed=number, labels=given).cpu()
            copies[count].append(find_copies(fake, few.train.inputs.cpu(), data.test.inputs.cpu()))
            results[count].append(train_with_help(config, experiment, few, Split(fake, given), count, number))
            if number == seed:
                rows[f"{count} rows"] = one.module.sample(len(wanted), seed=seed, labels=wanted).cpu()
    experiment.figure(
        "by-class",
        mosaics(
            {"ten of each class": {f"trained on {name}": images for name, images in rows.items()}},
            title="A conditional GAN makes the digit that it is asked for",
            note=f"each line of a mosaic asks for one class; seed {seed}",
            columns=10,
        ),
        alt="Mosaics of ten lines of ten digits, one line for each class.",
        caption=f"Trained on all rows, {right:.0%} of its samples are what was asked for, by the classifier.",
    )
    table = {
        f"{count} rows": [mean(row[name] for row in found) for name in HELPERS]
        + [mean(one.share for one in copies[count])]
        for count, found in results.items()
    }
    experiment.figure(
        "augmentation",
        plots.matrix(
            list(table.values()),
            rows=list(table),
            columns=[*HELPERS, "copies among the generated"],
            x_label="what the classifier is trained on",
            y_label="labelled rows",
            value_label=f"test accuracy; {len(results[settings.rows[0]])} seeds in the first line, one in the others",
            title="Do generated digits replace labels?",
            digits=3,
        ),
        alt="A table of test accuracies with real rows, with generated ones added, with noise added.",
        caption="All classifiers take the same number of steps. The GAN saw the same few rows and no others.",
    )
    least = settings.rows[0]
    gains = [row["real and generated"] - row["real"] for row in results[least]]
    experiment.claim(
        "classes-are-obeyed",
        "A conditional GAN makes the class that it is asked for (share of its samples, by the classifier)",
        right,
        at_least=0.85,
    )
    experiment.claim(
        "generated-rows-add-little",
        f"With {least} labelled rows, generated ones add little or nothing to the test accuracy (mean gain over the "
        "seeds)",
        mean(gains),
        at_most=0.03,
    )
    experiment.claim(
        "few-rows-are-copied",
        f"A GAN that saw {least} rows copies them (share of its samples that are copies, smallest seed)",
        min(one.share for one in copies[least]),
        at_least=0.1,
    )


HELPERS = ("real", "real and generated", "generated alone", "real with noise")


def few_rows(data: Data, count: int, seed: int) -> Data:
    """Return the data with a few training rows, the classes in their shares; each seed has its own."""
    return in_tanh_range(load(data.name, limit=count, seed=seed, size=resized(data)))


def resized(data: Data) -> int | None:
    """Return the size that images were brought to, or None where it is their own."""
    return None if data.input_shape == data.card.shape else data.input_shape[-1]


def learn_classes(
    config: Config, experiment: Experiment, data: Data, judge: Judge, count: int | None, seed: int
) -> Trained:
    """Train a conditional GAN on all rows, or on a few."""
    learning = replace(Learning.of_images(config, data), classes=len(data.classes))
    recipe = config.augmentation.recipe
    size = min(config.training.batch_size, len(data.train))
    whole = config.gan.repeats * len(judge.data.train) * critic_steps(recipe, learning)
    long = repeated(data, max(1, whole // len(data.train)))
    runtime.seed_everything(seed)
    module = build(recipe, learning, seed=seed, score=judge.score)
    training = config.training.model_copy(update={"batch_size": size})
    label = f"conditional, {count or 'all'} rows"
    return Trained(experiment.fit(module, long, training, label=label, seed=seed), judge, config.samples)


def train_with_help(
    config: Config, experiment: Experiment, few: Data, generated: Split, count: int, seed: int
) -> dict[str, float]:
    """Return test accuracies of classifiers with and without generated rows, after equally many steps."""
    settings = config.augmentation
    real = repeated(few, max(1, settings.generated // len(few.train))).train
    random = torch.Generator().manual_seed(seed)
    noise = torch.randn(real.inputs.shape, generator=random) * settings.noise
    parts = {
        "real": [real, real],
        "real and generated": [real, generated],
        "generated alone": [generated, generated],
        "real with noise": [real, Split(real.inputs + noise.to(real.inputs.device), real.targets)],
    }
    scores = {}
    for name, halves in parts.items():
        inputs = torch.cat([half.inputs.to(real.inputs.device) for half in halves])
        targets = torch.cat([half.targets.to(real.targets.device) for half in halves])
        runtime.seed_everything(seed)
        network = FeatureClassifier(few.input_shape, len(few.classes))
        module = Classifier(network, optimizer=partial(torch.optim.Adam, lr=2e-3))
        training = Training(
            **config.training.model_dump() | {"epochs": settings.epochs, "test_curve": False, "patience": 0}
        )
        experiment.fit(
            module, replace(few, train=Split(inputs, targets)), training, label=f"{name}, {count} rows", seed=seed
        )
        scores[name] = test_accuracy(network, few)
    return scores


# ---------------------------------------------------------------------------------------------- 9. translation


def translate(config: Config, experiment: Experiment, data: Data, judge: Judge) -> None:
    """Translate digits to their inverted pictures without pairs: what does the cycle ask for, and what the network?"""
    settings, seed = config.cycle, config.seeds[0]
    paired = unpaired(data, DOMAINS["inverted"])
    first, truth = paired.test.inputs[:16].unbind(1)
    shown = {"given": first, "wanted": truth}
    table: dict[str, list[float]] = {}
    for network, build_one in translators(data).items():
        for weight in (0.0, settings.weight):
            name = f"{network}, " + (f"cycle × {weight:g}" if weight else "no cycle")
            run = learn_to_translate(config, experiment, data, judge, name, build_one, weight, seed)
            device = next(run.module.parameters()).device
            with torch.no_grad():
                shown[name] = run.module.network(first.to(device)).cpu()
            scores = run.module.evaluate([(paired.test.inputs.to(device), paired.test.targets.to(device))])
            table[name] = [scores["accuracy"], scores["error"], scores["cycle"]]
    experiment.figure(
        "translations",
        mosaics(
            {name: {"digits of the test part": images} for name, images in shown.items()},
            title="From white on black to black on white, without pairs",
            note=f"{settings.steps} steps, seed {seed}",
            columns=16,
        ),
        alt="Rows of digits: given, wanted, and translated in four ways. Convolutions keep the digit, perceptrons do "
        "not.",
        caption="Which rows show the same digit as the first?",
    )
    experiment.figure(
        "cycle-table",
        plots.matrix(
            list(table.values()),
            rows=list(table),
            columns=["right digit, share", "distance from the partner", "cycle's error"],
            x_label="measure on the test part",
            y_label="translator and loss",
            value_label=f"seed {seed}; distances: means of |·|",
            title="What keeps the digit?",
            digits=3,
        ),
        alt="A table of accuracy after translation, distance from the true partner and cycle error for four settings.",
        caption="An accuracy of 0.1 is chance.",
    )
    free, local = translators(data)
    cycled, plain = f"cycle × {settings.weight:g}", "no cycle"
    experiment.claim(
        "local-networks-keep-the-digit",
        "Translators that only see near pixels keep the digit, with the cycle and without (smaller accuracy after "
        "translation)",
        min(table[f"{local}, {cycled}"][0], table[f"{local}, {plain}"][0]),
        at_least=0.8,
    )
    experiment.claim(
        "the-cycle-does-not",
        "Translators that may move any pixel do not, though the cycle leads home (accuracy with the cycle)",
        table[f"{free}, {cycled}"][0],
        at_most=0.6,
    )
    experiment.claim(
        "the-cycle-leads-home",
        "The cycle's term lowers the cycle's error of these translators (with over without)",
        table[f"{free}, {cycled}"][2] / table[f"{free}, {plain}"][2],
        at_most=0.8,
    )


def translators(data: Data) -> dict[str, Callable[[], nn.Module]]:
    """Return two kinds of networks between images: one that may move any pixel, and one that may not."""
    return {
        "perceptron": partial(Translator, data.input_shape),
        "convolutions": partial(LocalTranslator, data.input_shape[0], 8),
    }


def learn_to_translate(
    config: Config,
    experiment: Experiment,
    data: Data,
    judge: Judge,
    name: str,
    build_one: Callable[[], nn.Module],
    weight: float,
    seed: int,
) -> Run:
    """Train translators both ways for the chosen number of steps, in one epoch."""
    size = config.training.batch_size
    rows = len(data.train) // 2
    long = unpaired(data, DOMAINS["inverted"], repeats=max(1, round(config.cycle.steps * size / rows)))
    runtime.seed_everything(seed)
    module = CycleGAN(
        build_one(),
        build_one(),
        [PerceptronDiscriminator(data.input_shape) for _ in range(2)],
        optimizer=partial(torch.optim.Adam, lr=config.cycle.lr, betas=(0.5, 0.999)),
        weight=weight,
        judge=lambda images: judge.network.eval()(-images),  # the partner of the partner: what the classifier knows
    )
    training = config.training.model_copy(update={"epochs": 1, "test_curve": False, "patience": 0})
    return experiment.fit(module, long, training, label=f"translation, {name}", seed=seed)


# ---------------------------------------------------------------------------------------------- 10. style


def transfer_style(config: Config, experiment: Experiment) -> None:
    """Give one picture the texture of another, by Gram matrices of random filters."""
    settings = config.style
    content, style = pictures(settings.size)
    features = RandomFilters()
    done = {
        f"content × {weight:g}": transfer(content, style, features, steps=settings.steps, content_weight=weight)
        for weight in settings.content_weights
    }
    shown = {"content": content, "style": style} | {name: one.picture for name, one in done.items()}
    experiment.figure(
        "style",
        mosaics(
            {f"{settings.size} pixels": {name: picture * 2 - 1 for name, picture in shown.items()}},
            title="The content of one picture, the texture of another",
            note=f"{settings.steps} steps of L-BFGS; features of random filters at four scales, no trained network",
        ),
        alt="A temple, a flower, and the temple's picture in the flower's colours and textures at several weights.",
        caption="Random filters know edges and colours, and no objects: colours and strokes go over, petals do not.",
    )
    experiment.figure(
        "style-curves",
        plots.curves(
            {
                **{f"style, {name}": Band(range(1, len(one.style) + 1), one.style) for name, one in done.items()},
                **{f"content, {name}": Band(range(1, len(one.content) + 1), one.content) for name, one in done.items()},
            },
            x_label="evaluations",
            y_label="share of the distance of the two pictures",
            title="What the texture costs the content",
        ),
        alt="Style distances fall from 1, content distances rise from 0; with more weight they rise less.",
        caption="Style: distance of Gram matrices. Content: distance of the coarsest feature map.",
    )
    experiment.claim(
        "gram-matrices-move",
        "The Gram matrices come near those of the other picture (what is left of their distance, largest weight apart)",
        min(one.style[-1] for one in done.values()),
        at_most=0.5,
    )
    maps = features(content)[0]
    order = torch.randperm(maps[0, 0].numel(), generator=torch.Generator().manual_seed(0))
    shuffled = maps.flatten(2)[:, :, order].view_as(maps)
    experiment.claim(
        "gram-matrices-forget-places",
        "A Gram matrix does not notice when the places of its features are shuffled (largest error, relative)",
        float((gram(shuffled) - gram(maps)).abs().max() / gram(maps).abs().max()),
        at_most=1e-5,
    )


# ---------------------------------------------------------------------------------------------- your own code


def train_on_own_code(
    config: Config, experiment: Experiment, data: Data, judge: Judge, groups: dict[str, list[Trained]]
) -> None:
    """Train with the learner's functions in the place of ours."""
    assert experiment.mine is not None
    parts, missing = my_parts(experiment.mine)
    if missing:
        experiment.note(f"Not written yet, and so not used: {', '.join(missing)}.")
    seeds = config.seeds[:1]
    shown: dict[str, dict[str, Tensor]] = {}
    for name, own in parts.items():
        # Without momentum, where a collapse would make two trainings differ by chance alone.
        recipe = CURE if name == CURE else CALM if name == "gan_step" else f"{name}+no_momentum"
        ours = groups[recipe] if recipe in groups else train(config, experiment, data, judge, recipe, seeds=seeds)
        (yours,) = train(config, experiment, data, judge, recipe, seeds=seeds, label=f"my {name}", parts=own)
        shown[f"my {words(name)}"] = {"ours": ours[0].samples[:36], "yours": yours.samples[:36]}
        experiment.claim(
            f"my-{name.replace('_', '-').replace('+', '-')}",
            f"With your {words(name)} the samples cover as many classes (yours {yours.quality.classes}, ours "
            f"{ours[0].quality.classes}; how many fewer)",
            max(0, ours[0].quality.classes - yours.quality.classes),
            at_most=2,
        )
    if experiment.mine.has("frechet_distance"):
        moments = [gaussian_moments(judge.features(rows)) for rows in (data.test.inputs, groups[CURE][0].samples)]
        own_distance = float(experiment.mine.frechet_distance(*moments[0], *moments[1]))
        exact = frechet_distance(*moments[0], *moments[1])
        experiment.claim(
            "my-frechet-distance",
            f"Your Fréchet distance of WGAN-GP's samples is ours ({own_distance:.4f} and {exact:.4f}; relative error)",
            abs(own_distance - exact) / exact,
            at_most=1e-3,
        )
    if shown:
        experiment.figure(
            "mine",
            mosaics(shown, title="Samples with your functions beside ours", note=f"seed {seeds[0]}"),
            alt="Mosaics of samples in pairs: ours and yours.",
            caption="Your step and your penalty draw other random numbers, so single samples differ.",
        )


# ---------------------------------------------------------------------------------------------- the course exercise


def solve_a_problem(
    config: Config, experiment: Experiment, data: Data, judge: Judge, groups: dict[str, list[Trained]]
) -> None:
    """Compare recipes that a learner chose, beside the collapsing GAN and its cure."""
    problem = config.exercise
    usual = Learning.of_images(config, data)
    learning = replace(usual, lr=problem.lr or usual.lr, betas=problem.betas or usual.betas)
    seeds = config.seeds[: problem.seeds]
    chosen: dict[str, list[Trained]] = {}
    for recipe in problem.compare:
        if learning == usual and recipe in groups:
            chosen[recipe] = [one for one in groups[recipe] if one.run.seed in seeds]
        else:
            chosen[recipe] = train(
                config, experiment, data, judge, recipe, seeds=seeds, label=f"exercise: {recipe}", learning=learning
            )
    costs = {recipe: mean(one.run.watch.seconds for one in trained) for recipe, trained in chosen.items()}
    table = dict(measured(words(recipe), [one.quality for one in trained]) for recipe, trained in chosen.items())
    experiment.figure(
        "exercise-table",
        plots.matrix(
            list(table.values()),
            rows=list(table),
            columns=list(MEASURES),
            x_label="measure",
            y_label="recipe: Fréchet distance",
            value_label=f"mean over {len(seeds)} seed{'s' if len(seeds) > 1 else ''}; lr {learning.lr:g}, betas "
            f"{learning.betas[0]:g} and {learning.betas[1]:g}",
            title="The exercise: which change saves the GAN?",
        ),
        alt=f"A table of five measures for {', '.join(map(words, chosen))}.",
        caption="Seconds of training: " + ", ".join(f"{words(name)} {cost:.1f}" for name, cost in costs.items()) + ".",
    )
    experiment.figure(
        "exercise-samples",
        mosaics(
            {words(recipe): samples_over_time(trained[0]) for recipe, trained in chosen.items()},
            title=f"The exercise: the same noise while the generators learn, seed {config.seeds[0]}",
            note="36 samples after so many steps of the generator",
        ),
        alt="Mosaics of samples over time for each recipe.",
        caption="Look at them after the table: which numbers did you expect to go with which samples?",
    )
    saved = [
        recipe for recipe, trained in chosen.items() if mean(over_seeds(trained, lambda one: one.quality.classes)) >= 9
    ]
    experiment.note(
        f"Exercise (lr {learning.lr:g}, betas {learning.betas}): at least nine classes with "
        + (", ".join(map(words, saved)) if saved else "none of the recipes")
        + "."
    )


if __name__ == "__main__":
    from coursekit.harness import run_script

    run_script(__file__)
