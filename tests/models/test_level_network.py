"""The networks of every level: equivariance, locality, dead agents, batch shapes."""

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.hierarchy_builders import (
    ACTION_DIM,
    GROUP,
    LOGITS,
    MLP_CONFIG,
    OBS_DIM,
    TinyHierarchy,
    is_reached,
)
from support.parts import GOAL_DIM, GOALS, NEIGHBOURS
from tensordict import TensorDict
from torchrl.data import Composite, Unbounded

from benchmarl_himpo.hierarchy import HierarchyLayout

N_AGENTS = 5
THREE_LEVELS = HierarchyLayout(N_AGENTS, (2, 1), (5, 2))
FLAT = HierarchyLayout(N_AGENTS, (), ())
LEVELS = range(3)


@cache
def _tiny(layout: HierarchyLayout = THREE_LEVELS, **options) -> TinyHierarchy:
    """One hierarchy for all tests that leave its weights alone."""
    return TinyHierarchy(layout, **options)


def _networks(tiny: TinyHierarchy, level: int):
    """Actor, critic with a value per node and critic with one per edge of a level."""
    return tiny.actors[level], tiny.critics[level], tiny.edge_critics[level]


def _permute_agents(td: TensorDict, tiny: TinyHierarchy, order: torch.Tensor) -> TensorDict:
    """The same situation with the agents, their parents and their goals numbered otherwise."""
    permuted = td.clone()
    permuted.set(GROUP, td.get(GROUP)[..., order])
    if tiny.hierarchy.needs_edges:
        permuted[GROUP, "edges"] = permuted[GROUP, "edges"][..., order]
    for key in (tiny.keys.parent_index, tiny.keys[1].action):
        if key in td.keys(True):
            permuted.set(key, td.get(key)[:, order])
    return tiny.connect(permuted)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("neighbours", NEIGHBOURS)
@pytest.mark.parametrize("team_state", [False, True])
@settings(deadline=None, max_examples=4)
@given(seed=st.integers(0, 2**31), data=st.data())
def test_permuting_agents_permutes_what_they_are_told(level, neighbours, team_state, seed, data):
    """Workers and edges to workers in the new order; the manager's edges, which go to sub-managers, as before."""
    tiny = _tiny(neighbours=NEIGHBOURS[neighbours], team_state=team_state, n_message_rounds=2)
    order = torch.tensor(data.draw(st.permutations(range(N_AGENTS))))
    td = tiny.random_inputs((2,), seed)
    td[GROUP, "alive"][:] = torch.tensor(data.draw(st.lists(st.booleans(), min_size=N_AGENTS, max_size=N_AGENTS)))
    permuted = _permute_agents(tiny.connect(td), tiny, order)
    for network in _networks(tiny, level):
        plain, answer = tiny.answer(network, td), tiny.answer(network, permuted)
        torch.testing.assert_close(answer, plain[:, order] if level < 2 else plain, rtol=0, atol=1e-10)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("neighbours", ["full", "none"])
def test_renumbering_sub_managers_renumbers_their_goals_only(level, neighbours):
    """Labels 0 and 1 change places, with the goals that the two received: no worker notices."""
    tiny = _tiny(neighbours=NEIGHBOURS[neighbours])
    td = tiny.random_inputs((3,))
    renumbered = td.clone()
    renumbered.set(tiny.keys.parent_index, 1 - td.get(tiny.keys.parent_index))
    renumbered.set(tiny.keys[2].action, td.get(tiny.keys[2].action).flip(-2))
    tiny.connect(renumbered)
    for network in _networks(tiny, level):
        plain, answer = tiny.answer(network, td), tiny.answer(network, renumbered)
        torch.testing.assert_close(answer, plain.flip(-2) if level == 2 else plain, rtol=0, atol=1e-10)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("neighbours", ["radius", "none"])
@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
def test_any_batch_shape_gives_what_each_environment_gives_alone(level, neighbours, shape):
    """Sizes are [*B, E, F]; nothing leaks from one environment or step to another."""
    tiny = _tiny(neighbours=NEIGHBOURS[neighbours])
    td = tiny.random_inputs(shape)
    for network in _networks(tiny, level):
        answer = tiny.answer(network, td)
        assert answer.shape[:-1] == (*shape, THREE_LEVELS.n_recipients(level))
        rows = td.reshape(-1)
        alone = torch.stack([tiny.answer(network, rows[i]) for i in range(len(rows))])
        torch.testing.assert_close(answer, alone.reshape(answer.shape), rtol=0, atol=1e-12)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("team_state", [False, True])
