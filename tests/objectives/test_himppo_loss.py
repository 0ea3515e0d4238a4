"""The loss alone, on small networks: TorchRL's where nothing is masked, plain loops where something is."""

import math

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import ProbabilisticTensorDictModule, ProbabilisticTensorDictSequential, TensorDictModule
from tensordict.nn.distributions import NormalParamExtractor
from torch import Tensor, nn
from torchrl.modules import IndependentNormal
from torchrl.objectives import ClipPPOLoss

from benchmarl_himpo.keys import HierarchyKeys, LevelKeys
from benchmarl_himpo.objectives import HimppoLoss, LevelPPOLoss

KEYS = HierarchyKeys("agents")
N_ROWS, N_EDGES, OBS_DIM, ACTION_DIM = 6, 3, 4, 2
# Numbers that float32 holds exactly: TorchRL keeps them in buffers of that dtype
OPTIONS = {"clip_epsilon": 0.25, "entropy_coef": 0.125, "critic_coef": 0.5, "loss_critic_type": "l2"}
LEVEL_OUTPUTS = {"loss_objective", "loss_entropy", "loss_critic", "entropy", "kl_approx", "clip_fraction"}


def _input_key(level: int) -> tuple[str, str]:
    return ("agents", "observation") if level == 0 else (KEYS.root, f"input_{level}")


def _actor(level: int) -> ProbabilisticTensorDictSequential:
    keys, prefix = KEYS[level], _input_key(level)[0]
    names = [(prefix, f"{name}_{level}") for name in ("logits", "loc", "scale")]
    linear = nn.Linear(OBS_DIM, 2 * ACTION_DIM, dtype=torch.float64)
    return ProbabilisticTensorDictSequential(
        TensorDictModule(linear, in_keys=[_input_key(level)], out_keys=names[:1]),
        TensorDictModule(NormalParamExtractor(), in_keys=names[:1], out_keys=names[1:]),
        ProbabilisticTensorDictModule(
            in_keys={"loc": names[1], "scale": names[2]},
            out_keys=[keys.action],
            distribution_class=IndependentNormal,
            return_log_prob=True,
            log_prob_key=keys.log_prob,
        ),
    )


def _critic(level: int) -> TensorDictModule:
    linear = nn.Linear(OBS_DIM, 1, dtype=torch.float64)
    return TensorDictModule(linear, in_keys=[_input_key(level)], out_keys=[KEYS[level].state_value])


def _networks(n_levels: int = 1, seed: int = 0):
    torch.manual_seed(seed)
    return [_actor(level) for level in range(n_levels)], [_critic(level) for level in range(n_levels)]


def _minibatch(n_levels: int = 1, seed: int = 1) -> TensorDict:
    """Random rows without masks, far enough from the policy that some weights are clipped."""
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape: int) -> Tensor:
        return torch.randn(N_ROWS, N_EDGES, *shape, dtype=torch.float64, generator=generator)

    td = TensorDict({"agents": TensorDict(batch_size=[N_ROWS, N_EDGES])}, batch_size=[N_ROWS])
    for level in range(n_levels):
        keys = KEYS[level]
        td.set(_input_key(level), randn(OBS_DIM))
        td.set(keys.action, randn(ACTION_DIM))
        td.set(keys.log_prob, -2.5 + 0.5 * randn())
        td.set(keys.advantage, randn(1))
        td.set(keys.value_target, 3 * randn(1))
    return td


def _set_masks(td: TensorDict, keys: LevelKeys, actor_mask: Tensor, critic_mask: Tensor) -> TensorDict:
    td = td.clone()
    td.set(keys.actor_mask, actor_mask.reshape(N_ROWS, N_EDGES, 1))
    td.set(keys.critic_mask, critic_mask.reshape(N_ROWS, N_EDGES, 1))
    return td


def _random_mask(seed: int, share: float = 0.6) -> Tensor:
    """Some edges of some rows, and no edge of the first row."""
    mask = torch.rand(N_ROWS, N_EDGES, 1, generator=torch.Generator().manual_seed(seed)) < share
    mask[0] = False
    return mask


