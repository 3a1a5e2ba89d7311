"""Lesson 5, interpretability: what a network looked at, and how far that explanation can be trusted.

Run it with `coursekit run interpretability`, or as a script: `python lessons/interpretability/lesson.py`.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any, cast

import torch
from torch import Tensor, nn

from coursekit import attribution, plots, runtime
from coursekit.attribution.gradients import Rule
from coursekit.data import Data, Split, load
from coursekit.harness import Classifier, Experiment, Run, classifier_scorecard
from coursekit.harness.learner import LearnerCode
from coursekit.metrics import METRICS, Scorecard, evaluating
from coursekit.plots import Band
from lessons.interpretability.cases import picture_page, table_page
from lessons.interpretability.config import Config
from lessons.interpretability.methods import (
    READS_BY_ATTENTION,
    Explain,
    attention_weights,
    own_methods,
    picture_methods,
)
from lessons.interpretability.models import AdditiveNetwork, AttentionNetwork, DigitNetwork, LogOdds, TableNetwork
from lessons.interpretability.page import Page, write_page


def main(config: Config, experiment: Experiment) -> None:
    """Run the experiments that the setting `parts` names: every one of them, if nothing is said."""
    parts = set(config.parts)
    published = read_pretrained(config, experiment) if "pretrained" in parts else None
    about_picture = "case" in parts and config.case.data == "picture"
    pictures = tables = None
    if parts & {"pictures", "tests", "laws", "units", "additive"} or about_picture:
        pictures = read_pictures(config, experiment)
    if parts & {"laws", "tables", "additive"} or ("case" in parts and not about_picture):
        tables = read_tables(config, experiment)
    if pictures:
        if "pictures" in parts:
            lay_side_by_side(config, experiment, pictures)
        if "tests" in parts:
            test_explanations(config, experiment, pictures)
        if "laws" in parts:
            check_completeness(config, experiment, pictures)
        if "units" in parts:
            look_into_layers(config, experiment, pictures)
        if about_picture:
            explain_picture(config, experiment, pictures)
    if tables:
        if "laws" in parts:
            check_shapley_values(config, experiment, tables)
        if "tables" in parts:
            explain_rows(config, experiment, tables)
        if "additive" in parts and pictures:
            explain_themselves(config, experiment, tables, pictures)
        if "case" in parts and not about_picture:
            explain_sample(config, experiment, tables)
    if "shortcut" in parts:
        catch_a_cheat(config, experiment)
    if published:
        explain_pretrained(config, experiment, published)
    draw_scorecards(experiment)


def draw_scorecards(experiment: Experiment) -> None:
    """Draw the ten metrics of whatever was trained."""
    cards = {name: card.to_dict() for name, card in experiment.scorecards.items()}
    if cards:
        experiment.figure(
            "scorecard",
            plots.scorecard_figure(cards, title="Ten metrics, and how stable explanations are"),
            alt="One panel for each metric, one point with its interval for each network.",
            caption=plots.scorecard_caption(cards),
        )


# ---------------------------------------------------------------------------------------------- training


def train(
    config: Config,
    experiment: Experiment,
    data: Data,
    label: str,
    build: Callable[[], nn.Module],
    *,
    lr: float,
    epochs: int,
    batch_size: int,
) -> list[Run]:
    """Train one network once for each seed; the same seed gives the same first weights."""
    training = config.training.model_copy(update={"epochs": epochs, "batch_size": batch_size})
    runs = []
    for seed in config.seeds:
        runtime.seed_everything(seed)
        module = Classifier(build(), optimizer=lambda p: torch.optim.Adam(p, lr=lr))
        runs.append(experiment.fit(module, data, training, label=label, seed=seed))
        runs[-1].module.network.float().eval()
    return runs


def networks(runs: Sequence[Run]) -> list[nn.Module]:
    """Return what was trained, one network for each seed."""
    return [run.module.network for run in runs]


def place_of(network: nn.Module) -> torch.device:
    """Return the device that a network is on."""
    return next(network.parameters()).device


def accuracy(network: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Return the share of rows that a network gets right."""
    return float((predicted(network, inputs) == targets).double().mean())


@torch.no_grad()
def predicted(network: nn.Module, inputs: Tensor) -> Tensor:
    """Return the class (n,) that a network gives each row, on the CPU."""
    with evaluating(network):
        return torch.cat([network(part.to(place_of(network))).argmax(1).cpu() for part in inputs.split(4096)])


