"""HiMPPO as an algorithm of BenchMARL: connects hierarchy, networks and loss, in BenchMARL's hook order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, cast

import torch
from benchmarl.algorithms.common import Algorithm
from benchmarl.algorithms.ippo import Ippo, IppoConfig
from benchmarl.models.common import ModelConfig
from omegaconf import OmegaConf
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.envs import EnvBase

from benchmarl_himpo.algorithms.options import (
    as_options,
    build_goal_space,
    build_hierarchy,
    build_reward_scheme,
    check_model,
    check_options,
)
from benchmarl_himpo.config import load_yaml, snake_case
from benchmarl_himpo.hierarchy import GoalSpace, Hierarchy, IntervalAnnealing
from benchmarl_himpo.models import HierarchicalPolicy, HimppoNetworks
from benchmarl_himpo.objectives import GoalGradient, HierarchicalGAE, HimppoLoss, RewardScheme
from benchmarl_himpo.objectives.diagnostics import level_diagnostics
from benchmarl_himpo.objectives.functional import is_recorded
from benchmarl_himpo.objectives.level_loss import LOSSES
from benchmarl_himpo.objectives.normalization import LevelNorm
from benchmarl_himpo.objectives.reward_scheme import CriticRows, LocalReward


class Himppo(Ippo):
    """Hierarchical message-passing PPO (https://arxiv.org/abs/2507.23604).

    Action distribution and PPO options of the workers come from BenchMARL's :class:`~benchmarl.algorithms.Ippo`; the
    options below are documented in ``conf/algorithm/base/himppo.yaml``, key by key with their source. An option that
    chooses a part (``clustering``, ``neighbours``, ``memory``, ``goal``, ``credit``) is a name, or a mapping with the
    name and the part's own fields.

    Args:
        n_nodes: nodes of each upper level, bottom first.
        goal_interval: duration of a goal, in decisions of the level below, bottom first (paper: alpha, K).
        initial_goal_interval: goal intervals at the start, which change linearly to ``goal_interval`` until the middle
            of a run; None: constant intervals.
        goal: the goal space.
        goal_dim: size of a goal.
        credit: credit rule, which distributes an advantage as intrinsic reward to the level below.
        local_reward: external reward of sub-managers, in addition to their intrinsic reward.
        worker_external_reward: whether workers also receive the external reward.
        gamma: discount per decision of each level, workers first; None takes ``experiment.gamma``.
        lmbda: GAE lambda of each level, workers first.
        critic_rows: rows that upper critics train on.
        critic_phase: give critics the phases of the upper clocks.
        clustering: clustering of the workers under their sub-managers.
        neighbours: graph of the messages inside a level, one builder or a list with one per level.
        memory: memory of upper nodes over earlier decisions, one or a list with one per level; None for no memory.
        part_options: fields of parts that are chosen by name, by option and name.
        observation: view of the observation at each level, workers first; None: the whole observation at all levels.
        position: source of positions; ``auto`` looks it up.
        alive: source of the flag of live agents; ``auto`` looks it up.
        hidden_dim: size of node states, one number or one per level.
        goal_actor_width: width of the goal actors' encoders, as a fraction of the model's width.
        n_message_rounds: rounds of message passing per step.
        gnn_class: PyG convolution by name; None for the dense layer.
        gnn_kwargs: further arguments of the PyG convolution.
        team_state: give workers the mean state of the team.
        send_goals: whether goals are received; False: subordinates receive zeros.
        goal_gradient: factor of the workers' gradient that flows through goals into the levels above.
        objective_coef: weight of the PPO objective, one number or one per level.
        listening_coef: initial weight of the positive-listening bonus; it falls to zero by the middle of training.
        lr: learning rate, one number or one per level; None takes ``experiment.lr``.
        entropy_coef: weight of the entropy bonus, one number or one per level.
        n_epochs: passes over each batch, one number or one per level; None: the number of the experiment.
        reward_norm: divide the reward of every level by its running standard deviation.
        value_norm: normalise the targets of every critic to mean 0 and standard deviation 1.
        norm_decay: weight of the past in these running statistics.
        **kwargs: the options of :class:`~benchmarl.algorithms.Ippo`.

    Raises:
        ValueError: if an option, the model or the task is not supported; the message names the option and the fix.
    """

    def __init__(
        self,
        n_nodes: list[int],
        goal_interval: list[int],
        initial_goal_interval: list[int] | None,
        goal: Any,
        goal_dim: int,
        credit: Any,
        local_reward: LocalReward,
        worker_external_reward: bool,
        gamma: list[float | None],
        lmbda: list[float],
        critic_rows: CriticRows,
        critic_phase: bool,
        clustering: Any,
        neighbours: Any,
        memory: Any,
        part_options: dict[str, Any],
        observation: list[list[str] | None] | None,
        position: str | None,
        alive: str | None,
        hidden_dim: int | list[int],
        goal_actor_width: float,
        n_message_rounds: int,
        gnn_class: str | None,
        gnn_kwargs: dict[str, Any],
        team_state: bool,
        send_goals: bool,
        goal_gradient: float,
        objective_coef: float | list[float],
        listening_coef: float,
        lr: float | list[float] | None,
        entropy_coef: float | list[float],
        n_epochs: int | list[int | None] | None,
        reward_norm: bool,
        value_norm: bool,
        norm_decay: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(lmbda=lmbda, entropy_coef=entropy_coef, **kwargs)
        self.n_nodes = n_nodes
        self.goal_interval = goal_interval
        self.initial_goal_interval = initial_goal_interval
        self.goal = goal
        self.goal_dim = goal_dim
        self.credit = credit
        self.local_reward = local_reward
        self.worker_external_reward = worker_external_reward
        self.gamma = gamma
        self.critic_rows = critic_rows
        self.critic_phase = critic_phase
        self.clustering = clustering
        self.neighbours = neighbours
        self.memory = memory
        self.part_options = part_options
        self.observation = observation
        self.position = position
        self.alive = alive
        self.hidden_dim = hidden_dim
        self.goal_actor_width = goal_actor_width
        self.n_message_rounds = n_message_rounds
        self.gnn_class = gnn_class
        self.gnn_kwargs = gnn_kwargs
        self.team_state = team_state
        self.send_goals = send_goals
        self.goal_gradient = goal_gradient
        self.objective_coef = objective_coef
        self.listening_coef = listening_coef
        self.lr = lr
        self.n_epochs = n_epochs
        self.reward_norm = reward_norm
        self.value_norm = value_norm
        self.norm_decay = norm_decay

        for option, config in (("model", self.model_config), ("critic_model", self.critic_model_config)):
            check_model(option, config)
        with as_options(HimppoConfig):
            check_options(self)
            self.goal_space = build_goal_space(self)
            self.hierarchies = {group: self._get_hierarchy(group) for group in self.group_map}
            self._schemes = {group: self._get_reward_scheme(h) for group, h in self.hierarchies.items()}
            self._epochs = {group: self._get_epochs(h) for group, h in self.hierarchies.items()}
        self._networks: dict[str, HimppoNetworks] = {}
        self._advantages: dict[str, HierarchicalGAE] = {}
        self._n_minibatches = dict.fromkeys(self.hierarchies, 0)

    #############################
    # Overridden abstract methods
    #############################

    def _get_loss(self, group: str, policy_for_loss: HierarchicalPolicy, continuous: bool) -> tuple[HimppoLoss, bool]:
        critics = self._networks[group].critics
        with as_options(HimppoConfig):
            has_gradient = self.goal_gradient != 0 and self.hierarchies[group].layout.top > 0
            gradient = GoalGradient(policy_for_loss, self.goal_space, self.goal_gradient) if has_gradient else None
            norms = [
                LevelNorm(reward=self.reward_norm, value=self.value_norm, decay=self.norm_decay).to(self.device)
                for _ in critics
            ]
            self._advantages[group] = HierarchicalGAE(policy_for_loss, critics, self._schemes[group], gradient, norms)
            loss_module = HimppoLoss(
                policy_for_loss,
                critics,
                clip_epsilon=self.clip_epsilon,
                entropy_coef=self.entropy_coef,
                critic_coef=self.critic_coef,
                loss_critic_type=self.loss_critic_type,
                objective_coef=self.objective_coef,
                goal_gradient=gradient,
                listening_coef=self.listening_coef,
                norms=norms,
            )
        return loss_module, False

    def _get_parameters(self, group: str, loss: HimppoLoss) -> dict[str, list[Any]]:
        layout = self.hierarchies[group].layout
        with as_options(HimppoConfig):
            rates = layout.per_level("lr", self.lr)
        return {
            "loss_objective": _with_rates(loss.actor_params(), rates),
            "loss_critic": _with_rates(loss.critic_params(), rates),
        }

    def _get_policy_for_loss(self, group: str, model_config: ModelConfig, continuous: bool) -> HierarchicalPolicy:
        self._networks[group] = self._make_networks(group, model_config)
        return self._networks[group].policy

    def _make_networks(self, group: str, model_config: ModelConfig) -> HimppoNetworks:
        with as_options(HimppoConfig):
            return HimppoNetworks(
                self.hierarchies[group],
                self.observation_spec[group],
                self.action_spec,
                goal=self.goal_space,
                model=model_config,
                critic_model=self.critic_model_config,
                hidden_dim=self.hidden_dim,
                share_params=self.experiment_config.share_policy_params,
                share_param_critic=self.share_param_critic,
                n_message_rounds=self.n_message_rounds,
                use_tanh_normal=self.use_tanh_normal,
                scale_mapping=self.scale_mapping,
                device=self.device,
                has_action_mask=self.action_mask_spec is not None,
                edge_values=self._schemes[group].edge_values,
                critic_phase=self.critic_phase,
                goal_actor_width=self.goal_actor_width,
                gnn_class=self.gnn_class,
                gnn_kwargs=self.gnn_kwargs,
                team_state=self.team_state,
            )

    def _get_policy_for_collection(
        self, policy_for_loss: TensorDictModule, group: str, continuous: bool
    ) -> TensorDictModule:
        # The collection policy is the same stochastic policy
        return policy_for_loss

    def process_env_fun(self, env_fun: Callable[[], EnvBase]) -> Callable[[], EnvBase]:
        """Append the transform that carries goals, clocks and clusterings from step to step."""
        return partial(_make_carrying_env, env_fun, tuple(self.hierarchies.values()), self.goal_space)

    def process_batch(self, group: str, batch: TensorDictBase) -> TensorDictBase:
        """Compute the training targets of every level. Takes and returns a batch of shape ``[B, T]``."""
        self._n_minibatches[group] = 0
        self._choose_levels(group)
        self._anneal_listening(group)
        n_envs = batch.shape[0]
        if self.minibatch_advantage:
            minibatch_size = self.experiment.config.train_minibatch_size(self.on_policy)
            n_envs = min(n_envs, -(-minibatch_size // batch.shape[1]))
        advantage, loss = self.advantage(group), self.get_loss_and_updater(group)[0]
        parts = batch.split(n_envs, dim=0)
        try:
            found = [advantage.targets(part) for part in parts]
        except FloatingPointError as error:
            self._stop(str(error))
        advantage.update_norms([targets for _, targets in found])
        layout = self.hierarchies[group].layout
        self._log_diagnostics(group, [level_diagnostics(layout, *of_part) for of_part in found])
        used = dict.fromkeys([*loss.in_keys, *loss.mask_keys])
        written = [
            advantage.write(part, targets).select(*used) for part, (_, targets) in zip(parts, found, strict=True)
        ]
        return written[0] if len(written) == 1 else torch.cat(written, dim=0)

    def process_loss_vals(self, group: str, loss_vals: TensorDictBase) -> TensorDictBase:
        """Add the entropy bonus to the objective, as IPPO does, after checking that every level's loss is finite."""
        if not is_recorded() and not sum(loss_vals[name] for name in LOSSES).isfinite():
            for level in range(self.hierarchies[group].layout.n_levels):
                of_level = {key: value for key, value in loss_vals.items() if key.endswith(f"_level_{level}")}
                if bad := [key for key, value in of_level.items() if not value.isfinite()]:
                    self._stop(f"{' and '.join(bad)} of group {group!r} at level {level} holds NaN or infinity")
        self._n_minibatches[group] += 1
        self._choose_levels(group)
        return super().process_loss_vals(group, loss_vals)

    #####################
    # Custom new methods
    #####################

    @property
    def varying_options(self) -> list[str]:
        """Options in use that change the loss during a run."""
        return ([] if self.n_epochs is None else ["n_epochs"]) + self.annealed_options

    @property
    def annealed_options(self) -> list[str]:
        """Options in use whose effect depends on the elapsed fraction of the run."""
        in_use = {
            "listening_coef": self.listening_coef > 0,
            "initial_goal_interval": self.initial_goal_interval is not None,
        }
        return [name for name, used in in_use.items() if used]

    def advantage(self, group: str) -> HierarchicalGAE:
        """The module that computes the training targets of every level of a group."""
        self.get_loss_and_updater(group)  # builds the module
        return self._advantages[group]

    def untrained_policy(self, group: str) -> HierarchicalPolicy:
        """An untrained policy of the group: the same networks with new initial weights."""
        return self._make_networks(group, self.model_config).policy

    def _choose_levels(self, group: str) -> None:
        """Select the levels that train in the next minibatch: those with epochs left."""
        config = self.experiment_config
        per_epoch = -(-config.train_batch_size(True) // config.train_minibatch_size(True))
        epoch = min(self._n_minibatches[group] // per_epoch, max(self._epochs[group]) - 1)
        self.get_loss_and_updater(group)[0].trains = [epoch < n_epochs for n_epochs in self._epochs[group]]

    def _anneal_listening(self, group: str) -> None:
        """Anneal the weight of listening linearly to zero at the middle of the run."""
        progress = self.experiment.total_frames / self.experiment_config.get_max_n_frames(True)
        for level_loss in self.get_loss_and_updater(group)[0].level_losses:
            level_loss.listening_coef = self.listening_coef * max(0.0, 1 - 2 * progress)

    def _log_diagnostics(self, group: str, parts: list[dict[str, float]]) -> None:
        """Log the mean over the parts of a batch: one part, or several with ``minibatch_advantage``."""
        means = {f"train/{group}/{name}": sum(part[name] for part in parts) / len(parts) for name in parts[0]}
        self.experiment.logger.log(means, step=self.experiment.n_iters_performed)

    def _stop(self, reason: str) -> NoReturn:
        raise FloatingPointError(
            f"{reason} in iteration {self.experiment.n_iters_performed}: training stopped. If observations or rewards "
            "hold NaN or infinity too, check the environment; else lower experiment.lr or experiment.clip_grad_val."
        )

    def _get_hierarchy(self, group: str) -> Hierarchy:
        return build_hierarchy(
            group=group,
            n_agents=len(self.group_map[group]),
            n_nodes=self.n_nodes,
            goal_interval=self.goal_interval,
            clustering=self.clustering,
            neighbours=self.neighbours if self.n_message_rounds != 0 else "none",
            memory=self.memory,
            part_options=self.part_options,
            observed=tuple(self.observation_spec[group].keys(True, True)),
            observation=self.observation,
            position=self.position,
            alive=self.alive,
            send_goals=self.send_goals,
            task=f"{self.experiment.environment_name}/{self.experiment.task_name}",
            task_options=self.experiment.task.config,
            entries=self.experiment.test_env.full_observation_spec_unbatched[group],
            annealing=self._get_annealing(),
        )

    def _get_annealing(self) -> IntervalAnnealing | None:
        """Schedule of goal intervals that change until the middle of the run; None for constant intervals."""
        if self.initial_goal_interval is None:
            return None
        n_frames = -(-self.experiment_config.get_max_n_frames(True) // 2)
        return IntervalAnnealing(self.initial_goal_interval, self.goal_interval, n_frames).to(self.device)

    def _get_epochs(self, hierarchy: Hierarchy) -> list[int]:
        """Passes over each batch of every level, workers first."""
        n_all = self.experiment_config.n_optimizer_steps(True)
        epochs = [n_all if n is None else n for n in hierarchy.layout.per_level("n_epochs", self.n_epochs)]
        if any(not isinstance(n, int) or not 1 <= n <= n_all for n in epochs) or max(epochs) != n_all:
            raise ValueError(
                f"n_epochs={self.n_epochs} must be whole numbers from 1 to the {n_all} epochs of the experiment, and "
                f"the largest must be {n_all}: change n_epochs or experiment.on_policy_n_minibatch_iters"
            )
        return epochs

    def _get_reward_scheme(self, hierarchy: Hierarchy) -> RewardScheme:
        return build_reward_scheme(self, hierarchy.layout, self.experiment_config.gamma)


def _make_carrying_env(
    env_fun: Callable[[], EnvBase], hierarchies: tuple[Hierarchy, ...], goal_space: GoalSpace
) -> EnvBase:
    """Build an environment that carries the state of the hierarchies."""
    env = env_fun()
    for hierarchy in hierarchies:
        primer = hierarchy.primer(env, goal_space)
        env = env if primer is None else env.append_transform(primer)
    return env


def _with_rates(params: Sequence[list[nn.Parameter]], rates: Sequence[float | None]) -> list[Any]:
    """Parameters of all levels for an optimiser, in parameter groups if levels have different learning rates."""
    if all(rate is None for rate in rates):
        return [param for level in params for param in level]
    groups = [{"params": level, "lr": rate} for level, rate in zip(params, rates, strict=True)]
    return [{key: value for key, value in group.items() if value is not None} for group in groups]


@dataclass
class HimppoConfig(IppoConfig):
    """Configuration dataclass for :class:`~benchmarl_himpo.algorithms.Himppo`."""

    n_nodes: list[int]
    goal_interval: list[int]
    initial_goal_interval: Any
    goal: Any
    goal_dim: int
    credit: Any
    local_reward: str
    worker_external_reward: bool
    gamma: list[float | None]
    lmbda: list[float]
    critic_rows: str
    critic_phase: bool
    clustering: Any
    neighbours: Any
    memory: Any
    part_options: dict[str, Any]
    observation: Any
    position: str | None
    alive: str | None
    hidden_dim: Any
    goal_actor_width: float
    n_message_rounds: int
    gnn_class: str | None
    gnn_kwargs: dict[str, Any]
    team_state: bool
    send_goals: bool
    goal_gradient: float
    objective_coef: Any
    listening_coef: float
    lr: Any
    entropy_coef: Any
    n_epochs: Any
    reward_norm: bool
    value_norm: bool
    norm_decay: float

    def __post_init__(self) -> None:
        """Check the options that depend on no task."""
        with as_options(type(self)):
            check_options(self)

    @staticmethod
    def associated_class() -> type[Algorithm]:
        """The algorithm class of the config."""
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
