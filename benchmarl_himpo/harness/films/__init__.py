"""Films of a policy: the scene with the hierarchy drawn over it, its goals, and the reward of every level."""
