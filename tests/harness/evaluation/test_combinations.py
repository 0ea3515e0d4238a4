"""Overrides with several values, for one call of a command."""

from __future__ import annotations

from benchmarl_himpo.harness.evaluation.combinations import combine_changes


def test_several_values_are_combined() -> None:
    assert combine_changes(["task.n_agents=3,5", "experiment.lr=1e-3"]) == [
        ["task.n_agents=3", "experiment.lr=1e-3"],
        ["task.n_agents=5", "experiment.lr=1e-3"],
    ]
    assert combine_changes([]) == [[]]


def test_commas_inside_a_value_are_its_own() -> None:
    mapping, lists = "algorithm.neighbours={name: knn, k: 4}", "algorithm.observation=[['a[0:2]'],['a[0:4]']]"
    assert combine_changes([mapping, lists]) == [[mapping, lists]]
    two = combine_changes(["algorithm.neighbours={name: knn, k: 4},full"])
    assert [change for (change,) in two] == ["algorithm.neighbours={name:knn,k:4}", "algorithm.neighbours=full"]
