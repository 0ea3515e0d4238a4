"""An interrupted run ends with a checkpoint, from which it goes on as if it had not been interrupted."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from benchmarl.experiment import Callback
from support.run_states import differences, last_state, scalars
from tensordict import TensorDictBase

from benchmarl_himpo.harness.runs import ResumableExperiment
from benchmarl_himpo.harness.runs.checkpoint import list_checkpoints
from benchmarl_himpo.harness.runs.interrupts import SIGNALS, checkpoint_on_interrupt

N_FRAMES = 320


class Interrupt(Callback):
    """Sends signals to this process in the second iteration, as a user or a scheduler does."""

    def __init__(self, number: int, times: int = 1) -> None:
        super().__init__()
        self.number, self.times = number, times

    def on_batch_collected(self, batch: TensorDictBase) -> None:
        if self.experiment.n_iters_performed == 1:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)


@pytest.fixture
def interrupted(runs, capsys: pytest.CaptureFixture[str]):
    """Run IPPO, which writes no checkpoint of its own accord, until it is interrupted."""

    def run(callback: Interrupt) -> ResumableExperiment:
        experiment = runs.build("algorithm=ippo", "experiment.checkpoint_interval=0")
        callback.experiment = experiment
        experiment.callbacks.append(callback)
        with pytest.raises(KeyboardInterrupt), checkpoint_on_interrupt(experiment):
            experiment.run()
        return experiment

    before = {number: signal.signal(number, signal.default_int_handler) for number in SIGNALS}
    yield run
    assert "once more stops it at once" in capsys.readouterr().err
    assert {signal.getsignal(number) for number in SIGNALS} == {signal.default_int_handler}
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_the_iteration_ends_with_a_checkpoint_that_resumes_exactly(number: int, interrupted, runs) -> None:
    experiment = interrupted(Interrupt(number))
    folder = Path(experiment.folder_name)
    assert [path.name for path in list_checkpoints(folder / "checkpoints")] == ["checkpoint_160.pt"]
    resumed = runs.resume(folder, "experiment.checkpoint_interval=80")
    assert resumed.resumed_exactly
    whole = runs.trained("algorithm=ippo")
    assert differences(last_state(whole, N_FRAMES), last_state(folder, N_FRAMES)) == []
    assert scalars(whole) == scalars(folder)


def test_a_second_interrupt_stops_the_run_at_once(interrupted) -> None:
    experiment = interrupted(Interrupt(signal.SIGINT, times=2))
    assert experiment.n_iters_performed == 1
    assert list_checkpoints(Path(experiment.folder_name) / "checkpoints") == []


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda number, frame: None], ids=["ignored", "of its own"])
def test_what_a_process_does_with_a_signal_itself_stays(handler, runs) -> None:
    experiment = runs.build("algorithm=ippo")
    before = signal.signal(signal.SIGINT, handler)
    try:
        with checkpoint_on_interrupt(experiment):
            os.kill(os.getpid(), signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
        experiment.close()
