"""What each exercise of lesson 4 must do: one regime in each check, the smallest inputs first.

Statistical checks compare how often things came with how often they should, by χ² tests. Each of these 9 tests refuses
a right answer with a probability of about 1e-7: all together once in about a million gradings.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from coursekit.grading import close, holds, raises, same
from lessons.dqn import probes

EXACT = 1e-12  # float64, after few operations
MANY = 20_000  # draws of a statistical check
ALPHA = 1e-7  # share of right answers that a χ² test refuses


def draw(rng: torch.Generator, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Draw from the standard normal distribution."""
    return torch.randn(shape, generator=rng, dtype=torch.float64).to(dtype)


def whole(rng: torch.Generator, low: int, high: int) -> int:
    """Draw a whole number from low to high, both included."""
    return int(torch.randint(low, high + 1, (), generator=rng))


def coins(rng: torch.Generator, *shape: int, share: float = 0.5) -> Tensor:
    """Draw truth values, of which this share is True on average."""
    return torch.rand(shape, generator=rng) < share


def numbers(*values: float) -> Tensor:
    """Return a float64 tensor."""
    return torch.tensor(values, dtype=torch.float64)


def truths(*values: int) -> Tensor:
    """Return a bool tensor."""
    return torch.tensor(values, dtype=torch.bool)


def as_often_as(came: Tensor, probabilities: Tensor, says: str, inputs: dict[str, Any]) -> None:
    """Expect whole numbers to have come with these probabilities, by a χ² test.

    Args:
        came: whole numbers, of any shape.
        probabilities: (K,), above 0 each, of the numbers 0 to K − 1.
        says: what should hold.
        inputs: what led to them.
    """
    known = not came.is_floating_point() and bool(((came >= 0) & (came < len(probabilities))).all())
    holds(known, f"every number lies between 0 and {len(probabilities) - 1}", got=came, inputs=inputs)
    counts = torch.bincount(came.flatten(), minlength=len(probabilities)).double()
    expected = probabilities.double() / probabilities.sum() * counts.sum()
    statistic = ((counts - expected).square() / expected).sum()
    freedom = torch.tensor(len(probabilities) - 1, dtype=torch.float64)
    chance = torch.special.gammaincc(freedom / 2, statistic / 2)
    holds(chance > ALPHA, says, got=counts.long().tolist(), expected=expected.round().long().tolist(), inputs=inputs)


# ------------------------------------------------------------------------------ D1 epsilon_greedy


def greedy(learner: Any, q: Tensor) -> None:
    """Expect the best action of every row where nothing is left to chance."""
    inputs = {"q": q, "epsilon": 0.0, "seed": 0}
    (got,) = learner.run(probes.actions, **inputs)
    same(got, q.argmax(dim=1), where="the actions", inputs=inputs)


@pytest.mark.exercise("exploration")
def test_epsilon_zero(learner, rng):
    """With ε = 0 every row takes its best action."""
    greedy(learner, torch.tensor([[1.0, 3.0, 2.0], [5.0, 4.0, 6.0]]))
    greedy(learner, draw(rng, 50, 4))


@pytest.mark.exercise("exploration")
def test_epsilon_any_batch_and_dtype(learner, rng):
    """One row, no row, one action, a transposed q and other dtypes work alike."""
    for q in (draw(rng, 1, 3), draw(rng, 0, 3), draw(rng, 3, 5).mT):
        greedy(learner, q)
    for dtype in (torch.float32, torch.bfloat16):
        greedy(learner, draw(rng, 5, 3, dtype=dtype))
    inputs = {"q": draw(rng, 4, 1), "epsilon": 0.5, "seed": 0}
    same(learner.run(probes.actions, **inputs), [torch.zeros(4).long()], where="the actions", inputs=inputs)


@pytest.mark.exercise("exploration")
@pytest.mark.statistical
def test_epsilon_ties(learner, rng):
    """With ε = 0 the first of several equal best actions is taken."""
    q = torch.randint(2, (400, 4), generator=rng).double()
    q[:, 3] = 1  # so that every row has a best action of 1
    inputs = {"q": q, "epsilon": 0.0, "seed": whole(rng, 0, 2**31)}
    (got,) = learner.run(probes.actions, **inputs)
    same(got, q.argmax(dim=1), where="the actions", inputs=inputs)


def exploring(rng: torch.Generator, epsilon: float, rows: int) -> dict[str, Any]:
    """Return inputs of many rows in which action 1 of 4 is the best."""
    q = draw(rng, rows, 4)
    q[:, 1] += 20
    return {"q": q, "epsilon": epsilon, "seed": whole(rng, 0, 2**31)}


@pytest.mark.exercise("exploration")
@pytest.mark.points(2)
@pytest.mark.statistical
def test_epsilon_one(learner, rng):
    """With ε = 1 all actions are equally likely, the best one included."""
    inputs = exploring(rng, 1.0, 4000)
    (got,) = learner.run(probes.actions, **inputs)
    same(list(got.shape), [4000], where="the shape of the actions", inputs=inputs)
    as_often_as(got, torch.ones(4), "every action comes equally often", inputs)


@pytest.mark.exercise("exploration")
@pytest.mark.points(2)
@pytest.mark.statistical
def test_epsilon_between(learner, rng):
    """With ε = 0.3 and 4 actions, the best one comes with probability 0.775 and each other with 0.075."""
    inputs = exploring(rng, 0.3, MANY)
    (got,) = learner.run(probes.actions, **inputs)
    same(list(got.shape), [MANY], where="the shape of the actions", inputs=inputs)
    as_often_as(got, numbers(0.075, 0.775, 0.075, 0.075), "the actions come with these probabilities", inputs)


@pytest.mark.exercise("exploration")
@pytest.mark.statistical
def test_epsilon_rows_are_independent(learner, rng):
    """Neighbouring rows explore independently of each other: both leave the best action with probability 0.225²."""
    inputs = exploring(rng, 0.3, 4000)
    (got,) = learner.run(probes.actions, **inputs)
    same(list(got.shape), [4000], where="the shape of the actions", inputs=inputs)
    leaves = got.view(-1, 2) != 1
    share = torch.tensor([0.775, 0.225])
    pairs = 2 * leaves[:, 0] + leaves[:, 1]
    as_often_as(pairs, torch.outer(share, share).flatten(), "both rows of a pair decide for themselves", inputs)


@pytest.mark.exercise("exploration")
@pytest.mark.statistical
def test_epsilon_takes_its_generator(learner, rng):
    """The same generator gives the same actions, whatever PyTorch's global one holds, and later draws differ."""
    inputs = {"q": draw(rng, 400, 4), "epsilon": 0.5, "seed": whole(rng, 0, 2**31), "times": 2}
    first, again = (learner.run(probes.actions, **inputs) for _ in range(2))
    same(again, first, where="the actions under the same seed", inputs=inputs)
    holds(not torch.equal(first[0], first[1]), "a second draw from one generator differs from the first", inputs=inputs)


@pytest.mark.exercise("exploration")
@pytest.mark.statistical
def test_epsilon_stays_on_the_device(learner, rng):
    """Every tensor is made on q's device: nothing lands on another default device."""
    inputs = exploring(rng, 0.5, 400)
    got = learner.run(probes.actions_elsewhere, **inputs)
    holds(isinstance(got, Tensor), "the actions lie on q's device", got=got, inputs=inputs)
    same(got.unique(), torch.arange(4), where="which actions came", inputs=inputs)


