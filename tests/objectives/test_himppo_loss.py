"""The loss alone, on small networks: TorchRL's where nothing is masked, plain loops where something is."""

import copy
import math

import pytest
import torch
from support.hierarchy_builders import TinyHierarchy
from support.parts import CLUSTERINGS, GOALS, NEIGHBOURS
from tensordict import TensorDict
from tensordict.nn import ProbabilisticTensorDictModule, ProbabilisticTensorDictSequential, TensorDictModule
from tensordict.nn.distributions import NormalParamExtractor
from torch import Tensor, nn
from torchrl.modules import IndependentNormal
from torchrl.objectives import ClipPPOLoss, ValueEstimators

from benchmarl_himpo.hierarchy import Hierarchy, HierarchyLayout
from benchmarl_himpo.hierarchy.keys import HierarchyKeys, LevelKeys
from benchmarl_himpo.models import HierarchicalPolicy
from benchmarl_himpo.objectives import HimppoLoss, LevelPPOLoss
from benchmarl_himpo.objectives.level_loss import FIXED_OPTIONS

KEYS = HierarchyKeys("agents")
N_ROWS, N_EDGES, OBS_DIM, ACTION_DIM = 6, 3, 4, 2
# Numbers that float32 holds exactly: TorchRL keeps them in buffers of that dtype
OPTIONS = {"clip_epsilon": 0.25, "entropy_coef": 0.125, "critic_coef": 0.5, "loss_critic_type": "l2"}
LEVEL_OUTPUTS = {"loss_objective", "loss_entropy", "loss_critic", "entropy", "kl_approx", "clip_fraction"}
LOSSES = {"loss_objective": "objective_loss", "loss_entropy": "entropy_loss", "loss_critic": "critic_loss"}
"""What is optimised, and the first part of the names under which the whole loss reports it by level."""


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


def _policy(actors: list) -> HierarchicalPolicy:
    """Some actors under a hierarchy of as many levels."""
    n_nodes = (2, 1)[: len(actors) - 1]
    parts = {"clustering": CLUSTERINGS["static"], "neighbours": NEIGHBOURS["none"]}
    hierarchy = Hierarchy("agents", N_EDGES, n_nodes, (5, 2)[: len(n_nodes)], observation=("observation",), **parts)
    return HierarchicalPolicy(hierarchy, actors)


def _three_levels(**options) -> tuple[HimppoLoss, list, list]:
    actors, critics = _networks(3)
    return HimppoLoss(_policy(actors), critics, **(OPTIONS | options)), actors, critics


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
            entry = out[f"{LOSSES.get(name, name)}_level_{level}"]
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
    for of_levels, networks in ((loss.actor_params(), actors), (loss.critic_params(), critics)):
        assert [len(params) for params in of_levels] == [len(list(network.parameters())) for network in networks]
        for params, network in zip(of_levels, networks, strict=True):
            assert all(torch.equal(ours, its) for ours, its in zip(params, network.parameters(), strict=True))
    actor_params = [param for level in loss.actor_params() for param in level]
    critic_params = [param for level in loss.critic_params() for param in level]
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
    expected = {f"{LOSSES.get(name, name)}_level_{level}" for name in LEVEL_OUTPUTS for level in range(3)}
    assert set(out.keys()) == expected | {"loss_objective", "loss_critic", "loss_entropy"}
    assert all(value.isfinite() and value.shape == () for value in out.values())


def test_levels_without_a_critic_or_an_entropy_weight_are_refused():
    """Two levels with one critic, with none, and with three entropy weights."""
    actors, critics = _networks(2)
    with pytest.raises(ValueError, match="one critic per level, got 1 for 2 levels"):
        HimppoLoss(_policy(actors), critics[:1], **OPTIONS)
    with pytest.raises(ValueError, match="got 0 for 2 levels"):
        HimppoLoss(_policy(actors), [], **OPTIONS)
    with pytest.raises(ValueError, match=r"^entropy_coef=\[0.1, 0.2, 0.3\] .* give 2 values"):
        HimppoLoss(_policy(actors), critics, **(OPTIONS | {"entropy_coef": [0.1, 0.2, 0.3]}))


def test_each_level_has_its_own_weight_of_the_entropy_bonus():
    """Weights 1/8, 0 and 1/2, workers first; one weight for all is that of each."""
    weights = [0.125, 0.0, 0.5]
    loss, td = _three_levels(entropy_coef=weights)[0], _minibatch(3)
    out = loss(td)
    for level, weight in enumerate(weights):
        bonus = weight * out[f"entropy_level_{level}"]
        torch.testing.assert_close(out[f"entropy_loss_level_{level}"], -bonus, rtol=0, atol=1e-12)
        assert out[f"entropy_level_{level}"] != 0
    expected = -sum(weight * out[f"entropy_level_{level}"] for level, weight in enumerate(weights))
    torch.testing.assert_close(out["loss_entropy"], expected, rtol=0, atol=1e-12)
    assert (_three_levels(entropy_coef=[0.125] * 3)[0](td) == _three_levels(entropy_coef=0.125)[0](td)).all()


