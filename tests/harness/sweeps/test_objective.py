"""What a sweeper that optimises gets from a run, and what it is told before one trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.types import RunMode
from omegaconf import OmegaConf
from support.records import make_record
from support.sweeps import TINY, records

from benchmarl_himpo.harness.checks import RequestError
from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.harness.records.spec import comparable_config
from benchmarl_himpo.harness.report.comparison import collect
from benchmarl_himpo.harness.sweeps.objective import (
    BASIC_SWEEPER,
    OBJECTIVES,
    check_objective,
    is_optimised,
    mean_over_frames,
    objective_of,
)

OPTIMISED = OmegaConf.create(
    {
        "mode": RunMode.MULTIRUN,
        "runtime": {"choices": {"hydra/sweeper": "optuna"}},
        "sweeper": {"direction": "maximize"},
    }
)


def test_objectives_worked_by_hand() -> None:
    record = make_record(
        frames=[10, 20, 40],
        seconds=[1.0, 2.0, 3.0],
        collection_return=[None, 2.0, 4.0],
        evaluation_frames=[10, 20, 40],
        evaluation_seconds=[1.0, 2.0, 3.0],
        evaluation_returns=[[0.0, 2.0], [3.0, 3.0], [4.0, 6.0]],
        absolute_metric={"frames": 40, "seed": 1, "returns": [6.0, 8.0]},
    )
    assert {name: objective(record) for name, objective in OBJECTIVES.items()} == {
        "last_evaluation": 5.0,
        "absolute_metric": 7.0,
        "evaluation_auc": pytest.approx((10 * 2.0 + 20 * 4.0) / 30),
        "collection_auc": 3.0,
    }


def test_a_curve_of_one_point_is_its_return_and_one_of_none_is_no_objective() -> None:
    assert mean_over_frames([10], [2.0]) == 2.0
    assert mean_over_frames([], []) is None


@pytest.mark.parametrize(
    ("overrides", "sweeper", "words"),
    [
        (["objective=best"], {}, ["objective=best", "last_evaluation"]),
        (["experiment.evaluation=false"], {}, ["objective=last_evaluation", "experiment.evaluation=true"]),
        (["experiment.evaluation=false", "objective=evaluation_auc"], {}, ["objective=evaluation_auc"]),
        (["objective=absolute_metric"], {}, ["absolute_metric_episodes"]),
        (["experiment.loggers=[]", "objective=collection_auc"], {}, ["experiment.loggers=[] lacks csv"]),
        (["experiment.create_json=false"], {}, ["experiment.create_json=false"]),
        ([], {"direction": "minimize"}, ["hydra.sweeper.direction=maximize"]),
        ([], {"direction": ["maximize", "minimize"]}, ["hydra.sweeper.direction", "one"]),
        ([], {"optim": {"maximize": False}}, ["hydra.sweeper.optim.maximize=true"]),
        ([], {"ax_config": {"experiment": {"minimize": True}}}, ["hydra.sweeper.ax_config.experiment.minimize=false"]),
    ],
)
def test_what_will_not_exist_or_be_maximised_is_refused(overrides: list[str], sweeper: dict, words: list[str]) -> None:
    with pytest.raises(RequestError) as raised:
        check_objective(compose(overrides), OmegaConf.merge(OPTIMISED, {"sweeper": sweeper}))
    assert all(word in str(raised.value) for word in words)


def test_runs_that_nobody_optimises_need_no_objective() -> None:
    without = compose(["experiment.evaluation=false", "experiment.loggers=[]"])
    basic = {"runtime": {"choices": {"hydra/sweeper": BASIC_SWEEPER}}}
    for changes in ({"mode": RunMode.RUN}, basic):
        hydra = OmegaConf.merge(OPTIMISED, changes)
        assert not is_optimised(hydra)
        check_objective(without, hydra)
        assert objective_of(None, without, hydra) is None
    for option in ("objective=collection_auc", "absolute_metric_episodes=5"):
        check_objective(compose([option]), OPTIMISED)


def test_without_an_episode_in_collection_there_is_a_sentence_and_no_objective() -> None:
    nothing = make_record(collection_return=[None] * 10)
    with pytest.raises(RequestError, match="objective=collection_auc has no value"):
        objective_of(nothing, compose(["objective=collection_auc"]), OPTIMISED)


def test_the_objective_is_no_part_of_what_a_run_is() -> None:
    configs = []
    for overrides in ([], ["objective=evaluation_auc"]):
        cfg = compose(overrides, return_hydra_config=True)
        configs.append(comparable_config(cfg, cfg.hydra.runtime.choices))
    assert configs[0] == configs[1]


@pytest.mark.slow
@pytest.mark.parametrize("in_sweep", [False, True])
def test_optuna_gets_the_objective_and_maximises_it(in_sweep: bool, run_command: Callable, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="needs the extra optuna: hydra-optuna-sweeper")
    place = [f"sweep_folder={tmp_path / 'sweep'}"] if in_sweep else []
    options = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=1"]
    search = "experiment.lr=interval(1e-4,1e-2)"
    tiny = [option for option in TINY if not option.startswith("absolute_metric")]
    done = run_command("--multirun", *options, search, *tiny, *place, "hydra.sweep.dir=out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    best = OmegaConf.load(tmp_path / "out" / "optimization_results.yaml")
    found = records(tmp_path / "sweep") if in_sweep else collect([tmp_path / "out"]).records
    assert best.best_value == max(record.last_evaluation for record in found)
    assert "maximize" in done.stdout + done.stderr
