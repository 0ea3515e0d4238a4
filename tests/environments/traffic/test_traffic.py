"""The traffic signals against SUMO itself: specs, seeds, rewards, graph, scripts; deaths of simulations; training."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from benchmarl.experiment import Callback, Experiment
from support.sweeps import FINGERPRINT, run_here
from support.tiny_overrides import SMALL
from tensordict import TensorDict
from torchrl.envs.utils import check_env_specs

from benchmarl_himpo.environments.traffic.environment import NEEDED, TrafficEnv
from benchmarl_himpo.environments.traffic.options import TrafficConfig
from benchmarl_himpo.environments.traffic.scripts import fixed_time, queue_greedy, scripted_policies
from benchmarl_himpo.environments.traffic.simulator import WORKER, Simulator, SimulatorError
from benchmarl_himpo.environments.traffic.task import TrafficTask
from benchmarl_himpo.harness.commands import evaluate, report, resume, sweep
from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.harness.evaluation.episodes import read_returns
from benchmarl_himpo.harness.records.record import load_record
from benchmarl_himpo.harness.runs.checkpoint import list_checkpoints
from benchmarl_himpo.harness.runs.training import CommandError, load_experiment, run_to_end
from benchmarl_himpo.harness.sweeps.engines import ENGINES
from benchmarl_himpo.hierarchy import RegionsClustering

pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in NEEDED),
    reason="SUMO is not installed: pip install 'benchmarl_himpo[traffic]'",
)

MakeExperiment = Callable[..., Experiment]
SHORT = TrafficConfig(
    delta_seconds=5, yellow_seconds=2, min_green_seconds=5, episode_seconds=300, reward="queue"
)  # 60 steps
QUADRANTS = ["algorithm.n_nodes=[4,1]", "algorithm.clustering={name:regions,arena:[0,1]}"]
ROADS = ["algorithm.neighbours=edges"]


@pytest.fixture(scope="module")
def shared_env() -> Iterator[TrafficEnv]:
    """Two simulations for all tests that leave them alive."""
    env = TrafficEnv(SHORT, 2, seed=0)
    yield env
    env.close()


@pytest.fixture
def env(shared_env: TrafficEnv) -> TrafficEnv:
    """The same, at the start of its random numbers."""
    shared_env.set_seed(0)
    return shared_env


@pytest.fixture
def make_traffic(tmp_path: Path) -> MakeExperiment:
    """Tiny experiments of two simulations, and two more for evaluations, on episodes of 20 steps."""

    def make(*overrides: str) -> Experiment:
        folder = f"experiment.save_folder={tmp_path / 'runs'}"
        own = ["task=traffic/grid4x4", "task.episode_seconds=100", folder]
        cfg = compose([*SMALL, *own, *overrides], return_hydra_config=True)
        return load_experiment(cfg, cfg.hydra.runtime.choices)

    return make


def is_running(pid: int) -> bool:
    """Whether a process runs: one that ended and that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for_the_end_of(pids: list[int], seconds: float = 10.0) -> bool:
    """Whether all of some processes end in time."""
    until = time.monotonic() + seconds
    while any(map(is_running, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(is_running, pids))


# The environment


def test_specs_hold_and_networks_see_the_observation_alone(env: TrafficEnv) -> None:
    check_env_specs(env)
    task = TrafficTask.GRID4X4.get_task()
    assert set(task.observation_spec(env)["agents"].keys()) == {"observation"}
    assert set(env.full_observation_spec["agents"].keys()) == {"observation", "position", "edges", "waiting"}
    assert env.full_observation_spec["agents", "observation"].shape == (2, 16, 33)  # 8 greens, 1, 12 lanes twice
    assert env.full_action_spec["agents", "action"].space.n == 8
    assert task.group_map(env) == {"agents": [f"{row}{column}" for row in "ABCD" for column in range(4)]}
    assert task.action_mask_spec(env) is None and task.state_spec(env) is None


def test_the_graph_is_that_of_the_roads_and_regions_are_its_quadrants(env: TrafficEnv) -> None:
    """A grid: roads lead to the next signals along both axes; a quadrant is two by two signals."""
    agents = env.reset()["agents"]
    position, edges = agents["position"][0], agents["edges"][0]
    torch.testing.assert_close(position.unique(), torch.tensor([0.0, 1 / 3, 2 / 3, 1.0]))
    assert torch.equal(edges, (torch.cdist(position, position) - 1 / 3).abs() < 1e-3)
    assert edges.sum() == 48
    assert torch.equal(agents["edges"][1], edges)
    index, _ = RegionsClustering((0.0, 1.0))(position, torch.ones(16), torch.zeros(4, 2), torch.tensor(True))
    assert index.bincount().tolist() == [4, 4, 4, 4]
    for cluster in range(4):
        inside = edges[index == cluster][:, index == cluster]
        assert inside.sum(-1).tolist() == [2, 2, 2, 2]


def test_the_same_seed_gives_the_same_episodes_and_no_two_are_alike(env: TrafficEnv) -> None:
    def play() -> TensorDict:
        torch.manual_seed(0)
        return torch.stack([env.rollout(60) for _ in range(2)])  # [episode, env, T]

    first, second = play(), play()
    env.set_seed(0)
    again = play()
    assert torch.equal(first["next", "agents", "observation"], again["next", "agents", "observation"])
    assert torch.equal(first["next", "agents", "reward"], again["next", "agents", "reward"])
    assert not torch.equal(first["next", "agents", "observation"], second["next", "agents", "observation"])
    assert not torch.equal(first[0, 0, -1]["agents", "observation"], first[0, 1, -1]["agents", "observation"])
    assert not torch.equal(first[0, :, -1]["agents", "observation"], first[1, :, -1]["agents", "observation"])


def test_each_simulation_is_what_it_is_alone(env: TrafficEnv) -> None:
    """SUMO with the seed that the environment drew, and the same actions."""
    seed = int(torch.randint(2**31 - 1, (2,), generator=torch.Generator().manual_seed(0))[1])
    torch.manual_seed(0)
    rollout = env.rollout(30)[1]
    alone = Simulator(vars(SHORT))
    alone.receive()  # it was built
    alone.send("reset", seed)
    torch.testing.assert_close(rollout["agents", "observation"][0], torch.tensor(alone.receive()["observation"]))
    for td in rollout:
        alone.send("step", td["agents", "action"].tolist())
        answer = alone.receive()
        torch.testing.assert_close(td["next", "agents", "observation"], torch.tensor(answer["observation"]))
        torch.testing.assert_close(td["next", "agents", "reward"].squeeze(-1), torch.tensor(answer["reward"]))
    alone.close()


def test_the_reward_is_minus_the_queue_and_the_episode_ends_by_truncation(env: TrafficEnv) -> None:
    rollout = env.rollout(60, break_when_any_done=False)
    after = rollout["next"]
    reward = after["agents", "reward"].squeeze(-1)
    steps = torch.arange(1, 61).view(1, 60, 1)
    torch.testing.assert_close(after["agents", "waiting"], -reward.cumsum(1) / steps)
    assert (reward <= 0).all() and reward.sum() < -100
    ends = [False] * 59 + [True]
    assert after["truncated"].squeeze(-1).tolist() == after["done"].squeeze(-1).tolist() == [ends, ends]
    assert not after["terminated"].any()


def test_some_simulations_begin_anew_while_others_go_on(env: TrafficEnv) -> None:
    before = env.rollout(10)[:, -1]["next"].exclude(("agents", "reward"))
    reset = env.reset(before.clone().set("_reset", torch.tensor([[True], [False]])))
    assert torch.equal(reset["agents", "observation"][1], before["agents", "observation"][1])
    assert torch.equal(reset["agents", "waiting"][1], before["agents", "waiting"][1])
    assert not reset["agents", "waiting"][0].any() and before["agents", "waiting"][0].any()  # an empty network
    assert env.step_count.tolist() == [0, 10]


# Scripts


def test_the_clock_follows_the_programs_of_the_network(env: TrafficEnv) -> None:
    td = env.reset()
    program = env.layout["program"][0]
    greens = [fixed_time(td["agents", "observation"], env)[0, 0].item()]
    policy = scripted_policies(env)["fixed_time"]
    for _ in range(59):
        td = env.step(policy(td))["next"]
        greens.append(fixed_time(td["agents", "observation"], env)[0, 0].item())
    expected = [green for green, seconds in program for _ in range(max(1, round(seconds / 5)))]
    assert greens == (expected * 60)[:60]
    assert len({green for green, _ in program}) > 1


def test_the_greedy_script_serves_the_longest_queue_and_changes_for_a_longer_one_alone(env: TrafficEnv) -> None:
    serves = torch.tensor(env.layout["serves"])[0]  # [greens, lanes]
    observation = torch.zeros(1, 16, 33)
    observation[..., 3] = 1.0  # the green that is shown
    assert (queue_greedy(observation, env) == 3).all()
    for lane in range(12):
        queued = observation.clone()
        queued[:, 0, -12 + lane] = 0.5
        action = queue_greedy(queued, env)
        assert serves[action[0, 0], lane]
        assert (action[0, 1:] == 3).all()
    assert serves.any(0).all()


def test_queues_are_shortest_under_the_greedy_script_and_longest_at_random(env: TrafficEnv) -> None:
    returns = {}
    for name, policy in scripted_policies(env).items():
        env.set_seed(1)
        returns[name] = read_returns(env.rollout(60, policy), ["agents"]).per_agent.mean().item()
    assert returns["queue_greedy"] > 0.5 * returns["fixed_time"] > returns["random"]


# Processes


def test_a_simulation_that_dies_ends_the_others_and_says_how() -> None:
    env = TrafficEnv(SHORT, 2, seed=0)
    pids = env.pids
    td = env.rand_action(env.reset())
    os.kill(pids[1], signal.SIGKILL)
    with pytest.raises(SimulatorError, match="SUMO failed: its process was killed by signal 9"):
        env.step(td)
    assert wait_for_the_end_of(pids)


def test_an_error_of_the_simulator_is_what_is_said() -> None:
    env = TrafficEnv(SHORT, 1, seed=0)
    env.rollout(3)
    action = TensorDict({"agents": TensorDict({"action": torch.full((1, 16), 99)}, [1, 16])}, [1])
    with pytest.raises(SimulatorError, match=r"SUMO failed: KeyError: .*99"):
        env.step(action)
    assert wait_for_the_end_of(env.pids)


def test_no_simulation_outlives_the_process_that_started_it() -> None:
    """One waits for a request and one is in the middle of an answer when their parent is killed."""
    program = (
        f"import sys, time; sys.path.insert(0, {str(WORKER.parent)!r})\n"  # without the seconds of importing torch
        "from simulator import Simulator\n"
        f"simulators = [Simulator({vars(SHORT)}) for _ in range(2)]\n"
        "for simulator in simulators: simulator.receive()\n"
        "simulators[0].send('reset', 1)\n"
        "print(*(simulator.pid for simulator in simulators), flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2 and all(map(is_running, pids))
        parent.kill()
        assert wait_for_the_end_of(pids)


def test_closing_ends_all_simulations() -> None:
    env = TrafficEnv(SHORT, 1, seed=0)
    assert all(map(is_running, env.pids))
    env.close()
    assert not any(map(is_running, env.pids))
    with pytest.raises(SimulatorError, match="it was closed before"):
        env.reset()


# Training


@pytest.mark.parametrize(
    "algorithm",
    [
        "himppo",
        pytest.param("himppo_flat", marks=pytest.mark.slow),
        pytest.param("mappo", marks=pytest.mark.slow),
        pytest.param("ippo", marks=pytest.mark.slow),
        pytest.param("qmix", marks=pytest.mark.slow),
    ],
)
def test_every_kind_of_algorithm_trains(algorithm: str, make_traffic: MakeExperiment) -> None:
    """HiMPPO with quadrants under four sub-managers and one manager, on the graph of the roads."""
    options = {"himppo": [*QUADRANTS, *ROADS], "himppo_flat": ROADS}.get(algorithm, [])
    experiment = make_traffic(f"algorithm={algorithm}", *options)
    experiment.run()
    assert experiment.total_frames == 80
    waiting, returns = (
        [float(row.split(",")[1]) for row in file.read_text().split()]
        for name in ("agents_waiting_mean", "reward_episode_reward_mean")
        for file in experiment.folder_name.rglob(f"collection_{name}.csv")
    )
    assert waiting == pytest.approx([-value / 20 for value in returns], rel=1e-4)
    experiment.close()


@pytest.mark.slow
def test_every_command_takes_runs_on_signals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A sweep over two algorithms with its report; one of its runs evaluated and made longer."""
    monkeypatch.setattr(sweep, "fingerprint", lambda: FINGERPRINT)
    monkeypatch.setitem(ENGINES, "here", run_here)
    folder = tmp_path / "sweep"
    given = [*SMALL, "task=traffic/grid4x4", "task.episode_seconds=100", "algorithm=himppo_flat,ippo", "seed=0"]
    sweep.main([f"folder={folder}", "engine=here", *given, "absolute_metric_episodes=2"])
    records = [load_record(file) for file in folder.glob("*/record.json")]
    assert [record.task for record in records] == ["traffic/grid4x4"] * 2
    report.main([str(folder), "repetitions=200"])
    assert "traffic/grid4x4" in (folder / "report" / "report.csv").read_text()
    (run,) = folder.glob("himppo_flat-*/himppoflat_*")
    evaluate.main([str(run), "episodes=2"])
    assert "return over 2 episodes" in capsys.readouterr().out
    resume.resume(run, ["experiment.max_n_frames=120"])
    assert "environments that began new episodes" in capsys.readouterr().out
    assert list_checkpoints(run / "checkpoints")[0].name == "checkpoint_120.pt"


class KillSimulation(Callback):
    """Kills a simulation in the second iteration."""

    def on_train_end(self, training_td, group: str) -> None:
        env = self.experiment.collector.env
        self.pids = [*env.base_env.pids, *self.experiment.test_env.base_env.pids]
        if self.experiment.n_iters_performed == 0:
            return
        os.kill(env.base_env.pids[0], signal.SIGKILL)


def test_a_run_whose_simulation_dies_ends_with_what_it_said_and_can_be_resumed(
    make_traffic: MakeExperiment, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = make_traffic("algorithm=ippo", "experiment.max_n_frames=120", "experiment.evaluation=false")
    kill = KillSimulation()
    kill.experiment = experiment
    experiment.callbacks.append(kill)
    with pytest.raises(CommandError) as error:
        run_to_end(experiment)
    said = str(error.value)
    assert "SUMO failed: its process was killed by signal 9" in said
    assert "checkpoint_80.pt" in said and "benchmarl_himpo.resume" in said
    experiment.close()
    assert wait_for_the_end_of(kill.pids)
    resume.main([str(experiment.folder_name)])
    assert "true, with environments that began new episodes" in capsys.readouterr().out
