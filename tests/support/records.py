"""Builds records of runs that never took place, from seeds."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarl_himpo.harness.records.record import RunRecord


def make_record(
    variant: str = "himppo",
    task_label: str = "vmas/sampling",
    seed: int = 0,
    level: float = 20.0,
    n_evaluations: int = 5,
    **changes: Any,
) -> RunRecord:
    """Make the record of a run whose return grows to about `level`; the same one for the same arguments."""
    rng = np.random.default_rng([seed, *f"{variant}{task_label}".encode()])
    frames = [12_000 * (i + 1) for i in range(2 * n_evaluations)]
    progress = np.array(frames) / frames[-1]
    final = level + rng.normal()
    evaluated = [0, *frames[1:-1:2]][:n_evaluations]
    returns = [(final * (0.2 + 0.8 * f / frames[-1]) + rng.normal(size=4)).tolist() for f in evaluated]
    n_agents = int(task_label.partition("n_agents=")[2].rstrip("]") or 3)
    values: dict[str, Any] = {
        "id": f"{variant}-{task_label}-s{seed}-00000000".replace("/", "_"),
        "variant": variant,
        "algorithm": variant.partition("[")[0],
        "task": "vmas/sampling",
        "model": "layers/mlp",
        "task_label": task_label,
        "seed": seed,
        "group_sizes": {"agents": n_agents},
        "config": {
            "algorithm": {"name": variant, "gamma": 0.99},
            "task": {"n_agents": n_agents, "max_steps": 100},
            "experiment": {"max_n_frames": frames[-1], "evaluation_episodes": 4, "evaluation_interval": 24_000},
            "seed": seed,
        },
        "config_hash": variant,
        "fingerprint": "ab12",
        "frames": frames,
        "seconds": (10.0 * np.arange(1, len(frames) + 1)).tolist(),
        "collection_return": [None, *(0.9 * final * progress[1:]).tolist()],
        "evaluation_frames": evaluated,
        "evaluation_seconds": [f / 1200 for f in evaluated],
        "evaluation_returns": returns,
        "absolute_metric": {
            "frames": evaluated[-1],
            "seed": 1_000_000 + seed,
            "returns": (final + rng.normal(size=40)).tolist(),
        },
        "parameters": {"agents/loss_objective/level_0": 1000, "agents/loss_critic/level_0": 900},
        "timers": {"collection": 30.0, "training": 70.0, "evaluation": 5.0},
        "peak_memory": 300 * 2**20,
        "gradient_steps": 600,
        "resumed": False,
        "attempts": 1,
        "provenance": {
            "python": "3.11.2",
            "torch": "2.13.0",
            "torchrl": "0.11.1",
            "tensordict": "0.11.0",
            "benchmarl": "1.5.2",
            "vmas": "1.5.2",
            "benchmarl_himpo": "0.1.0",
            "git_commit": "0123abc",
            "git_dirty": False,
            "cpu": "AMD EPYC",
            "cpu_capability": "AVX2",
            "threads": 1,
            "gpu": None,
            "started": "2026-01-01T00:00:00+00:00",
            "ended": "2026-01-01T00:02:00+00:00",
            "load_average": 1.5,
        },
    }
    return RunRecord(**{**values, **changes})
