"""Several comparisons together: what a method is called over the tasks of all."""

from __future__ import annotations

from benchmarl_himpo.harness.sweeps.protocol import Protocol, name_by_algorithm


def protocol_of(*methods: tuple[str, str]) -> Protocol:
    """A comparison of methods, each the labels of a task and a variant, with two seeds."""
    runs = frozenset((task, variant, seed) for task, variant in methods for seed in range(2))
    return Protocol("name", "A question?", tuning={}, tuned={}, runs=runs)


def test_a_method_is_called_as_its_algorithm_where_its_comparison_has_one_variant_of_it() -> None:
    continuous = protocol_of(("a", "himppo"), ("a", "ippo[lr=1]"), ("b", "ippo[lr=1]"))
    discrete = protocol_of(("c", "himppo[hidden_dim=128]"), ("c", "ippo"), ("c", "ippo[x=1]"))
    assert name_by_algorithm([continuous, discrete]) == {
        ("a", "himppo"): "himppo",
        ("a", "ippo[lr=1]"): "ippo",
        ("b", "ippo[lr=1]"): "ippo",
        ("c", "himppo[hidden_dim=128]"): "himppo",
    }
