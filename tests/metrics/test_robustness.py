"""Perturbations and robustness curves, against closed forms of linear models."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from coursekit.errors import ArgumentError
from coursekit.metrics import PERTURBATIONS, fgsm, gaussian_noise, normalised_area, occlude, robustness

STRENGTHS = (0.0, 0.1, 0.3, 0.4)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def exactly(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@pytest.fixture
def table() -> tuple[nn.Linear, Tensor, Tensor]:
    """A linear classifier of two classes, 200 samples of 6 features, labels that it mostly gets right."""
    generator = seeded()
    model = nn.Linear(6, 2).double()
    with torch.no_grad():
        model.weight.copy_(torch.randn(2, 6, generator=generator, dtype=torch.float64))
    x = torch.randn(200, 6, generator=generator, dtype=torch.float64)
    y = model(x).argmax(dim=1)
    flipped = torch.rand(200, generator=generator) < 0.1
    return model, x, torch.where(flipped, 1 - y, y)


@pytest.fixture
def network() -> nn.Sequential:
    """A small convolutional network with BatchNorm (one frozen) and dropout, in training mode."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(),
        nn.Flatten(),
        nn.Linear(144, 3),
        nn.BatchNorm1d(3),
    )
    model[6].eval()
    return model


def images(n: int = 12) -> tuple[Tensor, Tensor]:
    return torch.rand(n, 1, 8, 8, generator=seeded(1)), torch.arange(n) % 3


# Gaussian noise


def test_noise_has_the_strength_as_its_standard_deviation() -> None:
    x = torch.zeros(1000, 100)
    noise = gaussian_noise(x, 0.3, seeded())
    # 5 standard errors of a mean and of a standard deviation over 100 000 draws
    assert abs(noise.mean().item()) < 5 * 0.3 / math.sqrt(1e5)
    assert abs(noise.std().item() - 0.3) < 5 * 0.3 / math.sqrt(2e5)
    assert noise.unique(dim=0).shape == noise.shape  # each sample has noise of its own


def test_noise_scales_with_the_strength_for_one_draw() -> None:
    x, _ = images()
    weak, strong = (gaussian_noise(x, strength, seeded()) - x for strength in (0.1, 0.2))
    torch.testing.assert_close(strong, 2 * weak, rtol=1e-4, atol=1e-6)


def test_noise_stays_in_range_and_leaves_its_input_alone() -> None:
    x, _ = images()
    before = x.clone()
    noisy = gaussian_noise(x, 1.0, seeded(), low=0.0, high=1.0)
    assert (noisy.min().item(), noisy.max().item()) == (0.0, 1.0)
    exactly(x, before)
    assert gaussian_noise(x, 1.0, seeded(), low=0.0).max() > 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(4, 3), (4, 1, 5, 6)], ids=["table", "images"])
