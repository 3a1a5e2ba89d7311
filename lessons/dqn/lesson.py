"""Lesson 4, deep Q-learning: how an agent learns what its actions are worth, and how far to trust what it believes.

Run it with `coursekit run dqn`, or as a script: `python lessons/dqn/lesson.py`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cache, partial
from statistics import mean
from typing import Any

import numpy as np
import torch
from torch import Tensor

from coursekit import plots, runtime
from coursekit.harness import Experiment, Run
from coursekit.harness.learner import LearnerCode
from coursekit.metrics import Scorecard, bytes_on_disk, inference_time, model_size, steps_to_target
from coursekit.plots import Band
from coursekit.rl import (
    DQN,
    Atari,
    AtariNetwork,
    CartPole,
    Functions,
    Learning,
    QNetwork,
    Step,
    draw,
    dueling,
    epsilon_greedy,
    experience,
    filmstrip,
    play,
    save_animation,
    td_target,
)
from coursekit.rl.environments import Array, EnvironmentFactory
from lessons.dqn.config import Config
from lessons.dqn.frozen_lake import frozen_lake, learn, policy_values, value_iteration
from lessons.dqn.treadmill import Treadmill, fitted_values


def main(config: Config, experiment: Experiment) -> None:
    """Run every experiment of the lesson."""
    chosen = variants(config, experiment)
    for variant in chosen.values():  # settings that do not fit, or a missing package, are told before anything runs
        build_agent(config, variant, config.seeds[0])
    with runtime.threads(1):  # tables and small batches: a second thread would only wait
        measure_maximization_bias(config, experiment)
        measure_the_price_of_two_estimates(config, experiment)
        learn_frozen_lake(config, experiment)
        confuse_the_ends(config, experiment)
    compare_agents(config, experiment, chosen)


# ---------------------------------------------------------------------------------------------- 1. the maximum


def expected_maximum(actions: int, noise: str) -> float:
    """Return E[max] of independent noise of mean 0 and variance 1, one for each action.

    Uniform: √3 (m − 1) / (m + 1). Normal: ∫ x m φ(x) Φ(x)^(m − 1) dx, by the trapezoidal rule.
    """
    if noise == "uniform":
        return math.sqrt(3) * (actions - 1) / (actions + 1)
    x = torch.linspace(-12, 12, 48_001, dtype=torch.float64)
    density = actions * torch.exp(-(x**2) / 2) / math.sqrt(2 * math.pi) * torch.special.ndtr(x) ** (actions - 1)
    return float(torch.trapezoid(x * density, x))


def draw_noise(rows: int, actions: int, noise: str, generator: torch.Generator) -> Tensor:
    """Return noise of mean 0 and variance 1, float64 (rows, a)."""
    if noise == "uniform":
        return (torch.rand(rows, actions, dtype=torch.float64, generator=generator) - 0.5) * math.sqrt(12)
    return torch.randn(rows, actions, dtype=torch.float64, generator=generator)


def measure_maximization_bias(config: Config, experiment: Experiment) -> None:
    """Estimate many states whose actions are all worth exactly 0, and take the largest estimate of each."""
    settings = config.maximum
    counts = list(settings.actions)
    single, double, errors, slack = [], [], [], []
    for seed in config.seeds:
        generator = torch.Generator().manual_seed(seed)
        rows: list[tuple[float, float]] = []
        for actions in counts:
            first, second = (draw_noise(settings.states, actions, settings.noise, generator) for _ in range(2))
            largest, chosen = first.max(1)
            other = second.gather(1, chosen[:, None]).squeeze(1)
            rows.append((float(largest.mean()), float(other.mean())))
            expected = expected_maximum(actions, settings.noise)
            for sample, truth in ((largest, expected), (other, 0.0)):
                errors.append(abs(float(sample.mean()) - truth) / float(sample.std() / math.sqrt(len(sample))))
            # The theorem's conditions, for every row: the errors sum to zero, and their mean square is C = 1.
            centred = first - first.mean(1, keepdim=True)
            centred /= centred.square().mean(1, keepdim=True).sqrt()
            slack.append(float(centred.amax(1).min()) - math.sqrt(1 / (actions - 1)))
        single.append([row[0] for row in rows])
        double.append([row[1] for row in rows])
    experiment.figure(
        "maximum",
        plots.curves(
            {
                "maximum of one estimate": Band(counts, single),
                "guaranteed by the bound √(C / (m − 1)), C = 1": Band(
                    counts, [[math.sqrt(1 / (actions - 1)) for actions in counts]] * len(config.seeds)
                ),
                "two estimates: one chooses, one values": Band(counts, double),
            },
            x_label="number of actions m",
            y_label="mean estimate of a state (true value: 0)",
            title="The largest of several noisy estimates is too large",
        ),
        alt="Mean estimate over the number of actions: the maximum rises from 0.56 to 1.77 while the guarantee falls "
        "from 1 to 0.26; two estimates stay at 0.",
        caption=f"{settings.states} states for each seed, {settings.noise} noise of variance 1, every true value 0. "
        "The guarantee is for errors that sum to 0 with mean square 1: what must happen shrinks, what happens grows.",
    )
    means = [mean(column) for column in zip(*single, strict=True)]
    named = ", ".join(f"{value:.3f} for {actions}" for actions, value in zip(counts, means, strict=True))
    experiment.claim(
        "maximum-of-noise",
        f"The mean maximum of noisy zeros ({named} actions) is its exact expectation, and the double estimate's mean "
        "is 0 (largest distance in standard errors over actions and seeds)",
        max(errors),
        at_most=5,
    )
    experiment.claim(
        "van-hasselt-bound",
        "Where the errors of a state sum to 0 and have mean square C, the largest is at least √(C / (m − 1)), in every "
        "state (smallest distance to the bound over states, actions and seeds, for C = 1)",
        min(slack),
        at_least=-1e-9,
    )
    tight = []
    for actions in counts:
        worst = torch.full((actions,), math.sqrt(1 / (actions - 1)), dtype=torch.float64)
        worst[-1] = -math.sqrt(actions - 1)
        tight += [abs(float(worst.sum())), abs(float(worst.square().mean()) - 1)]
    experiment.claim(
        "bound-is-tight",
        "Errors of √(1 / (m − 1)) for all actions but one, and −√(m − 1) for that one, meet the conditions and the "
        "bound exactly (largest violation of the conditions)",
        max(tight),
        at_most=1e-9,
    )


def measure_the_price_of_two_estimates(config: Config, experiment: Experiment) -> None:
    """Let one of two actions be better by a gap: one estimate is now too large less often, two are too small."""
    settings = config.maximum
    gaps = list(settings.gaps)
    single, double, errors = [], [], []
    for seed in config.seeds:
        generator = torch.Generator().manual_seed(seed)
        rows: list[tuple[float, float]] = []
        for gap in gaps:
            truth = torch.tensor([0.0, gap], dtype=torch.float64)
            first, second = (truth + draw_noise(settings.states, 2, "normal", generator) for _ in range(2))
            largest, chosen = first.max(1)
            other = second.gather(1, chosen[:, None]).squeeze(1)
            rows.append((float(largest.mean()) - gap, float(other.mean()) - gap))
            for sample, bias in zip((largest, other), biases(gap), strict=True):
                errors.append(abs(float(sample.mean()) - gap - bias) / float(sample.std() / math.sqrt(len(sample))))
        single.append([row[0] for row in rows])
        double.append([row[1] for row in rows])
    experiment.figure(
        "gap",
        plots.curves(
            {
                "maximum of one estimate": Band(gaps, single),
                "two estimates: one chooses, one values": Band(gaps, double),
            },
            x_label="how much better one of two actions is (standard deviations of the noise)",
            y_label="bias of the estimated maximum",
            title="Two estimates trade one bias for the other",
            target=0,
        ),
        alt="Bias over the gap between two actions: the maximum's falls from 0.56 to 0, that of two estimates is 0 at "
        "no gap, about −0.25 near one standard deviation, and 0 again for large gaps.",
        caption="Normal noise of variance 1. Where actions differ, the chooser is sometimes wrong and the other "
        "estimate says so: the mean is then too small.",
    )
    experiment.claim(
        "two-estimates-are-too-small",
        f"With a gap, both biases are those of the closed form; two estimates fall short by up to "
        f"{-min(biases(gap)[1] for gap in gaps):.3f} (largest distance in standard errors over gaps and seeds)",
        max(errors),
        at_most=5,
    )


def biases(gap: float) -> tuple[float, float]:
    """Return the bias of the maximum, and that of two estimates, for two actions that are worth 0 and `gap`.

    The better action looks better with probability Φ(gap / √2). With estimates of variance 1,
    E[max] = gap Φ(gap / √2) + √2 φ(gap / √2) (Clark 1961), and two estimates give gap Φ(gap / √2).
    """
    share = (1 + math.erf(gap / 2)) / 2
    return gap * (share - 1) + math.exp(-(gap**2) / 4) / math.sqrt(math.pi), gap * (share - 1)


# ---------------------------------------------------------------------------------------------- 2. FrozenLake


def learn_frozen_lake(config: Config, experiment: Experiment) -> None:
    """Learn a small world by tables, and compare what is believed with what is true."""
    settings = config.lake
    lake = frozen_lake(settings.size, slippery=settings.slippery)
    optimal = value_iteration(lake, settings.gamma)
    exact = float(optimal[0].max())
    solved = float(policy_values(lake, optimal.argmax(1)[None], settings.gamma)[0, 0])
    experiment.claim(
        "exact-value",
        f"The value of the first state by value iteration, {exact:.4f}, is what its greedy policy earns by solving the "
        "linear equations (difference)",
        abs(exact - solved),
        at_most=1e-8,
    )

    policy = epsilon_greedy
    mine = experiment.mine
    if mine is not None and mine.has("epsilon_greedy"):
        policy = mine.epsilon_greedy
    elif mine is not None:
        experiment.note("epsilon_greedy (exercise D1) is not written yet, so FrozenLake explores with ours.")
    rates = torch.tensor(settings.rates).repeat_interleave(settings.learners)
    learned = {
        name: learn(
            lake,
            policy,
            seed=config.seeds[0],
            lr=rates,
            steps=settings.steps,
            gamma=settings.gamma,
            epsilon=settings.epsilon,
            looks=30,
            double=double,
        )
        for name, double in (("Q-learning", False), ("double Q-learning", True))
    }
    parts = {rate: slice(i * settings.learners, (i + 1) * settings.learners) for i, rate in enumerate(settings.rates)}
    believed = {
        f"{name}, rate {rate:g}": Band(one.steps, one.estimate[:, part].T)
        for name, one in learned.items()
        for rate, part in parts.items()
    }
    experiment.figure(
        "frozen-lake-values",
        plots.curves(
            believed,
            x_label="environment steps",
            y_label="value of the first state, as believed",
            title="FrozenLake: what the tables believe, and the exact value",
            target=round(exact, 4),
            spread="interval",
        ),
        alt="Believed value over steps: Q-learning settles above the exact value for large rates, double Q-learning "
        "far below it.",
        caption=f"{settings.learners} independent learners for each line (the band calls them seeds). The dotted line "
        "is exact. No policy can earn more.",
    )
    table = []
    for one in learned.values():
        for values in (one.estimate, one.achieved):
            table.append([float(values[-1, part].mean()) for part in parts.values()])
    experiment.figure(
        "frozen-lake-table",
        plots.matrix(
            table,
            rows=[f"{name}: {what}" for name in learned for what in ("believes", "earns")],
            columns=[f"{rate:g}" for rate in settings.rates],
            x_label="learning rate",
            y_label="method",
            value_label=f"value of the first state; the best possible is {exact:.4f}",
            title=f"FrozenLake after {settings.steps} steps: belief and truth",
            digits=3,
        ),
        alt="A table of believed and earned values for two methods and several learning rates.",
        caption="'Earns' is the exact value of the greedy policy, from the linear equations: no sampling is in it.",
    )
    slow, fast = parts[settings.rates[0]], parts[settings.rates[-1]]
    single, double = learned["Q-learning"], learned["double Q-learning"]
    experiment.claim(
        "small-rate-finds-the-value",
        f"At the rate {settings.rates[0]:g} Q-learning's mean belief ends near the exact value (distance)",
        abs(float(single.estimate[-1, slow].mean()) - exact),
        at_most=0.05,
    )
    experiment.claim(
        "large-rate-believes-too-much",
        f"At the rate {settings.rates[-1]:g} Q-learning believes more than its greedy policy earns (mean excess)",
        float((single.estimate[-1, fast] - single.achieved[-1, fast]).mean()),
        at_least=0.2,
    )
    experiment.claim(
        "double-is-no-cure-here",
        "Double Q-learning believes less than the exact value at every rate (largest mean belief over exact value)",
        max(float(double.estimate[-1, part].mean()) for part in parts.values()) / exact,
        at_most=0.8,
    )


# ---------------------------------------------------------------------------------------------- 3. two kinds of end


def confuse_the_ends(config: Config, experiment: Experiment) -> None:
    """Learn one value three times from the same experience: rightly, and with each kind of end taken for the other."""
    settings = config.treadmill
    world = Treadmill(settings.fall, settings.limit, settings.gamma)
    truth = {
        "right: only falls end it": world.value(world.fall),
        "every end taken for a fall": world.value(1 / world.mean_length),
        "no end taken for a fall": world.value(0.0),
    }
    target = td_target
    mine = experiment.mine
    if mine is not None and mine.has("td_target"):
        target = mine.td_target
    elif mine is not None:
        experiment.note("td_target (exercise D3) is not written yet, so the treadmill learns with ours.")
    curves: dict[str, list[list[float]]] = {name: [] for name in truth}
    for seed in config.seeds:
        fell, stopped = world.walk(settings.episodes, seed)
        for name, ends in zip(truth, (fell, fell | stopped, torch.zeros_like(fell)), strict=True):
            curves[name].append(fitted_values(target, ends, settings.gamma, settings.updates))
    updates = list(range(1, settings.updates + 1))
    experiment.figure(
        "ends",
        plots.curves(
            {f"{name} ({truth[name]:.1f})": Band(updates, values) for name, values in curves.items()},
            x_label="updates of the value",
            y_label="value of a step",
            title="What a confused end costs",
            target=truth["right: only falls end it"],
        ),
        alt="Value over updates: the right rule settles at the true value, one confusion far below, one far above.",
        caption=f"Reward 1 a step, a fall with probability {world.fall:g}, a time limit of {world.limit} steps, "
        f"discount {world.gamma:g}. In brackets: where each rule must end, in closed form.",
    )
    right, low, high = ([values[-1] for values in group] for group in curves.values())
    true, wrong_low, _ = truth.values()
    experiment.claim(
        "truncated-episodes-bootstrap",
        f"Bootstrapping where the time limit cut, and only there, learns the true value of {true:.2f} (largest "
        "relative error over seeds)",
        max(abs(value / true - 1) for value in right),
        at_most=0.1,
    )
    experiment.claim(
        "truncated-as-terminated",
        f"Taking the time limit for a fall learns {wrong_low:.2f} instead (largest value over seeds, as a share of the "
        "true one)",
        max(low) / true,
        at_most=(1 + wrong_low / true) / 2,
    )
    experiment.claim(
        "terminated-as-truncated",
        f"Bootstrapping after a fall too learns 1 / (1 − γ) = {truth['no end taken for a fall']:.2f}, whatever the "
        "world (smallest value over seeds, as a share of that)",
        min(high) * (1 - world.gamma),
        at_least=0.99,
    )


# ---------------------------------------------------------------------------------------------- 4. deep Q-learning


class ConfusedCartPole(CartPole):
    """CartPole whose replay is told that the time limit ended the episode for good."""

    def step(self, action: Array) -> Step:
        """Take one action in each environment."""
        step = super().step(action)
        return step._replace(terminated=step.terminated | step.truncated)


@dataclass(frozen=True)
class Variant:
    """One way of deep Q-learning: DQN and what is added to it."""

    learning: dict[str, Any] = field(default_factory=dict)
    join: Callable[[Tensor, Tensor], Tensor] | None = None  # of the dueling head, where there is one
    confused: bool = False
    parts: dict[str, Any] = field(default_factory=dict)


def variants(config: Config, experiment: Experiment) -> dict[str, Variant]:
    """Return the variants that were asked for, and the learner's own DQN where there is something of theirs."""
    steps = config.agent.n_step
    known = {
        "DQN": Variant(),
        "double": Variant({"double": True}),
        "dueling": Variant(join=dueling),
        "n-step": Variant({"n_step": steps}),
        "prioritised": Variant({"prioritized": True}),
        "all": Variant({"double": True, "n_step": steps, "prioritized": True}, join=dueling),
        "time limit as end": Variant(confused=True),
    }
    chosen = {name: known[name] for name in config.agent.variants}
    if experiment.mine is not None:
        parts = learner_parts(experiment, experiment.mine)
        if parts:
            join = parts.pop("join", None)
            chosen["my DQN"] = Variant({"prioritized": "priorities" in parts}, join=join, parts=parts)
    return chosen


