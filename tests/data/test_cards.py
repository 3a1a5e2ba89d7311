"""The cards say what the data is, and torch stays out until data is read."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import coursekit.data
from coursekit.data import NAMES, DataCard, card, cards, load
from coursekit.errors import DataError


def test_names_are_the_five_data_sets() -> None:
    assert NAMES == ("digits", "breast_cancer", "mnist", "fashion_mnist", "cifar10")
    assert tuple(entry.name for entry in cards()) == NAMES


@pytest.mark.parametrize("entry", cards(), ids=NAMES)
def test_markdown_says_every_fact(entry: DataCard) -> None:
    text = entry.markdown()
    facts = (entry.title, entry.what, entry.source, entry.licence, entry.citation, f"{entry.rows:,}", *entry.classes)
    assert entry.faults
    for fact in (*facts, *entry.faults):
        assert len(fact) > 0
        assert fact in text


@pytest.mark.parametrize(("name", "fetch"), [("digits", "none, ships"), ("mnist", "11.6 MB"), ("cifar10", "170.5 MB")])
def test_markdown_says_what_a_download_costs(name: str, fetch: str) -> None:
    assert fetch in card(name).markdown()
    assert card(name).embedded == fetch.startswith("none")


@pytest.mark.parametrize("name", ["digits", "breast_cancer"])
def test_card_agrees_with_the_data(name: str) -> None:
    data = load(name)
    parts = (data.train, data.validation, data.test)
    assert sum(map(len, parts)) == card(name).rows
    assert data.input_shape == card(name).shape
    assert data.classes == card(name).classes


def test_classes_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_breast_cancer, load_digits

    table: Any = load_breast_cancer()
    images: Any = load_digits()
    assert card("breast_cancer").classes == tuple(table.target_names.tolist())
    assert card("digits").classes == tuple(map(str, images.target_names))


def test_classes_are_those_of_torchvision() -> None:
    from torchvision.datasets import MNIST, FashionMNIST

    assert card("fashion_mnist").classes == tuple(FashionMNIST.classes)
    assert card("mnist").classes == tuple(name[0] for name in MNIST.classes)


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("minst", "Fix: write `mnist`."),
        ("CIFAR-10", "Fix: write `cifar10`."),
        ("", "Fix: choose one of digits, "),
        ("imagenet-21k", "Fix: choose one of digits, "),
        (None, "Fix: choose one of digits, "),
    ],
)
def test_unknown_name_is_answered_with_the_nearest(name: str, fix: str) -> None:
    with pytest.raises(DataError, match=r"^data: a data set that exists") as caught:
        card(name)
    assert f"Got {name!r}." in str(caught.value)
    assert fix in str(caught.value)


def test_listing_imports_no_torch() -> None:
    code = (
        "import sys; from coursekit.data import cards, is_available;"
        "[(entry.markdown(), is_available(entry.name)) for entry in cards()];"
        "print([name for name in ('torch', 'torchvision', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    for name in coursekit.data.__all__:
        assert getattr(coursekit.data, name) is not None


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'lode'"):
        _ = coursekit.data.lode
