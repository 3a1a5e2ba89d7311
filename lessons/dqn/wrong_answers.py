"""Typical wrong answers, each with the one sentence its author needs, and dialects, which pass with a note.

They prove the checks (each must fail, and be recognised as itself) and name the mistake for the learner. They are
written as learners write them: short, plausible, and wrong in one thing.
"""

# Learners' code: an answer's name is that of its mistake, and some mistakes are such that the tools see them.
# ruff: noqa: F841, N801
# pyright: reportArgumentType=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

import copy

import torch
from torch import nn

from coursekit.grading.answers import dialect, wrong

# ------------------------------------------------------------------------------ D1 epsilon_greedy


@wrong("epsilon_greedy", says="You explore with probability 1 − ε: ε is the share of rows that take any action.")
def explores_with_one_minus_epsilon(q, epsilon, g):
    explores = torch.rand(len(q), generator=g, device=q.device) >= epsilon
    anything = torch.randint(q.shape[1], (len(q),), generator=g, device=q.device)
    return torch.where(explores, anything, q.argmax(1))


@wrong("epsilon_greedy", says="One coin decides for the whole batch; every row needs a coin of its own.")
def one_coin_for_the_batch(q, epsilon, g):
    if torch.rand(1, generator=g, device=q.device) < epsilon:
        return torch.randint(q.shape[1], (len(q),), generator=g, device=q.device)
    return q.argmax(1)


@wrong("epsilon_greedy", says="The random action must be any of all A actions, the greedy one included.")
def random_action_spares_the_best(q, epsilon, g):
    best = q.argmax(1)
    explores = torch.rand(len(q), generator=g, device=q.device) < epsilon
    other = torch.randint(max(q.shape[1] - 1, 1), (len(q),), generator=g, device=q.device)
    other = (best + 1 + other) % q.shape[1]
    return torch.where(explores, other, best)


@wrong("epsilon_greedy", says="The argmax ran over the batch: the actions are axis 1 of q.")
def argmax_over_the_batch(q, epsilon, g):
    if len(q) == 0:
        return q.argmax(1)
    explores = torch.rand(q.shape[1], generator=g, device=q.device) < epsilon
    anything = torch.randint(q.shape[1], (q.shape[1],), generator=g, device=q.device)
    return torch.where(explores, anything, q.argmax(0))


@wrong("epsilon_greedy", says="All exploring rows take the same random action; draw one for each row.")
def one_random_action_for_all(q, epsilon, g):
    explores = torch.rand(len(q), generator=g, device=q.device) < epsilon
    anything = torch.randint(q.shape[1], (1,), generator=g, device=q.device)
    return torch.where(explores, anything, q.argmax(1))


@wrong("epsilon_greedy", says="You draw from PyTorch's global generator; hand g to every function that draws.")
def explores_by_the_global_generator(q, epsilon, g):
    explores = torch.rand(len(q), device=q.device) < epsilon
    anything = torch.randint(q.shape[1], (len(q),), device=q.device)
    return torch.where(explores, anything, q.argmax(1))


@wrong("epsilon_greedy", says="The last action is never explored: randint's upper bound is not included already.")
def never_explores_the_last_action(q, epsilon, g):
    explores = torch.rand(len(q), generator=g, device=q.device) < epsilon
    anything = torch.randint(0, max(q.shape[1] - 1, 1), (len(q),), generator=g, device=q.device)
    return torch.where(explores, anything, q.argmax(1))


@wrong("epsilon_greedy", says="You lost the axis of a batch of one row: the result must be (B,), also for B = 1.")
def squeezes_a_batch_of_one(q, epsilon, g):
    explores = torch.rand(len(q), generator=g, device=q.device) < epsilon
    anything = torch.randint(q.shape[1], (len(q),), generator=g, device=q.device)
    return torch.where(explores, anything, q.argmax(1)).squeeze()


@wrong("epsilon_greedy", says="Your actions are (B, 1); they must be (B,).")
def actions_are_a_column(q, epsilon, g):
    explores = torch.rand(len(q), 1, generator=g, device=q.device) < epsilon
    anything = torch.randint(q.shape[1], (len(q), 1), generator=g, device=q.device)
    return torch.where(explores, anything, q.argmax(1, keepdim=True))


@wrong("epsilon_greedy", says="Your actions are floating; they index other tensors, so they must be int64.")
def actions_are_floats(q, epsilon, g):
    explores = (torch.rand(len(q), generator=g, device=q.device) < epsilon).float()
    anything = torch.randint(q.shape[1], (len(q),), generator=g, device=q.device)
    return explores * anything + (1 - explores) * q.argmax(1)


@wrong("epsilon_greedy", says="Your random tensors lie on the default device; make them on q's: device=q.device.")
def explores_on_the_default_device(q, epsilon, g):
    explores = torch.rand(len(q), generator=g) < epsilon
    anything = torch.randint(q.shape[1], (len(q),), generator=g)
    return torch.where(explores, anything, q.argmax(1))


@wrong("epsilon_greedy", says="One number is both coin and action, so exploring rows take the low actions only.")
def coin_and_action_are_one(q, epsilon, g):
    uniform = torch.rand(len(q), generator=g, device=q.device)
    return torch.where(uniform < epsilon, (uniform * q.shape[1]).long(), q.argmax(1))


@dialect(
    "epsilon_greedy", says="You break ties at random. That is legitimate; here the first best action was asked for."
)
def breaks_ties_at_random(q, epsilon, g):
    explores = torch.rand(len(q), generator=g, device=q.device) < epsilon
    anything = torch.randint(q.shape[1], (len(q),), generator=g, device=q.device)
    if not len(q):
        return anything
    chances = (q == q.amax(1, keepdim=True)).float()
    return torch.where(explores, anything, torch.multinomial(chances, 1, generator=g)[:, 0])


@wrong("linear_epsilon", says="ε falls below its floor: after decay_steps it must stay at `end`.")
def falls_below_the_floor(step, start=1.0, end=0.05, decay_steps=10_000):
    return start + (end - start) * step / decay_steps


@wrong("linear_epsilon", says="Your line aims at 0 and is cut off at `end`, so it reaches the floor too early.")
def aims_at_zero(step, start=1.0, end=0.05, decay_steps=10_000):
    return max(end, start * (1 - step / decay_steps))


@wrong("linear_epsilon", says="That is an exponential decay; a straight line was asked for.")
def decays_exponentially(step, start=1.0, end=0.05, decay_steps=10_000):
    return max(end, start * (end / start) ** (step / decay_steps))


@wrong("linear_epsilon", says="start and end are swapped: ε begins large.")
def rises_from_the_floor(step, start=1.0, end=0.05, decay_steps=10_000):
    return end + (start - end) * min(1.0, step / decay_steps)


@wrong("linear_epsilon", says="The first step is step 0, and its ε is `start`; you are one step ahead.")
def counts_from_one(step, start=1.0, end=0.05, decay_steps=10_000):
    return start + (end - start) * min(1.0, (step + 1) / decay_steps)