def learner_parts(experiment: Experiment, mine: LearnerCode) -> dict[str, Any]:
    """Return what the learner wrote, in the places that `DQN` has for it; note what is missing."""
    places = {
        "explore": ("epsilon_greedy", "D1"),
        "epsilon": ("linear_epsilon", "D1"),
        "target": ("td_target", "D3"),
        "batch_target": ("batch_target", "D3"),
        "loss": ("dqn_loss", "D4"),
        "sync": ("sync", "D5"),
        "memory": ("ReplayBuffer", "D2"),
        "priorities": ("PrioritizedReplay", "D7"),
        "join": ("dueling", "D7"),
    }
    written = {place: getattr(mine, name) for place, (name, _) in places.items() if mine.has(name)}
    missing = {place: f"{name} ({code})" for place, (name, code) in places.items() if place not in written}
    for verb, wanted in (
        ("takes ours in place of", missing.keys() - {"priorities", "join"}),
        ("does without", missing.keys() & {"priorities", "join"}),
    ):
        if wanted:
            names = ", ".join(name for place, name in missing.items() if place in wanted)
            experiment.note(f"My DQN {verb} what is not written yet: {names}.")
    functions = {place: written.pop(place) for place in list(written) if place in _FUNCTIONS}
    return {**written, **({"functions": Functions(**functions)} if functions else {})}


