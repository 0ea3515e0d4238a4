"""The return of a trained policy, how sure that is, and whether it uses its hierarchy."""
