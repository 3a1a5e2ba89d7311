"""Other right answers, written in other ways: the grader must accept each of them."""

# Learners' code: it leans on PyTorch's private names.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import itertools
import math

import torch
from torch import nn

from coursekit.grading.answers import alternative

# ------------------------------------------------------------------------------ D1 epsilon_greedy


@alternative("epsilon_greedy", says="explores by writing into the greedy actions, under a mask")
def explores_under_a_mask(q, epsilon, g):
    action = q.max(dim=-1).indices
    mask = torch.empty(len(q), device=q.device).uniform_(generator=g) < epsilon
    action[mask] = torch.randint(0, q.shape[-1], (int(mask.sum()),), generator=g, device=q.device)
    return action


@alternative("epsilon_greedy", says="one draw for each row, from the probabilities of all its actions")
def draws_from_probabilities(q, epsilon, g):
    best = nn.functional.one_hot(q.argmax(1), q.size(1))
    chances = epsilon / q.size(1) + (1 - epsilon) * best.double()
    if not len(q):
        return best.sum(1)
    return torch.multinomial(chances, 1, generator=g)[:, 0]


@alternative("epsilon_greedy", says="a loop over the rows")
def one_row_at_a_time(q, epsilon, g):
    chosen = []
    for row in q.tolist():
        if torch.rand((), generator=g, device=q.device).item() < epsilon:
            chosen.append(torch.randint(len(row), (), generator=g, device=q.device).item())
        else:
            chosen.append(row.index(max(row)))
    return torch.tensor(chosen, dtype=torch.long, device=q.device)


@alternative("linear_epsilon", says="falls by a slope, and never below the floor")
def falls_to_the_floor(step, start=1.0, end=0.05, decay_steps=10_000):
    slope = (start - end) / decay_steps
    return max(end, start - slope * step)


@alternative("linear_epsilon", says="asks for the end first, then mixes both ends")
def mixes_both_ends(step, start=1.0, end=0.05, decay_steps=10_000):
    if step >= decay_steps:
        return end
    left = (decay_steps - step) / decay_steps
    return left * start + (1 - left) * end


# -------------------------------------------------------------------------------- D2 ReplayBuffer


@alternative("ReplayBuffer", says="one transition at a time, a pointer and a flag that says whether it is full")
class OneAtATime:
    def __init__(self, capacity, obs_shape, *, dtype=torch.float32, device="cpu"):
        self.capacity, self.device = capacity, device
        self.obs = torch.zeros(capacity, *obs_shape, dtype=dtype, device=device)
        self.next_obs = torch.zeros_like(self.obs)
        self.action = torch.zeros(capacity, dtype=torch.long, device=device)
        self.reward = torch.zeros(capacity, dtype=torch.float32, device=device)
        self.terminated = torch.zeros(capacity, dtype=torch.bool, device=device)
        self.truncated = torch.zeros(capacity, dtype=torch.bool, device=device)
        self.pointer, self.full = 0, False

    def __len__(self):
        return self.capacity if self.full else self.pointer

    def add(self, obs, action, reward, next_obs, terminated, truncated, final_obs=None):
        slots = []
        for row in range(action.shape[0]):
            ended = bool(terminated[row]) or bool(truncated[row])
            following = final_obs if ended and final_obs is not None else next_obs
            self.obs[self.pointer] = obs[row]
            self.next_obs[self.pointer] = following[row]
            self.action[self.pointer] = action[row]
            self.reward[self.pointer] = reward[row]
            self.terminated[self.pointer] = terminated[row]
            self.truncated[self.pointer] = truncated[row]
            slots.append(self.pointer)
            self.pointer += 1
            if self.pointer == self.capacity:
                self.pointer, self.full = 0, True
        return torch.tensor(slots, dtype=torch.long, device=self.device)

    def get(self, slots):
        names = ("obs", "action", "reward", "next_obs", "terminated", "truncated")
        return {name: getattr(self, name).index_select(0, slots) for name in names}

    def sample(self, batch_size, g):
        if not self.full and self.pointer == 0:
            raise ValueError("nothing to sample from")
        return self.get(torch.randint(0, len(self), (batch_size,), generator=g, device=self.device))