_FUNCTIONS = {place.name for place in fields(Functions)}


def build_agent(config: Config, variant: Variant, seed: int) -> DQN:
    """Return an untrained agent."""
    settings = config.agent
    head: dict[str, Any] = {} if variant.join is None else {"dueling": True, "join": variant.join}
    if settings.world == "cartpole":
        world: EnvironmentFactory = ConfusedCartPole if variant.confused else CartPole
        network = QNetwork(4, settings.hidden, world(1).actions, **head)
    else:
        world = partial(Atari, settings.world)
        network = AtariNetwork(world(1).actions, **head)
    learning = Learning(
        gamma=settings.gamma,
        environments=settings.environments,
        steps_per_update=settings.steps_per_update,
        warmup=settings.warmup,
        capacity=settings.capacity,
        target_updates=settings.target_updates,
        tau=settings.tau,
        epsilon_end=settings.epsilon_end,
        epsilon_steps=settings.epsilon_steps,
        huber_delta=settings.huber_delta,
        alpha=settings.alpha,
        beta_updates=settings.updates * config.training.epochs,
        restart=settings.world != "cartpole",
        **variant.learning,
    )
    return DQN(
        network,
        environments=world,
        learning=learning,
        optimizer=lambda p: torch.optim.Adam(p, lr=settings.lr),
        seed=seed,
        **variant.parts,
    )


