"""Lets an environment carry what a hierarchy holds from step to step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import torch
from tensordict.utils import NestedKey
from torch import Tensor
from torchrl.data import Composite, Unbounded
from torchrl.envs import EnvBase, TensorDictPrimer

from benchmarl_himpo.models.level_network import HierarchyReader


def carry_hierarchy(env_fun: Callable[[], EnvBase], readers: Iterable[HierarchyReader], goal_dim: int) -> EnvBase:
    """Build an environment with one carried entry per held tensor, zero after each reset: clock zero starts all anew.

    Args:
        env_fun: builds the environment.
        readers: readers of the hierarchies, one per agent group.
        goal_dim: size of a goal.

    Returns:
        The environment with a :class:`~torchrl.envs.TensorDictPrimer` appended, unless no group has upper levels.
    """
    env = env_fun()
    zeros: dict[NestedKey, Callable[[], Tensor]] = {}
    specs = Composite(device=env.device)
    for reader in readers:
        layout, keys = reader.layout, reader.keys
        if layout.top == 0:
            continue
        shapes = {keys.clock: (1,), keys.parent_index: (layout.n_agents,), keys.centroids: (layout.nodes_at(1), 2)}
        shapes |= {keys[level].action: (layout.edges_at(level), goal_dim) for level in range(1, layout.n_levels)}
        for key, shape in shapes.items():
            dtype = torch.long if key in (keys.clock, keys.parent_index) else torch.get_default_dtype()
            specs[keys.carried(key)] = Unbounded(shape=shape, dtype=dtype, device=env.device)
            # A callable, because TorchRL's primer ignores the dtype of a number
            zeros[keys.carried(key)] = partial(torch.zeros, (*env.batch_size, *shape), dtype=dtype, device=env.device)
    if specs.is_empty():
        return env
    return env.append_transform(TensorDictPrimer(specs, default_value=zeros, reset_key="_reset", expand_specs=True))
