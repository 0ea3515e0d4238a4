"""Runs of BenchMARL's own experiment, made in Python: found again by the commands, and nothing in their pickle runs."""

from __future__ import annotations

import pickle
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from benchmarl.algorithms import MappoConfig
from benchmarl.environments import VmasTask
from benchmarl.experiment import Callback, Experiment
from benchmarl.models import GruConfig, MlpConfig, SequenceModelConfig
from support.tiny_experiment import TinyExperiment, mlp_config
from support.toy_task import ToyTask

from benchmarl_himpo.harness.commands import evaluate, export, resume
from benchmarl_himpo.harness.evaluation.episodes import load_trained
from benchmarl_himpo.harness.records.record import RUN_RECORD_FILE, load_record
from benchmarl_himpo.harness.runs import CheckpointError, ResumableExperiment
from benchmarl_himpo.harness.runs.benchmarl_config import own_callbacks
from benchmarl_himpo.harness.runs.checkpoint import newest_checkpoint
from benchmarl_himpo.harness.runs.run_config import load_run_config
from benchmarl_himpo.harness.runs.training import config_to_continue, load_experiment, train
from benchmarl_himpo.host.benchmarl_files import CONFIG_PARTS, read_run_json

LOGGED = {"loggers": ["csv"], "create_json": True, "evaluation": True, "checkpoint_at_end": True}


@pytest.fixture
def trained(tmp_path: Path) -> Experiment:
    """HiMPPO on a task of the user's own that nothing registers."""
    experiment = TinyExperiment(tmp_path)(**LOGGED)
    experiment.run()
    return experiment


def parameters(experiment: Experiment) -> list[torch.Tensor]:
    return [value for loss in experiment.losses.values() for value in loss.parameters()]


