"""Builds the actors and critics of all levels from BenchMARL models."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from benchmarl.models.common import ModelConfig
from tensordict.nn import ProbabilisticTensorDictSequential, TensorDictModuleBase
from tensordict.utils import NestedKey
from torch import nn
from torchrl.data import Composite, Unbounded

from benchmarl_himpo.hierarchy import GoalSpace, Hierarchy
from benchmarl_himpo.hierarchy.keys import dotted
from benchmarl_himpo.models.hierarchical_policy import HierarchicalPolicy
from benchmarl_himpo.models.level_network import HIDDEN_KEY, RECEIVED_GOAL_KEY, LevelNetwork, PlainWorkerNetwork
from benchmarl_himpo.models.message_passing import MessagePassing
from benchmarl_himpo.models.model_width import scale_width
from benchmarl_himpo.models.worker_actor import n_worker_outputs, worker_actor


class HimppoNetworks:
    """The networks of one agent group: one actor and one critic per level.

    Args:
        hierarchy: the hierarchy.
        observation_spec: the environment's observation spec of the group; networks see its entries
            ``hierarchy.observation``, or their level's part of ``hierarchy.level_observation``. Shape ``[n_agents]``.
        action_spec: the environment's action spec, unbatched, with an entry for the group.
        goal: the goal space.
        model: BenchMARL configuration of the actors' encoders, feed-forward.
        critic_model: BenchMARL configuration of the critics' encoders, feed-forward.
        hidden_dim: size of node states, one number or one per level, workers first.
        share_params: whether agents share the parameters of the actors' encoders.
        share_param_critic: whether agents share the parameters of the critics' encoders.
        n_message_rounds: rounds of message passing per step.
        use_tanh_normal: whether continuous actions are drawn from a Normal squashed into the action's bounds
            (BenchMARL).
        scale_mapping: map from a network's output to the standard deviation of continuous actions (BenchMARL).
        device: device of the networks.
        has_action_mask: whether the group has an entry ``action_mask`` of allowed discrete actions.
        edge_values: upper levels whose critics compute one value per subordinate, because the reward differs between
            the subordinates of one node.
        critic_phase: give critics the phases of all upper clocks (ours).
        goal_actor_width: width of the goal actors' encoders, as a fraction of the model's width.
        gnn_class: name of a PyG convolution; None for the dense layer.
        gnn_kwargs: further arguments of the PyG convolution.
        team_state: give workers the mean state of the team (ours, for the flat control).

    Attributes:
        policy: policy of the whole hierarchy; its ``actors`` are the policies of the levels, workers first.
        critics: value networks, workers first; each one reads the goal that its level received, not the goal that its
            level sends, and writes ``[*B, E, 1]``.

    Raises:
        ValueError: if a model cannot encode the observation, ``hierarchy.level_observation`` is out of range, or a size
            is out of range.
    """

    def __init__(
        self,
        hierarchy: Hierarchy,
        observation_spec: Composite,
        action_spec: Composite,
        *,
        goal: GoalSpace,
        model: ModelConfig,
        critic_model: ModelConfig,
        hidden_dim: int | Sequence[int],
        share_params: bool,
        share_param_critic: bool,
        n_message_rounds: int,
        use_tanh_normal: bool,
        scale_mapping: str,
        device: torch.device | str,
        has_action_mask: bool = False,
        edge_values: Collection[int] = (),
        critic_phase: bool = False,
        goal_actor_width: float = 1.0,
        gnn_class: str | None = None,
        gnn_kwargs: Mapping[str, Any] | None = None,
        team_state: bool = False,
    ) -> None:
        if n_message_rounds < 0:
            raise ValueError(f"n_message_rounds={n_message_rounds} must be 0 or more")
        if not 0 < goal_actor_width <= 1:
            raise ValueError(f"goal_actor_width={goal_actor_width} must be above 0 and at most 1")
        self.hierarchy = hierarchy
        self.goal = goal
        self._observation_spec = observation_spec
        self._action_spec = action_spec
        self._hidden_dim = hierarchy.layout.per_level("hidden_dim", hidden_dim)
        if any(not isinstance(size, int) or size < 1 for size in self._hidden_dim):
            raise ValueError(
                f"hidden_dim={hidden_dim} must be 1 or more, a whole number for all levels or one for each"
            )
        self._n_message_rounds = n_message_rounds
        self._gnn = (gnn_class, dict(gnn_kwargs or {}))
        self._team_state = team_state
        self._device = device

        levels = range(hierarchy.layout.n_levels)
        worker = worker_actor(
            self._worker_network(model, share_params, n_worker_outputs(action_spec, hierarchy.group), "logits"),
            action_spec,
            hierarchy.group,
            has_action_mask=has_action_mask,
            use_tanh_normal=use_tanh_normal,
            scale_mapping=scale_mapping,
        )
        narrow = scale_width(model, goal_actor_width)
        goal_actors = [self._goal_actor(level, narrow, share_params) for level in levels[1:]]
        self.policy = HierarchicalPolicy(hierarchy, [worker, *goal_actors])
        self.critics: list[TensorDictModuleBase] = [
            self._critic(level, critic_model, share_param_critic, level in edge_values, critic_phase)
            for level in levels
        ]

    def _worker_network(
        self, config: ModelConfig, share_params: bool, out_features: int, out_name: str, phase: bool = False
    ) -> TensorDictModuleBase:
        """Network of the workers; the unchanged BenchMARL model if it needs no messages and no further inputs."""
        out_key = (self.hierarchy.group, out_name)
        has_phase = phase and self.hierarchy.layout.top > 0
        if self._exchanges(0) or self._team_state or has_phase:
            return self._level_network(0, config, share_params, out_features, out_key, phase=phase)
        encoder = self._encoder(0, config, share_params, out_features)
        return PlainWorkerNetwork(self.hierarchy, encoder, out_key).to(self._device)

    def _goal_actor(self, level: int, config: ModelConfig, share_params: bool) -> ProbabilisticTensorDictSequential:
        """Policy of an upper level: writes the goal of every recipient and its log-probability."""
        keys = self.hierarchy.keys
        parameters = (keys.root, f"goal_logits_{level}")
        network = self._level_network(level, config, share_params, self.goal.n_parameters, parameters, per_edge=True)
        distribution = self.goal.distribution(parameters, keys[level].action, keys[level].log_prob)
        return ProbabilisticTensorDictSequential(network, *distribution)

    def _critic(
        self, level: int, config: ModelConfig, share_params: bool, per_edge: bool, phase: bool
    ) -> TensorDictModuleBase:
        out_key = self.hierarchy.keys[level].state_value
        if level == 0:
            return self._worker_network(config, share_params, 1, out_key[-1], phase=phase)
        return self._level_network(level, config, share_params, 1, out_key, per_edge=per_edge, phase=phase)

    def _level_network(
        self,
        level: int,
        config: ModelConfig,
        share_params: bool,
        out_features: int,
        out_key: NestedKey,
        per_edge: bool = False,
        phase: bool = False,
    ) -> LevelNetwork:
        hidden_dim = self._hidden_dim[level]
        network = LevelNetwork(
            level=level,
            hierarchy=self.hierarchy,
            encoder=self._encoder(level, config, share_params, hidden_dim),
            messages=MessagePassing(hidden_dim, self._n_message_rounds, *self._gnn) if self._exchanges(level) else None,
            hidden_dim=hidden_dim,
            goal_dim=self.goal.dim,
            out_features=out_features,
            out_key=out_key,
            per_edge=per_edge,
            phase=phase,
            team_state=self._team_state and level == 0,
        )
        return network.to(self._device)

    def _exchanges(self, level: int) -> bool:
        return self.hierarchy.exchanges(level) and self._n_message_rounds > 0

    def _encoder(self, level: int, config: ModelConfig, share_params: bool, out_features: int) -> nn.Module:
        """The run's model from a level's view (and the goal, for workers) to ``out_features`` per agent."""
        group, n_agents = self.hierarchy.group, self.hierarchy.n_agents
        seen = self.hierarchy.inputs.observation_spec(self._observation_spec, level)
        group_spec = seen.clone().to(self._device)
        if level == 0 and self.hierarchy.layout.top > 0:
            group_spec[RECEIVED_GOAL_KEY] = Unbounded(shape=(n_agents, self.goal.dim), device=self._device)
        output = Composite(
            {HIDDEN_KEY: Unbounded(shape=(n_agents, out_features), device=self._device)}, shape=(n_agents,)
        )
        try:
            return config.get_model(
                input_spec=Composite({group: group_spec}),
                output_spec=Composite({group: output}),
                agent_group=group,
                input_has_agent_dim=True,
                n_agents=n_agents,
                centralised=False,
                share_params=share_params,
                device=self._device,
                action_spec=self._action_spec,
            )
        except ValueError as error:
            option = "critic_model" if config.is_critic else "model"
            raise ValueError(
                f"{option} cannot encode the observation of each agent of group {group!r} ({_describe(seen)}): "
                f"HiMPPO's networks receive no global state, only the agents' observations, so choose a {option} such "
                f"as layers/mlp for vectors or layers/cnn for images (BenchMARL: {error})"
            ) from error


def _describe(observation_spec: Composite) -> str:
    """List the entries of a group and their shapes per agent."""
    return ", ".join(f"{dotted(key)} {list(spec.shape[1:])}" for key, spec in observation_spec.items(True, True))
