"""What explanations cost beside captum's, of the same CNN and the same pictures.

    python attribution.py [--rounds 5] [--pictures 16] [--only lime,occlusion]

CPU seconds of the process, one thread, float32; methods take turns in every round, and a ratio is captum's seconds to
ours in the same round. Captum runs at several passes sizes (`internal_batch_size`, `perturbations_per_eval`); the
fastest by its median counts. A second column gives captum, at its best again, the same network converted to channels
last, which coursekit does not ask of its caller. Agreement: the largest difference of the two results where both are
deterministic; for what samples, the root mean square error to a reference.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

warnings.filterwarnings("ignore")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import captum.attr as captum  # noqa: E402 - after the environment that it reads
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

import coursekit.attribution as ours  # noqa: E402
from coursekit.data import load  # noqa: E402

LIME_SAMPLES = SHAP_SAMPLES = 1000
CELL = 4  # 49 segments of 4 × 4 pixels
SLOW_PICTURES = 4  # for the methods that captum runs picture by picture


@dataclass(frozen=True)
class Race:
    """One method, ours and captum's.

    Attributes:
        name: of the method, with its settings.
        mine: our explanation.
        theirs: captum's, of a model, at a pass size.
        sizes: captum's pass sizes to try.
        repeats: calls per measurement, for what is over in milliseconds.
        exact: both give the same numbers.
    """

    name: str
    mine: Callable[[], Tensor]
    theirs: Callable[[nn.Module, int | None], Tensor]
    sizes: tuple[int | None, ...] = (None,)
    repeats: int = 1
    exact: bool = True
    error: Callable[[Tensor], float] | None = field(default=None)


def network() -> tuple[nn.Module, Tensor, Tensor]:
    """Train a small CNN on the digits at 28 × 28; return it with test pictures and training pictures."""
    torch.manual_seed(0)
    digits = load("digits", size=28)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 49, 10),
    )
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(3):
        for rows in torch.randperm(len(digits.train.inputs)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(digits.train.inputs[rows]), digits.train.targets[rows]).backward()
            optimizer.step()
    return model.eval(), digits.test.inputs, digits.train.inputs


def one_by_one(method: Callable[..., Tensor], x: Tensor, target: Tensor, **settings: object) -> Tensor:
    """Explain picture by picture, as captum's LIME and KernelSHAP want it."""
    return torch.cat([method(x[i : i + 1], target=int(target[i]), **settings) for i in range(len(x))])


