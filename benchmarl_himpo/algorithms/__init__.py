"""HiMPPO and its named variants."""

from benchmarl.algorithms.common import AlgorithmConfig

from benchmarl_himpo.algorithms.himppo import Himppo, HimppoConfig
from benchmarl_himpo.algorithms.variants import (
    Himppo2l,
    Himppo2lConfig,
    HimppoFl,
    HimppoFlat,
    HimppoFlatConfig,
    HimppoFlConfig,
    HimppoHaven,
    HimppoHavenConfig,
    HimppoNl,
    HimppoNlConfig,
    HimppoNomsg,
    HimppoNomsgConfig,
    HimppoPaper,
    HimppoPaperConfig,
    HimppoSg,
    HimppoSgConfig,
)

algorithm_config_registry: dict[str, type[AlgorithmConfig]] = {
    config.yaml_name(): config
    for config in (
        HimppoConfig,
        HimppoPaperConfig,
        HimppoFlConfig,
        HimppoNlConfig,
        HimppoSgConfig,
        Himppo2lConfig,
        HimppoNomsgConfig,
        HimppoHavenConfig,
        HimppoFlatConfig,
    )
}

__all__ = [
    "Himppo",
    "Himppo2l",
    "Himppo2lConfig",
    "HimppoConfig",
    "HimppoFl",
    "HimppoFlConfig",
    "HimppoFlat",
    "HimppoFlatConfig",
    "HimppoHaven",
    "HimppoHavenConfig",
    "HimppoNl",
    "HimppoNlConfig",
    "HimppoNomsg",
    "HimppoNomsgConfig",
    "HimppoPaper",
    "HimppoPaperConfig",
    "HimppoSg",
    "HimppoSgConfig",
    "algorithm_config_registry",
]
