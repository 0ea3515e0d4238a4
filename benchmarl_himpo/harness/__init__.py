"""What serves any BenchMARL algorithm: runs, evaluation, sweeps, reports, films, bundles, commands."""

import os

# Threads that spin while they wait for a partner which another process's work has put to sleep make training on a busy
# machine several times slower. OpenMP reads this when torch is loaded, which no module of this package does before.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