def test_perturbations_keep_shape_and_type_and_do_nothing_at_strength_zero(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    x = torch.randn(shape, generator=seeded()).to(dtype)
    exactly(gaussian_noise(x, 0.0, seeded()), x)
    exactly(occlude(x, 0.0, seeded()), x)
    assert occlude(x, 0.5, seeded()).dtype == gaussian_noise(x, 0.5, seeded()).dtype == dtype


# Occlusion


@pytest.mark.parametrize(
    ("height", "width", "strength", "sides"),
    [
        pytest.param(8, 8, 0.25, (4, 4), id="a-quarter"),
        pytest.param(8, 8, 0.1, (3, 3), id="rounded-to-pixels"),
        pytest.param(8, 8, 1.0, (8, 8), id="all"),
        pytest.param(4, 12, 0.25, (2, 6), id="proportions-of-the-image"),
        pytest.param(8, 8, 0.001, (0, 0), id="less-than-a-pixel"),
    ],
)
def test_a_patch_covers_its_part_of_every_channel(
    height: int, width: int, strength: float, sides: tuple[int, int]
) -> None:
    x = torch.rand(50, 3, height, width, generator=seeded()) + 1
    before = x.clone()
    hidden = occlude(x, strength, seeded()) == 0
    exactly(x, before)
    exactly(occlude(x, strength, seeded())[~hidden], x[~hidden])
    exactly(hidden[:, 1:].long(), hidden[:, :1].expand(-1, 2, -1, -1).long())
    for sample in hidden[:, 0]:
        assert (int(sample.any(dim=1).sum()), int(sample.any(dim=0).sum())) == sides
        assert int(sample.sum()) == sides[0] * sides[1]  # a full rectangle


def test_patches_have_places_of_their_own_and_reach_every_corner() -> None:
    hidden = occlude(torch.ones(2000, 1, 4, 4), 0.25, seeded())[:, 0] == 0
    # 3 x 3 places, each in 1/9 of the samples within 5 standard errors
    places, counts = hidden.unique(dim=0, return_counts=True)
    assert len(places) == 9
    assert (counts / 2000 - 1 / 9).abs().max() < 5 * math.sqrt(8 / 81 / 2000)


def test_a_row_of_a_table_loses_its_share_of_features() -> None:
    hidden = occlude(torch.ones(2000, 10), 0.3, seeded()) == 0
    exactly(hidden.sum(dim=1), torch.full((2000,), 3))
    assert (hidden.double().mean(dim=0) - 0.3).abs().max() < 5 * math.sqrt(0.21 / 2000)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.sampled_from([(5, 7), (5, 2, 6, 6), (5, 1, 3, 11)]),
    strengths=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
    seed=st.integers(0, 1000),
)
def test_a_stronger_occlusion_hides_all_that_a_weaker_one_does(
    shape: tuple[int, ...], strengths: list[float], seed: int
) -> None:
    weaker, stronger = (occlude(torch.ones(shape), strength, seeded(seed)) == 0 for strength in strengths)
    assert bool((stronger | ~weaker).all())


# The fast gradient sign method


def test_fgsm_moves_a_linear_model_along_the_sign_of_its_weights(table: tuple[nn.Linear, Tensor, Tensor]) -> None:
    model, x, y = table
    towards_other = (model.weight[1 - y] - model.weight[y]).detach().sign()
    exactly(fgsm(model, x, y, 0.25), x + 0.25 * towards_other)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_fgsm_is_the_sign_of_the_gradient_of_cross_entropy(classes: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, classes)).double()
    x, y = torch.randn(40, 6, dtype=torch.float64), torch.randint(classes, (40,))
    leaf = x.clone().requires_grad_()
    F.cross_entropy(model(leaf), y).backward()
    assert leaf.grad is not None
    exactly(fgsm(model, x, y, 0.1), x + 0.1 * leaf.grad.sign())


def test_fgsm_works_on_a_model_so_sure_that_its_cross_entropy_has_no_gradient() -> None:
    model = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[500.0, 0.0], [0.0, 500.0]]))
    x, y = torch.tensor([[1.0, 0.0]]), torch.tensor([0])
    leaf = x.clone().requires_grad_()
    F.cross_entropy(model(leaf), y).backward()
    exactly(leaf.grad, torch.zeros(1, 2))  # pyright: ignore[reportArgumentType]
    exactly(fgsm(model, x, y, 0.5), torch.tensor([[0.5, 0.5]]))


def test_fgsm_does_not_depend_on_the_batch(network: nn.Sequential) -> None:
    x, y = images()
    together = fgsm(network, x, y, 0.1)
    alone = torch.cat([fgsm(network, x[i : i + 1], y[i : i + 1], 0.1) for i in range(len(x))])
    torch.testing.assert_close(together, alone)


