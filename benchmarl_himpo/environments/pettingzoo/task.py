"""Parallel environments of PettingZoo as tasks of BenchMARL: from mpe2, from ``pettingzoo.sisl``, or of the user."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from inspect import signature
from pkgutil import resolve_name
from typing import Any, ClassVar

import torch
from benchmarl.environments.common import TaskClass
from benchmarl.environments.pettingzoo.common import PettingZooClass
from benchmarl.utils import DEVICE_TYPING
from tensordict.utils import NestedKey
from torchrl.envs import DTypeCastTransform, EnvBase, Transform

from benchmarl_himpo.environments.own_task import OwnTask, check_option_names
from benchmarl_himpo.environments.pettingzoo.environment import TeamEnv

MAX_CYCLES, CONTINUOUS = "max_cycles", "continuous_actions"
OPTION_OF = {MAX_CYCLES: "task.max_steps", CONTINUOUS: "experiment.prefer_continuous_actions"}
"""Arguments of PettingZoo's environments that other options set, with these options."""


@dataclass
class ParallelEnvConfig:
    """Options of a parallel environment, documented key by key in ``conf/task/base/pettingzoo.yaml``.

    Raises:
        ValueError: if an option is out of range.
    """

    env: str | None
    env_kwargs: dict[str, Any]
    max_steps: int

    def __post_init__(self) -> None:
        if self.max_steps < 1:
            raise ValueError(f"task.max_steps={self.max_steps} must be 1 or more")


class ParallelEnvClass(PettingZooClass):
    """A ``ParallelEnv`` that a function or class builds, given by its import path.

    Networks see only the observation; live agents and positions are additional entries.

    Args:
        name: name of the task.
        config: all options of ``config_class``.

    Attributes:
        config_class: dataclass of the options.
        is_closed: whether environments are closed after use.
        options: the options, checked.

    Raises:
        ValueError: if an option is unknown, missing or out of range.
    """

    config_class: ClassVar[type[ParallelEnvConfig]] = ParallelEnvConfig
    is_closed: ClassVar[bool] = True

    def __init__(self, name: str, config: dict[str, Any]) -> None:
        check_option_names(self.config_class, self.env_name(), config)
        super().__init__(name, config)
        self.options = self.config_class(**config)

    def get_env_fun(
        self, num_envs: int, continuous_actions: bool, seed: int | None, device: DEVICE_TYPING
    ) -> Callable[[], EnvBase]:
        """Build one environment; BenchMARL runs ``num_envs`` of them together."""
        return partial(self._make_env, continuous_actions, seed, device)

    def supports_continuous_actions(self) -> bool:
        """Whether the agents' action spaces are boxes, or can be configured as boxes."""
        return True in self._kinds

    def supports_discrete_actions(self) -> bool:
        """Whether the agents' action spaces are discrete, or can be configured as discrete."""
        return False in self._kinds

    def has_state(self) -> bool:
        """Whether critics see the environment's state, if there is one."""
        return True

    def get_env_transforms(self, env: EnvBase) -> list[Transform]:
        """Cast observations of another dtype to the networks': ``float64`` is what numpy makes."""
        keys: dict[torch.dtype, list[NestedKey]] = {}
        for key, spec in env.observation_spec.items(True, True):
            if isinstance(key, tuple) and key[1] == "observation" and spec.dtype != torch.get_default_dtype():
                keys.setdefault(spec.dtype, []).append(key)
        return [DTypeCastTransform(dtype, torch.get_default_dtype(), in_keys=of) for dtype, of in keys.items()]

    def positions(self, env: Any) -> Mapping[str, Any] | None:
        """Two-dimensional position of each agent, by name; None to read the positions from ``infos``."""
        return None

    def has_render(self, env: EnvBase) -> bool:
        """Whether the environment renders to arrays."""
        return getattr(env.team.unwrapped, "render_mode", None) == "rgb_array"

    def max_steps(self, env: EnvBase) -> int:
        """Length of an episode, in env steps."""
        return self.options.max_steps

    @staticmethod
    def env_name() -> str:
        """Name of the environment."""
        return "pettingzoo"

    @cached_property
    def _kinds(self) -> frozenset[bool]:
        """Supported kinds of actions: continuous (True), discrete (False)."""
        if CONTINUOUS in self._arguments_taken(self._find()):
            return frozenset({True, False})
        env = self._make_env(is_continuous=True, seed=0, device="cpu")
        spaces = {agent: env.team.action_space(agent) for agent in env.team.agents}
        env.close()
        kinds = {agent: {"Box": True, "Discrete": False}.get(type(space).__name__) for agent, space in spaces.items()}
        found = frozenset(kind for kind in kinds.values() if kind is not None)
        if None in kinds.values() or len(found) > 1:
            raise ValueError(
                f"task.env={self.options.env} has the action spaces {spaces}: give all agents a Discrete space, or all "
                "of them a Box"
            )
        return found

    def _find(self) -> Callable[..., Any]:
        path = self.options.env
        if path is None:
            raise ValueError(
                "task.env=null names no environment: give the import path of a function or class that builds a "
                "ParallelEnv, such as task.env=my_module:make"
            )
        try:
            found = resolve_name(path)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(
                f"task.env={path} cannot be imported ({type(error).__name__}: {error}): give module:name, where the "
                "module is installed or in a folder of PYTHONPATH"
            ) from error
        if not callable(found):
            raise ValueError(f"task.env={path} is a {type(found).__name__}: give a callable that builds a ParallelEnv")
        if given := self.options.env_kwargs.keys() & self._arguments_taken(found):
            raise ValueError(
                f"task.env_kwargs.{min(given)} is set by {OPTION_OF[min(given)]}: set that instead, and leave it out"
            )
        return found

    def _arguments_taken(self, make: Callable[..., Any]) -> tuple[str, ...]:
        """The arguments among ``max_cycles`` and ``continuous_actions`` that are passed with ``task.env_kwargs``."""
        return (CONTINUOUS,) if CONTINUOUS in signature(make).parameters else ()

    def _make_env(self, is_continuous: bool, seed: int | None, device: DEVICE_TYPING) -> TeamEnv:
        make = self._find()
        from benchmarl_himpo.environments.pettingzoo.team import Team  # imports pettingzoo

        # One step more, so that time-outs are truncations; sisl reports them as terminations
        values: dict[str, Any] = {MAX_CYCLES: self.options.max_steps + 1, CONTINUOUS: is_continuous}
        arguments = {**self.options.env_kwargs, **{name: values[name] for name in self._arguments_taken(make)}}
        try:
            team = Team(make(**arguments), self.options.max_steps, self.positions, self.is_closed)
            return TeamEnv(team, self.has_state() and team.has_state, seed, device)
        except Exception as error:  # the user's code may raise anything
            raise ValueError(
                f"task.env={self.options.env} cannot be built with {arguments} ({type(error).__name__}: {error}): fix "
                "the environment or task.env_kwargs"
            ) from error


