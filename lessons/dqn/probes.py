"""Code that runs beside the learner's: generators, buffers, networks and trees, which do not cross the wire as values.

Each probe takes the learner's names as `code` and returns plain values.

Some run under PyTorch's default device "meta", whose tensors hold no numbers, while all that the learner is given lies
on the CPU. A tensor that is made without a device then lies on "meta", as it would lie on the CPU beside a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def generator(seed: int) -> torch.Generator:
    """Return a generator on the CPU."""
    return torch.Generator(device="cpu").manual_seed(seed)


def found_on(value: Any) -> Any:
    """Return a value with each tensor that holds no numbers replaced by the name of its device."""
    if isinstance(value, Tensor) and value.is_meta:
        return "on the default device"
    if isinstance(value, dict):
        return {name: found_on(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(found_on(part) for part in value)
    return value


# --------------------------------------------------------------------------------- epsilon_greedy


def actions(code: Any, q: Tensor, epsilon: float, seed: int, times: int = 1) -> list[Tensor]:
    """Choose actions so many times, one after the other from one generator."""
    g = generator(seed)
    return [code.epsilon_greedy(q, epsilon, g) for _ in range(times)]


def actions_elsewhere(code: Any, q: Tensor, epsilon: float, seed: int) -> Any:
    """Choose actions where the default device is not q's."""
    g = generator(seed)
    with torch.device("meta"):
        return found_on(code.epsilon_greedy(q, epsilon, g))


# ----------------------------------------------------------------------------------- ReplayBuffer


def stored(
    code: Any, capacity: int, obs_shape: tuple[int, ...], steps: list[dict[str, Tensor]], **settings: Any
) -> dict[str, Any]:
    """Add steps, each a dictionary of the arguments of `add`.

    Returns:
        slots: for each step, what `add` returned.
        lengths: for each step, the length after it.
        kept: what `get` returns of all slots in use.
        given: the steps, as they are afterwards.
    """
    buffer = code.ReplayBuffer(capacity, obs_shape, **settings)
    slots, lengths = [], []
    for step in steps:
        slots.append(buffer.add(**step))
        lengths.append(len(buffer))
    return {"slots": slots, "lengths": lengths, "kept": buffer.get(torch.arange(len(buffer))), "given": steps}


def stored_from_reused_memory(
    code: Any, capacity: int, obs_shape: tuple[int, ...], steps: list[dict[str, Tensor]]
) -> Any:
    """Add steps as a loop does that overwrites the same tensors in each step; return what `get` returns of all."""
    buffer = code.ReplayBuffer(capacity, obs_shape)
    memory = {name: value.clone() for name, value in steps[0].items()}
    for step in steps:
        for name, value in step.items():
            memory[name].copy_(value)
        buffer.add(**memory)
    for value in memory.values():
        value.zero_()
    return buffer.get(torch.arange(len(buffer)))


def stored_elsewhere(code: Any, capacity: int, obs_shape: tuple[int, ...], step: dict[str, Tensor], seed: int) -> Any:
    """Add one step to a buffer on the CPU where the default device is another; return slots, content and a sample."""
    g, everything = generator(seed), torch.arange(len(step["action"]))
    with torch.device("meta"):
        buffer = code.ReplayBuffer(capacity, obs_shape, device="cpu")
        slots = buffer.add(**step)
        return found_on({"slots": slots, "kept": buffer.get(everything), "sample": buffer.sample(3, g)})


def sampled(
    code: Any,
    capacity: int,
    obs_shape: tuple[int, ...],
    steps: list[dict[str, Tensor]],
    batch_size: int,
    seed: int,
    times: int = 1,
    later: dict[str, Tensor] | None = None,
) -> list[dict[str, Tensor]]:
    """Add steps and draw batches, one after the other from one generator.

    Args:
        later: a step that is added after the batches were drawn.
    """
    buffer = code.ReplayBuffer(capacity, obs_shape)
    for step in steps:
        buffer.add(**step)
    g = generator(seed)
    drawn = [buffer.sample(batch_size, g) for _ in range(times)]
    if later is not None:
        buffer.add(**later)
    return drawn


