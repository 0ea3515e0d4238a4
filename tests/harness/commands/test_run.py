"""The command: composition, requests that cannot be met, what a run leaves, how it ends."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from benchmarl.algorithms import algorithm_config_registry as host_registry
from benchmarl.environments import PettingZooTask, task_config_registry
from benchmarl.experiment import Callback, Experiment, ExperimentConfig
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from tensordict import TensorDictBase

from benchmarl_himpo import register
from benchmarl_himpo.algorithms import algorithm_config_registry
from benchmarl_himpo.config import CONF_DIR
from benchmarl_himpo.environments.lbf.task import LbfTask
from benchmarl_himpo.environments.sampling_scenario import SamplingScenario
from benchmarl_himpo.environments.tasks import TASKS
from benchmarl_himpo.harness import checks
from benchmarl_himpo.harness.callbacks import SummaryCallback, VideoCallback
from benchmarl_himpo.harness.commands import run
from benchmarl_himpo.harness.commands.resume import resume
from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.harness.evaluation.episodes import load_trained
from benchmarl_himpo.harness.rendering.display import RenderError
from benchmarl_himpo.harness.runs import CheckpointError, training
from benchmarl_himpo.harness.runs.run_config import load_run_config, save_run_config
from benchmarl_himpo.harness.runs.training import CommandError, run_to_end

MakeExperiment = Callable[..., Experiment]
RunCommand = Callable[..., subprocess.CompletedProcess[str]]


# Composition


@pytest.mark.parametrize("algorithm", sorted({*host_registry} - {*algorithm_config_registry}))
def test_every_algorithm_of_benchmarl_composes(algorithm: str) -> None:
    """Ours are composed in tests/algorithms/test_variants.py."""
    cfg = compose([f"algorithm={algorithm}"])
    assert isinstance(OmegaConf.to_object(cfg.algorithm), host_registry[algorithm])


ONE_TASK_PER_ENVIRONMENT = {task.split("/")[0]: task for task in sorted(task_config_registry)}


@pytest.mark.parametrize(
    "task",
    [
        pytest.param(task, marks=[] if task in ONE_TASK_PER_ENVIRONMENT.values() else pytest.mark.slow)
        for task in sorted(task_config_registry)
    ],
)
def test_every_task_composes(task: str) -> None:
    cfg = compose([f"task={task}", "algorithm=ippo"], return_hydra_config=True)
    assert cfg.hydra.runtime.choices.task == task


def test_registering_twice_changes_nothing() -> None:
    before = dict(host_registry)
    register()
    assert host_registry == before


def test_compose_puts_hydra_back_inside_a_hydra_program() -> None:
    with initialize_config_dir(config_dir=str(CONF_DIR), version_base="1.3"):
        outer = GlobalHydra.instance().hydra
        assert outer is not None
        compose(["algorithm=ippo"])
        assert GlobalHydra.instance().hydra is outer
    assert not GlobalHydra.instance().is_initialized()


def test_default_experiment_is_the_reference_setting() -> None:
    cfg = compose(["algorithm=ippo"], return_hydra_config=True)
    assert cfg.hydra.runtime.choices.task == "vmas/sampling"
    assert (cfg.task.n_agents, cfg.task.shared_rew, cfg.task.max_steps) == (3, False, 100)
    experiment = cfg.experiment
    assert experiment.on_policy_n_envs_per_worker == 120
    assert experiment.on_policy_collected_frames_per_batch == 12_000
    assert experiment.on_policy_n_minibatch_iters == 10
    assert experiment.on_policy_minibatch_size == 2_000
    assert (experiment.lr, experiment.gamma, experiment.max_n_frames) == (1e-3, 0.99, 480_000)
    assert list(experiment.loggers) == ["csv"]
    assert not experiment.render
    for model in (cfg.model, cfg.critic_model):
        assert model.num_cells == [256, 256]
        assert model.activation_class == "torch.nn.Tanh"


@pytest.mark.parametrize("on_policy", [True, False])
@pytest.mark.parametrize("preset", sorted(file.stem for file in (CONF_DIR / "experiment").iterdir()))
def test_every_preset_is_valid_on_and_off_policy(preset: str, on_policy: bool) -> None:
    config = OmegaConf.to_object(compose([f"experiment={preset}", "algorithm=ippo"]).experiment)
    config.validate(on_policy)
    assert config.get_max_n_frames(on_policy) % config.collected_frames_per_batch(on_policy) == 0
    assert config.collected_frames_per_batch(on_policy) % config.n_envs_per_worker(on_policy) == 0


# The command as a user runs it


@pytest.mark.parametrize("accelerated", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_one_option_chooses_the_simulation(accelerated: bool, make_experiment: MakeExperiment) -> None:
    overrides = ["task=vmas/sampling", "algorithm=ippo", f"accelerated={accelerated}", "experiment.evaluation=false"]
    experiment = make_experiment(*overrides, "experiment.on_policy_n_envs_per_worker=1")
    assert isinstance(experiment.test_env.base_env.scenario, SamplingScenario) == accelerated
    said = run.summarise(experiment, wall_time=1.0)
    assert f"simulation          {'accelerated' if accelerated else 'the task'}" in said
    experiment.close()


@pytest.mark.slow
def test_multirun_trains_several_algorithms(call_command: RunCommand, tmp_path: Path) -> None:
    overrides = ["algorithm=himppo,qmix", "task=vmas/balance", "task.max_steps=10", "experiment=tiny"]
    done = call_command("--multirun", *overrides, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for algorithm in ("himppo", "qmix"):
        assert f"{algorithm} on vmas/balance, seed 0" in done.stdout
        (folder,) = tmp_path.glob(f"multirun/*/*/*/{algorithm}_balance_mlp_*")
        assert f"results             {folder}" in done.stdout
        assert (folder / "checkpoints" / "checkpoint_800.pt").is_file()
        assert (folder / folder.name / "scalars" / "eval_reward_episode_reward_mean.csv").is_file()
        assert "vmas" in json.loads((folder / f"{folder.name}.json").read_text())


def test_a_run_of_own_files_and_classes_is_measured_and_goes_on_without_the_files(
    call_command: RunCommand, tmp_path: Path, tiny_overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {
        "experiment": "defaults: [quick]\nlr: 0.002",
        "algorithm": "defaults: [himppo_2l]\nhidden_dim: 8",
        "model": "defaults: [layers/mlp@_here_]\nactivation_class: own_layers.Own",
    }
    for group, text in own.items():
        (tmp_path / "own" / group).mkdir(parents=True)
        (tmp_path / "own" / group / "mine.yaml").write_text(f"{text}\n")
    (tmp_path / "own_layers.py").write_text("import torch\n\nclass Own(torch.nn.Tanh):\n    pass\n")
    chosen = [f"{group}=mine" for group in (*own, "model@critic_model")]
    overrides = ["--config-dir=own", *chosen, "absolute_metric_episodes=2", *tiny_overrides]
    monkeypatch.syspath_prepend(tmp_path)
    done = call_command(*overrides, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "absolute metric" in done.stdout

    shutil.rmtree(tmp_path / "own")
    (folder,) = (tmp_path / "runs").iterdir()
    trusted = [f"{node}.activation_class=own_layers.Own" for node in ("model", "critic_model")]
    resume(folder, trusted)  # is finished: plays what is measured again
    load_trained(folder, 2, trusted).close()
    cfg, choices = training.config_to_continue(folder, [*trusted, "experiment.max_n_frames=120"])
    assert (cfg.experiment.lr, cfg.algorithm.hidden_dim, choices["algorithm"]) == (0.002, 8, "himppo_2l")
    assert training.train(cfg, choices).total_frames == 120


@pytest.mark.parametrize(
    "text",
    [
        "defaults: [layers/gru@_here_]\nhidden_size: 8",
        "defaults: [layers@layers.l1: gnn, layers@layers.l2: mlp, layers@layers.l3: mlp]\nintermediate_sizes: [8, 8]",
        "defaults: [layers@layers.l1: mine]\nintermediate_sizes: []",
    ],
)
def test_models_of_own_files_are_composed_again_without_them(text: str, tmp_path: Path) -> None:
    (tmp_path / "model" / "layers").mkdir(parents=True)
    (tmp_path / "model" / "mine.yaml").write_text(f"{text}\n")
    (tmp_path / "model" / "layers" / "mine.yaml").write_text("defaults: [mlp]\nnum_cells: [7]\n")
    cfg = compose(
        ["model=mine", f"hydra.searchpath=[pkg://benchmarl/conf,file://{tmp_path}]"], return_hydra_config=True
    )
    save_run_config(cfg, cfg.hydra.runtime.choices, tmp_path)
    again, choices = load_run_config(tmp_path)
    assert again.model == cfg.model
    assert "mine" not in choices.values()


def test_a_request_that_cannot_be_met_ends_with_one_sentence(call_command: RunCommand, tmp_path: Path) -> None:
    done = call_command("algorithm=ippo", "experiment.loggers=[abacus]", cwd=tmp_path)
    assert done.returncode == 1
    assert "experiment.loggers has the unknown logger 'abacus': choose from csv," in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_ends_with_a_short_message_and_exit_code_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "_run_from_hydra", interrupted)
    with pytest.raises(SystemExit) as exit_info:
        run.main()
    assert exit_info.value.code == 130
    assert capsys.readouterr().err.startswith("Interrupted")


# Requests that cannot be met


@pytest.mark.parametrize("logger", ["wandb", "tensorboard", "mlflow", "trackio"])
def test_missing_logger_names_what_to_install(
    logger: str, make_experiment: MakeExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    with pytest.raises(checks.RequestError, match=rf"asks for {logger}.*pip install"):
        make_experiment("algorithm=ippo", f"experiment.loggers=[csv,{logger}]")


def test_missing_matplotlib_names_what_to_install(
    make_experiment: MakeExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(RenderError, match=r"render=true.*\[render\].*experiment\.render=false"):
        make_experiment("task=vmas/sampling", "algorithm=ippo", "experiment.render=true")


def test_missing_moviepy_names_what_to_install(
    tiny_experiment_config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fake_packages(monkeypatch, {"wandb": "0.19"})
    tiny_experiment_config.render, tiny_experiment_config.loggers = True, ["wandb"]
    with pytest.raises(checks.RequestError, match=r"render=true needs moviepy.*\[render\]"):
        checks.check_request(tiny_experiment_config, True, "vmas/balance", {"mlp"})


def test_missing_torch_geometric_names_what_to_install(
    tiny_experiment_config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    with pytest.raises(checks.RequestError, match=r"needs torch_geometric.*\[gnn\].*model=layers/mlp"):
        checks.check_request(tiny_experiment_config, True, "vmas/balance", {"gnn"})


def _fake_packages(monkeypatch: pytest.MonkeyPatch, installed: dict[str, str]) -> None:
    """Let the checks see these packages and no others."""
    spec = partial(ModuleSpec, loader=None, origin="made up")
    monkeypatch.setattr(checks, "find_spec", lambda name: spec(name) if name in installed else None)
    monkeypatch.setattr(checks, "version", installed.__getitem__)


PETTINGZOO_TASKS = sorted(f"pettingzoo/{task.name.lower()}" for task in PettingZooTask)
MPE_TASKS = [task for task in PETTINGZOO_TASKS if "/simple_" in task]
INSTEAD = {task: task.replace("pettingzoo", "mpe") for task in MPE_TASKS} | {
    "pettingzoo/multiwalker": "sisl/multiwalker"
}


@pytest.mark.parametrize("task", PETTINGZOO_TASKS)
def test_a_missing_pettingzoo_is_named_with_the_version_that_works(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_packages(monkeypatch, {})
    with pytest.raises(checks.RequestError, match=rf"task={task} .*not installed.*pip install 'pettingzoo==1\.25\.0'"):
        checks.check_task(task)


@pytest.mark.parametrize(
    ("pettingzoo", "fitting"),
    [
        ("1.24.3", [*MPE_TASKS, "pettingzoo/multiwalker"]),
        ("1.25.0", PETTINGZOO_TASKS),
        ("1.26.1", ["pettingzoo/multiwalker"]),
        ("1.27.0", []),
    ],
)
def test_versions_of_pettingzoo_that_do_not_work_are_refused(
    pettingzoo: str, fitting: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _fake_packages(monkeypatch, {"pettingzoo": pettingzoo, "pygame": "2.6.1", "Box2D": "2.3.10", "pymunk": "6.11.1"})
    assert len(MPE_TASKS) == 8
    for task in PETTINGZOO_TASKS:
        if task in fitting:
            checks.check_task(task)
        else:
            instead = "" if task.endswith("waterworld") else rf", or choose task={INSTEAD[task]}, .*\[pettingzoo\]'"
            sentence = rf"task={task} .*\({pettingzoo} is installed\).*1\.25\.0'{instead}\.$"
            with pytest.raises(checks.RequestError, match=sentence):
                checks.check_task(task)


@pytest.mark.parametrize(
    ("task", "installed", "missing"),
    [
        ("mpe/simple_spread", {}, r"pettingzoo>=1\.25 \(not installed\), mpe2 \(not installed\)"),
        ("mpe/simple_tag", {"pettingzoo": "1.27.0"}, r"mpe2 \(not installed\)"),
        ("mpe/simple_tag", {"pettingzoo": "1.24.3", "mpe2": "1.0.0"}, r"pettingzoo>=1\.25 \(1\.24\.3 is installed\)"),
        ("sisl/multiwalker", {"pettingzoo": "1.27.0", "pygame": "2.6.1"}, r"Box2D \(not installed\)"),
        ("pettingzoo/own", {}, r"pettingzoo>=1\.25 \(not installed\)"),
    ],
)
def test_our_tasks_name_the_extra_that_they_need(
    task: str, installed: dict[str, str], missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fake_packages(monkeypatch, installed)
    sentence = rf"task={task} needs {missing}: pip install 'benchmarl_himpo\[pettingzoo\]'\.$"
    with pytest.raises(checks.RequestError, match=sentence):
        checks.check_task(task)


def test_our_tasks_run_where_benchmarls_are_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"pettingzoo": "1.27.0", "mpe2": "1.0.0", "pygame": "2.6.1", "Box2D": "2.3.10"}
    _fake_packages(monkeypatch, found)
    assert set(INSTEAD.values()) == {name for name in TASKS if name.startswith(("mpe/", "sisl/"))}
    for name in INSTEAD.values():
        checks.check_task(name)


def test_waterworld_needs_an_older_pymunk_and_is_not_told_to_install_what_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _fake_packages(monkeypatch, {"pettingzoo": "1.25.0", "pygame": "2.6.1", "pymunk": "7.3.1"})
    with pytest.raises(checks.RequestError, match=r"needs pymunk<7 \(7.3.1 is installed\): pip install 'pymunk<7'\.$"):
        checks.check_task("pettingzoo/waterworld")


def test_a_package_under_another_name_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Box2D is the module of several packages, pygame of two."""
    _fake_packages(monkeypatch, {"pettingzoo": "1.25.0", "pygame": "", "Box2D": ""})

    def version_of_pettingzoo(name: str) -> str:
        if name != "pettingzoo":
            raise PackageNotFoundError(name)
        return "1.25.0"

    monkeypatch.setattr(checks, "version", version_of_pettingzoo)
    checks.check_task("pettingzoo/multiwalker")