def test_a_dead_agent_influences_nobody(level, team_state):
    """Agent 1 is dead: whatever it observes, wherever it lies and whatever it was told, the others' answers stay."""
    tiny = _tiny(neighbours=NEIGHBOURS["full"], team_state=team_state)
    td = tiny.random_inputs((2,))
    td[GROUP, "alive"][:, 1] = False
    other = tiny.connect(td).clone()
    other[GROUP, "observation"][:, 1] += 10
    other[GROUP, "position"][:, 1] -= 3
    other[tiny.keys[1].action][:, 1] += 5
    other[tiny.keys.parent_index][:, 1] = 1 - td[tiny.keys.parent_index][:, 1]
    tiny.connect(other)
    others = [0, 2, 3, 4] if level < 2 else [0, 1]
    for network in _networks(tiny, level):
        plain, answer = tiny.answer(network, td), tiny.answer(network, other)
        assert torch.equal(answer[:, others], plain[:, others])


@pytest.mark.parametrize("level", LEVELS)
def test_an_empty_cluster_gives_finite_answers_and_gradients(level):
    """All workers stand under sub-manager 0; then nobody lives at all."""
    tiny = _tiny()
    td = tiny.random_inputs((2,))
    td[tiny.keys.parent_index][:] = 0
    td[GROUP, "alive"][1] = False
    tiny.connect(td)
    for network in _networks(tiny, level):
        answer = tiny.answer(network, td)
        assert answer.isfinite().all()
        gradients = torch.autograd.grad(answer.sum(), list(network.parameters()), allow_unused=True)
        assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)


def test_a_sub_manager_without_live_workers_sends_no_message():
    """Sub-manager 1 is empty: the goal it received does not reach the edges of sub-manager 0."""
    tiny = _tiny()
    td = tiny.random_inputs((2,))
    td[tiny.keys.parent_index][:] = 0
    other = tiny.connect(td).clone()
    other[tiny.keys[2].action][:, 1] += 5
    for network in _networks(tiny, 1):
        assert torch.equal(tiny.answer(network, td), tiny.answer(network, other))


def test_a_sub_manager_without_live_workers_has_a_zero_state():
    """Only the dead worker 4 stands under sub-manager 1: its value depends on nothing, unlike sub-manager 0's."""
    tiny = _tiny(critic_phase=False)
    td, other = tiny.random_inputs((2,)), tiny.random_inputs((2,), seed=1)
    for inputs in (td, other):
        inputs[tiny.keys.parent_index][:] = torch.tensor([0, 0, 0, 0, 1])
        inputs[GROUP, "alive"][:, 4] = False
        tiny.connect(inputs)
    values, other_values = (tiny.answer(tiny.critics[1], inputs) for inputs in (td, other))
    assert torch.equal(values[:, 4], other_values[:, 4])
    assert not torch.allclose(values[:, 0], other_values[:, 0])


def _line(tiny: TinyHierarchy, clock: int = 1) -> TensorDict:
    """Agents on a line, each within the radius of the next; 0, 1, 2 under sub-manager 0, the others under 1."""
    td = tiny.random_inputs(clock=clock)
    td[GROUP, "position"] = torch.stack([0.9 * torch.arange(N_AGENTS), torch.zeros(N_AGENTS)], dim=-1).double()
    td[tiny.keys.parent_index][:] = torch.tensor([0, 0, 0, 1, 1])
    tiny.connect(td)
    td[GROUP, "observation"].requires_grad_()
    return td


@pytest.mark.parametrize("n_message_rounds", [0, 1, 2])
def test_messages_reach_workers_over_as_many_hops_as_there_are_rounds(n_message_rounds):
    """Actor and critic of the workers, the graph held fixed: agent j reaches agent i over |i - j| hops."""
    tiny = _tiny(neighbours=NEIGHBOURS["radius"], n_message_rounds=n_message_rounds)
    td = _line(tiny)
    expected = [[abs(i - j) <= n_message_rounds for j in range(N_AGENTS)] for i in range(N_AGENTS)]
    for network in _networks(tiny, 0):
        dist_or_value = network(td.clone()).get(network.out_keys[0] if network is not tiny.actors[0] else LOGITS)
        assert is_reached(dist_or_value, td) == expected


