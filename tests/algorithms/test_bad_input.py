"""What cannot work is refused before training with one sentence that names the option and the fix; NaN stops a run."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarl.algorithms.common import AlgorithmConfig
from benchmarl.environments import VmasTask
from benchmarl.environments.common import TaskClass
from benchmarl.experiment import Callback, Experiment
from benchmarl.models import CnnConfig, DeepsetsConfig, GnnConfig, GruConfig, LstmConfig, MlpConfig, SequenceModelConfig
from benchmarl.models.common import ModelConfig
from support.toy_task import ToyTask
from tensordict import TensorDictBase
from torchrl.data import Composite, Unbounded
from torchrl.envs import EnvBase

from benchmarl_himpo.algorithms.sources import find_alive, find_position
from benchmarl_himpo.environments import observes_no_position

MakeAlgorithm = Callable[..., AlgorithmConfig]

needs_gnn = pytest.mark.skipif(
    find_spec("torch_geometric") is None,
    reason="torch_geometric is not installed: pip install 'benchmarl_himpo[gnn]'",
)

FIELDS_OF_GOALS = {
    "goal": {"normal": {"init_scale": 0.3}},
    "clustering": {"kmeans": {"position_noise": 0.0}},
}
"""Those of the default's own parts, so that another part lacks its own."""


def assert_one_sentence(error: BaseException, *needed: str) -> None:
    """The message is a single line that holds everything needed."""
    message = str(error)
    assert "\n" not in message
    for text in needed:
        assert text in message, message