def test_a_state_dict_carries_a_trained_loss_over_to_a_new_one():
    """Networks of another seed with other weights, then the same losses to the last bit."""
    loss, td = _three_levels()[0], _minibatch(3)
    actors, critics = _networks(3, seed=7)
    other = HimppoLoss(_policy(actors), critics, **OPTIONS)
    expected = loss(td)
    assert all(other(td)[name] != expected[name] for name in LOSSES)
    state = copy.deepcopy(loss.state_dict())
    optimiser = torch.optim.SGD(loss.parameters(), lr=0.1)
    sum(value for name, value in loss(td).items() if name.startswith("loss_")).backward()
    optimiser.step()
    assert all(loss(td)[name] != expected[name] for name in LOSSES)
    for restored in (other, loss):
        restored.load_state_dict(state)
        assert (restored(td) == expected).all()
    assert {name.split(".")[1] for name in state if name.startswith("level_losses.")} == {"0", "1", "2"}


def test_a_copy_of_a_loss_computes_and_trains_with_its_own_parameters():
    """As the one whose state it has; what it was copied from stays as it is."""
    loss, td = _three_levels()[0], _minibatch(3)
    before, copied = loss(td), copy.deepcopy(loss)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.add_(0.1)
    other = _three_levels()[0]
    other.load_state_dict(copied.state_dict())
    assert (copied(td) == other(td)).all()
    assert (loss(td) == before).all()
    assert copied(td)["loss_critic"] != before["loss_critic"]
    sum(value for name, value in copied(td).items() if name.startswith("loss_")).backward()
    assert all(parameter.grad is not None for parameter in copied.parameters())
    assert all(parameter.grad is None for parameter in loss.parameters())


@pytest.mark.parametrize("goal", GOALS)
def test_the_loss_of_real_networks_equals_plain_loops_for_any_goal_space(goal):
    """Objective, entropy and critic loss of every level, from log-probabilities and entropies of its own actor."""
    tiny = TinyHierarchy(HierarchyLayout(5, (2, 1), (3, 2)), goal=GOALS[goal])
    rows = tiny.roll_out(6).flatten(0, 1)
    generator = torch.Generator().manual_seed(0)
    expected = dict.fromkeys(LOSSES, 0.0)
    loss = HimppoLoss(tiny.policy, tiny.critics, **OPTIONS)
    for level in range(3):
        keys, size = tiny.keys[level], (12, tiny.layout.n_recipients(level), 1)
        mask = tiny.layout.is_due(rows.get(tiny.keys.clock), level).unsqueeze(-1).expand(size)
        advantage, target = (torch.randn(size, dtype=torch.float64, generator=generator) for _ in range(2))
        old = rows.get(keys.log_prob) + 0.4 * torch.randn(size[:-1], dtype=torch.float64, generator=generator)
        rows.set(keys.log_prob, old)
        rows.set(keys.advantage, advantage)
        rows.set(keys.value_target, target)
        for key in (keys.actor_mask, keys.critic_mask):
            rows.set(key, mask)
        with torch.no_grad():
            dist = tiny.actors[level].get_dist(rows.clone())
            log_prob, entropy = dist.log_prob(rows.get(keys.action)), dist.entropy()
            value = tiny.critics[level](rows.clone()).get(keys.state_value)
        kept = [(row, edge) for row in range(12) for edge in range(size[1]) if mask[row, edge]]
        for row, edge in kept:
            weight = math.exp(float(log_prob[row, edge] - old[row, edge]))
            gain = min(w * float(advantage[row, edge]) for w in (weight, min(max(weight, 0.75), 1.25)))
            expected["loss_objective"] -= gain / len(kept)
            expected["loss_entropy"] -= 0.125 * float(entropy[row, edge]) / len(kept)
            expected["loss_critic"] += 0.5 * float(target[row, edge] - value[row, edge]) ** 2 / len(kept)
    out = loss(rows.select(*loss.in_keys, *loss.mask_keys))
    for name, number in expected.items():
        assert out[name].item() == pytest.approx(number, abs=1e-6)
    sum(out[name] for name in LOSSES).backward()
    assert all(param.grad is not None for param in loss.parameters())


