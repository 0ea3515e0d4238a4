"""Evaluation of trained policies: returns with confidence intervals, and audits of the hierarchy."""
