"""Evaluate trained policies; see :mod:`benchmarl_himpo.harness.commands.evaluate`."""

from benchmarl_himpo.harness.commands.evaluate import main

if __name__ == "__main__":
    main()
