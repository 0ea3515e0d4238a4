"""Communication of a deployed policy whose nodes are separate machines: messages and bytes.

Workers run on the agents, every upper node on a separate machine (nodes on the same machine save their messages). Each
worker runs the encoders of all levels on the levels' views of its observation and sends the encodings up, so a superior
may receive information that its workers' own networks do not see. Nodes forward mean and count of encodings to higher
levels. Each node is assumed to know its own edges of the task. If goals are not received, upper levels are unused at
execution.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from benchmarl.models import Gnn

from benchmarl_himpo.harness.runs import ResumableExperiment
from benchmarl_himpo.hierarchy import HierarchyLayout
from benchmarl_himpo.models import HierarchicalPolicy, LevelNetwork

FLOAT_BYTES, INDEX_BYTES = 4, 8
"""Bytes of a float32 and of an int64, the dtypes of the step functions."""
CENTRE = "centre"
"""Node that computes a clustering that needs all positions."""


@dataclass(frozen=True)
class Flow:
    """Messages of one kind that one node receives.

    If the number of messages varies, it is counted at run time, by receiving level and kind of sender: ``neighbours``,
    ``subordinates``, ``others`` (all live nodes) or ``alive`` (the same, to one receiver); None if it is constant.
    """

    receiver: str  # name of the kind of node: ``worker``, ``level 1``, ``centre``
    what: str  # content and sender
    n_bytes: int  # size of a message
    every: int  # env steps from one exchange to the next
    n_worst: int  # messages per exchange, at most
    n_all: float  # messages per exchange that all nodes of the kind receive together, at most
    counted: tuple[int, str] | None = None


def list_flows(policy: HierarchicalPolicy, goal_dim: int, layout: HierarchyLayout | None = None) -> Iterator[Flow]:
    """List the messages that the nodes of a group's policy receive, workers first.

    Args:
        policy: the policy.
        goal_dim: size of a goal.
        layout: sizes and clocks; None: those in effect, which differ from the final ones during annealing.
    """
    layout = policy.hierarchy.layout if layout is None else layout
    if not policy.hierarchy.send_goals:
        yield from _neighbour_flows(policy, layout, 0)
        return
    for level in range(layout.n_levels):
        yield from _neighbour_flows(policy, layout, level)
        if level > 0:
            yield from _subordinate_flows(policy, layout, level)
        if level < layout.top:
            period = layout.periods[level + 1]
            n_bytes = FLOAT_BYTES * goal_dim
            yield Flow(name_of(level), "goal from the superior", n_bytes, period, 1, layout.nodes_at(level))
    if layout.top > 0 and not policy.hierarchy.clustering.is_local:
        n, period = layout.n_agents, layout.periods[1]
        yield Flow("worker", "sub-manager's index from the centre", INDEX_BYTES, period, 1, n)
        yield Flow(CENTRE, "positions of the workers", 2 * FLOAT_BYTES, period, n, n, (0, "alive"))


def _neighbour_flows(policy: HierarchicalPolicy, layout: HierarchyLayout, level: int) -> Iterator[Flow]:
    network, name = _network(policy, level), name_of(level)
    n, every = layout.nodes_at(level), layout.periods[level]
    n_others = n - 1
    if network is None or n_others == 0:
        return
    n_bytes = FLOAT_BYTES * network.hidden_dim
    if network.messages is not None:
        neighbours = policy.hierarchy.neighbours_at(level)
        worst = neighbours.max_degree(n)
        if not neighbours.is_local:
            what = "positions of the others, to know the neighbours"
            yield Flow(name, what, 2 * FLOAT_BYTES, every, n_others, n * n_others, (level, "others"))
        for number in range(1, len(network.messages.convs) + 1):
            what = f"neighbours' states, round {number}"
            yield Flow(name, what, n_bytes, every, worst, n * worst, (level, "neighbours"))
    if network.team_state:
        what = "states of the team, for their mean"
        yield Flow(name, what, n_bytes, every, n_others, n * n_others, (0, "others"))


def _subordinate_flows(policy: HierarchicalPolicy, layout: HierarchyLayout, level: int) -> Iterator[Flow]:
    """Encodings for the level itself and for forwarding to higher levels; positions, if these need them."""
    hierarchy = policy.hierarchy
    senders = layout.nodes_at(level - 1)
    if level == 1 and hierarchy.clustering.is_moving:
        worst = layout.n_agents  # all workers in one cluster
    else:
        worst = int(layout.static_parent_index(level).bincount().max())
    for reader_level in range(level, layout.n_levels):
        network = _network(policy, reader_level)
        assert network is not None  # upper levels have one
        sizes = {"encodings": network.hidden_dim}
        if hierarchy.exchanges(reader_level) and hierarchy.neighbours_at(reader_level).needs_position:
            sizes["positions"] = 2
        for sent, size in sizes.items():
            what = f"{sent} from subordinates"
            if reader_level > level:
                what += f", to pass on to level {reader_level}"
            n_bytes = FLOAT_BYTES * (size + (level > 1))  # a mean over several workers comes with their number
            every = layout.periods[reader_level]
            yield Flow(name_of(level), what, n_bytes, every, worst, senders, (level, "subordinates"))


def _network(policy: HierarchicalPolicy, level: int) -> LevelNetwork | None:
    """The network of a level; None for workers with the plain model, which receives no messages."""
    return next((module for module in policy.actors[level].modules() if isinstance(module, LevelNetwork)), None)


def name_of(level: int) -> str:
    """Name the nodes of a level."""
    return "worker" if level == 0 else f"level {level}"


def count_per_agent(flows: Iterable[Flow], n_agents: int) -> dict[str, float]:
    """Maximal ``messages`` and ``bytes`` of all nodes per env step and agent, with all agents alive."""
    per_step = [(flow.n_all / flow.every, flow.n_bytes) for flow in flows]
    return {
        "messages": sum(n for n, _ in per_step) / n_agents,
        "bytes": sum(n * n_bytes for n, n_bytes in per_step) / n_agents,
    }


def communication_of(experiment: ResumableExperiment) -> dict[str, float]:
    """Communication of all groups at execution after training, see :func:`count_per_agent`.

    Zero for algorithms without levels, which exchange no messages at execution; empty for policies that are graph
    networks, whose messages are not counted.
    """
    flows: list[Flow] = []
    for policy in experiment.group_policies.values():
        if isinstance(policy, HierarchicalPolicy):
            # The final intervals, which an untrained experiment does not have yet
            final = replace(policy.hierarchy.layout, annealing=None)
            flows += list_flows(policy, experiment.algorithm.goal_dim, final)
        elif any(isinstance(module, Gnn) for module in policy.modules()):
            return {}
    return count_per_agent(flows, sum(map(len, experiment.group_map.values())))