def test_fgsm_clamps(network: nn.Sequential) -> None:
    x, y = images()
    attacked = fgsm(network, x, y, 0.5, low=0.0, high=1.0)
    assert (attacked.min().item(), attacked.max().item()) == (0.0, 1.0)
    assert fgsm(network, x, y, 0.5, low=0.0).max() > 1
    assert (attacked - x).abs().max() <= 0.5 + 1e-6


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_fgsm_works_in_every_gradient_mode(network: nn.Sequential, context: Callable) -> None:
    x, y = images()
    expected = fgsm(network, x, y, 0.1)
    with context():
        inner = fgsm(network, x.clone(), y.clone(), 0.1)  # inside inference_mode these are inference tensors
    exactly(inner, expected)
    assert not inner.requires_grad


def test_fgsm_takes_half_precision_and_small_labels(table: tuple[nn.Linear, Tensor, Tensor]) -> None:
    model, x, y = table
    expected = fgsm(model, x, y, 0.25) - x
    model, x, y = model.bfloat16(), x.bfloat16(), y.to(torch.uint8)
    attacked = fgsm(model, x, y, 0.25)
    assert attacked.dtype == torch.bfloat16
    exactly((attacked - x).sign().double(), expected.sign())


def untouched(model: nn.Module, measure: Callable[[], object]) -> None:
    """Run `measure` and check that modes, state, gradients and flags of the model are as before."""
    first = next(model.parameters())
    first.grad = torch.full_like(first, 3.0)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    random = torch.get_rng_state()
    measure()
    assert [module.training for module in model.modules()] == modes
    for name, value in model.state_dict().items():
        exactly(value, state[name])
    exactly(first.grad, torch.full_like(first, 3.0))
    assert all(parameter.grad is None for parameter in list(model.parameters())[1:])
    assert all(parameter.requires_grad for parameter in model.parameters())
    exactly(torch.get_rng_state(), random)


def test_measuring_leaves_the_model_as_it_was(network: nn.Sequential) -> None:
    x, y = images()
    untouched(network, lambda: fgsm(network, x, y, 0.1))
    untouched(network, lambda: robustness(network, x, y, strengths=STRENGTHS))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        pytest.param(lambda x: x.detach(), "must depend on x by differentiable steps", id="detached"),
        pytest.param(lambda x: torch.zeros(len(x), 2, requires_grad=True), "must depend on x", id="constant"),
        pytest.param(lambda x: x.argmax(1), r"logits must be floating of shape \(3, classes\)", id="labels"),
        pytest.param(lambda x: x[:2], r"shape \(3, classes\). Got shape \(2, 4\)", id="fewer-rows"),
        pytest.param(lambda x: x * torch.nan, "3 of 3 rows with NaN", id="nan"),
        pytest.param(lambda x: (x,), "Got a tuple", id="tuple"),
        pytest.param(lambda x: x[:, :1], "at least 2", id="one-class"),
    ],
)
def test_models_that_cannot_be_attacked(model: Callable[[Tensor], Tensor], words: str) -> None:
    x, y = torch.randn(3, 4, generator=seeded()), torch.tensor([0, 1, 1])
    with pytest.raises(ArgumentError, match=words):
        fgsm(model, x, y, 0.1)
    with pytest.raises(ArgumentError, match=words):
        robustness(model, x, y, strengths=STRENGTHS, kinds=["attack"])


# The curves


def test_the_attack_curve_of_a_linear_model_follows_from_its_margins(table: tuple[nn.Linear, Tensor, Tensor]) -> None:
    model, x, y = table
    found = robustness(model, x, y, strengths=STRENGTHS, kinds=["attack"])
    with torch.no_grad():
        logits = model(x)
        margin = (logits.gather(1, y[:, None]) - logits.gather(1, 1 - y[:, None]))[:, 0]
        reach = (model.weight[0] - model.weight[1]).abs().sum()
    expected = tuple((margin > strength * reach).double().mean().item() for strength in STRENGTHS)
    assert found.curves == {"attack": pytest.approx(expected, abs=1e-12)}
    assert expected[0] > 0.8 > 0.5 > expected[-1]  # the curve has something to show


