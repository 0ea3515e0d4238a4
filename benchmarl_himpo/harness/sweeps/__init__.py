"""Sweeps: the runs of a comparison, and their execution."""
