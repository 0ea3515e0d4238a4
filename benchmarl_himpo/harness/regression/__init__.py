"""The regression gate: tests whether a change of the code reduces returns."""
