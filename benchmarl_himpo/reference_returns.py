"""Measure reference returns; see :mod:`benchmarl_himpo.harness.commands.reference_returns`."""

from benchmarl_himpo.harness.commands.reference_returns import main

if __name__ == "__main__":
    main()