def probabilities(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return the function from rows (n, ...) to the network's class probabilities (n, classes)."""
    return lambda rows: network(rows).float().softmax(1)


def seeded(seed: int) -> torch.Generator:
    """Return a source of randomness on the CPU."""
    return torch.Generator().manual_seed(seed)


def mean_over(values: Tensor) -> float:
    """Return the mean of the values that are numbers: the correlation with a constant map is none."""
    return float(values[values.isfinite()].double().mean())


def with_range(values: Sequence[float]) -> tuple[float, float, float]:
    """Return mean, lowest and highest."""
    return mean(values), min(values), max(values)


def with_stability(card: Scorecard, runs: Sequence[Run], data: Data, sigma: float) -> Scorecard:
    """Add to a scorecard how alike integrated gradients stay when noise comes onto the input (rank correlation)."""
    values = []
    for run in runs:
        network = run.module.network
        inputs = data.test.inputs[:50].to(place_of(network))
        classes = predicted(network, inputs).to(inputs.device)
        found = attribution.stability(
            lambda rows, network=network, classes=classes: attribution.integrated_gradients(
                network, rows, classes, steps=16
            ),
            inputs,
            sigma=sigma,
            draws=2,
            generator=seeded(run.seed),
        )
        values.append(mean_over(found.correlation))
    alone = Scorecard.from_seeds(
        card.variant,
        {"explanation_stability": values},
        [run.seed for run in runs],
        not_applicable=dict.fromkeys(METRICS, "measured above"),
        extra={"explanation_stability": "rank correlation"},
    )
    return replace(card, metrics={**card.metrics, "explanation_stability": alone.metrics["explanation_stability"]})


# ---------------------------------------------------------------------------------------------- 1. pictures


@dataclass(frozen=True, eq=False)
class Pictures:
    """The trained networks for pictures and what they are asked about.

    Attributes:
        data: the pictures.
        plain: the convolutional network, one run for each seed.
        attentive: the network that reads by attention, likewise.
        baseline: what a pixel becomes that is taken away, normalised.
    """

    data: Data
    plain: list[Run]
    attentive: list[Run]
    baseline: float

    def asked(self, network: nn.Module, count: int) -> tuple[Tensor, Tensor]:
        """Return the first test pictures and the classes that the network gives them, on its device."""
        images = self.data.test.inputs[:count].to(place_of(network))
        return images, predicted(network, images).to(images.device)


LAST_CONVOLUTION = "5"
LAST_LAYER = {"plain": "8", "attentive": "head"}


def read_pictures(config: Config, experiment: Experiment) -> Pictures:
    """Train both networks for pictures and score them."""
    settings = config.pictures
    data = load(settings.data)
    shape, classes = data.input_shape, len(data.classes)
    plain = train(
        config,
        experiment,
        data,
        "convolutional network",
        lambda: DigitNetwork(shape, classes, settings.channels),
        lr=settings.lr,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
    )
    attentive = train(
        config,
        experiment,
        data,
        "network with attention",
        lambda: AttentionNetwork(shape, classes, settings.channels),
        lr=settings.attention_lr,
        epochs=settings.attention_epochs,
        batch_size=settings.batch_size,
    )
    for runs in (plain, attentive):
        card = classifier_scorecard(runs[0].label, runs, data, target=settings.target)
        experiment.score(with_stability(card, runs, data, config.tests.stability_noise))
    assert data.low is not None
    black = float(data.low.mean())
    return Pictures(data, plain, attentive, black if config.explaining.baseline == "black" else 0.0)


def explainers(config: Config, pictures: Pictures, seed: int) -> dict[str, Explain]:
    """Return the chosen methods for the convolutional network."""
    half = config.training.precision == "bf16"
    return picture_methods(config.explaining, baseline=pictures.baseline, layer=LAST_CONVOLUTION, seed=seed, half=half)


def lay_side_by_side(config: Config, experiment: Experiment, pictures: Pictures) -> None:
    """Draw what every method says about the same pictures, one of them misread where there is one."""
    network, attentive = pictures.plain[0].module.network, pictures.attentive[0].module.network
    images, classes = pictures.asked(network, len(pictures.data.test))
    truth = pictures.data.test.targets.to(classes.device)
    chosen = [int((truth == label).nonzero()[0]) for label in SHOWN_CLASSES]
    chosen += (classes != truth).nonzero().flatten()[:1].tolist()
    shown, asked = images[chosen], classes[chosen]
    maps = {
        name: explain(network, shown, asked).cpu()
        for name, explain in explainers(config, pictures, config.seeds[0]).items()
    }
    if READS_BY_ATTENTION in config.explaining.methods:
        maps["attention (its own network)"] = attention_weights(attentive, shown, asked).cpu()
    names = [
        f"a {pictures.data.classes[said]}" + ("" if said == right else f", is a {pictures.data.classes[right]}")
        for said, right in zip(asked.tolist(), truth[chosen].tolist(), strict=True)
    ]
    bright = pictures.data.denormalise(shown.cpu())
    experiment.figure(
        "maps",
        plots.attribution_maps(
            bright,
            maps,
            names=names,
            title="The same pictures, and what each method says was looked at",
            note="orange speaks for the class, purple against it; maps without signs go from dark to light",
        ),
        alt=f"Rows of digits, each with the maps of {', '.join(maps)}; most lie on the digit's strokes, Grad-CAM and "
        "saliency beside them too.",
        caption="All ask why the network gave the class that it gave; the last picture is one that it misread. Each "
        "map has a scale of its own.",
    )
    if experiment.mine is not None:
        compare_own_maps(config, experiment, pictures, shown, asked, names)


SHOWN_CLASSES = (3, 5, 8, 0)


def compare_own_maps(
    config: Config, experiment: Experiment, pictures: Pictures, shown: Tensor, asked: Tensor, names: Sequence[str]
) -> None:
    """Draw the learner's maps, and compare them with the library's."""
    mine = experiment.mine
    assert mine is not None
    network, seed = pictures.plain[0].module.network, config.seeds[0]
    ours = explainers(config, pictures, seed)
    own = own_methods(mine, config.explaining, baseline=pictures.baseline, layer=LAST_CONVOLUTION, seed=seed)
    missing = [name for name in ours if name in WRITTEN_BY_LEARNERS and name not in own]
    if missing:
        experiment.note(f"{', '.join(missing)}: not written yet, so your maps of it are missing.")
    if not own:
        return
    maps = {name: explain(network, shown, asked).cpu() for name, explain in own.items()}
    experiment.figure(
        "my-maps",
        plots.attribution_maps(
            pictures.data.denormalise(shown.cpu()),
            {f"my {name}": part for name, part in maps.items()},
            names=names,
            title="The same pictures, explained by your code",
        ),
        alt=f"Rows of digits with your maps of {', '.join(maps)}.",
        caption="Sampled methods (SmoothGrad, KernelSHAP) draw in another order than the library's.",
    )
    for name, part in maps.items():
        own_map, reference = part.flatten(1), ours[name](network, shown, asked).cpu().flatten(1)
        cosine = nn.functional.cosine_similarity(own_map, reference, dim=1)
        # Grad-CAM may be zero everywhere, and a map of nothing has no direction.
        nothing = ~reference.any(1)
        agreement = torch.where(nothing, (~own_map.any(1)).to(cosine), cosine)
        experiment.claim(
            f"my-{name.replace(' ', '-')}-agrees",
            f"Your {name} gives the library's maps, up to their scale (lowest cosine of the pictures drawn)",
            float(agreement.min()),
            at_least=0.8 if name in ("smoothgrad", "kernel shap") else 0.999,
        )


WRITTEN_BY_LEARNERS = ("saliency", "smoothgrad", "integrated gradients", "grad-cam", "kernel shap")


# ---------------------------------------------------------------------------------------------- 2. tests


def test_explanations(config: Config, experiment: Experiment, pictures: Pictures) -> None:
    """Test every method on every seed's network: does it find what matters, does it depend on what was learned?"""
    results = [examine(config, pictures, place) for place in range(len(config.seeds))]
    names = list(results[0].measures)
    draw_curves(experiment, results)
    table = [[mean(result.measures[name][measure] for result in results) for measure in MEASURES] for name in names]
    experiment.figure(
        "tests",
        plots.matrix(
            table,
            rows=names,
            columns=MEASURES,
            x_label="test",
            y_label="method",
            value_label=f"mean over {len(results)} seeds and {config.tests.images} pictures",
            title="What each explanation stands",
        ),
        alt="A table of methods against seven tests; attention does not change when the last layer is random.",
        caption="First two columns: by how much the area of the deletion curve lies below, that of the insertion curve "
        "above the one of random orders (larger is better). Then rank correlations: with the map after the last layer "
        "was drawn anew, by size and with signs, and after all layers were (smaller is better); with the map of a "
        "network trained from another seed; and with that of the picture under a little noise.",
    )
    draw_cascade(experiment, results)
    claim_tests(experiment, results)
    if experiment.mine is not None:
        forget_by_own_code(config, experiment, pictures, experiment.mine)


def forget_by_own_code(config: Config, experiment: Experiment, pictures: Pictures, mine: LearnerCode) -> None:
    """Destroy the first seed's network layer by layer with the learner's function, and compare saliency maps by it."""
    if not mine.has("randomization_test") or not mine.has("rank_correlation"):
        experiment.note("randomization_test or rank_correlation is not written yet, so your sanity check is missing.")
        return
    network = pictures.plain[0].module.network
    images, classes = pictures.asked(network, config.tests.images)
    layers = attribution.layers_with_parameters(network)[::-1]
    generator = torch.Generator(place_of(network)).manual_seed(config.seeds[0])
    found = mine.randomization_test(
        lambda model, rows: attribution.heatmap(attribution.saliency(model, rows, classes)),
        network,
        images,
        layers,
        generator,
    )
    experiment.claim(
        "my-sanity-check-sees-saliency-change",
        "By your randomization_test, saliency maps change when all layers are drawn anew (mean rank correlation)",
        mean_over(found[-1]),
        at_most=0.5,
    )


LAST, SIGNED = "last layer random", "the same, with signs"
MEASURES = ("deletion gain", "insertion gain", LAST, SIGNED, "all layers random", "other seed", "noisy picture")
INK = "brightness alone"
"""A control that never saw the network: bright pixels first."""


@dataclass(frozen=True, eq=False)
class Examined:
    """What one seed's networks gave.

    Attributes:
        measures: method to the numbers of `MEASURES`.
        deletion: method to the mean deletion curve (steps + 1,); `random` among them.
        cascade: method to the similarity after 1, 2, ... layers were drawn anew.
        fractions: of the pixels that are gone (steps + 1,).
    """

    measures: dict[str, dict[str, float]]
    deletion: dict[str, Tensor]
    cascade: dict[str, list[float]]
    fractions: Tensor


def examine(config: Config, pictures: Pictures, place: int) -> Examined:
    """Run all tests on the networks of one seed."""
    seed, steps = config.seeds[place], config.tests.curve_steps
    cases = {
        name: (pictures.plain, LAST_LAYER["plain"], explain)
        for name, explain in explainers(config, pictures, seed).items()
    }
    if READS_BY_ATTENTION in config.explaining.methods:
        cases[READS_BY_ATTENTION] = (pictures.attentive, LAST_LAYER["attentive"], attention_weights)
    chance = {
        kind: random_area(config, pictures, runs[place].module.network, seed)
        for kind, runs in ((LAST_LAYER["plain"], pictures.plain), (LAST_LAYER["attentive"], pictures.attentive))
    }
    found = Examined({}, {}, {}, torch.linspace(0, 1, steps + 1))
    for name, (runs, last_layer, explain) in cases.items():
        network = runs[place].module.network
        images, classes = pictures.asked(network, config.tests.images)
        maps = explain(network, images, classes)
        gains, found.deletion[name] = gains_of(config, pictures, network, maps, chance[last_layer], seed)
        other = runs[(place + 1) % len(runs)].module.network if len(runs) > 1 else None
        found.measures[name] = {
            **gains,
            **likeness(config, explain, network, other, images, classes, maps, last_layer, seed),
        }
        few, some = images[: config.tests.images // 2], classes[: config.tests.images // 2]
        found.cascade[name] = [
            alike(maps[: len(few)], explain(copy, few, some))
            for _, copy in attribution.cascade(network, generator=seeded(seed))
        ]
        found.measures[name]["all layers random"] = found.cascade[name][-1]
    network = pictures.plain[place].module.network
    images, _ = pictures.asked(network, config.tests.images)
    ink = (images - images.amin((2, 3), keepdim=True)).sum(1)
    gains, found.deletion[INK] = gains_of(config, pictures, network, ink, chance[LAST_LAYER["plain"]], seed)
    found.measures[INK] = dict.fromkeys(MEASURES, 1.0) | {"noisy picture": math.nan} | gains
    lots = torch.rand(ink.shape, generator=seeded(seed)).to(ink.device)
    _, found.deletion["random"] = gains_of(config, pictures, network, lots, (0.0, 0.0), seed)
    return found


def gains_of(
    config: Config, pictures: Pictures, network: nn.Module, maps: Tensor, chance: tuple[float, float], seed: int
) -> tuple[dict[str, float], Tensor]:
    """Return what a method's order gains over random ones, and its mean deletion curve (steps + 1,)."""
    images, classes = pictures.asked(network, len(maps))
    gone, come = (
        curve(
            probabilities(network),
            images,
            classes,
            attribution=maps,
            baseline=pictures.baseline,
            steps=config.tests.curve_steps,
            generator=seeded(seed),  # equal pixels come in random order
        )
        for curve in (attribution.deletion_curve, attribution.insertion_curve)
    )
    gains = {
        "deletion gain": chance[0] - float(gone.area.mean()),
        "insertion gain": float(come.area.mean()) - chance[1],
    }
    return gains, gone.scores.mean(0).cpu()


def likeness(
    config: Config,
    explain: Explain,
    network: nn.Module,
    other: nn.Module | None,
    images: Tensor,
    classes: Tensor,
    maps: Tensor,
    last_layer: str,
    seed: int,
) -> dict[str, float]:
    """Return how alike maps stay: after the last layer was drawn anew, in another seed's network, under noise."""
    random = attribution.randomize_layers(network, [last_layer], generator=seeded(seed))
    forgetful = explain(random, images, classes)
    few, some = images[: config.tests.images // 2], classes[: config.tests.images // 2]
    stable = attribution.stability(
        lambda rows: explain(network, rows, some),
        few,
        sigma=config.tests.stability_noise,
        draws=1,
        generator=seeded(seed),
    )
    return {
        LAST: alike(maps, forgetful),
        SIGNED: alike(maps, forgetful, absolute=False),
        "other seed": math.nan if other is None else alike(maps, explain(other, images, classes)),
        "noisy picture": mean_over(stable.correlation),
    }


def alike(maps: Tensor, others: Tensor, *, absolute: bool = True) -> float:
    """Return the mean rank correlation of two sets of maps (n, h, w), of their magnitudes or with their signs."""
    return mean_over(attribution.rank_correlation(maps, others, absolute=absolute))


def random_area(config: Config, pictures: Pictures, network: nn.Module, seed: int) -> tuple[float, float]:
    """Return the mean areas of deletion and insertion in random orders."""
    images, classes = pictures.asked(network, config.tests.images)
    gone, come = (
        attribution.random_areas(
            probabilities(network),
            images,
            classes,
            kind=kind,
            draws=config.tests.random_orders,
            baseline=pictures.baseline,
            steps=config.tests.curve_steps,
            generator=seeded(seed),
        )
        for kind in ("deletion", "insertion")
    )
    return float(gone.mean()), float(come.mean())


def draw_curves(experiment: Experiment, results: Sequence[Examined]) -> None:
    """Draw the deletion curves of all methods with those of a random order."""
    fractions = results[0].fractions.tolist()
    experiment.figure(
        "deletion",
        plots.curves(
            {
                name: Band(fractions, [result.deletion[name].tolist() for result in results])
                for name in results[0].deletion
            },
            x_label="share of the pixels taken away, the most important first",
            y_label="probability of the class",
            title="Take away what the method names first: the probability should fall fast",
        ),
        alt="Deletion curves: most methods fall faster than a random order, the best within an eighth of the pixels.",
        caption="Brightness alone takes the brightest pixels first and has never seen the network: whoever does not "
        "beat it has found out that digits are made of ink. Attention is that of its own network.",
    )


def draw_cascade(experiment: Experiment, results: Sequence[Examined]) -> None:
    """Draw how alike the maps stay while the network forgets layer after layer."""
    shown = {name: [result.cascade[name] for result in results] for name in results[0].cascade}
    experiment.figure(
        "cascade",
        plots.curves(
            {name: Band(range(1, len(rows[0]) + 1), rows) for name, rows in shown.items()},
            x_label="layers drawn anew, from the last to the first",
            y_label="rank correlation with the map of the trained network",
            title="A map that survives this does not show what was learned",
        ),
        alt="Rank correlations over the number of random layers; attention stays at 1 at first, the others fall.",
        caption="The network with attention has more modules with weights, so its line is longer.",
    )


WEAK = ("grad-cam", READS_BY_ATTENTION)
"""Methods that do not stand the tests of deletion and insertion with every seed: told, and not claimed."""
SIGNS = ("integrated gradients", "occlusion", "lime", "kernel shap")
"""Methods whose maps have signs."""


def claim_tests(experiment: Experiment, results: Sequence[Examined]) -> None:
    """Record what the tests showed in every seed."""
    methods = [name for name in results[0].measures if name != INK]

    def over(measure: str, names: Sequence[str]) -> list[float]:
        return [result.measures[name][measure] for result in results for name in names if name in methods]

    strong = [name for name in methods if name not in WEAK]
    if strong:
        for measure, what in (("deletion gain", "fall"), ("insertion gain", "rise")):
            experiment.claim(
                f"maps-beat-random-on-{measure.split()[0]}",
                f"With {', '.join(strong)} the probability of the class is seen to {what} faster than in random "
                "orders, in every seed (smallest difference of the areas over methods and seeds)",
                min(over(measure, strong)),
                at_least=0.1,
            )
    for name in [name for name in WEAK if name in methods]:
        gone, come = over("deletion gain", [name]), over("insertion gain", [name])
        beaten = "beats" if min(*gone, *come) > 0 else "does not beat"
        experiment.note(
            f"The order of {name} {beaten} random orders in every seed and both tests: gains of {min(gone):.2f} to "
            f"{max(gone):.2f} on deletion, {min(come):.2f} to {max(come):.2f} on insertion."
        )
    if "integrated gradients" in methods:
        experiment.claim(
            "integrated-gradients-beat-brightness",
            "Integrated gradients find more than where the ink is: they beat the order of brightness on deletion "
            "(smallest difference of the gains over seeds)",
            min(
                result.measures["integrated gradients"]["deletion gain"] - result.measures[INK]["deletion gain"]
                for result in results
            ),
            at_least=0.03,
        )
    unsigned = [name for name in ("saliency", "smoothgrad", "grad-cam") if name in methods]
    if unsigned:
        experiment.claim(
            "gradients-forget-with-the-last-layer",
            f"When the last layer is drawn anew, the maps of {', '.join(unsigned)} change (largest rank correlation "
            "over methods and seeds)",
            max(over(LAST, unsigned)),
            at_most=0.6,
        )
    signed = [name for name in SIGNS if name in methods]
    if signed:
        experiment.claim(
            "signs-forget-with-the-last-layer",
            f"So do those of {', '.join(signed)}, if one looks at their signs (largest rank correlation)",
            max(over(SIGNED, signed)),
            at_most=0.6,
        )
    if READS_BY_ATTENTION in methods:
        experiment.claim(
            "attention-does-not-know-the-answer",
            "Attention weights do not change at all when the last layer is drawn anew: they cannot say why it was this "
            "class (smallest rank correlation)",
            min(over(LAST, [READS_BY_ATTENTION])),
            at_least=0.999,
        )


# ---------------------------------------------------------------------------------------------- 3. laws


def check_completeness(config: Config, experiment: Experiment, pictures: Pictures) -> None:
    """Integrate the gradient with more and more steps, by three rules, and measure what is missing."""
    rules: tuple[Rule, ...] = ("left", "right", "midpoint")
    counts = config.tests.step_counts
    missing: dict[str, list[list[float]]] = {rule: [[] for _ in pictures.plain] for rule in rules}
    for place, run in enumerate(pictures.plain):
        network = copy.deepcopy(run.module.network).double()  # in float32 rounding would hide the last steps
        images, classes = pictures.asked(run.module.network, config.tests.rows)
        images, empty = images.double(), torch.full_like(images, pictures.baseline, dtype=torch.float64)
        whole, start = (predicted_logits(network, part, classes) for part in (images, empty))
        for rule, steps in itertools.product(rules, counts):
            maps = attribution.integrated_gradients(
                network, images, classes, baseline=pictures.baseline, steps=steps, rule=rule
            )
            error = attribution.completeness_error(maps, network, images, classes, baseline=pictures.baseline)
            missing[rule][place].append(float(error.abs().mean() / (whole - start).abs().mean()))
    experiment.figure(
        "completeness",
        plots.curves(
            {rule: Band(counts, rows) for rule, rows in missing.items()},
            x_label="steps",
            y_label="what the sum of the map misses, as a share",
            title="Integrated gradients add up, if one integrates finely enough",
            log_x=True,
            log_y=True,
        ),
        alt="What is missing falls with the number of steps for all three rules, lowest for the midpoint.",
        caption="Mean of |sum of the map − change of the logit|, divided by the mean change of the logit; float64.",
    )
    place = min(range(len(counts)), key=lambda one: abs(counts[one] - 256))
    experiment.claim(
        "integrated-gradients-are-complete",
        f"With {counts[place]} midpoints the sum of a map misses next to nothing of the change of the logit (mean "
        "share over pictures, largest seed)",
        max(row[place] for row in missing["midpoint"]),
        at_most=1e-3 if counts[place] >= 256 else 0.1,
    )
    experiment.claim(
        "midpoints-beat-ends",
        "The midpoint rule misses less than the left ends do (smallest ratio over seeds of the geometric means over "
        "the numbers of steps)",
        min(
            math.exp(mean(math.log(a / b) for a, b in zip(left, middle, strict=True)))
            for left, middle in zip(missing["left"], missing["midpoint"], strict=True)
        ),
        at_least=1.3,
    )


@torch.no_grad()
def predicted_logits(network: nn.Module, inputs: Tensor, classes: Tensor) -> Tensor:
    """Return the logit (n,) of each row's class."""
    return network(inputs).take_along_dim(classes[:, None], 1).flatten()


def check_shapley_values(config: Config, experiment: Experiment, tables: Tables) -> None:
    """Compare sampled Shapley values with the exact ones of ten players, at equal numbers of model calls."""
    counts, repeats = config.tests.sample_counts, config.tests.repeats
    errors: dict[str, list[list[float]]] = {"kernel regression": [], "random orders": []}
    efficiency, all_coalitions, own = [], [], []
    for run in tables.network:
        network = LogOdds(copy.deepcopy(run.module.network).double())
        rows = tables.asked(network, config.tests.rows).double()
        game = attribution.MaskingGame(network, rows, segments=tables.segments.to(rows.device))
        exact = attribution.exact_values(game)
        size = exact.abs().mean()
        efficiency.append(float(attribution.completeness_error(exact, network, rows).abs().max()))
        every = attribution.kernel_values(game, samples=2**game.players - 2, generator=seeded(run.seed))
        all_coalitions.append(float((every - exact).abs().max()))
        generator = seeded(run.seed)
        for name, line in errors.items():
            line.append([])
            for count in counts:
                drawn = [
                    attribution.kernel_values(game, samples=count, generator=generator)
                    if name == "kernel regression"
                    else attribution.permutation_values(
                        game, permutations=max(1, round(count / (game.players - 1))), generator=generator
                    )
                    for _ in range(repeats)
                ]
                line[-1].append(mean(float((one - exact).abs().mean() / size) for one in drawn))
        mine = experiment.mine
        if mine is not None and mine.has("shapley_exact"):
            found = mine.shapley_exact(lambda coalitions, game=game: game(coalitions).T, game.players)
            own.append(float((found.T - exact).abs().max()))
    experiment.figure(
        "shapley-error",
        plots.curves(
            {name: Band(counts, rows) for name, rows in errors.items()},
            x_label="model calls for each row",
            y_label="mean error, in mean sizes of a value",
            title="What sampling costs: Shapley values of ten measures",
            log_x=True,
            log_y=True,
        ),
        alt="Errors of two ways to sample Shapley values fall with the number of calls; the regression is lower.",
        caption=f"Against exact values from all 1024 coalitions; mean of {repeats} repetitions. One order of ten "
        "players meets nine coalitions besides none and all.",
    )
    experiment.claim(
        "shapley-values-are-efficient",
        "Exact Shapley values of ten measures sum to the log odds less the average row's (largest error, float64)",
        max(efficiency),
        at_most=1e-10,
    )
    experiment.claim(
        "kernel-with-all-coalitions-is-exact",
        "KernelSHAP with all coalitions gives the exact Shapley values (largest difference, float64)",
        max(all_coalitions),
        at_most=1e-8,
    )
    experiment.claim(
        "regression-beats-orders",
        "At equal numbers of model calls the kernel regression errs less than random orders (smallest ratio over seeds "
        "of the geometric means over the numbers of calls)",
        min(
            math.exp(mean(math.log(orders / kernel) for orders, kernel in zip(a, b, strict=True)))
            for a, b in zip(errors["random orders"], errors["kernel regression"], strict=True)
        ),
        at_least=1.2,
    )
    if own:
        experiment.claim(
            "my-shapley-values-are-exact",
            "Your shapley_exact gives the library's values (largest difference, float64)",
            max(own),
            at_most=1e-8,
        )
    elif experiment.mine is not None:
        experiment.note("shapley_exact is not written yet, so its check is missing.")


# ---------------------------------------------------------------------------------------------- 4. tables


@dataclass(frozen=True, eq=False)
class Tables:
    """The trained networks for the table and what they are asked about.

    Attributes:
        data: the rows.
        network: the multilayer perceptron, one run for each seed.
        additive, linear: the models that explain themselves, likewise.
        columns: the names of the columns.
        measures: the names of the ten measures, of three columns each: mean, standard error and worst value.
        segments: the measure of each column (columns,), int64.
    """

    data: Data
    network: list[Run]
    additive: list[Run]
    linear: list[Run]
    columns: list[str]
    measures: list[str]
    segments: Tensor

    def asked(self, network: nn.Module, count: int) -> Tensor:
        """Return the first test rows, on the network's device."""
        return self.data.test.inputs[:count].to(place_of(network))

    def summed(self, values: Tensor) -> Tensor:
        """Return the sums (n, measures) of values of columns (n, columns)."""
        return values.new_zeros(len(values), len(self.measures)).index_add(1, self.segments.to(values.device), values)


def read_tables(config: Config, experiment: Experiment) -> Tables:
    """Train the network, the additive network and logistic regression on the table, and score them."""
    from sklearn.datasets import load_breast_cancer

    settings = config.tables
    data = load("breast_cancer")
    features, classes = data.input_shape[0], len(data.classes)
    plan: dict[str, tuple[Callable[[], nn.Module], float, int]] = {
        "table network": (lambda: TableNetwork(features, classes, settings.hidden), settings.lr, settings.epochs),
        "additive network": (
            lambda: AdditiveNetwork(features, classes, config.additive.units),
            config.additive.lr,
            config.additive.epochs,
        ),
        "logistic regression": (lambda: TableNetwork(features, classes, ()), 1e-2, settings.epochs),
    }
    trained = {}
    for label, (build, lr, epochs) in plan.items():
        trained[label] = train(
            config, experiment, data, label, build, lr=lr, epochs=epochs, batch_size=settings.batch_size
        )
        card = classifier_scorecard(label, trained[label], data, target=settings.target)
        experiment.score(with_stability(card, trained[label], data, config.tests.stability_noise))
    columns = [str(name) for name in cast(Any, load_breast_cancer()).feature_names]
    measures = [name.removeprefix("mean ") for name in columns[:10]]
    network, additive, linear = trained.values()
    return Tables(data, network, additive, linear, columns, measures, torch.arange(features) % len(measures))


def row_methods(config: Config, tables: Tables, seed: int) -> dict[str, Callable[[nn.Module, Tensor], Tensor]]:
    """Return the methods for tables: a model (n, columns) to (n,) and rows, to what each measure adds (n, measures).

    The average training row, 0 after normalisation, stands for a measure that is taken away.
    """

    def local_model(model: nn.Module, rows: Tensor) -> Tensor:
        found = attribution.lime_tabular(model, rows, samples=config.explaining.samples, generator=seeded(seed))
        return tables.summed(found.coefficients * rows)

    cells = tables.segments
    return {
        "saliency": lambda model, rows: tables.summed(attribution.saliency(model, rows)),
        "input × gradient": lambda model, rows: tables.summed(attribution.input_times_gradient(model, rows)),
        "integrated gradients": lambda model, rows: tables.summed(
            attribution.integrated_gradients(model, rows, steps=config.explaining.ig_steps)
        ),
        "one at a time": lambda model, rows: attribution.feature_ablation(model, rows, segments=cells),
        "lime": local_model,
        "kernel shap": lambda model, rows: attribution.kernel_shap(
            model, rows, segments=cells, samples=config.explaining.samples, generator=seeded(seed)
        ),
        "exact shapley": lambda model, rows: attribution.shapley_exact(model, rows, segments=cells),
    }


def explain_rows(config: Config, experiment: Experiment, tables: Tables) -> None:
    """Ask seven methods about every row of the test part: what matters overall, who agrees, what survives deletion."""
    found: list[dict[str, Tensor]] = []
    gains: dict[str, list[float]] = {}
    for run in tables.network:
        network = LogOdds(run.module.network)
        rows = tables.asked(network, len(tables.data.test))
        methods = row_methods(config, tables, run.seed)
        found.append({name: explain(network, rows).cpu() for name, explain in methods.items()})
        for name, gain in deletion_gains(config, tables, run.module.network, rows, found[-1], run.seed).items():
            gains.setdefault(name, []).append(gain)
    names = list(found[0])

    def share(values: Tensor) -> Tensor:
        sizes = values.abs()
        return (sizes / sizes.sum(1, keepdim=True)).mean(0)

    shares = torch.stack([torch.stack([share(one[name]) for one in found]).mean(0) for name in names], 1)
    order = shares.mean(1).argsort(descending=True).tolist()
    experiment.figure(
        "table-measures",
        plots.matrix(
            [shares[place].tolist() for place in order],
            rows=[tables.measures[place] for place in order],
            columns=names,
            x_label="method",
            y_label="measure",
            value_label=f"share of the absolute attributions, mean over test rows and {len(found)} seeds",
            title="Which measures matter, by seven methods",
        ),
        alt="A table of ten measures against seven methods: the columns hardly differ.",
        caption="Each measure sums up three columns: mean, standard error and worst value.",
    )
    agreement = torch.stack(
        [
            torch.stack([mean_correlation(one[first], one[second]) for one in found]).mean()
            for first in names
            for second in names
        ]
    ).view(len(names), -1)
    experiment.figure(
        "table-agreement",
        plots.matrix(
            agreement,
            rows=names,
            columns=names,
            x_label="method",
            y_label="method",
            value_label="rank correlation of |attributions| of ten measures, mean over rows and seeds",
            title="Do the methods agree about single rows?",
        ),
        alt="A table of rank correlations between seven methods; saliency agrees least with the others.",
        caption="Saliency says how fast the answer would change, the others what each measure has added.",
    )
    experiment.figure(
        "table-deletion",
        plots.bars(
            {name: with_range(values) for name, values in gains.items()},
            x_label="area of random orders minus area of the method",
            y_label="method",
            title="Taking away measures in each method's order",
            note=f"bar: mean of {len(found)} seeds; line: lowest to highest seed",
        ),
        alt="Bars of the deletion gain of seven methods, all above zero.",
        caption="The probability of the network's own answer, while measure after measure becomes average.",
    )
    experiment.claim(
        "table-methods-beat-random",
        "In every seed each method but saliency names measures whose loss makes the answer fall faster than random "
        "orders (smallest difference of the areas)",
        min(min(values) for name, values in gains.items() if name != "saliency"),
        at_least=0.02,
    )
    if experiment.mine is not None:
        imitate_by_own_code(experiment, tables, experiment.mine, config.seeds[0])
    seeds_agree = [
        float(mean_correlation(one["exact shapley"], other["exact shapley"]))
        for one, other in itertools.combinations(found, 2)
    ]
    if seeds_agree:
        experiment.note(
            f"Networks of different seeds give exact Shapley values that agree with a mean rank correlation of "
            f"{mean(seeds_agree):.2f} (lowest pair {min(seeds_agree):.2f}): as good as each other, and not for quite "
            "the same reasons."
        )


def imitate_by_own_code(experiment: Experiment, tables: Tables, mine: LearnerCode, seed: int) -> None:
    """Fit local models to the first network's probabilities with the learner's function and with the library's."""
    if not mine.has("lime_tabular"):
        experiment.note("lime_tabular is not written yet, so its check is missing.")
        return
    network = tables.network[0].module.network
    rows = tables.asked(network, 20)
    answers, samples, width = predicted(network, rows).to(rows.device), 4000, 0.75 * math.sqrt(rows.shape[1])
    generator = torch.Generator(rows.device).manual_seed(seed)
    own, _ = mine.lime_tabular(
        probabilities(network), rows, answers, torch.ones_like(rows[0]), samples, width, generator
    )
    ours = attribution.lime_tabular(
        probabilities(network),
        rows,
        answers,
        samples=samples,
        kernel_width=width,
        ridge=0.0,
        generator=seeded(seed),
    ).coefficients
    experiment.claim(
        "my-lime-agrees",
        f"Your lime_tabular finds the library's coefficients, each from its own {samples} samples (mean cosine of 20 "
        "rows)",
        float(nn.functional.cosine_similarity(own, ours, dim=1).mean()),
        at_least=0.8,
    )


def mean_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean rank correlation of the magnitudes of two explanations (n, measures)."""
    values = attribution.rank_correlation(first, second)
    return values[values.isfinite()].mean()


def deletion_gains(
    config: Config, tables: Tables, network: nn.Module, rows: Tensor, found: dict[str, Tensor], seed: int
) -> dict[str, float]:
    """Return by how much each method's deletion area lies below that of random orders of the measures."""
    answers = predicted(network, rows)

    def area(values: Tensor) -> float:
        spread = values[:, tables.segments].to(rows.device)
        curve = attribution.deletion_curve(
            probabilities(network), rows, answers, attribution=spread, steps=len(tables.measures)
        )
        return float(curve.area.mean())

    generator = seeded(seed)
    random = mean(
        area(torch.rand(len(rows), len(tables.measures), generator=generator))
        for _ in range(config.tests.random_orders)
    )
    # A value speaks for the first class; an order has to begin with what speaks for the answer.
    signs = torch.where(answers == 0, 1.0, -1.0)[:, None]
    return {name: random - area(values if name == "saliency" else values * signs) for name, values in found.items()}


# ---------------------------------------------------------------------------------------------- 5. additive


def explain_themselves(config: Config, experiment: Experiment, tables: Tables, pictures: Pictures) -> None:
    """Look at a model that is its own explanation, ask the methods about it, and count what it costs."""
    draw_shapes(experiment, tables)
    know_the_answer(config, experiment, tables)
    count_the_cost(config, experiment, tables, pictures)


def contributions(network: nn.Module, rows: Tensor) -> Tensor:
    """Return what each column adds to the log odds of the first class (n, columns), over an average row."""
    assert isinstance(network, AdditiveNetwork)
    with torch.no_grad():
        both = network.contributions(rows) - network.contributions(torch.zeros_like(rows[:1]))
    return both[..., 0] - both[..., 1]


def draw_shapes(experiment: Experiment, tables: Tables) -> None:
    """Draw the curves that are the additive network: its most important columns, one line for each seed."""
    inputs = tables.data.train.inputs
    sizes = torch.stack([contributions(network.cpu(), inputs).std(0) for network in networks(tables.additive)]).mean(0)
    chosen = sizes.argsort(descending=True)[:6].tolist()
    with plots.style():
        figure = plots.new_figure("The whole additive network, as far as its six strongest columns", height=5.0)
        panels = figure.subplots(2, 3, sharey=True)
        for axes, column in zip(panels.flat, chosen, strict=True):
            values = inputs[:, column]
            line = torch.zeros(100, inputs.shape[1])
            line[:, column] = torch.linspace(float(values.quantile(0.01)), float(values.quantile(0.99)), 100)
            original = tables.data.denormalise(line)[:, column]
            for network in networks(tables.additive):
                added = contributions(network, line)[:, column]
                axes.plot(original, added, color="#3e5ec0", linestyle="-", marker="", linewidth=1.2)
            axes.axhline(0, color=plots.INK, linewidth=0.7)
            axes.set_xlabel(tables.columns[column])
        panels[0, 0].set_ylabel("adds to log odds (nats)")
        panels[1, 0].set_ylabel("adds to log odds (nats)")
        panels[0, 0].set_title("above 0: speaks for malignant", alpha=0.78)
    experiment.figure(
        "shapes",
        figure,
        alt="Six curves, one line for each seed: most rise with the column, and the seeds agree on most of the shape.",
        caption="An average value adds nothing. Lines are seeds; the axes end at the 1st and 99th percentile.",
    )


def know_the_answer(config: Config, experiment: Experiment, tables: Tables) -> None:
    """Where the true attribution is known, see which methods find it."""
    errors: dict[str, list[float]] = {}
    for run in tables.additive:
        network = copy.deepcopy(run.module.network).double()
        rows = tables.asked(network, len(tables.data.test)).double()
        truth = tables.summed(contributions(network, rows))
        for name, explain in row_methods(config, tables, run.seed).items():
            off = (explain(LogOdds(network), rows) - truth).abs().mean() / truth.abs().mean()
            errors.setdefault(name, []).append(float(off))
    experiment.figure(
        "known-answer",
        plots.bars(
            {name: with_range(values) for name, values in errors.items()},
            x_label="mean error, in mean sizes of a true contribution",
            y_label="method",
            title="The additive network tells what each measure added. Who finds it?",
            note=f"bar: mean of {len(config.seeds)} seeds; line: lowest to highest seed",
        ),
        alt="Bars of the error of seven methods: next to nothing for one at a time, Shapley values and integrated "
        "gradients, large for saliency, input × gradient and LIME.",
        caption="Without interactions between measures, all orders of taking them away give the same answer.",
    )
    exact = ("one at a time", "kernel shap", "exact shapley")
    experiment.claim(
        "on-an-additive-model-they-agree",
        f"Where measures only add up, {', '.join(exact)} find the true contributions (largest relative error over "
        "methods and seeds, float64)",
        max(max(errors[name]) for name in exact),
        at_most=1e-6,
    )
    experiment.claim(
        "integrated-gradients-find-it-too",
        f"So do integrated gradients with {config.explaining.ig_steps} midpoints (largest relative error)",
        max(errors["integrated gradients"]),
        at_most=0.05,
    )
    experiment.claim(
        "a-slope-is-no-contribution",
        "Input × gradient does not: it takes the slope here for the slope all the way (smallest relative error)",
        min(errors["input × gradient"]),
        at_least=0.1,
    )


def count_the_cost(config: Config, experiment: Experiment, tables: Tables, pictures: Pictures) -> None:
    """Put the models that explain themselves beside the networks, on the table and on pictures."""
    data = pictures.data
    additive = train(
        config,
        experiment,
        data,
        "additive network on pictures",
        lambda: AdditiveNetwork(math.prod(data.input_shape), len(data.classes), max(2, config.additive.units // 2)),
        lr=config.additive.lr,
        epochs=max(3, 2 * config.additive.epochs // 3),
        batch_size=config.pictures.batch_size,
    )
    experiment.score(classifier_scorecard(additive[0].label, additive, data, target=config.pictures.target))

    def test_accuracy(runs: Sequence[Run], on: Data) -> list[float]:
        return [accuracy(run.module.network, on.test.inputs, on.test.targets) for run in runs]

    found = {
        "table: network": test_accuracy(tables.network, tables.data),
        "table: additive": test_accuracy(tables.additive, tables.data),
        "table: logistic regression": test_accuracy(tables.linear, tables.data),
        "pictures: convolutional": test_accuracy(pictures.plain, data),
        "pictures: additive": test_accuracy(additive, data),
    }
    experiment.figure(
        "cost",
        plots.bars(
            {name: with_range(values) for name, values in found.items()},
            x_label="test accuracy",
            y_label="data and model",
            title="What it costs to be understood",
            note=f"bar: mean of {len(config.seeds)} seeds; line: lowest to highest seed",
        ),
        alt="Bars of test accuracy: equal on the table, the additive network lower on pictures.",
        caption=f"One test row is {1 / len(tables.data.test):.4f} of the table, {1 / len(data.test):.4f} of pictures.",
    )
    experiment.claim(
        "on-the-table-it-costs-nothing",
        "On the table the additive network loses no accuracy against the multilayer perceptron (mean difference)",
        mean(found["table: network"]) - mean(found["table: additive"]),
        at_most=0.01,
    )
    experiment.claim(
        "on-pictures-it-costs",
        "On pictures it loses to the convolutional network (mean difference of the accuracies)",
        mean(found["pictures: convolutional"]) - mean(found["pictures: additive"]),
        at_least=0.005,
    )


# ---------------------------------------------------------------------------------------------- 6. layers and units


def look_into_layers(config: Config, experiment: Experiment, pictures: Pictures) -> None:
    """Draw what single units answer to, and ask each layer what it knows about the digit."""
    show_units(config, experiment, pictures)
    if experiment.mine is not None:
        climb_by_own_code(config, experiment, pictures, experiment.mine)
    probe_layers(config, experiment, pictures)


def show_units(config: Config, experiment: Experiment, pictures: Pictures) -> None:
    """Climb to pictures that excite single units, and compare with the test picture that excites them most."""
    settings, data = config.units, pictures.data
    network = pictures.plain[0].module.network
    device = place_of(network)
    assert data.low is not None
    assert data.high is not None
    shape = data.input_shape
    start = 0.1 * torch.randn(1, *shape, generator=seeded(config.seeds[0]))
    images = data.test.inputs.to(device)
    rows: dict[str, Tensor] = {}
    classes = list(range(min(len(data.classes), 10)))
    with torch.no_grad():
        best = network(images).amax(0).cpu()[classes]

    low, high = float(data.low.min()), float(data.high.max())

    def made(units: Sequence[int], layer: str | None, penalty: float) -> attribution.Visualization:
        return attribution.visualize_units(
            network,
            units,
            start=start.to(device),
            layer=layer,
            steps=settings.steps,
            lr=0.1,
            l2=penalty,
            total_variation=penalty,
            low=low,
            high=high,
        )

    for name, layer in zip(("first layer", "second layer", "third layer"), LAYERS, strict=True):
        units = strongest_units(network, images, layer, settings.shown)
        rows[name] = made(units, layer, settings.penalty).pictures.cpu()
    ratios = {}
    for name, penalty in (
        ("class, weak penalty", settings.penalty),
        ("class, strong penalty", settings.strong_penalty),
    ):
        found = made(classes, None, penalty)
        rows[name] = found.pictures.cpu()
        ratios[name] = (found.activations[-1].detach().cpu() / best).tolist()
    experiment.figure(
        "units",
        plots.image_rows(
            rows,
            title="Pictures that excite one unit most",
            note="from noise, by gradient ascent; each stretched to black and white; last rows: classes 0 to 9",
        ),
        alt="Rows of small pictures: even patches and stripes for the layers, hard patterns for the "
        "classes, and below them, with a strong penalty, soft shapes that resemble a 0, a 1, a 7.",
        caption="The penalty is on the picture's size and roughness. With a strong one the logits reach "
        f"{min(ratios['class, strong penalty']):.2f} to {max(ratios['class, strong penalty']):.2f} of those of the "
        "best test pictures.",
    )
    experiment.claim(
        "made-pictures-excite-more",
        "With a weak penalty each class's logit is higher at a made picture than at any test picture (least ratio)",
        min(ratios["class, weak penalty"]),
        at_least=1.0,
    )


def climb_by_own_code(config: Config, experiment: Experiment, pictures: Pictures, mine: LearnerCode) -> None:
    """Let the learner's function climb the logits of all classes of the first seed's network."""
    if not mine.has("visualize_unit"):
        experiment.note("visualize_unit is not written yet, so your made pictures are missing.")
        return
    network = pictures.plain[0].module.network
    start = 0.1 * torch.randn(1, *pictures.data.input_shape, generator=seeded(config.seeds[0]))
    start = start.to(place_of(network))
    made = [
        mine.visualize_unit(network, unit, start, steps=config.units.steps, lr=0.1, weight_decay=0.05)
        for unit in range(len(pictures.data.classes))
    ]
    with torch.no_grad():
        gains = [float((network(one) - network(start))[0, unit]) for unit, one in enumerate(made)]
    experiment.figure(
        "my-units",
        plots.image_rows({"my classes": torch.cat(made).cpu()}, title="Pictures that excite a class, by your code"),
        alt="One small picture for each class.",
    )
    experiment.claim(
        "my-pictures-excite",
        "Your visualize_unit raises the logit of every class (smallest gain)",
        min(gains),
        at_least=1.0,
    )


def strongest_units(network: nn.Module, images: Tensor, layer: str, count: int) -> list[int]:
    """Return the channels of a layer whose mean over places varies most between pictures."""
    with torch.no_grad():
        states: dict[str, Tensor] = dict(zip(LAYERS, layer_states(network, images), strict=True))
    return states[layer].std(0).argsort(descending=True)[:count].tolist()


LAYERS = ("0", "2", LAST_CONVOLUTION)


def layer_states(network: nn.Module, images: Tensor) -> list[Tensor]:
    """Return the means over all places of each convolution's channels after its ReLU, (n, channels) each."""
    assert isinstance(network, DigitNetwork)
    states, x = [], images
    for part in network:
        x = part(x)
        if isinstance(part, nn.ReLU):
            states.append(x.mean((2, 3)))
    return states


def probe_layers(config: Config, experiment: Experiment, pictures: Pictures) -> None:
    """Fit a linear reader to each layer, with the place of everything taken away: what do the features alone tell?"""
    data = pictures.data
    found: dict[str, list[list[float]]] = {"trained": [], "not trained": []}
    for run in pictures.plain:
        network = run.module.network
        runtime.seed_everything(run.seed)
        fresh = DigitNetwork(data.input_shape, len(data.classes), config.pictures.channels).to(place_of(network)).eval()
        for name, one in (("trained", network), ("not trained", fresh)):
            with torch.no_grad():
                train_states, test_states = (
                    [part.mean((2, 3)), *layer_states(one, part)]
                    for part in (split.inputs.to(place_of(network)) for split in (data.train, data.test))
                )
            found[name].append(
                [
                    read_linearly(before, data.train.targets, after, data.test.targets, len(data.classes))
                    for before, after in zip(train_states, test_states, strict=True)
                ]
            )
    experiment.figure(
        "probes",
        plots.curves(
            {name: Band(range(len(LAYERS) + 1), rows) for name, rows in found.items()},
            x_label="layer (0: the picture's brightness)",
            y_label="test accuracy of a linear reader",
            title="What the features of a layer tell, wherever they stand",
        ),
        alt="Accuracy of a linear reader rises from layer to layer; without training it falls again in the last.",
        caption="Each channel is averaged over all places first: a reader of the places themselves reads even the "
        "pixels with 0.97.",
    )
    trained, fresh = found["trained"], found["not trained"]
    experiment.claim(
        "features-grow-with-depth",
        "In every seed the last layer's features tell more about the digit than the first layer's (smallest gain of "
        "accuracy)",
        min(row[-1] - row[1] for row in trained),
        at_least=0.05,
    )
    experiment.claim(
        "training-made-the-last-ones",
        "The last layer's features tell more than those of a network that was not trained (smallest difference)",
        min(a[-1] - b[-1] for a, b in zip(trained, fresh, strict=True)),
        at_least=0.02,
    )


def read_linearly(inputs: Tensor, targets: Tensor, others: Tensor, wanted: Tensor, classes: int) -> float:
    """Fit one-hot targets by least squares with a small penalty, and return the accuracy on other rows."""
    centre, spread = inputs.mean(0), inputs.std(0).clamp(min=1e-6)
    rows, tests = (
        torch.nn.functional.pad((part - centre) / spread, (0, 1), value=1.0).double() for part in (inputs, others)
    )
    shares = torch.nn.functional.one_hot(targets, classes).to(rows)
    penalty = 1e-3 * len(rows) * torch.eye(rows.shape[1]).to(rows)
    weights = torch.linalg.solve(rows.mT @ rows + penalty, rows.mT @ shares)
    return float(((tests @ weights).argmax(1).cpu() == wanted).double().mean())


# ---------------------------------------------------------------------------------------------- 7. a cheat


def catch_a_cheat(config: Config, experiment: Experiment) -> None:
    """Train on digits whose border pixel tells the class, and see which explanation points at it."""
    settings = config.shortcut
    data = load("digits")
    assert data.low is not None
    assert data.high is not None
    bright = float(data.low.mean() + settings.strength * (data.high - data.low).mean())
    black = float(data.low.mean())

    def marked_part(part: Split, share: float, seed: int) -> Split:
        chosen = torch.rand(len(part), generator=seeded(seed)) < share
        return Split(
            torch.where(chosen.view(-1, 1, 1, 1), stamped(part.inputs, part.targets, bright), part.inputs), part.targets
        )

    networks_of: dict[str, list[Run]] = {"marked": [], "clean": []}
    for name, share in (("marked", settings.share), ("clean", 0.0)):
        seen = replace(
            data,
            train=marked_part(data.train, share, config.seeds[0]),
            validation=marked_part(data.validation, share, config.seeds[0] + 1),
        )
        networks_of[name] = train(
            config,
            experiment,
            seen,
            f"trained on {name} pictures",
            lambda: DigitNetwork(data.input_shape, len(data.classes), config.pictures.channels),
            lr=config.pictures.lr,
            epochs=settings.epochs,
            batch_size=config.pictures.batch_size,
        )
    test = data.test
    own = stamped(test.inputs, test.targets, bright)
    foreign = stamped(test.inputs, (test.targets + 1 + torch.arange(len(test)) % 9) % 10, bright)
    columns = {"own mark": own, "no mark": test.inputs, "another's mark": foreign}
    table = {
        name: [mean(accuracy(run.module.network, part, test.targets) for run in runs) for part in columns.values()]
        for name, runs in networks_of.items()
    }
    experiment.figure(
        "shortcut-accuracy",
        plots.matrix(
            list(table.values()),
            rows=[f"trained on {name} pictures" for name in table],
            columns=list(columns),
            x_label="test pictures with",
            y_label="network",
            value_label=f"accuracy, mean over {len(config.seeds)} seeds",
            title="Right for the wrong reason",
            digits=3,
        ),
        alt="Accuracies of two networks on test pictures with their own mark, none, and another class's mark.",
        caption="A validation part that carries the marks too would show the first column alone, and nothing else.",
    )
    point_at_marks(config, experiment, data, networks_of, own, black)
    if settings.share == 1 and settings.strength == 1:
        losses = [
            accuracy(run.module.network, own, test.targets) - accuracy(run.module.network, foreign, test.targets)
            for run in networks_of["marked"]
        ]
        experiment.claim(
            "the-cheat-cheats",
            "A network trained on marked pictures loses accuracy when the mark names another class (smallest loss)",
            min(losses),
            at_least=0.03,
        )


def mark_places(classes: Tensor) -> tuple[Tensor, Tensor]:
    """Return row and column of each class's mark: the left border for 0 to 4, the right one for 5 to 9."""
    return classes % 5 + 1, torch.where(classes < 5, 0, 7)


def stamped(images: Tensor, classes: Tensor, value: float) -> Tensor:
    """Return copies of the digits (n, 1, 8, 8) with one border pixel set, which says the class (n,)."""
    copies = images.clone()
    rows, columns = mark_places(classes)
    copies[torch.arange(len(images)), 0, rows, columns] = value
    return copies


def point_at_marks(
    config: Config,
    experiment: Experiment,
    data: Data,
    networks_of: dict[str, list[Run]],
    marked: Tensor,
    black: float,
) -> None:
    """Ask every method about marked pictures: is the mark among the first pixels it names?"""
    targets, top = data.test.targets[: config.tests.images], config.shortcut.top
    rows, columns = mark_places(targets)
    places = rows * marked.shape[-1] + columns
    found: dict[str, dict[str, list[float]]] = {}
    shown: dict[str, Tensor] = {}
    for kind, runs in networks_of.items():
        for run in runs:
            network = run.module.network
            images = marked[: config.tests.images].to(place_of(network))
            methods = picture_methods(config.explaining, baseline=black, layer=LAST_CONVOLUTION, seed=run.seed)
            for name, explain in methods.items():
                maps = explain(network, images, targets.to(images.device)).cpu()
                if run.seed == config.seeds[0] and kind == "marked":
                    shown[name] = maps[:4]
                flat = maps.flatten(1)
                here = flat.gather(1, places[:, None])
                # Equal pixels share their ranks, as if each order of them were as likely.
                above, equal = (flat > here).sum(1), (flat == here).sum(1)
                share = ((top - above) / equal).clamp(0, 1).double().mean()
                found.setdefault(name, {}).setdefault(kind, []).append(float(share))
    experiment.figure(
        "shortcut-maps",
        plots.attribution_maps(
            data.denormalise(marked[:4]),
            shown,
            names=[f"a {data.classes[label]}" for label in targets[:4].tolist()],
            title="Marked digits: who points at the border pixel?",
        ),
        alt="Four digits with one bright pixel at the border, and the maps of every method; most are brightest there.",
        caption="The network was trained on marked pictures, where that pixel tells the class.",
    )
    experiment.figure(
        "shortcut-found",
        plots.matrix(
            [[mean(kinds[kind]) for kind in networks_of] for kinds in found.values()],
            rows=list(found),
            columns=[f"saw {kind} pictures" for kind in networks_of],
            x_label="network",
            y_label="method",
            value_label=f"pictures with the mark among the first {top} pixels",
            title="Who gives the cheat away?",
        ),
        alt="A table of methods against two networks: most find the mark in the cheating network.",
        caption=f"Both networks are asked about the same marked pictures. Chance: {top / 64:.2f}. The second network "
        "has never seen a mark and has no use for it. Methods by patches name four pixels at once: the mark's patch "
        "must come first.",
    )
    if config.shortcut.share == 1 and config.shortcut.strength == 1:
        for name, bound in (("integrated gradients", 0.5), ("saliency", 0.3), ("occlusion", 0.1)):
            if name not in found:
                continue
            experiment.claim(
                f"{name.replace(' ', '-')}-points-at-the-mark",
                f"By {name} the mark is among the first {top} pixels more often in the network that cheats than in "
                "the one that does not (smallest difference over seeds)",
                min(a - b for a, b in zip(found[name]["marked"], found[name]["clean"], strict=True)),
                at_least=bound,
            )


# ---------------------------------------------------------------------------------------------- 8. one page


def explain_sample(config: Config, experiment: Experiment, tables: Tables) -> None:
    """Write the page about one row of the table."""
    one, number = table_page(
        networks(tables.network),
        tables.additive[0].module.network,
        tables.data,
        measures=tables.measures,
        segments=tables.segments,
        choice=config.case.row,
        count=config.case.reasons,
        noise=config.tests.stability_noise,
        seed=config.seeds[0],
    )
    publish(experiment, one, f"test row {number} of the table")


def explain_picture(config: Config, experiment: Experiment, pictures: Pictures) -> None:
    """Write the page about one picture."""

    def draw(picture: Tensor, values: Tensor, name: str) -> Path:
        figure = plots.attribution_maps(
            pictures.data.denormalise(picture),
            {"what counted": values},
            names=["the picture"],
            title=f"Read as {name}",
            note="orange: for, purple: against",
        )
        alt = f"A picture that was read as {name}, and the fields that counted."
        return experiment.figure("case", figure, alt=alt, caption="The picture of the page explanation.html.").png

    one, number = picture_page(
        networks(pictures.plain),
        pictures.data,
        baseline=pictures.baseline,
        last_layer=LAST_LAYER["plain"],
        choice=config.case.row,
        count=config.case.reasons,
        noise=config.tests.stability_noise,
        seed=config.seeds[0],
        draw=draw,
    )
    publish(experiment, one, f"test picture {number}")


def publish(experiment: Experiment, one: Page, about: str) -> None:
    """Write the page into the run's folder and say so in the report."""
    path = write_page(experiment.out / "explanation.html", one)
    stood = sum(check.passed for check in one.checks)
    experiment.note(
        f"The page {path.name} beside this report explains {about} to a reader who is no expert; the explanation stood "
        f"{stood} of {len(one.checks)} tests."
    )


# ---------------------------------------------------------------------------------------------- 9. a published network


def read_pretrained(config: Config, experiment: Experiment) -> attribution.Pretrained | None:
    """Read the weights of a torchvision network first of all: a missing file is told before anything is trained."""
    settings = config.pretrained
    if settings.network == "none":
        experiment.note(
            "No pretrained network was asked for: pretrained.network=resnet18 explains one whose weights file is here."
        )
        return None
    return attribution.load_pretrained(settings.network, folder=settings.folder or None)


def explain_pretrained(config: Config, experiment: Experiment, published: attribution.Pretrained) -> None:
    """Explain what a network of torchvision says about two photographs, and test the maps by deletion."""
    from sklearn.datasets import load_sample_images

    settings = config.pretrained
    device = runtime.choose_device(config.training.device)
    network = published.model.to(device)
    photographs = [torch.tensor(one).permute(2, 0, 1) for one in load_sample_images().images]
    images = torch.stack([published.preprocess(one) for one in photographs]).to(device)
    with torch.no_grad():
        sure, classes = network(images).softmax(1).max(1)
    explaining = config.explaining.model_copy(update={"patch": settings.patch, "samples": settings.samples})
    half = config.training.precision == "bf16"
    methods = picture_methods(explaining, baseline=0.0, layer="layer4", seed=config.seeds[0], half=half)
    maps = {name: explain(network, images, classes) for name, explain in methods.items()}
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    experiment.figure(
        "pretrained",
        plots.attribution_maps(
            (images - low) / (high - low),
            maps,
            names=[
                f"{published.classes[label]}, {share:.0%}"
                for label, share in zip(classes.tolist(), sure.tolist(), strict=True)
            ],
            title=f"{settings.network}: what it looked at in two photographs",
        ),
        alt=f"Two photographs with the maps of {', '.join(maps)}.",
        caption=f"Weights from {published.file.name}. The grey of the data's mean stands for what is taken away.",
    )
    areas = {}
    chance = attribution.random_areas(
        probabilities(network), images, classes, draws=3, steps=32, generator=seeded(config.seeds[0])
    )
    for name, part in maps.items():
        curve = attribution.deletion_curve(probabilities(network), images, classes, attribution=part, steps=32)
        areas[name] = float((chance.mean(0) - curve.area).mean())
    experiment.figure(
        "pretrained-deletion",
        plots.bars(
            areas,
            x_label="area of random orders minus area of the method",
            y_label="method",
            title=f"{settings.network}: deletion against random orders",
            note="mean of two photographs: an anecdote, and no ranking of methods",
        ),
        alt="Bars of the deletion gain of each method on two photographs.",
    )


if __name__ == "__main__":
    from coursekit.harness import run_script

    run_script(__file__)
