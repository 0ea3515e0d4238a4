"""The one place that touches the registries of BenchMARL, Hydra and OmegaConf, and that loads plug-ins."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from benchmarl_himpo.config import CONF_DIR, added_yaml_folders, snake_case

if TYPE_CHECKING:
    from benchmarl.algorithms.common import AlgorithmConfig
    from benchmarl.environments import Task

PLUGIN_GROUP = "benchmarl_himpo.plugins"
"""Entry points of other distributions: callables without arguments that register what a plug-in has."""
_schemas: dict[str, type] = {}
_loaded_plugins: set[tuple[str, str]] = set()


class PluginError(RuntimeError):
    """A plug-in that is installed cannot be loaded."""


class HimpoSearchPath(SearchPathPlugin):
    """Appends our ``conf/`` and the folders of plug-ins to where Hydra looks.

    Files of the program, such as BenchMARL's, win over ours. Does nothing in a program that has not imported BenchMARL,
    since Hydra loads the plugins of all installed packages.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the folders, without ``conf/`` in a program that starts from it, as our own commands do."""
        if "benchmarl" not in sys.modules:
            return
        register()
        known = [element.path.removeprefix("file://") for element in search_path.get_path()]
        for folder in (CONF_DIR, *added_yaml_folders()):
            if str(folder) not in known:
                search_path.append("benchmarl_himpo", f"file://{folder}")


def register() -> None:
    """Make known the algorithms and tasks of this package and of all plug-ins, and the resolver ``auto_device``.

    BenchMARL fills Hydra's store once, when it is imported, so each of ours goes both into its registries and into the
    store. Every Hydra program finds our YAML from then on, after its own. Calling this twice changes nothing.

    Raises:
        PluginError: if a plug-in cannot be loaded.
    """
    # Here, so that `import benchmarl_himpo` stays cheap
    from benchmarl_himpo.algorithms import algorithm_config_registry
    from benchmarl_himpo.environments.tasks import TASKS

    for config_class in algorithm_config_registry.values():
        register_algorithm(config_class)
    for task in TASKS.values():
        register_task(task)
    Plugins.instance().register(HimpoSearchPath)
    OmegaConf.register_new_resolver("auto_device", _auto_device, replace=True)
    for plugin in entry_points(group=PLUGIN_GROUP):
        _load_plugin(plugin)


def register_algorithm(config_class: type[AlgorithmConfig]) -> None:
    """Make an algorithm known to BenchMARL and to every command.

    Its name is that of its class in snake case, ``himppo_2l`` for ``Himppo2l``, and so is that of its YAML file,
    ``algorithm/<name>.yaml``, which inherits the schema ``<name>_config``.

    Args:
        config_class: the dataclass of its options.

    Raises:
        ValueError: if another algorithm has the name.
    """
    from benchmarl.algorithms import algorithm_config_registry

    name = snake_case(config_class.associated_class().__name__)
    _add(algorithm_config_registry, name, config_class, f"algorithm={name}")
    _store("algorithm", f"{name}_config", config_class)


def register_task(task: Task) -> None:
    """Make a task known to BenchMARL and to every command, as ``<environment>/<name of the member>``.

    Its options are in ``task/<environment>/<name>.yaml``. If its class has an attribute ``config_class``, the dataclass
    of the options, they are checked: the file may inherit the schema, which is called as the dataclass in snake case.

    Args:
        task: the member of BenchMARL's enum.

    Raises:
        ValueError: if another task, or another schema, has the name.
    """
    from benchmarl.environments import task_config_registry

    from benchmarl_himpo.host.benchmarl import offer_type_check

    name = f"{task.env_name()}/{task.name.lower()}"
    _add(task_config_registry, name, task, f"task={name}")
    options = getattr(task.associated_class(), "config_class", None)
    if options is None:
        return
    schema = snake_case(options.__name__)
    _add(_schemas, schema, options, f"the schema task/{schema}")
    _store("task", schema, options)
    offer_type_check(name, options)


def describe_plugins() -> str:
    """Name the distributions whose plug-ins are installed, with their versions; ``none``."""
    names = {f"{plugin.dist.name} {plugin.dist.version}" for plugin in entry_points(group=PLUGIN_GROUP) if plugin.dist}
    return ", ".join(sorted(names)) or "none"


def _load_plugin(plugin: EntryPoint) -> None:
    """Let a plug-in register what it has, once in a process."""
    key = (plugin.name, plugin.value)
    if key in _loaded_plugins:
        return
    _loaded_plugins.add(key)  # before it is called, as it may call register() itself
    try:
        plugin.load()()
    except Exception as error:
        _loaded_plugins.remove(key)
        distribution = plugin.name if plugin.dist is None else f"{plugin.dist.name} {plugin.dist.version}"
        raise PluginError(
            f"the plug-in of {distribution} ({plugin.value}) cannot be loaded ({type(error).__name__}: {error}): mend "
            "or uninstall it"
        ) from error


def _add(registry: dict[str, Any], name: str, value: object, option: str) -> None:
    """Add an entry, or a newer version of it, and refuse to replace another one."""
    known = registry.get(name, value)
    if _where(known) != _where(value):
        raise ValueError(f"{option} is {_where(known)} already, and cannot be {_where(value)} too: choose another name")
    registry[name] = value


def _store(group: str, name: str, schema: type) -> None:
    """Put a schema into Hydra's store where it is not in it: it takes a third of the time of a composition."""
    stored = ConfigStore.instance().repo.get(group, {}).get(f"{name}.yaml")
    if stored is None or OmegaConf.get_type(stored.node) is not schema:
        ConfigStore.instance().store(name=name, group=group, node=schema)


def _where(value: object) -> str:
    """Where a class, or that of an enum's member, is defined."""
    class_ = value if isinstance(value, type) else type(value)
    return f"{class_.__module__}.{class_.__qualname__}"


def _auto_device() -> str:
    """Name the device for configs that leave it open: ``cuda`` if there is one, else ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
