"""Finds YAML files, and reads a file together with the files that it inherits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

from omegaconf import DictConfig, OmegaConf

from benchmarl_himpo.host.benchmarl_files import conf_dir


def _find_conf_dir() -> Path:
    """Find the folder of YAML files: inside the package in a wheel, next to the package in a checkout."""
    package_dir = Path(__file__).resolve().parent
    inside = package_dir / "conf"
    return inside if inside.is_dir() else package_dir.parent / "conf"


CONF_DIR = _find_conf_dir()
"""Absolute path of the folder that holds ``config.yaml``."""
_ADDED: list[Path] = []


def added_yaml_folders() -> tuple[Path, ...]:
    """The folders added by :func:`add_yaml_folder`, in order."""
    return tuple(_ADDED)


def yaml_folders() -> tuple[Path, ...]:
    """Search path of YAML files: our folder, added folders, BenchMARL's folder."""
    return (CONF_DIR, *_ADDED, conf_dir())


def add_yaml_folder(folder: str | Path) -> None:
    """Add a folder of YAML files, which may inherit all others, to the search path of commands and :func:`load_yaml`.

    Args:
        folder: a folder with ``task/<environment>/<task>.yaml``, ``algorithm/<algorithm>.yaml`` and so on.

    Raises:
        ValueError: if the folder does not exist, or a file of the same name exists in another folder.
    """
    added = Path(folder).resolve()
    if not added.is_dir():
        raise ValueError(f"the folder of YAML files {added} does not exist")
    if added in yaml_folders():
        return
    for file in sorted(added.rglob("*.yaml")):
        name = file.relative_to(added)
        taken = next((other / name for other in yaml_folders() if (other / name).is_file()), None)
        if taken is not None:
            raise ValueError(f"{file} has the name of {taken}: give it another one")
    _ADDED.append(added)


def snake_case(name: str) -> str:
    """Name of a class in snake case, as in YAML files, such as ``himppo_2l_config`` for ``Himppo2lConfig``."""
    return re.sub(r"(?<!^)(?=[A-Z])|(?<=[a-z])(?=\d)", "_", name).lower()


def load_yaml(group: str, name: str) -> DictConfig:
    """Read a YAML file merged with the files of its ``defaults`` list, as in Hydra.

    Args:
        group: Hydra's group, such as ``algorithm``.
        name: name of the file in its group, such as ``lbfws/easy``. Schemas in ``defaults``, whose names end in
            ``_config``, are ignored.

    Returns:
        The values.

    Raises:
        FileNotFoundError: if the file, or one that it inherits, does not exist.
    """
    files = [folder / group / f"{name}.yaml" for folder in yaml_folders()]
    content = cast("DictConfig", OmegaConf.load(next(filter(Path.is_file, files), files[0])))
    merged = OmegaConf.create()
    defaults = content.pop("defaults", [])
    for entry in defaults if "_self_" in defaults else [*defaults, "_self_"]:
        parent = str(entry).partition("@")[0].removeprefix(f"/{group}/")
        if parent == "_self_":
            merged.merge_with(content)
        elif not parent.endswith("_config"):
            merged.merge_with(load_yaml(group, parent))
    return merged