class MpeClass(ParallelEnvClass):
    """Tasks of mpe2, with their agents' positions."""

    is_closed = False  # closing quits pygame for all environments of the process, which then draw no text

    def positions(self, env: Any) -> Mapping[str, Any]:
        """Positions of the world's agents, in world units."""
        return {agent.name: agent.state.p_pos for agent in env.unwrapped.world.agents}

    @staticmethod
    def env_name() -> str:
        """Name of the environment."""
        return "mpe"

    def _arguments_taken(self, make: Callable[..., Any]) -> tuple[str, ...]:
        return MAX_CYCLES, CONTINUOUS


class SislClass(ParallelEnvClass):
    """Tasks of ``pettingzoo.sisl``, with their agents' positions."""

    def has_state(self) -> bool:
        """False: PettingZoo 1.27 fails to compute it after a walker was removed. BenchMARL's task has none either."""
        return False

    def positions(self, env: Any) -> Mapping[str, Any]:
        """Positions of the walkers' hulls, in units of Box2D."""
        walkers = env.unwrapped.env.walkers
        hulls = zip(env.possible_agents, (walker.hull for walker in walkers), strict=True)
        return {agent: tuple(hull.position) for agent, hull in hulls if hull is not None}  # None: removed after a fall

    @staticmethod
    def env_name() -> str:
        """Name of the environment."""
        return "sisl"

    def _arguments_taken(self, make: Callable[..., Any]) -> tuple[str, ...]:
        return (MAX_CYCLES,)


class MpeTask(OwnTask):
    """Tasks of mpe2: BenchMARL's MPE tasks under another name, which also run with PettingZoo 1.26 and newer."""

    SIMPLE_ADVERSARY = None
    SIMPLE_CRYPTO = None
    SIMPLE_PUSH = None
    SIMPLE_REFERENCE = None
    SIMPLE_SPEAKER_LISTENER = None
    SIMPLE_SPREAD = None
    SIMPLE_TAG = None
    SIMPLE_WORLD_COMM = None

    @staticmethod
    def associated_class() -> type[TaskClass]:
        """The class of the tasks."""
        return MpeClass


class SislTask(OwnTask):
    """Tasks of ``pettingzoo.sisl``."""

    MULTIWALKER = None

    @staticmethod
    def associated_class() -> type[TaskClass]:
        """The class of the tasks."""
        return SislClass


class OwnParallelTask(OwnTask):
    """A ``ParallelEnv`` of the user."""

    OWN = None

    @staticmethod
    def associated_class() -> type[TaskClass]:
        """The class of the task."""
        return ParallelEnvClass
