"""The absolute metric: fresh episodes of the policy that did best, through interruptions too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.trained_runs import OVERRIDES
from tensordict import TensorDictBase

from benchmarl_himpo.harness.callbacks import PortableCallback
from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.harness.evaluation.absolute_metric import SEED_OFFSET, measure_absolute_metric
from benchmarl_himpo.harness.evaluation.episodes import load_parameters, load_trained, play
from benchmarl_himpo.harness.runs import CheckpointError, ResumableExperiment
from benchmarl_himpo.harness.runs.best_policy import STATE_KEY
from benchmarl_himpo.harness.runs.checkpoint import newest_checkpoint, read_checkpoint, write_checkpoint
from benchmarl_himpo.harness.runs.run_config import load_run_config
from benchmarl_himpo.harness.runs.training import config_to_continue, load_experiment
from benchmarl_himpo.host.benchmarl_files import read_run_json

EVALUATED = ["experiment.evaluation=true", "experiment.evaluation_interval=80", "experiment.evaluation_episodes=3"]
N_EPISODES = 7


class Keep(PortableCallback):
    """Keep the policy and the mean return of every evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[tuple[float, int, dict[str, Any]]] = []

    def on_evaluation_end(self, rollouts: list[TensorDictBase]) -> None:
        returns = torch.stack([td["next", "agents", "reward"].sum(0).mean() for td in rollouts])
        state = {
            k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in self.experiment.policy.state_dict().items()
        }
        self.kept.append((returns.mean().item(), self.experiment.total_frames, state))


def build(folder: Path, *overrides: str) -> ResumableExperiment:
    everything = [*OVERRIDES, *EVALUATED, f"experiment.save_folder={folder}", *overrides]
    cfg = compose(everything, return_hydra_config=True)
    return load_experiment(cfg, cfg.hydra.runtime.choices)


@pytest.mark.parametrize("algorithm", ["himppo", pytest.param("qmix", marks=pytest.mark.slow)])
def test_it_is_that_of_the_best_evaluated_policy(algorithm: str, tmp_path: Path) -> None:
    overrides = [f"algorithm={algorithm}", f"absolute_metric_episodes={N_EPISODES}", "experiment.max_n_frames=480"]
    experiment = build(tmp_path, *overrides, "experiment.lr=0.05", "seed=3")  # far from the best at the end
    keep = Keep()
    keep.experiment = experiment
    experiment.callbacks.append(keep)
    experiment.run()
    run = Path(experiment.folder_name)
    metric = measure_absolute_metric(run, *load_run_config(run))

    _, frames, policy = max(keep.kept, key=lambda entry: entry[0])
    assert len(keep.kept) == 6
    by_hand = load_trained(run, N_EPISODES)
    load_parameters(by_hand.policy, policy)
    returns = play(by_hand, 3 + SEED_OFFSET).per_agent
    assert metric is not None
    assert (metric.frames, metric.seed) == (frames, 3 + SEED_OFFSET)
    assert torch.equal(metric.returns.per_agent, returns)
    _, data = read_run_json(run / f"{run.name}.json")
    assert data["absolute_metrics"] == {"return": returns.tolist(), "agents_return": returns.tolist()}


def test_the_best_policy_outlives_an_interruption(tmp_path: Path) -> None:
    """The first evaluation is made the best: it has to come back from the checkpoint."""
    experiment = build(tmp_path, "algorithm=ippo", "absolute_metric_episodes=3", "experiment.max_n_frames=80")
    experiment.run()
    run = Path(experiment.folder_name)
    path = newest_checkpoint(run / "checkpoints")
    state = read_checkpoint(path)
    state[STATE_KEY]["evaluation_return"] = 1e6
    write_checkpoint(state, path)
    cfg, choices = config_to_continue(run, ["experiment.max_n_frames=240"])
    load_experiment(cfg, choices, resumes=True).run()
    best = read_checkpoint(newest_checkpoint(run / "checkpoints"))[STATE_KEY]
    assert (best["frames"], best["evaluation_return"]) == (80, 1e6)
    for name, value in state[STATE_KEY]["policy"].items():
        assert not isinstance(value, torch.Tensor) or torch.equal(value, best["policy"][name])


def test_off_it_leaves_no_trace_and_cannot_be_turned_on_later(tmp_path: Path) -> None:
    experiment = build(tmp_path, "algorithm=ippo")
    experiment.run()
    run = Path(experiment.folder_name)
    assert STATE_KEY not in read_checkpoint(newest_checkpoint(run / "checkpoints"))
    assert measure_absolute_metric(run, *load_run_config(run)) is None
    cfg, choices = config_to_continue(run, ["experiment.max_n_frames=240", "absolute_metric_episodes=3"])
    with pytest.raises(CheckpointError, match="resume with absolute_metric_episodes=0"):
        load_experiment(cfg, choices, resumes=True)
