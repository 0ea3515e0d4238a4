"""Compares a bundle with its policy during a rollout."""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.envs.utils import ExplorationType, set_exploration_type

from benchmarl_himpo.harness.deployment.messages import MessageReport
from benchmarl_himpo.harness.deployment.run_bundle import Bundle, State
from benchmarl_himpo.harness.deployment.step_functions import input_keys
from benchmarl_himpo.models import HierarchicalPolicy


class ComparedPolicy(TensorDictModuleBase):
    """The policy of one group, with its bundle stepped on the same entries; the policy's most likely actions are used.

    Args:
        policy: the policy.
        bundle: the policy's bundle.
        report: counts the messages.

    Attributes:
        difference: largest absolute difference of goals, distribution parameters and continuous actions; for discrete
            actions, the difference of the policy's logits between its action and the bundle's; infinite if clusterings
            or categorical goals differ.
        n_steps: env steps compared, of all environments.
    """

    def __init__(self, policy: HierarchicalPolicy, bundle: Bundle, report: MessageReport) -> None:
        super().__init__()
        self.policy, self.bundle, self.report = policy, bundle, report
        read = {name for function in bundle.info["functions"].values() for name in function["inputs"]}
        read -= bundle.info["state"].keys()
        self.entries = {name: key for name, key in input_keys(policy).items() if name in read}
        self.in_keys, self.out_keys = policy.in_keys, policy.out_keys
        self.difference, self.n_steps = 0.0, 0
        self._state: State | None = None

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Step both and compare."""
        with set_exploration_type(ExplorationType.DETERMINISTIC):  # as the bundle, however the run was evaluated
            tensordict = self.policy(tensordict)
        td = tensordict if tensordict.batch_dims else tensordict.unsqueeze(0)
        state = self.bundle.start(td.shape[0]) if self._state is None else self._state
        if state:  # a carried clock of zero marks the start of an episode
            keys = self.policy.hierarchy.keys
            state = self.bundle.restart(state, td.get(keys.carried(keys.clock)).squeeze(-1) == 0)
        outputs, self._state = self.bundle.step({name: td.get(key) for name, key in self.entries.items()}, state)
        self.difference = max(self.difference, *self._differences(td, outputs, self._state))
        self.n_steps += td.shape[0]
        self.report.watch(td)
        return tensordict

    def _differences(self, td: TensorDictBase, outputs: dict[str, Tensor], state: State) -> list[float]:
        keys, group = self.policy.hierarchy.keys, self.policy.hierarchy.group
        held = {key: td.get(("next", *keys.carried(key))) for key in self.policy.held_keys if key != keys.clock}
        pairs = [(own, state[key[-1]]) for key, own in held.items()]
        pairs += [(td.get((group, name)), value) for name, value in outputs.items()]
        differences = [_distance(own, other) for own, other in pairs if own.is_floating_point()]
        exact = {key: own for key, own in held.items() if not own.is_floating_point()}
        if not all(torch.equal(own, state[key[-1]]) for key, own in exact.items()):
            differences.append(torch.inf)
        if not outputs["action"].is_floating_point():
            differences.append(self._preference(td, outputs["action"]))
        return differences

    def _preference(self, td: TensorDictBase, other: Tensor) -> float:
        """Difference of the policy's logits between its own discrete action and ``other``; infinite if forbidden."""
        group = self.policy.hierarchy.group
        logits = td.get((group, "logits"))
        mask = td.get((group, "action_mask"), torch.ones_like(logits, dtype=torch.bool))
        logits = logits.masked_fill(~mask.bool(), -torch.inf)
        own = td.get(self.policy.hierarchy.keys[0].action)
        return _distance(*(logits.gather(-1, choice.unsqueeze(-1)) for choice in (own, other)))


def _distance(own: Tensor, other: Tensor) -> float:
    """Largest absolute difference; infinite for NaN."""
    return float((own - other).abs().nan_to_num(nan=torch.inf, posinf=torch.inf).max())
