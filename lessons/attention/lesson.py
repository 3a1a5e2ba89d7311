"""Lesson 6, attention: how a network learns where to look, what that costs, and when it tells why.

Run it with `coursekit run attention`, or as a script: `python lessons/attention/lesson.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from statistics import mean

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit import data as sets
from coursekit import plots, runtime
from coursekit.data import Data, Split, Vocabulary
from coursekit.data.batches import Batch
from coursekit.harness import Classifier, Experiment, Module, Run
from coursekit.harness.learner import LearnerCode
from coursekit.metrics import (
    Scorecard,
    bytes_on_disk,
    classification_scores,
    evaluating,
    inference_time,
    model_size,
    normalised_area,
    robustness,
    steps_to_target,
)
from coursekit.plots import Band
from lessons.attention import kernels, maps
from lessons.attention.canvases import Canvases, make_canvases
from lessons.attention.config import Config
from lessons.attention.decoder import Decoder, LanguageModel, generate, generation_speedup, stepper
from lessons.attention.models import (
    Alignment,
    Attention,
    AttentionReader,
    Choice,
    ConvolutionBody,
    HardReader,
    MeanReader,
    PairReader,
    PlaceClassifier,
    RecurrentLanguageModel,
    RecurrentReader,
    RowReader,
    TransformerBody,
    Translator,
    bigram_logits,
    sampled,
    sinusoidal_positions,
    straight_through,
)

Scores = dict[str, float]
NO_CLASSES = "a whole sequence is right or wrong: there are no classes to average over"


def main(config: Config, experiment: Experiment) -> None:
    """Run the experiments that the setting `parts` names: every one of them, if nothing is said."""
    parts = set(config.parts)
    if "laws" in parts:
        check_laws(config, experiment)
    soft = recall_pairs(config, experiment) if parts & {"recall", "hard", "explain"} else []
    if "hard" in parts:
        choose_one(config, experiment, soft)
    if "dates" in parts:
        translate_dates(config, experiment)
    if "places" in parts:
        read_places(config, experiment)
    if "explain" in parts:
        ask_why(config, experiment, soft)
    if "text" in parts:
        write_text(config, experiment, model_text(config, experiment))
    if "cost" in parts:
        measure_cost(config, experiment)


# ---------------------------------------------------------------------------------------------- training and scoring


def train(
    config: Config,
    experiment: Experiment,
    data: Data,
    label: str,
    build: Callable[[], Module],
    *,
    epochs: int,
    batch_size: int,
) -> list[Run]:
    """Train one method once for each seed; the same seed gives the same first weights."""
    training = config.training.model_copy(update={"epochs": epochs, "batch_size": batch_size})
    runs = []
    for seed in config.seeds:
        runtime.seed_everything(seed)
        runs.append(experiment.fit(build(), data, training, label=label, seed=seed))
    return runs


def adam(lr: float) -> Callable[..., torch.optim.Optimizer]:
    """Return what builds Adam at one rate."""
    return lambda parameters: torch.optim.Adam(parameters, lr=lr)


def falling(peak: float, total: int, *, warmup: int = 20) -> Callable[[int], float]:
    """Return a schedule that rises over `warmup` steps and falls in a line to a tenth of its peak."""
    return lambda step: peak * min(1.0, (step + 1) / warmup) * (1 - 0.9 * step / max(total, 1))


def band(runs: Sequence[Run], column: str) -> Band:
    """Return one column of several runs as a seed band over epochs."""
    return Band(range(1, len(runs[0].history) + 1), [run.curve(column) for run in runs])


def on_device(run: Run, *tensors: Tensor) -> list[Tensor]:
    """Return tensors where a run's network is."""
    device = next(run.module.network.parameters()).device
    return [tensor.to(device) for tensor in tensors]


def scorecard(
    variant: str,
    runs: Sequence[Run],
    data: Data,
    quality: Callable[[Run], Scores],
    *,
    call: Callable[[nn.Module, Tensor], object] = lambda network, inputs: network(inputs),
    target: float,
    mode: str = "max",
    not_applicable: dict[str, str] | None = None,
    extra: dict[str, str] | None = None,
) -> Scorecard:
    """Measure the ten metrics of networks that were trained with several seeds.

    Args:
        variant: what was trained.
        runs: one for each seed.
        data: where the inputs that are timed come from: its test part.
        quality: measures what depends on the task: accuracy, loss, robustness and the like.
        call: runs a network on a batch of inputs.
        target: validation accuracy (`max`) or loss in nats (`min`) that counts as converged.
        mode: `max` or `min`.
        not_applicable: reasons for the metrics that do not apply.
        extra: the lesson's own metrics and their units.
    """
    column = "val_accuracy" if mode == "max" else "val_loss"
    rows: list[dict[str, float | None]] = []
    for run in runs:
        network = run.module.network
        (inputs,) = on_device(run, data.test.inputs[:32])
        with evaluating(network), torch.no_grad():
            speed = inference_time(lambda batch, network=network: call(network, batch), inputs, repeats=20, warmup=2)
            measured = quality(run)
        epochs = steps_to_target(
            run.curve(column), target, mode="max" if mode == "max" else "min", patience=min(2, len(run.history))
        )
        rows.append(
            {
                **measured,
                "training_time": run.watch.seconds,
                "warmup_time": run.watch.warmup_seconds,
                "inference_time": speed.median_ms,
                "inference_time_p95": speed.p95_ms,
                "model_size": bytes_on_disk(network),
                "parameters": model_size(network).parameters,
                "convergence_rate": epochs,
            }
        )
    values = {name: [row[name] for row in rows] for name in rows[0]}
    return Scorecard.from_seeds(variant, values, [run.seed for run in runs], not_applicable=not_applicable, extra=extra)


def class_scores(logits: Tensor, targets: Tensor) -> Scores:
    """Return accuracy, precision, recall, F1 (macro) and the loss in nats; logits (..., classes), targets (...)."""
    flat, wanted = logits.float().flatten(0, -2), targets.flatten()
    return {
        **classification_scores(flat, wanted, classes=flat.shape[-1]),
        "loss": float(F.cross_entropy(flat, wanted)),
    }


def the_learners(experiment: Experiment, *names: str, what: str) -> LearnerCode | None:
    """Return the learner's code where all of these functions are written; note what is missing otherwise."""
    mine = experiment.mine
    if mine is None:
        return None
    missing = [name for name in names if not mine.has(name)]
    if missing:
        experiment.note(f"{' and '.join(missing)} not written yet, so {what} is missing.")
        return None
    return mine


def default_generator(device: torch.device) -> torch.Generator:
    """Return PyTorch's own source of randomness on a device: checkpoints keep its state."""
    if device.type == "cuda":
        return torch.cuda.default_generators[device.index or 0]
    return torch.default_generator


# ---------------------------------------------------------------------------------------------- 1. laws


