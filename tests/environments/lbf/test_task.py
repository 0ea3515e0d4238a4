"""The tasks as BenchMARL sees them: options, specs, every algorithm, deaths, transfer, pictures."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from benchmarl.algorithms import algorithm_config_registry as host_registry
from benchmarl.environments import task_config_registry
from benchmarl.experiment import Callback, Experiment
from benchmarl.hydra_config import load_task_config_from_hydra
from hydra.errors import ConfigCompositionException
from support.boards import PLAIN, SURVIVAL, act, board, make
from tensordict import TensorDict
from torchrl.envs.utils import check_env_specs

from benchmarl_himpo.algorithms import algorithm_config_registry
from benchmarl_himpo.environments.lbf.environment import LbfEnv
from benchmarl_himpo.environments.lbf.options import LbfConfig, LbfwsConfig, food_capacity
from benchmarl_himpo.environments.lbf.render import CELL, CLUSTERS, DEAD, FOOD
from benchmarl_himpo.environments.lbf.rules import LOAD, NONE, load
from benchmarl_himpo.environments.lbf.task import LbfClass, LbfTask, LbfwsTask
from benchmarl_himpo.environments.tasks import TASKS
from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.harness.evaluation.episodes import load_trained, play
from benchmarl_himpo.harness.runs import CheckpointError
from benchmarl_himpo.hierarchy.group_inputs import AliveSource, PositionSource

MakeExperiment = Callable[..., Experiment]
ALGORITHMS = sorted({*algorithm_config_registry, "mappo", "ippo", "qmix", "vdn", "iql"} & {*host_registry})


@pytest.fixture
def make_survival(make_experiment: MakeExperiment) -> MakeExperiment:
    """Tiny experiments on `lbfws/easy` in which agents die, twice within a batch of 20 steps."""
    short = ["task=lbfws/easy", "task.max_steps=15", "task.initial_energy=6", "task.field_size=[6,6]", "task.n_foods=3"]

    def make(*overrides: str) -> Experiment:
        experiment = make_experiment(*short, *overrides)
        return experiment

    return make


# Specs and options


@pytest.mark.parametrize("name", sorted(name for name in TASKS if name.startswith("lbf")))
def test_specs_hold_and_networks_see_the_observation_alone(name: str) -> None:
    task = task_config_registry[name].get_task()
    env = task.get_env_fun(3, False, 0, "cpu")()
    check_env_specs(env)
    assert set(task.observation_spec(env)["agents"].keys()) == {"observation"}
    assert set(task.action_mask_spec(env)["agents"].keys()) == {"action_mask"}
    of_survival = {"alive", "life", "done", "terminated"} if task.env_name() == "lbfws" else set()
    assert set(env.full_observation_spec["agents"].keys()) == {"observation", "action_mask", "position"} | of_survival
    assert f"{task.env_name()}/{task.name.lower()}" == name
    assert task.group_map(env) == {"agents": [f"agent_{i}" for i in range(task.options.n_agents)]}


def test_the_table_of_difficulties() -> None:
    """Agents, field, foods, sight, highest food level, cooperation, energy at reset and at most, steps to new food."""
    names = (
        *("n_agents", "field_size", "n_foods", "sight", "max_food_level", "force_coop", "initial_energy", "max_energy"),
        *("respawn_interval", "min_agent_level", "max_agent_level", "energy_cost", "food_energy", "max_steps"),
    )
    rows = [tuple(getattr(task.get_task().options, name) for name in names) for task in LbfwsTask]
    assert rows == [
        (4, [8, 8], 4, 3, 1, False, 20.0, 40.0, 5, 1, 2, 1.0, 10.0, 200),
        (4, [10, 10], 4, 3, 3, False, 30.0, 60.0, 5, 1, 2, 1.0, 10.0, 200),
        (6, [12, 12], 6, 3, None, True, 30.0, 60.0, 10, 1, 2, 1.0, 10.0, 200),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_agents": 0}, "task.n_agents=0 must be 1 or more"),
        ({"n_agents": 100}, "task.n_agents=100 must be at most 61"),
        ({"n_foods": 20}, "task.n_foods=20 must be at most 8"),
        ({"field_size": [2, 9]}, "task.field_size"),
        ({"field_size": [9]}, "task.field_size"),
        ({"sight": 0}, "task.sight=0"),
        ({"min_agent_level": 0}, "task.min_agent_level=0"),
        ({"max_agent_level": 0}, "task.max_agent_level=0 must not be below task.min_agent_level=1"),
        ({"min_food_level": 0}, "task.min_food_level=0"),
        ({"min_food_level": 7}, "task.min_food_level=7 must be at most 3"),
        ({"min_food_level": 3, "max_food_level": 2}, "task.max_food_level=2 must not be below task.min_food_level=3"),
        (
            {"min_food_level": 3, "max_food_level": 2, "force_coop": True},
            "task.max_food_level=2 must not be below task.min_food_level=3",
        ),
        ({"penalty": -0.1}, "task.penalty=-0.1"),
        ({"max_steps": 0}, "task.max_steps=0"),
        ({"energy_cost": 0.0}, "task.energy_cost=0.0 must be positive"),
        ({"initial_energy": -1.0}, "task.initial_energy=-1.0 must be positive"),
        ({"initial_energy": 50.0}, "task.initial_energy=50.0 must be at most task.max_energy=40.0"),
        ({"max_energy": float("nan")}, "task.max_energy=nan must be positive"),
        ({"food_energy": -1.0}, "task.food_energy=-1.0"),
        ({"energy_split": "fair"}, "task.energy_split=fair must be one of equal, level"),
        ({"respawn_interval": -1}, "task.respawn_interval=-1"),
        ({"survival_bonus": -1.0}, "task.survival_bonus=-1.0"),
    ],
)
def test_what_cannot_be_played_is_named(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        replace(SURVIVAL, **changes)


@pytest.mark.parametrize("size", [(3, 3), (5, 5), (6, 9), (12, 12)])
def test_as_many_foods_as_are_allowed_do_fit(size: tuple[int, int]) -> None:
    n_rows, n_columns = size
    capacity = food_capacity(*size)
    cells = [(r, c) for r in range(1, n_rows - 1) for c in range(1, n_columns - 1)]
    lattices = [[(r, c) for r, c in cells if (r - 1 + 2 * (c - 1)) % 5 == k] for k in range(5)]
    fullest = max(lattices, key=len)
    assert len(fullest) == capacity
    assert all(abs(r - y) + abs(c - x) >= 3 for r, c in fullest for y, x in fullest if (r, c) != (y, x))


def test_misspelt_and_missing_options_are_named() -> None:
    with pytest.raises(ValueError, match=r"task\.n_agentz is no option of lbf: choose from n_agents, "):
        LbfClass("FORAGING_8X8_2P_1F", {**vars(PLAIN), "n_agentz": 3})
    with pytest.raises(ValueError, match=r"task\.sight is missing"):
        LbfClass("FORAGING_8X8_2P_1F", {k: v for k, v in vars(PLAIN).items() if k != "sight"})
    with pytest.raises(ConfigCompositionException, match=r"task\.n_agentz"):
        compose(["task=lbfws/easy", "task.n_agentz=3"])
    with pytest.raises(ConfigCompositionException, match=r"task\.n_agents=many"):
        compose(["task=lbfws/easy", "task.n_agents=many"])


def test_the_command_names_what_is_wrong(
    call_command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = call_command("task=lbfws/easy", "task.n_foods=99", cwd=tmp_path)
    assert done.returncode == 1
    assert "task.n_foods=99 must be at most 8 on task.field_size=[8, 8]" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_task_from_python_is_the_one_from_the_command_line(recwarn: pytest.WarningsRecorder) -> None:
    task = LbfTask.FORAGING_2S_8X8_2P_2F_COOP.get_from_yaml()
    cfg = compose(["task=lbf/foraging_2s_8x8_2p_2f_coop"]).task
    assert task == LbfTask.FORAGING_2S_8X8_2P_2F_COOP.from_config(cfg)
    assert (task.options.sight, task.options.force_coop, type(task.options)) == (2, True, LbfConfig)
    assert not [w for w in recwarn if "type checks" in str(w.message)]
    assert load_task_config_from_hydra(cfg, "lbf/foraging_2s_8x8_2p_2f_coop") == task  # what others load it by


# Training


@pytest.mark.parametrize(
    "algorithm",
    [
        name if name in ("himppo", "himppo_paper", "mappo", "qmix") else pytest.param(name, marks=pytest.mark.slow)
        for name in ALGORITHMS
    ],
)
def test_every_algorithm_trains(algorithm: str, make_survival: MakeExperiment) -> None:
    experiment = make_survival(f"algorithm={algorithm}")
    experiment.run()
    assert experiment.total_frames == 80


def test_plain_foraging_trains(make_experiment: MakeExperiment) -> None:
    make_experiment("task=lbf/foraging_8x8_2p_1f", "algorithm=himppo").run()


class Keep(Callback):
    """The first batch, as collected, and what was trained on."""

    def on_batch_collected(self, batch) -> None:
        self.collected = getattr(self, "collected", batch.clone())

    def on_train_step(self, batch, group: str) -> None:
        self.trained = getattr(self, "trained", batch.clone())


@pytest.mark.parametrize("algorithm", ["himppo", "ippo", "iql"])
def test_masks_are_respected_and_deaths_end_an_agents_return(algorithm: str, make_survival: MakeExperiment) -> None:
    overrides = ["experiment.gamma=0.9", "experiment.on_policy_minibatch_size=40", "task.food_energy=0"]
    experiment = make_survival(f"algorithm={algorithm}", *overrides)
    keep = Keep()
    experiment.callbacks.append(keep)
    experiment.run()
    agents, after = keep.collected["agents"], keep.collected["next", "agents"]
    assert agents["action_mask"].gather(-1, agents["action"].unsqueeze(-1)).all()
    died = agents["alive"] & ~after["alive"]
    assert died.any()
    assert torch.equal(after["terminated"].squeeze(-1), ~after["alive"])
    if algorithm == "ippo":
        # Without bootstrap nor a trace to later rows, the target of the last living step is its reward
        trained = keep.trained["agents"]
        last = trained["alive"] & ~keep.trained["next", "agents", "alive"]
        target, reward = trained["value_target"][last], keep.trained["next", "agents", "reward"][last]
        torch.testing.assert_close(target, reward)
    if algorithm == "himppo":
        trained = keep.trained["agents"]
        assert torch.equal(trained["actor_mask"].squeeze(-1), trained["alive"])


def test_the_hierarchy_reads_positions_and_deaths(make_survival: MakeExperiment) -> None:
    experiment = make_survival("algorithm=himppo")
    inputs = experiment.algorithm.hierarchies["agents"].inputs
    assert (inputs.position_source, inputs.alive_source) == (PositionSource("position"), AliveSource("alive"))
    assert inputs.observation_keys == ("observation",)
    experiment.close()


def test_mean_life_is_logged(make_survival: MakeExperiment) -> None:
    """With food that does not feed everybody lives for exactly their energy."""
    experiment = make_survival("algorithm=ippo", "task.food_energy=0")
    experiment.run()
    for phase in ("collection", "eval"):
        (file,) = experiment.folder_name.rglob(f"{phase}_agents_life_mean.csv")
        assert [float(row.split(",")[1]) for row in file.read_text().split()] == [6.0, 6.0], phase
    trained = load_trained(experiment.folder_name, 3)
    assert play(trained, seed=0).metrics["life_mean"].tolist() == [6.0, 6.0, 6.0]
    trained.close()


def test_another_number_of_agents_is_refused_with_a_sentence(make_survival: MakeExperiment) -> None:
    experiment = make_survival("algorithm=himppo", "experiment.evaluation=false")
    experiment.run()
    with pytest.raises(CheckpointError, match=r"does not fit this task: its parameter .* Sizes of observation"):
        load_trained(experiment.folder_name, 2, ["task.n_agents=5"])


# Pictures


def colour_at(picture: torch.Tensor, row: int, column: int, right: int = 12, down: int = 20) -> tuple[int, ...]:
    return tuple(picture[row * CELL + down, column * CELL + right].tolist())


def test_a_picture_shows_foods_clusters_energy_and_deaths() -> None:
    env = make(SURVIVAL, n_envs=1, field_size=[4, 6], n_foods=1)
    dead = torch.tensor([[True, True, False]])
    state = board(env.config, [(0, 0, 1), (3, 5, 12), (2, 0, 2)], [(1, 3, 3)], alive=dead)
    env.state = state._replace(energy=torch.tensor([[40.0, 10.0, 0.0]], dtype=torch.float64))
    picture = env.render(clusters=torch.tensor([0, 1, 1]))
    assert (picture.shape, picture.dtype) == ((4 * CELL, 6 * CELL, 3), torch.uint8)
    assert colour_at(picture, 1, 3, right=9) == FOOD
    assert colour_at(picture, 0, 0, right=8) == CLUSTERS[0]
    assert colour_at(picture, 3, 5, right=6) == CLUSTERS[1]
    assert colour_at(picture, 2, 0, right=12, down=12) == DEAD
    bars = [
        [colour_at(picture, row, column, x, CELL - 4) for x in range(4, CELL - 3)] for row, column in [(0, 0), (3, 5)]
    ]
    assert len(set(bars[0])) == 1
    assert bars[1].count(bars[0][0]) == round((CELL - 7) / 4)
    assert not torch.equal(picture, env.render())
    act(env, NONE)
    with pytest.raises(ValueError, match="rgb_array"):
        env.render(mode="human")


def test_evaluations_are_filmed_without_a_display(make_survival: MakeExperiment, monkeypatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    experiment = make_survival("algorithm=himppo", "experiment.render=true")
    experiment.run()
    films = list(experiment.folder_name.rglob("videos/*.mp4"))
    assert len(films) == 2
    assert all(film.stat().st_size > 1_000 for film in films)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_everything_runs_on_a_gpu() -> None:
    env = LbfEnv(LbfwsConfig(**vars(SURVIVAL)), 16, 0, "cuda")
    check_env_specs(env)
    rollout = env.rollout(50, break_when_any_done=False)
    assert rollout["next", "agents", "reward"].device.type == "cuda"


def test_rewards_are_normalised_by_the_loaders_where_a_board_began_without_food() -> None:
    """Food of level 2 that came later, loaded by agents of levels 1 and 1: 1 each, by the levels of both."""
    env = make(n_agents=2, n_foods=1)
    env.state = board(env.config, [(2, 1, 1), (2, 3, 1)], [(2, 2, 2)], spawned=torch.tensor([0]))
    state = env.state
    loading = load(state, torch.full((1, 2), LOAD), torch.ones(1, 2, 1, dtype=torch.bool), env.config)
    assert loading.reward.tolist() == [[1.0, 1.0]]


def test_a_reset_of_no_environment_changes_nothing() -> None:
    """Right after a reset of all, when there is no stock yet."""
    env = make(n_envs=2)
    before = env.state
    env.reset(TensorDict({"_reset": torch.zeros(2, 1, dtype=torch.bool)}, [2]))
    assert env.state is before