def compare_epsilons(learner: Any, expected: dict[int, float], **settings: Any) -> None:
    """Ask for ε at each step, and compare."""
    got = {step: learner.linear_epsilon(step, **settings) for step in expected}
    for step, epsilon in expected.items():
        close(got[step], epsilon, where=f"ε of step {step}", inputs={"step": step, **settings})


@pytest.mark.exercise("exploration")
def test_linear_epsilon_defaults(learner, rng):
    """By default ε falls from 1 to 0.05 within 10 000 steps."""
    compare_epsilons(learner, {0: 1.0, 5_000: 0.525, 10_000: 0.05})


@pytest.mark.exercise("exploration")
def test_linear_epsilon_line(learner, rng):
    """With other numbers every step lies on the line."""
    steps = whole(rng, 5, 9)
    expected = {step: 0.9 - 0.7 * step / steps for step in range(steps + 1)}
    compare_epsilons(learner, expected, start=0.9, end=0.2, decay_steps=steps)


@pytest.mark.exercise("exploration")
def test_linear_epsilon_floor(learner, rng):
    """After `decay_steps` ε stays at `end`."""
    steps = whole(rng, 5, 9)
    expected = dict.fromkeys([steps, steps + 1, 2 * steps, 100 * steps], 0.2)
    compare_epsilons(learner, expected, start=0.9, end=0.2, decay_steps=steps)


# -------------------------------------------------------------------------------- D2 ReplayBuffer


def environments(
    rng: torch.Generator, rows: int, obs_shape: tuple[int, ...] = (2,), ends: float = 0.0
) -> dict[str, Any]:
    """Draw one step of so many environments, of which a share is terminated, and as many are truncated."""
    return {
        "obs": draw(rng, rows, *obs_shape, dtype=torch.float32),
        "action": torch.randint(1, 9, (rows,), generator=rng),
        "reward": draw(rng, rows, dtype=torch.float32) + 10,
        "next_obs": draw(rng, rows, *obs_shape, dtype=torch.float32),
        "terminated": coins(rng, rows, share=ends),
        "truncated": coins(rng, rows, share=ends),
    }


def ring(capacity: int, steps: list[dict[str, Tensor]]) -> dict[str, Any]:
    """Return what a buffer should say of these steps: a list that is written one transition at a time."""
    rows: list[dict[str, Tensor]] = [{} for _ in range(capacity)]
    slots, lengths, added = [], [], 0
    for step in steps:
        mine = []
        for row in range(len(step["action"])):
            kept = {name: value[row] for name, value in step.items() if name != "final_obs"}
            if "final_obs" in step and (kept["terminated"] or kept["truncated"]):
                kept["next_obs"] = step["final_obs"][row]
            mine.append(added % capacity)
            rows[added % capacity] = kept
            added += 1
        slots.append(torch.tensor(mine, dtype=torch.int64))
        lengths.append(min(added, capacity))
    kept = {name: torch.stack([row[name] for row in rows if row]) for name in rows[0]}
    return {"slots": slots, "lengths": lengths, "kept": kept}


def compare_buffers(learner: Any, capacity: int, steps: list[dict[str, Tensor]], **settings: Any) -> Any:
    """Compare slots, lengths and content after some steps; return what came."""
    obs_shape = tuple(steps[0]["obs"].shape[1:])
    got = learner.run(probes.stored, capacity=capacity, obs_shape=obs_shape, steps=steps, **settings)
    shown = {"capacity": capacity, "obs_shape": obs_shape, "rows of the steps": [len(one["action"]) for one in steps]}
    expected = ring(capacity, steps)
    same(got["slots"], expected["slots"], where="the slots that `add` returned", inputs=shown)
    same(got["lengths"], expected["lengths"], where="the length after each step", inputs=shown)
    for name, value in expected["kept"].items():
        same(got["kept"][name], value, where=f"`{name}` of all slots", inputs={**shown, **_small(steps)})
    return got


