"""VMAS's own heuristics and upper bounds of the return, for scenarios other than ``sampling``."""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.envs import VmasEnv
from vmas.scenarios.discovery import HeuristicPolicy
from vmas.simulator.scenario import BaseScenario

from benchmarl_himpo.harness.evaluation.episodes import Policy


def scripted_policies(task: str, env: VmasEnv) -> dict[str, Policy]:
    """Heuristic policies of a scenario, by name, for continuous actions only."""
    if task != "discovery" or not env.continuous_actions:
        return {}
    heuristic = HeuristicPolicy(continuous_action=True)

    def act(td: TensorDictBase) -> TensorDictBase:
        """Move to the nearest target in sight, away from teammates, else around the arena. ``[*B, n_agents, 2]``."""
        observation = td["agents", "observation"]
        actions = [
            heuristic.compute_action(observation[..., i, :], u_range=agent.u_range)
            for i, agent in enumerate(env.agents)
        ]
        return td.set(("agents", "action"), torch.stack(actions, dim=-2))

    return {"heuristic": act}


def bound_returns(task: str, scenario: BaseScenario) -> Tensor | None:
    """Upper bound of the return per agent for scenarios whose rewards are decreases of distances to goals.

    Their sum over an episode is at most the initial distance; falls and collisions reduce it.

    Args:
        task: name of the scenario, lower case.
        scenario: the scenario, just reset.

    Returns:
        Shape ``[n_envs]``; None if no bound is known.
    """
    if task == "balance":
        return scenario.global_shaping
    if task == "transport":
        return torch.stack([package.global_shaping for package in scenario.packages]).sum(0)
    if task == "navigation":
        # The final reward comes once: an episode ends when all are at their goals
        return torch.stack([agent.pos_shaping for agent in scenario.world.agents]).mean(0) + scenario.final_reward
    return None