def test_a_folder_with_the_name_of_a_package_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pettingzoo_of_mine").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert find_spec("pettingzoo_of_mine") is not None
    assert not checks.is_installed("pettingzoo_of_mine")
    assert checks.is_installed("benchmarl")


def test_tasks_of_users_need_nothing_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task of their own, even in the place of one of BenchMARL's, may bring its own simulation."""
    _fake_packages(monkeypatch, {})
    checks.check_task("pettingzoo/my_own")
    checks.check_task("lbf/foraging_8x8_2p_1f")
    monkeypatch.setitem(task_config_registry, "pettingzoo/simple_tag", LbfTask.FORAGING_8X8_2P_1F)
    checks.check_task("pettingzoo/simple_tag")


@pytest.mark.skipif(find_spec("pettingzoo") is not None, reason="PettingZoo is installed")
def test_the_command_says_what_a_task_needs(call_command: RunCommand, tmp_path: Path) -> None:
    done = call_command("algorithm=ippo", "task=pettingzoo/simple_tag", cwd=tmp_path)
    assert done.returncode == 1
    assert "task=pettingzoo/simple_tag needs pettingzoo<1.26 (not installed)" in done.stderr
    assert "task=mpe/simple_tag" in done.stderr
    assert "Traceback" not in done.stderr