@dataclass(frozen=True)
class Trained:
    """One finished training and its separate greedy episodes.

    Attributes:
        run: the training.
        agent: its module.
        last: mean return of the network at the end, over the final episodes.
        best: the same of the network that was best after some epoch, in the episodes played there.
    """

    run: Run
    agent: DQN
    last: float
    best: float


def train(config: Config, experiment: Experiment, name: str, variant: Variant) -> list[Trained]:
    """Train one variant with every seed, and let it play episodes that chose nothing before."""
    settings = config.agent
    data = experience(
        settings.world, updates=settings.updates, batch_size=config.training.batch_size, episodes=settings.episodes
    )
    trained = []
    for seed in config.seeds:
        runtime.seed_everything(seed)  # the same seed gives every variant the same hidden layers at first
        agent = build_agent(config, variant, seed)
        run = experiment.fit(agent, data, config.training, label=name, seed=seed)
        start = int(data.test.targets[0])
        agent.to(runtime.choose_device(config.training.device))  # Lightning leaves it on the CPU
        last, best = (
            play(values, agent.environments(settings.final_episodes), seed=start, device=agent.device).returns
            for values in (agent.values, agent.best)
        )
        trained.append(Trained(run, agent, float(last.mean()), float(best.mean())))
    return trained


def band(config: Config, group: list[Trained], column: str) -> Band:
    """Return one column of the histories as a band over environment steps, taken at the end of each epoch."""
    settings = config.agent
    steps = [settings.warmup + update * settings.steps_per_update for update in group[0].run.curve("step")]
    return Band(steps, [one.run.curve(column) for one in group])


