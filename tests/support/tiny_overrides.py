"""What tiny runs by the command have in common, in Hydra's syntax."""

ON_CPU = [f"experiment.{kind}_device=cpu" for kind in ("sampling", "train", "buffer")]
NARROW = ["model.num_cells=[8]", "critic_model.num_cells=[8]"]
SAMPLING_BATCHES = [
    "task=vmas/sampling",
    "task.max_steps=20",
    "experiment.on_policy_collected_frames_per_batch=80",
    "experiment.on_policy_n_envs_per_worker=4",
    "experiment.on_policy_n_minibatch_iters=2",
    "experiment.off_policy_collected_frames_per_batch=80",
    "experiment.off_policy_n_envs_per_worker=4",
]
"""Four environments of sampling, whose episodes of 20 steps end with each batch of 80 frames."""
