"""States of a run's random number generators, as tensors that load without pickle.

PyTorch, NumPy and Python have one generator each, every CUDA device has one, and VMAS keeps a separate set at class
level that it swaps in for every reset and step. Each environment of this package has its own generator.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchrl.envs import EnvBase

from benchmarl_himpo.environments.simulation import base_environment
from benchmarl_himpo.host.vmas import shared_generators

RandomState = dict[str, Any]
"""Tensors and numbers, nested; safe to load with ``weights_only=True``."""


def capture_random_state(env: EnvBase) -> RandomState:
    """Read the states of all generators, including that of the training environment."""
    state: RandomState = {"host": _pack(torch.get_rng_state(), np.random.get_state(), random.getstate())}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    vmas_state = shared_generators()
    if vmas_state is not None:
        state["vmas"] = _pack(*vmas_state)
    generator = own_generator(env)
    if generator is not None:
        state["environment"] = generator.get_state()
    return state


def restore_random_state(state: RandomState, env: EnvBase) -> None:
    """Set all generators to the states that :func:`capture_random_state` read."""
    torch_state, numpy_state, python_state = _unpack(state["host"])
    torch.set_rng_state(torch_state)
    np.random.set_state(numpy_state)
    random.setstate(python_state)
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([device_state.cpu() for device_state in state["cuda"]])
    vmas_state = shared_generators()
    if vmas_state is not None and "vmas" in state:
        vmas_state[:] = _unpack(state["vmas"])
    generator = own_generator(env)
    if generator is not None and "environment" in state:
        generator.set_state(state["environment"].cpu())


def own_generator(env: EnvBase) -> torch.Generator | None:
    """The generator that an environment has as ``generator``; None if it has none."""
    generator = vars(base_environment(env)).get("generator")
    return generator if isinstance(generator, torch.Generator) else None


def seeded_random_state(seed: int) -> RandomState:
    """State of a newly seeded set of generators, for :func:`vmas_generators`, without changing any generator."""
    return _pack(
        torch.Generator().manual_seed(seed).get_state(),
        np.random.RandomState(seed % 2**32).get_state(),
        random.Random(seed).getstate(),
    )


@contextmanager
def vmas_generators(state: RandomState) -> Iterator[None]:
    """Let VMAS draw from a separate set of generators inside the block, and restore the old ones after it.

    ``state`` is updated at the end of the block.
    """
    generators = shared_generators()
    if generators is None:
        yield
        return
    outside = list(generators)
    generators[:] = _unpack(state)
    try:
        yield
    finally:
        state.update(_pack(*generators))
        generators[:] = outside


def _pack(torch_state: Tensor, numpy_state: Any, python_state: Any) -> RandomState:
    name, keys, position, has_gauss, gauss = numpy_state
    version, internal, next_gauss = python_state
    return {
        "torch": torch_state.clone(),
        "numpy": {
            "name": str(name),
            "keys": torch.tensor(np.asarray(keys, dtype=np.int64)),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "gauss": float(gauss),
        },
        "python": {"version": version, "internal": torch.tensor(internal), "next_gauss": next_gauss},
    }


def _unpack(state: RandomState) -> tuple[Tensor, Any, Any]:
    numpy_state, python_state = state["numpy"], state["python"]
    return (
        state["torch"].cpu(),
        (
            numpy_state["name"],
            numpy_state["keys"].cpu().numpy().astype(np.uint32),
            numpy_state["position"],
            numpy_state["has_gauss"],
            numpy_state["gauss"],
        ),
        (python_state["version"], tuple(python_state["internal"].tolist()), python_state["next_gauss"]),
    )
