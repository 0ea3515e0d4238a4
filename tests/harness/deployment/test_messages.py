"""What each node must receive: worst cases by hand, means against loops over a rollout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from benchmarl.algorithms import IppoConfig, MappoConfig, QmixConfig
from benchmarl.experiment import Experiment
from benchmarl.models import GnnConfig
from support.tiny_experiment import TinyExperiment, algorithm_config
from support.toy_task import ToyTask
from torchrl.envs.utils import ExplorationType, set_exploration_type

from benchmarl_himpo.harness.communication import communication_of
from benchmarl_himpo.harness.deployment import MessageReport
from benchmarl_himpo.harness.deployment.report import format_report
from benchmarl_himpo.hierarchy import Clustering, Neighbours, clustering_registry, neighbours_registry


def watch(experiment: Experiment, n_steps: int = 30) -> tuple[MessageReport, Any]:
    policy = experiment.policy[0]
    report = MessageReport(policy, goal_dim=2)
    with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
        rollout = experiment.test_env.rollout(n_steps, experiment.policy, break_when_any_done=False)
    for td in rollout.unbind(1):
        report.watch(td)
    return report, rollout


def by_name(report: MessageReport) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["receiver"], row["what"].split(",")[0]): row for row in report.rows()}


def test_worst_cases_by_hand(tiny_experiment: TinyExperiment) -> None:
    """Five agents, two sub-managers, one manager; states of 8 numbers, goals of 2; alpha 5, K 2."""
    report, _ = watch(tiny_experiment(algorithm_config("himppo"), ToyTask(n_agents=5)), 1)
    assert [
        (row["receiver"], row["messages_worst"], row["bytes_per_message"], row["every_n_steps"])
        for row in report.rows()
    ] == [
        ("worker", 4, 32, 1),  # states of the others
        ("worker", 1, 8, 5),  # goal
        ("level 1", 1, 32, 5),  # state of the other sub-manager
        ("level 1", 5, 32, 5),  # encodings, all workers in one cluster
        ("level 1", 5, 32, 10),  # encodings for the manager, passed on as a mean and a count
        ("level 1", 1, 8, 10),  # goal
        ("level 2", 2, 36, 10),  # the means and counts
        ("worker", 1, 8, 5),  # index of the sub-manager
        ("centre", 5, 8, 5),  # positions
    ]
    totals = {row["receiver"]: row for row in report.totals()}
    assert totals["worker"]["bytes_per_step_worst"] == pytest.approx(4 * 32 + 8 / 5 + 8 / 5)
    assert totals["worker"]["bytes_peak"] == 4 * 32 + 8 + 8
    assert totals["level 1"]["messages_per_step_worst"] == pytest.approx(1 / 5 + 5 / 5 + 5 / 10 + 1 / 10)
    assert totals["level 2"]["bytes_per_step_worst"] == pytest.approx(2 * 36 / 10)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("himppo_nomsg", {"clustering": "static"}, {"worker": (1 / 5, 8 / 5), "level 1": (None, None)}),
        ("himppo_2l", {"neighbours": {"name": "knn", "k": 2}}, {"worker": (4 + 2 + 2 / 5, 4 * 8 + 2 * 32 + 16 / 5)}),
        ("himppo_flat", {"n_message_rounds": 2}, {"worker": (3 * 4, 3 * 4 * 32)}),  # two rounds, and the team's mean
        ("himppo_flat", {"neighbours": "none", "team_state": False}, {"worker": (0, 0)}),
        ("himppo_2l", {"clustering": "static", "neighbours": "none"}, {"worker": (1 / 5, 8 / 5), "level 1": (1, 32)}),
    ],
)
def test_what_is_not_exchanged_is_not_counted(
    name: str, options: dict, expected: dict, tiny_experiment: TinyExperiment
) -> None:
    report, _ = watch(tiny_experiment(algorithm_config(name, **options), ToyTask(n_agents=5)), 1)
    totals = {row["receiver"]: row for row in report.totals()}
    for receiver, (messages, n_bytes) in expected.items():
        if messages is not None:
            assert totals[receiver]["messages_per_step_worst"] == pytest.approx(messages)
            assert totals[receiver]["bytes_per_step_worst"] == pytest.approx(n_bytes)
    assert ("centre" in totals) == (name == "himppo_2l" and "clustering" not in options)


SHORT_SIGHTED = {"observation": [["observation[0:1]"], None]}


@pytest.mark.parametrize(
    ("name", "options", "flows"),
    [
        # Five agents, two sub-managers, one manager; states of 8 numbers (32 bytes), goals of 2 (8); alpha 5, K 2.
        # Each flow: messages in all per exchange, bytes of one, steps between exchanges
        (
            "himppo",
            {},
            [
                (5 * 4, 32, 1),  # every worker to every other
                (5, 8, 5),  # goals to workers
                (2, 32, 5),  # the two sub-managers
                (5, 32, 5),  # encodings, each to one sub-manager
                (5, 32, 10),  # encodings for the manager
                (2, 36, 10),  # which are passed on
                (2, 8, 10),  # goals to sub-managers
                (5, 8, 5),  # indices from the centre
                (5, 8, 5),  # positions to it
            ],
        ),
        (
            "himppo_sg",  # what superiors see and workers do not goes up in the same encodings
            {"neighbours": ["none", "full"], **SHORT_SIGHTED},
            [(5, 8, 5), (2, 32, 5), (5, 32, 5), (5, 32, 10), (2, 36, 10), (2, 8, 10)],
        ),
        ("himppo_sg", {"neighbours": "none"}, [(5, 8, 5), (5, 32, 5), (5, 32, 10), (2, 36, 10), (2, 8, 10)]),
        (
            "himppo_sg",  # sub-managers stand where their workers do, and have to know where
            {"neighbours": ["none", {"name": "knn", "k": 1}], "n_nodes": [2, 1]},
            [(5, 8, 5), (2, 8, 5), (2, 32, 5), (5, 32, 5), (5, 8, 5), (5, 32, 10), (2, 36, 10), (2, 8, 10)],
        ),
        (
            "himppo_sg",
            {"hidden_dim": [8, 4, 2], "neighbours": "none"},
            [(5, 8, 5), (5, 16, 5), (5, 8, 10), (2, 12, 10), (2, 8, 10)],
        ),
        ("himppo_nogoal", {}, [(5 * 4, 32, 1)]),
        ("himppo_nogoal", {"neighbours": ["none", "full"]}, []),
        ("himppo_flat", {}, [(5 * 4, 32, 1), (5 * 4, 32, 1)]),  # states, and states after messages for the mean
        ("himppo_flat", {"team_state": False, "observation": [["observation[0:1]"]]}, [(5 * 4, 32, 1)]),
        ("himppo_flat", {"neighbours": "none"}, [(5 * 4, 32, 1)]),
        ("himppo_flat", {"neighbours": "none", "team_state": False}, []),
    ],
)
def test_what_acting_takes_per_agent_and_step_by_hand(
    name: str, options: dict, flows: list, tiny_experiment: TinyExperiment
) -> None:
    """All nodes together, over five agents; the same in the record, and while everybody lives in the mean."""
    experiment = tiny_experiment(algorithm_config(name, **options), ToyTask(n_agents=5))
    expected = {
        "messages": sum(n / every for n, _, every in flows) / 5,
        "bytes": sum(n * n_bytes / every for n, n_bytes, every in flows) / 5,
    }
    assert communication_of(experiment) == pytest.approx(expected)
    report, _ = watch(experiment, 12)
    for what, value in expected.items():
        assert report.per_agent()[f"{what}_per_step_worst"] == pytest.approx(value)
        if name != "himppo":  # where a sub-manager may be without workers
            assert report.per_agent()[f"{what}_per_step_mean"] == pytest.approx(value)


def test_intervals_that_change_count_as_they_are_after_training(tiny_experiment: TinyExperiment) -> None:
    annealed, constant = (
        tiny_experiment(algorithm_config("himppo", goal_interval=[5, 2], initial_goal_interval=initial), ToyTask())
        for initial in ([1, 1], None)
    )
    assert annealed.algorithm.hierarchies["agents"].layout.periods == (1, 1, 1)
    assert communication_of(annealed) == communication_of(constant)


def test_the_dead_send_nothing(tiny_experiment: TinyExperiment) -> None:
    """Agents of five die one by one: the mean over the steps of messages between those who live."""
    experiment = tiny_experiment(algorithm_config("himppo_flat", team_state=False), ToyTask(n_agents=5, has_alive=True))
    report, rollout = watch(experiment)
    living = rollout["agents", "alive"].sum(-1).double()
    counted = float((living * (living - 1)).mean()) / 5
    assert report.per_agent()["messages_per_step_mean"] == pytest.approx(counted)
    assert counted < report.per_agent()["messages_per_step_worst"] == 4


@pytest.mark.parametrize("config", [IppoConfig, MappoConfig, QmixConfig])
def test_algorithms_without_levels_exchange_nothing_while_they_act(
    config: type, tiny_experiment: TinyExperiment
) -> None:
    experiment = tiny_experiment(config.get_from_yaml(), prefer_continuous_actions=False)
    assert communication_of(experiment) == {"messages": 0, "bytes": 0}


def test_the_messages_of_a_graph_network_are_not_known(tiny_experiment: TinyExperiment) -> None:
    nn = pytest.importorskip("torch_geometric.nn")
    gnn = GnnConfig(topology="full", self_loops=False, gnn_class=nn.GATv2Conv, gnn_kwargs=None)
    assert communication_of(tiny_experiment(IppoConfig.get_from_yaml(), model=gnn)) == {}


def test_means_are_those_of_loops_over_the_episodes(tiny_experiment: TinyExperiment) -> None:
    options = {"neighbours": {"name": "radius", "radius": 0.8}}
    task = ToyTask(n_agents=5, has_alive=True)
    experiment = tiny_experiment(algorithm_config("himppo", **options), task)
    report, rollout = watch(experiment)
    neighbours, members, living = [], [], []
    for td in rollout.reshape(-1):
        position, alive = td["agents", "position"], td["agents", "alive"]
        clock, parent = int(td["himppo_agents", "clock"]), td["himppo_agents", "parent_index"]
        for i in range(5):
            if alive[i]:
                others = [j for j in range(5) if j != i and alive[j]]
                neighbours.append(sum(float((position[i] - position[j]).norm()) <= 0.8 for j in others))
        if clock % 5 == 0:
            members += [sum(int(parent[i]) == node and bool(alive[i]) for i in range(5)) for node in range(2)]
            living.append(int(alive.sum()))
    rows = by_name(report)
    mean = {key: row["messages_mean"] for key, row in rows.items()}
    assert 0 < mean["worker", "neighbours' states"] == pytest.approx(sum(neighbours) / len(neighbours))
    encodings = [row for row in report.rows() if row["what"] == "encodings from subordinates"]
    assert 0 < encodings[0]["messages_mean"] == pytest.approx(sum(members) / len(members))
    assert mean["centre", "positions of the workers"] == pytest.approx(sum(living) / len(living))
    for row in report.rows():
        assert row["messages_mean"] <= row["messages_worst"]


def test_the_report_says_what_is_central(tiny_experiment: TinyExperiment) -> None:
    report, _ = watch(tiny_experiment(algorithm_config("himppo"), ToyTask()), 1)
    parts = {"flows": report.rows(), "totals": report.totals(), "per_agent": report.per_agent()}
    text = format_report({**parts, "notes": report.notes()})
    assert "The clustering is centralised in this implementation" in text
    assert "| worker | neighbours' states, round 1 | 2 (2.00) | 32 | 1 steps | 64.0 (64.0) |" in text
    assert "| all nodes, per agent | 3.17 (3.17) | 85.6 (85.6) |" in text  # 9.5 and 256.8 over three
    static, _ = watch(tiny_experiment(algorithm_config("himppo_sg"), ToyTask()), 1)
    assert any("nothing is centralised" in note for note in static.notes())


def test_memories_take_no_message_and_are_noted(tiny_experiment: TinyExperiment) -> None:
    plain, own = (
        watch(tiny_experiment(algorithm_config("himppo", memory=memory), ToyTask()), 1)[0]
        for memory in (None, [None, None, {"name": "window", "decisions": 3}])
    )
    assert plain.rows() == own.rows()
    (note,) = set(own.notes()) - set(plain.notes())
    assert "level 2" in note and "3 decisions" in note


def test_a_builder_that_says_nothing_of_itself_needs_the_positions_of_all(
    tiny_experiment: TinyExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So is one that others add and whose needs are not known."""
    monkeypatch.setitem(clustering_registry, "mine", MyClustering)
    monkeypatch.setitem(neighbours_registry, "mine", MyNeighbours)
    options = {"clustering": "mine", "neighbours": "mine"}
    report, _ = watch(tiny_experiment(algorithm_config("himppo_2l", **options), ToyTask(n_agents=5)), 1)
    rows = by_name(report)
    assert rows["centre", "positions of the workers"]["messages_worst"] == 5
    assert rows["worker", "positions of the others"]["messages_worst"] == 4
    assert rows["worker", "neighbours' states"]["messages_worst"] == 4
    assert rows["level 1", "encodings from subordinates"]["messages_worst"] == 5
    assert any("is centralised" in note for note in report.notes())


@dataclass(frozen=True)
class MyClustering(Clustering):
    def __call__(
        self, position: torch.Tensor, alive: torch.Tensor, centroids: torch.Tensor, is_fresh: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros_like(alive, dtype=torch.long), centroids


@dataclass(frozen=True)
class MyNeighbours(Neighbours):
    def _restrict(self, position: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
        return allowed
