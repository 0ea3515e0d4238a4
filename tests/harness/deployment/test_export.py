"""The command, and its bundle in a process that has torch and vmas alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.trained_runs import train
from torchrl.envs.utils import ExplorationType, set_exploration_type

from benchmarl_himpo.harness.commands import export
from benchmarl_himpo.harness.evaluation.episodes import load_trained

ALONE = """
import sys
FORBIDDEN = {"benchmarl_himpo", "benchmarl", "torchrl", "tensordict", "torch_geometric", "hydra", "omegaconf"}

class Forbidding:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in FORBIDDEN:
            raise ImportError(f"{name} is forbidden here")

sys.meta_path.insert(0, Forbidding())
folder, record = sys.argv[1:]
sys.path.insert(0, folder)
import torch, run_bundle

steps = []
class Recording(run_bundle.Bundle):
    def step(self, entries, state):
        outputs, after = super().step(entries, state)
        steps.append((entries, state, outputs))
        return outputs, after

torch.manual_seed(0)
returns = run_bundle.play_vmas(Recording(folder), n_envs=4, seed=7)
torch.save({"steps": steps, "returns": returns}, record)
assert not FORBIDDEN & {name.partition(".")[0] for name in sys.modules}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("runs"), "algorithm=himppo_2l", "algorithm.neighbours={name:knn,k:2}")


def test_the_command_and_its_bundle_in_a_process_with_torch_and_vmas_alone(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Import of everything else fails there; the training policy, shown the same, does the same."""
    bundle, record = tmp_path / "bundle", tmp_path / "record.pt"
    export.main([str(run.parent), f"output={bundle}", "episodes=2", "task.n_agents=4"])
    said = capsys.readouterr().out
    assert "agents: largest difference to the policy 0.0e+00 on 40 env steps" in said
    info = json.loads((bundle / "bundle.json").read_text())
    assert info["source"] == {"run": run.name, "checkpoint": "checkpoint_160.pt", "changes": ["task.n_agents=4"]}
    assert info["verified"] == {"env_steps": 40, "max_difference": 0.0}
    for row in info["messages"]["totals"]:
        assert f"| {row['receiver']} | {row['messages_per_step_worst']:.2f} " in said
        assert f"| {row['receiver']} | {row['messages_per_step_worst']:.2f} " in (bundle / "README.md").read_text()

    subprocess.run([sys.executable, "-c", ALONE, str(bundle), str(record)], cwd=tmp_path, check=True, timeout=300)
    played = torch.load(record, weights_only=True)
    assert len(played["steps"]) == 20 == info["task"]["config"]["max_steps"]
    assert played["returns"].shape == (4, 4)
    assert played["returns"].isfinite().all()
    experiment = load_trained(run, 4, ["task.n_agents=4"])
    td = experiment.test_env.reset()
    for entries, state, outputs in played["steps"]:
        td.set(("agents", "observation"), entries["observation"])
        with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
            experiment.policy(td)
        assert torch.equal(td["himppo_agents", "clock"].squeeze(-1), state["clock"])
        torch.testing.assert_close(outputs["action"], td["agents", "action"], rtol=0, atol=1e-6)
        td.set(("himppo_agents", "carried"), td["next", "himppo_agents", "carried"])
    experiment.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN", "rounds=3"], "rounds"),
        (["RUN", "episodes=0"], "episodes=0 must be 1 or more"),
        (["RUN", "tolerance=-1"], "tolerance=-1 must be 0 or more"),
        (["RUN", "RUN"], "give the folder of one run"),
        (["nowhere"], "nowhere does not exist"),
        (["RUN", "output=RUN"], "exists and is no bundle"),
        (["RUN", "output=b", "model.num_cells=[8,9]"], "does not fit this task"),
    ],
)
def test_what_cannot_be_exported_ends_with_a_sentence(
    arguments: list[str], message: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_info:
        export.main([argument.replace("RUN", str(run)) for argument in arguments])
    assert message in str(exit_info.value.code)
    assert not list(tmp_path.iterdir())


def test_an_algorithm_without_levels_is_refused(tmp_path: Path) -> None:
    run = train(tmp_path, "algorithm=ippo")
    with pytest.raises(SystemExit) as exit_info:
        export.main([str(run)])
    assert "made of the levels of a hierarchy, which ippo has not" in str(exit_info.value.code)
    assert not (run / "bundle").exists()


@pytest.mark.slow
def test_a_policy_whose_clustering_is_random_is_exported_without_the_noise_alone(tmp_path: Path) -> None:
    noise = "algorithm.part_options.clustering.kmeans.position_noise"
    run = train(tmp_path, "algorithm=himppo_2l", f"{noise}=0.2")
    with pytest.raises(SystemExit) as exit_info:
        export.main([str(run), "episodes=2"])
    assert f"{noise}=0" in str(exit_info.value.code)
    assert not (run / "bundle").exists()
    export.main([str(run), "episodes=2", f"{noise}=0"])
    assert (run / "bundle" / "bundle.json").is_file()