# Options


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        ({"goal_interval": [0, 2]}, ("algorithm.goal_interval", "1 or more")),
        ({"goal_interval": [5, -1]}, ("algorithm.goal_interval", "1 or more")),
        ({"n_nodes": [0, 1]}, ("algorithm.n_nodes", "1 or more")),
        ({"n_nodes": [2]}, ("algorithm.n_nodes", "algorithm.goal_interval", "same length")),
        ({"goal_interval": [5, 2, 2]}, ("algorithm.n_nodes", "algorithm.goal_interval", "same length")),
        ({"gamma": [None]}, ("algorithm.gamma", "one entry per level", "3")),
        ({"gamma": [None, None, 1.5]}, ("algorithm.gamma", "[0, 1]")),
        ({"lmbda": [0.95, 0.0]}, ("algorithm.lmbda", "one entry per level", "3")),
        ({"lmbda": [-0.1, 0.0, 0.0]}, ("algorithm.lmbda", "[0, 1]")),
        ({"goal_dim": 0}, ("algorithm.goal_dim", "1 or more")),
        ({"hidden_dim": 0}, ("algorithm.hidden_dim", "1 or more")),
        ({"goal_actor_width": 0.0}, ("algorithm.goal_actor_width", "above 0", "at most 1")),
        ({"goal_actor_width": 1.5}, ("algorithm.goal_actor_width", "above 0", "at most 1")),
        ({"goal_dim": 1, "goal": "categorical"}, ("algorithm.goal_dim", "2 goals or more")),
        ({"goal": "gaussian"}, ("algorithm.goal=gaussian", "normal, categorical")),
        ({"goal": "normal", "part_options": {}}, ("algorithm.goal=normal", "{name: normal, init_scale: ...}")),
        (
            {"part_options": {"goals": {}}},
            ("algorithm.part_options: goals", "goal, credit, clustering, neighbours, memory"),
        ),
        ({"part_options": {"goal": 3}}, ("algorithm.part_options: goal must be a mapping", "got 3")),
        (
            {"part_options": {"goal": {"normal": 3}}},
            ("algorithm.part_options: goal.normal must be a mapping", "got 3"),
        ),
        ({"part_options": {"goal": {"norm": {}}}}, ("algorithm.part_options: goal.norm", "normal, categorical")),
        (
            {"part_options": {"goal": {"normal": {"scale": 1.0}}}},
            ("algorithm.part_options: goal.normal has no field scale", "init_scale"),
        ),
        ({"goal": {"name": "normal", "init_scale": 0.0}}, ("algorithm.goal", "init_scale=0.0")),
        ({"goal": {"name": "normal", "init_scale": 0.005}}, ("algorithm.goal", "init_scale=0.005")),
        ({"goal": {"name": "categorical", "init_scale": 0.3}}, ("algorithm.goal=categorical", "no field init_scale")),
        ({"neighbours": {"name": "knn", "k": 0}}, ("algorithm.neighbours", "k=0", "1 or more")),
        ({"neighbours": "knn", "part_options": FIELDS_OF_GOALS}, ("algorithm.neighbours=knn", "{name: knn, k: ...}")),
        ({"neighbours": {"name": "knn", "radius": 1.0}}, ("algorithm.neighbours=knn", "no field radius")),
        ({"neighbours": {"name": "radius", "radius": -1.0}}, ("algorithm.neighbours", "radius=-1.0", "positive")),
        ({"neighbours": ["none"] * 4}, ("algorithm.neighbours", "4 entries", "3 levels")),
        ({"neighbours": []}, ("algorithm.neighbours", "0 entries")),
        ({"observation": [["observation[0:4]"]]}, ("algorithm.observation: observation[0:4]", "'observation[0:3]'")),
        ({"observation": [None, ["position"]]}, ("algorithm.observation: position", "list of entries (observation)")),
        ({"observation": [[], None]}, ("algorithm.observation: [] is not a list", "null for all")),
        ({"observation": [None] * 4}, ("algorithm.observation=[None, None, None, None]", "1 to 3")),
        ({"send_goals": False, "goal_gradient": 1.0}, ("algorithm.goal_gradient=1.0", "algorithm.send_goals=true")),
        ({"goal_gradient": 1.5}, ("algorithm.goal_gradient=1.5", "at most 1")),
        ({"goal_gradient": -1.0}, ("algorithm.goal_gradient=-1.0", "above 0")),
        ({"goal_gradient": 1.0, "goal": "categorical"}, ("algorithm.goal_gradient=1.0", "algorithm.goal=normal")),
        ({"objective_coef": 1.5}, ("algorithm.objective_coef=1.5", "[0, 1]")),
        ({"objective_coef": [1.0]}, ("algorithm.objective_coef=[1.0]", "one per level", "3")),
        ({"hidden_dim": [8, 8]}, ("algorithm.hidden_dim=[8, 8]", "one per level", "3")),
        ({"hidden_dim": [8, 0, 8]}, ("algorithm.hidden_dim", "1 or more")),
        ({"lr": [0.001]}, ("algorithm.lr=[0.001]", "one per level", "3")),
        ({"entropy_coef": [0.0, 0.0]}, ("algorithm.entropy_coef=[0.0, 0.0]", "one per level", "3")),
        ({"n_epochs": [2, 2]}, ("algorithm.n_epochs=[2, 2]", "one per level", "3")),
        ({"listening_coef": -0.5}, ("algorithm.listening_coef=-0.5", "at least 0")),
        ({"initial_goal_interval": [10]}, ("algorithm.initial_goal_interval=[10]", "algorithm.goal_interval=[5, 2]")),
        ({"initial_goal_interval": [10, 0]}, ("algorithm.initial_goal_interval=[10, 0]", "1 or more")),
        ({"initial_goal_interval": [10, 2.5]}, ("algorithm.initial_goal_interval=[10, 2.5]", "whole number")),
        ({"hidden_dim": 3.5}, ("algorithm.hidden_dim=3.5", "whole number")),
        ({"lr": -1.0}, ("algorithm.lr=-1.0", "0 or more")),
        ({"clip_epsilon": 1.5}, ("algorithm.clip_epsilon=1.5", "at most 1")),
        ({"clip_epsilon": -0.1}, ("algorithm.clip_epsilon=-0.1", "above 0")),
        ({"critic_coef": -1.0}, ("algorithm.critic_coef=-1.0", "at least 0")),
        ({"loss_critic_type": "l3"}, ("algorithm.loss_critic_type=l3", "l1, l2, smooth_l1")),
        ({"clustering": {"name": "regions", "arena": ["a", "b"]}}, ("algorithm.clustering", "two numbers")),
        (
            {"credit": "telescoped", "critic_rows": "all", "lmbda": [0.95, 0.5, 0.0]},
            ("algorithm.credit=telescoped", "algorithm.lmbda=[0.95, 0.5, 0.0]"),
        ),
        ({"n_epochs": 1}, ("algorithm.n_epochs=1", "on_policy_n_minibatch_iters")),
        ({"n_epochs": [2, 3, 2]}, ("algorithm.n_epochs=[2, 3, 2]", "on_policy_n_minibatch_iters")),
        ({"n_epochs": [2, 0, 2]}, ("algorithm.n_epochs=[2, 0, 2]", "from 1")),
        ({"n_epochs": [2, 1.5, 2]}, ("algorithm.n_epochs=[2, 1.5, 2]", "whole numbers")),
        ({"norm_decay": 1.0}, ("algorithm.norm_decay=1.0", "below 1")),
        ({"gnn_kwargs": {"heads": 2}}, ("algorithm.gnn_kwargs", "set algorithm.gnn_class")),
        ({"listening_coef": 0.5, "send_goals": False}, ("algorithm.listening_coef=0.5", "algorithm.send_goals=true")),
        ({"goal_interval": [2.5, 2]}, ("algorithm.goal_interval=[2.5, 2]", "whole number")),
        ({"goal_dim": 2.0}, ("algorithm.goal_dim=2.0", "whole number")),
        ({"goal_gradient": -7.0}, ("algorithm.goal_gradient=-7.0", "above 0 and at most 1")),
        ({"neighbours": "none", "gnn_class": "NoSuchConv"}, ("algorithm.gnn_class=NoSuchConv",)),
        ({"clustering": "static", "position": "nonsense[3:9]"}, ("algorithm.position", "exactly two features")),
        (
            {"credit": {"name": "cosine", "weight": 1.0}, "hidden_dim": [8, 8, 4], "goal_dim": 8},
            ("algorithm.credit=cosine", "the same number", "[4, 8]"),
        ),
        ({"credit": {"name": "cosine", "weight": 1.0}}, ("algorithm.credit=cosine", "algorithm.goal_dim=8")),
        (
            {"credit": "cosine", "part_options": FIELDS_OF_GOALS},
            ("algorithm.credit=cosine", "{name: cosine, weight: ...}"),
        ),
        ({"n_message_rounds": -1}, ("algorithm.n_message_rounds", "0 or more")),
        ({"clustering": {"name": "regions", "arena": [1.0, -1.0]}}, ("algorithm.clustering", "[low, high]")),
        ({"clustering": {"name": "regions", "arena": [1.0]}}, ("algorithm.clustering", "[low, high]")),
        (
            {"clustering": "regions", "part_options": FIELDS_OF_GOALS},
            ("algorithm.clustering=regions", "{name: regions, arena: ...}"),
        ),
        (
            {"clustering": {"name": "kmeans", "position_noise": -0.1}},
            ("algorithm.clustering", "position_noise=-0.1", "0 or more"),
        ),
        ({"clustering": "voronoi"}, ("algorithm.clustering=voronoi", "static, regions, kmeans")),
        ({"neighbours": "all"}, ("algorithm.neighbours=all", "full, radius, knn, none")),
        (
            {"neighbours": "edges"},
            ("algorithm.neighbours=edges", "toy/toy", "[3, 3]", "algorithm.neighbours=full"),
        ),
        ({"neighbours": ["none", "edges"]}, ("algorithm.neighbours=edges", "no entry edges")),
        ({"memory": "lstm"}, ("algorithm.memory=lstm", "window, gru")),
        ({"memory": {"name": "window", "decisions": 0}}, ("algorithm.memory", "decisions=0", "null")),
        ({"memory": "gru", "part_options": FIELDS_OF_GOALS}, ("algorithm.memory=gru", "decisions: ..., size: ...")),
        ({"memory": ["window", None, None]}, ("algorithm.memory: not available for workers", "[null, ...]")),
        ({"memory": [None, "window"]}, ("algorithm.memory", "one per level", "3")),
        ({"credit": "equal"}, ("algorithm.credit", "equal", "uniform, final, telescoped, cosine")),
        ({"local_reward": "mean"}, ("algorithm.local_reward", "mean", "cluster, own, none")),
        ({"credit": "telescoped", "critic_rows": "decisions"}, ("algorithm.credit=telescoped", "critic_rows=sampled")),
        (
            {"credit": "telescoped", "critic_rows": "all", "lmbda": [0.95, 0.5, 0.0]},
            ("algorithm.credit=telescoped", "algorithm.lmbda"),
        ),
        ({"position": "observation[0:3]"}, ("algorithm.position", "two features", "observation[0:2]")),
        ({"position": "0:2"}, ("algorithm.position", "observation[0:2]")),
        ({"position": "pose[0:2]"}, ("algorithm.position", "pose", "observation")),
        ({"position": "observation[2:4]"}, ("algorithm.position", "observation")),
        ({"alive": "living"}, ("algorithm.alive=living", "algorithm.alive=null")),
        ({"alive": "observation"}, ("algorithm.alive=observation", "observation[0]", "algorithm.alive=null")),
        ({"alive": "observation[3]"}, ("algorithm.alive=observation[3]", "observation[0]", "algorithm.alive=null")),
        ({"alive": "~observation[0]"}, ("algorithm.alive=", "~observation[0]", "'not '")),
        ({"position": None}, ("algorithm.position", "algorithm.clustering=static")),
        ({"gnn_class": "NoSuchConv"}, ("algorithm.gnn_class=NoSuchConv", "null")),
        ({"gnn_class": "no_such_module.Conv"}, ("algorithm.gnn_class=no_such_module.Conv", "null")),
        pytest.param(
            {"gnn_class": "GATv2Conv", "gnn_kwargs": {"heads": 2}},
            ("algorithm.gnn_class=GATv2Conv", "algorithm.gnn_kwargs"),
            marks=needs_gnn,
        ),
        pytest.param(
            {"gnn_class": "GATv2Conv", "gnn_kwargs": {"hats": 2}},
            ("algorithm.gnn_kwargs", "hats", "GATv2Conv"),
            marks=needs_gnn,
        ),
        pytest.param({"gnn_class": "PointNetConv"}, ("algorithm.gnn_class=PointNetConv", "GATv2Conv"), marks=needs_gnn),
    ],
    ids=lambda value: re.sub(r"[{}' ]", "", str(value)) if isinstance(value, dict) else "",
)
def test_an_option_that_cannot_work_is_named_before_training(
    options: dict[str, Any], needed: tuple[str, ...], tiny_experiment: Any, make_algorithm: MakeAlgorithm
) -> None:
    with pytest.raises(ValueError) as error:
        tiny_experiment(make_algorithm("himppo_paper", **options))
    assert_one_sentence(error.value, *needed)


