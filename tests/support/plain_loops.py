"""What ``benchmarl_himpo.objectives`` computes, written as plain loops over environments, steps and edges.

Slow, without a tensor operation that could broadcast, and following the specification line by line. Tests compare the
shipped functions with these.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarl_himpo.hierarchy import HierarchyLayout
from benchmarl_himpo.objectives.credit import Cosine, CreditRule, Final, Telescoped, Uniform
from benchmarl_himpo.objectives.reward_scheme import Trajectories


def interval_bounds(is_start: list[bool]) -> list[tuple[int, int]]:
    """First and last step of every interval of one environment."""
    starts = [t for t, flag in enumerate(is_start) if flag]
    return list(zip(starts, [start - 1 for start in starts[1:]] + [len(is_start) - 1], strict=True))


def advantage_loop(
    reward: list[float],
    value: list[float],
    next_value: list[float],
    done: list[bool],
    terminated: list[bool],
    is_boundary: list[bool],
    is_start: list[bool],
    gamma: float,
    lmbda: float,
) -> tuple[list[float], list[float]]:
    """GAE over the intervals of one edge in one environment; advantage and value target of every step."""
    advantage, target = [0.0] * len(reward), [0.0] * len(reward)
    following = 0.0
    for first, last in reversed(interval_bounds(is_start)):
        if terminated[last]:
            discount = 0.0
        elif is_boundary[last]:
            discount = gamma
        else:
            discount = 1.0
        delta = sum(reward[first : last + 1]) + discount * next_value[last] - value[first]
        following = delta + (0.0 if done[last] else gamma * lmbda * following)
        for t in range(first, last + 1):
            advantage[t] = following
            target[t] = following + value[first]
    return advantage, target


def credit_loop(
    credit: CreditRule,
    advantage: list[float],
    reward: list[float],
    value: list[float],
    next_value: list[float],
    terminated: list[bool],
    is_boundary: list[bool],
    is_start: list[bool],
    gamma: float,
    goal: list[list[float]],
    encoding_change: list[list[float]],
) -> list[float]:
    """Intrinsic reward of one edge in one environment at every step."""
    intrinsic = [0.0] * len(reward)
    for first, last in interval_bounds(is_start):
        for t in range(first, last + 1):
            if isinstance(credit, Uniform):
                intrinsic[t] = advantage[t] / (last - first + 1)
            elif isinstance(credit, Final):
                intrinsic[t] = advantage[t] if t == last else 0.0
            elif isinstance(credit, Telescoped):
                discount = 0.0 if terminated[t] else gamma if is_boundary[t] else 1.0
                intrinsic[t] = reward[t] + discount * next_value[t] - value[t]
            elif isinstance(credit, Cosine):
                intrinsic[t] = credit.weight * cosine(goal[t], encoding_change[t])
            else:
                raise NotImplementedError(f"{credit} needs a plain loop")
    return intrinsic


def cosine(x: list[float], y: list[float]) -> float:
    """Cosine between two vectors, zero where one of them is."""
    norms = math.sqrt(sum(a * a for a in x)) * math.sqrt(sum(b * b for b in y))
    return sum(a * b for a, b in zip(x, y, strict=True)) / norms if norms > 0 else 0.0


def target_loop(target: list[float], reward: list[float], is_start: list[bool]) -> list[float]:
    """Value target of every step: the interval's, less the rewards before the step."""
    out = [0.0] * len(reward)
    for first, last in interval_bounds(is_start):
        for t in range(first, last + 1):
            out[t] = target[t] - sum(reward[first:t])
    return out


@dataclass
class LoopTargets:
    """What one level trains on. Every entry has shape ``[B, T, E, 1]``."""

    reward: Tensor
    advantage: Tensor
    value_target: Tensor
    actor_mask: Tensor
    critic_mask: Tensor


def ancestor(batch: Trajectories, b: int, t: int, worker: int, level: int) -> int:
    """Node of ``level`` above a worker."""
    node = worker
    for parent in batch.graph.parent_index[:level]:
        node = int(parent[b, t, node])
    return node


def workers_below(batch: Trajectories, b: int, t: int, node: int, level: int) -> list[int]:
    """Live workers below a node."""
    n_agents = batch.reward.shape[2]
    return [i for i in range(n_agents) if batch.graph.alive[b, t, i] and ancestor(batch, b, t, i, level) == node]


def mean_reward_of(batch: Trajectories, b: int, t: int, workers: list[int]) -> float:
    """Mean external reward of some workers, zero for none."""
    return sum(float(batch.reward[b, t, i]) for i in workers) / max(len(workers), 1)


