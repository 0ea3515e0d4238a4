"""A ``ParallelEnv`` of the user's own by its import path: masks, deaths, every command, mistakes, broken simulators."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from benchmarl.environments import task_config_registry
from benchmarl.experiment import Experiment
from support.commands import run_commands, run_python
from support.tiny_overrides import SMALL
from torchrl.data import Bounded, Categorical
from torchrl.envs.utils import check_env_specs

from benchmarl_himpo.harness.commands import resume
from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.harness.records.record import load_record
from benchmarl_himpo.harness.runs.training import CommandError, train

pytest.importorskip("pettingzoo", reason="needs the extra pettingzoo: pip install 'benchmarl_himpo[pettingzoo]'")

TESTS = Path(__file__).parents[2]
OWN = "pettingzoo/own"
CORRIDOR = [f"task={OWN}", "task.env=support.corridor:Corridor", "task.max_steps=10"]
MakeExperiment = Callable[..., Experiment]


def make_task(path: str | None = "support.corridor:Corridor", max_steps: int = 10, **arguments):
    config = {"env": path, "env_kwargs": arguments, "max_steps": max_steps}
    return task_config_registry[OWN].get_task(config)


def make_env(*, is_continuous: bool = False, path: str = "support.corridor:Corridor", **arguments):
    return make_task(path, **arguments).get_env_fun(1, is_continuous, 0, "cpu")()


def test_specs_hold_and_masks_and_positions_come_from_infos() -> None:
    task = make_task(lives=[2, 5, 50])
    env = task.get_env_fun(1, False, 0, "cpu")()
    check_env_specs(env)
    assert task.group_map(env) == {"walker": ["walker_0", "walker_1", "walker_2"]}
    assert (task.supports_continuous_actions(), task.supports_discrete_actions()) == (False, True)
    assert set(task.observation_spec(env)["walker"].keys()) == {"observation"}
    assert set(task.action_mask_spec(env)["walker"].keys()) == {"action_mask"}
    assert (task.state_spec(env), task.has_render(env)) == (None, False)
    td = env.reset()["walker"]
    cell = td["observation"].argmax(-1)
    assert torch.equal(td["position"], torch.stack([cell.float(), torch.arange(3.0)], dim=-1))
    allowed = torch.stack([torch.ones(3).bool(), cell > 0, cell < 4], dim=-1)
    assert torch.equal(td["action_mask"], allowed)


def test_the_dead_see_nothing_receive_nothing_and_end_while_others_go_on() -> None:
    rollout = make_env(lives=[2, 5, 50], max_steps=8).rollout(20)["next"]
    walker = rollout["walker"]
    steps = torch.arange(1, 9).unsqueeze(-1)
    dead = steps >= torch.tensor([2, 5, 50])  # after a step
    assert torch.equal(walker["alive"], ~dead)
    assert torch.equal(walker["terminated"].squeeze(-1), dead)
    assert torch.equal(walker["truncated"].squeeze(-1), (steps == 8) & ~dead)
    gone = steps > torch.tensor([2, 5, 50])  # died in an earlier step
    assert (walker["observation"][gone] == 0).all() and (walker["reward"][gone] == 0).all()
    assert walker["action_mask"][gone].all()
    assert rollout["done"].squeeze(-1).tolist() == [False] * 7 + [True]
    everybody = make_env(lives=[2, 3, 1]).rollout(20)["next"]
    assert len(everybody) == 3
    assert (everybody["done"][-1].item(), everybody["terminated"][-1].item()) == (True, True)


def test_a_function_that_takes_the_kind_of_actions_is_told() -> None:
    task = make_task("support.corridor:Puller")
    assert (task.supports_continuous_actions(), task.supports_discrete_actions()) == (True, True)
    for is_continuous in (True, False):
        env = make_env(path="support.corridor:Puller", is_continuous=is_continuous)
        check_env_specs(env)
        assert isinstance(env.full_action_spec["walker", "action"], Bounded if is_continuous else Categorical)
        assert set(env.observation_spec["walker"].keys()) == {"observation", "alive"}


@pytest.mark.parametrize(
    "algorithm",
    ["himppo", *(pytest.param(a, marks=pytest.mark.slow) for a in ("himppo_flat", "mappo")), "qmix"],
)
def test_algorithms_train_with_masks_and_deaths(algorithm: str, make_experiment: MakeExperiment) -> None:
    experiment = make_experiment(f"algorithm={algorithm}", *CORRIDOR, "+task.env_kwargs.lives=[3,6,50]")
    experiment.run()
    assert experiment.total_frames == 80


@pytest.mark.parametrize("memory", ["window", "gru"])
def test_upper_levels_remember(memory: str, make_experiment: MakeExperiment) -> None:
    make_experiment("algorithm=himppo", f"algorithm.memory={memory}", *CORRIDOR).run()


@pytest.mark.parametrize("dtype", ["float64", pytest.param("uint8", marks=pytest.mark.slow)])
def test_observations_of_any_dtype_are_cast_to_that_of_the_networks(
    dtype: str, make_experiment: MakeExperiment
) -> None:
    experiment = make_experiment("algorithm=himppo_flat", *CORRIDOR, f"+task.env_kwargs.dtype={dtype}")
    assert experiment.observation_spec["walker", "observation"].dtype == torch.float32
    experiment.run()


def test_masks_and_positions_that_come_after_a_step_alone_are_refused() -> None:
    """Nothing would read them: what there is is asked at the first reset."""
    env = make_env(mistake="late")
    td = env.reset()
    td["walker", "action"] = torch.zeros(3, dtype=torch.long)
    with pytest.raises(ValueError, match="infos of walker_0 have action_mask after a step and not after reset"):
        env.step(td)


# Mistakes


@pytest.mark.parametrize(
    ("path", "arguments", "message"),
    [
        (None, {}, r"task\.env=null names no environment"),
        ("no_such_module:make", {}, r"task\.env=no_such_module:make .*No module named 'no_such_module'"),
        ("support.corridor:make", {}, r"task\.env=support\.corridor:make cannot be imported \(AttributeError"),
        ("make an environment", {}, r"task\.env=make an environment cannot be imported"),
        ("support.corridor:LENGTH", {}, r"task\.env=support\.corridor:LENGTH is a int"),
        ("support.corridor:make_turns", {}, r"task\.env=support\.corridor:make_turns .*no ParallelEnv"),
        ("support.corridor:Corridor", {"m": 3}, r"with \{'m': 3\} \(TypeError: .*'m'"),
        ("support.corridor:Corridor", {"n": 0}, r"no agents"),
        ("support.corridor:Corridor", {"mistake": "actions"}, r"MultiDiscrete.* Discrete space"),
        ("support.corridor:Corridor", {"mistake": "kinds"}, r"action_mask of walker_0 has 3 entries"),
        ("support.corridor:Corridor", {"mistake": "mask"}, r"action_mask of walker_0 has 2 entries"),
        ("support.corridor:Corridor", {"mistake": "position"}, r"position of walker_0 has the shape \(3,\)"),
        ("support.corridor:Corridor", {"mistake": "no position"}, r"walker_2 lack position"),
        ("support.corridor:Corridor", {"mistake": "no action_mask"}, r"walker_2 lack action_mask"),
        ("support.corridor:Puller", {"continuous_actions": True}, r"set by experiment\.prefer_continuous_actions"),
        ("support.corridor:Corridor", {"mistake": "spaces"}, r"walker_0 and walker_1 are in the group walker"),
    ],
)
def test_what_cannot_work_is_said_in_one_sentence_before_anything_is_written(
    path: str | None, arguments: dict, message: str, tiny_overrides: list[str], tmp_path: Path
) -> None:
    given = [f"+task.env_kwargs.{name}={value}" for name, value in arguments.items()]
    of_task = [f"task={OWN}", *([] if path is None else [f"task.env='{path}'"]), *given]
    cfg = compose([*tiny_overrides, "algorithm=ippo", *of_task], return_hydra_config=True)
    with pytest.raises(CommandError, match=message) as info:
        train(cfg, cfg.hydra.runtime.choices)
    assert "\n" not in str(info.value)
    assert not list((tmp_path / "runs").glob("*"))


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"task\.max_steps=0 must be 1"):
        make_task(max_steps=0)
    with pytest.raises(ValueError, match=r"task\.envs is no option of pettingzoo"):
        task_config_registry[OWN].get_task({"envs": 1})


# A simulator that breaks


def test_a_broken_simulator_ends_the_run_with_its_words_and_the_run_goes_on_from_its_checkpoint(
    tiny_overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each environment makes 20 steps a batch, and its error comes in the second one."""
    overrides = [*tiny_overrides, "algorithm=himppo", *CORRIDOR, "experiment.evaluation=false"]
    cfg = compose([*overrides, "+task.env_kwargs.breaks_after=30"], return_hydra_config=True)
    with pytest.raises(RuntimeError, match="the licence of the simulator has ended"):
        train(cfg, cfg.hydra.runtime.choices)
    said = capsys.readouterr().err
    (run,) = (tmp_path / "runs").glob("himppo_own_*")
    assert "The run stopped in iteration 1" in said
    assert f"benchmarl_himpo.resume {run}" in said
    resume.resume(run, [])  # the new environments break 30 steps later, which is after the end
    assert (run / "checkpoints" / "checkpoint_80.pt").is_file()
    assert "environments that began new episodes" in capsys.readouterr().out