def compare_agents(config: Config, experiment: Experiment, chosen: dict[str, Variant]) -> None:
    """Train every variant with every seed, then ask what the differences are worth."""
    groups = {name: train(config, experiment, name, variant) for name, variant in chosen.items()}
    sturdy = disturb(config, experiment, groups) if config.agent.world == "cartpole" else {}
    for name, group in groups.items():
        experiment.score(agent_scorecard(config, name, group, sturdy.get(name)))
    draw_returns(config, experiment, groups)
    compare_belief_with_return(config, experiment, groups)
    draw_replay_ages(config, experiment, groups)
    if config.agent.world == "cartpole":
        draw_the_agent(experiment, groups)


def draw_returns(config: Config, experiment: Experiment, groups: dict[str, list[Trained]]) -> None:
    """Show greedy returns with intervals over seeds, and ask whether methods or seeds differ more."""
    settings, seeds = config.agent, len(config.seeds)
    experiment.figure(
        "returns",
        plots.curves(
            {name: band(config, group, "val_return") for name, group in groups.items()},
            x_label="environment steps",
            y_label=f"mean return of {settings.episodes} greedy episodes",
            title=f"{settings.world}: greedy return while learning",
            target=settings.target,
            spread="interval" if seeds >= 5 else "range",  # with three seeds the interval leaves the page
        ),
        alt=f"Greedy return over environment steps for {', '.join(groups)}; the intervals overlap.",
        caption="Separate episodes without exploration, after each epoch.",
    )
    last = {name: [one.last for one in group] for name, group in groups.items()}
    best = {name: [one.best for one in group] for name, group in groups.items()}
    final = {
        f"{name}, {what}": values for what, all in (("last", last), ("best", best)) for name, values in all.items()
    }
    experiment.figure(
        "final-returns",
        plots.bars(
            {name: interval(values) for name, values in final.items()},
            x_label=f"mean return of {settings.final_episodes} greedy episodes",
            y_label="network",
            title="What the trained networks earn",
            note=f"bar: mean of {seeds} seeds; line: 95 % interval of that mean (Student's t), not cut at 0 and 500",
        ),
        alt="Bars with intervals for the last and the best network of every variant; the intervals overlap widely.",
        caption="Last: the network at the end. Best: after the epoch whose greedy episodes went best. Both played "
        "other episodes than those that chose.",
    )
    if "DQN" in groups:
        experiment.figure(
            "exploring",
            plots.curves(
                {
                    "greedy, separate episodes": band(config, groups["DQN"], "val_return"),
                    "exploring, last 100 episodes": band(config, groups["DQN"], "training_return"),
                },
                x_label="environment steps",
                y_label="mean return",
                title="DQN: what it can do, and what its training shows",
            ),
            alt="Mean return over environment steps: the running mean of exploring episodes trails the greedy one.",
            caption="The running mean mixes a hundred episodes of many older policies, each with random actions.",
        )
    cards = {name: card.to_dict() for name, card in experiment.scorecards.items()}
    experiment.figure(
        "scorecard",
        plots.scorecard_figure(cards, title="The metrics of every variant"),
        alt="One panel for each metric, one point with its interval for each variant.",
        caption=plots.scorecard_caption(cards),
    )
    if settings.world != "cartpole":
        return
    experiment.claim(
        "every-agent-learns",
        "In every variant and seed the best network of the training (chosen by its greedy episodes then) earns more "
        f"than 100 in {settings.final_episodes} other episodes, where a random policy earns about 22 (smallest mean)",
        min(min(values) for values in best.values()),
        at_least=100,
    )
    everyone = [one.run.history[-1] for group in groups.values() for one in group]
    experiment.claim(
        "training-returns-trail",
        "The running mean of the exploring agent's last 100 episodes is far below what its greedy policy earns at the "
        "end (mean difference over variants and seeds)",
        mean(row["val_return"] - row["training_return"] for row in everyone),
        at_least=50,
    )
    if len(groups) > 1 and 1 < seeds < 5:
        pairs = [(interval(last[a]), interval(last[b])) for a, b in itertools.combinations(last, 2)]
        overlapping = [max(a[1], b[1]) <= min(a[2], b[2]) for a, b in pairs]
        experiment.claim(
            "few-seeds-rank-little",
            f"With {seeds} seeds the 95 % intervals of the final returns overlap for most pairs of methods (share of "
            f"the {len(pairs)} pairs)",
            mean(overlapping),
            at_least=0.6,
        )


