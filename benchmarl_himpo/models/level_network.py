"""The network of one level: encode, pool, receive the goal, pass messages, apply the head (paper: Eq. 1)."""

from __future__ import annotations

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey
from torch import Tensor, nn
from torchrl.modules import MLP

from benchmarl_himpo.hierarchy import Hierarchy, HierarchyGraph
from benchmarl_himpo.models.level_memory import LevelMemory
from benchmarl_himpo.models.message_passing import MessagePassing

HIDDEN_KEY = "hidden"
RECEIVED_GOAL_KEY = "received_goal"


class LevelNetwork(TensorDictModuleBase):
    """Trunk of the actor, or critic, of one level.

    ::

        h_i = tanh(encoder(observation_i, goal_i if level 0))                every agent
        x_p = h_p at level 0, otherwise tanh(W [mean_{i below p} h_i, g_p])  every node; zero without live workers
        x_p = x_p + tanh(conv(x, N))                                         messages inside the level
        y   = head(x_p, ...)                                                 per node, or per edge with the
        subordinate's encoding

    The paper gives o^{p->c} = [state of p after messages, encoding of c, goal p received] for an edge; the goal is part
    of x_p here, and the encoding of c is the mean over the workers below c. Weights are shared inside the level, except
    the encoder's if the experiment does not share parameters. If the level has a memory (ours), the output of
    :class:`~benchmarl_himpo.models.level_memory.LevelMemory` is added to x_p inside the tanh.

    Args:
        level: the level, 0 being the workers.
        hierarchy: the hierarchy.
        encoder: BenchMARL model from the level's view of the group's observation (and the goal, for workers) to
            ``hidden_dim`` features per agent.
        messages: message passing of the level; None for no messages.
        hidden_dim: size of node states.
        goal_dim: size of a goal.
        out_features: size of the output.
        out_key: key of the output.
        per_edge: compute an output per edge (``[*B, E, out_features]``) instead of per node.
        phase: give the head the phases of all upper clocks (ours, for critics).
        team_state: give the head the mean over all live agents' states (ours, for the flat control).

    Shapes:
        - input: a TensorDict of batch shape ``[*B]`` with the group's entries and the hierarchy's root entry
        - output: ``out_key`` of shape ``[*B, E, out_features]``; all edges of a node have the node's output
    """

    def __init__(
        self,
        level: int,
        hierarchy: Hierarchy,
        encoder: nn.Module,
        messages: MessagePassing | None,
        hidden_dim: int,
        goal_dim: int,
        out_features: int,
        out_key: NestedKey,
        per_edge: bool = False,
        phase: bool = False,
        team_state: bool = False,
    ) -> None:
        super().__init__()
        self.level = level
        self.hierarchy = hierarchy
        self.encoder = encoder
        self.messages = messages
        self.hidden_dim = hidden_dim
        self.goal_dim = goal_dim
        self.per_edge = per_edge and level > 0
        self.phase = phase and hierarchy.layout.top > 0
        self.team_state = team_state
        self.in_keys = hierarchy.keys_read(level, self.phase)
        self.out_keys = [out_key]
        if level > 0:
            is_top = level == hierarchy.layout.top
            self.node = nn.Linear(hidden_dim + (0 if is_top else goal_dim), hidden_dim)
        memory = hierarchy.memory_at(level)
        self.memory = None if memory is None else LevelMemory(level, hierarchy, memory, hidden_dim)
        n_phases = hierarchy.layout.n_levels - 1 if self.phase else 0
        extra = hidden_dim * (self.per_edge + self.team_state) + n_phases
        self.head = MLP(
            in_features=hidden_dim + extra,
            out_features=out_features,
            num_cells=[hidden_dim] if extra else [],
            activation_class=nn.Tanh,
        )

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the output of the level."""
        graph = self.hierarchy.graph(tensordict)
        goal = self.hierarchy.received_goal(tensordict, self.level)
        hidden = self.encode(tensordict, goal if self.level == 0 else None)
        x = self._node_state(hidden, goal, graph, tensordict)
        if self.messages is not None:
            x = self.messages(x, graph.adjacency[self.level])
        tensordict.set(self.out_keys[0], self._answer(x, hidden, graph, tensordict))
        return tensordict

    def encode(self, tensordict: TensorDictBase, goal: Tensor | None = None) -> Tensor:
        """Encoding of every agent, with its goal at level 0. Shape ``[*B, n_agents, hidden_dim]``, in [-1, 1]."""
        return torch.tanh(encode(self.encoder, self.hierarchy, tensordict, self.level, goal))

    def remember(self, tensordict: TensorDictBase, is_due: Tensor) -> dict[tuple[str, str], Tensor]:
        """Entries of the level's memory after this step, by key; see :meth:`LevelMemory.remember`."""
        return {} if self.memory is None else self.memory.remember(tensordict, self.encode, is_due)

    def _node_state(
        self, hidden: Tensor, goal: Tensor | None, graph: HierarchyGraph, tensordict: TensorDictBase
    ) -> Tensor:
        """State of every node before messages. Shape ``[*B, nodes, hidden_dim]``."""
        if self.level == 0:
            return hidden
        pooled = graph.pool(hidden, self.level)
        x = self.node(pooled if goal is None else torch.cat([pooled, goal], dim=-1))
        if self.memory is not None:
            x = x + self.memory(tensordict, self.encode)
        return torch.tanh(x) * (graph.n_workers(self.level) > 0).unsqueeze(-1)

    def _answer(self, x: Tensor, hidden: Tensor, graph: HierarchyGraph, tensordict: TensorDictBase) -> Tensor:
        """Head over nodes or edges. Shape ``[*B, E, out_features]``."""
        if self.per_edge:
            is_served = (graph.n_workers(self.level - 1) > 0).unsqueeze(-1)  # zero below nodes without live workers
            subordinate = graph.pool(hidden, self.level - 1) * is_served
            x = torch.cat([graph.to_subordinates(x, self.level), subordinate], dim=-1)
        if self.team_state:
            weight = graph.alive.unsqueeze(-1).to(x.dtype)
            team = (x * weight).sum(-2, keepdim=True) / weight.sum(-2, keepdim=True).clamp(min=1)
            x = torch.cat([x, team.expand_as(x)], dim=-1)
        if self.phase:
            phase = self.hierarchy.phase(tensordict).unsqueeze(-2).to(x.dtype)
            x = torch.cat([x, phase.expand(*x.shape[:-1], -1)], dim=-1)
        answer = self.head(x)
        return answer if self.per_edge or self.level == 0 else graph.to_subordinates(answer, self.level)


