"""Spaces of goals: the distribution behind a network's answer, and what an environment carries."""

import math

import pytest
import torch
from support.parts import GOAL_DIM, GOALS
from tensordict import TensorDict
from tensordict.nn import ProbabilisticTensorDictSequential, TensorDictModule
from torch import nn
from torchrl.envs.utils import ExplorationType, set_exploration_type

from benchmarl_himpo.hierarchy import CategoricalGoal, NormalGoal, goal_registry
from benchmarl_himpo.hierarchy.goals import MIN_GOAL_SCALE

PARAMETERS, ACTION, LOG_PROB = ("root", "goal_logits_1"), ("root", "goal_1"), ("root", "goal_log_prob_1")


def _policy(name: str) -> ProbabilisticTensorDictSequential:
    """The modules of a goal space behind a network that hands on what it reads."""
    network = TensorDictModule(nn.Identity(), in_keys=["read"], out_keys=[PARAMETERS])
    return ProbabilisticTensorDictSequential(network, *GOALS[name].distribution(PARAMETERS, ACTION, LOG_PROB))


def _inputs(name: str, *shape: int, seed: int = 0) -> TensorDict:
    generator = torch.Generator().manual_seed(seed)
    read = torch.randn(*shape, GOALS[name].n_parameters, dtype=torch.float64, generator=generator)
    return TensorDict({"read": read}, batch_size=shape[:-1])


def test_registry_names_every_goal_space():
    """A goal space that is not in the registry cannot be chosen."""
    assert goal_registry == {"normal": NormalGoal, "categorical": CategoricalGoal}


@pytest.mark.parametrize("name", GOALS)
@pytest.mark.parametrize("shape", [(4,), (2, 4), (2, 3, 4)])
def test_goals_have_one_log_probability_each_which_can_be_computed_again(name, shape):
    """Any batch shape: goals ``[*B, E, dim]``, log-probabilities ``[*B, E]``, the same from the stored goal."""
    policy = _policy(name)
    with set_exploration_type(ExplorationType.RANDOM):
        td = policy(_inputs(name, *shape))
    assert td[ACTION].shape == (*shape, GOAL_DIM)
    assert td[LOG_PROB].shape == shape
    again = policy.get_dist(_inputs(name, *shape)).log_prob(td[ACTION])
    torch.testing.assert_close(again, td[LOG_PROB], rtol=0, atol=1e-12)
    assert policy.get_dist(_inputs(name, *shape)).entropy().shape == shape


@pytest.mark.parametrize("name", GOALS)
def test_goals_have_the_type_that_the_space_says(name):
    """An environment carries them in an entry of that type; a Normal follows its network in double precision."""
    td = _policy(name)(_inputs(name, 5, 4))
    assert td[ACTION].dtype.is_floating_point == GOALS[name].dtype.is_floating_point
    assert GOALS[name].dtype in (td[ACTION].dtype, torch.get_default_dtype())


def test_a_normal_goal_is_worked_by_hand():
    """Means 1, 2, 3; raw scales 0 give 0.5 each, the initial scale; a goal one scale off in each number."""
    policy = _policy("normal")
    dist = policy.get_dist(TensorDict({"read": torch.tensor([[1.0, 2, 3, 0, 0, 0]]).double()}))
    torch.testing.assert_close(dist.mean, torch.tensor([[1.0, 2, 3]]).double(), rtol=0, atol=0)
    torch.testing.assert_close(dist.stddev, torch.full((1, 3), 0.5).double(), rtol=0, atol=1e-6)
    log_prob = dist.log_prob(torch.tensor([[1.5, 1.5, 3.5]]).double())
    assert float(log_prob) == pytest.approx(3 * (-0.5 - math.log(0.5 * math.sqrt(2 * math.pi))), abs=1e-5)
    assert float(dist.entropy()) == pytest.approx(3 * (0.5 + math.log(0.5 * math.sqrt(2 * math.pi))), abs=1e-5)


def test_the_scale_of_a_normal_goal_ends_above_zero():
    """However far a network goes, a goal keeps some noise."""
    read = torch.tensor([[0.0, 0, 0, -50, -50, -50]]).double()
    stddev = _policy("normal").get_dist(TensorDict({"read": read})).stddev
    torch.testing.assert_close(stddev, torch.full((1, 3), MIN_GOAL_SCALE).double(), rtol=0, atol=1e-6)


def test_a_categorical_goal_is_worked_by_hand():
    """Logits log 1, log 2, log 5: the third goal has probability 5/8."""
    policy = _policy("categorical")
    dist = policy.get_dist(TensorDict({"read": torch.tensor([[1.0, 2, 5]]).double().log()}))
    probabilities = [1 / 8, 2 / 8, 5 / 8]
    for goal, probability in zip(torch.eye(3, dtype=torch.long), probabilities, strict=True):
        assert float(dist.log_prob(goal[None])) == pytest.approx(math.log(probability), abs=1e-12)
    assert float(dist.entropy()) == pytest.approx(-sum(p * math.log(p) for p in probabilities), abs=1e-12)


def test_a_categorical_goal_is_one_hot_and_drawn_as_often_as_its_probability_says():
    """8,000 draws of probabilities 1/8, 2/8, 5/8: within four standard errors."""
    n = 8_000
    torch.manual_seed(0)
    td = TensorDict({"read": torch.tensor([1.0, 2, 5]).double().log().expand(n, 3)}, [n])
    with set_exploration_type(ExplorationType.RANDOM):
        goal = _policy("categorical")(td)[ACTION]
    assert ((goal == 0) | (goal == 1)).all()
    assert (goal.sum(-1) == 1).all()
    share = torch.tensor([1 / 8, 2 / 8, 5 / 8])
    assert ((goal.float().mean(0) - share).abs() <= 4 * (share * (1 - share) / n).sqrt()).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NormalGoal(0, 0.5), "goal_dim=0 must be a whole number of 1 or more"),
        (lambda: NormalGoal(2, MIN_GOAL_SCALE), "goal: init_scale=0.01 must be above 0.01"),
        (lambda: NormalGoal(2, -1.0), "goal: init_scale=-1.0 must be above 0.01"),
        (lambda: NormalGoal(2, math.nan), "goal: init_scale=nan must be above 0.01"),
        (lambda: NormalGoal(2, math.inf), "goal: init_scale=inf .* and finite"),
        (lambda: CategoricalGoal(2.5), "goal_dim=2.5 must be a whole number"),
        (lambda: CategoricalGoal(1), "goal_dim=1 leaves goal=categorical no choice"),
        (lambda: CategoricalGoal(0), "goal_dim=0 leaves goal=categorical no choice"),
    ],
)
def test_spaces_without_goals_are_refused(make, message):
    """The message names the option, and the field where it is one of the space's own."""
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


def test_one_number_makes_a_normal_goal_and_two_make_a_choice():
    """The smallest spaces."""
    assert NormalGoal(1, 0.02).n_parameters == 2
    assert CategoricalGoal(2).n_parameters == 2