# ------------------------------------------------------------------------ td_target, batch_target


def target_with_gradients(
    code: Any, reward: Tensor, terminated: Tensor, q_next_target: Tensor, gamma: float, q_next_online: Tensor | None
) -> dict[str, Any]:
    """Compute targets from values that carry a graph, as networks return them.

    Returns:
        y: the targets.
        carries_gradient: whether they carry the graph on.
    """
    graphs = [None if q is None else q.clone().requires_grad_() * 1.0 for q in (q_next_target, q_next_online)]
    y = code.td_target(reward, terminated, graphs[0], gamma, graphs[1])
    return {"y": y, "carries_gradient": y.requires_grad}


class ValueNetwork(nn.Module):
    """Action values that are linear in the observation. It remembers what it was asked for.

    Args:
        weight: (features, actions).
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone())
        self.built_graph = False

    def forward(self, obs: Tensor) -> Tensor:
        """Return the values (B, A) of observations (B, features)."""
        self.built_graph |= torch.is_grad_enabled()
        return obs @ self.weight


def targets_of_batch(
    code: Any, batch: dict[str, Tensor], online: Tensor, target: Tensor, gamma: float, **settings: bool
) -> dict[str, Any]:
    """Compute the targets of a batch with two linear networks.

    Args:
        online: weight of the online network (features, actions).
        target: weight of the target network.

    Returns:
        y: the targets.
        built_graph: whether a network was run with gradients enabled.
    """
    networks = ValueNetwork(online), ValueNetwork(target)
    y = code.batch_target(batch, *networks, gamma, **settings)
    return {"y": y, "built_graph": any(network.built_graph for network in networks)}


# ------------------------------------------------------------------------------------------- sync


class Normalised(nn.Module):
    """A layer with a BatchNorm: parameters, floating buffers and a count.

    Args:
        parameters: weight (h, d) and bias (h,) of the layer, then weight and bias (h,) of the BatchNorm.
        buffers: running mean (h,), running variance (h,) and number of batches ().
    """

    def __init__(self, parameters: list[Tensor], buffers: list[Tensor]) -> None:
        super().__init__()
        height, width = parameters[0].shape
        self.layer = nn.Linear(width, height, dtype=parameters[0].dtype)
        self.norm = nn.BatchNorm1d(height, dtype=parameters[0].dtype)
        with torch.no_grad():
            for mine, value in zip([*self.parameters(), *self.buffers()], [*parameters, *buffers], strict=True):
                mine.copy_(value)


def synced(
    code: Any, target: dict[str, list[Tensor]], online: dict[str, list[Tensor]], taus: list[float], later: float
) -> dict[str, Any]:
    """Sync so many times, then overwrite the online network.

    Args:
        target: `parameters` and `buffers` of the target network.
        online: those of the online network.
        later: number that fills the online network afterwards.

    Returns:
        parameters, buffers: of the target, after each call.
        memory: what the tensors hold that were the target's before.
        online: parameters and buffers of the online network after the calls.
        afterwards: the target's, after the online network was overwritten.
        leaves: whether each of the target's parameters hangs on no graph.
    """
    slow, fast = Normalised(**target), Normalised(**online)
    memory = [one.detach() for one in (*slow.parameters(), *slow.buffers())]
    history: dict[str, Any] = {"parameters": [], "buffers": []}
    for tau in taus:
        code.sync(slow, fast, tau)
        for kind, values in history.items():
            values.append([one.detach().clone() for one in getattr(slow, kind)()])
    history["memory"] = [one.clone() for one in memory]
    history["online"] = [one.detach().clone() for one in (*fast.parameters(), *fast.buffers())]
    with torch.no_grad():
        for one in (*fast.parameters(), *fast.buffers()):
            one.fill_(later)
    history["afterwards"] = [one.detach().clone() for one in (*slow.parameters(), *slow.buffers())]
    history["leaves"] = [one.is_leaf for one in slow.parameters()]
    return history


# ---------------------------------------------------------------------------------------- SumTree


def tree_after(
    code: Any, capacity: int, updates: list[tuple[Tensor, Tensor]], masses: Tensor | None = None
) -> dict[str, Any]:
    """Update a tree so many times.

    Returns:
        size: the tree's.
        nodes: after each update.
        found: what `find` returns for the masses; None without.
        masses: what the masses are afterwards.
    """
    tree = code.SumTree(capacity)
    nodes = []
    for slots, values in updates:
        tree.update(slots, values)
        nodes.append(tree.nodes.clone())
    found = None if masses is None else tree.find(masses)
    return {"size": tree.size, "nodes": nodes, "found": found, "masses": masses}


def tree_with_nodes(code: Any, capacity: int, nodes: Tensor, slots: Tensor, values: Tensor, masses: Tensor) -> Any:
    """Write numbers into the nodes of a tree, and then find masses; write them again, and then update.

    Returns:
        found: the slots.
        nodes: after the update.
    """
    tree = code.SumTree(capacity)
    tree.nodes[:] = nodes
    found = tree.find(masses)
    tree.nodes[:] = nodes
    tree.update(slots, values)
    return {"found": found, "nodes": tree.nodes}


def tree_elsewhere(code: Any, capacity: int, slots: Tensor, values: Tensor, masses: Tensor) -> Any:
    """Use a tree on the CPU where the default device is another; return its nodes, and the slots found."""
    with torch.device("meta"):
        tree = code.SumTree(capacity, device="cpu")
        tree.update(slots, values)
        return found_on({"nodes": tree.nodes, "found": tree.find(masses)})


# ------------------------------------------------------------------------------ PrioritizedReplay


def prioritized(code: Any, capacity: int, steps: list[dict[str, Tensor]], **settings: Any) -> list[Tensor]:
    """Add and update slots; return the nodes of the tree after each step.

    Args:
        steps: each holds the arguments of `update` (slots, errors), or those of `add` (slots).
    """
    replay = code.PrioritizedReplay(capacity, **settings)
    history = []
    for step in steps:
        _take(replay, step)
        history.append(replay.tree.nodes.clone())
    return history


def drawn(
    code: Any,
    capacity: int,
    steps: list[dict[str, Tensor]],
    batch_size: int,
    beta: float,
    seed: int,
    times: int = 1,
    nodes: Tensor | None = None,
    **settings: Any,
) -> tuple[Tensor, Tensor]:
    """Add and update slots, and draw batches, one after the other from one generator.

    Args:
        nodes: numbers that are written into the tree before the batches are drawn.

    Returns:
        (slots, weights), each (times, batch_size).
    """
    replay = code.PrioritizedReplay(capacity, **settings)
    for step in steps:
        _take(replay, step)
    if nodes is not None:
        replay.tree.nodes[:] = nodes
    g = generator(seed)
    slots, weights = zip(*[replay.sample(batch_size, beta, g) for _ in range(times)], strict=True)
    return torch.stack(slots), torch.stack(weights)


def weights_of_slots(code: Any, capacity: int, **inputs: Any) -> Tensor:
    """Draw one batch as `drawn` does; return the weight that each slot (capacity,) got, 0 where it was not drawn."""
    slots, weights = drawn(code, capacity, **inputs)
    table = torch.zeros(capacity, dtype=weights.dtype)
    table[slots[0]] = weights[0]
    return table


def drawn_elsewhere(
    code: Any, capacity: int, steps: list[dict[str, Tensor]], batch_size: int, beta: float, seed: int
) -> Any:
    """Add and update slots and draw one batch on the CPU, where the default device is another."""
    g = generator(seed)
    with torch.device("meta"):
        replay = code.PrioritizedReplay(capacity, device="cpu")
        for step in steps:
            _take(replay, step)
        return found_on(replay.sample(batch_size, beta, g))


def device_of_the_tree(code: Any, capacity: int, device: str) -> str:
    """Return the name of the device on which a new replay on this device has its tree."""
    return str(code.PrioritizedReplay(capacity, device=device).tree.nodes.device)


def _take(replay: Any, step: dict[str, Tensor]) -> None:
    if "errors" in step:
        replay.update(**step)
    else:
        replay.add(**step)
