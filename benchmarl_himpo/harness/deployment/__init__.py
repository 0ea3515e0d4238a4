"""Bundles: a trained policy as step functions that need only torch, and the messages between its nodes."""

from benchmarl_himpo.harness.deployment.exporter import export_run
from benchmarl_himpo.harness.deployment.messages import MessageReport
from benchmarl_himpo.harness.deployment.run_bundle import Bundle
from benchmarl_himpo.harness.deployment.step_functions import ClusteringStep, ExportError, LevelStep, export_step

__all__ = [
    "Bundle",
    "ClusteringStep",
    "ExportError",
    "LevelStep",
    "MessageReport",
    "export_run",
    "export_step",
]
