"""Disturbances change what is received and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.hierarchy_builders import TinyHierarchy
from tensordict import TensorDictBase
from torchrl.envs.utils import ExplorationType, set_exploration_type

from benchmarl_himpo.harness.evaluation.audit import (
    AuditRow,
    Change,
    DisturbedPolicy,
    FirstGoal,
    audit,
    judge,
    list_disturbances,
    shuffle_edges,
    shuffle_environments,
    zero,
)
from benchmarl_himpo.harness.evaluation.episodes import load_trained, play
from benchmarl_himpo.harness.runs import ResumableExperiment
from benchmarl_himpo.harness.statistics import Estimate
from benchmarl_himpo.hierarchy import HierarchyLayout, WindowMemory
from benchmarl_himpo.hierarchy.keys import HierarchyKeys

KEYS = HierarchyKeys("agents")


@pytest.fixture(scope="module")
def experiment(himppo_run: Path) -> ResumableExperiment:
    return load_trained(himppo_run, n_episodes=6)


class Listening(DisturbedPolicy):
    """Keeps what the actors read."""

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.heard: dict[int, list[torch.Tensor]] = {0: [], 1: []}

    def read(self, tensordict: TensorDictBase, level: int) -> TensorDictBase:
        read = super().read(tensordict, level)
        if level < 2:
            self.heard[level].append(read.get(KEYS[level + 1].action))
        return read


def listen(experiment: ResumableExperiment, level: int, change: Change) -> tuple[Listening, TensorDictBase]:
    policy = Listening(experiment.policy[0], level, change)
    torch.manual_seed(0)
    experiment.test_env.set_seed(0)
    with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
        return policy, experiment.test_env.rollout(12, policy)


def test_a_change_that_changes_nothing_has_no_effect(experiment: ResumableExperiment) -> None:
    intact = play(experiment, seed=1)
    for level in (1, 2):
        same = play(experiment, 1, DisturbedPolicy(experiment.policy[0], level, lambda goal, clock: goal))
        assert torch.equal(same.per_agent, intact.per_agent)


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("change", [zero, shuffle_edges, shuffle_environments])
def test_goals_are_changed_on_their_way_down_and_not_where_they_are_held(
    change: Change, level: int, experiment: ResumableExperiment
) -> None:
    policy, rollout = listen(experiment, level, change)
    sent = rollout.get(KEYS[level].action)
    heard = policy.heard[level - 1]
    steps = range(12) if level == 1 else (0, 5, 10)  # workers read every step, sub-managers where they decide
    assert len(heard) == len(steps)
    for received, step in zip(heard, steps, strict=True):
        assert torch.equal(received, change(sent[:, step], torch.zeros(6)))
        assert not torch.equal(received, sent[:, step])
    held = rollout.get(KEYS[1].action)
    assert torch.equal(held[:, 0], held[:, 4])  # five steps under one goal
    assert not torch.equal(held[:, 4], held[:, 5])


def test_frozen_goals_are_those_of_each_episodes_first_step() -> None:
    frozen = FirstGoal()
    goals = torch.randn(4, 2, 3, 8)
    clock = torch.tensor([[0, 0], [1, 1], [2, 0], [3, 1]])
    received = torch.stack([frozen(goal, time) for goal, time in zip(goals, clock, strict=True)])
    assert torch.equal(received[:, 0], goals[0, 0].expand(4, -1, -1))
    assert torch.equal(received[:, 1], torch.stack([goals[0, 1], goals[0, 1], goals[2, 1], goals[2, 1]]))


def test_cut_messages_are_those_of_a_team_without_neighbours(experiment: ResumableExperiment) -> None:
    """At every level that exchanges messages: the same networks on a graph without edges."""
    policy = experiment.policy[0]
    (cut,) = (d.build(policy) for d in list_disturbances(policy, has_batch=True) if d.name == "messages cut")
    start = experiment.test_env.reset()
    connected, silent = (p.decide(start.clone()) for p in (policy, cut))
    assert policy.edge_keys == [policy.hierarchy.keys.adjacency(level) for level in (0, 1)]
    for key in policy.edge_keys:
        assert connected.get(key).any()
        assert not silent.get(key).any()
    network = policy.actors[0][0]
    connected.update({key: value for key, value in silent.items(True, True) if key not in policy.edge_keys})
    answers = [network(td.clone()).get(network.out_keys[0]) for td in (connected, silent)]
    assert not torch.allclose(*answers)


def test_emptied_memories_say_nothing_and_are_kept_all_the_same() -> None:
    """Two levels that decide at steps 0, 3 and 6."""
    layout = HierarchyLayout(3, (1,), (3,))
    tiny = TinyHierarchy(layout, memory=WindowMemory(2))
    (emptied,) = (d.build(tiny.policy) for d in list_disturbances(tiny.policy, True) if d.name == "memories emptied")
    plain = TinyHierarchy(layout)
    assert "memories emptied" not in {d.name for d in list_disturbances(plain.policy, has_batch=True)}
    batch = tiny.roll_out(7)
    rows, key = batch[:, 6].copy(), tiny.keys.seen(1, "observation")
    assert rows.get(key).all()
    for policy, is_empty in ((tiny.policy, False), (emptied, True)):
        read = policy.read(rows, level=1)
        assert all((not read.get(memory).any()) == is_empty for memory in tiny.hierarchy.memory_keys(1))
        carried = policy(rows.copy()).get(("next", *tiny.keys.carried(key)))
        assert torch.equal(carried, torch.stack([rows.get(key)[:, 1], rows.get(("agents", "observation"))], dim=1))


def test_an_audit_disturbs_every_level_graph_and_messages(experiment: ResumableExperiment) -> None:
    intact, rows = audit(experiment, seed=1, confidence=0.95)
    assert {row.level for row in rows} == {1, 2, None}
    assert len(rows) == 4 + 4 + 2
    returns = play(experiment, seed=1).per_agent
    assert intact.value == pytest.approx(float(returns.double().mean()))
    for row in rows:
        assert row.effect.value == pytest.approx(row.value.value - intact.value, abs=1e-6)
        assert row.effect.low <= row.effect.value <= row.effect.high
        if row.level is not None and row.effect.low < row.effect.high:
            assert row.corrected.low < row.effect.low
    assert any(row.level is not None and row.effect.low < row.effect.high for row in rows)
    assert len(judge(rows)) == 4


def test_a_verdict_needs_an_interval_below_zero() -> None:
    nothing, harm = Estimate(-0.1, -0.3, 0.1), Estimate(-2.0, -2.5, -1.5)
    rows = [
        AuditRow("goals zeroed", 1, nothing, harm, harm),
        AuditRow("the top is silent", 2, nothing, harm, nothing),  # one of several looks: the corrected one counts
        AuditRow("messages cut", None, nothing, harm, harm),
    ]
    first, second, messages = judge(rows)
    assert first == "level 1: its goals are used; goals zeroed, the return changes by -2.00 [-2.50, -1.50]"
    assert second.startswith("level 2: no use of its goals is seen")
    assert messages == "messages cut: matters, -2.00 [-2.50, -1.50]"


def test_a_run_without_hierarchy_cannot_be_audited(qmix_run: Path) -> None:
    with pytest.raises(ValueError, match="asks for a hierarchy, which qmix has not"):
        audit(load_trained(qmix_run, n_episodes=2), seed=0, confidence=0.95)
