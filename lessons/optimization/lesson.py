"""Lesson 1, optimization: how a network gets from its first weights to good ones, and what that costs.

Run it with `coursekit run optimization`, or as a script: `python lessons/optimization/lesson.py`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from statistics import mean

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit import plots, runtime
from coursekit.data import Data, load
from coursekit.harness import Classifier, Experiment, Run, classifier_scorecard
from coursekit.metrics import steps_to_target
from coursekit.plots import Band
from lessons.optimization.config import Config

Optimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


def main(config: Config, experiment: Experiment) -> None:
    """Run every experiment of the lesson."""
    data = load(config.data)
    compare_optimizers(config, experiment, data)
    sweep_learning_rates(config, experiment, data)
    range_test(config, experiment, data)
    compare_schedules(config, experiment, data)
    sweep_batch_sizes(config, experiment, data)
    compare_initializations(config, experiment)
    compare_clipping(config, experiment)
    walk_down_rosenbrock(config, experiment)
    check_update_rules(config, experiment)


# ---------------------------------------------------------------------------------------------- the network


def build_network(config: Config, data: Data) -> nn.Module:
    """Return an untrained network for the data: a multilayer perceptron, or a ResNet-18 for small images."""
    if config.network == "resnet18":
        from torchvision.models import resnet18

        network = resnet18(num_classes=len(data.classes))
        # The ImageNet stem quarters the image at once: too much for 32 x 32 pixels (He et al. 2016, section 4.2).
        network.conv1 = nn.Conv2d(data.input_shape[0], 64, 3, padding=1, bias=False)
        network.maxpool = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
        return network
    widths = [math.prod(data.input_shape), *config.hidden]
    hidden = [[nn.Linear(narrow, wide), nn.ReLU()] for narrow, wide in itertools.pairwise(widths)]
    return nn.Sequential(nn.Flatten(), *itertools.chain(*hidden), nn.Linear(widths[-1], len(data.classes)))


def train(
    config: Config,
    experiment: Experiment,
    data: Data,
    label: str,
    optimizer: Optimizer,
    *,
    schedule: Callable[[int], float] | None = None,
    **changes: int,
) -> list[Run]:
    """Train the lesson's network once for each seed; `changes` replace settings of the training."""
    runs = []
    for seed in config.seeds:
        runtime.seed_everything(seed)  # the same seed gives every method the same first weights
        module = Classifier(build_network(config, data), optimizer=optimizer, schedule=schedule)
        training = config.training.model_copy(update=changes)
        runs.append(experiment.fit(module, data, training, label=label, seed=seed, if_diverged="stop"))
    return runs


def epochs_to(target: float, run: Run) -> int | None:
    """Return the first epoch from which the validation accuracy stays at the target for three epochs."""
    return steps_to_target(run.curve("val_accuracy"), target) if run.history else None


def band(runs: list[Run], column: str) -> Band:
    """Return one column of several runs as a seed band over epochs; a run that diverged ends early."""
    curves = [run.curve(column) for run in runs]
    longest = max(map(len, curves))
    padded = [curve + [math.nan] * (longest - len(curve)) for curve in curves]
    return Band(list(range(1, longest + 1)), padded)


# ---------------------------------------------------------------------------------------------- 1. optimizers


def optimizers(config: Config) -> dict[str, Optimizer]:
    """Return the eight methods of the comparison, in PyTorch's form."""
    rates, decay = config.rates, config.weight_decay
    return {
        "SGD": lambda p: torch.optim.SGD(p, lr=rates.sgd),
        "momentum": lambda p: torch.optim.SGD(p, lr=rates.sgd, momentum=0.9),
        "Nesterov": lambda p: torch.optim.SGD(p, lr=rates.sgd, momentum=0.9, nesterov=True),
        "AdaGrad": lambda p: torch.optim.Adagrad(p, lr=rates.adagrad),
        "RMSprop": lambda p: torch.optim.RMSprop(p, lr=rates.adam),
        "Adam": lambda p: torch.optim.Adam(p, lr=rates.adam),
        "Adam + L2": lambda p: torch.optim.Adam(p, lr=rates.adam, weight_decay=decay),
        "AdamW": lambda p: torch.optim.AdamW(p, lr=rates.adam, weight_decay=decay),
    }


