"""A bundle plays as the policy it was made from, over episodes that end at different times."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarl.experiment import Experiment
from benchmarl.models import SequenceModelConfig
from support.tiny_experiment import TinyExperiment, algorithm_config, mlp_config, vmas_task
from support.toy_task import ToyTask
from tensordict import TensorDictBase
from tensordict.nn import TensorDictSequential
from torchrl.envs.utils import ExplorationType, set_exploration_type

from benchmarl_himpo.harness.deployment import Bundle, ExportError, exporter
from benchmarl_himpo.harness.deployment.exporter import export_experiment
from benchmarl_himpo.harness.deployment.messages import MessageReport
from benchmarl_himpo.harness.deployment.step_functions import LevelStep
from benchmarl_himpo.harness.deployment.verification import ComparedPolicy
from benchmarl_himpo.harness.evaluation.episodes import play
from benchmarl_himpo.hierarchy.keys import HierarchyKeys

SOURCE: dict[str, Any] = {"run": "a run", "checkpoint": "checkpoint_0.pt", "changes": []}
FOUR_LEVELS = {"n_nodes": [4, 2, 1], "goal_interval": [3, 2, 2], "gamma": [None] * 4, "lmbda": [0.9, 0.0, 0.0, 0.0]}


def export(experiment: Experiment, output: Path, group: str = "agents") -> Bundle:
    return Bundle(export_experiment(experiment, output, seed=3, tolerance=1e-6, source=SOURCE)[group])


def roll_out(experiment: Experiment, n_steps: int = 30) -> TensorDictBase:
    """Steps of the training policy, its most likely actions, with environments that end one by one."""
    experiment.test_env.set_seed(5)
    with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
        return experiment.test_env.rollout(n_steps, experiment.policy, break_when_any_done=False)


def assert_same(bundle: Bundle, rollout: TensorDictBase, group: str = "agents") -> None:
    """Step the bundle along what the policy saw, and compare all that it holds and does."""
    keys = HierarchyKeys(group)
    read = {name for function in bundle.info["functions"].values() for name in function["inputs"]}
    state = bundle.start(rollout.shape[0])
    n_goals = len(bundle.info["hierarchy"]["n_nodes"])
    assert {name for name in state if not name.startswith(("seen_", "memory_"))} == (
        {f"goal_{level + 1}" for level in range(n_goals)}
        | ({"clock", "parent_index", "centroids"} if n_goals else set())
    )
    for td in rollout.unbind(1):
        entries = {name: td.get((group, name)) for name in read - state.keys()}
        before = {name: value.clone() for name, value in state.items()}
        outputs, after = bundle.step(entries, state)
        for name, value in state.items():
            torch.testing.assert_close(value, before[name], rtol=0, atol=0)  # the caller's is left alone
        if state:
            assert torch.equal(state["clock"], td.get(keys.clock).squeeze(-1))
        for name in state.keys() - {"clock"}:
            torch.testing.assert_close(
                after[name], td.get(("next", *keys.carried((keys.root, name)))), rtol=0, atol=1e-6
            )
        for name, value in outputs.items():
            torch.testing.assert_close(value, td.get((group, name)), rtol=0, atol=1e-6)
        state = bundle.restart(after, td.get(("next", "done")).squeeze(-1))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Bundle]:
    """Three levels, a position that moves and agents that die."""
    folder = tmp_path_factory.mktemp("exported")
    experiment = TinyExperiment(folder)(algorithm_config("himppo"), ToyTask(has_alive=True))
    return experiment, export(experiment, folder / "bundle")


KNN = {"name": "knn", "k": 1}
RADIUS = {"name": "radius", "radius": 0.5}
REGIONS = {"name": "regions", "arena": [-1.0, 1.0]}
IN_OBSERVATION = {"position": "observation[0:2]"}
"""One entry to read instead of two, which saves the export of a function that turns out to need only one."""
VARIANTS: dict[str, tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "the paper's": ("himppo_paper", IN_OBSERVATION, {}, {}),
    "flat": ("himppo_flat", {}, {"has_alive": True}, {}),
    "flat without messages": ("himppo_flat", {"neighbours": "none", "team_state": False}, {}, {}),
    "four levels": ("himppo", FOUR_LEVELS | IN_OBSERVATION, {"n_agents": 5}, {}),
    "no messages": ("himppo_nomsg", IN_OBSERVATION, {}, {}),
    "nearest neighbours, deaths": ("himppo_2l", {"neighbours": KNN}, {"has_alive": True}, {}),
    "edges of the task, deaths": ("himppo_2l", {"neighbours": "edges"}, {"n_edges": 3, "has_alive": True}, {}),
    "radius, regions, a grid": ("himppo", {"neighbours": RADIUS, "clustering": REGIONS}, {"is_grid": True}, {}),
    "static graph, two rounds": ("himppo_sg", {"n_message_rounds": 2}, {"has_position": False}, {}),
    "discrete": ("himppo_2l", IN_OBSERVATION, {}, {"prefer_continuous_actions": False}),
    "masked, deaths": ("himppo_2l", IN_OBSERVATION, {"has_mask": True, "has_alive": True}, {}),
    "plain normal": ("himppo_flat", {"use_tanh_normal": False}, {}, {}),
    "a sequence of models": ("himppo_flat", {}, {}, {"model": "sequence"}),
    "a network per agent": ("himppo_2l", IN_OBSERVATION, {}, {"share_policy_params": False}),
    "short-sighted workers": ("himppo", {"observation": [["observation[0:1]"], None], "clustering": "static"}, {}, {}),
    "no goals": ("himppo_nogoal", {"neighbours": "none", "clustering": "static"}, {}, {}),
    "a window": ("himppo_2l", IN_OBSERVATION | {"memory": "window"}, {}, {}),
    "a recurrent manager, deaths": (
        "himppo",
        {"memory": [None, None, {"name": "gru", "decisions": 1, "size": 3}], "goal_interval": [3, 1]},
        {"has_alive": True},
        {},
    ),
    "a PyG layer": ("himppo_2l", {"gnn_class": "GATv2Conv", **IN_OBSERVATION}, {}, {}),
}


QUICK = (
    "flat",
    "nearest neighbours, deaths",
    "no goals",
)


@pytest.fixture(scope="module")
def export_variant(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Experiment, Bundle]]:
    """Export one of the variants, once for all tests that ask for it."""

    @cache
    def export_variant(variant: str) -> tuple[Experiment, Bundle]:
        name, options, task, rest = VARIANTS[variant]
        if rest.get("model") == "sequence":
            rest = {"model": SequenceModelConfig(model_configs=[mlp_config(), mlp_config()], intermediate_sizes=[5])}
        folder = tmp_path_factory.mktemp("variant")
        experiment = TinyExperiment(folder)(algorithm_config(name, **options), ToyTask(**task), **rest)
        return experiment, export(experiment, folder / "bundle")

    return export_variant


@pytest.mark.parametrize(
    "variant", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS]
)
def test_a_bundle_plays_as_its_policy(variant: str, export_variant: Callable[[str], tuple[Experiment, Bundle]]) -> None:
    if "gnn_class" in VARIANTS[variant][1]:
        pytest.importorskip("torch_geometric")
    experiment, bundle = export_variant(variant)
    rollout = roll_out(experiment)
    assert rollout.get(("next", "done"))[:, :12].any()  # somebody begins anew on the way
    assert_same(bundle, rollout)


def test_each_level_of_a_bundle_works_on_what_it_sees(tiny_experiment: TinyExperiment, tmp_path: Path) -> None:
    """Workers see the first feature, their manager the last two; a feature changes what it should and nothing else."""
    options = {"observation": [["observation[0:1]"], ["observation[1:]"]], "clustering": "static"}
    experiment = tiny_experiment(algorithm_config("himppo_2l", **options), ToyTask())
    bundle = export(experiment, tmp_path / "bundle")
    assert bundle.info["hierarchy"]["observation"] == options["observation"]
    known = {**bundle.start(2), "observation": torch.rand(2, 3, 3)}
    for level, seen in ((0, [0]), (1, [1, 2])):
        read = {name: known[name] for name in bundle.info["functions"][f"level_{level}"]["inputs"]}
        before = bundle.functions[f"level_{level}"](read)
        for feature in range(3):
            changed = known["observation"].clone()
            changed[..., feature] += 1
            after = bundle.functions[f"level_{level}"]({**read, "observation": changed})
            assert all(torch.equal(after[name], before[name]) for name in after) == (feature not in seen)


def test_workers_of_a_bundle_without_goals_read_none(
    export_variant: Callable[[str], tuple[Experiment, Bundle]],
) -> None:
    _, bundle = export_variant("no goals")
    inputs = {name: [*function["inputs"]] for name, function in bundle.info["functions"].items()}
    assert inputs["level_0"] == ["observation"]
    assert "goal_2" not in inputs["level_1"]
    assert {row["bytes_per_step_worst"] for row in bundle.info["messages"]["totals"]} == {0}


@pytest.mark.slow
def test_a_vmas_task_with_two_groups_has_two_bundles(tiny_experiment: TinyExperiment, tmp_path: Path) -> None:
    task = vmas_task("simple_tag", num_adversaries=3, num_good_agents=2)
    experiment = tiny_experiment(algorithm_config("himppo_2l"), task)
    paths = export_experiment(experiment, tmp_path / "bundle", seed=3, tolerance=1e-6, source=SOURCE)
    assert list(paths) == list(experiment.group_map)
    experiment.test_env.set_seed(5)
    rollout = roll_out(experiment, 14)
    for group, path in paths.items():
        assert_same(Bundle(path), rollout, group=group)


@pytest.mark.slow
def test_an_environment_without_batch_dimension(tiny_experiment: TinyExperiment, tmp_path: Path) -> None:
    experiment = tiny_experiment(algorithm_config("himppo_2l", **IN_OBSERVATION), ToyTask(is_vectorised=False))
    bundle = export(experiment, tmp_path / "bundle")
    assert_same(bundle, roll_out(experiment).unsqueeze(0))


@pytest.mark.slow
def test_teams_are_stepped_alone_or_together(exported: tuple[Experiment, Bundle]) -> None:
    """Any batch size, and no team affects another."""
    experiment, bundle = exported
    rollout = roll_out(experiment)
    for rows in (rollout, rollout[:1], rollout[1:], torch.cat([rollout] * 3)):
        assert_same(bundle, rows)


def test_a_level_called_off_its_clock_changes_nothing(exported: tuple[Experiment, Bundle]) -> None:
    """Each function knows its own clock: whoever calls it at every step gets what the driver gets."""
    _, bundle = exported
    held = {name: torch.ones_like(value) for name, value in bundle.start(3).items()}
    held |= {f"goal_{level}": torch.randn_like(held[f"goal_{level}"]) for level in (1, 2)}
    entries = {
        "observation": torch.rand(3, 3, 3),
        "position": torch.rand(3, 3, 2),
        "alive": torch.ones(3, 3, dtype=torch.bool),
    }
    for clock, due in ((1, set()), (5, {"clustering", "level_1"}), (10, {"clustering", "level_1", "level_2"})):
        known = {**entries, **held, "clock": torch.full((3,), clock)}
        for name, function in bundle.info["functions"].items():
            outputs = bundle.functions[name]({key: known[key] for key in function["inputs"]})
            changed = {key for key in outputs.keys() & held.keys() if not torch.equal(outputs[key], held[key])}
            assert bool(changed) == (name in due)


def test_a_signature_lists_what_is_read_and_nothing_else(exported: tuple[Experiment, Bundle]) -> None:
    info = exported[1].info
    functions = info["functions"]
    assert list(functions) == ["clustering", "level_2", "level_1", "level_0"]  # in the order of execution
    assert {name: set(function["inputs"]) for name, function in functions.items()} == {
        "clustering": {"position", "alive", "clock", "parent_index", "centroids"},
        "level_2": {"observation", "alive", "clock", "parent_index", "goal_2"},
        "level_1": {"observation", "alive", "clock", "parent_index", "goal_1", "goal_2"},
        "level_0": {"observation", "alive", "goal_1"},
    }
    assert functions["level_1"]["outputs"]["goal_1"] == {"shape": ["batch", 3, 2], "dtype": "float32"}
    assert set(functions["level_1"]["outputs"]) == {"goal_1", "loc", "scale"}
    assert set(functions["level_0"]["outputs"]) == {"action", "loc", "scale"}
    assert functions["level_0"]["inputs"]["alive"] == {"shape": ["batch", 3], "dtype": "bool"}
    assert [function["period"] for function in functions.values()] == [5, 10, 5, 1]
    assert info["action"]["distribution"] == "TanhNormal"


def test_a_file_holds_the_parameters_of_its_level_alone(exported: tuple[Experiment, Bundle]) -> None:
    experiment, bundle = exported
    for level, actor in enumerate(experiment.policy[0].actors):
        own = sum(parameter.numel() for parameter in actor.parameters())
        assert sum(p.numel() for p in bundle.functions[f"level_{level}"].parameters()) == own
    assert not list(bundle.functions["clustering"].parameters())


@pytest.mark.slow
def test_a_bundle_that_disagrees_is_not_kept(
    tiny_experiment: TinyExperiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = tiny_experiment(algorithm_config("himppo_2l", **IN_OBSERVATION), ToyTask())
    right = exporter.export_step

    def wrong(function: Any, *arguments: Any) -> Any:
        if isinstance(function, LevelStep) and function.level == 1:
            with torch.no_grad():
                next(function.actor.parameters()).add_(0.1)
        return right(function, *arguments)

    monkeypatch.setattr(exporter, "export_step", wrong)
    with pytest.raises(ExportError, match=r"differs from the policy by .* and was not kept"):
        export(experiment, tmp_path / "bundle")
    assert not list(tmp_path.glob("bundle*"))


def test_the_most_likely_actions_are_compared_however_a_run_was_evaluated(
    tiny_experiment: TinyExperiment, tmp_path: Path
) -> None:
    experiment = tiny_experiment(algorithm_config("himppo_flat"), ToyTask())
    experiment.config.evaluation_deterministic_actions = False
    assert export(experiment, tmp_path / "bundle").info["verified"]["max_difference"] < 1e-5


@pytest.mark.parametrize("is_other", [pytest.param(False, marks=pytest.mark.slow), True])
def test_categorical_goals_are_compared(is_other: bool, tiny_experiment: TinyExperiment, tmp_path: Path) -> None:
    experiment = tiny_experiment(algorithm_config("himppo_2l", goal="categorical", **IN_OBSERVATION), ToyTask())
    bundle, policy = export(experiment, tmp_path / "bundle"), experiment.policy[0]
    compared = ComparedPolicy(policy, bundle, MessageReport(policy, experiment.algorithm.goal_dim))
    step = bundle.step

    def step_otherwise(*arguments: Any) -> Any:
        outputs, state = step(*arguments)
        goals = {
            name: value.roll(1, -1) for name, value in state.items() if name == policy.hierarchy.keys[1].action[-1]
        }
        assert goals
        return outputs, {**state, **(goals if is_other else {})}

    compared.bundle.step = step_otherwise
    play(experiment, 0, TensorDictSequential(compared))
    assert (compared.difference == torch.inf) == is_other


def test_a_link_to_another_place_stays_a_link_to_the_bundle(tiny_experiment: TinyExperiment, tmp_path: Path) -> None:
    """What is unfinished stands beside the bundle, not beside the link, which may be on another file system."""
    experiment = tiny_experiment(algorithm_config("himppo_flat"), ToyTask())
    place, link = tmp_path / "there" / "bundle", tmp_path / "here" / "link"
    export(experiment, place)
    link.parent.mkdir()
    link.symlink_to(place)
    beside = link.with_name("link.unfinished")
    beside.write_text("mine")
    export(experiment, link)
    assert link.is_symlink()
    assert (link / "bundle.json").is_file()
    assert beside.read_text() == "mine"


def test_only_bundles_are_replaced(tiny_experiment: TinyExperiment, tmp_path: Path) -> None:
    experiment = tiny_experiment(algorithm_config("himppo_flat"), ToyTask())
    output = tmp_path / "bundle"
    export(experiment, output)
    (output / "level_0.pt2").write_text("damaged")
    with pytest.raises(RuntimeError, match=r"level_0\.pt2 cannot be read: it is damaged, or needs torch"):
        Bundle(output)
    export(experiment, output)
    assert json.loads((output / "bundle.json").read_text())["verified"]["max_difference"] == 0.0
    other = tmp_path / "run"
    shutil.copytree(output, other / "bundle")
    for folder in (tmp_path / "mine", other):  # empty, and a run or an exporter's folder with a bundle inside
        folder.mkdir(exist_ok=True)
        with pytest.raises(ExportError, match="exists and is no bundle"):
            export(experiment, folder)
    assert Bundle(other / "bundle")
