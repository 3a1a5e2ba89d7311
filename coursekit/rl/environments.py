"""The first seam: several environments side by side, stepped as arrays.

An agent knows an environment by this protocol alone, so another algorithm (policy gradients) or another world (Atari)
needs no change here. Arrays are NumPy's, since that is what Gymnasium speaks; N counts environments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from torch import Tensor

from coursekit.errors import ArgumentError

Array = NDArray[Any]


class Step(NamedTuple):
    """What one step of N environments gives.

    An environment whose episode ends is reset at once. `next_obs` is what the step led to, and belongs in a replay;
    `obs` is what the environment shows now, and is acted on. They differ in the rows that ended, and only there.

    Attributes:
        obs: (N, *obs_shape), after the resets.
        next_obs: (N, *obs_shape), before them.
        reward: (N,), float32.
        terminated: (N,), bool: the episode came to its own end; nothing follows.
        truncated: (N,), bool: the episode was cut off, by a time limit for example; its value goes on.
    """

    obs: Array
    next_obs: Array
    reward: Array
    terminated: Array
    truncated: Array


class Environments(Protocol):
    """N copies of one environment with A discrete actions, numbered from 0.

    Attributes:
        name: what people call the environment.
        count: N.
        actions: A.
        obs_shape: of one observation.
        obs_dtype: float32 or uint8.
    """

    name: str
    count: int
    actions: int
    obs_shape: tuple[int, ...]
    obs_dtype: torch.dtype

    def reset(self, seed: int) -> Array:
        """Start N new episodes from a seed, and return what they show, (N, *obs_shape)."""
        ...

    def step(self, action: Array) -> Step:
        """Take one action (N,), int64, in each environment. The arrays returned are not written to later."""
        ...

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, as plain values and tensors."""
        ...

    def restore(self, state: dict[str, Any]) -> Array:
        """Take back what `state` returned, and return what the environments show."""
        ...


EnvironmentFactory = Callable[[int], Environments]
"""Builds N environments side by side, for example the class `CartPole` or `partial(Atari, "pong")`."""


class Gymnasium:
    """Any Gymnasium environment with a box of numbers to see and discrete actions.

    A Gymnasium environment cannot be copied. A checkpoint keeps the seed of its last reset and every action since,
    and `restore` takes these steps again: exact for environments that follow from their seed.

    Args:
        name: Gymnasium's id, for example `Acrobot-v1`.
        count: N.
        options: passed on to `gymnasium.make_vec`.

    Raises:
        ArgumentError: the id is unknown, N is below 1, or the spaces are of another kind.
    """

    def __init__(self, name: str, count: int, **options: Any) -> None:
        check_count("Gymnasium", count)
        try:
            environments = gymnasium.make_vec(
                name,
                num_envs=count,
                vectorization_mode="sync",
                vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
                **options,
            )
        except gymnasium.error.Error as error:
            first_line = str(error).partition("\n")[0]
            raise ArgumentError(
                "Gymnasium", "an environment that Gymnasium can make", got=f"{name!r} ({first_line})", fix="choose one"
            ) from None
        self._wrap(name, count, environments)

    def _wrap(self, name: str, count: int, environments: VectorEnv) -> None:
        seen, acted = environments.single_observation_space, environments.single_action_space
        if not isinstance(seen, Box) or not isinstance(acted, Discrete) or acted.start != 0:
            raise ArgumentError(
                "Gymnasium",
                "a box of numbers to see and discrete actions from 0",
                got=f"{name}: {seen} and {acted}",
                fix="choose another environment",
            )
        self.name, self.count, self.actions, self.obs_shape = name, count, int(acted.n), seen.shape
        self.obs_dtype = torch.uint8 if seen.dtype == np.uint8 else torch.float32
        self._numpy_dtype = np.uint8 if seen.dtype == np.uint8 else np.float32
        self._environments = environments
        self._seed = 0
        self._taken: list[Array] = []

    def reset(self, seed: int) -> Array:
        """Start N new episodes; environment i is seeded with `seed` + i."""
        self._seed, self._taken = seed, []
        obs, _ = self._environments.reset(seed=seed)
        return self._copy(obs)

    def step(self, action: Array) -> Step:
        """Take one action in each environment."""
        self._taken.append(np.asarray(action).astype(np.uint8 if self.actions <= 256 else np.int64))
        obs, reward, terminated, truncated, info = self._environments.step(np.asarray(action))
        obs = self._copy(obs)
        next_obs = obs
        ended = terminated | truncated
        if ended.any():
            next_obs = obs.copy()
            for row in np.flatnonzero(ended):
                next_obs[row] = info["final_obs"][row]
        return Step(obs, next_obs, np.asarray(reward, np.float32), terminated.copy(), truncated.copy())

    def state(self) -> dict[str, Any]:
        """Return the seed of the last reset and the actions since."""
        taken = torch.from_numpy(np.stack(self._taken)) if self._taken else torch.empty(0, self.count)
        return {"seed": self._seed, "taken": taken}

    def restore(self, state: dict[str, Any]) -> Array:
        """Reset with the same seed and take the same steps again."""
        obs = self.reset(state["seed"])
        for action in state["taken"].numpy():
            obs = self.step(action.astype(np.int64)).obs
        return obs

    def _copy(self, obs: Any) -> Array:
        return np.array(obs, self._numpy_dtype)  # Gymnasium writes into its own array at the next step


def check_count(where: str, count: int) -> None:
    """Raise an ArgumentError unless there is at least one environment."""
    if count < 1:
        raise ArgumentError(where, "at least one environment", got=count, fix="set the count to 1 or more")


def as_tensor(array: Array, device: torch.device) -> Tensor:
    """Return an array as a tensor on a device; on the CPU both share their memory."""
    return torch.from_numpy(array).to(device, non_blocking=True)
