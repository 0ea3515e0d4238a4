"""The state of what environments simulate, all that a step or a reset reads and another one wrote, and their seeds."""

from __future__ import annotations

from typing import Any

import torch
from torchrl.envs import EnvBase, TransformedEnv
from torchrl.envs.libs.vmas import VmasWrapper

from benchmarl_himpo.host.torchrl import vmas_environment
from benchmarl_himpo.host.vmas import SIMULATION


def find_simulation(env: EnvBase) -> tuple[Any, tuple[str, ...]] | None:
    """Give the object that holds the state of an environment's simulation, and the names of its attributes.

    VMAS keeps it in one object. Environments of this package, and others that do the same, name the attributes that
    hold it in an attribute of their class, ``simulation``; random generators are not among them. None: the environment
    does not tell.
    """
    while isinstance(env, TransformedEnv):
        env = env.base_env
    if isinstance(env, VmasWrapper):
        return vmas_environment(env), SIMULATION
    names = getattr(type(env), "simulation", None)
    return None if names is None else (env, names)


def seed_generator(generator: torch.Generator, seed: int | None) -> None:
    """Seed the random numbers of an environment; None for a seed of the system's."""
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
