"""Lesson 2, regularization: what a network learns by heart, and what keeps it from doing so.

Run it with `coursekit run regularization`, or as a script: `python lessons/regularization/lesson.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import mean

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit import plots, runtime
from coursekit.config import Training
from coursekit.data import Data, Split, load
from coursekit.data.augmentation import CutMix
from coursekit.data.noise import corrupt_labels
from coursekit.harness import Experiment, Run, classifier_scorecard
from coursekit.metrics import calibration, evaluating
from coursekit.plots import Band
from lessons.regularization.config import Config
from lessons.regularization.remedies import Regularised, Remedy, build_network, learners, remedy, weights


def main(config: Config, experiment: Experiment) -> None:
    """Run every experiment of the lesson."""
    data = load(config.data, limit=config.rows)
    noisy = {name: train(config, experiment, data, name, noise=config.noise) for name in with_none(config.remedies)}
    show_the_failure(config, experiment, noisy["none"])
    compare_remedies(config, experiment, data, noisy)
    compare_on_clean_labels(config, experiment, data, noisy)
    sweep_strengths(config, experiment, data, noisy)
    measure_calibration(config, experiment, noisy)
    look_at_weights(config, experiment, data, noisy)
    check_the_formulas(experiment)
    if experiment.mine is not None:
        train_on_own_code(config, experiment, data, noisy)
    solve_a_problem(config, experiment)


def with_none(names: Sequence[str]) -> list[str]:
    """Return the names with `none` in front: everything is compared with no regularisation."""
    return ["none", *(name for name in names if name != "none")]


# ---------------------------------------------------------------------------------------------- one training


@dataclass(frozen=True, eq=False)
class Trained:
    """A finished training and what it was trained on.

    Attributes:
        run: what the harness returned.
        data: with the labels that it was trained on and chosen by; the test part is clean.
        wrong: bool (n,), which training labels are wrong.
    """

    run: Run
    data: Data
    wrong: Tensor

    @cached_property
    def _hits(self) -> dict[str, Tensor]:
        parts = {"train": self.data.train, "validation": self.data.validation, "test": self.data.test}
        return {name: self.logits(part).argmax(1) == part.targets for name, part in parts.items()}

    @torch.no_grad()
    def logits(self, part: Split) -> Tensor:
        """Return the final network's logits (n, classes) for a part, on the CPU."""
        network = self.run.module.network
        device = next(network.parameters()).device
        with evaluating(network):
            return torch.cat([network(rows.to(device)).float().cpu() for rows in part.inputs.split(2048)])

    def accuracy(self, part: str) -> float:
        """Return the accuracy on `train`, `validation` (against the labels given there) or `test`."""
        return float(self._hits[part].double().mean())

    @property
    def gap(self) -> float:
        """The generalisation gap: training accuracy, against the given labels, minus test accuracy."""
        return self.accuracy("train") - self.accuracy("test")

    @property
    def memorised(self) -> float:
        """The share of the wrong labels that the network gives back: it can only have learned them by heart."""
        return float(self._hits["train"][self.wrong].double().mean()) if bool(self.wrong.any()) else 0.0


def train(
    config: Config,
    experiment: Experiment,
    data: Data,
    name: str,
    *,
    noise: float,
    label: str | None = None,
    treatment: Remedy | None = None,
    validation_rows: int | None = None,
    training: Training | None = None,
) -> list[Trained]:
    """Train once for each seed under a remedy; the seed fixes wrong labels, first weights and batch order for all.

    Args:
        name: of the remedy.
        noise: share of wrong labels, in the training part and in the validation part alike.
        label: of the runs; by default the name and the noise.
        treatment: the remedy itself, where it is not the one of that name.
        validation_rows: how many are kept; None for `config.validation_rows`.
        training: None for `config.training`.
    """
    treatment = treatment or remedy(name, config.strengths, data)
    label = label or f"{name}, {noise:.0%} wrong labels"
    trained = []
    for seed in config.seeds:
        given, wrong = with_wrong_labels(data, noise, seed, validation_rows or config.validation_rows)
        runtime.seed_everything(seed)
        module = Regularised(build_network(config, data, treatment), treatment, config.lr)
        stopper = treatment.stopper() if treatment.stopper else None
        run = experiment.fit(
            module, given, training or config.training, label=label, seed=seed, stopper=stopper, monitor="val_loss"
        )
        trained.append(Trained(run, given, wrong))
    return trained


