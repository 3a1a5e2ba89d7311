"""What one training step costs, side by side: raw loops, this harness, Lightning's defaults, Accelerate, fastai.

    python training_step.py mlp|cnn [--rounds 9]

The work is the same for all: 1437 rows of scikit-learn's digits, batch 64, 22 steps an epoch, shuffled, Adam at 1e-3,
cross entropy, one CPU thread. The cost of a step is the difference between a long and a short training over the extra
steps, so that set-up does not count. Cases take turns in every round, and ratios are taken round by round, so that a
drift of the machine falls out. The figures are CPU seconds.

The harness runs with everything on: progress bar, training and validation loss and accuracy each epoch, CSV history,
checkpoints. So does Lightning with its defaults. The raw loops only train.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

warnings.filterwarnings("ignore")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import torch  # noqa: E402 - after the environment that it reads
import torch.nn.functional as F  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402
from sklearn.model_selection import train_test_split  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

BATCH, RATE = 64, 1e-3


class Terminal(io.StringIO):
    """A place to print to that says it is a terminal, so that progress bars draw themselves."""

    def isatty(self) -> bool:
        return True


def read_digits(size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    digits = load_digits()
    parts = train_test_split(digits.images / 16, digits.target, test_size=360, random_state=0, stratify=digits.target)
    images = [torch.tensor(part, dtype=torch.float32)[:, None] for part in parts[:2]]
    if size != 8:
        images = [F.interpolate(part, size=(size, size), mode="bilinear", align_corners=False) for part in images]
    return images[0], torch.tensor(parts[2]), images[1], torch.tensor(parts[3])


def network(kind: str) -> nn.Module:
    torch.manual_seed(0)
    if kind == "mlp":
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 7 * 7, 10),
    )  # fmt: skip


def cases(kind: str) -> dict[str, Callable[[int], object]]:
    inputs, targets, val_inputs, val_targets = read_digits(8 if kind == "mlp" else 28)
    steps = len(inputs) // BATCH

    def loop(batches: Callable[[], Iterable[tuple[Tensor, Tensor]]], epochs: int, fused: bool) -> None:
        model = network(kind)
        optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=fused)
        for _ in range(epochs):
            for x, y in batches():
                loss = F.cross_entropy(model(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    def by_index() -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(inputs))
        for i in range(steps):
            rows = order[i * BATCH : (i + 1) * BATCH]
            yield inputs[rows], targets[rows]

    def sliced() -> Iterable[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(inputs))[: steps * BATCH]
        return zip(inputs[order].split(BATCH), targets[order].split(BATCH), strict=True)

    from coursekit.config import Training
    from coursekit.data import Data, Split, card
    from coursekit.harness import Classifier, fit

    data = Data(
        "digits", Split(inputs, targets), Split(val_inputs, val_targets), Split(val_inputs, val_targets),
        card("digits").classes, card("digits"), torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1),
    )  # fmt: skip

    def coursekit(epochs: int) -> None:
        module = Classifier(network(kind), optimizer=lambda p: torch.optim.Adam(p, lr=RATE))
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(Terminal()):
            fit(module, data, Training(epochs=epochs, batch_size=BATCH, device="cpu", threads=1), out=Path(folder))

    import lightning.pytorch as lightning

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Plain(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = network(kind)

        def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
            loss = F.cross_entropy(self.network(batch[0]), batch[1])
            self.log("loss", loss, on_step=False, on_epoch=True, prog_bar=True)
            return loss

        def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
            self.log("val_loss", F.cross_entropy(self.network(batch[0]), batch[1]))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=RATE)

    def loader() -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(TensorDataset(inputs, targets), batch_size=BATCH, shuffle=True, drop_last=True)

    def lightning_default(epochs: int) -> None:
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.redirect_stderr(Terminal()),
            contextlib.redirect_stdout(Terminal()),
        ):
            trainer = lightning.Trainer(accelerator="cpu", max_epochs=epochs, default_root_dir=folder)
            trainer.fit(Plain(), loader(), DataLoader(TensorDataset(val_inputs, val_targets), batch_size=360))

    found: dict[str, Callable[[int], object]] = {
        "raw loop, as a learner writes it": lambda epochs: loop(by_index, epochs, fused=False),
        "raw loop, tensor batches, fused Adam": lambda epochs: loop(sliced, epochs, fused=True),
        "coursekit, everything on": coursekit,
        "Lightning, defaults": lightning_default,
    }
    with contextlib.suppress(ImportError):
        from accelerate import Accelerator

        def accelerate(epochs: int) -> None:
            accelerator = Accelerator(cpu=True)
            model = network(kind)
            model, optimizer, batches = accelerator.prepare(
                model, torch.optim.Adam(model.parameters(), lr=RATE), loader()
            )
            for _ in range(epochs):
                for x, y in batches:
                    loss = F.cross_entropy(model(x), y)
                    optimizer.zero_grad()
                    accelerator.backward(loss)
                    optimizer.step()

        found["Accelerate, DataLoader"] = accelerate
    with contextlib.suppress(ImportError):
        from fastai.basics import DataLoaders, Learner, OptimWrapper, accuracy
        from fastai.data.load import DataLoader as FastaiLoader

        def fastai(epochs: int) -> None:
            train = FastaiLoader(TensorDataset(inputs, targets), bs=BATCH, shuffle=True, drop_last=True, num_workers=0)
            valid = FastaiLoader(TensorDataset(val_inputs, val_targets), bs=360, num_workers=0)
            learner = Learner(
                DataLoaders(train, valid, device=torch.device("cpu")),
                network(kind),
                loss_func=F.cross_entropy,
                opt_func=lambda p, lr, **_: OptimWrapper(p, torch.optim.Adam, lr=lr),
                lr=RATE,
                metrics=accuracy,
            )
            with contextlib.redirect_stdout(Terminal()), learner.no_logging():
                learner.fit(epochs)

        found["fastai, validation on"] = fastai
    return found


def cpu_seconds(call: Callable[[], object]) -> float:
    gc.collect()
    before = time.process_time()
    call()
    return time.process_time() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=["mlp", "cnn"])
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    short, long = (2, 42) if arguments.network == "mlp" else (1, 7)
    found = cases(arguments.network)
    per_step: dict[str, list[float]] = {name: [] for name in found}
    for call in found.values():
        call(1)
    for _ in range(arguments.rounds):
        for name, call in found.items():
            extra = cpu_seconds(lambda call=call: call(long)) - cpu_seconds(lambda call=call: call(short))
            per_step[name].append(extra / ((long - short) * 22))
    floor, fastest = list(per_step.values())[:2]
    print(f"\n{arguments.network}, {arguments.rounds} rounds, median ratio of CPU seconds per step [quartiles]")
    print(f"{'':<40} {'to the raw loop':>24} {'to the fastest raw loop':>26}")
    for name, seconds in per_step.items():
        cells = []
        for base in (floor, fastest):
            ratios = [mine / theirs for mine, theirs in zip(seconds, base, strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
            cells.append(f"{middle:.2f} [{low:.2f}, {high:.2f}]")
        print(f"{name:<40} {cells[0]:>24} {cells[1]:>26}")


if __name__ == "__main__":
    main()
