"""What one step of a DCGAN costs: the loop of the textbooks beside the lesson's module.

    python gans.py [--width 64] [--rounds 9]

The work is the same for all: digits at 32 × 32, batch 64, the networks of Radford et al. 2016 (one stage fewer), the
same starting weights, Adam, float32, one CPU thread; one step of the discriminator and one of the generator for each
mini-batch. The cost of a step is the difference between a long and a short training over the extra steps, so that
set-up does not count. Cases take turns in every round, and ratios are taken round by round. Figures are CPU seconds.

The textbook loop judges real rows, then generated ones, then the generated ones again for the generator's step, with
PyTorch's layers and a DataLoader, and it only trains. The module runs in the harness with history, evaluation after
each epoch and checkpoints on. First of all the gradients of both are compared in float64.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

warnings.filterwarnings("ignore")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import torch  # noqa: E402 - after the environment that it reads
import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

from coursekit.config import Training  # noqa: E402
from coursekit.data import Data, Split, load  # noqa: E402
from coursekit.harness import fit  # noqa: E402
from coursekit.runtime import seed_everything  # noqa: E402
from lessons.gans.adversarial import Adversarial, Update, in_tanh_range  # noqa: E402
from lessons.gans.losses import adversarial_loss  # noqa: E402
from lessons.gans.networks import DCGANDiscriminator, DCGANGenerator  # noqa: E402

BATCH, LATENT, STEPS = 64, 100, 16  # STEPS in an epoch
SHORT, LONG = 1, 2
ADAM = partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999))


def digits() -> Data:
    data = in_tanh_range(load("digits", size=32, limit=BATCH * STEPS // 2), repeats=2)
    few = Split(data.validation.inputs[:BATCH], data.validation.targets[:BATCH])
    return Data(data.name, data.train, few, data.test, data.classes, data.card, data.mean, data.std)


def networks(width: int) -> tuple[DCGANGenerator, DCGANDiscriminator]:
    seed_everything(0)
    return DCGANGenerator(1, latent=LATENT, width=width), DCGANDiscriminator(1, width=width)


def textbook_networks(width: int) -> tuple[nn.Module, nn.Module]:
    """Return the same two networks, weight for weight, of PyTorch's own layers as tutorials write them."""
    ours, ours_too = networks(width)
    w = width
    generator = nn.Sequential(
        nn.ConvTranspose2d(LATENT, 4 * w, 4, 1, 0, bias=False), nn.BatchNorm2d(4 * w), nn.ReLU(True),
        nn.ConvTranspose2d(4 * w, 2 * w, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * w), nn.ReLU(True),
        nn.ConvTranspose2d(2 * w, w, 4, 2, 1, bias=False), nn.BatchNorm2d(w), nn.ReLU(True),
        nn.ConvTranspose2d(w, 1, 4, 2, 1, bias=False), nn.Tanh(),
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.Conv2d(1, w, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, True),
        nn.Conv2d(w, 2 * w, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * w), nn.LeakyReLU(0.2, True),
        nn.Conv2d(2 * w, 4 * w, 4, 2, 1, bias=False), nn.BatchNorm2d(4 * w), nn.LeakyReLU(0.2, True),
        nn.Conv2d(4 * w, 1, 4, 1, 0), nn.Flatten(0),
    )  # fmt: skip
    first = ours.first.weight.detach().view(4, 4, 4 * w, LATENT).permute(3, 2, 0, 1)
    rest = [part.detach() for part in ours.layers.parameters()]
    with torch.no_grad():
        for mine, theirs in zip(generator.parameters(), [first, *rest], strict=True):
            mine.copy_(theirs)
    discriminator.load_state_dict(ours_too.layers.state_dict())
    return generator, discriminator


def textbook_step(
    generator: nn.Module,
    discriminator: nn.Module,
    optimizers: tuple[torch.optim.Optimizer, torch.optim.Optimizer],
    real: Tensor,
    noise: Tensor,
    *,
    simultaneous: bool = False,
) -> tuple[Tensor, Tensor]:
    """Take one step of each network and return the losses of discriminator and generator."""
    generator_optimizer, discriminator_optimizer = optimizers
    ones, zeros = (torch.full((len(real),), value, dtype=real.dtype) for value in (1.0, 0.0))
    discriminator.zero_grad()
    real_loss = F.binary_cross_entropy_with_logits(discriminator(real), ones)
    real_loss.backward()
    fake = generator(noise)
    fake_loss = F.binary_cross_entropy_with_logits(discriminator(fake.detach()), zeros)
    fake_loss.backward()
    slopes = [part.grad for part in discriminator.parameters()]
    if simultaneous:  # the generator meets the discriminator as it was
        discriminator.zero_grad()  # lets go of those tensors, and leaves their values
    else:
        discriminator_optimizer.step()
    generator.zero_grad()
    g_loss = F.binary_cross_entropy_with_logits(discriminator(fake), ones)
    g_loss.backward()
    generator_optimizer.step()
    if simultaneous:
        for part, slope in zip(discriminator.parameters(), slopes, strict=True):
            part.grad = slope
        discriminator_optimizer.step()
    return (real_loss + fake_loss).detach(), g_loss.detach()


