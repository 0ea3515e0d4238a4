"""Write vmas.md: every VMAS task that BenchMARL lists, and the options that HiMPPO runs it with.

    python docs/tasks/vmas.py

Each task is built as a run builds it, with BenchMARL's options, and what the table says is read from it and from what
the package answers to a run with HiMPPO's default graph.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarl.environments import TaskClass, VmasTask
from torchrl.data import Composite
from torchrl.envs import EnvBase

from benchmarl_himpo.algorithms import HimppoConfig
from benchmarl_himpo.algorithms.sources import find_position
from benchmarl_himpo.environments import accelerate
from benchmarl_himpo.harness.markdown import markdown_table

DOCUMENT = Path(__file__).with_suffix(".md")
COLUMNS = ("`task=`", "group: agents, features observed, actions", "position", "graph", "remarks")
TEXT = """# VMAS tasks

Every VMAS task that BenchMARL lists, with BenchMARL's options. Generated from the built tasks by
`python docs/tasks/vmas.py`; do not edit.

HiMPPO trains on all of them, with continuous and with discrete actions (`python -m pytest -m slow tests/docs` trains
three iterations of each). Where the graph is dynamic it trains as it is, with
`algorithm.clustering=kmeans`; where it is static, `algorithm.clustering=static` is needed, and `algorithm.neighbours`
can be neither `knn` nor `radius`, for the reason in the last column. Every group of agents has a hierarchy of its own,
and groups exchange no messages. Actions `2 / 9` are two numbers, or with
`experiment.prefer_continuous_actions=false` one of nine choices.

"""


@dataclass(frozen=True)
class Facts:
    """What is known of a task once it is built.

    Args:
        task: the task.
    """

    task: TaskClass

    @cached_property
    def envs(self) -> tuple[EnvBase, EnvBase]:
        """Its environment with continuous actions, and with discrete ones."""
        first, second = (
            accelerate(self.task).get_env_fun(num_envs=1, continuous_actions=is_continuous, seed=0, device="cpu")()
            for is_continuous in (True, False)
        )
        return first, second

    @property
    def name(self) -> str:
        """Its name on the command line."""
        return f"{self.task.env_name()}/{self.task.name.lower()}"

    @property
    def groups(self) -> dict[str, list[str]]:
        """Agents of each group."""
        return self.task.group_map(self.envs[0])

    def graph(self) -> tuple[str | None, str]:
        """Where agents have their positions, and why HiMPPO's clustering is refused; None and what is said, or ''."""
        clustering = {"clustering": HimppoConfig.get_from_yaml().clustering}
        for group in self.groups:
            entries: Composite = self.envs[0].full_observation_spec_unbatched[group]
            try:
                position = find_position("auto", self.name, self.task.config, entries, clustering)
            except ValueError as error:
                return None, str(error)
        return position, ""

    def row(self) -> list[str]:
        """Its row of the table."""
        position, refusal = self.graph()
        alone = [f"`{group}`" for group, agents in self.groups.items() if len(agents) == 1]
        remarks = [refusal] if refusal else []
        if alone:
            remarks.append(f"one agent each, so there is nothing to cluster: {', '.join(alone)}")
        return [
            f"`{self.name}`",
            "; ".join(self._describe_group(group) for group in self.groups),
            f"`{position}`" if position else "not observed",
            "static" if refusal else "dynamic",
            "; ".join(remarks),
        ]

    def _describe_group(self, group: str) -> str:
        continuous, discrete = (self.task.action_spec(env)[group, "action"] for env in self.envs)
        n_features = self.task.observation_spec(self.envs[0])[group, "observation"].shape[-1]
        n_agents, n_numbers, n_choices = len(self.groups[group]), continuous.shape[-1], discrete.n
        return f"{group}: {n_agents}, {n_features}, {n_numbers} / {n_choices}"


def facts() -> Iterator[Facts]:
    """Every VMAS task that BenchMARL lists, in its order."""
    for task in VmasTask:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # BenchMARL has no type check for some of its tasks
            yield Facts(task.get_from_yaml())


def document() -> str:
    """The whole document."""
    return TEXT + markdown_table(COLUMNS, (fact.row() for fact in facts())) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
