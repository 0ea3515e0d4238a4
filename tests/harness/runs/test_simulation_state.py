"""What a simulation holds comes back as it was, whatever refers to whatever, or is not recorded at all."""

from __future__ import annotations

import io
from enum import Enum
from functools import partial
from typing import Any, ClassVar, NamedTuple

import pytest
import torch

from benchmarl_himpo.harness.runs.simulation_state import SimulationState


class Colour(Enum):
    RED = 1
    BLUE = 2


class Pair(NamedTuple):
    first: torch.Tensor
    second: int


class Body:
    def __init__(self, place: float) -> None:
        self.place = torch.full((3, 2), place)
        self.colour = Colour.RED
        self.goal: Any = None


class World:
    def __init__(self) -> None:
        self.bodies = [Body(1.0), Body(2.0)]


class Simulation:
    """Two bodies in a world, and whatever a test adds."""

    simulation: ClassVar[tuple[str, ...]] = ("world", "extra")
    batch_size: ClassVar[tuple[int, ...]] = (3,)

    def __init__(self, extra: Any = None) -> None:
        self.world, self.extra = World(), extra


def copy_state(before: Simulation, after: Simulation, change: Any = lambda simulation: None) -> bool:
    """Record a simulation after a change, through a file, and restore it into another one."""
    recorder, restorer = SimulationState(before), SimulationState(after)
    change(before)
    file = io.BytesIO()
    torch.save(recorder.capture(), file)
    file.seek(0)
    return restorer.restore(torch.load(file, weights_only=True))


def test_tensors_numbers_and_references_come_back() -> None:
    def change(simulation: Simulation) -> None:
        first, second = simulation.world.bodies
        first.place = torch.rand(3, 2, generator=torch.Generator().manual_seed(0))
        first.goal, second.goal = second, second
        second.colour = Colour.BLUE  # a member that the other simulation does not hold
        second.steps = 3  # an attribute that it does not have
        simulation.extra = {second: [0.1, True, None], "pair": Pair(first.place, 4), "flags": {"a", "b"}}

    before, after = (Simulation(Pair(torch.zeros(1), 0)) for _ in range(2))
    after.world.bodies[0].stale = 1
    assert copy_state(before, after, change)
    first, second = after.world.bodies
    assert torch.equal(first.place, before.world.bodies[0].place)
    assert first.goal is second and second.goal is second
    assert (first.colour, second.colour, second.steps) == (Colour.RED, Colour.BLUE, 3)
    assert not hasattr(first, "stale")
    assert after.extra[second] == [0.1, True, None]
    assert type(after.extra["pair"]) is Pair and after.extra["pair"].first is first.place
    assert (after.extra["pair"].second, after.extra["flags"]) == (4, {"a", "b"})


def test_views_of_one_memory_stay_that() -> None:
    def change(simulation: Simulation) -> None:
        whole = torch.arange(6.0).reshape(2, 3)
        simulation.extra = [whole[:, 1:], whole.T, torch.ones(1).expand(4)]

    after = Simulation()
    assert copy_state(Simulation(), after, change)
    part, turned, spread = after.extra
    assert (part.tolist(), turned.stride(), spread.stride()) == ([[1, 2], [4, 5]], (1, 3), (0,))
    part[0, 0] = 7
    assert turned[1, 0] == 7


def test_what_is_restored_shares_no_memory_with_what_was_recorded() -> None:
    before, after = Simulation(), Simulation()
    state = SimulationState(before).capture()
    restorer = SimulationState(after)
    assert restorer.restore(state)
    after.world.bodies[0].place.zero_()
    before.world.bodies[0].place.zero_()
    assert restorer.restore(state)
    assert (after.world.bodies[0].place == 1).all()


def test_functions_remember_and_generators_go_on() -> None:
    def make() -> list[Any]:
        total = torch.zeros(1)

        def add(x: float) -> torch.Tensor:
            nonlocal total
            total = total + x
            return total

        return [add, torch.Generator().manual_seed(0), [].append.__self__, World().__init__]

    before, after = Simulation(make()), Simulation(make())
    before.extra[0](2.0)
    torch.rand(5, generator=before.extra[1])
    assert copy_state(before, after)
    assert after.extra[0](1.0) == 3
    assert torch.equal(*(torch.rand(5, generator=simulation.extra[1]) for simulation in (before, after)))
    assert after.extra[3].__self__ is not before.extra[3].__self__


def test_containers_may_hold_themselves() -> None:
    before, after = Simulation([]), Simulation([])
    before.extra.append(before.extra)
    assert copy_state(before, after)
    assert after.extra[0] is after.extra


class Slotted:
    __slots__ = ("__dict__", "place")

    def __init__(self) -> None:
        self.place = 1


class Numbers(list):
    pass


class Rude:
    def __reduce_ex__(self, protocol: Any) -> Any:
        raise RuntimeError("not me")


def count(calls: list[int] = []) -> None:  # noqa: B006
    calls.append(1)


def unfinished() -> Any:
    def function() -> Any:
        return later

    yield function
    later = 1


@pytest.mark.parametrize(
    "value",
    [
        iter(()),
        torch.nn.Parameter(torch.zeros(1)),
        bytearray(1),
        [].append,
        partial(print, []),
        {World()},
        Numbers(),
        Slotted(),
        Rude(),
        count,
        next(unfinished()),
    ],
    ids=lambda value: f"{type(value).__name__} {getattr(value, '__name__', '')}".strip(),
)
def test_a_simulation_that_holds_what_cannot_be_read_is_not_recorded(value: Any) -> None:
    simulation = Simulation()
    recorder = SimulationState(simulation)
    simulation.extra = [value]
    assert recorder.capture() is None
    assert SimulationState(simulation).capture() is None


def test_objects_that_a_simulation_was_not_built_with_are_not_recorded() -> None:
    simulation = Simulation()
    recorder = SimulationState(simulation)
    simulation.world.bodies.append(Body(3.0))
    assert recorder.capture() is None
    simulation.world.bodies.pop()
    assert recorder.capture() is not None


def test_objects_may_change_places_and_be_replaced() -> None:
    def swap_and_replace(simulation: Simulation) -> None:
        first, second = simulation.world.bodies
        simulation.world.bodies = [second, first]
        simulation.extra = Body(9.0)

    before, after = Simulation(Body(3.0)), Simulation(Body(3.0))
    first, second = after.world.bodies
    assert copy_state(before, after, swap_and_replace)
    assert after.world.bodies == [second, first]
    assert [body.place[0, 0].item() for body in (first, second, after.extra)] == [1, 2, 9]


def test_an_object_in_the_place_of_one_that_moved_is_not_recorded() -> None:
    simulation = Simulation()
    recorder = SimulationState(simulation)
    simulation.world.bodies = [Body(3.0), simulation.world.bodies[0]]
    assert recorder.capture() is None


def test_a_state_is_restored_into_a_simulation_that_was_built_alike_or_not_at_all(monkeypatch) -> None:
    state = SimulationState(Simulation()).capture()
    other = Simulation()
    other.world.bodies = [Body(5.0), World()]
    assert not SimulationState(other).restore(state)
    assert (other.world.bodies[0].place == 5).all()
    assert not SimulationState(Simulation()).restore(None)
    monkeypatch.setattr(Simulation, "batch_size", (4,))
    assert not SimulationState(Simulation()).restore(state)


def test_an_environment_that_does_not_tell_where_its_state_is_is_not_recorded() -> None:
    class Silent:
        batch_size = (3,)

    assert SimulationState(Silent()).capture() is None
