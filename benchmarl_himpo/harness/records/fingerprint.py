"""The numerics fingerprint: identifies the numerical results of a machine and its software.

The fingerprint is a digest of parameters and returns of two tiny runs, one on-policy with a hierarchy and one
off-policy, from fixed seeds on one thread. Runs with equal fingerprints can be continued and compared seed by seed. (A
commit changes with every comment, and package versions do not identify processors.) For other golden runs see
:data:`GOLDEN_RUNS`.

    python -m benchmarl_himpo.harness.records.fingerprint
    python -m benchmarl_himpo.harness.records.fingerprint fingerprint himppo
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.harness.runs.training import load_experiment

OTHER_NUMERICS = "with another fingerprint"
"""Note on records that were made with other versions or on another processor."""
SAMPLING = "task=vmas/sampling"
GOLDEN_RUNS: dict[str, tuple[list[str], ...]] = {
    "fingerprint": (
        [SAMPLING, "algorithm=himppo_paper", "algorithm.credit=telescoped", "algorithm.critic_rows=sampled"],
        [SAMPLING, "algorithm=qmix"],
    ),
    "himppo": ([SAMPLING, "algorithm=himppo"],),
}
"""Runs of a digest. ``fingerprint``: the frozen preset with the credit rule that covers most code, so that a change of
the default does not affect the digest. ``himppo``: our default."""
GOLDEN_OVERRIDES = [
    "task.max_steps=20",
    "seed=0",
    "experiment.gamma=0.99",
    "experiment.lr=3e-4",
    "experiment.max_n_frames=160",
    "experiment.on_policy_collected_frames_per_batch=80",
    "experiment.on_policy_n_envs_per_worker=4",
    "experiment.on_policy_n_minibatch_iters=2",
    "experiment.on_policy_minibatch_size=40",
    "experiment.off_policy_collected_frames_per_batch=80",
    "experiment.off_policy_n_envs_per_worker=4",
    "experiment.off_policy_n_optimizer_steps=2",
    "experiment.off_policy_train_batch_size=32",
    "experiment.off_policy_memory_size=160",
    "experiment.evaluation=false",
    "experiment.checkpoint_interval=0",
    "experiment.checkpoint_at_end=false",
    "experiment.create_json=false",
    "experiment.loggers=[]",
    *(f"experiment.{kind}_device=cpu" for kind in ("sampling", "train", "buffer")),
    "model.num_cells=[16]",
    "critic_model.num_cells=[16]",
]


def compute_digest(name: str = "fingerprint") -> str:
    """Compute the digest of golden runs in this process, on one thread.

    Args:
        name: a key of :data:`GOLDEN_RUNS`.

    Returns:
        The digest, 16 hexadecimal digits; on a machine with a GPU the name of the GPU is included.
    """
    digest = hashlib.sha256()
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for overrides in GOLDEN_RUNS[name]:
            with tempfile.TemporaryDirectory() as scratch:
                for part in _golden_run([*overrides, *GOLDEN_OVERRIDES, f"experiment.save_folder={scratch}"]):
                    digest.update(part)
    finally:
        torch.set_num_threads(n_threads)
    if torch.cuda.is_available():
        digest.update(torch.cuda.get_device_name().encode())
    return digest.hexdigest()[:16]


def take_digests(*names: str) -> dict[str, str]:
    """Compute digests by name in a new process, independent of this process's state.

    Raises:
        RuntimeError: if the golden runs fail.
    """
    done = subprocess.run(
        [sys.executable, "-m", "benchmarl_himpo.harness.records.fingerprint", *names],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the numerics fingerprint could not be taken: {done.stderr.strip()[-2000:]}")
    return dict(zip(names, done.stdout.split()[-len(names) :], strict=True))


def fingerprint() -> str:
    """Compute the fingerprint in a new process; see :func:`take_digests`."""
    return take_digests("fingerprint")["fingerprint"]


def _golden_run(overrides: list[str]) -> Iterator[bytes]:
    cfg = compose(overrides, return_hydra_config=True)
    experiment = load_experiment(cfg, cfg.hydra.runtime.choices)
    experiment.run()
    yield repr(experiment.mean_return).encode()
    for _, loss in sorted(experiment.losses.items()):
        for name, value in sorted(loss.state_dict().items()):
            if isinstance(value, Tensor):
                yield name.encode() + value.detach().cpu().contiguous().view(-1).numpy().tobytes()


if __name__ == "__main__":
    print(*[compute_digest(run) for run in sys.argv[1:] or ["fingerprint"]], sep="\n")
