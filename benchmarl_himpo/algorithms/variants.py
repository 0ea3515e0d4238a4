"""Named algorithms: HiMPPO with other values in its YAML, and a class each, for a name of its own in logs and files."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarl.algorithms.common import Algorithm

from benchmarl_himpo.algorithms.himppo import Himppo, HimppoConfig


class HimppoPaper(Himppo):
    """What the source states, frozen: three levels, alpha = 5, K = 2, uniform credit, lambda 0.95 / 0 / 0."""


class HimppoFl(Himppo):
    """The paper's FL on our default: workers also get the external reward; nearly redundant with telescoped credit."""


class HimppoNl(Himppo):
    """The paper's NL on our default: sub-managers get no local reward."""


class HimppoSg(Himppo):
    """The paper's SG on our default: the hierarchical graph is static."""


class Himppo2l(Himppo):
    """Two levels, one manager above the workers (depth 2 of the paper)."""


class HimppoNomsg(Himppo):
    """No messages between neighbours at any level (our choice of ablation)."""


class HimppoHaven(Himppo2l):
    """HAVEN-style pay (https://arxiv.org/abs/2110.07246, our reading): A / k plus the external reward for workers."""


class HimppoFlat(Himppo):
    """Depth 1: flat message-passing PPO, given the pooled team state (our equal-information control)."""


@dataclass
class HimppoPaperConfig(HimppoConfig):
    """Configuration dataclass for :class:`HimppoPaper`."""

    @staticmethod
    def associated_class() -> type[Algorithm]:
        """The algorithm class associated to the config."""
        return HimppoPaper


@dataclass
class HimppoFlConfig(HimppoConfig):
    """Configuration dataclass for :class:`HimppoFl`."""

    @staticmethod
    def associated_class() -> type[Algorithm]:
        """The algorithm class associated to the config."""
        return HimppoFl


@dataclass
class HimppoNlConfig(HimppoConfig):
    """Configuration dataclass for :class:`HimppoNl`."""

    @staticmethod
    def associated_class() -> type[Algorithm]:
        """The algorithm class associated to the config."""
        return HimppoNl


@dataclass
class HimppoSgConfig(HimppoConfig):
    """Configuration dataclass for :class:`HimppoSg`."""

    @staticmethod
    def associated_class() -> type[Algorithm]:
        """The algorithm class associated to the config."""
        return HimppoSg


@dataclass
class Himppo2lConfig(HimppoConfig):
    """Configuration dataclass for :class:`Himppo2l`."""

    @staticmethod
    def associated_class() -> type[Algorithm]:
        """The algorithm class associated to the config."""
        return Himppo2l


@dataclass
class HimppoNomsgConfig(HimppoConfig):
    """Configuration dataclass for :class:`HimppoNomsg`."""

    @staticmethod
    def associated_class() -> type[Algorithm]:
        """The algorithm class associated to the config."""
        return HimppoNomsg


@dataclass
class HimppoHavenConfig(Himppo2lConfig):
    """Configuration dataclass for :class:`HimppoHaven`."""

    @staticmethod
    def associated_class() -> type[Algorithm]:
        """The algorithm class associated to the config."""
        return HimppoHaven


@dataclass
class HimppoFlatConfig(HimppoConfig):
    """Configuration dataclass for :class:`HimppoFlat`."""

    @staticmethod
    def associated_class() -> type[Algorithm]:
        """The algorithm class associated to the config."""
        return HimppoFlat