def _gradients(loss: Tensor, module: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(module.parameters()), retain_graph=True))


def _assert_same(ours: list[Tensor], theirs: list[Tensor], tolerance: float = 1e-12) -> None:
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=0, atol=tolerance)


@pytest.mark.parametrize("loss_critic_type", ["l1", "l2", "smooth_l1"])
@pytest.mark.parametrize("has_masks", [False, True])
def test_a_level_without_masked_edges_is_torchrls_clipped_ppo(loss_critic_type, has_masks):
    """Value and gradient of every term, and the diagnostics; masks that keep everything change nothing."""
    (actor,), (critic,) = _networks()
    keys, td = KEYS[0], _minibatch()
    theirs = ClipPPOLoss(
        actor, critic, clip_epsilon=0.25, entropy_coeff=0.125, critic_coeff=0.5, loss_critic_type=loss_critic_type
    )
    theirs.set_keys(
        action=keys.action,
        sample_log_prob=keys.log_prob,
        advantage=keys.advantage,
        value_target=keys.value_target,
        value=keys.state_value,
    )
    ours = LevelPPOLoss(actor, critic, keys, **(OPTIONS | {"loss_critic_type": loss_critic_type}))
    expected = theirs(td.clone())
    tolerance = 1e-7  # TorchRL takes the logarithm of its clip range in float32
    if has_masks:
        everything = torch.ones(N_ROWS, N_EDGES, dtype=torch.bool)
        td = _set_masks(td, keys, everything, everything)
    out = ours(td)
    for name in LEVEL_OUTPUTS:
        torch.testing.assert_close(out[name], expected[name].to(torch.float64), rtol=0, atol=tolerance)
    for name, module in (("loss_objective", actor), ("loss_entropy", actor), ("loss_critic", critic)):
        _assert_same(_gradients(out[name], module), _gradients(expected[name], module), tolerance)
    assert 0 < out["clip_fraction"] < 1


@pytest.mark.parametrize("seed", range(5))
def test_masked_terms_equal_a_plain_loop_over_the_kept_edges(seed):
    """Objective, entropy and critic loss are means over the edges that their own mask keeps."""
    (actor,), (critic,) = _networks(seed=seed)
    keys = KEYS[0]
    actor_mask, critic_mask = _random_mask(seed), _random_mask(seed + 100)
    td = _set_masks(_minibatch(seed=seed), keys, actor_mask, critic_mask)
    out = LevelPPOLoss(actor, critic, keys, **OPTIONS)(td)
    gains, entropies, errors, divergences, clipped = [], [], [], [], []
    with torch.no_grad():
        dist = actor.get_dist(td.clone())
        log_prob, entropy = dist.log_prob(td[keys.action]), dist.entropy()
        value = critic(td.clone())[keys.state_value]
    for row in range(N_ROWS):
        for edge in range(N_EDGES):
            if actor_mask[row, edge]:
                log_weight = float(log_prob[row, edge] - td[keys.log_prob][row, edge])
                weight, advantage = math.exp(log_weight), float(td[keys.advantage][row, edge])
                gains.append(min(weight * advantage, min(max(weight, 0.75), 1.25) * advantage))
                entropies.append(float(entropy[row, edge]))
                divergences.append(-log_weight)
                clipped.append(not 0.75 <= weight <= 1.25)
            if critic_mask[row, edge]:
                errors.append(float(td[keys.value_target][row, edge] - value[row, edge]) ** 2)
    expected = {
        "loss_objective": -sum(gains) / len(gains),
        "loss_entropy": -0.125 * sum(entropies) / len(entropies),
        "loss_critic": 0.5 * sum(errors) / len(errors),
        "entropy": sum(entropies) / len(entropies),
        "kl_approx": sum(divergences) / len(divergences),
        "clip_fraction": sum(clipped) / len(clipped),
    }
    assert set(out.keys()) == set(expected)
    for name, number in expected.items():
        assert out[name].shape == ()
        assert out[name].item() == pytest.approx(number, abs=1e-7 if name == "clip_fraction" else 1e-12)


