"""Reads a collected batch: flags, clock, graph, and the values of every level's critic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.envs.utils import ExplorationType, set_exploration_type

from benchmarl_himpo.hierarchy import Hierarchy
from benchmarl_himpo.hierarchy.group_inputs import group_entry
from benchmarl_himpo.objectives.functional import interval_starts
from benchmarl_himpo.objectives.reward_scheme import Trajectories

if TYPE_CHECKING:
    from benchmarl_himpo.models import HierarchicalPolicy, LevelNetwork

ROWS_AT_ONCE = 2_000
"""Rows per evaluation of a network: the layer outputs of a whole batch would exceed the CPU caches."""


def read_trajectories(
    batch: TensorDictBase,
    policy: HierarchicalPolicy,
    critics: Sequence[TensorDictModuleBase],
    all_values: bool,
    encodings: bool,
) -> Trajectories:
    """Read one group's batch and evaluate the critics, batched over time, on the rows where a value is needed.

    V at t + 1 is the value of row t + 1, with its own clustering and received goal. At a batch end or a truncation this
    row is missing; there the hierarchy decides once on the ``next`` entry, without stepping the environment. A worker's
    trajectory ends with its own ``done`` flag, with its death or with the team's episode. An episode that ends without
    live agents is terminated.

    Args:
        batch: collected data. Shape ``[B, T]``.
        policy: the policy that collected the batch.
        critics: value networks, workers first.
        all_values: evaluate upper critics on every row instead of at interval starts only.
        encodings: also compute the change of the subordinates' encodings at every step.

    Returns:
        The trajectories.
    """
    hierarchy = policy.hierarchy
    group, layout = hierarchy.group, hierarchy.layout
    done, terminated = (_team_flag(batch, group, name) for name in ("done", "terminated"))
    clock = _clock(batch, hierarchy, done)
    graph = hierarchy.graph(batch)
    # Dead agents have reward 0, even if the environment goes on rewarding them
    reward = group_entry(batch, group, "reward") * graph.alive.unsqueeze(-1)
    alive_next = hierarchy.inputs.alive(batch.get("next"))
    dies = (graph.alive & ~alive_next).unsqueeze(-1)
    terminated = terminated | (done & ~alive_next.any(-1))  # whatever ended last, a team without agents has no value

    is_cut = ~terminated & done
    is_cut[:, -1] = ~terminated[:, -1]
    after_cut = _decide_after(batch, is_cut, policy)
    state_values, next_state_values = [], []
    for level, critic in enumerate(critics):
        is_start = interval_starts(layout.is_due(clock, level))
        value = evaluate(critic, batch, torch.ones_like(is_start) if all_values else is_start)
        next_value = torch.cat([value[:, 1:], torch.zeros_like(value[:, :1])], dim=1)
        if after_cut is not None:
            next_value[is_cut] = critic(after_cut.copy()).get(critic.out_keys[0])
        state_values.append(value)
        next_state_values.append(next_value)
    upper = range(1, layout.n_levels)
    return Trajectories(
        reward=reward,
        done=group_entry(batch, group, "done") | done[..., None, None] | dies,
        terminated=group_entry(batch, group, "terminated") | terminated[..., None, None] | dies,
        team_done=done,
        team_terminated=terminated,
        clock=clock,
        graph=graph,
        state_value=state_values,
        next_state_value=next_state_values,
        goals={level: batch.get(hierarchy.keys[level].action) for level in upper},
        encoding_changes={
            level: graph.pool(_encoding_change(policy.actors[level][0], batch), level - 1) for level in upper
        }
        if encodings
        else {},
    )


def _clock(batch: TensorDictBase, hierarchy: Hierarchy, done: Tensor) -> Tensor:
    """Env steps since reset, ``[B, T]``, long; zeros for a flat hierarchy, which has no clock."""
    if hierarchy.layout.top == 0:
        return torch.zeros_like(done, dtype=torch.long)
    return batch.get(hierarchy.keys.clock).squeeze(-1)


def _team_flag(batch: TensorDictBase, group: str, name: str) -> Tensor:
    """The environment's flag: the root's entry, else True where all agents have it. Shape ``[B, T]``, bool."""
    flag = batch.get(("next", name), None)
    return batch.get(("next", group, name)).all(-2).squeeze(-1) if flag is None else flag.squeeze(-1)


def _decide_after(batch: TensorDictBase, is_cut: Tensor, policy: HierarchicalPolicy) -> TensorDictBase | None:
    """The hierarchy's decisions one step after every cut. Shape ``[n_cuts]``; None without cuts."""
    if not is_cut.any():
        return None
    with set_exploration_type(ExplorationType.RANDOM):
        return policy.decide(batch.get("next")[is_cut])


def evaluate(network: TensorDictModuleBase, batch: TensorDictBase, rows: Tensor) -> Tensor:
    """Output of a network on the rows ``[B, T]`` (bool), zero on other rows. Shape ``[B, T, E, F]``."""
    is_all = bool(rows.all())
    read = batch.select(*network.in_keys)
    read = read.flatten(0, 1) if is_all else read[rows]
    value = torch.cat([network(part).get(network.out_keys[0]) for part in read.split(ROWS_AT_ONCE)])
    if is_all:
        return value.reshape(*rows.shape, *value.shape[1:])
    return value.new_zeros(*rows.shape, *value.shape[1:]).index_put((rows,), value)


def _encoding_change(network: LevelNetwork, batch: TensorDictBase) -> Tensor:
    """Change of the agents' encodings over each step, by a level's network. Shape ``[B, T, n_agents, hidden_dim]``."""
    now, after = (td.select(*network.hierarchy.inputs.keys).flatten(0, 1) for td in (batch, batch.get("next")))
    pairs = zip(now.split(ROWS_AT_ONCE), after.split(ROWS_AT_ONCE), strict=True)
    return torch.cat([network.encode(y) - network.encode(x) for x, y in pairs]).unflatten(0, batch.shape)
