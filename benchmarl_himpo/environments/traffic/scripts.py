"""Heuristic policies of traffic signal control: random, fixed-time, and longest queue first."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch
from tensordict import TensorDictBase
from torch import Tensor

from benchmarl_himpo.environments.entries import GROUP
from benchmarl_himpo.environments.traffic.environment import TrafficEnv

Script: TypeAlias = Callable[[Tensor, TrafficEnv], Tensor]
"""Computes actions ``[B, n_agents]`` from observations ``[B, n_agents, F]`` and the environment."""


def random(observation: Tensor, env: TrafficEnv) -> Tensor:
    """Random policy: uniform over green phases, drawn from the environment's generator."""
    n_greens = len(env.layout["serves"][0])
    return torch.randint(n_greens, observation.shape[:-1], generator=env.generator).to(observation.device)


def fixed_time(observation: Tensor, env: TrafficEnv) -> Tensor:
    """Fixed-time control: the network's own program, with each green rounded to whole actions, at least one."""
    step, schedules = env.step_count, []
    for program in env.layout["program"]:
        lengths = [max(1, round(seconds / env.config.delta_seconds)) for _, seconds in program]
        greens = torch.tensor([green for green, _ in program]).repeat_interleave(torch.tensor(lengths))
        schedules.append(greens.to(step.device)[step % len(greens)])
    return torch.stack(schedules, dim=-1)


def queue_greedy(observation: Tensor, env: TrafficEnv) -> Tensor:
    """The green that serves the longest queue, the sum over its lanes of their shares filled; ties keep the present."""
    serves = torch.tensor(env.layout["serves"], dtype=observation.dtype, device=observation.device)
    n_greens, n_lanes = serves.shape[1:]  # of [n_agents, n_greens, n_lanes]
    present, queue = observation[..., :n_greens], observation[..., -n_lanes:]
    served = (serves * queue.unsqueeze(-2)).sum(-1)  # [B, n, greens]
    return (served + torch.finfo(served.dtype).eps * present).argmax(-1)


SCRIPTS: dict[str, Script] = {"random": random, "fixed_time": fixed_time, "queue_greedy": queue_greedy}
"""Every script by name."""


def scripted_policies(env: TrafficEnv) -> dict[str, Callable[[TensorDictBase], TensorDictBase]]:
    """Build the heuristic policies, by name; each one writes the action into its input."""

    def act(script: Script, td: TensorDictBase) -> TensorDictBase:
        return td.set((GROUP, "action"), script(td.get((GROUP, "observation")), env))

    return {name: partial(act, script) for name, script in SCRIPTS.items()}
