"""Run every combination of algorithms, tasks and seeds; see :mod:`benchmarl_himpo.harness.commands.sweep`."""

from benchmarl_himpo.harness.commands.sweep import main

if __name__ == "__main__":
    main()