WAITING = """
import os, sys
from pathlib import Path
from support.corridor import Corridor

def make(**arguments):
    with Path("pids").open("a") as file:
        file.write(f"{os.getpid()}\\n")
    return Corridor(**arguments)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [[], ["+task.env_kwargs.exits=true"]], ids=["by an error", "with its process"])
def test_where_each_environment_has_a_process_none_of_them_outlives_a_broken_one(
    how: list[str], tmp_path: Path
) -> None:
    (tmp_path / "noted.py").write_text(WAITING)
    given = [*SMALL, "algorithm=ippo", *CORRIDOR, "task.env=noted:make", "experiment.evaluation=false"]
    breaking = ["experiment.parallel_collection=true", "+task.env_kwargs.breaks_after=30", *how]
    done = run_python(tmp_path, [TESTS, tmp_path], "-m", "benchmarl_himpo.run", *given, *breaking)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "The run stopped in iteration 1" in done.stderr
    assert "benchmarl_himpo.resume" in done.stderr
    assert ("the licence of the simulator has ended" in done.stderr) != bool(how)
    pids = {int(line) for line in (tmp_path / "pids").read_text().split()}
    assert len(pids) == 3  # the run and its two environments
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


@pytest.mark.slow
def test_every_command_takes_it(tmp_path: Path) -> None:
    runs, sweep, report = (str(tmp_path / name) for name in ("runs", "sweep", "report"))
    given = [*SMALL, "algorithm=himppo", *CORRIDOR, "+task.env_kwargs.lives=[3,6,50]"]
    said = run_commands(
        tmp_path,
        [TESTS],
        ["run", *given, f"experiment.save_folder={runs}"],
        ["resume", runs, "experiment.max_n_frames=120"],
        ["evaluate", runs, "episodes=2", "task.env_kwargs.lives=[3,6,50],[9,9,9]"],
        ["sweep", f"folder={sweep}", "results=[]", "workers=1", *given],
        ["report", sweep, f"output={report}"],
    )
    assert "true, with environments that began new episodes" in said
    (run,) = Path(runs).iterdir()
    assert len(json.loads((run / "evaluation.json").read_text())["results"]) == 2
    (file,) = Path(sweep).glob("*/record.json")
    record = load_record(file)
    assert (record.task, record.group_sizes) == (OWN, {"walker": 3})
    assert record.config["task"]["env"] == "support.corridor:Corridor"
    assert "pettingzoo/own" in (Path(report) / "report.json").read_text()
