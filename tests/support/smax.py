"""What the tests of SMAX share: a mark for those that need JAX, and environments whose functions are compiled once."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from benchmarl_himpo.environments.smax.environment import SmaxEnv
from benchmarl_himpo.environments.tasks import TASKS

needs_smax = pytest.mark.skipif(find_spec("jaxmarl") is None, reason="needs pip install 'benchmarl_himpo[smax]'")

N_ENVS = 2
"""Battles of every test and of tiny experiments: functions are compiled for each number of them, for many seconds."""


def make_smax(seed: int = 0) -> SmaxEnv:
    """Battles of five against five with JaxMARL's own options."""
    task = TASKS["smax/smacv2_5_units"].get_from_yaml()
    env = task.get_env_fun(num_envs=N_ENVS, continuous_actions=False, seed=seed, device="cpu")()
    assert isinstance(env, SmaxEnv)
    return env