def textbook(data: Data, width: int, epochs: int, *, channels_last: bool = False, simultaneous: bool = False) -> None:
    pair = textbook_networks(width)
    if channels_last:
        for network in pair:
            network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizers = ADAM(pair[0].parameters()), ADAM(pair[1].parameters())
    rows = TensorDataset(data.train.inputs, data.train.targets)
    for _ in range(epochs):
        losses = []
        for real, _ in DataLoader(rows, batch_size=BATCH, shuffle=True, drop_last=True):
            noise = torch.randn(BATCH, LATENT, 1, 1)
            d_loss, g_loss = textbook_step(*pair, optimizers, real, noise, simultaneous=simultaneous)
            losses.append((d_loss.item(), g_loss.item()))


def module(width: int, loss: str, update: Update) -> Adversarial:
    return Adversarial(
        *networks(width), latent=LATENT, loss=adversarial_loss(loss), generator_optimizer=ADAM, update=update
    )


def harness(data: Data, width: int, epochs: int, *, loss: str = "non-saturating", update: Update) -> None:
    training = Training(epochs=epochs, batch_size=BATCH, device="cpu", threads=1)
    with tempfile.TemporaryDirectory() as folder:
        fit(module(width, loss, update), data, training, out=Path(folder), quiet=True)


def compare(data: Data, width: int, update: Update) -> float:
    """Return the largest difference of any gradient in one step, in shares of that weight's largest one (float64)."""
    real, noise = data.train.inputs[:BATCH].double(), torch.randn(BATCH, LATENT, dtype=torch.float64)
    theirs = [network.double() for network in textbook_networks(width)]
    simultaneous = update == "simultaneous"
    still = partial(torch.optim.SGD, lr=0.0)  # nothing moves, so that G's gradients are compared at the same D
    optimizers = still(theirs[0].parameters()), still(theirs[1].parameters())
    textbook_step(theirs[0], theirs[1], optimizers, real, noise[:, :, None, None], simultaneous=True)

    ours = module(width, "non-saturating", update).double()
    ours.noise = lambda count, random=None: noise  # pyright: ignore[reportAttributeAccessIssue]
    step = ours._together if simultaneous else ours._in_turn
    both = still(ours.generator.parameters()), still(ours.discriminator.parameters())
    ours.__class__ = type("Alone", (Adversarial,), {"optimizers_of_both": both})
    step(real, ()) if simultaneous else step(real, (), True)  # pyright: ignore[reportCallIssue]

    first = ours.generator.first.weight.grad.view(4, 4, 4 * width, LATENT).permute(3, 2, 0, 1)  # pyright: ignore
    mine = [first, *(part.grad for part in ours.generator.layers.parameters())]  # pyright: ignore
    mine += [part.grad for part in ours.discriminator.parameters()]
    pairs = zip(mine, (part.grad for network in theirs for part in network.parameters()), strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs if a is not None and b is not None)


def cpu_seconds(call: Callable[[], object]) -> float:
    gc.collect()
    before = time.process_time()
    call()
    return time.process_time() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data, width = digits(), arguments.width
    for update in ("alternating", "simultaneous"):
        print(f"gradients, {update}: differ by at most {compare(data, width, update):.1e} (float64)")
    found: dict[str, Callable[[int], None]] = {
        "textbook loop": partial(textbook, data, width),
        "textbook loop, simultaneous": partial(textbook, data, width, simultaneous=True),
        "textbook loop, channels-last": partial(textbook, data, width, channels_last=True),
        "coursekit, alternating": partial(harness, data, width, update="alternating"),
        "coursekit, simultaneous": partial(harness, data, width, update="simultaneous"),
        "coursekit, simultaneous, minimax": partial(harness, data, width, update="simultaneous", loss="minimax"),
    }
    per_step: dict[str, list[float]] = {name: [] for name in found}
    for call in found.values():
        call(1)
    for _ in range(arguments.rounds):
        for name, call in found.items():
            extra = cpu_seconds(partial(call, LONG)) - cpu_seconds(partial(call, SHORT))
            per_step[name].append(extra / ((LONG - SHORT) * STEPS))
    print(f"\nwidth {width}, {arguments.rounds} rounds, images per CPU second, median ratio [quartiles]")
    print(f"{'':<34} {'to the textbook loop':>24} {'to it with this update':>26}")
    floor = per_step["textbook loop"]
    for name, seconds in per_step.items():
        same = per_step["textbook loop, simultaneous"] if "simultaneous" in name else floor
        print(f"{name:<34} {spread(floor, seconds):>24} {spread(same, seconds):>26}")


def spread(theirs: list[float], mine: list[float]) -> str:
    """Return how many times as fast the second one is."""
    ratios = [slow / fast for slow, fast in zip(theirs, mine, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    main()
