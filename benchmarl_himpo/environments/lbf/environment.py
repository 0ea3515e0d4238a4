"""Level-Based Foraging and Level-Based Foraging with Survival as one vectorised TorchRL environment."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Categorical, Unbounded

from benchmarl_himpo.environments.entries import GROUP
from benchmarl_himpo.environments.lbf.observation import observation_size, observe
from benchmarl_himpo.environments.lbf.options import LbfConfig, LbfwsConfig
from benchmarl_himpo.environments.lbf.placement import new_boards
from benchmarl_himpo.environments.lbf.render import render_board
from benchmarl_himpo.environments.lbf.rules import N_ACTIONS, NONE, find_choices, load, move
from benchmarl_himpo.environments.lbf.state import State
from benchmarl_himpo.environments.lbf.survival import live, regrow
from benchmarl_himpo.environments.stocked_env import StockedEnv


class Seen(NamedTuple):
    """Observations and allowed actions of the agents, derived from the boards."""

    observation: Tensor  # [B, n_agents, observation_size], default dtype
    position: Tensor  # [B, n_agents, 2], default dtype: row and column relative to the field size
    action_mask: Tensor  # [B, n_agents, 6], bool
    is_beside: Tensor  # [B, n_agents, n_foods], bool: foods that the agent may load


class LbfEnv(StockedEnv):
    """Vectorised Level-Based Foraging with the rules of lbforaging 2.0.0, and with survival if ``config`` has it.

    The survival rules and their constants are our reconstruction; the original ones are not available.

    Entries of an agent: ``observation``; ``action_mask``; ``position``, row and column relative to the field size, in
    [0, 1]. With survival also ``alive``; ``life``, env steps lived; and ``done`` and ``terminated``, which are true for
    a dead agent, so that learners do not bootstrap past a death. The last two are kept out of ``done_spec``, because
    TorchRL would reset a board whenever one of its agents is dead. The team's flags are at the root: ``terminated``
    when the field is empty, with survival when all agents are dead; ``truncated`` at the time limit.

    Args:
        config: options of the game.
        n_envs: number of vectorised boards.
        seed: seed of ``generator``, from which all random numbers are drawn; None for a seed of the operating system.
        device: device of all tensors.
    """

    _state: State
    _seen: Seen

    def __init__(self, config: LbfConfig, n_envs: int, seed: int | None = None, device: Any = "cpu") -> None:
        super().__init__(n_envs, seed, device)
        self.config = config
        self._last_cell = torch.tensor(config.field_size, dtype=torch.get_default_dtype(), device=self.device) - 1
        self._specify()
        self.state = self._new_state(n_envs)

    @property
    def state(self) -> State:
        """The current boards; may be replaced between steps."""
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        self._state = state
        self._seen = self._see(state)

    def render(self, mode: str = "rgb_array", index: int = 0, clusters: Tensor | None = None) -> Tensor:
        """Draw the board ``index`` with :func:`~benchmarl_himpo.environments.lbf.render.render_board`.

        Raises:
            ValueError: if the mode is not ``"rgb_array"``.
        """
        if mode != "rgb_array":
            raise ValueError(f"mode={mode!r} is not supported: choose 'rgb_array'")
        board = State(*(entry[index] for entry in self.state))
        return render_board(board, self.config, clusters)

    ##################
    # TorchRL's hooks
    ##################

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        reward = self._advance(tensordict.get((GROUP, "action")))
        state = self.state
        dead = ~state.alive if isinstance(self.config, LbfwsConfig) else ~state.is_food
        terminated = dead.all(-1)
        truncated = (state.step_count >= self.config.max_steps) & ~terminated
        out = self._emit(terminated, truncated)
        out.get(GROUP).set("reward", reward.unsqueeze(-1))
        return out

    #####################
    # Custom new methods
    #####################

    def _advance(self, action: Tensor) -> Tensor:
        """Play a step: mask, move, load, then energy, death and new food. Returns rewards, ``[B, n_agents]``."""
        state, config = self.state, self.config
        is_valid = self._seen.action_mask.gather(-1, action.unsqueeze(-1)).squeeze(-1)
        action = torch.where(is_valid, action, NONE)
        loading = load(state, action, self._seen.is_beside, config)
        reward = loading.reward
        state = state._replace(agent_position=move(state, action), step_count=state.step_count + 1)
        if isinstance(config, LbfwsConfig):
            energy, alive = live(state, loading, config)
            state = state._replace(energy=energy, alive=alive, life=state.life + state.alive)
            food_position, food_level, timer = regrow(state, loading.is_loaded, config, self.generator)
            state = state._replace(food_position=food_position, food_level=food_level, respawn_timer=timer)
            reward = reward + config.survival_bonus * alive
        else:
            state = state._replace(food_level=state.food_level.masked_fill(loading.is_loaded, 0))
        self.state = state
        return reward.mean(-1, keepdim=True).expand_as(reward).clone() if config.shared_reward else reward

    def _new_games(self, n: int) -> tuple[State, Seen]:
        state = self._new_state(n)
        return state, self._see(state)

    def _new_state(self, n: int) -> State:
        state = new_boards(n, self.config, self.generator)
        if isinstance(self.config, LbfwsConfig):
            state = state._replace(energy=state.energy * self.config.initial_energy)
        return state

    def _see(self, state: State) -> Seen:
        choices = find_choices(state, self.config.field_size)
        return Seen(observe(state, self.config), state.agent_position / self._last_cell, *choices)

    def _emit(self, terminated: Tensor, truncated: Tensor) -> TensorDictBase:
        state, config, seen = self.state, self.config, self._seen
        kept = {"observation": seen.observation, "action_mask": seen.action_mask, "position": seen.position}
        out = {}
        if isinstance(config, LbfwsConfig):
            kept |= {"alive": state.alive, "life": state.life}
            is_out = (~state.alive | terminated.unsqueeze(-1)).unsqueeze(-1)
            out = {"terminated": is_out, "done": is_out | truncated[:, None, None]}
        agents = {name: entry.clone() for name, entry in kept.items()} | out  # callers may modify their tensors
        return self._with_flags(agents, terminated, truncated)

    def _specify(self) -> None:
        n_agents, device, dtype = self.config.n_agents, self.device, torch.get_default_dtype()
        shape = (*self.batch_size, n_agents)
        entries = {
            "observation": Unbounded((*shape, observation_size(self.config)), dtype=dtype, device=device),
            "action_mask": self._flag_spec(n_agents, N_ACTIONS),
            "position": Unbounded((*shape, 2), dtype=dtype, device=device),
        }
        if isinstance(self.config, LbfwsConfig):
            entries |= {
                "alive": Categorical(2, shape=shape, dtype=torch.bool, device=device),
                "life": Unbounded(shape, dtype=torch.long, device=device),
                "terminated": self._flag_spec(n_agents, 1),
                "done": self._flag_spec(n_agents, 1),
            }
        self._make_specs(n_agents, N_ACTIONS, dtype, entries)