def test_an_advantage_without_the_trailing_one_is_refused():
    """TorchRL would broadcast it to a square without a word."""
    (actor,), (critic,) = _networks()
    td = _minibatch()
    td.set(KEYS[0].advantage, td[KEYS[0].advantage].squeeze(-1))
    with pytest.raises(ValueError, match="shapes must be equal"):
        LevelPPOLoss(actor, critic, KEYS[0], **OPTIONS)(td)


# TorchRL's contract of a loss


def _level() -> LevelPPOLoss:
    (actor,), (critic,) = _networks()
    return LevelPPOLoss(actor, critic, KEYS[0], **OPTIONS)


def _whole() -> HimppoLoss:
    return _three_levels()[0]


both_losses = pytest.mark.parametrize("make_loss", [_level, _whole])


@both_losses
def test_the_entries_called_loss_add_up_to_what_is_optimised(make_loss):
    """TorchRL's users sum them; the parts of the levels have other names and no gradient."""
    loss = make_loss()
    out = loss(_minibatch(3))
    assert {name for name in out.keys() if name.startswith("loss_")} == set(LOSSES)
    assert all(value.requires_grad == name.startswith("loss_") for name, value in out.items())
    total = sum(value for name, value in out.items() if name.startswith("loss_"))
    levels = [loss] if isinstance(loss, LevelPPOLoss) else loss.level_losses
    expected = sum(level_loss(_minibatch(3))[name] for level_loss in levels for name in LOSSES)
    torch.testing.assert_close(total, expected, rtol=0, atol=1e-12)
    total.backward()
    assert all(parameter.grad is not None for parameter in loss.parameters())


@both_losses
def test_in_keys_are_enough_and_out_keys_are_what_is_returned(make_loss):
    loss, td = make_loss(), _minibatch(3)
    out = loss(td.select(*loss.in_keys))
    assert list(out.keys()) == [key for key in out.keys() if key in loss.out_keys]
    assert set(out.keys()) == set(loss.out_keys)
    assert len(loss.out_keys) == len(set(loss.out_keys))
    assert (out == loss(td)).all()
    for key in loss.in_keys:
        with pytest.raises(KeyError, match=str(key[-1])):
            loss(td.exclude(key))


@both_losses
def test_masks_are_read_though_they_may_be_missing(make_loss):
    loss, td = make_loss(), _minibatch(3)
    for level in range(3):
        td = _set_masks(td, KEYS[level], _random_mask(level), _random_mask(level + 10))
    masked = loss(td.select(*loss.in_keys, *loss.mask_keys))
    assert (masked == loss(td)).all()
    assert masked["loss_objective"] != loss(td.select(*loss.in_keys))["loss_objective"]


@both_losses
@pytest.mark.parametrize(
    "name", ["action", "sample_log_prob", "advantage", "value_target", "actor_mask", "critic_mask"]
)
def test_a_key_that_is_set_is_read_and_the_old_one_no_more(make_loss, name):
    """The entry moved elsewhere and told gives the loss of before, whatever stands in its old place."""
    loss, td = make_loss(), _minibatch(3)
    for level in range(3):
        td = _set_masks(td, KEYS[level], _random_mask(level), _random_mask(level + 10))
    expected, old = loss(td), getattr(loss.tensor_keys, name)
    old = old if isinstance(old, list) else [old]
    new = [(key[0], f"other_{key[-1]}") for key in old]
    for before, after in zip(old, new, strict=True):
        td.set(after, td[before].clone())
        td.set(before, ~td[before] if td[before].dtype == torch.bool else 1 - 2 * td[before])
    changed = loss(td)
    assert any(changed[entry] != expected[entry] for entry in LOSSES)
    loss.set_keys(**{name: new if len(new) > 1 else new[0]})
    assert getattr(loss.tensor_keys, name) == (new if len(new) > 1 else new[0])
    assert (loss(td) == expected).all()
    assert all(key in [*loss.in_keys, *loss.mask_keys] for key in new)
    assert not any(key in [*loss.in_keys, *loss.mask_keys] for key in old)


@both_losses
def test_the_value_is_read_where_set_keys_says(make_loss):
    loss = make_loss()
    loss.set_keys(value=("agents", "elsewhere"))
    with pytest.raises(KeyError, match="elsewhere"):
        loss(_minibatch(3))


def test_one_key_for_the_whole_loss_is_that_of_every_level():
    loss, td = _whole(), _minibatch(3)
    td.set("shared", td[KEYS[0].advantage].clone())
    loss.set_keys(advantage="shared")
    assert loss.tensor_keys.advantage == ["shared"] * 3
    expected = loss(td)
    for level in (1, 2):
        td.set(KEYS[level].advantage, td["shared"].clone())
    loss.set_keys(advantage=[KEYS[level].advantage for level in range(3)])
    assert (loss(td) == expected).all()