def with_wrong_labels(data: Data, noise: float, seed: int, validation_rows: int) -> tuple[Data, Tensor]:
    """Return the data with wrong labels in the training and the validation part, and which training labels are wrong.

    Whoever collected wrong training labels has no clean validation labels either, so early stopping gets none.
    """
    generator = torch.Generator().manual_seed(seed)
    classes = len(data.classes)
    labels, wrong = corrupt_labels(data.train.targets, noise, classes=classes, generator=generator)
    held = Split(data.validation.inputs[:validation_rows], data.validation.targets[:validation_rows])
    held_labels, _ = corrupt_labels(held.targets, noise, classes=classes, generator=generator)
    given = replace(data, train=Split(data.train.inputs, labels), validation=Split(held.inputs, held_labels))
    return given, wrong


def over_seeds(trained: list[Trained], measure: Callable[[Trained], float]) -> list[float]:
    """Return a measure of each seed's training."""
    return [measure(one) for one in trained]


def with_range(values: list[float]) -> tuple[float, float, float]:
    """Return mean, lowest and highest."""
    return mean(values), min(values), max(values)


def test_accuracy(trained: list[Trained]) -> float:
    """Return the mean test accuracy over the seeds."""
    return mean(over_seeds(trained, lambda one: one.accuracy("test")))


def band(trained: list[Trained], column: str) -> Band:
    """Return one column of the histories as a seed band over epochs; early stopping ends a seed's line early."""
    curves = [one.run.curve(column) for one in trained]
    return Band(range(1, max(map(len, curves)) + 1), curves)


def words(name: str) -> str:
    """Return a remedy's name as it stands in a figure."""
    return name.replace("_", " ").replace("+", " + ")


SEED_RANGE = "line: lowest to highest seed"

# ---------------------------------------------------------------------------------------------- 1. the failure


def show_the_failure(config: Config, experiment: Experiment, trained: list[Trained]) -> None:
    """Watch a network without regularisation learn wrong labels by heart."""
    if config.training.test_curve:
        experiment.figure(
            "memorising",
            plots.curves(
                {
                    "training, given labels": band(trained, "accuracy"),
                    "validation, given labels": band(trained, "val_accuracy"),
                    "test, right labels": band(trained, "test_accuracy"),
                },
                x_label="epoch",
                y_label="accuracy",
                title=f"No regularisation, {config.noise:.0%} wrong labels",
            ),
            alt="Training accuracy climbs to 1; test accuracy rises in the first epochs, then falls for the rest.",
            caption="The network learns what the digits have in common first, and the wrong labels afterwards. The "
            "validation labels are as noisy as the training labels, and still show when to stop.",
        )
    experiment.claim(
        "wrong-labels-are-memorised",
        "Without regularisation the network gives back the wrong training labels (smallest share over the seeds)",
        min(over_seeds(trained, lambda one: one.memorised)),
        at_least=0.9,
    )
    experiment.claim(
        "memorising-opens-the-gap",
        "Training accuracy ends above test accuracy (smallest gap over the seeds)",
        min(over_seeds(trained, lambda one: one.gap)),
        at_least=0.2,
    )


# ---------------------------------------------------------------------------------------------- 2. the remedies


