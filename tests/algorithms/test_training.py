"""What the options and the host allow: depths, groups, masks, deaths, layers, builders, schemes, environments,
benchmarks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from benchmarl.algorithms import IppoConfig, MappoConfig, QmixConfig
from benchmarl.algorithms.common import AlgorithmConfig
from benchmarl.benchmark import Benchmark
from benchmarl.environments.common import TaskClass
from benchmarl.experiment import Callback, Experiment
from benchmarl.models import MlpConfig
from support.callbacks import KeepBatches
from support.toy_task import ToyTask
from tensordict import TensorDictBase

from benchmarl_himpo.hierarchy.keys import HierarchyKeys
from benchmarl_himpo.objectives import credit_registry
from benchmarl_himpo.objectives.reward_scheme import LOCAL_REWARDS

MakeAlgorithm = Callable[..., AlgorithmConfig]
MakeTask = Callable[..., TaskClass]

KNN = {"name": "knn", "k": 2}
RADIUS = {"name": "radius", "radius": 8.0}
REGIONS = {"name": "regions", "arena": [-10.0, 10.0]}
RING = torch.eye(4, dtype=torch.bool).roll(1, dims=-1)


def run(experiment: Experiment) -> Experiment:
    """Run to the end; every parameter must be finite and every network of every group must have moved."""
    before = copy.deepcopy({group: loss.state_dict() for group, loss in experiment.losses.items()})
    experiment.run()
    for group, loss in experiment.losses.items():
        moved: dict[tuple[str, str], bool] = {}
        for name, parameter in loss.named_parameters():
            assert parameter.isfinite().all(), name
            _, level, network, *_ = name.split(".")
            changed = not torch.equal(parameter, before[group][name])
            moved[level, network] = moved.get((level, network), False) or changed
        assert all(moved.values()), moved
    return experiment


# Depths


@pytest.mark.parametrize(
    ("n_nodes", "goal_interval"),
    [([], []), ([1], [4]), ([3, 2], [2, 2]), ([2, 2, 1], [2, 2, 2]), ([4, 3, 2, 1], [1, 2, 1, 3])],
    ids=lambda value: str(value),
)
def test_any_depth_trains_from_config(
    n_nodes: list[int], goal_interval: list[int], tiny_experiment: Any, make_algorithm: MakeAlgorithm
) -> None:
    n_levels = len(n_nodes) + 1
    algorithm = make_algorithm(
        n_nodes=n_nodes, goal_interval=goal_interval, gamma=[None] * n_levels, lmbda=[0.95] + [0.0] * (n_levels - 1)
    )
    experiment = run(tiny_experiment(algorithm, ToyTask(n_agents=5)))
    assert len(experiment.losses["agents"].level_losses) == n_levels


@pytest.mark.parametrize("memory", ["window", "gru", [None, {"name": "gru", "decisions": 2, "size": 3}, "window"]])
@pytest.mark.parametrize("name", ["himppo", "himppo_dial"])
def test_every_parameter_of_a_memory_trains(
    name: str, memory: Any, tiny_experiment: Any, make_algorithm: MakeAlgorithm
) -> None:
    """Episodes of 6 to 12 steps, decisions every 2 and 4."""
    algorithm = make_algorithm(name, memory=memory, goal_interval=[2, 2])
    experiment = tiny_experiment(algorithm, ToyTask(n_agents=4, min_steps=6, has_alive=True))
    parameters = {n: p for n, p in experiment.losses["agents"].named_parameters() if ".memory" in n}
    before = {n: p.detach().clone() for n, p in parameters.items()}
    run(experiment)
    assert len(before) >= 4
    assert not [n for n, p in parameters.items() if torch.equal(p, before[n])]


def test_every_level_has_a_clock_a_discount_and_a_lambda_of_its_own(
    tiny_experiment: Any, make_algorithm: MakeAlgorithm
) -> None:
    algorithm = make_algorithm(
        "himppo_paper",
        n_nodes=[2, 2, 1],
        goal_interval=[5, 2, 3],
        gamma=[0.9, None, 1.0, 0.5],
        lmbda=[0.95, 0.0, 0.5, 1.0],
    )
    experiment = run(tiny_experiment(algorithm, ToyTask(n_agents=6)))
    layout = experiment.policy[0].hierarchy.layout
    assert layout.periods == (1, 5, 10, 30)


def test_more_sub_managers_than_agents_leaves_some_without_workers(
    tiny_experiment: Any, make_algorithm: MakeAlgorithm
) -> None:
    algorithm = make_algorithm(n_nodes=[5, 1])
    run(tiny_experiment(algorithm, ToyTask(n_agents=2)))


def test_a_single_agent_trains(tiny_experiment: Any) -> None:
    run(tiny_experiment(task=ToyTask(n_agents=1)))


# Groups, masks, deaths


@pytest.mark.parametrize("clustering", ["static", "kmeans"])
def test_every_agent_group_has_a_hierarchy_of_its_own(
    clustering: Any, tiny_experiment: Any, make_algorithm: MakeAlgorithm, make_vmas: MakeTask
) -> None:
    keep = KeepBatches()
    task = make_vmas("simple_tag", num_good_agents=2, num_adversaries=3, num_landmarks=1, max_steps=10)
    experiment = run(tiny_experiment(make_algorithm(clustering=clustering), task, callbacks=[keep]))
    sizes = {group: len(agents) for group, agents in experiment.group_map.items()}
    assert sorted(sizes.values()) == [2, 3]
    for group, n_agents in sizes.items():
        keys = HierarchyKeys(group)
        assert keep.batches[0].get(keys.parent_index).shape == (4, 16, n_agents)
        assert keep.batches[0].get(keys[1].action).shape == (4, 16, n_agents, 2)
    first, second = (HierarchyKeys(group)[2].action for group in sizes)
    assert not torch.equal(keep.batches[0].get(first), keep.batches[0].get(second))


def test_action_masks_are_obeyed_in_collection_and_evaluation(
    tiny_experiment: Any, make_algorithm: MakeAlgorithm
) -> None:
    # The task raises where an action is taken that its mask forbids
    for name in ("himppo", "himppo_flat"):
        task = ToyTask(has_mask=True)
        run(tiny_experiment(make_algorithm(name), task, evaluation=True, create_json=True))


@pytest.mark.parametrize("continuous", [True, False], ids=["continuous", "discrete"])
@pytest.mark.parametrize("name", ["himppo", "himppo_flat"])
def test_agents_may_die_and_neither_train_nor_speak(
    name: str, continuous: bool, tiny_experiment: Any, make_algorithm: MakeAlgorithm
) -> None:
    keep = KeepBatches()
    task = ToyTask(n_agents=4, has_alive=True, has_mask=not continuous, truncated_share=0.5)
    experiment = run(tiny_experiment(make_algorithm(name), task, callbacks=[keep]))
    batch = keep.batches[0]
    is_alive = batch.get(("agents", "alive"))
    assert 0.3 < is_alive.float().mean() < 1
    processed = experiment.algorithm.process_batch("agents", batch.clone())
    workers = HierarchyKeys("agents")[0]
    assert torch.equal(processed.get(workers.actor_mask).squeeze(-1), is_alive)
    assert torch.equal(processed.get(workers.critic_mask).squeeze(-1), is_alive)


def test_what_the_dead_see_changes_nothing_for_the_living(tiny_experiment: Any) -> None:
    keep = KeepBatches()
    experiment = tiny_experiment(task=ToyTask(n_agents=4, has_alive=True), callbacks=[keep])
    experiment.run()
    batch, workers = keep.batches[-1], HierarchyKeys("agents")[0]
    is_alive = batch.get(("agents", "alive"))
    changed = batch.clone()
    for data in (changed, changed.get("next")):
        observation, is_dead = data.get(("agents", "observation")), ~data.get(("agents", "alive"))
        observation[is_dead] = torch.randn_like(observation)[is_dead]
    processed, log_probs = [], []
    for data in (batch, changed):
        torch.manual_seed(0)  # goals after the cut at the end are drawn
        processed.append(experiment.algorithm.process_batch("agents", data.clone()))
        actor = experiment.policy[0].actors[0]
        with torch.no_grad():
            log_probs.append(actor.get_dist(data.clone()).log_prob(data.get(workers.action)))
    torch.testing.assert_close(*(log_prob[is_alive] for log_prob in log_probs))
    assert not torch.allclose(*(log_prob[~is_alive] for log_prob in log_probs))
    # Death ends a worker's episode, so nothing is bootstrapped from what it sees then
    for level in range(3):
        keys = HierarchyKeys("agents")[level]
        for key in (keys.advantage, keys.value_target):
            first, second = (data.get(key)[is_alive] if level == 0 else data.get(key) for data in processed)
            torch.testing.assert_close(first, second)
    losses = []
    for data in processed:
        torch.manual_seed(0)  # the entropy of squashed actions is drawn
        losses.append(experiment.losses["agents"](data.reshape(-1)))
    for name in losses[0].keys():
        torch.testing.assert_close(*(loss[name] for loss in losses), rtol=1e-4, atol=1e-6)


def test_the_teams_end_ends_every_worker_whatever_the_workers_own_flags_say(tiny_experiment: Any) -> None:
    keep = KeepBatches()
    experiment = tiny_experiment(task=ToyTask(truncated_share=0.5), callbacks=[keep])
    experiment.run()
    batch, workers = keep.batches[-1], HierarchyKeys("agents")[0]
    assert batch.get(("next", "done"))[:, :-1].any()
    denied, reward = batch.clone(), batch.get(("next", "agents", "reward"))
    for name in ("done", "terminated"):
        denied.set(("next", "agents", name), torch.zeros_like(reward, dtype=torch.bool))
    processed = []
    for data in (batch, denied):
        torch.manual_seed(0)  # goals after a cut are drawn
        processed.append(experiment.algorithm.process_batch("agents", data.clone()))
    for key in (workers.advantage, workers.value_target):
        torch.testing.assert_close(*(data.get(key) for data in processed))


# Options


@pytest.mark.parametrize("gnn_class", ["GraphConv", "GATv2Conv", "torch_geometric.nn.conv.SAGEConv"])
def test_a_convolution_of_pyg_trains_by_name(
    gnn_class: str, tiny_experiment: Any, make_algorithm: MakeAlgorithm
) -> None:
    pytest.importorskip("torch_geometric")
    run(tiny_experiment(make_algorithm(gnn_class=gnn_class, n_message_rounds=2)))


def test_arguments_of_the_pyg_convolution_are_passed_on(tiny_experiment: Any, make_algorithm: MakeAlgorithm) -> None:
    pytest.importorskip("torch_geometric")
    algorithm = make_algorithm(gnn_class="GATv2Conv", gnn_kwargs={"heads": 3, "concat": False})
    experiment = run(tiny_experiment(algorithm))
    convolutions = [m for m in experiment.policy.modules() if type(m).__name__ == "GATv2Conv"]
    assert {convolution.heads for convolution in convolutions} == {3}


@pytest.mark.parametrize(
    ("clustering", "neighbours"),
    [("static", "none"), (REGIONS, RADIUS), ("kmeans", KNN), ("kmeans", "full"), ("kmeans", ["none", "full"])],
)
def test_every_builder_trains(
    clustering: Any, neighbours: Any, tiny_experiment: Any, make_algorithm: MakeAlgorithm
) -> None:
    run(tiny_experiment(make_algorithm(clustering=clustering, neighbours=neighbours), ToyTask(n_agents=4)))


@pytest.mark.parametrize(
    ("name", "neighbours", "levels"), [("himppo_flat", "edges", 1), ("himppo", "edges", 1), ("himppo", ["edges"], 2)]
)
def test_a_graph_that_any_task_gives_is_what_its_agents_exchange_messages_on(
    name: str, neighbours: Any, levels: int, tiny_experiment: Any, make_algorithm: MakeAlgorithm
) -> None:
    task, keep = ToyTask(n_edges=4, n_agents=4, has_alive=True), KeepBatches()
    run(tiny_experiment(make_algorithm(name, neighbours=neighbours), task, callbacks=[keep]))
    (batch, *_), keys = keep.batches, HierarchyKeys("agents")
    alive = batch["agents", "alive"]
    assert torch.equal(batch[keys.adjacency(0)], RING & alive.unsqueeze(-1) & alive.unsqueeze(-2))
    assert not alive.all()
    if levels > 1:  # of two sub-managers, each exchanges messages with the other if some live workers of theirs do
        parents, edges = batch[keys.parent_index], batch[keys.adjacency(0)]
        across = edges & (parents.unsqueeze(-1) != parents.unsqueeze(-2))
        receives = torch.stack([(across & (parents == node).unsqueeze(-1)).any((-1, -2)) for node in (0, 1)], -1)
        assert torch.equal(batch[keys.adjacency(1)].any(-1), receives)
        assert receives.any() and not receives.all()


@pytest.mark.parametrize(("clustering", "neighbours"), [(REGIONS, RADIUS), ("kmeans", KNN)])
def test_positions_may_be_cells_of_a_grid(
    clustering: Any, neighbours: Any, tiny_experiment: Any, make_algorithm: MakeAlgorithm
) -> None:
    algorithm = make_algorithm(clustering=clustering, neighbours=neighbours)
    run(tiny_experiment(algorithm, ToyTask(n_agents=4, is_grid=True)))


@pytest.mark.parametrize("is_vectorised", [True, False], ids=["vectorised", "one_by_one"])
def test_double_precision_trains(is_vectorised: bool, tiny_experiment: Any) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        experiment = run(tiny_experiment(task=ToyTask(is_vectorised=is_vectorised, truncated_share=0.5)))
    finally:
        torch.set_default_dtype(torch.float32)
    assert {parameter.dtype for parameter in experiment.losses["agents"].parameters()} == {torch.float64}


@pytest.mark.parametrize("local_reward", LOCAL_REWARDS)
@pytest.mark.parametrize("credit", credit_registry)
def test_every_credit_trains_with_every_local_reward(
    credit: str, local_reward: str, tiny_experiment: Any, make_algorithm: MakeAlgorithm
) -> None:
    is_telescoped = credit == "telescoped"
    algorithm = make_algorithm(
        "himppo_paper",
        credit={"name": credit, "weight": 1.0} if credit == "cosine" else credit,
        goal_dim=8 if credit == "cosine" else 2,
        local_reward=local_reward,
        critic_rows="all" if is_telescoped else "decisions",
        critic_phase=is_telescoped,
    )
    run(tiny_experiment(algorithm))


@pytest.mark.parametrize("name", ["himppo", "himppo_flat", "himppo_nomsg"])
def test_agents_may_have_parameters_of_their_own(
    name: str, tiny_experiment: Any, make_algorithm: MakeAlgorithm
) -> None:
    shared = tiny_experiment(make_algorithm(name))
    own = run(tiny_experiment(make_algorithm(name, share_param_critic=False), share_policy_params=False))
    n_shared, n_own = (sum(p.numel() for p in x.losses["agents"].parameters()) for x in (shared, own))
    assert n_own > n_shared


def test_advantages_in_chunks_are_the_advantages_of_the_whole(
    tiny_experiment: Any, make_algorithm: MakeAlgorithm
) -> None:
    keep = KeepBatches()
    algorithm = make_algorithm(critic_rows="all")
    experiment = tiny_experiment(algorithm, ToyTask(truncated_share=0.5), callbacks=[keep])
    experiment.run()
    processed = []
    for in_chunks in (False, True):
        experiment.algorithm.minibatch_advantage = in_chunks
        torch.manual_seed(0)
        processed.append(experiment.algorithm.process_batch("agents", keep.batches[-1].clone()))
    whole, chunks = processed
    assert set(whole.keys(True, True)) == set(chunks.keys(True, True))
    for level in range(3):
        keys = HierarchyKeys("agents")[level]
        for key in (keys.actor_mask, keys.critic_mask):
            assert torch.equal(whole.get(key), chunks.get(key))
        for key in (keys.advantage, keys.value_target):
            torch.testing.assert_close(whole.get(key), chunks.get(key))


# The host


def test_environments_without_batch_dimension_train(tiny_experiment: Any) -> None:
    experiment = run(
        tiny_experiment(task=ToyTask(is_vectorised=False, truncated_share=0.5), evaluation=True, create_json=True)
    )
    assert experiment.test_env.batch_size == ()


def test_collection_with_gradients_trains(tiny_experiment: Any) -> None:
    run(tiny_experiment(collect_with_grad=True))


def test_a_sequence_model_trains(tiny_experiment: Any, make_mlp: Callable[[], MlpConfig]) -> None:
    from benchmarl.models import SequenceModelConfig

    sequence = SequenceModelConfig(model_configs=[make_mlp(), make_mlp()], intermediate_sizes=[7])
    run(tiny_experiment(model=sequence, critic_model=copy.deepcopy(sequence)))


def test_a_benchmark_compares_himppo_with_the_algorithms_of_the_host(
    tiny_experiment: Any, make_algorithm: MakeAlgorithm, make_mlp: Callable[[], MlpConfig]
) -> None:
    benchmark = Benchmark(
        algorithm_configs=[
            make_algorithm(),
            MappoConfig.get_from_yaml(),
            IppoConfig.get_from_yaml(),
            QmixConfig.get_from_yaml(),
        ],
        tasks=[ToyTask()],
        seeds={0},
        experiment_config=tiny_experiment.config(prefer_continuous_actions=False),
        model_config=make_mlp(),
        critic_model_config=make_mlp(),
    )
    names = []
    for experiment in benchmark.get_experiments():
        experiment.run()
        names.append(experiment.algorithm_name)
    assert names == ["himppo", "mappo", "ippo", "qmix"]


def test_every_level_learns_at_its_own_rate(tiny_experiment: Any, make_algorithm: MakeAlgorithm) -> None:
    """A rate of zero holds the workers still; null takes the experiment's."""
    experiment = tiny_experiment(make_algorithm(lr=[0.0, None, 0.002]), lr=0.001)
    loss = experiment.losses["agents"]
    levels = [[*actor, *critic] for actor, critic in zip(loss.actor_params(), loss.critic_params(), strict=True)]
    before = [[parameter.detach().clone() for parameter in level] for level in levels]
    experiment.run()
    moved = [
        [not torch.equal(old, new) for old, new in zip(*pair, strict=True)] for pair in zip(before, levels, strict=True)
    ]
    assert [any(level) for level in moved] == [False, True, True]
    assert [all(level) for level in moved] == [False, True, True]
    for optimizer in experiment.optimizers["agents"].values():
        assert [group["lr"] for group in optimizer.param_groups] == [0.0, 0.001, 0.002]


