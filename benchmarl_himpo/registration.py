"""The one place that touches the registries of BenchMARL, Hydra and OmegaConf."""

from __future__ import annotations

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf


def register() -> None:
    """Make the algorithms of this package known, and the resolver ``auto_device`` that YAML uses.

    BenchMARL fills Hydra's store once, when it is imported, so each algorithm goes both into its
    registry and into the store. Calling this twice changes nothing.
    """
    # Here, so that `import benchmarl_himpo` stays cheap and the algorithms may import `config`.
    from benchmarl.algorithms import algorithm_config_registry as host_registry

    from benchmarl_himpo.algorithms import algorithm_config_registry

    store = ConfigStore.instance()
    for name, config_class in algorithm_config_registry.items():
        host_registry[name] = config_class
        store.store(name=f"{name}_config", group="algorithm", node=config_class)
    OmegaConf.register_new_resolver("auto_device", _auto_device, replace=True)


def _auto_device() -> str:
    """Name the device for configs that leave it open: ``cuda`` if there is one, else ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
