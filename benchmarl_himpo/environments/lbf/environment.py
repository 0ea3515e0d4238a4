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
    """What the agents of some boards see and may do; follows from the boards."""

    observation: Tensor  # [B, n_agents, observation_size], default dtype
    position: Tensor  # [B, n_agents, 2], default dtype: row and column as shares of the field
    action_mask: Tensor  # [B, n_agents, 6], bool
    is_beside: Tensor  # [B, n_agents, n_foods], bool: foods that the agent may load


class LbfEnv(StockedEnv):
    """Level-Based Foraging, rules of lbforaging 2.0.0, many boards at once; with survival if the options have it.

    The survival rules and their constants are ours, a reconstruction: the source's are not available.

    Entries of an agent: ``observation``; ``action_mask``; ``position``, row and column as shares of the field in
    [0, 1]. With survival also ``alive``; ``life``, env steps lived; and ``done`` and ``terminated``, which are true for
    an agent that is dead, so that learners stop their bootstrap at a death. The last two are kept out of ``done_spec``:
    TorchRL would reset a board whenever one of its agents is dead. The team's flags are at the root: ``terminated``
    when the field is empty, with survival when nobody lives; ``truncated`` at the time limit.

    Args:
        config: options of the game.
        n_envs: boards stepped together.
        seed: of everything random, which is drawn from ``generator`` alone; None for a seed of the system's.
        device: where everything lives.
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
        """The boards as they are; may be replaced between steps."""
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        self._state = state
        self._seen = self._see(state)

    def render(self, mode: str = "rgb_array", index: int = 0, clusters: Tensor | None = None) -> Tensor:
        """Draw the board of an index as :func:`~benchmarl_himpo.environments.lbf.render.render_board` does.

        Raises:
            ValueError: if the mode is not ``"rgb_array"``.
        """
        if mode != "rgb_array":
            raise ValueError(f"mode={mode!r} cannot be drawn: choose 'rgb_array'")
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

    ##########
    # Its own
    ##########

    def _advance(self, action: Tensor) -> Tensor:
        """Play a step: mask, move, load, then energy, death and new food. Gives the rewards, ``[B, n_agents]``."""
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
        agents = {name: entry.clone() for name, entry in kept.items()} | out  # others may write to what they are given
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
