"""Conversion of configurations from older versions of this package.

One function for each change of an option, in chronological order. Each function changes the configuration of a run or a
record, nested dicts of plain values, in place, and ignores options that have the new form already.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

Config = dict[str, Any]


def _add_absolute_metric(config: Config) -> None:
    """No fresh episodes were played before there was an option for it."""
    config.setdefault("absolute_metric_episodes", 0)


def _gather_fields_of_parts(config: Config) -> None:
    """Options that one clustering, neighbourhood or goal space alone reads became its fields."""
    algorithm = config["algorithm"]
    if "assignment" in algorithm:
        clustering, arena = algorithm.pop("assignment"), algorithm.pop("arena")
        algorithm["clustering"] = {"name": clustering, "arena": arena} if clustering == "regions" else clustering
    if "n_neighbours" in algorithm:
        fields = {"knn": {"k": algorithm.pop("n_neighbours")}, "radius": {"radius": algorithm.pop("neighbour_radius")}}
        neighbours = algorithm["neighbours"]
        algorithm["neighbours"] = {"name": neighbours, **fields[neighbours]} if neighbours in fields else neighbours
    if "goal_init_scale" in algorithm:
        algorithm["goal"] = {"name": "normal", "init_scale": algorithm.pop("goal_init_scale")}


def _add_part_options(config: Config) -> None:
    """A part had to be given all its fields before there was an option for those of parts chosen by name."""
    algorithm = config["algorithm"]
    if "n_nodes" not in algorithm or "part_options" in algorithm:
        return
    fields: dict[str, Config] = {
        "goal": {"normal": {"init_scale": 0.3}},
        "credit": {"cosine": {"weight": 1.0}},
        "clustering": {"regions": {"arena": [-1.0, 1.0]}},
        "neighbours": {"knn": {"k": 2}, "radius": {"radius": 0.5}},
    }
    for option, chosen in ((option, algorithm.get(option)) for option in ("goal", "credit")):
        if isinstance(chosen, dict) and chosen["name"] in fields[option]:
            algorithm[option] = chosen.pop("name")
            fields[option] = {algorithm[option]: chosen}
    algorithm["part_options"] = fields


def _add_learning_rate(config: Config) -> None:
    """All levels took the experiment's learning rate before HiMPPO had an option for its own."""
    if "n_nodes" in config["algorithm"]:
        config["algorithm"].setdefault("lr", None)


def _add_goal_gradient(config: Config) -> None:
    """Goals were data, and every level had its own PPO, before there were options for these."""
    if "n_nodes" in config["algorithm"]:
        config["algorithm"].setdefault("goal_gradient", 0.0)
        config["algorithm"].setdefault("objective_coef", 1.0)


def _add_calmer_levels(config: Config) -> None:
    """Levels made all epochs, on one scale, and none had to listen, before there were options for these."""
    added = {"listening_coef": 0.0, "n_epochs": None, "reward_norm": False, "value_norm": False, "norm_decay": 0.9}
    if "n_nodes" in config["algorithm"]:
        config["algorithm"] |= {option: value for option, value in added.items() if option not in config["algorithm"]}


def _add_information(config: Config) -> None:
    """Every level saw the whole observation and received goals before there were options for these."""
    if "n_nodes" in config["algorithm"]:
        config["algorithm"].setdefault("observation", None)
        config["algorithm"].setdefault("send_goals", True)


def _add_memory(config: Config) -> None:
    """Upper levels remembered nothing, and the toy task showed every cue for good, before there were options for it."""
    algorithm, task = config["algorithm"], config.get("task", {})
    if "n_nodes" in algorithm:
        algorithm.setdefault("memory", None)
        fields = {"window": {"decisions": 4}, "gru": {"decisions": 4, "size": 32}}
        algorithm["part_options"].setdefault("memory", fields)
    if "redraw_interval" in task:
        task.setdefault("visible_steps", None)


def _add_computation(config: Config) -> None:
    """Matrices were multiplied in float32, and updates computed as BenchMARL does, before there were options for it."""
    config.setdefault("matmul_precision", "highest")
    config.setdefault("update_step", "eager")


def _add_interval_annealing(config: Config) -> None:
    """Goal intervals were the same throughout before there was an option for it."""
    if "n_nodes" in config["algorithm"]:
        config["algorithm"].setdefault("initial_goal_interval", None)


def _add_position_noise(config: Config) -> None:
    """k-means saw positions as they are before there was an option for noise on them."""
    if "n_nodes" in config["algorithm"]:
        clusterings = config["algorithm"]["part_options"].setdefault("clustering", {})
        clusterings.setdefault("kmeans", {"position_noise": 0.0})


CHANGES: tuple[Callable[[Config], None], ...] = (
    _add_absolute_metric,
    _gather_fields_of_parts,
    _add_learning_rate,
    _add_part_options,
    _add_goal_gradient,
    _add_calmer_levels,
    _add_information,
    _add_memory,
    _add_computation,
    _add_interval_annealing,
    _add_position_noise,
)
"""All changes of options since version 0.1."""


def update_config(config: Config) -> Config:
    """Convert the configuration of a ``run.yaml`` or a record of any version to this version's options."""
    updated = deepcopy(config)
    for change in CHANGES:
        change(updated)
    return updated
