from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarl_himpo import add_yaml_folder, register_algorithm, register_task
from benchmarl_himpo.algorithms import Himppo2l, Himppo2lConfig
from benchmarl_himpo.hierarchy import Neighbours, neighbours_registry
from himpo_escort.task import EscortTask


@dataclass(frozen=True)
class ChainNeighbours(Neighbours):  # algorithm.neighbours=chain: messages come from the agent before
    is_local = True  # an agent needs no positions of others

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
