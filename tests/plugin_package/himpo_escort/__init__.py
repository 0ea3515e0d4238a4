from dataclasses import dataclass
from pathlib import Path

import torch
from benchmarl.environments.vmas.common import VmasClass
from torchrl.envs.libs.vmas import VmasEnv

from benchmarl_himpo import add_yaml_folder, register_algorithm, register_task
from benchmarl_himpo.algorithms import Himppo2l, Himppo2lConfig
from benchmarl_himpo.environments import OwnTask
from benchmarl_himpo.hierarchy import Neighbours, neighbours_registry
from himpo_escort.scenario import Escort


@dataclass
class EscortConfig:
    n_guards: int
    max_steps: int


class EscortClass(VmasClass):  # a TaskClass of BenchMARL
    config_class = EscortConfig

    def get_env_fun(self, num_envs, continuous_actions, seed, device):
        options = {"num_envs": num_envs, "continuous_actions": continuous_actions, "seed": seed, "device": device}
        return lambda: VmasEnv(scenario=Escort(), clamp_actions=True, **options, **self.config)

    @staticmethod
    def env_name():
        return "escort"


class EscortTask(OwnTask):
    PAIR = None  # task=escort/pair

    @staticmethod
    def associated_class():
        return EscortClass


@dataclass(frozen=True)
class ChainNeighbours(Neighbours):  # algorithm.neighbours=chain: messages come from the agent before
    is_local = True  # nobody has to be told positions

    def _restrict(self, position, allowed):
        return allowed & torch.ones_like(allowed).tril(-1).triu(-1)


class HimppoChain(Himppo2l):
    pass


@dataclass
class HimppoChainConfig(Himppo2lConfig):  # algorithm=himppo_chain
    @staticmethod
    def associated_class():
        return HimppoChain


def register():
    add_yaml_folder(Path(__file__).parent / "conf")
    register_task(EscortTask.PAIR)
    register_algorithm(HimppoChainConfig)
    neighbours_registry["chain"] = ChainNeighbours