def interval(values: list[float]) -> tuple[float, float, float]:
    """Return the mean over seeds and the 95 % interval of it."""
    over_seeds = Band([0], [[value] for value in values])
    low, high = over_seeds.limits("interval")
    return float(over_seeds.mean()[0]), float(low[0]), float(high[0])


def compare_belief_with_return(config: Config, experiment: Experiment, groups: dict[str, list[Trained]]) -> None:
    """Lay the value that the network expects of the first observation beside what then came."""
    settings = config.agent
    shown = {name: groups[name] for name in ("DQN", "double") if name in groups} or dict(list(groups.items())[:1])
    ceiling = 1 / (1 - settings.gamma)
    lines = {}
    for name, group in shown.items():
        lines[f"{name}: expected"] = band(config, group, "val_q")
        lines[f"{name}: came"] = band(config, group, "val_discounted")
    experiment.figure(
        "beliefs",
        plots.curves(
            lines,
            x_label="environment steps",
            y_label="discounted return from the first observation",
            title="What the network expects, and what its greedy policy earns",
            target=round(ceiling, 2) if settings.world == "cartpole" else None,
        ),
        alt="Expected and earned discounted return over steps: the expectation climbs, the return jumps about.",
        caption=f"Discount {settings.gamma:g}. With a reward of 1 a step no policy is worth more than 1 / (1 − γ) = "
        f"{ceiling:.0f} (dotted). An episode of 500 steps earns {ceiling * (1 - settings.gamma**500):.1f}."
        if settings.world == "cartpole"
        else f"Discount {settings.gamma:g}, rewards clipped to [−1, 1].",
    )
    if settings.world != "cartpole":
        return
    early = [one.run.history[0] for group in shown.values() for one in group]
    experiment.claim(
        "beliefs-begin-too-low",
        f"After the first {settings.updates} updates the value expected of the first observation is far below what the "
        "greedy policy then earns (largest ratio over the seeds of the methods shown)",
        max(row["val_q"] / row["val_discounted"] for row in early),
        at_most=0.7,
    )
    experiment.claim(
        "beliefs-end-beyond-the-possible",
        f"Some network comes to expect more of the first observation than the {ceiling:.0f} that no policy can exceed "
        "(largest expectation over variants, seeds and epochs)",
        max(max(one.run.curve("val_q")) for group in groups.values() for one in group),
        at_least=ceiling,
    )