class KeepTraining(Callback):
    """Keeps which levels train in every minibatch."""

    def __init__(self) -> None:
        super().__init__()
        self.trains: list[list[bool]] = []

    def on_batch_collected(self, batch: TensorDictBase) -> None:
        """Begin with a batch."""
        self.trains.append([])

    def on_train_step(self, batch: TensorDictBase, group: str) -> None:
        """Keep what the next minibatch will do."""
        self.trains[-1].append(list(self.experiment.losses[group].trains))


def test_every_level_makes_its_own_number_of_epochs(tiny_experiment: Any, make_algorithm: MakeAlgorithm) -> None:
    """Batches of two minibatches, three epochs; null makes all."""
    kept = KeepTraining()
    algorithm = make_algorithm(n_epochs=[None, 1, 2])
    run(tiny_experiment(algorithm, on_policy_n_minibatch_iters=3, callbacks=[kept]))
    after = [[True, True, True], *[[True, False, True]] * 2, *[[True, False, False]] * 3]
    assert kept.trains == [after, after]


@pytest.mark.parametrize("option", ["reward_norm", "value_norm"])
def test_a_level_learns_on_a_scale_of_its_own(tiny_experiment: Any, make_algorithm: MakeAlgorithm, option: str) -> None:
    """The state of the loss, which checkpoints hold, has the statistics of three levels."""
    experiment = run(tiny_experiment(make_algorithm(**{option: True})))
    state = experiment.losses["agents"].state_dict()
    weights = [value.item() for name, value in state.items() if name.startswith("norms.") and name.endswith("weight")]
    assert weights == pytest.approx([1 - 0.9**2] * 3)


