"""What a run leaves behind and how it goes on: configuration, checkpoints, random numbers."""

from benchmarl_himpo.runs.checkpoint import CheckpointError
from benchmarl_himpo.runs.resumable_experiment import ResumableExperiment, RunLockedError

__all__ = ["CheckpointError", "ResumableExperiment", "RunLockedError"]