def draw_replay_ages(config: Config, experiment: Experiment, groups: dict[str, list[Trained]]) -> None:
    """Ask how old the transitions are that an agent learns from at the end of its training."""
    bins, draws = 10, 20_000
    shares: dict[str, list[list[float]]] = {}
    for name in ("DQN", "prioritised"):
        for one in groups.get(name, []):
            known = one.agent.experience
            if known is None:  # this training was finished in an earlier run: its replay is in the checkpoint
                continue
            generator = torch.Generator(one.agent.device).manual_seed(one.run.seed)
            held = len(known.memory)
            if known.priorities is None:
                slots = torch.randint(held, (draws,), generator=generator, device=one.agent.device)
            else:
                slots, _ = known.priorities.sample(draws, 1.0, generator)
            age = (known.added - 1 - slots) % config.agent.capacity
            counts = torch.histc(age.double().cpu(), bins, min=0, max=held)
            shares.setdefault(name, []).append((counts / draws).tolist())
    if not any(name in groups for name in ("DQN", "prioritised")):
        return
    if not shares:
        experiment.note("The replays of finished trainings were not kept, so their ages are not drawn.")
        return
    centres = [(place + 0.5) * 100 / bins for place in range(bins)]
    experiment.figure(
        "replay-age",
        plots.curves(
            {name: Band(centres, values) for name, values in shares.items()},
            x_label="age of a transition, as a percentage of the replay (0: the newest)",
            y_label=f"share of {draws} draws",
            title="How old is what an agent learns from?",
        ),
        alt="Share of draws over the age of transitions: level for uniform replay, uneven for prioritised replay.",
        caption="Ten bins: uniform replay draws each with probability 0.1.",
    )


def disturb(config: Config, experiment: Experiment, groups: dict[str, list[Trained]]) -> dict[str, list[float]]:
    """Play with poles of other lengths and with noisy sight; return the mean share of the full return for each seed."""
    settings = config.disturbances
    limit = CartPole(1).limit
    by_length: dict[str, list[list[float]]] = {name: [] for name in groups}
    by_noise: dict[str, list[list[float]]] = {name: [] for name in groups}
    for name, group in groups.items():
        for one in group:
            device, start = one.agent.device, 20_000 + 1000 * one.run.seed

            @cache  # no noise is the ordinary length, and the other way round
            def returns(length: float, noise: float, one=one, device=device, start=start) -> float:
                generator = torch.Generator(device).manual_seed(start)
                scale = noise * torch.tensor(SIGHT, device=device)
                played = play(
                    one.agent.best,
                    CartPole(settings.episodes, length=length),
                    seed=start,
                    device=device,
                    observe=lambda obs: (
                        obs + scale * torch.randn(obs.shape, generator=generator, device=device, dtype=obs.dtype)
                    ),
                )
                return float(played.returns.mean())

            by_length[name].append([returns(length, 0.0) for length in settings.lengths])
            by_noise[name].append([returns(0.5, noise) for noise in settings.noise])
    for key, x, values, label, caption in (
        (
            "pole-length",
            settings.lengths,
            by_length,
            "half length of the pole (m)",
            "Trained with 0.5 m alone.",
        ),
        (
            "noise",
            settings.noise,
            by_noise,
            "noise on what it sees (1: 0.5 m, 0.5 m/s, 0.05 rad, 0.5 rad/s)",
            "Normal noise, drawn anew at every step; none in training.",
        ),
    ):
        experiment.figure(
            key,
            plots.curves(
                {name: Band(x, rows) for name, rows in values.items()},
                x_label=label,
                y_label=f"mean return of {settings.episodes} greedy episodes",
                title=f"The best network of each training, disturbed: {key.replace('-', ' ')}",
            ),
            alt=f"Greedy return over {label}, one line for each variant.",
            caption=caption,
        )
    calm, rough = (mean(row[place] for rows in by_noise.values() for row in rows) for place in (0, -1))
    experiment.claim(
        "noise-breaks-the-agents",
        f"Noise of strength {settings.noise[-1]:g} on what they see leaves the best networks less than 60 % of their "
        "return (mean over variants and seeds, as a share of that without noise)",
        rough / calm,
        at_most=0.6,
    )
    return {
        name: [mean((*a, *b)) / limit for a, b in zip(by_length[name], by_noise[name], strict=True)] for name in groups
    }


