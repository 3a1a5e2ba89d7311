"""The ring keeps the last transitions; priorities are drawn as they should be."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit.errors import ArgumentError
from coursekit.rl import PrioritizedReplay, Replay, SumTree, snapshots
from coursekit.rl.replay import memory_state, restore_memory


def transitions(first: int, count: int, shape: tuple[int, ...] = (3,), dtype: torch.dtype = torch.float32):
    """Transitions that can be told apart by their number."""
    number = torch.arange(first, first + count)
    seen = number.reshape(-1, *[1] * len(shape)).expand(count, *shape)
    return {
        "obs": (seen % 200).to(dtype),
        "action": number % 5,
        "reward": number.float() / 7,
        "next_obs": (seen % 200 + 1).to(dtype),
        "terminated": number % 3 == 0,
        "truncated": number % 4 == 0,
        "discount": number.float() / 1000,
    }


KINDS = pytest.mark.parametrize(
    ("shape", "dtype"),
    [((3,), torch.float32), ((2, 4, 4), torch.uint8), ((), torch.float32)],
    ids=["floats", "pixels", "one"],
)


@KINDS
def test_the_ring_holds_the_last_transitions(shape, dtype):
    replay, model = Replay(10, shape, dtype=dtype), {}
    added = 0
    for count in (3, 4, 1, 7, 10, 2):
        given = transitions(added, count, shape, dtype)
        slots = replay.add(**given)
        assert slots.tolist() == [(added + row) % 10 for row in range(count)]
        model |= {slot: added + row for row, slot in enumerate(slots.tolist())}
        added += count
        assert len(replay) == min(added, 10) == len(model)
        kept = replay.get(torch.tensor(list(model)))
        for row, number in enumerate(model.values()):
            for name, column in transitions(number, 1, shape, dtype).items():
                assert kept[name].dtype == column.dtype
                assert kept[name][row].equal(column[0]), name


def test_what_was_drawn_stays_when_the_ring_turns():
    replay = Replay(4, (3,))
    replay.add(**transitions(0, 4))
    drawn = replay.get(torch.arange(4))
    kept = {name: column.clone() for name, column in drawn.items()}
    replay.add(**transitions(50, 4))
    assert all(drawn[name].equal(kept[name]) for name in kept)


def test_final_observations_take_the_place_of_the_next_episodes_first():
    replay, given = Replay(8, (3,)), transitions(0, 8)
    replay.add(**given, final_obs=torch.full((8, 3), -1.0))
    kept = replay.get(torch.arange(8))
    ended = given["terminated"] | given["truncated"]
    assert ended.any()
    assert (kept["next_obs"][ended] == -1).all()
    assert kept["next_obs"][~ended].equal(given["next_obs"][~ended])


def test_every_stored_transition_is_equally_likely():
    replay, draws = Replay(50, ()), 40_000
    replay.add(**transitions(0, 20, ()))
    drawn = replay.sample(draws, torch.Generator().manual_seed(0))["obs"].long()
    counts = torch.bincount(drawn, minlength=20)
    assert len(counts) == 20
    expected = draws / 20
    chi2 = float(((counts - expected) ** 2 / expected).sum())
    assert chi2 < 19 + 5 * (2 * 19) ** 0.5  # 5 sigma above the mean of χ² with 19 degrees of freedom


@KINDS
@pytest.mark.parametrize("added", [0, 4, 10, 13, 30])
def test_a_restored_ring_is_the_same_ring(shape, dtype, added):
    first, second = (Replay(10, shape, dtype=dtype) for _ in range(2))
    for start in range(0, added, 5):
        first.add(**transitions(start, min(5, added - start), shape, dtype))
    restore_memory(second, memory_state(first, added, torch.device("cpu")), torch.device("cpu"))
    slots = torch.arange(len(first))
    assert len(first) == len(second)
    assert all(first.get(slots)[name].equal(second.get(slots)[name]) for name in first.get(slots))
    more = transitions(100, 3, shape, dtype)
    assert first.add(**more).equal(second.add(**more))


def test_bad_rings_are_refused():
    with pytest.raises(ArgumentError, match="room for at least one"):
        Replay(0, (3,))
    with pytest.raises(ArgumentError, match="at most 4 transitions"):
        Replay(4, (3,)).add(**transitions(0, 5))
    with pytest.raises(ArgumentError, match="at least one stored"):
        Replay(4, (3,)).sample(1, torch.Generator())
    with pytest.raises(ArgumentError, match="alpha ≥ 0 and eps > 0"):
        PrioritizedReplay(4, alpha=-1)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 9000),
    st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from([0.0, 1e-9, 0.5, 3.0, 1e6])), min_size=1, max_size=40),
    st.integers(0, 2**31),
)
def test_a_tree_finds_what_a_running_sum_finds(capacity, changes, seed):
    tree, numbers = SumTree(capacity), torch.zeros(capacity, dtype=torch.float64)
    for slot, value in changes:
        numbers[slot % capacity] = value
        tree.update(torch.tensor([slot % capacity]), torch.tensor([value], dtype=torch.float64))
    torch.testing.assert_close(tree.total, numbers.sum(), rtol=1e-12, atol=0)
    assert tree.get(torch.arange(capacity)).equal(numbers)
    if numbers.sum() == 0:
        return
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(64, generator=generator, dtype=torch.float64)
    share[0], share[1] = 0, 1  # both ends
    slots = tree.find(share * tree.total)
    assert (numbers[slots] > 0).all()
    ends = numbers.cumsum(0)
    slack = 1e-9 * float(ends[-1])
    mass = share * ends[-1]
    assert (mass <= ends[slots] + slack).all()
    assert (mass >= ends[slots] - numbers[slots] - slack).all()


def test_a_slot_that_comes_twice_counts_once():
    tree = SumTree(100)
    tree.update(torch.tensor([5, 5, 70]), torch.tensor([2.0, 2.0, 1.0]))
    assert float(tree.total) == 3


def test_slots_are_drawn_by_priority_and_the_weights_undo_it():
    replay, rounds, batch = PrioritizedReplay(300, alpha=0.7, eps=1e-3), 400, 64
    errors = torch.linspace(-2, 3, 200, dtype=torch.float64)
    replay.add(torch.arange(200))
    replay.update(torch.arange(200), errors)
    expected = (errors.abs() + 1e-3) ** 0.7
    expected /= expected.sum()
    generator = torch.Generator().manual_seed(0)
    counts, means = torch.zeros(300), []
    for _ in range(rounds):
        slots, weights = replay.sample(batch, 1.0, generator)
        assert (weights.dtype, slots.dtype, float(weights.max())) == (torch.float32, torch.int64, 1.0)
        inverse = (1 / expected[slots]).double()
        torch.testing.assert_close(weights.double(), inverse / inverse.max(), rtol=1e-5, atol=0)
        counts += torch.bincount(slots, minlength=300)
        means.append(float((1 / (200 * expected[slots])).mean()))
    assert counts[200:].sum() == 0
    # Stratified draws vary less than independent ones, so 5 sigma of the binomial is generous; 200 slots.
    sigma = (rounds * batch * expected * (1 - expected)).sqrt()
    assert ((counts[:200] - rounds * batch * expected).abs() < 5 * sigma).all()
    spread = torch.tensor(means).std() / rounds**0.5
    assert abs(sum(means) / rounds - 1) < 5 * float(spread)  # E[1 / (N P)] = 1


def test_new_slots_get_the_largest_priority_ever():
    replay = PrioritizedReplay(10, alpha=1.0, eps=0.5)
    replay.add(torch.tensor([0]))
    assert float(replay.tree.get(torch.tensor([0]))) == 1
    replay.update(torch.tensor([0]), torch.tensor([-4.0]))
    replay.update(torch.tensor([0]), torch.tensor([0.0]))
    replay.add(torch.tensor([1]))
    assert replay.tree.get(torch.arange(2)).tolist() == [0.5, 4.5]


def test_with_beta_0_all_weights_are_1():
    replay = PrioritizedReplay(10)
    replay.add(torch.arange(10))
    replay.update(torch.arange(10), torch.arange(10.0))
    assert replay.sample(5, 0.0, torch.Generator())[1].tolist() == [1.0] * 5


def test_restored_priorities_draw_the_same():
    first, second = PrioritizedReplay(5000), PrioritizedReplay(5000)
    first.add(torch.arange(5000))
    first.update(torch.arange(100), torch.linspace(0, 9, 100))
    assert snapshots.put_back(second, snapshots.take(first))
    second.add(torch.tensor([7]))
    first.add(torch.tensor([7]))
    for one, two in zip(
        first.sample(64, 0.5, torch.Generator().manual_seed(1)),
        second.sample(64, 0.5, torch.Generator().manual_seed(1)),
        strict=True,
    ):
        assert one.equal(two)
