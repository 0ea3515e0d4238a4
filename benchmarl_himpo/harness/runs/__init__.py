"""Files of a run, and resuming: configuration, checkpoints, random numbers."""

from benchmarl_himpo.harness.runs.checkpoint import CheckpointError
from benchmarl_himpo.harness.runs.lock import RunLockedError
from benchmarl_himpo.harness.runs.resumable_experiment import ResumableExperiment

__all__ = ["CheckpointError", "ResumableExperiment", "RunLockedError"]
