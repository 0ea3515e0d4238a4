"""Audit of the hierarchy: evaluate a policy on the same episodes with one perturbation at a time.

Goals of a level count as used only if the return falls for each way to remove their content: zeros, their mean, or the
goals of another team instead. If one of these has no effect, the goals are not shown to be used, whatever the return. A
perturbation changes only the received goals: senders, clocks and carried goals are unchanged, except for the goals of
an untrained actor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictSequential
from torch import Tensor
from tqdm import tqdm

from benchmarl_himpo.algorithms import Himppo
from benchmarl_himpo.harness.evaluation.episodes import has_hierarchies, play, seed_environment
from benchmarl_himpo.harness.evaluation.goal_choices import GoalChoice, GoalChoices
from benchmarl_himpo.harness.runs import ResumableExperiment
from benchmarl_himpo.harness.statistics import Estimate, estimate_difference, estimate_mean
from benchmarl_himpo.hierarchy import StaticClustering
from benchmarl_himpo.models import HierarchicalPolicy

Change = Callable[[Tensor, Tensor], Tensor]
"""Takes goals ``[*B, E, goal_dim]`` and env steps since reset ``[*B]``, returns the goals received instead."""

ZEROED, CONSTANT, PERMUTED = "goals zeroed", "goals constant, their mean", "goals shuffled across environments"
TESTS = (ZEROED, CONSTANT, PERMUTED)
"""Perturbations that remove the content of goals: if goals are used, each one reduces the return."""


@dataclass(frozen=True)
class Perturbation:
    """A perturbation of one part of a hierarchy."""

    name: str  # label in the table
    level: int | None  # level whose goals are changed before they are received; None for other perturbations
    build: Callable[[AuditedPolicy], HierarchicalPolicy]  # builds a new perturbed policy of a group


@dataclass(frozen=True)
class AuditRow:
    """Effect of a perturbation on the return per agent."""

    name: str
    level: int | None
    value: Estimate  # of the perturbed policy
    effect: Estimate  # perturbed minus intact, on the same episodes


class PerturbedPolicy(HierarchicalPolicy):
    """A policy with changed goals of one level.

    Args:
        policy: the policy whose networks are used.
        level: the level whose goals are changed before they are received.
        change: the change.
    """

    def __init__(self, policy: HierarchicalPolicy, level: int, change: Change) -> None:
        super().__init__(policy.hierarchy, list(policy.actors))
        self.level = level
        self.change = change

    def read(self, tensordict: TensorDictBase, level: int) -> TensorDictBase:
        """Inputs of the actor of a level, with changed goals if the perturbed level sends them."""
        read = super().read(tensordict, level)
        if level + 1 == self.level:
            key = self.hierarchy.keys[self.level].action
            clock = tensordict.get(self.hierarchy.keys.clock).squeeze(-1)
            read.set(key, self.change(read.get(key), clock))
        return read


class FirstGoal:
    """Holds the goals of an episode's first step for the whole episode."""

    def __init__(self) -> None:
        self.goal: Tensor | None = None

    def __call__(self, goal: Tensor, clock: Tensor) -> Tensor:
        """Return the first goals of the episode."""
        if self.goal is None:
            self.goal = goal
        self.goal = torch.where((clock == 0)[..., None, None], goal, self.goal)
        return self.goal