@alternative("ReplayBuffer", says="lists of Python, stacked when they are read")
class ListsOfRows:
    def __init__(self, capacity, obs_shape, *, dtype=torch.float32, device="cpu"):
        self.rows = []
        self.capacity, self.obs_shape, self.dtype, self.device = capacity, obs_shape, dtype, device
        self.position = 0

    def __len__(self):
        return len(self.rows)

    def add(self, obs, action, reward, next_obs, terminated, truncated, final_obs=None):
        after = next_obs.clone()
        if final_obs is not None:
            over = (terminated | truncated).nonzero().squeeze(1)
            after[over] = final_obs[over].to(after)
        slots = []
        for values in zip(*[part.clone() for part in (obs, action, reward, after, terminated, truncated)], strict=True):
            if len(self.rows) < self.capacity:
                self.rows.append(values)
            else:
                self.rows[self.position] = values
            slots.append(self.position)
            self.position = (self.position + 1) % self.capacity
        return torch.tensor(slots, dtype=torch.int64, device=self.device)

    def get(self, slots):
        obs, action, reward, next_obs, terminated, truncated = zip(*[self.rows[i] for i in slots.tolist()], strict=True)
        return {
            "obs": torch.stack(obs).to(self.device, self.dtype),
            "action": torch.stack(action).to(self.device).long(),
            "reward": torch.stack(reward).to(self.device).float(),
            "next_obs": torch.stack(next_obs).to(self.device, self.dtype),
            "terminated": torch.stack(terminated).to(self.device),
            "truncated": torch.stack(truncated).to(self.device),
        }

    def sample(self, batch_size, g):
        if len(self.rows) < 1:
            raise ValueError("the buffer is empty")
        uniform = torch.rand(batch_size, generator=g, dtype=torch.float64, device=g.device)
        return self.get((uniform * len(self.rows)).long())


@alternative("ReplayBuffer", says="two copies where a step meets the end of the ring, and index_copy_")
class TwoPieces:
    kinds = (("action", torch.int64), ("reward", torch.float32), ("terminated", torch.bool), ("truncated", torch.bool))

    def __init__(self, capacity, obs_shape, *, dtype=torch.float32, device="cpu"):
        self.capacity, self.start, self.count = capacity, 0, 0
        self.memory = {name: torch.zeros(capacity, dtype=kind, device=device) for name, kind in self.kinds}
        for name in ("obs", "next_obs"):
            self.memory[name] = torch.zeros((capacity, *obs_shape), dtype=dtype, device=device)

    def __len__(self):
        return self.count

    def add(self, obs, action, reward, next_obs, terminated, truncated, final_obs=None):
        if final_obs is not None:
            ended = torch.logical_or(terminated, truncated)
            while ended.dim() < next_obs.dim():
                ended = ended.unsqueeze(-1)
            next_obs = next_obs.where(ended.logical_not(), final_obs)
        rows, start = len(action), self.start
        before = min(rows, self.capacity - start)
        given = {"obs": obs, "action": action, "reward": reward, "next_obs": next_obs}
        for name, values in {**given, "terminated": terminated, "truncated": truncated}.items():
            self.memory[name][start : start + before].copy_(values[:before])
            self.memory[name][: rows - before].copy_(values[before:])
        self.start = (start + rows) % self.capacity
        self.count = min(self.capacity, self.count + rows)
        return torch.arange(start, start + rows, device=self.memory["action"].device).remainder(self.capacity)

    def get(self, slots):
        return {name: values[slots] for name, values in self.memory.items()}

    def sample(self, batch_size, g):
        if self.count == 0:
            raise ValueError("add something first")
        weights = torch.ones(self.count, device=self.memory["action"].device)
        return self.get(torch.multinomial(weights, batch_size, replacement=True, generator=g))


# ----------------------------------------------------------------------- D3 td_target, batch_target


@alternative("td_target", says="a mask: the reward alone, to which the future is added where there is one")
def target_under_a_mask(reward, terminated, q_next_target, gamma, q_next_online=None):
    q_next_target = q_next_target.detach()
    if q_next_online is None:
        value = q_next_target.max(dim=-1).values
    else:
        value = q_next_target[torch.arange(len(reward), device=reward.device), q_next_online.argmax(-1)]
    return torch.where(terminated.bool(), reward, reward + gamma * value)


