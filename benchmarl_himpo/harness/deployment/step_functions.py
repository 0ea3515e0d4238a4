"""The trained networks as functions of named tensors, exported with torch.export.

A step function calls the policy's own actor or clustering on a TensorDict that it builds from its inputs; the export
records only the tensor operations.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.utils import NestedKey, unravel_key
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import MultiAgentNetBase

from benchmarl_himpo.host.torch import operators_of
from benchmarl_himpo.host.torchrl import plain_networks
from benchmarl_himpo.models import HierarchicalPolicy

Module = TypeVar("Module", bound=nn.Module)

PORTABLE_NAMESPACES = ("aten", "prim", "prims", "higher_order")
"""Namespaces of torch's own operators."""


class ExportError(ValueError):
    """A policy cannot be exported; the message gives the reason and the fix."""


class AgentNetworks(nn.Module):
    """A TorchRL multi-agent network, not centralised, as plain modules.

    TorchRL's network swaps its parameters in at each call, which torch.export does not support.
    """

    def __init__(self, net: MultiAgentNetBase) -> None:
        super().__init__()
        self.agent_dim: int = net.agent_dim
        self.networks = nn.ModuleList(plain_networks(net))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Apply the shared network, or each agent's own."""
        x = torch.cat(inputs, dim=-1)
        if len(self.networks) == 1:
            return self.networks[0](x)
        dim = x.ndim + self.agent_dim
        own = zip(self.networks, x.unbind(dim), strict=True)
        return torch.stack([network(agent) for network, agent in own], dim)


class StepFunction(nn.Module, ABC):
    """One part of a hierarchy's step: a dictionary of tensors of batch shape ``[B]`` in, another one out.

    Args:
        policy: the policy of one group.
        keys: key of every possible input, by name.
        period: env steps between two calls that have an effect.
    """

    def __init__(self, policy: HierarchicalPolicy, keys: Mapping[str, NestedKey], period: int) -> None:
        super().__init__()
        self.hierarchy = policy.hierarchy
        self.keys = dict(keys)
        self.period = period
        self.unread: dict[str, tuple[torch.Size, torch.dtype]] = {}  # shape of one row and dtype of unused inputs

    def read(self, td: TensorDictBase) -> dict[str, Tensor]:
        """The used inputs, from a TensorDict of batch shape ``[B]``."""
        return read_named(td, {name: key for name, key in self.keys.items() if name not in self.unread})

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute the outputs; actions and goals are the most likely ones."""
        n = next(iter(inputs.values())).shape[0]
        unread = {name: torch.zeros(n, *shape, dtype=dtype) for name, (shape, dtype) in self.unread.items()}
        td = TensorDict({self.hierarchy.group: TensorDict({}, [n, self.hierarchy.n_agents])}, [n])
        for name, value in {**inputs, **unread}.items():
            td.set(self.keys[name], value.unsqueeze(-1) if name == "clock" else value)
        with set_exploration_type(ExplorationType.DETERMINISTIC):
            return self.step(td)

    @abstractmethod
    def step(self, td: TensorDictBase) -> dict[str, Tensor]:
        """Compute the outputs from a TensorDict of batch shape ``[B]``."""


class LevelStep(StepFunction):
    """One level: upper levels output the goals in effect, ``goal_<level>``, the workers (level 0) their ``action``.

    The present parameters of the distribution are also outputs. Upper levels take their clock and previous goals, and
    return the previous goals where they do not decide.
    """

    def __init__(self, policy: HierarchicalPolicy, keys: Mapping[str, NestedKey], level: int) -> None:
        actor, hierarchy = policy.actors[level], policy.hierarchy
        wanted = {unravel_key(key) for key in actor.in_keys}
        wanted |= {unravel_key(key) for key in hierarchy.inputs.keys}  # inputs of the edges
        held = {hierarchy.keys.clock, hierarchy.keys[level].action} if level > 0 else set()
        super().__init__(
            policy,
            {name: key for name, key in keys.items() if key in wanted | held},
            hierarchy.layout.periods[level],
        )
        self.level = level
        self.actor = _as_plain_modules(copy.deepcopy(actor))

    def step(self, td: TensorDictBase) -> dict[str, Tensor]:
        """Call the actor."""
        keys = self.hierarchy.keys
        self.hierarchy.connect(td, [self.level])
        asked = self.actor(td.select(*self.actor.in_keys))
        outputs = {name: asked.get(key) for name, key in self._parameter_keys().items()}
        action = asked.get(keys[self.level].action)
        if self.level == 0:
            return {"action": action, **outputs}
        is_due = self.hierarchy.layout.is_due(td.get(keys.clock), self.level).unsqueeze(-1)
        held = torch.where(is_due, action, td.get(keys[self.level].action))
        remembered = self.actor[0].remember(td, is_due.squeeze(-1))
        return {f"goal_{self.level}": held, **outputs, **{key[-1]: value for key, value in remembered.items()}}

    def _parameter_keys(self) -> dict[str, NestedKey]:
        """Keys of the distribution's parameters, by their usual names."""
        keys = [unravel_key(key) for key in self.actor[-1].in_keys]
        written = [key for key in keys if key in self.actor.out_keys]
        return {name: key for key in written for name in ("loc", "scale", "logits") if name in str(key[-1])}


