"""The policy that steps the whole hierarchy of one group, and nothing that is not due."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from tensordict import TensorDictBase
from tensordict.nn import ProbabilisticTensorDictSequential, TensorDictModuleBase
from torch import Tensor, nn

from benchmarl_himpo.hierarchy import Hierarchy


class HierarchicalPolicy(TensorDictModuleBase):
    """Decide top-down where a decision is due, then let the workers act.

    Every step: the clock says which levels decide; sub-managers that decide get a new clustering first; the edges of
    all levels are built; then each due level sends new goals, the top first, in the environments where it is due; the
    others hold theirs. What is held rides to the next step in ``("next", himppo_<group>, "carried", ...)``, with the
    decisions of this step added to the memories.

    Args:
        hierarchy: the hierarchy.
        actors: policies, workers first.

    Shapes:
        - input: a TensorDict of batch shape ``[*B]`` with the group's entries and the carried ones
        - output: action and log-probability of the workers, what was in effect, and what the next step carries
    """

    def __init__(self, hierarchy: Hierarchy, actors: Sequence[ProbabilisticTensorDictSequential]) -> None:
        super().__init__()
        self.hierarchy = hierarchy
        self.actors = cast("Sequence[ProbabilisticTensorDictSequential]", nn.ModuleList(actors))
        self.interval_annealing = hierarchy.layout.annealing  # a module, so that checkpoints and copies have its count
        keys, levels = hierarchy.keys, range(hierarchy.layout.n_levels)
        self.held_keys = hierarchy.held_keys
        self.remembering = [level for level in levels if hierarchy.memory_at(level) is not None]
        self.edge_keys = [keys.adjacency(level) for level in levels if hierarchy.exchanges(level)]
        own = [*self.held_keys, *self.edge_keys]
        self.in_keys = [key for key in actors[0].in_keys if key not in own]
        self.in_keys += [key for key in hierarchy.inputs.keys if key not in self.in_keys]
        self.in_keys += [keys.carried(key) for key in self.held_keys]
        self.out_keys = [*actors[0].out_keys, *own, *(keys[level].log_prob for level in levels[1:])]
        self.out_keys += [("next", *keys.carried(key)) for key in self.held_keys]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Step the hierarchy and write the workers' action."""
        self.decide(tensordict)
        worker = self.actors[0]
        tensordict.update(worker(self.read(tensordict, level=0)).select(*worker.out_keys))
        for key, value in self._carry(tensordict).items():
            tensordict.set(("next", *self.hierarchy.keys.carried(key)), value)
        return tensordict

    def step(self, frames: int = 1) -> None:
        """Count the frames of an iteration, after its training, for goal intervals that change in the course of a run.

        BenchMARL calls it, as it does for exploration that is annealed.
        """
        if self.interval_annealing is not None:
            self.interval_annealing.step(frames)

    def read(self, tensordict: TensorDictBase, level: int) -> TensorDictBase:
        """What the actor of a level reads, in a TensorDict of its own."""
        return tensordict.select(*self.actors[level].in_keys)

    def decide(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the clock, graph and goals in effect, and the log-probability of the goals sent at this step.

        Where a level does not decide it keeps what was carried and its ``goal_log_prob`` is zero.
        """
        keys, layout = self.hierarchy.keys, self.hierarchy.layout
        for key in self.held_keys:
            tensordict.set(key, tensordict.get(keys.carried(key)))
        if layout.top == 0:
            self.connect(tensordict)
            return tensordict
        clock = tensordict.get(keys.clock).squeeze(-1)
        is_due = [layout.is_due(clock, level) for level in range(1, layout.n_levels)]
        # One look at what is on the device
        decides = torch.stack([due.any() for due in is_due]).tolist()
        if decides[0]:
            self.hierarchy.cluster(tensordict, clock, is_due[0])
        self.connect(tensordict)
        for level in range(layout.top, 0, -1):
            self._send_goals(tensordict, level, is_due[level - 1] if decides[level - 1] else None)
        return tensordict

    def _carry(self, tensordict: TensorDictBase) -> dict[tuple[str, str], Tensor]:
        """What the next step takes over: what is in effect, the clock one further, and decisions remembered."""
        keys, layout = self.hierarchy.keys, self.hierarchy.layout
        carried = {key: tensordict.get(key) for key in self.held_keys}
        if layout.top > 0:
            carried[keys.clock] = carried[keys.clock] + 1
        for level in self.remembering:
            is_due = layout.is_due(tensordict.get(keys.clock).squeeze(-1), level)
            if is_due.any():
                carried |= self.actors[level][0].remember(tensordict, is_due)
        return carried

    def connect(self, tensordict: TensorDictBase) -> None:
        """Write the edges of all levels, under the clustering in effect."""
        self.hierarchy.connect(tensordict)

    def _send_goals(self, tensordict: TensorDictBase, level: int, is_due: Tensor | None) -> None:
        """Sample the goals of a level in the environments where it decides; None: nowhere."""
        keys = self.hierarchy.keys[level]
        held = tensordict.get(keys.action)
        dtype = held.dtype if held.is_floating_point() else torch.get_default_dtype()
        log_prob = torch.zeros(held.shape[:-1], dtype=dtype, device=held.device)
        if is_due is not None:
            rows = self.actors[level](self.read(tensordict, level)[is_due])
            held, log_prob = held.clone(), log_prob.to(rows.get(keys.log_prob).dtype)
            held[is_due] = rows.get(keys.action)
            log_prob[is_due] = rows.get(keys.log_prob)
        tensordict.set(keys.action, held)
        tensordict.set(keys.log_prob, log_prob)