@pytest.mark.parametrize("neighbours", ["full", "none"])
def test_workers_reach_their_own_sub_manager_and_the_others_through_messages_only(neighbours):
    """Without messages a goal depends on the sender's workers alone; with them on everybody."""
    tiny = _tiny(neighbours=NEIGHBOURS[neighbours])
    td = _line(tiny)
    same = [[(i < 3) == (j < 3) for j in range(N_AGENTS)] for i in range(N_AGENTS)]
    expected = same if neighbours == "none" else [[True] * N_AGENTS] * N_AGENTS
    loc = tiny.actors[1](td.clone()).get((tiny.keys.root, "goal_loc_1"))
    assert is_reached(loc, td) == expected
    for critic in _networks(tiny, 1)[1:]:
        assert is_reached(critic(td.clone()).get(critic.out_keys[0]), td) == expected


@pytest.mark.parametrize("is_silent_level", [0, 1])
def test_each_level_exchanges_messages_where_its_own_builder_says(is_silent_level):
    """``neighbours=[none, full]`` and ``[full, none]``: whose observations reach workers, and whose sub-managers."""
    builders = [NEIGHBOURS["full"]] * 2
    builders[is_silent_level] = NEIGHBOURS["none"]
    tiny = _tiny(neighbours=tuple(builders))
    td = _line(tiny)
    alone = [[i == j for j in range(N_AGENTS)] for i in range(N_AGENTS)]
    cluster = [[(i < 3) == (j < 3) for j in range(N_AGENTS)] for i in range(N_AGENTS)]
    everybody = [[True] * N_AGENTS] * N_AGENTS
    for level, silent in ((0, alone), (1, cluster)):
        for critic in _networks(tiny, level)[1:]:
            expected = silent if level == is_silent_level else everybody
            assert is_reached(critic(td.clone()).get(critic.out_keys[0]), td) == expected


def test_everybody_reaches_the_manager():
    """Goals to both sub-managers depend on all workers, messages or not."""
    tiny = _tiny(neighbours=NEIGHBOURS["none"])
    td = _line(tiny)
    loc = tiny.actors[2](td.clone()).get((tiny.keys.root, "goal_loc_2"))
    assert is_reached(loc, td) == [[True] * N_AGENTS] * 2


def test_a_goal_to_a_worker_depends_on_that_worker_and_a_value_per_node_does_not():
    """Two workers of one sub-manager get different goals, one value per node, and two values per edge."""
    tiny = _tiny(neighbours=NEIGHBOURS["none"])
    td = tiny.random_inputs()
    td[tiny.keys.parent_index][:] = torch.tensor([0, 0, 0, 1, 1])
    tiny.connect(td)
    actor, node_critic, edge_critic = _networks(tiny, 1)
    goals, values, edge_values = (tiny.answer(network, td) for network in (actor, node_critic, edge_critic))
    assert not torch.allclose(goals[0], goals[1])
    assert not torch.allclose(edge_values[0], edge_values[1])
    assert torch.equal(values[0], values[1])
    assert not torch.allclose(values[0], values[3])


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("goal", GOALS)
def test_networks_read_the_goal_they_received_and_never_the_one_they_send(level, goal):
    """Actor and critic of a level change with the goals from above and not with those of their own."""
    tiny = _tiny(goal=GOALS[goal])
    td = tiny.random_inputs((2,))
    for sender in (1, 2):
        other = td.clone()
        other[tiny.keys[sender].action] = td[tiny.keys[sender].action].roll(1, -1)
        for network in _networks(tiny, level):
            is_same = torch.equal(tiny.answer(network, td), tiny.answer(network, other))
            assert is_same == (sender != level + 1)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("critic_phase", [False, True])
def test_critics_see_the_phase_where_asked_and_actors_never(level, critic_phase):
    """Step 1 and step 2 of an interval, all else equal."""
    tiny = _tiny(critic_phase=critic_phase)
    early, late = tiny.random_inputs((2,), clock=1), tiny.random_inputs((2,), clock=2)
    actor, *critics = _networks(tiny, level)
    assert torch.equal(tiny.answer(actor, early), tiny.answer(actor, late))
    for critic in critics:
        assert torch.equal(tiny.answer(critic, early), tiny.answer(critic, late)) != critic_phase


