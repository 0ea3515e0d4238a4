"""What stops a run: NaN and infinity in what is collected and in losses, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from benchmarl.experiment import Experiment
from support.tiny_experiment import TinyExperiment, algorithm_config
from support.toy_task import ToyTask
from tensordict import TensorDict, TensorDictBase
from torchrl.data import Composite, Unbounded

from benchmarl_himpo.harness.callbacks import FiniteCallback


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Experiment]:
    experiment = TinyExperiment(tmp_path_factory.mktemp("runs"))(callbacks=[FiniteCallback()])
    yield experiment
    experiment.close()


@pytest.fixture(scope="module")
def batch(experiment: Experiment) -> TensorDictBase:
    return next(iter(experiment.collector))


def callback_of(experiment: Experiment) -> FiniteCallback:
    (callback,) = experiment.callbacks
    assert isinstance(callback, FiniteCallback)
    return callback


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "key", [("agents", "observation"), ("next", "agents", "observation"), ("next", "agents", "reward"), "state"]
)
def test_what_is_collected_is_checked(
    key: str | tuple[str, ...], bad: float, experiment: Experiment, batch: TensorDictBase, monkeypatch
) -> None:
    monkeypatch.setattr(experiment, "state_spec", Composite(state=Unbounded(2)))
    collected = batch.clone().set("state", torch.zeros(*batch.shape, 2))
    callback = callback_of(experiment)
    callback.on_batch_collected(collected)
    collected.get(key).view(-1)[0] = bad
    with pytest.raises(FloatingPointError) as error:
        callback.on_batch_collected(collected)
    assert str(key) in str(error.value)
    assert f"holds 1 NaN or infinite values out of {collected.get(key).numel()}" in str(error.value)


def test_positions_of_live_agents_are_checked_and_those_of_the_dead_are_not(tmp_path: Path) -> None:
    """Clusters are made of them, and no network reads them."""
    task = ToyTask(has_alive=True)
    experiment = TinyExperiment(tmp_path)(algorithm_config("himppo"), task, callbacks=[FiniteCallback()])
    batch, callback = next(iter(experiment.collector)), callback_of(experiment)
    alive = batch["agents", "alive"]
    assert alive.any() and not alive.all()
    batch["agents", "position"][~alive] = torch.nan
    callback.on_batch_collected(batch)
    batch["agents", "position"][alive] = torch.nan
    with pytest.raises(FloatingPointError, match="the position of live agents of group 'agents' holds"):
        callback.on_batch_collected(batch)


def test_losses_and_gradients_are_checked_and_diagnostics_are_not(experiment: Experiment) -> None:
    callback, nan = callback_of(experiment), torch.tensor([1.0, float("nan")])
    callback.on_train_end(TensorDict({"loss_critic": nan[:1], "explained_variance": nan[1:]}, [1]), "agents")
    for key in ("loss_objective", "grad_norm_loss"):
        with pytest.raises(FloatingPointError, match=f"{key} of group 'agents'"):
            callback.on_train_end(TensorDict({key: nan}, [2]), "agents")
