"""Expand overrides with several values, by Hydra's own parser, and protocols to runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from benchmarl_himpo.harness.checks import RequestError, check_sweep
from benchmarl_himpo.harness.composition import combine_values, compose
from benchmarl_himpo.harness.records.spec import RunSpec, make_spec
from benchmarl_himpo.harness.runs.training import check_config


class SweepError(ValueError):
    """A sweep cannot be started; the message names the fix."""


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """Combine all values, as ``--multirun`` does; with ``protocol=...``, the values of each of its grids.

    Args:
        overrides: the command line in Hydra's syntax, such as ``["algorithm=himppo,ippo", "seed=range(0,5)"]``. These
            values replace the values of a protocol's grids and its ``tuned`` values; ``algorithm=`` and ``task=``
            select among those of the grids, and replace those of the first grid by one that no grid has.

    Returns:
        The overrides of each run.

    Raises:
        SweepError: if Hydra cannot read them.
    """
    parser = OverridesParser.create()
    try:
        parsed = parser.parse_overrides(list(overrides))
        if any(override.is_sweep_override() and override.key_or_group == "protocol" for override in parsed):
            raise SweepError("protocol takes one value: a sweep follows one protocol")
        fixed = [override.input_line for override in parsed if not override.is_sweep_override()]
        protocol = compose([line for line in fixed if line is not None]).get("protocol")
        grids: list[dict[str, Any]] = [{}] if protocol is None else [dict(grid) for grid in protocol.grids]
        others = list(overrides)
        if protocol is not None:
            for key in ("algorithm", "task"):
                given = [line for line in others if line.startswith(f"{key}=")]
                others = [line for line in others if line not in given]
                grids = _choose(grids, key, given[-1].partition("=")[2]) if given else grids
        runs = []
        for grid in grids:
            lines = [f"{key}={values}" for key, values in grid.items()]
            runs += combine_values([*lines, *others])
        if protocol is not None:
            runs = [[*_tuned(run, protocol), *run] for run in runs]
    except (HydraException, OmegaConfBaseException) as error:
        raise SweepError(str(error)) from error
    return runs


def _choose(grids: list[dict[str, Any]], key: str, text: str) -> list[dict[str, Any]]:
    """Reduce each grid to the requested values of a key; values that no grid has go to the first grid."""
    asked = read_values(key, text)
    own = [read_values(key, str(grid[key])) if key in grid else asked for grid in grids]
    chosen = [[value for value in asked if value in values] for values in own]
    chosen[0] = [value for value in asked if value in own[0] or not any(value in values for values in own)]
    return [{**grid, key: ",".join(values)} for grid, values in zip(grids, chosen, strict=True) if values]


def _tuned(run: Sequence[str], protocol: DictConfig) -> list[str]:
    """A protocol's tuned overrides for the algorithm of a run; the run's own overrides take precedence."""
    algorithm = dict(line.split("=", 1) for line in run if "=" in line).get("algorithm")
    return [f"{key}={value}" for key, value in protocol.get("tuned", {}).get(algorithm, {}).items()]


def read_values(key: str, text: str) -> list[Any]:
    """Read several values of one key as Hydra does, from text such as ``1,2,3`` or ``range(0,5)``."""
    try:
        (override,) = OverridesParser.create().parse_overrides([f"{key}={text}"])
        return list(override.sweep_iterator()) if override.is_sweep_override() else [override.value()]
    except HydraException as error:
        raise SweepError(str(error)) from error


def make_specs(
    runs: Sequence[list[str]], sweep_folder: Path, fingerprint: str | None, are_to_run: bool = True
) -> list[RunSpec]:
    """Compose, check and name all runs of a sweep.

    Args:
        runs: the overrides of each.
        sweep_folder: parent of the runs' folders.
        fingerprint: the numerics fingerprint; None: unknown.
        are_to_run: whether to check that this machine can execute the runs (devices and packages).

    Returns:
        The specs, lowest seeds first, so that an interrupted sweep has runs of every kind.

    Raises:
        SweepError: if a run is not supported, or two runs would have the same name.
    """
    specs: list[RunSpec] = []
    plain: dict[tuple[str, ...], RunSpec] = {}
    if any("${seed}" in line for overrides in runs for line in overrides):
        raise SweepError(
            "${seed}: the runs of a variant differ in their seeds alone, so no other option may depend on the seed: "
            "write the value out, one sweep for each seed"
        )
    for overrides in runs:
        # Composing takes most of the time, and seeds are many
        others = tuple(line for line in overrides if not line.startswith("seed="))
        if others not in plain:
            cfg = compose_checked(list(others), are_to_run)
            plain[others] = make_spec(cfg, cfg.hydra.runtime.choices, others, sweep_folder, fingerprint)
        seeds = [line.partition("=")[2] for line in overrides if line.startswith("seed=")]
        seed = _read_seed(seeds[-1]) if seeds else plain[others].seed
        specs.append(plain[others].with_seed(seed, overrides))
    if any("__main__" in spec.imports for spec in specs):
        raise SweepError(
            "the program that starts the sweep itself registers a task, algorithm or model, which the processes of the "
            "runs cannot import: register it in a module that the program imports"
        )
    _check_unique(specs)
    return sorted(specs, key=lambda spec: spec.seed)


def compose_checked(overrides: list[str], is_to_run: bool = True) -> DictConfig:
    """Compose one run of a sweep, with Hydra's node, and check that it is supported.

    Args:
        overrides: the run's overrides in Hydra's syntax.
        is_to_run: whether to check that this machine can execute the run (devices and packages).

    Raises:
        SweepError: if the run cannot be composed or is not supported.
    """
    try:
        cfg = compose(overrides, return_hydra_config=True)
        check_sweep(cfg.experiment)
        if is_to_run:
            check_config(cfg, cfg.hydra.runtime.choices)
    except (HydraException, OmegaConfBaseException, RequestError, ValueError) as error:
        raise SweepError(f"{' '.join(overrides)}: {error}") from error
    return cfg


def _read_seed(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise SweepError(f"seed={text} is no integer: give one, a list or range(0,5)") from error


def _check_unique(specs: Sequence[RunSpec]) -> None:
    """Reject two runs with equal labels and seed, which a report could not distinguish."""
    counts = Counter((spec.variant, spec.task_label, spec.seed) for spec in specs)
    for (variant, task_label, seed), count in counts.items():
        if count > 1:
            same = [spec for spec in specs if (spec.variant, spec.task_label, spec.seed) == (variant, task_label, seed)]
            differ = "" if len({spec.id for spec in same}) == 1 else ", with options that results do not show"
            raise SweepError(
                f"{variant} on {task_label} with seed {seed} stands {count} times in the sweep{differ}: "
                f"{' and '.join(' '.join(spec.overrides) for spec in same[:2])}; leave one out"
            )
