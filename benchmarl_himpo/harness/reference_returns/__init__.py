"""Reference returns of random and scripted policies, for normalised scores."""
