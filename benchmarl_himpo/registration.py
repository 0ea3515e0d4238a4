"""Registers algorithms and tasks with BenchMARL, Hydra and OmegaConf, and loads plug-ins. No other module does."""

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
"""Entry points of other distributions: callables without arguments that register a plug-in's algorithms and tasks."""
_schemas: dict[str, type] = {}
_loaded_plugins: set[tuple[str, str]] = set()


class PluginError(RuntimeError):
    """An installed plug-in cannot be loaded."""


class HimpoSearchPath(SearchPathPlugin):
    """Appends our ``conf/`` and the folders of plug-ins to Hydra's search path.

    Files of the program, such as BenchMARL's, take precedence over ours. The search path is unchanged in a program that
    has not imported BenchMARL, since Hydra loads the plugins of all installed packages.
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
    """Register the algorithms and tasks of this package and of all plug-ins, and the resolver ``auto_device``.

    BenchMARL fills Hydra's store once, when it is imported, so each entry goes both into its registries and into the
    store. Every Hydra program finds our YAML from then on, after its own. A second call changes nothing.

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
    """Register an algorithm with BenchMARL and with every command.

    The algorithm's name is its class name in snake case, such as ``himppo_2l`` for ``Himppo2l``. Its YAML file is
    ``algorithm/<name>.yaml``, which inherits the schema ``<name>_config``.

    Args:
        config_class: the dataclass of the algorithm's options.

    Raises:
        ValueError: if another algorithm has the name.
    """
    from benchmarl.algorithms import algorithm_config_registry

    name = snake_case(config_class.associated_class().__name__)
    _add(algorithm_config_registry, name, config_class, f"algorithm={name}")
    _store("algorithm", f"{name}_config", config_class)


def register_task(task: Task) -> None:
    """Register a task with BenchMARL and with every command, as ``<environment>/<name of the member>``.

    The task's options are in ``task/<environment>/<name>.yaml``. If the task's class has an attribute ``config_class``,
    the dataclass of the options, their types are checked; the schema is named after the dataclass, in snake case.

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
    """Name and version of every distribution with an installed plug-in; ``none`` without any."""
    names = {f"{plugin.dist.name} {plugin.dist.version}" for plugin in entry_points(group=PLUGIN_GROUP) if plugin.dist}
    return ", ".join(sorted(names)) or "none"


def _load_plugin(plugin: EntryPoint) -> None:
    """Call the entry point of a plug-in, once per process."""
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
            f"the plug-in of {distribution} ({plugin.value}) cannot be loaded ({type(error).__name__}: {error}): fix "
            "or uninstall the distribution"
        ) from error


def _add(registry: dict[str, Any], name: str, value: object, option: str) -> None:
    """Add an entry or a newer version of the same class; an entry of another class is never replaced."""
    known = registry.get(name, value)
    if _where(known) != _where(value):
        raise ValueError(f"{option} is already {_where(known)}, not {_where(value)}: choose another name")
    registry[name] = value


def _store(group: str, name: str, schema: type) -> None:
    """Put a schema into Hydra's store unless the store has it: storing takes a third of the time of a composition."""
    stored = ConfigStore.instance().repo.get(group, {}).get(f"{name}.yaml")
    if stored is None or OmegaConf.get_type(stored.node) is not schema:
        ConfigStore.instance().store(name=name, group=group, node=schema)


def _where(value: object) -> str:
    """Qualified name of a class, or of the class of an enum's member."""
    class_ = value if isinstance(value, type) else type(value)
    return f"{class_.__module__}.{class_.__qualname__}"


def _auto_device() -> str:
    """Default device of a config: ``cuda`` if a GPU is available, else ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
