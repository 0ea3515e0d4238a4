"""Writes the bundles of a run: one folder per agent group, kept only if the bundle acts like the policy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictSequential
from torch import Tensor
from torchrl.envs.utils import ExplorationType, set_exploration_type

import benchmarl_himpo
from benchmarl_himpo.harness.deployment import run_bundle
from benchmarl_himpo.harness.deployment.messages import MessageReport
from benchmarl_himpo.harness.deployment.report import write_readme
from benchmarl_himpo.harness.deployment.run_bundle import Bundle
from benchmarl_himpo.harness.deployment.step_functions import (
    ClusteringStep,
    ExportError,
    LevelStep,
    StepFunction,
    export_step,
    input_keys,
    read_named,
)
from benchmarl_himpo.harness.deployment.verification import ComparedPolicy
from benchmarl_himpo.harness.evaluation.episodes import has_hierarchies, load_trained, play
from benchmarl_himpo.harness.runs import ResumableExperiment
from benchmarl_himpo.harness.runs.checkpoint import newest_checkpoint
from benchmarl_himpo.host.benchmarl_files import checkpoint_folder
from benchmarl_himpo.models import HierarchicalPolicy

BUNDLE_FILE = "bundle.json"
BUNDLE_NAMES = {BUNDLE_FILE, "README.md", "run_bundle.py", "__pycache__"}
ON_CPU = [f"experiment.{kind}_device=cpu" for kind in ("sampling", "train", "buffer")]


def export_run(
    run: Path, output: Path, episodes: int, seed: int, tolerance: float, overrides: Sequence[str] = ()
) -> dict[str, Path]:
    """Write a bundle for every group of a trained run, after comparing it with the policy over some episodes.

    Args:
        run: the folder of the run.
        output: folder to write, replaced if it holds bundles; several groups get a folder each inside.
        episodes: episodes to compare.
        seed: seed of these episodes.
        tolerance: largest difference allowed, see
            :class:`~benchmarl_himpo.harness.deployment.verification.ComparedPolicy`.
        overrides: changes of the run's configuration, such as ``["task.n_agents=5"]``.

    Returns:
        The folder of each group's bundle.

    Raises:
        CheckpointError: if there is no intact checkpoint or the parameters do not fit the changed task.
        ExportError: if the run has no hierarchy, a network cannot be exported, the bundle acts differently, or the
            folder contains other files.
    """
    _check_replaceable(output)
    experiment = load_trained(run, episodes, [*overrides, *ON_CPU])
    try:
        source = {
            "run": run.name,
            "checkpoint": newest_checkpoint(checkpoint_folder(run)).name,
            "changes": list(overrides),
        }
        return export_experiment(experiment, output, seed, tolerance, source)
    finally:
        experiment.close()


def export_experiment(
    experiment: ResumableExperiment, output: Path, seed: int, tolerance: float, source: dict[str, Any]
) -> dict[str, Path]:
    """Write a bundle for every group of an experiment that is on the CPU; see :func:`export_run`.

    ``source`` describes the origin of the policy in ``bundle.json``.
    """
    _check_replaceable(output)
    policies = dict(experiment.group_policies)
    if not has_hierarchies(experiment):
        raise ExportError(
            f"a bundle is made of the levels of a hierarchy, which {experiment.algorithm_name} has not: export a run "
            "of a himppo algorithm, such as himppo_flat, which has a single level"
        )
    if any(p.hierarchy.layout.top > 0 and p.hierarchy.clustering.is_random for p in policies.values()):
        raise ExportError(
            "a bundle cannot play like a policy whose clustering draws random numbers: add "
            "algorithm.part_options.clustering.kmeans.position_noise=0 or choose a clustering that draws none"
        )
    inside = {group: Path(group) if len(policies) > 1 else Path() for group in policies}
    place = output.resolve()  # a link to a bundle stays a link
    unfinished = place.with_name(f"{place.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        example = _example(experiment)
        compared: dict[str, ComparedPolicy] = {}
        for group, policy in policies.items():
            folder = unfinished / inside[group]
            folder.mkdir(parents=True)
            info = {**_describe(experiment, group), "source": source, **_export_group(policy, example.clone(), folder)}
            (folder / BUNDLE_FILE).write_text(json.dumps(info, indent=1) + "\n")
            report = MessageReport(policy, experiment.algorithm.goal_dim)
            compared[group] = ComparedPolicy(policy, Bundle(folder), report)
        play(experiment, seed, TensorDictSequential(*compared.values()))
        for group, comparison in compared.items():
            if not comparison.difference <= tolerance:
                raise ExportError(
                    f"the bundle of group {group!r} differs from the policy by {comparison.difference:.1e}, more than "
                    f"tolerance={tolerance:.0e}, and was not kept"
                )
            _finish(unfinished / inside[group], comparison)
        shutil.rmtree(place, ignore_errors=True)
        unfinished.replace(place)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return {group: output / path for group, path in inside.items()}


def _check_replaceable(output: Path) -> None:
    """Check that only a bundle, or a folder that contains only bundles of groups, would be replaced."""
    if not output.exists() or _is_bundle(output):
        return
    inside = list(output.iterdir()) if output.is_dir() else []
    if not inside or not all(map(_is_bundle_of_group, inside)):
        raise ExportError(f"output={output} exists and is no bundle: name a folder that does not exist")


def _is_bundle(folder: Path) -> bool:
    names = {path.name for path in folder.iterdir() if path.suffix != ".pt2"} if folder.is_dir() else set()
    return BUNDLE_FILE in names and names <= BUNDLE_NAMES


def _is_bundle_of_group(folder: Path) -> bool:
    return _is_bundle(folder) and json.loads((folder / BUNDLE_FILE).read_text())["group"] == folder.name


def _example(experiment: ResumableExperiment) -> TensorDictBase:
    """Output of an environment's reset, of batch shape ``[B]`` with B at least 2."""
    td = experiment.test_env.reset()
    td = td if td.batch_dims else td.unsqueeze(0)
    return torch.cat([td, td])


