"""What stops a run: NaN and infinity in what is collected and in losses, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from benchmarl.experiment import Experiment
from support.tiny_experiment import TinyExperiment
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


def test_losses_and_gradients_are_checked_and_diagnostics_are_not(experiment: Experiment) -> None:
    callback, nan = callback_of(experiment), torch.tensor([1.0, float("nan")])
    callback.on_train_end(TensorDict({"loss_critic": nan[:1], "explained_variance": nan[1:]}, [1]), "agents")
    for key in ("loss_objective", "grad_norm_loss"):
        with pytest.raises(FloatingPointError, match=f"{key} of group 'agents'"):
            callback.on_train_end(TensorDict({key: nan}, [2]), "agents")
