"""Measures returns of the random policy and of heuristic policies, and upper bounds, on many episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from benchmarl_himpo.environments.lbf import scripts as lbf_scripts
from benchmarl_himpo.environments.lbf.environment import LbfEnv
from benchmarl_himpo.environments.sampling_scenario import SamplingScenario
from benchmarl_himpo.environments.smax import scripts as smax_scripts
from benchmarl_himpo.environments.smax.environment import SmaxEnv
from benchmarl_himpo.environments.traffic import scripts as traffic_scripts
from benchmarl_himpo.environments.traffic.environment import TrafficEnv
from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.harness.evaluation.episodes import Policy, build_quietly, fixed_episodes, play
from benchmarl_himpo.harness.reference_returns import mpe_scripts, sampling_scripts, vmas_scripts
from benchmarl_himpo.harness.runs import ResumableExperiment
from benchmarl_himpo.harness.statistics import Estimate, estimate_mean

CONFIDENCE = 0.95
"""Coverage of the intervals."""


@dataclass(frozen=True)
class ReferenceReturn:
    """The return of a policy that does not learn, with confidence intervals."""

    per_agent: Estimate  # return per agent
    metrics: dict[str, Estimate] = field(default_factory=dict)  # metrics of the environment, by name


def measure_reference_returns(overrides: Sequence[str], n_episodes: int, seed: int) -> dict[str, ReferenceReturn]:
    """Measure the reference returns of a task, with continuous actions by default if the task has them.

    Args:
        overrides: the task, such as ``["task=vmas/sampling", "task.n_agents=5"]``.
        n_episodes: number of episodes, the same ones for each policy.
        seed: seed of the episodes.

    Returns:
        ``random`` for every task, then its heuristic policies by name and ``upper_bound``, if known.
    """
    cfg = compose(["algorithm=ippo", *overrides], return_hydra_config=True)
    experiment = build_quietly(cfg, cfg.hydra.runtime.choices, n_episodes)
    references = {}
    for name, policy in _policies(experiment).items():
        returns = play(experiment, seed, policy)
        metrics = {metric: estimate_mean(values, CONFIDENCE) for metric, values in returns.metrics.items()}
        references[name] = ReferenceReturn(estimate_mean(returns.per_agent, CONFIDENCE), metrics)
    bound = _bound_returns(experiment, seed)
    if bound is not None:
        references["upper_bound"] = ReferenceReturn(estimate_mean(bound, CONFIDENCE))
    experiment.close()
    return references


def _bound_returns(experiment: ResumableExperiment, seed: int) -> Tensor | None:
    """Upper bounds of the return in the fixed episodes of a seed, ``[n_episodes]``; None if unknown."""
    if experiment.environment_name != "vmas":
        return None
    with fixed_episodes(experiment, seed):
        experiment.test_env.reset()
    scenario = experiment.test_env.scenario
    if isinstance(scenario, SamplingScenario):
        return sampling_scripts.bound_returns(scenario, experiment.max_steps)
    return vmas_scripts.bound_returns(experiment.task_name, scenario)


def _policies(experiment: ResumableExperiment) -> dict[str, Policy]:
    """The random policy and the heuristic policies of a task, by name."""
    env = experiment.test_env
    if isinstance(env.base_env, LbfEnv):
        return lbf_scripts.scripted_policies(env.base_env)
    if isinstance(env.base_env, SmaxEnv):
        return smax_scripts.scripted_policies(env.base_env)
    if isinstance(env.base_env, TrafficEnv):
        return traffic_scripts.scripted_policies(env.base_env)
    policies: dict[str, Policy] = {"random": env.rand_action}
    if isinstance(getattr(env, "scenario", None), SamplingScenario):
        policies["greedy"] = (
            sampling_scripts.act_greedily if env.continuous_actions else sampling_scripts.act_greedily_discrete
        )
    if experiment.environment_name == "vmas":
        policies |= vmas_scripts.scripted_policies(experiment.task_name, env.base_env)
    if experiment.environment_name == "mpe":
        policies |= mpe_scripts.scripted_policies(experiment.task_name, env.rand_action)
    return policies