def compare_optimizers(config: Config, experiment: Experiment, data: Data) -> None:
    """Train the same network with eight optimizers, and with the learner's own where there is one."""
    methods = optimizers(config)
    mine = experiment.mine
    if mine is not None and mine.has("MyAdamW"):
        methods["my AdamW"] = lambda p: mine.MyAdamW(p, lr=config.rates.adam, weight_decay=config.weight_decay)
    elif mine is not None:
        experiment.note("MyAdamW (exercise O4) is not written yet, so its curve is missing.")

    runs = {name: train(config, experiment, data, name, method) for name, method in methods.items()}
    for name, group in runs.items():
        if all(run.history for run in group):
            experiment.score(classifier_scorecard(name, group, data, target=config.target))

    for column, quantity in (("loss", "training loss (nats)"), ("val_accuracy", "validation accuracy")):
        figure = plots.curves(
            {name: band(group, column) for name, group in runs.items()},
            x_label="epoch",
            y_label=quantity,
            title=f"Eight optimizers: {quantity}",
            log_y=column == "loss",
            target=config.target if column == "val_accuracy" else None,
        )
        experiment.figure(
            f"optimizers-{column.replace('_', '-')}",
            figure,
            alt=f"Lines of {quantity} over epochs for {', '.join(runs)}; plain SGD and Adam + L2 end worst.",
            caption="Each method runs at its usual default rate: the next figure asks how much of this is the rate.",
        )
    cards = {name: card.to_dict() for name, card in experiment.scorecards.items()}
    experiment.figure(
        "scorecard",
        plots.scorecard_figure(cards, title="Ten metrics of eight optimizers"),
        alt="One panel for each metric, one point with its interval for each optimizer.",
        caption=plots.scorecard_caption(cards),
    )

    never = config.training.epochs + 1
    slow = [epochs_to(config.target, run) or never for run in runs["SGD"]]
    fast = [epochs_to(config.target, run) or never for run in runs["momentum"]]
    experiment.claim(
        "momentum-converges-first",
        f"Momentum 0.9 reaches {config.target:g} validation accuracy before plain SGD at the same rate, in every "
        "seed (fewest epochs saved; never counts as one epoch more than were run)",
        min(a - b for a, b in zip(slow, fast, strict=True)),
        at_least=1,
    )
    decayed = [
        _norm(run.module.network) / _norm(other.module.network)
        for run, other in zip(runs["AdamW"], runs["Adam + L2"], strict=True)
    ]
    experiment.claim(
        "adamw-is-not-adam-with-l2",
        "AdamW and Adam with L2 end with different weights from the same start, rate and decay coefficient "
        "(smallest relative difference of the weight norms over the seeds)",
        min(abs(ratio - 1) for ratio in decayed),
        at_least=0.05,
    )
    if mine is not None and "my AdamW" in runs:
        gaps = [
            abs(a - b)
            for own, reference in zip(runs["my AdamW"], runs["AdamW"], strict=True)
            for a, b in zip(own.curve("loss"), reference.curve("loss"), strict=True)
        ]
        experiment.claim(
            "my-adamw-follows-pytorch",
            "Your AdamW's training loss follows torch.optim.AdamW's (largest difference over epochs and seeds, nats)",
            max(gaps),
            at_most=0.01,
        )


def _norm(network: nn.Module) -> float:
    return float(torch.cat([part.detach().flatten() for part in network.parameters()]).norm())


# ---------------------------------------------------------------------------------------------- 2. learning rates


