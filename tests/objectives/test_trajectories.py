"""What a collected batch is read as: values row by row, ends, deaths, and changes of encodings."""

import pytest
import torch
from support.hierarchy_builders import GROUP, HIDDEN_DIM, TinyHierarchy
from support.parts import CLUSTERINGS, GOALS, NEIGHBOURS
from tensordict import TensorDict

from benchmarl_himpo.hierarchy import HierarchyLayout
from benchmarl_himpo.objectives.reward_scheme import Trajectories
from benchmarl_himpo.objectives.trajectories import read_trajectories

THREE_LEVELS = HierarchyLayout(5, (2, 1), (3, 2))
OPTIONS = {"clustering": CLUSTERINGS["kmeans"], "neighbours": (NEIGHBOURS["radius"], NEIGHBOURS["full"])}


@torch.no_grad()
def _read(tiny: TinyHierarchy, batch: TensorDict, all_values: bool = True, encodings: bool = False) -> Trajectories:
    return read_trajectories(batch, tiny.policy, tiny.critics, all_values, encodings)


@torch.no_grad()
def _value(tiny: TinyHierarchy, level: int, row: TensorDict) -> torch.Tensor:
    return tiny.answer(tiny.critics[level], row)


@pytest.mark.parametrize("goal", GOALS)
def test_values_are_those_of_each_row_alone_and_then_of_the_next_one(goal):
    """Two environments, one of which starts anew at step 4; V one step later is that of row t + 1, but for the cuts."""
    tiny = TinyHierarchy(THREE_LEVELS, goal=GOALS[goal], **OPTIONS)
    batch = tiny.roll_out(8, resets={4: [1]})
    read = _read(tiny, batch)
    for level in range(3):
        assert read.state_value[level].shape == (2, 8, THREE_LEVELS.n_recipients(level), 1)
        for b in range(2):
            for t in range(8):
                expected = _value(tiny, level, batch[b, t])
                torch.testing.assert_close(read.state_value[level][b, t], expected, rtol=0, atol=1e-12)
                if t < 7 and not (b == 1 and t == 3):
                    assert torch.equal(read.next_state_value[level][b, t], read.state_value[level][b, t + 1])


def test_values_of_upper_levels_are_computed_where_an_interval_starts_unless_all_are_asked_for():
    """Sub-managers at 0, 3 and 6, the manager at 0 and 6, workers everywhere; the other rows hold zero."""
    tiny = TinyHierarchy(THREE_LEVELS, **OPTIONS)
    batch = tiny.roll_out(8)
    sparse, full = _read(tiny, batch, all_values=False), _read(tiny, batch)
    for level, starts in ((0, range(8)), (1, (0, 3, 6)), (2, (0, 6))):
        for t in range(8):
            expected = full.state_value[level][:, t] if t in starts else torch.zeros_like(full.state_value[level][:, t])
            torch.testing.assert_close(sparse.state_value[level][:, t], expected, rtol=0, atol=1e-12)


def test_values_behind_a_cut_are_those_of_the_hierarchy_one_step_later():
    """Cut at clock 4, where no upper level decides: what is carried is in effect, under new edges."""
    tiny = TinyHierarchy(THREE_LEVELS, **OPTIONS)
    batch = tiny.roll_out(8, resets={4: [1]})
    batch = batch[:, :4]
    read = _read(tiny, batch)
    for b in range(2):
        after = batch["next"][b, 3].select(GROUP)
        for key in tiny.hierarchy.held_keys:
            after.set(key, batch[b, 3].get(("next", *tiny.keys.carried(key))))
        tiny.connect(after)
        for level in range(3):
            expected = _value(tiny, level, after)
            torch.testing.assert_close(read.next_state_value[level][b, 3], expected, rtol=0, atol=1e-12)


def test_nothing_is_evaluated_behind_a_true_end():
    """All episodes end in the last step: no decision is made there, and V is zero."""
    tiny = TinyHierarchy(THREE_LEVELS, **OPTIONS)
    batch = tiny.roll_out(5, is_terminated=True)
    calls = []
    tiny.policy.decide = lambda td: calls.append(td)
    read = _read(tiny, batch)
    assert calls == []
    assert all((value[:, -1] == 0).all() for value in read.next_state_value)
    assert read.team_terminated[:, -1].all()


