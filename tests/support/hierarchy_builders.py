"""Small hierarchies in float64, without an environment: networks, a policy, random inputs and collected batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from benchmarl.models import MlpConfig
from tensordict import TensorDict
from tensordict.nn import ProbabilisticTensorDictSequential, TensorDictModuleBase
from torch import Tensor, nn
from torchrl.data import Composite, Unbounded
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import OneHotCategorical

from benchmarl_himpo.hierarchy import (
    Clustering,
    GoalSpace,
    Hierarchy,
    HierarchyLayout,
    Memory,
    Neighbours,
)
from benchmarl_himpo.hierarchy.keys import HierarchyKeys
from benchmarl_himpo.models import HierarchicalPolicy, HimppoNetworks
from support.parts import CLUSTERINGS, GOALS, NEIGHBOURS

GROUP, OBS_DIM, ACTION_DIM, HIDDEN_DIM = "agents", 4, 2, 6
LOGITS = (GROUP, "logits")
MLP_CONFIG = MlpConfig(num_cells=[8], activation_class=nn.Tanh, layer_class=nn.Linear)


@dataclass(frozen=True)
class TinyHierarchy:
    """A hierarchy and its networks; the options are those of the library.

    Positions and liveness are entries of their own, so that a test can change an observation and hold the graph.
    """

    layout: HierarchyLayout
    clustering: Clustering = CLUSTERINGS["static"]
    neighbours: Neighbours | tuple[Neighbours, ...] = NEIGHBOURS["full"]
    goal: GoalSpace = GOALS["normal"]
    n_message_rounds: int = 1
    hidden_dim: int | tuple[int, ...] = HIDDEN_DIM
    gnn_class: str | None = None
    team_state: bool = False
    critic_phase: bool = True
    share_params: bool = True
    goal_actor_width: float = 1.0
    level_observation: tuple[tuple[str, ...] | None, ...] | None = None
    send_goals: bool = True
    memory: Memory | Sequence[Memory | None] | None = None
    seed: int = 0

    @cached_property
    def hierarchy(self) -> Hierarchy:
        """The hierarchy of the group."""
        return Hierarchy(
            group=GROUP,
            n_agents=self.layout.n_agents,
            n_nodes=self.layout.n_nodes,
            goal_interval=self.layout.goal_interval,
            clustering=self.clustering,
            neighbours=self.neighbours,
            observation=("observation",),
            position="position",
            alive="alive",
            edges="edges",
            level_observation=self.level_observation,
            send_goals=self.send_goals,
            memory=self.memory,
        )

    @property
    def keys(self) -> HierarchyKeys:
        """Keys of the group."""
        return self.hierarchy.keys

    @cached_property
    def observation_spec(self) -> Composite:
        """What the encoders see."""
        n_agents = self.layout.n_agents
        return Composite({"observation": Unbounded(shape=(n_agents, OBS_DIM))}, shape=(n_agents,))

    @cached_property
    def action_spec(self) -> Composite:
        """What the workers do."""
        n_agents = self.layout.n_agents
        group = Composite({"action": Unbounded(shape=(n_agents, ACTION_DIM))}, shape=(n_agents,))
        return Composite({GROUP: group})

    def make_networks(self, edge_values: Sequence[int] = ()) -> HimppoNetworks:
        """Networks in float64; ``edge_values`` lists the levels whose critics have one value per edge."""
        torch.manual_seed(self.seed)
        networks = HimppoNetworks(
            self.hierarchy,
            self.observation_spec,
            self.action_spec,
            goal=self.goal,
            model=MLP_CONFIG,
            critic_model=MLP_CONFIG,
            hidden_dim=self.hidden_dim,
            share_params=self.share_params,
            share_param_critic=self.share_params,
            n_message_rounds=self.n_message_rounds,
            use_tanh_normal=False,
            scale_mapping="biased_softplus_1.0",
            device="cpu",
            edge_values=edge_values,
            critic_phase=self.critic_phase,
            goal_actor_width=self.goal_actor_width,
            gnn_class=self.gnn_class,
            team_state=self.team_state,
        )
        for network in (networks.policy, *networks.critics):
            network.double()
        return networks

    @cached_property
    def networks(self) -> HimppoNetworks:
        """The networks, with one value per node."""
        return self.make_networks()

    @property
    def policy(self) -> HierarchicalPolicy:
        """The policy over :attr:`actors`."""
        return self.networks.policy

    @property
    def actors(self) -> Sequence[ProbabilisticTensorDictSequential]:
        """Policies, workers first."""
        return self.policy.actors

    @property
    def critics(self) -> list[TensorDictModuleBase]:
        """Value networks with one value per node, workers first."""
        return self.networks.critics

    @cached_property
    def edge_critics(self) -> list[TensorDictModuleBase]:
        """Value networks with one value per edge, workers first."""
        return self.make_networks(edge_values=range(self.layout.n_levels)).critics

    def random_goals(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Goals of the goal space. Shape ``[*shape, goal_dim]``."""
        if self.goal.dtype.is_floating_point:
            return torch.randn(*shape, self.goal.dim, dtype=torch.float64, generator=generator)
        choice = torch.randint(self.goal.dim, shape, generator=generator)
        return nn.functional.one_hot(choice, self.goal.dim).to(self.goal.dtype)

    def carried_zeros(self, shape: tuple[int, ...]) -> dict:
        """What an environment carries right after a reset, by key."""
        layout, keys = self.layout, self.keys
        if layout.top == 0:
            return {}
        zeros = {
            keys.clock: torch.zeros(*shape, 1, dtype=torch.long),
            keys.parent_index: torch.zeros(*shape, layout.n_agents, dtype=torch.long),
            keys.centroids: torch.zeros(*shape, layout.nodes_at(1), 2, dtype=torch.float64),
        }
        dtype = torch.float64 if self.goal.dtype.is_floating_point else self.goal.dtype
        for level in range(1, layout.n_levels):
            zeros[keys[level].action] = torch.zeros(*shape, layout.n_recipients(level), self.goal.dim, dtype=dtype)
        for level in range(1, layout.n_levels):
            if (memory := self.hierarchy.memory_at(level)) is None:
                continue
            window, double = (*shape, memory.decisions, layout.n_agents), torch.float64
            zeros[keys.seen(level, "observation")] = torch.zeros(*window, OBS_DIM, dtype=double)
            zeros[keys.seen_by(level)] = torch.zeros(window, dtype=torch.long)
            if memory.state_size:
                state = (*shape, layout.nodes_at(level), memory.state_size)
                zeros[keys.memory_state(level)] = torch.zeros(state, dtype=double)
        return zeros

    def observe(self, shape: tuple[int, ...], seed: int) -> TensorDict:
        """The group's entries alone: random observations, positions in the arena, everybody alive, edges in a ring."""
        generator = torch.Generator().manual_seed(seed)
        size = (*shape, self.layout.n_agents)
        group = {
            "observation": torch.randn(*size, OBS_DIM, dtype=torch.float64, generator=generator),
            "position": 2 * torch.rand(*size, 2, dtype=torch.float64, generator=generator) - 1,
            "alive": torch.ones(size, dtype=torch.bool),
        }
        if self.hierarchy.needs_edges:
            ring = torch.eye(self.layout.n_agents, dtype=torch.bool).roll(1, dims=-1)
            group["edges"] = ring.expand(*size, -1).clone()
        return TensorDict({GROUP: TensorDict(group, batch_size=size)}, batch_size=shape)

    def random_inputs(self, shape: tuple[int, ...] = (), seed: int = 0, clock: int = 1) -> TensorDict:
        """What every network reads: the group's entries, and a random clustering and random goals in effect."""
        generator = torch.Generator().manual_seed(seed + 1000)
        td = self.observe(shape, seed)
        for key, zeros in self.carried_zeros(shape).items():
            if key == self.keys.clock:
                value = torch.full_like(zeros, clock)
            elif key == self.keys.parent_index:
                value = torch.randint(self.layout.nodes_at(1), zeros.shape, generator=generator)
            elif key == self.keys.centroids:
                value = torch.randn(zeros.shape, dtype=torch.float64, generator=generator)
            elif key[-1].startswith("seen_by"):
                value = torch.randint(self.layout.nodes_at(int(key[-1][-1])) + 1, zeros.shape, generator=generator)
            elif not key[-1].startswith("goal"):
                value = torch.randn(zeros.shape, dtype=torch.float64, generator=generator)
            else:
                value = self.random_goals(zeros.shape[:-1], generator)
            td.set(key, value)
        return self.connect(td)

    def connect(self, td: TensorDict) -> TensorDict:
        """Build the edges anew, after a change of positions, liveness or parents; gives ``td`` back."""
        self.hierarchy.connect(td)
        return td

    def roll_out(
        self,
        n_steps: int,
        n_envs: int = 2,
        resets: Mapping[int, Sequence[int]] | None = None,
        clocks: Sequence[int] | None = None,
        is_terminated: bool = False,
    ) -> TensorDict:
        """Step as a collector does, carrying by hand, with random rewards. Batch shape ``[n_envs, n_steps]``.

        Args:
            n_steps: steps (T).
            n_envs: environments (B).
            resets: for some steps, the environments that start anew there; their episode was cut a step before.
            clocks: clocks at the first step.
            is_terminated: episodes, that of the last step included, come to a true end instead of being cut.
        """
        resets = {**(resets or {}), **({n_steps: range(n_envs)} if is_terminated else {})}
        carried = self.carried_zeros((n_envs,))
        if clocks is not None:
            carried[self.keys.clock] = torch.tensor(clocks).unsqueeze(-1)
        steps = []
        torch.manual_seed(self.seed)
        for t in range(n_steps):
            td = self.observe((n_envs,), seed=t)
            for key, value in carried.items():
                value[list(resets.get(t, []))] = 0
                td.set(self.keys.carried(key), value.clone())
            with torch.no_grad(), set_exploration_type(ExplorationType.RANDOM):
                self.policy(td)
            carried = {key: td.get(("next", *self.keys.carried(key))).clone() for key in carried}
            done = torch.zeros(n_envs, 1, dtype=torch.bool)
            done[list(resets.get(t + 1, []))] = True
            td.set("next", td.get("next", TensorDict(batch_size=[n_envs])).update(self.observe((n_envs,), seed=t + 1)))
            generator = torch.Generator().manual_seed(t + 5000)
            reward = torch.randn(n_envs, self.layout.n_agents, 1, dtype=torch.float64, generator=generator)
            td.set(("next", GROUP, "reward"), reward)
            td.set(("next", "done"), done)
            td.set(("next", "terminated"), done & is_terminated)
            steps.append(td)
        return torch.stack(steps, dim=1)

    def answer(self, module: TensorDictModuleBase, td: TensorDict) -> Tensor:
        """What a network says: parameters of an actor's distribution, or values. Shape ``[*B, E, F]``."""
        td = td.clone()
        if not isinstance(module, ProbabilisticTensorDictSequential):
            return module(td).get(module.out_keys[0])
        dist = module.get_dist(td)
        return dist.logits if isinstance(dist, OneHotCategorical) else torch.cat([dist.mean, dist.stddev], dim=-1)


def is_reached(outputs: Tensor, td: TensorDict) -> list[list[bool]]:
    """Whether agent j's observation reaches output i: a nonzero derivative. Shape ``[E, F]`` to ``[E][n_agents]``."""
    observation = td.get((GROUP, "observation"))
    rows = []
    for output in outputs:
        (gradient,) = torch.autograd.grad(output.square().sum(), observation, retain_graph=True, allow_unused=True)
        rows.append((gradient != 0).any(-1).tolist() if gradient is not None else [False] * observation.shape[-2])
    return rows
