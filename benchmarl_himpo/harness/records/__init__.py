"""Records of runs: configuration, logs and provenance."""