@torch.no_grad()
def _export_group(policy: HierarchicalPolicy, td: TensorDictBase, folder: Path) -> dict[str, Any]:
    """Export the step functions of a group and describe them, in the order of execution."""
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        policy.decide(td)
    keys = input_keys(policy)
    top = policy.hierarchy.layout.top
    steps: dict[str, StepFunction] = {"clustering": ClusteringStep(policy, keys)} if top > 0 else {}
    steps |= {f"level_{level}": LevelStep(policy, keys, level) for level in range(top, -1, -1)}
    functions = {}
    for name, step in steps.items():
        file = folder / f"{name}.pt2"
        program = export_step(step, td, file)
        inputs = step.read(td)
        functions[name] = {
            "file": file.name,
            "period": step.period,
            "inputs": _signature(inputs),
            "outputs": _signature(program.module()(inputs)),
        }
    held = read_named(td, {key[-1]: key for key in policy.held_keys})
    return {"functions": functions, "state": _signature(held)}


def _signature(tensors: dict[str, Tensor]) -> dict[str, dict[str, Any]]:
    """Names, shapes with ``batch`` for the first dimension, and dtypes."""
    return {
        name: {"shape": ["batch", *value.shape[1:]], "dtype": str(value.dtype).removeprefix("torch.")}
        for name, value in tensors.items()
    }


def _describe(experiment: ResumableExperiment, group: str) -> dict[str, Any]:
    """Entries of ``bundle.json`` about group, task and action distribution."""
    policy = experiment.group_policies[group]
    layout, distribution = policy.hierarchy.layout, policy.actors[0][-1]
    spec = experiment.action_spec[group, "action"]
    is_continuous = spec.dtype.is_floating_point
    action = {"distribution": distribution.distribution_class.__name__}
    if is_continuous:
        action |= {"low": spec.space.low.tolist(), "high": spec.space.high.tolist()}
    else:
        action |= {"n": int(spec.space.n)}
    return {
        "versions": {"benchmarl_himpo": benchmarl_himpo.__version__, "torch": torch.__version__},
        "algorithm": experiment.algorithm_name,
        "task": {
            "environment": experiment.environment_name,
            "name": experiment.task_name,
            "continuous_actions": is_continuous,
            "config": dict(experiment.task.config),
        },
        "group": group,
        "agents": list(experiment.group_map[group]),
        "hierarchy": {
            "n_nodes": list(layout.n_nodes),
            "goal_interval": list(layout.goal_interval),
            "periods": list(layout.periods),
            "clustering": experiment.algorithm.clustering if layout.top > 0 else None,
            "neighbours": experiment.algorithm.neighbours,
            "observation": experiment.algorithm.observation,
            "memory": experiment.algorithm.memory,
        },
        "action": action,
    }


def _finish(folder: Path, comparison: ComparedPolicy) -> None:
    """Add the measurements, the code that runs the bundle and a page that explains it."""
    info = comparison.bundle.info
    report = comparison.report
    info["verified"] = {"env_steps": comparison.n_steps, "max_difference": comparison.difference}
    info["messages"] = {
        "flows": report.rows(),
        "totals": report.totals(),
        "per_agent": report.per_agent(),
        "notes": report.notes(),
    }
    (folder / BUNDLE_FILE).write_text(json.dumps(info, indent=1) + "\n")
    shutil.copy(run_bundle.__file__, folder / "run_bundle.py")
    (folder / "README.md").write_text(write_readme(info))
