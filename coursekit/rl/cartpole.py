"""CartPole-v1, N poles at once: Gymnasium's dynamics in NumPy arrays, reset within the step, and drawn."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from coursekit.errors import ArgumentError
from coursekit.rl.environments import Array, Step, check_count

GRAVITY, CART_MASS, POLE_MASS, FORCE, SECONDS = 9.8, 1.0, 0.1, 10.0, 0.02
TOTAL_MASS = CART_MASS + POLE_MASS
TRACK = 2.4
"""The episode ends where the cart leaves the track, at this many metres from its middle."""
TILT = 12 * 2 * math.pi / 360
"""The episode ends where the pole leans more than this, in radians."""
_START = 0.05  # every coordinate begins uniformly within this of zero


class CartPole:
    """A pole on a cart that is pushed left (0) or right (1); every step that it stands pays 1.

    Observations are (x, ẋ, θ, θ̇) in metres, metres per second, radians and radians per second. Gymnasium's own
    vectorised CartPole resets one step late (`NEXT_STEP`), which would put a transition that never happened into the
    replay, and its `SyncVectorEnv` steps the poles one after another.

    Args:
        count: N poles.
        length: half the pole's length in metres; Gymnasium's is 0.5.
        limit: steps after which an episode is truncated; CartPole-v1 has 500.

    Raises:
        ArgumentError: a number is not positive.

    Source: Barto, Sutton & Anderson 1983; step for step equal to `gymnasium.make("CartPole-v1")` (Euler).
    """

    def __init__(self, count: int, *, length: float = 0.5, limit: int = 500) -> None:
        check_count("CartPole", count)
        if not (0 < length < math.inf) or limit < 1:
            raise ArgumentError(
                "CartPole",
                "a positive length (metres) and a limit of at least 1 step",
                got=f"length {length}, limit {limit}",
                fix="choose both there",
            )
        self.name = "CartPole-v1" if (length, limit) == (0.5, 500) else f"CartPole (length {length}, limit {limit})"
        self.count, self.length, self.limit = count, length, limit
        self.actions, self.obs_dtype = 2, torch.float32
        self.obs_shape: tuple[int, ...] = (4,)
        self.generator = torch.Generator()
        self.physics = np.zeros((4, count))  # float64, as Gymnasium keeps it; only what is seen is rounded
        self.elapsed = np.zeros(count, np.int64)

    def reset(self, seed: int) -> Array:
        """Start N new episodes."""
        self.generator.manual_seed(seed)
        self.physics = self._draw(self.count)
        self.elapsed[:] = 0
        return self._seen()

    def step(self, action: Array) -> Step:
        """Push every cart for 0.02 seconds."""
        x, velocity, angle, spin = self.physics
        sine, cosine = np.sin(angle), np.cos(angle)
        lever = POLE_MASS * self.length
        push = (np.where(action == 1, FORCE, -FORCE) + lever * np.square(spin) * sine) / TOTAL_MASS
        spin_change = (GRAVITY * sine - cosine * push) / (
            self.length * (4.0 / 3.0 - POLE_MASS * np.square(cosine) / TOTAL_MASS)
        )
        change = push - lever * spin_change * cosine / TOTAL_MASS
        self.physics = physics = np.empty_like(self.physics)
        np.add(x, SECONDS * velocity, out=physics[0])
        np.add(velocity, SECONDS * change, out=physics[1])
        np.add(angle, SECONDS * spin, out=physics[2])
        np.add(spin, SECONDS * spin_change, out=physics[3])
        self.elapsed += 1
        next_obs = obs = self._seen()
        terminated = (np.abs(physics[0]) > TRACK) | (np.abs(physics[2]) > TILT)
        truncated = self.elapsed >= self.limit
        ended = terminated | truncated
        if ended.any():
            rows = np.flatnonzero(ended)
            physics[:, rows] = self._draw(len(rows))
            self.elapsed[rows] = 0
            obs = self._seen()
        return Step(obs, next_obs, np.ones(self.count, np.float32), terminated, truncated)

    def state(self) -> dict[str, Any]:
        """Return positions, clocks and the random state."""
        return {
            "physics": torch.from_numpy(self.physics.copy()),
            "elapsed": torch.from_numpy(self.elapsed.copy()),
            "random": self.generator.get_state(),
        }

    def restore(self, state: dict[str, Any]) -> Array:
        """Take back what `state` returned."""
        self.physics, self.elapsed = state["physics"].numpy().copy(), state["elapsed"].numpy().copy()
        self.generator.set_state(state["random"])
        return self._seen()

    def _draw(self, poles: int) -> Array:
        start = torch.rand(4, poles, generator=self.generator, dtype=torch.float64).numpy()
        return start * (2 * _START) - _START

    def _seen(self) -> Array:
        return np.ascontiguousarray(self.physics.T, dtype=np.float32)


def draw(obs: Array, *, length: float = 0.5, width: int = 240) -> Array:
    """Draw carts and poles as they would be seen from the side.

    Args:
        obs: (..., 4), observations.
        length: half the pole's length in metres.
        width: of a picture, in pixels; its height is half of that.

    Returns:
        Pictures (..., width // 2, width, 3), uint8.
    """
    scale = width / (2 * TRACK)  # pixels for a metre
    ground = -0.35  # of the lower edge, in metres from the axle
    across = (np.arange(width) + 0.5) / scale - TRACK
    up = ground + (np.arange(width // 2)[::-1] + 0.5) / scale
    x, angle = (np.asarray(obs, np.float64)[..., axis, None, None] for axis in (0, 2))
    right, height = across - x, np.broadcast_to(up[:, None], (width // 2, width))
    # Signed distances in metres, negative inside; half a pixel on either side of 0 is blended.
    along = np.clip(right * np.sin(angle) + height * np.cos(angle), 0, 2 * length)
    pole = np.hypot(right - along * np.sin(angle), height - along * np.cos(angle)) - 0.05
    cart = np.maximum(np.abs(right) - 0.25, np.abs(height + 0.1) - 0.1)
    track = np.broadcast_to(np.abs(height + 0.22) - 0.012, cart.shape)
    picture = np.full((*cart.shape, 3), 255.0)
    for distance, colour in ((track, (150, 150, 150)), (cart, (0, 114, 178)), (pole, (213, 94, 0))):
        cover = np.clip(0.5 - distance * scale, 0, 1)[..., None]
        picture += cover * (np.array(colour) - picture)
    return picture.round().astype(np.uint8)