def test_masked_edges_contribute_no_gradient():
    """Whatever stands in masked edges, in rows with a kept edge and in rows without: losses and gradients stay."""
    (actor,), (critic,) = _networks()
    keys, mask = KEYS[0], _random_mask(seed=2)
    assert mask.any(1).sum() < N_ROWS
    assert (mask.any(1) & ~mask.all(1)).any()
    loss = LevelPPOLoss(actor, critic, keys, **OPTIONS)
    td = _set_masks(_minibatch(), keys, mask, mask)
    other = _set_masks(_minibatch(seed=99), keys, mask, mask)
    for key in (_input_key(0), keys.action, keys.log_prob, keys.advantage, keys.value_target):
        kept = mask.squeeze(-1) if td[key].ndim == 2 else mask
        other.set(key, torch.where(kept, td[key], other[key]))
    out, expected = loss(other), loss(td)
    for name in LEVEL_OUTPUTS:
        torch.testing.assert_close(out[name], expected[name], rtol=0, atol=1e-12)
    for name, module in (("loss_objective", actor), ("loss_entropy", actor), ("loss_critic", critic)):
        _assert_same(_gradients(out[name], module), _gradients(expected[name], module))


def test_rows_where_nobody_trains_are_not_even_evaluated():
    """NaN in a row without any kept edge reaches no loss and no gradient."""
    (actor,), (critic,) = _networks()
    keys, mask = KEYS[0], _random_mask(seed=2)
    td = _set_masks(_minibatch(), keys, mask, mask)
    td[_input_key(0)][0] = math.nan
    td[keys.advantage][0] = math.nan
    out = LevelPPOLoss(actor, critic, keys, **OPTIONS)(td)
    assert all(value.isfinite() for value in out.values())
    total = out["loss_objective"] + out["loss_entropy"]
    assert all(gradient.isfinite().all() for gradient in _gradients(total, actor))
    assert all(gradient.isfinite().all() for gradient in _gradients(out["loss_critic"], critic))


def test_a_minibatch_in_which_nobody_decided_gives_zeros():
    """No row of an upper level in the minibatch: every entry is there, zero, and no NaN."""
    (actor,), (critic,) = _networks()
    nobody = torch.zeros(N_ROWS, N_EDGES, dtype=torch.bool)
    out = LevelPPOLoss(actor, critic, KEYS[0], **OPTIONS)(_set_masks(_minibatch(), KEYS[0], nobody, nobody))
    assert set(out.keys()) == LEVEL_OUTPUTS
    assert all((value == 0).all() for value in out.values())
    assert all(value.dtype == torch.float64 for value in out.values())


def test_actor_and_critic_have_masks_of_their_own():
    """A critic that trains on all rows beside an actor that trains on none, and the reverse."""
    (actor,), (critic,) = _networks()
    loss = LevelPPOLoss(actor, critic, KEYS[0], **OPTIONS)
    nobody, everybody = torch.zeros(N_ROWS, N_EDGES, dtype=torch.bool), torch.ones(N_ROWS, N_EDGES, dtype=torch.bool)
    full = loss(_minibatch())
    out = loss(_set_masks(_minibatch(), KEYS[0], nobody, everybody))
    assert out["loss_objective"] == 0
    assert out["loss_critic"] == full["loss_critic"]
    out = loss(_set_masks(_minibatch(), KEYS[0], everybody, nobody))
    assert out["loss_objective"] == full["loss_objective"]
    assert out["loss_critic"] == 0


def _three_levels() -> tuple[HimppoLoss, list, list]:
    actors, critics = _networks(3)
    return HimppoLoss(actors, critics, [KEYS[level] for level in range(3)], **OPTIONS), actors, critics


