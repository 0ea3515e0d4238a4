"""Actors and critics of all levels as they are built from options: sizes per level, and what is refused."""

from dataclasses import replace

import pytest
import torch
from benchmarl.models import CnnConfig
from support.hierarchy_builders import GROUP, MLP_CONFIG, TinyHierarchy
from support.parts import GOALS, NEIGHBOURS
from torch import nn
from torchrl.data import Composite, Unbounded
from torchrl.envs.utils import ExplorationType, set_exploration_type

from benchmarl_himpo.hierarchy import HierarchyLayout
from benchmarl_himpo.models import HimppoNetworks, LevelNetwork
from benchmarl_himpo.models.level_network import PlainWorkerNetwork

THREE_LEVELS = HierarchyLayout(5, (2, 1), (3, 2))


def _level_network(network: nn.Module) -> LevelNetwork:
    """The one level network inside an actor or critic."""
    (found,) = (module for module in network.modules() if isinstance(module, LevelNetwork))
    return found


@pytest.mark.parametrize("hidden_dim", [8, (8, 6, 4), (4, 6, 8)])
def test_node_states_have_the_size_of_their_level(hidden_dim):
    """One number for all levels or one per level, workers first; the sizes meet only in goals, which have their own."""
    tiny = TinyHierarchy(THREE_LEVELS, hidden_dim=hidden_dim)
    sizes = [hidden_dim] * 3 if isinstance(hidden_dim, int) else list(hidden_dim)
    td = tiny.random_inputs((2,))
    for level, size in enumerate(sizes):
        for network in (tiny.actors[level], tiny.critics[level], tiny.edge_critics[level]):
            found = _level_network(network)
            assert found.hidden_dim == size
            assert found.encode(td, tiny.hierarchy.received_goal(td, 0) if level == 0 else None).shape == (2, 5, size)
            assert found.messages is None or found.messages.convs[0].root.out_features == size
            assert tiny.answer(network, td).shape[:2] == (2, THREE_LEVELS.n_recipients(level))
            assert tiny.answer(network, td).isfinite().all()


