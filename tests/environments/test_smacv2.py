"""SMACv2's tasks: what the package reads of them, how it trains on them with a FAKE of the game, and what they need.

The fake is `tests/support/fake_starcraft`; no test here says anything about learning. Tests of the game itself have the
marker `needs_sc2` and are skipped where it is not installed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from benchmarl.environments import Smacv2Task, TaskClass
from benchmarl.experiment import Experiment
from support.callbacks import KeepBatches
from support.sweeps import FINGERPRINT, run_here
from support.tiny_overrides import SMALL
from tensordict import TensorDictBase
from torchrl.envs import EnvBase
from torchrl.envs.libs import smacv2 as torchrl_smacv2
from torchrl.envs.utils import check_env_specs

from benchmarl_himpo.environments import known_alive, known_position
from benchmarl_himpo.environments.smacv2 import missing_game
from benchmarl_himpo.harness import checks
from benchmarl_himpo.harness.commands import evaluate, report, resume, sweep
from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.harness.records.record import load_record
from benchmarl_himpo.harness.runs.checkpoint import list_checkpoints
from benchmarl_himpo.harness.runs.training import load_experiment
from benchmarl_himpo.harness.sweeps.engines import ENGINES
from benchmarl_himpo.hierarchy.group_inputs import AliveSource, PositionSource
from benchmarl_himpo.hierarchy.keys import HierarchyKeys

FAKE = Path(__file__).parents[1] / "support" / "fake_starcraft"
RACES = ("protoss", "terran", "zerg")
TASK = "smacv2/protoss_5_vs_5"
WORKERS = HierarchyKeys("agents")[0]


def install_protobuf(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the checks see protobuf in a version, with its own implementation."""
    find_spec, version_of = checks.find_spec, checks.version
    spec = ModuleSpec("google.protobuf", None, origin="made up")
    monkeypatch.setattr(checks, "find_spec", lambda name: spec if name == spec.name else find_spec(name))
    monkeypatch.setattr(checks, "version", lambda name: version if name == "protobuf" else version_of(name))
    monkeypatch.delenv("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", raising=False)


