"""SMAX as one vectorised TorchRL environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Categorical, Unbounded

from benchmarl_himpo.environments.entries import GROUP
from benchmarl_himpo.environments.stocked_env import StockedEnv

if TYPE_CHECKING:
    from benchmarl_himpo.environments.smax.simulator import Seen, Simulator


class SmaxEnv(StockedEnv):
    """Vectorised battles of SMAX against JaxMARL's heuristic enemy.

    Entries of an agent: ``observation``; ``action_mask``, in which dead agents have only the action stop; ``position``
    relative to the map size, in [0, 1]; ``alive``; ``won``, whether the team has won. All agents receive the team's
    reward, dead ones too, so a death does not end an agent's return. ``state`` and the team's flags are at the root:
    ``terminated`` when one side is dead, ``truncated`` at the time limit.

    Args:
        simulator: simulator of the battles.
        n_envs: number of vectorised battles.
        seed: seed of ``generator``, from which all random numbers are drawn; None for a seed of the operating system.
        device: device of all tensors; JAX must support it too.
    """

    _seen: Seen

    def __init__(self, simulator: Simulator, n_envs: int, seed: int | None = None, device: Any = "cpu") -> None:
        super().__init__(n_envs, seed, device)
        self.simulator = simulator
        shape, device = (n_envs, simulator.n_agents), self.device
        self._make_specs(
            simulator.n_agents,
            simulator.n_actions,
            torch.float32,
            {
                "observation": Unbounded((*shape, simulator.observation_size), dtype=torch.float32, device=device),
                "action_mask": self._flag_spec(simulator.n_agents, simulator.n_actions),
                "position": Unbounded((*shape, 2), dtype=torch.float32, device=device),
                "alive": Categorical(2, shape=shape, dtype=torch.bool, device=device),
                "won": Categorical(2, shape=shape, dtype=torch.bool, device=device),
            },
            state=Unbounded((n_envs, simulator.state_size), dtype=torch.float32, device=device),
        )
        self._state, self._seen = self._new_games(n_envs)

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        action, keys = tensordict.get((GROUP, "action")), self._draw_keys(self.batch_size[0])
        self._state, self._seen, reward, is_over = self.simulator.step(self._state, keys, action)
        out = self._emit(self._seen.is_decided, is_over & ~self._seen.is_decided)
        out.get(GROUP).set("reward", reward[:, None, None].expand(-1, self.simulator.n_agents, 1).clone())
        return out

    def _new_games(self, n: int) -> tuple[tuple[Tensor, ...], Seen]:
        return self.simulator.begin(self._draw_keys(n))

    def _draw_keys(self, n: int) -> Tensor:
        """Draw random keys for JAX. Shape ``[n, 2]``, int32."""
        low, high = -(2**31), 2**31
        return torch.randint(low, high, (n, 2), dtype=torch.int32, generator=self.generator, device=self.device)

    def _emit(self, terminated: Tensor, truncated: Tensor) -> TensorDictBase:
        names = ("observation", "action_mask", "position", "alive", "won")
        agents = {name: getattr(self._seen, name).clone() for name in names}  # callers may modify their tensors
        return self._with_flags(agents, terminated.clone(), truncated, state=self._seen.state.clone())