@both_losses
@pytest.mark.parametrize("name", ["nonsense", "reward", "done", "terminated"])
def test_a_key_that_nothing_reads_is_refused(make_loss, name):
    with pytest.raises(ValueError, match=name):
        make_loss().set_keys(**{name: "somewhere"})


def test_keys_that_cannot_be_set_change_nothing_in_the_whole_loss():
    loss = _whole()
    before = loss.tensor_keys
    with pytest.raises(ValueError, match="advantage needs one key for each of the 3 levels, got 2"):
        loss.set_keys(action="a", advantage=["a", "b"])
    with pytest.raises(ValueError, match="nonsense"):
        loss.set_keys(action="a", nonsense="b")
    assert loss.tensor_keys == before
    with pytest.raises(AttributeError, match="advantage"):
        loss.tensor_keys.advantage = "a"


OTHER_VALUES = {
    "reduction": "sum",
    "normalize_advantage": True,
    "normalize_advantage_exclude_dims": (0,),
    "entropy_bonus": False,
    "separate_losses": True,
    "clip_value": 0.2,
    "log_explained_variance": True,
}


@both_losses
@pytest.mark.parametrize(("name", "value"), OTHER_VALUES.items())
def test_an_option_of_torchrl_that_would_have_no_effect_is_refused(make_loss, name, value):
    assert OTHER_VALUES.keys() == FIXED_OPTIONS.keys()
    loss = make_loss()
    with pytest.raises(ValueError, match=f"{name}=.*leave it at"):
        setattr(loss, name, value)
    setattr(loss, name, FIXED_OPTIONS[name])
    assert getattr(_level(), name) == FIXED_OPTIONS[name]


@pytest.mark.parametrize(
    "name", ["objective_coef", "clip_epsilon", "entropy_coeff", "critic_coeff", "loss_critic_type"]
)
def test_an_option_of_the_levels_is_set_on_the_levels(name):
    loss, td = _whole(), _minibatch(3)
    before, value = loss(td), "l1" if name == "loss_critic_type" else torch.tensor(0.0625)
    with pytest.raises(AttributeError, match="level_losses"):
        setattr(loss, name, value)
    for level_loss in loss.level_losses:
        setattr(level_loss, name, value)
    after = loss(td)
    assert any(before[entry] != after[entry] for entry in LOSSES)


@both_losses
@pytest.mark.parametrize("name", ["entropy_coef", "critic_coef"])
def test_a_coefficient_is_set_under_the_name_that_has_an_effect(make_loss, name):
    with pytest.raises(AttributeError, match=f"{name}f"):
        setattr(make_loss(), name, 0.5)


@both_losses
def test_a_value_estimator_is_refused(make_loss):
    """Advantages depend on all levels: one that is computed in here would be read by nothing, or be wrong."""
    loss = make_loss()
    with pytest.raises(NotImplementedError, match="no value estimator"):
        loss.make_value_estimator(ValueEstimators.GAE, gamma=0.9, lmbda=0.9)
    with pytest.raises(NotImplementedError, match="no value estimator"):
        loss.value_estimator = object()


@both_losses
def test_selected_out_keys_are_returned_alone_until_they_are_reset(make_loss):
    loss, td = make_loss(), _minibatch(3)
    full = loss(td)
    loss.select_out_keys("loss_objective", "loss_critic")
    assert set(loss(td).keys()) == {"loss_objective", "loss_critic"}
    loss.reset_out_keys()
    assert (loss(td) == full).all()
    assert set(loss.out_keys) == set(full.keys())


@both_losses
def test_the_loss_is_called_with_entries_by_name(make_loss):
    loss, td = make_loss(), _minibatch(3)
    out = loss(**{"_".join(key): td[key] for key in loss.in_keys})
    expected = loss(td)
    assert len(out) == len(loss.out_keys)
    for name, value in zip(loss.out_keys, out, strict=True):
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-12)


@both_losses
def test_one_row_without_a_batch_dimension_is_a_minibatch_of_one(make_loss):
    loss, td = make_loss(), _minibatch(3)
    assert (loss(td[0]) == loss(td[:1])).all()


@both_losses
def test_parameters_are_drawn_anew_at_every_level(make_loss):
    loss = make_loss()
    before = [parameter.detach().clone() for parameter in loss.parameters()]
    loss.reset_parameters_recursive()
    assert not any(torch.equal(old, new) for old, new in zip(before, loss.parameters(), strict=True))


def test_a_critic_of_weight_zero_has_a_loss_of_zero():
    (actor,), (critic,) = _networks()
    out = LevelPPOLoss(actor, critic, KEYS[0], **(OPTIONS | {"critic_coef": 0.0}))(_minibatch())
    assert out["loss_critic"] == 0
    assert all((gradient == 0).all() for gradient in _gradients(out["loss_critic"], critic))
