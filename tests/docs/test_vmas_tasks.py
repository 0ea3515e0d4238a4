"""The table of VMAS tasks is what the package says of them, and HiMPPO trains on each as the table says."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from benchmarl.environments import VmasTask
from support.scripts import load_script
from support.tiny_experiment import TinyExperiment, algorithm_config
from torch.nn.utils import parameters_to_vector

DOCS = Path(__file__).parents[2] / "docs"


script = load_script(DOCS / "tasks" / "vmas.py", "vmas_tasks")


@pytest.mark.slow
def test_the_table_that_is_published_is_the_one_that_the_script_writes() -> None:
    assert script.DOCUMENT.read_text(encoding="utf-8") == script.document()


@pytest.mark.slow
@pytest.mark.parametrize("is_continuous", [True, False], ids=["continuous", "discrete"])
@pytest.mark.parametrize("facts", list(script.facts()), ids=lambda facts: facts.name)
def test_himppo_trains_three_iterations_as_the_table_says(facts: object, is_continuous: bool, tmp_path: Path) -> None:
    """With the table's graph, BenchMARL's options, and every group in training: all its networks move."""
    _, refusal = facts.graph()
    algorithm = algorithm_config("himppo", **({"clustering": "static"} if refusal else {}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # no episode ends in so few steps
        experiment = TinyExperiment(tmp_path)(
            algorithm, facts.task, max_n_iters=3, prefer_continuous_actions=is_continuous
        )
        before = {group: parameters_to_vector(loss.parameters()).clone() for group, loss in experiment.losses.items()}
        experiment.run()
    assert experiment.n_iters_performed == 3
    assert {**experiment.group_map} == facts.groups
    for group, loss in experiment.losses.items():
        after = parameters_to_vector(loss.parameters())
        assert after.isfinite().all(), group
        assert not torch.equal(after, before[group]), group


def test_every_task_is_listed_and_those_without_positions_are_static() -> None:
    rows = {facts.name: facts.graph() for facts in script.facts()}
    assert list(rows) == [f"vmas/{task.name.lower()}" for task in VmasTask]
    assert all(("algorithm.clustering=static" in refusal) == (position is None) for position, refusal in rows.values())
