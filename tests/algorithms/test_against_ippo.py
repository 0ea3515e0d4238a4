"""At depth 1, without neighbours and team state, HiMPPO is BenchMARL's IPPO: values, gradients and whole runs, in
float64."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from benchmarl.algorithms import IppoConfig
from benchmarl.algorithms.common import AlgorithmConfig
from benchmarl.experiment import Experiment
from support.toy_task import ToyTask
from tensordict import TensorDictBase

from benchmarl_himpo.hierarchy import Hierarchy, NoNeighbours, StaticClustering
from benchmarl_himpo.models import HierarchicalPolicy
from benchmarl_himpo.objectives import HimppoLoss

GAMMA, LMBDA, ENTROPY_COEF, CRITIC_COEF, CLIP_EPSILON = 0.9, 0.7, 0.05, 0.8, 0.15
TOLERANCE = {"rtol": 1e-6, "atol": 1e-9}

MakeAlgorithm = Callable[..., AlgorithmConfig]


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(params=["continuous", "discrete", "masked"])
def task(request: pytest.FixtureRequest) -> ToyTask:
    """Environments that end at different times, half of them by truncation; batches cut what is left."""
    return ToyTask(has_mask=request.param == "masked", truncated_share=0.5)


@pytest.fixture
def pair(
    task: ToyTask, request: pytest.FixtureRequest, tiny_experiment: Any, make_algorithm: MakeAlgorithm
) -> tuple[Experiment, Experiment]:
    """IPPO and flat HiMPPO with the same options, seed and parameters."""
    ippo = IppoConfig.get_from_yaml()
    himppo = make_algorithm("himppo_flat", neighbours="none", team_state=False)
    for config, lmbda in ((ippo, LMBDA), (himppo, [LMBDA])):
        config.lmbda, config.entropy_coef, config.critic_coef = lmbda, ENTROPY_COEF, CRITIC_COEF
        config.clip_epsilon = CLIP_EPSILON
    options = {
        "task": task,
        "prefer_continuous_actions": request.node.callspec.params["task"] == "continuous",
        "gamma": GAMMA,
        "max_n_iters": 3,
    }
    return tiny_experiment(ippo, **options), tiny_experiment(himppo, **options)


def collect(experiment: Experiment) -> TensorDictBase:
    """The first batch. Shape ``[n_envs, T]``."""
    torch.manual_seed(0)
    return next(iter(experiment.collector)).clone()


def share_parameters(ippo: Experiment, himppo: Experiment) -> None:
    """Give flat HiMPPO the parameters of IPPO, which stand in the same order."""
    pairs = zip(ippo.losses["agents"].parameters(), himppo.losses["agents"].level_losses[0].parameters(), strict=True)
    with torch.no_grad():
        for source, target in pairs:
            target.copy_(source)
    for experiment in (ippo, himppo):
        experiment.collector.update_policy_weights_()


def loss_and_gradients(
    experiment: Experiment, loss: torch.nn.Module, batch: TensorDictBase
) -> tuple[TensorDictBase, list[torch.Tensor]]:
    """The processed losses and the gradient of their sum."""
    torch.manual_seed(1)  # for the entropy of squashed actions
    out = experiment.algorithm.process_loss_vals("agents", loss(batch))
    gradients = torch.autograd.grad(out["loss_objective"] + out["loss_critic"], list(loss.parameters()))
    return out, list(gradients)


def test_the_same_data_give_the_same_advantage_target_loss_and_gradient(pair: tuple[Experiment, Experiment]) -> None:
    ippo, himppo = pair
    share_parameters(ippo, himppo)
    batch = collect(ippo)
    ends = {name: batch.get(("next", name)).any() for name in ("terminated", "truncated")}
    assert all(ends.values()), "the batch must hold both kinds of ends"
    processed = [x.algorithm.process_batch("agents", batch.clone()) for x in pair]
    for name in ("advantage", "value_target"):
        expected, actual = (td.get(("agents", name)) for td in processed)
        assert actual.dtype == torch.float64
        torch.testing.assert_close(actual, expected, **TOLERANCE)

    # Another policy than the one that collected, so that ratios differ from one and some are clipped
    with torch.no_grad():
        for parameter in ippo.losses["agents"].parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    share_parameters(ippo, himppo)
    (expected_loss, expected_gradients), (loss, gradients) = (
        loss_and_gradients(x, x.losses["agents"], td.reshape(-1)) for x, td in zip(pair, processed, strict=True)
    )
    assert 0 < loss["clip_fraction_level_0"] < 1
    for name in ("loss_objective", "loss_critic"):
        torch.testing.assert_close(loss[name], expected_loss[name], **TOLERANCE)
    for name in ("clip_fraction", "kl_approx", "entropy"):
        torch.testing.assert_close(loss[f"{name}_level_0"], expected_loss[name], **TOLERANCE)
    for actual, expected in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(actual, expected, **TOLERANCE)


def test_himppo_loss_around_ippos_own_actor_and_critic_is_its_clip_ppo_loss(
    pair: tuple[Experiment, Experiment],
) -> None:
    ippo, _ = pair
    batch = ippo.algorithm.process_batch("agents", collect(ippo)).reshape(-1)
    actor = copy.deepcopy(ippo.algorithm.get_policy_for_loss("agents"))
    flat = Hierarchy(
        "agents", len(ippo.group_map["agents"]), (), (), StaticClustering(), NoNeighbours(), ("observation",)
    )
    loss = HimppoLoss(
        HierarchicalPolicy(flat, [actor]),
        critics=[ippo.algorithm.get_critic("agents")],
        clip_epsilon=CLIP_EPSILON,
        entropy_coef=ENTROPY_COEF,
        critic_coef=CRITIC_COEF,
        loss_critic_type="l2",
    )
    with torch.no_grad():
        for source, target in zip(ippo.losses["agents"].parameters(), loss.parameters(), strict=True):
            source.add_(0.2 * torch.randn_like(source))
            target.copy_(source)
    (expected_loss, expected_gradients), (actual_loss, gradients) = (
        loss_and_gradients(ippo, module, batch.clone()) for module in (ippo.losses["agents"], loss)
    )
    for name in ("loss_objective", "loss_critic"):
        torch.testing.assert_close(actual_loss[name], expected_loss[name], **TOLERANCE)
    for actual, expected in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(actual, expected, **TOLERANCE)


def test_whole_runs_end_at_the_same_parameters(pair: tuple[Experiment, Experiment]) -> None:
    ippo, himppo = pair
    share_parameters(ippo, himppo)
    before = [parameter.detach().clone() for parameter in ippo.losses["agents"].parameters()]
    for experiment in pair:
        experiment.run()
    after = list(ippo.losses["agents"].parameters())
    assert not any(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    for actual, expected in zip(himppo.losses["agents"].parameters(), after, strict=True):
        torch.testing.assert_close(actual, expected, **TOLERANCE)
