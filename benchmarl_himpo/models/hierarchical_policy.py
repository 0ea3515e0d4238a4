"""The policy of one group: runs the actors of the levels that decide at a step, from the top level to the workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from tensordict import TensorDictBase
from tensordict.nn import ProbabilisticTensorDictSequential, TensorDictModuleBase
from torch import Tensor, nn

from benchmarl_himpo.hierarchy import Hierarchy


class HierarchicalPolicy(TensorDictModuleBase):
    """Policy of a hierarchy: upper levels send goals when their clock is due, workers act at every env step.

    At every step, the clock determines which levels decide in which environments. Where sub-managers decide, the
    workers are clustered anew. Then the edges of all levels are built, and each due level sends new goals, from the top
    level down; goals of the other levels stay in effect. The hierarchy's state, with the decisions of this step added
    to the memories, is passed on to the next step in ``("next", himppo_<group>, "carried", ...)``.

    Args:
        hierarchy: the hierarchy.
        actors: policies, workers first.

    Shapes:
        - input: a TensorDict of batch shape ``[*B]`` with the group's entries and the carried ones
        - output: action and log-probability of the workers, the state in effect, and the state for the next step
    """

    def __init__(self, hierarchy: Hierarchy, actors: Sequence[ProbabilisticTensorDictSequential]) -> None:
        super().__init__()
        self.hierarchy = hierarchy
        self.actors = cast("Sequence[ProbabilisticTensorDictSequential]", nn.ModuleList(actors))
        self.interval_annealing = hierarchy.layout.annealing  # a module, so that checkpoints hold its count
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
        """Run the due levels and write the workers' action."""
        self.decide(tensordict)
        worker = self.actors[0]
        tensordict.update(worker(self.read(tensordict, level=0)).select(*worker.out_keys))
        for key, value in self._carry(tensordict).items():
            tensordict.set(("next", *self.hierarchy.keys.carried(key)), value)
        return tensordict

    def step(self, frames: int = 1) -> None:
        """Add the frames of an iteration to the count that anneals the goal intervals.

        BenchMARL calls this method after the training of an iteration, as it does for annealed exploration.
        """
        if self.interval_annealing is not None:
            self.interval_annealing.step(frames)

    def read(self, tensordict: TensorDictBase, level: int) -> TensorDictBase:
        """Inputs of the actor of a level, as a new TensorDict."""
        return tensordict.select(*self.actors[level].in_keys)

    def decide(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the clock, graph and goals in effect, and the log-probability of the goals sent at this step.

        Where a level does not decide, its previous goals stay in effect and its ``goal_log_prob`` is zero.
        """
        keys, layout = self.hierarchy.keys, self.hierarchy.layout
        for key in self.held_keys:
            tensordict.set(key, tensordict.get(keys.carried(key)))
        if layout.top == 0:
            self.connect(tensordict)
            return tensordict
        clock = tensordict.get(keys.clock).squeeze(-1)
        is_due = [layout.is_due(clock, level) for level in range(1, layout.n_levels)]
        # A single transfer from the device
        decides = torch.stack([due.any() for due in is_due]).tolist()
        if decides[0]:
            self.hierarchy.cluster(tensordict, clock, is_due[0])
        self.connect(tensordict)
        for level in range(layout.top, 0, -1):
            self._send_goals(tensordict, level, is_due[level - 1] if decides[level - 1] else None)
        return tensordict

    def _carry(self, tensordict: TensorDictBase) -> dict[tuple[str, str], Tensor]:
        """State for the next step: the state in effect, with the clock advanced and the memories updated."""
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
        """Sample the goals of a level in the environments where ``is_due`` is True; None: in no environment."""
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
