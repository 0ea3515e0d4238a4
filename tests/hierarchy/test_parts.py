"""Parts by name: what is built from an option, and what a wrong option is answered with."""

import re
from dataclasses import dataclass

import pytest
from support.parts import CLUSTERINGS, CREDITS, GOALS, NEIGHBOURS

from benchmarl_himpo.hierarchy import build_part, clustering_registry, goal_registry, neighbours_registry
from benchmarl_himpo.objectives import credit_registry


@dataclass(frozen=True)
class Plain:
    """A part without fields."""


@dataclass(frozen=True)
class Sized:
    """A part with a field that another option gives, and two of its own."""

    given: int
    low: float
    size: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.low < 0:
            raise ValueError(f"shape: low={self.low} must be 0 or more")


REGISTRY = {"plain": Plain, "sized": Sized}


@pytest.mark.parametrize("chosen", ["plain", {"name": "plain"}])
def test_a_name_and_a_mapping_with_a_name_alone_build_the_same(chosen):
    assert build_part("shape", chosen, REGISTRY) == Plain()


def test_fields_come_from_the_mapping_and_from_other_options():
    """A list, as YAML has it, becomes a tuple, so that the part can be hashed; the option itself stays as it is."""
    chosen = {"name": "sized", "low": 0.5, "size": [2, 3]}
    part = build_part("shape", chosen, REGISTRY, given=7)
    assert part == Sized(given=7, low=0.5, size=(2, 3))
    assert hash(part) == hash(Sized(given=7, low=0.5, size=(2, 3)))
    assert chosen == {"name": "sized", "low": 0.5, "size": [2, 3]}


def test_a_name_alone_takes_the_fields_that_defaults_have_for_it_and_a_mapping_overrides_them():
    defaults = {"sized": {"low": 0.5, "size": [2]}, "plain": {}}
    assert build_part("shape", "sized", REGISTRY, defaults, given=7) == Sized(given=7, low=0.5, size=(2,))
    chosen = {"name": "sized", "low": 1.5}
    assert build_part("shape", chosen, REGISTRY, defaults, given=7) == Sized(given=7, low=1.5, size=(2,))
    assert build_part("shape", "plain", REGISTRY, defaults) == Plain()


SIZED = "write shape={name: sized, low: ..., size: ...}"


@pytest.mark.parametrize(
    ("chosen", "parts"),
    [
        ("round", ["shape=round", "choose one of plain, sized"]),
        (None, ["shape=None", "choose one of plain, sized"]),
        ({}, ["shape=None", "choose one of plain, sized"]),
        ({"low": 1.0}, ["shape=None", "choose one of plain, sized"]),
        (["plain"], ["shape=['plain']", "choose one of plain, sized"]),
        ({"name": ["plain"]}, ["shape=['plain']", "choose one of plain, sized"]),
        ({"name": "sized", "low": "two", "size": [1]}, ["shape: low=two must be a number"]),
        ({"name": "sized", "low": True, "size": [1]}, ["shape: low=True must be a number"]),
        ({"name": "plain", "size": 1}, ["shape=plain has no field size", "write shape=plain"]),
        ({"name": "sized", "low": 1.0, "size": [], "high": 2}, ["shape=sized has no field high", SIZED]),
        ("sized", ["shape=sized needs low", SIZED]),
        ({"name": "sized", "low": 1.0}, ["shape=sized needs size", SIZED]),
        ({"name": "sized", "low": 1.0, "size": [], "given": 2}, ["shape=sized has no field given", SIZED]),
        ({"name": "sized", "low": -1.0, "size": []}, ["shape: low=-1.0"]),
    ],
    ids=str,
)
def test_every_refusal_names_the_option_the_field_and_what_to_write(chosen, parts):
    with pytest.raises(ValueError, match=".*".join(map(re.escape, parts))):
        build_part("shape", chosen, REGISTRY, given=7)


def test_a_field_with_a_default_may_be_left_out():
    """A part of a user; those of this package have their defaults in YAML."""

    @dataclass(frozen=True)
    class Mixed:
        share: float = 0.5

    assert build_part("shape", "mixed", {"mixed": Mixed}) == Mixed(0.5)
    assert build_part("shape", {"name": "mixed", "share": 0.1}, {"mixed": Mixed}) == Mixed(0.1)


def test_a_part_without_fields_is_asked_to_be_a_dataclass():
    with pytest.raises(ValueError, match="shape=plain: int is no dataclass, whose fields are its options: make it one"):
        build_part("shape", "plain", {"plain": int})


@pytest.mark.parametrize(
    ("examples", "registry"),
    [
        (CLUSTERINGS, clustering_registry),
        (NEIGHBOURS, neighbours_registry),
        (GOALS, goal_registry),
        (CREDITS, credit_registry),
    ],
)
def test_every_registered_part_has_an_example_that_generic_tests_run_over(examples, registry):
    """Built from its name and its own fields alone; equal and hashable by value, as frozen dataclasses are."""
    assert {name: type(part) for name, part in examples.items()} == registry
    assert len(set(examples.values())) == len(registry)


@pytest.mark.parametrize(
    ("option", "chosen", "registry", "message"),
    [
        (
            "clustering",
            "regions",
            clustering_registry,
            "clustering=regions needs arena: write clustering={name: regions",
        ),
        ("neighbours", "knn", neighbours_registry, "neighbours=knn needs k: write neighbours={name: knn, k: ...}"),
        ("neighbours", {"name": "full", "k": 2}, neighbours_registry, "neighbours=full has no field k"),
        ("neighbours", {"name": "radius", "radius": 0}, neighbours_registry, "neighbours: radius=0"),
        ("credit", "cosine", credit_registry, "credit=cosine needs weight: write credit={name: cosine, weight: ...}"),
        ("credit", "even", credit_registry, "credit=even is unknown: choose one of uniform, final, telescoped, cosine"),
        ("goal", "normal", goal_registry, "goal=normal needs init_scale: write goal={name: normal, init_scale: ...}"),
    ],
)
def test_the_options_of_the_algorithm_are_refused_by_name(option, chosen, registry, message):
    """The parts of the package as a user misspells them."""
    with pytest.raises(ValueError, match=re.escape(message)):
        build_part(option, chosen, registry, **({"dim": 2} if option == "goal" else {}))
