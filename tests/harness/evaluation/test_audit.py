"""Perturbations change what is received and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.hierarchy_builders import TinyHierarchy
from tensordict import TensorDictBase
from torchrl.envs.utils import ExplorationType, set_exploration_type

from benchmarl_himpo.harness.evaluation.audit import (
    TESTS,
    AuditedPolicy,
    AuditRow,
    Change,
    FirstGoal,
    PerturbedPolicy,
    audit,
    judge,
    list_perturbations,
    shuffle_edges,
    shuffle_environments,
    zero,
)
from benchmarl_himpo.harness.evaluation.episodes import fixed_episodes, load_trained, play
from benchmarl_himpo.harness.runs import ResumableExperiment
from benchmarl_himpo.harness.statistics import Estimate
from benchmarl_himpo.hierarchy import HierarchyLayout, WindowMemory
from benchmarl_himpo.hierarchy.keys import HierarchyKeys
from benchmarl_himpo.models import HierarchicalPolicy

KEYS = HierarchyKeys("agents")


@pytest.fixture(scope="module")
def experiment(himppo_run: Path) -> ResumableExperiment:
    return load_trained(himppo_run, n_episodes=6)


class Listening(PerturbedPolicy):
    """Keeps what the actors read."""

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.received: dict[int, list[torch.Tensor]] = {0: [], 1: []}

    def read(self, tensordict: TensorDictBase, level: int) -> TensorDictBase:
        read = super().read(tensordict, level)
        if level < 2:
            self.received[level].append(read.get(KEYS[level + 1].action))
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
        same = play(experiment, 1, PerturbedPolicy(experiment.policy[0], level, lambda goal, clock: goal))
        assert torch.equal(same.per_agent, intact.per_agent)


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("change", [zero, shuffle_edges, shuffle_environments])
def test_goals_are_changed_on_their_way_down_and_not_where_they_are_held(
    change: Change, level: int, experiment: ResumableExperiment
) -> None:
    policy, rollout = listen(experiment, level, change)
    sent = rollout.get(KEYS[level].action)
    goals = policy.received[level - 1]
    steps = range(12) if level == 1 else (0, 5, 10)  # workers read every step, sub-managers where they decide
    assert len(goals) == len(steps)
    for received, step in zip(goals, steps, strict=True):
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
    (cut,) = (d.build(policy) for d in list_perturbations([policy], has_batch=True) if d.name == "messages cut")
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
    (emptied,) = (d.build(tiny.policy) for d in list_perturbations([tiny.policy], True) if d.name == "memories emptied")
    plain = TinyHierarchy(layout)
    assert "memories emptied" not in {d.name for d in list_perturbations([plain.policy], has_batch=True)}
    batch = tiny.roll_out(7)
    rows, key = batch[:, 6].copy(), tiny.keys.seen(1, "observation")
    assert rows.get(key).all()
    for policy, is_empty in ((tiny.policy, False), (emptied, True)):
        read = policy.read(rows, level=1)
        assert all((not read.get(memory).any()) == is_empty for memory in tiny.hierarchy.memory_keys(1))
        carried = policy(rows.copy()).get(("next", *tiny.keys.carried(key)))
        assert torch.equal(carried, torch.stack([rows.get(key)[:, 1], rows.get(("agents", "observation"))], dim=1))


def test_what_one_group_alone_has_is_perturbed() -> None:
    """A single agent, whose goal has no other to be exchanged with, before a group of three."""
    alone, team = (TinyHierarchy(HierarchyLayout(n, (1,), (2,))).policy for n in (1, 3))
    names = {d.name for d in list_perturbations([alone, team], has_batch=True)}
    assert "goals shuffled across subordinates" in names
    assert names - {d.name for d in list_perturbations([alone], has_batch=True)} == {
        "goals shuffled across subordinates"
    }


def test_an_audit_perturbs_every_level_graph_and_messages(experiment: ResumableExperiment) -> None:
    intact, rows, choices = audit(experiment, seed=1, confidence=0.95)
    assert choices == {"agents": []}
    assert {row.level for row in rows} == {1, 2, None}
    assert len(rows) == 6 + 6 + 2
    returns = play(experiment, seed=1).per_agent
    assert intact.value == pytest.approx(float(returns.double().mean()))
    for row in rows:
        assert row.effect.value == pytest.approx(row.value.value - intact.value, abs=1e-6)
        assert row.effect.low <= row.effect.value <= row.effect.high
    assert any(row.level is not None and row.effect.low < row.effect.high for row in rows)
    assert len(judge(rows)) == 4


def test_goals_count_as_used_only_if_zeros_their_mean_and_those_of_others_each_cost_return() -> None:
    nothing, harm = Estimate(-0.1, -0.3, 0.1), Estimate(-2.0, -2.5, -1.5)
    harmful = [AuditRow(name, 1, nothing, harm) for name in TESTS]
    others = [AuditRow("goals frozen at the first", 1, nothing, nothing), AuditRow("messages cut", None, nothing, harm)]
    used, messages = judge([*harmful, *others])
    assert used == (
        "level 1: its goals are used; the return falls with goals zeroed -2.00 [-2.50, -1.50], goals constant, their "
        "mean -2.00 [-2.50, -1.50], goals shuffled across environments -2.00 [-2.50, -1.50]"
    )
    assert messages == "messages cut: matters, -2.00 [-2.50, -1.50]"
    for name in TESTS:
        rows = [replace(row, effect=nothing) if row.name == name else row for row in harmful]
        (unused,) = judge([*rows, AuditRow("goals random, of an untrained actor", 1, nothing, harm)])
        assert unused == (
            f"level 1: its goals are not shown to be used; no significant loss with {name} -0.10 [-0.30, 0.10]"
        )
        (untested,) = judge([row for row in harmful if row.name != name])
        assert untested.endswith(f"not shown to be used; no significant loss with {name} (cannot be tested here)")


def build(experiment: ResumableExperiment, level: int, name: str) -> tuple[HierarchicalPolicy, AuditedPolicy]:
    """The perturbed policy and the audited one, which has played."""
    audited = AuditedPolicy(experiment.policy[0], experiment.algorithm.untrained_policy("agents"))
    play(experiment, 1, audited)
    chosen = {(d.level, d.name): d for d in list_perturbations([audited], has_batch=True)}
    return chosen[level, name].build(audited), audited


@pytest.mark.parametrize("level", [1, 2])
def test_constant_goals_are_the_mean_of_those_that_each_subordinate_received(
    level: int, experiment: ResumableExperiment
) -> None:
    """Of every step for workers, of the steps at which they decide for sub-managers."""
    constant, audited = build(experiment, level, "goals constant, their mean")
    with fixed_episodes(experiment, 1):
        rollout = experiment.test_env.rollout(experiment.max_steps, audited, break_when_any_done=False)
        sent = rollout.get(KEYS[level].action)[:, :: 5 if level == 2 else 1]
        received = constant.read(constant.decide(experiment.test_env.reset()), level - 1).get(KEYS[level].action)
    torch.testing.assert_close(received, sent.mean((0, 1)).expand_as(received))
    assert (received != sent[:, 0]).any()


@pytest.mark.parametrize("level", [1, 2])
def test_random_goals_are_those_of_an_untrained_actor_and_every_other_level_is_as_it_was(
    level: int, experiment: ResumableExperiment
) -> None:
    random, audited = build(experiment, level, "goals random, of an untrained actor")
    for other in range(3):
        source = audited.untrained if other == level else experiment.policy[0]
        assert random.actors[other] is source.actors[other]
    trained, untrained = (
        torch.cat([parameter.flatten() for parameter in policy.actors[level].parameters()])
        for policy in (audited, random)
    )
    assert trained.shape == untrained.shape
    assert (trained != untrained).float().mean() > 0.9


def test_an_audit_is_repeated_to_the_bit(experiment: ResumableExperiment) -> None:
    """The untrained actors too, whatever was drawn before."""
    first = audit(experiment, seed=1, confidence=0.95)
    torch.manual_seed(17)
    assert audit(experiment, seed=1, confidence=0.95) == first


def test_a_run_without_hierarchy_cannot_be_audited(qmix_run: Path) -> None:
    with pytest.raises(ValueError, match="asks for a hierarchy, which qmix has not"):
        audit(load_trained(qmix_run, n_episodes=2), seed=0, confidence=0.95)
