"""Augmentation of whole mini-batches: what moves, what is kept, and torchvision as the reference."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import v2

from coursekit.data import augmentation
from coursekit.data.augmentation import Chain, CutMix, Mixup, RandomCrop, RandomFlip
from coursekit.errors import ArgumentError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(b: int = 6, c: int = 2, h: int = 5, w: int = 7) -> torch.Tensor:
    return torch.arange(1.0, b * c * h * w + 1).view(b, c, h, w)


TARGETS = torch.tensor([0, 1, 2, 0, 1, 2])


def test_each_crop_is_a_window_of_its_padded_image() -> None:
    x = images()
    moved, targets = RandomCrop(2, fill=-1.0, generator=generator())((x, TARGETS))
    assert targets is TARGETS
    assert moved.shape == x.shape
    padded = F.pad(x, [2] * 4, value=-1.0)
    places = []
    for one, whole in zip(moved, padded, strict=True):
        found = [(r, k) for r in range(5) for k in range(5) if torch.equal(whole[:, r : r + 5, k : k + 7], one)]
        assert len(found) == 1
        places += found
    assert len({*places}) > 1, "each image moves by itself"


def test_crops_reach_every_position() -> None:
    # 25 positions, 5,000 images: 200 each, sigma 13.9; false alarm at 5 sigma below one in 60,000 for all 25.
    x = torch.zeros(5000, 1, 5, 5)
    x[:, :, 2, 2] = 1
    moved, _ = RandomCrop(2, generator=generator())((x, torch.zeros(5000)))
    counts = moved.sum((0, 1)).flatten()
    assert counts.sum() == 5000
    assert (counts - 200).abs().max() < 5 * 13.9


def test_flips_mirror_about_half_of_the_images() -> None:
    x = images(2000, 1, 2, 3)
    flipped, _ = RandomFlip(generator())((x, torch.zeros(2000)))
    mirrored = (flipped == x.flip(-1)).flatten(1).all(1)
    assert torch.equal(flipped[~mirrored], x[~mirrored])
    assert abs(int(mirrored.sum()) - 1000) < 5 * 22.4  # sigma √500; one false alarm in 1.7 million seeds


@given(st.floats(0.05, 20), st.integers(0, 2**32))
def test_mixup_blends_neighbours_and_labels_alike(alpha: float, seed: int) -> None:
    x = torch.eye(6, dtype=torch.float64)
    mixed, shares = Mixup(6, alpha, generator(seed))((x, torch.arange(6)))
    torch.testing.assert_close(mixed, shares.double(), rtol=0, atol=1e-6)  # x was its own one-hot label
    torch.testing.assert_close(shares.sum(1), torch.ones(6))
    assert int((shares > 0).sum(1).max()) <= 2


@given(st.floats(0.05, 20), st.integers(0, 2**32))
def test_cutmix_labels_are_the_shares_of_the_pixels(alpha: float, seed: int) -> None:
    x = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 2, 8, 5)
    before = x.clone()
    mixed, shares = CutMix(3, alpha, generator(seed))((x, torch.arange(3)))
    counted = torch.stack([(mixed == k).float().mean((1, 2, 3)) for k in range(3)], dim=1)
    torch.testing.assert_close(shares, counted, rtol=0, atol=1e-6)
    assert torch.equal(x, before)
    assert torch.equal(mixed[:, 0], mixed[:, 1]), "one box for all channels"


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize(("ours", "theirs"), [(Mixup, v2.MixUp), (CutMix, v2.CutMix)], ids=["mixup", "cutmix"])
def test_it_is_what_torchvision_does(monkeypatch, share, ours, theirs) -> None:
    """The same share and the same place of the box: the same images and labels."""
    x, place = images(h=9), torch.tensor(4)
    monkeypatch.setattr(augmentation, "_beta", lambda *_: share)
    monkeypatch.setattr(torch, "randint", lambda *_, **__: place)
    reference = theirs(num_classes=3, alpha=1.0)
    monkeypatch.setattr(type(reference._dist), "sample", lambda *_: torch.tensor(share))  # pyright: ignore[reportAttributeAccessIssue]
    mixed, shares = ours(3)((x, TARGETS))
    expected, expected_shares = reference(x, TARGETS)
    torch.testing.assert_close(mixed, expected)
    torch.testing.assert_close(shares, expected_shares)


@pytest.mark.parametrize("alpha", [0.4, 1.0, 8.0])
def test_the_share_is_beta_distributed(alpha) -> None:
    from scipy.stats import beta, kstest

    source = generator()
    draws = [augmentation._beta(alpha, source) for _ in range(5000)]
    assert kstest(draws, beta(alpha, alpha).cdf).pvalue > 1e-6  # the false-alarm rate


def test_a_tiny_alpha_mixes_nothing() -> None:
    """λ is then 0 or 1; a ratio of Gamma draws that underflow would give one half."""
    source = generator()
    shares = {augmentation._beta(1e-4, source) for _ in range(40)}
    assert max(min(share, 1 - share) for share in shares) < 1e-6
    assert {round(share) for share in shares} == {0, 1}


def test_a_chain_goes_through_its_steps_in_order() -> None:
    chain = Chain(RandomFlip(generator(1)), Mixup(3, 1.0, generator(2)), CutMix(3, 1.0, generator(3)))
    once = RandomFlip(generator(1))((images(), TARGETS))
    twice = CutMix(3, 1.0, generator(3))(Mixup(3, 1.0, generator(2))(once))
    mixed, shares = chain((images(), TARGETS))
    torch.testing.assert_close(mixed, twice[0])
    torch.testing.assert_close(shares.sum(1), torch.ones(6))
    assert Chain()((mixed, shares))[0] is mixed


def test_without_a_generator_the_global_one_decides() -> None:
    torch.manual_seed(3)
    first = RandomCrop(1)((images(), TARGETS))[0]
    torch.manual_seed(3)
    assert torch.equal(first, RandomCrop(1)((images(), TARGETS))[0])


@pytest.mark.parametrize("augment", [RandomCrop(1), RandomFlip(), CutMix(2)], ids=lambda part: type(part).__name__)
def test_tables_are_refused_where_images_are_meant(augment) -> None:
    with pytest.raises(ArgumentError, match=r"images \(b, c, h, w\)"):
        augment((torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64)))


@pytest.mark.parametrize("make", [lambda: Mixup(2, 0.0), lambda: CutMix(2, float("nan"))], ids=["mixup", "cutmix"])
def test_an_alpha_that_is_not_above_zero_is_refused(make) -> None:
    with pytest.raises(ArgumentError, match="an alpha above 0"):
        make()


def test_no_padding_is_refused() -> None:
    with pytest.raises(ArgumentError, match="a padding of 1 pixel or more"):
        RandomCrop(0)
