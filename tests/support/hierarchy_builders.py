"""Small hierarchies in float64, without an environment: networks, a policy and random inputs."""

from dataclasses import dataclass
from functools import cached_property

import torch
from benchmarl.models import MlpConfig
from tensordict import TensorDict
from tensordict.nn import ProbabilisticTensorDictModule, ProbabilisticTensorDictSequential, TensorDictModule
from tensordict.nn.distributions import NormalParamExtractor
from torch import Tensor, nn
from torchrl.data import Composite, Unbounded
from torchrl.modules import IndependentNormal

from benchmarl_himpo.hierarchy import HierarchyLayout, assignment_registry, neighbours_registry
from benchmarl_himpo.hierarchy.keys import HierarchyKeys
from benchmarl_himpo.models import GroupInputs, HierarchicalPolicy, LevelModels, PositionSource
from benchmarl_himpo.models.level_network import HierarchyReader

GROUP, OBS_DIM, ACTION_DIM, GOAL_DIM = "agents", 4, 2, 3
LOGITS = (GROUP, "logits")
MLP_CONFIG = MlpConfig(num_cells=[8], activation_class=nn.Tanh, layer_class=nn.Linear)


@dataclass(frozen=True)
class TinyHierarchy:
    """A hierarchy and its networks; the options are those of the algorithm.

    Positions and liveness are entries of their own, so that a test can change an observation and hold the graph.
    """

    layout: HierarchyLayout
    assignment: str = "static"
    neighbours: str = "full"
    n_message_rounds: int = 1
    radius: float = 1.0
    gnn_class: str | None = None
    team_state: bool = False
    critic_phase: bool = True
    share_params: bool = True
    goal_actor_width: float = 1.0
    seed: int = 0

    @property
    def keys(self) -> HierarchyKeys:
        """Keys of the group."""
        return HierarchyKeys(GROUP)

    @cached_property
    def reader(self) -> HierarchyReader:
        """Reader of the hierarchy."""
        neighbours = neighbours_registry[self.neighbours](1, self.radius)
        inputs = GroupInputs(GROUP, ("observation",), PositionSource("position"), "alive")
        return HierarchyReader(self.layout, inputs, self.keys, neighbours)

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

    @cached_property
    def models(self) -> LevelModels:
        """Factory of the networks."""
        return LevelModels(
            reader=self.reader,
            observation_spec=self.observation_spec,
            action_spec=self.action_spec,
            goal_dim=GOAL_DIM,
            goal_init_scale=0.5,
            hidden_dim=6,
            goal_actor_width=self.goal_actor_width,
            has_messages=self.neighbours != "none" and self.n_message_rounds > 0,
            n_message_rounds=self.n_message_rounds,
            gnn_class=self.gnn_class,
            gnn_kwargs={},
            team_state=self.team_state,
            critic_phase=self.critic_phase,
            device="cpu",
        )

    @cached_property
    def actors(self) -> list[ProbabilisticTensorDictSequential]:
        """Policies, workers first."""
        torch.manual_seed(self.seed)
        names = [(GROUP, name) for name in ("loc", "scale")]
        worker = ProbabilisticTensorDictSequential(
            self.models.worker_network(MLP_CONFIG, self.share_params, 2 * ACTION_DIM, LOGITS),
            TensorDictModule(NormalParamExtractor(), in_keys=[LOGITS], out_keys=names),
            ProbabilisticTensorDictModule(
                in_keys={"loc": names[0], "scale": names[1]},
                out_keys=[self.keys[0].action],
                distribution_class=IndependentNormal,
                return_log_prob=True,
                log_prob_key=self.keys[0].log_prob,
            ),
        )
        upper = [
            self.models.goal_actor(level, MLP_CONFIG, self.share_params) for level in range(1, self.layout.n_levels)
        ]
        return [actor.double() for actor in (worker, *upper)]

    @cached_property
    def critics(self) -> list[nn.Module]:
        """Value networks with one value per node, workers first."""
        return self._make_critics(per_edge=False)

    @cached_property
    def edge_critics(self) -> list[nn.Module]:
        """Value networks with one value per edge, workers first."""
        return self._make_critics(per_edge=True)

    def _make_critics(self, per_edge: bool) -> list[nn.Module]:
        torch.manual_seed(self.seed + 1)
        levels = range(self.layout.n_levels)
        return [self.models.critic(level, MLP_CONFIG, self.share_params, per_edge).double() for level in levels]

    @cached_property
    def policy(self) -> HierarchicalPolicy:
        """The policy over :attr:`actors`."""
        n_clusters = self.layout.nodes_at(min(1, self.layout.top))
        assignment = assignment_registry[self.assignment](n_clusters, (-1.0, 1.0))
        return HierarchicalPolicy(self.reader, assignment, self.actors)

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
        for level in range(1, layout.n_levels):
            size = (*shape, layout.edges_at(level), GOAL_DIM)
            zeros[keys[level].action] = torch.zeros(size, dtype=torch.float64)
        return zeros

    def observe(self, shape: tuple[int, ...], seed: int) -> TensorDict:
        """The group's entries alone: random observations, positions in the arena, everybody alive."""
        generator = torch.Generator().manual_seed(seed)
        size = (*shape, self.layout.n_agents)
        group = {
            "observation": torch.randn(*size, OBS_DIM, dtype=torch.float64, generator=generator),
            "position": 2 * torch.rand(*size, 2, dtype=torch.float64, generator=generator) - 1,
            "alive": torch.ones(size, dtype=torch.bool),
        }
        return TensorDict({GROUP: TensorDict(group, batch_size=size)}, batch_size=shape)

    def random_inputs(self, shape: tuple[int, ...] = (), seed: int = 0, clock: int = 1) -> TensorDict:
        """What every network reads: the group's entries, and a random assignment and random goals in effect."""
        generator = torch.Generator().manual_seed(seed + 1000)
        td = self.observe(shape, seed)
        for key, zeros in self.carried_zeros(shape).items():
            value = torch.randn(zeros.shape, dtype=torch.float64, generator=generator)
            if key == self.keys.clock:
                value = torch.full_like(zeros, clock)
            elif key == self.keys.parent_index:
                value = torch.randint(self.layout.nodes_at(1), zeros.shape, generator=generator)
            td.set(key, value)
        return td

    def answer(self, module: nn.Module, td: TensorDict) -> Tensor:
        """What a network says: parameters of an actor's distribution, or values. Shape ``[*B, E, F]``."""
        td = td.clone()
        if isinstance(module, ProbabilisticTensorDictSequential):
            dist = module.get_dist(td)
            return torch.cat([dist.mean, dist.stddev], dim=-1)
        return module(td).get(module.out_keys[0])


def is_heard(outputs: Tensor, td: TensorDict) -> list[list[bool]]:
    """Whether agent j's observation reaches output i: a nonzero derivative. Shape ``[E, F]`` to ``[E][n_agents]``."""
    observation = td.get((GROUP, "observation"))
    rows = []
    for output in outputs:
        (gradient,) = torch.autograd.grad(output.square().sum(), observation, retain_graph=True, allow_unused=True)
        rows.append((gradient != 0).any(-1).tolist() if gradient is not None else [False] * observation.shape[-2])
    return rows