WITHOUT_POSITION = [task.name.lower() for task in VmasTask if observes_no_position("vmas", task.name.lower())]


NEED_POSITIONS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "clustering": ({"clustering": "kmeans"}, {"clustering": "static"}),
    "both": (
        {"clustering": "kmeans", "neighbours": {"name": "knn", "k": 2}},
        {"clustering": "static", "neighbours": "full"},
    ),
    "neighbours": ({"clustering": "static", "neighbours": {"name": "radius", "radius": 0.5}}, {"neighbours": "full"}),
}
"""Options that read positions, and what to choose instead."""


@pytest.mark.parametrize(
    ("name", "options", "advised"),
    [
        pytest.param(
            name,
            *pair,
            id=f"{name}-{label}",
            marks=() if label == "both" or name == "simple_push" else pytest.mark.slow,
        )
        for name in WITHOUT_POSITION
        for label, pair in NEED_POSITIONS.items()
    ],
)
def test_positions_that_a_task_does_not_observe_are_refused_with_options_that_work(
    name: str,
    options: dict[str, Any],
    advised: dict[str, str],
    tiny_experiment: Any,
    make_algorithm: MakeAlgorithm,
    make_vmas: Callable[..., TaskClass],
) -> None:
    task = make_vmas(name)
    with pytest.raises(ValueError) as error:
        tiny_experiment(make_algorithm(**options), task)
    fixes = [f"algorithm.{option}={value}" for option, value in advised.items()]
    needs = [f"algorithm.{option}={value}" for option, value in options.items() if option in advised]
    assert_one_sentence(error.value, f"vmas/{name}", *fixes, *needs)
    assert "algorithm.position" not in str(error.value)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        tiny_experiment(make_algorithm(**{**options, **advised}), task)