def test_goal_intervals_shorten_until_mid_training(tiny_experiment: Any, make_algorithm: MakeAlgorithm) -> None:
    """From (4, 2) to (2, 1) in the first half of a run: goals change at the steps that the
    intervals of the batch name."""
    keep = KeepBatches()
    algorithm = make_algorithm(goal_interval=[2, 1], initial_goal_interval=[4, 2])
    run(tiny_experiment(algorithm, task=ToyTask(max_steps=1000), max_n_iters=4, callbacks=[keep]))
    keys = HierarchyKeys("agents")
    for batch, periods in zip(keep.batches, [(4, 8), (3, 6), (2, 2), (2, 2)], strict=True):
        clock = batch.get(keys.clock).squeeze(-1)
        assert clock.shape[1] >= 8
        for level, period in enumerate(periods, start=1):
            goal = batch.get(keys[level].action)
            is_new = (goal[:, 1:] != goal[:, :-1]).flatten(2).any(-1)
            assert torch.equal(is_new, clock[:, 1:] % period == 0)


class KeepListening(Callback):
    """Keeps the weight of listening in every iteration."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[float] = []

    def on_train_end(self, training_td: TensorDictBase, group: str) -> None:
        """Keep that of the workers."""
        self.weights.append(self.experiment.losses[group].level_losses[0].listening_coef)


def test_listening_fades_out_by_mid_training(tiny_experiment: Any, make_algorithm: MakeAlgorithm) -> None:
    """Four batches; the weight is that of the frames collected so far."""
    kept = KeepListening()
    run(tiny_experiment(make_algorithm(listening_coef=0.5), max_n_iters=4, callbacks=[kept]))
    assert kept.weights == [0.25, 0.0, 0.0, 0.0]
