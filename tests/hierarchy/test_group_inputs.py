"""What the hierarchy reads from an agent group."""

import pytest
import torch
from tensordict import TensorDict

from benchmarl_himpo.hierarchy.group_inputs import AliveSource, GroupInputs, PositionSource, group_entry, parse_view


def _group_td(*shape: int) -> TensorDict:
    group = {
        "observation": torch.arange(6.0).expand(*shape, 3, 6),
        "state": {"position": torch.tensor([7.0, 8.0]).expand(*shape, 3, 2)},
        "alive": torch.tensor([[True], [False], [True]]).expand(*shape, 3, 1),
    }
    return TensorDict({"agents": TensorDict(group, batch_size=(*shape, 3))}, batch_size=shape)


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("observation[0:2]", "observation", [0, 1]),
        ("observation[2:4]", "observation", [2, 3]),
        ("observation[4:6]", "observation", [4, 5]),
        ("observation[-5:-3]", "observation", [1, 2]),
        ("observation[-2:]", "observation", [4, 5]),
        ("observation", "observation", [0, 1]),
        ("state.position", "state.position", [7, 8]),
        ("state.position[0:2]", "state.position", [7, 8]),
    ],
)
def test_positions_are_two_features_of_an_entry(text, key, expected):
    """Whole entries, slices from the front and from the end, nested entries."""
    source = PositionSource.parse(text)
    assert source.key == key
    position = source.read(_group_td(2).get("agents"))
    assert position.shape == (2, 3, 2)
    assert position[0, 0].tolist() == expected


@pytest.mark.parametrize(
    "text",
    ["observation[0:3]", "observation[2:0]", "observation[1:2]", "observation[3:]", "observation[-3:]", "o[-1:1]"],
)
def test_slices_of_another_size_are_refused(text):
    """A position has two features; a slice that wraps around the end has none."""
    with pytest.raises(ValueError, match="must select exactly two features"):
        PositionSource.parse(text)


@pytest.mark.parametrize(
    "text", ["", "observation[0:-]", "observation[0]", "observation[:2]", "observation [0:2]", "observation[a:b]"]
)
def test_other_texts_are_refused(text):
    """The message shows both forms."""
    with pytest.raises(ValueError, match=r"not understood: write the name of an entry .* 'observation\[0:2\]'"):
        PositionSource.parse(text)


@pytest.mark.parametrize("text", ["observation[6:8]", "observation[5:7]", "observation[10:12]", "observation[-8:-6]"])
def test_features_that_an_entry_does_not_have_are_refused(text):
    """Six features: another slice must not be read in their place."""
    with pytest.raises(ValueError, match=r"^position: the two features of observation .* has 6 features"):
        PositionSource.parse(text).read(_group_td().get("agents"))


@pytest.mark.parametrize(
    ("text", "source", "expected"),
    [
        ("alive", AliveSource("alive"), [True, False, True]),
        ("not alive", AliveSource("alive", of_others=True), [False, True, False]),
        ("state.mask[0]", AliveSource("state.mask", 0), [False, True, False]),
        ("not state.mask[0]", AliveSource("state.mask", 0, True), [True, False, True]),
        ("not state.mask[-1]", AliveSource("state.mask", -1, True), [False, True, True]),
    ],
)
def test_who_takes_part_is_an_entry_or_a_feature_or_the_contrary(text, source, expected):
    """Whole entries and nested ones, features from the front and from the end."""
    assert AliveSource.parse(text) == source
    td = _group_td(2)
    td["agents", "state", "mask"] = torch.tensor([[0.0, 5.0, 1.0], [1.0, 5.0, 0.0], [0.0, 5.0, 0.0]]).expand(2, 3, 3)
    assert source.read(td["agents"]).tolist() == [expected] * 2


@pytest.mark.parametrize("text", ["", "not ", "not  alive", "alive[0:1]", "~alive", "alive [0]", "alive[x]"])
def test_other_texts_of_who_takes_part_are_refused(text):
    """The message shows every form."""
    with pytest.raises(ValueError, match=r"^alive=.* is not understood: .* 'alive', .* 'observation\[0\]', .* 'not '"):
        AliveSource.parse(text)


