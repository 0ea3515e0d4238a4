"""Checkpoint files: whole or not at all, refused when they are not what they say."""

from __future__ import annotations

import errno
import pickle
import re
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from support.run_states import differences, last_state

from benchmarl_himpo.harness.command_line import read_for_trained_runs
from benchmarl_himpo.harness.commands import resume
from benchmarl_himpo.harness.commands.evaluate import EvaluateOptions
from benchmarl_himpo.harness.commands.export import ExportOptions
from benchmarl_himpo.harness.runs import (
    CheckpointError,
    RunLockedError,
    checkpoint,
    checkpoint_identity,
    resumable_experiment,
)
from benchmarl_himpo.harness.runs.checkpoint import (
    list_checkpoints,
    newest_checkpoint,
    prune_checkpoints,
    read_checkpoint,
    write_checkpoint,
)
from benchmarl_himpo.harness.runs.checkpoint_identity import TASK_OPTIONS, identify
from benchmarl_himpo.harness.runs.run_config import load_run_config
from benchmarl_himpo.harness.runs.training import CommandError

STATE = {"weights": torch.arange(4.0), "frames": 80, "names": ["a", "b"]}


class Bomb:
    """What a pickle may do when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "checkpoint_80.pt"
    write_checkpoint(STATE, path)
    state = read_checkpoint(path)
    assert torch.equal(state["weights"], STATE["weights"])
    assert (state["frames"], state["names"]) == (80, ["a", "b"])
    assert {file.name for file in path.parent.iterdir()} == {"checkpoint_80.pt", "checkpoint_80.pt.sha256"}


@pytest.mark.parametrize("damage", ["truncated", "bit-flipped", "emptied"])
def test_a_damaged_checkpoint_is_refused(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint_80.pt"
    write_checkpoint(STATE, path)
    content = bytearray(path.read_bytes())
    if damage == "bit-flipped":
        content[len(content) // 2] ^= 1
    path.write_bytes({"truncated": content[:-100], "emptied": b""}.get(damage, content))
    with pytest.raises(CheckpointError, match="does not match its checksum"):
        read_checkpoint(path)


def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    for number, write in enumerate(
        (
            lambda p: torch.save(Bomb(tmp_path / "boom"), p),
            lambda p: p.write_bytes(pickle.dumps(Bomb(tmp_path / "boom"))),
        )
    ):
        path = tmp_path / f"checkpoint_{number}.pt"
        write(path)
        checkpoint._write_checksum(checkpoint._digest(path), path)
        with pytest.raises(CheckpointError, match="was not loaded"):
            read_checkpoint(path)
    assert not (tmp_path / "boom").exists()


def test_a_checkpoint_without_checksum_or_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint_80.pt"
    with pytest.raises(CheckpointError, match="does not exist"):
        read_checkpoint(path)
    torch.save(STATE, path)
    with pytest.raises(CheckpointError, match=r"checkpoint_80\.pt\.sha256"):
        read_checkpoint(path)


def test_the_newest_good_checkpoint_is_found(tmp_path: Path) -> None:
    for frames in (80, 160, 1_000):
        write_checkpoint(STATE, tmp_path / f"checkpoint_{frames}.pt")
    assert newest_checkpoint(tmp_path).name == "checkpoint_1000.pt"
    (tmp_path / "checkpoint_1000.pt").write_bytes(b"half a fi")
    assert newest_checkpoint(tmp_path).name == "checkpoint_160.pt"
    for path in list_checkpoints(tmp_path):
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"holds no good checkpoint.*does not match"):
        newest_checkpoint(tmp_path)


def test_pruning_keeps_the_newest_and_removes_what_was_interrupted(tmp_path: Path) -> None:
    for frames in (80, 160, 1_000):
        write_checkpoint(STATE, tmp_path / f"checkpoint_{frames}.pt")
    (tmp_path / "checkpoint_2000.pt.tmp").write_bytes(b"half a fi")
    prune_checkpoints(tmp_path, n_kept=2)
    names = sorted(file.name for file in tmp_path.iterdir())
    kept = ["checkpoint_1000.pt", "checkpoint_160.pt"]
    assert names == sorted([*kept, *(f"{name}.sha256" for name in kept)])


def test_what_a_run_leaves_behind_is_set_aside(runs) -> None:
    """Going back to an older checkpoint: later ones are neither resumed from nor counted."""
    folder = runs.run("algorithm=ippo", "experiment.max_n_frames=240")
    older = folder / "checkpoints" / "checkpoint_80.pt"
    back = [f"experiment.restore_file={older}"]
    experiment = runs.build_resumed(folder, *back, "experiment.max_n_frames=160")
    assert newest_checkpoint(folder / "checkpoints") == older
    experiment.run()
    assert newest_checkpoint(folder / "checkpoints").name == "checkpoint_160.pt"
    assert len(list((folder / "checkpoints").glob("*.abandoned"))) == 2


def test_a_run_that_goes_on_elsewhere_leaves_the_old_one_as_it_was(runs, tmp_path: Path) -> None:
    folder = runs.run("algorithm=ippo", "experiment.max_n_frames=160")
    before = sorted(folder.rglob("*"))
    older = folder / "checkpoints" / "checkpoint_80.pt"
    elsewhere = [f"experiment.restore_file={older}", f"experiment.save_folder={tmp_path / 'elsewhere'}"]
    experiment = runs.build("algorithm=ippo", *elsewhere)
    experiment.close()
    assert Path(experiment.folder_name).parent == tmp_path / "elsewhere"
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("key", "value"), [("model.norm_class", "subprocess.check_output"), ("algorithm.gnn_class", "os.path.Conv")]
)
def test_a_foreign_configuration_imports_nothing_it_should_not(key: str, value: str, runs) -> None:
    folder = runs.trained("algorithm=himppo", "experiment.max_n_frames=80")
    saved = OmegaConf.load(folder / "run.yaml")
    OmegaConf.update(saved, key, value)
    OmegaConf.save(saved, folder / "run.yaml")
    with pytest.raises(CheckpointError, match=f"names {key}={value}.*was not imported: if you trust it, add"):
        load_run_config(folder)
    assert load_run_config(folder, [f"{key}={value}"])
    saved.choices["hydra.searchpath"] = "[elsewhere]"
    OmegaConf.save(saved, folder / "run.yaml")
    with pytest.raises(CheckpointError, match="which no run of this package does"):
        load_run_config(folder)


@pytest.mark.parametrize(
    ("override", "needed"),
    [
        ("hydra.run.dir=elsewhere", "hydra.run.dir is no option of this run: a run has experiment, algorithm, task"),
        ("sweep_folder=elsewhere", "sweep_folder is no option of this run"),
        ("task.n_agent=7", "task.n_agent is no option of this run: task has n_agents"),
        ("model.num_cell=[8]", "model has num_cells"),
        ("experiment.adam_extra_kwargs.weight_decay=1", "weight_decay is no option of this run"),
        ("experiment.lr=fast", "experiment.lr=fast is not understood"),
        ("experiment.lr=[1", "experiment.lr=[1 is not understood"),
        ("experiment.lr", "experiment.lr needs a value"),
    ],
)
def test_a_change_that_does_not_fit_the_configuration_is_named(override: str, needed: str, runs) -> None:
    folder = runs.trained("algorithm=himppo", "experiment.max_n_frames=80")
    with pytest.raises(ValueError, match=re.escape(needed)) as raised:
        load_run_config(folder, [override])
    assert "\n" not in str(raised.value)


CHOICES = ["task=vmas/balance", "algorithm=ippo", "model=layers/gru", "model@critic_model=layers/mlp", "experiment=gpu"]


@pytest.mark.parametrize("choice", CHOICES)
def test_a_run_keeps_its_files(choice: str, runs) -> None:
    folder = runs.trained("algorithm=himppo", "experiment.max_n_frames=80")
    before = last_state(folder, 80)
    commands = {
        "resume": lambda: resume.resume(folder, [choice, "experiment.max_n_frames=160"]),
        "evaluate": lambda: read_for_trained_runs("evaluate", EvaluateOptions, [str(folder), choice]),
        "export": lambda: read_for_trained_runs("export", ExportOptions, [str(folder), choice]),
    }
    for command in commands.values():
        with pytest.raises(ValueError, match=rf"^{choice} chooses a file.*init_from=RUN_DIR"):
            command()
    assert newest_checkpoint(folder / "checkpoints").name == "checkpoint_80.pt"
    assert differences(before, last_state(folder, 80)) == []


def test_what_is_no_file_of_a_run_can_be_changed(runs) -> None:
    folder = runs.trained("algorithm=himppo", "experiment.max_n_frames=80")
    read_for_trained_runs("evaluate", EvaluateOptions, [str(folder), "task.n_agents=5"])
    read_for_trained_runs("export", ExportOptions, [str(folder), "task.n_agents=5"])
    resume.resume(folder, ["experiment.max_n_frames=160", "+experiment.adam_extra_kwargs.weight_decay=1e-4"])
    assert newest_checkpoint(folder / "checkpoints").name == "checkpoint_160.pt"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("write failed")])
def test_a_full_disk_leaves_the_checkpoints_that_were_there(
    error: Exception, runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = runs.build("algorithm=ippo")
    save = torch.save

    def save_until_full(state: object, file: object) -> None:
        if experiment.total_frames == 160:
            raise error
        save(state, file)

    monkeypatch.setattr(torch, "save", save_until_full)
    with pytest.raises(OSError, match=r"checkpoint_160\.pt could not be written.*are untouched"):
        experiment.run()
    folder = Path(experiment.folder_name)
    assert newest_checkpoint(folder / "checkpoints").name == "checkpoint_80.pt"
    assert last_state(folder, 80)["state"]["total_frames"] == 80
    assert not list((folder / "checkpoints").glob("*.tmp"))


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ("task.n_agents=4", "task"),
        ("model.num_cells=[9]", "architecture"),
        ("version", "version of benchmarl_himpo"),
        ("task", "task"),
        ("algorithm", "algorithm"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(
    override: str, what: str, runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = runs.trained("algorithm=ippo", "experiment.max_n_frames=80")
    overrides = [override] if "=" in override else []
    if not overrides:
        monkeypatch.setattr(
            checkpoint_identity, "identify", lambda experiment: identify(experiment) | {what: "another"}
        )
    with pytest.raises(CheckpointError, match=f"was written with another {what}"):
        runs.build_resumed(folder, *overrides)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["task.n_agents=5", "task.shared_rew=true"],
            "(task.n_agents=3 instead of 5, task.shared_rew=False instead of True)",
        ),
        (["task=vmas/balance", "task.max_steps=20"], "(vmas/sampling instead of vmas/balance)"),
        (["critic_model.num_cells=[16]"], "bias has shape (8,) instead of (16,))"),
        (["experiment.share_policy_params=false"], "has shape"),
    ],
)
def test_what_differs_from_a_checkpoint_is_named_with_both_values(overrides: list[str], words: str, runs) -> None:
    folder = runs.trained("algorithm=ippo", "experiment.max_n_frames=80")
    restore_file = newest_checkpoint(folder / "checkpoints")
    with pytest.raises(CheckpointError) as raised:
        runs.build("algorithm=ippo", *overrides, f"experiment.restore_file={restore_file}")
    assert words in str(raised.value)


def test_a_checkpoint_without_the_options_of_its_task_is_continued_and_tells_what_it_can(runs, monkeypatch) -> None:
    """As older versions wrote them."""
    with monkeypatch.context() as patch:
        patch.setattr(
            resumable_experiment, "identify", lambda e: {k: v for k, v in identify(e).items() if k != TASK_OPTIONS}
        )
        folder = runs.run("algorithm=ippo", "experiment.max_n_frames=80")
    assert runs.resume(folder, "experiment.max_n_frames=160").resumed
    restore_file = folder / "checkpoints" / "checkpoint_80.pt"
    with pytest.raises(CheckpointError, match=r"another task \(vmas/sampling with other options"):
        runs.build("algorithm=ippo", "task.n_agents=5", f"experiment.restore_file={restore_file}")


def test_a_folder_is_written_to_by_one_process(runs) -> None:
    folder = runs.trained("algorithm=ippo", "experiment.max_n_frames=80")
    first = runs.build_resumed(folder)
    with pytest.raises(RunLockedError, match="another process writes to"):
        runs.build_resumed(folder)
    first.close()
    runs.build_resumed(folder).close()


# The command


def test_the_command_says_when_a_run_is_finished(runs, capsys: pytest.CaptureFixture[str]) -> None:
    folder = runs.trained("algorithm=ippo", "experiment.max_n_frames=80")
    resume.resume(folder.parent, [])
    assert "is finished: 80 of 80 frames" in capsys.readouterr().out


def test_the_command_refuses_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no run"):
        resume.resume(tmp_path, [])
    (tmp_path / "run.yaml").write_text("choices: [")
    (tmp_path / "checkpoints").mkdir()
    write_checkpoint(STATE, tmp_path / "checkpoints" / "checkpoint_80.pt")
    with pytest.raises(CheckpointError, match="is not the configuration of a run"):
        resume.resume(tmp_path, [])


def test_the_command_tells_what_an_option_is_not(runs) -> None:
    folder = runs.trained("algorithm=ippo", "experiment.max_n_frames=80")
    with pytest.raises(SystemExit, match=r"experiment\.max_frames is no option of this run: .*\bmax_n_frames\b"):
        resume.main([str(folder), "experiment.max_frames=160"])


def test_a_folder_that_cannot_be_written_to_is_named(runs, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((OSError, CommandError), match="file"):
        runs.build("algorithm=ippo", f"experiment.save_folder={tmp_path / 'file' / 'runs'}")