class ClusteringStep(StepFunction):
    """Clustering: ``parent_index`` and ``centroids`` in effect, new ones where sub-managers decide."""

    def __init__(self, policy: HierarchicalPolicy, keys: Mapping[str, NestedKey]) -> None:
        hierarchy = policy.hierarchy
        wanted = {*hierarchy.inputs.keys, hierarchy.keys.clock, hierarchy.keys.parent_index, hierarchy.keys.centroids}
        read = {name: key for name, key in keys.items() if key in wanted}
        super().__init__(policy, read, hierarchy.layout.periods[1])

    def step(self, td: TensorDictBase) -> dict[str, Tensor]:
        """Call the clustering."""
        keys = self.hierarchy.keys
        clock = td.get(keys.clock).squeeze(-1)
        self.hierarchy.cluster(td, clock, self.hierarchy.layout.is_due(clock, 1))
        return {key[-1]: td.get(key) for key in (keys.parent_index, keys.centroids)}


def input_keys(policy: HierarchicalPolicy) -> dict[str, NestedKey]:
    """Names of all possible inputs of step functions: the group's entries, and the carried state.

    Names of nested entries are joined by dots.

    Raises:
        ExportError: if an entry of the agents has the name of a carried entry.
    """
    group, worker = policy.hierarchy.group, policy.actors[0]
    read = map(unravel_key, (*policy.hierarchy.inputs.keys, *worker.in_keys))
    seen = dict.fromkeys(key for key in read if key[0] == group)
    entries = {".".join(key[1:]): key for key in seen}
    held = {key[-1]: key for key in policy.held_keys}
    if clash := entries.keys() & held.keys():
        raise ExportError(f"the agents have an entry {min(clash)}, which is a name of the hierarchy: rename the entry")
    return {**entries, **held}


def read_named(td: TensorDictBase, keys: Mapping[str, NestedKey]) -> dict[str, Tensor]:
    """Read tensors by their names; the clock, which has a last dimension of one, without it."""
    tensors = {name: td.get(key) for name, key in keys.items()}
    return {name: value.squeeze(-1) if name == "clock" else value for name, value in tensors.items()}


def export_step(function: StepFunction, example: TensorDictBase, path: Path) -> ExportedProgram:
    """Export a step function for any batch size and save it; unused inputs are left out.

    Args:
        function: the step function; ``unread`` is filled.
        example: a TensorDict of batch shape ``[B]``, B at least 2, with all possible inputs.
        path: file to write.

    Raises:
        ExportError: if torch.export does not support the computation, the result would need more than torch, or the
            file cannot be written.
    """
    inputs = function.read(example)
    program = _export(function, inputs, path.stem)
    read = _find_read(program, list(inputs))
    if len(read) < len(inputs):
        function.unread = {name: (value.shape[1:], value.dtype) for name, value in inputs.items() if name not in read}
        program = _export(function, function.read(example), path.stem)
    foreign = {name for name, namespace in operators_of(program).items() if namespace not in PORTABLE_NAMESPACES}
    if foreign:
        raise ExportError(f"{path.stem} calls {', '.join(sorted(foreign))}, which torch alone does not have")
    try:
        torch.export.save(program, path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        reason = str(error).splitlines()[0]
        raise ExportError(
            f"{path.name} could not be written to {path.parent} ({reason}): no bundle was kept"
        ) from error
    return program


def _find_read(program: ExportedProgram, names: list[str]) -> list[str]:
    """Names of the inputs whose values, and not only sizes, affect an output."""
    graph = copy.deepcopy(program.graph)
    graph.eliminate_dead_code()
    placeholders = [node for node in graph.nodes if node.op == "placeholder"][-len(names) :]  # after the parameters
    size = torch.ops.aten.sym_size.int
    return [
        name
        for name, node in zip(names, placeholders, strict=True)
        if any(user.target is not size for user in node.users)
    ]


def _export(function: StepFunction, inputs: dict[str, Tensor], name: str) -> ExportedProgram:
    batch = Dim("batch", min=1)
    try:
        with torch.no_grad():
            return torch.export.export(
                function, (inputs,), dynamic_shapes=({key: {0: batch} for key in inputs},), strict=False
            )
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise ExportError(
            f"torch.export cannot follow {name} of this policy ({type(error).__name__}: {reason}): a model of plain "
            "torch layers such as layers/mlp or layers/cnn and algorithm.gnn_class=null can be exported"
        ) from error


def _as_plain_modules(module: Module) -> Module:
    """Replace, in place, every multi-agent network by :class:`AgentNetworks`."""
    for name, child in list(module.named_children()):
        if isinstance(child, MultiAgentNetBase):
            setattr(module, name, AgentNetworks(child))
        else:
            _as_plain_modules(child)
    return module