SIGHT = (0.5, 0.5, 0.05, 0.5)
"""Standard deviation of noise of strength 1 on x (m), ẋ (m/s), θ (rad) and θ̇ (rad/s)."""


def agent_scorecard(config: Config, name: str, group: list[Trained], sturdy: list[float] | None) -> Scorecard:
    """Gather the ten metrics of one variant; what does not apply says why."""
    settings = config.agent
    labels = "an agent has no labels to be right about: see greedy_return"
    reasons = {
        **dict.fromkeys(("accuracy", "precision", "recall", "f1"), labels),
        "loss": "the loss is not in nats, and its targets move: see td_loss",
    }
    values: dict[str, list[float | None]] = {
        key: []
        for key in (
            *("training_time", "warmup_time", "inference_time", "inference_time_p95", "model_size", "parameters"),
            *("convergence_rate", "td_loss", "greedy_return", "best_return", "value_error"),
        )
    }
    for one in group:
        run, network = one.run, one.agent.network
        obs = torch.zeros(256, *one.agent.environments(1).obs_shape, device=one.agent.device)
        speed = inference_time(network, obs)
        steps = [round(settings.warmup + update * settings.steps_per_update) for update in run.curve("step")]
        row = {
            "training_time": run.watch.seconds,
            "warmup_time": run.watch.warmup_seconds,
            "inference_time": speed.median_ms,
            "inference_time_p95": speed.p95_ms,
            "model_size": bytes_on_disk(network),
            "parameters": model_size(network).parameters,
            "convergence_rate": steps_to_target(run.curve("val_return"), settings.target, patience=2, steps=steps),
            "td_loss": run.history[-1]["loss"],
            "greedy_return": one.last,
            "best_return": one.best,
            "value_error": run.history[-1]["val_q"] - run.history[-1]["val_discounted"],
        }
        for key, value in row.items():
            values[key].append(value)
    if sturdy is None:
        reasons["robustness"] = "other pole lengths and noise are measured on CartPole only"
    else:
        values["robustness"] = list(sturdy)
    return Scorecard.from_seeds(
        name,
        values,
        [one.run.seed for one in group],
        not_applicable=reasons,
        convergence_unit="environment steps",
        extra={
            "td_loss": "reward squared",
            "greedy_return": "reward per episode",
            "best_return": "reward per episode",
            "value_error": "discounted reward",
        },
    )


def draw_the_agent(experiment: Experiment, groups: dict[str, list[Trained]]) -> None:
    """Draw one greedy episode of the best network."""
    name, one = max(((name, one) for name, group in groups.items() for one in group), key=lambda pair: pair[1].best)
    played = play(one.agent.best, one.agent.environments(1), seed=30_000, device=one.agent.device, keep_obs=True)
    assert played.obs is not None
    seen = played.obs[:, 0].cpu().numpy()  # (t, 4)
    length = int(played.lengths[0])
    moments = [round(place * (length - 1) / 7) for place in range(8)]
    experiment.figure(
        "agent",
        filmstrip(
            draw(seen[moments]),
            [f"{moment * 0.02:.2f} s" for moment in moments],
            title=f"One greedy episode of {length} steps: {name}, seed {one.run.seed}",
        ),
        alt="Eight pictures of a cart that balances its pole, from the first to the last step of an episode.",
        caption="Drawn from what the environment was, 50 steps a second. The moving picture is figures/agent.gif.",
    )
    # Picture by picture: the drawing's float64 arrays of a whole episode would fill a gigabyte.
    moving = np.stack([draw(moment) for moment in seen[:length:2]])
    save_animation(moving, experiment.out / "figures" / "agent.gif")


if __name__ == "__main__":
    from coursekit.harness import run_script

    run_script(__file__)