@alternative("td_target", says="one-hot choice, and a future that is zeroed in place")
@torch.no_grad()
def target_by_one_hot(reward, terminated, q_next_target, gamma, q_next_online=None):
    best = (q_next_target if q_next_online is None else q_next_online).argmax(dim=1)
    chosen = nn.functional.one_hot(best, q_next_target.shape[1])
    future = (q_next_target * chosen).sum(dim=1)
    future[terminated != 0] = 0
    return torch.add(reward, future * gamma)


@alternative("td_target", says="max for DQN, take_along_dim for Double DQN, and logical_not for the flags")
@torch.no_grad()
def target_by_take_along_dim(reward, terminated, q_next_target, gamma, q_next_online=None):
    if q_next_online is None:
        value = q_next_target.amax(1)
    else:
        _, best = q_next_online.max(1, keepdim=True)
        value = torch.take_along_dim(q_next_target, best, dim=1).reshape(-1)
    return torch.addcmul(reward, terminated.logical_not().to(value), gamma * value)


@alternative("batch_target", says="on its own, without td_target, decorated")
@torch.no_grad()
def batch_target_written_out(batch, online, target, gamma, double=True):
    after = target(batch["next_obs"])
    best = online(batch["next_obs"]).argmax(dim=1, keepdim=True) if double else after.argmax(dim=1, keepdim=True)
    going_on = (~batch["terminated"]).to(after.dtype)
    return batch["reward"] + gamma * going_on * after.gather(1, best)[:, 0]


@alternative("batch_target", says="only the rows that go on are valued")
def values_only_what_goes_on(batch, online, target, gamma, double=True):
    y = batch["reward"].clone()
    alive = torch.nonzero(batch["terminated"].logical_not())[:, 0]
    following = batch["next_obs"][alive]
    with torch.no_grad():
        values = target(following)
        chooser = online(following) if double else values
        y[alive] += gamma * values[range(len(alive)), chooser.argmax(1)]
    return y


# ------------------------------------------------------------------------------------- D4 dqn_loss


@alternative("dqn_loss", says="both branches, joined by where")
def loss_by_where(q, action, target, huber_delta=1.0, weights=None):
    error = q[torch.arange(len(q), device=q.device), action] - target.detach()
    size = error.abs()
    loss = torch.where(size <= huber_delta, error**2 / 2, huber_delta * (size - huber_delta / 2))
    if weights is not None:
        loss = loss * weights
    return loss.sum() / len(q)


@alternative("dqn_loss", says="one-hot values, and a line whose overhang is taken off")
def loss_by_relu(q, action, target, huber_delta=1.0, weights=None):
    chosen = nn.functional.one_hot(action, q.shape[1]).to(q.dtype)
    error = (q * chosen).sum(-1) - target.data
    over = torch.relu(error.abs() - huber_delta)
    loss = (error.square() - over.square()) / 2
    return loss.mean() if weights is None else torch.dot(loss, weights) / q.shape[0]


@alternative("dqn_loss", says="a constant slope times the error, minus what that counts too much")
def loss_by_clipped_slope(q, action, target, huber_delta=1.0, weights=None):
    if weights is None:
        weights = q.new_ones(len(q))
    taken = torch.take_along_dim(q, action.view(-1, 1), dim=1).view(-1)
    with torch.no_grad():
        y = target.clone()
    error = taken - y
    slope = error.detach().clamp(-huber_delta, huber_delta)  # the gradient of h
    return torch.mean(weights * (slope * error - slope**2 / 2))


# ----------------------------------------------------------------------------------------- D5 sync


@alternative("sync", says="pairs by position, mul_ and add_, through .data")
def sync_by_position(target, online, tau):
    for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
        slow.data.mul_(1 - tau)
        slow.data.add_(fast.data, alpha=tau)
    for slow, fast in zip(target.buffers(), online.buffers(), strict=True):
        slow.data.copy_(fast.data)


@alternative("sync", says="a mixed state_dict, loaded")
def sync_by_state_dict(target, online, tau):
    learned = {name for name, _ in online.named_parameters()}
    slow, mixed = target.state_dict(), {}
    for name, value in online.state_dict().items():
        mixed[name] = tau * value + (1 - tau) * slow[name] if name in learned else value
    target.load_state_dict(mixed)