@pytest.mark.parametrize("name", WITHOUT_POSITION)
def test_two_features_that_are_no_position_are_taken_with_a_warning(
    name: str, tiny_experiment: Any, make_algorithm: MakeAlgorithm, make_vmas: Callable[..., TaskClass]
) -> None:
    with pytest.warns(UserWarning, match=rf"vmas/{name}.*algorithm\.clustering=static"):
        tiny_experiment(make_algorithm(position="observation[0:2]"), make_vmas(name))


def test_a_scenario_that_nobody_measured_is_asked_where_its_positions_stand() -> None:
    entries = Composite(observation=Unbounded((2, 4)), shape=(2,))
    with pytest.raises(ValueError) as error:
        find_position("auto", "vmas/my_scenario", {}, entries, {"clustering": "kmeans"})
    assert_one_sentence(error.value, "vmas/my_scenario", "algorithm.position='observation[0:2]'")
    assert find_position("observation[0:2]", "vmas/my_scenario", {}, entries, {"clustering": "kmeans"}) is not None
    assert find_position("auto", "vmas/my_scenario", {}, entries, {}) is None


def test_entries_that_batches_do_not_have_and_positions_of_three_coordinates_are_refused() -> None:
    entries = Composite(
        observation=Unbounded((2, 4)),
        position=Unbounded((2, 3)),
        info=Composite(x=Unbounded((2, 2)), shape=(2,)),
        shape=(2,),
    )
    arguments = ("vmas/my_scenario", {}, entries, {"clustering": "kmeans"})
    with pytest.raises(
        ValueError, match=r"algorithm\.position=info\.x names no entry .* which have observation, position"
    ):
        find_position("info.x", *arguments)
    with pytest.raises(ValueError, match=r"algorithm\.alive=info\.x names no entry"):
        find_alive("info.x", "vmas/my_scenario", entries)
    with pytest.raises(ValueError, match=r"position has 3 features instead of the two .* such as 'position\[0:2\]'"):
        find_position("auto", *arguments)
    assert find_position("position[1:3]", *arguments) == "position[1:3]"


