"""Several comparisons together: what a method is called over the tasks of all."""

from __future__ import annotations

from benchmarl_himpo.harness.sweeps.protocol import Protocol, name_by_algorithm


def protocol_of(algorithms: dict[tuple[str, str], str]) -> Protocol:
    return Protocol("name", "A question?", {}, {}, algorithms, frozenset())


def test_a_method_is_called_as_its_algorithm_where_its_comparison_has_one_variant_of_it() -> None:
    continuous = protocol_of({("a", "himppo"): "himppo", ("a", "ippo[lr=1]"): "ippo", ("b", "ippo[lr=1]"): "ippo"})
    discrete = protocol_of(
        {("c", "himppo[hidden_dim=128]"): "himppo", ("c", "ippo"): "ippo", ("c", "ippo[x=1]"): "ippo"}
    )
    assert name_by_algorithm([continuous, discrete]) == {
        ("a", "himppo"): "himppo",
        ("a", "ippo[lr=1]"): "ippo",
        ("b", "ippo[lr=1]"): "ippo",
        ("c", "himppo[hidden_dim=128]"): "himppo",
    }
