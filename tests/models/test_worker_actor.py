"""BenchMARL's distributions of actions behind the workers' network."""

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import nn
from torch.distributions import Categorical
from torchrl.data import Bounded, Composite
from torchrl.data import Categorical as CategoricalSpec
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import IndependentNormal, MaskedCategorical, TanhNormal

from benchmarl_himpo.models.worker_actor import is_continuous, n_worker_outputs, worker_actor

N_AGENTS, LOW, HIGH = 3, -2.0, 0.5


def _spec(kind: str) -> Composite:
    shape = (N_AGENTS, 2)
    action = Bounded(LOW, HIGH, shape=shape) if kind == "continuous" else CategoricalSpec(4, shape=(N_AGENTS,))
    return Composite({"agents": Composite({"action": action}, shape=(N_AGENTS,))})


def _actor(kind: str, has_action_mask: bool = False, use_tanh_normal: bool = False):
    network = TensorDictModule(nn.Identity(), in_keys=[("agents", "observation")], out_keys=[("agents", "logits")])
    return worker_actor(
        network,
        _spec(kind),
        "agents",
        has_action_mask=has_action_mask,
        use_tanh_normal=use_tanh_normal,
        scale_mapping="biased_softplus_1.0",
    )


def _inputs(kind: str, *shape: int) -> TensorDict:
    torch.manual_seed(0)
    observation = torch.randn(*shape, N_AGENTS, 4)
    mask = torch.tensor([True, False, True, False]).expand_as(observation)
    group = TensorDict({"observation": observation, "action_mask": mask}, batch_size=[*shape, N_AGENTS])
    return TensorDict({"agents": group}, batch_size=shape)


@pytest.mark.parametrize(("kind", "n_outputs"), [("continuous", 4), ("discrete", 4)])
def test_a_network_writes_two_numbers_per_action_or_one_per_choice(kind, n_outputs):
    """Two continuous actions, and four discrete choices."""
    assert is_continuous(_spec(kind), "agents") == (kind == "continuous")
    assert n_worker_outputs(_spec(kind), "agents") == n_outputs


@pytest.mark.parametrize(
    ("kind", "options", "distribution"),
    [
        ("continuous", {}, IndependentNormal),
        ("continuous", {"use_tanh_normal": True}, TanhNormal),
        ("discrete", {}, Categorical),
        ("discrete", {"has_action_mask": True}, MaskedCategorical),
    ],
)
@pytest.mark.parametrize("shape", [(), (2,), (2, 5)])
def test_actions_have_one_log_probability_each_which_can_be_computed_again(kind, options, distribution, shape):
    """Any batch shape, and the distribution that BenchMARL's IPPO has."""
    actor = _actor(kind, **options)
    with set_exploration_type(ExplorationType.RANDOM):
        td = actor(_inputs(kind, *shape))
    action, log_prob = td["agents", "action"], td["agents", "log_prob"]
    assert action.shape == (*shape, *_spec(kind)["agents", "action"].shape)
    assert log_prob.shape == (*shape, N_AGENTS)
    dist = actor.get_dist(_inputs(kind, *shape))
    assert isinstance(dist, distribution)
    torch.testing.assert_close(dist.log_prob(action), log_prob)


def test_a_squashed_normal_stays_inside_the_bounds_of_the_action():
    """A mean far outside."""
    td = _inputs("continuous", 200)
    td["agents", "observation"][..., :2] += torch.tensor([100.0, -100.0])
    with set_exploration_type(ExplorationType.RANDOM):
        action = _actor("continuous", use_tanh_normal=True)(td)["agents", "action"]
    assert (action >= LOW).all()
    assert (action <= HIGH).all()


def test_a_choice_that_the_mask_forbids_is_never_taken():
    """Choices 0 and 2 of four are allowed, and both are taken in 400 draws."""
    with set_exploration_type(ExplorationType.RANDOM):
        action = _actor("discrete", has_action_mask=True)(_inputs("discrete", 400))["agents", "action"]
    assert action.unique().tolist() == [0, 2]
