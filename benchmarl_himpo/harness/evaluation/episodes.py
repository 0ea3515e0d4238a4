"""Load the policy of a run, for its own task or a changed one, and run episodes with it."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch
from omegaconf import DictConfig, OmegaConf
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.envs.utils import ExplorationType, set_exploration_type

from benchmarl_himpo.environments.metrics import find_metrics
from benchmarl_himpo.environments.simulation import seed_if_possible
from benchmarl_himpo.harness.runs import CheckpointError, ResumableExperiment
from benchmarl_himpo.harness.runs.checkpoint import newest_checkpoint, read_checkpoint
from benchmarl_himpo.harness.runs.parameters import load_parameters, policy_of
from benchmarl_himpo.harness.runs.precision import best_precision
from benchmarl_himpo.harness.runs.random_state import seeded_random_state, vmas_generators
from benchmarl_himpo.harness.runs.run_config import find_run, load_run_config
from benchmarl_himpo.harness.runs.training import load_experiment
from benchmarl_himpo.hierarchy.group_inputs import group_entry
from benchmarl_himpo.host.benchmarl_files import checkpoint_folder, loss_key
from benchmarl_himpo.models import HierarchicalPolicy

Policy: TypeAlias = TensorDictModuleBase | Callable[[TensorDictBase], TensorDictBase]
"""Writes actions into a TensorDict with observations."""

QUIET: dict[str, Any] = {"loggers": [], "create_json": False, "render": False, "restore_file": None}
"""Options of an experiment that is only evaluated."""


@dataclass(frozen=True)
class Returns:
    """Undiscounted returns of episodes, each up to its first end.

    Args:
        per_group: for each group, returns of its agents. Shape ``[n_episodes, n_agents]`` each.
        metrics: the environment's metrics of each episode, by the names of
            :data:`~benchmarl_himpo.environments.metrics.METRICS`: means over agents. Shape ``[n_episodes]`` each.
    """

    per_group: dict[str, Tensor]
    metrics: dict[str, Tensor] = field(default_factory=dict)

    @property
    def per_agent(self) -> Tensor:
        """Mean over agents, then groups: BenchMARL's ``episode_reward``. Shape ``[n_episodes]``."""
        return torch.stack([returns.mean(-1) for returns in self.per_group.values()]).mean(0)

    @property
    def team(self) -> Tensor:
        """Sum over all agents. Shape ``[n_episodes]``."""
        return torch.stack([returns.sum(-1) for returns in self.per_group.values()]).sum(0)


def load_trained(
    folder: Path, n_episodes: int, overrides: Sequence[str] = (), with_losses: bool = False
) -> ResumableExperiment:
    """Rebuild the experiment of a run with the policy of its newest intact checkpoint; nothing is written to the run.

    The task may differ from the training task if the shapes of the policy's parameters match: with parameters shared
    between agents, the number of agents may differ.

    Args:
        folder: the folder of the run, or the output folder around it.
        n_episodes: parallel episodes of the test environment.
        overrides: values to change, such as ``["task.n_agents=5"]``.
        with_losses: whether to load the parameters of a hierarchy's losses too, which include the critics.

    Raises:
        CheckpointError: if there is no intact checkpoint or the parameters do not fit the changed task.
    """
    _check_effective(overrides)
    run = find_run(folder)
    state = read_checkpoint(newest_checkpoint(checkpoint_folder(run)), map_location="cpu")
    cfg, choices = load_run_config(run, overrides)
    policy = policy_of(state)
    experiment = (
        build_quietly(cfg, choices, n_episodes) if policy is None else load_policy(cfg, choices, n_episodes, policy)
    )
    if policy is None or (
        with_losses and has_hierarchies(experiment)
    ):  # a policy shares its parameters with the losses
        for group, loss in experiment.losses.items():
            load_parameters(loss, state[loss_key(group)])
    return experiment


def has_hierarchies(experiment: ResumableExperiment) -> bool:
    """Whether the policy of every group is a hierarchy."""
    return all(isinstance(policy, HierarchicalPolicy) for policy in experiment.group_policies.values())


def _check_effective(overrides: Sequence[str]) -> None:
    """Reject overrides of options that the evaluation sets itself."""
    of_playing = {f"experiment.{name}" for name in (*QUIET, "save_folder", "evaluation_episodes")}
    for key in (override.partition("=")[0].lstrip("+") for override in overrides):
        if key in of_playing:
            raise CheckpointError(
                f"{key} has no effect here: leave it out; options of the command itself, such as episodes=..., set the "
                "number of episodes and the output"
            )


def load_policy(
    cfg: DictConfig, choices: Mapping[str, str], n_episodes: int, parameters: dict[str, Tensor]
) -> ResumableExperiment:
    """Build an experiment for evaluation, outside the folder of any run, with the parameters of a policy.

    Raises:
        CheckpointError: if the parameters do not fit the task.
    """
    experiment = build_quietly(cfg, choices, n_episodes)
    try:
        load_parameters(experiment.policy, parameters)
    except CheckpointError:
        experiment.close()
        raise
    return experiment


