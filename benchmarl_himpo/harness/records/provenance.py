"""Provenance of a run: versions, commit, processor; without host names and paths."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarl_himpo import __version__
from benchmarl_himpo.config import CONF_DIR
from benchmarl_himpo.harness.checks import needs_of_task
from benchmarl_himpo.registration import describe_plugins

COMPUTES = ("benchmarl_himpo", "conf", "pyproject.toml")
"""Parts of the repository that affect a run; records, reports and notes do not."""
PACKAGES = ("torch", "torchrl", "tensordict", "benchmarl", "vmas")


def provenance(devices: set[str], task: str = "") -> dict[str, Any]:
    """Describe software and machine; None for unknown values.

    Args:
        devices: those that the run uses; a GPU is described if it is one of them.
        task: the run's task, whose own packages are named too; empty: none.
    """
    simulators = [need.distribution or need.module for need in needs_of_task(task)]
    status = _git("status", "--porcelain", "--", *COMPUTES)
    return {
        "python": platform.python_version(),
        **{package: _version(package) for package in (*PACKAGES, *simulators)},
        "benchmarl_himpo": __version__,
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": None if status is None else bool(status),
        "cpu": _processor(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "preloaded": _preloaded(),
        "plugins": describe_plugins(),
        "gpu": torch.cuda.get_device_name() if any(device.startswith("cuda") for device in devices) else None,
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def source_digest(root: Path) -> str:
    """Digest of all Python and YAML files of the package, 16 hexadecimal digits.

    Args:
        root: folder that holds the package, and in a checkout ``conf`` beside it.
    """
    digest = hashlib.sha256()
    for folder, pattern in (("benchmarl_himpo", "*.py"), ("benchmarl_himpo/conf", "*.yaml"), ("conf", "*.yaml")):
        for file in sorted((root / folder).rglob(pattern)):
            digest.update(f"{file.relative_to(root).as_posix()}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def peak_memory() -> int:
    """Peak resident memory of this process, in bytes; 0 if unavailable."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    """Ask git about the checkout that holds this package; None in an installed wheel."""
    root = CONF_DIR.parent
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _preloaded() -> str:
    """Names of the libraries that the dynamic linker preloads, which can replace numeric kernels."""
    names = [Path(library).name for library in re.split(r"[\s:]+", os.environ.get("LD_PRELOAD", "")) if library]
    return ", ".join(names) or "none"


def _processor() -> str | None:
    """Model of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or None
