"""Builds actors and critics of every level from the run's ``model`` and ``critic_model``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from benchmarl.models.common import ModelConfig
from tensordict.nn import (
    ProbabilisticTensorDictModule,
    ProbabilisticTensorDictSequential,
    TensorDictModule,
    TensorDictModuleBase,
)
from tensordict.nn.distributions import NormalParamExtractor
from tensordict.utils import NestedKey
from torch import nn
from torchrl.data import Composite, Unbounded
from torchrl.modules import IndependentNormal

from benchmarl_himpo.models.level_network import (
    HIDDEN_KEY,
    RECEIVED_GOAL_KEY,
    HierarchyReader,
    LevelNetwork,
    PlainWorkerNetwork,
)
from benchmarl_himpo.models.message_passing import MessagePassing
from benchmarl_himpo.models.model_width import scale_width

MIN_GOAL_SCALE = 0.01
"""Smallest standard deviation of a goal, in goal units: where the biased softplus ends."""


@dataclass(frozen=True)
class LevelModels:
    """Factory of the networks of one agent group.

    Args:
        reader: reader of the hierarchy.
        observation_spec: the group's observation spec, shape ``[n_agents]``.
        action_spec: the environment's action spec, passed on to BenchMARL's models.
        goal_dim: size of a goal.
        goal_init_scale: standard deviation of goals before training.
        hidden_dim: size of node states.
        goal_actor_width: width of the goal actors' encoders, as a share of the model's.
        has_messages: whether nodes of a level exchange messages.
        n_message_rounds: rounds of message passing per step.
        gnn_class: None for the dense layer, otherwise a PyG convolution by name.
        gnn_kwargs: further arguments of the PyG convolution.
        team_state: give workers the mean state of the team.
        critic_phase: give critics the phases of all upper clocks.
        device: where the networks live.
    """

    reader: HierarchyReader
    observation_spec: Composite
    action_spec: Composite
    goal_dim: int
    goal_init_scale: float
    hidden_dim: int
    goal_actor_width: float
    has_messages: bool
    n_message_rounds: int
    gnn_class: str | None
    gnn_kwargs: Mapping[str, Any]
    team_state: bool
    critic_phase: bool
    device: torch.device | str

    def worker_network(
        self, model_config: ModelConfig, share_params: bool, out_features: int, out_key: NestedKey, phase: bool = False
    ) -> TensorDictModuleBase:
        """Network of the workers; exactly the BenchMARL model where nothing else has to be mixed in."""
        has_phase = phase and self.reader.layout.top > 0
        if self.has_messages or self.team_state or has_phase:
            return self._level_network(0, model_config, share_params, out_features, out_key, phase=phase)
        encoder = self._encoder(0, model_config, share_params, out_features)
        return PlainWorkerNetwork(self.reader, encoder, out_key).to(self.device)

    def goal_actor(
        self, level: int, model_config: ModelConfig, share_params: bool
    ) -> ProbabilisticTensorDictSequential:
        """Policy of an upper level: a diagonal Normal over the goal of every edge (our choice).

        Reads the group's observation, the assignment and the goals received; writes the goals sent ``[*B, E,
        goal_dim]`` and their log-probability ``[*B, E]``.
        """
        model_config = scale_width(model_config, self.goal_actor_width)
        keys = self.reader.keys[level]
        root = self.reader.keys.root
        names = [(root, f"goal_{name}_{level}") for name in ("logits", "loc", "scale")]
        network = self._level_network(
            level, model_config, share_params, 2 * self.goal_dim, names[0], per_edge=True, phase=False
        )
        extractor = TensorDictModule(
            NormalParamExtractor(scale_mapping=f"biased_softplus_{self.goal_init_scale}_{MIN_GOAL_SCALE}"),
            in_keys=names[:1],
            out_keys=names[1:],
        )
        goal = ProbabilisticTensorDictModule(
            in_keys={"loc": names[1], "scale": names[2]},
            out_keys=[keys.action],
            distribution_class=IndependentNormal,
            return_log_prob=True,
            log_prob_key=keys.log_prob,
        )
        return ProbabilisticTensorDictSequential(network, extractor, goal)

    def critic(self, level: int, model_config: ModelConfig, share_params: bool, per_edge: bool) -> TensorDictModuleBase:
        """Value network of a level: sees the goal it received, never the one it sends. Writes ``[*B, E, 1]``."""
        out_key = self.reader.keys[level].state_value
        if level == 0:
            return self.worker_network(model_config, share_params, 1, out_key, phase=self.critic_phase)
        return self._level_network(
            level, model_config, share_params, 1, out_key, per_edge=per_edge, phase=self.critic_phase
        )

    def _level_network(
        self,
        level: int,
        model_config: ModelConfig,
        share_params: bool,
        out_features: int,
        out_key: NestedKey,
        phase: bool,
        per_edge: bool = False,
    ) -> LevelNetwork:
        exchanges = self.has_messages and self.reader.layout.nodes_at(level) > 1
        network = LevelNetwork(
            level=level,
            reader=self.reader,
            encoder=self._encoder(level, model_config, share_params, self.hidden_dim),
            messages=self._messages() if exchanges else None,
            hidden_dim=self.hidden_dim,
            goal_dim=self.goal_dim,
            out_features=out_features,
            out_key=out_key,
            per_edge=per_edge,
            phase=phase,
            team_state=self.team_state and level == 0,
        )
        return network.to(self.device)

    def _messages(self) -> MessagePassing:
        return MessagePassing(self.hidden_dim, self.n_message_rounds, self.gnn_class, self.gnn_kwargs)

    def _encoder(self, level: int, model_config: ModelConfig, share_params: bool, out_features: int) -> nn.Module:
        """The run's model from the group's observation, and the goal for workers, to ``out_features`` per agent."""
        group, n_agents = self.reader.inputs.group, self.reader.layout.n_agents
        group_spec = self.observation_spec.clone().to(self.device)
        if level == 0 and self.reader.layout.top > 0:
            group_spec[RECEIVED_GOAL_KEY] = Unbounded(shape=(n_agents, self.goal_dim), device=self.device)
        output = Composite(
            {HIDDEN_KEY: Unbounded(shape=(n_agents, out_features), device=self.device)}, shape=(n_agents,)
        )
        try:
            return model_config.get_model(
                input_spec=Composite({group: group_spec}),
                output_spec=Composite({group: output}),
                agent_group=group,
                input_has_agent_dim=True,
                n_agents=n_agents,
                centralised=False,
                share_params=share_params,
                device=self.device,
                action_spec=self.action_spec,
            )
        except ValueError as error:
            option = "critic_model" if model_config.is_critic else "model"
            raise ValueError(
                f"{option} cannot encode what each agent of group {group!r} sees ({_describe(self.observation_spec)}): "
                f"HiMPPO gives its networks no global state but what every agent sees, so choose a {option} such as "
                f"layers/mlp for vectors or layers/cnn for images (BenchMARL says: {error})"
            ) from error


def _describe(observation_spec: Composite) -> str:
    """The entries of a group and their shapes per agent, in words."""
    entries = (
        (key if isinstance(key, str) else ".".join(key), spec) for key, spec in observation_spec.items(True, True)
    )
    return ", ".join(f"{name} {list(spec.shape[1:])}" for name, spec in entries)
