"""HiMPPO in BenchMARL: wiring only, in BenchMARL's hook order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from benchmarl.algorithms.common import Algorithm
from benchmarl.algorithms.ippo import Ippo, IppoConfig
from benchmarl.models.common import ModelConfig
from omegaconf import OmegaConf
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModule, TensorDictModuleBase
from tensordict.utils import NestedKey
from torch import Tensor
from torchrl.data import Composite
from torchrl.envs import EnvBase

from benchmarl_himpo.algorithms.batch_reader import read_trajectories
from benchmarl_himpo.algorithms.options import (
    build_assignment,
    build_neighbours,
    check_model,
    find_alive_key,
    find_position,
)
from benchmarl_himpo.config import load_yaml, snake_case
from benchmarl_himpo.hierarchy import Assignment, HierarchyLayout
from benchmarl_himpo.hierarchy.keys import HierarchyKeys
from benchmarl_himpo.models import GroupInputs, HierarchicalPolicy, HierarchyReader, LevelModels
from benchmarl_himpo.models.carry import carry_hierarchy
from benchmarl_himpo.models.level_models import MIN_GOAL_SCALE
from benchmarl_himpo.objectives import HimppoLoss
from benchmarl_himpo.objectives.diagnostics import level_diagnostics
from benchmarl_himpo.objectives.functional import Credit, CriticRows
from benchmarl_himpo.objectives.reward_assignment import LevelTargets, LocalReward, RewardAssignment, Trajectories


class Himppo(Ippo):
    """Hierarchical message-passing PPO (https://arxiv.org/abs/2507.23604).

    The workers' distribution and the PPO options are those of BenchMARL's :class:`~benchmarl.algorithms.Ippo`; the
    options below are documented in ``conf/algorithm/base/himppo.yaml``, key by key with their source.

    Args:
        n_nodes: nodes of each upper level, bottom first.
        goal_interval: decisions of the level below that one goal is held for, bottom first (paper: alpha, K).
        goal_dim: size of a goal.
        goal_init_scale: standard deviation of goals before training.
        credit: how an advantage is spread over the steps of the level below.
        local_reward: what a sub-manager earns beside its superior's advantage.
        worker_external_reward: whether workers also get the external reward.
        gamma: discount per decision of each level, workers first; None takes ``experiment.gamma``.
        lmbda: GAE lambda of each level, workers first.
        critic_rows: rows that upper critics train on.
        critic_phase: show critics the phases of the upper clocks.
        assignment: builder of the workers' assignment.
        arena: lower and upper end of both position coordinates.
        neighbours: builder of the edges between workers.
        n_neighbours: neighbours of the ``knn`` builder.
        neighbour_radius: radius of the ``radius`` builder.
        position: where positions stand; ``auto`` looks them up.
        alive: entry of the agents that says who takes part; ``auto`` looks for ``alive``.
        hidden_dim: size of node states.
        goal_actor_width: width of the goal actors' encoders, as a share of the model's.
        n_message_rounds: rounds of message passing per step.
        gnn_class: PyG convolution by name; None for the dense layer.
        gnn_kwargs: further arguments of the PyG convolution.
        team_state: give workers the mean state of the team.
        **kwargs: the options of :class:`~benchmarl.algorithms.Ippo`.

    Raises:
        ValueError: if an option, the model or the task cannot work, with the option and the fix named.
    """

    def __init__(
        self,
        n_nodes: list[int],
        goal_interval: list[int],
        goal_dim: int,
        goal_init_scale: float,
        credit: Credit,
        local_reward: LocalReward,
        worker_external_reward: bool,
        gamma: list[float | None],
        lmbda: list[float],
        critic_rows: CriticRows,
        critic_phase: bool,
        assignment: str,
        arena: list[float],
        neighbours: str,
        n_neighbours: int,
        neighbour_radius: float,
        position: str | None,
        alive: str | None,
        hidden_dim: int,
        goal_actor_width: float,
        n_message_rounds: int,
        gnn_class: str | None,
        gnn_kwargs: dict[str, Any],
        team_state: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(lmbda=lmbda, **kwargs)
        self.n_nodes = n_nodes
        self.goal_interval = goal_interval
        self.goal_dim = goal_dim
        self.goal_init_scale = goal_init_scale
        self.credit = credit
        self.local_reward = local_reward
        self.worker_external_reward = worker_external_reward
        self.gamma = gamma
        self.critic_rows = critic_rows
        self.critic_phase = critic_phase
        self.assignment = assignment
        self.arena = arena
        self.neighbours = neighbours
        self.n_neighbours = n_neighbours
        self.neighbour_radius = neighbour_radius
        self.position = position
        self.alive = alive
        self.hidden_dim = hidden_dim
        self.goal_actor_width = goal_actor_width
        self.n_message_rounds = n_message_rounds
        self.gnn_class = gnn_class
        self.gnn_kwargs = gnn_kwargs
        self.team_state = team_state

        self._check_options()
        self._readers = {group: self._get_reader(group) for group in self.group_map}
        self._reward_assignments = {group: self._get_reward_assignment(group) for group in self.group_map}
        self._critics: dict[str, list[TensorDictModuleBase]] = {}

    #############################
    # Overridden abstract methods
    #############################

    def _get_loss(self, group: str, policy_for_loss: HierarchicalPolicy, continuous: bool) -> tuple[HimppoLoss, bool]:
        levels = range(self._readers[group].layout.n_levels)
        models, has_edge_value = self._get_models(group), self._reward_assignments[group].has_edge_value
        self._critics[group] = [
            models.critic(level, self.critic_model_config, self.share_param_critic, has_edge_value(level))
            for level in levels
        ]
        loss_module = HimppoLoss(
            actors=list(policy_for_loss.actors),
            critics=self._critics[group],
            keys=[HierarchyKeys(group)[level] for level in levels],
            clip_epsilon=self.clip_epsilon,
            entropy_coef=self.entropy_coef,
            critic_coef=self.critic_coef,
            loss_critic_type=self.loss_critic_type,
        )
        return loss_module, False

    def _get_parameters(self, group: str, loss: HimppoLoss) -> dict[str, Iterable]:
        return {"loss_objective": list(loss.actor_params()), "loss_critic": list(loss.critic_params())}

    def _get_policy_for_loss(self, group: str, model_config: ModelConfig, continuous: bool) -> HierarchicalPolicy:
        models, reader = self._get_models(group), self._readers[group]
        share_params = self.experiment_config.share_policy_params
        worker = super()._get_policy_for_loss(group, _WorkerModel(models, model_config), continuous)
        upper = [models.goal_actor(level, model_config, share_params) for level in range(1, reader.layout.n_levels)]
        return HierarchicalPolicy(reader, self._get_assignment(reader.layout), [worker, *upper])

    def _get_policy_for_collection(
        self, policy_for_loss: TensorDictModule, group: str, continuous: bool
    ) -> TensorDictModule:
        # The same stochastic hierarchy collects
        return policy_for_loss

    def process_env_fun(self, env_fun: Callable[[], EnvBase]) -> Callable[[], EnvBase]:
        """Let every environment carry goals, clocks and assignments from step to step."""
        return partial(carry_hierarchy, env_fun, self._readers.values(), self.goal_dim)

    def process_batch(self, group: str, batch: TensorDictBase) -> TensorDictBase:
        """Pay every level and compute what it trains on. Takes and gives a batch of shape ``[B, T]``."""
        n_envs = batch.shape[0]
        if self.minibatch_advantage:
            minibatch_size = self.experiment.config.train_minibatch_size(self.on_policy)
            n_envs = min(n_envs, -(-minibatch_size // batch.shape[1]))
        with torch.no_grad():
            parts = [self._process_envs(group, part) for part in batch.split(n_envs, dim=0)]
        self._log_diagnostics(group, [diagnostics for _, diagnostics in parts])
        return parts[0][0] if len(parts) == 1 else torch.cat([part for part, _ in parts], dim=0)

    def process_loss_vals(self, group: str, loss_vals: TensorDictBase) -> TensorDictBase:
        """Add the entropy bonus to the objective, as IPPO does, after a check that every level's loss is finite."""
        if not (loss_vals["loss_objective"] + loss_vals["loss_critic"]).isfinite():
            for level in range(self._readers[group].layout.n_levels):
                suffix = f"_level_{level}"
                entries = {key: value for key, value in loss_vals.items() if key.endswith(suffix)}
                self._check_finite(group, level, **entries)
        return super().process_loss_vals(group, loss_vals)

    #####################
    # Custom new methods
    #####################

    def level_targets(self, group: str, batch: TensorDictBase) -> tuple[Trajectories, list[LevelTargets]]:
        """Read a group's batch of shape ``[B, T]``, and compute every level's rewards and targets, workers first."""
        trajectories = read_trajectories(
            batch,
            self._readers[group],
            self.get_policy_for_loss(group),
            self._critics[group],
            self.critic_rows != "decisions",
            partial(self._check_finite, group),
        )
        return trajectories, self._reward_assignments[group](trajectories)

    def _process_envs(self, group: str, batch: TensorDictBase) -> tuple[TensorDictBase, dict[str, float]]:
        reader = self._readers[group]
        check = partial(self._check_finite, group)
        trajectories, targets = self.level_targets(group, batch)
        for level, target in enumerate(targets):
            keys = reader.keys[level]
            check(level, advantage=target.advantage, value_target=target.value_target)
            batch.set(keys.advantage, target.advantage)
            batch.set(keys.value_target, target.value_target)
            batch.set(keys.actor_mask, target.actor_mask)
            batch.set(keys.critic_mask, target.critic_mask)
        goals = [batch.get(reader.keys[level].action) for level in range(1, reader.layout.n_levels)]
        diagnostics = level_diagnostics(reader.layout, trajectories, targets, goals)
        return batch.select(*self._get_training_keys(group)), diagnostics

    def _log_diagnostics(self, group: str, parts: list[dict[str, float]]) -> None:
        """Log the mean over the parts that a batch was processed in, one unless ``minibatch_advantage`` cuts it."""
        means = {f"train/{group}/{name}": sum(part[name] for part in parts) / len(parts) for name in parts[0]}
        self.experiment.logger.log(means, step=self.experiment.n_iters_performed)

    def _get_training_keys(self, group: str) -> list[NestedKey]:
        """What a minibatch needs: what the loss reads."""
        loss = self.get_loss_and_updater(group)[0]
        return list(dict.fromkeys([*loss.in_keys, *loss.mask_keys]))

    def _check_finite(self, group: str, level: int, **tensors: Tensor) -> None:
        """Stop the run where a tensor holds NaN or infinity."""
        bad = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
        if bad:
            raise FloatingPointError(
                f"{' and '.join(bad)} of group {group!r} at level {level} holds NaN or infinity in iteration "
                f"{self.experiment.n_iters_performed}: training stopped; look at the environment if it is observation "
                "or reward, otherwise lower experiment.lr or experiment.clip_grad_val."
            )

    def _get_reader(self, group: str) -> HierarchyReader:
        layout = HierarchyLayout(len(self.group_map[group]), tuple(self.n_nodes), tuple(self.goal_interval))
        neighbours = build_neighbours(self.neighbours, self.n_neighbours, self.neighbour_radius)
        needed_by = {}
        if layout.top > 0 and self._get_assignment(layout).needs_position:
            needed_by["assignment"] = self.assignment
        if neighbours.needs_position:
            needed_by["neighbours"] = self.neighbours
        entries = self.experiment.test_env.full_observation_spec_unbatched[group]
        task = f"{self.experiment.environment_name}/{self.experiment.task_name}"
        inputs = GroupInputs(
            group=group,
            observation_keys=tuple(self.observation_spec[group].keys(True, True)),
            position_source=find_position(self.position, task, entries, needed_by),
            alive_key=find_alive_key(self.alive, entries),
        )
        return HierarchyReader(layout, inputs, HierarchyKeys(group), neighbours)

    def _get_assignment(self, layout: HierarchyLayout) -> Assignment:
        return build_assignment(self.assignment, layout.nodes_at(min(1, layout.top)), self.arena)

    def _get_reward_assignment(self, group: str) -> RewardAssignment:
        gamma = tuple(self.experiment_config.gamma if value is None else value for value in self.gamma)
        return RewardAssignment(
            layout=self._readers[group].layout,
            credit=self.credit,
            local_reward=self.local_reward,
            worker_external_reward=self.worker_external_reward,
            gamma=gamma,
            lmbda=tuple(self.lmbda),
            critic_rows=self.critic_rows,
        )

    def _get_models(self, group: str) -> LevelModels:
        return LevelModels(
            reader=self._readers[group],
            observation_spec=self.observation_spec[group],
            action_spec=self.action_spec,
            goal_dim=self.goal_dim,
            goal_init_scale=self.goal_init_scale,
            hidden_dim=self.hidden_dim,
            goal_actor_width=self.goal_actor_width,
            has_messages=self.neighbours != "none" and self.n_message_rounds > 0,
            n_message_rounds=self.n_message_rounds,
            gnn_class=self.gnn_class,
            gnn_kwargs=self.gnn_kwargs,
            team_state=self.team_state,
            critic_phase=self.critic_phase,
            device=self.device,
        )

    def _check_options(self) -> None:
        """Refuse, before anything is built, what cannot work."""
        for name in ("goal_dim", "hidden_dim", "n_neighbours"):
            if getattr(self, name) < 1:
                raise ValueError(f"algorithm.{name}={getattr(self, name)} must be 1 or more")
        if self.goal_init_scale <= MIN_GOAL_SCALE:
            raise ValueError(
                f"algorithm.goal_init_scale={self.goal_init_scale} must be above {MIN_GOAL_SCALE}, the smallest "
                "standard deviation of a goal"
            )
        if self.neighbour_radius <= 0:
            raise ValueError(f"algorithm.neighbour_radius={self.neighbour_radius} must be positive")
        if not 0 < self.goal_actor_width <= 1:
            raise ValueError(f"algorithm.goal_actor_width={self.goal_actor_width} must be above 0 and at most 1")
        if self.n_message_rounds < 0:
            raise ValueError(f"algorithm.n_message_rounds={self.n_message_rounds} must be 0 or more")
        if len(self.arena) != 2 or self.arena[0] >= self.arena[1]:
            raise ValueError(f"algorithm.arena={list(self.arena)} must be [low, high] with low below high")
        for option, config in (("model", self.model_config), ("critic_model", self.critic_model_config)):
            check_model(option, config)


class _WorkerModel:
    """Stands in for a model config where IPPO asks for the network that writes the workers' logits."""

    def __init__(self, models: LevelModels, model_config: ModelConfig) -> None:
        self.models = models
        self.model_config = model_config

    def get_model(self, output_spec: Composite, share_params: bool, **kwargs: Any) -> TensorDictModuleBase:
        """Build the workers' network with the output that IPPO asks for."""
        (out_key,) = output_spec.keys(True, True)
        out_features = output_spec[out_key].shape[-1]
        return self.models.worker_network(self.model_config, share_params, out_features, out_key)


@dataclass
class HimppoConfig(IppoConfig):
    """Configuration dataclass for :class:`~benchmarl_himpo.algorithms.Himppo`."""

    n_nodes: list[int]
    goal_interval: list[int]
    goal_dim: int
    goal_init_scale: float
    credit: str
    local_reward: str
    worker_external_reward: bool
    gamma: list[float | None]
    lmbda: list[float]
    critic_rows: str
    critic_phase: bool
    assignment: str
    arena: list[float]
    neighbours: str
    n_neighbours: int
    neighbour_radius: float
    position: str | None
    alive: str | None
    hidden_dim: int
    goal_actor_width: float
    n_message_rounds: int
    gnn_class: str | None
    gnn_kwargs: dict[str, Any]
    team_state: bool

    @staticmethod
    def associated_class() -> type[Algorithm]:
        """The algorithm class associated to the config."""
        return Himppo

    @classmethod
    def get_from_yaml(cls, path: str | None = None) -> HimppoConfig:
        """Load the configuration from YAML.

        Args:
            path: full path of a YAML file with every option; None takes the package's own for this class, together
                with the files it inherits.

        Returns:
            The loaded configuration.
        """
        if path is not None:
            return super().get_from_yaml(path)
        values = OmegaConf.merge(OmegaConf.structured(cls), load_yaml("algorithm", cls.yaml_name()))
        return cast("HimppoConfig", OmegaConf.to_object(values))

    @classmethod
    def yaml_name(cls) -> str:
        """The algorithm's name on the command line: its class name with an underscore before each further capital."""
        return snake_case(cls.associated_class().__name__)
