"""What serves any BenchMARL algorithm: runs, evaluation, sweeps, reports, films, bundles, commands."""

import os

# Threads that spin while they wait for a partner which another process's work has put to sleep make training on a busy
# machine several times slower, and threads that sleep at once are slow to wake: these spin a little first (GNU OpenMP;
# others know the policy alone). OpenMP reads this when torch is loaded, which no module of this package does before.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "300")
