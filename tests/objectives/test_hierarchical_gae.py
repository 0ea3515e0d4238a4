"""Advantages of all levels as a module: what it reads and writes, what it equals, and what it refuses."""

from dataclasses import replace

import pytest
import torch
from support.hierarchy_builders import GROUP, HIDDEN_DIM, TinyHierarchy
from support.parts import CLUSTERINGS, CREDITS, GOALS, NEIGHBOURS, CountedClustering, CountedNeighbours
from tensordict import TensorDict
from torchrl.objectives.value.functional import generalized_advantage_estimate

from benchmarl_himpo.hierarchy import CategoricalGoal, HierarchyLayout, NormalGoal
from benchmarl_himpo.objectives import HierarchicalGAE, HimppoLoss, RewardScheme
from benchmarl_himpo.objectives.trajectories import read_trajectories

THREE_LEVELS = HierarchyLayout(5, (2, 1), (3, 2))
FLAT = HierarchyLayout(5, (), ())
LOSS_OPTIONS = {"clip_epsilon": 0.25, "entropy_coef": 0.125, "critic_coef": 0.5, "loss_critic_type": "l2"}


def _scheme(layout: HierarchyLayout, **options) -> RewardScheme:
    defaults = {
        "credit": CREDITS["telescoped"],
        "local_reward": "cluster",
        "worker_external_reward": False,
        "gamma": (0.9,) * layout.n_levels,
        "lmbda": (0.95, 0.0, 0.0)[: layout.n_levels],
        "critic_rows": "sampled",
    }
    return RewardScheme(layout, **(defaults | options))


def _tiny(layout: HierarchyLayout = THREE_LEVELS, **options) -> TinyHierarchy:
    """Goals as large as node states, so that every credit rule can compare the two."""
    return TinyHierarchy(layout, **({"goal": NormalGoal(HIDDEN_DIM, 0.5)} | options))


def _advantage(tiny: TinyHierarchy, **options) -> HierarchicalGAE:
    return HierarchicalGAE(tiny.policy, tiny.critics, _scheme(tiny.layout, **options))


def _call(module: HierarchicalGAE, batch: TensorDict) -> TensorDict:
    """The module's answer; what it draws (rows, goals behind cuts) is drawn from one seed."""
    torch.manual_seed(0)
    return module(batch)


@pytest.mark.parametrize("credit", CREDITS)
@pytest.mark.parametrize("critic_phase", [False, True])
@pytest.mark.parametrize("layout", [THREE_LEVELS, FLAT])
def test_in_keys_are_enough_and_out_keys_are_there(credit, critic_phase, layout):
    """Advantage, target and masks of every level, ``[B, T, E, 1]``, detached, in the batch that was given."""
    tiny = _tiny(layout, critic_phase=critic_phase, neighbours=NEIGHBOURS["radius"])
    module, batch = _advantage(tiny, credit=CREDITS[credit]), tiny.roll_out(8, resets={4: [1]})
    selected = batch.select(*module.in_keys)
    expected = _call(module, batch.clone())
    out = _call(module, selected)
    assert out is selected
    assert len(module.out_keys) == len(set(module.out_keys)) == 4 * layout.n_levels
    for level in range(layout.n_levels):
        keys = tiny.keys[level]
        for key in (keys.advantage, keys.value_target, keys.actor_mask, keys.critic_mask):
            assert key in module.out_keys
            assert out.get(key).shape == (2, 8, layout.n_recipients(level), 1)
            assert torch.equal(out.get(key), expected.get(key))
            assert not out.get(key).requires_grad
        assert out.get(keys.actor_mask).dtype == out.get(keys.critic_mask).dtype == torch.bool
        assert out.get(keys.advantage).dtype == torch.float64