def test_layers_of_a_sequence_model_are_found() -> None:
    overrides = [
        "model=sequence",
        "model/layers@model.layers.l1=gnn",
        "model/layers@model.layers.l2=mlp",
    ]
    cfg = compose(["algorithm=ippo", *overrides, "model.intermediate_sizes=[8]"])
    assert list(checks.model_names_of(cfg.model)) == ["gnn", "mlp"]


@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
@pytest.mark.parametrize("option", ["sampling_device", "train_device", "buffer_device"])
def test_unknown_device_is_named(option: str, device: str, make_experiment: MakeExperiment) -> None:
    with pytest.raises(checks.RequestError, match=rf"experiment\.{option}={device} cannot be used"):
        make_experiment("algorithm=ippo", f"experiment.{option}={device}")


@pytest.mark.parametrize(
    ("algorithm", "override", "message"),
    [
        ("ippo", "experiment.evaluation_interval=0", r"must be positive: choose experiment.evaluation=false"),
        ("ippo", "experiment.evaluation_interval=50", r"on_policy_collected_frames.*choose 80"),
        ("qmix", "experiment.checkpoint_interval=50", r"off_policy_collected_frames.*choose 80"),
        ("ippo", "experiment.on_policy_n_envs_per_worker=3", r"=40 is not .*=3: choose 42"),
    ],
)
def test_counts_that_do_not_fit_are_named(
    algorithm: str, override: str, message: str, make_experiment: MakeExperiment
) -> None:
    with pytest.raises(checks.RequestError, match=message):
        make_experiment(f"algorithm={algorithm}", override)


