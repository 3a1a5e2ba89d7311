"""The moving average of a network: its rule, its buffers, and that a resumed training continues it bit for bit."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from coursekit import runtime
from coursekit.config import Training
from coursekit.data.batches import Batch
from coursekit.errors import ArgumentError, StoppedError
from coursekit.harness import Classifier, fit
from coursekit.harness.averaging import MovingAverage


def network(seed: int = 0) -> nn.Sequential:
    runtime.seed_everything(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))


def wander(network: nn.Module) -> None:
    """Move weights and statistics as a training would."""
    network(torch.randn(16, 3))
    with torch.no_grad():
        for part in network.parameters():
            part.add_(torch.randn_like(part))


def test_it_moves_as_pytorchs_own_average():
    trained = network()
    mine = MovingAverage(trained, 0.9, warmup=False)
    theirs = AveragedModel(trained, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=False)
    theirs.update_parameters(trained)  # its first update copies
    for _ in range(5):
        wander(trained)
        mine.update(trained)
        theirs.update_parameters(trained)
    for a, b in zip(mine.network.parameters(), theirs.module.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_the_decay_rises_to_its_value():
    mine = MovingAverage(nn.Linear(1, 1), 0.5)
    decays = []
    for _ in range(12):
        decays.append(mine.current_decay)
        mine.update(nn.Linear(1, 1))
    assert decays == [min(0.5, (1 + t) / (10 + t)) for t in range(12)]
    assert decays[0] == 0.1
    assert decays[8:] == [0.5] * 4
    assert MovingAverage(nn.Linear(1, 1), 0.5, warmup=False).current_decay == 0.5


def test_a_constant_weight_is_reached_and_the_first_update_forgets_most_of_the_start():
    start, goal = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.zeros_(start.weight)
    nn.init.ones_(goal.weight)
    mine = MovingAverage(start, 0.999)
    (weight,) = mine.network.parameters()
    mine.update(goal)
    assert float(weight) == pytest.approx(0.9)
    for _ in range(400):
        mine.update(goal)
    assert float(weight) == pytest.approx(1, abs=1e-6)


def test_buffers_are_copied_and_the_trained_network_stays_as_it_is():
    trained = network()
    mine = MovingAverage(trained, 0.9)
    wander(trained)
    before = copy.deepcopy(trained.state_dict())
    mine.update(trained)
    for name, buffer in mine.network.named_buffers():
        torch.testing.assert_close(buffer, before[name], rtol=0, atol=0)
    for name, value in trained.state_dict().items():
        assert value.equal(before[name])
    assert not any(part.requires_grad for part in mine.parameters())
    assert all(part.requires_grad for part in trained.parameters())


def test_it_is_called_in_evaluation_mode_and_without_gradients():
    mine = MovingAverage(network(), 0.9).train()
    before = copy.deepcopy(mine.state_dict())
    out = mine(torch.randn(8, 3))
    assert not out.requires_grad
    assert all(value.equal(before[name]) for name, value in mine.state_dict().items())


def test_a_state_brings_the_count_back():
    trained = network()
    mine, other = MovingAverage(trained, 0.9), MovingAverage(network(1), 0.9)
    for _ in range(3):
        wander(trained)
        mine.update(trained)
    other.load_state_dict(copy.deepcopy(mine.state_dict()))
    assert other.updates == 3
    wander(trained)
    for average in (mine, other):
        average.update(trained)
    assert all(a.equal(b) for a, b in zip(mine.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(ArgumentError, match="from 0 to below 1"):
        MovingAverage(nn.Linear(1, 1), decay)


def test_another_network_is_refused():
    with pytest.raises(ArgumentError, match=r"differs in bias"):
        MovingAverage(nn.Linear(1, 1)).update(nn.Linear(1, 1, bias=False))


class Averaging(Classifier):
    """A classifier that keeps an average, and can be stopped in a step."""

    stop_at: int | None = None

    def __init__(self) -> None:
        runtime.seed_everything(0)
        body = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))
        super().__init__(body, optimizer=lambda p: torch.optim.Adam(p, lr=0.01))
        self.average = MovingAverage(body, 0.9)

    def optimize(self, batch: Batch) -> dict[str, Tensor]:
        values = super().optimize(batch)
        self.average.update(self.network)
        if self.position.step + 1 == self.stop_at:
            runtime.signal.raise_signal(runtime.signal.SIGINT)
        return values


@pytest.mark.parametrize("stop_at", [3, 5, 7], ids=["inside an epoch", "at its end", "in the second"])
def test_a_resumed_training_continues_the_average_bit_for_bit(digits, tmp_path, stop_at):
    training = Training(epochs=2, batch_size=64, device="cpu", threads=1)
    straight = Averaging()
    fit(straight, digits, training, quiet=True)
    stopped = Averaging()
    stopped.stop_at = stop_at
    with pytest.raises(StoppedError):
        fit(stopped, digits, training, out=tmp_path, quiet=True)
    resumed = Averaging()
    fit(resumed, digits, training, out=tmp_path, quiet=True)
    assert straight.average.updates == resumed.average.updates == 10
    pairs = zip(straight.average.state_dict().values(), resumed.average.state_dict().values(), strict=True)
    assert all(a.equal(b) for a, b in pairs)
