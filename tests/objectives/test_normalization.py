"""Running statistics of the levels: what they are, what they change, and that they are kept."""

import pytest
import torch
from support.hierarchy_builders import TinyHierarchy
from support.parts import CREDITS
from torch import Tensor

from benchmarl_himpo.hierarchy import HierarchyLayout
from benchmarl_himpo.objectives import HierarchicalGAE, HimppoLoss, LevelNorm, RewardScheme, RunningNorm

LAYOUT = HierarchyLayout(5, (2, 1), (3, 2))
LOSS_OPTIONS = {"clip_epsilon": 0.25, "entropy_coef": 0.125, "critic_coef": 0.5, "loss_critic_type": "l2"}


def _advantage(tiny: TinyHierarchy, norms: list[LevelNorm] | None, credit: str = "telescoped") -> HierarchicalGAE:
    scheme = RewardScheme(LAYOUT, CREDITS[credit], "own", False, (0.8, 0.9, 0.5), (0.95, 0.0, 0.0), "all")
    return HierarchicalGAE(tiny.policy, tiny.critics, scheme, norms=norms)


def _norms(**options) -> list[LevelNorm]:
    chosen = {"reward": False, "value": False, "decay": 0.0} | options
    return [LevelNorm(**chosen).double() for _ in range(3)]


def _state(norms: list[LevelNorm]) -> list[Tensor]:
    return [value.clone() for norm in norms for value in norm.state_dict().values()]


def test_statistics_are_the_debiased_moving_moments():
    norm = RunningNorm(0.75).double()
    x, y = torch.tensor([1.0, 3.0]).double(), torch.tensor([[10.0]]).double()
    assert norm.normalize(x).tolist() == norm.denormalize(x).tolist() == x.tolist()
    norm.update(x)
    assert norm.location == 2 and norm.deviation == 1
    norm.update(y)
    mean, square = (0.75 * 2 + 10) / 1.75, (0.75 * 5 + 100) / 1.75
    assert norm.location.item() == pytest.approx(mean)
    assert norm.deviation.item() == pytest.approx((square - mean**2) ** 0.5)
    assert norm.denormalize(norm.normalize(x)).tolist() == pytest.approx(x.tolist())
    norm.update(y[:0])
    assert norm.location.item() == pytest.approx(mean)


def test_a_constant_is_not_scaled_and_a_large_mean_hides_no_deviation():
    norm = RunningNorm(0.5)
    norm.update(torch.zeros(100))
    assert norm.deviation == 1
    norm = RunningNorm(0.5)
    norm.update(1000 + torch.tensor([-0.08, 0.08]))
    assert norm.deviation.item() == pytest.approx(0.08, rel=1e-2)
    assert norm.normalize(torch.tensor([1.0])).dtype == torch.float32


def test_the_parts_of_a_batch_update_the_statistics_once():
    tiny, norms = TinyHierarchy(LAYOUT), _norms(value=True)
    module = _advantage(tiny, norms)
    parts = [module.targets(part)[1] for part in tiny.roll_out(12).split(1)]
    module.update_norms(parts)
    for level, norm in enumerate(norms):
        of_level = [part[level] for part in parts]
        learned = torch.cat([target.value_target[target.critic_mask] for target in of_level])
        assert norm.value.deviation.item() == pytest.approx(learned.std(correction=0).item())


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_that_forgets_nothing_or_too_much_is_refused(decay):
    with pytest.raises(ValueError, match="norm_decay"):
        RunningNorm(decay)


@pytest.mark.parametrize("credit", ["uniform", "final", "telescoped"])
def test_a_level_learns_in_deviations_of_its_reward_and_hands_down_return_units(credit):
    tiny, norms = TinyHierarchy(LAYOUT), _norms(reward=True)
    module, batch = _advantage(tiny, norms, credit), tiny.roll_out(12)
    torch.manual_seed(0)  # of goals behind cuts
    _, plain = _advantage(tiny, None, credit).targets(batch)
    torch.manual_seed(0)
    _, targets = module.targets(batch)
    module.update_norms([targets])
    module.write(batch, targets)
    for level, (target, norm) in enumerate(zip(plain, norms, strict=True)):
        torch.testing.assert_close(targets[level].reward, target.reward)
        deviation = target.intervals.to_steps(target.intervals.sum(target.reward))[target.actor_mask].std(correction=0)
        assert norm.reward.deviation.item() == pytest.approx(deviation.item())
        keys = tiny.keys[level]
        torch.testing.assert_close(batch.get(keys.advantage), target.advantage / deviation)
        torch.testing.assert_close(batch.get(keys.value_target), target.value_target / deviation)