def compare_remedies(config: Config, experiment: Experiment, data: Data, noisy: dict[str, list[Trained]]) -> None:
    """Put all remedies on equal terms: same rows, wrong labels, first weights, batch order, epochs and rate."""
    for name, trained in noisy.items():
        card = classifier_scorecard(words(name), [one.run for one in trained], data, target=config.target)
        experiment.score(card)
    experiment.figure(
        "remedies",
        plots.bars(
            {
                words(name): with_range(over_seeds(group, lambda one: one.accuracy("test")))
                for name, group in noisy.items()
            },
            x_label="test accuracy, right labels",
            y_label="remedy",
            title=f"What each remedy saves under {config.noise:.0%} wrong labels",
            note=f"bar: mean of {len(config.seeds)} seeds; {SEED_RANGE}",
        ),
        alt=f"Bars of test accuracy for {', '.join(map(words, noisy))}.",
        caption="Each at the usual strength of its paper, not tuned: the sweep below turns the strengths.",
    )
    experiment.figure(
        "gaps",
        plots.bars(
            {words(name): with_range(over_seeds(group, lambda one: one.gap)) for name, group in noisy.items()},
            x_label="training accuracy (given labels) minus test accuracy (right labels)",
            y_label="remedy",
            title="The generalisation gap",
            note=f"bar: mean of {len(config.seeds)} seeds; {SEED_RANGE}",
        ),
        alt="Bars of the gap: wide without regularisation, near zero or below for early stopping.",
        caption="Whoever refuses the wrong labels scores *below* the test accuracy on the training part.",
    )
    experiment.figure(
        "table",
        plots.matrix(
            [[mean(over_seeds(group, measure)) for measure in MEASURES.values()] for group in noisy.values()],
            rows=[words(name) for name in noisy],
            columns=list(MEASURES),
            x_label="measure",
            y_label="remedy",
            value_label=f"mean over {len(config.seeds)} seeds, {config.noise:.0%} wrong labels",
            title="Who learned the wrong labels by heart?",
        ),
        alt="A table of remedies: where fewer wrong labels are memorised, the test accuracy is higher.",
        caption="Memorised: the share of the wrong labels that the network gives back.",
    )
    if config.training.test_curve:
        shown = [name for name in CURVES if name in noisy]
        experiment.figure(
            "test-curves",
            plots.curves(
                {words(name): band(noisy[name], "test_accuracy") for name in shown},
                x_label="epoch",
                y_label="test accuracy",
                title="Test accuracy while training goes on",
            ),
            alt="Test accuracy over epochs: all rise at first; most then fall, dropout falls less and later.",
            caption="No choice is made by these curves. Early stopping looks at the noisy validation part alone.",
        )
    cards = {name: card.to_dict() for name, card in experiment.scorecards.items()}
    experiment.figure(
        "scorecard",
        plots.scorecard_figure(cards, title="Ten metrics of the remedies"),
        alt="One panel for each metric, one point with its interval for each remedy.",
        caption=plots.scorecard_caption(cards),
    )

    plain = test_accuracy(noisy["none"])
    for name, verb in (("dropout", "Dropout"), ("early_stopping", "Early stopping")):
        if name in noisy:
            experiment.claim(
                f"{name.replace('_', '-')}-helps",
                f"{verb} beats no regularisation under wrong labels (gain of the mean test accuracy)",
                test_accuracy(noisy[name]) - plain,
                at_least=0.08,
            )
    if "batch_norm" in noisy:
        experiment.claim(
            "batch-norm-does-not",
            "Batch normalisation does not: it memorises as well as no regularisation (gain of the mean test accuracy)",
            test_accuracy(noisy["batch_norm"]) - plain,
            at_most=0.04,
        )
    if "label_smoothing" in noisy:
        experiment.claim(
            "label-smoothing-does-not",
            "Nor does label smoothing at its usual strength (gain of the mean test accuracy)",
            test_accuracy(noisy["label_smoothing"]) - plain,
            at_most=0.04,
        )


MEASURES: dict[str, Callable[[Trained], float]] = {
    "training accuracy": lambda one: one.accuracy("train"),
    "memorised": lambda one: one.memorised,
    "validation accuracy": lambda one: one.accuracy("validation"),
    "test accuracy": lambda one: one.accuracy("test"),
    "gap": lambda one: one.gap,
}

CURVES = ("none", "weight_decay", "dropout", "batch_norm", "mixup", "cutmix", "early_stopping")

# ---------------------------------------------------------------------------------------------- 3. the control


