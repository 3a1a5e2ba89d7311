"""Weights of torchvision: found, missing, damaged; the network stays offline."""

from __future__ import annotations

import hashlib
import socket

import pytest
import torch

from coursekit.attribution import load_pretrained, saliency, weights_file
from coursekit.errors import ArgumentError, DataError


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def squeezenet(monkeypatch, tmp_path):
    """A file of made-up weights under the name that its own SHA-256 asks for."""
    from torchvision.models import SqueezeNet1_1_Weights, squeezenet1_1

    file = tmp_path / "made.pth"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = squeezenet1_1()
    torch.save(model.state_dict(), file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    named = file.rename(tmp_path / f"squeezenet1_1-{digest}.pth")
    entry = SqueezeNet1_1_Weights.IMAGENET1K_V1
    object.__setattr__(entry.value, "url", f"https://example.org/models/{named.name}")
    yield model, named
    monkeypatch.undo()


def test_missing_weights_are_named_with_their_folder_and_address(tmp_path):
    with pytest.raises(DataError) as caught:
        load_pretrained("resnet18", folder=tmp_path)
    words = str(caught.value)
    file = weights_file("resnet18", folder=tmp_path)
    assert file.parent == tmp_path
    assert file.name.startswith("resnet18-")
    for part in (file.name, str(tmp_path), "ResNet18_Weights.IMAGENET1K_V1", "https://", "nothing is downloaded"):
        assert part in words
    assert not list(tmp_path.iterdir())


def test_the_usual_folder_is_pytorchs(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert weights_file("resnet50", weights="IMAGENET1K_V2").parent == tmp_path / "checkpoints"


def test_a_network_comes_with_what_belongs_to_it(squeezenet, g):
    model, file = squeezenet
    found = load_pretrained("squeezenet1_1", folder=file.parent)
    assert found.file == file
    assert len(found.classes) == 1000
    assert not found.model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, found.model.state_dict()[name])
    inputs = found.preprocess(torch.randint(256, (2, 3, 40, 50), dtype=torch.uint8, generator=g))
    assert inputs.shape == (2, 3, 224, 224)
    assert saliency(found.model, inputs[:1, :, :64, :64], 3).abs().sum() > 0


def test_a_damaged_file_is_refused(squeezenet):
    _, file = squeezenet
    with file.open("ab") as opened:
        opened.write(b"x")
    with pytest.raises(DataError, match=r"with a SHA-256 that starts with .*Fix: fetch the file again"):
        load_pretrained("squeezenet1_1", folder=file.parent)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "resnet19"}, "Got 'resnet19'"),
        ({"name": "resnet18", "weights": "IMAGENET1K_V7"}, "weights of resnet18: DEFAULT, IMAGENET1K_V1"),
    ],
)
def test_unknown_names_are_refused(settings, words):
    with pytest.raises(ArgumentError, match=words):
        load_pretrained(**settings)
