"""The parts of lesson 3's experiments: recipes, the classifier that measures, pictures, and the known game."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from coursekit.data import load
from coursekit.errors import ArgumentError
from lessons.gans import lesson
from lessons.gans.adversarial import in_tanh_range
from lessons.gans.config import BASELINE, CURE, LOSSES, REMEDIES, Config, check_recipe, check_recipes
from lessons.gans.features import FeatureClassifier, Judge
from lessons.gans.lesson import (
    divergence,
    few_rows,
    inception_note,
    normal,
    operator_norm,
    pull,
    shown_epochs,
    value_of,
)
from lessons.gans.losses import GradientPenalty
from lessons.gans.pictures import clouds, logit_histograms, mosaic, mosaics
from lessons.gans.recipes import NAMES, Learning, build, critic_steps, my_parts

# ---------------------------------------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("hing", "did you mean hinge"),
        ("hinge+penality", "did you mean penalty"),
        ("hinge+penalty+penalty", "each remedy once"),
        ("penalty+hinge", "a loss that exists"),
    ],
)
def test_a_recipe_that_is_none_is_told(recipe: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_recipe(recipe)


def test_recipes_are_known_and_different() -> None:
    assert check_recipes((BASELINE, CURE)) == (BASELINE, CURE)
    with pytest.raises(ValueError, match="each recipe once"):
        check_recipes((BASELINE, BASELINE))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"gan": {"network": "dcgan"}}, "size = 32"),
        ({"augmentation": {"rows": [5]}}, "numbers of at least 10"),
        ({"augmentation": {"rows": [200, 50]}}, "rising"),
        ({"augmentation": {"recipe": "gan"}}, "a loss that exists"),
        ({"game": {"shifts": [1, 1]}}, "larger than the one before"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_told(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Config(**settings)


# ---------------------------------------------------------------------------------------------- recipes


@pytest.mark.parametrize("remedy", ["", *(f"+{name}" for name in REMEDIES)])
@pytest.mark.parametrize("loss", LOSSES)
def test_every_recipe_builds_what_it_says(loss: str, remedy: str) -> None:
    learning = Learning((1, 8, 8), critic_steps=3, lr=0.5)
    module = build(loss + remedy, learning, seed=0)
    generators, discriminators = module.configure_optimizers()
    group = generators.param_groups[0]
    assert module.loss.name == loss
    assert (
        module.critic_steps
        == critic_steps(loss + remedy, learning)
        == (3 if "critic" in remedy or "pen" in remedy else 1)
    )
    assert isinstance(module.penalty, GradientPenalty) == (remedy == "+penalty")
    assert group["betas"] == ((0.0 if remedy == "+no_momentum" else 0.9), 0.999)
    assert group["lr"] == pytest.approx(0.05 if remedy == "+small_steps" else 0.5)
    assert discriminators.param_groups[0]["lr"] == group["lr"]
    weights = [part.weight.detach() for part in module.discriminator.modules() if isinstance(part, nn.Linear)]
    norms = [float(torch.linalg.matrix_norm(weight, ord=2)) for weight in weights]
    assert (max(abs(norm - 1) for norm in norms) < 0.2) == (remedy == "+spectral_norm")


@pytest.mark.parametrize("network", ["dcgan", "sngan"])
def test_networks_for_images_fit_their_size(network: str) -> None:
    learning = Learning((3, 32, 32), network=network, latent=8, width=4)
    module = build(CURE, learning, seed=0)
    rows = module.generator(torch.randn(2, 8))
    assert rows.shape == (2, 3, 32, 32)
    assert module.discriminator(rows).shape == (2,)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in module.discriminator.modules())


def test_a_learners_functions_take_their_places() -> None:
    seen = []

    def penalty(D: nn.Module, real: torch.Tensor, fake: torch.Tensor, lam: float, g: torch.Generator) -> torch.Tensor:
        seen.append((tuple(D(real).shape), lam))
        return lam * (real - fake).mean()

    mine = SimpleNamespace(has=lambda name: name in ("hinge_losses", "gradient_penalty"))
    mine.hinge_losses = lambda real, fake: (real.mean() * 2, fake.mean() * 3)
    mine.gradient_penalty = penalty
    parts, missing = my_parts(mine)  # pyright: ignore[reportArgumentType]
    assert [*parts] == ["hinge", CURE]
    assert missing == [name for name in NAMES if name not in ("hinge_losses", "gradient_penalty")]
    pair = parts["hinge"].losses["hinge"]
    assert float(pair.discriminator(torch.ones(3), torch.zeros(2))) == 2
    assert float(pair.generator(torch.ones(3))) == 3
    found = parts[CURE].penalty(5.0)(lambda rows: rows.sum(1), torch.ones(4, 2), torch.zeros(4, 2), torch.Generator())
    assert float(found) == 5
    assert seen == [((4,), 5.0)]


# ---------------------------------------------------------------------------------------------- the instrument


def test_features_and_probabilities_belong_to_the_classifier() -> None:
    data = in_tanh_range(load("digits"))
    torch.manual_seed(0)
    network = FeatureClassifier(data.input_shape, 10)
    judge = Judge(network, data, least=0.0)
    features = judge.features(data.test.inputs)
    assert features.shape == (len(data.test), 32)
    torch.testing.assert_close(judge.probabilities(features), network(data.test.inputs).softmax(1).detach())


def test_training_rows_are_copies_and_noise_is_far() -> None:
    data = in_tanh_range(load("digits"))
    torch.manual_seed(0)
    judge = Judge(FeatureClassifier(data.input_shape, 10), data, least=0.0)
    rows = judge.quality(data.train.inputs[:400])
    noise = judge.quality(torch.rand(400, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    assert rows.copies.share == 1.0
    assert noise.copies.share == 0.0
    assert rows.distance < noise.distance
    assert rows.manifolds.recall > noise.manifolds.recall


def test_large_images_are_convolved() -> None:
    network = FeatureClassifier((3, 32, 32), 10)
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    assert any(isinstance(part, nn.Conv2d) for part in network.modules())


def test_few_rows_are_other_ones_for_each_seed_and_the_test_part_stays() -> None:
    data = in_tanh_range(load("digits"))
    first, second = (few_rows(data, 20, seed) for seed in (0, 1))
    assert len(first.train) == 20
    assert not torch.equal(first.train.inputs, second.train.inputs)
    torch.testing.assert_close(first.test.inputs, data.test.inputs, atol=1e-5, rtol=0)


def test_without_inceptions_weights_the_report_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    images = torch.zeros(4, 3, 8, 8)
    assert inception_note(images, {BASELINE: images}).startswith("No FID")
    monkeypatch.setattr(lesson, "inception_distance", lambda real, fake: float(real.mean()) + len(fake))
    assert inception_note(images, {BASELINE: images[:3], CURE: images}) == (
        "FID: non-saturating 3.5, wasserstein + penalty 4.5."
    )


# ---------------------------------------------------------------------------------------------- closed forms


def test_the_value_of_the_game_is_the_divergence() -> None:
    x = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    p, q = normal(x, 0, 1), normal(x, 2, 1)
    assert value_of(p.log() - q.log(), p, q, x) == pytest.approx(-math.log(4) + 2 * divergence(p, q, x), abs=1e-9)
    assert divergence(p, p, x) == pytest.approx(0, abs=1e-12)
    far = normal(x, -8, 0.5), normal(x, 8, 0.5)
    assert divergence(*far, x) == pytest.approx(math.log(2), abs=1e-9)


def test_pulls_are_the_losses_slopes() -> None:
    logits = torch.tensor([-2.0, 0.0, 3.0], dtype=torch.float64)
    expected = {
        "minimax": torch.sigmoid(logits),
        "non-saturating": torch.sigmoid(-logits),
        "least-squares": 1 - logits,
        "hinge": torch.ones(3, dtype=torch.float64),
        "wasserstein": torch.ones(3, dtype=torch.float64),
    }
    assert {*expected} == {*LOSSES}
    for name, slopes in expected.items():
        torch.testing.assert_close(pull(name, logits), slopes)


def test_the_operator_norm_of_known_convolutions() -> None:
    single = nn.Conv2d(2, 3, 1, bias=False)
    expected = float(torch.linalg.matrix_norm(single.weight.detach().flatten(1), ord=2))
    assert operator_norm(single, 4) == pytest.approx(expected, rel=1e-5)
    box = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    nn.init.ones_(box.weight)
    # A sum of 3 × 3 neighbours in the plane with borders: (1 + 2 cos(π / (n + 1)))² for n × n images.
    assert operator_norm(box, 5) == pytest.approx((1 + 2 * math.cos(math.pi / 6)) ** 2, rel=1e-5)


@pytest.mark.parametrize("epochs", [1, 2, 5, 8, 100])
def test_shown_epochs_are_the_first_and_the_last(epochs: int) -> None:
    shown = shown_epochs(epochs)
    assert shown[0] == 0
    assert shown[-1] == epochs
    assert len(shown) <= 6


# ---------------------------------------------------------------------------------------------- pictures


def test_a_mosaic_puts_images_where_they_belong() -> None:
    images = torch.stack([torch.full((1, 2, 2), value) for value in (-1.0, 0.0, 1.0)])
    sheet = mosaic(images, columns=2)
    assert sheet.shape == (5, 5)
    assert sheet[:2, :2].unique().tolist() == [0.0]
    assert sheet[:2, 3:].unique().tolist() == [0.5]
    assert sheet[3:, :2].unique().tolist() == [1.0]
    assert mosaic(torch.zeros(4, 3, 2, 2)).shape == (5, 5, 3)


def test_tables_of_pictures_need_the_same_columns() -> None:
    images, points = torch.zeros(4, 1, 8, 8), torch.zeros(5, 2)
    assert len(mosaics({"a": {"x": images, "y": images}}, title="t", note="n").axes) == 2
    assert len(clouds({"a": {"x": points}, "b": {"x": points}}, points, reach=2, title="t", note="n").axes) == 2
    for draw, part in ((mosaics, images), (partial(clouds, centres=points, reach=2), points)):
        for rows in ({}, {"a": {}}, {"a": {"x": part}, "b": {"y": part}}):
            with pytest.raises(ArgumentError, match="rows with the same columns"):
                draw(rows, title="t")


def test_histograms_want_finite_logits() -> None:
    logits = torch.linspace(-1, 1, 20)
    assert len(logit_histograms({"a": (logits, logits), "b": (logits, logits * 0)}, x_label="x", title="t").axes) == 2
    for panels in ({}, {"a": (logits, logits.log())}):
        with pytest.raises(ArgumentError, match="finite logits"):
            logit_histograms(panels, x_label="x", title="t")