@pytest.mark.parametrize("shape", [(), (2,), (2, 4)])
def test_a_reader_gives_observation_position_and_liveness(shape):
    """Any batch shape; the observation is a fresh TensorDict."""
    td = _group_td(*shape)
    inputs = GroupInputs("agents", ("observation",), PositionSource.parse("state.position"), AliveSource.parse("alive"))
    assert inputs.keys == [("agents", "observation"), ("agents", "state", "position"), ("agents", "alive")]
    observation = inputs.observation(td, level=0)
    assert observation.shape == (*shape, 3)
    observation.set("other", torch.zeros(*shape, 3))
    assert "other" not in td.get("agents").keys()
    assert inputs.position(td).shape == (*shape, 3, 2)
    alive = inputs.alive(td)
    assert alive.dtype == torch.bool
    assert (alive == torch.tensor([True, False, True])).all()
    assert alive.shape == (*shape, 3)


def test_positions_of_the_dead_may_be_undefined_and_those_of_the_living_are_not_touched():
    """An agent that has left the simulation has no position."""
    td = _group_td(2)
    td["agents", "state", "position"] = td["agents", "state", "position"].clone()
    td["agents", "state", "position"][:, 1] = torch.nan
    inputs = GroupInputs("agents", ("observation",), PositionSource.parse("state.position"), AliveSource.parse("alive"))
    assert (inputs.position(td)[:, 1] == 0).all()
    td["agents", "state", "position"][:, 2] = torch.nan
    assert inputs.position(td)[:, 2].isnan().all()  # alive: an error of the environment, which must not be hidden


def test_without_sources_everybody_lives_at_the_origin():
    """A task that says neither, and builders that need neither."""
    td = _group_td(2)
    inputs = GroupInputs("agents", ("observation",), None, None)
    assert inputs.keys == [("agents", "observation")]
    assert inputs.position(td).shape == (2, 3, 2)
    assert (inputs.position(td) == 0).all()
    assert inputs.alive(td).all()
    assert inputs.alive(td).shape == (2, 3)


def test_an_entry_that_is_observation_and_position_is_read_once():
    """In-keys hold no key twice."""
    inputs = GroupInputs("agents", ("observation",), PositionSource.parse("observation[0:2]"), None)
    assert inputs.keys == [("agents", "observation")]


def test_positions_that_count_cells_are_read_as_floats():
    """Grid worlds have whole numbers; distances need floats."""
    td = _group_td(2)
    td["agents", "cell"] = torch.tensor([3, 4]).expand(2, 3, 2)
    position = GroupInputs("agents", ("observation",), PositionSource.parse("cell"), None).position(td)
    assert position.dtype == torch.get_default_dtype()
    assert position[0, 0].tolist() == [3, 4]


def test_an_entry_of_the_group_goes_before_that_of_the_whole_environment():
    """Rewards per agent where they are there, otherwise everybody's; environments differ."""
    td = _group_td(2)
    td["next"] = {"agents": TensorDict(batch_size=(2, 3)), "reward": torch.tensor([[5.0], [6.0]])}
    assert group_entry(td, "agents", "reward").tolist() == [[[5.0]] * 3, [[6.0]] * 3]
    td["next", "agents", "reward"] = torch.arange(6.0).reshape(2, 3, 1)
    assert group_entry(td, "agents", "reward").flatten().tolist() == [0, 1, 2, 3, 4, 5]


def test_a_view_joins_its_features_of_an_entry_in_their_order():
    """Slices from the front and from the end, and a nested entry whole; without a view everything."""
    td = _group_td(2)
    entries = ("observation", ("state", "position"))
    views = (parse_view(["observation[4:]", "state.position", "observation[-5:-3]"], entries), None)
    inputs = GroupInputs("agents", entries, None, None, views)
    seen = inputs.observation(td, level=0)
    assert seen["observation"][1, 2].tolist() == [4, 5, 1, 2]
    assert seen["state", "position"][1, 2].tolist() == [7, 8]
    assert td["agents", "observation"].shape[-1] == 6
    for level in (1, 2):
        assert (inputs.observation(td, level) == td["agents"].select(*entries)).all()
    assert GroupInputs("agents", entries, None, None, (parse_view(["state.position"], entries),)).keys_of(3) == [
        ("agents", "state", "position")
    ]
