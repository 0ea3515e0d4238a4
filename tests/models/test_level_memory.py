"""The memory of a level in a rollout: what is kept, read, cleared and trained, against plain loops over the past."""

import pytest
import torch
from support.hierarchy_builders import GROUP, TinyHierarchy
from support.parts import CLUSTERINGS, GOALS, MEMORIES
from torch import Tensor

from benchmarl_himpo.hierarchy import GruMemory, HierarchyLayout, Memory, WindowMemory

THREE_LEVELS = HierarchyLayout(5, (2, 1), (3, 2))
RESETS = {8: [1]}
N_STEPS = 16
OBSERVATION = (GROUP, "observation")


def roll_out(memory: Memory, **options) -> tuple[TinyHierarchy, object]:
    """Clusters that move, two environments of which one starts anew at step 8, workers that die."""
    tiny = TinyHierarchy(THREE_LEVELS, clustering=CLUSTERINGS["kmeans"], memory=memory, **options)
    observe = tiny.observe

    def observe_deaths(shape, seed):
        td = observe(shape, seed)
        td[GROUP, "alive"][..., 4] = seed % 8 < 5
        td[GROUP, "alive"][..., 0, :3] = seed % 8 < 7  # environment 0: few are left
        return td

    object.__setattr__(tiny, "observe", observe_deaths)
    return tiny, tiny.roll_out(N_STEPS, resets=RESETS)


def decisions_before(tiny: TinyHierarchy, batch, level: int, env: int, step: int) -> list[int]:
    """Steps of the episode at which the level decided before a step."""
    clock = int(batch.get(tiny.keys.clock)[env, step])
    return [step - clock + t for t in range(0, clock, THREE_LEVELS.periods[level])]


def encodings_of(tiny: TinyHierarchy, network, batch, level: int, env: int, step: int, node: int) -> Tensor | None:
    """Mean encoding of the live workers below a node at a step; None where nobody is."""
    row = batch[env, step]
    graph = tiny.hierarchy.graph(row)
    below = (graph.ancestor_index(level) == node) & graph.alive
    return network.encode(row)[below].mean(0) if below.any() else None


@pytest.mark.parametrize("name", MEMORIES)
def test_the_last_decisions_are_kept_with_the_cluster_of_their_time(name):
    """Observations, and who was below whom, of both upper levels, the oldest first."""
    tiny, batch = roll_out(MEMORIES[name])
    moved = False
    for level in (1, 2):
        for env in range(2):
            for step in range(N_STEPS):
                last = decisions_before(tiny, batch, level, env, step)[-2:]
                seen = torch.zeros(2, *batch.get(OBSERVATION).shape[2:], dtype=torch.float64)
                by = torch.zeros(2, 5, dtype=torch.long)
                for slot, t in enumerate(last, start=2 - len(last)):
                    graph = tiny.hierarchy.graph(batch[env, t])
                    seen[slot] = batch.get(OBSERVATION)[env, t]
                    by[slot] = (graph.ancestor_index(level) + 1) * graph.alive
                assert torch.equal(batch.get(tiny.keys.seen(level, "observation"))[env, step], seen)
                assert torch.equal(batch.get(tiny.keys.seen_by(level))[env, step], by)
                moved |= len(last) == 2 and not torch.equal(by[0], by[1])
    assert moved


def expected_by_loop(tiny: TinyHierarchy, memory: Memory, network, batch, level: int, env: int, step: int) -> Tensor:
    """What the memory adds to every node: over the last decisions, or over all of the episode for a recurrent cell."""
    reader, answers = network.memory.network, []
    for node in range(THREE_LEVELS.nodes_at(level)):
        before = decisions_before(tiny, batch, level, env, step)
        past = [encodings_of(tiny, network, batch, level, env, t, node) for t in before]
        if isinstance(memory, WindowMemory):
            slots = [torch.zeros(6, dtype=torch.float64)] * 2 + [
                torch.zeros(6, dtype=torch.float64) if x is None else x for x in past
            ]
            answers.append(reader.read(torch.cat(slots[-2:])))
        else:
            state = torch.zeros(memory.state_size, dtype=torch.float64)
            for x in past:
                state = state if x is None else reader.cell(x, state)
            answers.append(reader.read(state))
    return torch.stack(answers)


@pytest.mark.parametrize("name", MEMORIES)
def test_what_a_node_remembers_is_what_its_workers_told_it(name):
    """A window knows two decisions, a cell all of the episode, though it runs over two and a stored state."""
    tiny, batch = roll_out(MEMORIES[name])
    for level in (1, 2):
        network = tiny.actors[level][0]
        answer = network.memory(batch, network.encode)
        for env in range(2):
            for step in range(N_STEPS):
                expected = expected_by_loop(tiny, MEMORIES[name], network, batch, level, env, step)
                torch.testing.assert_close(answer[env, step], expected, rtol=0, atol=1e-12)
    assert answer.abs().max() > 0.01