@wrong("linear_epsilon", says="`//` is a whole division: your ε stays at `start` until the very end.")
def divides_whole_numbers(step, start=1.0, end=0.05, decay_steps=10_000):
    return start + (end - start) * min(1, step // decay_steps)


# -------------------------------------------------------------------------------- D2 ReplayBuffer


class _Ring:
    """A right buffer in pieces; each class below replaces the piece that its author got wrong."""

    def __init__(self, capacity, obs_shape, *, dtype=torch.float32, device="cpu"):
        self.capacity, self.device, self.next, self.size = capacity, device, 0, 0
        self.columns = {
            "obs": torch.zeros(capacity, *obs_shape, dtype=dtype, device=device),
            "action": torch.zeros(capacity, dtype=torch.int64, device=device),
            "reward": torch.zeros(capacity, dtype=torch.float32, device=device),
            "next_obs": torch.zeros(capacity, *obs_shape, dtype=dtype, device=device),
            "terminated": torch.zeros(capacity, dtype=torch.bool, device=device),
            "truncated": torch.zeros(capacity, dtype=torch.bool, device=device),
        }

    def __len__(self):
        return self.size

    def add(self, obs, action, reward, next_obs, terminated, truncated, final_obs=None):
        next_obs = self.following(next_obs, terminated, truncated, final_obs)
        slots = self.place(len(action))
        given = (obs, action, reward, next_obs, terminated, truncated)
        for (name, column), values in zip(self.columns.items(), given, strict=True):
            self.write(name, column, slots, values)
        return slots

    def following(self, next_obs, terminated, truncated, final_obs):
        if final_obs is None:
            return next_obs
        next_obs, ended = next_obs.clone(), terminated | truncated
        next_obs[ended] = final_obs[ended]
        return next_obs

    def place(self, rows):
        slots = (self.next + torch.arange(rows, device=self.device)) % self.capacity
        self.next = (self.next + rows) % self.capacity
        self.size = min(self.size + rows, self.capacity)
        return slots

    def write(self, name, column, slots, values):
        column[slots] = values.to(column.dtype)

    def get(self, slots):
        return {name: column[slots] for name, column in self.columns.items()}

    def sample(self, batch_size, g):
        if self.size == 0:
            raise ValueError("the buffer is empty")
        return self.get(self.choose(batch_size, g))

    def choose(self, batch_size, g):
        return torch.randint(self.size, (batch_size,), generator=g, device=self.device)


@wrong("ReplayBuffer", says="You stored references: later environment steps overwrite them. Copy the values.")
class stores_references(_Ring):
    def __init__(self, capacity, obs_shape, **settings):
        super().__init__(capacity, obs_shape, **settings)
        self.rows = {}

    def write(self, name, column, slots, values):
        values = values if values.dtype == column.dtype else values.to(column.dtype)
        for row, slot in enumerate(slots.tolist()):
            self.rows[name, slot] = values[row]

    def get(self, slots):
        return {
            name: torch.stack([self.rows[name, slot] for slot in slots.tolist()]) if len(slots) else column[slots]
            for name, column in self.columns.items()
        }


@wrong("ReplayBuffer", says="A full buffer overwrites its newest transition; the oldest must go first.")
class overwrites_the_newest(_Ring):
    def place(self, rows):
        slots = (self.next + torch.arange(rows, device=self.device)).clamp(max=self.capacity - 1)
        self.next = min(self.next + rows, self.capacity)
        self.size = self.next
        return slots


@wrong("ReplayBuffer", says="A full buffer takes nothing more; the oldest transitions must be overwritten.")
class stops_when_full(_Ring):
    def add(self, obs, action, reward, next_obs, terminated, truncated, final_obs=None):
        if self.size + len(action) > self.capacity:
            return torch.arange(0, device=self.device)
        return super().add(obs, action, reward, next_obs, terminated, truncated, final_obs)


@wrong("ReplayBuffer", says="You sampled slots that were never written: draw below the length, not the capacity.")
class samples_unwritten_slots(_Ring):
    def choose(self, batch_size, g):
        return torch.randint(self.capacity, (batch_size,), generator=g, device=self.device)


@wrong("ReplayBuffer", says="The last slot is never drawn: randint's upper bound is not included already.")
class never_samples_the_last_slot(_Ring):
    def choose(self, batch_size, g):
        return torch.randint(max(self.size - 1, 1), (batch_size,), generator=g, device=self.device)


@wrong(
    "ReplayBuffer", says="next_obs is the reset observation where an episode ended; keep the row of final_obs there."
)
class keeps_the_reset_observation(_Ring):
    def following(self, next_obs, terminated, truncated, final_obs):
        return next_obs


@wrong("ReplayBuffer", says="You took final_obs in every row; it only means something where the episode ended.")
class takes_final_obs_everywhere(_Ring):
    def following(self, next_obs, terminated, truncated, final_obs):
        return next_obs if final_obs is None else final_obs


@wrong("ReplayBuffer", says="You wrote final_obs into the caller's next_obs: the agent would act on it; copy first.")
class changes_the_callers_next_obs(_Ring):
    def following(self, next_obs, terminated, truncated, final_obs):
        if final_obs is not None:
            ended = terminated | truncated
            next_obs[ended] = final_obs[ended]
        return next_obs


@wrong("ReplayBuffer", says="You took final_obs only where terminated; a truncated episode is reset as well.")
class forgets_truncated_ends(_Ring):
    def following(self, next_obs, terminated, truncated, final_obs):
        return super().following(next_obs, terminated, torch.zeros_like(truncated), final_obs)


@wrong("ReplayBuffer", says="You stored terminated | truncated as one flag: a truncated episode still has a future.")
class stores_one_flag_done(_Ring):
    def add(self, obs, action, reward, next_obs, terminated, truncated, final_obs=None):
        return super().add(obs, action, reward, next_obs, terminated | truncated, truncated, final_obs)


@wrong("ReplayBuffer", says="Your actions became floats; they are whole numbers, and must come back as int64.")
class actions_became_floats(_Ring):
    def __init__(self, capacity, obs_shape, *, dtype=torch.float32, device="cpu"):
        super().__init__(capacity, obs_shape, dtype=dtype, device=device)
        self.columns["action"] = torch.zeros(capacity, device=device)


@wrong("ReplayBuffer", says="Your flags became floats; they must come back as bool.")
class flags_became_floats(_Ring):
    def __init__(self, capacity, obs_shape, *, dtype=torch.float32, device="cpu"):
        super().__init__(capacity, obs_shape, dtype=dtype, device=device)
        for name in ("terminated", "truncated"):
            self.columns[name] = torch.zeros(capacity, device=device)


@wrong(
    "ReplayBuffer", says="Observations are kept in float32 whatever `dtype` says: pixels take four times the memory."
)
class observations_are_always_float32(_Ring):
    def __init__(self, capacity, obs_shape, *, dtype=torch.float32, device="cpu"):
        super().__init__(capacity, obs_shape, device=device)


@wrong("ReplayBuffer", says="Values in another dtype than the storage's are refused; convert them before you write.")
class refuses_other_dtypes(_Ring):
    def write(self, name, column, slots, values):
        column[slots] = values


@wrong("ReplayBuffer", says="Only the first row of each step was stored; there are B environments.")
class stores_only_the_first_row(_Ring):
    def add(self, obs, action, reward, next_obs, terminated, truncated, final_obs=None):
        given = [obs, action, reward, next_obs, terminated, truncated, final_obs]
        return super().add(*[None if part is None else part[:1] for part in given])


@wrong("ReplayBuffer", says="A step that does not fit before the end of the ring starts at slot 0: slots are left out.")
class starts_over_too_early(_Ring):
    def place(self, rows):
        if self.next + rows > self.capacity:
            self.next = 0
        slots = self.next + torch.arange(rows, device=self.device)
        self.next += rows
        self.size = max(self.size, self.next)
        return slots


@wrong("ReplayBuffer", says="The length grows beyond the capacity; it counts what is stored.")
class length_outgrows_the_capacity(_Ring):
    def __init__(self, capacity, obs_shape, **settings):
        super().__init__(capacity, obs_shape, **settings)
        self.added = 0

    def __len__(self):
        return self.added

    def place(self, rows):
        self.added += rows
        return super().place(rows)


@wrong("ReplayBuffer", says="Each column was sampled with slots of its own, so the parts do not belong together.")
class samples_each_column_alone(_Ring):
    def sample(self, batch_size, g):
        if self.size == 0:
            raise ValueError("the buffer is empty")
        return {name: column[self.choose(batch_size, g)] for name, column in self.columns.items()}


@wrong("ReplayBuffer", says="You drew without replacement; draws are independent, and may outnumber what is stored.")
class samples_without_replacement(_Ring):
    def choose(self, batch_size, g):
        return torch.randperm(self.size, generator=g, device=self.device)[:batch_size]


@wrong("ReplayBuffer", says="You drew neighbours: one random start and the slots after it resemble each other.")
class samples_a_stretch(_Ring):
    def choose(self, batch_size, g):
        start = torch.randint(self.size, (1,), generator=g, device=self.device)
        return (start + torch.arange(batch_size, device=self.device)) % self.size


@wrong("ReplayBuffer", says="You draw from PyTorch's global generator; hand g to the function that draws.")
class samples_by_the_global_generator(_Ring):
    def choose(self, batch_size, g):
        return torch.randint(self.size, (batch_size,), device=self.device)


@wrong("ReplayBuffer", says="An empty buffer must raise a ValueError of yours; you let randint fail in its own words.")
class leaves_the_error_to_randint(_Ring):
    def sample(self, batch_size, g):
        return self.get(self.choose(batch_size, g))


@wrong("ReplayBuffer", says="Some tensors lie on the default device; make every one with device=device.")
class buffer_on_the_default_device(_Ring):
    def __init__(self, capacity, obs_shape, *, dtype=torch.float32, device="cpu"):
        super().__init__(capacity, obs_shape, dtype=dtype, device=None)
        self.device = None


@wrong("ReplayBuffer", says="You clipped the rewards; the buffer keeps what it is given.")
class clips_the_rewards(_Ring):
    def write(self, name, column, slots, values):
        super().write(name, column, slots, values.clamp(-1, 1) if name == "reward" else values)


# ----------------------------------------------------------------------- D3 td_target, batch_target


def _chosen(q_next_target, q_next_online):
    chooser = q_next_target if q_next_online is None else q_next_online
    return q_next_target.gather(1, chooser.argmax(1, keepdim=True))[:, 0]


@wrong("td_target", says="Terminal states still bootstrap: after `terminated` nothing follows.")
def bootstraps_after_the_end(reward, terminated, q_next_target, gamma, q_next_online=None):
    return (reward + gamma * _chosen(q_next_target, q_next_online)).detach()


@wrong("td_target", says="The mask is upside down: you bootstrap only where the episode is over.")
def bootstraps_only_at_the_end(reward, terminated, q_next_target, gamma, q_next_online=None):
    future = terminated.to(q_next_target.dtype) * _chosen(q_next_target, q_next_online)
    return (reward + gamma * future).detach()


@wrong("td_target", says="Your mask removes the reward of the last step too; only the future is missing there.")
def loses_the_last_reward(reward, terminated, q_next_target, gamma, q_next_online=None):
    y = reward + gamma * _chosen(q_next_target, q_next_online)
    return (y * (1 - terminated.to(y.dtype))).detach()


@wrong("td_target", says="Online and target are swapped: the online network chooses, the target network values.")
def swaps_the_networks(reward, terminated, q_next_target, gamma, q_next_online=None):
    if q_next_online is not None:
        q_next_target, q_next_online = q_next_online, q_next_target
    future = (1 - terminated.to(q_next_target.dtype)) * _chosen(q_next_target, q_next_online)
    return (reward + gamma * future).detach()


@wrong("td_target", says="With q_next_online you use the online network for both; the target network must value.")
def online_does_both(reward, terminated, q_next_target, gamma, q_next_online=None):
    values = q_next_target if q_next_online is None else q_next_online
    return (reward + gamma * (1 - terminated.to(values.dtype)) * values.amax(1)).detach()


@wrong("td_target", says="You ignore q_next_online: that is plain DQN, never Double DQN.")
def never_double(reward, terminated, q_next_target, gamma, q_next_online=None):
    return (reward + gamma * (1 - terminated.to(reward.dtype)) * q_next_target.amax(1)).detach()


@wrong("td_target", says="(B, 1) + (B,) became (B, B): take the last axis off what gather returns.")
def broadcasts_to_a_square(reward, terminated, q_next_target, gamma, q_next_online=None):
    chooser = q_next_target if q_next_online is None else q_next_online
    value = q_next_target.gather(1, chooser.argmax(1, keepdim=True))
    return (reward + gamma * (1 - terminated.to(value.dtype)) * value).detach()


@wrong("td_target", says="`1 - terminated` fails for bool; convert it to the values' dtype first.")
def subtracts_a_bool(reward, terminated, q_next_target, gamma, q_next_online=None):
    future = (1 - terminated) * _chosen(q_next_target, q_next_online)
    return (reward + gamma * future).to(q_next_target.dtype).detach()


@wrong(
    "td_target", says="`~terminated` is the opposite of bool only; floats refuse it, and ~1 is −2: convert it first."
)
def inverts_a_number(reward, terminated, q_next_target, gamma, q_next_online=None):
    return (reward + gamma * ~terminated * _chosen(q_next_target, q_next_online)).detach()


@wrong("td_target", says="The target carries gradient: detach it, or the loss moves both sides.")
def target_carries_gradient(reward, terminated, q_next_target, gamma, q_next_online=None):
    future = (1 - terminated.to(q_next_target.dtype)) * _chosen(q_next_target, q_next_online)
    return reward + gamma * future


@wrong("td_target", says="The maximum ran over the batch: the actions are axis 1.")
def maximum_over_the_batch(reward, terminated, q_next_target, gamma, q_next_online=None):
    chooser = q_next_target if q_next_online is None else q_next_online
    value = q_next_target.gather(0, chooser.argmax(0, keepdim=True))[0] if len(reward) else q_next_target.sum(0)
    return (reward + gamma * (1 - terminated.to(value.dtype)) * value).detach()


@wrong("td_target", says="The discount is missing.")
def forgets_gamma(reward, terminated, q_next_target, gamma, q_next_online=None):
    future = (1 - terminated.to(q_next_target.dtype)) * _chosen(q_next_target, q_next_online)
    return (reward + future).detach()


@wrong("td_target", says="The mean of the next values is no maximum: the target policy is the greedy one.")
def averages_the_next_values(reward, terminated, q_next_target, gamma, q_next_online=None):
    return (reward + gamma * (1 - terminated.to(reward.dtype)) * q_next_target.mean(1)).detach()


@wrong("td_target", says="Your targets took over the flags' dtype: convert `terminated` to the values' dtype.")
def takes_over_the_dtype(reward, terminated, q_next_target, gamma, q_next_online=None):
    going_on = 1 - terminated.double()
    return (reward + gamma * going_on * _chosen(q_next_target, q_next_online)).detach()


@wrong("td_target", says="You computed in float32 on the way, so float64 inputs lose precision.")
def target_in_float32(reward, terminated, q_next_target, gamma, q_next_online=None):
    future = (1 - terminated.float()) * _chosen(q_next_target, q_next_online).float()
    return (reward.float() + gamma * future).to(reward.dtype).detach()


@wrong("batch_target", says="Truncated episodes do not bootstrap in yours: a time limit is no end of the world.")
@torch.no_grad()
def truncated_is_an_end(batch, online, target, gamma, double=True):
    value = _chosen(target(batch["next_obs"]), online(batch["next_obs"]) if double else None)
    done = (batch["terminated"] | batch["truncated"]).to(value.dtype)
    return batch["reward"] + gamma * (1 - done) * value


@wrong("batch_target", says="You masked with `truncated`; the episode has no future where it is `terminated`.")
@torch.no_grad()
def only_truncated_is_an_end(batch, online, target, gamma, double=True):
    value = _chosen(target(batch["next_obs"]), online(batch["next_obs"]) if double else None)
    return batch["reward"] + gamma * (1 - batch["truncated"].to(value.dtype)) * value


@wrong("batch_target", says="A truncated step that is also terminated bootstraps in yours; it is terminated.")
@torch.no_grad()
def truncated_wins(batch, online, target, gamma, double=True):
    value = _chosen(target(batch["next_obs"]), online(batch["next_obs"]) if double else None)
    done = batch["terminated"] & ~batch["truncated"]
    return batch["reward"] + gamma * (1 - done.to(value.dtype)) * value


@wrong("batch_target", says="Double DQN chose actions from the current observation; online must see next_obs too.")
@torch.no_grad()
def chooses_from_the_current_observation(batch, online, target, gamma, double=True):
    value = _chosen(target(batch["next_obs"]), online(batch["obs"]) if double else None)
    return batch["reward"] + gamma * (1 - batch["terminated"].to(value.dtype)) * value


@wrong("batch_target", says="You valued the current observation; the future begins at next_obs.")
@torch.no_grad()
def values_the_current_observation(batch, online, target, gamma, double=True):
    value = _chosen(target(batch["obs"]), online(batch["obs"]) if double else None)
    return batch["reward"] + gamma * (1 - batch["terminated"].to(value.dtype)) * value


@wrong("batch_target", says="The networks are swapped: online chooses the action, target says what it is worth.")
@torch.no_grad()
def target_chooses(batch, online, target, gamma, double=True):
    if double:
        value = _chosen(online(batch["next_obs"]), target(batch["next_obs"]))
    else:
        value = _chosen(target(batch["next_obs"]), None)
    return batch["reward"] + gamma * (1 - batch["terminated"].to(value.dtype)) * value


@wrong("batch_target", says="`double` is ignored: with double=False the target network chooses too.")
@torch.no_grad()
def always_double(batch, online, target, gamma, double=True):
    value = _chosen(target(batch["next_obs"]), online(batch["next_obs"]))
    return batch["reward"] + gamma * (1 - batch["terminated"].to(value.dtype)) * value


@wrong("batch_target", says="Without the target network there is nothing that stands still: you used online for both.")
@torch.no_grad()
def never_asks_the_target_network(batch, online, target, gamma, double=True):
    value = online(batch["next_obs"]).amax(1)
    return batch["reward"] + gamma * (1 - batch["terminated"].to(value.dtype)) * value


@wrong("batch_target", says="The networks built a graph that nobody needs: run them under torch.no_grad().")
def builds_a_graph(batch, online, target, gamma, double=True):
    value = _chosen(target(batch["next_obs"]), online(batch["next_obs"]) if double else None)
    return (batch["reward"] + gamma * (1 - batch["terminated"].to(value.dtype)) * value).detach()


# ------------------------------------------------------------------------------------- D4 dqn_loss


def _taken(q, action):
    return q.gather(1, action[:, None])[:, 0]


def _huber(error, delta):
    size = error.abs()
    return torch.where(size <= delta, error**2 / 2, delta * (size - delta / 2))


def _mean(loss, weights):
    return (loss if weights is None else weights * loss).mean()


@wrong("dqn_loss", says="That is smooth L1 with β = δ, which is the Huber loss divided by δ.")
def smooth_l1_is_not_huber(q, action, target, huber_delta=1.0, weights=None):
    error = _taken(q, action) - target.detach()
    size = error.abs()
    return _mean(torch.where(size < huber_delta, error**2 / (2 * huber_delta), size - huber_delta / 2), weights)


@wrong("dqn_loss", says="You regressed every action; only the value of the taken one has a target.")
def regresses_every_action(q, action, target, huber_delta=1.0, weights=None):
    return _mean(_huber(q - target.detach()[:, None], huber_delta).mean(1), weights)


@wrong("dqn_loss", says="You divided by B · A in place of B: the mean is over the rows.")
def divides_by_all_actions(q, action, target, huber_delta=1.0, weights=None):
    mask = nn.functional.one_hot(action, q.shape[1])
    loss = _huber((q - target.detach()[:, None]) * mask, huber_delta)
    return (loss if weights is None else weights[:, None] * loss).mean()


@wrong("dqn_loss", says="Importance weights scale the loss of a row, not its error.")
def weights_scale_the_error(q, action, target, huber_delta=1.0, weights=None):
    error = _taken(q, action) - target.detach()
    return _huber(error if weights is None else weights * error, huber_delta).mean()


@wrong("dqn_loss", says="You divided by the sum of the weights; the mean is over the B rows.")
def normalises_the_weights(q, action, target, huber_delta=1.0, weights=None):
    loss = _huber(_taken(q, action) - target.detach(), huber_delta)
    return loss.mean() if weights is None else (weights * loss).sum() / weights.sum()


@wrong("dqn_loss", says="The weights are ignored.")
def ignores_the_weights(q, action, target, huber_delta=1.0, weights=None):
    return _huber(_taken(q, action) - target.detach(), huber_delta).mean()


@wrong("dqn_loss", says="The target still carries gradient: detach it inside the loss.")
def loss_moves_the_target(q, action, target, huber_delta=1.0, weights=None):
    return _mean(_huber(_taken(q, action) - target, huber_delta), weights)


@wrong("dqn_loss", says="You clipped the error before squaring it: beyond δ nothing is learned, the gradient is zero.")
def clips_the_error(q, action, target, huber_delta=1.0, weights=None):
    error = (_taken(q, action) - target.detach()).clamp(-huber_delta, huber_delta)
    return _mean(error**2 / 2, weights)


@wrong("dqn_loss", says="That is half the squared error everywhere: beyond δ the loss must be a straight line.")
def squares_every_error(q, action, target, huber_delta=1.0, weights=None):
    return _mean((_taken(q, action) - target.detach()) ** 2 / 2, weights)


@wrong("dqn_loss", says="The factor ½ of the parabola is missing, so the two branches do not meet.")
def forgets_the_half(q, action, target, huber_delta=1.0, weights=None):
    error = _taken(q, action) - target.detach()
    size = error.abs()
    return _mean(torch.where(size <= huber_delta, error**2, huber_delta * (size - huber_delta / 2)), weights)


@wrong("dqn_loss", says="The line lacks its offset −½·δ²: the loss jumps at δ.")
def forgets_the_offset(q, action, target, huber_delta=1.0, weights=None):
    error = _taken(q, action) - target.detach()
    return _mean(torch.where(error.abs() <= huber_delta, error**2 / 2, huber_delta * error.abs()), weights)


@wrong("dqn_loss", says="Delta is ignored: yours is always the loss of δ = 1.")
def delta_is_always_one(q, action, target, huber_delta=1.0, weights=None):
    return _mean(_huber(_taken(q, action) - target.detach(), 1.0), weights)


@wrong("dqn_loss", says="(B, 1) − (B,) became (B, B): every row was compared with every target.")
def compares_every_pair(q, action, target, huber_delta=1.0, weights=None):
    return _mean(_huber(q.gather(1, action[:, None]) - target.detach(), huber_delta), weights)


@wrong("dqn_loss", says="You took the largest value of each row; the target belongs to the action that was taken.")
def takes_the_best_action(q, action, target, huber_delta=1.0, weights=None):
    return _mean(_huber(q.amax(1) - target.detach(), huber_delta), weights)


@wrong("dqn_loss", says="You returned the sum; the loss is the mean over the rows.")
def sums_the_rows(q, action, target, huber_delta=1.0, weights=None):
    loss = _huber(_taken(q, action) - target.detach(), huber_delta)
    return (loss if weights is None else weights * loss).sum()


@wrong("dqn_loss", says="The value was detached, so nothing can be learned: detach the target alone.")
def detaches_the_value(q, action, target, huber_delta=1.0, weights=None):
    return _mean(_huber(_taken(q, action).detach() - target, huber_delta), weights)


@wrong("dqn_loss", says="You computed in float32 on the way, so float64 inputs lose precision.")
def loss_in_float32(q, action, target, huber_delta=1.0, weights=None):
    return _mean(_huber((_taken(q, action) - target.detach()).float(), huber_delta), weights).to(q.dtype)


# ----------------------------------------------------------------------------------------- D5 sync


@wrong("sync", says="The target aliases the online network: you assigned its tensors, so they share their memory.")
def target_aliases_online(target, online, tau):
    for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
        slow.data = fast.data if tau == 1 else tau * fast.data + (1 - tau) * slow.data
    for slow, fast in zip(target.buffers(), online.buffers(), strict=True):
        slow.copy_(fast)


@wrong("sync", says="τ is reversed: it is the share of the online network, and small τ moves the target a little.")
def tau_is_reversed(target, online, tau):
    for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
        slow.data.copy_(tau * slow.data + (1 - tau) * fast.data)
    for slow, fast in zip(target.buffers(), online.buffers(), strict=True):
        slow.copy_(fast)


@wrong("sync", says="You updated the online network; it is the target that follows.")
def updates_the_online_network(target, online, tau):
    for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
        fast.data.copy_(tau * fast.data + (1 - tau) * slow.data)
    for slow, fast in zip(target.buffers(), online.buffers(), strict=True):
        fast.copy_(slow)


@wrong("sync", says="The buffers are not copied: a BatchNorm of the target keeps its first statistics for ever.")
def forgets_the_buffers(target, online, tau):
    for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
        slow.data.copy_(tau * fast.data + (1 - tau) * slow.data)


@wrong("sync", says="Integer buffers stay behind: copy every buffer, whatever its dtype.")
def forgets_integer_buffers(target, online, tau):
    for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
        slow.data.copy_(tau * fast.data + (1 - tau) * slow.data)
    for slow, fast in zip(target.buffers(), online.buffers(), strict=True):
        if slow.is_floating_point():
            slow.copy_(fast)


@wrong("sync", says="τ is hard-coded: the argument changes nothing.")
def tau_is_hard_coded(target, online, tau):
    for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
        slow.data.copy_(0.005 * fast.data + 0.995 * slow.data)
    for slow, fast in zip(target.buffers(), online.buffers(), strict=True):
        slow.copy_(fast)


@wrong("sync", says="You copy everything at every call: τ says how far the parameters go.")
def always_copies(target, online, tau):
    target.load_state_dict(online.state_dict())


@wrong("sync", says="You gave the name `target` another network; the caller's target has not changed.")
def rebinds_the_name(target, online, tau):
    target = copy.deepcopy(online)


@wrong("sync", says="You rebound .data to new tensors; change the target's own memory, in place.")
def target_gets_new_memory(target, online, tau):
    for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
        slow.data = tau * fast.data + (1 - tau) * slow.data
    for slow, fast in zip(target.buffers(), online.buffers(), strict=True):
        slow.copy_(fast)


@wrong("sync", says="You add the online network's share, but never take (1 − τ) of the target: it grows.")
def target_grows(target, online, tau):
    for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
        slow.data.add_(fast.data, alpha=tau)
    for slow, fast in zip(target.buffers(), online.buffers(), strict=True):
        slow.copy_(fast)


@wrong("sync", says="Only the weights follow; the biases are parameters too.")
def forgets_the_biases(target, online, tau):
    for (name, slow), fast in zip(target.named_parameters(), online.parameters(), strict=True):
        if "weight" in name:
            slow.data.copy_(tau * fast.data + (1 - tau) * slow.data)
    for slow, fast in zip(target.buffers(), online.buffers(), strict=True):
        slow.copy_(fast)


@wrong("sync", says="An in-place change of a parameter needs torch.no_grad().")
def moves_with_gradients(target, online, tau):
    for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
        slow.mul_(1 - tau).add_(tau * fast)
    for slow, fast in zip(target.buffers(), online.buffers(), strict=True):
        slow.copy_(fast)


@dialect("sync", says="You average floating buffers with τ too. Some codebases do; here they are copied whole.")
def averages_the_buffers(target, online, tau):
    slow = target.state_dict()
    for name, fast in online.state_dict().items():
        moved = tau * fast + (1 - tau) * slow[name] if fast.is_floating_point() else fast
        slow[name].copy_(moved)


# ------------------------------------------------------------------------------- D6 n_step_returns


def _returns(reward, next_value, gamma, n, *, stops, ends, rewards=None, power=None, first=0):
    """Two loops, with places for mistakes.

    Args:
        stops: (T, ...): where a sum stops.
        ends: (T, ...): where nothing follows.
        rewards: in a full sum; None is n.
        power: of gamma before the bootstrap, from the number of rewards; None is that number.
        first: power of gamma before the first reward.
    """
    rewards, steps = n if rewards is None else rewards, len(reward)
    result = torch.zeros_like(next_value)
    for t in range(steps):
        alive = torch.ones_like(result[t])
        for k in range(min(rewards, steps - t)):
            i = t + k
            result[t] += alive * gamma ** (k + first) * reward[i].to(result.dtype)
            full = k == rewards - 1 or i == steps - 1
            over = torch.ones_like(stops[i]) if full else stops[i]
            after = gamma ** (k + 1 if power is None else power(k + 1)) * next_value[i]
            result[t] += alive * (over & ~ends[i]) * after
            alive = alive * ~over
    return result


@wrong("n_step_returns", says="The sum crosses an episode's end: rewards of the next episode do not belong to it.")
def crosses_the_end(reward, terminated, truncated, next_value, gamma, n):
    return _returns(reward, next_value, gamma, n, stops=torch.zeros_like(terminated), ends=terminated)


@wrong("n_step_returns", says="The sum stops at `terminated` only; a truncated episode is followed by a new one too.")
def crosses_a_truncation(reward, terminated, truncated, next_value, gamma, n):
    return _returns(reward, next_value, gamma, n, stops=terminated, ends=terminated)


@wrong("n_step_returns", says="The sum stops at `truncated` only; a terminated episode is followed by a new one too.")
def crosses_a_termination(reward, terminated, truncated, next_value, gamma, n):
    return _returns(reward, next_value, gamma, n, stops=truncated, ends=terminated)


@wrong("n_step_returns", says="A truncated episode still bootstraps: only `terminated` means that nothing follows.")
def nothing_after_a_truncation(reward, terminated, truncated, next_value, gamma, n):
    over = terminated | truncated
    return _returns(reward, next_value, gamma, n, stops=over, ends=over)


@wrong("n_step_returns", says="You bootstrap after a termination: nothing follows it.")
def a_future_after_termination(reward, terminated, truncated, next_value, gamma, n):
    over = terminated | truncated
    return _returns(reward, next_value, gamma, n, stops=over, ends=torch.zeros_like(over))


@wrong("n_step_returns", says="A step that is terminated and truncated is terminated: nothing follows it.")
def truncation_outweighs_termination(reward, terminated, truncated, next_value, gamma, n):
    return _returns(reward, next_value, gamma, n, stops=terminated | truncated, ends=terminated & ~truncated)


@wrong("n_step_returns", says="Gamma's exponent counts from the first step of the data; it must count from t.")
def exponent_from_the_start(reward, terminated, truncated, next_value, gamma, n):
    right = _returns(reward, next_value, gamma, n, stops=terminated | truncated, ends=terminated)
    powers = gamma ** torch.arange(len(reward), dtype=right.dtype)
    return right * powers.view(-1, *[1] * (right.dim() - 1))


@wrong("n_step_returns", says="You used n − 1 rewards.")
def one_reward_too_few(reward, terminated, truncated, next_value, gamma, n):
    over = terminated | truncated
    return _returns(reward, next_value, gamma, n, stops=over, ends=terminated, rewards=max(n - 1, 1))


@wrong("n_step_returns", says="You used n + 1 rewards.")
def one_reward_too_many(reward, terminated, truncated, next_value, gamma, n):
    return _returns(reward, next_value, gamma, n, stops=terminated | truncated, ends=terminated, rewards=n + 1)


@wrong("n_step_returns", says="Your result has the rewards' dtype: whole rewards cut every discount off.")
def returns_are_whole_numbers(reward, terminated, truncated, next_value, gamma, n):
    right = _returns(reward, next_value, gamma, n, stops=terminated | truncated, ends=terminated)
    return right.to(reward.dtype)


@wrong("n_step_returns", says="The bootstrap lies m steps ahead: its factor is γ to the power m, not γ.")
def bootstrap_with_plain_gamma(reward, terminated, truncated, next_value, gamma, n):
    over = terminated | truncated
    return _returns(reward, next_value, gamma, n, stops=over, ends=terminated, power=lambda m: 1)


@wrong("n_step_returns", says="A sum that stops early has m < n rewards, and its bootstrap the factor γ^m, not γ^n.")
def bootstrap_always_with_n(reward, terminated, truncated, next_value, gamma, n):
    over = terminated | truncated
    return _returns(reward, next_value, gamma, n, stops=over, ends=terminated, power=lambda m: n)


@wrong("n_step_returns", says="The bootstrap has one factor γ too few: it follows m rewards, so γ^m.")
def bootstrap_one_power_short(reward, terminated, truncated, next_value, gamma, n):
    over = terminated | truncated
    return _returns(reward, next_value, gamma, n, stops=over, ends=terminated, power=lambda m: m - 1)


@wrong("n_step_returns", says="The first reward is not discounted: its factor is γ to the power 0.")
def discounts_the_first_reward(reward, terminated, truncated, next_value, gamma, n):
    return _returns(reward, next_value, gamma, n, stops=terminated | truncated, ends=terminated, first=1)


@wrong("n_step_returns", says="At the end of the data the sum stops without a bootstrap; next_value[T − 1] follows it.")
def nothing_after_the_data(reward, terminated, truncated, next_value, gamma, n):
    ends = terminated.clone()
    ends[-1:] = True
    return _returns(reward, next_value, gamma, n, stops=terminated | truncated, ends=ends)


@wrong("n_step_returns", says="A sum of fewer than n rewards bootstraps too, unless its last step is terminated.")
def bootstraps_full_sums_only(reward, terminated, truncated, next_value, gamma, n):
    result, steps = torch.zeros_like(next_value), len(reward)
    for t in range(steps):
        alive = torch.ones_like(result[t])
        for k in range(min(n, steps - t)):
            result[t] += alive * gamma**k * reward[t + k].to(result.dtype)
            alive = alive * ~(terminated[t + k] | truncated[t + k])
        if t + n <= steps:
            result[t] += alive * gamma**n * next_value[t + n - 1]
    return result


@wrong("n_step_returns", says="next_value[i] already belongs to the observation *after* step i; you went one further.")
def value_of_one_step_later(reward, terminated, truncated, next_value, gamma, n):
    later = torch.cat([next_value[1:], next_value[-1:]])
    return _returns(reward, later, gamma, n, stops=terminated | truncated, ends=terminated)


@wrong("n_step_returns", says="There is no bootstrap at all: n rewards, and then what follows them.")
def never_bootstraps(reward, terminated, truncated, next_value, gamma, n):
    over = terminated | truncated
    return _returns(reward, next_value, gamma, n, stops=over, ends=torch.ones_like(over))


@wrong("n_step_returns", says="One environment's end stops the sums of all; each column has ends of its own.")
def one_end_stops_all(reward, terminated, truncated, next_value, gamma, n):
    over = terminated | truncated
    if over.dim() == 2:
        over = over.any(dim=1, keepdim=True).expand(over.shape)
    return _returns(reward, next_value, gamma, n, stops=over, ends=terminated)


# --------------------------------------------------------------------------------------- D7 SumTree


class _Tree:
    """A right tree in pieces; each class below replaces the piece that its author got wrong."""

    dtype = torch.float64

    def __init__(self, capacity, *, device="cpu"):
        self.size = 1
        while self.size < capacity:
            self.size *= 2
        self.nodes = torch.zeros(2 * self.size, dtype=self.dtype, device=device)

    def update(self, slots, values):
        node = slots + self.size
        self.nodes[node] = values.to(self.nodes.dtype)
        level = self.size
        while level > 1:
            node, level = node // 2, level // 2
            self.nodes[node] = self.nodes[2 * node] + self.nodes[2 * node + 1]

    def find(self, mass):
        node = torch.ones_like(mass, dtype=torch.int64)
        level = 1
        while level < self.size:
            node, level = 2 * node, 2 * level
            right = self.goes_right(mass, self.nodes[node], self.nodes[node + 1])
            mass = self.rest(mass, self.nodes[node], right)
            node = node + right
        return node - self.size

    def goes_right(self, mass, left, right):
        return (mass >= left) & (right > 0)

    def rest(self, mass, left, goes_right):
        return torch.where(goes_right, mass - left, mass)


@wrong("SumTree", says="Tree parents are stale after an update: mend the sums all the way up to the root.")
class parents_are_stale(_Tree):
    def update(self, slots, values):
        self.nodes[slots + self.size] = values.to(self.nodes.dtype)


@wrong("SumTree", says="Only the parents were mended: grandparents and the total are stale.")
class mends_one_level(_Tree):
    def update(self, slots, values):
        node = slots + self.size
        self.nodes[node] = values.to(self.nodes.dtype)
        if self.size > 1:
            node = node // 2
            self.nodes[node] = self.nodes[2 * node] + self.nodes[2 * node + 1]


@wrong("SumTree", says="A slot that comes twice in one update was added twice: sum the children anew.")
class counts_repeated_slots_twice(_Tree):
    def update(self, slots, values):
        node = slots + self.size
        change = values.to(self.nodes.dtype) - self.nodes[node]
        self.nodes[node] = values.to(self.nodes.dtype)
        level = self.size
        while level > 1:
            node, level = node // 2, level // 2
            self.nodes.index_add_(0, node, change)


@wrong("SumTree", says="`nodes[parents] += change` adds only once where two slots share a parent.")
class loses_a_change_of_siblings(_Tree):
    def update(self, slots, values):
        node = slots + self.size
        change = values.to(self.nodes.dtype) - self.nodes[node]
        self.nodes[node] = values.to(self.nodes.dtype)
        level = self.size
        while level > 1:
            node, level = node // 2, level // 2
            self.nodes[node] += change


@wrong("SumTree", says="You add the new values to the old ones; update sets them.")
class adds_to_the_old_value(_Tree):
    def update(self, slots, values):
        super().update(slots, self.nodes[slots + self.size] + values)


@wrong("SumTree", says="You sum the whole tree anew at every update: that is O(capacity), not O(log capacity).")
class rebuilds_the_whole_tree(_Tree):
    def update(self, slots, values):
        self.nodes[slots + self.size] = values.to(self.nodes.dtype)
        level = self.size // 2
        while level:
            self.nodes[level : 2 * level] = self.nodes[2 * level : 4 * level].view(-1, 2).sum(1)
            level //= 2


@wrong("SumTree", says="You search a cumulative sum of all slots: that is O(capacity); go down the tree instead.")
class searches_a_cumulative_sum(_Tree):
    def find(self, mass):
        leaves = self.nodes[self.size :]
        last = int(leaves.nonzero().max())
        return torch.searchsorted(leaves.cumsum(0), mass, right=True).clamp(max=last)


@wrong("SumTree", says="A mass equal to the left sum belongs to the right child: go left only where it is smaller.")
class border_goes_left(_Tree):
    def goes_right(self, mass, left, right):
        return (mass > left) & (right > 0)


@wrong("SumTree", says="On the way right the left sum must be subtracted from the mass.")
class forgets_to_subtract(_Tree):
    def rest(self, mass, left, goes_right):
        return mass


@wrong("SumTree", says="You subtract the left sum on the way left too.")
class subtracts_on_both_sides(_Tree):
    def rest(self, mass, left, goes_right):
        return mass - left


@wrong("SumTree", says="A mass that rounding lifts to the total finds an empty slot: never go where nothing is.")
class finds_an_empty_slot(_Tree):
    def goes_right(self, mass, left, right):
        return mass >= left


@wrong("SumTree", says="You changed the caller's masses in place.")
class changes_the_masses(_Tree):
    def rest(self, mass, left, goes_right):
        return mass.sub_(left * goes_right)


@wrong("SumTree", says="find returns the number of a node; a slot is node − size.")
class returns_node_numbers(_Tree):
    def find(self, mass):
        return super().find(mass) + self.size


@wrong("SumTree", says="The nodes are float32: a total of many slots swallows small numbers.")
class nodes_are_float32(_Tree):
    dtype = torch.float32


@wrong("SumTree", says="size must be the smallest power of two that is at least the capacity.")
class size_is_always_doubled(_Tree):
    def __init__(self, capacity, *, device="cpu"):
        self.size = 2 ** capacity.bit_length()
        self.nodes = torch.zeros(2 * self.size, dtype=torch.float64, device=device)


@wrong("SumTree", says="The nodes lie on the default device; make them with device=device.")
class tree_on_the_default_device(_Tree):
    def __init__(self, capacity, *, device="cpu"):
        super().__init__(capacity, device=None)


# ---------------------------------------------------------------------------- D7 PrioritizedReplay


class _Prioritized:
    """A right replay in pieces; each class below replaces the piece that its author got wrong."""

    def __init__(self, capacity, *, alpha=0.6, eps=1e-6, device="cpu"):
        self.tree = _Tree(capacity, device=device)
        self.alpha, self.eps, self.largest = alpha, eps, 1.0

    def add(self, slots):
        held = self.tree.nodes.new_full(slots.shape, self.newcomer())
        self.tree.update(slots, held)

    def newcomer(self):
        return self.largest**self.alpha

    def update(self, slots, errors):
        self.largest = max(self.largest, float((errors.double().abs() + self.eps).max()))
        self.tree.update(slots, self.held(errors.double()))

    def held(self, errors):
        return (errors.abs() + self.eps) ** self.alpha

    def sample(self, batch_size, beta, g):
        slots = self.tree.find(self.masses(batch_size, g))
        chance = self.tree.nodes[slots + self.tree.size] / self.tree.nodes[1]
        return slots, self.weights(chance, beta).float()

    def masses(self, batch_size, g):
        uniform = torch.rand(batch_size, generator=g, dtype=torch.float64, device=self.tree.nodes.device)
        part = torch.arange(batch_size, device=self.tree.nodes.device)
        return (part + uniform) / batch_size * self.tree.nodes[1]

    def weights(self, chance, beta):
        weights = (self.used() * chance) ** -beta
        return weights / weights.max()

    def used(self):
        return (self.tree.nodes[self.tree.size :] > 0).sum()


@wrong("PrioritizedReplay", says="α was applied twice: the tree holds p^α, and nobody takes the power again.")
class alpha_was_applied_twice(_Prioritized):
    def held(self, errors):
        return super().held(errors) ** self.alpha


@wrong("PrioritizedReplay", says="α is missing: the tree must hold p^α, not p.")
class alpha_is_missing(_Prioritized):
    def held(self, errors):
        return errors.abs() + self.eps


@wrong("PrioritizedReplay", says="Divide the weights by the largest of the batch.")
class weights_without_their_maximum(_Prioritized):
    def weights(self, chance, beta):
        return (self.used() * chance) ** -beta


@wrong("PrioritizedReplay", says="You divided the weights by their sum; divide by the largest.")
class weights_over_their_sum(_Prioritized):
    def weights(self, chance, beta):
        weights = chance**-beta
        return weights / weights.sum()


@wrong("PrioritizedReplay", says="The weights grow with P in yours: what is drawn too often must count less.")
class weights_grow_with_the_priority(_Prioritized):
    def weights(self, chance, beta):
        weights = chance**beta
        return weights / weights.max()


@wrong("PrioritizedReplay", says="β is ignored: it is the exponent of the weights.")
class beta_is_ignored(_Prioritized):
    def weights(self, chance, beta):
        return chance.min() / chance


@wrong("PrioritizedReplay", says="The weights are float64; the losses that they scale are float32.")
class weights_are_float64(_Prioritized):
    def sample(self, batch_size, beta, g):
        slots = self.tree.find(self.masses(batch_size, g))
        return slots, self.weights(self.tree.nodes[slots + self.tree.size], beta)


@wrong("PrioritizedReplay", says="The order is (slots, weights).")
class draws_come_in_the_wrong_order(_Prioritized):
    def sample(self, batch_size, beta, g):
        slots, weights = super().sample(batch_size, beta, g)
        return weights, slots


@wrong("PrioritizedReplay", says="New items got zero priority and are never sampled; give them the largest so far.")
class newcomers_get_nothing(_Prioritized):
    def newcomer(self):
        return 0.0


@wrong("PrioritizedReplay", says="New slots always get priority 1; they must get the largest that any slot ever had.")
class newcomers_always_get_one(_Prioritized):
    def newcomer(self):
        return 1.0


@wrong("PrioritizedReplay", says="The largest priority enters the tree of a new slot without its power α.")
class newcomers_without_alpha(_Prioritized):
    def newcomer(self):
        return self.largest


@wrong("PrioritizedReplay", says="The largest priority follows the last update; it must never fall.")
class largest_of_the_last_update(_Prioritized):
    def update(self, slots, errors):
        self.largest = 0.0
        super().update(slots, errors)


@wrong("PrioritizedReplay", says="The largest priority starts too low: before any larger one it is 1.")
class largest_starts_at_zero(_Prioritized):
    def newcomer(self):
        return super().newcomer() if self.largest > 1 or not float(self.tree.nodes[1]) else self.seen**self.alpha

    def update(self, slots, errors):
        self.seen = float((errors.double().abs() + self.eps).max())
        super().update(slots, errors)

    seen = 1.0


@wrong("PrioritizedReplay", says="The sign of the error counts in yours: a priority is |δ| + eps.")
class forgets_the_absolute_value(_Prioritized):
    def held(self, errors):
        return (errors + self.eps).clamp(min=0) ** self.alpha


@wrong("PrioritizedReplay", says="eps is missing: a slot without error would never be drawn again.")
class forgets_eps(_Prioritized):
    def held(self, errors):
        return errors.abs() ** self.alpha


@wrong("PrioritizedReplay", says="eps is added to |δ|, before the power α.")
class adds_eps_after_the_power(_Prioritized):
    def held(self, errors):
        return errors.abs() ** self.alpha + self.eps


@wrong("PrioritizedReplay", says="All slots are equally likely in yours: the masses must come from the tree's total.")
class draws_all_alike(_Prioritized):
    def sample(self, batch_size, beta, g):
        used = (self.tree.nodes[self.tree.size :] > 0).nonzero()[:, 0]
        slots = used[torch.randint(len(used), (batch_size,), generator=g, device=used.device)]
        return slots, self.weights(self.tree.nodes[slots + self.tree.size], beta).float()


@wrong(
    "PrioritizedReplay", says="You drew from all leaves with multinomial, which is O(capacity); use the tree's find."
)
class draws_by_multinomial(_Prioritized):
    def sample(self, batch_size, beta, g):
        leaves = self.tree.nodes[self.tree.size :]
        slots = torch.multinomial(leaves, batch_size, replacement=True, generator=g)
        return slots, self.weights(leaves[slots], beta).float()


@wrong("PrioritizedReplay", says="You always take the slots with the largest priorities; they must be drawn.")
class takes_the_largest(_Prioritized):
    def masses(self, batch_size, g):
        leaves = self.tree.nodes[self.tree.size :]
        best = leaves.argsort(descending=True)[torch.arange(batch_size) % min(batch_size, 4, len(leaves))]
        return leaves.cumsum(0)[best] - leaves[best] / 2


@wrong("PrioritizedReplay", says="You draw from PyTorch's global generator; hand g to the function that draws.")
class draws_by_the_global_generator(_Prioritized):
    def masses(self, batch_size, g):
        uniform = torch.rand(batch_size, dtype=torch.float64, device=self.tree.nodes.device)
        part = torch.arange(batch_size, device=self.tree.nodes.device)
        return (part + uniform) / batch_size * self.tree.nodes[1]


@wrong("PrioritizedReplay", says="Some tensors lie on the default device; make every one on the tree's.")
class draws_on_the_default_device(_Prioritized):
    def masses(self, batch_size, g):
        uniform = torch.rand(batch_size, generator=g, dtype=torch.float64)
        return (torch.arange(batch_size) + uniform) / batch_size * self.tree.nodes[1]


@dialect(
    "PrioritizedReplay",
    says="New slots get the largest priority that is held now; here the largest that was ever held was asked for.",
)
class newcomers_get_the_present_largest(_Prioritized):
    def newcomer(self):
        held = float(self.tree.nodes[self.tree.size :].max())
        return held or 1.0


class _WholeTree(_Prioritized):
    def weights(self, chance, beta):
        leaves = self.tree.nodes[self.tree.size :]
        least = leaves[leaves > 0].min() / self.tree.nodes[1]
        return (least / chance) ** beta


@dialect(
    "PrioritizedReplay",
    says="You divide by the largest weight of the whole replay, as some codebases do; asked was the batch's.",
)
class weights_of_the_whole_replay(_WholeTree):
    pass


@dialect(
    "PrioritizedReplay",
    says="You divide by the largest weight of the whole replay, as some codebases do; asked was that of the batch.",
)
class weights_of_the_whole_replay_drawn_alone(_WholeTree):
    def masses(self, batch_size, g):
        uniform = torch.rand(batch_size, generator=g, dtype=torch.float64, device=self.tree.nodes.device)
        return uniform * self.tree.nodes[1]


# ------------------------------------------------------------------------------------------ D7 dueling


@wrong("dueling", says="Dueling must subtract the mean advantage: without it V and A cannot be told apart.")
def adds_without_the_mean(value, advantage):
    return value + advantage


@wrong("dueling", says="The mean ran over the batch; it is over the actions, for each row alone.")
def mean_over_the_batch(value, advantage):
    return value + advantage - advantage.mean(0, keepdim=True) if len(value) else value + advantage


@wrong("dueling", says="The mean ran over everything; it is over the actions, for each row alone.")
def mean_over_everything(value, advantage):
    return value + advantage - advantage.mean() if len(value) else value + advantage


@wrong("dueling", says="V lost its axis, so (B,) meets (B, A): keep it (B, 1).")
def value_loses_its_axis(value, advantage):
    return value.squeeze(-1) + advantage - advantage.mean(-1, keepdim=True)


@wrong("dueling", says="The mean lost its axis, so (B,) meets (B, A): use keepdim=True.")
def mean_loses_its_axis(value, advantage):
    return value + advantage - advantage.mean(-1)


@wrong("dueling", says="V is missing, or cancels: the centred advantages alone do not say how good the state is.")
def forgets_the_value(value, advantage):
    q = value + advantage
    return q - q.mean(-1, keepdim=True)


@dialect(
    "dueling", says="You subtract the maximum, as equation 8 of Wang et al. has it; equation 9 with the mean was asked."
)
def subtracts_the_maximum(value, advantage):
    return value + advantage - advantage.amax(-1, keepdim=True)
