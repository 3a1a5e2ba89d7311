"""What an object holds is taken and put back exactly, or not at all."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from coursekit.rl import snapshots


class Part:
    def __init__(self) -> None:
        self.nodes = torch.zeros(4)
        self.leaves = self.nodes[2:]


class Whole:
    """Every kind of thing that can be held, a view and an object in two places among them."""

    def __init__(self) -> None:
        self.part = Part()
        self.again = self.part
        self.levels = [torch.zeros(2), torch.zeros(1), 0]
        self.count, self.largest, self.full = 0, 1.0, False
        self.device, self.name, self.missing = torch.device("cpu"), "whole", None


def test_what_was_taken_is_put_back_in_place():
    one, other = Whole(), Whole()
    one.part.nodes += torch.arange(4)
    one.levels[0] += 5
    one.levels[2], one.count, one.largest, one.full = 3, 7, 2.5, True
    snapshot = snapshots.take(one)
    assert snapshot is not None
    assert snapshot.keys() == {
        *("part.nodes", "part.leaves", "levels.0", "levels.1", "levels.2", "count", "largest", "full"),
    }
    assert snapshots.put_back(other, snapshot)
    assert other.part.nodes.tolist() == [0, 1, 2, 3]
    other.part.nodes[3] = 9
    assert other.part.leaves.tolist() == [2, 9], "a view is still a view"
    assert other.again is other.part
    assert [torch.as_tensor(level).tolist() for level in other.levels] == [[5, 5], [0], 3]
    assert (other.count, other.largest, other.full) == (7, 2.5, True)


@pytest.mark.parametrize(
    "hidden",
    [{1: 2.0}, (1.0, 2.0), {3}, torch.Generator(), torch.zeros(2).numpy(), len, lambda: 3, torch.nn.ReLU()],
    ids=["dict", "tuple", "set", "generator", "array", "builtin", "function", "subclass"],
)
def test_what_cannot_be_seen_is_not_taken(hidden):
    whole: Any = Whole()
    snapshot = snapshots.take(whole)
    whole.part.hidden = hidden
    assert snapshots.take(whole) is None
    assert not snapshots.put_back(whole, snapshot)
    assert snapshots.take(3) is None


@pytest.mark.parametrize("change", ["shape", "dtype", "kind", "more", "fewer"])
def test_what_does_not_fit_changes_nothing(change):
    one, other = Whole(), Whole()
    one.count = 5
    snapshot = snapshots.take(one)
    assert snapshot is not None
    changes: dict[str, dict[str, Any]] = {
        "shape": {"part.nodes": torch.ones(5)},
        "dtype": {"part.nodes": torch.ones(4).double()},
        "kind": {"part.nodes": 1.0},
        "more": {"levels.3": 1.0},
        "fewer": {},
    }
    snapshot |= changes[change]
    if change == "fewer":
        del snapshot["levels.1"]
    assert not snapshots.put_back(other, snapshot)
    assert not snapshots.put_back(other, None)
    assert other.count == 0
    assert not other.part.nodes.any()
