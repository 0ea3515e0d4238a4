"""Where the table says that positions stand, against what the environments observe."""

import pytest
import torch
from benchmarl.environments import VmasTask

from benchmarl_himpo.environments import accelerate, known_alive, known_position, observes_no_position
from benchmarl_himpo.hierarchy.group_inputs import PositionSource
from benchmarl_himpo.host.torchrl import vmas_environment

WITHOUT_POSITION = {
    "wind_flocking",
    "simple_adversary",
    "simple_crypto",
    "simple_push",
    "simple_reference",
    "simple_speaker_listener",
}
BEHIND_THE_VELOCITY = {"football", "simple_tag", "simple_world_comm"}


def test_the_table_covers_every_vmas_task():
    """28 tasks: 19 with the position first, three with it behind the velocity, six without."""
    known = {task.name.lower(): known_position("vmas", task.name.lower(), {}) for task in VmasTask}
    assert len(known) == 28
    assert {name for name, source in known.items() if source is None} == WITHOUT_POSITION
    assert {name for name in known if observes_no_position("vmas", name)} == WITHOUT_POSITION
    assert {name for name, source in known.items() if source == "observation[2:4]"} == BEHIND_THE_VELOCITY
    assert sum(source == "observation[0:2]" for source in known.values()) == 19


@pytest.mark.parametrize("task", [pytest.param(task, id=task.name.lower()) for task in VmasTask])
def test_the_observation_holds_the_position_where_the_table_says(task):
    """Two environments after a reset and a random step: the slice is every agent's true position, in every group.

    Where the table knows none, some group's observation holds the position nowhere.
    """
    env = accelerate(task.get_from_yaml()).get_env_fun(num_envs=2, continuous_actions=True, seed=0, device="cpu")()
    td = env.rand_step(env.reset())["next"]
    agents = {agent.name: agent for agent in vmas_environment(env).agents}
    source = known_position("vmas", task.name.lower(), {})
    has_position = []
    for group, names in env.group_map.items():
        position = torch.stack([agents[name].state.pos for name in names], dim=-2)
        assert position.shape == (2, len(names), 2)
        if source is not None:
            read = PositionSource.parse(source).read(td.get(group))
            torch.testing.assert_close(read, position, rtol=0, atol=1e-6)
            continue
        observation = td.get((group, "observation"))
        starts = range(observation.shape[-1] - 1)
        has_position.append(any(torch.allclose(observation[..., i : i + 2], position, atol=1e-6) for i in starts))
    assert source is not None or not all(has_position)


@pytest.mark.parametrize(
    ("environment", "task", "expected"),
    [
        ("vmas", "sampling", "observation[0:2]"),
        ("vmas", "football", "observation[2:4]"),
        ("vmas", "wind_flocking", None),
        ("vmas", "my_scenario", None),
        ("pettingzoo", "simple_tag", None),
        ("lbf", "anything", None),
    ],
)
def test_positions_are_known_by_environment_and_task(environment, task, expected):
    """A task of the same name in another environment is another task."""
    assert known_position(environment, task, {}) == expected


def test_every_source_in_the_table_can_be_read():
    """No entry of the table is a typing error."""
    for task in VmasTask:
        source = known_position("vmas", task.name.lower(), {})
        assert source is None or PositionSource.parse(source).key == "observation"


def test_of_an_unknown_task_nothing_is_claimed():
    """Neither where its positions stand nor that it has none."""
    assert not any(observes_no_position(*name) for name in [("vmas", "my_scenario"), ("smacv2", "any"), ("lbf", "any")])


def test_deaths_are_known_of_smacv2_alone():
    """Elsewhere the entry `alive` tells them."""
    assert [known_alive(name) for name in ("smacv2", "vmas", "lbf")] == ["not action_mask[0]", None, None]
