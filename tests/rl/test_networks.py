"""The hand-written passes equal autograd's; the networks have the sizes of their papers."""

from __future__ import annotations

import copy

import pytest
import torch

from coursekit.errors import ArgumentError
from coursekit.rl import AtariNetwork, HandWritten, QNetwork, sync


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("hidden", [(), (8,), (120, 84), (5, 6, 7)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_hand_written_gradients_equal_autograds(dueling, hidden, dtype):
    torch.manual_seed(0)
    network = QNetwork(4, hidden, 3, dueling=dueling).to(dtype)
    other, by_hand = copy.deepcopy(network), HandWritten(network)
    by_hand.flatten()
    for size in (1, 128, 7):  # gradients are written anew, not added to
        obs, slope = torch.randn(size, 4, dtype=dtype), torch.randn(size, 3, dtype=dtype)
        other.zero_grad()
        expected = other(obs)
        expected.backward(slope)
        with torch.no_grad():
            values, inputs = by_hand.forward(obs)
            by_hand.backward(slope, inputs)
        torch.testing.assert_close(values, expected.detach())
        torch.testing.assert_close(by_hand.values(obs).detach(), values)
        for mine, theirs in zip(network.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, theirs.grad)


def test_flat_weights_are_the_networks_own():
    network, obs = QNetwork(4, (8, 5), 3), torch.randn(6, 4)
    by_hand, before = HandWritten(network), copy.deepcopy(network)
    flat = by_hand.flatten()
    assert flat.numel() == sum(part.numel() for part in network.parameters())
    assert network(obs).equal(before(obs))
    network(obs).sum().backward()
    assert flat.grad is not None
    expected = torch.cat([part.grad.reshape(-1) for part in network.parameters() if part.grad is not None])
    assert flat.grad.equal(expected)
    torch.optim.SGD([flat], lr=0.1).step()
    for mine, old in zip(network.parameters(), before.parameters(), strict=True):
        assert mine.grad is not None
        torch.testing.assert_close(mine, old - 0.1 * mine.grad)
    assert by_hand.values(obs).equal(network(obs))


@pytest.mark.parametrize("tau", [0.0, 0.03, 0.7, 1.0])
def test_flat_weights_follow_as_sync_does(tau):
    online, slow = QNetwork(4, (8, 5), 3, dueling=True), QNetwork(4, (8, 5), 3, dueling=True)
    expected, first, second = copy.deepcopy(slow), HandWritten(online), HandWritten(slow)
    sync(expected, online, tau)
    first.flatten()
    second.flatten()
    with torch.no_grad():
        second.follow(first, tau)
    for mine, theirs in zip(slow.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)
    if tau == 1:
        assert all(one.equal(other) for one, other in zip(slow.parameters(), online.parameters(), strict=True))


def test_where_relu_is_exactly_zero_both_have_no_gradient():
    network = QNetwork(1, (2,), 1)
    with torch.no_grad():
        for part in network.parameters():
            part.zero_()
    by_hand = HandWritten(network)
    by_hand.flatten()
    with torch.no_grad():
        _, inputs = by_hand.forward(torch.ones(1, 1))
        by_hand.backward(torch.ones(1, 1), inputs)
    mine = [gradient.clone() for gradient in by_hand.gradients]
    network.zero_grad()
    network(torch.ones(1, 1)).backward()
    theirs = [part.grad for part in network.parameters() if part.grad is not None]
    assert all(one.equal(other) for one, other in zip(mine, theirs, strict=True))


def test_hand_written_passes_follow_parameters_that_move():
    network = QNetwork(4, (8,), 2)
    by_hand, obs = HandWritten(network), torch.randn(3, 4)
    network.load_state_dict(QNetwork(4, (8,), 2).state_dict())
    torch.testing.assert_close(by_hand.values(obs), network(obs))
    network.to(torch.float64).to(torch.float32)
    torch.testing.assert_close(by_hand.values(obs), network(obs))


@pytest.mark.parametrize("dueling", [False, True])
def test_the_atari_network_has_its_papers_size(dueling):
    network = AtariNetwork(6, dueling=dueling)
    assert network(torch.zeros(2, 4, 84, 84, dtype=torch.uint8)).shape == (2, 6)
    stream = 3136 * 512 + 512
    convolutions = (4 * 64 + 1) * 32 + (32 * 16 + 1) * 64 + (64 * 9 + 1) * 64
    heads = (512 + 1) * 6 + (stream + 513 if dueling else 0)
    assert sum(part.numel() for part in network.parameters()) == convolutions + stream + heads


@pytest.mark.parametrize("sizes", [(0, (4,), 2), (4, (0,), 2), (4, (4,), 0)])
def test_empty_layers_are_refused(sizes):
    with pytest.raises(ArgumentError, match="sizes of at least 1"):
        QNetwork(*sizes)