def test_a_flat_team_without_a_known_position_needs_none(
    tiny_experiment: Any, make_algorithm: MakeAlgorithm, make_vmas: Callable[..., TaskClass]
) -> None:
    tiny_experiment(make_algorithm("himppo_flat"), make_vmas("simple_reference"))


def test_edges_that_are_not_between_all_agents_are_refused(tiny_experiment: Any, make_algorithm: MakeAlgorithm) -> None:
    with pytest.raises(ValueError) as error:
        tiny_experiment(make_algorithm(neighbours="edges"), ToyTask(n_edges=2))
    assert_one_sentence(error.value, "algorithm.neighbours=edges", "[3, 3]", "[3, 2]")


class EmptyTask(ToyTask):
    """A task that names no agents."""

    def group_map(self, env: EnvBase) -> dict[str, list[str]]:
        """An empty group."""
        return {"agents": []}


def test_a_group_without_agents_is_refused(tiny_experiment: Any) -> None:
    with pytest.raises(ValueError) as error:
        tiny_experiment(task=EmptyTask())
    assert_one_sentence(error.value, "at least one", "task.n_agents")


# Models


def gru() -> ModelConfig:
    """A recurrent model."""
    return GruConfig(
        hidden_size=8, n_layers=1, bias=True, dropout=0.0, compile=False, mlp_num_cells=[8],
        mlp_layer_class=torch.nn.Linear, mlp_activation_class=torch.nn.Tanh,
    )  # fmt: skip


