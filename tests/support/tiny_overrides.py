"""Overrides of tiny runs by the command, in Hydra's syntax."""

ON_CPU = [f"experiment.{kind}_device=cpu" for kind in ("sampling", "train", "buffer")]
NARROW = ["model.num_cells=[8]", "critic_model.num_cells=[8]"]
SMALL = [
    "experiment.max_n_frames=80",
    "experiment.on_policy_collected_frames_per_batch=40",
    "experiment.on_policy_n_envs_per_worker=2",
    "experiment.on_policy_n_minibatch_iters=1",
    "experiment.on_policy_minibatch_size=20",
    "experiment.off_policy_collected_frames_per_batch=40",
    "experiment.off_policy_n_envs_per_worker=2",
    "experiment.off_policy_n_optimizer_steps=2",
    "experiment.off_policy_train_batch_size=8",
    "experiment.off_policy_memory_size=80",
    "experiment.evaluation_interval=40",
    "experiment.evaluation_episodes=2",
    "experiment.checkpoint_interval=40",
    *ON_CPU,
    *NARROW,
]
"""Two iterations of 40 frames on any task, each with an evaluation and a checkpoint."""

SAMPLING = [
    "task=vmas/sampling",
    "task.max_steps=20",
    "experiment.on_policy_collected_frames_per_batch=80",
    "experiment.on_policy_n_envs_per_worker=4",
    "experiment.on_policy_n_minibatch_iters=2",
    "experiment.on_policy_minibatch_size=30",
    "experiment.off_policy_collected_frames_per_batch=80",
    "experiment.off_policy_n_envs_per_worker=4",
    "experiment.off_policy_n_optimizer_steps=2",
    "experiment.off_policy_train_batch_size=8",
    "experiment.off_policy_memory_size=200",
    "experiment.checkpoint_interval=80",
    *ON_CPU,
    *NARROW,
]
"""Four environments of sampling, whose episodes of 20 steps end with each batch of 80 frames and its checkpoint."""
