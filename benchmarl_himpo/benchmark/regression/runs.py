"""The runs of the gate: a sweep in a folder that belongs to this state of the code alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarl_himpo.benchmark.execution import do_missing, find_done
from benchmarl_himpo.benchmark.expansion import expand, make_specs
from benchmarl_himpo.benchmark.record import RECORD_FILE, RunRecord, load_record
from benchmarl_himpo.benchmark.regression.verdict import InconclusiveError
from benchmarl_himpo.benchmark.spec import RunSpec
from benchmarl_himpo.runs.lock import lock_folder


@dataclass(frozen=True)
class GateRuns:
    """What runs of the gate have in common.

    Args:
        folder: where they go; finished runs in it are not done again, so it must hold none of other code.
        fingerprint: the numerics fingerprint.
        engine: what starts them.
        n_workers: runs at a time; None: as many as there are cores.
        n_retries: how often a run is started again.
    """

    folder: Path
    fingerprint: str
    engine: str
    n_workers: int | None
    n_retries: int

    def plan(self, protocol: str, seeds: Sequence[int] = (), overrides: Sequence[str] = ()) -> list[RunSpec]:
        """Compose the runs of a protocol.

        Args:
            protocol: a file of ``conf/protocol``.
            seeds: seeds of the runs on each task; none: the protocol's.
            overrides: values to change, in Hydra's syntax.

        Returns:
            Their specs.

        Raises:
            SweepError: if they cannot be done.
        """
        given = [f"seed={','.join(map(str, seeds))}"] if seeds else []
        return make_specs(expand([f"protocol={protocol}", *given, *overrides]), self.folder, self.fingerprint)

    def do(self, specs: Sequence[RunSpec]) -> list[RunRecord]:
        """Bring runs to their records.

        Args:
            specs: the runs.

        Returns:
            The records, in the order of the specs.

        Raises:
            InconclusiveError: if runs failed.
            RunLockedError: if another process uses the folder.
        """
        states = find_done(specs)
        self.folder.mkdir(parents=True, exist_ok=True)
        with lock_folder(self.folder):
            do_missing(specs, states, self.engine, self.n_workers, self.n_retries)
        failed = [f"{spec.id}: {states[spec.id]}" for spec in specs if not states[spec.id].startswith("done")]
        if failed:
            raise InconclusiveError(
                f"{len(failed)} of {len(specs)} runs are missing ({'; '.join(failed[:3])}): mend what their log.txt in "
                f"{self.folder} says; the same command does these runs alone"
            )
        return [load_record(spec.folder / RECORD_FILE) for spec in specs]