def local_reward_of(batch: Trajectories, local_reward: str, level: int, b: int, t: int, edge: int) -> float:
    """Reward of an edge of a middle level at a step, beside its share of its superior's advantage."""
    if local_reward == "none":
        return 0.0
    if local_reward == "cluster":
        parent = int(batch.graph.parent_index[level - 1][b, t, edge])
        return mean_reward_of(batch, b, t, workers_below(batch, b, t, parent, level))
    if level == 1:
        return float(batch.reward[b, t, edge])
    return mean_reward_of(batch, b, t, workers_below(batch, b, t, edge, level - 1))


def reward_scheme_loop(
    layout: HierarchyLayout,
    credit: CreditRule,
    local_reward: str,
    worker_external_reward: bool,
    gamma: tuple[float, ...],
    lmbda: tuple[float, ...],
    critic_rows: str,
    batch: Trajectories,
    drawn: Mapping[int, Tensor],
) -> list[LoopTargets]:
    """Reward, advantage, value target and masks of every level, workers first.

    ``drawn`` says for each upper level which rows were drawn to train its critic, ``[B, T]``; read for ``"sampled"``.
    """
    n_envs, n_steps, n_agents, _ = batch.reward.shape
    out: list[LoopTargets] = []
    intrinsic = torch.empty(0)  # nobody is above the top
    for level in range(layout.top, -1, -1):
        period, n_edges = layout.periods[level], layout.n_recipients(level)
        shape, dtype = (n_envs, n_steps, n_edges, 1), batch.reward.dtype
        made = LoopTargets(*(torch.zeros(shape, dtype=d) for d in (dtype, dtype, dtype, torch.bool, torch.bool)))
        shared = torch.zeros(shape, dtype=dtype)
        for b in range(n_envs):
            clock = batch.clock[b].tolist()
            is_decision = [time % period == 0 for time in clock]
            is_boundary = [(time + 1) % period == 0 for time in clock]
            is_start = [t == 0 or flag for t, flag in enumerate(is_decision)]
            rows = {"decisions": is_decision, "all": [True] * n_steps}.get(critic_rows, [])
            if level > 0 and critic_rows == "sampled":
                rows = drawn[level][b].tolist()
            for edge in range(n_edges):
                reward = []
                for t in range(n_steps):
                    external = [float(r) for r in batch.reward[b, t, :, 0]]
                    if level == 0 and level == layout.top:
                        reward.append(external[edge])
                    elif level == layout.top:
                        reward.append(sum(external) / n_agents)
                    elif level == 0:
                        reward.append(
                            float(intrinsic[b, t, edge]) + (external[edge] if worker_external_reward else 0.0)
                        )
                    else:
                        node = int(batch.graph.parent_index[level - 1][b, t, edge])
                        local = local_reward_of(batch, local_reward, level, b, t, edge)
                        reward.append(float(intrinsic[b, t, node]) + local)
                if level == 0:
                    terminated = batch.terminated[b, :, edge, 0].tolist()
                    done = batch.done[b, :, edge, 0].tolist()
                else:
                    terminated = batch.team_terminated[b].tolist()
                    done = batch.team_done[b].tolist()
                done = [x or y for x, y in zip(done, terminated, strict=True)]
                value = batch.state_value[level][b, :, edge, 0].tolist()
                next_value = batch.next_state_value[level][b, :, edge, 0].tolist()
                steps = (reward, value, next_value)
                advantage, target = advantage_loop(
                    *steps, done, terminated, is_boundary, is_start, gamma[level], lmbda[level]
                )
                share = [0.0] * n_steps
                if level > 0:
                    vectors = (x[level][b, :, edge].tolist() for x in (batch.goals, batch.encoding_changes))
                    ends = (terminated, is_boundary, is_start)
                    share = credit_loop(credit, advantage, *steps, *ends, gamma[level], *vectors)
                made.reward[b, :, edge, 0] = torch.tensor(reward, dtype=dtype)
                made.advantage[b, :, edge, 0] = torch.tensor(advantage, dtype=dtype)
                made.value_target[b, :, edge, 0] = torch.tensor(target_loop(target, reward, is_start), dtype=dtype)
                shared[b, :, edge, 0] = torch.tensor(share, dtype=dtype)
                for first, last in interval_bounds(is_start):
                    served = any(workers_below(batch, b, t, edge, max(level - 1, 0)) for t in range(first, last + 1))
                    for t in range(first, last + 1):
                        made.actor_mask[b, t, edge] = is_decision[t] and served
                        made.critic_mask[b, t, edge] = served if level == 0 else rows[t]
        out.insert(0, made)
        intrinsic = shared
    return out
