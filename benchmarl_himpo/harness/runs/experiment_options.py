"""Role of each option of BenchMARL's experiment, used for names of runs, resuming and reports."""

from __future__ import annotations

from enum import Enum, auto


class Role(Enum):
    """What an option affects."""

    TRAINING = auto()
    """The iteration, of every algorithm."""
    ON_POLICY = auto()
    """The iteration, only of on-policy algorithms."""
    OFF_POLICY = auto()
    """The iteration, only of off-policy algorithms."""
    ACTIONS = auto()
    """The kind of actions."""
    ANNEALING = auto()
    """The annealing of exploration; by default it depends on the length of the run."""
    LENGTH = auto()
    """The length of the run."""
    EVALUATION = auto()
    """Evaluation, which does not affect training."""
    BOOKKEEPING = auto()
    """Logging, rendering and saving, which do not affect results."""


ROLES = {
    "sampling_device": Role.TRAINING,
    "train_device": Role.TRAINING,
    "buffer_device": Role.TRAINING,
    "share_policy_params": Role.TRAINING,
    "prefer_continuous_actions": Role.ACTIONS,
    "collect_with_grad": Role.TRAINING,
    "parallel_collection": Role.TRAINING,
    "gamma": Role.TRAINING,
    "lr": Role.TRAINING,
    "adam_eps": Role.TRAINING,
    "adam_extra_kwargs": Role.TRAINING,
    "clip_grad_norm": Role.TRAINING,
    "clip_grad_val": Role.TRAINING,
    "soft_target_update": Role.TRAINING,
    "polyak_tau": Role.TRAINING,
    "hard_target_update_frequency": Role.TRAINING,
    "exploration_eps_init": Role.TRAINING,
    "exploration_eps_end": Role.TRAINING,
    "exploration_anneal_frames": Role.ANNEALING,
    "max_n_iters": Role.LENGTH,
    "max_n_frames": Role.LENGTH,
    "on_policy_collected_frames_per_batch": Role.ON_POLICY,
    "on_policy_n_envs_per_worker": Role.ON_POLICY,
    "on_policy_n_minibatch_iters": Role.ON_POLICY,
    "on_policy_minibatch_size": Role.ON_POLICY,
    "off_policy_collected_frames_per_batch": Role.OFF_POLICY,
    "off_policy_n_envs_per_worker": Role.OFF_POLICY,
    "off_policy_n_optimizer_steps": Role.OFF_POLICY,
    "off_policy_train_batch_size": Role.OFF_POLICY,
    "off_policy_memory_size": Role.OFF_POLICY,
    "off_policy_init_random_frames": Role.OFF_POLICY,
    "off_policy_use_prioritized_replay_buffer": Role.OFF_POLICY,
    "off_policy_prb_alpha": Role.OFF_POLICY,
    "off_policy_prb_beta": Role.OFF_POLICY,
    "evaluation": Role.EVALUATION,
    "render": Role.BOOKKEEPING,
    "evaluation_interval": Role.EVALUATION,
    "evaluation_episodes": Role.EVALUATION,
    "evaluation_deterministic_actions": Role.EVALUATION,
    "evaluation_static": Role.EVALUATION,
    "loggers": Role.BOOKKEEPING,
    "project_name": Role.BOOKKEEPING,
    "wandb_extra_kwargs": Role.BOOKKEEPING,
    "create_json": Role.BOOKKEEPING,
    "save_folder": Role.BOOKKEEPING,
    "restore_file": Role.BOOKKEEPING,
    "restore_map_location": Role.BOOKKEEPING,
    "checkpoint_interval": Role.BOOKKEEPING,
    "checkpoint_at_end": Role.BOOKKEEPING,
    "keep_checkpoints_num": Role.BOOKKEEPING,
    "exclude_buffer_from_checkpoint": Role.BOOKKEEPING,
}
"""The role of each field of :class:`benchmarl.experiment.ExperimentConfig`."""


def options_about(*roles: Role) -> frozenset[str]:
    """Options with one of the given roles."""
    return frozenset(option for option, role in ROLES.items() if role in roles)


def options_not_read(on_policy: bool) -> frozenset[str]:
    """Options that on-policy, or off-policy, algorithms do not use."""
    return options_about(Role.OFF_POLICY if on_policy else Role.ON_POLICY)


OF_ONE_KIND = options_about(Role.ON_POLICY, Role.OFF_POLICY)
"""Options that only some algorithms use."""
OF_RUNS = options_about(Role.EVALUATION, Role.LENGTH)
"""Options that a comparison sets for all its methods, and that do not affect the task."""
OF_COMPARISONS = OF_RUNS | options_about(Role.ACTIONS)
"""Options that a comparison sets for all its methods: part of the label of a task."""
WITHOUT_EFFECT_ON_RESULTS = options_about(Role.BOOKKEEPING)
"""Options that are not part of a run's identity."""
WITHOUT_EFFECT_ON_ITERATIONS = WITHOUT_EFFECT_ON_RESULTS | OF_RUNS | options_about(Role.ANNEALING)
"""Options that may differ between a checkpoint and the run that continues it; annealing is checked separately."""
