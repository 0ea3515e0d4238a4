"""Goals with a gradient: the same goals until parameters change, those of the same noise after it, at any depth."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from support.hierarchy_builders import TinyHierarchy
from support.parts import CLUSTERINGS, GOALS, MEMORIES, NEIGHBOURS
from tensordict import TensorDict
from torch import Tensor

from benchmarl_himpo.hierarchy import HierarchyLayout, Memory
from benchmarl_himpo.objectives import GoalGradient, HierarchicalGAE, HimppoLoss, RewardScheme, Uniform

LAYOUTS = {
    "two levels": HierarchyLayout(3, (1,), (3,)),
    "three levels": HierarchyLayout(4, (2, 1), (3, 2)),
    "four levels": HierarchyLayout(4, (3, 2, 1), (2, 2, 2)),
}
N_STEPS = 14
"""Cuts an interval of every level but one at the end."""
RESETS = {5: [0]}
"""Cuts the intervals of one environment in the middle."""


def make(
    layout: HierarchyLayout, weight: float = 1.0, objective_coef: float | Sequence[float] = 1.0, **options: object
) -> tuple[TinyHierarchy, GoalGradient, HierarchicalGAE, HimppoLoss]:
    """A hierarchy whose graph moves, with everything that trains it."""
    tiny = TinyHierarchy(layout, clustering=CLUSTERINGS["kmeans"], **options)  # type: ignore[arg-type]
    return tiny, *parts_of(tiny, weight, objective_coef)


def parts_of(
    tiny: TinyHierarchy, weight: float = 1.0, objective_coef: float | Sequence[float] = 1.0
) -> tuple[GoalGradient, HierarchicalGAE, HimppoLoss]:
    """Gradient, advantage and loss of a hierarchy; a weight of 0: goals are data."""
    n_levels = tiny.layout.n_levels
    scheme = RewardScheme(
        tiny.layout, Uniform(), "cluster", False, (0.9,) * n_levels, (0.95,) * n_levels, critic_rows="all"
    )
    gradient = GoalGradient(tiny.policy, tiny.goal, weight or 1.0)
    used = gradient if weight else None
    loss = HimppoLoss(
        tiny.policy,
        tiny.critics,
        clip_epsilon=0.25,
        entropy_coef=0.0,
        critic_coef=0.5,
        loss_critic_type="l2",
        objective_coef=objective_coef,
        goal_gradient=used,
    )
    return gradient, HierarchicalGAE(tiny.policy, tiny.critics, scheme, used), loss


def shift(params: Sequence[Tensor], size: float, seed: int = 3) -> None:
    """Move parameters by random numbers."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for param in params:
            param += size * torch.randn(param.shape, dtype=param.dtype, generator=generator)


def test_a_level_without_epochs_left_is_not_trained_through_its_goals() -> None:
    tiny, _, advantage, loss = make(LAYOUTS["three levels"])
    batch = advantage(tiny.roll_out(N_STEPS, resets=RESETS))
    loss.trains = [True, True, False]
    loss(batch.flatten())["loss_objective"].backward()
    workers, middle, top = loss.actor_params()
    assert all(param.grad is not None for param in (*workers, *middle))
    assert all(param.grad is None or not param.grad.any() for param in top)


def goals_again(tiny: TinyHierarchy, gradient: GoalGradient, loss: HimppoLoss, rows: TensorDict) -> list[Tensor]:
    """The goals of all upper levels, computed again from the loss's parameters."""
    again = gradient(rows, [level.actor_network_params for level in loss.level_losses])
    return [again.get(tiny.keys[level].action) for level in gradient.levels]


@pytest.mark.parametrize("memory", [None, *MEMORIES.values()], ids=["no memory", *MEMORIES])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_goals_are_those_that_were_sent_and_the_ratio_is_1_until_a_parameter_changes(
    layout: HierarchyLayout, memory: Memory | None
) -> None:
    tiny, gradient, advantage, loss = make(layout, memory=memory)
    rows = advantage(tiny.roll_out(N_STEPS, resets=RESETS)).flatten()
    for level, goal in zip(gradient.levels, goals_again(tiny, gradient, loss, rows), strict=True):
        torch.testing.assert_close(goal, rows.get(tiny.keys[level].action), rtol=0, atol=1e-12)
    losses = loss(rows)
    for level in range(layout.n_levels):
        assert float(losses[f"kl_approx_level_{level}"].abs()) < 1e-12
        assert float(losses[f"clip_fraction_level_{level}"]) == 0
    without = parts_of(tiny, weight=0.0)[2](rows)
    for name, value in without.items():
        torch.testing.assert_close(losses[name], value, rtol=0, atol=1e-12)