class AuditedPolicy(HierarchicalPolicy):
    """The intact policy, which records the goals that its subordinates receive.

    Args:
        policy: the policy.
        untrained: an untrained policy with the same networks.

    Attributes:
        choices: counts of received categorical goals.
    """

    def __init__(self, policy: HierarchicalPolicy, untrained: HierarchicalPolicy) -> None:
        super().__init__(policy.hierarchy, list(policy.actors))
        self.untrained = untrained
        self.choices = GoalChoices(policy.hierarchy)
        self._received: dict[int, tuple[Tensor, int]] = {}  # by level, the sum over so many steps

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Run the policy; records categorical goals and actions."""
        tensordict = super().forward(tensordict)
        self.choices.watch(tensordict)
        return tensordict

    def read(self, tensordict: TensorDictBase, level: int) -> TensorDictBase:
        """Inputs of the actor of a level; records their goals."""
        goal = self.hierarchy.received_goal(tensordict, level)
        if goal is not None:
            rows = goal.reshape(-1, *goal.shape[-2:])
            total, n = self._received.get(level, (torch.zeros_like(rows[0]), 0))
            self._received[level] = (total + rows.sum(0), n + len(rows))
        return super().read(tensordict, level)

    def mean_goal(self, level: int) -> Tensor:
        """Mean over steps and environments of the goals that a level sent. Shape ``[E, goal_dim]``."""
        total, n = self._received[level - 1]
        return total / n


class SilentPolicy(HierarchicalPolicy):
    """A policy without messages between neighbours, at any level; the mean state of the team stays (``team_state``)."""

    def __init__(self, policy: HierarchicalPolicy) -> None:
        super().__init__(policy.hierarchy, list(policy.actors))

    def connect(self, tensordict: TensorDictBase) -> None:
        """Write empty adjacencies."""
        super().connect(tensordict)
        for key in self.edge_keys:
            tensordict.set(key, torch.zeros_like(tensordict.get(key)))


class ForgetfulPolicy(HierarchicalPolicy):
    """A policy with empty memories, at every level."""

    def __init__(self, policy: HierarchicalPolicy) -> None:
        super().__init__(policy.hierarchy, list(policy.actors))

    def read(self, tensordict: TensorDictBase, level: int) -> TensorDictBase:
        """Inputs of the actor of a level, with an empty memory."""
        read = super().read(tensordict, level)
        return read.update({key: torch.zeros_like(read.get(key)) for key in self.hierarchy.memory_keys(level)})


def zero(goal: Tensor, clock: Tensor) -> Tensor:
    """No goal."""
    return torch.zeros_like(goal)


def hold(constant: Tensor) -> Change:
    """The same goals at every step in every environment. ``constant``: shape ``[E, goal_dim]``."""
    return lambda goal, clock: constant.expand(goal.shape)


def shuffle_edges(goal: Tensor, clock: Tensor) -> Tensor:
    """The goal of the next subordinate."""
    return goal.roll(1, dims=-2)


def shuffle_environments(goal: Tensor, clock: Tensor) -> Tensor:
    """The goals of the team in the next environment."""
    return goal.roll(1, dims=0)


def list_perturbations(policies: Sequence[HierarchicalPolicy], has_batch: bool) -> Iterator[Perturbation]:
    """List what can be perturbed in any group, the workers' goals first; a single edge is not shuffled across edges.

    Args:
        policies: the policy of each group, with equally many levels.
        has_batch: whether there are several environments, whose goals can be exchanged.
    """
    layouts = [policy.hierarchy.layout for policy in policies]
    for level in range(1, layouts[0].n_levels):
        changes: dict[str, Callable[[AuditedPolicy, int], Change]] = {
            ZEROED: lambda policy, level: zero,
            CONSTANT: lambda policy, level: hold(policy.mean_goal(level)),
            "goals frozen at the first": lambda policy, level: FirstGoal(),
        }
        if has_batch:
            changes[PERMUTED] = lambda policy, level: shuffle_environments
        if any(layout.n_recipients(level) > 1 for layout in layouts):
            changes["goals shuffled across subordinates"] = lambda policy, level: shuffle_edges
        for name, make_change in changes.items():
            yield Perturbation(name, level, partial(_with_changed_goals, level, make_change))
        yield Perturbation("goals random, of an untrained actor", level, partial(_with_untrained_actor, level))
    if layouts[0].top > 0:
        yield Perturbation("graph made static", None, _with_static_graph)
    yield Perturbation("messages cut", None, SilentPolicy)
    if any(policy.remembering for policy in policies):
        yield Perturbation("memories emptied", None, ForgetfulPolicy)


def audit(
    experiment: ResumableExperiment, seed: int, confidence: float
) -> tuple[Estimate, list[AuditRow], dict[str, list[GoalChoice]]]:
    """Evaluate the intact and every perturbed policy of a loaded experiment (``load_trained``) on the same episodes.

    Returns:
        The return of the intact policy per agent, a row for each perturbation, and the received categorical goals of
        every group, empty for vector goals.

    Raises:
        ValueError: if the run has no hierarchy, or its environment cannot repeat episodes.
    """
    groups = experiment.group_policies
    if not has_hierarchies(experiment):
        raise ValueError(
            f"an audit asks for a hierarchy, which {experiment.algorithm_name} has not: give a run of HiMPPO, such as "
            "one of algorithm=himppo"
        )
    if not seed_environment(experiment, seed):
        raise ValueError(f"an audit compares the same episodes, which {experiment.environment_name} cannot repeat")
    policies = [AuditedPolicy(policy, _untrained(experiment, group, seed)) for group, policy in groups.items()]
    intact = play(experiment, seed, TensorDictSequential(*policies)).per_agent
    has_batch = experiment.test_env.batch_size != ()
    perturbations = list(list_perturbations(policies, has_batch))
    rows = []
    for perturbation in tqdm(perturbations, desc="perturbations"):
        perturbed = TensorDictSequential(*(perturbation.build(policy) for policy in policies))
        returns = play(experiment, seed, perturbed).per_agent
        rows.append(
            AuditRow(
                name=perturbation.name,
                level=perturbation.level,
                value=estimate_mean(returns, confidence),
                effect=estimate_difference(returns, intact, confidence),
            )
        )
    choices = {group: list(policy.choices) for group, policy in zip(groups, policies, strict=True)}
    return estimate_mean(intact, confidence), rows, choices


def judge(rows: list[AuditRow]) -> list[str]:
    """One sentence per level on whether its goals are used, then on graph, messages and memories.

    Goals are used if each of :data:`TESTS` reduces the return; since all have to, multiple testing needs no correction.
    """
    verdicts = []
    for level in sorted({row.level for row in rows if row.level is not None}):
        effects = {row.name: row.effect for row in rows if row.level == level}
        without = {name: effects.get(name) for name in TESTS}
        harmless = {name: effect for name, effect in without.items() if effect is None or not effect.high < 0}
        said = ", ".join(
            f"{name} {effect or '(cannot be tested here)'}" for name, effect in (harmless or without).items()
        )
        if harmless:
            verdicts.append(f"level {level}: its goals are not shown to be used; no significant loss with {said}")
        else:
            verdicts.append(f"level {level}: its goals are used; the return falls with {said}")
    for row in rows:
        if row.level is None:
            effect = "matters" if row.effect.high < 0 or row.effect.low > 0 else "no significant effect"
            verdicts.append(f"{row.name}: {effect}, {row.effect}")
    return verdicts


def _untrained(experiment: ResumableExperiment, group: str, seed: int) -> HierarchicalPolicy:
    """A policy of a group with untrained networks, determined by the seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return cast("Himppo", experiment.algorithm).untrained_policy(group)


def _with_changed_goals(
    level: int, make_change: Callable[[AuditedPolicy, int], Change], policy: AuditedPolicy
) -> HierarchicalPolicy:
    return PerturbedPolicy(policy, level, make_change(policy, level))


def _with_untrained_actor(level: int, policy: AuditedPolicy) -> HierarchicalPolicy:
    actors = list(policy.actors)
    actors[level] = policy.untrained.actors[level]
    return HierarchicalPolicy(policy.hierarchy, actors)


def _with_static_graph(policy: HierarchicalPolicy) -> HierarchicalPolicy:
    return HierarchicalPolicy(replace(policy.hierarchy, clustering=StaticClustering()), list(policy.actors))
