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


def change(parameters: list[Tensor], size: float, generator: torch.Generator) -> None:
    for parameter in parameters:
        noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        parameter.data.add_(size * noise)


@pytest.mark.parametrize("size", [0.0, 0.3])
def test_its_mean_over_collected_actions_is_the_total_variation_distance_to_the_policy_that_receives_zeros(size):
    """Value and gradient, before and after updates, of sub-managers that listen much. Every one of the five goals they
    may send is weighed with its probability at collection.
    """
    tiny = TinyHierarchy(LAYOUT, goal=GOALS["categorical"])
    loss, rows, keys = _loss(tiny, 0.5).level_losses[1], _rows(tiny), tiny.keys
    parameters, generator = [*tiny.actors[1].parameters()], torch.Generator().manual_seed(0)
    change(parameters, 1.0, generator)
    collected = _probabilities(tiny, rows).detach()
    change(parameters, size, generator)
    without = rows.copy().set(keys[2].action, torch.zeros_like(rows.get(keys[2].action)))
    distance = (_probabilities(tiny, rows) - _probabilities(tiny, without)).clamp(min=0).sum(-1)
    given, mean = _probabilities(tiny, rows), torch.zeros_like(distance)
    for goal in range(tiny.goal.dim):
        sent = rows.copy().set(keys[1].action, torch.zeros_like(rows.get(keys[1].action)))
        sent.get(keys[1].action)[..., goal] = 1
        sent.set(keys[1].log_prob, collected[..., goal].log())
        log_weight = (given[..., goal] / collected[..., goal]).log()
        mean = mean + collected[..., goal] * loss.listening(sent, log_weight.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(mean, distance)
    assert mean.max() > 0.4
    found, expected = (torch.autograd.grad(x.sum(), parameters, retain_graph=True) for x in (mean, distance))
    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(own, other)


def test_it_is_reported_of_the_levels_that_receive_goals_and_lowers_their_loss():
    tiny = TinyHierarchy(LAYOUT)
    rows = _rows(tiny)
    silent, listening = _loss(tiny, 0.0)(rows), _loss(tiny, 0.5)(rows)
    assert {key for key in listening.keys() if key not in silent.keys()} == {"listening_level_0", "listening_level_1"}
    for level in range(2):
        difference = silent[f"objective_loss_level_{level}"] - listening[f"objective_loss_level_{level}"]
        assert difference.item() == pytest.approx(0.5 * listening[f"listening_level_{level}"].item())
    assert listening["objective_loss_level_2"] == silent["objective_loss_level_2"]


def test_its_weight_is_set_on_the_levels():
    with pytest.raises(AttributeError, match="level_losses"):
        _loss(TinyHierarchy(LAYOUT), 0.5).listening_coef = 1.0


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
