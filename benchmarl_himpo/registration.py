"""The one place that touches the registries of BenchMARL, Hydra and OmegaConf."""

from __future__ import annotations

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf


def register() -> None:
    """Make the algorithms and tasks of this package known, and the resolver ``auto_device`` that YAML uses.

    BenchMARL fills Hydra's store once, when it is imported, so each of ours goes both into its
    registry and into the store. Calling this twice changes nothing.
    """
    # Here, so that `import benchmarl_himpo` stays cheap and the algorithms may import `config`.
    from benchmarl.algorithms import algorithm_config_registry as host_registry
    from benchmarl.environments import task_config_registry

    from benchmarl_himpo.algorithms import algorithm_config_registry
    from benchmarl_himpo.environments.tasks import SCHEMAS, TASKS

    store = ConfigStore.instance()
    for name, config_class in algorithm_config_registry.items():
        host_registry[name] = config_class
        store.store(name=f"{name}_config", group="algorithm", node=config_class)
    task_config_registry.update(TASKS)
    for name, schema in SCHEMAS.items():
        store.store(name=name, group="task", node=schema)
    OmegaConf.register_new_resolver("auto_device", _auto_device, replace=True)


def _auto_device() -> str:
    """Name the device for configs that leave it open: ``cuda`` if there is one, else ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