def test_missing_checkpoint_is_named_before_a_folder_is_made(make_experiment: MakeExperiment, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"experiment\.restore_file: gone\.pt does not exist"):
        make_experiment(
            "algorithm=ippo", "experiment.restore_file=gone.pt", f"experiment.save_folder={tmp_path / 'runs'}"
        )
    assert not (tmp_path / "runs").exists()


# What a run leaves behind


def test_summary_tells_the_evaluation_that_benchmarl_logged(
    make_experiment: MakeExperiment,
) -> None:
    experiment = make_experiment("algorithm=ippo", "task=vmas/simple_tag")  # two groups
    experiment.run()
    scalars = experiment.folder_name / experiment.name / "scalars"
    logged = (scalars / "eval_reward_episode_reward_mean.csv").read_text().split(",")[-1]
    (summary,) = (c for c in experiment.callbacks if isinstance(c, SummaryCallback))
    assert summary.evaluation_return == pytest.approx(float(logged), rel=1e-5)
    text = run.summarise(experiment, wall_time=3.0)
    assert f"return, evaluation  {summary.evaluation_return:.3f}" in text
    assert "frames              80 at " in text
    assert str(experiment.folder_name) in text


def test_a_run_reloads_with_its_callbacks(make_experiment: MakeExperiment) -> None:
    experiment = make_experiment("algorithm=ippo")
    experiment.run()
    checkpoint = experiment.folder_name / "checkpoints" / "checkpoint_80.pt"
    reloaded = Experiment.reload_from_file(str(checkpoint))
    assert [type(c) for c in reloaded.callbacks] == [type(c) for c in experiment.callbacks]
    assert all(callback.experiment is reloaded for callback in reloaded.callbacks)
    reloaded.close()


