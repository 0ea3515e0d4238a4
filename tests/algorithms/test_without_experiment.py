"""HiMPPO by TorchRL alone: its collector, our policy, advantage and loss, and none of BenchMARL's `Experiment`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from benchmarl.experiment import Callback
from support.tiny_experiment import algorithm_config, mlp_config
from support.toy_task import ToyTask
from tensordict import TensorDict, TensorDictBase
from torchrl.collectors import SyncDataCollector
from torchrl.envs import EnvBase

from benchmarl_himpo.hierarchy import FullNeighbours, Hierarchy, KMeansClustering, NormalGoal
from benchmarl_himpo.models import HimppoNetworks
from benchmarl_himpo.objectives import HierarchicalGAE, HimppoLoss, RewardScheme, Telescoped

LR, EPSILON, MINIBATCH = 0.001, 1e-6, 32


@pytest.fixture
def double() -> Iterator[None]:
    """Everything in float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def build(env: EnvBase) -> tuple[EnvBase, HimppoNetworks, HierarchicalGAE, HimppoLoss]:
    """The parts of the default algorithm, with the sizes of the tiny experiments."""
    hierarchy = Hierarchy(
        group="agents",
        n_agents=3,
        n_nodes=(2, 1),
        goal_interval=(5, 2),
        clustering=KMeansClustering(position_noise=0.0),
        neighbours=FullNeighbours(),
        observation=("observation",),
        position="position",
    )
    goal = NormalGoal(dim=2, init_scale=0.3)
    scheme = RewardScheme(
        hierarchy.layout,
        credit=Telescoped(),
        local_reward="own",
        worker_external_reward=False,
        gamma=(0.8, 0.9, 0.0),
        lmbda=(0.95, 0.0, 0.0),
        critic_rows="all",
    )
    networks = HimppoNetworks(
        hierarchy,
        env.full_observation_spec_unbatched["agents"],
        env.full_action_spec_unbatched,
        goal=goal,
        model=mlp_config(),
        critic_model=critic_config(),
        hidden_dim=8,
        share_params=True,
        share_param_critic=True,
        n_message_rounds=1,
        use_tanh_normal=True,
        scale_mapping="biased_softplus_1.0",
        device="cpu",
        edge_values=scheme.edge_values,
        critic_phase=True,
        goal_actor_width=0.25,
    )
    advantage = HierarchicalGAE(networks.policy, networks.critics, scheme)
    loss = HimppoLoss(
        networks.policy,
        networks.critics,
        clip_epsilon=0.2,
        entropy_coef=0.0,
        critic_coef=1.0,
        loss_critic_type="l2",
    )
    return env.append_transform(hierarchy.primer(env, goal)), networks, advantage, loss


def critic_config() -> Any:
    """The critics' network."""
    config = mlp_config()
    config.is_critic = True
    return config


def train(loss: HimppoLoss, minibatches: list[TensorDictBase]) -> None:
    """One optimiser step per minibatch, as BenchMARL does it: one optimiser per loss, gradients cut at a norm of 5."""
    flat = [[param for level in params for param in level] for params in (loss.actor_params(), loss.critic_params())]
    optimizers = [torch.optim.Adam(params, lr=LR, eps=EPSILON) for params in flat]
    for minibatch in minibatches:
        losses = loss(minibatch)
        sum(value for name, value in losses.items() if name.startswith("loss_")).backward()
        for optimizer, params in zip(optimizers, flat, strict=True):
            torch.nn.utils.clip_grad_norm_(params, 5.0)
            optimizer.step()
            optimizer.zero_grad()


def test_torchrls_collector_alone_trains_a_hierarchy() -> None:
    """Every network moves and stays finite, and the goals come from the collector's own steps."""
    torch.manual_seed(0)
    task = ToyTask(n_agents=3)
    env, networks, advantage, loss = build(task.get_env_fun(4, continuous_actions=True, seed=0, device="cpu")())
    before = [param.detach().clone() for param in loss.parameters()]
    collector = SyncDataCollector(env, networks.policy, frames_per_batch=64, total_frames=192)
    for batch in collector:
        batch = advantage(batch).reshape(-1)
        train(loss, [batch[part] for part in torch.randperm(64).split(MINIBATCH)])
    after = list(loss.parameters())
    assert all(param.isfinite().all() for param in after)
    assert not any(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    collector.shutdown()


class KeepData(Callback):
    """Keeps what was collected, and the minibatches in the order in which they were trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.batch = TensorDict()
        self.minibatches: list[TensorDictBase] = []

    def on_batch_collected(self, batch: TensorDictBase) -> None:
        """Keep the batch."""
        self.batch = batch.clone()

    def on_train_step(self, batch: TensorDictBase, group: str) -> None:
        """Keep the minibatch."""
        self.minibatches.append(batch.clone())


def test_the_parts_alone_end_where_benchmarls_wiring_ends(double: None, tiny_experiment: Any) -> None:
    """The same weights, batch and minibatches in float64: the same advantages and, after training, parameters."""
    task, kept = ToyTask(n_agents=3), KeepData()
    algorithm = algorithm_config("himppo", critic_rows="all")  # nothing is drawn after the batch
    experiment = tiny_experiment(algorithm, task, max_n_iters=1, lr=LR, callbacks=[kept])
    _, _, advantage, loss = build(task.get_env_fun(4, continuous_actions=True, seed=0, device="cpu")())
    loss.load_state_dict(experiment.losses["agents"].state_dict())
    before = [param.detach().clone() for param in loss.parameters()]
    experiment.run()

    alone = advantage(kept.batch).reshape(-1)
    identity = alone.get(("agents", "log_prob"))[:, 0]
    rows = [torch.isin(identity, part.get(("agents", "log_prob"))[:, 0]) for part in kept.minibatches]
    assert [int(row.sum()) for row in rows] == [32] * 4
    for row, wired in zip(rows, kept.minibatches, strict=True):
        order = wired.get(("agents", "log_prob"))[:, 0].argsort()
        own = alone[row][identity[row].argsort()]
        for key in advantage.out_keys:
            torch.testing.assert_close(own.get(key), wired[order].get(key), rtol=0, atol=1e-12)

    train(loss, [alone[row] for row in rows])
    after = list(experiment.losses["agents"].parameters())
    assert not any(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    for actual, expected in zip(loss.parameters(), after, strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)
