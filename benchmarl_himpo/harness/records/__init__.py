"""Records of runs: what each run was, what it logged, and where it came from."""