# Numbers that are not finite


class Poison(Callback):
    """Put NaN into the data or the policy, from iteration 1 on."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def on_batch_collected(self, batch: TensorDictBase) -> None:
        if self.experiment.n_iters_performed == 1 and self.what in ("observation", "reward"):
            batch["next", "agents", self.what].view(-1)[0] = torch.nan

    def on_train_step(self, batch: TensorDictBase, group: str) -> None:
        if self.experiment.n_iters_performed == 1 and self.what == "policy":
            parameters = self.experiment.losses[group].parameters()
            next(parameters).data.fill_(torch.nan)

    def __getstate__(self) -> dict:
        return {"what": self.what, "experiment": None}


@pytest.mark.parametrize(
    ("what", "algorithm"),
    [
        ("observation", "ippo"),
        ("reward", "ippo"),
        ("policy", "ippo"),
        ("policy", "qmix"),
        ("policy", "himppo"),
    ],
)
def test_nan_stops_the_run_and_keeps_the_last_good_checkpoint(
    what: str, algorithm: str, make_experiment: MakeExperiment
) -> None:
    experiment = make_experiment(f"algorithm={algorithm}")
    poison = Poison(what)
    poison.experiment = experiment
    experiment.callbacks.insert(0, poison)
    with pytest.raises(CommandError) as error:
        run_to_end(experiment)
    message = str(error.value)
    assert (what if what != "policy" else "loss") in message
    assert "'agents'" in message
    assert "iteration 1" in message
    (checkpoint,) = (experiment.folder_name / "checkpoints").glob("*.pt")
    assert checkpoint.name == "checkpoint_40.pt"
    assert str(checkpoint) in message
    parameters = torch.load(checkpoint)["loss_agents"].values()
    assert all(p.isfinite().all() for p in parameters if torch.is_tensor(p))


def test_nan_before_any_checkpoint_says_so(make_experiment: MakeExperiment) -> None:
    experiment = make_experiment("algorithm=ippo", "experiment.checkpoint_interval=0")
    poison = Poison("reward")
    poison.experiment = experiment
    experiment.callbacks.insert(0, poison)
    with pytest.raises(CommandError, match=r"experiment\.checkpoint_interval"):
        run_to_end(experiment)


# Videos


def decode(path: Path) -> list[torch.Tensor]:
    """Read a film back, one [height, width, 3] tensor per frame."""
    import av

    with av.open(str(path)) as container:
        return [torch.from_numpy(f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]


def test_render_leaves_an_mp4_in_the_run_folder(make_experiment: MakeExperiment) -> None:
    try:
        experiment = make_experiment("algorithm=ippo", "experiment.render=true")
    except RenderError as error:
        pytest.skip(f"cannot draw here: {error}")
    experiment.run()
    videos = sorted(experiment.folder_name.rglob("videos/*"))
    assert [video.name for video in videos] == ["eval_video_0.mp4", "eval_video_1.mp4"]
    assert len(decode(videos[0])) == 9  # BenchMARL leaves out the last of 10 steps


def test_a_machine_without_display_says_so_before_training() -> None:
    def no_display(mode: str) -> None:
        raise RuntimeError("no display")

    callback = VideoCallback()
    callback.experiment = _experiment_on("vmas", has_render=True, render=no_display)
    with pytest.raises(RenderError, match=r"no display.*experiment\.render=false"):
        callback.on_setup()


def test_a_task_without_pictures_says_so_before_training() -> None:
    callback = VideoCallback()
    callback.experiment = _experiment_on("blind", has_render=False, render=None)
    with pytest.raises(RenderError, match=r"blind/task has no pictures.*experiment\.render=false"):
        callback.on_setup()


def _experiment_on(environment: str, has_render: bool, render: Callable[[str], None] | None) -> SimpleNamespace:
    """What a callback sees of an experiment on a task that draws itself in the given way, or not at all."""
    task = SimpleNamespace(has_render=lambda env: has_render)
    test_env = SimpleNamespace(render=render)
    return SimpleNamespace(environment_name=environment, task_name="task", task=task, test_env=test_env)
