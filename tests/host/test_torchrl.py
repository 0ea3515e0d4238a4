"""What is used of TorchRL beyond its documentation."""

from __future__ import annotations

import inspect
import math
from pathlib import Path

import pytest
import torch
from benchmarl.algorithms import IppoConfig
from benchmarl.environments import VmasTask
from benchmarl.experiment import Experiment
from support.tiny_experiment import TinyExperiment
from tensordict import LazyStackedTensorDict, TensorDict, TensorDictBase
from tensordict.nn import TensorDictModule, TensorDictModuleBase, TensorDictParams
from torch import Tensor, nn
from torchrl.modules import MultiAgentMLP
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value.functional import td0_advantage_estimate, vec_generalized_advantage_estimate
from torchrl.record.loggers import CSVLogger
from vmas.simulator.environment import Environment

from benchmarl_himpo.host.hook import Hook
from benchmarl_himpo.host.torchrl import (
    HOOKS,
    MIN_GAE_DECAY,
    NETWORK_PARAMETERS,
    capture_carried,
    declare_out_keys,
    entropy_of,
    keep_csv_videos_as_tensors,
    log_weight_of,
    plain_networks,
    restore_carried,
    vmas_environment,
)


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: f"{hook.owner.__name__}.{hook.name}")
def test_torchrl_has_the_hook(hook: Hook) -> None:
    parameters = inspect.signature(getattr(hook.owner, hook.name)).parameters
    assert tuple(name for name in parameters if name != "self") == hook.parameters


# Losses


@pytest.fixture
def loss(experiment: Experiment) -> ClipPPOLoss:
    return experiment.losses["agents"]


@pytest.fixture
def collected(experiment: Experiment) -> TensorDictBase:
    return next(iter(experiment.collector)).reshape(-1)[:8]


def test_log_weight_of_compares_the_policy_with_the_one_that_collected(
    loss: ClipPPOLoss, collected: TensorDictBase
) -> None:
    collected["agents", "log_prob"] -= 0.25  # as if another policy had collected
    log_weight, dist, kl_approx = log_weight_of(loss, collected, torch.Size([8, 3]))
    torch.testing.assert_close(log_weight, torch.full([8, 3, 1], 0.25))
    torch.testing.assert_close(kl_approx, torch.full([8, 3, 1], -0.25))
    log_prob = dist.log_prob(collected["agents", "action"])
    torch.testing.assert_close(log_prob, collected["agents", "log_prob"] + 0.25)
    assert log_weight.requires_grad


def test_entropy_of_is_that_of_the_distribution_or_sampled_where_it_has_no_closed_form(
    loss: ClipPPOLoss, collected: TensorDictBase
) -> None:
    normal = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(8, 3, 1), torch.ones(8, 3, 1)), 1)
    exact = torch.full([8, 3, 1], 0.5 * math.log(2 * math.pi * math.e))
    torch.testing.assert_close(entropy_of(loss, normal, torch.Size([8, 3])), exact)

    class WithoutEntropy(torch.distributions.Independent):
        def entropy(self) -> Tensor:
            raise NotImplementedError

    loss.samples_mc_entropy = 2000
    sampled = entropy_of(loss, WithoutEntropy(normal.base_dist, 1), torch.Size([8, 3]))
    torch.testing.assert_close(sampled, exact, rtol=0, atol=0.1)


class Declared(ClipPPOLoss):
    """A loss that says itself what it returns."""

    out_keys = TensorDictModuleBase.out_keys
    actor_network: TensorDictModule
    critic_network: TensorDictModule
    actor_network_params: TensorDictParams
    critic_network_params: TensorDictParams
    target_actor_network_params: TensorDictParams
    target_critic_network_params: TensorDictParams


def test_declare_out_keys_lets_select_out_keys_choose_and_go_back(experiment: Experiment) -> None:
    algorithm = experiment.algorithm
    loss = Declared(algorithm.get_policy_for_loss("agents"), algorithm.get_critic("agents"))
    declare_out_keys(loss, ["loss_objective", "loss_critic"])
    assert list(loss.out_keys) == ["loss_objective", "loss_critic"]
    loss.select_out_keys("loss_critic")
    assert list(loss.out_keys) == ["loss_critic"]
    loss.reset_out_keys()
    assert list(loss.out_keys) == ["loss_objective", "loss_critic"]


