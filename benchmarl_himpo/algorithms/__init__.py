"""HiMPPO and its named variants."""

from benchmarl_himpo.algorithms.himppo import Himppo, HimppoConfig
from benchmarl_himpo.algorithms.variants import (
    Himppo2l,
    Himppo2lConfig,
    HimppoCosine,
    HimppoCosineConfig,
    HimppoDial,
    HimppoDialConfig,
    HimppoFl,
    HimppoFlat,
    HimppoFlatConfig,
    HimppoFlConfig,
    HimppoHaven,
    HimppoHavenConfig,
    HimppoNl,
    HimppoNlConfig,
    HimppoNogoal,
    HimppoNogoalConfig,
    HimppoNomsg,
    HimppoNomsgConfig,
    HimppoPaper,
    HimppoPaperConfig,
    HimppoSg,
    HimppoSgConfig,
    variant,
)

algorithm_config_registry: dict[str, type[HimppoConfig]] = {
    config.yaml_name(): config
    for config in (
        HimppoConfig,
        HimppoPaperConfig,
        HimppoFlConfig,
        HimppoNlConfig,
        HimppoSgConfig,
        Himppo2lConfig,
        HimppoNomsgConfig,
        HimppoNogoalConfig,
        HimppoHavenConfig,
        HimppoFlatConfig,
        HimppoCosineConfig,
        HimppoDialConfig,
    )
}
"""Every algorithm of this package by its name on the command line."""

__all__ = [
    "Himppo",
    "Himppo2l",
    "Himppo2lConfig",
    "HimppoConfig",
    "HimppoCosine",
    "HimppoCosineConfig",
    "HimppoDial",
    "HimppoDialConfig",
    "HimppoFl",
    "HimppoFlConfig",
    "HimppoFlat",
    "HimppoFlatConfig",
    "HimppoHaven",
    "HimppoHavenConfig",
    "HimppoNl",
    "HimppoNlConfig",
    "HimppoNogoal",
    "HimppoNogoalConfig",
    "HimppoNomsg",
    "HimppoNomsgConfig",
    "HimppoPaper",
    "HimppoPaperConfig",
    "HimppoSg",
    "HimppoSgConfig",
    "algorithm_config_registry",
    "variant",
]
