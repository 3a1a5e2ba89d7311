"""What deep Q-learning on CartPole-v1 costs, side by side: this harness, stable-baselines3, plain loops.

    python dqn.py speed [--rounds 5]
    python dqn.py solve [--seeds 10 11 12 13 14]

`speed`: the same work for all. Network 4-120-84-2, batch 128, one update for every 10 environment steps, Adam at
2.5e-4, Huber loss, replay of 10,000, target copied every 500 steps. coursekit collects 256 steps at a time, as it does
in `solve`. The cost of a step is the difference between a long and a short training over the extra steps, so that
set-up does not count. Cases take turns in every round, and ratios are taken round by round.

`solve`: CPU seconds of training until the greedy policy reaches a mean return of 475 over 100 episodes. All policies
are judged by the same 100 episodes, every 1024 environment steps, and the judging is taken out of the time.
stable-baselines3 has the settings that RL Baselines3 Zoo publishes for CartPole-v1. So has coursekit, but for a network
of 120 and 84 units instead of 256 and 256, sixteen environments instead of one, a Huber delta of 10 instead of 1, a
learning rate that falls on a line, and no clipping of the gradient's norm. The network found is then played on 100
episodes that chose nothing. A seed that does not get there within 50,000 steps counts with all its seconds. Our
settings were chosen on seeds 0 to 9.

One CPU thread. The harness runs with checkpoints and history on; the others only train.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import math
import os
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import gymnasium  # noqa: E402 - after the environment that torch reads
import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from coursekit import runtime  # noqa: E402
from coursekit.config import Training  # noqa: E402
from coursekit.harness import fit  # noqa: E402
from coursekit.rl import DQN, CartPole, Learning, QNetwork, experience, play  # noqa: E402

# Lightning's import slows every `optimizer.step` on a machine without a GPU; the others must not pay for that.
os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"

RATE, BATCH, STEPS_PER_UPDATE, WARMUP = 2.5e-4, 128, 10, 1000
SOLVED, JUDGED_BY = 475.0, 10_000
BASES = ("stable-baselines3, one environment", "single-file script", "bare loop")


def coursekit_steps(steps: int, *, environments: int = 64, by_hand: bool = True) -> None:
    learning = Learning(
        environments=environments,
        rollout=256 // environments,
        steps_per_update=STEPS_PER_UPDATE,
        warmup=WARMUP,
        capacity=10_000,
        target_updates=50,
        tau=1.0,
        epsilon_steps=steps // 2,
    )
    agent = DQN(
        QNetwork(4, (120, 84), 2),
        environments=CartPole,
        learning=learning,
        optimizer=lambda p: torch.optim.Adam(p, lr=RATE),
        by_hand=by_hand,
    )
    updates = (steps - WARMUP) // STEPS_PER_UPDATE
    data = experience("CartPole-v1", updates=updates, batch_size=BATCH, episodes=1)
    with tempfile.TemporaryDirectory() as folder:
        training = Training(epochs=1, batch_size=BATCH, device="cpu", threads=1)
        fit(agent, data, training, out=Path(folder), quiet=True)


class QNetwork120x84(nn.Module):
    """The network of a single-file script."""

    def __init__(self, env: gymnasium.vector.VectorEnv) -> None:
        super().__init__()
        inputs, actions = int(np.prod(env.single_observation_space.shape)), int(env.single_action_space.n)  # pyright: ignore
        self.network = nn.Sequential(
            nn.Linear(inputs, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, actions)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)


class ArrayReplay:
    """The replay of a single-file script: arrays, one transition at a time, tensors when sampled."""

    def __init__(self, size: int, device: torch.device) -> None:
        self.obs, self.next_obs = np.zeros((size, 4), np.float32), np.zeros((size, 4), np.float32)
        self.actions, self.rewards = np.zeros((size, 1), np.int64), np.zeros((size, 1), np.float32)
        self.dones = np.zeros((size, 1), np.float32)
        self.size, self.position, self.full, self.device = size, 0, False, device

    def add(self, obs: Any, next_obs: Any, action: Any, reward: Any, done: Any) -> None:
        i = self.position
        self.obs[i], self.next_obs[i] = np.array(obs), np.array(next_obs)
        self.actions[i], self.rewards[i], self.dones[i] = np.array(action), np.array(reward), np.array(done)
        self.position += 1
        if self.position == self.size:
            self.full, self.position = True, 0

    def sample(self, batch_size: int) -> tuple[Tensor, ...]:
        rows = np.random.randint(0, self.size if self.full else self.position, size=batch_size)
        columns = (self.obs, self.next_obs, self.actions, self.rewards, self.dones)
        return tuple(torch.tensor(column[rows]).to(self.device) for column in columns)


def single_file_steps(steps: int) -> None:
    """A single-file script as research code writes it: a vector environment of one, episode statistics, classes.

    The shape is that of CleanRL's dqn.py, without its logging.
    """
    device = torch.device("cpu")
    envs = gymnasium.vector.SyncVectorEnv(
        [lambda: gymnasium.wrappers.RecordEpisodeStatistics(gymnasium.make("CartPole-v1"))],
        autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP,
    )
    online, target = QNetwork120x84(envs).to(device), QNetwork120x84(envs).to(device)
    target.load_state_dict(online.state_dict())
    optimizer = torch.optim.Adam(online.parameters(), lr=RATE)
    replay = ArrayReplay(10_000, device)
    obs, _ = envs.reset(seed=0)
    for step in range(steps):
        epsilon = max(0.05, 1 - 0.95 * step / (steps / 2))
        if random.random() < epsilon:
            actions = np.array([envs.single_action_space.sample() for _ in range(envs.num_envs)])
        else:
            actions = torch.argmax(online(torch.Tensor(obs).to(device)), dim=1).cpu().numpy()
        next_obs, rewards, terminations, truncations, infos = envs.step(actions)
        led_to = next_obs.copy()
        for row, ended in enumerate(terminations | truncations):
            if ended:
                led_to[row] = infos["final_obs"][row]
        replay.add(obs[0], led_to[0], actions[0], rewards[0], terminations[0])
        obs = next_obs
        if step >= WARMUP and step % STEPS_PER_UPDATE == 0:
            seen, after, action, reward, done = replay.sample(BATCH)
            with torch.no_grad():
                goal = reward.flatten() + 0.99 * target(after).max(dim=1).values * (1 - done.flatten())
            loss = F.smooth_l1_loss(online(seen).gather(1, action).squeeze(), goal)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if step % 500 == 0:
            for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
                slow.data.copy_(fast.data)
    envs.close()


def bare_steps(steps: int) -> None:
    """A loop with nothing that could be left out: one bare environment, arrays, autograd, Adam."""
    env = gymnasium.make("CartPole-v1")
    size = 10_000
    obs_kept, next_kept = np.zeros((size, 4), np.float32), np.zeros((size, 4), np.float32)
    actions, rewards, dones = np.zeros(size, np.int64), np.zeros(size, np.float32), np.zeros(size, np.float32)

    def network() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 2))

    online, target = network(), network()
    target.load_state_dict(online.state_dict())
    optimizer = torch.optim.Adam(online.parameters(), lr=RATE)
    obs, _ = env.reset(seed=0)
    for step in range(steps):
        epsilon = max(0.05, 1 - 0.95 * step / (steps / 2))
        if random.random() < epsilon:
            action = random.randrange(2)
        else:
            with torch.no_grad():
                action = int(online(torch.from_numpy(obs)).argmax())
        next_obs, reward, terminated, truncated, _ = env.step(action)
        slot = step % size
        obs_kept[slot], next_kept[slot], actions[slot] = obs, next_obs, action
        rewards[slot], dones[slot] = reward, terminated
        obs = next_obs
        if terminated or truncated:
            obs, _ = env.reset()
        if step >= WARMUP and step % STEPS_PER_UPDATE == 0:
            rows = np.random.randint(0, min(step + 1, size), BATCH)
            with torch.no_grad():
                after = target(torch.from_numpy(next_kept[rows])).amax(1)
                goal = torch.from_numpy(rewards[rows]) + 0.99 * after * (1 - torch.from_numpy(dones[rows]))
            q = online(torch.from_numpy(obs_kept[rows]))
            loss = F.smooth_l1_loss(q.gather(1, torch.from_numpy(actions[rows])[:, None]).squeeze(1), goal)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if step % 500 == 0:
            target.load_state_dict(online.state_dict())


def baselines3_steps(steps: int, *, environments: int = 1) -> None:
    import stable_baselines3
    from stable_baselines3.common.env_util import make_vec_env

    model = stable_baselines3.DQN(
        "MlpPolicy",
        make_vec_env("CartPole-v1", environments),
        learning_rate=RATE,
        batch_size=BATCH,
        buffer_size=10_000,
        learning_starts=WARMUP,
        target_update_interval=500,
        # Rollouts of 5 steps of 16 environments, or of 10 of one, and one update for every 10.
        train_freq=STEPS_PER_UPDATE if environments == 1 else 5,
        gradient_steps=1 if environments == 1 else 5 * environments // STEPS_PER_UPDATE,
        exploration_fraction=0.5,
        policy_kwargs={"net_arch": [120, 84]},
        device="cpu",
        seed=0,
    )
    model.learn(steps)


def cpu_seconds(call: Callable[[], object]) -> float:
    gc.collect()
    before = time.process_time()
    call()
    return time.process_time() - before


def speed(rounds: int) -> None:
    short, long = 2000, 10_000
    cases: dict[str, Callable[[int], None]] = {}
    if importlib.util.find_spec("stable_baselines3"):
        cases["stable-baselines3, one environment"] = baselines3_steps
        cases["stable-baselines3, 16 environments"] = lambda steps: baselines3_steps(steps, environments=16)
    else:
        print("stable-baselines3 is not installed: its rows are left out")
    cases |= {
        "single-file script": single_file_steps,
        "bare loop": bare_steps,
        "coursekit, 64 environments": coursekit_steps,
        "coursekit, 16 environments": lambda steps: coursekit_steps(steps, environments=16),
        "coursekit, 64, by autograd": lambda steps: coursekit_steps(steps, by_hand=False),
    }
    per_second: dict[str, list[float]] = {name: [] for name in cases}
    for call in cases.values():
        call(short)
    for _ in range(rounds):
        for name, call in cases.items():
            extra = cpu_seconds(lambda call=call: call(long)) - cpu_seconds(lambda call=call: call(short))
            per_second[name].append((long - short) / extra)
    print(f"\n{rounds} rounds, median [quartiles]; ratios of environment steps per CPU second")
    bases = [name for name in cases if name in BASES]
    print(f"{'':<36} " + " ".join(f"{'to ' + base.partition(',')[0]:>22}" for base in bases))
    for name, mine in per_second.items():
        cells = []
        for base in bases:
            ratios = [one / other for one, other in zip(mine, per_second[base], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
            cells.append(f"{middle:.2f} [{low:.2f}, {high:.2f}]")
        print(f"{name:<36} " + " ".join(f"{cell:>22}" for cell in cells))


def judge(values: Callable[[Tensor], Tensor], seed: int = JUDGED_BY) -> float:
    return float(play(values, CartPole(100), seed=seed).returns.mean())


def solve_coursekit(seed: int) -> dict[str, Any]:
    rate, updates, epochs, batch = 2.3e-3, 512, 48, 64  # 1024 steps an epoch, 50,152 in all

    class Timed(DQN):
        """Counts the training's CPU seconds between evaluations, and stops at the goal."""

        seconds, since, solved = 0.0, 0.0, False

        def evaluate(self, batches: Any) -> dict[str, float]:
            self.seconds += time.process_time() - self.since
            scores = super().evaluate(batches)
            self.solved = scores["return"] >= SOLVED
            self.trainer.should_stop = self.solved
            self.since = time.process_time()
            return scores

    runtime.seed_everything(seed)
    agent = Timed(
        QNetwork(4, (120, 84), 2),
        environments=CartPole,
        learning=Learning(
            environments=16,
            rollout=16,
            steps_per_update=2,
            warmup=1000,
            capacity=100_000,
            target_updates=128,
            tau=1.0,
            epsilon_end=0.04,
            epsilon_steps=8000,
            huber_delta=10,
        ),
        optimizer=lambda p: torch.optim.Adam(p, lr=rate),
        schedule=lambda step: rate * max(0.02, 1 - step / (epochs * updates)),
        seed=seed,
    )
    data = experience("CartPole-v1", updates=updates, batch_size=batch, episodes=100, seed=JUDGED_BY)
    training = Training(epochs=epochs, batch_size=batch, device="cpu", threads=1)
    agent.since = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        fit(agent, data, training, seed=seed, out=Path(folder), quiet=True)
    assert agent.experience is not None
    greedy, fresh = judge(agent.values), judge(agent.values, seed=JUDGED_BY + 1000)
    return {"steps": agent.experience.steps, "seconds": agent.seconds, "greedy": greedy, "fresh": fresh}