def test_one_size_for_all_levels_is_that_size_at_each():
    """The same weights from the same seed."""
    one, each = TinyHierarchy(THREE_LEVELS, hidden_dim=6), TinyHierarchy(THREE_LEVELS, hidden_dim=(6, 6, 6))
    for network, other in zip((one.policy, *one.critics), (each.policy, *each.critics), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("goal", GOALS)
def test_goal_actors_write_what_the_goal_space_needs_for_each_recipient(goal):
    """Two numbers for each of a Normal goal's, one logit for each choice."""
    tiny = TinyHierarchy(THREE_LEVELS, goal=GOALS[goal])
    td = tiny.random_inputs((2,))
    for level in (1, 2):
        network = tiny.actors[level][0]
        size = (2, THREE_LEVELS.n_recipients(level), GOALS[goal].n_parameters)
        assert network(td.clone()).get((tiny.keys.root, f"goal_logits_{level}")).shape == size
        assert tiny.policy.actors[level].out_keys[-2:] == [tiny.keys[level].action, tiny.keys[level].log_prob]


@pytest.mark.parametrize(
    ("options", "is_plain"),
    [
        ({"neighbours": NEIGHBOURS["none"]}, True),
        ({"n_message_rounds": 0}, True),
        ({"neighbours": (NEIGHBOURS["none"], NEIGHBOURS["full"])}, True),
        ({"neighbours": (NEIGHBOURS["full"], NEIGHBOURS["none"])}, False),
        ({"neighbours": NEIGHBOURS["none"], "team_state": True}, False),
    ],
)
def test_workers_without_messages_or_team_state_are_the_model_alone(options, is_plain):
    """Their critic too, unless it is shown the phase."""
    tiny = TinyHierarchy(THREE_LEVELS, critic_phase=False, **options)
    for network in (tiny.actors[0], tiny.critics[0]):
        assert any(isinstance(module, PlainWorkerNetwork) for module in network.modules()) == is_plain
    shown = TinyHierarchy(THREE_LEVELS, critic_phase=True, **options)
    assert isinstance(shown.critics[0], LevelNetwork)


def test_a_single_agent_is_the_model_alone():
    """There is nobody to exchange messages with."""
    tiny = TinyHierarchy(HierarchyLayout(1, (1,), (3,)), critic_phase=False, neighbours=NEIGHBOURS["full"])
    for network in (tiny.actors[0], tiny.critics[0]):
        assert any(isinstance(module, PlainWorkerNetwork) for module in network.modules())


def test_critics_have_a_value_per_edge_at_the_levels_that_were_named_and_nowhere_else():
    """Level 1 of three, with workers 0, 1, 2 under one sub-manager."""
    tiny = TinyHierarchy(HierarchyLayout(4, (2, 2), (3, 2)))
    networks = tiny.make_networks(edge_values=[1])
    td = tiny.random_inputs()
    td[tiny.keys.parent_index][:] = torch.tensor([0, 0, 0, 1])
    tiny.connect(td)
    values = [tiny.answer(critic, td).flatten() for critic in networks.critics]
    assert values[1][:3].unique().numel() == 3
    assert [_level_network(critic).per_edge for critic in networks.critics] == [False, True, False]


def _build(**options) -> HimppoNetworks:
    tiny = TinyHierarchy(THREE_LEVELS)
    defaults = {
        "hierarchy": tiny.hierarchy,
        "observation_spec": tiny.observation_spec,
        "goal": tiny.goal,
        "model": MLP_CONFIG,
        "critic_model": MLP_CONFIG,
        "hidden_dim": 6,
        "share_params": True,
        "share_param_critic": True,
        "n_message_rounds": 1,
        "use_tanh_normal": False,
        "scale_mapping": "biased_softplus_1.0",
        "device": "cpu",
    }
    return HimppoNetworks(action_spec=tiny.action_spec, **(defaults | options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_dim": [6, 6]}, r"^hidden_dim=\[6, 6\] .* give 3 values"),
        ({"hidden_dim": 0}, "^hidden_dim=0 must be 1 or more"),
        ({"hidden_dim": [6, 0, 6]}, r"^hidden_dim=\[6, 0, 6\] must be 1 or more"),
        ({"n_message_rounds": -1}, "^n_message_rounds=-1 must be 0 or more"),
        ({"goal_actor_width": 0.0}, "^goal_actor_width=0.0 must be above 0"),
        ({"goal_actor_width": 1.5}, "^goal_actor_width=1.5 must be above 0 and at most 1"),
        ({"gnn_class": "NoSuchConv"}, "^gnn_class=NoSuchConv"),
    ],
)
def test_sizes_that_make_no_networks_are_refused(options, message):
    """The message names the option and its value."""
    if "gnn_class" in options:
        pytest.importorskip("torch_geometric")
    with pytest.raises(ValueError, match=message):
        _build(**options)


@pytest.mark.parametrize(("option", "is_critic"), [("model", False), ("critic_model", True)])
def test_a_model_that_cannot_encode_the_observation_is_named_with_what_agents_see(option, is_critic):
    """A convolution over vectors."""
    cnn = CnnConfig(
        cnn_num_cells=[4],
        cnn_kernel_sizes=3,
        cnn_strides=1,
        cnn_paddings=0,
        cnn_activation_class=nn.Tanh,
        mlp_num_cells=[4],
        mlp_layer_class=nn.Linear,
        mlp_activation_class=nn.Tanh,
    )
    cnn.is_critic = is_critic
    with pytest.raises(ValueError, match=rf"^{option} cannot encode .* 'agents' \(observation \[4\]\)"):
        _build(**{option: cnn})


def test_networks_see_every_entry_that_the_hierarchy_names():
    """Two vectors, one of them nested: a change of either changes the answer."""
    tiny = TinyHierarchy(THREE_LEVELS)
    spec = Composite(
        {"observation": Unbounded(shape=(5, 4)), "state": Composite({"battery": Unbounded(shape=(5, 1))}, shape=(5,))},
        shape=(5,),
    )
    hierarchy = replace(tiny.hierarchy, observation=("observation", ("state", "battery")))
    networks = _build(hierarchy=hierarchy, observation_spec=spec)
    td = tiny.random_inputs((2,)).apply(lambda x: x.float() if x.is_floating_point() else x)
    td[GROUP, "state", "battery"] = torch.ones(2, 5, 1)
    other = td.clone()
    other[GROUP, "state", "battery"] *= 2
    for critic in networks.critics:
        assert not torch.equal(tiny.answer(critic, td), tiny.answer(critic, other))


def _widths(network: nn.Module) -> list[int]:
    """Inputs of every matrix of a network, the encoder's first."""
    return [parameter.shape[-1] for parameter in network.parameters() if parameter.ndim > 1]


@pytest.mark.parametrize(
    ("level_observation", "seen"),
    [
        ((("observation[0:2]",), None), [{0, 1}, {0, 1, 2, 3}, {0, 1, 2, 3}]),
        (
            (("observation[0:1]", "observation[-1:]"), ("observation[1:3]",), ("observation",)),
            [{0, 3}, {1, 2}, {*range(4)}],
        ),
        ((None, ("observation[2:]",)), [{0, 1, 2, 3}, {2, 3}, {2, 3}]),
    ],
)
@pytest.mark.parametrize("neighbours", ["full", "none"])
def test_a_level_sees_its_part_of_the_observation_and_nothing_else(level_observation, seen, neighbours):
    """Actor and critics: a feature changes the answer exactly if it is seen, and the encoder has no other input."""
    options = {"neighbours": NEIGHBOURS[neighbours], "critic_phase": neighbours == "full"}
    tiny, sighted = (
        TinyHierarchy(THREE_LEVELS, level_observation=level_observation, **options),
        TinyHierarchy(THREE_LEVELS, **options),
    )
    td = tiny.random_inputs((2,))
    for level, features in enumerate(seen):
        networks = (tiny.actors[level], tiny.critics[level], tiny.edge_critics[level])
        others = (sighted.actors[level], sighted.critics[level], sighted.edge_critics[level])
        for network, other in zip(networks, others, strict=True):
            assert _widths(network)[0] == _widths(other)[0] - (4 - len(features))
            assert _widths(network)[1:] == _widths(other)[1:]
            for feature in range(4):
                changed = td.clone()
                changed[GROUP, "observation"][..., feature] += 1
                is_same = torch.equal(tiny.answer(network, td), tiny.answer(network, changed))
                assert is_same == (feature not in features), (level, feature)


def test_what_workers_do_not_see_reaches_them_in_goals_alone():
    """The policy, whole: workers act otherwise only once a superior that sees it has decided."""
    tiny = TinyHierarchy(THREE_LEVELS, level_observation=(("observation[0:2]",), None))
    td = tiny.observe((2,), seed=0)
    for key, value in tiny.carried_zeros((2,)).items():
        td.set(tiny.keys.carried(key), value)

    def logits(clock: int, shift: float) -> torch.Tensor:
        changed = td.clone()
        changed[tiny.keys.carried(tiny.keys.clock)][:] = clock
        changed[GROUP, "observation"][..., 2:] += shift
        with set_exploration_type(ExplorationType.DETERMINISTIC):
            return tiny.policy(changed)[GROUP, "loc"]

    assert torch.equal(logits(1, 0.0), logits(1, 1.0))
    assert not torch.equal(logits(0, 0.0), logits(0, 1.0))


def test_an_entry_that_a_level_does_not_see_need_not_be_there_for_its_networks():
    """Workers see the battery, superiors the observation: what each reads is all that it needs."""
    spec = Composite(
        {"observation": Unbounded(shape=(5, 4)), "state": Composite({"battery": Unbounded(shape=(5, 1))}, shape=(5,))},
        shape=(5,),
    )
    hierarchy = replace(
        TinyHierarchy(THREE_LEVELS).hierarchy,
        observation=("observation", ("state", "battery")),
        level_observation=(("state.battery",), ("observation",)),
        alive=None,
    )
    networks = _build(hierarchy=hierarchy, observation_spec=spec)
    tiny = TinyHierarchy(THREE_LEVELS)
    td = tiny.random_inputs((2,)).apply(lambda x: x.float() if x.is_floating_point() else x)
    td[GROUP, "state", "battery"] = torch.ones(2, 5, 1)
    for level, (actor, critic) in enumerate(zip(networks.policy.actors, networks.critics, strict=True)):
        hidden = "observation" if level == 0 else ("state", "battery")
        for network in (actor, critic):
            read = td.select(*network.in_keys)
            assert (GROUP, *((hidden,) if isinstance(hidden, str) else hidden)) not in read.keys(True)
            assert tiny.answer(network, read).isfinite().all()


@pytest.mark.parametrize(
    ("level_observation", "message"),
    [
        (
            [["observation[0:5]"]],
            r"observation\[0:5\] is out of range, because observation has 4 features: .* '.*\[0:4\]'",
        ),
        ([["observation[-5:]"]], r"observation\[-5:\] is out of range"),
        ([None, ["observation[3:2]"]], r"observation\[3:2\] is out of range"),
        ([["observation[2:2]"]], r"observation\[2:2\] is out of range"),
        ([["observation[4:]"]], r"observation\[4:\] is out of range"),
        ([["velocity"]], r"velocity is not a source: give a list of entries \(observation\)"),
        ([["observation[1]"]], r"observation\[1\] is not a source"),
        ([[3]], "3 is not a source"),
        ([[]], r"level_observation: \[\] is not a list of sources: .* null for all"),
        (["observation[0:2]"], r"observation\[0:2\] is not a list of sources"),
        ([], r"^level_observation=\[\] must have one entry per level"),
        ("observation", r"^level_observation=observation must have one entry per level"),
        ([None] * 4, r"^level_observation=\[None, None, None, None\] must .* give it 1 to 3"),
    ],
)
def test_an_observation_that_a_level_cannot_have_is_refused(level_observation, message):
    """Unknown entries, features that are not there, no features, and too many levels."""
    with pytest.raises(ValueError, match=message) as error:
        _build(hierarchy=replace(TinyHierarchy(THREE_LEVELS).hierarchy, level_observation=level_observation))
    assert str(error.value).startswith("level_observation")


@pytest.mark.parametrize("goal", GOALS)
def test_goals_that_are_not_received_change_nothing_and_are_sent_as_ever(goal):
    """Same weights, same samples: every network answers as it does to goals of zeros."""
    sent, lost = (TinyHierarchy(THREE_LEVELS, goal=GOALS[goal], send_goals=send) for send in (True, False))
    assert all(map(torch.equal, sent.policy.parameters(), lost.policy.parameters()))
    td = sent.random_inputs((2,))
    silent = td.clone()
    for level in (1, 2):
        silent[sent.keys[level].action] *= 0
    for level in range(3):
        networks = ((one.actors[level], one.critics[level], one.edge_critics[level]) for one in (sent, lost))
        for network, other in zip(*networks, strict=True):
            assert torch.equal(sent.answer(network, silent), lost.answer(other, td))
            assert torch.equal(lost.answer(other, silent), lost.answer(other, td))
            if level < 2:
                assert not torch.equal(sent.answer(network, td), lost.answer(other, td))
    first = [one.roll_out(1)[sent.keys[2].action] for one in (sent, lost)]
    assert first[0].any()
    assert torch.equal(*first)