def sweep_learning_rates(config: Config, experiment: Experiment, data: Data) -> None:
    """Ask how much of the comparison was only the learning rate: each method at its own best one."""
    grids: dict[str, tuple[tuple[float, ...], Callable[[float], Optimizer]]] = {
        "SGD": (config.sweep.sgd, lambda rate: lambda p: torch.optim.SGD(p, lr=rate)),
        "momentum": (config.sweep.sgd, lambda rate: lambda p: torch.optim.SGD(p, lr=rate, momentum=0.9)),
        "RMSprop": (config.sweep.adam, lambda rate: lambda p: torch.optim.RMSprop(p, lr=rate)),
        "Adam": (config.sweep.adam, lambda rate: lambda p: torch.optim.Adam(p, lr=rate)),
    }
    never = config.training.epochs + 1
    rates = sorted({rate for grid, _ in grids.values() for rate in grid})
    table: dict[str, list[float]] = {}
    for name, (grid, method) in grids.items():
        row = dict.fromkeys(rates, math.nan)
        for rate in grid:
            runs = train(config, experiment, data, f"{name} at {rate:g}", method(rate))
            row[rate] = mean(epochs_to(config.target, run) or never for run in runs)
        table[name] = list(row.values())
    experiment.figure(
        "learning-rates",
        plots.matrix(
            list(table.values()),
            rows=list(table),
            columns=[f"{rate:g}" for rate in rates],
            x_label="learning rate",
            y_label="optimizer",
            value_label=f"epochs to {config.target:g} validation accuracy",
            title="How much of the difference is the learning rate?",
            digits=1,
        ),
        alt="A table of optimizers against learning rates; each method has a band of rates where it needs few epochs.",
        caption=f"Mean over {len(config.seeds)} seeds; {never} stands for never. Dashes were not run.",
    )
    best = {name: min(value for value in row if value == value) for name, row in table.items()}
    experiment.claim(
        "the-rate-matters-more-than-the-method",
        "For plain SGD the learning rate alone changes the epochs to the target by more than the choice of method "
        "does at each method's best rate (ratio of the two spreads)",
        (max(value for value in table["SGD"] if value == value) - best["SGD"])
        / max(max(best.values()) - min(best.values()), 1 / 3),
        at_least=2,
    )