def test_parameters_of_networks_are_told_by_their_names(loss: ClipPPOLoss) -> None:
    of_networks = {name.partition(NETWORK_PARAMETERS)[0] for name in loss.state_dict() if NETWORK_PARAMETERS in name}
    assert {"actor_network", "critic_network"} <= of_networks
    trained = {name for name, value in loss.state_dict(keep_vars=True).items() if isinstance(value, nn.Parameter)}
    assert trained and all(NETWORK_PARAMETERS in name for name in trained)
    assert not any(NETWORK_PARAMETERS in name for name, buffer in loss.named_buffers() if buffer.ndim == 0)


@pytest.mark.parametrize("is_below", [False, True])
def test_the_vectorised_estimator_drops_its_first_term_below_min_gae_decay(is_below: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    value, next_value, reward = torch.randn(3, 2, 10, 1, generator=generator, dtype=torch.float64)
    never = torch.zeros(2, 10, 1, dtype=torch.bool)
    arguments = (value, next_value, reward, never, never)
    if is_below:
        with pytest.raises(IndexError):
            vec_generalized_advantage_estimate(1.0, 0.99 * MIN_GAE_DECAY, *arguments)
    else:
        advantage, _ = vec_generalized_advantage_estimate(1.0, 1.01 * MIN_GAE_DECAY, *arguments)
        torch.testing.assert_close(advantage, td0_advantage_estimate(1.0, *arguments), rtol=0, atol=1e-6)


# Networks


@pytest.mark.parametrize("share_params", [True, False])
def test_plain_networks_are_the_multi_agent_networks_agent_by_agent(share_params: bool) -> None:
    net = MultiAgentMLP(4, 2, n_agents=3, centralized=False, share_params=share_params, depth=1, num_cells=8)
    networks = plain_networks(net)
    assert len(networks) == (1 if share_params else 3)
    x = torch.randn(5, 3, 4)
    own = [networks[0 if share_params else agent](x[:, agent]) for agent in range(3)]
    torch.testing.assert_close(torch.stack(own, dim=net.agent_dim), net(x))
    parameters = [parameter for network in networks for parameter in network.parameters()]
    assert len(parameters) == 4 * len(networks) and not any(parameter.requires_grad for parameter in parameters)
    assert not {parameter.data_ptr() for parameter in parameters} & {value.data_ptr() for value in net.parameters()}


# Environments, loggers and collectors


def test_vmas_environment_is_vmas_own() -> None:
    env = VmasTask.BALANCE.get_from_yaml().get_env_fun(num_envs=2, continuous_actions=True, seed=0, device="cpu")()
    assert isinstance(vmas_environment(env), Environment)


def test_keep_csv_videos_as_tensors_makes_a_csv_logger_write_pt_files(tmp_path: Path) -> None:
    logger = CSVLogger("run", str(tmp_path), video_format="mp4")
    keep_csv_videos_as_tensors([logger])
    film = torch.zeros(1, 2, 3, 4, 4, dtype=torch.uint8)
    logger.log_video("film", film, step=7)
    assert torch.equal(torch.load(tmp_path / "run" / "videos" / "film_7.pt"), film)


def test_a_collector_goes_on_with_what_another_one_carried(build: TinyExperiment, experiment: Experiment) -> None:
    """Its first batch begins with the other's next observations, and trajectories are numbered on."""
    batches = iter(experiment.collector)
    next(batches)
    state = capture_carried(experiment.collector)
    other = build(IppoConfig.get_from_yaml(), experiment.task, seed=1)
    restore_carried(other.collector, state)
    theirs, ours = next(batches), next(iter(other.collector))
    other.close()
    assert torch.equal(ours["agents", "observation"][:, 0], theirs["agents", "observation"][:, 0])
    assert torch.equal(ours["collector", "traj_ids"], theirs["collector", "traj_ids"])
    assert ours["collector", "traj_ids"].min() > 0


def test_capture_carried_refuses_agents_that_observe_differently(experiment: Experiment) -> None:
    agents = [TensorDict({"observation": torch.zeros(4, size)}, [4]) for size in (2, 3)]
    assert capture_carried(experiment.collector) is not None
    experiment.collector._carrier["agents"] = LazyStackedTensorDict(*agents, stack_dim=1)
    assert capture_carried(experiment.collector) is None
