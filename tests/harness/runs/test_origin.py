"""New runs that begin from a checkpoint of another: that one stays as it is, and the new one says where it is from."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.run_states import differences, last_state, scalars

from benchmarl_himpo.harness.checks import RequestError
from benchmarl_himpo.harness.commands import run
from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.harness.evaluation.episodes import load_trained
from benchmarl_himpo.harness.records.record import load_record
from benchmarl_himpo.harness.records.spec import comparable_config, hash_config, label
from benchmarl_himpo.harness.report.fairness import find_provenance
from benchmarl_himpo.harness.runs import CheckpointError
from benchmarl_himpo.harness.runs.origin import read_origin
from benchmarl_himpo.harness.runs.run_config import load_run_config
from benchmarl_himpo.harness.runs.training import config_to_continue
from benchmarl_himpo.harness.sweeps.expansion import make_specs
from benchmarl_himpo.harness.sweeps.run_one import run_one
from benchmarl_himpo.host.benchmarl_files import read_run_json
from benchmarl_himpo.host.torchrl import NETWORK_PARAMETERS


def contents(folder: Path) -> dict[Path, str]:
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def networks(folder: Path, n_frames: int) -> dict[str, torch.Tensor]:
    state = last_state(folder, n_frames)["loss_agents"]
    return {
        name: value for name, value in state.items() if NETWORK_PARAMETERS in name and isinstance(value, torch.Tensor)
    }


# Everything


@pytest.mark.parametrize("beside", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_branch_is_a_run_of_its_own_and_leaves_the_old_one_alone(beside: bool, runs, tmp_path: Path) -> None:
    old = runs.trained("algorithm=himppo")
    before = contents(old)
    checkpoint = old / "checkpoints" / "checkpoint_160.pt"
    folder = old.parent if beside else tmp_path / "new"
    new = runs.run(
        "algorithm=himppo",
        "experiment.lr=1e-5",
        "algorithm.clip_epsilon=0.5",
        f"experiment.restore_file={checkpoint}",
        f"experiment.save_folder={folder}",
    )
    assert contents(old) == before
    assert (new.parent, new == old) == (folder, False)
    origin = read_origin(new)
    assert (origin.option, origin.run, origin.frames) == ("restore_file", old.name, 160)
    assert origin.sha256 == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    # What is logged is whole
    frames = "counters_total_frames.csv"
    assert scalars(new)[frames] == scalars(old)[frames]
    _, evaluations = read_run_json(new / f"{new.name}.json")
    assert [evaluations[f"step_{step}"]["step_count"] for step in range(3)] == [80, 160, 320]
    assert last_state(new, 320)["loss_agents"]["level_losses.0.clip_epsilon"] == pytest.approx(0.5)


@pytest.mark.slow
def test_a_branch_without_changes_is_the_run_it_came_from_and_goes_on_itself(runs, tmp_path: Path) -> None:
    old = runs.trained("algorithm=himppo")
    branch = [f"experiment.restore_file={old / 'checkpoints' / 'checkpoint_160.pt'}", "experiment.max_n_frames=240"]
    new = runs.run("algorithm=himppo", *branch, f"experiment.save_folder={tmp_path / 'new'}")
    resumed = runs.resume(new, "experiment.max_n_frames=320")
    assert resumed.resumed_exactly
    assert Path(resumed.folder_name) == new
    assert differences(last_state(old, 320), last_state(new, 320)) == []
    assert scalars(old) == scalars(new)
    assert read_origin(new).run == old.name
    assert f"begun from          {old.name} at 160 frames (everything)" in run.summarise(resumed, 1.0)


def test_only_what_is_asked_of_resume_goes_back_in_a_run(runs) -> None:
    folder, other = runs.trained("algorithm=ippo"), runs.run("algorithm=ippo", "seed=1")
    with pytest.raises(CheckpointError, match=r"is no checkpoint of .*: to begin a new run from it, give it to python"):
        config_to_continue(folder, [f"experiment.restore_file={other / 'checkpoints' / 'checkpoint_160.pt'}"])
    older = folder / "checkpoints" / "checkpoint_160.pt"
    cfg, _ = config_to_continue(folder, [f"experiment.restore_file={older}"])
    assert cfg.experiment.restore_file == str(older)


@pytest.mark.slow
def test_the_record_of_a_branch_is_not_that_of_the_run_it_came_from(runs, tmp_path: Path) -> None:
    old = runs.trained("algorithm=ippo")
    checkpoint = old / "checkpoints" / "checkpoint_160.pt"
    records = []
    for override in ("experiment.restore_file=null", f"experiment.restore_file={checkpoint}"):
        cfg = compose([*runs.overrides, "algorithm=ippo", override], return_hydra_config=True)
        records.append(run.train_and_summarise(cfg, cfg.hydra.runtime.choices))
    plain, branch = records
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert (plain.origin, branch.origin["run"], branch.origin["frames"]) == ({}, old.name, 160)
    assert branch.config == {**plain.config, "restore_file": digest}
    assert f"restore_file={digest[:8]}" in branch.variant
    assert branch.frames == plain.frames == [80, 160, 240, 320]
    assert branch.evaluation_frames == plain.evaluation_frames


# Weights alone


def test_weights_go_to_another_team_size_and_all_else_is_new(runs) -> None:
    old = runs.trained("algorithm=himppo")
    overrides = ["algorithm=himppo", "task.n_agents=5", f"init_from={old.parent}"]
    experiment = runs.build(*overrides)
    trained = networks(old, 320)
    for name, value in networks_of(experiment).items():
        assert torch.equal(value, trained[name])
    policy = last_state(old, 320)["policy"]
    assert all(torch.equal(value, policy[name]) for name, value in experiment.policy.named_parameters())
    assert (experiment.total_frames, experiment.n_iters_performed, experiment.resumed) == (0, 0, False)
    assert not any(optimizer.state for optimizer in experiment.optimizers["agents"].values())
    experiment.run()
    new = Path(experiment.folder_name)
    assert read_origin(new).run == old.name
    assert (read_origin(new).option, read_origin(new).frames) == ("init_from", 320)
    assert runs.resume(new, "experiment.max_n_frames=400").resumed_exactly
    assert read_origin(new).run == old.name
    load_trained(new, 2).close()


def networks_of(experiment) -> dict[str, torch.Tensor]:
    state = experiment.losses["agents"].state_dict()
    return {
        name: value for name, value in state.items() if NETWORK_PARAMETERS in name and isinstance(value, torch.Tensor)
    }


@pytest.mark.parametrize(
    ("old", "new", "fresh"),
    [
        ("himppo", "himppo_2l", {"level_losses.0.critic_network_params.head.0.weight"}),
        ("mappo", "mappo", {"critic_network_params.module.0.mlp.params.0.weight"}),
        pytest.param("qmix", "qmix", set(), marks=pytest.mark.slow),
    ],
)
def test_what_does_not_fit_is_named_and_begins_fresh(
    old: str, new: str, fresh: set[str], runs, capsys: pytest.CaptureFixture[str]
) -> None:
    """With MAPPO the critic's first layer counts agents; two levels look at another number of superiors' goals."""
    folder = runs.trained(f"algorithm={old}")
    team = [] if old == "himppo" or old == "qmix" else ["task.n_agents=5"]
    plain = runs.build(f"algorithm={new}", *team)
    untouched = networks_of(plain)
    plain.close()
    capsys.readouterr()
    experiment = runs.build(f"algorithm={new}", *team, f"init_from={folder}")
    said = capsys.readouterr().out
    trained = networks(folder, 320)
    for name, value in networks_of(experiment).items():
        fits = name in trained and trained[name].shape == value.shape
        assert torch.equal(value, trained[name] if fits else untouched[name])
        assert (f"keeps its initialisation: agents/{name} (" in said) == (not fits)
    assert fresh <= {name for name in untouched if f"agents/{name} (" in said}
    unused = trained.keys() - untouched.keys()
    assert all(f"not in these networks: agents/{name}\n" in f"{said}\n" for name in unused)
    assert bool(unused) == (new == "himppo_2l")
    experiment.close()


def test_options_of_the_loss_are_the_new_runs(runs) -> None:
    folder = runs.trained("algorithm=ippo", "experiment.max_n_frames=80")
    experiment = runs.build("algorithm=ippo", f"init_from={folder}", "algorithm.clip_epsilon=0.5")
    assert experiment.losses["agents"].clip_epsilon == pytest.approx(0.5)
    experiment.close()


def test_bad_beginnings_end_before_training_with_one_sentence(runs, tmp_path: Path) -> None:
    folder = runs.trained("algorithm=ippo", "experiment.max_n_frames=80")
    checkpoint = folder / "checkpoints" / "checkpoint_80.pt"
    with pytest.raises(CheckpointError, match=r"init_from=nowhere: nowhere does not exist"):
        runs.build("init_from=nowhere")
    with pytest.raises(RequestError, match=r"init_from .*, experiment\.restore_file .*: give one of them"):
        runs.build(f"init_from={folder}", f"experiment.restore_file={checkpoint}")
    with pytest.raises(CheckpointError, match=r"init_from: nothing in .* fits the networks of qmix on vmas/sampling"):
        runs.build("algorithm=qmix", f"init_from={folder}")
    with pytest.raises(CheckpointError, match="init_from is no option of this run"):
        config_to_continue(folder, [f"init_from={folder}"])
    checkpoint.write_bytes(b"half a fi")
    with pytest.raises(CheckpointError, match="does not match its checksum"):
        runs.build("algorithm=ippo", f"init_from={checkpoint}")


def test_the_weights_a_run_began_with_are_part_of_what_it_is(runs, tmp_path: Path) -> None:
    folder = runs.trained("algorithm=ippo", "experiment.max_n_frames=80")
    digest = hashlib.sha256((folder / "checkpoints" / "checkpoint_80.pt").read_bytes()).hexdigest()
    configs = []
    for override in ("init_from=null", f"init_from={folder}", f"init_from={folder}/checkpoints/checkpoint_80.pt"):
        cfg = compose([*runs.overrides, "algorithm=ippo", override], return_hydra_config=True)
        configs.append(comparable_config(cfg, cfg.hydra.runtime.choices))
    plain, *begun = configs
    assert begun[0] == begun[1] == {**plain, "init_from": digest}
    assert "init_from" not in plain
    assert str(folder) not in str(begun)
    assert f"init_from={digest[:8]}" in label(begun[0])[0]
    new = runs.run("algorithm=ippo", f"init_from={folder}")
    assert hash_config(comparable_config(*load_run_config(new))) == hash_config(begun[0])


def test_a_record_and_reports_say_what_a_run_of_a_sweep_began_from(runs, tmp_path: Path) -> None:
    old = runs.trained("algorithm=ippo", "experiment.max_n_frames=80")
    overrides = [line for line in runs.overrides if not line.startswith("experiment.save_folder")]
    (spec,) = make_specs([[*overrides, "algorithm=ippo", f"init_from={old.parent}"]], tmp_path / "sweep", "f" * 16)
    spec.save()
    assert run_one(spec) == "finished"
    (file,) = spec.folder.glob("record.json")
    record = load_record(file)
    assert record.origin == {
        "option": "init_from",
        "run": old.name,
        "frames": 80,
        "sha256": record.config["init_from"],
    }
    assert str(tmp_path) not in file.read_text()
    plain = replace(record, origin={})
    assert find_provenance([record])["begun from"] == f"{old.name} at 80 frames (weights alone)"
    assert "nothing (1 runs)" in find_provenance([record, plain])["begun from"]
    assert "begun from" not in find_provenance([plain])
