"""What goes wrong in the middle of a run ends with a clear message, and the run goes on from its last checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.run_states import differences, last_state, scalars

from benchmarl_himpo.environments.sampling_scenario import SamplingScenario
from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.harness.runs import ResumableExperiment
from benchmarl_himpo.harness.runs.training import train
from benchmarl_himpo.objectives import HimppoLoss

N_FRAMES = 320
TRAINING_STEPS, STEPS_PER_EPISODE = 6, 20


def fail_at_call(monkeypatch: pytest.MonkeyPatch, owner: type, method: str, number: int, error: BaseException) -> None:
    """Let one call of a method fail, once."""
    original: Callable[..., Any] = getattr(owner, method)
    calls = [0]

    def call(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == number:
            raise error
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, method, call)


# Third iteration, behind the checkpoint of 160 frames; evaluations take place in iterations 0, 1 and 3
COLLECTION = (SamplingScenario, "post_step", 2 * STEPS_PER_EPISODE + 2 * STEPS_PER_EPISODE + 7)
TRAINING = (HimppoLoss, "forward", 2 * TRAINING_STEPS + 3)
EVALUATION = (ResumableExperiment, "_evaluation_loop", 3)
BROKEN = RuntimeError("the environment broke")


@pytest.mark.parametrize(
    ("where", "error"),
    [
        pytest.param(COLLECTION, BROKEN, id="error in collection"),
        pytest.param(TRAINING, BROKEN, id="error in training", marks=pytest.mark.slow),
        pytest.param(EVALUATION, BROKEN, id="error in evaluation", marks=pytest.mark.slow),
        pytest.param(COLLECTION, KeyboardInterrupt(), id="Ctrl-C in collection", marks=pytest.mark.slow),
        pytest.param(TRAINING, KeyboardInterrupt(), id="Ctrl-C in training", marks=pytest.mark.slow),
        pytest.param(EVALUATION, KeyboardInterrupt(), id="Ctrl-C in evaluation", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_stops_anywhere_goes_on_as_if_it_had_not(
    where: tuple[type, str, int], error: BaseException, runs, monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path
) -> None:
    whole = runs.trained("algorithm=himppo")
    stopped = tmp_path / "stopped"
    cfg = compose([*runs.overrides, "algorithm=himppo", f"experiment.save_folder={stopped}"], return_hydra_config=True)
    with monkeypatch.context() as patch:
        fail_at_call(patch, *where, error)
        with pytest.raises(type(error)):
            train(cfg, cfg.hydra.runtime.choices)
    (folder,) = stopped.iterdir()
    if isinstance(error, RuntimeError):
        said = capsys.readouterr().err
        assert f"python -m benchmarl_himpo.resume {folder}" in said
        assert "The last good checkpoint is" in said
    resumed = runs.resume(folder)
    assert resumed.resumed_exactly
    assert differences(last_state(whole, N_FRAMES), last_state(folder, N_FRAMES)) == []
    assert scalars(whole) == scalars(folder)