class PlainWorkerNetwork(TensorDictModuleBase):
    """Worker network without messages or further inputs: the BenchMARL model, from observation (and goal) to output.

    Args:
        hierarchy: the hierarchy.
        encoder: BenchMARL model with the group's :data:`HIDDEN_KEY` as output.
        out_key: key of the output.

    Shapes:
        - output: ``out_key`` of shape ``[*B, n_agents, out_features]``
    """

    def __init__(self, hierarchy: Hierarchy, encoder: nn.Module, out_key: NestedKey) -> None:
        super().__init__()
        self.hierarchy = hierarchy
        self.encoder = encoder
        self.in_keys = hierarchy.keys_read(level=0)
        self.out_keys = [out_key]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the model's output."""
        goal = self.hierarchy.received_goal(tensordict, level=0)
        return tensordict.set(self.out_keys[0], encode(self.encoder, self.hierarchy, tensordict, 0, goal))


def encode(
    encoder: nn.Module, hierarchy: Hierarchy, tensordict: TensorDictBase, level: int, goal: Tensor | None
) -> Tensor:
    """Run a BenchMARL model on a level's view of the observation. Shape ``[*B, n_agents, F]``."""
    group_td = hierarchy.inputs.observation(tensordict, level)
    if goal is not None:
        group_td.set(RECEIVED_GOAL_KEY, goal)
    group = hierarchy.inputs.group
    fresh = TensorDict({group: group_td}, batch_size=tensordict.batch_size, device=tensordict.device)
    return encoder(fresh).get((group, HIDDEN_KEY))
