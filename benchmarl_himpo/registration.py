"""The one place that touches BenchMARL's registries, Hydra's ConfigStore and OmegaConf's resolvers."""

from __future__ import annotations

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf


def register() -> None:
    """Make BenchMARL and Hydra know the algorithms and the ``auto_device`` resolver of this package.

    BenchMARL fills Hydra's store once, when it is imported, so each algorithm goes both into its registry and into
    the store. Calling this twice changes nothing.
    """
    # Imported here, so that `import benchmarl_himpo` stays cheap and the algorithms may import `config`.
    from benchmarl.algorithms import algorithm_config_registry as host_registry

    from benchmarl_himpo.algorithms import algorithm_config_registry

    store = ConfigStore.instance()
    for name, config_class in algorithm_config_registry.items():
        host_registry[name] = config_class
        store.store(name=f"{name}_config", group="algorithm", node=config_class)
    OmegaConf.register_new_resolver("auto_device", _auto_device, replace=True)


def _auto_device() -> str:
    """Name the device to use where a config leaves the choice open: ``cuda`` if there is one, else ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
