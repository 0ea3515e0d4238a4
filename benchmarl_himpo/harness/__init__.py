"""What serves any BenchMARL algorithm: runs, evaluation, sweeps, reports, films, bundles, commands."""