def test_the_whole_loss_is_the_sum_over_levels():
    """Three levels with masks of their own, against each level alone."""
    loss, actors, critics = _three_levels()
    td = _minibatch(3)
    for level in range(3):
        td = _set_masks(td, KEYS[level], _random_mask(level), _random_mask(level + 10))
    out = loss(td.clone())
    alone = [LevelPPOLoss(actors[level], critics[level], KEYS[level], **OPTIONS)(td.clone()) for level in range(3)]
    for name in ("loss_objective", "loss_critic", "loss_entropy"):
        torch.testing.assert_close(out[name], sum(td[name] for td in alone), rtol=0, atol=1e-12)
    for level in range(3):
        for name in LEVEL_OUTPUTS:
            entry = out[f"{name}_level_{level}"]
            torch.testing.assert_close(entry, alone[level][name].detach(), rtol=0, atol=1e-12)
            assert not entry.requires_grad


def test_no_gradient_crosses_levels():
    """Other goals, observations and rewards of one level change the gradient of that level's networks alone."""
    loss, actors, critics = _three_levels()
    td, other = _minibatch(3), _minibatch(3, seed=50)
    changed = td.clone()
    for key in (_input_key(1), KEYS[1].action, KEYS[1].log_prob, KEYS[1].advantage, KEYS[1].value_target):
        changed.set(key, other[key])
    for name, networks in (("loss_objective", actors), ("loss_entropy", actors), ("loss_critic", critics)):
        before, after = loss(td.clone())[name], loss(changed.clone())[name]
        for level, network in enumerate(networks):
            pair = list(zip(_gradients(before, network), _gradients(after, network), strict=True))
            if level == 1:
                assert any(not torch.allclose(a, b) for a, b in pair)
            else:
                assert all(torch.equal(a, b) for a, b in pair)


def test_actors_and_critics_share_no_parameter_and_no_graph():
    """BenchMARL calls backward for each loss on its own, without keeping the graph."""
    loss, actors, critics = _three_levels()
    actor_params, critic_params = list(loss.actor_params()), list(loss.critic_params())
    assert len(actor_params) == sum(len(list(actor.parameters())) for actor in actors)
    assert len(critic_params) == sum(len(list(critic.parameters())) for critic in critics)
    assert not {id(p) for p in actor_params} & {id(p) for p in critic_params}
    out = loss(_minibatch(3))
    (out["loss_objective"] + out["loss_entropy"]).backward()
    assert all(param.grad is not None for param in actor_params)
    assert all(param.grad is None for param in critic_params)
    out["loss_critic"].backward()
    assert all(param.grad is not None for param in critic_params)


@pytest.mark.parametrize("absent", [(), (1,), (2,), (1, 2)])
def test_the_entries_are_the_same_whichever_levels_train(absent):
    """Minibatches are stacked: every one has the same keys, whoever decided in it."""
    loss, *_ = _three_levels()
    td = _minibatch(3)
    for level in range(3):
        mask = torch.full((N_ROWS, N_EDGES), level not in absent)
        td = _set_masks(td, KEYS[level], mask, mask)
    out = loss(td)
    expected = {f"{name}_level_{level}" for name in LEVEL_OUTPUTS for level in range(3)}
    assert set(out.keys()) == expected | {"loss_objective", "loss_critic", "loss_entropy"}
    assert all(value.isfinite() and value.shape == () for value in out.values())


def test_levels_without_networks_or_keys_are_refused():
    """Two actors with one critic, and nothing at all."""
    actors, critics = _networks(2)
    with pytest.raises(ValueError, match="one actor, critic and set of keys per level, got 2, 1 and 2"):
        HimppoLoss(actors, critics[:1], [KEYS[0], KEYS[1]], **OPTIONS)
    with pytest.raises(ValueError, match="got 0, 0 and 0"):
        HimppoLoss([], [], [], **OPTIONS)


def test_an_advantage_without_the_trailing_one_is_refused():
    """TorchRL would broadcast it to a square without a word."""
    (actor,), (critic,) = _networks()
    td = _minibatch()
    td.set(KEYS[0].advantage, td[KEYS[0].advantage].squeeze(-1))
    with pytest.raises(ValueError, match="shapes must be equal"):
        LevelPPOLoss(actor, critic, KEYS[0], **OPTIONS)(td)
