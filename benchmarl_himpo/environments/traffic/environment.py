"""Traffic signal control as a TorchRL environment: many simulations stepped at once, each in a separate process."""

from __future__ import annotations

from dataclasses import asdict
from importlib.util import find_spec
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Binary, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

from benchmarl_himpo.environments.entries import GROUP
from benchmarl_himpo.environments.simulation import seed_generator
from benchmarl_himpo.environments.traffic.options import TrafficConfig
from benchmarl_himpo.environments.traffic.simulator import Simulator

NEEDED = ("sumo_rl", "libsumo", "sumo")
"""Modules of the extra ``traffic``."""
N_SEEDS = 2**31 - 1
"""Seeds of SUMO are below this."""


class TrafficEnv(EnvBase):
    """The traffic signals of a road network, simulated by SUMO through sumo-rl.

    An agent is a signal; its action is the green phase until the next action. Entries of an agent: ``observation`` of
    sumo-rl (green phase, whether it may change, density and queue of each lane); ``position`` relative to the network's
    extent, in [0, 1]; ``edges``, the signals from which a road leads to the agent; ``waiting``, the mean number of
    halting vehicles on its lanes over the env steps of the episode so far. Episodes end only by ``truncated``. The
    state of a simulation cannot be saved, so resumed runs begin new episodes.

    Args:
        config: options of the task.
        n_envs: number of simulations, each in a separate process.
        seed: seed of ``generator``, from which every simulation draws a SUMO seed per episode; None for a seed of the
            operating system.
        device: device of all tensors.

    Attributes:
        generator: random number generator of this environment alone.
        layout: constants of the network, see
            :meth:`~benchmarl_himpo.environments.traffic.worker.Simulation.describe`.

    Raises:
        ImportError: if the extra ``traffic`` is missing.
        SimulatorError: if SUMO does not start or a simulation fails; all processes are ended then.
    """

    batch_locked = True

    def __init__(self, config: TrafficConfig, n_envs: int, seed: int | None = None, device: Any = "cpu") -> None:
        missing = [name for name in NEEDED if find_spec(name) is None]
        if missing:
            raise ImportError(f"traffic needs {', '.join(missing)}: pip install 'benchmarl_himpo[traffic]'")
        super().__init__(device=device, batch_size=[n_envs])
        self.config = config
        self.generator = torch.Generator()
        self._set_seed(seed)
        options = asdict(config)
        self._simulators = [Simulator(options) for _ in range(n_envs)]
        self._receive(range(n_envs))
        self._simulators[0].send("describe")
        (self.layout,) = self._receive([0])
        self._make_specs(torch.Size([n_envs, len(self.layout["names"])]))
        self.step_count = torch.zeros(n_envs, dtype=torch.long, device=self.device)
        zero = self.observation_spec[GROUP].zero()
        self._observation, self._waiting = zero["observation"], zero["waiting"]

    @property
    def pids(self) -> list[int]:
        """Process ids of the simulations."""
        return [simulator.pid for simulator in self._simulators]

    def close(self, *, raise_if_closed: bool = True) -> None:
        """End all simulations."""
        for simulator in self._simulators:
            simulator.close()
        super().close(raise_if_closed=raise_if_closed)

    ##################
    # TorchRL's hooks
    ##################

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: Any) -> TensorDictBase:
        is_reset = None if tensordict is None else tensordict.get("_reset", None)
        if is_reset is None:
            is_reset = torch.ones(self.batch_size, dtype=torch.bool)
        envs = is_reset.reshape(self.batch_size).nonzero().squeeze(-1).tolist()
        for env, seed in zip(envs, torch.randint(N_SEEDS, (len(envs),), generator=self.generator), strict=True):
            self._simulators[env].send("reset", int(seed))
        started, where = self._receive(envs), torch.tensor(envs, device=self.device)
        self._observation = self._observation.index_put((where,), self._stack(started, "observation"))
        self._waiting = self._waiting.index_put((where,), self._stack(started, "waiting"))
        self.step_count = self.step_count.masked_fill(is_reset.reshape(self.batch_size).to(self.device), 0)
        return self._emit()

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        for simulator, action in zip(self._simulators, tensordict.get((GROUP, "action")).tolist(), strict=True):
            simulator.send("step", action)
        stepped = self._receive(range(len(self._simulators)))
        self.step_count = self.step_count + 1
        # The mean over an episode starts at its first step
        share = 1 / self.step_count.unsqueeze(-1)
        self._waiting = self._waiting * (1 - share) + self._stack(stepped, "waiting") * share
        self._observation = self._stack(stepped, "observation")
        out = self._emit()
        out.get(GROUP).set("reward", self._stack(stepped, "reward").unsqueeze(-1))
        return out

    def _set_seed(self, seed: int | None) -> None:
        seed_generator(self.generator, seed)

    #####################
    # Custom new methods
    #####################

    def _receive(self, envs: Any) -> list[Any]:
        """Answers of some simulations; if one fails, all are ended."""
        try:
            return [self._simulators[env].receive() for env in envs]
        except BaseException:  # also while Ctrl-C leaves answers unread
            self.close()
            raise

    def _stack(self, answers: list[dict[str, Any]], name: str) -> Tensor:
        return torch.tensor([answer[name] for answer in answers], dtype=torch.get_default_dtype(), device=self.device)

    def _emit(self) -> TensorDictBase:
        """Output of a reset or a step, without reward."""
        truncated = (self.step_count >= self.config.max_steps).unsqueeze(-1)
        shape = torch.Size([*self.batch_size, len(self.layout["names"])])
        agents = {
            "observation": self._observation.clone(),
            "position": self._position.expand(*shape, 2).clone(),
            "edges": self._edges.expand(*shape, shape[-1]).clone(),
            "waiting": self._waiting.clone(),
        }
        return TensorDict(
            {
                GROUP: TensorDict(agents, shape, device=self.device),
                "done": truncated.clone(),
                "terminated": torch.zeros_like(truncated),
                "truncated": truncated,
            },
            self.batch_size,
            device=self.device,
        )

    def _make_specs(self, shape: torch.Size) -> None:
        batch, device, dtype, layout = shape[:1], self.device, torch.get_default_dtype(), self.layout
        position = torch.tensor(layout["position"], dtype=dtype, device=device)
        low, high = position.amin(0), position.amax(0)
        self._position = (position - low) / (high - low)
        self._edges = torch.tensor(layout["edges"], device=device)

        def group(**entries: Any) -> Composite:
            return Composite({GROUP: Composite(entries, shape=shape, device=device)}, shape=batch, device=device)

        self.observation_spec = group(
            observation=Unbounded((*shape, layout["observation_size"]), dtype=dtype, device=device),
            position=Unbounded((*shape, 2), dtype=dtype, device=device),
            edges=Binary(n=shape[-1], shape=(*shape, shape[-1]), dtype=torch.bool, device=device),
            waiting=Unbounded(shape, dtype=dtype, device=device),
        )
        n_greens = len(layout["serves"][0])
        self.action_spec = group(action=Categorical(n_greens, shape=shape, device=device))
        self.reward_spec = group(reward=Unbounded((*shape, 1), dtype=dtype, device=device))
        flag = Binary(n=1, shape=(*batch, 1), dtype=torch.bool, device=device)
        flags = {name: flag.clone() for name in ("done", "terminated", "truncated")}
        self.done_spec = Composite(flags, shape=batch, device=device)
