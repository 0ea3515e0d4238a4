"""What nodes remember: networks that read a window of decisions and a state."""

from dataclasses import replace

import pytest
import torch
from support.hierarchy_builders import TinyHierarchy
from support.parts import GOALS, MEMORIES
from torchrl.envs import VmasEnv

from benchmarl_himpo.hierarchy import GruMemory, HierarchyLayout, WindowMemory

THREE_LEVELS = HierarchyLayout(5, (2, 1), (3, 2))
IN, OUT, SIZE = 3, 5, 4


def test_a_window_is_read_by_one_linear_layer_and_has_no_state():
    network = WindowMemory(decisions=2).network(IN, OUT)
    past = torch.randn(7, 2, 2, IN)
    answer = network(past, torch.ones(7, 2, 2, dtype=torch.bool), torch.zeros(7, 2, 0))
    torch.testing.assert_close(answer, past.flatten(-2) @ network.read.weight.T)
    assert WindowMemory(decisions=2).state_size == 0


def test_a_recurrent_cell_goes_over_the_known_decisions_from_the_state_before():
    """One node that knows the second decision alone, one that knows both."""
    network = GruMemory(decisions=2, size=SIZE).network(IN, OUT)
    past, state = torch.randn(2, 2, IN), torch.randn(2, SIZE)
    answer = network(past, torch.tensor([[False, True], [True, True]]), state)
    first = network.cell(past[0, 1], state[0])
    second = network.cell(past[1, 1], network.cell(past[1, 0], state[1]))
    torch.testing.assert_close(answer, network.read(torch.stack([first, second])))


@pytest.mark.parametrize("name", MEMORIES)
def test_nothing_is_added_where_nothing_is_known(name):
    network, state = MEMORIES[name].network(IN, OUT), torch.zeros(7, 2, MEMORIES[name].state_size)
    assert not network(torch.zeros(7, 2, 2, IN), torch.zeros(7, 2, 2, dtype=torch.bool), state).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WindowMemory(decisions=0), "memory: decisions=0 must be 1 or more; for no memory set memory=null"),
        (lambda: GruMemory(decisions=-1, size=4), "memory: decisions=-1 must be 1 or more"),
        (lambda: GruMemory(decisions=2, size=0), "memory: size=0 must be 1 or more"),
    ],
)
def test_a_memory_of_nothing_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# In a hierarchy


def test_one_memory_is_that_of_every_upper_level_and_a_sequence_has_one_per_level():
    hierarchy = TinyHierarchy(THREE_LEVELS, memory=WindowMemory(3)).hierarchy
    assert [hierarchy.memory_at(level) for level in range(3)] == [None, WindowMemory(3), WindowMemory(3)]
    hierarchy = replace(hierarchy, memory=[None, None, GruMemory(2, 4)])
    assert [hierarchy.memory_at(level) for level in range(3)] == [None, None, GruMemory(2, 4)]


@pytest.mark.parametrize(
    ("layout", "memory", "message"),
    [
        (THREE_LEVELS, [WindowMemory(2), None, None], "^memory: not available for workers: set memory=null"),
        (HierarchyLayout(5, (), ()), WindowMemory(2), "^memory: not available for workers: set memory=null"),
        (THREE_LEVELS, [None, WindowMemory(2)], r"^memory=.* must be one value, or one per level"),
    ],
)
def test_workers_and_levels_that_there_are_not_remember_nothing(layout, memory, message):
    with pytest.raises(ValueError, match=message):
        replace(TinyHierarchy(layout).hierarchy, memory=memory)


def test_a_memory_is_read_by_its_level_and_held_in_the_types_of_what_was_seen():
    """A real environment of three: five agents that see 16 numbers, and two sub-managers with a state of 4."""
    env = VmasEnv("balance", num_envs=3, n_agents=5, seed=0)
    tiny = TinyHierarchy(THREE_LEVELS, memory=[None, GruMemory(2, 4), WindowMemory(3)])
    hierarchy, keys = tiny.hierarchy, tiny.keys
    td = env.append_transform(hierarchy.primer(env, GOALS["normal"])).reset()
    n_features = td["agents", "observation"].shape[-1]
    of_level_1 = [keys.seen(1, "observation"), keys.seen_by(1), keys.memory_state(1)]
    of_level_2 = [keys.seen(2, "observation"), keys.seen_by(2)]
    assert hierarchy.held_keys[-5:] == [*of_level_1, *of_level_2]
    shapes = [(3, 2, 5, n_features), (3, 2, 5), (3, 2, 4), (3, 3, 5, n_features), (3, 3, 5)]
    for key, shape in zip([*of_level_1, *of_level_2], shapes, strict=True):
        carried = td[keys.carried(key)]
        assert carried.shape == shape
        assert carried.dtype == (torch.long if "by" in key[-1] else torch.float32)
        assert not carried.any()
    for level, own in ((0, []), (1, of_level_1), (2, of_level_2)):
        assert [key for key in hierarchy.keys_read(level) if key in (*of_level_1, *of_level_2)] == own