def lstm() -> ModelConfig:
    """Another recurrent model."""
    return LstmConfig(
        hidden_size=8, n_layers=1, bias=True, dropout=0.0, compile=False, mlp_num_cells=[8],
        mlp_layer_class=torch.nn.Linear, mlp_activation_class=torch.nn.Tanh,
    )  # fmt: skip


def gnn() -> ModelConfig:
    """A graph network of the host."""
    geometric = pytest.importorskip("torch_geometric.nn")
    return GnnConfig(topology="full", self_loops=False, gnn_class=geometric.GraphConv, gnn_kwargs={})


def gnn_in_sequence() -> ModelConfig:
    """A graph network behind an MLP."""
    mlp = MlpConfig(num_cells=[8], layer_class=torch.nn.Linear, activation_class=torch.nn.Tanh)
    return SequenceModelConfig(model_configs=[mlp, gnn()], intermediate_sizes=[8])


def gru_in_sequence() -> ModelConfig:
    """A recurrent model before an MLP."""
    mlp = MlpConfig(num_cells=[8], layer_class=torch.nn.Linear, activation_class=torch.nn.Tanh)
    return SequenceModelConfig(model_configs=[gru(), mlp], intermediate_sizes=[8])


def deepsets() -> ModelConfig:
    """A model over sets, which as a central critic reads all agents at once."""
    return DeepsetsConfig(
        aggr="sum", local_nn_num_cells=[8], local_nn_activation_class=torch.nn.Tanh, out_features_local_nn=8,
        global_nn_num_cells=[8], global_nn_activation_class=torch.nn.Tanh,
    )  # fmt: skip


def cnn() -> ModelConfig:
    """A model of images."""
    return CnnConfig(
        cnn_num_cells=[4], cnn_kernel_sizes=3, cnn_strides=1, cnn_paddings=0, cnn_activation_class=torch.nn.Tanh,
        mlp_num_cells=[8], mlp_layer_class=torch.nn.Linear, mlp_activation_class=torch.nn.Tanh,
    )  # fmt: skip