@pytest.mark.parametrize("share_params", [True, False])
def test_a_flat_worker_without_messages_is_exactly_the_benchmarl_model(share_params):
    """Depth 1, no neighbours, no team state: the same layers, drawn alike from the same seed, the same answer."""
    tiny = _tiny(FLAT, neighbours=NEIGHBOURS["none"], share_params=share_params, seed=3)
    ours = tiny.actors[0]
    torch.manual_seed(3)
    logits = Composite({"logits": Unbounded(shape=(N_AGENTS, 2 * ACTION_DIM))}, shape=(N_AGENTS,))
    theirs = MLP_CONFIG.get_model(
        input_spec=Composite({GROUP: tiny.observation_spec}),
        output_spec=Composite({GROUP: logits}),
        agent_group=GROUP,
        input_has_agent_dim=True,
        n_agents=N_AGENTS,
        centralised=False,
        share_params=share_params,
        device="cpu",
        action_spec=tiny.action_spec,
    ).double()
    our_shapes, their_shapes = ([param.shape for param in model.parameters()] for model in (ours, theirs))
    assert our_shapes == their_shapes
    td = tiny.random_inputs((2,))
    assert torch.equal(ours(td.clone()).get(LOGITS), theirs(td.clone()).get(LOGITS))


@pytest.mark.parametrize(
    "options",
    [{"neighbours": NEIGHBOURS["full"]}, {"neighbours": NEIGHBOURS["none"], "team_state": True}],
    ids=["messages", "team_state"],
)
def test_the_team_reaches_a_flat_worker_where_asked(options):
    """The flat control: everybody through messages, or through the team's mean state."""
    tiny = _tiny(FLAT, **options)
    td = tiny.random_inputs()
    td[GROUP, "observation"].requires_grad_()
    assert is_reached(tiny.actors[0](td.clone()).get(LOGITS), td) == [[True] * N_AGENTS] * N_AGENTS


def test_goals_start_with_the_scale_that_was_asked_for():
    """A zeroed head gives goals of mean 0 and standard deviation 0.5."""
    tiny = TinyHierarchy(THREE_LEVELS)
    actor = tiny.actors[1]
    for param in actor.parameters():
        torch.nn.init.zeros_(param)
    dist = actor.get_dist(tiny.random_inputs((2,)))
    assert dist.mean.shape == (2, N_AGENTS, GOAL_DIM)
    assert (dist.mean == 0).all()
    torch.testing.assert_close(dist.stddev, torch.full_like(dist.stddev, 0.5), rtol=0, atol=1e-6)


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_trains_its_own_networks_alone(level):
    """The log-probability and value of one level, on collected data, leave every other network without a gradient."""
    tiny = TinyHierarchy(THREE_LEVELS)
    critics = tiny.critics
    td = tiny.random_inputs((4,))
    td.set(tiny.keys[0].action, torch.zeros(4, N_AGENTS, ACTION_DIM, dtype=torch.float64))
    log_prob = tiny.actors[level].get_dist(td.clone()).log_prob(td.get(tiny.keys[level].action))
    (log_prob.sum() + tiny.answer(critics[level], td).sum()).backward()
    for other in LEVELS:
        for network in (tiny.actors[other], critics[other]):
            assert any(param.grad is not None for param in network.parameters()) == (other == level)


@pytest.mark.parametrize("gnn_class", ["GATv2Conv", "SAGEConv"])
@pytest.mark.parametrize("level", LEVELS)
def test_any_pyg_convolution_can_carry_the_messages(gnn_class, level):
    """The same equivariance with another layer."""
    pytest.importorskip("torch_geometric")
    tiny = _tiny(gnn_class=gnn_class)
    td, order = tiny.random_inputs((2,)), torch.tensor([3, 1, 4, 0, 2])
    for network in _networks(tiny, level):
        plain = tiny.answer(network, td)
        answer = tiny.answer(network, _permute_agents(td, tiny, order))
        torch.testing.assert_close(answer, plain[:, order] if level < 2 else plain, rtol=0, atol=1e-10)


def test_networks_leave_the_input_alone_but_for_their_answer():
    """No key beside the answer appears, so that no level finds another's hidden state."""
    tiny = _tiny()
    for critic in tiny.critics:
        td = tiny.random_inputs((2,))
        before = set(td.keys(True, True))
        critic(td)
        assert set(td.keys(True, True)) - before == set(critic.out_keys)
        assert td[GROUP, "observation"].shape == (2, N_AGENTS, OBS_DIM)


def test_networks_read_only_their_in_keys():
    """A batch reduced to a network's in-keys gives the same answer: minibatches carry no more."""
    for team_state in (False, True):
        tiny = _tiny(neighbours=NEIGHBOURS["radius"], team_state=team_state)
        td = tiny.random_inputs((2,))
        for level in LEVELS:
            for network in _networks(tiny, level):
                selected = td.select(*network.in_keys)
                assert torch.equal(tiny.answer(network, selected), tiny.answer(network, td))
