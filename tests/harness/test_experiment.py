"""Experiments made in Python: the files of the command, and what every command does with them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarl.algorithms import MappoConfig, QmixConfig
from benchmarl.environments import VmasTask
from benchmarl.experiment import Callback
from benchmarl.models import GnnConfig, MlpConfig, SequenceModelConfig
from omegaconf import OmegaConf
from support.run_states import differences, last_state, scalars
from support.tiny_experiment import TinyExperiment, algorithm_config, mlp_config, vmas_task
from support.toy_task import ToyTask

import benchmarl_himpo
from benchmarl_himpo.environments import is_accelerated
from benchmarl_himpo.harness.commands import audit, evaluate, export, resume
from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.harness.evaluation.episodes import load_trained
from benchmarl_himpo.harness.films.episode import film_episode
from benchmarl_himpo.harness.records.record import RUN_RECORD_FILE, load_record
from benchmarl_himpo.harness.rendering.display import RenderError, check_display
from benchmarl_himpo.harness.runs.checkpoint import CONFIG_FILE
from benchmarl_himpo.harness.runs.run_config import load_run_config
from benchmarl_himpo.harness.runs.training import config_to_continue, train
from benchmarl_himpo.hierarchy import CategoricalGoal, goal_registry

LOGGED = {"loggers": ["csv"], "create_json": True, "evaluation": True, "checkpoint_interval": 64}


def build(folder: Path, task: Any = None, callbacks: Any = None, **options: Any) -> Any:
    return benchmarl_himpo.Experiment(
        task=vmas_task("sampling") if task is None else task,
        algorithm_config=algorithm_config("himppo_2l"),
        model_config=mlp_config(),
        seed=0,
        config=TinyExperiment(folder).config(**{**LOGGED, **options}),
        callbacks=callbacks,
    )


def train_one(folder: Path, **arguments: Any) -> Path:
    folder.mkdir(exist_ok=True)
    experiment = build(folder, **arguments)
    experiment.run()
    return Path(experiment.folder_name)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three iterations that nothing interrupted."""
    return train_one(tmp_path_factory.mktemp("whole"), max_n_iters=3)


def test_its_files_are_those_of_a_run_of_the_command_with_the_same_values(whole: Path, tmp_path: Path) -> None:
    """The command is told what the run's own configuration says, and trains the same numbers."""
    saved = OmegaConf.load(whole / CONFIG_FILE)
    cfg = compose(["algorithm=himppo_2l", "task=vmas/sampling"], return_hydra_config=True)
    choices = dict(cfg.hydra.runtime.choices)
    for node in ("experiment", "algorithm", "task", "model", "critic_model"):
        OmegaConf.update(cfg, node, saved[node])
    cfg.experiment.save_folder = str(tmp_path)
    told = Path(train(cfg, choices).folder_name)
    again = OmegaConf.load(told / CONFIG_FILE)
    again.experiment.save_folder = saved.experiment.save_folder
    assert again == saved
    assert saved.accelerated and saved.choices.task == "vmas/sampling"
    assert differences(last_state(told, 192), last_state(whole, 192)) == []
    assert scalars(told) == scalars(whole)


def test_it_leaves_a_record_whose_labels_are_those_of_the_command(whole: Path) -> None:
    record = load_record(whole / RUN_RECORD_FILE)
    assert (record.algorithm, record.task, record.frames, record.attempts) == (
        "himppo_2l",
        "vmas/sampling",
        [64, 128, 192],
        1,
    )
    assert record.task_label.startswith("vmas/sampling[max_steps=12; ")
    assert "model.num_cells=16" in record.variant
    assert "model.name" not in record.variant
    names = {file.name for file in whole.iterdir()}
    assert {"run.yaml", "record.jsonl", "attempts.jsonl", "config.pkl", "checkpoints", f"{whole.name}.json"} <= names


def test_resuming_it_is_bitwise_identical_to_an_uninterrupted_run(whole: Path, tmp_path: Path) -> None:
    run = train_one(tmp_path / "cut", max_n_iters=2)
    resume.resume(run, ["experiment.max_n_iters=3"])
    assert differences(last_state(run, 192), last_state(whole, 192)) == []
    assert scalars(run) == scalars(whole)
    assert load_record(run / RUN_RECORD_FILE).attempts == 2


def test_python_resumes_it_too(whole: Path, tmp_path: Path) -> None:
    """``restore_file`` goes on in the folder of the run, and its record tells of both attempts."""
    run = train_one(tmp_path / "cut", max_n_iters=2)
    file = run / "checkpoints" / "checkpoint_128.pt"
    experiment = build(run.parent, max_n_iters=3, restore_file=str(file))
    assert experiment.resumed_exactly
    assert Path(experiment.folder_name) == run
    experiment.run()
    assert differences(last_state(run, 192), last_state(whole, 192)) == []
    assert load_record(run / RUN_RECORD_FILE).frames == [64, 128, 192]