def compare_on_clean_labels(
    config: Config, experiment: Experiment, data: Data, noisy: dict[str, list[Trained]]
) -> None:
    """The control: the same rows with their right labels."""
    clean = {name: train(config, experiment, data, name, noise=0.0) for name in noisy}
    rows = {
        f"{config.noise:.0%} wrong labels": [test_accuracy(group) for group in noisy.values()],
        "right labels": [test_accuracy(group) for group in clean.values()],
    }
    experiment.figure(
        "clean-control",
        plots.matrix(
            list(zip(*rows.values(), strict=True)),
            rows=[words(name) for name in noisy],
            columns=list(rows),
            x_label="training labels",
            y_label="remedy",
            value_label=f"test accuracy, mean over {len(config.seeds)} seeds",
            title="The same remedies with right labels",
            digits=3,
        ),
        alt="Test accuracies: far apart with wrong labels, within three hundredths of each other with right ones.",
        caption=f"One test row is {1 / len(data.test):.4f}.",
    )
    wide, narrow = (max(row) - min(row) for row in rows.values())
    experiment.claim(
        "right-labels-leave-little-to-win",
        "With right labels the remedies lie close together (best minus worst mean test accuracy)",
        narrow,
        at_most=0.03,
    )
    experiment.claim(
        "the-failure-decides",
        "Wrong labels spread the remedies several times as far as right ones (ratio of the two spreads)",
        wide / narrow if narrow else float("inf"),
        at_least=4,
    )


# ---------------------------------------------------------------------------------------------- 4. strengths


def sweep_strengths(config: Config, experiment: Experiment, data: Data, noisy: dict[str, list[Trained]]) -> None:
    """Turn up four remedies: is it the method or its strength that decides?"""
    grids = config.sweep.model_dump()
    remedies = {"dropout": "dropout", "weight_decay": "weight_decay", "l1": "l1", "smoothing": "label_smoothing"}
    gains: dict[str, list[float]] = {}
    columns = max(map(len, grids.values()))
    accuracies, memorised, rows = [], [], []
    for setting, name in remedies.items():
        row = []
        for strength in grids[setting]:
            usual = strength == getattr(config.strengths, setting)
            if usual and name in noisy:
                row.append(noisy[name])
                continue
            changed = config.model_copy(update={"strengths": config.strengths.model_copy(update={setting: strength})})
            label = f"{name} {strength:g}, {config.noise:.0%} wrong labels"
            row.append(train(changed, experiment, data, name, noise=config.noise, label=label))
        gains[name] = [test_accuracy(group) for group in row]
        rows.append(f"{words(name)} {', '.join(f'{strength:g}' for strength in grids[setting])}")
        missing = [float("nan")] * (columns - len(row))
        accuracies.append(gains[name] + missing)
        memorised.append([mean(over_seeds(group, lambda one: one.memorised)) for group in row] + missing)
    captions = {
        "test accuracy": (accuracies, "No regularisation: " + f"{test_accuracy(noisy['none']):.3f}."),
        "memorised": (memorised, "The share of the wrong labels that the network gives back."),
    }
    for quantity, (table, caption) in captions.items():
        experiment.figure(
            f"strengths-{quantity.split()[0]}",
            plots.matrix(
                table,
                rows=rows,
                columns=[f"strength {place + 1}" for place in range(columns)],
                x_label="from weak to strong",
                y_label="remedy and its strengths",
                value_label=f"{quantity}, mean over {len(config.seeds)} seeds",
                title=f"Turning the strength: {quantity}",
                digits=3,
            ),
            alt=f"{quantity.capitalize()} of four remedies at three strengths.",
            caption=caption,
        )
    experiment.claim(
        "strength-decides-for-l1",
        "The L1 penalty's strength alone moves the test accuracy (strongest minus weakest of the sweep)",
        gains["l1"][-1] - gains["l1"][0],
        at_least=0.05,
    )


# ---------------------------------------------------------------------------------------------- 5. calibration


