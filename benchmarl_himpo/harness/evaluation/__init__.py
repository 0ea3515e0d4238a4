"""What a trained policy earns, how sure that is, and whether it uses its hierarchy."""