@pytest.mark.slow
def test_every_command_takes_its_folder(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate.main([str(whole), "episodes=3", "task.n_agents=3,4", f"output={tmp_path / 'evaluation.json'}"])
    results = json.loads((tmp_path / "evaluation.json").read_text())["results"]
    assert [result["overrides"] for result in results] == [["task.n_agents=3"], ["task.n_agents=4"]]
    audit.main([str(whole), "episodes=3", f"output={tmp_path / 'audit.json'}"])
    (audited,) = json.loads((tmp_path / "audit.json").read_text())["results"]
    assert {row["level"] for row in audited["rows"]} == {1, None}
    export.main([str(whole), "episodes=2", f"output={tmp_path / 'bundle'}"])
    assert "agents: largest difference to the policy 0.0e+00" in capsys.readouterr().out


def test_it_is_filmed(whole: Path) -> None:
    experiment = load_trained(whole, 1, with_losses=True)
    try:
        check_display(experiment, "video")
    except RenderError as error:
        pytest.skip(str(error))
    assert len(film_episode(experiment, seed=0).scenes) == 12
    experiment.close()


def test_values_take_the_types_that_their_options_have_in_yaml(tmp_path: Path) -> None:
    """Whole numbers where YAML has floats would make another run of the one that is resumed."""
    algorithm = algorithm_config("himppo_2l", gamma=[1, 1], clip_epsilon=1)
    config = TinyExperiment(tmp_path).config(**LOGGED, clip_grad_val=5)
    experiment = benchmarl_himpo.Experiment(vmas_task("sampling"), algorithm, mlp_config(), 0, config)
    experiment.run()
    cfg, choices = config_to_continue(Path(experiment.folder_name), ["experiment.max_n_iters=3"])
    resumed = train(cfg, choices, resumes=True)
    assert resumed.resumed_exactly
    assert [type(value) for value in resumed.algorithm_config.gamma] == [float, float]


@pytest.mark.parametrize(
    "name",
    [pytest.param("own task", marks=pytest.mark.slow), "sequence with a GNN", "off-policy", "registered by enum"],
)
def test_tasks_models_and_algorithms_of_every_kind_are_found_again(name: str, tmp_path: Path) -> None:
    task, algorithm, model = vmas_task("balance"), MappoConfig.get_from_yaml(), mlp_config()
    if name == "own task":
        task = ToyTask()
    elif name == "sequence with a GNN":
        pytest.importorskip("torch_geometric")
        model = SequenceModelConfig(model_configs=[GnnConfig.get_from_yaml(), mlp_config()], intermediate_sizes=[8])
    elif name == "off-policy":
        task, algorithm = vmas_task("balance"), QmixConfig.get_from_yaml()
    else:
        task = VmasTask.SIMPLE_SPREAD
    config = TinyExperiment(tmp_path).config(**LOGGED)
    experiment = benchmarl_himpo.Experiment(task, algorithm, model, 3, config, critic_model_config=mlp_config())
    experiment.run()
    again = load_trained(Path(experiment.folder_name), 2)
    assert all(map(torch.equal, again.policy.parameters(), experiment.policy.parameters()))
    assert (again.task.config, again.seed) == (experiment.task.config, 3)
    again.close()
    assert load_record(Path(experiment.folder_name) / RUN_RECORD_FILE).frames == [64, 128]


@dataclass(frozen=True)
class WordGoal(CategoricalGoal):
    alphabet: int


def test_a_part_of_another_kind_replaces_that_of_the_algorithms_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file's goal space has a field that this one has not."""
    monkeypatch.setitem(goal_registry, "word", WordGoal)
    goal = {"name": "word", "alphabet": 26}
    config = TinyExperiment(tmp_path).config(**LOGGED)
    experiment = benchmarl_himpo.Experiment(vmas_task("balance"), algorithm_config(goal=goal), mlp_config(), 0, config)
    experiment.close()
    assert experiment.algorithm_config.goal == goal
    assert load_run_config(Path(experiment.folder_name))[0].algorithm.goal == goal


def test_a_faster_simulation_is_taken_as_by_the_command_and_may_be_given(tmp_path: Path) -> None:
    for task in (VmasTask.SAMPLING.get_from_yaml(), vmas_task("sampling")):
        experiment = build(tmp_path, task)
        assert is_accelerated(experiment.task)
        assert OmegaConf.load(Path(experiment.folder_name) / CONFIG_FILE).choices.task == "vmas/sampling"
        experiment.close()


def test_what_yaml_cannot_say_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    model = MlpConfig(num_cells=[torch.zeros(1)], activation_class=torch.nn.Tanh, layer_class=torch.nn.Linear)
    config = TinyExperiment(tmp_path).config()
    with pytest.raises(ValueError, match=r"the experiment has model.num_cells.0 of the class torch.Tensor"):
        benchmarl_himpo.Experiment(vmas_task("sampling"), algorithm_config(), model, 0, config)

    class Mine(MlpConfig):
        pass

    model = Mine(num_cells=[8], activation_class=torch.nn.Tanh, layer_class=torch.nn.Linear)
    with pytest.raises(ValueError, match=r"the experiment has model of the class .*Mine, which is not registered"):
        benchmarl_himpo.Experiment(vmas_task("sampling"), algorithm_config(), model, 0, config)
    with pytest.raises(ValueError, match=r"experiment.checkpoint_interval=65 is not a multiple"):
        build(tmp_path, checkpoint_interval=65)
    assert list(tmp_path.iterdir()) == []


def test_callbacks_of_the_program_run_and_are_named_where_the_run_goes_on_without_them(tmp_path: Path) -> None:
    counter = Counter()
    run = train_one(tmp_path / "runs", callbacks=[counter])
    assert counter.n_batches == 2
    with pytest.warns(UserWarning, match=r"without the callbacks of its program: .*test_experiment\.Counter"):
        config_to_continue(run, ["experiment.max_n_iters=3"])


class Counter(Callback):
    def __init__(self) -> None:
        super().__init__()
        self.n_batches = 0

    def on_batch_collected(self, batch: Any) -> None:
        self.n_batches += 1

    def __getstate__(self) -> dict[str, object]:
        return {}


def test_importing_the_package_loads_neither_torch_nor_benchmarl_and_unknown_names_are_refused(tmp_path: Path) -> None:
    program = (
        "import sys, benchmarl_himpo\n"
        "print({'torch', 'benchmarl'} & set(sys.modules), hasattr(benchmarl_himpo, 'experiment'))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(benchmarl_himpo.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout.split() == ["set()", "False"], done.stderr