@pytest.fixture
def fake_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where PySC2 would find the game: files of the right names with nothing in them."""
    game = tmp_path / "StarCraftII"
    (game / "Versions" / "Base75689").mkdir(parents=True)
    (game / "Maps" / "SMAC_Maps").mkdir(parents=True)
    (game / "Maps" / "SMAC_Maps" / "32x32_flat.SC2Map").touch()
    monkeypatch.setenv("SC2PATH", str(game))
    return game


@pytest.fixture
def fake_game(fake_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The fake, to be imported as the package `smacv2` is."""

    def forget() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "smacv2"]:
            del sys.modules[name]

    forget()
    monkeypatch.syspath_prepend(FAKE)
    monkeypatch.setattr(torchrl_smacv2, "_has_smacv2", True)
    monkeypatch.setenv("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
    import smacv2.env

    yield smacv2.env
    forget()


@pytest.fixture
def make_fake(fake_game: ModuleType, tmp_path: Path) -> Callable[..., Experiment]:
    """Build an experiment as the command does, in two fake games and one for evaluations."""

    def make(*overrides: str) -> Experiment:
        given = [*SMALL, f"experiment.save_folder={tmp_path}", f"task={TASK}", "algorithm=himppo"]
        cfg = compose([*given, *overrides], return_hydra_config=True)
        return load_experiment(cfg, cfg.hydra.runtime.choices)

    return make


def load_task(name: str, **options: Any) -> TaskClass:
    task = Smacv2Task[name.upper()].get_task()
    task.config |= options
    return task


def make_env(task: TaskClass) -> EnvBase:
    return task.get_env_fun(num_envs=1, continuous_actions=False, seed=0, device="cpu")()


def positions_and_lives(env: EnvBase, task: TaskClass, td: TensorDictBase) -> tuple[torch.Tensor, torch.Tensor]:
    """What the package reads, position and who lives."""
    source = known_position("smacv2", task.name.lower(), task.config)
    assert source is not None
    alive = known_alive("smacv2")
    assert alive is not None
    return PositionSource.parse(source).read(td["agents"]), AliveSource.parse(alive).read(td["agents"])


# What is read


@pytest.mark.parametrize(
    "options",
    [{}, {"conic_fov": True}, {"obs_timestep_number": True}, {"conic_fov": True, "obs_timestep_number": True}],
    ids=str,
)
@pytest.mark.parametrize("race", RACES)
def test_positions_and_deaths_are_read_from_the_fake_as_it_has_them(
    race: str, options: dict[str, Any], fake_game: ModuleType
) -> None:
    task = load_task(f"{race}_10_vs_11", **options)
    env = make_env(task)
    td, n_dead = env.reset(), 0
    for _ in range(4 * 15):
        td = env.step(env.rand_action(td))["next"]
        position, alive = positions_and_lives(env, task, td)
        is_alive = torch.from_numpy(env.is_alive[:10])
        assert torch.equal(alive, is_alive)
        true = torch.from_numpy(env.position[:10]).float() * is_alive.unsqueeze(-1)
        torch.testing.assert_close(position, true)
        n_dead += int((~alive).sum())
        td = env.reset() if td["done"] else td
    assert 0 < n_dead < 4 * 15 * 10


@pytest.mark.parametrize("options", [{}, {"obs_own_pos": False, "map_name": "10gen_zerg"}, {"obs_own_pos": True}])
def test_where_no_position_is_observed_none_is_known(options: dict[str, Any]) -> None:
    """Fixed teams, of maps such as 3m, have other numbers of unit types."""
    assert known_position("smacv2", "zerg_5_vs_5", {"map_name": "3m", **options}) is None


def test_everything_of_the_fake_has_the_sizes_and_the_place_that_smacv2_gives_it(fake_game: ModuleType) -> None:
    """Sizes are those of SMACv2 1.0.0; reward and end are the whole team's, and no entry says that time is up."""
    sizes = {}
    for race in RACES:
        for teams in ("5_vs_5", "10_vs_10", "10_vs_11"):
            env = make_env(load_task(f"{race}_{teams}"))
            check_env_specs(env)
            td = env.rand_step(env.reset())["next"]
            assert {"reward", "done", "terminated"} <= set(td.keys()) and "truncated" not in td.keys()
            assert td["reward"].shape == td["done"].shape == (1,)
            assert set(td["agents"].keys()) == {"observation", "action_mask"}
            shapes = (td["agents", "observation"], td["state"], td["agents", "action_mask"])
            sizes[race, teams] = tuple(entry.shape[-1] for entry in shapes)
    assert sizes == {
        ("protoss", "5_vs_5"): (92, 130, 11),
        ("protoss", "10_vs_10"): (182, 310, 16),
        ("protoss", "10_vs_11"): (191, 327, 17),
        ("terran", "5_vs_5"): (82, 120, 11),
        ("terran", "10_vs_10"): (162, 290, 16),
        ("terran", "10_vs_11"): (170, 306, 17),
        ("zerg", "5_vs_5"): (82, 120, 11),
        ("zerg", "10_vs_10"): (162, 290, 16),
        ("zerg", "10_vs_11"): (170, 306, 17),
    }


def test_the_end_of_the_time_counts_as_the_end_of_the_battle_in_the_fake(fake_game: ModuleType) -> None:
    """As in SMACv2, which tells it in `info` where `task.continuing_episode=true`; TorchRL terminates all the same."""
    for continuing in (False, True):
        task = load_task("protoss_5_vs_5", continuing_episode=continuing)
        env = make_env(task)
        ends = []
        for _ in range(30):
            last = env.rollout(100)[-1]["next"]
            assert last["terminated"] and last["done"]
            ends.append((bool(last["info", "battle_won"]), int(last["info", "dead_allies"]) == 5))
            is_undecided = ends[-1] == (False, False) and last["info", "dead_enemies"] < 5
            assert bool(last["info", "episode_limit"]) == (continuing and bool(is_undecided))
        assert {(True, False), (False, True), (False, False)} <= set(ends)  # won, lost, undecided


# Training with the fake


@pytest.mark.parametrize("name", ["himppo", "himppo_flat"])
def test_dead_units_of_the_fake_neither_train_nor_speak(name: str, make_fake: Callable[..., Experiment]) -> None:
    """Nothing of the living changes with what the dead see: graph, goals, actions, credit, values and losses.

    The dead of this task see zeros, and what is put in their place changes positions too.
    """
    keep = KeepBatches()
    experiment = make_fake(f"algorithm={name}")
    experiment.callbacks.append(keep)
    keep.experiment = experiment
    experiment.run()
    batch = keep.batches[-1]
    is_alive = batch.get(("agents", "action_mask"))[..., 0].logical_not()
    assert 0.3 < is_alive.float().mean() < 1
    changed = batch.clone()
    for data in (changed, changed.get("next")):
        observation, is_dead = data.get(("agents", "observation")), data.get(("agents", "action_mask"))[..., 0]
        observation[is_dead] = torch.rand_like(observation)[is_dead]

    graphs, decided, processed, losses = [], [], [], []
    for data in (batch, changed):
        torch.manual_seed(0)
        with torch.no_grad():
            decided.append(experiment.policy[0](data.clone()))
        graphs.append(experiment.policy[0].hierarchy.graph(decided[-1]))
        torch.manual_seed(0)  # goals after the cut at the end are drawn
        processed.append(experiment.algorithm.process_batch("agents", data.clone()))
        losses.append(experiment.losses["agents"](processed[-1].reshape(-1)))
    assert torch.equal(graphs[0].alive, is_alive)
    assert torch.equal(*(data.get(WORKERS.action)[is_alive] for data in decided))
    for level, edges in graphs[0].adjacency.items():
        assert torch.equal(edges, graphs[1].adjacency[level])
    assert not graphs[0].adjacency[0][~is_alive].any() and not graphs[0].adjacency[0].mT[~is_alive].any()
    for parents, others in zip(graphs[0].parent_index[:1], graphs[1].parent_index[:1], strict=True):
        assert torch.equal(parents[is_alive], others[is_alive])
    for mask in (WORKERS.actor_mask, WORKERS.critic_mask):
        assert torch.equal(processed[0].get(mask).squeeze(-1), is_alive)
    for level in range(experiment.policy[0].hierarchy.layout.n_levels):
        keys = HierarchyKeys("agents")[level]
        for key in (keys.advantage, keys.value_target):
            first, second = (data.get(key)[is_alive] if level == 0 else data.get(key) for data in processed)
            torch.testing.assert_close(first, second)
    for loss in losses[0].keys():
        torch.testing.assert_close(losses[0][loss], losses[1][loss], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("task", "algorithm"),
    [
        ("protoss_5_vs_5", "himppo"),
        pytest.param("terran_5_vs_5", "himppo", marks=pytest.mark.slow),
        pytest.param("zerg_10_vs_10", "himppo", marks=pytest.mark.slow),
        pytest.param("protoss_10_vs_11", "himppo", marks=pytest.mark.slow),
        pytest.param("protoss_5_vs_5", "himppo_flat", marks=pytest.mark.slow),
        pytest.param("protoss_5_vs_5", "mappo", marks=pytest.mark.slow),
        pytest.param("protoss_5_vs_5", "ippo", marks=pytest.mark.slow),
        ("protoss_5_vs_5", "qmix"),
    ],
)
def test_the_command_trains_on_the_fake(
    task: str, algorithm: str, fake_game: ModuleType, call_command: Callable[..., Any], tmp_path: Path
) -> None:
    """The fake raises where an action is taken that its mask forbids; win rates are logged as BenchMARL does."""
    done = call_command(f"task=smacv2/{task}", f"algorithm={algorithm}", *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (scalars,) = tmp_path.glob("outputs/*/*/*/*/scalars")
    win_rates = (scalars / "collection_info_win_rate.csv").read_text().splitlines()
    assert len(win_rates) == 2
    assert all(0 <= float(line.split(",")[1]) <= 1 for line in win_rates)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:smacv2 cannot be seeded")
def test_every_command_takes_runs_on_the_fake(
    make_fake: Callable[..., Experiment],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A sweep over two algorithms and its report; one run evaluated and resumed, whose environments begin anew."""
    monkeypatch.setattr(sweep, "fingerprint", lambda: FINGERPRINT)
    monkeypatch.setitem(ENGINES, "here", run_here)
    folder = tmp_path / "sweep"
    given = [*SMALL, f"task={TASK}", "algorithm=himppo,mappo", "seed=0,1", "absolute_metric_episodes=3"]
    sweep.main([f"folder={folder}", "engine=here", *given])
    records = [load_record(file) for file in folder.glob("*/record.json")]
    assert [record.task for record in records] == [TASK] * 4
    report.main([str(folder), "repetitions=200"])
    assert TASK in (folder / "report" / "report.csv").read_text()
    (run,) = folder.glob("himppo-*-s0-*/himppo_*")
    evaluate.main([str(run), "episodes=2"])
    capsys.readouterr()
    resume.resume(run, ["experiment.max_n_frames=120"])
    assert "environments that began new episodes" in capsys.readouterr().out
    assert list_checkpoints(run / "checkpoints")[0].name == "checkpoint_120.pt"


@pytest.mark.slow
def test_fake_games_may_run_in_processes_of_their_own(make_fake: Callable[..., Experiment]) -> None:
    experiment = make_fake("experiment.parallel_collection=true")
    experiment.run()
    assert experiment.total_frames == 80


def test_a_fake_game_that_dies_ends_the_run_with_what_it_said(
    make_fake: Callable[..., Experiment], fake_game: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first checkpoint; every game that was begun is closed, and the run goes on from there."""
    begin, step, games = fake_game.StarCraft2Env.reset, fake_game.StarCraft2Env.step, set()

    def begin_and_tell(game: Any) -> Any:
        games.add(game)
        return begin(game)

    monkeypatch.setattr(fake_game.StarCraft2Env, "reset", begin_and_tell)
    experiment = make_fake()
    checkpoints = Path(experiment.folder_name) / "checkpoints"

    def die_later(game: Any, actions: Any) -> Any:
        if list_checkpoints(checkpoints):
            raise ConnectionError("the game is gone")
        return step(game, actions)

    monkeypatch.setattr(fake_game.StarCraft2Env, "step", die_later)
    with pytest.raises(ConnectionError, match="the game is gone"):
        experiment.run()
    assert len(games) >= 3 and all(game.is_closed for game in games)
    assert [file.name for file in list_checkpoints(checkpoints)] == ["checkpoint_40.pt"]
    monkeypatch.setattr(fake_game.StarCraft2Env, "step", step)
    resume.resume(Path(experiment.folder_name), [])
    assert list_checkpoints(checkpoints)[0].name == "checkpoint_80.pt"


# What has to be installed


def test_all_that_is_missing_is_named_in_one_sentence_before_anything_is_built(
    call_command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "smacv2", None)
    install_protobuf("7.36.2", monkeypatch)
    monkeypatch.setenv("SC2PATH", str(tmp_path / "game"))
    done = call_command(f"task={TASK}", "algorithm=himppo", *SMALL, cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr and not [*tmp_path.glob("outputs/*/*/himppo_*")]
    (said,) = (line for line in done.stderr.splitlines() if line.startswith("task="))
    assert said.startswith(f"task={TASK} needs smacv2 (not installed), protobuf<3.21 (7.36.2 is installed), StarCraft")
    for needed in (
        "pip install 'git+https://github.com/oxwhirl/smacv2' 'protobuf<3.21' (or set PROTOCOL_BUFFERS_",
        "https://github.com/Blizzard/s2client-proto",
        "SC2PATH",
        str(tmp_path / "game" / "Maps" / "SMAC_Maps"),
        "https://github.com/oxwhirl/smacv2/releases/tag/maps",
    ):
        assert needed in said


@pytest.mark.parametrize(
    ("missing", "named", "not_named"),
    [
        ("Versions/Base75689", ("StarCraft II", "SC2PATH"), ("pip", "SMAC_Maps")),
        ("Maps/SMAC_Maps/32x32_flat.SC2Map", ("32x32_flat.SC2Map", "SMAC_Maps.zip"), ("pip", "SC2PATH")),
        ("smacv2", ("smacv2 (not installed)", "pip install 'git+https"), ("protobuf", "SC2PATH", "SMAC_Maps")),
        ("protobuf", ("protobuf<3.21 (4.21.0 is installed)", "pip install 'protobuf<3.21'"), ("oxwhirl", "SC2PATH")),
    ],
)
def test_what_alone_is_missing_is_named_alone(
    missing: str,
    named: tuple[str, ...],
    not_named: tuple[str, ...],
    fake_game: ModuleType,
    fake_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checks.check_task(TASK)  # all is there
    if missing == "smacv2":
        monkeypatch.setitem(sys.modules, "smacv2", None)
    elif missing == "protobuf":
        install_protobuf("4.21.0", monkeypatch)
    else:
        (fake_folder / missing).rename(fake_folder / "elsewhere")
    with pytest.raises(checks.RequestError) as error:
        checks.check_task(TASK)
    assert [name for name in named if name not in str(error.value)] == []
    assert [name for name in not_named if name in str(error.value).replace(str(fake_folder), "")] == []


def test_without_sc2path_the_game_is_looked_for_where_pysc2_does(
    monkeypatch: pytest.MonkeyPatch, fake_folder: Path
) -> None:
    """On Linux in the home folder; elsewhere PySC2 finds it by other means."""
    monkeypatch.delenv("SC2PATH")
    monkeypatch.setenv("HOME", str(fake_folder.parent))
    assert missing_game() == {}
    monkeypatch.setenv("HOME", str(fake_folder))
    monkeypatch.setattr(sys, "platform", "linux")
    assert [str(fake_folder / "StarCraftII") in what for what in missing_game()] == [True, True]
    monkeypatch.setattr(sys, "platform", "win32")
    assert missing_game() == {}


# The game itself


@pytest.mark.needs_sc2
@pytest.mark.parametrize("race", RACES)
def test_positions_and_deaths_are_read_from_the_game_as_it_has_them(race: str) -> None:
    task = load_task(f"{race}_5_vs_5")
    env = make_env(task)
    try:
        td, n_dead = env.reset(), 0
        while not td["done"]:
            td = env.step(env.rand_action(td))["next"]
            position, alive = positions_and_lives(env, task, td)
            units = [env.agents[agent] for agent in range(5)]
            assert alive.tolist() == [unit.health > 0 for unit in units]
            true = [[unit.pos.x / env.map_x, unit.pos.y / env.map_y] if unit.health > 0 else [0, 0] for unit in units]
            torch.testing.assert_close(position, torch.tensor(true))
            n_dead += int((~alive).sum())
        assert n_dead > 0
    finally:
        env.close()


@pytest.mark.needs_sc2
@pytest.mark.slow
@pytest.mark.parametrize("teams", ["5_vs_5", "10_vs_10", "10_vs_11"])
@pytest.mark.parametrize("race", RACES)
def test_the_command_trains_on_the_game(
    race: str, teams: str, call_command: Callable[..., Any], tmp_path: Path
) -> None:
    done = call_command(f"task=smacv2/{race}_{teams}", "algorithm=himppo", *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