def _small(steps: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return what one short step was given, to be shown; nothing where there are several."""
    return steps[0] if len(steps) == 1 else {}


@pytest.mark.exercise("replay")
def test_buffer_keeps_one_step(learner, rng):
    """What was added comes back, each part under its name and in its dtype."""
    compare_buffers(learner, 4, [environments(rng, 1, ())])
    compare_buffers(learner, 4, [environments(rng, 3)])


@pytest.mark.exercise("replay")
@pytest.mark.points(2)
def test_buffer_wraps_around(learner, rng):
    """A full buffer overwrites its oldest transitions, also where a step meets the end of the ring."""
    compare_buffers(learner, 3, [environments(rng, 1, ()) for _ in range(5)])
    compare_buffers(learner, 5, [environments(rng, 3) for _ in range(4)])
    compare_buffers(learner, 3, [environments(rng, 3, ()) for _ in range(3)])


@pytest.mark.exercise("replay")
def test_buffer_any_shape(learner, rng):
    """Observations of any shape, a ring of one slot and a step without rows work alike."""
    for obs_shape in ((), (1,), (2, 3), (1, 2, 2)):
        compare_buffers(learner, 4, [environments(rng, 3, obs_shape) for _ in range(2)])
    compare_buffers(learner, 1, [environments(rng, 1) for _ in range(2)])
    compare_buffers(learner, 4, [environments(rng, 2), environments(rng, 0), environments(rng, 1)])


@pytest.mark.exercise("replay")
def test_buffer_dtypes(learner, rng):
    """Pixels stay uint8; float64 rewards become float32, and whole numbers of any dtype become int64 actions."""
    step = environments(rng, 3)
    pixels = {name: torch.randint(256, (3, 2, 2), generator=rng).to(torch.uint8) for name in ("obs", "next_obs")}
    given = {**step, **pixels, "action": step["action"].int(), "reward": step["reward"].double()}
    got = learner.run(probes.stored, capacity=4, obs_shape=(2, 2), steps=[given], dtype=torch.uint8)
    same(got["kept"], {**step, **pixels}, where="what is kept", inputs=given)


@pytest.mark.exercise("replay")
def test_buffer_copies(learner, rng):
    """A caller that overwrites its own tensors does not change what is stored."""
    steps = [environments(rng, 2) for _ in range(3)]
    inputs = {"capacity": 8, "obs_shape": (2,), "steps": steps}
    got = learner.run(probes.stored_from_reused_memory, **inputs)
    shown = {"capacity": 8, "steps": 3, "and then": "all the caller's tensors were overwritten"}
    same(got, ring(8, steps)["kept"], where="what is kept", inputs=shown)


@pytest.mark.exercise("replay")
@pytest.mark.points(2)
def test_buffer_final_observation(learner, rng):
    """Where an episode ended, the observation that the step led to stands in final_obs; next_obs stays the caller's."""
    for obs_shape in ((), (2,), (2, 3)):
        step = environments(rng, 4, obs_shape)
        step["terminated"], step["truncated"] = truths(1, 0, 0, 1), truths(0, 1, 0, 1)
        step["final_obs"] = draw(rng, 4, *obs_shape, dtype=torch.float32)
        step["final_obs"][2] = 99.0  # row 2 goes on: it may hold anything there
        got = compare_buffers(learner, 6, [step])
        same(got["given"], [step], where="the caller's tensors afterwards", inputs=step)


@pytest.mark.exercise("replay")
@pytest.mark.points(2)
def test_buffer_keeps_both_flags(learner, rng):
    """`terminated` and `truncated` are kept apart, in all four combinations."""
    step = environments(rng, 4, ())
    step["terminated"], step["truncated"] = truths(0, 0, 1, 1), truths(0, 1, 0, 1)
    compare_buffers(learner, 5, [step])


def compare_samples(learner: Any, rng: torch.Generator, capacity: int, rows: list[int], batch_size: int) -> Any:
    """Draw one batch, and expect each of its rows to be one stored transition; return where each was found."""
    steps = [environments(rng, count, ends=0.3) for count in rows]
    inputs = {"capacity": capacity, "obs_shape": (2,), "steps": steps, "batch_size": batch_size}
    seed = whole(rng, 0, 2**31)
    (got,) = learner.run(probes.sampled, **inputs, seed=seed)
    shown = {"capacity": capacity, "rows of the steps": rows, "batch_size": batch_size, "seed": seed}
    kept = ring(capacity, steps)["kept"]
    known = isinstance(got, dict) and isinstance(got.get("reward"), Tensor) and got["reward"].shape == (batch_size,)
    holds(known, f"`reward` of a sample has the shape ({batch_size},)", got=got, inputs=shown)
    places = got["reward"][:, None] == kept["reward"]  # rewards are all different
    says = "every reward of a sample is one that is stored"
    holds(bool(places.any(dim=1).all()), says, got=got["reward"], expected=kept["reward"], inputs=shown)
    where = places.int().argmax(dim=1)
    expected = {name: value[where] for name, value in kept.items()}
    same(got, expected, where="the sample", inputs=shown)
    return where, shown


@pytest.mark.exercise("replay")
@pytest.mark.points(2)
@pytest.mark.statistical
def test_sample_only_what_is_stored(learner, rng):
    """While the buffer is filling up, only stored transitions are drawn, and all parts of one belong together."""
    places, shown = compare_samples(learner, rng, 50, [2, 3], 400)
    as_often_as(places, torch.ones(5), "each of the 5 stored transitions comes equally often", shown)


@pytest.mark.exercise("replay")
@pytest.mark.points(2)
@pytest.mark.statistical
def test_sample_is_uniform(learner, rng):
    """From a full buffer every transition is drawn equally often, the newest too, and no draw minds another."""
    places, shown = compare_samples(learner, rng, 10, [4, 4, 4], MANY)
    as_often_as(places, torch.ones(10), "each of the 10 stored transitions comes equally often", shown)
    pairs = 10 * places[::2] + places[1::2]
    as_often_as(pairs, torch.ones(100), "each draw is independent of the one before", shown)


@pytest.mark.exercise("replay")
@pytest.mark.statistical
def test_sample_takes_its_generator(learner, rng):
    """The same generator gives the same sample, whatever PyTorch's global one holds, and later draws differ."""
    inputs = {"capacity": 100, "obs_shape": (2,), "steps": [environments(rng, 100)], "batch_size": 400, "times": 2}
    inputs["seed"] = whole(rng, 0, 2**31)
    first, again = (learner.run(probes.sampled, **inputs) for _ in range(2))
    shown = {"capacity": 100, "batch_size": 400, "seed": inputs["seed"]}
    same(again, first, where="the samples under the same seed", inputs=shown)
    differ = not torch.equal(first[0]["reward"], first[1]["reward"])
    holds(differ, "a second draw from one generator differs from the first", inputs=shown)


@pytest.mark.exercise("replay")
def test_sample_stays_as_it_is(learner, rng):
    """A batch that was drawn does not change when its slots are overwritten."""
    first, later = environments(rng, 1), environments(rng, 1)
    inputs = {"capacity": 1, "obs_shape": (2,), "steps": [first], "batch_size": 2, "seed": 0, "later": later}
    (got,) = learner.run(probes.sampled, **inputs)
    expected = {name: torch.cat([value, value]) for name, value in first.items()}
    same(got, expected, where="the sample, after its slot was overwritten", inputs={"capacity": 1, "batch_size": 2})


@pytest.mark.exercise("replay")
def test_sample_of_nothing(learner, rng):
    """An empty buffer refuses to be sampled with a ValueError; one with a single transition does not."""
    step = environments(rng, 1)
    inputs = {"capacity": 3, "obs_shape": (2,), "batch_size": 1, "seed": 0}
    same(learner.run(probes.sampled, steps=[step], **inputs), [step], where="the sample", inputs=step)
    empty = partial(learner.run, probes.sampled, steps=[], **inputs)
    raises(empty, ValueError, where="a sample from an empty buffer")


@pytest.mark.exercise("replay")
def test_buffer_stays_on_its_device(learner, rng):
    """Every tensor is made on the buffer's device: nothing lands on another default device."""
    step = environments(rng, 1)
    got = learner.run(probes.stored_elsewhere, capacity=3, obs_shape=(2,), step=step, seed=0)
    shown = {"capacity": 3, "device": "cpu", "default device": "another"}
    same(got["slots"], torch.zeros(1).long(), where="the slots", inputs=shown)
    same(got["kept"], step, where="what is kept", inputs=shown)
    expected = {name: torch.cat([value] * 3) for name, value in step.items()}
    same(got["sample"], expected, where="the sample", inputs=shown)


# ----------------------------------------------------------------------- D3 td_target, batch_target


def targets(
    reward: Tensor,
    terminated: Tensor,
    q_next_target: Tensor,
    gamma: float | Tensor,
    q_next_online: Tensor | None = None,
) -> Tensor:
    """Return the targets, one row at a time."""
    result = torch.empty_like(reward)
    discounts = gamma if isinstance(gamma, Tensor) else [gamma] * len(reward)
    for row in range(len(reward)):
        chooser = (q_next_target if q_next_online is None else q_next_online)[row].tolist()
        value = q_next_target[row, chooser.index(max(chooser))]
        result[row] = reward[row] if terminated[row] else reward[row] + discounts[row] * value
    return result


def compare_targets(learner: Any, *args: Any, rtol: float | None = EXACT) -> None:
    """Compare the targets with those of the loop."""
    names = ("reward", "terminated", "q_next_target", "gamma", "q_next_online")
    inputs: dict[str, Any] = dict(zip(names, args, strict=False))
    scale = (args[0], args[2])
    close(learner.td_target(*args), targets(*args), where="the targets", inputs=inputs, rtol=rtol, scale=scale)


@pytest.mark.exercise("target")
def test_target_without_an_end(learner, rng):
    """While the episode goes on, the target is the reward plus γ times the best next value."""
    compare_targets(learner, numbers(1), truths(0), torch.tensor([[2.0, 5.0, 3.0]]).double(), 0.5)
    compare_targets(learner, draw(rng, 3), truths(0, 0, 0), draw(rng, 3, 4) - 5, 0.9)


@pytest.mark.exercise("target")
@pytest.mark.points(2)
def test_target_at_the_end(learner, rng):
    """A terminated step is worth its reward alone."""
    compare_targets(learner, draw(rng, 3), truths(1, 0, 1), draw(rng, 3, 4), 0.9)


@pytest.mark.exercise("target")
@pytest.mark.points(2)
def test_target_double(learner, rng):
    """With q_next_online the online network chooses the action, and the target network says what it is worth."""
    first, second = torch.tensor([[2.0, 5.0, 3.0]]).double(), torch.tensor([[9.0, 7.0, 8.0]]).double()
    compare_targets(learner, numbers(1), truths(0), first, 0.5, second)
    compare_targets(learner, draw(rng, 4), truths(0, 1, 0, 0), draw(rng, 4, 5), 0.9, draw(rng, 4, 5))


@pytest.mark.exercise("target")
def test_target_kinds_of_flags(learner, rng):
    """`terminated` may be bool, whole numbers or floating."""
    reward, q = draw(rng, 3), draw(rng, 3, 2)
    for dtype in (torch.bool, torch.uint8, torch.int64, torch.float32, torch.float64):
        compare_targets(learner, reward, truths(0, 1, 0).to(dtype), q, 0.9, q.flip(1))


@pytest.mark.exercise("target")
def test_target_discount_of_each_row(learner, rng):
    """Gamma may be a tensor with one discount for each row."""
    compare_targets(learner, draw(rng, 3), truths(0, 1, 0), draw(rng, 3, 2), numbers(0.9, 0.81, 0.5))


@pytest.mark.exercise("target")
def test_target_any_batch_and_dtype(learner, rng):
    """One row, no row, one action, transposed values and float32 work alike."""
    for rows, actions in ((1, 3), (0, 3), (3, 1), (2, 2)):
        args = (draw(rng, rows), coins(rng, rows), draw(rng, actions, rows).mT, 0.9)
        compare_targets(learner, *args)
        compare_targets(learner, *args, draw(rng, actions, rows).mT)
    q = draw(rng, 5, 3, dtype=torch.float32)
    compare_targets(learner, draw(rng, 5, dtype=torch.float32), coins(rng, 5), q, 0.9, q.flip(1), rtol=None)
    terminated = coins(rng, 5).double()  # a dtype of its own, which the result must not take over
    compare_targets(learner, draw(rng, 5, dtype=torch.float32), terminated, q, 0.9, rtol=None)


@pytest.mark.exercise("target")
def test_target_is_a_constant(learner, rng):
    """No gradient flows through the targets."""
    for online in (None, draw(rng, 3, 2)):
        inputs = {"reward": draw(rng, 3), "terminated": truths(0, 1, 0), "q_next_target": draw(rng, 3, 2), "gamma": 0.9}
        got = learner.run(probes.target_with_gradients, **inputs, q_next_online=online)
        close(got["y"], targets(**inputs, q_next_online=online), where="the targets", inputs=inputs, rtol=EXACT)
        same(got["carries_gradient"], False, where="whether the targets carry a gradient", inputs=inputs)


def replayed(rng: torch.Generator, rows: int) -> dict[str, Tensor]:
    """Draw a batch as a replay gives it, of which nothing has ended yet."""
    return {
        **environments(rng, rows),
        **{name: draw(rng, rows, 2) for name in ("obs", "next_obs")},
        "reward": draw(rng, rows),
    }


def compare_batch_targets(learner: Any, rng: torch.Generator, batch: dict[str, Tensor], **settings: bool) -> Any:
    """Compare the targets of a batch with those of the loop; return what came and what was shown."""
    online, target, gamma = draw(rng, 2, 3), draw(rng, 2, 3), 0.9
    inputs = {"batch": batch, "online": online, "target": target, "gamma": gamma, **settings}
    got = learner.run(probes.targets_of_batch, **inputs)
    chooser = batch["next_obs"] @ online if settings.get("double", True) else None
    expected = targets(batch["reward"], batch["terminated"], batch["next_obs"] @ target, gamma, chooser)
    shown = {name: value for name, value in batch.items() if name not in ("obs", "action")}
    shown |= {"weight of online": online, "weight of target": target, "gamma": gamma, **settings}
    close(got["y"], expected, where="the targets", inputs=shown, rtol=EXACT, scale=(expected, batch["reward"], 1.0))
    return got, shown


@pytest.mark.exercise("target")
@pytest.mark.points(2)
def test_batch_target_networks(learner, rng):
    """Both networks look at the next observation: by default online chooses the action and target values it."""
    compare_batch_targets(learner, rng, replayed(rng, 8))


@pytest.mark.exercise("target")
def test_batch_target_plain(learner, rng):
    """With double=False the target network chooses the action too."""
    compare_batch_targets(learner, rng, replayed(rng, 8), double=False)
    compare_batch_targets(learner, rng, replayed(rng, 8), double=True)


@pytest.mark.exercise("target")
@pytest.mark.points(2)
def test_batch_target_truncated(learner, rng):
    """A truncated step bootstraps, a terminated one does not, and one that is both counts as terminated."""
    batch = {**replayed(rng, 4), "terminated": truths(0, 1, 0, 1), "truncated": truths(1, 0, 0, 1)}
    compare_batch_targets(learner, rng, batch)


@pytest.mark.exercise("target")
def test_batch_target_builds_no_graph(learner, rng):
    """The networks run with gradients switched off."""
    got, shown = compare_batch_targets(learner, rng, replayed(rng, 2))
    same(got["built_graph"], False, where="whether a network ran with gradients enabled", inputs=shown)


# ------------------------------------------------------------------------------------- D4 dqn_loss


def huber(q: Tensor, action: Tensor, target: Tensor, huber_delta: float = 1.0, weights: Tensor | None = None) -> Tensor:
    """Return the loss by torch.nn.functional.huber_loss."""
    taken = q[torch.arange(len(q)), action]
    factors = torch.ones_like(target) if weights is None else weights
    return torch.dot(factors, F.huber_loss(taken, target, reduction="none", delta=huber_delta)) / len(target)


def compare_losses(learner: Any, *args: Any, rtol: float | None = EXACT) -> None:
    """Compare the loss and its gradients with those of torch.nn.functional.huber_loss."""
    inputs: dict[str, Any] = dict(zip(("q", "action", "target", "huber_delta", "weights"), args, strict=False))
    q = args[0].detach().requires_grad_()
    expected = huber(q, *args[1:])
    (gradient,) = torch.autograd.grad(expected, q)
    loss, (mine, _) = learner.gradients("dqn_loss", *args, wrt=(0, 2))
    close(loss, expected.detach(), where="the loss", inputs=inputs, rtol=rtol)
    close(mine, gradient, where="the gradient with respect to q", inputs=inputs, rtol=rtol)


def valued(rng: torch.Generator, rows: int, actions: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Draw values, actions and targets, with errors of about 1.4."""
    return draw(rng, rows, actions), torch.randint(actions, (rows,), generator=rng), draw(rng, rows)


@pytest.mark.exercise("loss")
def test_loss_small_errors(learner, rng):
    """Below δ = 1 it is half the squared error of the taken action."""
    q, action, target = torch.tensor([[1.0, 4.0]]).double(), torch.tensor([1]), numbers(3.5)
    compare_losses(learner, q, action, target)
    q, action, _ = valued(rng, 4)
    compare_losses(learner, q, action, huber_target(q, action, 0.5 * coins(rng, 4).double() + 0.25))


@pytest.mark.exercise("loss")
def test_loss_large_errors(learner, rng):
    """Beyond δ = 1 it grows by the same amount for every unit of the error, in both directions."""
    q, action, _ = valued(rng, 4)
    compare_losses(learner, q, action, huber_target(q, action, numbers(3.0, -5.0, 100.0, -1.5)))


def huber_target(q: Tensor, action: Tensor, error: Tensor) -> Tensor:
    """Return the targets that leave these errors."""
    return q.gather(1, action[:, None])[:, 0] - error


@pytest.mark.exercise("loss")
@pytest.mark.points(2)
def test_loss_delta(learner, rng):
    """Delta decides where the parabola becomes a line, and how steep that is."""
    for delta in (2.0, 0.5, 5.0):
        q, action, _ = valued(rng, 6)
        error = delta * numbers(0.3, -0.9, 1.2, -3.0, 10.0, 1.0)
        compare_losses(learner, q, action, huber_target(q, action, error), delta)


@pytest.mark.exercise("loss")
@pytest.mark.points(2)
def test_loss_weights(learner, rng):
    """Each row's weight scales its loss; the mean is still over the rows, whatever the weights sum to."""
    q, action, target = valued(rng, 5)
    compare_losses(learner, q, action, 3 * target, 1.0, numbers(1.0, 0.5, 0.1, 0.0, 0.7))
    compare_losses(learner, q, action, 3 * target, 2.0, numbers(0.2, 0.2, 0.2, 0.2, 0.2))


@pytest.mark.exercise("loss")
@pytest.mark.points(2)
def test_loss_target_is_a_constant(learner, rng):
    """The target gets no gradient, even if it arrives with a graph behind it."""
    q, action, target = valued(rng, 4)
    inputs = {"q": q, "action": action, "target": target}
    loss, (_, gradient) = learner.gradients("dqn_loss", q, action, target, wrt=(0, 2))
    close(loss, huber(q, action, target), where="the loss", inputs=inputs, rtol=EXACT)
    none = gradient is None or (isinstance(gradient, Tensor) and not bool(gradient.any()))
    holds(none, "no gradient reaches the target", got=gradient, inputs=inputs)


@pytest.mark.exercise("loss")
def test_loss_any_batch_and_dtype(learner, rng):
    """One row, one action, transposed values and float32 work alike, and the loss has the shape ()."""
    for rows, actions in ((1, 3), (3, 1), (1, 1), (7, 4)):
        q, action, target = valued(rng, rows, actions)
        compare_losses(learner, q.mT.contiguous().mT, action, target, 1.5, draw(rng, rows).abs())
    q, action, target = valued(rng, 6)
    compare_losses(learner, q.float(), action, target.float(), 1.5, rtol=None)


# ----------------------------------------------------------------------------------------- D5 sync


def network(rng: torch.Generator, dtype: torch.dtype = torch.float64) -> dict[str, list[Tensor]]:
    """Draw the parameters and buffers of a small network."""
    shapes = [(3, 2), (3,), (3,), (3,)]
    return {
        "parameters": [draw(rng, *shape, dtype=dtype) for shape in shapes],
        "buffers": [draw(rng, 3, dtype=dtype), draw(rng, 3, dtype=dtype), torch.tensor(whole(rng, 1, 99))],
    }


def compare_sync(
    learner: Any, rng: torch.Generator, taus: list[float], rtol: float | None = EXACT, **kinds: Any
) -> Any:
    """Compare the target's parameters and buffers after each call; return what came and what should have."""
    target, online = network(rng, **kinds), network(rng, **kinds)
    got = learner.run(probes.synced, target=target, online=online, taus=taus, later=7.0)
    shown = {
        "tau of each call": taus,
        "bias of the target": target["parameters"][1],
        "of online": online["parameters"][1],
    }
    parameters = target["parameters"]
    for number, tau in enumerate(taus):
        pairs = zip(parameters, online["parameters"], strict=True)
        parameters = [tau * fast + (1 - tau) * slow for slow, fast in pairs]
        mine = got["parameters"][number]
        close(mine, parameters, where=f"parameters after call {number + 1}", inputs=shown, rtol=rtol, scale=1.0)
        where = f"buffers after call {number + 1}"
        same(got["buffers"][number], online["buffers"], where=where, inputs=shown)
    expected = {"target": [*parameters, *online["buffers"]], "online": [*online["parameters"], *online["buffers"]]}
    return got, expected, shown


@pytest.mark.exercise("sync")
def test_sync_copies(learner, rng):
    """With τ = 1 the target becomes an exact copy."""
    got, expected, shown = compare_sync(learner, rng, [1.0])
    same(got["afterwards"], expected["online"], where="the target", inputs=shown)


@pytest.mark.exercise("sync")
def test_sync_stays(learner, rng):
    """With τ = 0 the parameters stay, and only the buffers are copied."""
    compare_sync(learner, rng, [0.0])


@pytest.mark.exercise("sync")
@pytest.mark.points(2)
def test_sync_moves(learner, rng):
    """With τ between 0 and 1 the parameters go that share of the way, again in every call."""
    compare_sync(learner, rng, [0.25, 0.005, 0.25])


@pytest.mark.exercise("sync")
def test_sync_leaves_online(learner, rng):
    """The online network does not change."""
    got, expected, shown = compare_sync(learner, rng, [0.25, 1.0])
    same(got["online"], expected["online"], where="the online network", inputs=shown)


@pytest.mark.exercise("sync")
@pytest.mark.points(2)
def test_sync_shares_no_memory(learner, rng):
    """What happens to the online network later does not reach the target."""
    for tau in (1.0, 0.5):
        got, expected, shown = compare_sync(learner, rng, [tau])
        where = "the target, after the online network was overwritten"
        close(got["afterwards"], expected["target"], where=where, inputs=shown, rtol=EXACT, scale=1.0)


@pytest.mark.exercise("sync")
def test_sync_in_place(learner, rng):
    """The target's tensors change in their own memory, and its parameters hang on no graph."""
    for tau in (1.0, 0.5):
        got, expected, shown = compare_sync(learner, rng, [tau])
        close(got["memory"], expected["target"], where="the former tensors", inputs=shown, rtol=EXACT, scale=1.0)
        same(got["leaves"], [True] * 4, where="whether each parameter is a leaf", inputs=shown)


@pytest.mark.exercise("sync")
def test_sync_any_dtype(learner, rng):
    """float32 networks stay float32."""
    compare_sync(learner, rng, [0.25, 1.0], rtol=None, dtype=torch.float32)


# ------------------------------------------------------------------------------- D6 n_step_returns


def returns(reward: Tensor, terminated: Tensor, truncated: Tensor, next_value: Tensor, gamma: float, n: int) -> Tensor:
    """Return the n-step returns of one environment (T,), with two loops."""
    result = torch.zeros_like(next_value)
    for t in range(len(reward)):
        for k in range(n):
            i = t + k
            result[t] += gamma**k * float(reward[i])
            if k == n - 1 or terminated[i] or truncated[i] or i == len(reward) - 1:
                result[t] += 0 if terminated[i] else gamma ** (k + 1) * next_value[i]
                break
    return result


def compare_returns(learner: Any, *args: Any, rtol: float | None = EXACT) -> None:
    """Compare the returns with those of the loops, for each environment alone."""
    inputs: dict[str, Any] = dict(
        zip(("reward", "terminated", "truncated", "next_value", "gamma", "n"), args, strict=True)
    )
    reward, _, _, next_value, gamma, n = args
    if reward.dim() == 1:
        expected = returns(*args)
    else:
        columns = zip(*(one.unbind(1) for one in args[:4]), strict=True)
        alone = [returns(*column, gamma, n) for column in columns]  # pyright: ignore[reportCallIssue]
        expected = torch.stack(alone, dim=1) if alone else torch.empty_like(next_value)
    got = learner.n_step_returns(*args)
    close(got, expected, where="the returns", inputs=inputs, rtol=rtol, scale=(reward, next_value))


def series(rng: torch.Generator, *shape: int, ends: float = 0.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw rewards, both flags and next values; so large a share of the steps ends an episode in each way."""
    return draw(rng, *shape), coins(rng, *shape, share=ends), coins(rng, *shape, share=ends), draw(rng, *shape) + 5


@pytest.mark.exercise("n_step")
def test_returns_by_hand(learner, rng):
    """Three rewards 1, 2 and 4 with γ = ½ and n = 2, in one episode that goes on."""
    never = truths(0, 0, 0)
    inputs = {"reward": numbers(1, 2, 4), "next_value": numbers(8, 16, 32), "gamma": 0.5, "n": 2}
    got = learner.n_step_returns(inputs["reward"], never, never, inputs["next_value"], 0.5, 2)
    close(got, numbers(6, 12, 20), where="the returns", inputs=inputs, rtol=EXACT)


@pytest.mark.exercise("n_step")
@pytest.mark.points(2)
def test_returns_of_one_episode(learner, rng):
    """Inside one episode each return has n rewards and a bootstrap with γ to the power n, for n = 1 to 4."""
    data = series(rng, 7)
    for n in (1, 2, 3, 4):
        compare_returns(learner, *data, 0.9, n)


@pytest.mark.exercise("n_step")
def test_returns_at_the_end_of_the_data(learner, rng):
    """After the last step the sum stops and bootstraps there, also where n is longer than the data."""
    for steps, n in ((1, 1), (1, 3), (3, 3), (3, 5), (4, 50)):
        compare_returns(learner, *series(rng, steps), 0.9, n)


@pytest.mark.exercise("n_step")
@pytest.mark.points(2)
def test_returns_terminated(learner, rng):
    """At a terminated step the sum stops, nothing follows, and the next episode stays out."""
    reward, _, _, value = series(rng, 7)
    value[2] = 1e3  # means nothing
    compare_returns(learner, reward, truths(0, 0, 1, 0, 0, 0, 1), truths(0, 0, 0, 0, 0, 0, 0), value, 0.9, 3)
    compare_returns(learner, reward, truths(0, 0, 1, 1, 0, 0, 0), truths(0, 0, 0, 0, 0, 0, 0), value, 0.9, 2)


@pytest.mark.exercise("n_step")
@pytest.mark.points(2)
def test_returns_truncated(learner, rng):
    """At a truncated step the sum stops and bootstraps, with the power of γ that fits the rewards in it."""
    reward, _, _, value = series(rng, 7)
    compare_returns(learner, reward, truths(0, 0, 0, 0, 0, 0, 0), truths(0, 0, 1, 0, 1, 0, 0), value, 0.9, 4)


@pytest.mark.exercise("n_step")
def test_returns_both_flags(learner, rng):
    """A step that is terminated and truncated counts as terminated."""
    reward, _, _, value = series(rng, 5)
    compare_returns(learner, reward, truths(0, 0, 1, 0, 0), truths(0, 0, 1, 0, 1), value, 0.9, 3)


@pytest.mark.exercise("n_step")
@pytest.mark.points(2)
def test_returns_of_many_environments(learner, rng):
    """Environments side by side, (T, B), each with ends of its own, do not mix."""
    for steps, rows in ((6, 1), (6, 3), (30, 4), (5, 0)):
        compare_returns(learner, *series(rng, steps, rows, ends=0.15), 0.9, 3)
    compare_returns(learner, *(one.mT for one in series(rng, 3, 6, ends=0.15)), 0.9, 4)  # not contiguous


@pytest.mark.exercise("n_step")
def test_returns_kinds_of_rewards(learner, rng):
    """Whole rewards do not cut the discounts off, and the returns have next_value's dtype."""
    reward, terminated, truncated, value = series(rng, 8, ends=0.15)
    # 1e-6: PyTorch multiplies whole numbers by a float in float32.
    compare_returns(learner, torch.randint(-3, 4, (8,), generator=rng), terminated, truncated, value, 0.9, 3, rtol=1e-6)
    compare_returns(learner, reward.float(), terminated, truncated, value.float(), 0.9, 3, rtol=None)
    compare_returns(learner, reward, terminated, truncated, value.float(), 0.9, 3, rtol=None)


# --------------------------------------------------------------------------------------- D7 SumTree


def sums(capacity: int, held: Tensor) -> Tensor:
    """Return all nodes of a tree whose slots hold these numbers."""
    size = 1
    while size < capacity:
        size *= 2
    nodes = [0.0] * size + held.tolist() + [0.0] * (size - len(held))
    for k in range(size - 1, 0, -1):
        nodes[k] = nodes[2 * k] + nodes[2 * k + 1]
    return torch.tensor(nodes, dtype=torch.float64)


def compare_trees(learner: Any, capacity: int, updates: list[tuple[Tensor, Tensor]]) -> None:
    """Compare size and nodes after each update."""
    got = learner.run(probes.tree_after, capacity=capacity, updates=updates)
    held = torch.zeros(capacity, dtype=torch.float64)
    shown = {"capacity": capacity, "updates": updates}
    for number, (slots, values) in enumerate(updates):
        held[slots] = values.double()
        nodes = sums(capacity, held)
        same(got["size"], len(nodes) // 2, where="size", inputs=shown)
        close(got["nodes"][number], nodes, where=f"nodes after update {number + 1}", inputs=shown, rtol=EXACT)


@pytest.mark.exercise("prioritized")
def test_tree_one_slot(learner, rng):
    """A change of one slot reaches every node above it."""
    first, second = (torch.tensor([2]), numbers(3)), (torch.tensor([0]), numbers(1))
    compare_trees(learner, 4, [first, second])


@pytest.mark.exercise("prioritized")
@pytest.mark.points(2)
def test_tree_many_slots(learner, rng):
    """Several slots at once, later set again, leave every node the sum of its children."""
    updates = [(torch.randperm(13, generator=rng)[:rows], draw(rng, rows).abs()) for rows in (13, 5, 1, 0, 8)]
    compare_trees(learner, 13, updates)
    compare_trees(learner, 4, [(torch.tensor([1]), numbers(5)), (torch.tensor([1]), numbers(0))])


@pytest.mark.exercise("prioritized")
def test_tree_any_capacity(learner, rng):
    """The capacity need not be a power of two, values may be float32, and one slot is enough."""
    for capacity in (1, 2, 3, 5, 8, 9):
        values = draw(rng, capacity, dtype=torch.float32).abs()
        compare_trees(learner, capacity, [(torch.arange(capacity), values)])


@pytest.mark.exercise("prioritized")
def test_tree_repeated_slots(learner, rng):
    """A slot that comes several times in one update counts once."""
    updates = [(torch.tensor([2, 0, 2, 2]), numbers(3, 1, 3, 3)), (torch.tensor([0, 0]), numbers(4, 4))]
    compare_trees(learner, 4, updates)


@pytest.mark.exercise("prioritized")
def test_tree_finds_by_hand(learner, rng):
    """Slots that hold 1, 2, 0 and 4: each slot's masses begin where the one before ends, and empty ones have none."""
    held, masses = numbers(1, 2, 0, 4), numbers(0, 0.5, 1, 2.5, 3, 6.9)
    inputs = {"capacity": 4, "updates": [(torch.arange(4), held)], "masses": masses}
    got = learner.run(probes.tree_after, **inputs)
    shown = {"the slots hold": held, "mass": masses}
    same(got["found"], torch.tensor([0, 0, 1, 1, 3, 3]), where="the slots found", inputs=shown)
    same(got["masses"], masses, where="the masses afterwards", inputs=shown)


@pytest.mark.exercise("prioritized")
@pytest.mark.points(2)
def test_tree_finds_like_a_sorted_search(learner, rng):
    """In a tree with many slots, some of them empty, every mass falls where the cumulative sum says."""
    capacity = whole(rng, 20, 40)
    held = torch.randint(0, 5, (capacity,), generator=rng).double()
    held[0] = 0  # so that the mass 0 has something to pass over
    held[1] = 1
    masses = torch.arange(0, 2 * int(held.sum())).double() / 2
    inputs = {"capacity": capacity, "updates": [(torch.arange(capacity), held)], "masses": masses}
    expected = torch.searchsorted(held.cumsum(0), masses, right=True)
    shown = {"the slots hold": held, "mass": masses}
    same(learner.run(probes.tree_after, **inputs)["found"], expected, where="the slots found", inputs=shown)


@pytest.mark.exercise("prioritized")
def test_tree_finds_no_empty_slot(learner, rng):
    """A mass of the total or more, as rounding may bring it about, falls in the last slot above zero."""
    for held in (numbers(1, 2, 0), numbers(0, 3, 0), numbers(1, 2, 4), numbers(2, 0, 0, 0, 0)):
        masses = held.sum() + numbers(0, 1)
        inputs = {"capacity": len(held), "updates": [(torch.arange(len(held)), held)], "masses": masses}
        last = int(held.nonzero().max())
        shown = {"the slots hold": held, "mass": masses}
        same(
            learner.run(probes.tree_after, **inputs)["found"], torch.tensor([last] * 2), where="the slots", inputs=shown
        )


@pytest.mark.exercise("prioritized")
@pytest.mark.points(2)
def test_tree_works_in_logarithmic_time(learner, rng):
    """Of 1024 slots' 2047 nodes, `update` changes the 11 above its slot, and `find` reads 20: wrong others stay."""
    capacity, slot = 1024, whole(rng, 0, 1023)
    held = draw(rng, capacity).abs() + 0.1
    right = sums(capacity, held)
    # What neither on the way down to the slot nor beside it stands is broken: who reads it, errs; who mends it, shows.
    way = torch.tensor([(capacity + slot) >> level for level in range(11)])
    used = torch.cat([way, way[:-1] ^ 1])
    broken = torch.full_like(right, -math.inf)
    broken[used] = right[used]
    mass = (held[:slot].sum() + 0.5 * held[slot]).reshape(1)
    inputs = {"capacity": capacity, "nodes": broken, "slots": torch.tensor([slot]), "values": held[slot : slot + 1] + 1}
    got = learner.run(probes.tree_with_nodes, **inputs, masses=mass)
    expected = broken.clone()
    expected[way] += 1
    shown = {"capacity": capacity, "slot": slot, "all nodes that are not needed": -math.inf}
    same(got["found"], torch.tensor([slot]), where="the slot found", inputs={**shown, "mass": mass})
    finite = isinstance(got["nodes"], Tensor) and got["nodes"].shape == expected.shape
    holds(finite, "nodes keep their shape", got=got["nodes"], inputs=shown)
    changed = int((got["nodes"] != broken).sum())
    holds(changed == 11, "one update changes 11 nodes", got=changed, expected=11, inputs=shown)
    close(got["nodes"], expected, where="nodes after the update", inputs=shown, rtol=EXACT)


@pytest.mark.exercise("prioritized")
def test_tree_stays_on_its_device(learner, rng):
    """Every tensor is made on the tree's device: nothing lands on another default device."""
    held = numbers(1, 2, 0, 4)
    inputs = {"capacity": 4, "slots": torch.arange(4), "values": held, "masses": numbers(0.5, 2.5, 5)}
    got = learner.run(probes.tree_elsewhere, **inputs)
    shown = {**inputs, "device": "cpu", "default device": "another"}
    expected = {"nodes": sums(4, held), "found": torch.tensor([0, 1, 3])}
    same(got, expected, where="nodes, and the slots found", inputs=shown)


# -------------------------------------------------------------------------------- D7 PrioritizedReplay


def prioritised(
    capacity: int, steps: list[dict[str, Tensor]], alpha: float = 0.6, eps: float = 1e-6, **_: Any
) -> list[Tensor]:
    """Return what the slots hold after each step."""
    held, largest = torch.zeros(capacity, dtype=torch.float64), 1.0
    history = []
    for step in steps:
        if "errors" in step:
            priorities = step["errors"].double().abs() + eps
            largest = max(largest, float(priorities.max()))
        else:
            priorities = torch.full((len(step["slots"]),), largest, dtype=torch.float64)
        held = held.clone()
        held[step["slots"]] = priorities**alpha
        history.append(held)
    return history


def adds(*slots: int) -> dict[str, Tensor]:
    """Return a step that adds slots."""
    return {"slots": torch.tensor(slots, dtype=torch.int64)}


def learns(slots: list[int], errors: Tensor) -> dict[str, Tensor]:
    """Return a step that updates slots with their errors."""
    return {"slots": torch.tensor(slots, dtype=torch.int64), "errors": errors}


def compare_priorities(
    learner: Any, capacity: int, steps: list[dict[str, Tensor]], rtol: float = EXACT, **settings: float
) -> None:
    """Compare the tree after each step."""
    got = learner.run(probes.prioritized, capacity=capacity, steps=steps, **settings)
    shown = {"capacity": capacity, "steps": steps, **settings}
    for number, held in enumerate(prioritised(capacity, steps, **settings)):
        where = f"nodes of the tree after step {number + 1}"
        close(got[number], sums(capacity, held), where=where, inputs=shown, rtol=rtol)


@pytest.mark.exercise("prioritized")
def test_priorities_of_new_slots(learner, rng):
    """New slots get priority 1 at first, and later the largest that any slot ever had."""
    compare_priorities(learner, 3, [adds(0), adds(1, 2)], alpha=0.5)
    steps = [adds(0, 1), learns([0, 1], numbers(-9, 3)), adds(2), learns([0, 2], numbers(2, 0.5)), adds(3, 0)]
    compare_priorities(learner, 5, steps, alpha=0.5, eps=0.01)
    compare_priorities(learner, 4, [adds(0, 1), learns([1], numbers(0.25)), adds(2)], alpha=0.5, eps=0.01)


@pytest.mark.exercise("prioritized")
@pytest.mark.points(2)
def test_priorities_of_errors(learner, rng):
    """After an update slot i holds (|δ| + eps)^α, with α used once."""
    for alpha in (0.5, 1.0, 0.0, 0.8):
        steps = [adds(*range(6)), learns([1, 3, 4], 3 * draw(rng, 3)), learns([4, 0], draw(rng, 2))]
        compare_priorities(learner, 6, steps, alpha=alpha, eps=0.25)


@pytest.mark.exercise("prioritized")
def test_priorities_defaults(learner, rng):
    """By default α = 0.6 and eps = 1e-6, which keeps even a slot without error alive."""
    for errors in (draw(rng, 3), numbers(0, 0, 0), 1e-6 * draw(rng, 3)):
        compare_priorities(learner, 3, [adds(0, 1, 2), learns([0, 1, 2], errors)])


@pytest.mark.exercise("prioritized")
def test_priorities_kinds_of_errors(learner, rng):
    """Errors may be float32, and a slot may come several times."""
    errors = draw(rng, 3, dtype=torch.float32)
    repeated = learns([2, 0, 2, 1, 2], errors[[2, 0, 2, 1, 2]])
    # 1e-6: the powers may be taken in float32.
    compare_priorities(learner, 4, [adds(0, 1, 2), repeated], rtol=1e-6, alpha=0.5, eps=0.25)


def compare_draws(learner: Any, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Draw batches, compare all weights with those of their slots; return the slots and what the slots hold."""
    slots, weights = learner.run(probes.drawn, **inputs)
    size = (inputs.get("times", 1), inputs["batch_size"])
    held = prioritised(**inputs)[-1]
    known = isinstance(slots, Tensor) and slots.dtype is torch.int64 and tuple(slots.shape) == size
    holds(known, "slots come first, (B,), int64", got=slots, inputs=inputs)
    used = bool(((slots >= 0) & (slots < inputs["capacity"])).all()) and bool((held[slots] > 0).all())
    holds(used, "only slots in use are drawn", got=slots, inputs=inputs)
    chance = held[slots]
    expected = (chance.min(dim=1, keepdim=True).values / chance) ** inputs["beta"]
    close(weights, expected.float(), where="the weights of these slots", inputs={**inputs, "slots": slots})
    return slots, held


def practised(rng: torch.Generator, **settings: Any) -> dict[str, Any]:
    """Return inputs with 6 of 8 slots in use, which all have errors of their own."""
    errors = numbers(0.2, -0.5, 1, 2, -4, 7)[torch.randperm(6, generator=rng)]
    steps = [adds(*range(6)), learns(list(range(6)), errors)]
    inputs = {"capacity": 8, "steps": steps, "alpha": 0.5, "eps": 0.01, "seed": whole(rng, 0, 2**31)}
    return {**inputs, **settings}


@pytest.mark.exercise("prioritized")
@pytest.mark.points(2)
def test_draws_weights(learner, rng):
    """The weights are (N · P)^−β over the largest of the batch, in float32: all 1 for β = 0."""
    for beta in (1.0, 0.4, 0.0):
        # Among 400 draws each of the 6 slots comes up, but for one batch in 10^9.
        inputs = practised(rng, batch_size=400, beta=beta)
        held = prioritised(**inputs)[-1][:6]
        got = learner.run(probes.weights_of_slots, **inputs)
        expected = torch.cat([(held.min() / held) ** beta, torch.zeros(2)]).float()
        close(got, expected, where="the weight of each slot, 0 where it did not come", inputs=inputs)


@pytest.mark.exercise("prioritized")
@pytest.mark.points(2)
@pytest.mark.statistical
def test_draws_probabilities(learner, rng):
    """Every slot in use is drawn with its probability, in one large batch."""
    inputs = practised(rng, batch_size=5000, beta=0.5)
    slots, held = compare_draws(learner, inputs)
    as_often_as(slots, held[:6], "the slots come with probabilities in proportion to what they hold", inputs)


@pytest.mark.exercise("prioritized")
@pytest.mark.points(2)
@pytest.mark.statistical
def test_draws_many_small_batches(learner, rng):
    """Every slot in use is drawn with its probability, in many small batches, each with weights of its own."""
    compare_draws(learner, practised(rng, batch_size=1, beta=0.5, times=10))
    inputs = practised(rng, batch_size=4, beta=0.5, times=100)
    slots, held = compare_draws(learner, inputs)
    as_often_as(slots, held[:6], "the slots come with probabilities in proportion to what they hold", inputs)


@pytest.mark.exercise("prioritized")
@pytest.mark.statistical
def test_draws_take_their_generator(learner, rng):
    """The same generator gives the same draws, whatever PyTorch's global one holds, and later draws differ."""
    inputs = {"capacity": 512, "steps": [adds(*range(512))], "batch_size": 400, "beta": 0.5, "times": 2}
    inputs["seed"] = whole(rng, 0, 2**31)
    first, again = (learner.run(probes.drawn, **inputs) for _ in range(2))
    same(again, first, where="the draws under the same seed", inputs=inputs)
    holds(not torch.equal(first[0][0], first[0][1]), "a second draw from one generator differs", inputs=inputs)


@pytest.mark.exercise("prioritized")
@pytest.mark.statistical
def test_draws_go_down_the_tree(learner, rng):
    """Slots are found by way of the tree: where its left half is said to be empty, only the right half is drawn."""
    held = sums(8, numbers(1, 2, 3, 4, 5, 6, 7, 8))
    held[1], held[2] = held[3], 0.0
    inputs = {"capacity": 8, "steps": [adds(*range(8))], "batch_size": 400, "beta": 0.0, "nodes": held}
    seed = whole(rng, 0, 2**31)
    slots, weights = learner.run(probes.drawn, **inputs, seed=seed)
    shown = {"capacity": 8, "nodes": held.tolist(), "batch_size": 400, "beta": 0.0, "seed": seed}
    same(weights, torch.ones(1, 400), where="the weights", inputs=shown)
    right_half = isinstance(slots, Tensor) and bool((slots >= 4).all())
    holds(right_half, "all slots lie in the right half, 4 to 7", got=slots, inputs=shown)
    as_often_as(slots - 4, numbers(5, 6, 7, 8), "they come in proportion to what they hold", shown)


@pytest.mark.exercise("prioritized")
@pytest.mark.statistical
def test_draws_stay_on_the_device(learner, rng):
    """Every tensor is made on the tree's device: nothing lands on another default device."""
    settings = {name: value for name, value in practised(rng).items() if name not in ("alpha", "eps")}
    inputs = {**settings, "batch_size": 400, "beta": 0.5}
    slots, weights = learner.run(probes.drawn_elsewhere, **inputs)
    where = "device of a tree that was asked for on the device meta"
    same(learner.run(probes.device_of_the_tree, capacity=4, device="meta"), "meta", where=where)
    here = isinstance(slots, Tensor) and isinstance(weights, Tensor)
    holds(here, "slots and weights lie on the tree's device", got=(slots, weights), inputs=inputs)
    same(list(slots.unique()), list(torch.arange(6)), where="which slots came", inputs=inputs)


# ------------------------------------------------------------------------------------------ D7 dueling


def compare_dueling(learner: Any, value: Tensor, advantage: Tensor, rtol: float | None = EXACT) -> None:
    """Compare values and gradients with those of the formula, one row at a time."""
    inputs = {"value": value, "advantage": advantage}
    got, (by_value, by_advantage) = learner.gradients("dueling", value, advantage, wrt=(0, 1))
    expected, actions = torch.empty(advantage.shape, dtype=advantage.dtype), advantage.shape[-1]
    for v, a, q in zip(value.reshape(-1), advantage.reshape(-1, actions), expected.view(-1, actions), strict=True):
        q.copy_(v + a - sum(a.tolist()) / actions)
    close(got, expected, where="the values", inputs=inputs, rtol=rtol, scale=(value, advantage))
    # The sum over all Q counts V once for each action, and no advantage at all.
    close(by_value, torch.full_like(value, actions), where="the gradient of V", inputs=inputs, rtol=rtol)
    none = torch.zeros_like(advantage)
    close(by_advantage, none, where="the gradient of A", inputs=inputs, rtol=rtol, scale=1.0)


@pytest.mark.exercise("prioritized")
def test_dueling_by_hand(learner, rng):
    """V = 10 and A = (1, 2, 6) give Q = (8, 9, 13), whose mean is V."""
    compare_dueling(learner, torch.tensor([[10.0]]).double(), torch.tensor([[1.0, 2.0, 6.0]]).double())


@pytest.mark.exercise("prioritized")
def test_dueling_any_batch_and_dtype(learner, rng):
    """Every row has a mean of its own; one row, no row, one action, more axes and float32 work alike."""
    for rows, actions in ((3, 3), (4, 3), (1, 3), (0, 3), (3, 1)):
        compare_dueling(learner, draw(rng, rows, 1), draw(rng, rows, actions))
    compare_dueling(learner, draw(rng, 2, 3, 1), draw(rng, 2, 4, 3).mT)
    compare_dueling(learner, draw(rng, 1), draw(rng, 4))
    compare_dueling(learner, draw(rng, 4, 1, dtype=torch.float32), draw(rng, 4, 3, dtype=torch.float32), rtol=None)
