"""Level-Based Foraging (lbforaging 2.0.0), and with survival, our reconstruction, on many boards at once."""
