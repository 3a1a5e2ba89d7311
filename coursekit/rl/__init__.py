"""Reinforcement learning on the harness: environments, what is collected in them, and the agents that learn from it.

    environment  →  rollout (T, N)  →  replay  →  DQN
    `Environments`  `Collector`        `Replay`   a `Module`, trained by `coursekit.harness.fit`

Each arrow is a seam: a method that learns from rollouts as they come (policy gradients) takes the place of the last
two.
"""

from coursekit.rl.agent import DQN, Experience, experience
from coursekit.rl.atari import Atari
from coursekit.rl.cartpole import CartPole, draw
from coursekit.rl.collecting import Collector, Policy, Rollout
from coursekit.rl.environments import EnvironmentFactory, Environments, Gymnasium, Step
from coursekit.rl.evaluation import Episodes, play
from coursekit.rl.films import filmstrip, save_animation
from coursekit.rl.learning import Learning
from coursekit.rl.networks import AtariNetwork, HandWritten, QNetwork
from coursekit.rl.replay import PrioritizedReplay, Replay, SumTree
from coursekit.rl.returns import NStep, discounted_returns
from coursekit.rl.targets import Functions, dqn_loss, dueling, epsilon_greedy, linear_epsilon, sync, td_target

__all__ = [
    "DQN",
    "Atari",
    "AtariNetwork",
    "CartPole",
    "Collector",
    "EnvironmentFactory",
    "Environments",
    "Episodes",
    "Experience",
    "Functions",
    "Gymnasium",
    "HandWritten",
    "Learning",
    "NStep",
    "Policy",
    "PrioritizedReplay",
    "QNetwork",
    "Replay",
    "Rollout",
    "Step",
    "SumTree",
    "discounted_returns",
    "dqn_loss",
    "draw",
    "dueling",
    "epsilon_greedy",
    "experience",
    "filmstrip",
    "linear_epsilon",
    "play",
    "save_animation",
    "sync",
    "td_target",
]
