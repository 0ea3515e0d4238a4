"""JaxMARL's SMAX, compiled for batches of battles, with torch tensors as inputs and outputs. Imports JAX."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import torch
from jaxmarl.environments.smax import HeuristicEnemySMAX, map_name_to_scenario
from torch import Tensor


class Seen(NamedTuple):
    """Observations, allowed actions and outcome of a batch of battles, derived from their state."""

    observation: Tensor  # [B, n_agents, observation_size], float32
    action_mask: Tensor  # [B, n_agents, n_actions], bool
    position: Tensor  # [B, n_agents, 2], float32: relative to the map size
    alive: Tensor  # [B, n_agents], bool
    won: Tensor  # [B, n_agents], bool: all enemies are dead and some agent is alive
    state: Tensor  # [B, state_size], float32: JaxMARL's world state
    is_decided: Tensor  # [B], bool: one side is dead


class Simulator:
    """Battles of one scenario against JaxMARL's heuristic enemy.

    Returned tensors share memory with JAX arrays and must not be modified in place.

    Args:
        scenario: name of the scenario in JaxMARL.
        **options: options of :class:`jaxmarl.environments.smax.HeuristicEnemySMAX`.
    """

    def __init__(self, scenario: str, **options: Any) -> None:
        self._env = HeuristicEnemySMAX(scenario=map_name_to_scenario(scenario), **options)
        self._structure = jax.tree.structure(jax.eval_shape(self._env.reset, jax.random.PRNGKey(0))[1])
        self.begin_compiled = jax.jit(jax.vmap(self._begin))
        self.step_compiled = jax.jit(jax.vmap(self._step))

    @property
    def n_agents(self) -> int:
        """Number of agents."""
        return int(self._env.num_allies)

    @property
    def n_actions(self) -> int:
        """Number of actions: four moves, stop, and an attack on each enemy."""
        return int(self._env.num_ally_actions)

    @property
    def observation_size(self) -> int:
        """Features of an agent's observation."""
        return int(self._env.obs_size)

    @property
    def state_size(self) -> int:
        """Features of the world state."""
        return int(self._env.state_size)

    def begin(self, keys: Tensor) -> tuple[tuple[Tensor, ...], Seen]:
        """Begin battles.

        Args:
            keys: random keys. Shape ``[B, 2]``, int32.

        Returns:
            The state of the battles, and the observations.
        """
        begun: tuple[tuple[Tensor, ...], Seen] = _to_torch(self.begin_compiled(jnp.from_dlpack(keys)))
        return begun

    def step(
        self, state: Sequence[Tensor], keys: Tensor, action: Tensor
    ) -> tuple[tuple[Tensor, ...], Seen, Tensor, Tensor]:
        """Play a step of each battle.

        Args:
            state: the state that :meth:`begin` or :meth:`step` returned.
            keys: random keys. Shape ``[B, 2]``, int32.
            action: actions of the agents. Shape ``[B, n_agents]``, long.

        Returns:
            The state after the step, the observations, the team's reward and whether the battle ended; the last two of
            shape ``[B]``.
        """
        given = jax.tree.map(jnp.from_dlpack, (tuple(state), keys, action.int()))
        stepped: tuple[tuple[Tensor, ...], Seen, Tensor, Tensor] = _to_torch(self.step_compiled(*given))
        return stepped

    def _begin(self, key: Any) -> tuple[Any, Any]:
        seen, state = self._env.reset(_as_key(key))
        return tuple(jax.tree.leaves(state)), self._see(seen, state)

    def _step(self, leaves: Any, key: Any, action: Any) -> tuple[Any, ...]:
        # step_env, because step resets a battle that ended and hides its outcome
        state = jax.tree.unflatten(self._structure, leaves)
        actions = dict(zip(self._env.agents, action, strict=True))
        seen, state, reward, done, _ = self._env.step_env(_as_key(key), state, actions)
        team_reward = reward[self._env.agents[0]]  # the same for all agents, dead ones too
        return tuple(jax.tree.leaves(state)), self._see(seen, state), team_reward, done["__all__"]

    def _see(self, seen: dict[str, Any], state: Any) -> Seen:
        env, units, n_agents = self._env, state.state, self.n_agents
        masks = env.get_avail_actions(state)
        alive, enemies = units.unit_alive[:n_agents], units.unit_alive[n_agents:]
        return Seen(
            observation=jnp.stack([seen[agent] for agent in env.agents]),
            action_mask=jnp.stack([masks[agent] for agent in env.agents]).astype(bool),
            position=units.unit_positions[:n_agents] / jnp.array([env.map_width, env.map_height]),
            alive=alive,
            won=jnp.full(n_agents, ~enemies.any() & alive.any()),
            state=seen["world_state"],
            is_decided=~alive.any() | ~enemies.any(),
        )


@cache
def load_simulator(scenario: str, **options: Any) -> Simulator:
    """Build the simulator of a scenario once per process, so that its functions are compiled once.

    Args:
        scenario: name of the scenario in JaxMARL.
        **options: options of :class:`jaxmarl.environments.smax.HeuristicEnemySMAX`.

    Returns:
        The simulator.
    """
    return Simulator(scenario, **options)


def check_device(device: torch.device) -> None:
    """Check that JAX supports a device.

    Args:
        device: device of the environment.

    Raises:
        ValueError: if the installed JAX has no such device.
    """
    try:
        jax.devices(device.type)
    except RuntimeError as error:
        raise ValueError(
            f"experiment.sampling_device={device} is not supported by the installed JAX: choose "
            "experiment.sampling_device=cpu, or install JAX for that device, such as pip install 'jax[cuda12]'"
        ) from error


def _as_key(words: Any) -> Any:
    return jax.lax.bitcast_convert_type(words, jnp.uint32)


def _to_torch(arrays: Any) -> Any:
    return jax.tree.map(torch.from_dlpack, arrays)
