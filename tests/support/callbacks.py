"""Callbacks that several tests give to their experiments."""

from __future__ import annotations

from benchmarl.experiment import Callback
from tensordict import TensorDictBase


class KeepBatches(Callback):
    """Keeps every collected batch."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[TensorDictBase] = []

    def on_batch_collected(self, batch: TensorDictBase) -> None:
        """Keep it."""
        self.batches.append(batch.clone())
