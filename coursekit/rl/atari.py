"""Atari games through the vector environment of ale-py: four grey frames of 84 × 84 pixels, stepped in C++ threads."""

from __future__ import annotations

from typing import Any

from gymnasium.vector import AutoresetMode

from coursekit.errors import ArgumentError, DeviceError
from coursekit.rl.environments import Gymnasium, check_count


class Atari(Gymnasium):
    """N copies of one Atari game. The games come with ale-py (extra `atari`); nothing is downloaded.

    Rewards are clipped to [−1, 1], each action is held for four frames, and an episode begins with up to 30 frames
    of no action: the usual settings of DQN. A lost life ends no episode.

    Args:
        game: its name in ale-py, for example `pong` or `breakout`.
        count: N.
        threads: that step the games; 0 leaves the choice to ale-py.
        clip_rewards: whether to clip; false to report scores.
        sticky: probability that the last action is repeated instead (0.25 in Machado et al. 2018; 0 in Mnih et al.).
        max_frames: of the game in one episode, after which it is truncated.

    Raises:
        DeviceError: ale-py is not installed.
        ArgumentError: ale-py has no such game, or N is below 1.

    Source: Bellemare et al. 2013; preprocessing of Mnih et al. 2015, methods.
    """

    def __init__(
        self,
        game: str,
        count: int,
        *,
        threads: int = 0,
        clip_rewards: bool = True,
        sticky: float = 0.0,
        max_frames: int = 108_000,
    ) -> None:
        check_count("Atari", count)
        try:
            from ale_py import roms
            from ale_py.vector_env import AtariVectorEnv
        except ModuleNotFoundError:
            raise DeviceError(
                "Atari",
                "the package ale-py (it is under the GPL, so an extra)",
                got="none installed",
                fix="install it with `pip install coursekit[atari]`, or choose CartPole",
            ) from None
        known = roms.get_all_rom_ids()
        if game not in known:
            raise ArgumentError(
                "Atari", f"one of ale-py's {len(known)} games, such as pong or breakout", got=repr(game), fix="name one"
            )
        options: dict[str, Any] = {
            "num_threads": threads,
            "reward_clipping": clip_rewards,
            "repeat_action_probability": sticky,
            "max_num_frames_per_episode": max_frames,
            "autoreset_mode": AutoresetMode.SAME_STEP,
        }
        self._wrap(game, count, AtariVectorEnv(game, count, **options))
