"""Tools for any BenchMARL algorithm: runs, evaluation, sweeps, reports, films, bundles, commands."""

import os

# On a busy machine, waiting threads that spin make training several times slower, and threads that sleep at once are
# slow to wake: here they spin briefly, then sleep (GNU OpenMP; others only read the policy). OpenMP reads these
# variables when torch is loaded, which no module of this package does before.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "300")

# TorchRL logs every storage that it creates at level INFO
os.environ.setdefault("RL_LOGGING_LEVEL", "WARNING")
