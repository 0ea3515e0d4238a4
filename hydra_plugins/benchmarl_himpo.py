"""What Hydra looks for in every installed package: BenchMARL's own commands find our algorithms and tasks by it."""

from benchmarl_himpo.registration import HimpoSearchPath

__all__ = ["HimpoSearchPath"]
