"""State and seeds of simulations. The state is all that a step or a reset reads from an earlier one."""

from __future__ import annotations

from typing import Any

import torch
from torchrl.envs import EnvBase, TransformedEnv
from torchrl.envs.libs.vmas import VmasWrapper

from benchmarl_himpo.host.torchrl import vmas_environment
from benchmarl_himpo.host.vmas import SIMULATION


def base_environment(env: EnvBase) -> EnvBase:
    """The environment below all transforms."""
    while isinstance(env, TransformedEnv):
        env = env.base_env
    return env


def find_simulation(env: EnvBase) -> tuple[Any, tuple[str, ...]] | None:
    """Return the object that holds the state of an environment's simulation, and the names of its attributes.

    VMAS keeps the state in one object. Environments of this package, and others that follow the convention, list the
    names in the class attribute ``simulation``; random generators are not among them. None for other environments.
    """
    env = base_environment(env)
    if isinstance(env, VmasWrapper):
        return vmas_environment(env), SIMULATION
    names = getattr(type(env), "simulation", None)
    return None if names is None else (env, names)


def seed_if_possible(env: EnvBase, seed: int) -> bool:
    """Seed an environment if it supports seeds, and return whether it does."""
    try:
        env.set_seed(seed)
    except NotImplementedError:
        return False
    return True


def seed_generator(generator: torch.Generator, seed: int | None) -> None:
    """Seed the generator of an environment; None for a seed of the operating system."""
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