def measure_calibration(config: Config, experiment: Experiment, noisy: dict[str, list[Trained]]) -> None:
    """Ask how often the networks are right when they say that they are sure."""
    shown = [name for name in RELIABILITY if name in noisy]
    measured = {
        name: calibration(
            torch.cat([one.logits(one.data.test) for one in noisy[name]]),
            torch.cat([one.data.test.targets for one in noisy[name]]),
        )
        for name in shown
    }
    experiment.figure(
        "reliability",
        plots.reliability(
            {
                f"{words(name)}, error {bins.error:.2f}": (bins.confidence, bins.accuracy)
                for name, bins in measured.items()
            },
            title=f"Reliability on right test labels after {config.noise:.0%} wrong training labels",
            note=f"test rows of {len(config.seeds)} seeds in ten bins of confidence",
        ),
        alt="Accuracy over confidence: no regularisation lies far below the diagonal, early stopping above it.",
        caption="Below the diagonal a network is surer than right. Error: the expected calibration error.",
    )
    if "early_stopping" in noisy:
        network, stopped = noisy["none"], noisy["early_stopping"]
        sure = [
            [float(one.logits(one.data.test).softmax(1).amax(1).mean()) - one.accuracy("test") for one in group]
            for group in (network, stopped)
        ]
        experiment.claim(
            "memorising-makes-overconfident",
            "Without regularisation the mean confidence exceeds the test accuracy, in every seed (smallest excess)",
            min(sure[0]),
            at_least=0.05,
        )
        experiment.claim(
            "early-stopping-is-not-overconfident",
            "Early stopping's mean confidence does not exceed its test accuracy by as much (largest excess)",
            max(sure[1]),
            at_most=0.1,
        )


RELIABILITY = ("none", "dropout", "label_smoothing", "early_stopping")

# ---------------------------------------------------------------------------------------------- 6. weights


def look_at_weights(config: Config, experiment: Experiment, data: Data, noisy: dict[str, list[Trained]]) -> None:
    """Compare what L1 and L2 do to the weights, and two ways to take an L1 step."""
    l1 = config.strengths.l1_penalty
    penalised = Remedy(
        penalty=lambda named: l1 * sum((p.abs().sum() for _, p in named if p.dim() > 1), start=torch.zeros(()))
    )
    groups = {
        "none": noisy["none"],
        "weight decay": noisy.get("weight_decay")
        or train(config, experiment, data, "weight_decay", noise=config.noise),
        "L1, proximal": noisy.get("l1") or train(config, experiment, data, "l1", noise=config.noise),
    }
    groups["L1, subgradient"] = train(
        config, experiment, data, "none", noise=config.noise, label="l1 by subgradient", treatment=penalised
    )
    flat = {
        name: torch.cat([part.detach().flatten().cpu() for one in group for part in weights(one.run.module.network)])
        for name, group in groups.items()
    }
    experiment.figure(
        "weights",
        plots.histograms(
            flat,
            x_label="weight",
            title="What the penalties leave of the weights",
            note=f"all weights of {len(config.seeds)} seeds; logarithmic counts",
        ),
        alt="Four histograms of weights: only the proximal L1 step has a spike of exact zeros.",
        caption="A subgradient step jumps over zero and back; a proximal step stops there.",
    )
    zeros = {name: [_zeros(one) for one in group] for name, group in groups.items()}
    experiment.claim(
        "proximal-l1-gives-exact-zeros",
        "Proximal L1 steps leave weights that are exactly zero (smallest share over the seeds)",
        min(zeros["L1, proximal"]),
        at_least=0.02,
    )
    experiment.claim(
        "subgradient-l1-does-not",
        "The L1 penalty in the loss leaves none: its subgradient jumps over zero (largest share over the seeds)",
        max(zeros["L1, subgradient"]),
        at_most=1e-4,
    )
    for name, method, bound in (
        ("sgd", torch.optim.SGD, {"at_most": 1e-6}),
        ("adam", torch.optim.Adam, {"at_least": 0.01}),
    ):
        experiment.claim(
            f"l2-and-decay-under-{name}",
            f"Under {method.__name__} an L2 penalty of λ/2·|w|² and a decay of the weights by lr·λ "
            + ("are the same step" if name == "sgd" else "are not the same step")
            + " (relative distance of the weights after ten steps)",
            _l2_against_decay(method),
            **bound,
        )