def test_the_module_is_the_scheme_on_the_trajectories():
    """Targets are computed without writing; forward writes them."""
    tiny = _tiny()
    module, batch = _advantage(tiny, critic_rows="all"), tiny.roll_out(8)
    before = set(batch.keys(True, True))
    torch.manual_seed(0)
    trajectories, targets = module.targets(batch)
    assert set(batch.keys(True, True)) == before
    torch.manual_seed(0)
    with torch.no_grad():
        read = read_trajectories(batch, tiny.policy, tiny.critics, True, False)
    for ours, theirs in zip(trajectories.next_state_value, read.next_state_value, strict=True):
        assert torch.equal(ours, theirs)
    out = _call(module, batch)
    for level, (target, again) in enumerate(zip(targets, module.scheme(read), strict=True)):
        assert torch.equal(target.advantage, again.advantage)
        assert torch.equal(out.get(tiny.keys[level].advantage), target.advantage)
        assert torch.equal(out.get(tiny.keys[level].value_target), target.value_target)
        assert torch.equal(out.get(tiny.keys[level].actor_mask), target.actor_mask)
        assert torch.equal(out.get(tiny.keys[level].critic_mask), target.critic_mask)


@pytest.mark.parametrize("is_terminated", [False, True])
def test_depth_one_is_torchrls_generalised_advantage_estimation(is_terminated):
    """Values of the critic on every observation and on the next one; an episode that ends and one that is cut."""
    tiny = _tiny(FLAT, neighbours=NEIGHBOURS["none"])
    batch = tiny.roll_out(8, resets={4: [1]}, is_terminated=is_terminated)
    out = _call(_advantage(tiny), batch.clone())
    with torch.no_grad():
        value, next_value = (tiny.answer(tiny.critics[0], td) for td in (batch, batch["next"]))
    done, terminated = (batch["next", name].unsqueeze(-1).expand(2, 8, 5, 1) for name in ("done", "terminated"))
    expected = generalized_advantage_estimate(
        0.9, 0.95, value, next_value, batch["next", GROUP, "reward"], done, terminated, time_dim=1
    )
    for key, theirs in zip((tiny.keys[0].advantage, tiny.keys[0].value_target), expected, strict=True):
        torch.testing.assert_close(out.get(key), theirs, rtol=0, atol=1e-5)


def _counted() -> tuple[TinyHierarchy, CountedClustering, list[CountedNeighbours]]:
    clustering, neighbours = CountedClustering(position_noise=0.0), (CountedNeighbours(), CountedNeighbours())
    return _tiny(clustering=clustering, neighbours=neighbours), clustering, list(neighbours)


def test_neither_advantage_nor_loss_builds_a_graph_where_nothing_was_cut():
    """Networks read the edges and clusters that the policy wrote, whichever rule and however many epochs."""
    tiny, clustering, neighbours = _counted()
    batch = tiny.roll_out(9, is_terminated=True)
    builders = (clustering, *neighbours)
    assert [len(builder.calls) for builder in builders] == [3, 9, 9]
    for builder in builders:
        builder.calls.clear()
    loss = HimppoLoss(tiny.policy, tiny.critics, **LOSS_OPTIONS)
    for rule in CREDITS.values():
        rows = _advantage(tiny, credit=rule)(batch.clone()).flatten(0, 1)
        for part in rows.split(6):
            out = loss(part.select(*loss.in_keys, *loss.mask_keys))
            sum(out[name] for name in ("loss_objective", "loss_critic", "loss_entropy")).backward()
    assert [builder.calls for builder in builders] == [[], [], []]


def test_the_graph_behind_cuts_is_built_once_for_all_of_them():
    """Environment 1 is cut after step 3, both at the batch's end: one call of each builder, on three rows."""
    tiny, clustering, neighbours = _counted()
    batch = tiny.roll_out(8, resets={4: [1]})
    for builder in (clustering, *neighbours):
        builder.calls.clear()
    _advantage(tiny)(batch)
    assert [builder.calls for builder in neighbours] == [[(3, 5)], [(3, 2)]]
    assert clustering.calls == []  # clocks 4, 8 and 4: nobody decides there


@pytest.mark.parametrize("goal", [NormalGoal(HIDDEN_DIM, 0.5), CategoricalGoal(HIDDEN_DIM)])
@pytest.mark.parametrize("credit", CREDITS)
def test_every_rule_trains_every_level_under_every_goal_space(goal, credit):
    """From a rollout over advantages to a gradient in each network."""
    tiny = _tiny(goal=goal, clustering=CLUSTERINGS["kmeans"])
    rows = _call(_advantage(tiny, credit=CREDITS[credit]), tiny.roll_out(12)).flatten(0, 1)
    loss = HimppoLoss(tiny.policy, tiny.critics, **LOSS_OPTIONS)
    out = loss(rows.select(*loss.in_keys, *loss.mask_keys))
    sum(out[name] for name in ("loss_objective", "loss_critic", "loss_entropy")).backward()
    for levels in (loss.actor_params(), loss.critic_params()):
        for params in levels:
            assert any((param.grad != 0).any() for param in params)