@pytest.mark.slow
def test_it_is_evaluated_and_exported(trained: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    run = Path(trained.folder_name)
    again = load_trained(run, 2, with_losses=True)
    assert all(map(torch.equal, parameters(again), parameters(trained)))
    assert all(map(torch.equal, again.policy.parameters(), trained.policy.parameters()))
    assert again.task.config == trained.task.config
    assert vars(again.algorithm_config) == vars(trained.algorithm_config)
    assert vars(again.model_config) == vars(trained.model_config)
    again.close()
    evaluate.main([str(run), "episodes=3", "task.n_agents=3,4"])
    export.main([str(run), "episodes=2"])
    assert "agents: largest difference to the policy" in capsys.readouterr().out
    assert (run / "bundle" / "bundle.json").is_file()
    resume.resume(run, [])  # is finished: leaves a record
    record = load_record(run / RUN_RECORD_FILE)
    assert (record.frames, record.task, record.algorithm) == ([64, 128], "support.toy_task.ToyTask/TOY", "himppo")


def test_it_goes_on_with_new_optimisers_and_all_that_was_logged(trained: Experiment) -> None:
    run = Path(trained.folder_name)
    cfg, choices = config_to_continue(run, ["experiment.max_n_iters=4"])
    experiment = train(cfg, choices, resumes=True)
    assert (experiment.resumed_from_benchmarl, experiment.resumed_exactly) == (True, False)
    assert (Path(experiment.folder_name), experiment.total_frames) == (run, 256)
    frames = (run / run.name / "scalars" / "counters_total_frames.csv").read_text()
    assert frames.split() == ["0,64.0", "1,128.0", "2,192.0", "3,256.0"]
    _, data = read_run_json(run / f"{run.name}.json")
    assert [data[f"step_{step}"]["step_count"] for step in range(1, 5)] == [64, 128, 192, 256]
    # It is a run of the command now, and as good as any
    cfg, choices = config_to_continue(run, ["experiment.max_n_iters=5"])
    assert not train(cfg, choices, resumes=True).resumed_from_benchmarl


def test_a_resumed_run_that_is_killed_at_once_is_still_there(trained: Experiment) -> None:
    run = Path(trained.folder_name)
    cfg, choices = config_to_continue(run, ["experiment.max_n_iters=4", "algorithm.clip_epsilon=0.5"])
    experiment = load_experiment(cfg, choices, resumes=True)
    assert experiment.losses["agents"].state_dict()["level_losses.0.clip_epsilon"] == pytest.approx(0.5)
    experiment.close()
    assert newest_checkpoint(run / "checkpoints").name == "checkpoint_128.pt"
    load_trained(run, 2).close()


def test_several_groups_other_algorithms_and_checkpoints_without_a_policy(tmp_path: Path) -> None:
    """A collection with gradients leaves the policy's parameters in the losses alone."""
    task = VmasTask.SIMPLE_TAG.get_from_yaml()
    task.config["max_steps"] = 12
    experiment = TinyExperiment(tmp_path)(MappoConfig.get_from_yaml(), task, collect_with_grad=True, **LOGGED)
    experiment.run()
    run = Path(experiment.folder_name)
    assert load_run_config(run)[1]["task"] == "vmas/simple_tag"
    again = load_trained(run, 2)
    assert len(again.group_map) == 2
    assert all(map(torch.equal, again.policy.parameters(), experiment.policy.parameters()))
    again.close()


def test_a_resumable_experiment_made_in_python_resumes_exactly(tmp_path: Path) -> None:
    tiny = TinyExperiment(tmp_path)
    task = VmasTask.BALANCE.get_from_yaml()
    task.config["max_steps"] = 16
    arguments = {"task": task, "algorithm_config": MappoConfig.get_from_yaml(), "model_config": mlp_config()}
    experiment = ResumableExperiment(**arguments, seed=0, config=tiny.config(**LOGGED))
    experiment.run()
    cfg, choices = config_to_continue(Path(experiment.folder_name), ["experiment.max_n_iters=3"])
    assert train(cfg, choices, resumes=True).resumed_exactly


@pytest.mark.parametrize("damage", ["truncated", "overwritten"])
def test_a_damaged_checkpoint_is_refused(damage: str, trained: Experiment) -> None:
    run = Path(trained.folder_name)
    path = newest_checkpoint(run / "checkpoints")
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes({"truncated": content[:-100]}.get(damage, content[:half] + bytes(999) + content[half + 999 :]))
    with pytest.raises(CheckpointError, match="is damaged"):
        load_trained(run, 2)


def test_callbacks_of_the_program_are_named_where_the_run_goes_on_without_them(tmp_path: Path) -> None:
    experiment = TinyExperiment(tmp_path)(callbacks=[Curriculum()], checkpoint_at_end=True)
    experiment.run()
    with pytest.warns(UserWarning, match=r"without the callbacks of its program: test_benchmarl_config\.Curriculum"):
        config_to_continue(Path(experiment.folder_name), ["experiment.max_n_iters=3"])


class Curriculum(Callback):
    def __getstate__(self) -> dict[str, object]:
        return {}


def test_a_task_whose_module_is_not_imported_is_named(trained: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "support.toy_task")
    with pytest.raises(ValueError, match=r"class support\.toy_task\.ToyTask, which this process has not imported"):
        load_trained(Path(trained.folder_name), 2)
    assert "support.toy_task" not in sys.modules


# The pickle


class Bomb:
    """What a pickle may do when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def write_pickle(folder: Path, **parts: object) -> None:
    task = ToyTask()
    good = (task, task.config, MappoConfig.get_from_yaml(), mlp_config(), 0, TinyExperiment(folder).config())
    values = dict(zip(CONFIG_PARTS, (*good, mlp_config(), []), strict=True)) | parts
    folder.mkdir(exist_ok=True)
    with (folder / "config.pkl").open("wb") as file:
        for value in values.values():
            pickle.dump(value, file)


@pytest.mark.parametrize("part", CONFIG_PARTS)
def test_nothing_in_a_pickle_runs(part: str, tmp_path: Path) -> None:
    bomb = Bomb(tmp_path / "boom")
    write_pickle(tmp_path / "run", **{part: bomb})
    if part == "callbacks":
        load_run_config(tmp_path / "run")  # is not read
    with pytest.raises(CheckpointError, match=r"config\.pkl"):
        own_callbacks(tmp_path / "run" / "config.pkl") if part == "callbacks" else load_run_config(tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"config\.pkl"):
        write_pickle(tmp_path / "run", **{"task.config": {"n_agents": bomb}})
        load_run_config(tmp_path / "run")
    assert not (tmp_path / "boom").exists()


def test_classes_are_names_that_are_checked_like_those_of_a_yaml_file(tmp_path: Path) -> None:
    model = MlpConfig(num_cells=[4], activation_class=torch.nn.Tanh, layer_class=Path)
    write_pickle(tmp_path / "run", model=model)
    with pytest.raises(CheckpointError, match=r"names model\.layer_class=pathlib\.Path, .*was not imported"):
        load_run_config(tmp_path / "run")


def test_what_yaml_cannot_hold_is_named_and_the_rest_comes_through(tmp_path: Path) -> None:
    layers = [GruConfig.get_from_yaml(), mlp_config()]
    experiment = TinyExperiment(tmp_path).config(train_device=torch.device("cpu"))
    write_pickle(
        tmp_path / "run",
        model=SequenceModelConfig(model_configs=layers, intermediate_sizes=[8]),
        experiment=experiment,
        **{"task.config": OrderedDict(n_agents=4)},
    )
    cfg, choices = load_run_config(tmp_path / "run")
    assert (cfg.model.layers.l1.name, cfg.model.layers.l2.num_cells, cfg.model.intermediate_sizes) == ("gru", [16], [8])
    assert cfg.critic_model.activation_class == "torch.nn.Tanh"
    assert (cfg.experiment.train_device, cfg.task) == ("cpu", {"n_agents": 4})
    assert choices["task"] == "support.toy_task.ToyTask/TOY"
    write_pickle(tmp_path / "run", **{"task.config": {"board": torch.zeros(3)}})
    with pytest.raises(CheckpointError, match=r"task\.board of the class torch\._utils\._rebuild_tensor_v2"):
        load_run_config(tmp_path / "run")