def test_the_scale_of_the_environment_s_reward_changes_nothing_that_is_learned():
    tiny = TinyHierarchy(LAYOUT)
    small = tiny.roll_out(12)
    large = small.clone()
    reward = ("next", tiny.keys.group, "reward")
    large.set(reward, 1000 * large.get(reward))
    for critic in tiny.critics:
        for parameter in critic.parameters():
            parameter.data.zero_()
    for batch in (small, large):
        torch.manual_seed(0)
        _advantage(tiny, _norms(reward=True))(batch)
    for level in range(3):
        for key in (tiny.keys[level].advantage, tiny.keys[level].value_target):
            torch.testing.assert_close(small.get(key), large.get(key))


def test_critics_learn_values_of_deviation_one_and_are_read_in_return_units():
    tiny, norms = TinyHierarchy(LAYOUT), _norms(value=True)
    module, batch = _advantage(tiny, norms), tiny.roll_out(12)
    torch.manual_seed(0)
    plain = _advantage(tiny, None).targets(batch)[0]
    module(batch)
    for level in range(3):
        keys = tiny.keys[level]
        learned = batch.get(keys.value_target)[batch.get(keys.critic_mask)]
        assert learned.mean().item() == pytest.approx(0, abs=1e-9)
        assert learned.std(correction=0).item() == pytest.approx(1)
    torch.manual_seed(0)
    trajectories, _ = module.targets(batch)
    for level in range(3):
        expected = norms[level].value.denormalize(plain.state_value[level])
        torch.testing.assert_close(trajectories.state_value[level], expected)


def test_looking_at_a_batch_leaves_the_statistics_alone():
    tiny, norms = TinyHierarchy(LAYOUT), _norms(value=True, reward=True)
    before = _state(norms)
    module, batch = _advantage(tiny, norms), tiny.roll_out(12)
    module.targets(batch)
    assert all(torch.equal(one, other) for one, other in zip(before, _state(norms), strict=True))
    module(batch)
    assert not any(torch.equal(one, other) for one, other in zip(before, _state(norms), strict=True))


def test_the_loss_keeps_the_statistics_with_its_parameters():
    tiny, norms, others = TinyHierarchy(LAYOUT), _norms(value=True), _norms(value=True)
    _advantage(tiny, norms)(tiny.roll_out(12))
    one, other = (HimppoLoss(tiny.policy, tiny.critics, **LOSS_OPTIONS, norms=of) for of in (norms, others))
    other.load_state_dict(one.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(_state(norms), _state(others), strict=True))
    assert norms[0].value.location != 0


def test_a_level_that_does_not_train_has_entries_and_no_gradient():
    tiny = TinyHierarchy(LAYOUT)
    loss = HimppoLoss(tiny.policy, tiny.critics, **LOSS_OPTIONS)
    batch = _advantage(tiny, None)(tiny.roll_out(12)).flatten(0, 1)
    full = loss(batch)
    loss.trains = [True, False, True]
    out = loss(batch)
    for key in full.keys():
        torch.testing.assert_close(out.get(key), full.get(key))
    sum(out.get(name) for name in ("loss_objective", "loss_critic", "loss_entropy")).backward()
    has_gradient = [
        [any(p.grad is not None for p in parameters) for parameters in of_levels]
        for of_levels in (loss.actor_params(), loss.critic_params())
    ]
    assert has_gradient == [[True, False, True], [True, False, True]]


def test_every_level_needs_a_scale():
    tiny = TinyHierarchy(LAYOUT)
    with pytest.raises(ValueError, match="one norm per level, got 2 for 3 levels"):
        _advantage(tiny, _norms(value=True)[:2])
