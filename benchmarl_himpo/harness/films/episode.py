"""Run one episode and record the data of its film."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from tensordict import TensorDictBase
from torch import Tensor
from torchrl.envs import EnvBase

from benchmarl_himpo.harness.evaluation.episodes import fixed_episodes
from benchmarl_himpo.harness.films.scene import Scene, draw_scene
from benchmarl_himpo.harness.runs import ResumableExperiment
from benchmarl_himpo.hierarchy import HierarchyGraph
from benchmarl_himpo.hierarchy.group_inputs import group_entry
from benchmarl_himpo.models import HierarchicalPolicy

if TYPE_CHECKING:
    from benchmarl_himpo.algorithms import Himppo


@dataclass(frozen=True)
class GroupEpisode:
    """Data of one group in an episode of ``T`` steps, levels from the bottom up; lists are empty without hierarchy."""

    external_reward: Tensor  # [T, n_agents], of each agent
    reward: list[Tensor]  # [T, E] each, of each level: the sum over the interval of the step
    decides: list[Tensor]  # [T] each, bool: whether each level decides at a step
    goals: list[Tensor]  # [T, E, goal_dim] each: in effect, sent by level 1 first; whole numbers if one-hot
    graph: HierarchyGraph | None  # batch shape [T]; None without hierarchy


@dataclass(frozen=True)
class Episode:
    """One episode of one environment."""

    scenes: list[Scene]  # rendering after each step
    groups: dict[str, GroupEpisode]  # data of each group


def film_episode(experiment: ResumableExperiment, seed: int) -> Episode:
    """Run and record an episode up to its first end, with an experiment of ``load_trained`` (one episode, losses)."""
    scenes: list[Scene] = []

    def keep_scene(env: EnvBase, data: TensorDictBase) -> None:
        scenes.append(draw_scene(experiment, env, data))

    env = experiment.test_env
    with fixed_episodes(experiment, seed):
        rollout = env.rollout(experiment.max_steps, experiment.policy, callback=keep_scene, auto_cast_to_device=True)
        keep_scene(env, rollout[..., -1])  # the callback is not called at the end
        rollout = rollout if env.batch_size else rollout.unsqueeze(0)
        groups = {group: _read_group(experiment, group, rollout) for group in experiment.group_map}
    return Episode(scenes, groups)


def _read_group(experiment: ResumableExperiment, group: str, rollout: TensorDictBase) -> GroupEpisode:
    """Read the data of one group from a rollout of shape ``[1, T]``."""
    external_reward = group_entry(rollout, group, "reward")[0].squeeze(-1).cpu()
    policy = experiment.algorithm.get_policy_for_loss(group)
    if not isinstance(policy, HierarchicalPolicy):
        return GroupEpisode(external_reward, reward=[], decides=[], goals=[], graph=None)
    layout, keys = policy.hierarchy.layout, policy.hierarchy.keys
    trajectories, targets = cast("Himppo", experiment.algorithm).advantage(group).targets(rollout)
    rewards = [target.intervals.to_steps(target.intervals.sum(target.reward)) for target in targets]
    graph = trajectories.graph
    return GroupEpisode(
        external_reward=external_reward,
        reward=[reward[0].squeeze(-1).cpu() for reward in rewards],
        decides=[layout.is_due(trajectories.clock[0], level).cpu() for level in range(layout.n_levels)],
        goals=[rollout.get(keys[level].action)[0].cpu() for level in range(1, layout.n_levels)],
        graph=HierarchyGraph(tuple(p[0].cpu() for p in graph.parent_index), graph.n_nodes, graph.alive[0].cpu()),
    )
