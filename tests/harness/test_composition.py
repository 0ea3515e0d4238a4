"""Overrides with several values, in Hydra's syntax."""

from __future__ import annotations

from benchmarl_himpo.harness.composition import combine_values


def test_several_values_are_combined() -> None:
    assert combine_values(["task.n_agents=3,5", "experiment.lr=1e-3"]) == [
        ["task.n_agents=3", "experiment.lr=1e-3"],
        ["task.n_agents=5", "experiment.lr=1e-3"],
    ]
    assert combine_values([]) == [[]]


def test_commas_inside_a_value_are_its_own() -> None:
    mapping, lists = "algorithm.neighbours={name:knn,k:4}", "algorithm.observation=[['a[0:2]'],['a[0:4]']]"
    assert combine_values([mapping, lists]) == [[mapping, lists]]
    two = combine_values([f"{mapping},full"])
    assert [change for (change,) in two] == [mapping, "algorithm.neighbours=full"]