def check_laws(config: Config, experiment: Experiment) -> None:
    """Check in closed form what the text says of one call of attention, before anything is trained."""
    generator = torch.Generator().manual_seed(config.seeds[0])
    widths, count = (4, 64, 1024), 20_000
    spread = []
    for width in widths:
        q, k = (torch.randn(count, width, generator=generator) for _ in range(2))
        spread.append(float((q * k).sum(-1).var()) / width)
    # The variance of a sample variance of n products is about (2 + 6/d) / n: 5 sigma is 0.067 at d = 4.
    experiment.claim(
        "scores-grow-with-the-width",
        f"The product of two independent standard normal vectors of d = {', '.join(map(str, widths))} features has the "
        "variance d, which 1/√d takes back (largest relative error over 20 000 pairs; 5 sigma: false alarm below 1e-6)",
        max(abs(ratio - 1) for ratio in spread),
        at_most=0.07,
    )

    length, width = 16, 32
    mine = the_learners(experiment, "mha", "sinusoidal", what="the check of your own multi-head attention")
    attends: dict[str, tuple[Attention | None, Tensor]] = {"": (None, sinusoidal_positions(length, width))}
    if mine is not None:
        attends["my-"] = mine.mha, mine.sinusoidal(length, width)
    for prefix, (attend, positions) in attends.items():
        moved = {True: 0.0, False: math.inf}
        for seed in config.seeds:
            runtime.seed_everything(seed)
            patches, order = torch.randn(2, length, width), torch.randperm(length)
            for free in (True, False):
                body = TransformerBody(width, positions=None if free else positions, attend=attend).eval()
                with torch.no_grad():
                    change = float((body.encode(patches)[:, order] - body.encode(patches[:, order])).abs().max())
                moved[free] = max(moved[free], change) if free else min(moved[free], change)
        whose = "your" if prefix else "the"
        experiment.claim(
            f"{prefix}attention-sees-a-set",
            f"Without positions, permuting the input of {whose} transformer's two blocks permutes its output and "
            "changes nothing else (largest difference over the seeds)",
            moved[True],
            at_most=1e-5,
        )
        experiment.claim(
            f"{prefix}positions-break-the-set",
            f"With sinusoidal positions the same permutation changes {whose} outputs (smallest largest difference over "
            "the seeds)",
            moved[False],
            at_least=0.1,
        )

    _compare_formulas(config, experiment)


def _compare_formulas(config: Config, experiment: Experiment) -> None:
    """Put the learner's softmax and masks into the formula, beside PyTorch's own kernel."""
    mine = the_learners(experiment, "softmax", "causal_mask", "padding_mask", what="your own formula's check")
    if mine is None:
        return
    gaps = []
    for seed in config.seeds:
        generator = torch.Generator().manual_seed(seed)
        q, k, v = (torch.randn(4, 2, 12, 8, generator=generator) for _ in range(3))
        lengths = torch.randint(1, 13, (4,), generator=generator)
        seen = torch.arange(12) < lengths[:, None, None, None]
        expected = F.scaled_dot_product_attention(q, k, v, attn_mask=torch.ones(12, 12).tril().bool() & seen)
        mask = mine.causal_mask(12, 12) & mine.padding_mask(lengths, 12)
        scores = (q @ k.mT / math.sqrt(8)).masked_fill(~mask, -torch.inf)
        gaps.append(float((mine.softmax(scores, -1) @ v - expected).abs().max()))
    experiment.claim(
        "my-formula-is-attention",
        "Your softmax and masks in the formula give what F.scaled_dot_product_attention gives (largest difference)",
        max(gaps),
        at_most=1e-5,
    )


# ---------------------------------------------------------------------------------------------- 2. associative recall


def recall_data(config: Config, pairs: int, seed: int, rows: int) -> Data:
    """Return rows of key-value pairs; the seed decides the training part alone."""
    settings = config.recall
    return sets.recall(rows, 512, 512, pairs=pairs, keys=settings.keys, values=settings.values, seed=seed)


def recall_pairs(config: Config, experiment: Experiment) -> list[Run]:
    """Train three readers on pairs of keys and values; return the runs of the one that attends, for later."""
    settings = config.recall
    data = recall_data(config, settings.pairs, 0, settings.rows)
    sizes = (settings.keys, settings.values, settings.width)
    readers: dict[str, Callable[[], PairReader]] = {
        "mean": lambda: MeanReader(*sizes),
        "GRU": lambda: RecurrentReader(*sizes),
        "attention": lambda: AttentionReader(*sizes),
    }
    mine = the_learners(experiment, "sdpa", what="your own attention's curve")
    if mine is not None:
        readers["my attention"] = lambda: AttentionReader(*sizes, attention=mine.sdpa)
    runs = {
        name: train(
            config,
            experiment,
            data,
            f"recall, {name}",
            lambda build=build: Classifier(build(), optimizer=adam(settings.lr)),
            epochs=settings.epochs,
            batch_size=settings.batch_size,
        )
        for name, build in readers.items()
    }

    factors = (0.5, 1.0, 2.0, 4.0)
    lengths = [round(settings.pairs * factor) for factor in factors]
    longer = [recall_data(config, length, 0, 1).test for length in lengths]
    by_length = {name: [[accuracy(run, part) for part in longer] for run in group] for name, group in runs.items()}
    for name, group in runs.items():
        areas = {run.seed: normalised_area(row) for run, row in zip(group, by_length[name], strict=True)}
        experiment.score(
            scorecard(
                f"recall, {name}",
                group,
                data,
                lambda run, areas=areas: {
                    **class_scores(*answers(run, data.test)),
                    "robustness": areas[run.seed],
                },
                target=settings.target,
            )
        )

    chance = 1 / settings.values
    experiment.figure(
        "recall-accuracy",
        plots.curves(
            {name: band(group, "val_accuracy") for name, group in runs.items()},
            x_label="epoch",
            y_label="validation accuracy",
            title=f"Which of {settings.pairs} values belongs to the key?",
            target=settings.target,
        ),
        alt="Validation accuracy over epochs: attention rises to 1 at once, the mean and the GRU stay below 0.3.",
        caption=f"Blind guessing is right in {chance:.3f} of the rows; naming one of the {settings.pairs} values that "
        f"stand in the row in at least {1 / settings.pairs:.3f}.",
    )
    experiment.figure(
        "recall-lengths",
        plots.curves(
            {name: Band(lengths, values) for name, values in by_length.items()},
            x_label="pairs in a row",
            y_label="test accuracy",
            title=f"Trained on {settings.pairs} pairs, asked on fewer and on more",
        ),
        alt="Test accuracy against the number of pairs in a row.",
        caption="Nothing was trained again. Their robustness in the scorecard is the mean height of these lines.",
    )
    _look_at_recall(config, experiment, runs["attention"], data)
    for name, word in (("mean", "The mean of all pairs"), ("GRU", "A GRU of the same width")):
        experiment.claim(
            f"{name.lower()}-cannot-recall",
            f"{word} stays below 0.3 test accuracy after the epochs that attention needs (best seed)",
            max(accuracy(run, data.test) for run in runs[name]),
            at_most=0.3,
        )
    experiment.claim(
        "attention-recalls",
        "One head of attention names the right value (worst seed's test accuracy)",
        min(accuracy(run, data.test) for run in runs["attention"]),
        at_least=0.98,
    )
    if mine is not None:
        gaps = [
            abs(a - b)
            for own, reference in zip(runs["my attention"], runs["attention"], strict=True)
            for a, b in zip(own.curve("loss")[:2], reference.curve("loss")[:2], strict=True)
        ]
        experiment.claim(
            "my-attention-learns-alike",
            "With your sdpa the reader's training loss follows that with PyTorch's (largest difference over the first "
            "two epochs and the seeds, nats)",
            max(gaps),
            at_most=0.05,
        )
    return runs["attention"]