@alternative("sync", says="foreach operators")
@torch.no_grad()
def sync_by_foreach(target, online, tau):
    torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), tau)
    for slow, fast in zip(target.buffers(), online.buffers(), strict=True):
        slow.copy_(fast)


# ------------------------------------------------------------------------------- D6 n_step_returns


@alternative("n_step_returns", says="two loops over steps and rewards, each environment's discount its own")
def returns_by_two_loops(reward, terminated, truncated, next_value, gamma, n):
    result = torch.zeros_like(next_value)
    steps = len(reward)
    for t in range(steps):
        discount = torch.ones_like(next_value[t])
        for i in range(t, min(t + n, steps)):
            result[t] += discount * reward[i]
            discount = discount * gamma
            stops = terminated[i] | truncated[i]
            if i == min(t + n, steps) - 1:
                stops = torch.ones_like(stops)
            result[t] += discount * next_value[i] * (stops & ~terminated[i])
            discount = discount * ~stops
    return result


@alternative("n_step_returns", says="whole tensors, shifted: one more reward in each round, while it is alive")
def returns_by_shifting(reward, terminated, truncated, next_value, gamma, n):
    steps = reward.shape[0]
    result = torch.zeros_like(next_value)
    alive = torch.ones_like(next_value, dtype=torch.bool)
    for k in range(min(n, steps)):
        rows = steps - k
        result[:rows] += torch.where(alive[:rows], gamma**k * reward[k:], 0.0).to(result.dtype)
        stops = (terminated | truncated)[k:].clone()
        stops[-1] = True
        if k == n - 1:
            stops[:] = True
        bootstraps = alive[:rows] & stops & ~terminated[k:]
        result[:rows] += torch.where(bootstraps, gamma ** (k + 1) * next_value[k:], 0.0).to(result.dtype)
        alive[:rows] &= ~stops
    return result


@alternative("n_step_returns", says="where each sum stops is found first, then differences of discounted sums")
def returns_by_the_last_step(reward, terminated, truncated, next_value, gamma, n):
    steps = len(reward)
    last = torch.arange(steps).view(-1, *[1] * (reward.dim() - 1)).expand(reward.shape).clone()
    over = terminated | truncated
    for t in reversed(range(steps - 1)):  # the last step of t's episode, or of the data
        last[t] = torch.where(over[t], last[t], last[t + 1])
    start = torch.arange(steps).view(-1, *[1] * (reward.dim() - 1))
    last = torch.minimum(last, start + n - 1)
    total = torch.zeros_like(next_value)
    for t, k in itertools.product(range(steps), range(min(n, steps))):
        if t + k < steps:
            total[t] += torch.where(last[t] >= t + k, reward[t + k].to(total.dtype) * gamma**k, 0)
    value = next_value * (1 - terminated.to(next_value.dtype))
    return total + gamma ** (last - start + 1).to(total.dtype) * value.gather(0, last)


# --------------------------------------------------------------------------------------- D7 SumTree


@alternative("SumTree", says="one slot at a time, up and down in plain Python")
class TreeOneByOne:
    def __init__(self, capacity, *, device="cpu"):
        self.size = 1
        while self.size < capacity:
            self.size *= 2
        self.nodes = torch.zeros(2 * self.size, dtype=torch.float64, device=device)

    def update(self, slots, values):
        for slot, value in zip(slots.tolist(), values.tolist(), strict=True):
            node = self.size + slot
            self.nodes[node] = value
            while node > 1:
                node //= 2
                self.nodes[node] = self.nodes[2 * node] + self.nodes[2 * node + 1]

    def find(self, mass):
        return torch.tensor([self._descend(one) for one in mass.tolist()], dtype=torch.long, device=self.nodes.device)

    def _descend(self, mass):
        node = 1
        while node < self.size:
            left, right = self.nodes[2 * node].item(), self.nodes[2 * node + 1].item()
            if mass < left or right == 0:
                node = 2 * node
            else:
                mass -= left
                node = 2 * node + 1
        return node - self.size


