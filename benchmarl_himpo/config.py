"""Where the YAML files are, and how one is read together with the files it inherits."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from omegaconf import DictConfig, OmegaConf


def _find_conf_dir() -> Path:
    """Find the YAML files: inside the package in a wheel, beside it in a checkout."""
    package_dir = Path(__file__).resolve().parent
    inside = package_dir / "conf"
    return inside if inside.is_dir() else package_dir.parent / "conf"


CONF_DIR = _find_conf_dir()
"""Absolute path of the folder that holds ``config.yaml``."""


def load_yaml(group: str, name: str, conf_dir: Path = CONF_DIR) -> DictConfig:
    """Read a YAML file together with the files that its ``defaults`` list names, as Hydra merges them.

    Args:
        group: Hydra's group, such as ``algorithm``.
        name: name of the file in its group, such as ``lbfws/easy``.
        conf_dir: the folder of the groups. Schemas, whose names end in ``_config``, are no files and left out.

    Returns:
        The values.

    Raises:
        FileNotFoundError: if the file, or one that it inherits, does not exist.
    """
    content = cast("DictConfig", OmegaConf.load(conf_dir / group / f"{name}.yaml"))
    merged = OmegaConf.create()
    for entry in content.pop("defaults", ["_self_"]):
        parent = str(entry).partition("@")[0].removeprefix(f"/{group}/")
        if parent == "_self_":
            merged.merge_with(content)
        elif not parent.endswith("_config"):
            merged.merge_with(load_yaml(group, parent, conf_dir))
    return merged
