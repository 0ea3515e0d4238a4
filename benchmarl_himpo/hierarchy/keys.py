"""TensorDict keys of HiMPPO's data.

Tensors per agent are under BenchMARL's group key. Tensors per sub-manager or per goal are under a sibling root key
``himppo_<group>``, because a group's own TensorDict has batch shape ``[*B, n_agents]``. Its entry ``carried`` holds the
state at the end of the previous step; the other entries hold the values in effect during the step.
"""

from __future__ import annotations

from dataclasses import dataclass

from tensordict.utils import NestedKey


def dotted(key: NestedKey) -> str:
    """Name of a key in options and messages, with dots for nesting."""
    return ".".join(key) if isinstance(key, tuple) else key


@dataclass(frozen=True)
class LevelKeys:
    """Keys of one level; ``E`` is its number of recipients: the workers at level 0, else the nodes one level down."""

    action: tuple[str, str]  # level 0: the group's action; above: the goals sent, [*B, E, goal_dim]
    log_prob: tuple[str, str]  # [*B, E]
    state_value: tuple[str, str]  # [*B, E, 1]
    advantage: tuple[str, str]  # [*B, E, 1]
    value_target: tuple[str, str]  # [*B, E, 1]
    actor_mask: tuple[str, str]  # [*B, E, 1], bool: actions that train the actor
    critic_mask: tuple[str, str]  # [*B, E, 1], bool: values that train the critic


@dataclass(frozen=True)
class HierarchyKeys:
    """Keys of the hierarchy of one agent group.

    Args:
        group: the agent group.
    """

    group: str

    @property
    def root(self) -> str:
        """The sibling root key."""
        return f"himppo_{self.group}"

    def __getitem__(self, level: int) -> LevelKeys:
        """Keys of a level, 0 being the workers."""
        if level == 0:
            names = ("action", "log_prob", "state_value", "advantage", "value_target", "actor_mask", "critic_mask")
            return LevelKeys(*((self.group, name) for name in names))
        names = ("goal", "goal_log_prob", "state_value", "advantage", "value_target", "actor_mask", "critic_mask")
        return LevelKeys(*((self.root, f"{name}_{level}") for name in names))

    @property
    def clock(self) -> tuple[str, str]:
        """Env steps since reset. ``[*B, 1]``, long."""
        return (self.root, "clock")

    @property
    def parent_index(self) -> tuple[str, str]:
        """Sub-manager of each worker. ``[*B, n_agents]``, long."""
        return (self.root, "parent_index")

    @property
    def centroids(self) -> tuple[str, str]:
        """Cluster centroids of the sub-managers, in world units. ``[*B, n_clusters, 2]``."""
        return (self.root, "centroids")

    def adjacency(self, level: int) -> tuple[str, str]:
        """Adjacency of a level, rows receiving from columns. ``[*B, nodes, nodes]``, bool."""
        return (self.root, f"adjacency_{level}")

    def seen(self, level: int, entry: NestedKey) -> tuple[str, str]:
        """Workers' observations at the last decisions of a level, oldest first. ``[*B, decisions, n_agents, ...]``."""
        return (self.root, f"seen_{level}_{entry if isinstance(entry, str) else '.'.join(entry)}")

    def seen_by(self, level: int) -> tuple[str, str]:
        """1 + node above each worker at these decisions, 0 if dead or unknown. ``[*B, decisions, n_agents]``, long."""
        return (self.root, f"seen_by_{level}")

    def memory_state(self, level: int) -> tuple[str, str]:
        """Recurrent state of the nodes of a level before these decisions. ``[*B, nodes, state_size]``."""
        return (self.root, f"memory_state_{level}")

    def carried(self, key: tuple[str, str]) -> tuple[str, str, str]:
        """Key under which a step finds the previous step's value of ``key``."""
        return (self.root, "carried", key[-1])