@pytest.mark.parametrize("name", MEMORIES)
def test_a_reset_clears_the_memory_of_its_environment_alone(name):
    tiny, batch = roll_out(MEMORIES[name])
    for level in (1, 2):
        for key in tiny.hierarchy.memory_keys(level):
            held = batch.get(key)
            assert not held[:, 0].any()
            assert not held[1, 8].any()
            if key != tiny.keys.memory_state(level) or level == 1:
                assert held[0, 8].any()


@pytest.mark.parametrize("name", MEMORIES)
@pytest.mark.parametrize("is_critic", [False, True])
def test_the_past_reaches_answers_and_trains_the_encoder_through_every_decision_of_the_window(name, is_critic):
    """Actors and critics of both levels, at the third decision; nothing else of the past is read."""
    tiny, batch = roll_out(MEMORIES[name])
    for level, step in ((1, 6), (2, 12)):
        module = tiny.critics[level] if is_critic else tiny.actors[level][0]
        row = batch[0, step].copy()
        seen = row.get(tiny.keys.seen(level, "observation")).clone().requires_grad_()
        row.set(tiny.keys.seen(level, "observation"), seen)
        (gradient,) = torch.autograd.grad(module(row).get(module.out_keys[0]).square().sum(), seen)
        assert torch.equal(gradient.any(-1), row.get(tiny.keys.seen_by(level)) > 0)
        assert not torch.equal(gradient, torch.zeros_like(gradient))


def test_a_level_without_memory_beside_one_with_keeps_nothing():
    tiny = TinyHierarchy(THREE_LEVELS, memory=[None, None, WindowMemory(2)])
    td = tiny.roll_out(2)
    names = {key for key in td.get(tiny.keys.root).keys() if key.startswith("seen")}
    assert names == {"seen_2_observation", "seen_by_2"}
    assert [network[0].memory is None for network in tiny.actors[1:]] == [True, False]


@pytest.mark.parametrize("memory", [None, *MEMORIES.values()], ids=str)
def test_other_parameters_are_drawn_as_without_a_memory(memory):
    """What comes before the first memory is drawn from the same numbers."""
    own_actors, plain_actors = (TinyHierarchy(THREE_LEVELS, memory=m).actors for m in (memory, None))
    for own, other in zip(own_actors[0].parameters(), plain_actors[0].parameters(), strict=True):
        assert torch.equal(own, other)
    names = [name for name, _ in own_actors[1].named_parameters() if "memory" in name]
    assert bool(names) == (memory is not None)


@pytest.mark.parametrize("name", MEMORIES)
@pytest.mark.parametrize("goal", GOALS)
def test_log_probabilities_can_be_computed_again_from_what_is_stored(name, goal):
    """PPO's ratio is 1 until a parameter changes: moving clusters, deaths and an episode that ends in the batch."""
    tiny, batch = roll_out(MEMORIES[name], goal=GOALS[goal])
    clock = batch.get(tiny.keys.clock).squeeze(-1)
    for level, actor in enumerate(tiny.actors):
        keys, is_due = tiny.keys[level], THREE_LEVELS.is_due(clock, level)
        rows = batch.select(*actor.in_keys, keys.action)[is_due]
        again = actor.get_dist(rows).log_prob(rows.get(keys.action))
        torch.testing.assert_close(batch.get(keys.log_prob)[is_due], again, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", MEMORIES)
@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
def test_memories_take_any_batch_shape(name, shape):
    tiny = TinyHierarchy(THREE_LEVELS, memory=MEMORIES[name])
    td = tiny.observe(shape, seed=0)
    for key, value in tiny.carried_zeros(shape).items():
        td.set(tiny.keys.carried(key), value)
    tiny.policy(td)
    for key, zeros in tiny.carried_zeros(shape).items():
        carried = td.get(("next", *tiny.keys.carried(key)))
        assert (carried.shape, carried.dtype) == (zeros.shape, zeros.dtype)


def test_deciding_again_remembers_nothing():
    """A cut asks for the decision that would have come: nothing is stored of it."""
    tiny, batch = roll_out(GruMemory(2, 4))
    after = batch[:, 5].get("next").clone()  # clock 6: all decide
    before = {key: after.get(tiny.keys.carried(key)).clone() for key in tiny.hierarchy.memory_keys(1)}
    tiny.policy.decide(after)
    for key, value in before.items():
        assert torch.equal(after.get(tiny.keys.carried(key)), value)
        assert torch.equal(after.get(key), value)
