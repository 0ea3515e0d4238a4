"""The policy that steps the whole hierarchy of one group, and nothing that is not due."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tensordict import TensorDictBase
from tensordict.nn import ProbabilisticTensorDictSequential, TensorDictModuleBase
from torch import Tensor, nn

from benchmarl_himpo.hierarchy import Assignment
from benchmarl_himpo.models.level_network import HierarchyReader


class HierarchicalPolicy(TensorDictModuleBase):
    """Decide top-down where a decision is due, then let the workers act.

    Every step: the clock says which levels decide; sub-managers that decide get a new assignment first; then each due
    level sends new goals, the top first, in the environments where it is due; the others hold theirs. What is held
    rides to the next step in ``("next", himppo_<group>, "carried", ...)``.

    Args:
        reader: reader of the hierarchy.
        assignment: builder of the workers' assignment.
        actors: policies, workers first.

    Shapes:
        - input: a TensorDict of batch shape ``[*B]`` with the group's entries and the carried ones
        - output: action and log-probability of the workers, what was in effect, and what the next step carries
    """

    def __init__(
        self, reader: HierarchyReader, assignment: Assignment, actors: Sequence[ProbabilisticTensorDictSequential]
    ) -> None:
        super().__init__()
        self.reader = reader
        self.assignment = assignment
        self.actors = nn.ModuleList(actors)
        keys, upper = reader.keys, range(1, reader.layout.n_levels)
        self.held_keys: list[tuple[str, str]] = [keys.clock, keys.parent_index, keys.centroids] if upper else []
        self.held_keys += [keys[level].action for level in upper]
        self.in_keys = [key for key in actors[0].in_keys if key not in self.held_keys]
        self.in_keys += [key for key in reader.inputs.keys if key not in self.in_keys]
        self.in_keys += [keys.carried(key) for key in self.held_keys]
        self.out_keys = [*actors[0].out_keys, *self.held_keys, *(keys[level].log_prob for level in upper)]
        self.out_keys += [("next", *keys.carried(key)) for key in self.held_keys]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Step the hierarchy and write the workers' action."""
        self.decide(tensordict)
        worker = self.policies[0]
        tensordict.update(worker(self.read(tensordict, level=0)).select(*worker.out_keys))
        for key in self.held_keys:
            value = tensordict.get(key)
            carried = value + 1 if key == self.reader.keys.clock else value
            tensordict.set(("next", *self.reader.keys.carried(key)), carried)
        return tensordict

    @property
    def policies(self) -> list[ProbabilisticTensorDictSequential]:
        """The policies of all levels, workers first."""
        return list(self.actors)

    def read(self, tensordict: TensorDictBase, level: int) -> TensorDictBase:
        """What the actor of a level reads, in a TensorDict of its own."""
        actor = self.policies[level]
        return tensordict.select(*actor.in_keys, *actor[-1].in_keys, strict=False)

    def decide(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the clock, assignment and goals in effect, and the log-probability of the goals sent at this step.

        Where a level does not decide it keeps what was carried and its ``goal_log_prob`` is zero.
        """
        keys, layout = self.reader.keys, self.reader.layout
        for key in self.held_keys:
            tensordict.set(key, tensordict.get(keys.carried(key)))
        if layout.top == 0:
            return tensordict
        clock = tensordict.get(keys.clock).squeeze(-1)
        is_due = [layout.is_due(clock, level) for level in range(1, layout.n_levels)]
        # One look at what is on the device
        decides = torch.stack([due.any() for due in is_due]).tolist()
        if decides[0]:
            self.assign(tensordict, clock, is_due[0])
        for level in range(layout.top, 0, -1):
            self._send_goals(tensordict, level, is_due[level - 1] if decides[level - 1] else None)
        return tensordict

    def assign(self, tensordict: TensorDictBase, clock: Tensor, is_due: Tensor) -> None:
        """New assignment where sub-managers decide; centroids start afresh where the level above decides too."""
        keys, layout = self.reader.keys, self.reader.layout
        inputs, alive = self.reader.inputs, self.reader.inputs.alive(tensordict)
        centroids = tensordict.get(keys.centroids)
        is_fresh = layout.is_due(clock, min(2, layout.top))
        index, new_centroids = self.assignment(inputs.position(tensordict), alive, centroids, is_fresh)
        tensordict.set(keys.parent_index, torch.where(is_due[..., None], index, tensordict.get(keys.parent_index)))
        tensordict.set(keys.centroids, torch.where(is_due[..., None, None], new_centroids, centroids))

    def _send_goals(self, tensordict: TensorDictBase, level: int, is_due: Tensor | None) -> None:
        """Sample the goals of a level in the environments where it decides; None: nowhere."""
        keys = self.reader.keys[level]
        held = tensordict.get(keys.action)
        log_prob = held.new_zeros(held.shape[:-1])
        if is_due is not None:
            rows = self.policies[level](self.read(tensordict, level)[is_due])
            held, log_prob = held.clone(), log_prob.to(rows.get(keys.log_prob).dtype)
            held[is_due] = rows.get(keys.action)
            log_prob[is_due] = rows.get(keys.log_prob)
        tensordict.set(keys.action, held)
        tensordict.set(keys.log_prob, log_prob)
