"""Reference returns of random and heuristic policies, for normalised scores."""
