"""What tasks of this package log of a batch."""

from __future__ import annotations

import torch
from tensordict import TensorDict

from benchmarl_himpo.environments import OwnTaskClass


def test_metrics_of_every_group_are_logged_where_episodes_end() -> None:
    done = torch.zeros(2, 3, 1, dtype=torch.bool)
    assert OwnTaskClass.log_info(batch_of(done)) == {}
    done[0, 2] = done[1, 1] = True
    assert OwnTaskClass.log_info(batch_of(done)) == {
        "collection/porter/life_mean": 3.0,
        "collection/guard/win_rate": 1.0,
    }


def batch_of(done: torch.Tensor) -> TensorDict:
    """Two environments and three steps, with two groups of different metrics and one without any."""
    life = torch.arange(6.0).view(2, 3, 1).expand(2, 3, 4)
    groups = {
        "porter": TensorDict({"life": life}, [2, 3, 4]),
        "guard": TensorDict({"won": torch.ones(2, 3, 1, dtype=torch.bool)}, [2, 3, 1]),
        "wall": TensorDict({}, [2, 3, 5]),
    }
    return TensorDict({"next": TensorDict({**groups, "done": done}, [2, 3])}, [2, 3])