def _zeros(one: Trained) -> float:
    flat = torch.cat([part.detach().flatten() for part in weights(one.run.module.network)])
    return float((flat == 0).double().mean())


def _l2_against_decay(method: type[torch.optim.Optimizer], lr: float = 0.01, strength: float = 0.1) -> float:
    """Return how far ten steps with an L2 penalty end from ten steps with decay, from the same start."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(64, 5, generator=generator, dtype=torch.float64), torch.arange(64) % 3
    ends = []
    for decays in (False, True):
        weight = nn.Parameter(torch.linspace(-1, 1, 15, dtype=torch.float64).view(5, 3))
        optimizer = method([weight], lr=lr)  # pyright: ignore[reportCallIssue]
        for _ in range(10):
            loss = F.cross_entropy(x @ weight, y)
            optimizer.zero_grad()
            (loss if decays else loss + strength / 2 * weight.square().sum()).backward()
            before = weight.detach().clone()
            optimizer.step()
            if decays:
                with torch.no_grad():
                    weight.sub_(lr * strength * before)
        ends.append(weight.detach())
    return float((ends[0] - ends[1]).norm() / ends[1].norm())


# ---------------------------------------------------------------------------------------------- 7. formulas


def check_the_formulas(experiment: Experiment) -> None:
    """Check in closed form what the text says of single functions."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        kept = F.dropout(torch.ones(400, 400), 0.3)
    experiment.claim(
        "dropout-keeps-the-mean",
        "Dropout with p = 0.3 of 160,000 ones keeps their mean 1 (distance in standard errors; 5 sigma, a false alarm "
        "in 1.7 million fresh draws)",
        abs(float(kept.mean()) - 1) / (0.3 / 0.7 / kept.numel()) ** 0.5,
        at_most=5,
    )
    x = torch.randn(16, 4, generator=generator, dtype=torch.float64)
    layer = nn.BatchNorm1d(4, momentum=1.0, dtype=torch.float64)
    out = layer(x).detach()
    running_var = layer.get_buffer("running_var")
    experiment.claim(
        "batch-norm-has-two-variances",
        "Batch normalisation divides by the biased variance and remembers the unbiased one (largest error)",
        max(
            float((running_var - x.var(0, correction=1)).abs().max()),
            float((out - (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()).abs().max()),
        ),
        at_most=1e-9,
    )
    y = torch.arange(16) % 4
    log_p = x.log_softmax(1)
    smoothed = 0.9 * F.nll_loss(log_p, y) - 0.1 * log_p.mean()
    experiment.claim(
        "label-smoothing-formula",
        "Label smoothing is (1 - ε) · NLL + ε · mean(-log p) (error for ε = 0.1)",
        abs(float(F.cross_entropy(x, y, label_smoothing=0.1) - smoothed)),
        at_most=1e-12,
    )
    images = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 1, 9, 7)
    cut = CutMix(2, generator=generator)
    errors = []
    for _ in range(50):
        mixed, shares = cut((images, torch.tensor([0, 1])))
        errors.append(float((mixed.mean((1, 2, 3)) - shares[:, 1]).abs().max()))
    experiment.claim(
        "cutmix-counts-the-pixels",
        "CutMix's label shares are the shares of the pixels, also where the border cuts the box (largest error of 50)",
        max(errors),
        at_most=1e-6,
    )


# ---------------------------------------------------------------------------------------------- your own code


