"""Keep the policy of the best evaluation, also across interruptions."""

from __future__ import annotations

from typing import Any

from tensordict import TensorDictBase
from torch import Tensor

from benchmarl_himpo.harness.callbacks import PortableCallback, mean_return
from benchmarl_himpo.harness.runs.checkpoint import CheckpointError

STATE_KEY = "best_policy"
"""Entry of checkpoints with the best policy: ``frames`` of training, ``evaluation_return``, ``policy`` parameters."""


class BestPolicyCallback(PortableCallback):
    """Copy the policy after every evaluation that exceeds all earlier ones.

    Attributes:
        best: the entry of checkpoints; None before the first evaluation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.best: dict[str, Any] | None = None

    def on_evaluation_end(self, rollouts: list[TensorDictBase]) -> None:
        """Copy the policy if its return is the best so far."""
        value = mean_return(rollouts, self.experiment.group_map)
        if self.best is None or value > self.best["evaluation_return"]:
            state = self.experiment.policy.state_dict()
            self.best = {
                "frames": self.experiment.total_frames,
                "evaluation_return": value,
                "policy": {
                    k: v.detach().to("cpu", copy=True) if isinstance(v, Tensor) else v for k, v in state.items()
                },
            }

    def on_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Add the best policy to a checkpoint."""
        state_dict[STATE_KEY] = self.best

    def on_load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the best policy of a checkpoint; CheckpointError if the checkpoint has none."""
        if STATE_KEY not in state_dict:
            raise CheckpointError(
                "the checkpoint was written with absolute_metric_episodes=0 and does not hold the best policy so far: "
                "resume with absolute_metric_episodes=0 too"
            )
        self.best = state_dict[STATE_KEY]
