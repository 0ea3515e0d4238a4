"""For VMAS's scenarios other than ``sampling``: VMAS's own heuristic, and upper bounds of the return."""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.envs import VmasEnv
from vmas.scenarios.discovery import HeuristicPolicy
from vmas.simulator.scenario import BaseScenario

from benchmarl_himpo.harness.evaluation.episodes import Policy


def scripted_policies(task: str, env: VmasEnv) -> dict[str, Policy]:
    """Give the scripted policies of a scenario, by name; they act with continuous actions alone."""
    if task != "discovery" or not env.continuous_actions:
        return {}
    heuristic = HeuristicPolicy(continuous_action=True)

    def act(td: TensorDictBase) -> TensorDictBase:
        """Head for the nearest target in sight, away from teammates, else around the arena. ``[*B, n_agents, 2]``."""
        observation = td["agents", "observation"]
        actions = [
            heuristic.compute_action(observation[..., i, :], u_range=agent.u_range)
            for i, agent in enumerate(env.agents)
        ]
        return td.set(("agents", "action"), torch.stack(actions, dim=-2))

    return {"heuristic": act}


def bound_returns(task: str, scenario: BaseScenario) -> Tensor | None:
    """Bound the return per agent of an episode that begins, where rewards are what distances to goals shrink by.

    Summed over an episode they are at most the distances at its start, and falls and collisions cost.

    Args:
        task: name of the scenario, lower case.
        scenario: the scenario, just reset.

    Returns:
        Shape ``[n_envs]``; None where no bound is known.
    """
    if task == "balance":
        return scenario.global_shaping
    if task == "transport":
        return torch.stack([package.global_shaping for package in scenario.packages]).sum(0)
    if task == "navigation":
        # The final reward comes once: an episode ends when all are at their goals
        return torch.stack([agent.pos_shaping for agent in scenario.world.agents]).mean(0) + scenario.final_reward
    return None