@torch.no_grad()
def answers(run: Run, part: Split) -> tuple[Tensor, Tensor]:
    """Return a classifier's logits (n, ..., classes) on one part, and the targets beside them."""
    inputs, targets = on_device(run, part.inputs, part.targets)
    with evaluating(run.module.network):
        return torch.cat([run.module.network(rows) for rows in inputs.split(512)]), targets


def accuracy(run: Run, part: Split) -> float:
    """Return the share of right classes on one part."""
    logits, targets = answers(run, part)
    return float((logits.argmax(-1) == targets).double().mean())


def entropy(weights: Tensor) -> Tensor:
    """Return the entropy of weights (..., s) in nats: ln n where n of them share everything."""
    return torch.special.entr(weights).sum(-1)


def repeated_rows(config: Config, repeats: int, rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return rows whose key stands in several pairs, each with a value of its own, and where it does.

    Returns:
        int64 (rows, 2 · pairs + 1), and bool (rows, pairs), True where the key that is asked for stands.
    """
    settings = config.recall
    generator = torch.Generator().manual_seed(seed)
    keys = torch.rand(rows, settings.keys, generator=generator).argsort(1)[:, : settings.pairs]
    values = torch.rand(rows, settings.values, generator=generator).argsort(1)
    values = values[:, torch.arange(settings.pairs) % settings.values] + settings.keys
    places = torch.rand(rows, settings.pairs, generator=generator).argsort(1)[:, :repeats]
    asked = keys.gather(1, places[:, :1])
    keys = keys.scatter(1, places, asked.expand_as(places))
    there = torch.zeros_like(keys, dtype=torch.bool).scatter(1, places, True)
    return torch.cat([torch.stack([keys, values], -1).flatten(1), asked], 1), there


def _look_at_recall(config: Config, experiment: Experiment, runs: Sequence[Run], data: Data) -> None:
    """Ask where attention looks when the key stands once, and when it stands several times."""
    pairs = config.recall.pairs
    network: AttentionReader = runs[0].module.network  # pyright: ignore[reportAssignmentType]
    inputs, _ = on_device(runs[0], data.test.inputs, data.test.targets)
    with torch.no_grad():
        weights = network.look(inputs)[1].cpu()
    place = (data.test.inputs[:, :-1:2] == data.test.inputs[:, -1:]).int().argmax(1)
    table = torch.stack([weights[place == number].mean(0) for number in range(pairs)])
    experiment.figure(
        "recall-map",
        plots.matrix(
            table,
            rows=[str(number + 1) for number in range(pairs)],
            columns=[str(number + 1) for number in range(pairs)],
            x_label="pair that is looked at",
            y_label="pair that holds the answer",
            value_label=f"mean weight over the test rows, seed {runs[0].seed}",
            title="Attention finds the pair that was asked for",
        ),
        alt="A square table of weights with its diagonal near 1 and zeros elsewhere.",
        caption="Rows: where the answer stood. Columns: where the weight went.",
    )
    repeats = [number for number in (1, 2, 4) if number <= pairs]
    measured: list[list[float]] = []
    shares: list[float] = []
    for run in runs:
        reader: AttentionReader = run.module.network  # pyright: ignore[reportAssignmentType]
        row = []
        for count in repeats:
            rows, there = on_device(run, *repeated_rows(config, count, 512, seed=run.seed))
            with torch.no_grad():
                weights = reader.look(rows)[1]
            row.append(float(entropy(weights).mean()))
            shares.append(float((weights * there).sum(1).mean()))
        measured.append(row)
    experiment.figure(
        "recall-entropy",
        plots.curves(
            {
                "measured": Band(repeats, measured),
                "ln r, the prediction": Band(repeats, [math.log(count) for count in repeats]),
            },
            x_label="times r that the key stands in the row, each time with another value",
            y_label="entropy of the weights (nats)",
            title="Attention spreads where the data are ambiguous",
        ),
        alt="Entropy against repetitions of the key: the measured line rises, below the logarithm.",
        caption="The network never saw a key twice in a row. Weights that share r places evenly have the entropy ln r: "
        "the measured ones are less even, for a pair's score depends a little on its value too.",
    )
    experiment.claim(
        "entropy-follows-the-data",
        "A key that stands once, twice, four times in a row, with another value each time, makes the weights spread: "
        "their entropy rises each time, though training never showed a repeated key (smallest rise over seeds, nats)",
        min(later - earlier for row in measured for earlier, later in pairwise(row)),
        at_least=0.25,
    )
    experiment.claim(
        "weights-stay-on-the-key",
        "However often it stands there, nearly all weight lies on the pairs with the key that was asked for (smallest "
        "mean share over r and seeds)",
        min(shares),
        at_least=0.9,
    )


# ---------------------------------------------------------------------------------------------- 3. soft and hard


class Reinforced(Classifier):
    """A hard reader that learns where to look from what its looks earned (Williams 1992; Xu et al. 2015, section 4.1).

    The reward of a look is the log-likelihood of the right answer after it. Its baseline is the mean reward of the
    other rows, which does not depend on the look itself. All other weights learn by the ordinary gradient.

    Args:
        network: a `HardReader` that samples.
        optimizer: builds the optimizer.
        loss: the loss of the looks, as `loss(log_prob, reward, baseline)`; None takes the formula.
    """

    def __init__(
        self,
        network: HardReader,
        *,
        optimizer: Callable[..., torch.optim.Optimizer],
        loss: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(network, optimizer=optimizer)
        self.look_loss = loss or (lambda log_prob, reward, baseline: -((reward - baseline) * log_prob).mean())

    def training_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return cross entropy plus the loss of the looks, and the accuracy."""
        rows, targets = batch
        logits, log_prob = self.network.decide(rows)  # pyright: ignore[reportCallIssue]
        losses = F.cross_entropy(logits, targets, reduction="none")
        reward = -losses.detach()
        baseline = (reward.sum() - reward) / max(len(reward) - 1, 1)
        return losses.mean() + self.look_loss(log_prob, reward, baseline), {"accuracy": logits.argmax(-1) == targets}


def choose_one(config: Config, experiment: Experiment, soft: list[Run]) -> None:
    """Learn recall by a straight-through choice and by REINFORCE, beside the soft mean of the runs before."""
    settings, hard = config.recall, config.hard
    data = recall_data(config, settings.pairs, 0, settings.rows)
    sizes = (settings.keys, settings.values, settings.width)
    rate = adam(settings.lr)

    def reader(choose: Choice) -> HardReader:
        return HardReader(*sizes, choose)

    soft_choice = partial(straight_through, tau=hard.tau)
    methods: dict[str, Callable[[], Module]] = {
        "straight-through": lambda: Classifier(reader(soft_choice), optimizer=rate),
        "REINFORCE": lambda: Reinforced(reader(sampled), optimizer=rate),
    }
    mine = the_learners(experiment, "hard_attention", what="your own hard attention's curve")
    if mine is not None:

        def my_choice(mode: str, scores: Tensor) -> tuple[Tensor, Tensor]:
            return mine.hard_attention(scores, hard.tau, mode, default_generator(scores.device))

        my_loss = mine.reinforce_loss if mine.has("reinforce_loss") else None
        methods["my straight-through"] = lambda: Classifier(reader(partial(my_choice, "gumbel")), optimizer=rate)
        methods["my REINFORCE"] = lambda: Reinforced(
            reader(partial(my_choice, "reinforce")), optimizer=rate, loss=my_loss
        )
    runs = {
        name: train(
            config, experiment, data, f"hard, {name}", build, epochs=settings.epochs, batch_size=settings.batch_size
        )
        for name, build in methods.items()
    }
    for name, group in runs.items():
        experiment.score(
            scorecard(
                f"recall, {name}",
                group,
                data,
                lambda run: class_scores(*answers(run, data.test)),
                target=settings.target,
                not_applicable={"robustness": "measured for the three readers of associative recall"},
            )
        )
    experiment.figure(
        "hard-accuracy",
        plots.curves(
            {name: band(group, "val_accuracy") for name, group in {"soft": soft, **runs}.items()},
            x_label="epoch",
            y_label="validation accuracy",
            title="The same reader with a mean of all pairs, and with one pair",
            target=settings.target,
        ),
        alt="Validation accuracy over epochs for soft attention, straight-through choices and REINFORCE.",
        caption="Hard readers draw a pair while they learn, and take the likeliest when they are asked.",
    )
    _compare_estimates(config, experiment, data)
    experiment.claim(
        "straight-through-recalls",
        "A reader that takes one pair learns the task by the straight-through gradient (worst seed's test accuracy)",
        min(accuracy(run, data.test) for run in runs["straight-through"]),
        at_least=0.9,
    )


def estimate_gradients(
    reader: AttentionReader, rows: Tensor, targets: Tensor, *, draws: int, tau: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Estimate the gradient of the expected loss of one drawn pair, in several ways, beside the exact one.

    With s pairs the expectation is a sum of s terms: Σ_j p_j L_j with p = softmax(scores), so that its gradient is
    p_j (L_j - Σ_i p_i L_i) for score j. Nothing but the noise is random here.

    Args:
        reader: gives scores, and losses L_j for each pair taken.
        rows: int64 (b, 2s + 1).
        targets: int64 (b,).
        draws: how often each estimate is repeated.
        tau: temperature of the straight-through gradient.

    Returns:
        The exact gradient (b · s,) of the mean loss with respect to the scores, and for each method (draws, b · s).
    """
    with torch.no_grad():
        pairs, query = reader.embed(rows)
        scores, values = reader.scores(pairs, query), reader.value(pairs)
    count, places = scores.shape

    def loss_of(choice: Tensor) -> Tensor:
        """Return the losses (..., b) of choices (..., b, s)."""
        read = torch.einsum("...bs,bsd->...bd", choice, values)
        logits = reader.answer(read, query.expand_as(read))
        return F.cross_entropy(logits.flatten(0, -2), targets.expand(choice.shape[:-1]).flatten(), reduction="none")

    with torch.no_grad():
        each = torch.eye(places, device=rows.device)[:, None].expand(places, count, places)
        losses = loss_of(each).view(places, count).T  # (b, s)
        p = scores.softmax(-1)
        expected = (p * losses).sum(-1, keepdim=True)
        exact = p * (losses - expected) / count
        chosen = torch.multinomial(p, draws, replacement=True).T  # (draws, b)
        pushed = F.one_hot(chosen, places) - p  # the gradient of log p at the chosen place
        earned = losses.gather(1, chosen.T).T[..., None]  # (draws, b, 1)
        others = (losses.mean() - losses.mean(1, keepdim=True) / count) * count / max(count - 1, 1)
    repeated = scores.expand(draws, count, places).clone().requires_grad_()
    noisy = F.gumbel_softmax(repeated, tau, hard=True)
    (through,) = torch.autograd.grad(loss_of(noisy).sum() / count, repeated)
    estimates = {
        "REINFORCE, no baseline": earned * pushed / count,
        "REINFORCE, with baseline": (earned - others) * pushed / count,
        "straight-through": through,
    }
    return exact.flatten(), {name: estimate.flatten(1) for name, estimate in estimates.items()}


def _compare_estimates(config: Config, experiment: Experiment, data: Data) -> None:
    """Measure bias and variance of three estimates on networks that were not trained."""
    settings, hard = config.recall, config.hard
    bias: dict[str, list[float]] = {}
    noise: dict[str, list[float]] = {}
    worst = 0.0
    for seed in config.seeds:
        runtime.seed_everything(seed)
        reader = AttentionReader(settings.keys, settings.values, settings.width)
        rows, targets = data.test.inputs[:64], data.test.targets[:64]
        exact, estimates = estimate_gradients(reader, rows, targets, draws=hard.draws, tau=hard.tau)
        size = float(exact.square().sum())
        for name, estimate in estimates.items():
            centre = estimate.mean(0)
            variance = float((estimate - centre).square().sum()) / (hard.draws - 1)
            # The square of a mean's distance from the truth has variance / draws of its own.
            distance = float((centre - exact).square().sum()) - variance / hard.draws
            noise.setdefault(name, []).append(variance / size)
            bias.setdefault(name, []).append(math.sqrt(max(distance, 0.0) / size))
            if name.startswith("REINFORCE"):
                along = estimate @ exact / size
                worst = max(worst, abs(float(along.mean()) - 1) / (float(along.std()) / math.sqrt(hard.draws)))
    experiment.figure(
        "hard-variance",
        plots.bars(
            {name: (mean(values), min(values), max(values)) for name, values in noise.items()},
            x_label="variance of one draw, in squared lengths of the exact gradient",
            y_label="estimate of the gradient",
            title="What one draw says about the gradient, before training",
            note="mean over seeds, and lowest to highest seed",
        ),
        alt="Bars of the variance of three gradient estimates.",
        caption="Bias beside it, in lengths of the exact gradient: "
        + ", ".join(f"{name} {mean(values):.2f}" for name, values in bias.items())
        + ".",
    )
    experiment.claim(
        "reinforce-is-unbiased",
        f"The mean of {hard.draws} REINFORCE gradients, with baseline and without, agrees with the exact gradient "
        "along its direction (largest distance in standard errors over methods and seeds; false alarm below 1e-5)",
        worst,
        at_most=5,
    )
    experiment.claim(
        "a-baseline-calms-it",
        "The baseline divides the variance of REINFORCE (smallest factor over the seeds)",
        min(a / b for a, b in zip(noise["REINFORCE, no baseline"], noise["REINFORCE, with baseline"], strict=True)),
        at_least=3,
    )


# ---------------------------------------------------------------------------------------------- 4. translation


class Translation(Module):
    """A translator under teacher forcing: it is fed the true target and asked for the next symbol each time."""

    def training_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean cross entropy of the target's symbols after the first."""
        source, target = batch
        logits = self.network(source, target[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten()), {}

    def evaluation(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss under teacher forcing, and the share of dates written right from start to end."""
        source, target = batch
        logits = self.network(source, target[:, :-1])
        written = self.network.look(source, None, target.shape[1] - 1)[0].argmax(-1)  # pyright: ignore
        return {
            "loss": F.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten()),
            "accuracy": (written == target[:, 1:]).all(1),
        }


def translate_dates(config: Config, experiment: Experiment) -> None:
    """Translate written dates to ISO 8601, with attention and through one fixed vector."""
    settings = config.dates
    corpus = sets.dates(settings.rows)
    start = corpus.target.number("<start>")

    def translator(attends: bool, align: Alignment | None = None) -> Module:
        network = Translator(
            len(corpus.source), len(corpus.target), settings.width, attends=attends, start=start, align=align
        )
        return Translation(
            network,
            optimizer=adam(settings.lr),
            clip=lambda parameters: nn.utils.clip_grad_norm_(parameters, 1.0),
        )

    methods: dict[str, Callable[[], Module]] = {
        "attention": lambda: translator(True),
        "one vector": lambda: translator(False),
    }
    mine = the_learners(experiment, "additive_attention", what="your own additive attention's curve")
    if mine is not None:
        methods["my attention"] = lambda: translator(True, mine.additive_attention)
    runs = {
        name: train(
            config,
            experiment,
            corpus.data,
            f"dates, {name}",
            build,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
        )
        for name, build in methods.items()
    }
    steps = corpus.data.test.targets.shape[1] - 1
    for name, group in runs.items():
        experiment.score(
            scorecard(
                f"dates, {name}",
                group,
                corpus.data,
                lambda run: translation_scores(run, corpus.data.test, corpus.source),
                call=lambda network, inputs: network.look(inputs, None, steps),  # pyright: ignore
                target=settings.target,
                not_applicable=dict.fromkeys(("precision", "recall", "f1"), NO_CLASSES),
            )
        )
    experiment.figure(
        "dates-accuracy",
        plots.curves(
            {name: band(group, "val_accuracy") for name, group in runs.items()},
            x_label="epoch",
            y_label="share of whole dates written right",
            title="Translating dates, with a look back and without",
            target=settings.target,
        ),
        alt="Share of right dates over epochs: attention near 1, the fixed vector far below.",
        caption="Validation dates: days that were never trained on. A date counts when all ten symbols are right.",
    )
    shares = _look_at_dates(experiment, runs["attention"], corpus)
    with_, without = ([run.curve("val_accuracy")[-1] for run in runs[name]] for name in ("attention", "one vector"))
    experiment.claim(
        "attention-translates",
        "With additive attention whole dates are written right (worst seed's share of validation dates)",
        min(with_),
        at_least=0.9,
    )
    experiment.claim(
        "one-vector-lags",
        "After the same epochs a translator without attention writes fewer dates right (smallest difference of the "
        "shares over the seeds)",
        min(a - b for a, b in zip(with_, without, strict=True)),
        at_least=0.2,
    )
    experiment.claim(
        "the-year-is-read-where-it-stands",
        "While the year's last two digits are written, more weight lies on the source's four year digits than even "
        "weights would put there (smallest ratio over the seeds)",
        min(shares),
        at_least=1.5,
    )

    if mine is not None:
        experiment.claim(
            "my-additive-attention-learns-alike",
            "With your additive_attention the translator's training loss follows that of the lesson's (largest "
            "difference of the first epoch over the seeds, nats)",
            max(
                abs(own.curve("loss")[0] - reference.curve("loss")[0])
                for own, reference in zip(runs["my attention"], runs["attention"], strict=True)
            ),
            at_most=0.05,
        )


@torch.no_grad()
def translation_scores(run: Run, part: Split, vocabulary: Vocabulary) -> Scores:
    """Return accuracy, loss (nats for each symbol) and robustness: accuracy with 0 to 3 letters of a date mistyped."""
    network: Translator = run.module.network  # pyright: ignore[reportAssignmentType]
    source, target = on_device(run, part.inputs, part.targets)
    wanted = target[:, 1:]
    logits = network(source, target[:, :-1])
    # A letter becomes another letter; digits stay, for without them the date is lost to anyone.
    letters = torch.tensor([symbol.isalpha() for symbol in vocabulary.symbols], device=source.device)
    generator = torch.Generator().manual_seed(run.seed)
    order = torch.rand(source.shape, generator=generator).to(source.device)
    order = torch.where(letters[source], order, 2.0).argsort(1)
    shares = []
    for typos in range(4):
        places = order[:, :typos]
        others = torch.nonzero(letters)[:, 0]
        wrong = others[torch.randint(len(others), places.shape, generator=generator).to(source.device)]
        wrong = torch.where(letters[source.gather(1, places)], wrong, source.gather(1, places))
        written = network.look(source.scatter(1, places, wrong), None, wanted.shape[1])[0].argmax(-1)
        shares.append(float((written == wanted).all(1).double().mean()))
    return {
        "accuracy": shares[0],
        "loss": float(F.cross_entropy(logits.flatten(0, 1), wanted.flatten())),
        "robustness": mean(shares),
    }


def _look_at_dates(experiment: Experiment, runs: Sequence[Run], corpus: sets.Translations) -> list[float]:
    """Draw where the writer looks; return how much more weight than evenly lies on the year while it is written."""
    shares = []
    digits = torch.tensor([symbol.isdigit() for symbol in corpus.source.symbols])
    for run in runs:
        network: Translator = run.module.network  # pyright: ignore[reportAssignmentType]
        source, target = on_device(run, corpus.data.test.inputs, corpus.data.test.targets)
        with torch.no_grad():
            weights = network.look(source, target[:, :-1], 4)[1][:, 2:4].mean(1).cpu()  # of the year's last two digits
        is_digit = digits[source.cpu()].float()
        # Four digits in a row: only the year has them. Convolving with ones finds where such a run begins.
        starts = F.conv1d(is_digit[:, None], torch.ones(1, 1, 4))[:, 0] == 4
        year = F.pad(starts.float(), (0, 3))
        year = sum(year.roll(shift, 1) for shift in range(4))
        assert isinstance(year, Tensor)
        even = year.sum(1) / (source != 0).sum(1).cpu()
        shares.append(float((weights * year).sum(1).mean() / even.mean()))
    network: Translator = runs[0].module.network  # pyright: ignore[reportAssignmentType]
    examples = []
    for text in ("Friday, 3 May 2024", "12/25/1987"):
        (source,) = on_device(runs[0], corpus.encode(text))
        with torch.no_grad():
            logits, weights = network.look(source, None, 10)
        examples.append((text, corpus.target.decode(logits[0].argmax(-1)), weights[0]))
    experiment.figure(
        "dates-map",
        maps.sentence_maps(
            examples,
            title="Where the translator looks while it writes a date",
            note=f"dark: weight 0, light: weight 1; seed {runs[0].seed}",
        ),
        alt="Two maps of weights; written digits down, source characters across.",
        caption="Each row sums to 1. The states that are looked at have read the whole date both ways, so a weight "
        "beside the expected place is no error: what stands there has travelled.",
    )
    return shares


# ---------------------------------------------------------------------------------------------- 5. the course exercise


def place_classifier(config: Config, canvases: Canvases, network: str, pooling: str) -> PlaceClassifier:
    """Return an untrained network for canvases: a body, and a way to sum up its places."""
    settings = config.vision
    width, classes = 2 * settings.channels, len(canvases.data.classes)
    if network == "cnn":
        return PlaceClassifier(ConvolutionBody(settings.channels), width, classes, pooling)
    positions = sinusoidal_positions((settings.size // 4) ** 2, width)
    return PlaceClassifier(TransformerBody(width, positions=positions), width, classes, pooling)


def read_places(config: Config, experiment: Experiment) -> None:
    """The course exercise: the same network with attention and without, by what it does and by what it shows."""
    settings = config.vision
    canvases = make_canvases(sets.load(settings.data), settings.size, settings.clutter)
    data = canvases.data
    total = settings.epochs * (len(data.train) // settings.batch_size)
    rates = {"cnn": settings.lr, "vit": settings.vit_lr}
    runs = {
        f"{network}, {pooling}": train(
            config,
            experiment,
            data,
            f"places, {network}, {pooling}",
            lambda network=network, pooling=pooling: Classifier(
                place_classifier(config, canvases, network, pooling),
                optimizer=adam(rates[network]),
                schedule=falling(rates[network], total),
            ),
            epochs=settings.epochs,
            batch_size=settings.batch_size,
        )
        for network in settings.networks
        for pooling in settings.pooling
    }
    cards: dict[str, Scorecard] = {}
    for name, group in runs.items():
        card = scorecard(
            name,
            group,
            data,
            lambda run: place_scores(run, canvases),
            target=settings.target,
            extra={"weight_on_the_digit": "fraction", "accuracy_without_its_best_places": "fraction"},
        )
        cards[name] = experiment.score(card)
    experiment.figure(
        "places-accuracy",
        plots.curves(
            {name: band(group, "val_accuracy") for name, group in runs.items()},
            x_label="epoch",
            y_label="validation accuracy",
            title="A digit among pieces of others, summed up in different ways",
            target=settings.target,
        ),
        alt="Validation accuracy over epochs, one line for each way to sum up the places.",
        caption="The networks differ in one layer: how the places of the image become one vector.",
    )
    table = {name: card.to_dict() for name, card in cards.items()}
    experiment.figure(
        "places-scorecard",
        plots.scorecard_figure(table, title="With attention and without: performance and interpretability"),
        alt="One panel for each metric, one point with its interval for each way to sum up the places.",
        caption=plots.scorecard_caption(table),
    )
    shown = slice(0, 6)
    evidence = {}
    for name, group in runs.items():
        (images,) = on_device(group[0], data.test.inputs[shown])
        with torch.no_grad():
            evidence[name] = group[0].module.network.evidence(images).cpu()  # pyright: ignore
    experiment.figure(
        "places-maps",
        maps.image_maps(
            data.test.inputs[shown],
            evidence,
            [data.classes[int(target)] for target in data.test.targets[shown]],
            title="What each network says that it looked at",
            note=f"light: much, dark: nothing; each map on its own scale; seed {config.seeds[0]}",
        ),
        alt="Six canvases with a digit among pieces, and below them the map of each network.",
        caption="Attention shows its weights; the others their class activation map for the class that they name.",
    )
    _claim_places(config, experiment, canvases, runs)


@torch.no_grad()
def place_scores(run: Run, canvases: Canvases) -> Scores:
    """Return the classification scores, robustness, and two measures of what a map is worth."""
    test = canvases.data.test
    logits, targets = answers(run, test)
    (inputs,) = on_device(run, test.inputs)
    network: PlaceClassifier = run.module.network  # pyright: ignore[reportAssignmentType]
    sturdy = robustness(network, inputs, targets, strengths=(0.0, 0.1, 0.3), low=0.0, high=1.0, seed=run.seed)
    evidence = network.evidence(inputs)
    hidden = hide(inputs, evidence, covered=0.125)
    found = (evidence.cpu() * canvases.covered(evidence.shape[1])).sum(1).mean()
    return {
        **class_scores(logits, targets),
        "robustness": sturdy.score,
        "weight_on_the_digit": float(found),
        "accuracy_without_its_best_places": float((network(hidden).argmax(-1) == targets).double().mean()),
    }


def hide(images: Tensor, evidence: Tensor, *, covered: float) -> Tensor:
    """Return images with their most important places blackened.

    Args:
        images: (n, 1, size, size).
        evidence: (n, places), how much each place matters, row by row.
        covered: the share of places to hide.
    """
    places = evidence.shape[1]
    side, size = round(places**0.5), images.shape[-1]
    best = evidence.topk(max(1, round(covered * places)), dim=1).indices
    mask = torch.ones_like(evidence).scatter(1, best, 0.0).view(-1, 1, side, side)
    return images * mask.repeat_interleave(size // side, 2).repeat_interleave(size // side, 3)


def _claim_places(config: Config, experiment: Experiment, canvases: Canvases, runs: dict[str, list[Run]]) -> None:
    """Claim what was measured for the convolutional network; a vision transformer is reported alone."""
    with_, without = (runs.get(f"cnn, {pooling}") for pooling in ("attention", "mean"))
    if with_ is None:
        return
    if without is not None:
        experiment.claim(
            "attention-reads-places-better-than-the-mean",
            "A convolutional network is right more often with attention than with the mean of its places, in every "
            "seed (smallest difference of test accuracies)",
            min(
                accuracy(a, canvases.data.test) - accuracy(b, canvases.data.test)
                for a, b in zip(with_, without, strict=True)
            ),
            at_least=0.1,
        )
    chance = float(canvases.covered((config.vision.size // 2) ** 2).float().mean())
    experiment.claim(
        "attention-lies-on-the-digit",
        f"Its weights lie on the digit, which covers {chance:.2f} of a canvas (smallest share of weight over seeds)",
        min(place_scores(run, canvases)["weight_on_the_digit"] for run in with_),
        at_least=0.6,
    )


# ---------------------------------------------------------------------------------------------- 6. does it explain?


def shuffled(weights: Tensor, generator: torch.Generator) -> Tensor:
    """Return weights (b, s) in a random order of their own for each row."""
    order = torch.rand(weights.shape, generator=generator).argsort(1).to(weights.device)
    return weights.gather(1, order)


def ask_why(config: Config, experiment: Experiment, readers: Sequence[Run]) -> None:
    """Shuffle the weights of two networks that both attend, and see which one minds (Jain & Wallace 2019)."""
    settings = config.explain
    data = sets.load("digits")
    methods = {
        name: train(
            config,
            experiment,
            data,
            f"rows, {name}",
            lambda attends=attends: Classifier(
                RowReader(data.input_shape[-1], len(data.classes), settings.width, attends=attends),
                optimizer=adam(settings.lr),
            ),
            epochs=settings.epochs,
            batch_size=64,
        )
        for name, attends in (("attention", True), ("even weights", False))
    }
    asked = recall_data(config, config.recall.pairs, 0, 1).test
    tests = {"recall": asked, "rows": data.test}
    networks: dict[str, list[RowReader | AttentionReader]] = {
        "recall": [run.module.network for run in readers],  # pyright: ignore[reportAssignmentType]
        "rows": [run.module.network for run in methods["attention"]],  # pyright: ignore[reportAssignmentType]
    }
    table: dict[str, dict[str, list[float]]] = {}
    for name, part in tests.items():
        device = next(networks[name][0].parameters()).device
        inputs, targets = part.inputs.to(device), part.targets.to(device)
        tops = []
        measured = []
        for seed, network in zip(config.seeds, networks[name], strict=True):
            row = shuffle_test(network.eval(), inputs, targets, settings.permutations, seed)
            with torch.no_grad():
                tops.append(network.look(inputs)[1].argmax(1))
            row["top place of weights and gradient the same"] = _agreement(
                tops[-1], importance(network, inputs).argmax(1)
            )
            measured.append(row)
        table[name] = {key: [row[key] for row in measured] for key in measured[0]}
        others = [*tops[1:], tops[0]]
        table[name]["top place of two seeds the same"] = [_agreement(a, b) for a, b in zip(tops, others, strict=True)]
    names = {"recall": "recall: attends to embedded pairs", "rows": "rows of a digit: attends to GRU states"}
    experiment.figure(
        "explain",
        plots.matrix(
            [[mean(values) for values in table[name].values()] for name in names],
            rows=list(names.values()),
            columns=list(table["recall"]),
            x_label="measure, each from 0 to 1",
            y_label="network",
            value_label=f"mean over {len(config.seeds)} seeds",
            title="Do the weights explain the prediction?",
        ),
        alt="A table of two networks and six measures: recall's weights are the explanation, those over rows are not.",
        caption="Change of prediction: median total variation distance between the class probabilities before and "
        "after shuffling. Gradient: the place to whose inputs the likeliest logit reacts most.",
    )
    even = [accuracy(run, data.test) for run in methods["even weights"]]
    learned = [accuracy(run, data.test) for run in methods["attention"]]
    experiment.note(
        f"Digits read row by row: test accuracy {mean(learned):.3f} with learned weights, {mean(even):.3f} with even "
        "ones that nobody learned."
    )
    recall, rows = table["recall"], table["rows"]
    experiment.claim(
        "shuffling-ruins-recall",
        "Shuffled weights take recall its answers (smallest loss of test accuracy over the seeds)",
        min(a - b for a, b in zip(recall["accuracy"], recall["weights shuffled"], strict=True)),
        at_least=0.6,
    )
    experiment.claim(
        "even-weights-do-as-well",
        "Trained with even weights, a reader of rows is as good as with learned ones: its weights are not why it is "
        "right (advantage of learned weights in test accuracy, mean over the seeds)",
        mean(learned) - mean(even),
        at_most=0.03,
    )
    key = "top place of weights and gradient the same"
    experiment.claim(
        "weights-and-gradient-part",
        "In recall the weights and the gradient name the same place, in the reader of rows they often do not (smallest "
        "difference of the shares over the seeds)",
        min(a - b for a, b in zip(recall[key], rows[key], strict=True)),
        at_least=0.2,
    )


def _agreement(first: Tensor, second: Tensor) -> float:
    return float((first == second).double().mean())


@torch.no_grad()
def shuffle_test(
    model: RowReader | AttentionReader, inputs: Tensor, targets: Tensor, permutations: int, seed: int
) -> Scores:
    """Return accuracy with a network's own weights, shuffled ones and even ones, and how far predictions moved."""
    generator = torch.Generator().manual_seed(seed)
    logits, weights = model.look(inputs)
    before = logits.softmax(-1)
    even = model.answer_with(inputs, torch.full_like(weights, 1 / weights.shape[1]))
    right, moved = [], []
    for _ in range(permutations):
        after = model.answer_with(inputs, shuffled(weights, generator)).softmax(-1)
        right.append(float((after.argmax(-1) == targets).double().mean()))
        moved.append((after - before).abs().sum(-1) / 2)  # total variation distance
    return {
        "accuracy": float((before.argmax(-1) == targets).double().mean()),
        "weights shuffled": mean(right),
        "weights even": float((even.argmax(-1) == targets).double().mean()),
        "change of prediction": float(torch.stack(moved).median()),
    }


def importance(network: RowReader | AttentionReader, inputs: Tensor) -> Tensor:
    """Return how strongly the likeliest logit reacts to each place: the sum of |gradient| over its features, (b, s).

    Places are the rows of an image (their pixels), or the pairs of a row of symbols (their embeddings).
    """
    if isinstance(network, RowReader):
        places = inputs[:, 0].clone().requires_grad_()
        logits = network(places[:, None])
    else:
        with torch.no_grad():
            places, query = network.embed(inputs)
        places.requires_grad_()
        logits = network.answer(network.read(places, query), query)
    (slope,) = torch.autograd.grad(logits.amax(-1).sum(), places)
    return slope.abs().sum(-1)


# ---------------------------------------------------------------------------------------------- 7. text


def model_text(config: Config, experiment: Experiment) -> list[Decoder]:
    """Train a transformer and a GRU on the same text, beside counted pairs; return the transformers."""
    settings = config.text
    text = sets.load_text(settings.source)
    whole = text.windows(settings.window, stride=settings.stride)
    few = Split(whole.validation.inputs[: settings.validation], whole.validation.targets[: settings.validation])
    data = Data(whole.name, whole.train, few, whole.test, whole.classes, whole.card, whole.mean, whole.std)
    symbols = len(text.vocabulary)
    total = settings.epochs * (len(data.train) // settings.batch_size)
    context = max(settings.window, config.cost.prompt + config.cost.generated)

    def language_model(network: nn.Module) -> Module:
        return LanguageModel(
            network,
            optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=settings.lr),
            schedule=falling(settings.lr, total),
            clip=lambda parameters: nn.utils.clip_grad_norm_(parameters, 1.0),
        )

    def decoder(attention: Attention | None = None, rotation: Callable[..., Tensor] | None = None) -> Decoder:
        return Decoder(
            symbols,
            width=settings.width,
            layers=settings.layers,
            heads=settings.heads,
            context=context,
            attention=attention,
            rotation=rotation,
        )

    methods: dict[str, Callable[[], Module]] = {
        "transformer": lambda: language_model(decoder()),
        "GRU": lambda: language_model(RecurrentLanguageModel(symbols, settings.recurrent)),
    }
    mine = the_learners(experiment, "sdpa", "rope", what="your own transformer's curve")
    if mine is not None:
        methods["my transformer"] = lambda: language_model(decoder(mine.sdpa, mine.rope))
    runs = {
        name: train(
            config,
            experiment,
            data,
            f"text, {name}",
            build,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
        )
        for name, build in methods.items()
    }
    part = Split(data.test.inputs[:128], data.test.targets[:128])
    losses = {name: [class_scores(*answers(run, part))["loss"] for run in group] for name, group in runs.items()}
    pairs = bigram_logits(text.train, symbols)
    bigram = float(F.cross_entropy(pairs[part.inputs].flatten(0, 1), part.targets.flatten()))
    singles = torch.bincount(text.train, minlength=symbols).double() + 0.1
    unigram = float(-(singles / singles.sum()).log()[part.targets].mean())
    for name, group in runs.items():
        experiment.score(
            scorecard(
                f"text, {name}",
                group,
                data,
                lambda run: class_scores(*answers(run, part)),
                target=bigram,
                mode="min",
                not_applicable={"robustness": "there is no agreed way to disturb a text and keep what it says"},
            )
        )
    experiment.figure(
        "text-loss",
        plots.curves(
            {name: band(group, "val_loss") for name, group in runs.items()},
            x_label="epoch",
            y_label="validation loss (nats for each character)",
            title=f"Which character comes next? {settings.epochs} passes over {data.train.inputs.numel():,} characters",
            target=round(bigram, 3),
            target_label="counted pairs",
        ),
        alt="Validation loss over epochs for the transformer and the GRU, and the counted pairs as a line.",
        caption=f"The target is what counting pairs of characters reaches. Single characters: {unigram:.2f} nats.",
    )
    ahead = mean(a - b for a, b in zip(losses["transformer"], losses["GRU"], strict=True))
    leader = "the GRU" if ahead > 0 else "the transformer"
    experiment.note(
        f"Text: {mean(losses['transformer']):.2f} nats for the transformer, {mean(losses['GRU']):.2f} for the GRU, "
        f"{bigram:.2f} for counted pairs: after so little training {leader} is ahead by {abs(ahead):.2f}."
    )
    experiment.claim(
        "both-learn-the-text",
        "Transformer and GRU predict characters better than their frequencies do (smallest advantage over seeds, nats)",
        unigram - max(max(losses["transformer"]), max(losses["GRU"])),
        at_least=0.4,
    )
    if mine is not None:
        # Pairs of features may be laid out differently, so that the same seed starts elsewhere: losses agree in size.
        experiment.claim(
            "my-transformer-learns-alike",
            "With your sdpa and rope the transformer's test loss is near that with PyTorch's (difference of the means "
            "over the seeds, nats)",
            abs(mean(losses["my transformer"]) - mean(losses["transformer"])),
            at_most=0.15,
        )
    return [run.module.network for run in runs["transformer"]]  # pyright: ignore[reportReturnType]


def write_text(config: Config, experiment: Experiment, decoders: Sequence[Decoder]) -> None:
    """Check on trained decoders that the future stays hidden and that a cache changes nothing but the time."""
    settings = config.cost
    text = sets.load_text(config.text.source)
    leaks, gaps = [], []
    for decoder in decoders:
        decoder.eval()
        device = decoder.head.weight.device
        symbols = text.test[: min(64, decoder.context)][None].to(device)
        cut = symbols.shape[1] // 2
        changed = symbols.clone()
        changed[:, cut:] = (changed[:, cut:] + 1) % len(text.vocabulary)
        with torch.no_grad():
            whole = decoder(symbols)
            leaks.append(float((decoder(changed) - whole)[:, :cut].abs().max()))
            cache = decoder.new_cache(1, symbols.shape[1])
            pieces = [decoder(piece, cache) for piece in symbols.split([1, 5, 1, symbols.shape[1] - 7], 1)]
            gaps.append(float((torch.cat(pieces, 1) - whole).abs().max()))
    experiment.claim(
        "the-future-is-hidden",
        "Other characters in the second half of a text leave the logits of the first half as they were (largest "
        "difference over the seeds)",
        max(leaks),
        at_most=1e-6,
    )
    experiment.claim(
        "a-cache-changes-nothing",
        "Fed in pieces of 1, 5, 1 and the rest through the cache, a text gets the logits of one full pass (largest "
        "difference over the seeds)",
        max(gaps),
        at_most=1e-5,
    )
    decoder = decoders[0]
    prompt = text.test[: settings.prompt][None].to(decoder.head.weight.device)
    _time_writing(config, experiment, prompt)
    written = generate(decoder, prompt, min(60, settings.generated), temperature=0.7, generator=_seeded(prompt.device))
    experiment.note(f"The transformer writes after its training: {text.vocabulary.decode(written[0])!r}.")
    _generate_with_theirs(config, experiment, decoder, prompt)


def _time_writing(config: Config, experiment: Experiment, prompt: Tensor) -> None:
    """Time a decoder with its cache and without; the weights do not matter, so nothing is trained."""
    settings = config.cost
    context = settings.prompt + settings.generated
    symbols = int(prompt.max()) + 1
    decoder = Decoder(symbols, width=settings.decoder_width, context=context).to(prompt.device).eval()
    with runtime.threads(1):
        ratio = generation_speedup(decoder, prompt, settings.generated, rounds=1)
    says = (
        f"Writing {settings.generated} characters after {settings.prompt} takes a decoder of width "
        f"{settings.decoder_width} several times as long without the cache (ratio of the times)"
    )
    if prompt.device.type == "cpu":
        experiment.claim("a-cache-saves-time", says, ratio, at_least=5)
    else:  # launching kernels may cost a GPU more than what they compute: told, not claimed
        experiment.note(f"{says}: {ratio:.1f}.")


def _seeded(device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(0)


def _generate_with_theirs(config: Config, experiment: Experiment, decoder: Decoder, prompt: Tensor) -> None:
    """Let the learner's `generate` drive the lesson's decoder, with its cache."""
    mine = the_learners(experiment, "generate", what="your own generation")
    if mine is None:
        return
    count = min(64, config.cost.generated)

    theirs = mine.generate(stepper(decoder), prompt, count, True)
    ours = generate(decoder, prompt, count, temperature=0)
    experiment.claim(
        "my-generation-writes-the-same",
        f"Your generate writes the same {count} likeliest characters as the lesson's (number that differ)",
        float((theirs != ours).sum()),
        at_most=0,
    )


# ---------------------------------------------------------------------------------------------- 8. cost


def measure_cost(config: Config, experiment: Experiment) -> None:
    """Measure time and memory of one formula in several kernels, against the length of the sequence."""
    settings = config.cost
    device = runtime.choose_device(config.training.device)
    methods = [kernels.READABLE, kernels.BLOCKWISE, kernels.FUSED]
    if settings.flex:
        methods.append(kernels.FLEX)
    mine = the_learners(experiment, "online_attention", what="your own online attention's cost")
    if mine is not None:
        methods.append(
            kernels.Method(
                "my online attention", lambda q, k, v, causal: mine.online_attention(q, k, v, 256, causal=causal)
            )
        )
    with runtime.threads(1):
        costs = kernels.measure_lengths(
            settings.lengths,
            methods,
            heads=settings.heads,
            head_size=settings.head_size,
            rounds=settings.rounds,
            device=device,
            dtype=torch.bfloat16 if settings.half else torch.float32,
        )
    by_method = {method.name: [cost for cost in costs if cost.method == method.name] for method in methods}
    for name, quantity, value, unit in (
        ("cost-time", "time", lambda cost: 1000 * cost.seconds, "milliseconds for one call"),
        ("cost-memory", "memory", lambda cost: cost.peak_bytes / 2**20, "peak memory beyond the inputs (MiB)"),
    ):
        experiment.figure(
            name,
            plots.curves(
                {
                    method: Band([cost.length for cost in row], [value(cost) for cost in row])
                    for method, row in by_method.items()
                    if row
                },
                x_label="length of the sequence",
                y_label=unit,
                title=f"Causal attention: {quantity} against length",
                log_x=True,
                log_y=True,
            ),
            alt=f"{quantity.capitalize()} against length on logarithmic axes, one line for each kernel.",
            caption="What ran: "
            + ", ".join(f"{row[-1].method}: {row[-1].kernel}" for row in by_method.values() if row),
        )
    readable, fused = (by_method[method.name] for method in (kernels.READABLE, kernels.FUSED))
    longest, same = readable[-1], next(cost for cost in fused if cost.length == readable[-1].length)
    experiment.note(f"F.scaled_dot_product_attention ran as {same.kernel} on {runtime.describe_device(device)}.")
    experiment.claim(
        "fused-attention-is-faster",
        f"At length {longest.length} F.scaled_dot_product_attention takes a third of the readable formula's time or "
        "less (ratio, median over rounds run in turns)",
        kernels.time_ratio(same, longest),
        at_most=1 / 3,
    )
    experiment.claim(
        "fused-attention-is-smaller",
        f"At length {longest.length} it holds a twentieth of the readable formula's peak memory or less, outputs "
        "counted, inputs not (ratio)",
        same.peak_bytes / longest.peak_bytes,
        at_most=1 / 20,
    )
    experiment.claim(
        "memory-grows-with-the-square",
        "Doubling the length multiplies the readable formula's peak memory by nearly four, and that of the fused "
        "kernel by about two (difference of the two factors, last doubling)",
        growth(readable) - growth([cost for cost in fused if cost.length <= longest.length]),
        at_least=1.5,
    )


def growth(costs: Sequence[kernels.Cost]) -> float:
    """Return by which factor the memory grows when the length doubles, from the last two lengths."""
    before, last = costs[-2:]
    return (last.peak_bytes / before.peak_bytes) ** (math.log(2) / math.log(last.length / before.length))


if __name__ == "__main__":
    from coursekit.harness import run_script

    run_script(__file__)
