"""One-factor-at-a-time studies: variants of an algorithm that differ from its default in a single factor.

A factor that only another setting allows is studied beside that one: a variant of two factors is compared with the
variant that has one of them alone, if there is a single one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarl_himpo.harness.records.labels import option_of, split_label

OUTSIDE = ("experiment.", "model.", "critic_model.")
"""Prefixes of options outside the algorithm; each of these options is a separate factor."""


@dataclass(frozen=True)
class Setting:
    """A variant that differs from another one in one factor."""

    variant: str
    default: str  # the variant with the fewest differences from the algorithm's plain configuration, or see above
    factor: str  # an option, including the fields of the part that it chooses
    value: str  # value of the factor


def find_settings(variants: Iterable[str]) -> list[Setting]:
    """Find the variants that differ from the default of their algorithm in one factor, by factor.

    Args:
        variants: labels such as ``himppo[neighbours=knn; part_options.neighbours.knn.k=1]``.

    Returns:
        The settings; none for an algorithm whose variants change only one factor, which is not a study of factors.
    """
    found: list[Setting] = []
    by_algorithm: dict[str, dict[str, list[str]]] = {}
    for variant in variants:
        name, differences = split_label(variant)
        by_algorithm.setdefault(name, {})[variant] = differences
    for labels in by_algorithm.values():
        default = min(labels, key=lambda label: len(labels[label]))
        settings = []
        for variant, differences in labels.items():
            smaller = [other for other, of in labels.items() if {*labels[default], *of} < {*differences}]
            alone = [other for other in smaller if len(_factors_between(differences, labels[other])) == 1]
            base = default if len(_factors_between(differences, labels[default])) < 2 or len(alone) != 1 else alone[0]
            factors = _factors_between(differences, labels[base])
            if len(factors) == 1:
                (factor,) = factors
                own = [difference for difference in differences if difference not in labels[base]]
                value = ", ".join(_value_of(difference, factor) for difference in own)
                settings.append(Setting(variant, base, factor, value))
        if len({setting.factor for setting in settings}) > 1:
            found += sorted(settings, key=lambda setting: (setting.default != default, setting.factor))
    return found


def _factors_between(differences: Iterable[str], others: Iterable[str]) -> set[str]:
    return {_factor_of(difference) for difference in {*differences} ^ {*others}}


def _factor_of(difference: str) -> str:
    option = option_of(difference).removeprefix("part_options.")
    return option if option.startswith(OUTSIDE) else option.partition(".")[0]


def _value_of(difference: str, factor: str) -> str:
    option, _, value = difference.partition("=")
    return value if option == factor else f"{option.rpartition('.')[2]}={value}"
