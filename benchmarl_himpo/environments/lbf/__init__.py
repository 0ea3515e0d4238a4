"""Level-Based Foraging (lbforaging 2.0.0) and Level-Based Foraging with Survival, our reconstruction, on many boards at once."""