@pytest.mark.parametrize("level", range(3))
def test_nan_in_a_value_names_its_level(level):
    """One weight of the critic of one level."""
    tiny = _tiny()
    batch = tiny.roll_out(6)
    next(tiny.critics[level].parameters()).data.view(-1)[0] = torch.nan
    with pytest.raises(FloatingPointError, match=f"^state_value of group '{GROUP}' at level {level} "):
        _advantage(tiny)(batch)


@pytest.mark.parametrize(
    ("layout", "options", "level"),
    [
        (FLAT, {}, 0),
        (THREE_LEVELS, {"credit": CREDITS["uniform"]}, 0),
        (THREE_LEVELS, {"credit": CREDITS["cosine"]}, 1),
        (THREE_LEVELS, {"credit": CREDITS["cosine"], "local_reward": "none"}, 2),
    ],
)
def test_infinity_in_an_advantage_names_the_lowest_level_that_it_reaches(layout, options, level):
    """The reward of one worker: an advantage hands it down, cosine does not, and the local reward is of level 1."""
    tiny = _tiny(layout)
    batch = tiny.roll_out(6)
    batch["next", GROUP, "reward"][0, 2, 1] = torch.inf
    with pytest.raises(FloatingPointError, match=f"^advantage of group '{GROUP}' at level {level} "):
        _advantage(tiny, **options)(batch)


def test_nothing_is_written_where_a_number_is_not_finite():
    """The batch stays as it was collected."""
    tiny = _tiny()
    batch = tiny.roll_out(6)
    batch["next", GROUP, "reward"][:] = torch.nan
    module = _advantage(tiny)
    with pytest.raises(FloatingPointError):
        module(batch)
    assert not any(key in batch.keys(True) for key in module.out_keys)


def test_a_scheme_of_another_layout_is_refused():
    """Other clocks, and another number of agents."""
    tiny = _tiny()
    for other in (HierarchyLayout(5, (2, 1), (3, 3)), HierarchyLayout(4, (2, 1), (3, 2)), FLAT):
        with pytest.raises(ValueError, match="the scheme has the layout"):
            HierarchicalGAE(tiny.policy, tiny.critics, _scheme(other))


def test_a_batch_without_environments_is_refused():
    """What one environment without a batch dimension collects."""
    tiny = _tiny()
    with pytest.raises(ValueError, match=r"shape \[6\] instead of \[B, T\].*tensordict\.unsqueeze\(0\)"):
        HierarchicalGAE(tiny.policy, tiny.critics, _scheme(THREE_LEVELS))(tiny.roll_out(6)[0])


@pytest.mark.parametrize("n_critics", [0, 2, 4])
def test_another_number_of_critics_than_levels_is_refused(n_critics):
    """Three levels."""
    tiny = _tiny()
    with pytest.raises(ValueError, match=f"one critic per level, got {n_critics} for 3 levels"):
        HierarchicalGAE(tiny.policy, (tiny.critics * 2)[:n_critics], _scheme(THREE_LEVELS))


@pytest.mark.parametrize(
    ("hidden_dim", "advice"),
    [
        (HIDDEN_DIM, rf"set goal_dim={HIDDEN_DIM}, .* instead of goal_dim=3"),
        ((6, 3, 7), r"set hidden_dim of all levels above the workers to the same number, .* instead of \[3, 7\]"),
    ],
)
def test_goals_of_another_size_than_encodings_are_refused_by_rules_that_compare_the_two(hidden_dim, advice):
    """Three numbers under node states of six; then three at level 1 and seven at level 2. Other rules do not care."""
    tiny = TinyHierarchy(THREE_LEVELS, hidden_dim=hidden_dim, goal=GOALS["normal"])
    with pytest.raises(ValueError, match=f"credit=cosine .*: {advice}"):
        _advantage(tiny, credit=CREDITS["cosine"])
    _advantage(tiny, credit=CREDITS["uniform"])
    own = replace(tiny, hidden_dim=(8, 3, 3))  # workers have no goal actor
    _advantage(own, credit=CREDITS["cosine"])