def test_ends_are_the_teams_and_a_death_is_a_workers_own_end():
    """Environment 1 is cut after step 3. Worker 2 of environment 0 dies after step 1: no reward from then on."""
    tiny = TinyHierarchy(THREE_LEVELS, **OPTIONS)
    batch = tiny.roll_out(6, resets={4: [1]})
    batch[GROUP, "alive"][0, 2:, 2] = False
    batch["next", GROUP, "alive"][0, 1:, 2] = False
    read = _read(tiny, batch)
    assert read.team_done.tolist() == [[False] * 6, [False] * 3 + [True] + [False] * 2]
    assert not read.team_terminated.any()
    terminated = torch.zeros(2, 6, 5, 1, dtype=torch.bool)
    terminated[0, 1, 2] = True
    assert torch.equal(read.terminated, terminated)
    done = terminated.clone()
    done[1, 3] = True
    assert torch.equal(read.done, done)
    reward = batch["next", GROUP, "reward"].clone()
    reward[0, 2:, 2] = 0
    assert torch.equal(read.reward, reward)
    assert not read.graph.alive[0, 2:, 2].any()


def test_an_episode_without_live_agents_is_terminated_whatever_ended_last():
    """A time limit of one agent before the death of the last: there is no team whose value could be bootstrapped."""
    tiny = TinyHierarchy(THREE_LEVELS, **OPTIONS)
    batch = tiny.roll_out(6, resets={4: [1]})
    assert not _read(tiny, batch).team_terminated.any()
    batch["next", GROUP, "alive"][1, 3] = False
    read = _read(tiny, batch)
    assert read.team_terminated.tolist() == [[False] * 6, [False] * 3 + [True] + [False] * 2]


def test_a_team_ends_where_all_its_agents_do_if_the_environment_says_nothing():
    """Flags of the agents alone: one of five at step 1, all of them at step 3."""
    tiny = TinyHierarchy(THREE_LEVELS, **OPTIONS)
    batch = tiny.roll_out(5)
    for name in ("done", "terminated"):
        del batch["next"][name]
        flags = torch.zeros(2, 5, 5, 1, dtype=torch.bool)
        flags[0, 1, 4] = True
        flags[0, 3] = True
        batch["next", GROUP, name] = flags
    read = _read(tiny, batch)
    assert read.team_done.tolist() == read.team_terminated.tolist() == [[False] * 3 + [True, False], [False] * 5]
    assert read.done[0, :, :, 0].int().tolist() == [[0] * 5, [0, 0, 0, 0, 1], [0] * 5, [1] * 5, [0] * 5]


def test_a_flat_hierarchy_decides_at_every_step():
    """No clock, no goals, no encodings of subordinates."""
    tiny = TinyHierarchy(HierarchyLayout(5, (), ()), neighbours=NEIGHBOURS["none"])
    read = _read(tiny, tiny.roll_out(4), encodings=True)
    assert (read.clock == 0).all()
    assert (read.goals, read.encoding_changes) == ({}, {})


def test_changes_of_encodings_are_those_of_each_subordinate_by_its_superiors_actor():
    """A worker's own below level 1; below level 2 the mean over the live workers of the cluster in effect."""
    tiny = TinyHierarchy(THREE_LEVELS, **OPTIONS)
    batch = tiny.roll_out(5)
    batch[GROUP, "alive"][:, :, 1] = False
    read = _read(tiny, batch, encodings=True)
    for level in (1, 2):
        assert read.goals[level] is batch[tiny.keys[level].action]
        network = tiny.actors[level][0]
        for b in range(2):
            for t in range(5):
                with torch.no_grad():
                    change = network.encode(batch["next"][b, t]) - network.encode(batch[b, t])
                if level == 1:
                    expected = change
                else:
                    parents = batch[tiny.keys.parent_index][b, t].tolist()
                    members = [[change[i] for i in (0, 2, 3, 4) if parents[i] == node] for node in range(2)]
                    nobody = [torch.zeros(HIDDEN_DIM, dtype=torch.float64)]
                    expected = torch.stack([torch.stack(rows or nobody).mean(0) for rows in members])
                torch.testing.assert_close(read.encoding_changes[level][b, t], expected, rtol=0, atol=1e-12)
