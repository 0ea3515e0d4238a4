"""Positive listening: what it measures, where it is zero, and that it is learned."""

import pytest
import torch
from support.hierarchy_builders import TinyHierarchy
from support.parts import CREDITS, GOALS
from tensordict import TensorDictBase
from torch import Tensor

from benchmarl_himpo.hierarchy import HierarchyLayout
from benchmarl_himpo.objectives import HierarchicalGAE, HimppoLoss, RewardScheme

LAYOUT = HierarchyLayout(5, (2, 1), (3, 2))
OPTIONS = {"clip_epsilon": 0.25, "entropy_coef": 0.0, "critic_coef": 0.5, "loss_critic_type": "l2"}


def _loss(tiny: TinyHierarchy, listening_coef: float) -> HimppoLoss:
    return HimppoLoss(tiny.policy, tiny.critics, **OPTIONS, listening_coef=listening_coef)


def _rows(tiny: TinyHierarchy) -> TensorDictBase:
    scheme = RewardScheme(LAYOUT, CREDITS["uniform"], "own", False, (0.9,) * 3, (0.95, 0.0, 0.0), "all")
    return HierarchicalGAE(tiny.policy, tiny.critics, scheme)(tiny.roll_out(12)).flatten(0, 1)


def _probabilities(tiny: TinyHierarchy, rows: TensorDictBase) -> Tensor:
    return tiny.actors[1].get_dist(rows.copy()).probs


def test_its_mean_over_actions_is_the_total_variation_distance_to_the_policy_that_receives_zeros():
    """Of sub-managers with five goals to send, each goal weighed with its probability."""
    tiny = TinyHierarchy(LAYOUT, goal=GOALS["categorical"])
    loss, rows, keys = _loss(tiny, 0.5).level_losses[1], _rows(tiny), tiny.keys
    without = rows.copy().set(keys[2].action, torch.zeros_like(rows.get(keys[2].action)))
    given, zeros = _probabilities(tiny, rows), _probabilities(tiny, without)
    mean = 0.0
    for goal in range(tiny.goal.dim):
        sent = rows.copy().set(keys[1].action, torch.zeros_like(rows.get(keys[1].action)))
        sent.get(keys[1].action)[..., goal] = 1
        log_weight = given[..., goal].log() - rows.get(keys[1].log_prob)
        mean = mean + given[..., goal, None] * loss.listening(sent, log_weight[..., None])
    torch.testing.assert_close(mean.squeeze(-1), (given - zeros).abs().sum(-1) / 2)
    assert mean.max() > 1e-3


def test_it_is_reported_of_the_levels_that_receive_goals_and_lowers_their_loss():
    tiny = TinyHierarchy(LAYOUT)
    rows = _rows(tiny)
    silent, listening = _loss(tiny, 0.0)(rows), _loss(tiny, 0.5)(rows)
    assert {key for key in listening.keys() if key not in silent.keys()} == {"listening_level_0", "listening_level_1"}
    for level in range(2):
        difference = silent[f"objective_loss_level_{level}"] - listening[f"objective_loss_level_{level}"]
        assert difference.item() == pytest.approx(0.5 * listening[f"listening_level_{level}"].item())
    assert listening["objective_loss_level_2"] == silent["objective_loss_level_2"]


def test_who_receives_zeros_does_not_listen():
    tiny = TinyHierarchy(LAYOUT)
    rows = _rows(tiny)
    rows.set(tiny.keys[1].action, torch.zeros_like(rows.get(tiny.keys[1].action)))
    assert _loss(tiny, 0.5)(rows)["listening_level_0"] == 0


def test_its_gradient_makes_workers_listen():
    tiny = TinyHierarchy(LAYOUT)
    rows, loss = _rows(tiny), _loss(tiny, 100.0)
    optimizer = torch.optim.Adam(loss.actor_params()[0], lr=0.01)
    listening = []
    for _ in range(20):
        out = loss(rows)
        listening.append(out["listening_level_0"].item())
        optimizer.zero_grad()
        out["loss_objective"].backward()
        optimizer.step()
    assert listening[-1] > 2 * listening[0] > 0


def test_actions_that_are_far_likelier_without_the_goal_leave_the_gradient_finite():
    """Their ratio overflows; they count as zero."""
    tiny = TinyHierarchy(LAYOUT)
    rows, loss = _rows(tiny), _loss(tiny, 0.5).level_losses[0]
    log_weight = torch.full((len(rows), LAYOUT.n_agents, 1), -1e4, dtype=torch.float64, requires_grad=True)
    listening = loss.listening(rows, log_weight)
    listening.sum().backward()
    assert not listening.any()
    assert not log_weight.grad.any()