def test_the_noise_curve_of_a_linear_model_follows_from_its_margins(table: tuple[nn.Linear, Tensor, Tensor]) -> None:
    model, x, y = table
    x, y = x.repeat(20, 1), y.repeat(20)
    found = robustness(model, x, y, strengths=(0.0, 0.5, 1.0), kinds=["noise"])
    with torch.no_grad():
        logits = model(x)
        margin = (logits.gather(1, y[:, None]) - logits.gather(1, 1 - y[:, None]))[:, 0]
        spread = (model.weight[0] - model.weight[1]).norm()
    for strength, accuracy in list(zip(found.strengths, found.curves["noise"], strict=True))[1:]:
        right = torch.special.ndtr(margin / (strength * spread))  # the chance that noise does not turn the margin
        error = (right * (1 - right)).sum().sqrt() / len(x)
        assert abs(accuracy - right.mean().item()) < 5 * error.item()


def test_occluding_everything_leaves_the_bias_to_decide(table: tuple[nn.Linear, Tensor, Tensor]) -> None:
    model, x, y = table
    found = robustness(model, x, y, strengths=(0.0, 1.0), kinds=["occlusion"])
    assert found.curves["occlusion"][1] == (y == model.bias.argmax()).double().mean().item()


def test_every_curve_begins_at_the_clean_accuracy_exactly(network: nn.Sequential) -> None:
    x, y = images(30)
    found = robustness(network, x, y, strengths=STRENGTHS, low=0.0, high=1.0)
    network.eval()
    clean = (network(x).argmax(dim=1) == y).sum().item() / 30
    assert tuple(found.curves) == PERTURBATIONS
    assert [curve[0] for curve in found.curves.values()] == [clean] * 3


def test_areas_and_score_summarise_the_curves(network: nn.Sequential) -> None:
    x, y = images(30)
    found = robustness(network, x, y, strengths=STRENGTHS)
    for kind in PERTURBATIONS:
        assert found.areas[kind] == normalised_area(found.curves[kind], steps=STRENGTHS)
        assert min(found.curves[kind]) <= found.areas[kind] <= max(found.curves[kind])
    assert found.score == pytest.approx(sum(found.areas.values()) / 3)
    assert found.strengths == STRENGTHS


def test_a_model_that_ignores_its_input_is_perfectly_robust() -> None:
    x, y = images()
    found = robustness(lambda x: 0 * x.flatten(1)[:, :3] + torch.tensor([1.0, 0, 0]), x, 0 * y, strengths=STRENGTHS)
    assert found.score == 1.0


def test_the_result_depends_on_the_seed_alone(network: nn.Sequential) -> None:
    x, y = images(60)
    found = robustness(network, x, y, strengths=STRENGTHS)
    assert robustness(network, x, y, strengths=STRENGTHS, batch_size=7) == found
    assert robustness(network, x, y, strengths=STRENGTHS[1:]).curves["noise"] == found.curves["noise"][1:]
    alone = robustness(network, x, y, strengths=STRENGTHS, kinds=["occlusion"])
    assert alone.curves == {"occlusion": found.curves["occlusion"]}
    others = [robustness(network, x, y, strengths=STRENGTHS, seed=seed) for seed in (1, 2, 3)]
    assert any(other.curves["noise"] != found.curves["noise"] for other in others)
    assert all(other.curves["attack"] == found.curves["attack"] for other in others)


def test_curves_are_those_of_the_public_perturbations(network: nn.Sequential) -> None:
    x, y = images(60)
    found = robustness(network, x, y, strengths=STRENGTHS, low=0.0, high=1.0, seed=5)
    network.eval()
    inputs = {
        "noise": gaussian_noise(x, 0.3, seeded(5), low=0.0, high=1.0),
        "occlusion": occlude(x, 0.3, seeded(5)),
        "attack": fgsm(network, x, y, 0.3, low=0.0, high=1.0),
    }
    for kind, perturbed in inputs.items():
        assert found.curves[kind][2] == (network(perturbed).argmax(dim=1) == y).sum().item() / 60