@pytest.mark.parametrize("option", ["model", "critic_model"])
@pytest.mark.parametrize(
    ("make_model", "needed"),
    [
        (gru, ("recurrent", "layers/mlp")),
        (lstm, ("recurrent", "layers/mlp")),
        (gru_in_sequence, ("recurrent", "layers/mlp")),
        (gnn, ("GNN", "layers/mlp", "algorithm.gnn_class")),
        (gnn_in_sequence, ("GNN", "layers/mlp", "algorithm.gnn_class")),
        (deepsets, ("no global state", "layers/mlp", "observation [3]")),
        (cnn, ("no global state", "layers/mlp", "observation [3]")),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
@pytest.mark.parametrize("name", ["himppo", "himppo_flat"])
def test_a_model_that_cannot_serve_is_named_with_the_one_to_take(
    name: str,
    make_model: Callable[[], ModelConfig],
    needed: tuple[str, ...],
    option: str,
    tiny_experiment: Any,
    make_algorithm: MakeAlgorithm,
) -> None:
    with pytest.raises(ValueError) as error:
        tiny_experiment(make_algorithm(name), **{option: make_model()})
    assert_one_sentence(error.value, *needed)
    assert re.match(rf"{option}\b", str(error.value))


# NaN


class BreakParameter(Callback):
    """Writes NaN into a parameter of one level's network before an iteration trains."""

    def __init__(self, network: str, level: int, iteration: int) -> None:
        super().__init__()
        self.network, self.level, self.iteration = network, level, iteration

    def on_batch_collected(self, batch: TensorDictBase) -> None:
        """Break it."""
        if self.experiment.n_iters_performed == self.iteration:
            level_loss = self.experiment.losses["agents"].level_losses[self.level]
            parameters = getattr(level_loss, f"{self.network}_network_params").flatten_keys().values()
            with torch.no_grad():
                next(iter(parameters)).fill_(torch.nan)

    def __getstate__(self) -> dict[str, Any]:
        """The experiment cannot be pickled."""
        return {**self.__dict__, "experiment": None}


def checkpoints(folder: Path) -> dict[str, bytes]:
    """Contents of all checkpoints by name."""
    return {file.name: file.read_bytes() for file in folder.rglob("checkpoint_*.pt")}


def run_until_nan(experiment: Experiment) -> FloatingPointError:
    """Run to the NaN."""
    with pytest.raises(FloatingPointError) as error:
        experiment.run()
    return error.value


@pytest.mark.parametrize("key", ["observation", "reward"])
@pytest.mark.parametrize("name", ["himppo", "himppo_flat"])
def test_a_nan_from_the_environment_stops_the_run_and_leaves_parameters_and_checkpoints_alone(
    key: str, name: str, tiny_experiment: Any, make_algorithm: MakeAlgorithm, tmp_path: Path
) -> None:
    # 16 steps per iteration: the NaN comes in the third
    task = ToyTask(nan_key=key, nan_after=35)
    experiment = tiny_experiment(make_algorithm(name), task, max_n_iters=5, checkpoint_interval=64)
    error = run_until_nan(experiment)
    first = {"observation": "state_value", "reward": "advantage"}[key]
    assert_one_sentence(error, f"{first} of group 'agents' at level 0 ", "iteration 2", key)
    kept = checkpoints(tmp_path)
    assert sorted(kept) == ["checkpoint_128.pt", "checkpoint_64.pt"]
    last = torch.load(next(tmp_path.rglob("checkpoint_128.pt")))["loss_agents"]
    for key_, value in experiment.losses["agents"].state_dict().items():
        if isinstance(value, torch.Tensor):
            assert value.isfinite().all()
            assert torch.equal(value, last[key_])


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("network", ["actor", "critic"])
def test_a_nan_in_a_network_stops_the_run_with_its_level_and_leaves_checkpoints_alone(
    network: str, level: int, tiny_experiment: Any, tmp_path: Path
) -> None:
    experiment = tiny_experiment(
        max_n_iters=4, checkpoint_interval=64, callbacks=[BreakParameter(network, level, iteration=2)]
    )
    error = run_until_nan(experiment)
    key = "state_value" if network == "critic" else "objective_loss"
    assert str(error).startswith(key)
    assert_one_sentence(error, f" of group 'agents' at level {level} ", "iteration 2")
    assert sorted(checkpoints(tmp_path)) == ["checkpoint_128.pt", "checkpoint_64.pt"]


def test_a_finite_run_is_never_stopped(tiny_experiment: Any) -> None:
    experiment = tiny_experiment(task=ToyTask(truncated_share=0.5, has_alive=True), max_n_iters=4)
    experiment.run()
    assert experiment.n_iters_performed == 4
