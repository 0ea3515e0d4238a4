"""Porters go to the middle of a square, guards to the porters: two groups of agents in one environment."""

from dataclasses import dataclass

import torch
from tensordict import TensorDict
from torchrl.data import Binary, Bounded, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

from benchmarl_himpo.environments import OwnTask, OwnTaskClass

MOVES = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])


@dataclass
class EscortConfig:
    n_guards: int
    max_steps: int


class EscortEnv(EnvBase):
    simulation = ("position", "step_count")  # state that persists between steps, for checkpoints

    def __init__(self, config, n_envs, is_continuous, seed, device):
        super().__init__(device=device, batch_size=[n_envs])
        self.sizes = {"porter": 2, "guard": config.n_guards}
        self.max_steps, self.is_continuous = config.max_steps, is_continuous
        self.generator = torch.Generator(self.device)  # nobody else draws from it
        self._set_seed(seed)
        observation, action, reward = (Composite(shape=(n_envs,)) for _ in range(3))
        for group, n in self.sizes.items():
            shape = (n_envs, n)
            entries = {"observation": Unbounded((*shape, 4)), "position": Unbounded((*shape, 2))}
            chosen = Bounded(-1, 1, (*shape, 2)) if is_continuous else Categorical(len(MOVES), shape)
            observation[group] = Composite(entries, shape=shape)
            action[group] = Composite(action=chosen, shape=shape)
            reward[group] = Composite(reward=Unbounded((*shape, 1)), shape=shape)
        self.observation_spec, self.action_spec, self.reward_spec = observation, action, reward
        flags = {flag: Binary(1, (n_envs, 1), dtype=torch.bool) for flag in ("done", "terminated", "truncated")}
        self.done_spec = Composite(flags, shape=(n_envs,))
        self.position = torch.zeros(n_envs, sum(self.sizes.values()), 2, device=device)
        self.step_count = torch.zeros(n_envs, 1, dtype=torch.long, device=device)

    def _reset(self, tensordict=None, **kwargs):
        where = torch.ones_like(self.step_count, dtype=torch.bool)
        if tensordict is not None and "_reset" in tensordict.keys():
            where = tensordict["_reset"].view_as(where)
        drawn = 2 * torch.rand(self.position.shape, generator=self.generator, device=self.device) - 1
        self.position = torch.where(where.unsqueeze(-1), drawn, self.position)
        self.step_count = self.step_count.masked_fill(where, 0)
        return self._see(with_rewards=False)

    def _step(self, tensordict):
        action = torch.cat([tensordict[group, "action"] for group in self.sizes], dim=1)
        move = action if self.is_continuous else MOVES.to(self.device)[action]
        self.position = (self.position + 0.1 * move).clamp(-1, 1)
        self.step_count = self.step_count + 1
        return self._see(with_rewards=True)

    def _see(self, with_rewards):
        porters, guards = self.position.split([*self.sizes.values()], dim=1)
        middle = porters.mean(1, keepdim=True)
        groups = {}
        for group, position, goal in (("porter", porters, torch.zeros_like(middle)), ("guard", guards, middle)):
            entries = {"observation": torch.cat([position, goal - position], -1), "position": position}
            if with_rewards:
                entries["reward"] = -(goal - position).norm(dim=-1, keepdim=True)
            groups[group] = TensorDict(entries, position.shape[:-1])
        is_late = self.step_count >= self.max_steps
        flags = {"done": is_late, "terminated": torch.zeros_like(is_late), "truncated": is_late.clone()}
        return TensorDict(groups | flags, self.batch_size, device=self.device)

    def _set_seed(self, seed):
        self.generator.manual_seed(seed) if seed is not None else self.generator.seed()


class EscortClass(OwnTaskClass):  # a TaskClass of BenchMARL
    config_class = EscortConfig

    def get_env_fun(self, num_envs, continuous_actions, seed, device):
        return lambda: EscortEnv(self.options, num_envs, continuous_actions, seed, device)

    def supports_continuous_actions(self):
        return True

    def group_map(self, env):
        return {group: [f"{group}_{i}" for i in range(n)] for group, n in env.sizes.items()}

    def has_render(self, env):
        return False

    @staticmethod
    def env_name():
        return "escort"


class EscortTask(OwnTask):
    PAIR = None  # task=escort/pair, with its options in conf/task/escort/pair.yaml

    @staticmethod
    def associated_class():
        return EscortClass
