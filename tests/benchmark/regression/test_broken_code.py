"""The gate at work, with runs that are trained: it passes what is whole and fails what is broken.

The broken algorithms stand in the registry in the place of HiMPPO, with its name and configuration.
"""

from __future__ import annotations

import pytest
from benchmarl.algorithms.common import AlgorithmConfig
from broken_himppo import (
    WithFirstGoalsConfig,
    WithFlippedRewardConfig,
    WithoutGoalsConfig,
    WithUntrainedSubManagersConfig,
)
from made_up_runs import train_here, train_here_but_the_toy

from benchmarl_himpo.algorithms import algorithm_config_registry
from benchmarl_himpo.benchmark.engines import ENGINES
from benchmarl_himpo.benchmark.regression import gate as gate_module

pytestmark = pytest.mark.slow

SHORT = [
    *("mode=full", "engine=here_but_the_toy", "protocol=regression", "task=vmas/sampling", "random_episodes=200"),
    *("experiment.max_n_frames=12000", "experiment.evaluation_interval=12000", "experiment.evaluation_episodes=100"),
    *("baseline_seeds=range(0,6)", "first_seeds=range(10,14)", "second_seeds=range(20,24)"),
]
"""The comparison on one task, with runs of four iterations."""


@pytest.fixture(autouse=True)
def _engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, "here", train_here)
    monkeypatch.setitem(ENGINES, "here_but_the_toy", train_here_but_the_toy)


def break_code(monkeypatch: pytest.MonkeyPatch, config: type[AlgorithmConfig]) -> None:
    """Put another algorithm in the place of HiMPPO; its runs go into a folder of their own."""
    monkeypatch.setitem(algorithm_config_registry, "himppo", config)
    monkeypatch.setattr(gate_module, "source_digest", lambda: config.__name__)


def test_the_toy_task_is_learned_by_the_code_as_it_is(gate) -> None:
    assert gate("engine=here") == 0


@pytest.mark.parametrize("config", [WithoutGoalsConfig, WithFirstGoalsConfig, WithUntrainedSubManagersConfig])
def test_the_toy_task_needs_goals_that_are_sent_renewed_and_learned(
    config: type[AlgorithmConfig], gate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    break_code(monkeypatch, config)
    assert gate("engine=here") == 1
    assert "| toy task | regressed |" in capsys.readouterr().out


def test_the_reward_of_one_level_turned_round_fails_the_comparison_and_an_unchanged_rerun_passes(
    gate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate(*SHORT, "mode=baseline", "reason=the code as it is") == 0
    assert gate(*SHORT) == 0
    assert "| first stage | ok |" in capsys.readouterr().out
    break_code(monkeypatch, WithFlippedRewardConfig)
    assert gate(*SHORT) == 1
    assert "| both stages | regressed |" in capsys.readouterr().out