def train_on_own_code(config: Config, experiment: Experiment, data: Data, noisy: dict[str, list[Trained]]) -> None:
    """Train with the learner's functions in the place of PyTorch's."""
    assert experiment.mine is not None
    written, missing = learners(experiment.mine, config.strengths, data)
    if missing:
        experiment.note(f"Not written yet, and so not trained with: {', '.join(missing)}.")
    shown = {}
    for name, treatment in written.items():
        if name not in noisy:
            continue
        own = train(config, experiment, data, name, noise=config.noise, label=f"my {name}", treatment=treatment)
        shown[words(name)], shown[f"my {words(name)}"] = noisy[name], own
        gaps = [abs(a.accuracy("test") - b.accuracy("test")) for a, b in zip(own, noisy[name], strict=True)]
        experiment.claim(
            f"my-{name.replace('_', '-')}",
            f"The lesson's result stands with your {words(name)} (distance of the mean test accuracies; largest of a "
            f"seed: {max(gaps):.3f})",
            abs(test_accuracy(own) - test_accuracy(noisy[name])),
            at_most=0.06 if name in RANDOM else 0.03,
        )
    if shown:
        experiment.figure(
            "mine",
            plots.bars(
                {
                    name: with_range(over_seeds(group, lambda one: one.accuracy("test")))
                    for name, group in shown.items()
                },
                x_label="test accuracy, right labels",
                y_label="remedy",
                title="Your functions beside PyTorch's",
                note=f"bar: mean of {len(config.seeds)} seeds; {SEED_RANGE}",
            ),
            alt="Bars of test accuracy in pairs: PyTorch's function and yours.",
            caption="Your dropout, mixup and CutMix draw other random numbers; the rest should agree closely.",
        )


RANDOM = ("dropout", "mixup", "cutmix")

# ---------------------------------------------------------------------------------------------- the course exercise


def solve_a_problem(config: Config, experiment: Experiment) -> None:
    """Compare remedies on a stated problem, choose by the validation part, and only then look at the test part."""
    problem = config.exercise
    data = load(problem.data, limit=problem.rows)
    # Few rows in large batches would be few steps: at least five in an epoch.
    size = min(config.training.batch_size, max(2, problem.rows // 5))
    training = config.training.model_copy(update={"batch_size": size})
    groups = {
        name: train(
            config, experiment, data, name, noise=problem.noise, label=f"exercise: {name}",
            validation_rows=problem.validation_rows, training=training,
        )
        for name in problem.compare
    }  # fmt: skip
    chosen = max(groups, key=lambda name: mean(over_seeds(groups[name], lambda one: one.accuracy("validation"))))
    best = max(groups, key=lambda name: test_accuracy(groups[name]))
    experiment.figure(
        "exercise-table",
        plots.matrix(
            [[mean(over_seeds(group, measure)) for measure in MEASURES.values()] for group in groups.values()],
            rows=[words(name) for name in groups],
            columns=list(MEASURES),
            x_label="measure",
            y_label="remedy",
            value_label=f"mean over {len(config.seeds)} seeds",
            title=f"The exercise: {problem.rows} rows of {problem.data}, {problem.noise:.0%} wrong labels",
            digits=3,
        ),
        alt=f"A table of {', '.join(map(words, groups))} on the stated problem.",
        caption=f"Chosen by validation accuracy: {words(chosen)}, with a test accuracy of "
        f"{test_accuracy(groups[chosen]):.3f}. Best on the test part: {words(best)} with "
        f"{test_accuracy(groups[best]):.3f}.",
    )
    experiment.figure(
        "exercise-bars",
        plots.bars(
            {
                words(name): with_range(over_seeds(group, lambda one: one.accuracy("test")))
                for name, group in groups.items()
            },
            x_label="test accuracy",
            y_label="remedy",
            title="The exercise: test accuracy",
            note=f"bar: mean of {len(config.seeds)} seeds; {SEED_RANGE}",
        ),
        alt=f"Bars of test accuracy for {', '.join(map(words, groups))}.",
        caption="Look here last: the choice is made by the validation part.",
    )
    experiment.note(
        f"Exercise ({problem.rows} rows of {problem.data}, {problem.noise:.0%} wrong labels): chosen by validation: "
        f"{words(chosen)}, test accuracy {test_accuracy(groups[chosen]):.3f}; best on the test part: {words(best)}, "
        f"{test_accuracy(groups[best]):.3f}."
    )


if __name__ == "__main__":
    from coursekit.harness import run_script

    run_script(__file__)
