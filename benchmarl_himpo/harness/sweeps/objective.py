"""The objective of a run for Hydra's optimising sweepers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from benchmarl_himpo.harness.checks import RequestError, describe_lack_of_record
from benchmarl_himpo.harness.records.record import RunRecord, mean

BASIC_SWEEPER = "basic"
"""Hydra's own sweeper, which runs every combination and uses no objective."""
DIRECTIONS: dict[str, tuple[str, object, object]] = {
    "optuna": ("direction", "minimize", "maximize"),
    "nevergrad": ("optim.maximize", False, True),
    "ax": ("ax_config.experiment.minimize", True, False),
}
"""For each optimising sweeper, its option for the direction, with the values for minimising and maximising."""


def mean_over_frames(frames: Sequence[int], returns: Sequence[float]) -> float | None:
    """Area under a curve divided by its frames; for one point its return; None without points."""
    if len(frames) < 2:
        return float(returns[0]) if returns else None
    from scipy.integrate import trapezoid  # a twelfth of the time in which a run starts, and few runs need it

    return float(trapezoid(returns, frames) / (frames[-1] - frames[0]))


def _evaluation_auc(record: RunRecord) -> float | None:
    return mean_over_frames(record.evaluation_frames, [mean(returns) for returns in record.evaluation_returns])


def _collection_auc(record: RunRecord) -> float | None:
    points = zip(record.frames, record.collection_return, strict=True)
    known = [(frames, value) for frames, value in points if value is not None]
    return mean_over_frames([frames for frames, _ in known], [value for _, value in known])


OBJECTIVES: dict[str, Callable[[RunRecord], float | None]] = {
    "last_evaluation": lambda record: record.last_evaluation,
    "absolute_metric": lambda record: record.best_evaluated,
    "evaluation_auc": _evaluation_auc,
    "collection_auc": _collection_auc,
}
"""Values of ``objective``, each with its function of a record, which returns None if the run has no such value."""


def maximise_by_default() -> None:
    """Let optimising sweepers maximise by default; their own default is to minimise."""
    Plugins.instance()  # imports all plugins, which put their configs into the store
    store = ConfigStore.instance()
    for name, (option, down, up) in DIRECTIONS.items():
        if f"{name}.yaml" in store.list("hydra/sweeper"):
            node = store.load(f"hydra/sweeper/{name}.yaml").node
            if _plain(OmegaConf.select(node, option)) == down:
                OmegaConf.update(node, option, up)
                store.store(name, node, group="hydra/sweeper", provider="benchmarl_himpo")


def check_objective(cfg: DictConfig, hydra: DictConfig) -> None:
    """Check that a run will have its sweeper's objective, and that the sweeper maximises it.

    Raises:
        RequestError: if the objective is unknown, the run will not have it, or the sweeper minimises it.
    """
    name = cfg.objective
    if name not in OBJECTIVES:
        raise RequestError(f"objective={name} does not exist: choose from {', '.join(OBJECTIVES)}.")
    if not is_optimised(hydra):
        return
    for option, down, up in DIRECTIONS.values():
        said = OmegaConf.select(hydra.sweeper, option)
        if OmegaConf.is_list(said):
            raise RequestError(f"hydra.sweeper.{option}={list(said)} is of several objectives, and a run has one.")
        if _plain(said) == down:
            raise RequestError(
                f"hydra.sweeper.{option}={str(down).lower()} looks for the lowest objective, and {name} is a return: "
                f"choose hydra.sweeper.{option}={str(up).lower()}, or leave it out."
            )
    _check_exists(name, cfg)


def is_optimised(hydra: DictConfig) -> bool:
    """Whether a run is a job of a sweeper that may use its objective."""
    return hydra.mode == RunMode.MULTIRUN and hydra.runtime.choices["hydra/sweeper"] != BASIC_SWEEPER


def objective_of(record: RunRecord | None, cfg: DictConfig, hydra: DictConfig) -> float | None:
    """Objective of a finished run; None if the run has none and no sweeper needs it.

    Raises:
        RequestError: if the run has no objective but its sweeper needs one.
    """
    value = None if record is None else OBJECTIVES[cfg.objective](record)
    if value is None and is_optimised(hydra):
        raise RequestError(
            f"objective={cfg.objective} has no value, since no episode ended in collection: choose another objective."
        )
    return value


def _check_exists(name: str, cfg: DictConfig) -> None:
    """Check that a run logs the values of its objective."""
    lack = describe_lack_of_record(cfg.experiment)
    if lack is not None:
        raise RequestError(f"objective={name} needs the record of a run, and {lack}.")
    if name == "absolute_metric" and not cfg.absolute_metric_episodes:
        raise RequestError(
            "objective=absolute_metric needs absolute_metric_episodes, which is 0: choose a number of episodes, such "
            "as absolute_metric_episodes=320, or objective=last_evaluation."
        )
    if name in ("last_evaluation", "evaluation_auc") and not cfg.experiment.evaluation:
        raise RequestError(
            f"objective={name} needs evaluations, and experiment.evaluation=false: choose experiment.evaluation=true, "
            "or objective=collection_auc."
        )


def _plain(value: object) -> object:
    """Give the name of a member of an enumeration, as it is written, and anything else as it is."""
    return value.name if isinstance(value, Enum) else value
