"""Random trajectories in float64: several episodes per environment, ended by a true end, a time limit or the batch."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarl_himpo.hierarchy import HierarchyGraph, HierarchyLayout
from benchmarl_himpo.objectives.reward_scheme import Trajectories

GOAL_DIM = 3


@dataclass(frozen=True)
class Shapes:
    """What a random batch looks like.

    Args:
        seed: of every random number.
        n_envs: environments (B).
        n_steps: steps (T).
        max_episode: longest episode.
        is_dynamic: workers change their sub-manager, at sub-manager decisions only.
        one_value_per_manager: every edge of a level above the sub-managers holds the same value.
        has_dead: some agents do not take part, from one step to the next.
        start_clock: the first episode of environment b begins at clock ``start_clock * b``, as if cut by an earlier
            batch.
    """

    seed: int
    n_envs: int = 2
    n_steps: int = 10
    max_episode: int = 7
    is_dynamic: bool = True
    one_value_per_manager: bool = False
    has_dead: bool = False
    start_clock: int = 0


def random_trajectories(layout: HierarchyLayout, shapes: Shapes) -> Trajectories:
    """Trajectories with clocks, graphs, flags and values that fit together, and random goals and changes of encodings.

    Some goals and changes are zero, which have no direction. V one step later is the value of the next row; after a
    time limit and at the batch's end it is a number of its own, and so it is after a true end, where nothing reads it.
    """
    generator = torch.Generator().manual_seed(shapes.seed)
    size = (shapes.n_envs, shapes.n_steps)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    def randint(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    clock = torch.zeros(size, dtype=torch.long)
    done, terminated = torch.zeros(size, dtype=torch.bool), torch.zeros(size, dtype=torch.bool)
    parent_index = torch.zeros(*size, layout.n_agents, dtype=torch.long)
    for b in range(shapes.n_envs):
        time, end = shapes.start_clock * b, randint(1, shapes.max_episode)
        end += time
        parent = torch.zeros(layout.n_agents, dtype=torch.long)
        for t in range(shapes.n_steps):
            is_due = layout.top > 0 and time % layout.periods[1] == 0
            if layout.top > 0 and (t == 0 or (is_due and shapes.is_dynamic)):
                parent = torch.randint(layout.nodes_at(1), (layout.n_agents,), generator=generator)
            clock[b, t], parent_index[b, t] = time, parent
            time += 1
            if time == end:
                done[b, t] = True
                terminated[b, t] = randint(0, 1) == 1
                time, end = 0, randint(1, shapes.max_episode)
    values, next_values = [], []
    for level in range(layout.n_levels):
        n_edges = layout.n_recipients(level)
        n_values = 1 if shapes.one_value_per_manager and level > 1 else n_edges
        value = randn(*size, n_values, 1)
        after_cut = randn(*size, n_values, 1)
        next_value = torch.cat([value[:, 1:], after_cut[:, -1:]], dim=1)
        next_value = torch.where(done[..., None, None], after_cut, next_value)
        values.append(value.expand(*size, n_edges, 1).clone())
        next_values.append(next_value.expand(*size, n_edges, 1).clone())
    alive = torch.rand(*size, layout.n_agents, generator=generator) < (0.6 if shapes.has_dead else 2.0)
    upper = [layout.static_parent_index(level).expand(*size, -1) for level in range(2, layout.n_levels)]
    graph = HierarchyGraph((parent_index, *upper) if layout.top > 0 else (), layout.n_nodes, alive)
    per_agent = (*size, layout.n_agents, 1)
    reward = randn(*per_agent)

    def vectors(level: int) -> Tensor:
        x = randn(*size, layout.n_recipients(level), GOAL_DIM)
        return x * (torch.rand(*x.shape[:-1], 1, generator=generator) < 0.8)

    return Trajectories(
        reward=reward,
        done=done[..., None, None].expand(per_agent),
        terminated=terminated[..., None, None].expand(per_agent),
        team_done=done,
        team_terminated=terminated,
        clock=clock,
        graph=graph,
        state_value=values,
        next_state_value=next_values,
        goals={level: vectors(level) for level in range(1, layout.n_levels)},
        encoding_changes={level: vectors(level) for level in range(1, layout.n_levels)},
    )


def cut_steps(batch: Trajectories, start: int, stop: int) -> Trajectories:
    """The steps from ``start`` to ``stop`` as a batch of their own."""
    part = slice(start, stop)
    parents = tuple(parent[:, part] for parent in batch.graph.parent_index)
    return Trajectories(
        reward=batch.reward[:, part],
        done=batch.done[:, part],
        terminated=batch.terminated[:, part],
        team_done=batch.team_done[:, part],
        team_terminated=batch.team_terminated[:, part],
        clock=batch.clock[:, part],
        graph=replace(batch.graph, parent_index=parents, alive=batch.graph.alive[:, part]),
        state_value=[value[:, part] for value in batch.state_value],
        next_state_value=[value[:, part] for value in batch.next_state_value],
        goals={level: goal[:, part] for level, goal in batch.goals.items()},
        encoding_changes={level: change[:, part] for level, change in batch.encoding_changes.items()},
    )


def episodes(batch: Trajectories, b: int) -> list[tuple[int, int]]:
    """First and last step of every episode, or part of one, that environment ``b`` has in the batch."""
    ends = [t for t, flag in enumerate(batch.team_done[b].tolist()) if flag]
    n_steps = batch.team_done.shape[1]
    if n_steps - 1 not in ends:
        ends.append(n_steps - 1)
    return list(zip([0] + [end + 1 for end in ends[:-1]], ends, strict=True))