@pytest.mark.parametrize("memory", [None, MEMORIES["window"]], ids=["no memory", "window"])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_changed_actors_give_the_goals_that_they_would_have_sent_with_the_same_noise(
    layout: HierarchyLayout, memory: Memory | None
) -> None:
    """Observations do not depend on actions here, so that the same seed collects the same steps with other goals."""
    tiny, gradient, advantage, loss = make(layout, memory=memory)
    rows = advantage(tiny.roll_out(N_STEPS, resets=RESETS)).flatten()
    before = [rows.get(tiny.keys[level].action).clone() for level in gradient.levels]
    shift([param for level in loss.actor_params()[1:] for param in level], size=0.1)
    again = goals_again(tiny, gradient, loss, rows)

    other = TinyHierarchy(layout, clustering=tiny.clustering, memory=memory)
    other_loss = parts_of(other)[2]
    other_loss.load_state_dict(loss.state_dict())
    for level, actor in enumerate(other.actors):
        other_loss.level_losses[level].actor_network_params.to_module(actor)
    collected = other.roll_out(N_STEPS, resets=RESETS).flatten()
    for level, goal, old in zip(gradient.levels, again, before, strict=True):
        torch.testing.assert_close(goal, collected.get(tiny.keys[level].action), rtol=0, atol=1e-10)
        assert (goal - old).abs().max() > 0.01


@pytest.mark.parametrize("memory", [None, MEMORIES["gru"]], ids=["no memory", "gru"])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_the_gradient_of_the_workers_surrogate_is_the_numerical_one_in_the_actors_of_every_level(
    layout: HierarchyLayout, memory: Memory | None
) -> None:
    """Away from where it was collected, so that ratios, means and deviations have moved."""
    tiny, _, advantage, loss = make(layout, objective_coef=[1.0, *[0.0] * layout.top], memory=memory)
    rows = advantage(tiny.roll_out(N_STEPS, resets=RESETS)).flatten()
    actors = loss.actor_params()
    shift([param for level in actors for param in level], size=0.01)
    loss(rows)["loss_objective"].backward()
    for level, params in enumerate(actors):
        step = 1e-6
        direction = [
            torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(level)) for p in params
        ]
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                for param, change in zip(params, direction, strict=True):
                    param += sign * step * change
                values.append(loss(rows)["loss_objective"].item())
                for param, change in zip(params, direction, strict=True):
                    param -= sign * step * change
        numerical = (values[0] - values[1]) / (2 * step)
        exact = sum(
            float((p.grad * change).sum()) for p, change in zip(params, direction, strict=True) if p.grad is not None
        )
        assert exact == pytest.approx(numerical, rel=1e-4, abs=1e-8)
        assert abs(exact) > 1e-6


def gradients_above(loss: HimppoLoss, rows: TensorDict) -> list[float]:
    """Largest gradient in the actor of every level."""
    loss.zero_grad()
    loss(rows)["loss_objective"].backward()
    return [
        max(float(p.grad.abs().max()) if p.grad is not None else 0.0 for p in params) for params in loss.actor_params()
    ]


def test_without_it_no_gradient_of_the_workers_reaches_a_level_above() -> None:
    tiny, _, advantage, loss = make(LAYOUTS["three levels"], weight=0.0, objective_coef=[1.0, 0.0, 0.0])
    rows = advantage(tiny.roll_out(N_STEPS)).flatten()
    workers, *above = gradients_above(loss, rows)
    assert workers > 0 and above == [0.0, 0.0]


