"""What the options of BenchMARL's experiment are about: the one home of what names, resuming and reports read.

An option that stands in none of the sets below says what an iteration does, of every algorithm.
"""

from __future__ import annotations

from dataclasses import fields

from benchmarl.experiment import ExperimentConfig

_NAMES = frozenset(field.name for field in fields(ExperimentConfig))

ON_POLICY = frozenset(name for name in _NAMES if name.startswith("on_policy_"))
"""What an iteration does, of on-policy algorithms alone."""
OFF_POLICY = frozenset(name for name in _NAMES if name.startswith("off_policy_"))
"""What an iteration does, of off-policy algorithms alone."""
ACTIONS = frozenset({"prefer_continuous_actions"})
"""Which kind of actions the task takes."""
ANNEALING = frozenset({"exploration_anneal_frames"})
"""How fast exploration is annealed; where it is not set, the length of the run says so."""
LENGTH = frozenset({"max_n_iters", "max_n_frames"})
"""When the run ends."""
EVALUATION = frozenset(name for name in _NAMES if name.startswith("evaluation"))
"""When and how the policy is evaluated, which changes nothing in training."""
WITHOUT_EFFECT_ON_RESULTS = frozenset(
    {
        "render",
        "loggers",
        "project_name",
        "wandb_extra_kwargs",
        "create_json",
        "save_folder",
        "restore_file",
        "restore_map_location",
        "checkpoint_interval",
        "checkpoint_at_end",
        "keep_checkpoints_num",
        "exclude_buffer_from_checkpoint",
    }
)
"""Where and how the run is logged, filmed and saved: no part of what a run is."""

OF_ONE_KIND = ON_POLICY | OFF_POLICY
"""Options that only some algorithms read."""
OF_RUNS = EVALUATION | LENGTH
"""Options that a comparison sets for all its methods, and that are no part of the task that is played."""
OF_COMPARISONS = OF_RUNS | ACTIONS
"""Options that a comparison sets for all its methods: part of the label of a task."""
WITHOUT_EFFECT_ON_ITERATIONS = WITHOUT_EFFECT_ON_RESULTS | OF_RUNS | ANNEALING
"""Options that may differ between a checkpoint and the run that goes on from it, which checks annealing apart."""


def options_not_read(on_policy: bool) -> frozenset[str]:
    """Name the options that algorithms of one kind do not read."""
    return OFF_POLICY if on_policy else ON_POLICY
