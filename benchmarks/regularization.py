"""What it costs to train eight remedies with three seeds each: raw loops, this harness, and three seeds at once.

    python benchmarks/regularization.py [--rounds 5]

The work is lesson 2's: 200 digits with 40 % wrong labels, a 64-128-128-10 network, batch 40, AdamW, one CPU thread, and
eight remedies with three seeds each. Early stopping never stops here, so that all cases take the same number of steps.

- raw loop: one training after the other, as a learner writes it.
- coursekit: `fit` for each training, with CSV history and a checkpoint too.
- stacked: the three seeds of a remedy as one network of stacked weights, whose layers are batched products.
- vmap: the same with `torch.func.stack_module_state` and `torch.vmap`.

All evaluate loss and accuracy on the validation and the test part after each epoch, as the lesson's curves need it; the
raw loop is timed without that as well.

Cases take turns in every round; ratios are taken round by round. The figures are CPU seconds.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, replace_all_batch_norm_modules_, stack_module_state

from coursekit.data import Split, load
from coursekit.harness import Experiment
from lessons.regularization.config import Config, Strengths
from lessons.regularization.lesson import train, with_wrong_labels
from lessons.regularization.remedies import Remedy, build_network, remedy, weights

NAMES = (
    "l1",
    "weight_decay",
    "dropout",
    "batch_norm",
    "label_smoothing",
    "mixup",
    "early_stopping",
    "bootstrapping",
)
CONFIG = Config(strengths=Strengths(patience=1000))
DATA = load("digits", limit=CONFIG.rows)
EPOCHS, BATCH = CONFIG.training.epochs, CONFIG.training.batch_size
STEPS = len(DATA.train) // BATCH
VALIDATION = Split(DATA.validation.inputs[: CONFIG.validation_rows], DATA.validation.targets[: CONFIG.validation_rows])
PARTS = [with_wrong_labels(DATA, CONFIG.noise, seed, CONFIG.validation_rows)[0].train for seed in CONFIG.seeds]


def order(seeds: int = 1) -> Tensor:
    """Return the rows of one epoch, (STEPS, seeds, BATCH)."""
    rows = torch.stack([torch.randperm(len(DATA.train))[: STEPS * BATCH] for _ in range(seeds)])
    return rows.view(seeds, STEPS, BATCH).transpose(0, 1)


def shrink(chosen: Remedy, parts: list[nn.Parameter]) -> None:
    with torch.no_grad():
        for part in parts:
            part.copy_(F.softshrink(part, CONFIG.lr * chosen.l1))


@torch.no_grad()
def evaluate(forward: Callable[[Tensor], Tensor], seeds: int) -> list[float]:
    """Return loss and accuracy on validation and test part, over all seeds at once where there are several."""
    found = []
    for part in (VALIDATION, DATA.test):
        inputs = part.inputs if seeds == 1 else part.inputs.flatten(1).expand(seeds, -1, -1)
        logits, targets = forward(inputs).view(seeds * len(part), -1), part.targets.repeat(seeds)
        found += [F.cross_entropy(logits, targets).item(), (logits.argmax(1) == targets).float().mean().item()]
    return found


def raw(chosen: Remedy, *, curves: bool = True) -> None:
    loss_of = chosen.loss or F.cross_entropy
    for seed, part in zip(CONFIG.seeds, PARTS, strict=True):
        torch.manual_seed(seed)
        network = build_network(CONFIG, DATA, chosen)
        optimizer = torch.optim.AdamW(network.parameters(), lr=CONFIG.lr, weight_decay=chosen.weight_decay)
        for _ in range(EPOCHS):
            for (rows,) in order():
                batch = part.inputs[rows], part.targets[rows]
                inputs, targets = chosen.augment(batch) if chosen.augment else batch
                loss = loss_of(network(inputs), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if chosen.l1:
                    shrink(chosen, weights(network))
            if curves:
                network.eval()
                evaluate(network, 1)
                network.train()


class Stacked(nn.Module):
    """Several perceptrons of one shape as one: weights (s, narrow, wide), inputs (s, b, features)."""

    def __init__(self, networks: list[nn.Module], chosen: Remedy) -> None:
        super().__init__()
        lines = [[part for part in network.modules() if isinstance(part, nn.Linear)] for network in networks]
        self.weights = nn.ParameterList(
            [torch.stack([one.weight.detach().T for one in row]) for row in zip(*lines, strict=True)]
        )
        self.biases = nn.ParameterList(
            [torch.stack([one.bias.detach() for one in row])[:, None] for row in zip(*lines, strict=True)]
        )
        hidden = [len(networks) * weight.shape[2] for weight in self.weights][:-1]
        norm = chosen.normalise or (lambda width: nn.Identity())
        self.norms, self.drop = nn.ModuleList(map(norm, hidden)), (chosen.drop or nn.Identity)()

    def forward(self, x: Tensor) -> Tensor:
        for place, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x, weight)  # (s, b, wide)
            if place < len(self.norms):
                s, b, wide = x.shape
                if not isinstance(self.norms[place], nn.Identity):
                    # Columns of different seeds stand side by side, so each keeps its own batch statistics.
                    x = self.norms[place](x.transpose(0, 1).reshape(b, s * wide)).view(b, s, wide).transpose(0, 1)
                x = self.drop(x.relu())
        return x


def together(
    chosen: Remedy, network: nn.Module, forward: Callable[[Tensor], Tensor], parts: list[nn.Parameter]
) -> None:
    """Train all seeds of a remedy at once; `forward` maps (s, b, features) to logits (s, b, classes)."""
    loss_of, s = chosen.loss or F.cross_entropy, len(PARTS)
    inputs = torch.stack([part.inputs for part in PARTS]).flatten(2)
    targets = torch.stack([part.targets for part in PARTS])
    which = torch.arange(s)[:, None]
    optimizer = torch.optim.AdamW(parts, lr=CONFIG.lr, weight_decay=chosen.weight_decay, fused=True)
    for _ in range(EPOCHS):
        for rows in order(s):
            x, y = inputs[which, rows], targets[which, rows].flatten()
            if chosen.augment:
                mixed = [chosen.augment((a, b)) for a, b in zip(x, y.view(s, -1), strict=True)]
                x, y = torch.stack([a for a, _ in mixed]), torch.cat([b for _, b in mixed])
            loss = s * loss_of(forward(x).flatten(0, 1), y)  # the sum of the seeds' mean losses
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if chosen.l1:
                shrink(chosen, [part for part in parts if part.dim() == 3 and part.shape[1] > 1])
        network.eval()
        evaluate(forward, s)
        network.train()


def stacked(chosen: Remedy) -> None:
    network = Stacked([build_network(CONFIG, DATA, chosen) for _ in PARTS], chosen)
    together(chosen, network, network, [*network.parameters()])


def vmap(chosen: Remedy) -> None:
    networks = [replace_all_batch_norm_modules_(build_network(CONFIG, DATA, chosen)) for _ in PARTS]
    state, _ = stack_module_state(networks)
    apply = torch.vmap(partial(functional_call, networks[0]), randomness="different")
    together(chosen, networks[0], lambda x: apply(state, (x,)), list(state.values()))


def harness(name: str, folder: Path) -> None:
    train(CONFIG, Experiment(folder, quiet=True), DATA, name, noise=CONFIG.noise)


def cpu_seconds(call: Callable[[], object]) -> float:
    gc.collect()
    before = time.process_time()
    call()
    return time.process_time() - before


def main() -> None:
    parser = argparse.ArgumentParser(description="What it costs to train eight remedies with three seeds each.")
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)

    def every(loop: Callable[[Remedy], None]) -> Callable[[], None]:
        def call() -> None:
            for name in NAMES:
                loop(remedy(name, CONFIG.strengths, DATA))

        return call

    def with_harness() -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name in NAMES:
                harness(name, Path(folder))

    cases = {
        "raw loop, as a learner writes it": every(raw),
        "raw loop that only trains": every(partial(raw, curves=False)),
        "coursekit, everything on": with_harness,
        "stacked weights, three seeds at once": every(stacked),
        "vmap, three seeds at once": every(vmap),
    }
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    harness("none", Path(tempfile.mkdtemp()))  # what the first training pays for
    for _ in range(rounds):
        for name, call in cases.items():
            seconds[name].append(cpu_seconds(call))
            print(f"{name:<40} {seconds[name][-1]:.2f} CPU s", flush=True)
    base = next(iter(seconds.values()))
    print(f"\n{len(NAMES)} remedies, {len(PARTS)} seeds, {rounds} rounds: median ratio of CPU seconds [quartiles]")
    for name, values in seconds.items():
        ratios = [mine / theirs for mine, theirs in zip(values, base, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive") if rounds > 1 else ratios * 3
        print(f"{name:<40} {middle:.2f} [{low:.2f}, {high:.2f}]")


if __name__ == "__main__":
    main()
