"""Films of a policy: the scene with the hierarchy drawn over it, its goals, and what every level is paid."""