def races(model: nn.Module, x: Tensor, target: Tensor, training: Tensor) -> list[Race]:
    segments = ours.grid_segments(28, 28, CELL)
    mask = segments[None, None]
    g = torch.Generator().manual_seed(0)
    few, few_targets = x[:SLOW_PICTURES], target[:SLOW_PICTURES]
    others = training[:32]

    def shap_error(values: Tensor) -> float:
        return float((values - reference()[: len(values)]).square().mean().sqrt())

    known: list[Tensor] = []

    def reference() -> Tensor:
        """30 000 coalitions, when first asked for: their own error is a small part of what is compared."""
        if not known:
            settings = {"segments": segments, "samples": 30_000, "generator": torch.Generator().manual_seed(99)}
            known.append(ours.kernel_shap(model, few, few_targets, **settings))
        return known[0]

    return [
        Race(
            "saliency",
            lambda: ours.saliency(model, x, target),
            lambda net, _: captum.Saliency(net).attribute(x, target=target),
            repeats=20,
        ),
        Race(
            "input × gradient",
            lambda: ours.input_times_gradient(model, x, target),
            lambda net, _: captum.InputXGradient(net).attribute(x.clone().requires_grad_(), target=target).detach(),
            repeats=20,
        ),
        Race(
            "guided backpropagation",
            lambda: ours.guided_backpropagation(model, x, target),
            lambda net, _: captum.GuidedBackprop(net).attribute(x.clone().requires_grad_(), target=target).detach(),
            repeats=20,
        ),
        Race(
            "deconvolution",
            lambda: ours.deconvolution(model, x, target),
            lambda net, _: captum.Deconvolution(net).attribute(x.clone().requires_grad_(), target=target).detach(),
            repeats=20,
        ),
        Race(
            "Grad-CAM, 2nd convolution",
            lambda: ours.grad_cam(model, x, target, layer="3", upsample=False)[:, None],
            lambda net, _: (
                captum.LayerGradCam(net, net.get_submodule("3"))
                .attribute(x, target=target, relu_attributions=True)
                .detach()
            ),
            repeats=20,
        ),
        Race(
            "guided Grad-CAM",
            lambda: ours.guided_grad_cam(model, x, target, layer="3"),
            lambda net, _: (
                captum.GuidedGradCam(net, net.get_submodule("3"))
                .attribute(x.clone().requires_grad_(), target=target, interpolate_mode="bilinear")
                .detach()
            ),
            repeats=10,
        ),
        Race(
            "integrated gradients, 64 steps",
            lambda: ours.integrated_gradients(model, x, target, steps=64),
            lambda net, size: captum.IntegratedGradients(net).attribute(
                x, target=target, n_steps=64, method="riemann_middle", internal_batch_size=size
            ),
            sizes=(None, 32, 64, 128, 256, 512),
        ),
        Race(
            "SmoothGrad, 50 draws",
            lambda: ours.smoothgrad(model, x, target, sigma=0.15, draws=50, generator=g),
            lambda net, size: captum.NoiseTunnel(captum.Saliency(net)).attribute(
                x,
                target=target,
                nt_type="smoothgrad",
                nt_samples=50,
                nt_samples_batch_size=size,
                stdevs=0.15,
                abs=False,
            ),
            sizes=(None, 2, 4, 8, 16),
            exact=False,
        ),
        Race(
            "expected gradients (GradientShap), 50 draws",
            lambda: ours.expected_gradients(
                model, x, target, baseline=others[:, None], draws=50, sigma=0.09, generator=g
            ),
            lambda net, _: captum.GradientShap(net).attribute(
                x, target=target, baselines=others, n_samples=50, stdevs=0.09
            ),
            exact=False,
        ),
        Race(
            "occlusion, 4 × 4, stride 2",
            lambda: ours.occlusion(model, x, target, window=4, stride=2)[:, None],
            lambda net, size: captum.Occlusion(net).attribute(
                x,
                target=target,
                sliding_window_shapes=(1, 4, 4),
                strides=(1, 2, 2),
                perturbations_per_eval=size or 1,
            ),
            sizes=(1, 2, 4, 8, 16, 32),
        ),
        Race(
            "feature ablation, 49 segments",
            lambda: ours.paint(ours.feature_ablation(model, x, target, segments=segments), segments)[:, None],
            lambda net, size: captum.FeatureAblation(net).attribute(
                x, target=target, feature_mask=mask, perturbations_per_eval=size or 1
            ),
            sizes=(1, 2, 4, 8, 16),
            repeats=3,
        ),
        Race(
            "feature permutation, 49 segments",
            lambda: ours.feature_permutation(model, x, target, segments=segments, generator=g),
            lambda net, size: captum.FeaturePermutation(net).attribute(
                x, target=target, feature_mask=mask, perturbations_per_eval=size or 1
            ),
            sizes=(1, 2, 4, 8, 16),
            repeats=3,
            exact=False,
        ),
        Race(
            f"LIME, {LIME_SAMPLES} samples, 49 segments",
            lambda: (
                ours.lime(model, few, few_targets, segments=segments, samples=LIME_SAMPLES, generator=g).coefficients
            ),
            lambda net, size: one_by_one(
                captum.Lime(net).attribute,
                few,
                few_targets,
                feature_mask=mask,
                n_samples=LIME_SAMPLES,
                perturbations_per_eval=size or 1,
            ),
            sizes=(25, 50, 100, 250),
            exact=False,
        ),
        *(
            Race(
                f"KernelSHAP, 49 segments, {samples} samples"
                + ("" if samples == SHAP_SAMPLES else f" (captum {SHAP_SAMPLES})"),
                lambda samples=samples: ours.kernel_shap(
                    model, few, few_targets, segments=segments, samples=samples, generator=g
                ),
                lambda net, size: one_by_one(
                    captum.KernelShap(net).attribute,
                    few,
                    few_targets,
                    feature_mask=mask,
                    n_samples=SHAP_SAMPLES,
                    perturbations_per_eval=size or 1,
                    return_input_shape=False,
                ),
                sizes=(25, 50, 100, 250),
                exact=False,
                error=shap_error,
            )
            for samples in (SHAP_SAMPLES, SHAP_SAMPLES // 2)
        ),
        Race(
            "Shapley values by 10 orders, 49 segments",
            lambda: ours.permutation_shap(
                model, few, few_targets, segments=segments, permutations=10, antithetic=False, generator=g
            ),
            lambda net, size: (
                captum.ShapleyValueSampling(net)
                .attribute(few, target=few_targets, feature_mask=mask, n_samples=10, perturbations_per_eval=size or 1)[
                    :, 0, ::CELL, ::CELL
                ]
                .flatten(1)
            ),
            sizes=(1, 4, 8, 16, 32),
            exact=False,
            error=shap_error,
        ),
        Race(
            "exact Shapley values, 6 players",
            lambda: ours.paint(ours.shapley_exact(model, few, few_targets, segments=STRIPES), STRIPES)[:, None],
            lambda net, size: captum.ShapleyValues(net).attribute(
                few, target=few_targets, feature_mask=STRIPES[None, None], perturbations_per_eval=size or 1
            ),
            sizes=(4, 16, 64),
        ),
    ]


STRIPES = torch.arange(28)[:, None].expand(28, 28) * 6 // 28


def seconds(call: Callable[[], Tensor], repeats: int) -> float:
    start = time.process_time()
    for _ in range(repeats):
        call()
    return (time.process_time() - start) / repeats


def spread(ratios: list[float]) -> str:
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def compare(race: Race, model: nn.Module, converted: nn.Module, rounds: int) -> str:
    """Measure a race; return its row of the table."""
    cases: dict[tuple[str, int | None], Callable[[], Tensor]] = {("ours", None): race.mine}
    for kind, net in (("captum", model), ("channels last", converted)):
        for size in race.sizes:
            cases[kind, size] = lambda net=net, size=size: race.theirs(net, size)
    results = {case: call() for case, call in cases.items()}  # warms up, too
    spent: dict[tuple[str, int | None], list[float]] = {case: [] for case in cases}
    for _ in range(rounds):
        for case, call in cases.items():
            spent[case].append(seconds(call, race.repeats))
    mine = spent["ours", None]
    columns = []
    for kind in ("captum", "channels last"):
        best = min((case for case in cases if case[0] == kind), key=lambda case: statistics.median(spent[case]))
        ratios = [theirs / our for theirs, our in zip(spent[best], mine, strict=True)]
        columns.append(f"{spread(ratios)}{'' if best[1] is None else f' at {best[1]}'}")
    theirs = results["captum", race.sizes[0]]
    if race.exact:
        agreement = f"{float((results['ours', None] - theirs).abs().max()):.0e}"
    elif race.error is not None:
        errors = [
            statistics.mean(race.error(call()) for _ in range(4))
            for call in (race.mine, cases["captum", race.sizes[-1]])
        ]
        agreement = f"error {errors[0]:.4f}, captum's {errors[1]:.4f}"
    else:
        agreement = "by tests"
    return f"| {race.name} | {columns[0]} | {columns[1]} | {agreement} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--only", default="", help="parts of names, separated by commas")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model, test, training = network()
    converted = copy.deepcopy(model).to(memory_format=torch.channels_last)
    x = test[: arguments.pictures].clone()
    target = model(x).argmax(1)
    print(
        "| method | captum, at its best pass size | captum on a channels-last network | agreement |\n|---|---|---|---|"
    )
    for race in races(model, x, target, training):
        if not arguments.only or any(part in race.name for part in arguments.only.split(",")):
            print(compare(race, model, converted, arguments.rounds), flush=True)


if __name__ == "__main__":
    main()