def test_the_weight_scales_the_gradient_once_per_level_that_it_climbs_and_moves_no_goal() -> None:
    tiny, _, advantage, _ = make(LAYOUTS["three levels"])
    rows = advantage(tiny.roll_out(N_STEPS)).flatten()
    half, whole = parts_of(tiny, 0.5, [1.0, 0.0, 0.0])[2], parts_of(tiny, 1.0, [1.0, 0.0, 0.0])[2]
    one, other = gradients_above(whole, rows), gradients_above(half, rows)
    assert [b / a for a, b in zip(one, other, strict=True)] == pytest.approx([1.0, 0.5, 0.25])
    assert whole(rows)["loss_objective"].item() == half(rows)["loss_objective"].item()


def test_goals_that_were_decided_before_the_batch_are_data() -> None:
    tiny, gradient, advantage, loss = make(LAYOUTS["three levels"])
    batch = advantage(tiny.roll_out(N_STEPS)[:, 4:].clone())  # sub-managers decide at 6, the manager at 6
    rows = batch[:, :2].flatten()
    shift([param for level in loss.actor_params()[1:] for param in level], size=0.1)
    for level, goal in zip(gradient.levels, goals_again(tiny, gradient, loss, rows), strict=True):
        assert torch.equal(goal, rows.get(tiny.keys[level].action))
    later = batch[:, 2:].flatten()
    assert not torch.equal(goals_again(tiny, gradient, loss, later)[0], later.get(tiny.keys[1].action))


def test_critics_see_the_goals_that_were_sent() -> None:
    tiny, _, advantage, loss = make(LAYOUTS["three levels"])
    rows = advantage(tiny.roll_out(N_STEPS)).flatten()
    loss(rows)["loss_critic"].backward()
    assert all(param.grad is None or not param.grad.any() for level in loss.actor_params() for param in level)
    before = loss(rows)["loss_critic"].item()
    shift([param for level in loss.actor_params() for param in level], size=0.1)
    assert loss(rows)["loss_critic"].item() == before


def test_the_dead_send_no_gradient() -> None:
    """What a dead worker's goal would change trains nothing."""
    tiny, gradient, advantage, loss = make(LAYOUTS["two levels"], neighbours=NEIGHBOURS["none"])
    batch = tiny.roll_out(N_STEPS)
    rows = advantage(batch).flatten()
    mask = rows.get(tiny.keys[0].actor_mask)
    mask[:, 1] = False
    rows.set(tiny.keys[0].actor_mask, mask)
    seen: list[Tensor] = []
    keep = gradient.goal.change

    class Kept(type(gradient.goal)):  # type: ignore[misc]
        def change(self, goal: Tensor, old: Tensor, new: Tensor) -> Tensor:
            seen.append(keep(goal, old, new))
            seen[-1].retain_grad()
            return seen[-1]

    gradient.goal = Kept(**vars(gradient.goal))
    loss(rows)["loss_objective"].backward()
    (change,) = seen
    assert change.grad is not None
    assert not change.grad[:, 1].any() and change.grad[:, 0].any()


@pytest.mark.parametrize("weight", [-0.5, 1.5])
def test_a_weight_out_of_range_is_refused(weight: float) -> None:
    tiny = TinyHierarchy(LAYOUTS["two levels"])
    with pytest.raises(ValueError, match=rf"goal_gradient={weight} must be above 0 and at most 1"):
        GoalGradient(tiny.policy, tiny.goal, weight)


def test_goals_that_cannot_be_differentiated_and_hierarchies_without_goals_are_refused() -> None:
    tiny = TinyHierarchy(LAYOUTS["two levels"], goal=GOALS["categorical"])
    with pytest.raises(
        ValueError, match=r"goal_gradient=1.0 needs goals that can be differentiated, such as goal=normal"
    ):
        GoalGradient(tiny.policy, tiny.goal, 1.0)
    with pytest.raises(NotImplementedError):
        tiny.goal.change(torch.zeros(1), torch.zeros(1), torch.zeros(1))
    flat = TinyHierarchy(HierarchyLayout(3, (), ()))
    with pytest.raises(ValueError, match="there is only one level: set goal_gradient=0"):
        GoalGradient(flat.policy, flat.goal, 1.0)


@pytest.mark.parametrize("coef", [-0.1, 1.1, [1.0, 2.0, 0.0]])
def test_a_weight_of_the_objective_out_of_range_is_refused(coef: float | list[float]) -> None:
    with pytest.raises(ValueError, match=r"objective_coef=.* must be in \[0, 1\]"):
        make(LAYOUTS["three levels"], objective_coef=coef)
