"""Options of Level-Based Foraging, with and without survival, and their checks."""

from __future__ import annotations

import math
from dataclasses import dataclass

N_LOWEST = 3
"""Number of lowest team levels whose sum is the default highest food level (lbforaging 2.0.0)."""


@dataclass
class LbfConfig:
    """Options of Level-Based Foraging, documented key by key in ``conf/task/base/lbf.yaml``.

    Raises:
        ValueError: if an option is out of range or options contradict each other, with the option and the fix named.
    """

    n_agents: int
    field_size: list[int]
    n_foods: int
    sight: int
    min_agent_level: int
    max_agent_level: int
    min_food_level: int
    max_food_level: int | None
    force_coop: bool
    normalise_reward: bool
    penalty: float
    shared_reward: bool
    max_steps: int

    def __post_init__(self) -> None:
        for option in ("n_agents", "n_foods", "sight", "min_agent_level", "min_food_level", "max_steps"):
            _check(getattr(self, option) >= 1, option, getattr(self, option), "must be 1 or more")
        _check(len(self.field_size) == 2, "field_size", self.field_size, "must be two numbers, rows and columns")
        _check(min(self.field_size) >= 3, "field_size", self.field_size, "must be 3 or more: food keeps off the border")
        _check(math.isfinite(self.penalty) and self.penalty >= 0, "penalty", self.penalty, "must be 0 or more")
        self._check_levels()
        self._check_space()

    def _check_levels(self) -> None:
        low, high = self.min_agent_level, self.max_agent_level
        _check(high >= low, "max_agent_level", high, f"must not be below task.min_agent_level={low}")
        lowest, highest = self.min_food_level, self.max_food_level
        if highest is not None:
            fix = f"must not be below task.min_food_level={lowest}"
            _check(highest >= lowest, "max_food_level", highest, fix)
        elif not self.force_coop:  # with force_coop every food has the highest level
            weakest = self.min_agent_level * min(N_LOWEST, self.n_agents)
            fix = f"must be at most {weakest}, the {N_LOWEST} lowest levels of a weak team: or set task.max_food_level"
            _check(lowest <= weakest, "min_food_level", lowest, fix)

    def _check_space(self) -> None:
        capacity = food_capacity(*self.field_size)
        fix = f"must be at most {capacity} on task.field_size={list(self.field_size)}: foods keep a distance of 3"
        _check(self.n_foods <= capacity, "n_foods", self.n_foods, f"{fix} from each other and off the border")
        room = math.prod(self.field_size) - self.n_foods
        fix = f"must be at most {room} on task.field_size={list(self.field_size)} with {self.n_foods} foods"
        _check(self.n_agents <= room, "n_agents", self.n_agents, f"{fix}: enlarge the field")


@dataclass
class LbfwsConfig(LbfConfig):
    """Options of Level-Based Foraging with Survival, documented key by key in ``conf/task/base/lbfws.yaml``.

    The survival rules and their constants are our reconstruction; the original ones are not available.

    Raises:
        ValueError: if an option is out of range or options contradict each other, with the option and the fix named.
    """

    initial_energy: float
    max_energy: float
    energy_cost: float
    food_energy: float
    energy_split: str
    respawn_interval: int
    survival_bonus: float

    def __post_init__(self) -> None:
        super().__post_init__()
        for option in ("initial_energy", "max_energy", "energy_cost"):
            value = getattr(self, option)
            _check(math.isfinite(value) and value > 0, option, value, "must be positive")
        for option in ("food_energy", "survival_bonus"):
            value = getattr(self, option)
            _check(math.isfinite(value) and value >= 0, option, value, "must be 0 or more")
        fix = f"must be at most task.max_energy={self.max_energy}"
        _check(self.initial_energy <= self.max_energy, "initial_energy", self.initial_energy, fix)
        _check(self.respawn_interval >= 0, "respawn_interval", self.respawn_interval, "must be 0 or more")
        splits = ("equal", "level")
        _check(self.energy_split in splits, "energy_split", self.energy_split, f"must be one of {', '.join(splits)}")


def food_capacity(n_rows: int, n_columns: int) -> int:
    """Number of foods that can be placed: cells of the densest diagonal lattice with a distance of three steps.

    Foods are placed one by one at random, so a nearly full field may get fewer.
    """
    interior = [(row + 2 * column) % 5 for row in range(n_rows - 2) for column in range(n_columns - 2)]
    return max(interior.count(residue) for residue in range(5))


def _check(is_good: bool, option: str, value: object, fix: str) -> None:
    if not is_good:
        raise ValueError(f"task.{option}={value} {fix}.")