@alternative("SumTree", says="parents without repetition, pairs of children read as rows")
class TreeOfPairs:
    def __init__(self, capacity, *, device="cpu"):
        self.size = 1 << math.ceil(math.log2(capacity))
        self.nodes = torch.zeros(2 * self.size, dtype=torch.double, device=device)

    def update(self, slots, values):
        self.nodes.index_put_((slots + self.size,), values.double())
        node = (slots + self.size).unique() >> 1
        while node.numel() and int(node[0]) >= 1:
            self.nodes[node] = self.nodes.view(-1, 2)[node].sum(dim=1)
            node = (node >> 1).unique()

    def find(self, mass):
        rest = mass.clone()
        node = torch.full(mass.shape, 1, dtype=torch.int64, device=mass.device)
        level = 1
        while level < self.size:
            pair = self.nodes.view(-1, 2)[node]
            right = torch.logical_and(rest.ge(pair[:, 0]), pair[:, 1].gt(0))
            rest = torch.where(right, rest - pair[:, 0], rest)
            node = 2 * node + right.long()
            level *= 2
        return node - self.size


# ---------------------------------------------------------------------------- D7 PrioritizedReplay


@alternative("PrioritizedReplay", says="independent draws, and weights written as in the paper")
class IndependentDraws:
    def __init__(self, capacity, *, alpha=0.6, eps=1e-6, device="cpu"):
        self.tree = _tree(capacity, device)
        self.alpha, self.eps, self.most, self.used, self.device = alpha, eps, 1.0, set(), device

    def add(self, slots):
        self.used.update(slots.tolist())
        self.tree.update(slots, torch.full(slots.shape, self.most**self.alpha, dtype=torch.double, device=self.device))

    def update(self, slots, errors):
        priorities = errors.abs() + self.eps
        self.most = max([self.most, *priorities.tolist()])
        self.tree.update(slots, torch.pow(priorities, self.alpha))

    def sample(self, batch_size, beta, g):
        total = self.tree.nodes[1].item()
        mass = torch.rand(batch_size, generator=g, dtype=torch.float64, device=self.device) * total
        slots = self.tree.find(mass)
        chance = self.tree.nodes[self.tree.size + slots] / total
        weights = (len(self.used) * chance) ** -beta
        return slots, (weights / weights.max()).to(torch.float32)


@alternative("PrioritizedReplay", says="stratified draws one by one, weights by logarithms")
class DrawsFromEachPart:
    def __init__(self, capacity, *, alpha=0.6, eps=1e-6, device="cpu"):
        self.tree, self.alpha, self.eps = _tree(capacity, device), alpha, eps
        self.largest = None

    def add(self, slots):
        held = 1.0 if self.largest is None else max(1.0, self.largest)
        values = torch.tensor([held**self.alpha] * len(slots), dtype=torch.float64, device=self.tree.nodes.device)
        self.tree.update(slots, values)

    def update(self, slots, errors):
        absolute = [abs(error) + self.eps for error in errors.double().tolist()]
        self.largest = max(absolute) if self.largest is None else max(self.largest, *absolute)
        values = [one**self.alpha for one in absolute]
        self.tree.update(slots, torch.tensor(values, dtype=torch.float64, device=self.tree.nodes.device))

    def sample(self, batch_size, beta, g):
        part = float(self.tree.nodes[1]) / batch_size
        uniform = torch.rand(batch_size, generator=g, dtype=torch.float64, device=self.tree.nodes.device).tolist()
        mass = [(number + one) * part for number, one in enumerate(uniform)]
        slots = self.tree.find(torch.tensor(mass, dtype=torch.float64, device=self.tree.nodes.device))
        logarithms = -beta * self.tree.nodes[slots + self.tree.size].log()
        return slots, (logarithms - logarithms.amax()).exp().float()


def _tree(capacity, device):
    return TreeOneByOne(capacity, device=device)


@alternative("dueling", says="advantages centred first")
def dueling_centred_first(value, advantage):
    centred = advantage - advantage.sum(-1, keepdim=True) / advantage.shape[-1]
    return centred + value.expand_as(centred)


@alternative("dueling", says="the mean taken off the value")
def dueling_mean_off_the_value(value, advantage):
    base = value.squeeze(-1) - torch.mean(advantage, -1)
    return advantage + base.unsqueeze(-1)
