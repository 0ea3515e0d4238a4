"""Returns of the random policy and of scripted ones, and upper bounds, measured on many episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torchrl.envs import EnvBase

from benchmarl_himpo.environments.lbf.environment import LbfEnv
from benchmarl_himpo.environments.lbf.scripts import scripted_policies
from benchmarl_himpo.environments.sampling_scenario import SamplingScenario
from benchmarl_himpo.environments.traffic import scripts as traffic_scripts
from benchmarl_himpo.environments.traffic.environment import TrafficEnv
from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.harness.evaluation.episodes import Policy, build_quietly, fixed_episodes, play
from benchmarl_himpo.harness.reference_returns.sampling_scripts import (
    act_greedily,
    act_greedily_discrete,
    bound_returns,
)
from benchmarl_himpo.harness.statistics import Estimate, estimate_mean


@dataclass(frozen=True)
class ReferenceReturn:
    """The return of a policy that does not learn, with intervals."""

    per_agent: Estimate  # return per agent
    life: Estimate | None = None  # mean life of an agent, in env steps; None: the environment tells no lives


def measure_reference_returns(
    overrides: Sequence[str], n_episodes: int, seed: int, confidence: float
) -> dict[str, ReferenceReturn]:
    """Measure the reference returns of a task, with continuous actions unless it has none or is told otherwise.

    Args:
        overrides: the task, such as ``["task=vmas/sampling", "task.n_agents=5"]``.
        n_episodes: episodes, the same for each of them.
        seed: seed of the episodes.
        confidence: coverage of the intervals, in (0, 1).

    Returns:
        ``random`` for every task, then its scripted policies by name and ``upper_bound``, where they are known.
    """
    cfg = compose(["algorithm=ippo", *overrides], return_hydra_config=True)
    experiment = build_quietly(cfg, cfg.hydra.runtime.choices, n_episodes)
    references = {}
    for name, policy in _policies(experiment.test_env).items():
        returns = play(experiment, seed, policy)
        life = None if returns.life is None else estimate_mean(returns.life, confidence)
        references[name] = ReferenceReturn(estimate_mean(returns.per_agent, confidence), life)
    scenario = getattr(experiment.test_env, "scenario", None)
    if isinstance(scenario, SamplingScenario):
        with fixed_episodes(experiment, seed):
            experiment.test_env.reset()
        bound = bound_returns(scenario, experiment.max_steps)
        references["upper_bound"] = ReferenceReturn(estimate_mean(bound, confidence))
    experiment.close()
    return references


def _policies(env: EnvBase) -> dict[str, Policy]:
    """The random policy and the scripted ones of a task, by name."""
    if isinstance(env.base_env, LbfEnv):
        return scripted_policies(env.base_env)
    if isinstance(env.base_env, TrafficEnv):
        return traffic_scripts.scripted_policies(env.base_env)
    policies: dict[str, Policy] = {"random": env.rand_action}
    if isinstance(getattr(env, "scenario", None), SamplingScenario):
        policies["greedy"] = act_greedily if env.continuous_actions else act_greedily_discrete
    return policies