def range_test(config: Config, experiment: Experiment, data: Data) -> None:
    """Raise the rate a little with every step and watch the loss: where does it fall, where does it explode?"""
    low, high, steps = 1e-4, 10.0, 160
    rates = [low * (high / low) ** (step / (steps - 1)) for step in range(steps)]
    curves: dict[str, list[list[float]]] = {"SGD": [], "momentum": [], "Adam": []}
    makers = {
        "SGD": lambda p: torch.optim.SGD(p, lr=low),
        "momentum": lambda p: torch.optim.SGD(p, lr=low, momentum=0.9),
        "Adam": lambda p: torch.optim.Adam(p, lr=low),
    }
    device = runtime.choose_device(config.training.device)
    inputs, targets = data.train.inputs.to(device), data.train.targets.to(device)
    with runtime.threads(1):
        for (name, maker), seed in itertools.product(makers.items(), config.seeds):
            runtime.seed_everything(seed)
            network = build_network(config, data).to(device)
            optimizer = maker(network.parameters())
            losses = []
            for rate in rates:
                rows = torch.randint(len(inputs), (config.training.batch_size,), device=device)
                loss = F.cross_entropy(network(inputs[rows]), targets[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.param_groups[0]["lr"] = rate
                optimizer.step()
                losses.append(loss.item())
            curves[name].append([value if value < 20 else math.nan for value in losses])
    experiment.figure(
        "range-test",
        plots.curves(
            {name: Band(rates, values) for name, values in curves.items()},
            x_label="learning rate",
            y_label="loss of the mini-batch (nats)",
            title="Learning-rate range test",
            log_x=True,
            log_y=True,
        ),
        alt="Loss against a rising learning rate: it falls first, then explodes; Adam explodes at a far lower rate.",
        caption="The rate grows a hundred-thousandfold in 160 steps (Smith 2017). A cross: a seed passes 20.",
    )


# ---------------------------------------------------------------------------------------------- 3. schedules


def schedules(config: Config, total: int) -> dict[str, Callable[[int], float]]:
    """Return five schedules over `total` steps, each from step number to learning rate."""
    peak, floor = config.schedules.peak, config.schedules.floor
    warmup = round(config.schedules.warmup * total)

    def cosine(step: int) -> float:
        return floor + (peak - floor) * (1 + math.cos(math.pi * min(step / total, 1))) / 2

    def warmup_cosine(step: int) -> float:
        if step < warmup:
            return peak * (step + 1) / (warmup + 1)
        return floor + (peak - floor) * (1 + math.cos(math.pi * min((step - warmup) / (total - warmup), 1))) / 2

    def one_cycle(step: int) -> float:
        middle = 0.3 * total
        part = step / middle if step < middle else 1 - (step - middle) / (total - middle)
        return floor + (peak - floor) * max(part, 0)

    def cyclic(step: int) -> float:
        half = max(total // 8, 1)
        return floor + (peak - floor) * (1 - abs(step % (2 * half) / half - 1))

    return {
        "constant": lambda step: peak,
        "step decay": lambda step: peak * 0.1 ** min(int(3 * step / total), 2),
        "cosine": cosine,
        "warm-up + cosine": warmup_cosine,
        "one cycle": one_cycle,
        "cyclic": cyclic,
    }


def compare_schedules(config: Config, experiment: Experiment, data: Data) -> None:
    """Train with momentum at a rate that is too high to be kept, under schedules that bring it down."""
    total = config.training.epochs * (len(data.train) // config.training.batch_size)
    choices = schedules(config, total)
    mine = experiment.mine
    if mine is not None and mine.has("warmup_cosine"):
        settings = config.schedules
        warmup = round(settings.warmup * total)
        choices["my warm-up + cosine"] = lambda step: mine.warmup_cosine(
            step, base=settings.peak, min=settings.floor, warmup=warmup, total=total
        )
    elif mine is not None:
        experiment.note("warmup_cosine (exercise O6) is not written yet, so its curve is missing.")

    steps = list(range(total))
    experiment.figure(
        "schedules",
        plots.curves(
            {name: Band(steps, [[schedule(step) for step in steps]]) for name, schedule in choices.items()},
            x_label="optimizer step",
            y_label="learning rate",
            title="Learning-rate schedules",
        ),
        alt="Learning rate over steps for each schedule: flat, stairs, half a cosine, a rise before it, triangles.",
    )
    runs = {
        name: train(config, experiment, data, f"schedule {name}", _momentum(config.schedules.peak), schedule=schedule)
        for name, schedule in choices.items()
    }
    experiment.figure(
        "schedules-loss",
        plots.curves(
            {name: band(group, "loss") for name, group in runs.items() if all(run.history for run in group)},
            x_label="epoch",
            y_label="training loss (nats)",
            title="Training loss under each schedule",
            log_y=True,
        ),
        alt="Training loss over epochs for each schedule: where the rate comes down, the loss follows.",
        caption=f"SGD with momentum 0.9, highest rate {config.schedules.peak:g}.",
    )
    final = {
        name: [run.history[-1]["loss"] if run.history else math.inf for run in group] for name, group in runs.items()
    }
    experiment.claim(
        "one-cycle-carries-a-rate-too-high-to-keep",
        "At a rate too high to keep, one cycle ends with a lower training loss than the constant rate, in every seed "
        "(smallest ratio constant / one cycle)",
        min(a / b for a, b in zip(final["constant"], final["one cycle"], strict=True)),
        at_least=5,
    )
    if "my warm-up + cosine" in choices:
        own, rule = choices["my warm-up + cosine"], choices["warm-up + cosine"]
        experiment.claim(
            "my-schedule-is-the-rule",
            "Your warmup_cosine gives the rate of the rule at every step (largest error)",
            max(abs(own(step) - rule(step)) for step in steps),
            at_most=1e-12,
        )
    cosine = choices["warm-up + cosine"]
    experiment.claim(
        "cosine-end-points",
        "Warm-up + cosine starts its descent at the peak and ends at the floor (largest error)",
        max(
            abs(cosine(round(config.schedules.warmup * total)) - config.schedules.peak),
            abs(cosine(total) - config.schedules.floor),
        ),
        at_most=1e-12,
    )
    experiment.claim(
        "cosine-annealing-rises-again",
        "torch's CosineAnnealingLR climbs back to the first rate when it is stepped beyond T_max (rate at 2 T_max "
        "over the first rate)",
        _rate_at_twice_t_max(),
        at_least=0.999,
    )


def _momentum(rate: float) -> Optimizer:
    return lambda p: torch.optim.SGD(p, lr=rate, momentum=0.9)


def _rate_at_twice_t_max(t_max: int = 50) -> float:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=t_max)
    for _ in range(2 * t_max):
        optimizer.step()
        scheduler.step()
    return float(scheduler.get_last_lr()[0])


# ---------------------------------------------------------------------------------------------- 4. batch size


def sweep_batch_sizes(config: Config, experiment: Experiment, data: Data) -> None:
    """Keep the epochs and change the batch size, with one rate for all and with the rate scaled along."""
    sizes = [size for size in config.batch_sizes.sizes if size <= len(data.train)]
    loss: dict[str, list[list[float]]] = {"same rate": [], "rate scaled with the batch": []}
    for size in sizes:
        rates = {
            "same rate": config.rates.sgd,
            "rate scaled with the batch": config.rates.sgd * size / config.batch_sizes.base_size,
        }
        trained: dict[float, list[Run]] = {}
        for name, rate in rates.items():
            if rate not in trained:  # at the base size the two are one
                label = f"batch {size}, {name}"
                trained[rate] = train(config, experiment, data, label, _momentum(rate), batch_size=size)
            loss[name].append([run.history[-1]["loss"] if run.history else math.nan for run in trained[rate]])
    experiment.figure(
        "batch-sizes",
        plots.curves(
            {name: Band(sizes, [list(row) for row in zip(*values, strict=True)]) for name, values in loss.items()},
            x_label="batch size (rows)",
            y_label="training loss of the last epoch (nats)",
            title="Batch size, with and without a scaled learning rate",
            log_x=True,
            log_y=True,
        ),
        alt="Training loss against batch size, one line for a fixed rate, one for a rate that grows with the batch.",
        caption="Momentum 0.9 and the same number of epochs for all: a larger batch takes fewer steps (Goyal 2017).",
    )
    same, scaled = loss["same rate"][-1], loss["rate scaled with the batch"][-1]
    experiment.claim(
        "scale-the-rate-with-the-batch",
        f"At batch size {sizes[-1]} the rate scaled with the batch ends with a lower training loss than the unscaled "
        "one, in every seed (smallest ratio unscaled / scaled)",
        min(a / b for a, b in zip(same, scaled, strict=True)),
        at_least=2,
    )


# ---------------------------------------------------------------------------------------------- 5. first weights

INITIALIZATIONS: dict[str, tuple[str, Callable[[Tensor], object]]] = {
    "ReLU, He": ("relu", lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu")),
    "ReLU, Xavier": ("relu", nn.init.xavier_normal_),
    "tanh, Xavier": ("tanh", nn.init.xavier_normal_),
    "tanh, He": ("tanh", lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu")),
    "ReLU, std 0.01": ("relu", lambda weight: nn.init.normal_(weight, std=0.01)),
}


def compare_initializations(config: Config, experiment: Experiment) -> None:
    """Send random rows through a deep network that has not been trained, and measure each layer's size."""
    settings = config.initialization
    depths = list(range(settings.depth + 1))
    series: dict[str, list[list[float]]] = {name: [] for name in INITIALIZATIONS}
    for seed, (name, (activation, initialize)) in itertools.product(config.seeds, INITIALIZATIONS.items()):
        runtime.seed_everything(seed)
        x = torch.randn(settings.rows, settings.width)
        sizes = [float(x.square().mean())]
        for _ in range(settings.depth):
            weight = torch.empty(settings.width, settings.width)
            initialize(weight)
            x = getattr(torch, activation)(x @ weight.T)
            sizes.append(float(x.square().mean()))
        series[name].append(sizes)
    experiment.figure(
        "initialization",
        plots.curves(
            {name: Band(depths, values) for name, values in series.items()},
            x_label="layer",
            y_label="mean square of the activations",
            title="What each initialization does to a deep network",
            log_y=True,
        ),
        alt="Mean square of the activations over layers: level for ReLU with He, falling steeply for the wrong pairs.",
        caption=f"{settings.width} units in a layer, no training. Layer 0 is the input, of variance 1.",
    )
    # log E[x²] has a variance of about 5 / width a layer: with 20 layers of 512 units a factor of 10 is 5 sigma.
    he = [values[-1] / values[1] for values in series["ReLU, He"]]
    xavier = [values[-1] / values[1] for values in series["ReLU, Xavier"]]
    experiment.claim(
        "he-keeps-the-size",
        f"With He's initialization E[x²] after {settings.depth} ReLU layers stays within a factor of 10 of that "
        "after the first (largest factor over the seeds)",
        max(max(ratio, 1 / ratio) for ratio in he),
        at_most=10,
    )
    expected = 2.0 ** (settings.depth - 1)
    experiment.claim(
        "xavier-halves-it-with-relu",
        "Xavier's initialization halves E[x²] at each ReLU layer (largest factor away from that prediction)",
        max(max(ratio * expected, 1 / (ratio * expected)) for ratio in xavier),
        at_most=10,
    )


# ---------------------------------------------------------------------------------------------- 6. clipping


class PixelReader(nn.Module):
    """A plain tanh network that reads an image pixel by pixel and names its class at the end."""

    def __init__(self, hidden: int, classes: int, scale: float) -> None:
        super().__init__()
        self.cell = nn.RNN(1, hidden, batch_first=True)
        self.head = nn.Linear(hidden, classes)
        nn.init.orthogonal_(self.cell.get_parameter("weight_hh_l0"), gain=scale)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (b, c, h, w) to logits (b, classes)."""
        states, _ = self.cell(images.flatten(1).unsqueeze(-1))  # (b, t, hidden)
        return self.head(states[:, -1])


def compare_clipping(config: Config, experiment: Experiment) -> None:
    """Train a recurrent network over 64 steps, whose gradients explode, with and without clipping."""
    settings = config.clipping
    data = load("digits")
    training = config.training.model_copy(update={"epochs": settings.epochs, "batch_size": 64, "compile": False})
    bounds = {"no clipping": math.inf, f"clipped at {settings.max_norm:g}": settings.max_norm}
    clippers: dict[str, Callable[[Iterable[nn.Parameter]], Tensor]] = {
        name: lambda p, bound=bound: nn.utils.clip_grad_norm_(p, bound) for name, bound in bounds.items()
    }
    mine = experiment.mine
    if mine is not None and mine.has("clip_by_global_norm_"):
        clippers["my clipping"] = lambda p: mine.clip_by_global_norm_(p, settings.max_norm)
    elif mine is not None:
        experiment.note("clip_by_global_norm_ (exercise O5) is not written yet, so its curve is missing.")

    runs: dict[str, list[Run]] = {name: [] for name in clippers}
    for (name, clip), seed in itertools.product(clippers.items(), config.seeds):
        runtime.seed_everything(seed)
        network = PixelReader(settings.hidden, len(data.classes), settings.scale)
        module = Classifier(network, optimizer=lambda p: torch.optim.SGD(p, lr=settings.lr), clip=clip)
        runs[name].append(experiment.fit(module, data, training, label=name, seed=seed, if_diverged="stop"))
    captions = {
        "loss": "Each image is read pixel by pixel: 64 steps back to the first one.",
        "grad_norm": "The mean norms are of one size: clipping does not make gradients small, it bounds each step.",
    }
    for column, quantity in (("loss", "training loss (nats)"), ("grad_norm", "gradient norm before clipping")):
        experiment.figure(
            f"clipping-{column.replace('_', '-')}",
            plots.curves(
                {name: band(group, column) for name, group in runs.items() if all(run.history for run in group)},
                x_label="epoch",
                y_label=f"{quantity}, mean of the epoch",
                title=f"A recurrent network over 64 steps: {quantity}",
                log_y=True,
            ),
            alt=f"{quantity.capitalize()} over epochs, one line with clipping and one without.",
            caption=captions[column],
        )
    without, clipped = list(runs.values())[:2]
    experiment.claim(
        "clipping-tames-the-loss",
        "Clipping ends with a lower training loss than no clipping, in every seed (smallest ratio unclipped / clipped)",
        min(a.history[-1]["loss"] / b.history[-1]["loss"] for a, b in zip(without, clipped, strict=True)),
        at_least=1.5,
    )


# ---------------------------------------------------------------------------------------------- 7. a valley


def rosenbrock(x: Tensor, y: Tensor) -> Tensor:
    """Return (1 - x)² + 100 (y - x²)² (Rosenbrock 1960): a bent valley with its minimum at (1, 1)."""
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def walk_down_rosenbrock(config: Config, experiment: Experiment) -> None:
    """Let four optimizers walk down the same valley from the same place."""
    start = torch.tensor([-1.5, 2.0])
    walkers: dict[str, Optimizer] = {
        "SGD": lambda p: torch.optim.SGD(p, lr=5e-4),
        "momentum": lambda p: torch.optim.SGD(p, lr=5e-4, momentum=0.9),
        "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
        "Adam": lambda p: torch.optim.Adam(p, lr=0.05),
    }
    paths: dict[str, list[list[float]]] = {}
    for name, walker in walkers.items():
        place = nn.Parameter(start.clone())
        optimizer = walker([place])
        path = [place.tolist()]
        for _ in range(config.rosenbrock.steps):
            optimizer.zero_grad()
            rosenbrock(*place).backward()
            optimizer.step()
            path.append(place.tolist())
        paths[name] = path
    experiment.figure(
        "rosenbrock",
        plots.trajectories(
            lambda x, y: (1 - x) ** 2 + 100 * (y - x**2) ** 2,
            paths,
            x_limits=(-2.0, 2.0),
            y_limits=(-0.7, 3.0),
            title="Four optimizers in Rosenbrock's valley",
            x_label="x",
            y_label="y",
            minimum=(1.0, 1.0),
        ),
        alt="Four paths through a bent valley: all fall into it at once, then differ in how they follow its floor.",
        caption=f"{config.rosenbrock.steps} steps from (-1.5, 2). No noise: what differs is the update rule alone.",
    )
    ends = {name: math.dist(path[-1], (1.0, 1.0)) for name, path in paths.items()}
    experiment.claim(
        "momentum-follows-the-valley",
        f"After {config.rosenbrock.steps} steps momentum is nearer to the minimum than plain SGD at the same rate "
        "(ratio of the distances)",
        ends["SGD"] / ends["momentum"],
        at_least=1.2,
    )


# ---------------------------------------------------------------------------------------------- 8. update rules


def check_update_rules(config: Config, experiment: Experiment) -> None:
    """Check in closed form what the text says of single steps."""
    lengths = []
    for scale in (1e-3, 1.0, 1e3):
        weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        optimizer = torch.optim.Adam([weight], lr=0.1)
        weight.grad = torch.tensor([scale], dtype=torch.float64)
        optimizer.step()
        lengths.append(abs(weight.item()))
    experiment.claim(
        "adam-first-step-is-the-rate",
        "Adam's first step has the length of the learning rate, whatever the gradient's scale from 0.001 to 1000 "
        "(largest relative error)",
        max(abs(length / 0.1 - 1) for length in lengths),
        at_most=1e-4,
    )
    weight = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    weight.grad = torch.tensor([3.0, 4.0, 12.0], dtype=torch.float64)
    before = nn.utils.clip_grad_norm_([weight], 1.0)
    experiment.claim(
        "clipping-returns-the-norm-before",
        "clip_grad_norm_ returns the norm before clipping, 13 for the gradient (3, 4, 12) (error)",
        abs(float(before) - 13),
        at_most=1e-9,
    )


if __name__ == "__main__":
    from coursekit.harness import run_script

    run_script(__file__)
