"""What actions at random and scripts earn, and what nobody can earn more than, measured on many episodes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from benchmarl_himpo.benchmark.sampling_scripts import act_greedily, bound_returns
from benchmarl_himpo.config import compose
from benchmarl_himpo.environments.sampling_scenario import SamplingScenario
from benchmarl_himpo.evaluation.episodes import build_quietly, play
from benchmarl_himpo.evaluation.statistics import Estimate, estimate_mean
from benchmarl_himpo.runs.random_state import seeded_random_state, vmas_generators


def measure_anchors(overrides: Sequence[str], n_episodes: int, seed: int, confidence: float) -> dict[str, Estimate]:
    """Measure the anchors of a task, with continuous actions where it has them.

    Args:
        overrides: the task, such as ``["task=vmas/sampling", "task.n_agents=5"]``.
        n_episodes: episodes, the same for each anchor.
        seed: seed of the episodes.
        confidence: coverage of the intervals, in (0, 1).

    Returns:
        Return per agent for each anchor: ``random`` for every task, the others where they are known.
    """
    cfg = compose(["algorithm=ippo", *overrides], return_hydra_config=True)
    experiment = build_quietly(cfg, cfg.hydra.runtime.choices, n_episodes)
    returns = {"random": play(experiment, seed, experiment.test_env.rand_action).per_agent}
    scenario = getattr(experiment.test_env, "scenario", None)
    if isinstance(scenario, SamplingScenario):
        returns["scripted"] = play(experiment, seed, act_greedily).per_agent
        with torch.random.fork_rng(), vmas_generators(seeded_random_state(seed)):
            torch.manual_seed(seed)
            experiment.test_env.reset()
        returns["upper_bound"] = bound_returns(scenario, experiment.max_steps)
    experiment.close()
    return {name: estimate_mean(values, confidence) for name, values in returns.items()}
