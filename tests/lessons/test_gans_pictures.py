"""Style transfer and translation between domains: their terms against formulas, and that they do what they say."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from coursekit import runtime
from coursekit.config import Training
from coursekit.data import Data, load
from coursekit.errors import ArgumentError, DataError, StoppedError
from coursekit.harness import fit
from lessons.gans.adversarial import in_tanh_range
from lessons.gans.cycle import DOMAINS, CycleGAN, LocalTranslator, Translator, unpaired
from lessons.gans.networks import PerceptronDiscriminator
from lessons.gans.style_transfer import RandomFilters, gram, pictures, transfer, vgg_features

# ------------------------------------------------------------------------------------------- style


def test_a_gram_matrix_forgets_places_and_keeps_what_occurs_together():
    features = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    expected = torch.einsum("bchw,bdhw->bcd", features, features) / 20
    torch.testing.assert_close(gram(features), expected)
    shuffled = features.flatten(2)[:, :, torch.randperm(20)].view_as(features)
    torch.testing.assert_close(gram(shuffled), expected)


def test_random_filters_see_nothing_on_an_even_surface_and_halve_the_picture():
    filters = RandomFilters(filters=6, scales=3)
    even = filters(torch.full((1, 3, 32, 32), 0.7))
    assert [tuple(maps.shape) for maps in even] == [(1, 6, 32, 32), (1, 6, 16, 16), (1, 6, 8, 8)]
    assert max(float(maps.abs().max()) for maps in even) < 1e-5
    torch.testing.assert_close(filters.filters, RandomFilters(filters=6, scales=3).filters)
    assert not filters.filters.equal(RandomFilters(filters=6, scales=3, seed=1).filters)
    with pytest.raises(ArgumentError, match="at the smallest scale"):
        filters(torch.zeros(1, 3, 16, 16))


def test_a_transfer_brings_the_texture_and_keeps_the_content():
    """Measured here, with filters of seeds 0 to 8: style ends between 0.09 and 0.38, content between 0.16 and 0.42."""
    temple, flower = pictures(48)
    assert temple.shape == flower.shape == (1, 3, 48, 48)
    done = transfer(temple, flower, RandomFilters(filters=16, scales=3), steps=15)
    assert done.style[0] == pytest.approx(1)
    assert done.content[0] == pytest.approx(0, abs=1e-9)
    assert done.style[-1] < 0.5
    assert done.content[-1] < 0.7
    assert 0 <= float(done.picture.min()) <= float(done.picture.max()) <= 1
    nearer = F.mse_loss(done.picture, temple) < F.mse_loss(done.picture, flower)
    assert bool(nearer)


def test_pictures_and_weights_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(ArgumentError, match="from 16 to 427"):
        pictures(8)
    with pytest.raises(ArgumentError, match=r"pictures \(1, 3, h, w\)"):
        transfer(torch.zeros(3, 8, 8), torch.zeros(1, 3, 8, 8), RandomFilters())
    with pytest.raises(DataError, match="VGG-19 weights"):
        vgg_features(tmp_path / "none.pth")


# ------------------------------------------------------------------------------------------- domains


@pytest.fixture(scope="module")
def digits() -> Data:
    return in_tanh_range(load("digits", limit=64))


@pytest.mark.parametrize("name", list(DOMAINS))
def test_training_has_no_pairs_and_validation_has(digits, name):
    change = DOMAINS[name]
    both = unpaired(digits, change, repeats=2)
    assert both.train.inputs.shape == (64, 2, 1, 8, 8)
    first, second = both.train.inputs[:32].unbind(1)
    assert first.equal(digits.train.inputs[:32])
    assert second.equal(change(digits.train.inputs[32:]))
    partners = change(first).flatten(1)
    assert not (partners[:, None] == second.flatten(1)[None]).all(2).any()
    first, second = both.validation.inputs.unbind(1)
    assert second.equal(change(first))
    assert both.validation.targets.equal(digits.validation.targets)
    with pytest.raises(ArgumentError, match="images"):
        unpaired(load("breast_cancer"), change)


def networks(local: bool = False) -> tuple[torch.nn.Module, torch.nn.Module, list[torch.nn.Module]]:
    runtime.seed_everything(0)
    make = (lambda: LocalTranslator(1, 4)) if local else (lambda: Translator((1, 8, 8), 8))
    return make(), make(), [PerceptronDiscriminator((1, 8, 8), width=8) for _ in range(2)]


def build(**kwargs: object) -> CycleGAN:
    there, back, critics = networks()
    return CycleGAN(there, back, critics, optimizer=lambda p: torch.optim.Adam(p, lr=1e-3), **kwargs)  # pyright: ignore


def test_one_step_is_the_papers(digits):
    """In float64, with plain gradient descent: Zhu et al. 2017, equations 1 to 3 with least squares."""
    data = unpaired(digits, DOMAINS["inverted"])
    there, back, critics = networks()
    mine = CycleGAN(there, back, critics, optimizer=lambda p: torch.optim.SGD(p, lr=0.1), weight=3.0)
    fit(mine, data, Training(epochs=1, batch_size=32, device="cpu", precision="64", threads=1), quiet=True)

    there, back, critics = networks()
    parts = [network.double() for network in (there, back, *critics)]
    there, back, first_critic, second_critic = parts
    first, second = data.train.inputs.double().unbind(1)

    def half_square(x: Tensor) -> Tensor:
        return 0.5 * (x**2).mean()

    d_loss = half_square(first_critic(first) - 1) + half_square(first_critic(back(second).detach()))
    d_loss = d_loss + half_square(second_critic(second) - 1) + half_square(second_critic(there(first).detach()))
    weights = [*first_critic.parameters(), *second_critic.parameters()]
    for part, slope in zip(weights, torch.autograd.grad(d_loss, weights), strict=True):
        part.data -= 0.1 * slope
    home = (back(there(first)) - first).abs().mean() + (there(back(second)) - second).abs().mean()
    g_loss = half_square(first_critic(back(second)) - 1) + half_square(second_critic(there(first)) - 1)
    weights = [*there.parameters(), *back.parameters()]
    for part, slope in zip(weights, torch.autograd.grad(g_loss + 3 * home, weights), strict=True):
        part.data -= 0.1 * slope
    # Another order of the rows sums them up in another order.
    expected = [part for network in parts for part in network.parameters()]
    for a, b in zip(mine.network.parameters(), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_the_history_tells_what_a_translation_is_worth(digits):
    data = unpaired(digits, DOMAINS["inverted"])

    class Known(torch.nn.Module):
        """The translation itself, which has nothing to learn."""

        def __init__(self) -> None:
            super().__init__()
            self.nothing = torch.nn.Parameter(torch.zeros(1))

        def forward(self, images: Tensor) -> Tensor:
            return self.nothing * 0 - images

    labels = data.validation.targets

    def judge(images: Tensor) -> Tensor:
        assert images.equal(data.validation.inputs[:, 1])
        return F.one_hot(labels, 10).float()

    critics = [PerceptronDiscriminator((1, 8, 8), width=8) for _ in range(2)]
    perfect = CycleGAN(Known(), Known(), critics, optimizer=lambda p: torch.optim.Adam(p), judge=judge)
    scores = perfect.evaluate([(data.validation.inputs, labels)])
    assert scores == {"cycle": 0.0, "error": 0.0, "accuracy": 1.0}


def test_the_way_home_is_measured_apart_from_the_way_there():
    """There adds 1, back takes 3 quarters of an image: on images of one number each error is known."""

    class Adds(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1

    class Shrinks(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 0.75 * x

    critics = [torch.nn.Flatten(), torch.nn.Flatten()]
    module = CycleGAN(Adds(), Shrinks(), critics, optimizer=lambda p: torch.optim.Adam(p))
    first, second = torch.full((2, 1, 4, 4), 3.0), torch.full((2, 1, 4, 4), 10.0)
    scores = module.evaluate([(torch.stack([first, second], 1), torch.zeros(2, dtype=torch.int64))])
    assert scores == {"cycle": 0.0, "error": 6.0}
    other = torch.full((2, 1, 4, 4), 1.0)
    scores = module.evaluate([(torch.stack([other, second], 1), torch.zeros(2, dtype=torch.int64))])
    assert scores == {"cycle": 0.5, "error": 8.0}


def test_it_is_stopped_and_continues_bit_for_bit(digits, tmp_path):
    data = unpaired(digits, DOMAINS["mirrored"])
    training = Training(epochs=3, batch_size=16, device="cpu", threads=1)
    straight = fit(build(), data, training, quiet=True)

    class Stopped(CycleGAN):
        def optimize(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
            if self.position.step == 2:
                runtime.signal.raise_signal(runtime.signal.SIGINT)
            return super().optimize(batch)

    stopped = build()
    stopped.__class__ = type("CycleGAN", (Stopped,), {})
    with pytest.raises(StoppedError):
        fit(stopped, data, training, out=tmp_path, quiet=True)
    resumed = fit(build(), data, training, out=tmp_path, quiet=True)
    for row, other in zip(resumed.history, straight.history, strict=True):
        assert {**row, "seconds": 0} == {**other, "seconds": 0}
    assert all(math.isfinite(value) for row in resumed.history for value in row.values())


def test_the_local_translator_looks_no_further_than_three_pixels():
    translator, image = networks(local=True)[0], torch.zeros(1, 1, 8, 8)
    changed = image.clone()
    changed[..., 0, 0] = 1
    difference = (translator(changed) - translator(image))[0, 0]
    assert difference[:4, :4].abs().max() > 0
    assert difference[4:].abs().max() == difference[:, 4:].abs().max() == 0


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ArgumentError, match="two discriminators"):
        build(weight=-1.0)
