"""Rendering of environments, for films and evaluation videos."""
