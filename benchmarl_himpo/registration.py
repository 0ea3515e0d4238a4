"""The one place that touches the registries of BenchMARL, Hydra and OmegaConf."""

from __future__ import annotations

import sys

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from benchmarl_himpo.config import CONF_DIR


class HimpoSearchPath(SearchPathPlugin):
    """Appends our ``conf/`` to where Hydra looks, so that files of the program, such as BenchMARL's, win over ours.

    Does nothing in a program that has not imported BenchMARL, since Hydra loads the plugins of all installed packages.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append ``conf/``, unless the program starts from it, as our own commands do.

        Args:
            search_path: where Hydra looks, changed in place.
        """
        if "benchmarl" not in sys.modules:
            return
        register()
        if str(CONF_DIR) not in [element.path.removeprefix("file://") for element in search_path.get_path()]:
            search_path.append("benchmarl_himpo", f"file://{CONF_DIR}")


def register() -> None:
    """Make the algorithms and tasks of this package known, and the resolver ``auto_device`` that YAML uses.

    BenchMARL fills Hydra's store once, when it is imported, so each of ours goes both into its registries and into the
    store. Every Hydra program finds our YAML from then on, after its own. Calling this twice changes nothing.
    """
    # Here, so that `import benchmarl_himpo` stays cheap
    from benchmarl.algorithms import algorithm_config_registry as host_registry
    from benchmarl.environments import task_config_registry

    from benchmarl_himpo.algorithms import algorithm_config_registry
    from benchmarl_himpo.environments.tasks import SCHEMAS, TASKS
    from benchmarl_himpo.host.benchmarl import offer_type_check

    store = ConfigStore.instance()
    for name, config_class in algorithm_config_registry.items():
        host_registry[name] = config_class
        store.store(name=f"{name}_config", group="algorithm", node=config_class)
    task_config_registry.update(TASKS)
    for name, task in TASKS.items():
        offer_type_check(name, task.associated_class().config_class)
    for name, schema in SCHEMAS.items():
        store.store(name=name, group="task", node=schema)
    Plugins.instance().register(HimpoSearchPath)
    OmegaConf.register_new_resolver("auto_device", _auto_device, replace=True)


def _auto_device() -> str:
    """Name the device for configs that leave it open: ``cuda`` if there is one, else ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