def solve_baselines3(seed: int) -> dict[str, Any]:
    import stable_baselines3
    from stable_baselines3.common.callbacks import BaseCallback

    class Judge(BaseCallback):
        seconds, since, solved = 0.0, 0.0, False

        def _on_training_start(self) -> None:
            self.since = time.process_time()

        def _on_step(self) -> bool:
            if self.num_timesteps % 1024 == 1 and self.num_timesteps > 1024:  # right after updates
                self.seconds += time.process_time() - self.since
                self.solved = judge(self.model.q_net) >= SOLVED  # pyright: ignore[reportAttributeAccessIssue]
                self.since = time.process_time()
            return not self.solved

    model = stable_baselines3.DQN(
        "MlpPolicy",
        "CartPole-v1",
        learning_rate=2.3e-3,
        batch_size=64,
        buffer_size=100_000,
        learning_starts=1000,
        gamma=0.99,
        target_update_interval=10,
        train_freq=256,
        gradient_steps=128,
        exploration_fraction=0.16,
        exploration_final_eps=0.04,
        policy_kwargs={"net_arch": [256, 256]},
        device="cpu",
        seed=seed,
    )
    callback = Judge()
    model.learn(50_000, callback=callback)
    if not callback.solved:
        callback.seconds += time.process_time() - callback.since
    network = model.q_net
    return {
        "steps": model.num_timesteps,
        "seconds": callback.seconds,
        "greedy": judge(network),
        "fresh": judge(network, seed=JUDGED_BY + 1000),
    }


def solve(seeds: list[int]) -> None:
    found: dict[str, list[dict[str, Any]]] = {"coursekit": [], "stable-baselines3": []}
    for seed in seeds:
        for name, call in (("coursekit", solve_coursekit), ("stable-baselines3", solve_baselines3)):
            found[name].append(call(seed))
            print(name, json.dumps({"seed": seed, **found[name][-1]}), flush=True)
    for name, rows in found.items():
        reached = sum(row["greedy"] >= SOLVED for row in rows)
        seconds = [row["seconds"] for row in rows]
        fresh = min((row["fresh"] for row in rows if row["greedy"] >= SOLVED), default=math.nan)
        print(f"{name}: {reached} of {len(rows)} seeds, median {statistics.median(seconds):.1f} CPU seconds, "
              f"lowest mean return on fresh episodes {fresh:.0f}")  # fmt: skip
    ratio = statistics.median(row["seconds"] for row in found["coursekit"]) / statistics.median(
        row["seconds"] for row in found["stable-baselines3"]
    )
    print(f"median to median: {ratio:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("job", choices=["speed", "solve"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12, 13, 14])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.job == "speed":
        speed(arguments.rounds)
    else:
        solve(arguments.seeds)


if __name__ == "__main__":
    main()