def build_quietly(cfg: DictConfig, choices: Mapping[str, str], n_episodes: int) -> ResumableExperiment:
    """Build an experiment for evaluation with ``n_episodes`` parallel episodes.

    The experiment has an untrained policy and writes no logs and files. Where the devices cannot multiply at the
    precision of the run, they do at the highest.
    """
    with tempfile.TemporaryDirectory() as scratch:
        quiet = {**QUIET, "save_folder": scratch, "evaluation_episodes": n_episodes}
        precision = best_precision(cfg.matmul_precision, {cfg.experiment.sampling_device, cfg.experiment.train_device})
        if precision != cfg.matmul_precision:
            warnings.warn(f"matmul_precision={precision}: no {cfg.matmul_precision} on these devices", stacklevel=2)
        changes = {
            "experiment": quiet,
            "absolute_metric_episodes": 0,
            "init_from": None,
            "update_step": "eager",
            "matmul_precision": precision,
        }
        return load_experiment(cast("DictConfig", OmegaConf.merge(cfg, changes)), choices)


def play(experiment: ResumableExperiment, seed: int, policy: Policy | None = None) -> Returns:
    """Run one episode in each of the test environments; equal seeds give equal episodes.

    Args:
        experiment: result of :func:`load_trained`; its ``config.evaluation_episodes`` is the number of episodes.
        seed: seed of the environments and, if actions are sampled, of the policy.
        policy: the policy; None: the experiment's own.
    """
    env = experiment.test_env
    n_rollouts = experiment.config.evaluation_episodes if env.batch_size == () else 1
    rollouts = []
    with fixed_episodes(experiment, seed):
        for _ in range(n_rollouts):
            rollout = env.rollout(
                experiment.max_steps,
                policy or experiment.policy,
                auto_cast_to_device=True,
                break_when_any_done=env.batch_size == (),
            )
            rollouts.append(rollout if env.batch_size else rollout.unsqueeze(0))
    parts = [read_returns(rollout, experiment.group_map) for rollout in rollouts]
    return Returns(
        per_group={group: torch.cat([part.per_group[group] for part in parts]) for group in parts[0].per_group},
        metrics={name: torch.cat([part.metrics[name] for part in parts]) for name in parts[0].metrics},
    )


@contextmanager
def fixed_episodes(experiment: ResumableExperiment, seed: int) -> Iterator[None]:
    """Seed all generators of episodes, act as in evaluations, and restore the random state at the end."""
    deterministic = experiment.config.evaluation_deterministic_actions
    how = ExplorationType.DETERMINISTIC if deterministic else ExplorationType.RANDOM
    with torch.random.fork_rng(), vmas_generators(seeded_random_state(seed)):
        torch.manual_seed(seed)
        if experiment.environment_name != "vmas":  # VMAS's generators are seeded above
            seed_environment(experiment, seed)
        with torch.no_grad(), set_exploration_type(how):
            yield


def seed_environment(experiment: ResumableExperiment, seed: int) -> bool:
    """Seed the test environment if it supports seeds, and return whether it does."""
    can_be_seeded = seed_if_possible(experiment.test_env, seed)
    if not can_be_seeded:
        warnings.warn(
            f"{experiment.environment_name} cannot be seeded: every evaluation plays episodes of its own", stacklevel=2
        )
    return can_be_seeded


def read_returns(rollout: TensorDictBase, groups: Iterable[str]) -> Returns:
    """Read the returns of episodes, each up to its environment's first end, and the metrics at that step.

    Args:
        rollout: a rollout with an episode per environment. Shape ``[n_envs, T]``.
        groups: names of the agent groups.
    """
    returns: dict[str, Tensor] = {}
    per_agent: dict[str, list[Tensor]] = {}
    for group in groups:
        done = rollout.get(("next", "done"), None)
        if done is None:
            done = rollout.get(("next", group, "done")).all(-2)
        ended_before = done.cumsum(1) - done.long() > 0  # [n_envs, T, 1]
        reward = group_entry(rollout, group, "reward")
        returns[group] = (reward * ~ended_before.unsqueeze(-2)).sum(1).squeeze(-1).cpu()
        is_last = (~ended_before).sum(1, keepdim=True) - 1  # [n_envs, 1, 1]
        for name, entry in find_metrics(rollout, group).items():
            at_end = entry.gather(1, is_last.expand(-1, 1, entry.shape[-1])).squeeze(1)
            per_agent.setdefault(name, []).append(at_end.cpu())
    return Returns(returns, {name: torch.cat(of_groups, dim=-1).mean(-1) for name, of_groups in per_agent.items()})
