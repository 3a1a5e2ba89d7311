"""Your exercises: write each body below, then run pytest on this folder.

Each exercise is graded alone, so any order will do. What a docstring states is what is checked. PyTorch's own version
of an exercise is blocked while that exercise is graded. B counts transitions, T steps in time, A actions.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def epsilon_greedy(q: Tensor, epsilon: float, g: torch.Generator) -> Tensor:
    """Choose one action for each row: mostly the best one, sometimes any.

        with probability ε         one of all A actions, each as likely as the others, the best one included
        with probability 1 − ε     the action of the largest value; the first of them where several are equal

    Every row decides for itself, independently of the other rows. With ε = 0 nothing is left to chance.

    Args:
        q: values (B, A), any floating dtype; B may be 0.
        epsilon: share of the rows that explore, 0 ≤ ε ≤ 1.
        g: draws every random number here, and lies on q's device. PyTorch's global generator stays as it is.

    Returns:
        Actions (B,), int64. Every tensor is made on q's device.

    Source: Sutton & Barto 2018, section 2.2; Mnih et al. 2015, algorithm 1.
    """
    raise NotImplementedError("D1: write epsilon_greedy")


def linear_epsilon(step: int, start: float = 1.0, end: float = 0.05, decay_steps: int = 10_000) -> float:
    """Return the share of exploring steps: a straight line from `start` to `end`, and `end` ever after.

        ε = start + (end − start) · min(1, step / decay_steps)

    Args:
        step: steps that the agent has taken so far. The first step is step 0.
        start: ε of step 0.
        end: ε of step `decay_steps` and of all later ones, ≤ start.
        decay_steps: length of the line in steps, at least 1.

    Returns:
        ε, a Python float.

    Source: Mnih et al. 2015, methods: from 1 to 0.1 over the first million frames.
    """
    raise NotImplementedError("D1: write linear_epsilon")


class ReplayBuffer:
    """The last `capacity` transitions, as a ring of preallocated tensors.

    The slots 0 to capacity − 1 are filled in this order; then the oldest transition is overwritten first, from slot 0
    on again.

    Args:
        capacity: transitions that fit.
        obs_shape: of one observation; () for a single number.
        dtype: in which observations are kept: float32, or uint8 for pixels.
        device: of all that is kept and returned; every tensor is made there.

    Source: Lin 1992; Mnih et al. 2015, algorithm 1.
    """

    def __init__(
        self,
        capacity: int,
        obs_shape: tuple[int, ...],
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """Reserve the memory; nothing is stored yet."""
        raise NotImplementedError("D2: write ReplayBuffer.__init__")

    def __len__(self) -> int:
        """Return how many transitions are stored: never more than the capacity."""
        raise NotImplementedError("D2: write ReplayBuffer.__len__")

    def add(
        self,
        obs: Tensor,
        action: Tensor,
        reward: Tensor,
        next_obs: Tensor,
        terminated: Tensor,
        truncated: Tensor,
        final_obs: Tensor | None = None,
    ) -> Tensor:
        """Store one step of B environments, row 0 first.

        The values are copied: the caller may overwrite its tensors, and finds them as it left them.

        An environment whose episode ends is reset at once. Its row of `next_obs` is then the first observation of
        the *next* episode; the one that this step led to stands in `final_obs`, and that is the one to be kept.

        Args:
            obs: what each environment showed before the step, (B, *obs_shape).
            action: (B,), whole numbers.
            reward: (B,), any dtype.
            next_obs: what each environment shows now, (B, *obs_shape).
            terminated: (B,), bool: the episode came to its own end.
            truncated: (B,), bool: the episode was cut off, by a time limit for example.
            final_obs: (B, *obs_shape), to be used in the rows where `terminated` or `truncated` is True; the other
                rows hold anything. None: `next_obs` is right in every row.

        Returns:
            The slots that were written (B,), int64. B is at most the capacity.

        Source: final_obs is that of Gymnasium's vector environments with AutoresetMode.SAME_STEP.
        """
        raise NotImplementedError("D2: write ReplayBuffer.add")

    def get(self, slots: Tensor) -> dict[str, Tensor]:
        """Return the transitions of these slots (B,), as tensors of their own: what is added later changes none.

        Returns:
            obs (B, *obs_shape), action (B,) int64, reward (B,) float32, next_obs (B, *obs_shape), terminated (B,) bool
            and truncated (B,) bool, by name. The last two stay apart: only one of them ends the future.
        """
        raise NotImplementedError("D2: write ReplayBuffer.get")

    def sample(self, batch_size: int, g: torch.Generator) -> dict[str, Tensor]:
        """Draw transitions: each draw is any of the stored ones, all equally likely, whatever the draws before.

        Args:
            batch_size: how many; may be more than are stored.
            g: draws the slots, and lies on the buffer's device.

        Returns:
            As `get` does.

        Raises:
            ValueError: nothing is stored yet.
        """
        raise NotImplementedError("D2: write ReplayBuffer.sample")


def td_target(
    reward: Tensor,
    terminated: Tensor,
    q_next_target: Tensor,
    gamma: float | Tensor,
    q_next_online: Tensor | None = None,
) -> Tensor:
    """Return what the value of the taken action should be, as far as one step and the networks tell.

        y = r + γ · (1 − terminated) · Q(s', a*)

    Q(s', ·) is always the target network's. The action a* is the best one by the target network (DQN), or, where
    `q_next_online` is given, the best one by the online network (Double DQN).

    Args:
        reward: (B,), floating.
        terminated: (B,), 1 or True where the episode came to its own end: nothing follows. It may be bool, whole
            numbers or floating.
        q_next_target: values of the next observation by the target network, (B, A).
        gamma: discount, a number; or (B,), where rows look ahead by different numbers of steps.
        q_next_online: values of the *next* observation by the online network, (B, A). None for plain DQN.

    Returns:
        y (B,), with the dtype and device of q_next_target. It is a constant: no gradient flows through it.

    Source: Mnih et al. 2015, algorithm 1; van Hasselt, Guez & Silver 2016.
    """
    raise NotImplementedError("D3: write td_target")


def batch_target(
    batch: dict[str, Tensor],
    online: Callable[[Tensor], Tensor],
    target: Callable[[Tensor], Tensor],
    gamma: float,
    double: bool = True,
) -> Tensor:
    """Return the targets of a batch from the replay: `td_target`, with the networks that it needs.

    A *terminated* episode has no future, and its last step is worth its reward alone. A *truncated* one was only
    interrupted: the pole still stood when the clock ran out. It bootstraps like any other step.

    Args:
        batch: obs (B, ...), action (B,), reward (B,), next_obs (B, ...), terminated (B,) bool and truncated (B,) bool,
            as `ReplayBuffer.sample` returns them.
        online: the network that is trained, from observations (B, ...) to values (B, A).
        target: its slow copy, of the same form.
        gamma: discount.
        double: whether `online` chooses the action (Double DQN); False is plain DQN, where `target` does both.

    Returns:
        y (B,). The networks run under `torch.no_grad()`: no graph is built.

    Source: van Hasselt, Guez & Silver 2016; Pardo et al. 2018 for time limits.
    """
    raise NotImplementedError("D3: write batch_target")


def dqn_loss(
    q: Tensor, action: Tensor, target: Tensor, huber_delta: float = 1.0, weights: Tensor | None = None
) -> Tensor:
    """Return the Huber loss between the values of the taken actions and their targets.

        e    = q[b, action[b]] − target[b]
        h(e) = ½ · e²                      where |e| ≤ δ
        h(e) = δ · (|e| − ½ · δ)           elsewhere
        loss = mean over the B rows of weights[b] · h(e[b])

    Args:
        q: values (B, A) by the online network, B ≥ 1.
        action: the action taken in each row (B,), int64.
        target: (B,); a constant, even if it arrives with a graph behind it.
        huber_delta: δ > 0, the error at which the parabola becomes a straight line.
        weights: of the rows (B,), from prioritised replay. None weighs every row by 1.

    Returns:
        The loss, shape (), with q's dtype. Its gradient is zero at every action that was not taken.

    Source: Huber 1964; equals `torch.nn.functional.huber_loss`. Mnih et al. 2015 clip the error to [−1, 1], which
    is the gradient of δ = 1. The weights: Schaul et al. 2016, algorithm 1.
    """
    raise NotImplementedError("D4: write dqn_loss")


def sync(target: nn.Module, online: nn.Module, tau: float) -> None:
    """Move the target network towards the online network, in place.

        θ_target ← τ · θ_online + (1 − τ) · θ_target         every parameter
        b_target ← b_online                                  every buffer, copied whole

    Buffers (the running statistics of a BatchNorm, its count of batches) are measured, not learned: they are
    copied, whatever τ is. The Parameter objects and the memory of both networks stay their own: nothing that happens
    to `online` later reaches `target` before the next call.

    Args:
        target: changes, and `online` does not. Both have the same architecture.
        online: the network that is trained.
        tau: share of the way, 0 ≤ τ ≤ 1. With 1 the target becomes an exact copy; with 0 its parameters stay.

    Source: Mnih et al. 2015 (τ = 1, every C steps); Lillicrap et al. 2016, algorithm 1 (small τ, every step).
    """
    raise NotImplementedError("D5: write sync")


def n_step_returns(
    reward: Tensor, terminated: Tensor, truncated: Tensor, next_value: Tensor, gamma: float, n: int
) -> Tensor:
    """Return, for each step, the next n rewards and an estimate of what follows them.

        G_t = r_t + γ · r_{t+1} + ... + γ^(m−1) · r_{t+m−1} + γ^m · v_{t+m−1}

    The sum has m = n rewards, or fewer: it stops after the step at which the episode ends, and after the last
    step T − 1. v_i estimates what follows step i: it is next_value[i], but 0 where step i is terminated.
    A truncated episode ends its sum, and bootstraps; a step that is both counts as terminated.

    Args:
        reward: (T,), or (T, B) for B environments side by side; floating or whole numbers.
        terminated: shaped like reward, bool: step t brought the episode to its own end.
        truncated: shaped like reward, bool: the episode was cut off after step t.
        next_value: shaped like reward, floating: the value of the observation to which step t led (of a finished
            episode's last one, not of the next episode's first). Where step t is terminated it means nothing.
        gamma: discount.
        n: rewards in a full sum, at least 1.

    Returns:
        G, shaped like reward, with next_value's dtype.

    Source: Sutton & Barto 2018, section 7.1; Pardo et al. 2018 for time limits.
    """
    raise NotImplementedError("D6: write n_step_returns")


class SumTree:
    """Numbers above or equal to zero, one for each slot, that can be changed and drawn from in O(log capacity).

    `nodes` is a float64 tensor of 2 · size numbers, where size is the smallest power of two ≥ capacity. Slot i is
    kept in nodes[size + i]; every other node k ≥ 1 holds nodes[2k] + nodes[2k + 1], so that nodes[1] is the total.
    nodes[0] is not used. Leaves beyond the capacity stay 0.

    Args:
        capacity: number of slots, at least 1. All are 0 at first.
        device: of the nodes and of what is returned; every tensor is made there.

    Source: Schaul et al. 2016, appendix B.2.1.
    """

    def __init__(self, capacity: int, *, device: torch.device | str = "cpu") -> None:
        """Set `size` and `nodes`."""
        raise NotImplementedError("D7: write SumTree.__init__")

    def update(self, slots: Tensor, values: Tensor) -> None:
        """Set the numbers of some slots, and mend the sums above them: no other node is read, but their siblings.

        Args:
            slots: (B,), int64. A slot may come several times, with the same value each time.
            values: (B,), floating, ≥ 0.
        """
        raise NotImplementedError("D7: write SumTree.update")

    def find(self, mass: Tensor) -> Tensor:
        """Return the slot in which a mass falls, when the numbers are laid end to end.

        Slot i holds the masses from (sum of the numbers before i) up to, but not including, (that sum + number i). So
        a slot whose number is 0 is never found. A mass of the total or above, which rounding can bring about, falls
        in the last slot above 0. From node 1 down, only the two children of each node on the way are read.

        Args:
            mass: (B,), float64, ≥ 0. The caller's tensor does not change.

        Returns:
            Slots (B,), int64.
        """
        raise NotImplementedError("D7: write SumTree.find")


class PrioritizedReplay:
    """Which slots of a replay to learn from: those whose error was large more often.

        p_i  = |δ_i| + eps                     priority of slot i after an update with its error δ_i
        P(i) = p_i^α / Σ_k p_k^α               probability of slot i
        w_i  = (N · P(i))^−β / max_j w_j       weight that undoes the preference; the maximum is the batch's

    N is the number of slots in use. The transitions themselves lie elsewhere, for example in a `ReplayBuffer`, whose
    `add` returns the slots and whose `get` takes them.

    Attributes:
        tree: a `SumTree`; slot i holds p_i^α.

    Args:
        capacity: number of slots.
        alpha: α ≥ 0; with 0 all slots are alike.
        eps: added to every |δ|, so that no slot is forgotten.
        device: of the tree and of what is returned; every tensor is made there.

    Source: Schaul et al. 2016, algorithm 1 and section 3.3 (proportional prioritisation).
    """

    def __init__(
        self, capacity: int, *, alpha: float = 0.6, eps: float = 1e-6, device: torch.device | str = "cpu"
    ) -> None:
        """Set `tree`; no slot is in use yet."""
        raise NotImplementedError("D7: write PrioritizedReplay.__init__")

    def add(self, slots: Tensor) -> None:
        """Give new transitions the largest priority p that any slot ever had (1 before the first larger one).

        So each of them is soon seen, whatever its slot held before.

        Args:
            slots: (B,), int64, each at most once.
        """
        raise NotImplementedError("D7: write PrioritizedReplay.add")

    def update(self, slots: Tensor, errors: Tensor) -> None:
        """Set the priorities of slots that were learned from.

        Args:
            slots: (B,), int64, B ≥ 1. A slot may come several times, with the same error each time.
            errors: their errors δ (B,), floating, of either sign.
        """
        raise NotImplementedError("D7: write PrioritizedReplay.update")

    def sample(self, batch_size: int, beta: float, g: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw slots with the probabilities P, by drawing masses from 0 up to the tree's total and finding their slots.

        Either each mass is drawn from the whole, or the whole is cut into batch_size equal parts and one mass drawn
        from each (stratified, as the paper has it): in both, every slot i comes B · P(i) times on average.

        Args:
            batch_size: B ≥ 1. Some slot is in use.
            beta: β in [0, 1]; with 0 all weights are 1.
            g: draws the masses, and lies on the tree's device.

        Returns:
            (slots (B,) int64, weights (B,) float32), in that order. The largest weight of the batch is 1.
        """
        raise NotImplementedError("D7: write PrioritizedReplay.sample")


def dueling(value: Tensor, advantage: Tensor) -> Tensor:
    """Join the two streams of a dueling network to action values.

        Q(s, a) = V(s) + A(s, a) − (mean of A(s, ·) over the actions)

    Without the mean, V and A could not be told apart: a constant may move from one to the other.

    Args:
        value: V (..., 1), with any leading axes.
        advantage: A (..., A), with the same leading axes and the same dtype.

    Returns:
        Q (..., A); its mean over the actions is V.

    Source: Wang et al. 2016, equation 9.
    """
    raise NotImplementedError("D7: write dueling")
