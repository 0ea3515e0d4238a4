"""Comparisons of algorithms: the record of a run, statistics over many, and the report."""
