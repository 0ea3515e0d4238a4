"""Sweeps: which runs a comparison has, and how they are done."""