def test_inputs_a_rounding_outside_their_range_are_not_moved_at_strength_zero() -> None:
    x = torch.tensor([[1.0 + 1e-6, 0.0], [0.0, 1.0]])
    seen = []

    def model(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return x

    robustness(model, x, torch.tensor([0, 1]), strengths=(0, 1), kinds=["noise"], low=0.0, high=1.0)
    exactly(seen[0], x)


def test_noise_and_attack_stay_in_the_range_of_valid_inputs() -> None:
    seen = []

    def model(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return x

    x, y = torch.rand(50, 3, generator=seeded()), torch.arange(50) % 3
    for kind in ("noise", "attack"):
        seen.clear()
        robustness(model, x, y, strengths=(0, 1), kinds=[kind], low=0.0, high=1.0)
        assert (seen[-1].min().item(), seen[-1].max().item()) == (0.0, 1.0)
        robustness(model, x, y, strengths=(0, 1), kinds=[kind])
        assert seen[-1].max() > 1.0


X, Y = torch.zeros(4, 3) + 0.5, torch.tensor([0, 1, 2, 0])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"kinds": []}, "kinds must be different ones of noise, occlusion, attack", id="no-kinds"),
        pytest.param({"kinds": ["blur"]}, r"Got \['blur'\]", id="unknown-kind"),
        pytest.param({"kinds": ["noise", "noise"]}, "kinds must be different", id="a-kind-twice"),
        pytest.param({"kinds": "noise"}, "kinds must be different", id="a-string"),
        pytest.param({"strengths": [0.0]}, "two or more, strictly increasing", id="one-strength"),
        pytest.param({"strengths": [0.1, 0.1]}, "strictly increasing", id="equal-strengths"),
        pytest.param({"strengths": [-0.1, 0.1]}, "strength must be finite and at least 0. Got -0.1", id="negative"),
        pytest.param({"strengths": [0, 1.5], "kinds": ["occlusion"]}, r"in \[0, 1\]. Got 1.5", id="beyond-all"),
        pytest.param({"strengths": [0, math.inf], "kinds": ["attack"]}, "strength must be finite", id="infinite"),
        pytest.param({"batch_size": 0}, "batch_size must be at least 1", id="batch-size"),
        pytest.param({"x": X[:0], "y": Y[:0]}, "with at least one sample", id="no-samples"),
        pytest.param({"x": X.long()}, "x must be floating", id="integers"),
        pytest.param({"x": X * torch.nan}, "x must be finite", id="nan"),
        pytest.param({"x": X[:, 0]}, r"x must be floating, \(n, ...\)", id="one-axis"),
        pytest.param(
            {"x": X[:, None], "kinds": ["occlusion"]}, r"images \(n, c, h, w\) or a table \(n, d\)", id="three-axes"
        ),
        pytest.param({"y": Y[:3]}, r"y must have shape \(4,\)", id="fewer-labels"),
        pytest.param({"y": Y + 1}, r"y must lie in \[0, 3\)", id="label-out-of-range"),
        pytest.param({"y": Y + 1, "kinds": ["attack"]}, r"y must lie in \[0, 3\)", id="attacked-label-out-of-range"),
        pytest.param({"y": Y.float()}, "y must be class indices", id="float-labels"),
        pytest.param({"low": 1.0, "high": 1.0}, "low must be below high", id="no-range"),
        pytest.param({"low": 0.6}, "x must lie between low = 0.6 and high = None. Got values from 0.5", id="below"),
        pytest.param({"high": 0.4}, "x must lie between low = None and high = 0.4", id="above"),
    ],
)
def test_robustness_errors(changes: dict, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        robustness(**{"model": lambda x: x, "x": X, "y": Y, "strengths": STRENGTHS, **changes})
